//! Exchanging rows and columns: what packing a product's sides and laying out keys for attention comes down to.

#[cfg(target_arch = "x86_64")]
use super::dispatch::{InstructionSet, has_bf16, instruction_set};
use super::kernel;

/// Numbers with rows and columns: element (row, column) lies at `row * stride + column`.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The numbers.
    pub data: &'a [f32],
    /// From one row to the next.
    pub stride: usize,
    /// Rows.
    pub count: usize,
    /// Columns.
    pub width: usize,
}

impl Rows<'_> {
    /// Where the last number ends.
    fn end(&self) -> usize {
        (self.count - 1) * self.stride + self.width
    }

    /// Panics unless all numbers are there, and room for `lines` lines of `length` words, `stride` apart, in `room` words.
    fn check(&self, room: usize, stride: usize, [lines, length]: [usize; 2]) {
        let fits = self.data.len() >= self.end()
            && stride >= length
            && room >= (lines - 1) * stride + length;
        assert!(
            fits,
            "{}x{} numbers into {room} words",
            self.count, self.width
        );
    }
}

/// `out[column * out_stride + row] = rows[row][column]`, as bits. Nothing else of `out` changes.
pub fn transpose(out: &mut [u32], out_stride: usize, rows: Rows) {
    if rows.count == 0 || rows.width == 0 {
        return;
    }
    rows.check(out.len(), out_stride, [rows.width, rows.count]);
    // SAFETY: all elements lie within the slices by the checks above.
    unsafe { transpose_to(out.as_mut_ptr(), out_stride, rows) };
}

/// [`transpose`] of numbers that stay numbers.
pub fn transpose_numbers(out: &mut [f32], out_stride: usize, rows: Rows) {
    // SAFETY: numbers and words are alike in size and alignment, and every pattern of bits is a value of both.
    let words = unsafe { std::slice::from_raw_parts_mut(out.as_mut_ptr().cast(), out.len()) };
    transpose(words, out_stride, rows);
}

/// [`transpose`] to where other threads may be writing other elements between these.
///
/// # Safety
/// `out` is valid for every `column * out_stride + row`, nobody else uses these elements, and `rows` are all there.
pub unsafe fn transpose_to(out: *mut u32, out_stride: usize, rows: Rows) {
    #[cfg(target_arch = "x86_64")]
    if instruction_set() >= InstructionSet::Avx512 {
        // SAFETY: the CPU has AVX-512 F; the rest by this function's contract.
        unsafe { avx512::transpose(out, out_stride, rows) };
        return;
    }
    // Some columns at a time, so that the lines of `out` that they touch stay in the first cache level.
    for first in (0..rows.width).step_by(16) {
        for row in 0..rows.count {
            let values = &rows.data[row * rows.stride..][first..rows.width.min(first + 16)];
            for (column, value) in values.iter().enumerate() {
                // SAFETY: by this function's contract.
                unsafe {
                    out.add((first + column) * out_stride + row)
                        .write(value.to_bits())
                };
            }
        }
    }
}

/// [`transpose`] of pairs of columns, rounded to bf16, the first in the lower half of a word: `out[pair * out_stride + row]`. Of an odd width the last
/// column is left out.
pub fn transpose_pairs(out: &mut [u32], out_stride: usize, rows: Rows) {
    let pairs = rows.width / 2;
    if rows.count == 0 || pairs == 0 {
        return;
    }
    rows.check(out.len(), out_stride, [pairs, rows.count]);
    #[cfg(target_arch = "x86_64")]
    if instruction_set() >= InstructionSet::Avx512 && has_bf16() {
        let rows = Rows {
            width: 2 * pairs,
            ..rows
        };
        // SAFETY: the CPU has AVX-512 F and BF16, and all elements lie within the slices by the checks above.
        unsafe { avx512::transpose_pairs(out.as_mut_ptr(), out_stride, rows) };
        return;
    }
    portable_pairs(out, out_stride, rows);
}

kernel! {
    fn portable_pairs(out: &mut [u32], out_stride: usize, rows: Rows) {
        for first in (0..rows.width / 2).step_by(16) {
            for row in 0..rows.count {
                let values = &rows.data[row * rows.stride..][2 * first..rows.width.min(2 * first + 32)];
                for (index, values) in values.chunks_exact(2).enumerate() {
                    out[(first + index) * out_stride + row] = pair(values[0], values[1]);
                }
            }
        }
    }
}

/// `out[line * width + i] = lines[line][i]`, as bits, for each of `lines.count` lines; nothing else of `out` changes.
pub fn copy_lines(out: &mut [u32], width: usize, lines: Rows) {
    if lines.count == 0 || lines.width == 0 {
        return;
    }
    lines.check(out.len(), width, [lines.count, lines.width]);
    #[cfg(target_arch = "x86_64")]
    if instruction_set() >= InstructionSet::Avx512 {
        // SAFETY: the CPU has AVX-512 F, and all elements lie within the slices by the checks above.
        unsafe { avx512::copy_lines(out.as_mut_ptr(), width, lines) };
        return;
    }
    for (out, line) in out
        .chunks_mut(width)
        .zip(lines.data.chunks(lines.stride))
        .take(lines.count)
    {
        for (out, x) in out.iter_mut().zip(&line[..lines.width]) {
            *out = x.to_bits();
        }
    }
}

/// [`copy_lines`] of pairs of lines, rounded to bf16, the first in the lower half of a word. Of an odd number the last line is left out.
pub fn copy_line_pairs(out: &mut [u32], width: usize, lines: Rows) {
    let pairs = lines.count / 2;
    if pairs == 0 || lines.width == 0 {
        return;
    }
    lines.check(out.len(), width, [pairs, lines.width]);
    #[cfg(target_arch = "x86_64")]
    if instruction_set() >= InstructionSet::Avx512 && has_bf16() {
        // SAFETY: the CPU has AVX-512 F, BW and BF16, and all elements lie within the slices by the checks above.
        unsafe { avx512::copy_line_pairs(out.as_mut_ptr(), width, lines) };
        return;
    }
    for (index, out) in out.chunks_mut(width).enumerate().take(pairs) {
        let [first, second] = [2 * index, 2 * index + 1]
            .map(|line| &lines.data[line * lines.stride..][..lines.width]);
        for ((out, first), second) in out.iter_mut().zip(first).zip(second) {
            *out = pair(*first, *second);
        }
    }
}

/// `x` rounded to bf16, to nearest, ties to even; what is not a number stays so.
#[inline(always)]
pub fn brain(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if x.is_nan() {
        (bits >> 16) | 0x40
    } else {
        rounded
    }
}

/// Two numbers rounded to bf16 in one word, the first in the lower half.
#[inline(always)]
pub fn pair(first: f32, second: f32) -> u32 {
    brain(first) | (brain(second) << 16)
}

/// Squares of sixteen by sixteen words, exchanged in registers.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::Rows;
    use crate::kernels::dispatch::first_lanes as mask;
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_loadu_si512, _mm512_mask_storeu_epi32,
        _mm512_maskz_loadu_epi32, _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16,
        _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
        _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
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
                        *line = _mm512_maskz_loadu_epi32(
                            mask(width),
                            start.add(i * rows.stride).cast(),
                        );
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
                // SAFETY: masked to the elements that are there; `wrapping_add` because a masked-out half may lie beyond the end.
                unsafe {
                    let start = rows.data.as_ptr().add(row * rows.stride + column);
                    for (i, line) in square.iter_mut().enumerate().take(count) {
                        let start = start.add(i * rows.stride);
                        let low = _mm512_maskz_loadu_ps(mask(width), start);
                        let high = _mm512_maskz_loadu_ps(
                            mask(width.saturating_sub(LANES)),
                            start.wrapping_add(LANES),
                        );
                        *line = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(
                            high, low,
                        ));
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
        // Sixteen numbers of the first line, then sixteen of the second: taken in turns.
        let turns: [u16; 32] = std::array::from_fn(|i| (i / 2 + i % 2 * LANES) as u16);
        // SAFETY: the array is 64 bytes long.
        let turns = unsafe { _mm512_loadu_si512(turns.as_ptr().cast()) };
        for column in (0..lines.width).step_by(LANES) {
            let mask = mask(lines.width - column);
            for pair in 0..lines.count / 2 {
                // SAFETY: masked to the elements that are there.
                unsafe {
                    let start = lines.data.as_ptr().add(2 * pair * lines.stride + column);
                    let (first, second) = (
                        _mm512_maskz_loadu_ps(mask, start),
                        _mm512_maskz_loadu_ps(mask, start.add(lines.stride)),
                    );
                    let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(
                        second, first,
                    ));
                    let words = _mm512_permutexvar_epi16(turns, both);
                    _mm512_mask_storeu_epi32(out.add(pair * width + column).cast(), mask, words);
                }
            }
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_become_columns(count in 1usize..40, width in 1usize..70, wider in 0usize..5, taller in 0usize..5) {
            let (stride, out_stride) = (width + wider, count + taller);
            let data: Vec<f32> = (0..count * stride).map(|i| (i as f32 * 0.37).sin()).collect();
            let rows = Rows { data: &data[..(count - 1) * stride + width], stride, count, width };
            let mut out = vec![7u32; (width - 1) * out_stride + count];
            transpose(&mut out, out_stride, rows);
            for (i, word) in out.iter().enumerate() {
                let (column, row) = (i / out_stride, i % out_stride);
                let expected = if row < count { data[row * stride + column].to_bits() } else { 7 };
                prop_assert_eq!(*word, expected);
            }
            let mut out = vec![7u32; (width / 2 * out_stride + count).saturating_sub(out_stride)];
            transpose_pairs(&mut out, out_stride, rows);
            for (i, word) in out.iter().enumerate() {
                let (pair, row) = (i / out_stride, i % out_stride);
                let number = |column: usize| brain(data[row * stride + column]);
                let expected = if row < count && width >= 2 { number(2 * pair) | (number(2 * pair + 1) << 16) } else { 7 };
                prop_assert_eq!(*word, expected);
            }
        }

        #[test]
        fn lines_are_copied(count in 1usize..20, width in 1usize..70, wider in 0usize..5) {
            let stride = width + wider;
            let data: Vec<f32> = (0..count * stride).map(|i| (i as f32 * 0.37).sin()).collect();
            let lines = Rows { data: &data, stride, count, width };
            let mut out = vec![7u32; count * (width + 2)];
            copy_lines(&mut out, width + 2, lines);
            for (i, word) in out.iter().enumerate() {
                let (line, column) = (i / (width + 2), i % (width + 2));
                prop_assert_eq!(*word, if column < width { data[line * stride + column].to_bits() } else { 7 });
            }
            let mut out = vec![7u32; count / 2 * (width + 2)];
            copy_line_pairs(&mut out, width + 2, lines);
            for (i, word) in out.iter().enumerate() {
                let (pair, column) = (i / (width + 2), i % (width + 2));
                let number = |line: usize| brain(data[line * stride + column]);
                prop_assert_eq!(*word, if column < width { number(2 * pair) | (number(2 * pair + 1) << 16) } else { 7 });
            }
        }
    }

    #[test]
    fn bf16_rounds_to_nearest_even() {
        for (x, bits) in [
            (1.0, 0x3f80),
            (1.0 + 1.0 / 256.0, 0x3f80),
            (1.0 + 3.0 / 256.0, 0x3f82),
            (-2.5, 0xc020),
            (f32::INFINITY, 0x7f80),
        ] {
            assert_eq!(brain(x), bits, "{x}");
        }
        assert!(f32::from_bits(brain(f32::NAN) << 16).is_nan());
    }
}
