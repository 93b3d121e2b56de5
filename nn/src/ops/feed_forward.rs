//! The feed-forward sub-layer: up, GELU, down, with the wide middle kept in the cache from one product to the next.

use super::computed::Gradient;
use super::normed::Normed;
use super::sub_layers::Pass;
use super::{NormArguments, leading, values, wanted};
use crate::kernels::buffer::filled;
use crate::kernels::elementwise::{gelu, gelu_with_gradient};
use crate::kernels::parallel::SharedMut;
use crate::kernels::product::{Matrix, chain, product};
use candle_core::{Result, Tensor, bail};

/// The weights of a feed-forward sub-layer, and its normalisation.
#[derive(Clone)]
pub struct FeedForwardArguments {
    /// What comes first.
    pub norm: NormArguments,
    /// `[F, D]`.
    pub up: Tensor,
    /// `[D, F]`.
    pub down: Tensor,
}

impl FeedForwardArguments {
    pub(super) fn tensors(&self) -> Vec<&Tensor> {
        let mut tensors = self.norm.tensors();
        tensors.extend([&self.up, &self.down]);
        tensors
    }
}

/// An error where sizes do not fit.
pub(super) fn check(x: &Tensor, arguments: &FeedForwardArguments) -> Result<()> {
    arguments.norm.group(x.shape())?;
    let (wide, width) = arguments.up.dims2()?;
    if arguments.down.dims2()? != (width, wide) || x.dims().last() != Some(&width) {
        bail!(
            "feed-forward layer of {:?} and {:?} got {:?}",
            arguments.up.shape(),
            arguments.down.shape(),
            x.shape()
        );
    }
    Ok(())
}

/// See [`super::SubLayer::FeedForward`].
pub(super) fn pass(
    x: &Tensor,
    arguments: &FeedForwardArguments,
) -> Result<(Vec<f32>, Box<dyn Pass>)> {
    let (rows, (wide, width)) = (leading(x.shape()), arguments.up.dims2()?);
    let normed = Normed::new(x, &arguments.norm)?;
    values!(x = x, up = arguments.up, down = arguments.down);
    let (hidden, out) = chain(
        Matrix::new(normed.values(), rows, width),
        Matrix::new(up, wide, width).transposed(),
        Matrix::new(down, width, wide).transposed(),
        Some(x),
        |_, hidden, buffer| {
            let active = &mut buffer.numbers(hidden.len())[..hidden.len()];
            gelu(active, hidden);
            active
        },
    );
    let pass = FeedForwardPass {
        arguments: arguments.clone(),
        normed,
        hidden,
    };
    Ok((out, Box::new(pass)))
}

struct FeedForwardPass {
    arguments: FeedForwardArguments,
    normed: Normed,
    /// Before the activation.
    hidden: Vec<f32>,
}

impl Pass for FeedForwardPass {
    fn backward(&self, gradient: &[f32]) -> Result<(Vec<f32>, Vec<Gradient>)> {
        let (arguments, (wide, width)) = (&self.arguments, self.arguments.up.dims2()?);
        let rows = gradient.len() / width;
        values!(up = arguments.up, down = arguments.down);
        let dout = Matrix::new(gradient, rows, width);
        let (mut dhidden, mut dnormed) = (Vec::new(), Vec::new());
        let write = |active: &mut [f32]| {
            let active = SharedMut::new(active);
            (dhidden, dnormed) = chain(
                dout,
                Matrix::new(down, width, wide),
                Matrix::new(up, wide, width),
                None,
                |rows, dhidden, _| {
                    let start = rows.start * wide;
                    // SAFETY: each piece has its own rows.
                    let active = unsafe { active.row(start, dhidden.len()) };
                    gelu_with_gradient(active, dhidden, &self.hidden[start..][..dhidden.len()]);
                    dhidden
                },
            );
        };
        // SAFETY: the pieces of the chain cover all rows, and each is written as a whole.
        let active = unsafe { filled(rows * wide, write) };
        let dhidden = Matrix::new(&dhidden, rows, wide);
        let ddown = wanted(&arguments.down, || {
            product(dout.transposed(), Matrix::new(&active, rows, wide))
        });
        let dup = wanted(&arguments.up, || {
            let normed = Matrix::new(self.normed.values(), rows, width);
            product(dhidden.transposed(), normed)
        });
        let (dx, mut gradients) = self.normed.backward(dnormed, gradient)?;
        gradients.extend([dup, ddown]);
        Ok((dx, gradients))
    }
}
