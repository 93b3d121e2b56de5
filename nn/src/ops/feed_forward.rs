//! The feed-forward layer: up, GELU, down, with the wide middle kept out of the graph.

use super::{composed, fused, leading, output, slice, values, wanted};
use crate::kernels::elementwise::{gelu, gelu_backward};
use crate::kernels::product::{Matrix, product};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use std::sync::Mutex;

/// `gelu(x * up^T) * down^T`: `x` is `[.., D]`, `up` `[F, D]`, `down` `[D, F]`, the result like `x`.
pub fn feed_forward(x: &Tensor, up: &Tensor, down: &Tensor) -> Result<Tensor> {
    if !fused(&[x, up, down]) {
        return composed::feed_forward(x, up, down);
    }
    x.contiguous()?.apply_op3(
        &up.contiguous()?,
        &down.contiguous()?,
        FeedForward {
            hidden: Mutex::new(Vec::new()),
        },
    )
}

struct FeedForward {
    /// `x * up^T` of the forward pass, for the backward pass.
    hidden: Mutex<Vec<f32>>,
}

impl CustomOp3 for FeedForward {
    fn name(&self) -> &'static str {
        "feed-forward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        up: &CpuStorage,
        lu: &Layout,
        down: &CpuStorage,
        ld: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (wide, width) = lu.shape().dims2()?;
        if ld.shape().dims2()? != (width, wide) || lx.dims().last() != Some(&width) {
            bail!(
                "feed-forward layer of {:?} and {:?} got {:?}",
                lu.shape(),
                ld.shape(),
                lx.shape()
            );
        }
        let rows = leading(lx.shape());
        let up = Matrix::new(slice(up, lu)?, wide, width).transposed();
        let hidden = product(Matrix::new(slice(x, lx)?, rows, width), up);
        let active = gelu(&hidden);
        let down = Matrix::new(slice(down, ld)?, width, wide).transposed();
        let out = product(Matrix::new(&active, rows, wide), down);
        if let Ok(mut kept) = self.hidden.lock() {
            *kept = hidden;
        }
        Ok(output(out, lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        up: &Tensor,
        down: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (wide, width) = up.dims2()?;
        let rows = leading(x.shape());
        let Ok(hidden) = self.hidden.lock() else {
            bail!("feed-forward pass was interrupted")
        };
        values!(
            x_values = x,
            up_values = up,
            down_values = down,
            dy = gradient
        );
        let dy = Matrix::new(dy, rows, width);
        let active = gelu(&hidden);
        let ddown = wanted(down, || {
            product(dy.transposed(), Matrix::new(&active, rows, wide))
        })?;
        let mut dhidden = product(dy, Matrix::new(down_values, width, wide));
        gelu_backward(&mut dhidden, &hidden);
        let dhidden = Matrix::new(&dhidden, rows, wide);
        let dup = wanted(up, || {
            product(dhidden.transposed(), Matrix::new(x_values, rows, width))
        })?;
        let dx = wanted(x, || product(dhidden, Matrix::new(up_values, wide, width)))?;
        Ok((dx, dup, ddown))
    }
}
