//! Tiles of packed panels of f32 in plain Rust, which the compiler vectorises for what every CPU of the target architecture has.

use crate::kernels::dispatch::BASELINE_IS_FUSED;
use crate::kernels::register_tile::{Sides, most_tile_rows, tile_sums, with_tile_rows};

/// Columns of a tile.
pub const COLUMNS: usize = 16;
/// Most rows of a tile.
pub const ROWS: usize = most_tile_rows(BASELINE_IS_FUSED);

/// See [`super::unit::Tiles`]'s `tile`.
pub fn tile(
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
            assert!(left.len() >= $rows * words && right.len() >= COLUMNS * words);
            let sides = Sides {
                left: left.as_ptr().cast(),
                left_strides: [1, $rows],
                right: right.as_ptr().cast(),
                right_stride: COLUMNS,
                depth: words,
            };
            // SAFETY: the panels hold `words` lines of so many rows and columns.
            let sums = unsafe { tile_sums::<$rows, COLUMNS, BASELINE_IS_FUSED>(sides) };
            store(out, stride, columns, &sums, accumulate);
        }};
    }
    with_tile_rows!(rows, run)
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
