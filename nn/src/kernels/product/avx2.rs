//! Tiles of f32 with AVX2: up to six rows by two registers of eight columns, whose sums, a line of the right side and a number of the left fill the sixteen registers but one.

use crate::kernels::prefetch::prefetch_line_far;
use crate::kernels::register_tile::Sides;
use std::arch::x86_64::{
    __m256, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps,
    _mm256_storeu_ps,
};

/// Most rows of a tile.
pub const ROWS: usize = 6;
/// Columns of a tile.
pub const COLUMNS: usize = 2 * LANES;
/// Numbers in a register.
const LANES: usize = 8;

/// Numbers of `k` in one turn of the loop, of which each further one saves instructions for counting and addresses. Where a turn also asks for a line ahead of time, the compiler does not keep the sums
/// of more than two in registers.
const fn unrolled(ahead: bool) -> usize {
    if ahead { 2 } else { 4 }
}

/// Calls `tile_of::<R, ALONG, AHEAD>` for the rows, whether the left side's rows run along `k`, and whether something is asked for meanwhile.
macro_rules! by_size {
    ($rows:expr, $along:expr, $ahead:expr, $arguments:tt) => {
        match $rows {
            1 => by_size!(@way 1, $along, $ahead, $arguments),
            2 => by_size!(@way 2, $along, $ahead, $arguments),
            3 => by_size!(@way 3, $along, $ahead, $arguments),
            4 => by_size!(@way 4, $along, $ahead, $arguments),
            5 => by_size!(@way 5, $along, $ahead, $arguments),
            _ => by_size!(@way 6, $along, $ahead, $arguments),
        }
    };
    (@way $rows:literal, $along:expr, $ahead:expr, $arguments:tt) => {
        match ($along, $ahead) {
            (true, true) => tile_of::<$rows, true, true> $arguments,
            (true, false) => tile_of::<$rows, true, false> $arguments,
            (false, _) => tile_of::<$rows, false, false> $arguments,
        }
    };
}

/// See [`super::Unit`]'s `tile`. What `coming` holds is asked for meanwhile if the left side's rows run along `k`.
///
/// # Safety
/// The CPU has AVX2 and FMA. The tile is at most [`ROWS`] by [`COLUMNS`] and lies in `out`, whose rows are `stride` apart; so many rows of the left side and [`COLUMNS`] columns of the right
/// side may be read.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn tile(
    out: *mut f32,
    stride: usize,
    [rows, columns]: [usize; 2],
    sides: Sides,
    coming: &[f32],
    accumulate: bool,
) {
    let (along, ahead) = (sides.left_strides[1] == 1, !coming.is_empty());
    if columns == COLUMNS {
        // SAFETY: by this function's contract.
        return unsafe { by_size!(rows, along, ahead, (out, stride, sides, coming, accumulate)) };
    }
    let mut wide = [[0.0; COLUMNS]; ROWS];
    let in_out = |row: usize| out.wrapping_add(row * stride);
    if accumulate {
        for (row, wide) in wide.iter_mut().enumerate().take(rows) {
            // SAFETY: a row of the tile.
            unsafe { in_out(row).copy_to_nonoverlapping(wide.as_mut_ptr(), columns) };
        }
    }
    let whole = wide.as_mut_ptr().cast();
    // SAFETY: by this function's contract; `wide` has room for all columns.
    unsafe {
        by_size!(
            rows,
            along,
            ahead,
            (whole, COLUMNS, sides, coming, accumulate)
        )
    };
    for (row, wide) in wide.iter().enumerate().take(rows) {
        // SAFETY: as above.
        unsafe { in_out(row).copy_from_nonoverlapping(wide.as_ptr(), columns) };
    }
}

/// A tile of all columns.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile_of<const R: usize, const ALONG: bool, const AHEAD: bool>(
    out: *mut f32,
    stride: usize,
    sides: Sides,
    coming: &[f32],
    accumulate: bool,
) {
    let place = |row: usize, register: usize| out.wrapping_add(row * stride + register * LANES);
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    if accumulate {
        for (row, sums) in sums.iter_mut().enumerate() {
            for (register, sum) in sums.iter_mut().enumerate() {
                // SAFETY: in the tile, by the contract of `tile`.
                *sum = unsafe { _mm256_loadu_ps(place(row, register)) };
            }
        }
    }
    let [row_stride, column_stride] = sides.left_strides;
    let (mut left, mut right) = (sides.left, sides.right);
    let mut next: *const u8 = coming.as_ptr().cast();
    // So that all of it has been asked for in the end; where that is more than a line a turn, it is read so soon that the CPU itself looks ahead.
    let bytes = size_of_val(coming).div_ceil(sides.depth.max(1));
    macro_rules! add_lines {
        ($count:expr) => {
            for step in 0..$count {
                // SAFETY: a line of the right side and a column of the left, by the contract of `tile`.
                unsafe {
                    let line: [__m256; 2] =
                        [_mm256_loadu_ps(right), _mm256_loadu_ps(right.wrapping_add(LANES))];
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let number = match ALONG {
                            true => left.wrapping_add(row * row_stride + step),
                            false => left.wrapping_add(row),
                        };
                        let factor = _mm256_broadcast_ss(&*number);
                        for (sum, numbers) in sums.iter_mut().zip(line) {
                            *sum = _mm256_fmadd_ps(factor, numbers, *sum);
                        }
                    }
                }
                if !ALONG {
                    left = left.wrapping_add(column_stride);
                }
                right = right.wrapping_add(sides.right_stride);
            }
            if AHEAD {
                prefetch_line_far(next);
                next = next.wrapping_add($count * bytes);
            }
            if ALONG {
                left = left.wrapping_add($count);
            }
        };
    }
    for _ in 0..sides.depth / const { unrolled(AHEAD) } {
        add_lines!(const { unrolled(AHEAD) });
    }
    for _ in 0..sides.depth % const { unrolled(AHEAD) } {
        add_lines!(1);
    }
    for (row, sums) in sums.iter().enumerate() {
        for (register, sum) in sums.iter().enumerate() {
            // SAFETY: in the tile, by the contract of `tile`.
            unsafe { _mm256_storeu_ps(place(row, register), *sum) };
        }
    }
}
