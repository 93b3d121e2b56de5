//! Products within attention: too small to pack, computed on one core by a register tile.

#[cfg(target_arch = "x86_64")]
mod brain;

#[cfg(target_arch = "x86_64")]
use super::dispatch::has_bf16;
use super::dispatch::{InstructionSet, instruction_set};
use super::kernel;
use super::register_tile::{Sides, most_tile_rows, tile_sums, with_tile_rows};

/// Width that rows of [`multiply_small`]'s right side and result are padded to.
pub const SMALL_WIDTH_STEP: usize = 16;

kernel! {
    /// `out[m, n] = left * right[k, n]` on one core, for the products inside attention.
    ///
    /// `left` element (i, l) lies at `i * strides[0] + l * strides[1]`; `right` and `out` are row-major with `n` a multiple of
    /// [`SMALL_WIDTH_STEP`]. `size` is `[m, n, k]`.
    pub fn multiply_small(out: &mut [f32], left: &[f32], strides: [usize; 2], right: &[f32], size: [usize; 3]) {
        let ([left_rows, left_columns], [m, n, k]) = (strides, size);
        assert!(n.is_multiple_of(SMALL_WIDTH_STEP) && out.len() >= m * n && right.len() >= k * n);
        assert!(m == 0 || k == 0 || left.len() > (m - 1) * left_rows + (k - 1) * left_columns);
        // What a tile sums up stays in registers, of which AVX-512 has twice as many, twice as wide.
        let widest = if instruction_set() >= InstructionSet::Avx512 { 32 } else { 16 };
        let tallest = most_tile_rows(FUSED);
        let mut column = 0;
        while column < n {
            let columns = widest.min(n - column);
            let mut row = 0;
            while row < m {
                // Tiles of nearly the same height, so that no row is left over on its own.
                let rows = (m - row).div_ceil((m - row).div_ceil(tallest));
                let place = Place { row, column, n, k };
                match columns {
                    16 => tile_of_rows::<16, FUSED>(out, left, left_rows, left_columns, right, rows, place),
                    _ => tile_of_rows::<32, FUSED>(out, left, left_rows, left_columns, right, rows, place),
                }
                row += rows;
            }
            column += columns;
        }
    }
}

/// Where a tile begins, and the sizes of the product.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    column: usize,
    n: usize,
    k: usize,
}

#[inline(always)]
fn tile_of_rows<const COLUMNS: usize, const FUSED: bool>(
    out: &mut [f32],
    left: &[f32],
    left_rows: usize,
    left_columns: usize,
    right: &[f32],
    rows: usize,
    place: Place,
) {
    macro_rules! run {
        ($rows:literal) => {
            tile::<$rows, COLUMNS, FUSED>(out, left, left_rows, left_columns, right, place)
        };
    }
    with_tile_rows!(rows, run)
}

/// One tile of [`multiply_small`], kept in registers while it runs over `k`.
#[inline(always)]
fn tile<const ROWS: usize, const COLUMNS: usize, const FUSED: bool>(
    out: &mut [f32],
    left: &[f32],
    left_rows: usize,
    left_columns: usize,
    right: &[f32],
    Place { row, column, n, k }: Place,
) {
    let sides = Sides {
        left: left.as_ptr().wrapping_add(row * left_rows),
        left_strides: [left_rows, left_columns],
        right: right.as_ptr().wrapping_add(column),
        right_stride: n,
        depth: k,
    };
    // SAFETY: `multiply_small` has checked that the last number of `left` that a tile reads lies in it and that `right` holds `k` rows of `n`; its
    // loop stays within them.
    let sums = unsafe { tile_sums::<ROWS, COLUMNS, FUSED>(sides) };
    for (i, sum) in sums.iter().enumerate() {
        out[(row + i) * n + column..][..COLUMNS].copy_from_slice(sum);
    }
}

/// As [`multiply_small`], with sides of words, each two neighbours along `k` rounded to bf16: `left` `[m, words]`, whose rows are `left_stride` apart, and
/// `right` `[words, n]`. Sums are f32.
pub fn multiply_small_pairs(
    out: &mut [f32],
    left: &[u32],
    left_stride: usize,
    right: &[u32],
    [m, n, words]: [usize; 3],
) {
    assert!(
        n.is_multiple_of(SMALL_WIDTH_STEP) && out.len() >= m * n && right.len() >= words * n,
        "{m}x{words} words by {n}"
    );
    assert!(m == 0 || left.len() >= (m - 1) * left_stride + words);
    #[cfg(target_arch = "x86_64")]
    if instruction_set() >= InstructionSet::Avx512 && has_bf16() {
        // SAFETY: the CPU has AVX-512 F and BF16, and the sides and the result are as long as they must be by the checks above.
        unsafe { brain::multiply(out, left, left_stride, right, [m, n, words]) };
        return;
    }
    let halves = |word: u32| [word << 16, word & 0xffff_0000].map(f32::from_bits);
    for (i, out) in out.chunks_exact_mut(n.max(1)).take(m).enumerate() {
        out.fill(0.0);
        let left = &left[i * left_stride..][..words];
        for (factor, line) in left.iter().zip(right.chunks_exact(n.max(1))) {
            let [first, second] = halves(*factor);
            for (sum, word) in out.iter_mut().zip(line) {
                let [a, b] = halves(*word);
                *sum += first * a + second * b;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::transpose::{Rows, copy_line_pairs, round_pairs};
    use super::*;
    use proptest::prelude::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count)
            .map(|i| (((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5) - 1.0)
            .collect()
    }

    fn plain(left: &[f32], right: &[f32], m: usize, n: usize, k: usize) -> Vec<f32> {
        let mut out = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                out[i * n + j] = (0..k).map(|l| left[i * k + l] * right[l * n + j]).sum();
            }
        }
        out
    }

    proptest! {
        #[test]
        fn small_products_equal_the_definition(m in 1usize..20, blocks in 1usize..6, k in 1usize..40) {
            let n = blocks * SMALL_WIDTH_STEP;
            let (left, right) = (numbers(m * k, 3), numbers(k * n, 4));
            let mut out = vec![0.0; m * n];
            multiply_small(&mut out, &left, [k, 1], &right, [m, n, k]);
            for (a, b) in out.iter().zip(&plain(&left, &right, m, n, k)) { prop_assert!((a - b).abs() < 1e-4); }
        }

        #[test]
        fn small_products_of_pairs_equal_the_definition(m in 1usize..20, blocks in 1usize..6, words in 1usize..20, more in 0usize..3) {
            let (n, k) = (blocks * SMALL_WIDTH_STEP, 2 * words);
            // What bf16 holds exactly.
            let exact = |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000);
            let (left, right): (Vec<_>, Vec<_>) = (
                numbers(m * k, 3).into_iter().map(exact).collect(),
                numbers(k * n, 4).into_iter().map(exact).collect(),
            );
            let (mut dense, mut right_pairs) = (Vec::new(), vec![0; words * n]);
            round_pairs(&mut dense, &left);
            copy_line_pairs(&mut right_pairs, n, Rows { data: &right, stride: n, count: k, width: n });
            let stride = words + more;
            let mut left_pairs = vec![u32::MAX; m * stride];
            for (to, from) in left_pairs.chunks_exact_mut(stride).zip(dense.chunks_exact(words)) {
                to[..words].copy_from_slice(from);
            }
            let mut out = vec![f32::NAN; m * n];
            multiply_small_pairs(&mut out, &left_pairs, stride, &right_pairs, [m, n, words]);
            for (a, b) in out.iter().zip(&plain(&left, &right, m, n, k)) { prop_assert!((a - b).abs() < 1e-4); }
        }
    }
}
