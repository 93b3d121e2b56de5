//! The attention sub-layer: within a frame or across frames.

use super::computed::Gradient;
use super::normed::Normed;
use super::sub_layers::Pass;
use super::{NormArguments, leading, values, wanted};
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

impl AttentionArguments {
    pub(super) fn tensors(&self) -> Vec<&Tensor> {
        let mut tensors = self.norm.tensors();
        tensors.extend([&self.qkv, &self.query_scale, &self.key_scale, &self.out]);
        tensors
    }
}

/// Sizes of an attention over `x`, or an error where they do not fit.
pub(super) fn sizes(x: &Tensor, arguments: &AttentionArguments, pattern: Pattern) -> Result<Sizes> {
    arguments.norm.group(x.shape())?;
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

/// See [`super::SubLayer::Attention`].
pub(super) fn pass(
    x: &Tensor,
    arguments: &AttentionArguments,
    pattern: Pattern,
) -> Result<(Vec<f32>, Box<dyn Pass>)> {
    let sizes = sizes(x, arguments, pattern)?;
    let (rows, width) = (leading(x.shape()), sizes.width());
    let normed = Normed::new(x, &arguments.norm)?;
    values!(
        x_values = x,
        qkv_weight = arguments.qkv,
        query_scale = arguments.query_scale,
        key_scale = arguments.key_scale,
        out_weight = arguments.out,
    );
    let qkv_weight = Matrix::new(qkv_weight, 3 * width, width).transposed();
    let qkv = product(Matrix::new(normed.values(), rows, width), qkv_weight);
    let attended = kernel::forward(&qkv, query_scale, key_scale, sizes, pattern);
    let out_weight = Matrix::new(out_weight, width, width).transposed();
    let out = product_onto(x_values, Matrix::new(&attended, rows, width), out_weight);
    let pass = AttentionPass {
        arguments: arguments.clone(),
        sizes,
        pattern,
        normed,
        qkv,
        attended,
    };
    Ok((out, Box::new(pass)))
}

struct AttentionPass {
    arguments: AttentionArguments,
    sizes: Sizes,
    pattern: Pattern,
    normed: Normed,
    qkv: Vec<f32>,
    attended: Vec<f32>,
}

impl Pass for AttentionPass {
    fn backward(&self, gradient: &[f32]) -> Result<(Vec<f32>, Vec<Gradient>)> {
        let (arguments, width) = (&self.arguments, self.sizes.width());
        let rows = gradient.len() / width;
        values!(
            qkv_weight = arguments.qkv,
            query_scale = arguments.query_scale,
            key_scale = arguments.key_scale,
            out_weight = arguments.out,
        );
        let dout = Matrix::new(gradient, rows, width);
        let dattended = product(dout, Matrix::new(out_weight, width, width));
        let dout_weight = wanted(&arguments.out, || {
            product(dout.transposed(), Matrix::new(&self.attended, rows, width))
        });
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
        });
        let (dx, mut gradients) = self.normed.backward(dnormed, gradient)?;
        gradients.extend([
            dqkv_weight,
            wanted(&arguments.query_scale, || dquery_scale),
            wanted(&arguments.key_scale, || dkey_scale),
            dout_weight,
        ]);
        Ok((dx, gradients))
    }
}
