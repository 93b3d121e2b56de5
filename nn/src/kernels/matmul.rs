//! Matrix products: large ones through the `gemm` crate on all cores, small ones inside attention by a register tile.

#[cfg(target_arch = "x86_64")]
use super::dispatch::{InstructionSet, instruction_set};
#[cfg(target_arch = "x86_64")]
use super::parallel::{SharedMut, for_each_index};
use super::{kernel, multiply_add};
use gemm::Parallelism;

/// Products with fewer multiplications than this stay on one core.
const SMALLEST_SHARED_PRODUCT: usize = 128 * 1024;

#[cfg(target_arch = "x86_64")]
/// Products with at most this many rows skip the packing that pays off for more: a frame of play is one of them.
const MOST_FEW_ROWS: usize = 160;

#[cfg(target_arch = "x86_64")]
/// Columns of a product that one task computes.
const FEW_ROWS_COLUMNS: usize = 48;

/// A matrix in a slice: element (row, column) lies at `row * row_stride + column * column_stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix. Panics when `data` is not `rows * columns` long: callers pass buffers that they sized themselves.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "matrix of {rows}x{columns}");
        Self {
            data,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// The same numbers read with rows and columns exchanged; nothing is copied.
    pub fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// `out = left * right`, or `out += left * right` when `accumulate`; `out` is row-major.
pub fn multiply(out: &mut [f32], left: Matrix, right: Matrix, accumulate: bool) {
    let (m, n, k) = (left.rows, right.columns, left.columns);
    assert_eq!(k, right.rows, "inner sizes of a product");
    assert_eq!(out.len(), m * n, "result of a product");
    crate::count::add_product(m, n, k);
    if multiply_few_rows(out, left, right, accumulate) {
        return;
    }
    let parallelism = if m * n * k < SMALLEST_SHARED_PRODUCT {
        Parallelism::None
    } else {
        Parallelism::Rayon(0)
    };
    // SAFETY: sizes and strides describe exactly the slices, which were checked when the matrices were made.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// [`multiply`] for few rows: `left` `[m, k]` and `right` `[n, k]`, both row-major, the weight as a layer keeps it. Each number is a
/// product of two contiguous rows, so nothing needs to be packed. Returns whether it was done: the sides must lie that way and the CPU
/// have 32 wide registers.
#[cfg(target_arch = "x86_64")]
fn multiply_few_rows(out: &mut [f32], left: Matrix, right: Matrix, accumulate: bool) -> bool {
    let (m, n, k) = (left.rows, right.columns, left.columns);
    let by_rows = [left.column_stride, right.row_stride] == [1, 1]
        && [left.row_stride, right.column_stride] == [k, k];
    if !by_rows || m > MOST_FEW_ROWS || instruction_set() != InstructionSet::Avx512 {
        return false;
    }
    let product = few_rows::Product {
        left: left.data,
        right: right.data,
        m,
        n,
        k,
        accumulate,
    };
    let shared = SharedMut::new(out);
    for_each_index(n.div_ceil(FEW_ROWS_COLUMNS), m * n * k / 8, |piece| {
        let columns = piece * FEW_ROWS_COLUMNS..((piece + 1) * FEW_ROWS_COLUMNS).min(n);
        // SAFETY: the CPU was asked above; each piece has its own columns of `out`, which is borrowed for this call.
        unsafe { few_rows::columns(shared, product, columns) };
    });
    true
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply_few_rows(_: &mut [f32], _: Matrix, _: Matrix, _: bool) -> bool {
    false
}

/// The kernel of [`multiply_few_rows`].
#[cfg(target_arch = "x86_64")]
mod few_rows {
    use super::SharedMut;
    use std::arch::x86_64::{
        __m512, _mm512_fmadd_ps, _mm512_maskz_loadu_ps, _mm512_reduce_add_ps, _mm512_setzero_ps,
    };
    use std::ops::Range;

    /// Numbers in a register.
    const LANES: usize = 16;

    /// A product's sides, row-major: `left` `[m, k]`, `right` `[n, k]`.
    #[derive(Clone, Copy)]
    pub struct Product<'a> {
        pub left: &'a [f32],
        pub right: &'a [f32],
        pub m: usize,
        pub n: usize,
        pub k: usize,
        pub accumulate: bool,
    }

    /// Computes some columns of `out` `[m, n]`.
    ///
    /// # Safety
    /// The CPU has AVX-512 F; `out` is alive and nobody else touches these columns.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn columns(out: SharedMut, product: Product, columns: Range<usize>) {
        let Product {
            left,
            right,
            m,
            n,
            k,
            ..
        } = product;
        assert!(left.len() >= m * k && right.len() >= n * k && columns.end <= n);
        let mut column = columns.start;
        while column < columns.end {
            let four = columns.end - column >= 4;
            let mut row = 0;
            while row < m {
                let full = m - row >= 4;
                // SAFETY: rows and columns lie within the product by the check above and the loops' bounds.
                unsafe {
                    match (full, four) {
                        (true, true) => tile::<4, 4>(out, product, row, column),
                        (true, false) => tile::<4, 1>(out, product, row, column),
                        (false, true) => tile::<1, 4>(out, product, row, column),
                        (false, false) => tile::<1, 1>(out, product, row, column),
                    }
                }
                row += if full { 4 } else { 1 };
            }
            column += if four { 4 } else { 1 };
        }
    }

    /// `ROWS` x `COLUMNS` results, each summed over `k` in one register.
    ///
    /// # Safety
    /// As [`columns`]; `row + ROWS <= m` and `column + COLUMNS <= n`.
    #[target_feature(enable = "avx512f")]
    // The indices run over several arrays at once.
    #[allow(clippy::needless_range_loop)]
    unsafe fn tile<const ROWS: usize, const COLUMNS: usize>(
        out: SharedMut,
        product: Product,
        row: usize,
        column: usize,
    ) {
        let Product {
            left,
            right,
            n,
            k,
            accumulate,
            ..
        } = product;
        let mut sums: [[__m512; COLUMNS]; ROWS] = [[_mm512_setzero_ps(); COLUMNS]; ROWS];
        // SAFETY: all pointers stay within rows of `left` and `right`; the masked loads touch only what is left of a row.
        unsafe {
            let left = left.as_ptr().add(row * k);
            let right = right.as_ptr().add(column * k);
            let mut start = 0;
            while start < k {
                let left_of_row = k - start;
                let mask = if left_of_row >= LANES {
                    u16::MAX
                } else {
                    (1u16 << left_of_row) - 1
                };
                let mut a = [_mm512_setzero_ps(); ROWS];
                for i in 0..ROWS {
                    a[i] = _mm512_maskz_loadu_ps(mask, left.add(i * k + start));
                }
                for j in 0..COLUMNS {
                    let b = _mm512_maskz_loadu_ps(mask, right.add(j * k + start));
                    for i in 0..ROWS {
                        sums[i][j] = _mm512_fmadd_ps(a[i], b, sums[i][j]);
                    }
                }
                start += LANES;
            }
        }
        for i in 0..ROWS {
            // SAFETY: by this function's contract these elements belong to this call alone.
            let target = unsafe { out.row((row + i) * n + column, COLUMNS) };
            for j in 0..COLUMNS {
                let sum = _mm512_reduce_add_ps(sums[i][j]);
                target[j] = if accumulate { target[j] + sum } else { sum };
            }
        }
    }
}

/// Width that rows of [`multiply_small`]'s right side and result are padded to.
pub const SMALL_WIDTH_STEP: usize = 16;

kernel! {
    /// `out[m, n] = left * right[k, n]` on one core, for the products inside attention.
    ///
    /// `left` element (i, l) lies at `i * left_rows + l * left_columns`; `right` and `out` are row-major with `n` a multiple of
    /// [`SMALL_WIDTH_STEP`].
    pub fn multiply_small(
        out: &mut [f32], left: &[f32], left_rows: usize, left_columns: usize, right: &[f32], m: usize, n: usize, k: usize,
    ) {
        assert!(n.is_multiple_of(SMALL_WIDTH_STEP) && out.len() >= m * n && right.len() >= k * n);
        assert!(m == 0 || k == 0 || left.len() > (m - 1) * left_rows + (k - 1) * left_columns);
        let mut column = 0;
        while column < n {
            let wide = n - column >= 32;
            let mut row = 0;
            while row < m {
                let full = m - row >= 4;
                match (wide, full) {
                    (true, true) => tile::<4, 32, FUSED>(out, left, left_rows, left_columns, right, row, column, n, k),
                    (true, false) => tile::<1, 32, FUSED>(out, left, left_rows, left_columns, right, row, column, n, k),
                    (false, true) => tile::<4, 16, FUSED>(out, left, left_rows, left_columns, right, row, column, n, k),
                    (false, false) => tile::<1, 16, FUSED>(out, left, left_rows, left_columns, right, row, column, n, k),
                }
                row += if full { 4 } else { 1 };
            }
            column += if wide { 32 } else { 16 };
        }
    }
}

/// One tile of [`multiply_small`], kept in registers while it runs over `k`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn tile<const ROWS: usize, const COLUMNS: usize, const FUSED: bool>(
    out: &mut [f32],
    left: &[f32],
    left_rows: usize,
    left_columns: usize,
    right: &[f32],
    row: usize,
    column: usize,
    n: usize,
    k: usize,
) {
    let mut sums = [[0f32; COLUMNS]; ROWS];
    for l in 0..k {
        // SAFETY: `multiply_small` has checked that `right` holds `k` rows of `n` and that its loop stays within them, and that
        // the last element of `left` that a tile reads lies in it.
        let line = unsafe { right.get_unchecked(l * n + column..l * n + column + COLUMNS) };
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            let factor = unsafe { *left.get_unchecked((row + i) * left_rows + l * left_columns) };
            for (total, value) in sum.iter_mut().zip(line) {
                *total = multiply_add::<FUSED>(factor, *value, *total);
            }
        }
    }
    for (i, sum) in sums.iter().enumerate() {
        out[(row + i) * n + column..][..COLUMNS].copy_from_slice(sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count)
            .map(|i| (((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5) - 1.0)
            .collect()
    }

    fn plain(left: &[f32], right: &[f32], m: usize, n: usize, k: usize) -> Vec<f32> {
        let mut out = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                out[i * n + j] = (0..k).map(|l| left[i * k + l] * right[l * n + j]).sum();
            }
        }
        out
    }

    proptest! {
        #[test]
        fn products_equal_the_definition(m in 1usize..40, n in 1usize..40, k in 1usize..40) {
            let (left, right) = (numbers(m * k, 1), numbers(k * n, 2));
            let expected = plain(&left, &right, m, n, k);
            let mut out = vec![0.0; m * n];
            multiply(&mut out, Matrix::new(&left, m, k), Matrix::new(&right, k, n), false);
            for (a, b) in out.iter().zip(&expected) { prop_assert!((a - b).abs() < 1e-4); }
            multiply(&mut out, Matrix::new(&left, m, k), Matrix::new(&right, k, n), true);
            for (a, b) in out.iter().zip(&expected) { prop_assert!((a - 2.0 * b).abs() < 1e-4); }
            let transposed: Vec<f32> = (0..k * m).map(|i| left[(i % m) * k + i / m]).collect();
            multiply(&mut out, Matrix::new(&transposed, k, m).transposed(), Matrix::new(&right, k, n), false);
            for (a, b) in out.iter().zip(&expected) { prop_assert!((a - b).abs() < 1e-4); }
            let weight: Vec<f32> = (0..n * k).map(|i| right[(i % k) * n + i / k]).collect();
            multiply(&mut out, Matrix::new(&left, m, k), Matrix::new(&weight, n, k).transposed(), false);
            for (a, b) in out.iter().zip(&expected) { prop_assert!((a - b).abs() < 1e-4); }
            multiply(&mut out, Matrix::new(&left, m, k), Matrix::new(&weight, n, k).transposed(), true);
            for (a, b) in out.iter().zip(&expected) { prop_assert!((a - 2.0 * b).abs() < 1e-4); }
        }

        #[test]
        fn small_products_equal_the_definition(m in 1usize..20, blocks in 1usize..6, k in 1usize..40) {
            let n = blocks * SMALL_WIDTH_STEP;
            let (left, right) = (numbers(m * k, 3), numbers(k * n, 4));
            let mut out = vec![0.0; m * n];
            multiply_small(&mut out, &left, k, 1, &right, m, n, k);
            for (a, b) in out.iter().zip(&plain(&left, &right, m, n, k)) { prop_assert!((a - b).abs() < 1e-4); }
        }
    }
}
