//! The attention sub-layer: within a frame or across frames.

use super::computed::computed;
use super::normed::Normed;
use super::{NormArguments, composed, fused, leading, values, wanted};
use crate::count;
use crate::kernels::attention::{self as kernel, Pattern, Sizes};
use crate::kernels::product::{Matrix, product, product_onto};
use candle_core::{Result, Tensor, bail};

/// The weights of an attention sub-layer, and its normalisation.
#[derive(Clone)]
pub struct AttentionArguments {
    /// What comes first.
    pub norm: NormArguments,
    /// From what is normalised to queries, keys and values, `[3 * D, D]`.
    pub qkv: Tensor,
    /// Scale of normalised queries, `[D / heads]`.
    pub query_scale: Tensor,
    /// Scale of normalised keys, `[D / heads]`.
    pub key_scale: Tensor,
    /// From what the heads give to what is added to `x`, `[D, D]`.
    pub out: Tensor,
}

/// `x + out * attention(qkv * norm(x))`, with `x` `[B, T, S, D]`: multi-head attention by `pattern`, with normalised queries and keys and, across frames, rotary
/// embedding.
///
/// # Errors
/// When sizes do not fit, or the head width is not a multiple of 16.
pub fn attention_layer(
    x: &Tensor,
    arguments: &AttentionArguments,
    pattern: Pattern,
) -> Result<Tensor> {
    let sizes = sizes(x, arguments, pattern)?;
    count::add_attention(sizes, pattern);
    if !fused(&arguments.with(x)) {
        return composed::attention_layer(x, arguments, pattern);
    }
    let (out, pass) = Pass::new(x, arguments, sizes, pattern)?;
    let (own_x, own) = (x.clone(), arguments.clone());
    computed(out, x.shape(), &arguments.with(x), move |gradient| {
        pass.backward(gradient, &own_x, &own)
    })
}

impl AttentionArguments {
    /// All tensors, with `x` before them.
    fn with<'a>(&'a self, x: &'a Tensor) -> Vec<&'a Tensor> {
        let mut tensors = self.norm.with(x);
        tensors.extend([&self.qkv, &self.query_scale, &self.key_scale, &self.out]);
        tensors
    }
}

fn sizes(x: &Tensor, arguments: &AttentionArguments, pattern: Pattern) -> Result<Sizes> {
    let (batch, frames, positions, width) = x.dims4()?;
    let head_width = arguments.query_scale.dims1()?;
    let (qkv, out) = (arguments.qkv.dims2()?, arguments.out.dims2()?);
    if arguments.key_scale.dims1()? != head_width
        || frames * positions * head_width == 0
        || !head_width.is_multiple_of(16)
        || !width.is_multiple_of(head_width)
        || qkv != (3 * width, width)
        || out != (width, width)
    {
        bail!(
            "attention over {:?} with weights of {qkv:?} and {out:?} and head scales of {:?} and {:?}",
            x.shape(),
            arguments.query_scale.shape(),
            arguments.key_scale.shape()
        );
    }
    if matches!(pattern, Pattern::PairedTime { .. }) && batch % 2 != 0 {
        bail!("paired attention over an odd batch of {batch}");
    }
    Ok(Sizes {
        batch,
        frames,
        positions,
        heads: width / head_width,
        head_width,
    })
}

/// What the backward pass needs of the forward pass.
struct Pass {
    sizes: Sizes,
    pattern: Pattern,
    normed: Normed,
    qkv: Vec<f32>,
    attended: Vec<f32>,
}

impl Pass {
    /// The layer's result, and itself.
    fn new(
        x: &Tensor,
        arguments: &AttentionArguments,
        sizes: Sizes,
        pattern: Pattern,
    ) -> Result<(Vec<f32>, Self)> {
        let (rows, width) = (leading(x.shape()), sizes.width());
        let normed = Normed::new(x, &arguments.norm)?;
        values!(
            x = x,
            qkv_weight = arguments.qkv,
            query_scale = arguments.query_scale,
            key_scale = arguments.key_scale,
            out_weight = arguments.out,
        );
        let qkv_weight = Matrix::new(qkv_weight, 3 * width, width).transposed();
        let qkv = product(Matrix::new(normed.values(), rows, width), qkv_weight);
        let attended = kernel::forward(&qkv, query_scale, key_scale, sizes, pattern);
        let out_weight = Matrix::new(out_weight, width, width).transposed();
        let out = product_onto(x, Matrix::new(&attended, rows, width), out_weight);
        let pass = Self {
            sizes,
            pattern,
            normed,
            qkv,
            attended,
        };
        Ok((out, pass))
    }

    /// Gradients in the order of [`AttentionArguments::with`].
    fn backward(
        &self,
        gradient: &Tensor,
        x: &Tensor,
        arguments: &AttentionArguments,
    ) -> Result<Vec<Option<Tensor>>> {
        let (rows, width) = (leading(x.shape()), self.sizes.width());
        values!(
            dy = gradient,
            qkv_weight = arguments.qkv,
            query_scale = arguments.query_scale,
            key_scale = arguments.key_scale,
            out_weight = arguments.out,
        );
        let dout = Matrix::new(dy, rows, width);
        let dattended = product(dout, Matrix::new(out_weight, width, width));
        let dout_weight = wanted(&arguments.out, || {
            product(dout.transposed(), Matrix::new(&self.attended, rows, width))
        })?;
        let (dqkv, dquery_scale, dkey_scale) = kernel::backward(
            &dattended,
            &self.qkv,
            query_scale,
            key_scale,
            self.sizes,
            self.pattern,
        );
        let dqkv = Matrix::new(&dqkv, rows, 3 * width);
        let dnormed = product(dqkv, Matrix::new(qkv_weight, 3 * width, width));
        let dqkv_weight = wanted(&arguments.qkv, || {
            let normed = Matrix::new(self.normed.values(), rows, width);
            product(dqkv.transposed(), normed)
        })?;
        let mut gradients = self.normed.backward(dnormed, x, &arguments.norm, dy)?;
        gradients.extend([
            dqkv_weight,
            wanted(&arguments.query_scale, || dquery_scale)?,
            wanted(&arguments.key_scale, || dkey_scale)?,
            dout_weight,
        ]);
        Ok(gradients)
    }
}
