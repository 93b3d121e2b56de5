//! Squares of sixteen by sixteen words, exchanged in registers.

use super::Rows;
use crate::kernels::dispatch::first_lanes as mask;
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_loadu_si512, _mm512_mask_storeu_epi32,
    _mm512_maskz_loadu_epi32, _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

const LANES: usize = 16;

/// See [`super::transpose`].
///
/// # Safety
/// The CPU has AVX-512 F; all elements of `rows`, and where they go, are there.
#[target_feature(enable = "avx512f")]
pub unsafe fn transpose(out: *mut u32, out_stride: usize, rows: Rows) {
    for row in (0..rows.count).step_by(LANES) {
        let count = LANES.min(rows.count - row);
        for column in (0..rows.width).step_by(LANES) {
            let width = LANES.min(rows.width - column);
            let mut square = [_mm512_setzero_si512(); LANES];
            // SAFETY: masked to the elements that are there.
            unsafe {
                let start = rows.data.as_ptr().add(row * rows.stride + column);
                for (i, line) in square.iter_mut().enumerate().take(count) {
                    *line =
                        _mm512_maskz_loadu_epi32(mask(width), start.add(i * rows.stride).cast());
                }
                store(
                    out.add(column * out_stride + row),
                    out_stride,
                    exchange(square),
                    [width, count],
                );
            }
        }
    }
}

/// See [`super::transpose_pairs`].
///
/// # Safety
/// The CPU has AVX-512 F and BF16; all elements of `rows`, an even number of columns, and where they go, are there.
#[target_feature(enable = "avx512f,avx512bf16")]
pub unsafe fn transpose_pairs(out: *mut u32, out_stride: usize, rows: Rows) {
    for row in (0..rows.count).step_by(LANES) {
        let count = LANES.min(rows.count - row);
        for column in (0..rows.width).step_by(2 * LANES) {
            let width = (2 * LANES).min(rows.width - column);
            let mut square = [_mm512_setzero_si512(); LANES];
            // SAFETY: masked to the elements that are there.
            unsafe {
                let start = rows.data.as_ptr().add(row * rows.stride + column);
                for (i, line) in square.iter_mut().enumerate().take(count) {
                    *line = neighbours(start.add(i * rows.stride), width);
                }
                store(
                    out.add(column / 2 * out_stride + row),
                    out_stride,
                    exchange(square),
                    [width / 2, count],
                );
            }
        }
    }
}

/// See [`super::copy_lines`].
///
/// # Safety
/// The CPU has AVX-512 F; all elements of `lines`, and where they go, are there.
#[target_feature(enable = "avx512f")]
pub unsafe fn copy_lines(out: *mut u32, width: usize, lines: Rows) {
    for column in (0..lines.width).step_by(LANES) {
        let mask = mask(lines.width - column);
        for line in 0..lines.count {
            // SAFETY: masked to the elements that are there.
            unsafe {
                let words = _mm512_maskz_loadu_epi32(
                    mask,
                    lines.data.as_ptr().add(line * lines.stride + column).cast(),
                );
                _mm512_mask_storeu_epi32(out.add(line * width + column).cast(), mask, words);
            }
        }
    }
}

/// See [`super::copy_line_pairs`].
///
/// # Safety
/// The CPU has AVX-512 F, BW and BF16; all elements of `lines`, and where they go, are there.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub unsafe fn copy_line_pairs(out: *mut u32, width: usize, lines: Rows) {
    let turns = turns();
    for column in (0..lines.width).step_by(LANES) {
        let mask = mask(lines.width - column);
        for pair in 0..lines.count / 2 {
            // SAFETY: masked to the elements that are there.
            unsafe {
                let start = lines.data.as_ptr().add(2 * pair * lines.stride + column);
                let first = _mm512_maskz_loadu_ps(mask, start);
                let second = _mm512_maskz_loadu_ps(mask, start.add(lines.stride));
                let words = _mm512_permutexvar_epi16(turns, halves(first, second));
                _mm512_mask_storeu_epi32(out.add(pair * width + column).cast(), mask, words);
            }
        }
    }
}

/// See [`super::round_pairs`].
///
/// # Safety
/// The CPU has AVX-512 F and BF16; there is a word at `out` for each pair of `numbers`, of which there is an even number.
#[target_feature(enable = "avx512f,avx512bf16")]
pub unsafe fn round_pairs(out: *mut u32, numbers: &[f32]) {
    for first in (0..numbers.len()).step_by(2 * LANES) {
        let count = (2 * LANES).min(numbers.len() - first);
        // SAFETY: masked to the numbers and pairs that are there.
        unsafe {
            let words = neighbours(numbers.as_ptr().add(first), count);
            _mm512_mask_storeu_epi32(out.add(first / 2).cast(), mask(count / 2), words);
        }
    }
}

/// See [`super::tile_row_pairs`].
///
/// # Safety
/// The CPU has AVX-512 F and BF16; all elements of `rows`, sixteen rows at most, are there, and room for whole tiles at `out`.
#[target_feature(enable = "avx512f,avx512bf16")]
pub unsafe fn tile_row_pairs(out: *mut u32, rows: Rows) {
    for column in (0..rows.width).step_by(2 * LANES) {
        let width = (2 * LANES).min(rows.width - column);
        for row in 0..LANES {
            // SAFETY: masked to the numbers that are there, and a row of a tile is sixteen words.
            unsafe {
                let words = match row < rows.count {
                    true => neighbours(rows.data.as_ptr().add(row * rows.stride + column), width),
                    false => _mm512_setzero_si512(),
                };
                _mm512_storeu_si512(out.add(column / 2 * LANES + row * LANES).cast(), words);
            }
        }
    }
}

/// See [`super::tile_line_pairs`].
///
/// # Safety
/// The CPU has AVX-512 F, BW and BF16; all elements of `lines`, sixteen wide at most, are there, and room for whole tiles at `out`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub unsafe fn tile_line_pairs(out: *mut u32, lines: Rows) {
    let (turns, mask) = (turns(), mask(lines.width));
    for first in (0..lines.count).step_by(2 * LANES) {
        let mut square = [_mm512_setzero_si512(); LANES];
        for (pair, words) in square.iter_mut().enumerate() {
            // SAFETY: masked to the numbers that are there, of lines that are there.
            let [even, odd] = [0, 1].map(|half| unsafe {
                let line = first + 2 * pair + half;
                match line < lines.count {
                    true => {
                        _mm512_maskz_loadu_ps(mask, lines.data.as_ptr().add(line * lines.stride))
                    }
                    false => _mm512_setzero_ps(),
                }
            });
            *words = _mm512_permutexvar_epi16(turns, halves(even, odd));
        }
        // SAFETY: a tile is sixteen lines of sixteen words.
        unsafe {
            store(
                out.add(first / 2 * LANES),
                LANES,
                exchange(square),
                [LANES; 2],
            )
        };
    }
}

/// Sixteen numbers rounded to bf16, then sixteen others.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn halves(first: __m512, second: __m512) -> __m512i {
    // SAFETY: both are 64 bytes for which every pattern of bits is a value.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first)) }
}

/// `count` numbers from `start` on, 32 at most, rounded to bf16; zeros after them.
///
/// # Safety
/// The CPU has AVX-512 F and BF16, and the numbers are there.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn neighbours(start: *const f32, count: usize) -> __m512i {
    // SAFETY: masked to the numbers that are there; `wrapping_add` because a masked-out half may lie beyond the end.
    unsafe {
        let first = _mm512_maskz_loadu_ps(mask(count), start);
        let rest = mask(count.saturating_sub(LANES));
        halves(
            first,
            _mm512_maskz_loadu_ps(rest, start.wrapping_add(LANES)),
        )
    }
}

/// What makes pairs of [`halves`]: a number of the first half, one of the second, and so on in turns.
#[inline]
#[target_feature(enable = "avx512f")]
fn turns() -> __m512i {
    let turns: [u16; 32] = std::array::from_fn(|i| (i / 2 + i % 2 * LANES) as u16);
    // SAFETY: the array is 64 bytes long.
    unsafe { _mm512_loadu_si512(turns.as_ptr().cast()) }
}

/// Writes `size[0]` lines of `size[1]` words.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(out: *mut u32, stride: usize, lines: [__m512i; LANES], size: [usize; 2]) {
    for (i, line) in lines.into_iter().enumerate().take(size[0]) {
        // SAFETY: masked to the words that are there, by the callers' contracts.
        unsafe { _mm512_mask_storeu_epi32(out.add(i * stride).cast(), mask(size[1]), line) };
    }
}

/// Rows become columns: neighbours are interleaved in words, then in pairs of words, then in quarters of registers, twice.
#[inline]
#[target_feature(enable = "avx512f")]
fn exchange(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut words = rows;
    for i in (0..LANES).step_by(2) {
        words[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        words[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    let mut pairs = words;
    for i in (0..LANES).step_by(4) {
        pairs[i] = _mm512_unpacklo_epi64(words[i], words[i + 2]);
        pairs[i + 1] = _mm512_unpackhi_epi64(words[i], words[i + 2]);
        pairs[i + 2] = _mm512_unpacklo_epi64(words[i + 1], words[i + 3]);
        pairs[i + 3] = _mm512_unpackhi_epi64(words[i + 1], words[i + 3]);
    }
    // `pairs[4 * a + b]` holds, in quarter q, column 4 * q + b of rows 4 * a to 4 * a + 3.
    let mut columns = pairs;
    for b in 0..4 {
        let [r0, r1, r2, r3] = [pairs[b], pairs[4 + b], pairs[8 + b], pairs[12 + b]];
        let even_low = _mm512_shuffle_i32x4::<0b10_00_10_00>(r0, r1);
        let odd_low = _mm512_shuffle_i32x4::<0b11_01_11_01>(r0, r1);
        let even_high = _mm512_shuffle_i32x4::<0b10_00_10_00>(r2, r3);
        let odd_high = _mm512_shuffle_i32x4::<0b11_01_11_01>(r2, r3);
        columns[b] = _mm512_shuffle_i32x4::<0b10_00_10_00>(even_low, even_high);
        columns[8 + b] = _mm512_shuffle_i32x4::<0b11_01_11_01>(even_low, even_high);
        columns[4 + b] = _mm512_shuffle_i32x4::<0b10_00_10_00>(odd_low, odd_high);
        columns[12 + b] = _mm512_shuffle_i32x4::<0b11_01_11_01>(odd_low, odd_high);
    }
    columns
}
