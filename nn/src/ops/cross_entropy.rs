//! Cross-entropy of logits with target classes.

use super::{composed, fused, leading, output, slice, tensor, values};
use crate::kernels::cross_entropy as kernel;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

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
    logits
        .contiguous()?
        .apply_op1(CrossEntropy { targets, weights })
}

struct CrossEntropy {
    targets: Vec<u32>,
    weights: Vec<f32>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let classes = layout.dims().last().copied().unwrap_or(0);
        let losses = kernel::losses(slice(logits, layout)?, &self.targets, classes);
        let mean: f32 = losses
            .iter()
            .zip(&self.weights)
            .map(|(loss, weight)| loss * weight)
            .sum();
        Ok(output(vec![mean], ()))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let factor = gradient.to_scalar::<f32>()?;
        let weights: Vec<f32> = self.weights.iter().map(|weight| weight * factor).collect();
        values!(logit_values = logits);
        let classes = logits.dims().last().copied().unwrap_or(0);
        Ok(Some(tensor(
            kernel::gradient(logit_values, &self.targets, &weights, classes),
            logits.shape(),
        )?))
    }
}
