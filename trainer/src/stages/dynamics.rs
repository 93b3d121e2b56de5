//! The dynamics' stage: masked tokens beside a clean past, with the forecast, and the action prior.

use candle_core::Tensor;
use dynamics::{Dynamics, Forecast, TrainingClip};
use nn::quality::entropy_of_counts;
use nn::{Parameters, ops};
use rand::Rng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use crate::config::DynamicsStage;
use crate::observer::Figures;
use crate::prepared::{PreparedClips, PreparedSampler, PreparedSet};
use crate::session::part_of;
use crate::task::{Evaluated, Loss, Standing, Task};
use crate::{Result, Stage};

/// Batches of held-out clips that evaluations while training look at.
const EVALUATION_BATCHES: usize = 12;

/// What playing a world showed.
pub(crate) struct Played {
    pub figures: Figures,
    /// The figures in one line of text.
    pub text: String,
    /// What looks wrong, in plain words.
    pub warnings: Vec<String>,
    /// Pictures for the report, as HTML.
    pub pictures: String,
}

/// Plays the world that a stage's present weights make.
pub(crate) type PlayTest<'a> = Box<dyn Fn(&Parameters) -> Result<Played> + Sync + 'a>;

pub(crate) struct DynamicsTask<'a> {
    config: &'a DynamicsStage,
    /// The quantizer's vectors `[V, L]`.
    token_vectors: Tensor,
    sampler: PreparedSampler<'a>,
    held_out: Vec<DynamicsBatch>,
    entropy_of_frequencies: f64,
    play_test: PlayTest<'a>,
}

/// A batch ready to train on.
pub(crate) struct DynamicsBatch {
    clip: TrainingClip,
    /// Of the frames after each change, u32 `[B, C, N]`, and 1 where a token was masked and counts.
    targets: Tensor,
    weights: Tensor,
}

impl<'a> DynamicsTask<'a> {
    /// `thoroughness` is the share of the usual held-out batches that evaluations look at.
    pub fn new(
        config: &'a DynamicsStage,
        token_vectors: Tensor,
        (train, held_out): (&'a PreparedSet, &'a PreparedSet),
        thoroughness: f64,
        play_test: PlayTest<'a>,
    ) -> Result<Self> {
        let sampler = train.sampler(config.clip_frames)?;
        // Only where nothing was held out is the stage judged by what it learns from.
        let judged = match held_out.frames() {
            0 => train.sampler(config.clip_frames)?,
            _ => held_out.sampler(config.clip_frames)?,
        };
        let mut random = nn::generator(0x5eed_0f0e, 1 << 32);
        let clean = DynamicsStage {
            corruption: 0.0,
            ..config.clone()
        };
        let held_out = judged
            .fixed(part_of(EVALUATION_BATCHES, thoroughness, 2), config.batch)?
            .into_iter()
            .map(|clips| mask(clips, &clean, &mut random))
            .collect::<Result<_>>()?;
        Ok(Self {
            sampler,
            held_out,
            entropy_of_frequencies: entropy_of_counts(&train.code_counts()),
            token_vectors,
            play_test,
            config,
        })
    }
}

/// Cross-entropy of masked tokens and of the next code.
pub(crate) fn losses(model: &Dynamics, batch: &DynamicsBatch) -> Result<(Tensor, Tensor)> {
    let pass = model.training_pass(&batch.clip)?;
    let tokens = ops::cross_entropy(&pass.logits, &batch.targets, &batch.weights)?;
    let even = Tensor::ones(
        batch.clip.actions.elem_count(),
        candle_core::DType::F32,
        nn::device(),
    )?;
    let prior = ops::cross_entropy(&pass.prior_logits, &batch.clip.actions, &even)?;
    Ok((tokens, prior))
}

/// Masks the frames of clips and corrupts their past, as training wants them.
pub(crate) fn mask(
    clips: PreparedClips,
    config: &DynamicsStage,
    random: &mut ChaCha8Rng,
) -> Result<DynamicsBatch> {
    let model = &config.model;
    let (changes, count) = (config.clip_frames - 1, model.tokens_per_frame());
    let length = changes * count;
    let of_clips = clips.tokens.chunks_exact(length + count);
    let batch = of_clips.len();
    let mut clean: Vec<u32> = of_clips
        .clone()
        .flat_map(|clip| &clip[..length])
        .copied()
        .collect();
    let targets: Vec<u32> = of_clips.flat_map(|clip| &clip[count..]).copied().collect();
    let mut masked = targets.clone();
    let mut weights = vec![0f32; targets.len()];
    for clip in 0..batch {
        let rate = config.corruption * random.random::<f64>();
        for token in &mut clean[clip * length..][..length] {
            if random.random::<f64>() < rate {
                *token = random.random_range(0..model.vocabulary as u32);
            }
        }
        for change in 0..changes {
            let start = (clip * changes + change) * count;
            let full = random.random::<f64>() < config.full_mask_fraction;
            let share = match full {
                true => 1.0,
                false => (std::f64::consts::FRAC_PI_2 * random.random::<f64>()).cos(),
            };
            let hidden = ((share * count as f64).ceil() as usize).clamp(1, count);
            for position in index::sample(random, count, hidden) {
                masked[start + position] = model.mask_token();
                weights[start + position] = 1.0;
            }
        }
    }
    let shape = (batch, changes, count);
    let tensor = |values: Vec<u32>| Tensor::from_vec(values, shape, nn::device());
    let codes: Vec<u32> = clips
        .codes
        .iter()
        .flat_map(|codes| codes.as_slice().iter().map(|code| u32::from(code.0)))
        .collect();
    let forecast = model.forecast.then_some(Forecast {
        pixels: clips.forecast,
        latents: clips.latents,
    });
    Ok(DynamicsBatch {
        clip: TrainingClip {
            clean: tensor(clean)?,
            masked: tensor(masked)?,
            actions: Tensor::from_vec(codes, (batch, changes), nn::device())?,
            forecast,
        },
        targets: tensor(targets)?,
        weights: Tensor::from_vec(weights, shape, nn::device())?,
    })
}

impl Task for DynamicsTask<'_> {
    const STAGE: Stage = Stage::Dynamics;
    const FIGURE: &'static str = "cross-entropy";
    type Model = Dynamics;
    type Batch = DynamicsBatch;

    fn learns_on(&self) -> bool {
        true
    }

    fn held_out_loss(&self, figures: &Figures) -> Option<f64> {
        figures.get("cross_entropy").copied()
    }

    fn build(&self, parameters: &Parameters) -> Result<Dynamics> {
        Ok(Dynamics::new(
            &self.config.model,
            &self.token_vectors,
            parameters.builder(),
        )?)
    }

    fn batch(&self, random: &mut ChaCha8Rng) -> Result<DynamicsBatch> {
        let clips = self.sampler.batch(self.config.batch, random)?;
        mask(clips, self.config, random)
    }

    fn loss(
        &self,
        model: &Dynamics,
        _phase: usize,
        batch: &DynamicsBatch,
        _random: &mut ChaCha8Rng,
    ) -> Result<Loss> {
        let (tokens, prior) = losses(model, batch)?;
        let figure = f64::from(tokens.to_scalar::<f32>()?);
        let prior_figure = f64::from(prior.to_scalar::<f32>()?);
        Ok(Loss {
            total: (tokens + (prior * self.config.prior_weight)?)?,
            figure,
            parts: vec![
                ("cross_entropy", figure),
                ("prior_cross_entropy", prior_figure),
            ],
        })
    }

    fn evaluate(
        &self,
        model: &Dynamics,
        parameters: &Parameters,
        _standing: &Standing,
    ) -> Result<Evaluated> {
        let (mut tokens, mut prior) = (0.0, 0.0);
        for batch in &self.held_out {
            let losses = losses(model, batch)?;
            tokens += f64::from(losses.0.to_scalar::<f32>()?) / self.held_out.len() as f64;
            prior += f64::from(losses.1.to_scalar::<f32>()?) / self.held_out.len() as f64;
        }
        let entropy = self.entropy_of_frequencies;
        let Played {
            mut figures,
            text: played,
            warnings,
            pictures,
        } = (self.play_test)(parameters)?;
        figures.insert("cross_entropy".to_owned(), tokens);
        figures.insert("prior_cross_entropy".to_owned(), prior);
        figures.insert("entropy_of_frequencies".to_owned(), entropy);
        Ok(Evaluated {
            figures,
            text: format!(
                "held-out cross-entropy {tokens:.3} of tokens, {prior:.3} of the next action (its frequencies alone {entropy:.3}); {played}"
            ),
            warnings,
            pictures: Some(pictures),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::dynamics::DynamicsConfig;
    use candle_core::Device;
    use nn::{ActionCode, Transitions};

    const FRAMES: usize = 5;
    const TOKENS: usize = 4;
    const CLIPS: usize = 200;

    fn config(corruption: f64, full_mask_fraction: f64) -> DynamicsStage {
        let frame = nn::FrameSize {
            height: 16,
            width: 16,
        };
        DynamicsStage {
            model: DynamicsConfig {
                frame,
                vocabulary: 1000,
                ..DynamicsConfig::default()
            },
            clip_frames: FRAMES,
            corruption,
            full_mask_fraction,
            ..DynamicsStage::default()
        }
    }

    /// The tokens before and after each change; the clean ones, the masked ones and the targets that become of them, and their weights.
    fn masked(config: &DynamicsStage) -> ([Vec<u32>; 2], [Vec<u32>; 3], Vec<f32>) {
        let tokens: Vec<u32> = (0..CLIPS * FRAMES * TOKENS)
            .map(|i| i as u32 % 1000)
            .collect();
        let zeros =
            |dims: &[usize]| Tensor::zeros(dims, candle_core::DType::F32, &Device::Cpu).unwrap();
        let clips = PreparedClips {
            tokens: tokens.clone(),
            codes: vec![Transitions::of_frames(FRAMES, |_| ActionCode(1)); CLIPS],
            forecast: zeros(&[CLIPS, FRAMES - 1, 16, 16, 3]),
            latents: zeros(&[CLIPS, FRAMES - 1, TOKENS, 4]),
        };
        let batch = mask(clips, config, &mut nn::generator(1, 0)).unwrap();
        let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<u32>().unwrap();
        assert_eq!(batch.clip.actions.dims(), [CLIPS, FRAMES - 1]);
        let of_clips = tokens.chunks(FRAMES * TOKENS);
        let before = of_clips
            .clone()
            .flat_map(|clip| &clip[..clip.len() - TOKENS]);
        let after = of_clips.flat_map(|clip| &clip[TOKENS..]);
        (
            [before.copied().collect(), after.copied().collect()],
            [
                flat(&batch.clip.clean),
                flat(&batch.clip.masked),
                flat(&batch.targets),
            ],
            batch.weights.flatten_all().unwrap().to_vec1().unwrap(),
        )
    }

    #[test]
    fn masked_tokens_count_and_all_others_are_shown_as_they_are() {
        let ([before, after], [clean, masked, targets], weights) = masked(&config(0.0, 0.15));
        assert_eq!((&clean, &targets), (&before, &after));
        for (index, &weight) in weights.iter().enumerate() {
            let hidden = masked[index] == 1000;
            assert_eq!(weight == 1.0, hidden);
            assert!(hidden || masked[index] == after[index]);
        }
        for (frame, weights) in weights.chunks(TOKENS).enumerate() {
            assert!(weights.contains(&1.0), "frame {frame}");
        }
    }

    #[test]
    fn frames_are_masked_completely_as_often_as_configured() {
        let all = |config: &DynamicsStage| masked(config).2.iter().sum::<f32>() as usize;
        let most = CLIPS * (FRAMES - 1) * TOKENS;
        assert_eq!(all(&config(0.0, 1.0)), most);
        let some = all(&config(0.0, 0.0)) as f64 / most as f64;
        // The mean of a cosine ratio is 2 / pi, rounded up to whole tokens.
        assert!((0.66..0.85).contains(&some), "{some}");
    }

    #[test]
    fn only_the_clean_past_is_corrupted_and_at_most_as_much_as_configured() {
        let ([before, after], [clean, masked, targets], _) = masked(&config(0.1, 0.15));
        assert_eq!(targets, after);
        assert!(masked.iter().zip(&after).all(|(m, t)| m == t || *m == 1000));
        let changed = clean.iter().zip(&before).filter(|(c, t)| c != t).count();
        let share = changed as f64 / before.len() as f64;
        assert!((0.03..0.07).contains(&share), "{share}");
    }
}
