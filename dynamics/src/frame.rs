//! The dynamics as play runs it: one frame at a time, on the CPU, with packed weights.

use crate::sampler::{SamplerConfig, decide};
use crate::{Dynamics, DynamicsConfig};
use nn::kernels::inference::{
    Finish, FrameBuffers, PackedBlocks, PackedWeight, Projection, Team, Unit,
};
use nn::{ActionCode, Error, KvCache, Result, centred_patches_of_picture, numbers, packed};
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// A dynamics model's weights, packed. Computes what [`Dynamics`] computes.
pub struct FrameDynamics {
    config: DynamicsConfig,
    /// What a token enters as, and the mask, `[V + 1, D]`.
    tokens: Vec<f32>,
    /// What an action enters as, and none, `[K + 1, D]`.
    actions: Vec<f32>,
    /// `[N + 1, D]`.
    position: Vec<f32>,
    /// Of a forecast's pixels and latents.
    forecast: Option<[PackedWeight; 2]>,
    blocks: PackedBlocks,
    logits: Projection,
    prior_hidden: Projection,
    prior_output: PackedWeight,
}

/// What a [`FrameDynamics`] works in; kept from frame to frame.
#[derive(Default)]
pub struct FrameDynamicsBuffers {
    frame: FrameBuffers,
    patches: Vec<f32>,
    logits: Vec<f32>,
    normal: Vec<f32>,
    hidden: Vec<f32>,
}

/// A guess of the frame that is to be made.
#[derive(Clone, Copy)]
pub struct FrameForecast<'a> {
    /// Pixels 0..1, `[H, W, 3]`.
    pub picture: &'a [f32],
    /// The tokenizer's pre-quantisation latents of it, `[N, L]`.
    pub latents: &'a [f32],
}

/// What enters the first block.
struct Input<'a> {
    action: usize,
    tokens: &'a [u32],
    /// Patches around zero, and latents.
    forecast: Option<[&'a [f32]; 2]>,
}

impl FrameDynamics {
    /// Packs a model's weights.
    ///
    /// # Errors
    /// When they cannot be read from their device.
    pub fn new(model: &Dynamics, unit: Unit) -> Result<Self> {
        let forecast = match &model.forecast {
            Some(input) => Some([packed(&input.pixels, unit)?, packed(&input.latents, unit)?]),
            None => None,
        };
        let config = model.config.clone();
        Ok(Self {
            tokens: numbers(&model.token_table()?)?,
            actions: numbers(&model.actions)?,
            position: numbers(&model.position)?,
            forecast,
            blocks: model
                .transformer
                .pack(config.tokens_per_frame() + 1, unit)?,
            logits: Projection {
                norm: numbers(&model.norm)?,
                output: packed(&model.output, unit)?,
                bias: Some(numbers(&model.output_bias)?),
                // The action's row has no token to decide.
                first: 1,
            },
            prior_hidden: Projection {
                norm: numbers(&model.prior_norm)?,
                output: packed(&model.prior_hidden, unit)?,
                bias: None,
                first: 0,
            },
            prior_output: packed(&model.prior_output, unit)?,
            config,
        })
    }

    fn check(&self, action: Option<ActionCode>, tokens: &[u32]) -> Result<usize> {
        let config = &self.config;
        if tokens.len() != config.tokens_per_frame() {
            let (got, wanted) = (tokens.len(), config.tokens_per_frame());
            return Err(Error::Input(format!(
                "{got} tokens for a frame of {wanted}"
            )));
        }
        if let Some(token) = tokens.iter().find(|&&token| token > config.mask_token()) {
            return Err(Error::Input(format!(
                "token {token} is not in a codebook of {}",
                config.vocabulary
            )));
        }
        match action {
            None => Ok(config.codes),
            Some(ActionCode(code)) if usize::from(code) < config.codes => Ok(code.into()),
            Some(ActionCode(code)) => Err(Error::Input(format!(
                "action code {code} of {}",
                config.codes
            ))),
        }
    }

    /// Fills some rows of the first block's input: row 0 is the action's, the others are the tokens'.
    fn embed(&self, input: &Input, rows: Range<usize>, x: &mut [f32]) {
        let width = self.config.width;
        for (row, x) in rows.clone().zip(x.chunks_exact_mut(width)) {
            let entry = match row.checked_sub(1) {
                None => &self.actions[input.action * width..][..width],
                Some(token) => &self.tokens[input.tokens[token] as usize * width..][..width],
            };
            let position = &self.position[row * width..][..width];
            for i in 0..width {
                x[i] = entry[i] + position[i];
            }
        }
        if let (Some(maps), Some(sides)) = (&self.forecast, input.forecast) {
            let tokens = rows.start.saturating_sub(1)..rows.end.saturating_sub(1);
            let x = &mut x[(rows.len() - tokens.len()) * width..];
            for (map, side) in maps.iter().zip(sides) {
                let inputs = map.inputs();
                map.apply(
                    x,
                    &side[tokens.start * inputs..tokens.end * inputs],
                    Finish::Add,
                );
            }
        }
    }

    /// Makes a decided frame part of the past: its `N` tokens and the action that led to it (`None` for a first frame). Returns the action
    /// prior's logits `[K]` for the change to the next frame.
    ///
    /// # Errors
    /// When there are more or fewer tokens, or tokens or the action are unknown.
    pub fn commit(
        &self,
        team: &Team,
        buffers: &mut FrameDynamicsBuffers,
        cache: &mut KvCache,
        action: Option<ActionCode>,
        tokens: &[u32],
    ) -> Result<Vec<f32>> {
        let input = Input {
            action: self.check(action, tokens)?,
            tokens,
            forecast: None,
        };
        self.blocks.run(
            team,
            &mut buffers.frame,
            cache,
            None,
            &|rows, x| self.embed(&input, rows, x),
            // The action's row sums the past up for the prior.
            &|row| row == 0,
            None,
        );
        buffers.frame.keep(cache);
        let width = self.config.width;
        buffers.normal.resize(width, 0.0);
        buffers.hidden.resize(2 * width, 0.0);
        let summary = &buffers.frame.residual()[..width];
        self.prior_hidden
            .apply(&mut buffers.hidden, summary, &mut buffers.normal);
        nn::kernels::elementwise::gelu_in_place(&mut buffers.hidden);
        let mut logits = vec![0.0; self.config.codes];
        self.prior_output
            .apply(&mut logits, &buffers.hidden, Finish::Write);
        Ok(logits)
    }

    /// The tokens of the next frame after the cached past under `action`, `N` of them; the same generator state gives the same frame.
    ///
    /// # Errors
    /// When the configuration is out of range, the action is unknown, or a forecast is missing or unwanted.
    #[allow(clippy::too_many_arguments)]
    pub fn generate(
        &self,
        team: &Team,
        buffers: &mut FrameDynamicsBuffers,
        cache: &KvCache,
        action: ActionCode,
        forecast: Option<FrameForecast>,
        sampler: &SamplerConfig,
        random: &mut ChaCha8Rng,
    ) -> Result<Vec<u32>> {
        let config = &self.config;
        let FrameDynamicsBuffers {
            frame,
            patches,
            logits,
            ..
        } = buffers;
        let forecast = match (&self.forecast, forecast) {
            (None, None) => None,
            (Some(_), Some(FrameForecast { picture, latents })) => {
                centred_patches_of_picture(patches, picture, config.frame, config.patch);
                Some([&patches[..], latents])
            }
            (Some(_), None) => {
                return Err(Error::Input("this dynamics model needs a forecast".into()));
            }
            (None, Some(_)) => {
                return Err(Error::Input("this dynamics model takes no forecast".into()));
            }
        };
        decide(
            config.tokens_per_frame(),
            config.mask_token(),
            sampler,
            random,
            logits,
            |masked, logits| {
                let input = Input {
                    action: self.check(Some(action), masked)?,
                    tokens: masked,
                    forecast,
                };
                let embed = |rows: Range<usize>, x: &mut [f32]| self.embed(&input, rows, x);
                let masked_row = |row: usize| row > 0 && masked[row - 1] == config.mask_token();
                logits.resize(masked.len() * config.vocabulary, 0.0);
                self.blocks.run(
                    team,
                    frame,
                    cache,
                    None,
                    &embed,
                    &masked_row,
                    Some((&self.logits, &mut logits[..])),
                );
                Ok(())
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Forecast;
    use candle_core::{Device, Tensor};
    use nn::{FrameSize, Parameters, Precision, generator, normal};

    fn model(forecast: bool) -> Dynamics {
        let config = DynamicsConfig {
            frame: FrameSize {
                height: 16,
                width: 24,
            },
            patch: 8,
            vocabulary: 20,
            latent_width: 3,
            codes: 4,
            width: 32,
            heads: 2,
            layers: 2,
            window: 3,
            forecast,
        };
        let vectors = Tensor::from_vec(noise(60, 8), (20, 3), &Device::Cpu).unwrap();
        Dynamics::new(
            &config,
            &vectors,
            Parameters::seeded(1, &Device::Cpu).builder(),
        )
        .unwrap()
    }

    fn noise(count: usize, seed: u64) -> Vec<f32> {
        let mut random = generator(seed, 0);
        (0..count).map(|_| normal(&mut random)).collect()
    }

    #[test]
    fn it_computes_what_the_dynamics_computes() -> Result<()> {
        let sampler = SamplerConfig {
            steps: 3,
            temperature: 0.0,
            ..SamplerConfig::default()
        };
        for forecast in [true, false] {
            let model = model(forecast);
            for unit in Unit::all()
                .into_iter()
                .filter(|unit| unit.precision() == Precision::F32)
            {
                let packed = FrameDynamics::new(&model, unit)?;
                let (team, mut buffers) = (Team::new(2), FrameDynamicsBuffers::default());
                let (mut plain_cache, mut cache) = (model.start(), model.start());
                let mut tokens: Vec<u32> = (0..6).collect();
                let mut action = None;
                for frame in 0..7u16 {
                    let expected = model.commit(&mut plain_cache, action, &tokens)?;
                    let logits = packed.commit(&team, &mut buffers, &mut cache, action, &tokens)?;
                    assert!(
                        logits
                            .iter()
                            .zip(&expected)
                            .all(|(a, b)| (a - b).abs() < 1e-4),
                        "{logits:?} {expected:?}"
                    );
                    let code = ActionCode(frame % 4);
                    let (picture, latents) = (
                        noise(16 * 24 * 3, frame.into()),
                        noise(18, 50 + u64::from(frame)),
                    );
                    let plain = Forecast {
                        pixels: Tensor::from_slice(&picture, (1, 1, 16, 24, 3), &Device::Cpu)?,
                        latents: Tensor::from_slice(&latents, (1, 1, 6, 3), &Device::Cpu)?,
                    };
                    let guess = FrameForecast {
                        picture: &picture,
                        latents: &latents,
                    };
                    let random = || generator(9, frame.into());
                    let made = packed.generate(
                        &team,
                        &mut buffers,
                        &cache,
                        code,
                        forecast.then_some(guess),
                        &sampler,
                        &mut random(),
                    )?;
                    tokens = model.generate(
                        &plain_cache,
                        code,
                        forecast.then_some(&plain),
                        &sampler,
                        &mut random(),
                    )?;
                    assert_eq!(made, tokens, "frame {frame}, {}", unit.name());
                    action = Some(code);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn misfits_are_errors() -> Result<()> {
        let (model, unit) = (model(true), Unit::all()[0]);
        let packed = FrameDynamics::new(&model, unit)?;
        let (team, mut buffers, mut cache) =
            (Team::new(1), FrameDynamicsBuffers::default(), model.start());
        for (action, tokens) in [
            (None, vec![0; 5]),
            (None, vec![21; 6]),
            (Some(ActionCode(4)), vec![0; 6]),
        ] {
            assert!(
                packed
                    .commit(&team, &mut buffers, &mut cache, action, &tokens)
                    .is_err()
            );
        }
        assert_eq!(cache.frames_seen(), 0);
        let sampler = SamplerConfig::default();
        let without = packed.generate(
            &team,
            &mut buffers,
            &cache,
            ActionCode(0),
            None,
            &sampler,
            &mut generator(1, 0),
        );
        assert!(
            without
                .unwrap_err()
                .to_string()
                .contains("needs a forecast")
        );
        Ok(())
    }
}
