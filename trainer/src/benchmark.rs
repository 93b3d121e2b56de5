//! How fast training steps are on this machine, and what share of its matrix-multiply peak they reach.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::{DType, Tensor, Var};
use dynamics::{Dynamics, DynamicsConfig};
use latent_actions::{LatentActionConfig, LatentActionModel};
use nn::profile::{Timed, profiled};
use nn::{ActionCode, FrameSize, Optimizer, Parameters, Transitions, count, generator, gradients};
use rand::Rng;
use serde::Serialize;
use tokenizer::{Tokenizer, TokenizerConfig};

use crate::prepared::PreparedClips;
use crate::stages::dynamics::{losses, mask};
use crate::{DynamicsStage, Result, Stage, TrainConfig};

/// Length of the steps that are timed: long enough for ordinary arithmetic, too short to lead anywhere.
const LEARNING_RATE: f64 = 1e-5;

/// Part of a training step's time that went to one kind of operation.
#[derive(Clone, Debug, Serialize)]
pub struct OperationTime {
    /// What it is; `other` is all that is not a fused operation.
    pub operation: &'static str,
    /// Milliseconds a step.
    pub ms: f64,
    /// Share of the step.
    pub share: f64,
}

/// Speed of one stage's training step.
#[derive(Clone, Debug, Serialize)]
pub struct StepSpeed {
    /// Steps in a second (the median step).
    pub steps_per_s: f64,
    /// Milliseconds of the median step.
    pub p50_ms: f64,
    /// Billions of floating-point operations in matrix products a second.
    pub gflops: f64,
    /// The same as a share of the peak.
    pub share_of_peak: f64,
    /// Where the time goes, most first.
    pub profile: Vec<OperationTime>,
}

/// What it takes to build a model of the same size elsewhere and to train it on batches of the same size.
#[derive(Clone, Debug, Serialize)]
pub struct ModelSize<C> {
    /// Its configuration.
    pub config: C,
    /// Numbers in its weights.
    pub parameters: usize,
    /// Clips in a training batch.
    pub batch: usize,
    /// Frames in a clip.
    pub clip_frames: usize,
}

/// The sizes of a world's three models.
#[derive(Clone, Debug, Serialize)]
pub struct ModelSizes {
    /// The tokenizer's.
    pub tokenizer: ModelSize<TokenizerConfig>,
    /// The latent action model's.
    pub latent_actions: ModelSize<LatentActionConfig>,
    /// The dynamics'.
    pub dynamics: ModelSize<DynamicsConfig>,
}

/// The sizes of the models that `config` trains.
///
/// # Errors
/// When a model cannot be built.
pub fn model_sizes(config: &TrainConfig) -> Result<ModelSizes> {
    macro_rules! size {
        ($stage:ident) => {
            ModelSize {
                config: config.$stage.model.clone(),
                parameters: $stage(config)?.1.count(),
                batch: config.$stage.batch,
                clip_frames: config.$stage.clip_frames,
            }
        };
    }
    Ok(ModelSizes {
        tokenizer: size!(tokenizer),
        latent_actions: size!(latent_actions),
        dynamics: size!(dynamics),
    })
}

/// Times `steps` training steps of a stage, on made-up clips of the sizes that `config` asks for; `peak` is in GFLOP/s.
///
/// # Errors
/// When a model cannot be built or run.
pub fn training_speed(
    stage: Stage,
    config: &TrainConfig,
    steps: usize,
    peak: f64,
) -> Result<StepSpeed> {
    nn::on_a_worker(|| speed(config, &mut loss_of(stage, config)?, steps, peak))
}

fn tokenizer(config: &TrainConfig) -> Result<(Tokenizer, Parameters)> {
    let parameters = Parameters::seeded(1, nn::device());
    let model = Tokenizer::new(&config.tokenizer.model, parameters.builder())?;
    Ok((model, parameters))
}

fn latent_actions(config: &TrainConfig) -> Result<(LatentActionModel, Parameters)> {
    let parameters = Parameters::seeded(1, nn::device());
    let model = LatentActionModel::new(&config.latent_actions.model, parameters.builder())?;
    Ok((model, parameters))
}

fn dynamics(config: &TrainConfig) -> Result<(Dynamics, Parameters)> {
    let (tokenizer, _) = tokenizer(config)?;
    let all = Tensor::arange(0u32, config.dynamics.model.vocabulary as u32, nn::device())?;
    let parameters = Parameters::seeded(1, nn::device());
    let model = Dynamics::new(
        &config.dynamics.model,
        &tokenizer.token_vectors(&all)?,
        parameters.builder(),
    )?;
    Ok((model, parameters))
}

/// A stage's loss on one batch of noise, and the weights that it depends on.
struct TrainingLoss {
    variables: BTreeMap<String, Var>,
    loss: Box<dyn FnMut() -> Result<Tensor>>,
}

fn loss_of(stage: Stage, config: &TrainConfig) -> Result<TrainingLoss> {
    Ok(match stage {
        Stage::Tokenizer => {
            let (model, parameters) = tokenizer(config)?;
            let stage = &config.tokenizer;
            let frames = noise(stage.batch, stage.clip_frames, stage.model.frame)?;
            TrainingLoss {
                variables: parameters.variables(),
                loss: Box::new(move || Ok(model.loss(&frames)?.0)),
            }
        }
        Stage::LatentActions => {
            let (model, parameters) = latent_actions(config)?;
            let stage = &config.latent_actions;
            let frames = noise(stage.batch, stage.clip_frames, stage.model.frame)?;
            let mut random = generator(1, 0);
            TrainingLoss {
                variables: parameters.variables(),
                loss: Box::new(move || Ok(model.loss(&frames, &mut random)?.loss)),
            }
        }
        Stage::Dynamics => {
            let (model, parameters) = dynamics(config)?;
            let stage = &config.dynamics;
            let batch = mask(noise_clips(stage)?, stage, &mut generator(1, 0))?;
            let prior_weight = stage.prior_weight;
            TrainingLoss {
                variables: parameters.variables(),
                loss: Box::new(move || {
                    let (tokens, prior) = losses(&model, &batch)?;
                    Ok((tokens + (prior * prior_weight)?)?)
                }),
            }
        }
    })
}

/// Frames `[B, T, H, W, 3]` of noise.
fn noise(batch: usize, count: usize, size: FrameSize) -> Result<Tensor> {
    let shape = (batch, count, size.height, size.width, 3);
    let mut random = generator(1, 2);
    let values: Vec<f32> = (0..batch * count * size.bytes())
        .map(|_| random.random())
        .collect();
    Ok(Tensor::from_vec(values, shape, nn::device())?)
}

/// Clips of tokens, codes and forecasts drawn at random.
fn noise_clips(stage: &DynamicsStage) -> Result<PreparedClips> {
    let model = &stage.model;
    let (batch, changes, tokens) = (stage.batch, stage.clip_frames - 1, model.tokens_per_frame());
    let mut random = generator(1, 1);
    let mut draw = |count: usize, below: usize| -> Vec<u32> {
        (0..count)
            .map(|_| random.random_range(0..below as u32))
            .collect()
    };
    let latents = (batch, changes, tokens, model.latent_width);
    Ok(PreparedClips {
        tokens: draw(batch * stage.clip_frames * tokens, model.vocabulary),
        codes: draw(batch * changes, model.codes)
            .chunks_exact(changes)
            .filter_map(|codes| {
                Transitions::new(
                    codes.iter().map(|&code| ActionCode(code as u16)).collect(),
                    stage.clip_frames,
                )
            })
            .collect(),
        forecast: noise(batch, changes, model.frame)?,
        latents: Tensor::zeros(latents, DType::F32, nn::device())?,
    })
}

/// Times whole steps: loss, gradients, update. One step that is not counted goes first.
fn speed(
    config: &TrainConfig,
    TrainingLoss { variables, loss }: &mut TrainingLoss,
    steps: usize,
    peak: f64,
) -> Result<StepSpeed> {
    let settings = &config.optimizer;
    let mut optimizer = Optimizer::new(variables.clone(), settings.adamw, settings.muon)?;
    // The optimizer's own products bring no model further.
    let (counted, operations) = count::product_operations(|| -> Result<()> {
        gradients(&loss()?, variables)?;
        Ok(())
    });
    counted?;
    let mut step = || -> Result<()> {
        let gradients = gradients(&loss()?, variables)?;
        optimizer.step(&gradients, LEARNING_RATE, settings.gradient_clip)?;
        Ok(())
    };
    step()?;
    let mut seconds = Vec::new();
    let (timed, operation_times) = profiled(|| -> Result<()> {
        for _ in 0..steps.max(1) {
            let start = Instant::now();
            step()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        Ok(())
    });
    timed?;
    let profile = shares(&operation_times, &seconds);
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let gflops = operations as f64 / median / 1e9;
    Ok(StepSpeed {
        steps_per_s: 1.0 / median,
        p50_ms: 1000.0 * median,
        gflops,
        share_of_peak: gflops / peak,
        profile,
    })
}

/// Times of all steps by kind of operation, as parts of one step.
fn shares(times: &BTreeMap<&'static str, Timed>, seconds: &[f64]) -> Vec<OperationTime> {
    let total: f64 = seconds.iter().sum();
    let known: f64 = times.values().map(|timed| timed.time.as_secs_f64()).sum();
    let part = |operation, seconds_of: f64| OperationTime {
        operation,
        ms: 1000.0 * seconds_of / seconds.len() as f64,
        share: seconds_of / total,
    };
    let times = times
        .iter()
        .map(|(operation, timed)| part(*operation, timed.time.as_secs_f64()));
    let mut parts: Vec<_> = times
        .chain([part("other", (total - known).max(0.0))])
        .collect();
    parts.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    parts
}

#[cfg(test)]
mod tests;
