//! How fast training steps are on this machine, and what share of its matrix-multiply peak they reach.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::{DType, Device, Tensor, Var};
use dynamics::{Dynamics, DynamicsConfig, Forecast, TrainingClip};
use latent_actions::{LatentActionConfig, LatentActionModel};
use nn::kernels::product::{Matrix, multiply};
use nn::{AdamW, AdamWConfig, Parameters, count, generator, gradients, ops};
use serde::Serialize;
use tokenizer::{Tokenizer, TokenizerConfig};

use crate::{Result, TrainConfig};

/// Side of the square matrices that the peak is measured with.
const PEAK_SIDE: usize = 1024;
/// Products of which the fastest is taken as the peak.
const PEAK_TRIES: usize = 12;

/// Speed of one stage's training step.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StepSpeed {
    /// Steps in a second (the median step).
    pub steps_per_s: f64,
    /// Billions of floating-point operations in matrix products a second.
    pub gflops: f64,
    /// The same as a share of the peak.
    pub share_of_peak: f64,
}

/// Speed of the training step of every stage.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TrainingSpeed {
    /// The tokenizer's.
    pub tokenizer: StepSpeed,
    /// The latent action model's.
    pub latent_actions: StepSpeed,
    /// The dynamics'.
    pub dynamics: StepSpeed,
}

/// Billions of floating-point operations a second that the fastest of several large f32 products reaches on all cores.
pub fn matmul_peak() -> f64 {
    let side = vec![0.5; PEAK_SIDE * PEAK_SIDE];
    let mut out = vec![0.0; PEAK_SIDE * PEAK_SIDE];
    let mut shortest = f64::INFINITY;
    for _ in 0..PEAK_TRIES {
        let matrix = Matrix::new(&side, PEAK_SIDE, PEAK_SIDE);
        let start = Instant::now();
        multiply(&mut out, matrix, matrix, false);
        shortest = shortest.min(start.elapsed().as_secs_f64());
    }
    2.0 * (PEAK_SIDE as f64).powi(3) / shortest / 1e9
}

/// Times `steps` training steps of each stage at a world's sizes, on made-up frames with the default batches; `peak` is
/// [`matmul_peak`]'s.
///
/// # Errors
/// When a model cannot be built or run.
pub fn training_speed(
    tokenizer: &TokenizerConfig,
    latent_actions: &LatentActionConfig,
    dynamics: &DynamicsConfig,
    steps: usize,
    peak: f64,
) -> Result<TrainingSpeed> {
    let batches = TrainConfig::default();
    Ok(TrainingSpeed {
        tokenizer: tokenizer_speed(tokenizer, batches.tokenizer.batch, steps, peak)?,
        latent_actions: latent_action_speed(
            latent_actions,
            batches.latent_actions.batch,
            steps,
            peak,
        )?,
        dynamics: dynamics_speed(
            dynamics,
            tokenizer,
            [batches.dynamics.batch, batches.dynamics.clip_frames],
            steps,
            peak,
        )?,
    })
}

/// Times whole steps: loss, gradients, update. One step that is not counted goes first.
fn speed(
    variables: BTreeMap<String, Var>,
    steps: usize,
    peak: f64,
    mut loss: impl FnMut() -> Result<Tensor>,
) -> Result<StepSpeed> {
    let mut optimizer = AdamW::new(variables.clone(), AdamWConfig::default());
    let mut step = || -> Result<()> {
        let gradients = gradients(&loss()?, &variables).map_err(nn::Error::from)?;
        optimizer
            .step(&gradients, 1e-5, 1.0)
            .map_err(nn::Error::from)?;
        Ok(())
    };
    let (first, operations) = count::product_operations(&mut step);
    first?;
    let mut seconds = Vec::with_capacity(steps.max(1));
    for _ in 0..steps.max(1) {
        let start = Instant::now();
        step()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let gflops = operations as f64 / median / 1e9;
    Ok(StepSpeed {
        steps_per_s: 1.0 / median,
        gflops,
        share_of_peak: gflops / peak,
    })
}

/// Noise as frames `[B, T, H, W, 3]`.
fn frames(batch: usize, count: usize, size: nn::FrameSize) -> Result<Tensor> {
    let shape = (batch, count, size.height, size.width, 3);
    Ok(Tensor::rand(0f32, 1f32, shape, &Device::Cpu).map_err(nn::Error::from)?)
}

fn tokenizer_speed(
    config: &TokenizerConfig,
    batch: usize,
    steps: usize,
    peak: f64,
) -> Result<StepSpeed> {
    let parameters = Parameters::seeded(1, &Device::Cpu);
    let model = Tokenizer::new(config, parameters.builder())?;
    let frames = frames(batch, 1, config.frame)?;
    speed(parameters.variables(), steps, peak, || {
        Ok(model.loss(&frames)?.0)
    })
}

fn latent_action_speed(
    config: &LatentActionConfig,
    batch: usize,
    steps: usize,
    peak: f64,
) -> Result<StepSpeed> {
    let parameters = Parameters::seeded(1, &Device::Cpu);
    let model = LatentActionModel::new(config, parameters.builder())?;
    let frames = frames(batch, 3, config.frame)?;
    let mut random = generator(1, 0);
    speed(parameters.variables(), steps, peak, || {
        Ok(model.loss(&frames, &mut random)?.loss)
    })
}

fn dynamics_speed(
    config: &DynamicsConfig,
    tokenizer: &TokenizerConfig,
    [batch, count]: [usize; 2],
    steps: usize,
    peak: f64,
) -> Result<StepSpeed> {
    let device = Device::Cpu;
    let (tokens, changes) = (config.tokens_per_frame(), count - 1);
    let zeros =
        |shape: &[usize]| Tensor::zeros(shape, DType::U32, &device).map_err(nn::Error::from);
    let ones = |count: usize| Tensor::ones(count, DType::F32, &device).map_err(nn::Error::from);
    let words = Tokenizer::new(tokenizer, Parameters::seeded(1, &device).builder())?;
    let all = Tensor::arange(0u32, config.vocabulary as u32, &device).map_err(nn::Error::from)?;
    let parameters = Parameters::seeded(1, &device);
    let model = Dynamics::new(config, &words.token_vectors(&all)?, parameters.builder())?;
    let forecast = match config.forecast {
        true => {
            let latents = Tensor::zeros(
                (batch, changes, tokens, config.latent_width),
                DType::F32,
                &device,
            );
            Some(Forecast {
                pixels: frames(batch, changes, config.frame)?,
                latents: latents.map_err(nn::Error::from)?,
            })
        }
        false => None,
    };
    let clip = TrainingClip {
        clean: zeros(&[batch, count, tokens])?,
        masked: zeros(&[batch, count, tokens])?,
        actions: zeros(&[batch, changes])?,
        forecast,
    };
    let codes = zeros(&[batch, count])?;
    let (token_weights, code_weights) = (ones(batch * count * tokens)?, ones(batch * count)?);
    speed(parameters.variables(), steps, peak, || {
        let pass = model.training_pass(&clip)?;
        let tokens = ops::cross_entropy(&pass.logits, &clip.clean, &token_weights);
        let codes = ops::cross_entropy(&pass.prior_logits, &codes, &code_weights);
        let sum = tokens.and_then(|tokens| tokens + codes?);
        Ok(sum.map_err(nn::Error::from)?)
    })
}
