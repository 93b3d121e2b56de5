//! The sub-layers of a transformer, one after another, as one operation.

use super::attention::{self, AttentionArguments};
use super::computed::{Gradient, computed, tracked};
use super::feed_forward::{self, FeedForwardArguments};
use super::{composed, fused, tensor};
use crate::count;
use crate::kernels::attention::Pattern;
use candle_core::{Result, Tensor};

/// What adds to its input something that it computes from it.
#[derive(Clone)]
pub enum SubLayer {
    /// `x + out * attention(qkv * norm(x))`, with `x` `[B, T, S, D]`: multi-head attention by a pattern, with normalised queries and keys and, across frames,
    /// rotary embedding.
    Attention(AttentionArguments, Pattern),
    /// `x + gelu(norm(x) * up^T) * down^T`, with `x` `[.., D]`.
    FeedForward(FeedForwardArguments),
}

impl SubLayer {
    fn weights(&self) -> Vec<&Tensor> {
        match self {
            Self::Attention(arguments, _) => arguments.tensors(),
            Self::FeedForward(arguments) => arguments.tensors(),
        }
    }

    fn composed(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Attention(arguments, pattern) => {
                composed::attention_layer(x, arguments, *pattern)
            }
            Self::FeedForward(arguments) => composed::feed_forward_layer(x, arguments),
        }
    }

    /// The result for `x`, and what the backward pass needs.
    fn pass(&self, x: &Tensor) -> Result<(Vec<f32>, Box<dyn Pass>)> {
        match self {
            Self::Attention(arguments, pattern) => attention::pass(x, arguments, *pattern),
            Self::FeedForward(arguments) => feed_forward::pass(x, arguments),
        }
    }
}

/// What the backward pass of a sub-layer needs of its forward pass.
pub(super) trait Pass: Send + Sync {
    /// Gradients with respect to the sub-layer's input and to its tensors, in their order, from that of its result.
    fn backward(&self, gradient: &[f32]) -> Result<(Vec<f32>, Vec<Gradient>)>;
}

/// `x` after all of `layers`. Candle sees one operation: the gradients between them, which it would add to zeros on one core, are none of its business.
///
/// # Errors
/// When sizes do not fit, or a head's width is not a multiple of 16.
pub fn sub_layers(x: &Tensor, layers: &[SubLayer]) -> Result<Tensor> {
    for layer in layers {
        match layer {
            SubLayer::Attention(arguments, pattern) => {
                count::add_attention(attention::sizes(x, arguments, *pattern)?, *pattern);
            }
            SubLayer::FeedForward(arguments) => feed_forward::check(x, arguments)?,
        }
    }
    let mut arguments = vec![x];
    arguments.extend(layers.iter().flat_map(SubLayer::weights));
    if !fused(&arguments) {
        return layers
            .iter()
            .try_fold(x.clone(), |x, layer| layer.composed(&x));
    }
    let (tracked, x_tracked) = (tracked(&arguments), x.track_op());
    let (mut input, mut last, mut passes) = (x.detach().contiguous()?, None, Vec::new());
    for layer in layers {
        if let Some(values) = last {
            input = tensor(values, x.shape())?;
        }
        let (values, pass) = layer.pass(&input)?;
        last = Some(values);
        if tracked {
            passes.push(pass);
        }
    }
    let Some(values) = last else {
        return Ok(x.clone());
    };
    computed(values, x.shape(), &arguments, move |gradient| {
        let (mut dx, mut gradients) = (None, Vec::new());
        for pass in passes.iter().rev() {
            let (before, own) = pass.backward(dx.as_deref().unwrap_or(&gradient))?;
            dx = Some(before);
            gradients.push(own);
        }
        let own = gradients.into_iter().rev().flatten();
        Ok([dx.filter(|_| x_tracked)].into_iter().chain(own).collect())
    })
}
