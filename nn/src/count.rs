//! Counted work, so that tests can speak of cost without a clock.

use crate::kernels::attention::{Pattern, Sizes, pair_count};
use std::cell::Cell;

thread_local! {
    static ATTENTION_PAIRS: Cell<u64> = const { Cell::new(0) };
    static PRODUCT_OPERATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Runs `work` and returns, with its result, how many pairs of positions attended to each other (over all heads, forward passes only) in attention
/// over whole clips, and in frames of play with packed weights, that this thread asked for.
pub fn attention_pairs<R>(work: impl FnOnce() -> R) -> (R, u64) {
    let before = ATTENTION_PAIRS.get();
    let result = work();
    (result, ATTENTION_PAIRS.get() - before)
}

pub(crate) fn add_attention(sizes: Sizes, pattern: Pattern) {
    add_attention_pairs(pair_count(sizes, pattern));
}

pub(crate) fn add_attention_pairs(pairs: u64) {
    ATTENTION_PAIRS.set(ATTENTION_PAIRS.get() + pairs);
}

/// Runs `work` and returns, with its result, the floating-point operations of the matrix products that this thread asked for, forward and
/// backward: two for each multiplication of a weight, the products within attention left out.
pub fn product_operations<R>(work: impl FnOnce() -> R) -> (R, u64) {
    let before = PRODUCT_OPERATIONS.get();
    let result = work();
    (result, PRODUCT_OPERATIONS.get() - before)
}

pub(crate) fn add_product(m: usize, n: usize, k: usize) {
    PRODUCT_OPERATIONS.set(PRODUCT_OPERATIONS.get() + 2 * (m * n * k) as u64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::product::{Matrix, multiply};

    #[test]
    fn products_are_counted_where_they_are_asked_for() {
        let (left, right, mut out) = (vec![1.0; 6], vec![1.0; 12], vec![0.0; 8]);
        let ((), operations) = product_operations(|| {
            multiply(
                &mut out,
                Matrix::new(&left, 2, 3),
                Matrix::new(&right, 3, 4),
                false,
            );
        });
        assert_eq!(operations, 2 * 2 * 3 * 4);
    }
}
