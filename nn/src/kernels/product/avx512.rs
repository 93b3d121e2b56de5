//! Tiles of f32 with AVX-512: up to nine rows by three registers of sixteen columns, whose sums and a line of the right side fill the registers but one or two.
//!
//! Per number of `k` that is 27 multiply-adds and twelve loads, and, as cores take about four instructions a cycle between them when two threads share one, what else is in
//! the loop counts.

use crate::kernels::dispatch::first_lanes;
use crate::kernels::register_tile::Sides;
use std::arch::x86_64::{
    __m512, __mmask16, _MM_HINT_T0, _mm_prefetch, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
};
use std::hint::black_box;

/// Most rows of a tile.
pub const ROWS: usize = 9;
/// Most columns of a tile.
pub const COLUMNS: usize = 3 * LANES;
/// Numbers in a register.
pub const LANES: usize = 16;

/// Lines that are asked for ahead of time: a right side does not stay in the first cache level, and what others do on the same core decides how much of that is left.
const LINES_AHEAD: usize = 12;
/// Numbers of `k` in one turn of the loop, of which each further one saves instructions for counting.
const UNROLLED: usize = 2;

/// Rows from which the others are reached, and where a row is from these, in rows: an address can hold a stride times 1, 2, 4 or 8. There are not registers enough for an address a row, and
/// adding one up for each took longer than the row's multiply-adds.
const BASES: [usize; 3] = [0, 3, 6];
const FROM_BASE: [(usize, usize); ROWS] = [
    (0, 0),
    (0, 1),
    (0, 2),
    (1, 0),
    (0, 4),
    (1, 2),
    (2, 0),
    (1, 4),
    (0, 8),
];

/// Calls `$tile::<R, V, ALONG>` for the rows, the registers of columns, and whether the left side's rows run along `k`.
macro_rules! by_size {
    ($rows:expr, $registers:expr, $along:expr, $tile:ident $arguments:tt) => {
        match $rows {
            1 => by_size!(@registers 1, $registers, $along, $tile $arguments),
            2 => by_size!(@registers 2, $registers, $along, $tile $arguments),
            3 => by_size!(@registers 3, $registers, $along, $tile $arguments),
            4 => by_size!(@registers 4, $registers, $along, $tile $arguments),
            5 => by_size!(@registers 5, $registers, $along, $tile $arguments),
            6 => by_size!(@registers 6, $registers, $along, $tile $arguments),
            7 => by_size!(@registers 7, $registers, $along, $tile $arguments),
            8 => by_size!(@registers 8, $registers, $along, $tile $arguments),
            _ => by_size!(@registers 9, $registers, $along, $tile $arguments),
        }
    };
    (@registers $rows:literal, $registers:expr, $along:expr, $tile:ident $arguments:tt) => {
        match ($registers, $along) {
            (1, true) => $tile::<$rows, 1, true> $arguments,
            (1, false) => $tile::<$rows, 1, false> $arguments,
            (2, true) => $tile::<$rows, 2, true> $arguments,
            (2, false) => $tile::<$rows, 2, false> $arguments,
            (_, true) => $tile::<$rows, 3, true> $arguments,
            (_, false) => $tile::<$rows, 3, false> $arguments,
        }
    };
}

/// See [`super::Unit`]'s `tile`.
///
/// # Safety
/// The CPU has AVX-512 F. The tile is at most [`ROWS`] by [`COLUMNS`] and lies in `out`, whose rows are `stride` apart; so many rows of the left side and columns of the right side,
/// rounded up to whole registers, may be read.
#[target_feature(enable = "avx512f")]
pub unsafe fn tile(
    out: *mut f32,
    stride: usize,
    [rows, columns]: [usize; 2],
    sides: Sides,
    accumulate: bool,
) {
    let (registers, along) = (columns.div_ceil(LANES), sides.left_strides[1] == 1);
    // SAFETY: by this function's contract.
    unsafe {
        by_size!(
            rows,
            registers,
            along,
            tile_of(out, stride, columns, sides, accumulate)
        )
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn tile_of<const R: usize, const V: usize, const ALONG: bool>(
    out: *mut f32,
    stride: usize,
    columns: usize,
    sides: Sides,
    accumulate: bool,
) {
    let mut sums = match accumulate {
        // SAFETY: the tile lies in `out`, by the contract of `tile`.
        true => unsafe { load(out, stride, columns) },
        false => [[_mm512_setzero_ps(); V]; R],
    };
    let [row_stride, column_stride] = sides.left_strides;
    let column_stride = if ALONG { 1 } else { column_stride };
    // Hidden from the compiler, which would work out each row's address from the one before.
    let mut bases = BASES.map(|row| black_box(sides.left.wrapping_add(row * row_stride)));
    let mut right = sides.right;
    macro_rules! add_lines {
        ($count:expr) => {
            for step in 0..$count {
                // SAFETY: a column of the left side and a line of the right side, by the contract of `tile`; asking for what lies beyond does nothing.
                unsafe {
                    let coming = right.wrapping_add(LINES_AHEAD * sides.right_stride);
                    let mut line = [_mm512_setzero_ps(); V];
                    for (register, numbers) in line.iter_mut().enumerate() {
                        let start = register * LANES;
                        _mm_prefetch::<_MM_HINT_T0>(coming.wrapping_add(start).cast());
                        *numbers = _mm512_loadu_ps(right.add(start));
                    }
                    if !ALONG {
                        let coming = bases[0].wrapping_add(LINES_AHEAD * column_stride);
                        _mm_prefetch::<_MM_HINT_T0>(coming.cast());
                    }
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let number = match ALONG {
                            true => bases[FROM_BASE[row].0].add(FROM_BASE[row].1 * row_stride),
                            false => bases[0].add(row),
                        };
                        let factor = _mm512_set1_ps(*number.add(step * column_stride));
                        for (sum, numbers) in sums.iter_mut().zip(line) {
                            *sum = _mm512_fmadd_ps(factor, numbers, *sum);
                        }
                    }
                    right = right.add(sides.right_stride);
                }
            }
            bases = bases.map(|base| base.wrapping_add($count * column_stride));
        };
    }
    for _ in 0..sides.depth / UNROLLED {
        add_lines!(UNROLLED);
    }
    for _ in 0..sides.depth % UNROLLED {
        add_lines!(1);
    }
    // SAFETY: as above.
    unsafe { store(out, stride, columns, &sums) }
}

/// Which numbers of each register are among the first `columns`.
#[inline]
fn masks<const V: usize>(columns: usize) -> [__mmask16; V] {
    std::array::from_fn(|register| first_lanes(columns.saturating_sub(register * LANES)))
}

/// The numbers of a tile, with zeros beyond its columns.
///
/// # Safety
/// The CPU has AVX-512 F; `R` rows of `columns` numbers, `stride` apart, lie in `out`.
#[inline]
#[target_feature(enable = "avx512f")]
pub unsafe fn load<const R: usize, const V: usize>(
    out: *const f32,
    stride: usize,
    columns: usize,
) -> [[__m512; V]; R] {
    let masks = masks::<V>(columns);
    let mut numbers = [[_mm512_setzero_ps(); V]; R];
    for (row, numbers) in numbers.iter_mut().enumerate() {
        for (register, (numbers, mask)) in numbers.iter_mut().zip(masks).enumerate() {
            let place = out.wrapping_add(row * stride + register * LANES);
            // SAFETY: masked to the columns that are there.
            *numbers = unsafe { _mm512_maskz_loadu_ps(mask, place) };
        }
    }
    numbers
}

/// Writes the numbers of a tile.
///
/// # Safety
/// As [`load`].
#[inline]
#[target_feature(enable = "avx512f")]
pub unsafe fn store<const R: usize, const V: usize>(
    out: *mut f32,
    stride: usize,
    columns: usize,
    numbers: &[[__m512; V]; R],
) {
    let masks = masks::<V>(columns);
    for (row, numbers) in numbers.iter().enumerate() {
        for (register, (&numbers, mask)) in numbers.iter().zip(masks).enumerate() {
            let place = out.wrapping_add(row * stride + register * LANES);
            // SAFETY: masked to the columns that are there.
            unsafe { _mm512_mask_storeu_ps(place, mask, numbers) };
        }
    }
}
