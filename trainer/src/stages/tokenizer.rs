//! The tokenizer's stage.

use nn::Parameters;
use nn::quality::psnr_of_error;
use nn::quantizer::{QuantizerConfig, usage};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tokenizer::Tokenizer;

use crate::clips::{Clip, ClipSampler};
use crate::config::TokenizerStage;
use crate::dataset::{Dataset, Split};
use crate::measure::{TokenizerQuality, tokenizer_quality};
use crate::session::part_of;
use crate::task::{Evaluated, Loss, Standing, Task};
use crate::{Result, Stage, report};

use super::critic::Critic;

/// Held-out frames that evaluations while training look at.
const EVALUATION_FRAMES: usize = 256;
const FEWEST_EVALUATION_FRAMES: usize = 32;
/// Steps between revivals of dead codes, and batches that a code must be absent from to be dead.
const REVIVAL_STEPS: u64 = 200;
const REVIVAL_BATCHES: usize = 8;

pub(crate) struct TokenizerTask<'a> {
    config: &'a TokenizerStage,
    dataset: &'a Dataset,
    sampler: ClipSampler<'a>,
    held_out: Vec<Clip>,
}

impl<'a> TokenizerTask<'a> {
    /// `thoroughness` is the share of the usual held-out frames that evaluations look at.
    pub fn new(
        config: &'a TokenizerStage,
        dataset: &'a Dataset,
        thoroughness: f64,
    ) -> Result<Self> {
        let frames = part_of(EVALUATION_FRAMES, thoroughness, FEWEST_EVALUATION_FRAMES);
        let clips = ClipSampler::held_out(dataset, config.clip_frames)?
            .fixed((frames / config.clip_frames).max(1));
        Ok(Self {
            sampler: ClipSampler::new(dataset, Split::Train, config.clip_frames)?,
            held_out: clips,
            config,
            dataset,
        })
    }
}

/// What the stage trains.
pub(crate) struct TokenizerModel {
    pub tokenizer: Tokenizer,
    critic: Option<Critic>,
}

impl Task for TokenizerTask<'_> {
    const STAGE: Stage = Stage::Tokenizer;
    const FIGURE: &'static str = "PSNR";
    type Model = TokenizerModel;
    /// Frames `[B, T, H, W, 3]`.
    type Batch = candle_core::Tensor;

    fn build(&self, parameters: &Parameters) -> Result<TokenizerModel> {
        Ok(TokenizerModel {
            tokenizer: Tokenizer::new(&self.config.model, parameters.builder())?,
            critic: match self.config.adversarial {
                Some(_) => Some(Critic::new(parameters.builder())?),
                None => None,
            },
        })
    }

    /// The critic comes in once there is something to judge.
    fn phases(&self) -> Vec<f64> {
        let adversarial = self.config.adversarial.iter();
        adversarial.map(|adversarial| adversarial.begins).collect()
    }

    fn batch(&self, random: &mut ChaCha8Rng) -> Result<Self::Batch> {
        self.sampler.batch(self.config.batch, random)
    }

    fn loss(
        &self,
        model: &TokenizerModel,
        phase: usize,
        batch: &Self::Batch,
        _random: &mut ChaCha8Rng,
    ) -> Result<Loss> {
        let (mut total, reconstruction) = model.tokenizer.loss(batch)?;
        if let (Some(critic), Some(config), 1..) = (&model.critic, self.config.adversarial, phase) {
            total = (total + critic.terms(&reconstruction.frames, batch, config.share)?)?;
        }
        let difference = (reconstruction.frames.detach() - batch)?;
        let error = difference.sqr()?.mean_all()?.to_scalar::<f32>()?;
        Ok(Loss {
            total,
            figure: psnr_of_error(f64::from(error)),
            parts: vec![("mean_squared_error", f64::from(error))],
        })
    }

    fn evaluate(
        &self,
        model: &TokenizerModel,
        _parameters: &Parameters,
        _standing: &Standing,
    ) -> Result<Evaluated> {
        let TokenizerQuality {
            psnr,
            ssim,
            codes_used,
            edges,
            edge_error,
        } = tokenizer_quality(&model.tokenizer, self.dataset, &self.held_out)?;
        let vocabulary = self.config.model.vocabulary();
        let figures = [
            ("psnr".to_owned(), psnr),
            ("ssim".to_owned(), ssim),
            ("codes_used".to_owned(), codes_used as f64),
            ("edges".to_owned(), edges),
            ("edge_error".to_owned(), edge_error),
        ];
        let mut warnings = Vec::new();
        if codes_used * 50 < vocabulary {
            warnings.push(format!(
                "only {codes_used} of {vocabulary} codes are in use; the pictures will lack detail"
            ));
        }
        Ok(Evaluated {
            figures: figures.into(),
            text: format!(
                "held-out PSNR {psnr:.2} dB, SSIM {ssim:.3}, edges {edges:.2} with an error of {edge_error:.2}, {codes_used} of {vocabulary} codes used"
            ),
            warnings,
            pictures: Some(report::reconstructions(&model.tokenizer, self.dataset)?),
        })
    }

    fn maintain(&self, model: &TokenizerModel, step: u64, random: &mut ChaCha8Rng) -> Result<()> {
        let learned = matches!(self.config.model.quantizer, QuantizerConfig::Vq { .. });
        if !learned || step == 0 || !step.is_multiple_of(REVIVAL_STEPS) {
            return Ok(());
        }
        let mut counts = vec![0; self.config.model.vocabulary()];
        let mut latents = None;
        for _ in 0..REVIVAL_BATCHES {
            let reconstruction = model.tokenizer.forward(&self.batch(random)?)?;
            let used = usage(&reconstruction.tokens, counts.len())?;
            counts
                .iter_mut()
                .zip(used)
                .for_each(|(sum, count)| *sum += count);
            latents = Some(reconstruction.latents.detach());
        }
        if let Some(latents) = latents {
            let tokenizer = &model.tokenizer;
            tokenizer.revive_dead_codes(&counts, &latents, random.random())?;
        }
        Ok(())
    }
}
