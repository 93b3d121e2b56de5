//! The latent action model's stage: a continuous description first, then codes.

use candle_core::Tensor;
use latent_actions::{BottleneckConfig, LatentActionModel};
use nn::Parameters;
use nn::quality::psnr_of_error;
use rand_chacha::ChaCha8Rng;

use crate::clips::{Clip, ClipSampler};
use crate::config::LatentActionStage;
use crate::dataset::{Dataset, Split};
use crate::measure::{
    LATENT_ACTION_CLIP, LatentActionQuality, cluster, describe, latent_action_quality,
};
use crate::observer::Figures;
use crate::task::{Evaluated, Loss, Standing, Task, Verdict};
use crate::{Result, Stage};

/// Held-out clips that evaluations while training look at, and next frames of them that are predicted.
const EVALUATION_CLIPS: usize = 128;
const EVALUATION_PREDICTIONS: usize = 256;
/// Training clips whose descriptions are clustered into the codes.
const CLUSTERED_CLIPS: usize = 1536;
/// Share of the continuous phase that an attempt gets to break through in.
const PATIENCE: f64 = 0.4;
/// A code more frequent than this leaves too little to the others.
const LARGEST_SHARE: f64 = 0.9;

pub(crate) struct LatentActionTask<'a> {
    config: &'a LatentActionStage,
    dataset: &'a Dataset,
    sampler: ClipSampler<'a>,
    held_out: Vec<Clip>,
    clustered: Vec<Clip>,
    seed: u64,
    recipe: String,
}

impl<'a> LatentActionTask<'a> {
    pub fn new(config: &'a LatentActionStage, dataset: &'a Dataset, seed: u64) -> Result<Self> {
        let held_out = ClipSampler::held_out(dataset, LATENT_ACTION_CLIP)
            .or_else(|_| ClipSampler::held_out(dataset, 3))?;
        Ok(Self {
            sampler: ClipSampler::new(dataset, Split::Train, config.clip_frames)?,
            held_out: held_out.fixed(EVALUATION_CLIPS),
            clustered: ClipSampler::new(dataset, Split::Train, 3)?.fixed(CLUSTERED_CLIPS),
            recipe: format!(
                "seed {seed}, batch {} of {} x {} frames, {:?}, codes in the last {}, {} training frames",
                config.accumulate,
                config.batch,
                config.clip_frames,
                config.model,
                config.codes_fraction,
                dataset.frame_count(Split::Train)
            ),
            seed,
            config,
            dataset,
        })
    }

    /// What looks wrong once there ought to be something to see.
    fn warnings(&self, quality: &LatentActionQuality, phase: usize) -> Vec<String> {
        let mut warnings = Vec::new();
        let gap = match phase {
            0 => quality.gap_continuous(),
            _ => quality.gap(),
        };
        if phase > 0 && gap < self.config.breakthrough_gap {
            warnings.push(format!(
                "collapsed: the actions make no difference to the predicted frame (gap {gap:.2} dB). The world will not answer to the player; train this stage again with another seed, a lower learning rate or a longer budget"
            ));
        }
        let (used, codes) = (quality.codes_used(), self.config.model.codes);
        if phase > 0 && (used * 2 < codes || quality.largest_share() > LARGEST_SHARE) {
            warnings.push(format!(
                "codes are dying: {used} of {codes} are used, and the most frequent one {:.0}% of the time",
                100.0 * quality.largest_share()
            ));
        }
        warnings
    }
}

impl Task for LatentActionTask<'_> {
    const STAGE: Stage = Stage::LatentActions;
    const FIGURE: &'static str = "PSNR";
    type Model = LatentActionModel;
    /// Frames `[B, T, H, W, 3]`.
    type Batch = Tensor;

    fn recipe(&self) -> String {
        self.recipe.clone()
    }

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
        phase: usize,
    ) -> Result<Evaluated> {
        let quality =
            latent_action_quality(model, self.dataset, &self.held_out, EVALUATION_PREDICTIONS)?;
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
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let mut text = format!(
            "next held-out frame: PSNR {:.2} dB with inferred codes, {:.2} with random ones (gap {:.2}), {:.2} unchanged; before clustering {:.2}, shuffled {:.2} (gap {:.2}); {used} of {codes} codes used",
            quality.psnr,
            quality.psnr_random,
            quality.gap(),
            quality.psnr_copy,
            quality.psnr_continuous,
            quality.psnr_shuffled,
            quality.gap_continuous(),
        );
        if let Some(gap4) = quality.gap4 {
            figures.insert("gap4".to_owned(), gap4);
            text += &format!("; gap four frames on {gap4:.2} dB");
        }
        if let Some(nmi) = quality.nmi {
            figures.insert("nmi".to_owned(), nmi);
            text += &format!("; NMI with the true action {nmi:.3}");
        }
        Ok(Evaluated {
            figures,
            text,
            warnings: self.warnings(&quality, phase),
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

    fn judge(&self, figures: &Figures, standing: &Standing) -> Verdict {
        let gap = figures.get("gap_continuous").copied().unwrap_or(0.0);
        if standing.phase > 0 || gap >= self.config.breakthrough_gap {
            return Verdict::Continue;
        }
        let end = 1.0 - self.config.codes_fraction;
        let deadline = standing.attempt_progress + PATIENCE * (end - standing.attempt_progress);
        if standing.progress < deadline || standing.attempt + 1 >= self.config.attempts {
            return Verdict::Continue;
        }
        Verdict::Restart(format!(
            "no breakthrough: after {:.0}% of the stage the predictor still ignores the actions (gap {gap:.2} dB, {} wanted); starting anew with another seed and a lower learning rate, attempt {} of {}",
            100.0 * standing.progress,
            self.config.breakthrough_gap,
            standing.attempt + 2,
            self.config.attempts
        ))
    }
}
