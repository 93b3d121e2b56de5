//! A layer's weight, packed once, for products of few rows on one core: what a frame of play is made of.

use super::pack::Buffer;
use super::right::PackedRight;
use super::{Matrix, Unit};
use crate::kernels::elementwise::gelu_rows;

/// The right side of `x * weight^T`, packed for one unit.
pub struct PackedWeight {
    right: PackedRight,
    outputs: usize,
    inputs: usize,
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
        let weight = Matrix::new(weight, outputs, inputs).transposed();
        Self {
            right: PackedRight::new(unit, weight, false, Buffer::default),
            outputs,
            inputs,
        }
    }

    /// What multiplies with it.
    pub(in crate::kernels) fn unit(&self) -> Unit {
        self.right.unit()
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
        let gelu = matches!(finish, Finish::Gelu);
        let out = (out, self.outputs);
        self.right.multiply(out, left, 0..rows, adds, |tile, size| {
            if gelu {
                gelu_rows(tile, self.outputs, size);
            }
        });
    }
}
