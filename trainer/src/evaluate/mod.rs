//! What a world is worth on held-out video: every figure of `djinn eval`.

mod drift;
mod figures;
mod frechet;
mod prior;
pub(crate) mod rollouts;
pub(crate) mod stored;
mod true_actions;
mod wishes;

pub use figures::{
    DriftMeasure, Evaluation, LatentActionFigures, PriorFigures, RolloutFigures, RolloutTable,
    TokenizerFigures, TrueActionsOfCode,
};
pub use wishes::{KeyFigures, Share, WishFigures};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use worlds::World;

use crate::clips::{Clip, ClipSampler, longest_episode, measured_split};
use crate::dataset::{Dataset, Split};
use crate::measure::{LATENT_ACTION_CLIP, latent_action_quality, mean, median, tokenizer_quality};
use crate::observer::{TrainEvent, TrainObserver};
use crate::{Error, Result};
use drift::Drift;
use rollouts::{Continuation, Followed, check_size, codes_in_use, follow};
use true_actions::CodesOfActions;

/// Frames after the prompt at which rollouts are compared with what really followed.
const AHEAD: [u32; 4] = [1, 4, 8, 16];
/// Clips that run at a time, between reports of progress.
const ROUND: usize = 8;
/// Clips that the action prior is judged on for each one that rollouts are measured on: it costs far less there.
const PRIOR_CLIPS: usize = 4;
/// Largest relative difference of frame rates that is no difference.
pub(crate) const SAME_RATE: f64 = 0.01;

/// Most of anything that a world is measured on: more is a slip of the pen, and would not fit into memory.
const MOST: usize = 1_000_000;

/// How thoroughly a world is evaluated. The defaults take some minutes on two cores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateOptions {
    /// Frames that the tokenizer is measured on.
    pub frames: usize,
    /// Clips that the latent action model is measured on.
    pub changes: usize,
    /// Clips that rollouts are measured on; the action prior, which costs less, is judged on four times as many.
    pub clips: usize,
    /// Frames that start a rollout.
    pub prompt: usize,
    /// Starts from which every bound key is held; 0 leaves wishes out.
    pub wish_starts: usize,
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
            wish_starts: 20,
            drift_rollouts: 6,
            drift_frames: 1000,
        }
    }
}

/// A training budget whose end leaves time for an evaluation of full size.
const FULL_EVALUATION_BUDGET: Duration = Duration::from_secs(60 * 60);

impl EvaluateOptions {
    /// Names the first field that no world can be measured with.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        for (field, value, least) in [
            ("frames", self.frames, 1),
            ("changes", self.changes, 1),
            ("clips", self.clips, 1),
            ("prompt", self.prompt, 1),
            ("wish_starts", self.wish_starts, 0),
            ("drift_rollouts", self.drift_rollouts, 0),
            ("drift_frames", self.drift_frames, 0),
        ] {
            if !(least..=MOST).contains(&value) {
                return Err(format!("{field} = {value}: must lie in {least}..={MOST}"));
            }
        }
        Ok(())
    }

    /// As much of this as suits the end of a training run of that length: a run of minutes is not to be followed by an evaluation that
    /// takes longer than it did. What is not as by default was asked for, and is measured however long it takes.
    pub fn within(self, budget: Duration) -> Self {
        let share = (budget.as_secs_f64() / FULL_EVALUATION_BUDGET.as_secs_f64()).min(1.0);
        let usual = Self::default();
        let part = |whole: usize, usual: usize, least: usize| match whole == usual {
            true => ((whole as f64 * share) as usize).max(least).min(whole),
            false => whole,
        };
        Self {
            frames: part(self.frames, usual.frames, 64),
            changes: part(self.changes, usual.changes, 32),
            clips: part(self.clips, usual.clips, 4),
            wish_starts: part(self.wish_starts, usual.wish_starts, 1),
            drift_rollouts: part(self.drift_rollouts, usual.drift_rollouts, 1),
            drift_frames: part(self.drift_frames, usual.drift_frames, 60),
            ..self
        }
    }
}

/// Measures a world on a dataset's held-out video, and on nothing else where there is any; on its training video where nothing at all is
/// held out (`held_out` of the result says which). Where the episodes are short, rollouts are compared with what followed over fewer frames.
///
/// # Errors
/// When the options make no sense, the frames' sizes differ, the episodes are shorter than a prompt and one frame, the world fails, or `cancel` became true.
pub fn evaluate(
    world: &Arc<World>,
    dataset: &Dataset,
    options: &EvaluateOptions,
    observer: &mut dyn TrainObserver,
    cancel: &AtomicBool,
) -> Result<Evaluation> {
    check_size(&world.manifest, dataset.frame_size())?;
    let in_evaluation = |reason: String| Error::config(format!("evaluation: {reason}"));
    options.check().map_err(in_evaluation)?;
    let rate = rate_warning(world, dataset);
    if let Some(text) = &rate {
        // At once: the figures take minutes.
        observer.observe(&TrainEvent::Warning(text.clone()));
    }
    let split = measured_split(dataset);
    let ahead = horizon(longest_episode(dataset, split), options.prompt);
    // Refuses what is too short before anything has been computed.
    let sampler = ClipSampler::new(dataset, split, options.prompt + longest(&ahead))?;
    let clips = sampler.fixed(options.clips);
    let mut judge = Judge {
        world,
        dataset,
        split,
        options,
        observer,
        cancel,
    };
    let tokenizer = judge.tokenizer()?;
    let latent_actions = judge.latent_actions()?;
    let prior = judge.prior(&sampler.fixed(options.clips * PRIOR_CLIPS))?;
    let rollout = judge.rollouts(&clips, &ahead)?;
    let wishes = judge.wishes()?;
    let drift = judge.drift();
    let mut warnings = Vec::from_iter(rate);
    if ahead.len() < AHEAD.len() {
        warnings.push(format!(
            "rollouts are followed for {} frames only: the longest episode has {} frames, and {} start a rollout",
            longest(&ahead),
            longest_episode(dataset, split),
            options.prompt
        ));
    }
    let drift = match drift {
        Err(Error::TooLittleVideo(reason)) => {
            warnings.push(format!("drift is left out: {reason}"));
            None
        }
        drift => drift?,
    };
    let (drift, sharpness, drift_measure) = match drift {
        Some(drift) => (drift.distance, drift.sharpness, Some(drift.measure)),
        None => Default::default(),
    };
    Ok(Evaluation {
        world: world.manifest.name.clone(),
        hash: world.hash.clone(),
        held_out: split == Split::Validation,
        clips: clips.len(),
        prompt: options.prompt,
        tokenizer,
        latent_actions,
        prior,
        rollout: rollout.median,
        rollout_mean: rollout.mean,
        rollout_ssim: rollout.ssim,
        wishes,
        drift,
        sharpness,
        drift_measure,
        warnings,
    })
}

/// Frames ahead at which rollouts from `prompt` frames can be compared in an episode of `length`; at least the first.
fn horizon(length: usize, prompt: usize) -> Vec<u32> {
    let fits = |&ahead: &u32| ahead == AHEAD[0] || prompt + ahead as usize <= length;
    AHEAD.into_iter().filter(fits).collect()
}

fn longest(ahead: &[u32]) -> usize {
    ahead.iter().copied().max().unwrap_or(1) as usize
}

/// What to think of a dataset whose frames follow one another faster or slower than the world's.
fn rate_warning(world: &World, dataset: &Dataset) -> Option<String> {
    let (ours, theirs) = (
        world.manifest.frames_per_second,
        dataset.frames_per_second(),
    );
    ((ours / theirs - 1.0).abs() > SAME_RATE).then(|| {
        format!(
            "the world runs at {ours} frames/s and the dataset's video at {theirs}: changes from frame to frame are not of the size that the world knows; ingest the video with --fps {ours}"
        )
    })
}

struct Judge<'a> {
    world: &'a Arc<World>,
    dataset: &'a Dataset,
    split: Split,
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
    /// Clips of the one split that all figures come from.
    fn sampler(&self, length: usize) -> Result<ClipSampler<'_>> {
        ClipSampler::new(self.dataset, self.split, length)
    }

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
        let clips = self.sampler(length)?;
        let clips = clips.fixed(self.options.frames.div_ceil(length));
        let quality = tokenizer_quality(&self.world.tokenizer, self.dataset, &clips)?;
        Ok(TokenizerFigures {
            psnr: quality.psnr,
            ssim: quality.ssim,
            edges: quality.edges,
            edge_error: quality.edge_error,
            codes_used: quality.codes_used,
            vocabulary: self.world.manifest.tokenizer.vocabulary(),
        })
    }

    /// What each code of the world stood for, from pairs of a code and a true action; nothing where there are none.
    fn true_actions_of_codes(&self, pairs: &[(u32, u32)]) -> Vec<TrueActionsOfCode> {
        if pairs.is_empty() {
            return Vec::new();
        }
        let actions = self.world.manifest.actions.iter();
        let mut codes: Vec<TrueActionsOfCode> = actions
            .map(|action| TrueActionsOfCode {
                code: action.name.clone(),
                pressed: BTreeMap::new(),
            })
            .collect();
        let names = &self.dataset.manifest().action_names;
        for &(code, action) in pairs {
            if let (Some(code), Some(name)) =
                (codes.get_mut(code as usize), names.get(action as usize))
            {
                *code.pressed.entry(name.clone()).or_default() += 1;
            }
        }
        codes
    }

    fn latent_actions(&mut self) -> Result<LatentActionFigures> {
        self.report("evaluation: latent actions", 0, 1)?;
        let sampler = self
            .sampler(LATENT_ACTION_CLIP)
            .or_else(|_| self.sampler(3))?;
        let clips = sampler.fixed(self.options.changes);
        let model = &self.world.latent_actions;
        let predictions = self.options.changes * 2;
        let quality = latent_action_quality(model, self.dataset, &clips, predictions)?;
        let agreement = quality.agreement();
        let known = agreement.filter(|agreement| agreement.changes > 0);
        Ok(LatentActionFigures {
            psnr: quality.psnr,
            psnr_random: quality.psnr_random,
            gap: quality.gap(),
            psnr_continuous: quality.psnr_continuous,
            psnr_copy: quality.psnr_copy,
            gap4: quality.gap4,
            nmi: known.map(|agreement| agreement.nmi),
            nmi_by_chance: known.map(|agreement| agreement.chance),
            nmi_changes: agreement.map(|agreement| agreement.changes),
            codes_used: quality.codes_used(),
            codes: self.world.manifest.codes(),
            usage: quality.usage,
            true_actions: self
                .true_actions_of_codes(quality.known_actions.as_deref().unwrap_or_default()),
        })
    }

    fn prior(&mut self, clips: &[Clip]) -> Result<PriorFigures> {
        let mut judged = Vec::new();
        for (round, part) in clips.chunks(ROUND).enumerate() {
            self.report("evaluation: action prior", round * ROUND, clips.len())?;
            let prompt = self.options.prompt;
            judged.extend(prior::judge(self.world, self.dataset, part, prompt)?);
        }
        Ok(prior::figures(&judged, self.world.manifest.codes()))
    }

    fn rollouts(&mut self, clips: &[Clip], ahead: &[u32]) -> Result<Rollouts> {
        let learned = CodesOfActions::learn(self.world, self.dataset)?;
        let in_use = codes_in_use(self.world, self.dataset, clips)?;
        let mut kinds = vec![
            Continuation::Inferred,
            Continuation::Random(&in_use),
            Continuation::Copy,
            Continuation::Forecast,
        ];
        kinds.extend(learned.as_ref().map(Continuation::TrueActions));
        let total = clips.len() * kinds.len();
        let mut tables = Vec::new();
        for (kind, continuation) in kinds.into_iter().enumerate() {
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
                    followed.len(),
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
            true_actions: tables.get(4).map(|table| table[which].clone()),
        };
        let RolloutTable {
            inferred,
            random,
            copy,
            forecast,
            true_actions,
        } = table(0);
        let gap4 = inferred.get(&4).zip(random.get(&4)).map(|(a, b)| a - b);
        Ok(Rollouts {
            median: RolloutFigures {
                inferred,
                random,
                copy,
                forecast,
                true_actions,
                gap4,
            },
            mean: table(1),
            ssim: table(2),
        })
    }

    /// What comes of wishes; `None` where it was not asked for.
    fn wishes(&mut self) -> Result<Option<WishFigures>> {
        let (starts, prompt) = (self.options.wish_starts, self.options.prompt);
        if starts == 0 {
            return Ok(None);
        }
        let video = (self.dataset, self.split);
        wishes::wishes(
            self.world,
            video,
            (starts, prompt),
            self.observer,
            self.cancel,
        )
        .map(Some)
    }

    /// Drift; `None` where it was not asked for.
    fn drift(&mut self) -> Result<Option<Drift>> {
        let EvaluateOptions {
            drift_rollouts,
            drift_frames,
            prompt,
            ..
        } = *self.options;
        if drift_rollouts == 0 {
            return Ok(None);
        }
        drift::drift(
            self.world,
            (self.dataset, self.split),
            (drift_rollouts, drift_frames, prompt),
            self.observer,
            self.cancel,
        )
        .map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clips::tests::noise;

    fn judged(dataset: &Dataset) -> Result<Evaluation> {
        let options = EvaluateOptions {
            frames: 4,
            changes: 4,
            clips: 2,
            prompt: 4,
            wish_starts: 1,
            drift_rollouts: 2,
            drift_frames: 50,
        };
        let world = Arc::new(worlds::tiny_world(1)?);
        evaluate(
            &world,
            dataset,
            &options,
            &mut |_: &TrainEvent| {},
            &AtomicBool::new(false),
        )
    }

    #[test]
    fn short_held_out_episodes_shorten_rollouts_and_never_bring_training_video_in() {
        let folder = tempfile::tempdir().unwrap();
        let with = |name: &str, held_out: usize| {
            let lengths = [(60, Split::Train), (held_out, Split::Validation)];
            noise(&folder.path().join(name), 15.0, &lengths)
        };
        let long = judged(&with("long", 40)).unwrap();
        assert!(long.held_out && long.warnings.is_empty(), "{long:?}");
        assert_eq!(long.prior.changes, 2 * PRIOR_CLIPS * 16);
        let measured = long.drift_measure.unwrap();
        assert_eq!((measured.rollouts, measured.real_frames), (1, 40));
        assert!(long.drift[&50].is_finite());

        let short = judged(&with("short", 9)).unwrap();
        assert!(short.held_out);
        let frames: Vec<u32> = short.rollout.inferred.keys().copied().collect();
        assert_eq!(frames, [1, 4]);
        assert!(short.drift.is_empty() && short.drift_measure.is_none());
        let warned = |text: &str| short.warnings.iter().any(|w| w.contains(text));
        assert!(
            warned("followed for 4 frames only") && warned("drift is left out"),
            "{:?}",
            short.warnings
        );

        let error = judged(&with("shortest", 4)).unwrap_err().to_string();
        assert!(error.contains("no validation episode of 5"), "{error}");
        let none = noise(&folder.path().join("none"), 15.0, &[(30, Split::Train)]);
        assert!(!judged(&none).unwrap().held_out);
    }

    #[test]
    fn video_of_another_frame_rate_is_remarked_upon() {
        let folder = tempfile::tempdir().unwrap();
        let fast = noise(&folder.path().join("fast"), 30.0, &[(40, Split::Train)]);
        let warnings = judged(&fast).unwrap().warnings;
        assert!(
            warnings.len() == 1
                && warnings[0].contains("15 frames/s")
                && warnings[0].contains("30"),
            "{warnings:?}"
        );
    }

    #[test]
    fn rollouts_are_followed_as_far_as_the_episodes_go() {
        assert_eq!(horizon(20, 4), [1, 4, 8, 16]);
        assert_eq!(horizon(19, 4), [1, 4, 8]);
        assert_eq!(horizon(8, 4), [1, 4]);
        // Too short even for one frame: that is refused later, by this very length.
        assert_eq!(horizon(3, 4), [1]);
        assert_eq!(longest(&horizon(19, 4)), 8);
    }

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
