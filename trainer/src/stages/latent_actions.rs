//! The latent action model's stage: a continuous description first, then codes.

use candle_core::Tensor;
use latent_actions::{BottleneckConfig, LatentActionModel};
use nn::Parameters;
use nn::quality::psnr_of_error;
use nn::quantizer::usage;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::clips::{Clip, ClipSampler};
use crate::config::LatentActionStage;
use crate::dataset::{Dataset, Split};
use crate::measure::{
    LATENT_ACTION_CLIP, LatentActionQuality, cluster, describe, latent_action_quality,
};
use crate::observer::Figures;
use crate::session::part_of;
use crate::task::{Evaluated, Loss, Standing, Task, Verdict};
use crate::{Result, Stage};

/// Held-out clips that evaluations while training look at, and next frames of them that are predicted.
const EVALUATION_CLIPS: usize = 128;
const EVALUATION_PREDICTIONS: usize = 256;
/// Frames of the shortest clip with a change that is described from the frame before it on and predicted.
pub(crate) const SHORTEST_CLIP: usize = 3;
/// Training clips whose descriptions are clustered into the codes.
const CLUSTERED_CLIPS: usize = 1536;
const FEWEST_CLUSTERED_CLIPS: usize = 128;
const CLUSTERED_CLIPS_PER_CODE: usize = 4;
/// Share of the continuous phase that an attempt gets to break through in.
const PATIENCE: f64 = 0.4;
/// Steps between revivals of dead codes, and batches that a code must be absent from to be dead.
const REVIVAL_STEPS: u64 = 100;
const REVIVAL_BATCHES: usize = 8;
/// What helps a model that has collapsed.
const ADVICE: &str = "Stop (Ctrl-C) and train this stage anew with another seed, a lower latent_actions.learning_rate, a longer budget or more video";
/// A code more frequent than this leaves too little to the others.
const LARGEST_SHARE: f64 = 0.9;

pub(crate) struct LatentActionTask<'a> {
    config: &'a LatentActionStage,
    dataset: &'a Dataset,
    sampler: ClipSampler<'a>,
    held_out: Vec<Clip>,
    predictions: usize,
    clustered: Vec<Clip>,
    seed: u64,
}

impl<'a> LatentActionTask<'a> {
    /// `thoroughness` is the share of the usual clips that evaluations and clustering look at.
    pub fn new(
        config: &'a LatentActionStage,
        dataset: &'a Dataset,
        seed: u64,
        thoroughness: f64,
    ) -> Result<Self> {
        let held_out = ClipSampler::held_out(dataset, LATENT_ACTION_CLIP)
            .or_else(|_| ClipSampler::held_out(dataset, SHORTEST_CLIP))?;
        let of_many_codes = CLUSTERED_CLIPS_PER_CODE * config.model.codes;
        Ok(Self {
            sampler: ClipSampler::new(dataset, Split::Train, config.clip_frames)?,
            held_out: held_out.fixed(part_of(EVALUATION_CLIPS, thoroughness, 16)),
            predictions: part_of(EVALUATION_PREDICTIONS, thoroughness, 32),
            clustered: ClipSampler::new(dataset, Split::Train, SHORTEST_CLIP)?.fixed(part_of(
                CLUSTERED_CLIPS.max(of_many_codes),
                thoroughness,
                FEWEST_CLUSTERED_CLIPS.max(of_many_codes),
            )),
            seed,
            config,
            dataset,
        })
    }

    fn quantized(&self) -> bool {
        self.config.model.bottleneck == BottleneckConfig::Vq
    }

    /// Share of the stage after which no attempt can start anew: from here on there are final codes.
    fn end_of_attempts(&self) -> f64 {
        match self.quantized() {
            true => 1.0,
            false => 1.0 - self.config.codes_fraction,
        }
    }

    /// What looks wrong once there ought to be something to see.
    fn warnings(&self, quality: &LatentActionQuality, standing: &Standing) -> Vec<String> {
        let settled = match self.quantized() {
            true => standing.progress >= 1.0,
            false => standing.phase > 0,
        };
        if !settled {
            return Vec::new();
        }
        let mut warnings = Vec::new();
        let (used, codes) = (quality.codes_used(), self.config.model.codes);
        let share = quality.largest_share();
        if share > LARGEST_SHARE {
            warnings.push(format!(
                "collapsed: {:.0}% of the changes get one and the same code, so that keys will make no difference, whatever the gap says. {ADVICE}",
                100.0 * share
            ));
        } else if quality.gap() < self.config.breakthrough_gap {
            warnings.push(format!(
                "collapsed: the actions make no difference to the predicted frame (gap {:.2} dB), and the world will not answer to the player. {ADVICE}",
                quality.gap()
            ));
        } else if used * 2 < codes {
            warnings.push(format!(
                "codes are dying: {used} of {codes} are used, and the most frequent one {:.0}% of the time",
                100.0 * share
            ));
        }
        warnings
    }

    /// Why the present attempt leads nowhere yet; `None` once it has broken through.
    fn stagnation(&self, figures: &Figures) -> Option<String> {
        let figure = |name: &str| figures.get(name).copied().unwrap_or(0.0);
        let gap = match self.quantized() {
            true => figure("gap"),
            false => figure("gap_continuous"),
        };
        let share = figure("largest_share");
        if self.quantized() && share > LARGEST_SHARE {
            return Some(format!(
                "{:.0}% of the changes get one and the same code",
                100.0 * share
            ));
        }
        let wanted = self.config.breakthrough_gap;
        (gap < wanted).then(|| {
            format!("the predictor still ignores the actions (gap {gap:.2} dB, {wanted} wanted)")
        })
    }
}

impl Task for LatentActionTask<'_> {
    const STAGE: Stage = Stage::LatentActions;
    const FIGURE: &'static str = "PSNR";
    type Model = LatentActionModel;
    /// Frames `[B, T, H, W, 3]`.
    type Batch = Tensor;

    fn build(&self, parameters: &Parameters) -> Result<LatentActionModel> {
        Ok(LatentActionModel::new(
            &self.config.model,
            parameters.builder(),
        )?)
    }

    fn batch(&self, random: &mut ChaCha8Rng) -> Result<Tensor> {
        self.sampler.batch(self.config.batch, random)
    }

    fn loss(
        &self,
        model: &LatentActionModel,
        phase: usize,
        batch: &Tensor,
        random: &mut ChaCha8Rng,
    ) -> Result<Loss> {
        let prediction = match phase {
            0 => model.loss(batch, random)?,
            _ => model.loss_of_codes(batch)?,
        };
        let changes = batch.dim(1)? - 2;
        let difference = (prediction.frames.detach() - batch.narrow(1, 2, changes)?)?;
        let error = difference.sqr()?.mean_all()?.to_scalar::<f32>()?;
        Ok(Loss {
            total: prediction.loss,
            figure: psnr_of_error(f64::from(error)),
            parts: vec![("mean_squared_error", f64::from(error))],
        })
    }

    fn evaluate(
        &self,
        model: &LatentActionModel,
        _parameters: &Parameters,
        standing: &Standing,
    ) -> Result<Evaluated> {
        let quality = latent_action_quality(model, self.dataset, &self.held_out, self.predictions)?;
        let (used, codes) = (quality.codes_used(), self.config.model.codes);
        let mut figures: Figures = [
            ("psnr", quality.psnr),
            ("psnr_random", quality.psnr_random),
            ("gap", quality.gap()),
            ("psnr_continuous", quality.psnr_continuous),
            ("psnr_shuffled", quality.psnr_shuffled),
            ("gap_continuous", quality.gap_continuous()),
            ("psnr_copy", quality.psnr_copy),
            ("codes_used", used as f64),
            ("largest_share", quality.largest_share()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let text = format!(
            "next held-out frame: PSNR {:.2} dB with inferred codes, {:.2} with random ones (gap {:.2}), {:.2} unchanged; before clustering {:.2}, shuffled {:.2} (gap {:.2}); {used} of {codes} codes used, the most frequent one {:.0}% of the time; gap four frames on {}",
            quality.psnr,
            quality.psnr_random,
            quality.gap(),
            quality.psnr_copy,
            quality.psnr_continuous,
            quality.psnr_shuffled,
            quality.gap_continuous(),
            100.0 * quality.largest_share(),
            quality.gap4_text(),
        );
        if let Some(gap4) = quality.gap4 {
            figures.insert("gap4".to_owned(), gap4);
        }
        let told = quality.agreement().map(|agreement| {
            if agreement.changes > 0 {
                figures.insert("nmi".to_owned(), agreement.nmi);
                figures.insert("nmi_by_chance".to_owned(), agreement.chance);
            }
            format!("; NMI with the true action: {}", agreement.to_text())
        });
        Ok(Evaluated {
            figures,
            text: text + &told.unwrap_or_default(),
            warnings: self.warnings(&quality, standing),
            pictures: None,
        })
    }

    fn phases(&self) -> Vec<f64> {
        match self.config.model.bottleneck {
            BottleneckConfig::Noisy { .. } => vec![1.0 - self.config.codes_fraction],
            BottleneckConfig::Vq => Vec::new(),
        }
    }

    fn enter_phase(&self, model: &LatentActionModel, _phase: usize) -> Result<()> {
        let descriptions = describe(model, self.dataset, &self.clustered)?
            .narrow(1, 1, 1)?
            .contiguous()?;
        Ok(model.set_codebook(&cluster(model, &descriptions, self.seed)?)?)
    }

    /// Dead codes of a quantized bottleneck come back to life where changes are; clustered codes need no such care.
    fn maintain(
        &self,
        model: &LatentActionModel,
        step: u64,
        random: &mut ChaCha8Rng,
    ) -> Result<()> {
        if !self.quantized() || step == 0 || !step.is_multiple_of(REVIVAL_STEPS) {
            return Ok(());
        }
        let mut descriptions = Vec::new();
        for _ in 0..REVIVAL_BATCHES {
            let described = model.describe(&self.batch(random)?)?.detach();
            descriptions.push(described.flatten(0, 1)?);
        }
        let descriptions = Tensor::cat(&descriptions, 0)?;
        let counts = usage(&model.nearest(&descriptions)?, self.config.model.codes)?;
        model.revive_dead_codes(&counts, &descriptions, random.random())?;
        Ok(())
    }

    fn judge(&self, figures: &Figures, standing: &Standing) -> Verdict {
        let end = self.end_of_attempts();
        let deadline = standing.attempt_progress + PATIENCE * (end - standing.attempt_progress);
        if standing.progress < deadline || standing.progress >= end {
            return Verdict::Continue;
        }
        let Some(stagnation) = self.stagnation(figures) else {
            return Verdict::Continue;
        };
        let used = 100.0 * standing.progress;
        if standing.attempt + 1 >= self.config.attempts {
            return Verdict::Warn(format!(
                "no breakthrough, and this is the last attempt: after {used:.0}% of the stage {stagnation}. It may still come; if not, the world will not answer to the player. {ADVICE}"
            ));
        }
        Verdict::Restart(format!(
            "no breakthrough: after {used:.0}% of the stage {stagnation}; starting anew with another seed and a lower learning rate, attempt {} of {}",
            standing.attempt + 2,
            self.config.attempts
        ))
    }
}

#[cfg(test)]
mod tests;
