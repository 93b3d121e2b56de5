//! Pieces of rows in another order: how pictures become patches, and patches pictures.

use super::{fused, output, slice, tensor, values};
use crate::kernels::buffer::filled;
use crate::kernels::parallel::for_each_chunk;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

/// Runs that one task copies.
const RUNS: usize = 256;

/// `[G, A, B, R]` as `[G, B, A, R]`, on all cores.
pub fn exchange_middle(x: &Tensor) -> Result<Tensor> {
    x.dims4()?;
    if !fused(&[x]) {
        return x.transpose(1, 2)?.contiguous();
    }
    x.contiguous()?.apply_op1(Exchange)
}

/// Rows of several tensors `[.., D]` of one shape side by side, `[.., parts * D]`.
pub fn beside(parts: &[&Tensor]) -> Result<Tensor> {
    let Some(first) = parts.first() else {
        bail!("no rows to put side by side");
    };
    if let Some(other) = parts.iter().find(|part| part.dims() != first.dims()) {
        bail!("{:?} beside {:?}", first.shape(), other.shape());
    }
    let mut dims = first.dims().to_vec();
    let width = dims.pop().unwrap_or(1);
    let all = Tensor::cat(parts, 0)?.reshape((1, parts.len(), (), width))?;
    dims.push(parts.len() * width);
    exchange_middle(&all)?.reshape(dims)
}

struct Exchange;

/// `x` `[G, A, B, R]` with `A` and `B` exchanged, and its new shape.
fn exchanged(x: &[f32], shape: &Shape) -> Result<(Vec<f32>, Shape)> {
    let (groups, a, b, run) = shape.dims4()?;
    let copy = |out: &mut [f32]| {
        for_each_chunk(out, RUNS * run.max(1), |index, out| {
            for (i, out) in out.chunks_exact_mut(run).enumerate() {
                let place = index * RUNS + i;
                let (group, row, column) = (place / (a * b), place / a % b, place % a);
                out.copy_from_slice(&x[((group * a + column) * b + row) * run..][..run]);
            }
        });
    };
    // SAFETY: the chunks cover the whole result, and each is written as a whole.
    let out = crate::profile::operation("exchange", || unsafe { filled(x.len(), copy) });
    Ok((out, Shape::from((groups, b, a, run))))
}

impl CustomOp1 for Exchange {
    fn name(&self) -> &'static str {
        "exchange-middle"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (out, shape) = exchanged(slice(x, layout)?, layout.shape())?;
        Ok(output(out, shape))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        values!(dy = gradient);
        let (dx, shape) = exchanged(dy, gradient.shape())?;
        Ok(Some(tensor(dx, &shape)?))
    }
}
