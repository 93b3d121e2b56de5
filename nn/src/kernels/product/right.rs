//! A right side, packed as a whole for products of a few rows at a time.

use super::in_place::multiply_packed;
use super::pack::{self, Buffer, even_part, keep_buffer};
use super::{Matrix, Part, Unit};
use std::ops::Range;

/// `right` `[k, n]`, packed for one unit.
pub struct PackedRight {
    unit: Unit,
    n: usize,
    /// Panels of all columns for each part of `k`.
    parts: Vec<(Range<usize>, Buffer)>,
}

impl PackedRight {
    /// Packs `right` into buffers that `buffer` gives, on several cores when `shared`.
    pub fn new(unit: Unit, right: Matrix, shared: bool, buffer: impl Fn() -> Buffer) -> Self {
        // At least one, so that a product of nothing writes zeros.
        let count = right.rows.div_ceil(unit.most_depth()).max(1);
        let part = |index| {
            let depth = even_part(right.rows, count, index, unit.depth_step());
            let mut buffer = buffer();
            pack::right(unit, &mut buffer, right, depth.clone(), shared);
            (depth, buffer)
        };
        Self {
            unit,
            n: right.columns,
            parts: (0..count).map(part).collect(),
        }
    }

    /// The unit that it is packed for.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// `rows` of `left * right` into, or onto, `out` `[rows, n]`, whose rows are `stride` apart, on the calling thread. `finish` gets each tile of the whole sum, as that of
    /// [`Panels::multiply`](super::Panels::multiply) does.
    pub fn multiply(
        &self,
        (out, stride): (&mut [f32], usize),
        left: Matrix,
        rows: Range<usize>,
        accumulate: bool,
        finish: impl Fn(&mut [f32], [usize; 2]),
    ) {
        for (index, (depth, right)) in self.parts.iter().enumerate() {
            let last = index + 1 == self.parts.len();
            let accumulate = accumulate || index > 0;
            let finish = |tile: &mut [f32], size| {
                if last {
                    finish(tile, size);
                }
            };
            if self.unit.reads_in_place() {
                let left = left.some_rows(rows.clone()).some_columns(depth.clone());
                let out = (&mut *out, stride);
                multiply_packed(self.unit, out, left, self.n, right, accumulate, finish);
            } else {
                let part = Part {
                    unit: self.unit,
                    depth: depth.clone(),
                    n: self.n,
                    stride,
                    right,
                };
                part.multiply(out, left, rows.clone(), accumulate, finish);
            }
        }
    }

    /// Keeps its buffers for the next one who asks.
    pub fn keep_buffers(self) {
        self.parts
            .into_iter()
            .for_each(|(_, buffer)| keep_buffer(buffer));
    }
}
