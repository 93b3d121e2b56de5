//! The feed-forward layer: up, GELU, down, with the wide middle kept out of the graph and, from one product to the next, in the cache.

use super::{composed, fused, leading, output, slice, values, wanted};
use crate::kernels::buffer::filled;
use crate::kernels::elementwise::{gelu, gelu_with_gradient};
use crate::kernels::parallel::SharedMut;
use crate::kernels::product::{Matrix, chain, product};
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
        let (hidden, out) = chain(
            Matrix::new(slice(x, lx)?, rows, width),
            Matrix::new(slice(up, lu)?, wide, width).transposed(),
            Matrix::new(slice(down, ld)?, width, wide).transposed(),
            |_, hidden, buffer| {
                let active = &mut buffer.numbers(hidden.len())[..hidden.len()];
                gelu(active, hidden);
                active
            },
        );
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
        let (mut dhidden, mut dx) = (Vec::new(), Vec::new());
        let write = |active: &mut [f32]| {
            let active = SharedMut::new(active);
            (dhidden, dx) = chain(
                dy,
                Matrix::new(down_values, width, wide),
                Matrix::new(up_values, wide, width),
                |rows, dhidden, _| {
                    let start = rows.start * wide;
                    // SAFETY: each piece has its own rows.
                    let active = unsafe { active.row(start, dhidden.len()) };
                    gelu_with_gradient(active, dhidden, &hidden[start..][..dhidden.len()]);
                    dhidden
                },
            );
        };
        // SAFETY: the pieces of the chain cover all rows, and each is written as a whole.
        let active = unsafe { filled(rows * wide, write) };
        let dhidden = Matrix::new(&dhidden, rows, wide);
        let ddown = wanted(down, || {
            product(dy.transposed(), Matrix::new(&active, rows, wide))
        })?;
        let dup = wanted(up, || {
            product(dhidden.transposed(), Matrix::new(x_values, rows, width))
        })?;
        let dx = wanted(x, || dx)?;
        Ok((dx, dup, ddown))
    }
}
