//! The running average of weights.

use crate::kernels::adamw as kernel;
use crate::ops::values;
use candle_core::{Device, Result, Tensor, Var};
use std::collections::BTreeMap;

/// Exponential moving average of weights; what is evaluated and shipped. It is kept on the CPU, wherever the weights live.
pub struct ExponentialAverage {
    decay: f64,
    updates: u64,
    values: BTreeMap<String, (Vec<f32>, candle_core::Shape)>,
}

impl ExponentialAverage {
    /// Starts from the present weights. `decay` is the share kept at each update, reached gradually: early on it is
    /// `(1 + updates) / (10 + updates)`, so that the average does not remember the random start.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub fn new(tensors: &BTreeMap<String, Tensor>, decay: f64) -> Result<Self> {
        let mut values = BTreeMap::new();
        for (name, tensor) in tensors {
            values.insert(
                name.clone(),
                (tensor.flatten_all()?.to_vec1()?, tensor.shape().clone()),
            );
        }
        Ok(Self {
            decay,
            updates: 0,
            values,
        })
    }

    /// Continues from a checkpoint: averages as [`Self::tensors`] gave them, after `updates`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn restore(tensors: &BTreeMap<String, Tensor>, decay: f64, updates: u64) -> Result<Self> {
        Ok(Self {
            updates,
            ..Self::new(tensors, decay)?
        })
    }

    /// Takes in the present weights.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub fn update(&mut self, variables: &BTreeMap<String, Var>) -> Result<()> {
        let decay =
            self.decay
                .min((1.0 + self.updates as f64) / (10.0 + self.updates as f64)) as f32;
        self.updates += 1;
        for (name, var) in variables {
            let Some((average, _)) = self.values.get_mut(name) else {
                continue;
            };
            let weights = var.as_tensor().to_device(&Device::Cpu)?;
            values!(weights = weights);
            kernel::average(average, weights, decay);
        }
        Ok(())
    }

    /// Updates so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The averaged weights by name.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        let made = self.values.iter().map(|(name, (values, shape))| {
            let tensor = Tensor::from_slice(values, shape, &Device::Cpu)?;
            Ok((name.clone(), tensor))
        });
        made.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_follow_the_weights() -> Result<()> {
        let weight = Var::from_tensor(&Tensor::new(&[3f32], &Device::Cpu)?)?;
        let tensors = [("b".to_owned(), weight.as_detached_tensor())].into();
        let mut average = ExponentialAverage::new(&tensors, 0.5)?;
        weight.set(&Tensor::new(&[5f32], &Device::Cpu)?)?;
        average.update(&[("b".to_owned(), weight)].into())?;
        let expected = 0.1 * 3.0 + 0.9 * 5.0;
        assert!((average.tensors()?["b"].to_vec1::<f32>()?[0] - expected).abs() < 1e-6);
        Ok(())
    }
}
