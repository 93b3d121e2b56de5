//! Tiles of f32 with AVX-512: up to 14 rows by two registers of 16 columns, which leaves four of the 32 registers for the sides.

use crate::kernels::dispatch::first_lanes;
use crate::kernels::prefetch::prefetch_to_write;
use std::arch::x86_64::{
    __m512, __mmask16, _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_fmadd_ps, _mm512_load_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
};

/// Most rows of a tile.
pub const ROWS: usize = 14;
/// Columns of a tile.
pub const COLUMNS: usize = 2 * LANES;
/// Numbers in a register.
pub const LANES: usize = 16;

/// Lines of the right side that are asked for ahead of time: it fills half of the first cache level, and what others do on the same core decides whether it stays there.
const LINES_AHEAD: usize = 16;

/// Calls `$tile::<R>` for the number of rows at hand.
macro_rules! with_rows {
    ($rows:expr, $tile:ident $arguments:tt) => {
        match $rows {
            1 => $tile::<1> $arguments,
            2 => $tile::<2> $arguments,
            3 => $tile::<3> $arguments,
            4 => $tile::<4> $arguments,
            5 => $tile::<5> $arguments,
            6 => $tile::<6> $arguments,
            7 => $tile::<7> $arguments,
            8 => $tile::<8> $arguments,
            9 => $tile::<9> $arguments,
            10 => $tile::<10> $arguments,
            11 => $tile::<11> $arguments,
            12 => $tile::<12> $arguments,
            13 => $tile::<13> $arguments,
            _ => $tile::<14> $arguments,
        }
    };
}
pub(super) use with_rows;

/// See [`super::Unit`]'s `tile`.
///
/// # Safety
/// The CPU has AVX-512 F. `size` is at most [`ROWS`] by [`COLUMNS`] and lies in `out`, whose rows are `stride` apart; `left` and `right` are panels of
/// `words` words a lane, `right` on a cache line.
#[target_feature(enable = "avx512f")]
pub unsafe fn tile(
    out: *mut f32,
    stride: usize,
    [rows, columns]: [usize; 2],
    left: &[u32],
    right: &[u32],
    words: usize,
    accumulate: bool,
) {
    let sides = [left.as_ptr().cast(), right.as_ptr().cast()];
    // SAFETY: by this function's contract.
    unsafe {
        with_rows!(
            rows,
            tile_of(out, stride, columns, sides, words, accumulate)
        )
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn tile_of<const R: usize>(
    out: *mut f32,
    stride: usize,
    columns: usize,
    [mut left, mut right]: [*const f32; 2],
    words: usize,
    accumulate: bool,
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    // Results are asked for row by row meanwhile: all at once they would take up what loads of the sides have to wait in.
    let words_a_row = words / R;
    for turn in 0..=R {
        let some = if turn < R {
            prefetch_to_write(out.wrapping_add(turn * stride));
            words_a_row
        } else {
            words - R * words_a_row
        };
        for _ in 0..some {
            // SAFETY: the panels hold `words` lines of `R` and of 32 numbers, by the contract of `tile`; asking for what lies beyond does nothing.
            unsafe {
                let coming = right.wrapping_add(LINES_AHEAD * COLUMNS);
                _mm_prefetch::<_MM_HINT_T0>(coming.cast());
                _mm_prefetch::<_MM_HINT_T0>(coming.wrapping_add(LANES).cast());
                let line = [_mm512_load_ps(right), _mm512_load_ps(right.add(LANES))];
                for (row, sum) in sums.iter_mut().enumerate() {
                    let factor = _mm512_set1_ps(*left.add(row));
                    sum[0] = _mm512_fmadd_ps(factor, line[0], sum[0]);
                    sum[1] = _mm512_fmadd_ps(factor, line[1], sum[1]);
                }
                left = left.add(R);
                right = right.add(COLUMNS);
            }
        }
    }
    // SAFETY: the tile lies in `out`, by the contract of `tile`.
    unsafe { store(out, stride, columns, &sums, accumulate) }
}

/// Writes, or adds, a tile's sums.
///
/// # Safety
/// The CPU has AVX-512 F; `R` rows of `columns` numbers, `stride` apart, lie in `out`.
#[inline]
#[target_feature(enable = "avx512f")]
pub unsafe fn store<const R: usize>(
    out: *mut f32,
    stride: usize,
    columns: usize,
    sums: &[[__m512; 2]; R],
    accumulate: bool,
) {
    let masks: [__mmask16; 2] = [
        first_lanes(columns),
        first_lanes(columns.saturating_sub(LANES)),
    ];
    for (row, sums) in sums.iter().enumerate() {
        for (half, (&sum, mask)) in sums.iter().zip(masks).enumerate() {
            // SAFETY: masked to the columns that are there; `wrapping_add` because a masked-out half may lie beyond the end.
            unsafe {
                let out = out.add(row * stride).wrapping_add(half * LANES);
                let sum = if accumulate {
                    _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out), sum)
                } else {
                    sum
                };
                _mm512_mask_storeu_ps(out, mask, sum);
            }
        }
    }
}
