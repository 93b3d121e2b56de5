//! Root-mean-square normalisation.

use super::computed::computed;
use super::{composed, fused, values, wanted};
use crate::kernels::norm;
use candle_core::{Result, Tensor, bail};

/// `x / rms(x) * weight` over the last dimension (arXiv 1910.07467); `weight` is as wide as that.
pub fn rms_norm(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if !fused(&[x, weight]) {
        return composed::rms_norm(x, weight);
    }
    values!(x_values = x, weight_values = weight);
    if x.dims().last() != Some(&weight_values.len()) || weight_values.is_empty() {
        bail!(
            "normalisation of width {} got {:?}",
            weight_values.len(),
            x.shape()
        );
    }
    let out = norm::rms_norm(x_values, weight_values);
    let (own_x, own_weight) = (x.clone(), weight.clone());
    computed(out, x.shape(), &[x, weight], move |gradient| {
        values!(x = own_x, weight = own_weight);
        let (dx, dweight) = norm::rms_norm_backward(&gradient, x, weight, None);
        Ok(vec![wanted(&own_x, || dx), wanted(&own_weight, || dweight)])
    })
}
