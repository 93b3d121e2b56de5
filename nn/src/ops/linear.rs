//! Matrix products with a weight.

use super::{composed, fused, leading, output, slice, values, wanted};
use crate::kernels::product::{Matrix, product, product_onto};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// `x * weight^T`: `x` is `[.., I]`, `weight` `[O, I]`, the result `[.., O]`.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if !fused(&[x, weight]) {
        return composed::linear(x, weight);
    }
    x.contiguous()?.apply_op2(&weight.contiguous()?, Linear)
}

/// `residual + x * weight^T`, in one pass over the result.
pub fn linear_onto(x: &Tensor, weight: &Tensor, residual: &Tensor) -> Result<Tensor> {
    if !fused(&[x, weight, residual]) {
        return composed::linear(x, weight)? + residual;
    }
    x.contiguous()?
        .apply_op3(&weight.contiguous()?, &residual.contiguous()?, LinearOnto)
}

/// (rows, inputs, outputs) of a product.
fn sizes(x: &Shape, weight: &Shape) -> Result<(usize, usize, usize)> {
    let (outputs, inputs) = weight.dims2()?;
    if x.dims().last() != Some(&inputs) {
        bail!("linear layer of {inputs} inputs got {x:?}");
    }
    Ok((leading(x), inputs, outputs))
}

fn product_shape(x: &Shape, outputs: usize) -> Shape {
    let mut dims = x.dims().to_vec();
    dims.pop();
    dims.push(outputs);
    Shape::from(dims)
}

/// Gradients of `x * weight^T` with respect to both, as far as anything depends on them.
fn product_gradients(
    x: &Tensor,
    weight: &Tensor,
    gradient: &Tensor,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let (rows, inputs, outputs) = sizes(x.shape(), weight.shape())?;
    values!(x_values = x, w = weight, dy = gradient);
    let dy = Matrix::new(dy, rows, outputs);
    let dx = wanted(x, || product(dy, Matrix::new(w, outputs, inputs)))?;
    let dw = wanted(weight, || {
        product(dy.transposed(), Matrix::new(x_values, rows, inputs))
    })?;
    Ok((dx, dw))
}

struct Linear;

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs, outputs) = sizes(lx.shape(), lw.shape())?;
        let weight = Matrix::new(slice(w, lw)?, outputs, inputs).transposed();
        let out = product(Matrix::new(slice(x, lx)?, rows, inputs), weight);
        Ok(output(out, product_shape(lx.shape(), outputs)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        product_gradients(x, w, dy)
    }
}

struct LinearOnto;

impl CustomOp3 for LinearOnto {
    fn name(&self) -> &'static str {
        "linear-onto"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        residual: &CpuStorage,
        lr: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs, outputs) = sizes(lx.shape(), lw.shape())?;
        let residual = slice(residual, lr)?;
        if residual.len() != rows * outputs {
            bail!(
                "linear layer of {rows} rows and {outputs} outputs got a residual of {:?}",
                lr.shape()
            );
        }
        let weight = Matrix::new(slice(w, lw)?, outputs, inputs).transposed();
        let out = product_onto(residual, Matrix::new(slice(x, lx)?, rows, inputs), weight);
        Ok(output(out, lr.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = product_gradients(x, w, dy)?;
        Ok((dx, dw, Some(dy.clone())))
    }
}
