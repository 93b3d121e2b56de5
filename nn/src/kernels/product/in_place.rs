//! Products of f32, whose left side is read where it lies: a number of it is loaded once for a register or a few of columns, which costs no more than from a packed panel, and packing it took a tenth of a
//! product.
//!
//! The right side is packed. That of a long product, as the gradient of a weight is, each thread packs for itself, a part at a time, or reads it where it lies, too; then threads need not meet within the product.

use super::pack::{self, Buffer, even_parts, with_buffer};
use super::unit::{Lines, Unit};
use super::{Matrix, even_part};
use std::cell::Cell;
use std::ops::Range;

/// Most of `k` at once of a long product. Rows that are powers of two apart fall into few places of a cache: of rows 4 KiB apart the second level of a small CPU
/// holds about as many.
pub const MOST_DEPTH: usize = 128;
/// Most rows and columns of results that go through parts of `k` together: they stay in the second cache level.
pub const MOST_RESULTS: usize = 256;
/// Most tiles on top of each other for which a packed right side comes from farther away than the left one, and so the tiles go by columns.
const FEW_TILES: usize = 12;

/// Whether a product of a left side of so many rows is long: threads then do not share a packed right side.
pub fn is_long(right: Matrix, rows: usize) -> bool {
    rows <= right.rows
}

/// All of `left * right`, into or onto `out`, whose rows are `stride` apart, on the calling thread, for a long product.
pub fn multiply_long(
    unit: Unit,
    (out, stride): (&mut [f32], usize),
    left: Matrix,
    right: Matrix,
    accumulate: bool,
) {
    if left.rows == 0 {
        return;
    }
    for start in (0..right.columns).step_by(MOST_RESULTS) {
        let columns = start..right.columns.min(start + MOST_RESULTS);
        let right = right.some_columns(columns);
        multiply_block(unit, (&mut out[start..], stride), left, right, accumulate);
    }
}

/// See [`multiply_long`]; one part of `k` after another.
fn multiply_block(
    unit: Unit,
    (out, stride): (&mut [f32], usize),
    left: Matrix,
    right: Matrix,
    accumulate: bool,
) {
    let n = right.columns;
    let as_it_lies = unit.reads_lines() && right.column_stride == 1 && n == unit.padded(n);
    // At least one, so that a product of nothing writes zeros.
    let parts = left.columns.div_ceil(MOST_DEPTH).max(1);
    let part = |index| {
        let depth = even_part(left.columns, parts, index, 1);
        [left.some_columns(depth.clone()), right.some_rows(depth)]
    };
    for index in 0..parts {
        let out = (&mut *out, stride);
        let [left, right] = part(index);
        let accumulate = accumulate || index > 0;
        if as_it_lies {
            let lines = |columns: Range<usize>| Lines {
                data: right.data.get(columns.start..).unwrap_or_default(),
                stride: right.row_stride,
                coming: &[],
            };
            by_rows(unit, out, left, n, lines, accumulate, |_, _| {});
        } else {
            let next = (index + 1 < parts).then(|| part(index + 1));
            multiply_copied(unit, out, left, right, next, accumulate);
        }
    }
}

/// One part of [`multiply_block`], of copies of its sides. Those of the next part are asked for meanwhile, tile by tile: their lines lie apart, and CPUs themselves look ahead only where one follows another.
fn multiply_copied(
    unit: Unit,
    out: (&mut [f32], usize),
    left: Matrix,
    right: Matrix,
    next: Option<[Matrix; 2]>,
    accumulate: bool,
) {
    let (n, depth) = (right.columns, right.rows);
    with_buffer(|panels| {
        pack::right(unit, panels, right, 0..depth, false);
        with_buffer(|lines| {
            let left = lines_together(left, lines);
            let tiles = tile_rows(unit, left.rows).len() * unit.panels(n).len();
            let share = |side: Matrix| side.lines()[0].div_ceil(tiles);
            let shares = next.map(|sides| sides.map(|side| (side, share(side))));
            let tile = Cell::new(0);
            let right = |columns| {
                let index = tile.replace(tile.get() + 1);
                for (side, share) in shares.into_iter().flatten() {
                    side.prefetch_lines(index * share..(index + 1) * share);
                }
                panel(unit, panels, depth, columns)
            };
            by_rows(unit, out, left, n, right, accumulate, |_, _| {});
        });
    });
}

/// `left`, copied if its lines run across `k`: of lines that are powers of two apart, the first cache level holds fewer than a part of `k` has.
fn lines_together<'a>(left: Matrix<'a>, buffer: &'a mut Buffer) -> Matrix<'a> {
    if left.column_stride == 1 {
        return left;
    }
    let (rows, depth) = (left.rows, left.columns);
    // An odd number of cache lines.
    let stride = (rows.div_ceil(16) | 1) * 16;
    let data = buffer.numbers(stride * depth);
    for (l, line) in data.chunks_exact_mut(stride).take(depth).enumerate() {
        line[..rows].copy_from_slice(&left.data[l * left.column_stride..][..rows]);
    }
    Matrix {
        data,
        row_stride: 1,
        column_stride: stride,
        ..left
    }
}

/// All of `left` times `n` columns that are packed in `right`, tile by tile. `finish` gets each tile while it is still in the first cache level: `out` from the tile's start on, and the tile's rows and columns.
pub fn multiply_packed(
    unit: Unit,
    out: (&mut [f32], usize),
    left: Matrix,
    n: usize,
    right: &Buffer,
    accumulate: bool,
    finish: impl Fn(&mut [f32], [usize; 2]),
) {
    let lines = |columns| panel(unit, right, left.columns, columns);
    let few = left.rows.div_ceil(unit.tile_rows()) <= FEW_TILES;
    match few && !unit.reads_lines() {
        true => by_columns(unit, out, left, n, lines, accumulate, finish),
        false => by_rows(unit, out, left, n, lines, accumulate, finish),
    }
}

/// Some columns of a packed right side.
fn panel(unit: Unit, right: &Buffer, depth: usize, columns: Range<usize>) -> Lines<'_> {
    Lines {
        data: right.single_panel(columns.start * depth),
        stride: unit.padded(columns.len()),
        coming: &[],
    }
}

/// See [`multiply_packed`]. A tile's rows go through all columns before the next ones do: they stay in the first cache level, lines of the right side come one after another from the second, and so do
/// results.
fn by_rows<'a>(
    unit: Unit,
    (out, stride): (&mut [f32], usize),
    left: Matrix,
    n: usize,
    right: impl Fn(Range<usize>) -> Lines<'a>,
    accumulate: bool,
    finish: impl Fn(&mut [f32], [usize; 2]),
) {
    for rows in tile_rows(unit, left.rows) {
        let left = left.some_rows(rows.clone());
        for columns in unit.panels(n) {
            let size = [rows.len(), columns.len()];
            let out = &mut out[rows.start * stride + columns.start..];
            unit.tile(out, stride, size[1], left, right(columns), accumulate);
            finish(out, size);
        }
    }
}

/// See [`multiply_packed`]. A panel goes through all rows before the next one does, which is asked for meanwhile: in play, weights come from memory, as all of a frame's are more than caches hold, and few rows
/// need each. Without asking, tiles of the first rows wait.
fn by_columns<'a>(
    unit: Unit,
    (out, stride): (&mut [f32], usize),
    left: Matrix,
    n: usize,
    right: impl Fn(Range<usize>) -> Lines<'a>,
    accumulate: bool,
    finish: impl Fn(&mut [f32], [usize; 2]),
) {
    let tiles = tile_rows(unit, left.rows).len();
    for columns in unit.panels(n) {
        let panel = right(columns.clone());
        // What follows are the next panel's numbers, of which each tile asks for its share.
        let end = left.columns * panel.stride;
        let share = end.div_ceil(tiles.max(1));
        for (index, rows) in tile_rows(unit, left.rows).enumerate() {
            let coming = panel.data.get(end + index * share..).unwrap_or_default();
            let lines = Lines {
                coming: &coming[..share.min(coming.len())],
                ..panel
            };
            let size = [rows.len(), columns.len()];
            let out = &mut out[rows.start * stride + columns.start..];
            let left = left.some_rows(rows);
            unit.tile(out, stride, size[1], left, lines, accumulate);
            finish(out, size);
        }
    }
}

/// Rows of the tiles that `m` rows fall into.
fn tile_rows(unit: Unit, m: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    even_parts(m, m.div_ceil(unit.tile_rows()), 1)
}
