//! Exchanging rows and columns: what packing a product's sides and laying out keys for attention comes down to.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

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
    match instruction_set() {
        InstructionSet::Avx512 | InstructionSet::Amx => {
            // SAFETY: the CPU has AVX-512 F; the rest by this function's contract.
            return unsafe { avx512::transpose(out, out_stride, rows) };
        }
        // SAFETY: the CPU has AVX2; the rest by this function's contract.
        InstructionSet::Avx2 => return unsafe { avx2::transpose(out, out_stride, rows) },
        InstructionSet::Baseline => {}
    }
    // SAFETY: by this function's contract.
    unsafe { plain(out, out_stride, rows) };
}

/// [`transpose_to`], number by number.
///
/// # Safety
/// That of [`transpose_to`].
unsafe fn plain(out: *mut u32, out_stride: usize, rows: Rows) {
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
    // SAFETY: all elements lie within the slices by the checks above.
    unsafe { transpose_pairs_to(out.as_mut_ptr(), out_stride, rows) };
}

/// [`transpose_pairs`] to where other threads may be writing other elements between these.
///
/// # Safety
/// `out` is valid for every `pair * out_stride + row`, nobody else uses these elements, and `rows` are all there.
pub unsafe fn transpose_pairs_to(out: *mut u32, out_stride: usize, rows: Rows) {
    #[cfg(target_arch = "x86_64")]
    if instruction_set() >= InstructionSet::Avx512 && has_bf16() {
        let rows = Rows {
            width: rows.width / 2 * 2,
            ..rows
        };
        // SAFETY: the CPU has AVX-512 F and BF16; the rest by this function's contract.
        unsafe { avx512::transpose_pairs(out, out_stride, rows) };
        return;
    }
    // SAFETY: by this function's contract.
    unsafe { plain_pairs(out, out_stride, rows) };
}

/// [`transpose_pairs_to`], pair by pair.
///
/// # Safety
/// That of [`transpose_pairs_to`].
unsafe fn plain_pairs(out: *mut u32, out_stride: usize, rows: Rows) {
    for first in (0..rows.width / 2).step_by(16) {
        for row in 0..rows.count {
            let values = &rows.data[row * rows.stride..][2 * first..rows.width.min(2 * first + 32)];
            for (index, values) in values.chunks_exact(2).enumerate() {
                // SAFETY: by this function's contract.
                unsafe {
                    out.add((first + index) * out_stride + row)
                        .write(pair(values[0], values[1]))
                };
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
    portable_lines(out, width, lines);
}

kernel! {
    fn portable_lines(out: &mut [u32], width: usize, lines: Rows) {
        // The widths of whole tiles, whose lines are a few registers.
        match lines.width {
            16 => lines_of::<16>(out, width, lines),
            6 => lines_of::<6>(out, width, lines),
            _ => lines_of::<0>(out, width, lines),
        }
    }
}

/// [`copy_lines`] of `W` numbers; 0 stands for a width that is known at run time only.
#[inline(always)]
fn lines_of<const W: usize>(out: &mut [u32], width: usize, lines: Rows) {
    let count = if W > 0 { W } else { lines.width };
    let sides = out
        .chunks_mut(width)
        .zip(lines.data.chunks(lines.stride))
        .take(lines.count);
    for (out, line) in sides {
        for (out, x) in out[..count].iter_mut().zip(&line[..count]) {
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

/// Rows and columns of a tile.
pub const TILE: usize = 16;

/// Tiles of sixteen rows by sixteen pairs of columns, rounded to bf16, the first of a pair in the lower half of a word: pair `p` of row `r` lies at
/// `p / 16 * 256 + r * 16 + p % 16`. `rows` are at most sixteen, and `out` becomes zero where they have nothing.
pub fn tile_row_pairs(out: &mut [u32], rows: Rows) {
    check_tiles(out, rows, [rows.count, rows.width]);
    #[cfg(target_arch = "x86_64")]
    if rows.count > 0 && instruction_set() >= InstructionSet::Avx512 && has_bf16() {
        // SAFETY: the CPU has AVX-512 F and BF16, and all elements lie within the slices by the checks above.
        unsafe { avx512::tile_row_pairs(out.as_mut_ptr(), rows) };
        return;
    }
    plain_tiles(out, [rows.count, rows.width], |row, column| {
        rows.data[row * rows.stride + column]
    });
}

/// As [`tile_row_pairs`] with rows and columns exchanged: sixteen columns of `lines`, at most, by sixteen pairs of lines.
pub fn tile_line_pairs(out: &mut [u32], lines: Rows) {
    check_tiles(out, lines, [lines.width, lines.count]);
    #[cfg(target_arch = "x86_64")]
    if lines.width > 0 && instruction_set() >= InstructionSet::Avx512 && has_bf16() {
        // SAFETY: the CPU has AVX-512 F, BW and BF16, and all elements lie within the slices by the checks above.
        unsafe { avx512::tile_line_pairs(out.as_mut_ptr(), lines) };
        return;
    }
    plain_tiles(out, [lines.width, lines.count], |lane, line| {
        lines.data[line * lines.stride + lane]
    });
}

/// Panics unless all numbers are there, and as many whole tiles as `depth` numbers of `lanes` lanes need.
fn check_tiles(out: &[u32], rows: Rows, [lanes, depth]: [usize; 2]) {
    let there = rows.count == 0 || rows.data.len() >= rows.end();
    let tiles = depth.div_ceil(2 * TILE);
    assert!(
        there && lanes <= TILE && out.len() >= tiles * TILE * TILE,
        "{lanes} lanes of {depth} numbers into {} words",
        out.len()
    );
}

fn plain_tiles(out: &mut [u32], [lanes, depth]: [usize; 2], number: impl Fn(usize, usize) -> f32) {
    let number = |lane: usize, at: usize| match lane < lanes && at < depth {
        true => number(lane, at),
        false => 0.0,
    };
    let (tiles, _) = out.as_chunks_mut::<{ TILE * TILE }>();
    for (index, tile) in tiles.iter_mut().enumerate().take(depth.div_ceil(2 * TILE)) {
        for (i, word) in tile.iter_mut().enumerate() {
            let (lane, first) = (i / TILE, 2 * (index * TILE + i % TILE));
            *word = pair(number(lane, first), number(lane, first + 1));
        }
    }
}

/// Neighbours become pairs, rounded to bf16, the first in the lower half of a word: `pairs` is made half as long as `numbers`, of which there is an even
/// number.
pub fn round_pairs(pairs: &mut Vec<u32>, numbers: &[f32]) {
    assert!(numbers.len().is_multiple_of(2), "pairs of numbers");
    pairs.resize(numbers.len() / 2, 0);
    #[cfg(target_arch = "x86_64")]
    if instruction_set() >= InstructionSet::Avx512 && has_bf16() {
        // SAFETY: the CPU has AVX-512 F and BF16, and there is a word for each pair.
        unsafe { avx512::round_pairs(pairs.as_mut_ptr(), numbers) };
        return;
    }
    let (numbers, _) = numbers.as_chunks::<2>();
    for (word, [first, second]) in pairs.iter_mut().zip(numbers) {
        *word = pair(*first, *second);
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

        #[test]
        fn tiles_hold_pairs_of_rows_and_of_lines(lanes in 1usize..=TILE, depth in 1usize..100, wider in 0usize..5) {
            let words = depth.div_ceil(2 * TILE) * TILE * TILE;
            let data: Vec<f32> = (0..(lanes + wider) * (depth + wider)).map(|i| (i as f32 * 0.37).sin()).collect();
            let mut out = [vec![7u32; words], vec![7u32; words]];
            tile_row_pairs(&mut out[0], Rows { data: &data, stride: depth + wider, count: lanes, width: depth });
            tile_line_pairs(&mut out[1], Rows { data: &data, stride: lanes + wider, count: depth, width: lanes });
            let strides = [[depth + wider, 1], [1, lanes + wider]];
            for (out, [lane_stride, depth_stride]) in out.iter().zip(strides) {
                for (i, word) in out.iter().enumerate() {
                    let (lane, first) = (i / TILE % TILE, 2 * (i / (TILE * TILE) * TILE + i % TILE));
                    let number = |at: usize| match lane < lanes && at < depth {
                        true => brain(data[lane * lane_stride + at * depth_stride]),
                        false => 0,
                    };
                    prop_assert_eq!(*word, number(first) | (number(first + 1) << 16));
                }
            }
        }

        #[test]
        fn neighbours_become_pairs(count in 0usize..70) {
            let data: Vec<f32> = (0..2 * count).map(|i| (i as f32 * 0.37).sin()).collect();
            let mut pairs = vec![7u32; 3];
            round_pairs(&mut pairs, &data);
            let expected: Vec<_> = data.chunks(2).map(|two| brain(two[0]) | (brain(two[1]) << 16)).collect();
            prop_assert_eq!(pairs, expected);
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
