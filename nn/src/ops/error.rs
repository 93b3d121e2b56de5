//! How far a picture is from another, as models are trained to make it small.

use super::computed::computed;
use super::{composed, fused, values, wanted};
use crate::kernels::elementwise;
use candle_core::{Result, Shape, Tensor, bail};

/// Mean squared error plus `absolute_weight` times the mean absolute error of two tensors of one shape, a scalar.
pub fn picture_error(a: &Tensor, b: &Tensor, absolute_weight: f32) -> Result<Tensor> {
    if !fused(&[a, b]) {
        return composed::picture_error(a, b, absolute_weight);
    }
    if a.shape() != b.shape() || a.elem_count() == 0 {
        bail!("error between {:?} and {:?}", a.shape(), b.shape());
    }
    values!(a_values = a, b_values = b);
    let error = elementwise::picture_error(a_values, b_values, absolute_weight);
    let (own_a, own_b) = (a.clone(), b.clone());
    computed(vec![error], &Shape::from(()), &[a, b], move |gradient| {
        values!(a = own_a, b = own_b);
        let scale = gradient[0];
        let gradient = |scale| elementwise::picture_error_gradient(a, b, absolute_weight, scale);
        Ok(vec![
            wanted(&own_a, || gradient(scale)),
            wanted(&own_b, || gradient(-scale)),
        ])
    })
}
