//! Cross-entropy of logits with target classes.

use super::computed::computed;
use super::{composed, fused, leading, values};
use crate::kernels::cross_entropy as kernel;
use candle_core::{DType, Result, Shape, Tensor, bail};

/// Weighted mean over rows of the cross-entropy, in nats, of `logits` `[.., V]` with `targets` (u32, `[..]`); `weights` has one number
/// a row (zero leaves the row out). With all weights zero the result is zero.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, weights: &Tensor) -> Result<Tensor> {
    if !fused(&[logits, weights]) {
        return composed::cross_entropy(logits, targets, weights);
    }
    let targets = targets
        .flatten_all()?
        .to_dtype(DType::U32)?
        .to_vec1::<u32>()?;
    let mut weights = weights.flatten_all()?.to_vec1::<f32>()?;
    let classes = logits.dims().last().copied().unwrap_or(0);
    if targets.len() != leading(logits.shape()) || weights.len() != targets.len() {
        bail!(
            "cross-entropy of {:?} with {} targets and {} weights",
            logits.shape(),
            targets.len(),
            weights.len()
        );
    }
    if let Some(target) = targets.iter().find(|&&target| target as usize >= classes) {
        bail!("cross-entropy target {target} of {classes} classes");
    }
    let total: f32 = weights.iter().sum();
    if total > 0.0 {
        weights.iter_mut().for_each(|weight| *weight /= total);
    }
    values!(logit_values = logits);
    let losses = kernel::losses(logit_values, &targets, classes);
    let weighted = losses.iter().zip(&weights);
    let mean: f32 = weighted.map(|(loss, weight)| loss * weight).sum();
    let own_logits = logits.clone();
    computed(vec![mean], &Shape::from(()), &[logits], move |gradient| {
        values!(logits = own_logits);
        let factor = gradient[0];
        let weights: Vec<f32> = weights.iter().map(|weight| weight * factor).collect();
        let dlogits = kernel::gradient(logits, &targets, &weights, classes);
        Ok(vec![Some(dlogits)])
    })
}
