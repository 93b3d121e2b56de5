//! Squares of eight by eight words, exchanged in registers.

use super::{Rows, plain};
use std::arch::x86_64::{
    __m256, _mm_castps_si128, _mm_movehl_ps, _mm_store_ss, _mm_storel_epi64, _mm_storeu_ps,
    _mm256_castpd_ps, _mm256_castps_pd, _mm256_castps256_ps128, _mm256_extractf128_ps,
    _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    _mm256_unpackhi_pd, _mm256_unpackhi_ps, _mm256_unpacklo_pd, _mm256_unpacklo_ps,
};

const LANES: usize = 8;

/// See [`super::transpose`].
///
/// # Safety
/// The CPU has AVX2; all elements of `rows`, and where they go, are there.
#[target_feature(enable = "avx2")]
pub unsafe fn transpose(out: *mut u32, out_stride: usize, rows: Rows) {
    for row in (0..rows.count).step_by(LANES) {
        let some = Rows {
            data: &rows.data[row * rows.stride..],
            count: LANES.min(rows.count - row),
            ..rows
        };
        // SAFETY: these are some of the rows, and their places in each line.
        unsafe {
            let out = out.add(row);
            match some.count {
                1 => few_rows::<1>(out, out_stride, some),
                2 => few_rows::<2>(out, out_stride, some),
                3 => few_rows::<3>(out, out_stride, some),
                4 => few_rows::<4>(out, out_stride, some),
                5 => few_rows::<5>(out, out_stride, some),
                6 => few_rows::<6>(out, out_stride, some),
                7 => few_rows::<7>(out, out_stride, some),
                _ => few_rows::<LANES>(out, out_stride, some),
            }
        }
    }
}

/// [`transpose`] of `COUNT` rows, at most a register's lanes: a count that the compiler knows, so that the square stays in registers.
///
/// # Safety
/// That of [`transpose`], for `COUNT` rows.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn few_rows<const COUNT: usize>(out: *mut u32, out_stride: usize, rows: Rows) {
    let whole = rows.width / LANES * LANES;
    for column in (0..whole).step_by(LANES) {
        let mut square = [_mm256_setzero_ps(); LANES];
        // SAFETY: eight numbers of each row are there from `column` on, and as many lines of `out`.
        unsafe {
            let start = rows.data.as_ptr().add(column);
            for (i, line) in square.iter_mut().enumerate().take(COUNT) {
                *line = _mm256_loadu_ps(start.add(i * rows.stride));
            }
            for (i, line) in exchange(square).into_iter().enumerate() {
                store::<COUNT>(out.add((column + i) * out_stride).cast(), line);
            }
        }
    }
    if whole < rows.width {
        let rest = Rows {
            data: &rows.data[whole..],
            width: rows.width - whole,
            ..rows
        };
        // SAFETY: the columns that do not fill a register, by this function's contract.
        unsafe { plain(out.add(whole * out_stride), out_stride, rest) };
    }
}

/// Writes the first `COUNT` numbers of a register, and nothing beyond them.
///
/// # Safety
/// There is room for them.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store<const COUNT: usize>(mut out: *mut f32, line: __m256) {
    let mut part = _mm256_castps256_ps128(line);
    // SAFETY: a half, a quarter and an eighth of the register, of those that make up the count.
    unsafe {
        if COUNT == LANES {
            return _mm256_storeu_ps(out, line);
        }
        if COUNT & 4 != 0 {
            _mm_storeu_ps(out, part);
            part = _mm256_extractf128_ps::<1>(line);
            out = out.add(4);
        }
        if COUNT & 2 != 0 {
            _mm_storel_epi64(out.cast(), _mm_castps_si128(part));
            part = _mm_movehl_ps(part, part);
            out = out.add(2);
        }
        if COUNT & 1 != 0 {
            _mm_store_ss(out, part);
        }
    }
}

/// Rows become columns: neighbours are interleaved in words, then in pairs of words, then in halves of registers.
#[inline]
#[target_feature(enable = "avx2")]
fn exchange(rows: [__m256; LANES]) -> [__m256; LANES] {
    let mut words = rows;
    for i in (0..LANES).step_by(2) {
        words[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        words[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    // `pairs[4 * a + b]` holds, in half h, column 4 * h + b of rows 4 * a to 4 * a + 3.
    let mut pairs = words;
    for i in (0..LANES).step_by(4) {
        for half in 0..2 {
            let first = _mm256_castps_pd(words[i + half]);
            let second = _mm256_castps_pd(words[i + half + 2]);
            pairs[i + 2 * half] = _mm256_castpd_ps(_mm256_unpacklo_pd(first, second));
            pairs[i + 2 * half + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(first, second));
        }
    }
    let mut columns = pairs;
    for b in 0..4 {
        columns[b] = _mm256_permute2f128_ps::<0x20>(pairs[b], pairs[4 + b]);
        columns[4 + b] = _mm256_permute2f128_ps::<0x31>(pairs[b], pairs[4 + b]);
    }
    columns
}
