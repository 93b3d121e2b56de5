//! Attention within a frame or across frames.

use super::{composed, fused, output, slice, tensor, values};
use crate::count;
use crate::kernels::attention::{self as kernel, Pattern, Sizes};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// Multi-head attention of `qkv` `[B, T, S, 3 * D]` by `pattern`, with normalised queries and keys (scaled by `query_scale` and
/// `key_scale`, `[D / heads]`) and, across frames, rotary embedding. Returns `[B, T, S, D]`.
///
/// # Errors
/// When sizes do not fit, or the head width is not a multiple of 16.
pub fn attention(
    qkv: &Tensor,
    query_scale: &Tensor,
    key_scale: &Tensor,
    pattern: Pattern,
) -> Result<Tensor> {
    let sizes = sizes(qkv.shape(), query_scale.shape(), key_scale.shape(), pattern)?;
    count::add_attention(sizes, pattern);
    if !fused(&[qkv, query_scale, key_scale]) {
        return composed::attention(qkv, query_scale, key_scale, pattern);
    }
    qkv.contiguous()?.apply_op3(
        &query_scale.contiguous()?,
        &key_scale.contiguous()?,
        Attention { sizes, pattern },
    )
}

fn sizes(qkv: &Shape, query_scale: &Shape, key_scale: &Shape, pattern: Pattern) -> Result<Sizes> {
    let (batch, frames, positions, wide) = qkv.dims4()?;
    let head_width = query_scale.dims1()?;
    if key_scale.dims1()? != head_width
        || head_width == 0
        || !head_width.is_multiple_of(16)
        || wide % (3 * head_width) != 0
    {
        bail!("attention over {qkv:?} with head scales of {query_scale:?} and {key_scale:?}");
    }
    if matches!(pattern, Pattern::PairedTime { .. }) && batch % 2 != 0 {
        bail!("paired attention over an odd batch of {batch}");
    }
    Ok(Sizes {
        batch,
        frames,
        positions,
        heads: wide / (3 * head_width),
        head_width,
    })
}

struct Attention {
    sizes: Sizes,
    pattern: Pattern,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        lqkv: &Layout,
        query_scale: &CpuStorage,
        lq: &Layout,
        key_scale: &CpuStorage,
        lk: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = kernel::forward(
            slice(qkv, lqkv)?,
            slice(query_scale, lq)?,
            slice(key_scale, lk)?,
            self.sizes,
            self.pattern,
        );
        let Sizes {
            batch,
            frames,
            positions,
            ..
        } = self.sizes;
        Ok(output(out, (batch, frames, positions, self.sizes.width())))
    }

    fn bwd(
        &self,
        qkv: &Tensor,
        query_scale: &Tensor,
        key_scale: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        values!(
            qkv_values = qkv,
            q = query_scale,
            k = key_scale,
            dout = gradient
        );
        let (dqkv, dq, dk) = kernel::backward(dout, qkv_values, q, k, self.sizes, self.pattern);
        Ok((
            Some(tensor(dqkv, qkv.shape())?),
            Some(tensor(dq, query_scale.shape())?),
            Some(tensor(dk, key_scale.shape())?),
        ))
    }
}
