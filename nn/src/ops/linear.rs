//! Matrix products with a weight.

use super::computed::{Gradient, computed};
use super::{composed, fused, leading, values, wanted};
use crate::kernels::product::{Matrix, product, product_onto};
use candle_core::{Result, Shape, Tensor, bail};

/// `x * weight^T`: `x` is `[.., I]`, `weight` `[O, I]`, the result `[.., O]`.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if !fused(&[x, weight]) {
        return composed::linear(x, weight);
    }
    let (rows, inputs, outputs) = sizes(x.shape(), weight.shape())?;
    values!(x_values = x, weight_values = weight);
    let weight_matrix = Matrix::new(weight_values, outputs, inputs).transposed();
    let out = product(Matrix::new(x_values, rows, inputs), weight_matrix);
    let (own_x, own_weight) = (x.clone(), weight.clone());
    let shape = product_shape(x.shape(), outputs);
    computed(out, &shape, &[x, weight], move |gradient| {
        Ok(product_gradients(&own_x, &own_weight, &gradient)?.into())
    })
}

/// `residual + x * weight^T`, in one pass over the result.
pub fn linear_onto(x: &Tensor, weight: &Tensor, residual: &Tensor) -> Result<Tensor> {
    if !fused(&[x, weight, residual]) {
        return composed::linear(x, weight)? + residual;
    }
    let (rows, inputs, outputs) = sizes(x.shape(), weight.shape())?;
    if residual.elem_count() != rows * outputs {
        bail!(
            "linear layer of {rows} rows and {outputs} outputs got a residual of {:?}",
            residual.shape()
        );
    }
    values!(
        x_values = x,
        weight_values = weight,
        residual_values = residual
    );
    let weight_matrix = Matrix::new(weight_values, outputs, inputs).transposed();
    let out = product_onto(
        residual_values,
        Matrix::new(x_values, rows, inputs),
        weight_matrix,
    );
    let arguments = [x, weight, residual];
    let [own_x, own_weight, own_residual] = arguments.map(Tensor::clone);
    computed(out, residual.shape(), &arguments, move |gradient| {
        let [dx, dweight] = product_gradients(&own_x, &own_weight, &gradient)?;
        let dresidual = wanted(&own_residual, || gradient.into_owned());
        Ok(vec![dx, dweight, dresidual])
    })
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
fn product_gradients(x: &Tensor, weight: &Tensor, gradient: &[f32]) -> Result<[Gradient; 2]> {
    let (rows, inputs, outputs) = sizes(x.shape(), weight.shape())?;
    values!(x_values = x, weight_values = weight);
    let dout = Matrix::new(gradient, rows, outputs);
    let dx = wanted(x, || {
        product(dout, Matrix::new(weight_values, outputs, inputs))
    });
    let dweight = wanted(weight, || {
        product(dout.transposed(), Matrix::new(x_values, rows, inputs))
    });
    Ok([dx, dweight])
}
