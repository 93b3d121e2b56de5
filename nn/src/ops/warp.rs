//! Moving pixels along a flow field.

use super::{composed, fused, output, slice, tensor, values};
use crate::kernels::warp::{self as kernel, Sizes};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

/// Moves the pixels of `pictures` `[R, H, W, C]` by `flow` `[R, GH, GW, 2]`, a coarse grid of (x, y) offsets in pixels: each result
/// pixel is read, bilinearly, from where its flow points. Positions beyond the edge take the edge's colour.
pub fn warp(pictures: &Tensor, flow: &Tensor) -> Result<Tensor> {
    if !fused(&[pictures, flow]) {
        return composed::warp(pictures, flow);
    }
    pictures.contiguous()?.apply_op2(&flow.contiguous()?, Warp)
}

struct Warp;

fn sizes(pictures: &Shape, flow: &Shape) -> Result<Sizes> {
    let (count, height, width, channels) = pictures.dims4()?;
    let (flow_count, grid_height, grid_width, axes) = flow.dims4()?;
    if count != flow_count
        || axes != 2
        || [height, width, channels, grid_height, grid_width].contains(&0)
    {
        bail!("warp of {pictures:?} by {flow:?}");
    }
    Ok(Sizes {
        height,
        width,
        channels,
        grid_height,
        grid_width,
    })
}

impl CustomOp2 for Warp {
    fn name(&self) -> &'static str {
        "warp"
    }

    fn cpu_fwd(
        &self,
        p: &CpuStorage,
        lp: &Layout,
        f: &CpuStorage,
        lf: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = kernel::forward(slice(p, lp)?, slice(f, lf)?, sizes(lp.shape(), lf.shape())?);
        Ok(output(out, lp.shape().clone()))
    }

    fn bwd(
        &self,
        p: &Tensor,
        f: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        values!(pictures = p, flow = f, dy = dy);
        let (dp, df) = kernel::backward(dy, pictures, flow, sizes(p.shape(), f.shape())?);
        Ok((Some(tensor(dp, p.shape())?), Some(tensor(df, f.shape())?)))
    }
}
