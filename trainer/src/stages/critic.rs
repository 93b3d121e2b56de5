//! An adversary for the tokenizer's decoder (VAE-GAN, arXiv 1512.09300): a critic of patches learns to tell decoded frames from real ones, and the
//! decoder to be taken for real. It sharpens what the squared error leaves blurred. It is no part of the world: its weights stay in the checkpoint.

use candle_core::{Tensor, Var};
use candle_nn::{Init, VarBuilder};
use nn::{linear_weight, ops, patches_of};

use crate::Result;

/// Where the critic's weights stand among the tokenizer's.
const PREFIX: &str = "critic";
/// Numbers in a hidden layer.
const WIDTH: usize = 128;
/// Side of the patches that are judged, in pixels. A second set is shifted by half of it, so that seams between patches are seen, too.
const PATCH: usize = 8;

/// Judges patches: above 0 for real, below for decoded.
pub(crate) struct Critic {
    layers: [(Tensor, Tensor); 3],
}

/// Whether a weight of the tokenizer's stage is the critic's.
pub(crate) fn is_part(name: &str) -> bool {
    name.split('.').next() == Some(PREFIX)
}

impl Critic {
    /// Builds the critic from its weights.
    pub fn new(builder: VarBuilder) -> Result<Self> {
        let builder = builder.pp(PREFIX);
        let layer = |name: &str, outputs: usize, inputs: usize| -> Result<(Tensor, Tensor)> {
            let builder = builder.pp(name);
            Ok((
                linear_weight(&builder, "weight", outputs, inputs, 1.0)?,
                builder.get_with_hints(outputs, "bias", Init::Const(0.0))?,
            ))
        };
        Ok(Self {
            layers: [
                layer("input", WIDTH, PATCH * PATCH * 3)?,
                layer("hidden", WIDTH, WIDTH)?,
                layer("output", 1, WIDTH)?,
            ],
        })
    }

    /// The same judgement, of which the critic learns nothing.
    fn frozen(&self) -> Self {
        let frozen = |(weight, bias): &(Tensor, Tensor)| (weight.detach(), bias.detach());
        let [input, hidden, output] = &self.layers;
        Self {
            layers: [frozen(input), frozen(hidden), frozen(output)],
        }
    }

    /// Scores `[patches]` of frames `[B, T, H, W, 3]`.
    fn scores(&self, frames: &Tensor) -> Result<Tensor> {
        let (_, _, height, width, _) = frames.dims5()?;
        let mut sets = vec![patches_of(frames, PATCH)?];
        if height > PATCH && width > PATCH {
            let shifted =
                frames
                    .narrow(2, PATCH / 2, height - PATCH)?
                    .narrow(3, PATCH / 2, width - PATCH)?;
            sets.push(patches_of(&shifted.contiguous()?, PATCH)?);
        }
        let mut x = ((Tensor::cat(&sets, 2)? * 2.0)? - 1.0)?;
        for (number, (weight, bias)) in self.layers.iter().enumerate() {
            x = ops::add_rows(&ops::linear(&x, weight)?, bias)?;
            if number + 1 < self.layers.len() {
                x = x.gelu()?;
            }
        }
        Ok(x.flatten_all()?)
    }

    /// What to add to the loss for decoded frames of real ones, both `[B, T, H, W, 3]`: the critic's own hinge loss, and for the decoder a term
    /// that pulls each pixel towards what the critic takes for real. The pull is `share` times as strong as that of the reconstruction's
    /// squared error, whatever the critic thinks and however good the reconstruction is.
    pub fn terms(&self, decoded: &Tensor, real: &Tensor, share: f64) -> Result<Tensor> {
        let fixed = decoded.detach();
        let real_scores = self.scores(real)?;
        let decoded_scores = self.scores(&fixed)?;
        let hinge = ((1.0 - real_scores)?.relu()?.mean_all()?
            + (1.0 + decoded_scores)?.relu()?.mean_all()?)?;
        let leaf = Var::from_tensor(&fixed)?;
        let verdict = self.frozen().scores(&leaf)?.mean_all()?.neg()?;
        let mut gradients = ops::backward(&verdict)?;
        let Some(pull) = gradients.remove(leaf.as_tensor()) else {
            return Ok(hinge);
        };
        let length = |tensor: &Tensor| -> Result<f64> {
            Ok(f64::from(tensor.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt())
        };
        // The gradient of the mean squared error.
        let error = ((&fixed - real)? * (2.0 / fixed.elem_count() as f64))?;
        let scale = share * length(&error)? / length(&pull)?.max(1e-12);
        let towards_real = (decoded * (pull.detach() * scale)?)?.sum_all()?;
        Ok((hinge + towards_real)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use nn::{AdamWConfig, Optimizer, Parameters, generator, gradients, normal};

    /// Frames of noise about a grey, `[4, 1, 16, 24, 3]`.
    fn frames(grey: f32, seed: u64) -> Tensor {
        let mut random = generator(seed, 0);
        let values: Vec<f32> = (0..4 * 16 * 24 * 3)
            .map(|_| grey + 0.05 * normal(&mut random))
            .collect();
        Tensor::from_vec(values, (4, 1, 16, 24, 3), &Device::Cpu).unwrap()
    }

    fn critic() -> (Critic, Parameters) {
        let parameters = Parameters::seeded(3, &Device::Cpu);
        (Critic::new(parameters.builder()).unwrap(), parameters)
    }

    #[test]
    fn the_pull_on_the_decoder_is_the_share_of_the_errors() {
        let (critic, _) = critic();
        let (real, decoded) = (frames(0.6, 1), Var::from_tensor(&frames(0.4, 2)).unwrap());
        for share in [0.1, 0.5] {
            let loss = critic.terms(decoded.as_tensor(), &real, share).unwrap();
            let gradient = loss.backward().unwrap().remove(decoded.as_tensor());
            let error = ((decoded.as_tensor() - &real).unwrap() * (2.0 / (4 * 16 * 24 * 3) as f64))
                .unwrap();
            let length = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>();
            let ratio = (length(&gradient.unwrap()).unwrap() / length(&error).unwrap()).sqrt();
            assert!((f64::from(ratio) - share).abs() < 1e-3, "{ratio}");
        }
    }

    #[test]
    fn a_critic_learns_and_frames_that_follow_it_look_more_real_to_it() {
        let (critic, parameters) = critic();
        let mut optimizer =
            Optimizer::new(parameters.variables(), AdamWConfig::default(), None).unwrap();
        let score = |frames: &Tensor| {
            let scores = critic.scores(frames).unwrap();
            scores.mean_all().unwrap().to_scalar::<f32>().unwrap()
        };
        for step in 0..60 {
            let (real, decoded) = (frames(0.6, 2 * step), frames(0.4, 2 * step + 1));
            let loss = critic.terms(&decoded, &real, 0.1).unwrap();
            let found = gradients(&loss, &parameters.variables()).unwrap();
            optimizer.step(&found, 1e-3, 1.0).unwrap();
        }
        let (real, decoded) = (frames(0.6, 1000), frames(0.4, 1001));
        assert!(score(&real) > 0.5 && score(&decoded) < -0.5);
        let leaf = Var::from_tensor(&decoded).unwrap();
        let loss = critic.terms(leaf.as_tensor(), &real, 1.0).unwrap();
        let pull = loss.backward().unwrap().remove(leaf.as_tensor()).unwrap();
        let followed = (decoded.clone() - (pull * 50.0).unwrap()).unwrap();
        assert!(score(&followed) > score(&decoded));
    }
}
