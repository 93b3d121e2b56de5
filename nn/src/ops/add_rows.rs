//! Adding what is the same for many rows: biases and positions.

use super::{composed, fused, output, slice, tensor, values};
use crate::kernels::elementwise;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

/// `x + rows`, where `rows` `[.., D]` has the last dimensions of `x` `[.., .., D]` and is added to each of its repetitions.
pub fn add_rows(x: &Tensor, rows: &Tensor) -> Result<Tensor> {
    if !fused(&[x, rows]) {
        return composed::add_rows(x, rows);
    }
    x.contiguous()?.apply_op2(&rows.contiguous()?, AddRows)
}

struct AddRows;

/// Numbers in the repeated part.
fn period(x: &Shape, rows: &Shape) -> Result<usize> {
    match x.dims().ends_with(rows.dims()) && rows.elem_count() > 0 {
        true => Ok(rows.elem_count()),
        false => bail!("rows {rows:?} added to {x:?}"),
    }
}

impl CustomOp2 for AddRows {
    fn name(&self) -> &'static str {
        "add-rows"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        rows: &CpuStorage,
        lr: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        period(lx.shape(), lr.shape())?;
        let out = elementwise::add_repeated(slice(x, lx)?, slice(rows, lr)?);
        Ok(output(out, lx.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        rows: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let period = period(dy.shape(), rows.shape())?;
        values!(gradient = dy);
        let drows = elementwise::sum_repeated(gradient, period);
        Ok((Some(dy.clone()), Some(tensor(drows, rows.shape())?)))
    }
}
