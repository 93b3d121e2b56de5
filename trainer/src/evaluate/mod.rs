//! What a world is worth on held-out video: every figure of `djinn eval`.

mod drift;
mod figures;
mod frechet;
mod prior;
pub(crate) mod rollouts;

pub use figures::{
    Evaluation, LatentActionFigures, PriorFigures, RolloutFigures, RolloutTable, TokenizerFigures,
};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use worlds::World;

use crate::clips::{Clip, ClipSampler};
use crate::dataset::{Dataset, Split};
use crate::measure::{LATENT_ACTION_CLIP, latent_action_quality, mean, median, tokenizer_quality};
use crate::observer::{TrainEvent, TrainObserver};
use crate::{Error, Result};
use rollouts::{Continuation, Followed, check_size, follow};

/// Frames after the prompt at which rollouts are compared with what really followed.
const AHEAD: [u32; 4] = [1, 4, 8, 16];
/// Clips that run at a time, between reports of progress.
const ROUND: usize = 8;

/// How thoroughly a world is evaluated. The defaults take some minutes on two cores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateOptions {
    /// Frames that the tokenizer is measured on.
    pub frames: usize,
    /// Clips that the latent action model is measured on.
    pub changes: usize,
    /// Clips that rollouts and the action prior are measured on.
    pub clips: usize,
    /// Frames that start a rollout.
    pub prompt: usize,
    /// Long rollouts for the drift; 0 leaves drift out.
    pub drift_rollouts: usize,
    /// Frames of each.
    pub drift_frames: usize,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        Self {
            frames: 512,
            changes: 256,
            clips: 64,
            prompt: 4,
            drift_rollouts: 6,
            drift_frames: 1000,
        }
    }
}

/// A training budget whose end leaves time for an evaluation of full size.
const FULL_EVALUATION_BUDGET: Duration = Duration::from_secs(60 * 60);

impl EvaluateOptions {
    /// As much of this as suits the end of a training run of that length: a run of minutes is not to be followed by an evaluation that
    /// takes longer than it did.
    pub fn within(self, budget: Duration) -> Self {
        let share = (budget.as_secs_f64() / FULL_EVALUATION_BUDGET.as_secs_f64()).min(1.0);
        let part =
            |whole: usize, least: usize| ((whole as f64 * share) as usize).max(least).min(whole);
        Self {
            frames: part(self.frames, 64),
            changes: part(self.changes, 32),
            clips: part(self.clips, 4),
            drift_rollouts: part(self.drift_rollouts, 1),
            drift_frames: part(self.drift_frames, 60),
            ..self
        }
    }
}

/// Measures a world on a dataset's held-out video (on its training video where nothing is held out; `held_out` of the
/// result says which).
///
/// # Errors
/// When the frames' sizes differ, there is too little video, the world fails, or `cancel` became true.
pub fn evaluate(
    world: &Arc<World>,
    dataset: &Dataset,
    options: &EvaluateOptions,
    observer: &mut dyn TrainObserver,
    cancel: &AtomicBool,
) -> Result<Evaluation> {
    check_size(world, dataset.frame_size())?;
    if options.prompt == 0 || options.clips == 0 || options.frames == 0 || options.changes == 0 {
        return Err(Error::config(
            "an evaluation needs at least one frame, change, clip and prompt frame",
        ));
    }
    let mut judge = Judge {
        world,
        dataset,
        options,
        observer,
        cancel,
    };
    let tokenizer = judge.tokenizer()?;
    let latent_actions = judge.latent_actions()?;
    let (clips, ahead) = judge.clips()?;
    let prior = judge.prior(&clips)?;
    let rollout = judge.rollouts(&clips, ahead)?;
    let (drift, sharpness) = judge.drift()?;
    Ok(Evaluation {
        world: world.manifest.name.clone(),
        hash: world.hash.clone(),
        held_out: !dataset.episodes(Split::Validation).is_empty(),
        clips: clips.len(),
        tokenizer,
        latent_actions,
        prior,
        rollout: rollout.median,
        rollout_mean: rollout.mean,
        rollout_ssim: rollout.ssim,
        drift,
        sharpness,
    })
}

struct Judge<'a> {
    world: &'a Arc<World>,
    dataset: &'a Dataset,
    options: &'a EvaluateOptions,
    observer: &'a mut dyn TrainObserver,
    cancel: &'a AtomicBool,
}

struct Rollouts {
    median: RolloutFigures,
    mean: RolloutTable,
    ssim: RolloutTable,
}

impl Judge<'_> {
    fn report(&mut self, what: &'static str, done: usize, total: usize) -> Result<()> {
        self.observer.observe(&TrainEvent::Work {
            what,
            done: done as u64,
            total: total as u64,
        });
        match self.cancel.load(Ordering::Relaxed) {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }

    fn tokenizer(&mut self) -> Result<TokenizerFigures> {
        self.report("evaluation: tokenizer", 0, 1)?;
        let length = match self.world.manifest.tokenizer.temporal_window {
            Some(_) => self.options.prompt.max(2),
            None => 1,
        };
        let sampler = ClipSampler::held_out(self.dataset, length)?;
        let clips = sampler.fixed(self.options.frames.div_ceil(length));
        let quality = tokenizer_quality(&self.world.tokenizer, self.dataset, &clips)?;
        Ok(TokenizerFigures {
            psnr: quality.psnr,
            ssim: quality.ssim,
            codes_used: quality.codes_used,
            vocabulary: self.world.manifest.tokenizer.vocabulary(),
        })
    }

    fn latent_actions(&mut self) -> Result<LatentActionFigures> {
        self.report("evaluation: latent actions", 0, 1)?;
        let sampler = ClipSampler::held_out(self.dataset, LATENT_ACTION_CLIP)
            .or_else(|_| ClipSampler::held_out(self.dataset, 3))?;
        let clips = sampler.fixed(self.options.changes);
        let model = &self.world.latent_actions;
        let predictions = self.options.changes * 2;
        let quality = latent_action_quality(model, self.dataset, &clips, predictions)?;
        let known = quality.agreement.filter(|agreement| agreement.changes > 0);
        Ok(LatentActionFigures {
            psnr: quality.psnr,
            psnr_random: quality.psnr_random,
            gap: quality.gap(),
            psnr_continuous: quality.psnr_continuous,
            psnr_copy: quality.psnr_copy,
            gap4: quality.gap4,
            nmi: known.map(|agreement| agreement.nmi),
            nmi_by_chance: known.map(|agreement| agreement.chance),
            nmi_changes: quality.agreement.map(|agreement| agreement.changes),
            codes_used: quality.codes_used(),
            codes: self.world.manifest.codes(),
            usage: quality.usage,
        })
    }

    /// Clips as long as rollouts need them, and the frames ahead at which these can be compared.
    fn clips(&self) -> Result<(Vec<Clip>, Vec<u32>)> {
        let mut refusal = None;
        for count in (1..=AHEAD.len()).rev() {
            let ahead = &AHEAD[..count];
            let longest = ahead.last().copied().unwrap_or(1) as usize;
            match ClipSampler::held_out(self.dataset, self.options.prompt + longest) {
                Ok(sampler) => return Ok((sampler.fixed(self.options.clips), ahead.to_vec())),
                Err(error) => refusal = Some(error),
            }
        }
        Err(refusal.unwrap_or(Error::Cancelled))
    }

    fn prior(&mut self, clips: &[Clip]) -> Result<PriorFigures> {
        self.report("evaluation: action prior", 0, 1)?;
        prior::judge(self.world, self.dataset, clips)
    }

    fn rollouts(&mut self, clips: &[Clip], ahead: Vec<u32>) -> Result<Rollouts> {
        let total = clips.len() * Continuation::ALL.len();
        let mut tables = Vec::new();
        for (kind, continuation) in Continuation::ALL.into_iter().enumerate() {
            let mut followed = Vec::new();
            for part in clips.chunks(ROUND) {
                self.report(
                    "evaluation: rollouts",
                    kind * clips.len() + followed.len(),
                    total,
                )?;
                let prompt = self.options.prompt;
                followed.extend(follow(
                    self.world,
                    self.dataset,
                    part,
                    prompt,
                    continuation,
                )?);
            }
            let over = |summary: fn(&[f64]) -> f64, figure: fn(&Followed) -> &[f64]| {
                let at = |&frame: &u32| {
                    let at = |clip: &Followed| figure(clip)[frame as usize - 1];
                    let values: Vec<f64> = followed.iter().map(at).collect();
                    (frame, summary(&values))
                };
                ahead.iter().map(at).collect::<BTreeMap<u32, f64>>()
            };
            tables.push([
                over(median, |clip| &clip.psnr),
                over(mean, |clip| &clip.psnr),
                over(median, |clip| &clip.ssim),
            ]);
        }
        self.report("evaluation: rollouts", total, total)?;
        let table = |which: usize| RolloutTable {
            inferred: tables[0][which].clone(),
            random: tables[1][which].clone(),
            copy: tables[2][which].clone(),
            forecast: tables[3][which].clone(),
        };
        let RolloutTable {
            inferred,
            random,
            copy,
            forecast,
        } = table(0);
        let gap4 = inferred.get(&4).zip(random.get(&4)).map(|(a, b)| a - b);
        Ok(Rollouts {
            median: RolloutFigures {
                inferred,
                random,
                copy,
                forecast,
                gap4,
            },
            mean: table(1),
            ssim: table(2),
        })
    }

    fn drift(&mut self) -> Result<(BTreeMap<u32, f64>, BTreeMap<u32, f64>)> {
        let EvaluateOptions {
            drift_rollouts,
            drift_frames,
            prompt,
            ..
        } = *self.options;
        if drift_rollouts == 0 {
            return Ok((BTreeMap::new(), BTreeMap::new()));
        }
        let drift = drift::drift(
            self.world,
            self.dataset,
            (drift_rollouts, drift_frames, prompt),
            self.observer,
            self.cancel,
        )?;
        Ok((drift.distance, drift.sharpness))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_runs_are_evaluated_briefly_and_long_ones_in_full() {
        let usual = EvaluateOptions::default();
        assert_eq!(usual.clone().within(Duration::from_secs(7200)), usual);
        let brief = usual.clone().within(Duration::from_secs(40));
        assert_eq!(
            (brief.clips, brief.drift_rollouts, brief.drift_frames),
            (4, 1, 60)
        );
        let asked = EvaluateOptions {
            clips: 2,
            drift_rollouts: 0,
            ..usual
        };
        let brief = asked.within(Duration::from_secs(40));
        assert_eq!((brief.clips, brief.drift_rollouts), (2, 0));
    }
}
