//! Products of f32 with AVX-512, whose left side is read where it lies: a number of it is loaded once for a register or three of columns, which costs no more than from a packed panel, and packing it took a tenth of a product.
//!
//! The right side is read where it lies, too, if it lies in lines and is not read often enough for packing to pay: the gradient of a weight, whose sides are long. Then the
//! product needs no memory of its own, and threads need not meet within it.

use super::unit::{Lines, Unit};
use super::{Matrix, even_part};
use std::ops::Range;

/// Most of `k` at once where the right side is read where it lies. Rows that are powers of two apart fall into few places of a cache: of rows 4 KiB apart the second level of a small CPU
/// holds about as many.
pub const MOST_DEPTH: usize = 128;

/// Whether `right` is better read where it lies than packed, for a left side of so many rows.
pub fn reads_right(unit: Unit, right: Matrix, rows: usize) -> bool {
    right.column_stride == 1 && right.columns == unit.padded(right.columns) && rows <= right.rows
}

/// All of `left * right`, into or onto `out`, whose rows are `stride` apart, on the calling thread, for a right side that is read where it lies.
pub fn multiply(
    unit: Unit,
    (out, stride): (&mut [f32], usize),
    left: Matrix,
    right: Matrix,
    accumulate: bool,
) {
    // At least one, so that a product of nothing writes zeros.
    let parts = left.columns.div_ceil(MOST_DEPTH).max(1);
    for index in 0..parts {
        let depth = even_part(left.columns, parts, index, 1);
        let start = depth.start * right.row_stride;
        let lines = |columns: Range<usize>| Lines {
            data: right.data.get(start + columns.start..).unwrap_or_default(),
            stride: right.row_stride,
        };
        let accumulate = accumulate || index > 0;
        let left = left.some_columns(depth.clone());
        multiply_part(
            unit,
            (&mut *out, stride),
            left,
            right.columns,
            lines,
            accumulate,
            |_, _| {},
        );
    }
}

/// All of `left` times `n` columns, of which `right` gives lines, tile by tile. `finish` gets each tile while it is still in the first cache level: `out` from the tile's start on, and the tile's
/// rows and columns.
///
/// A tile's rows go through all columns before the next ones do: they stay in the first cache level, lines of the right side come one after another from the second, and so do results.
pub fn multiply_part<'a>(
    unit: Unit,
    (out, stride): (&mut [f32], usize),
    left: Matrix,
    n: usize,
    right: impl Fn(Range<usize>) -> Lines<'a>,
    accumulate: bool,
    finish: impl Fn(&mut [f32], [usize; 2]),
) {
    let tiles = left.rows.div_ceil(unit.tile_rows());
    for tile in 0..tiles {
        let rows = even_part(left.rows, tiles, tile, 1);
        let left = left.some_rows(rows.clone());
        for columns in unit.panels(n) {
            let size = [rows.len(), columns.len()];
            let out = &mut out[rows.start * stride + columns.start..];
            unit.tile(out, stride, size[1], left, right(columns), accumulate);
            finish(out, size);
        }
    }
}
