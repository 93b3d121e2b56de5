//! A layer's weight, packed once, for products of few rows on one core: what a frame of play is made of.

use super::pack::{self, Buffer, even_part, with_buffer};
use super::{Matrix, Panels, Unit};
use crate::kernels::elementwise::gelu_rows;
use std::ops::Range;

/// The right side of `x * weight^T`, packed for one unit.
pub struct PackedWeight {
    unit: Unit,
    outputs: usize,
    inputs: usize,
    /// Panels of all outputs for each part of the inputs.
    parts: Vec<(Range<usize>, Buffer)>,
}

/// What becomes of a product.
#[derive(Clone, Copy, Debug)]
pub enum Finish<'a> {
    /// `out = product`.
    Write,
    /// `out += product`, as residual streams need it.
    Add,
    /// `out = bias + product`.
    Bias(&'a [f32]),
    /// `out = gelu(product)`.
    Gelu,
}

impl PackedWeight {
    /// Packs `weight` `[outputs, inputs]`. Panics when it is not that long.
    pub fn new(weight: &[f32], outputs: usize, inputs: usize, unit: Unit) -> Self {
        let right = Matrix::new(weight, outputs, inputs).transposed();
        let count = inputs.div_ceil(unit.most_depth());
        let part = |index| {
            let depth = even_part(inputs, count, index, unit.depth_step());
            let mut buffer = Buffer::default();
            pack::right(unit, &mut buffer, right, depth.clone(), false);
            (depth, buffer)
        };
        Self {
            unit,
            outputs,
            inputs,
            parts: (0..count).map(part).collect(),
        }
    }

    /// Numbers in a result's row.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Numbers in a row that it is applied to.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// `x * weight^T` for rows `x` `[rows, inputs]`, into `out` `[rows, outputs]`, on the calling thread. Panics when sizes do not fit.
    pub fn apply(&self, out: &mut [f32], x: &[f32], finish: Finish) {
        let rows = x.len() / self.inputs;
        assert_eq!(
            x.len(),
            rows * self.inputs,
            "rows of {} numbers",
            self.inputs
        );
        assert_eq!(
            out.len(),
            rows * self.outputs,
            "{rows} rows of {} results",
            self.outputs
        );
        if let Finish::Bias(bias) = finish {
            out.chunks_exact_mut(self.outputs)
                .for_each(|row| row.copy_from_slice(bias));
        }
        let adds = matches!(finish, Finish::Add | Finish::Bias(_));
        let left = Matrix::new(x, rows, self.inputs);
        for (index, (depth, right)) in self.parts.iter().enumerate() {
            let last = index + 1 == self.parts.len();
            let gelu = last && matches!(finish, Finish::Gelu);
            with_buffer(|left_panels| {
                pack::left(self.unit, left_panels, left, 0..rows, depth.clone());
                let panels = Panels {
                    unit: self.unit,
                    left: left_panels,
                    right,
                    depth: depth.len(),
                };
                let size = [rows, self.outputs];
                panels.multiply(out, size, adds || index > 0, |tile, size| {
                    if gelu {
                        gelu_rows(tile, self.outputs, size);
                    }
                });
            });
        }
    }
}
