//! The feed-forward sub-layer: up, GELU, down, with the wide middle kept in the cache from one product to the next.

use super::computed::computed;
use super::normed::Normed;
use super::{NormArguments, composed, fused, leading, values, wanted};
use crate::kernels::buffer::filled;
use crate::kernels::elementwise::{add_in_place, gelu, gelu_with_gradient};
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

/// `x + gelu(norm(x) * up^T) * down^T`, with `x` `[.., D]`.
///
/// # Errors
/// When sizes do not fit.
pub fn feed_forward_layer(x: &Tensor, arguments: &FeedForwardArguments) -> Result<Tensor> {
    let (wide, width) = arguments.up.dims2()?;
    if arguments.down.dims2()? != (width, wide) || x.dims().last() != Some(&width) {
        bail!(
            "feed-forward layer of {:?} and {:?} got {:?}",
            arguments.up.shape(),
            arguments.down.shape(),
            x.shape()
        );
    }
    if !fused(&arguments.with(x)) {
        return composed::feed_forward_layer(x, arguments);
    }
    let (out, pass) = Pass::new(x, arguments)?;
    let (own_x, own) = (x.clone(), arguments.clone());
    computed(out, x.shape(), &arguments.with(x), move |gradient| {
        pass.backward(gradient, &own_x, &own)
    })
}

impl FeedForwardArguments {
    /// All tensors, with `x` before them.
    fn with<'a>(&'a self, x: &'a Tensor) -> Vec<&'a Tensor> {
        let mut tensors = self.norm.with(x);
        tensors.extend([&self.up, &self.down]);
        tensors
    }
}

/// What the backward pass needs of the forward pass.
struct Pass {
    normed: Normed,
    /// Before the activation.
    hidden: Vec<f32>,
}

impl Pass {
    /// The layer's result, and itself.
    fn new(x: &Tensor, arguments: &FeedForwardArguments) -> Result<(Vec<f32>, Self)> {
        let (rows, (wide, width)) = (leading(x.shape()), arguments.up.dims2()?);
        let normed = Normed::new(x, &arguments.norm)?;
        values!(x = x, up = arguments.up, down = arguments.down);
        let (hidden, mut out) = chain(
            Matrix::new(normed.values(), rows, width),
            Matrix::new(up, wide, width).transposed(),
            Matrix::new(down, width, wide).transposed(),
            |_, hidden, buffer| {
                let active = &mut buffer.numbers(hidden.len())[..hidden.len()];
                gelu(active, hidden);
                active
            },
        );
        add_in_place(&mut out, x);
        Ok((out, Self { normed, hidden }))
    }

    /// Gradients in the order of [`FeedForwardArguments::with`].
    fn backward(
        &self,
        gradient: &Tensor,
        x: &Tensor,
        arguments: &FeedForwardArguments,
    ) -> Result<Vec<Option<Tensor>>> {
        let (rows, (wide, width)) = (leading(x.shape()), arguments.up.dims2()?);
        values!(up = arguments.up, down = arguments.down, dy = gradient);
        let dout = Matrix::new(dy, rows, width);
        let (mut dhidden, mut dnormed) = (Vec::new(), Vec::new());
        let write = |active: &mut [f32]| {
            let active = SharedMut::new(active);
            (dhidden, dnormed) = chain(
                dout,
                Matrix::new(down, width, wide),
                Matrix::new(up, wide, width),
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
        })?;
        let dup = wanted(&arguments.up, || {
            let normed = Matrix::new(self.normed.values(), rows, width);
            product(dhidden.transposed(), normed)
        })?;
        let mut gradients = self.normed.backward(dnormed, x, &arguments.norm, dy)?;
        gradients.extend([dup, ddown]);
        Ok(gradients)
    }
}
