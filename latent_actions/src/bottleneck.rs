//! What stands between encoder and predictor while training.

use crate::BottleneckConfig;
use candle_core::{D, Tensor};
use candle_nn::{Init, VarBuilder};
use nn::quantizer::{Quantizer, QuantizerConfig};
use nn::{Result, normal};
use rand_chacha::ChaCha8Rng;

/// What the predictor gets, and what the bottleneck adds to the loss.
pub struct Passed {
    /// Actions `[.., A]`.
    pub actions: Tensor,
    /// Added to the loss.
    pub auxiliary_loss: Option<Tensor>,
}

/// A narrow passage for the description `[.., A]` of a change.
pub trait Bottleneck: Send + Sync {
    /// The passage in training.
    ///
    /// # Errors
    /// When shapes do not fit.
    fn pass(&self, actions: &Tensor, random: &mut ChaCha8Rng) -> Result<Passed>;

    /// Gives codes that `usage` (a count for each) shows as dead a new life near the descriptions `[.., A]` of a batch; returns how
    /// many. Bottlenecks without codes of their own do nothing.
    ///
    /// # Errors
    /// When shapes do not fit.
    fn revive(&self, _usage: &[u64], _actions: &Tensor, _seed: u64) -> Result<usize> {
        Ok(0)
    }
}

/// Builds the bottleneck, and the codebook `[K, A]` that it shares with the model.
pub fn build(
    config: BottleneckConfig,
    codes: usize,
    width: usize,
    builder: VarBuilder,
) -> Result<(Box<dyn Bottleneck>, Tensor)> {
    let start = match config {
        BottleneckConfig::Noisy { .. } => Init::Const(0.0),
        BottleneckConfig::Vq => Init::Randn {
            mean: 0.0,
            stdev: 1.0,
        },
    };
    let codebook = builder.get_with_hints((codes, width), "codebook", start)?;
    let bottleneck: Box<dyn Bottleneck> = match config {
        BottleneckConfig::Noisy { noise } => Box::new(Noisy { noise }),
        BottleneckConfig::Vq => Box::new(Quantized {
            quantizer: QuantizerConfig::Vq { codes, width }.build(builder)?,
        }),
    };
    Ok((bottleneck, codebook))
}

/// Scales each row to a root mean square of one.
pub fn normalise(x: &Tensor) -> candle_core::Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + 1e-6)?.sqrt()?)
}

struct Noisy {
    noise: f32,
}

impl Bottleneck for Noisy {
    fn pass(&self, actions: &Tensor, random: &mut ChaCha8Rng) -> Result<Passed> {
        let noise: Vec<f32> = (0..actions.elem_count())
            .map(|_| self.noise * normal(random))
            .collect();
        let noise = Tensor::from_vec(noise, actions.shape(), actions.device())?;
        Ok(Passed {
            actions: (actions + noise)?,
            auxiliary_loss: None,
        })
    }
}

struct Quantized {
    quantizer: Box<dyn Quantizer>,
}

impl Bottleneck for Quantized {
    fn pass(&self, actions: &Tensor, _: &mut ChaCha8Rng) -> Result<Passed> {
        let quantized = self.quantizer.quantize(actions)?;
        Ok(Passed {
            actions: quantized.vectors,
            auxiliary_loss: quantized.auxiliary_loss,
        })
    }

    fn revive(&self, usage: &[u64], actions: &Tensor, seed: u64) -> Result<usize> {
        self.quantizer.revive(usage, actions, seed)
    }
}
