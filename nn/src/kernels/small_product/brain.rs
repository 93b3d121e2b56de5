//! Tiles of bf16 pairs with AVX-512's `vdpbf16ps`: up to six rows by two registers of sixteen columns.

use crate::kernels::product::as_pairs;
use crate::kernels::register_tile::{most_tile_rows, with_tile_rows};
use std::arch::x86_64::{
    _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_storeu_ps,
};

/// Numbers in a register.
const LANES: usize = 16;

/// See [`super::multiply_small_pairs`].
///
/// # Safety
/// The CPU has AVX-512 F and BF16. `n` is a multiple of sixteen, `out` holds `m` rows of `n`, `right` `words` lines of `n`, and `left` `m` rows of `words`
/// words, `stride` apart.
#[target_feature(enable = "avx512f,avx512bf16")]
pub unsafe fn multiply(
    out: &mut [f32],
    left: &[u32],
    stride: usize,
    right: &[u32],
    [m, n, words]: [usize; 3],
) {
    let mut column = 0;
    while column < n {
        let registers = 2.min((n - column) / LANES);
        let mut row = 0;
        while row < m {
            // Tiles of nearly the same height, so that no row is left over on its own.
            let rows = (m - row).div_ceil((m - row).div_ceil(most_tile_rows(true)));
            let lines = [words, n];
            macro_rules! run {
                ($rows:literal) => {
                    // SAFETY: these rows and columns lie in `out`, and what they are made of in the sides, by this function's contract.
                    unsafe {
                        let out = out.as_mut_ptr().add(row * n + column);
                        let left = left.as_ptr().add(row * stride);
                        let right = right.as_ptr().add(column);
                        match registers {
                            1 => tile::<$rows, 1>(out, left, stride, right, lines),
                            _ => tile::<$rows, 2>(out, left, stride, right, lines),
                        }
                    }
                };
            }
            with_tile_rows!(rows, run);
            row += rows;
        }
        column += registers * LANES;
    }
}

/// `R` rows by `N` registers, which stay in registers while they are summed up.
///
/// # Safety
/// The CPU has AVX-512 F and BF16. `left` has `R` rows of `words` words, `stride` apart, `right` `words` lines, `n` apart, of `N` registers, and `out` `R`
/// such lines.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile<const R: usize, const N: usize>(
    out: *mut f32,
    left: *const u32,
    stride: usize,
    right: *const u32,
    [words, n]: [usize; 2],
) {
    let mut sums = [[_mm512_setzero_ps(); N]; R];
    for word in 0..words {
        // SAFETY: by this function's contract.
        unsafe {
            let mut line = [as_pairs(_mm512_setzero_si512()); N];
            for (register, line) in line.iter_mut().enumerate() {
                *line = as_pairs(_mm512_loadu_si512(
                    right.add(word * n + register * LANES).cast(),
                ));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let factor = as_pairs(_mm512_set1_epi32(*left.add(row * stride + word) as i32));
                for (sum, line) in sums.iter_mut().zip(line) {
                    *sum = _mm512_dpbf16_ps(*sum, factor, line);
                }
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (register, sum) in sums.iter().enumerate() {
            // SAFETY: by this function's contract.
            unsafe { _mm512_storeu_ps(out.add(row * n + register * LANES), *sum) };
        }
    }
}
