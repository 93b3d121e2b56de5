//! Counted work, so that tests can speak of cost without a clock.

use crate::kernels::attention::{Pattern, Sizes, pair_count};
use std::cell::Cell;

thread_local! {
    static ATTENTION_PAIRS: Cell<u64> = const { Cell::new(0) };
}

/// Runs `work` and returns, with its result, how many pairs of positions attended to each other in attention over whole clips
/// (over all heads, forward passes only) that this thread asked for.
pub fn attention_pairs<R>(work: impl FnOnce() -> R) -> (R, u64) {
    let before = ATTENTION_PAIRS.get();
    let result = work();
    (result, ATTENTION_PAIRS.get() - before)
}

pub(crate) fn add_attention(sizes: Sizes, pattern: Pattern) {
    ATTENTION_PAIRS.set(ATTENTION_PAIRS.get() + pair_count(sizes, pattern));
}
