//! The models as a rollout runs them, frame by frame: packed for the CPU, or as they are on other devices.

use crate::World;
use crate::error::Result;
use candle_core::Tensor;
use dynamics::{Forecast, FrameDynamics, FrameDynamicsBuffers, FrameForecast, SamplerConfig};
use latent_actions::{Forecaster, ForecasterBuffers};
use nn::kernels::inference::Team;
use nn::kernels::product::{Unit, unit};
use nn::{ActionCode, KvCache, numbers};
use rand_chacha::ChaCha8Rng;
use std::sync::{Mutex, PoisonError};
use tokenizer::{FrameTokenizer, FrameTokenizerBuffers, TokenizerStream};

/// A world's models, ready to make frames.
pub(crate) enum Engine {
    /// On the CPU: fixed weights, packed once.
    Packed(Box<Packed>),
    /// On other devices: the models themselves.
    Plain,
}

/// Packed models and what they work in.
pub(crate) struct Packed {
    unit: Unit,
    tokenizer: FrameTokenizer,
    forecaster: Forecaster,
    dynamics: FrameDynamics,
    /// An empty stream: forecasts are looked at each on its own.
    start: TokenizerStream,
    buffers: Mutex<Buffers>,
}

#[derive(Default)]
struct Buffers {
    tokenizer: FrameTokenizerBuffers,
    forecaster: ForecasterBuffers,
    dynamics: FrameDynamicsBuffers,
    guess: Vec<f32>,
    latents: Vec<f32>,
}

impl Engine {
    /// The engine for a world, by where its models live and its precision.
    pub(crate) fn new(world: &World) -> Result<Self> {
        if !world.device.is_cpu() || nn::ops::is_composing() {
            return Ok(Self::Plain);
        }
        let unit = unit(world.precision);
        Ok(Self::Packed(Box::new(Packed {
            unit,
            tokenizer: FrameTokenizer::new(&world.tokenizer, unit)?,
            forecaster: Forecaster::new(&world.latent_actions, unit)?,
            dynamics: FrameDynamics::new(&world.dynamics, unit)?,
            start: world.tokenizer.start_stream(),
            buffers: Mutex::default(),
        })))
    }

    /// Name of what computes the products: frames are alike to the last bit only where it is the same.
    pub(crate) fn kernels(&self, world: &World) -> &'static str {
        match self {
            Self::Packed(packed) => packed.unit.name(),
            Self::Plain if world.device.is_cuda() => "cuda",
            Self::Plain if world.device.is_metal() => "metal",
            Self::Plain => "compositions",
        }
    }

    /// The tokens of the frame that follows `picture` `[H, W, 3]` and the cached past under `code`.
    pub(crate) fn generate(
        &self,
        world: &World,
        cache: &KvCache,
        picture: &[f32],
        code: ActionCode,
        sampler: &SamplerConfig,
        random: &mut ChaCha8Rng,
    ) -> Result<Vec<u32>> {
        match self {
            Self::Packed(packed) => packed.generate(world, cache, picture, code, sampler, random),
            Self::Plain => {
                let guess = match world.manifest.dynamics.forecast {
                    true => Some(forecast(world, picture, code)?),
                    false => None,
                };
                Ok(world
                    .dynamics
                    .generate(cache, code, guess.as_ref(), sampler, random)?)
            }
        }
    }

    /// Makes decided tokens part of the past; returns the action prior's logits for what follows.
    pub(crate) fn commit(
        &self,
        world: &World,
        cache: &mut KvCache,
        code: Option<ActionCode>,
        tokens: &[u32],
    ) -> Result<Vec<f32>> {
        match self {
            Self::Packed(packed) => {
                let buffers = &mut packed.buffers().dynamics;
                Ok(packed
                    .dynamics
                    .commit(Team::of_process(), buffers, cache, code, tokens)?)
            }
            Self::Plain => Ok(world.dynamics.commit(cache, code, tokens)?),
        }
    }

    /// The picture `[H, W, 3]` of the next tokens of a stream.
    pub(crate) fn decode(
        &self,
        world: &World,
        stream: &mut TokenizerStream,
        tokens: &[u32],
    ) -> Result<Vec<f32>> {
        match self {
            Self::Packed(packed) => {
                let mut picture = Vec::new();
                let buffers = &mut packed.buffers().tokenizer;
                packed.tokenizer.decode_next(
                    Team::of_process(),
                    buffers,
                    stream,
                    tokens,
                    &mut picture,
                )?;
                Ok(picture)
            }
            Self::Plain => {
                let tokens = Tensor::from_slice(tokens, (1, 1, tokens.len()), &world.device)?;
                Ok(numbers(&world.tokenizer.decode_next(&tokens, stream)?)?)
            }
        }
    }
}

impl Packed {
    fn buffers(&self) -> std::sync::MutexGuard<'_, Buffers> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn generate(
        &self,
        world: &World,
        cache: &KvCache,
        picture: &[f32],
        code: ActionCode,
        sampler: &SamplerConfig,
        random: &mut ChaCha8Rng,
    ) -> Result<Vec<u32>> {
        let team = Team::of_process();
        let Buffers {
            tokenizer,
            forecaster,
            dynamics,
            guess,
            latents,
        } = &mut *self.buffers();
        let forecast = match world.manifest.dynamics.forecast {
            true => {
                self.forecaster
                    .forecast(team, forecaster, picture, code, guess)?;
                self.tokenizer
                    .latents(team, tokenizer, &self.start, guess, latents);
                Some(FrameForecast {
                    picture: guess,
                    latents,
                })
            }
            false => None,
        };
        Ok(self
            .dynamics
            .generate(team, dynamics, cache, code, forecast, sampler, random)?)
    }
}

/// The guess of the frame that follows `picture` `[H, W, 3]` under `code`. Its latents are those of the guess seen on its own.
fn forecast(world: &World, picture: &[f32], code: ActionCode) -> Result<Forecast> {
    let size = world.manifest.frame;
    let codes = Tensor::from_slice(&[u32::from(code.0)], 1, &world.device)?;
    let picture = Tensor::from_slice(picture, (1, size.height, size.width, 3), &world.device)?;
    let pixels = world
        .latent_actions
        .forecast(&picture, &codes)?
        .unsqueeze(1)?;
    Ok(Forecast {
        latents: world.tokenizer.latents(&pixels)?,
        pixels,
    })
}
