//! How far a picture is from another, as models are trained to make it small.

use super::{composed, fused, output, slice, values, wanted};
use crate::kernels::elementwise;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

/// Mean squared error plus `absolute_weight` times the mean absolute error of two tensors of one shape, a scalar.
pub fn picture_error(a: &Tensor, b: &Tensor, absolute_weight: f32) -> Result<Tensor> {
    if !fused(&[a, b]) {
        return composed::picture_error(a, b, absolute_weight);
    }
    a.contiguous()?
        .apply_op2(&b.contiguous()?, PictureError { absolute_weight })
}

struct PictureError {
    absolute_weight: f32,
}

impl CustomOp2 for PictureError {
    fn name(&self) -> &'static str {
        "picture-error"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if la.shape() != lb.shape() || la.shape().elem_count() == 0 {
            bail!("error between {:?} and {:?}", la.shape(), lb.shape());
        }
        let error = elementwise::picture_error(slice(a, la)?, slice(b, lb)?, self.absolute_weight);
        Ok(output(vec![error], ()))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        values!(left = a, right = b);
        let scale = dy.to_scalar::<f32>()?;
        let gradient =
            |scale| elementwise::picture_error_gradient(left, right, self.absolute_weight, scale);
        Ok((
            wanted(a, || gradient(scale))?,
            wanted(b, || gradient(-scale))?,
        ))
    }
}
