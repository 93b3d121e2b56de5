//! Tiles in plain Rust, which the compiler vectorises for the instruction set at hand.

use crate::kernels::{multiply_add, with_tile_rows};

/// Columns of a tile.
pub const COLUMNS: usize = 16;

/// See [`super::Unit`]'s `tile`.
pub fn tile(
    out: &mut [f32],
    stride: usize,
    size: [usize; 2],
    left: &[u32],
    right: &[u32],
    words: usize,
    accumulate: bool,
) {
    by_rows::<false>(out, stride, size, left, right, words, accumulate);
}

/// The same, compiled for AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub fn tile_avx2(
    out: &mut [f32],
    stride: usize,
    size: [usize; 2],
    left: &[u32],
    right: &[u32],
    words: usize,
    accumulate: bool,
) {
    by_rows::<true>(out, stride, size, left, right, words, accumulate);
}

#[inline(always)]
fn by_rows<const FUSED: bool>(
    out: &mut [f32],
    stride: usize,
    [rows, columns]: [usize; 2],
    left: &[u32],
    right: &[u32],
    words: usize,
    accumulate: bool,
) {
    macro_rules! run {
        ($rows:literal) => {{
            let sums = sums::<$rows, FUSED>(left, right, words);
            store(out, stride, columns, &sums, accumulate);
        }};
    }
    with_tile_rows!(rows, run)
}

#[inline(always)]
fn sums<const R: usize, const FUSED: bool>(
    left: &[u32],
    right: &[u32],
    words: usize,
) -> [[f32; COLUMNS]; R] {
    let mut sums = [[0f32; COLUMNS]; R];
    for (factors, line) in left
        .chunks_exact(R)
        .zip(right.chunks_exact(COLUMNS))
        .take(words)
    {
        for (sum, factor) in sums.iter_mut().zip(factors) {
            let factor = f32::from_bits(*factor);
            for (total, value) in sum.iter_mut().zip(line) {
                *total = multiply_add::<FUSED>(factor, f32::from_bits(*value), *total);
            }
        }
    }
    sums
}

/// Writes, or adds, a tile's sums, row by row.
#[inline(always)]
pub fn store<const C: usize>(
    out: &mut [f32],
    stride: usize,
    columns: usize,
    sums: &[[f32; C]],
    accumulate: bool,
) {
    for (row, sums) in sums.iter().enumerate() {
        let out = &mut out[row * stride..][..columns];
        // A whole line is a few registers; the copy of a line of unknown length is a call.
        match out.first_chunk_mut::<C>() {
            Some(out) => store_line(out, sums, accumulate),
            None => store_line(out, &sums[..columns], accumulate),
        }
    }
}

#[inline(always)]
fn store_line(out: &mut [f32], sums: &[f32], accumulate: bool) {
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = if accumulate { *out + sum } else { *sum };
    }
}
