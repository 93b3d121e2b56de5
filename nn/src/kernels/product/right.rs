//! A right side, packed as a whole for products of a few rows at a time.

use super::pack::{self, Buffer, even_part, idle_buffer, keep_buffer, with_buffer};
use super::{Matrix, Panels, Unit};
use std::ops::Range;

/// `right` `[k, n]`, packed for one unit.
pub struct PackedRight {
    unit: Unit,
    n: usize,
    /// Panels of all columns for each part of `k`.
    parts: Vec<(Range<usize>, Buffer)>,
}

impl PackedRight {
    /// Packs `right`, on several cores when `shared`.
    pub fn new(unit: Unit, right: Matrix, shared: bool) -> Self {
        // At least one, so that a product of nothing writes zeros.
        let count = right.rows.div_ceil(unit.most_depth()).max(1);
        let part = |index| {
            let depth = even_part(right.rows, count, index, unit.depth_step());
            let mut buffer = idle_buffer();
            pack::right(unit, &mut buffer, right, depth.clone(), shared);
            (depth, buffer)
        };
        Self {
            unit,
            n: right.columns,
            parts: (0..count).map(part).collect(),
        }
    }

    /// `rows` of `left * right` into, or onto, `out` `[rows, n]`, on the calling thread. `finish` gets each tile of the whole sum, as that of
    /// [`Panels::multiply`] does.
    pub fn multiply(
        &self,
        out: &mut [f32],
        left: Matrix,
        rows: Range<usize>,
        accumulate: bool,
        finish: impl Fn(&mut [f32], [usize; 2]),
    ) {
        for (index, (depth, right)) in self.parts.iter().enumerate() {
            let last = index + 1 == self.parts.len();
            with_buffer(|panels| {
                pack::left(self.unit, panels, left, rows.clone(), depth.clone());
                let panels = Panels {
                    unit: self.unit,
                    left: panels,
                    right,
                    depth: depth.len(),
                };
                let accumulate = accumulate || index > 0;
                panels.multiply(out, [rows.len(), self.n], accumulate, |tile, size| {
                    if last {
                        finish(tile, size);
                    }
                });
            });
        }
    }
}

impl Drop for PackedRight {
    fn drop(&mut self) {
        self.parts
            .drain(..)
            .for_each(|(_, buffer)| keep_buffer(buffer));
    }
}
