//! Matrix products, by packing both sides into the order in which small tiles of the result read them.
//!
//! ```text
//! left [m, k] ──► panels of a few rows ─────┐
//!                                           ├─► tiles of the result, each summed up in registers
//! right [k, n] ──► panels of a few columns ─┘
//! ```
//!
//! In f32 the left side is read where it lies, and the right side of long products is packed, or read where it lies, too, by each thread for itself (`in_place.rs`).
//!
//! The scheme is that of Goto and van de Geijn (Anatomy of High-Performance Matrix Multiplication, 2008). What differs between
//! CPUs and precisions is a [`Unit`]: the shape of a tile, the order of numbers in a panel, and the loop over `k`. In
//! [`crate::Precision::Bf16`] numbers are rounded to bf16 as they are packed and sums are kept in f32.
//!
//! Each number of a result is summed over `k` in one fixed order, whatever tile it falls into and however work is split, so results depend
//! neither on the number of threads nor on how many rows are computed together.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod brain;
mod chain;
mod in_place;
mod pack;
mod portable;
mod right;
mod unit;
mod weight;

#[cfg(target_arch = "x86_64")]
pub(super) use amx::usable as has_amx;
#[cfg(target_arch = "x86_64")]
pub(super) use brain::as_pairs;
pub use chain::{chain, product_onto};
pub use unit::{Unit, unit};
pub use weight::{Finish, PackedWeight};

use super::buffer::filled;
use super::parallel::SharedMut;
use super::prefetch::prefetch_far;
pub(super) use pack::even_part;
use pack::{Buffer, idle_buffer, with_buffer};
use rayon::prelude::*;
use right::PackedRight;
use std::ops::Range;

/// Products with fewer multiplications than this stay on one core.
const SMALLEST_SHARED_PRODUCT: usize = 256 * 1024;
/// Pieces for each core, at least, so that a core that was interrupted is helped out by the others.
const PIECES_PER_CORE: usize = 2;
/// Most rows of one task: their share of `left` stays in the second cache level.
const MOST_TASK_ROWS: usize = 128;

/// A matrix in a slice: element (row, column) lies at `row * row_stride + column * column_stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
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

    /// Some of the rows.
    pub(super) fn some_rows(self, rows: Range<usize>) -> Self {
        self.transposed().some_columns(rows).transposed()
    }

    /// Some of the columns.
    pub(super) fn some_columns(self, columns: Range<usize>) -> Self {
        assert!(columns.end <= self.columns, "columns of a matrix");
        let start = columns.start * self.column_stride;
        Self {
            data: self.data.get(start..).unwrap_or_default(),
            columns: columns.len(),
            ..self
        }
    }

    /// The lines in memory that it lies in: how many, from one to the next, and the numbers of each.
    fn lines(self) -> [usize; 3] {
        match self.column_stride {
            1 => [self.rows, self.row_stride, self.columns],
            _ => [self.columns, self.column_stride, self.rows],
        }
    }

    /// Asks for some of its lines, as far as there are so many.
    fn prefetch_lines(self, lines: Range<usize>) {
        let [count, stride, width] = self.lines();
        for line in lines.start..lines.end.min(count) {
            let data = self.data.get(line * stride..).unwrap_or_default();
            prefetch_far(data, width);
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

/// `out = left * right`, or `out += left * right` when `accumulate`, in the precision of the scope ([`crate::with_precision`]); `out` is
/// row-major.
pub fn multiply(out: &mut [f32], left: Matrix, right: Matrix, accumulate: bool) {
    multiply_on(unit(crate::precision()), out, left, right, accumulate);
}

/// `left * right` as [`multiply`] computes it.
pub fn product(left: Matrix, right: Matrix) -> Vec<f32> {
    // SAFETY: a product that does not accumulate writes each number of its result, and reads none.
    unsafe {
        filled(left.rows * right.columns, |out| {
            multiply(out, left, right, false)
        })
    }
}

/// [`multiply`] on a unit of one's choice; it must be one that [`unit()`] returns on this CPU, or a narrower one.
pub fn multiply_on(unit: Unit, out: &mut [f32], left: Matrix, right: Matrix, accumulate: bool) {
    let (m, n, k) = (left.rows, right.columns, left.columns);
    assert_eq!(k, right.rows, "inner sizes of a product");
    assert_eq!(out.len(), m * n, "result of a product");
    crate::count::add_product(m, n, k);
    let shared = m * n * k >= SMALLEST_SHARED_PRODUCT;
    let wide = n >= 2 * m;
    crate::profile::operation("product", || match shared && wide {
        true => multiply_across(unit, out, left, right, accumulate),
        false => multiply_parts(unit, (out, n), left, right, accumulate, shared),
    });
}

/// `left * right` as [`multiply_on`] computes it, on the calling thread and not counted, into rows of `out` that are `stride` apart: for attention, whose
/// products are many and small.
pub(super) fn multiply_alone(
    unit: Unit,
    out: &mut [f32],
    stride: usize,
    left: Matrix,
    right: Matrix,
) {
    assert_eq!(left.columns, right.rows, "inner sizes of a product");
    assert_eq!(out.len(), left.rows * stride, "result of a product");
    multiply_parts(unit, (out, stride), left, right, false, false);
}

/// A product whose result is wide, in blocks of columns. Each packs both sides for itself: in pieces of rows, of which there are few, a core would read all of the long right side
/// from where another has packed it.
fn multiply_across(unit: Unit, out: &mut [f32], left: Matrix, right: Matrix, accumulate: bool) {
    let (m, n) = (left.rows, right.columns);
    let blocks = (PIECES_PER_CORE * cores(true)).min(n.div_ceil(unit.tile_columns()));
    let out = SharedMut::new(out);
    (0..blocks).into_par_iter().for_each(|index| {
        let columns = even_part(n, blocks, index, unit.tile_columns());
        let (first, width) = (columns.start, columns.len());
        let right = right.some_columns(columns);
        // SAFETY: each block has its own part of each row of `out`, which is borrowed for this call.
        let out_row = |row: usize| unsafe { out.row(row * n + first, width) };
        with_buffer(|buffer| {
            let block = &mut buffer.numbers(m * width)[..m * width];
            if accumulate {
                for (row, block) in block.chunks_exact_mut(width).enumerate() {
                    block.copy_from_slice(out_row(row));
                }
            }
            multiply_parts(unit, (block, width), left, right, accumulate, false);
            for (row, block) in block.chunks_exact(width).enumerate() {
                out_row(row).copy_from_slice(block);
            }
        });
    });
}

/// A product on several cores when `shared`.
fn multiply_parts(
    unit: Unit,
    (out, stride): (&mut [f32], usize),
    left: Matrix,
    right: Matrix,
    accumulate: bool,
    shared: bool,
) {
    let (n, k) = (right.columns, left.columns);
    if unit.reads_in_place() {
        return multiply_in_place(unit, (out, stride), left, right, accumulate, shared);
    }
    // One part of `k` after another; at least one, so that a product of nothing writes zeros.
    let parts = k.div_ceil(unit.most_depth()).max(1);
    for index in 0..parts {
        let depth = even_part(k, parts, index, unit.depth_step());
        let accumulate = accumulate || index > 0;
        with_buffer(|right_panels| {
            pack::right(unit, right_panels, right, depth.clone(), shared);
            let part = Part {
                unit,
                depth,
                n,
                stride,
                right: right_panels,
            };
            let out = (&mut *out, stride);
            pieces_of(unit, out, left.rows, MOST_TASK_ROWS, shared, |out, rows| {
                part.multiply(out, left, rows, accumulate, |_, _| {});
            });
        });
    }
}

/// A product whose left side is read where it lies, on several cores when `shared`.
fn multiply_in_place(
    unit: Unit,
    (out, stride): (&mut [f32], usize),
    left: Matrix,
    right: Matrix,
    accumulate: bool,
    shared: bool,
) {
    let out = (out, stride);
    if in_place::is_long(right, left.rows) {
        // Each piece reads all of the right side from far.
        let most = in_place::MOST_RESULTS;
        return pieces_of(unit, out, left.rows, most, shared, |out, rows| {
            let left = left.some_rows(rows);
            in_place::multiply_long(unit, (out, stride), left, right, accumulate);
        });
    }
    let packed = PackedRight::new(unit, right, shared, idle_buffer);
    pieces_of(unit, out, left.rows, MOST_TASK_ROWS, shared, |out, rows| {
        packed.multiply((out, stride), left, rows, accumulate, |_, _| {});
    });
    packed.keep_buffers();
}

/// Cores that share a product's work.
fn cores(shared: bool) -> usize {
    if shared {
        rayon::current_num_threads()
    } else {
        1
    }
}

/// Calls `work` for all of `m` rows, in pieces of `most` rows at most, on several cores when `shared`.
fn pieces(
    unit: Unit,
    m: usize,
    most: usize,
    shared: bool,
    work: impl Fn(Range<usize>) + Sync + Send,
) {
    let cores = cores(shared);
    let wanted = m
        .div_ceil(most)
        .max(if shared { PIECES_PER_CORE * cores } else { 1 });
    let pieces = wanted
        .next_multiple_of(cores)
        .min(m.div_ceil(unit.tile_rows()))
        .max(1);
    let piece = |index: usize| work(even_part(m, pieces, index, unit.row_step()));
    if shared {
        (0..pieces).into_par_iter().for_each(piece);
    } else {
        (0..pieces).for_each(piece);
    }
}

/// As [`pieces`], for the `m` rows of `out`, `stride` apart: `work` gets those of its piece.
fn pieces_of(
    unit: Unit,
    (out, stride): (&mut [f32], usize),
    m: usize,
    most: usize,
    shared: bool,
    work: impl Fn(&mut [f32], Range<usize>) + Sync + Send,
) {
    let out = SharedMut::new(out);
    pieces(unit, m, most, shared, |rows| {
        // SAFETY: each piece has its own rows of `out`, which is borrowed for this call.
        let out = unsafe { out.row(rows.start * stride, rows.len() * stride) };
        work(out, rows);
    });
}

/// The part of a product that belongs to one range of `k`, its right side packed.
struct Part<'a> {
    unit: Unit,
    depth: Range<usize>,
    n: usize,
    /// From one row of results to the next.
    stride: usize,
    right: &'a Buffer,
}

impl Part<'_> {
    /// Computes, or adds to, `out` `[rows, n]` from some rows of `left`, on the calling thread. `finish` gets each tile, as that of
    /// [`Panels::multiply`] does.
    fn multiply(
        &self,
        out: &mut [f32],
        left: Matrix,
        rows: Range<usize>,
        accumulate: bool,
        finish: impl Fn(&mut [f32], [usize; 2]),
    ) {
        let size = [rows.len(), self.n];
        with_buffer(|left_panels| {
            pack::left(self.unit, left_panels, left, rows, self.depth.clone());
            let panels = Panels {
                unit: self.unit,
                left: left_panels,
                right: self.right,
                depth: self.depth.len(),
            };
            panels.multiply((out, self.stride), size, accumulate, finish);
        });
    }
}

/// Both sides of a product, packed over the same part of `k`.
struct Panels<'a> {
    unit: Unit,
    left: &'a Buffer,
    right: &'a Buffer,
    /// Numbers along `k`.
    depth: usize,
}

impl Panels<'_> {
    /// Computes, or adds to, `out` `[rows, n]`, whose rows are `stride` apart, tile by tile. `finish` gets each tile while it is still in the first cache level: `out` from the tile's
    /// start on, and the tile's rows and columns.
    fn multiply(
        &self,
        (out, stride): (&mut [f32], usize),
        [rows, n]: [usize; 2],
        accumulate: bool,
        finish: impl Fn(&mut [f32], [usize; 2]),
    ) {
        let unit = self.unit;
        let (words, panels) = (unit.words(self.depth), rows.div_ceil(unit.tile_rows()));
        let tiles = unit.ready();
        for column in (0..n).step_by(unit.tile_columns()) {
            let columns = unit.tile_columns().min(n - column);
            let right = self.right.panel(column * words);
            for panel in 0..panels {
                let part = even_part(rows, panels, panel, unit.row_step());
                let size = [part.len(), columns];
                let left = self.left.panel(panel * unit.left_panel_words(self.depth));
                let out = &mut out[part.start * stride + column..];
                tiles.tile(out, stride, size, [left, right], words, accumulate);
                finish(out, size);
            }
        }
    }
}

#[cfg(test)]
mod tests;
