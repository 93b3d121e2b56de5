//! Pieces of rows in another order: how pictures become patches, and patches pictures.

use super::computed::computed;
use super::{fused, values};
use crate::kernels::buffer::filled;
use crate::kernels::parallel::for_each_chunk;
use candle_core::{Result, Shape, Tensor, bail};

/// Runs that one task copies.
const RUNS: usize = 256;

/// `[G, A, B, R]` as `[G, B, A, R]`, on all cores.
pub fn exchange_middle(x: &Tensor) -> Result<Tensor> {
    let (groups, a, b, run) = x.dims4()?;
    if !fused(&[x]) {
        return x.transpose(1, 2)?.contiguous();
    }
    values!(x_values = x);
    let out = exchanged(x_values, [a, b, run]);
    let shape = Shape::from((groups, b, a, run));
    computed(out, &shape, &[x], move |gradient| {
        Ok(vec![Some(exchanged(&gradient, [b, a, run]))])
    })
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

/// `x` `[G, A, B, R]` with `A` and `B` exchanged.
fn exchanged(x: &[f32], [a, b, run]: [usize; 3]) -> Vec<f32> {
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
    crate::profile::operation("exchange", || unsafe { filled(x.len(), copy) })
}
