//! Tiles of bf16 pairs with AVX-512's `vdpbf16ps`: `sum += a0 * b0 + a1 * b1`, sums in f32. A tile is up to 14 rows by two registers of 16 columns, which leaves four of the 32
//! registers for the sides.

use super::avx512::{LANES, load, store};
use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_load_si512, _mm512_set1_epi32,
    _mm512_setzero_ps,
};

/// Most rows of a tile.
pub const ROWS: usize = 14;
/// Columns of a tile.
pub const COLUMNS: usize = 2 * LANES;

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

/// See [`super::Unit`]'s `tile`.
///
/// # Safety
/// The CPU has AVX-512 F and BF16. `size` is at most [`ROWS`] by [`COLUMNS`] and lies in `out`, whose rows are `stride` apart; `left` and `right` are panels of
/// `words` words a lane, `right` on a cache line.
#[target_feature(enable = "avx512f,avx512bf16")]
pub unsafe fn tile(
    out: *mut f32,
    stride: usize,
    [rows, columns]: [usize; 2],
    left: &[u32],
    right: &[u32],
    words: usize,
    accumulate: bool,
) {
    let sides = [left.as_ptr(), right.as_ptr()];
    // SAFETY: by this function's contract.
    unsafe {
        with_rows!(
            rows,
            tile_of(out, stride, columns, sides, words, accumulate)
        )
    }
}

/// Sixteen words as pairs of bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub fn as_pairs(words: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes for which every pattern of bits is a value.
    unsafe { std::mem::transmute(words) }
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile_of<const R: usize>(
    out: *mut f32,
    stride: usize,
    columns: usize,
    [mut left, mut right]: [*const u32; 2],
    words: usize,
    accumulate: bool,
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for _ in 0..words {
        // SAFETY: the panels hold `words` lines of `R` and of 32 words, by the contract of `tile`.
        unsafe {
            let line =
                [right, right.add(LANES)].map(|line| as_pairs(_mm512_load_si512(line.cast())));
            for (row, sum) in sums.iter_mut().enumerate() {
                let factor = as_pairs(_mm512_set1_epi32(*left.add(row) as i32));
                sum[0] = _mm512_dpbf16_ps(sum[0], factor, line[0]);
                sum[1] = _mm512_dpbf16_ps(sum[1], factor, line[1]);
            }
            left = left.add(R);
            right = right.add(COLUMNS);
        }
    }
    // SAFETY: the tile lies in `out`, by the contract of `tile`.
    unsafe {
        if accumulate {
            let before = load::<R, 2>(out, stride, columns);
            for (sums, before) in sums.iter_mut().zip(before) {
                for (sum, before) in sums.iter_mut().zip(before) {
                    *sum = _mm512_add_ps(before, *sum);
                }
            }
        }
        store(out, stride, columns, &sums);
    }
}
