//! Root-mean-square normalisation.

use super::{composed, fused, output, slice, tensor, values};
use crate::kernels::norm;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

/// `x / rms(x) * weight` over the last dimension (arXiv 1910.07467); `weight` is as wide as that.
pub fn rms_norm(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if !fused(&[x, weight]) {
        return composed::rms_norm(x, weight);
    }
    x.contiguous()?.apply_op2(&weight.contiguous()?, RmsNorm)
}

struct RmsNorm;

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (slice(x, lx)?, slice(w, lw)?);
        if lx.dims().last() != Some(&w.len()) || w.is_empty() {
            bail!("normalisation of width {} got {:?}", w.len(), lx.shape());
        }
        Ok(output(norm::rms_norm(x, w), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        values!(x_values = x, w_values = w, dy = dy);
        let (dx, dw) = norm::rms_norm_backward(dy, x_values, w_values, None);
        Ok((Some(tensor(dx, x.shape())?), Some(tensor(dw, w.shape())?)))
    }
}
