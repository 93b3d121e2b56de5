//! Tiles of f32 in plain Rust, which the compiler vectorises for the instruction set at hand.

use crate::kernels::dispatch::BASELINE_IS_FUSED;
use crate::kernels::register_tile::{Sides, tile_sums, with_tile_rows};

/// Columns of a tile.
pub const COLUMNS: usize = 16;

/// See [`super::Unit`]'s `tile`.
///
/// # Safety
/// The sides are panels of so many rows and of [`COLUMNS`] columns.
pub unsafe fn tile(
    out: &mut [f32],
    stride: usize,
    size: [usize; 2],
    sides: Sides,
    accumulate: bool,
) {
    // SAFETY: by this function's contract.
    unsafe { by_rows::<BASELINE_IS_FUSED>(out, stride, size, sides, accumulate) }
}

/// The same, compiled for AVX2.
///
/// # Safety
/// As [`tile`], and the CPU has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub unsafe fn tile_avx2(
    out: &mut [f32],
    stride: usize,
    size: [usize; 2],
    sides: Sides,
    accumulate: bool,
) {
    // SAFETY: by this function's contract.
    unsafe { by_rows::<true>(out, stride, size, sides, accumulate) }
}

#[inline(always)]
unsafe fn by_rows<const FUSED: bool>(
    out: &mut [f32],
    stride: usize,
    [rows, columns]: [usize; 2],
    sides: Sides,
    accumulate: bool,
) {
    macro_rules! run {
        ($rows:literal) => {{
            let mut sums = [[0.0; COLUMNS]; $rows];
            if accumulate {
                for (row, sums) in sums.iter_mut().enumerate() {
                    copy(sums, &out[row * stride..], columns);
                }
            }
            // What the compiler knows of a panel, it need not keep in registers.
            let sides = Sides {
                left_strides: [1, $rows],
                right_stride: COLUMNS,
                ..sides
            };
            // SAFETY: by this function's contract.
            let sums = unsafe { tile_sums::<$rows, COLUMNS, FUSED>(sums, sides) };
            for (row, sums) in sums.iter().enumerate() {
                copy(&mut out[row * stride..], sums, columns);
            }
        }};
    }
    with_tile_rows!(rows, run)
}

/// Copies the first `columns` numbers, a whole line without a call.
#[inline(always)]
fn copy(to: &mut [f32], from: &[f32], columns: usize) {
    match (to.first_chunk_mut::<COLUMNS>(), from.first_chunk()) {
        (Some(to), Some(from)) if columns == COLUMNS => *to = *from,
        _ => to[..columns].copy_from_slice(&from[..columns]),
    }
}
