//! How well the action prior knows what comes next, under the conditions of play.
//!
//! Judged are the changes that a rollout from a prompt is asked for: the one that leads out of the prompt and those after it. For an
//! episode's first change the latent action model has no earlier frame, and the prior has seen one frame and no code; what happens there
//! says nothing of play.

use std::sync::Arc;

use dynamics::prior_probabilities;
use nn::quality::entropy_of_counts;
use nn::{ActionCode, in_this_scope};
use rayon::prelude::*;
use worlds::{Frame, World};

use super::PriorFigures;
use super::rollouts::{inferred_codes, true_frames};
use crate::Result;
use crate::clips::Clip;
use crate::dataset::Dataset;
use crate::measure::mean;

/// What the prior thought of one change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Judged {
    /// The code that followed.
    code: ActionCode,
    /// Minus the logarithm of its probability.
    surprise: f64,
    /// Whether no other code was thought more likely.
    foreseen: bool,
}

impl Judged {
    fn new(logits: &[f32], code: ActionCode) -> Self {
        let probabilities = prior_probabilities(logits);
        let chance = chance_of(&probabilities, code);
        let best = probabilities.iter().copied().fold(0.0, f32::max);
        Self {
            code,
            surprise: -f64::from(chance).ln(),
            foreseen: chance >= best,
        }
    }
}

/// A code's probability among those of all codes; more than nothing, so that it has a logarithm.
pub(super) fn chance_of(probabilities: &[f32], code: ActionCode) -> f32 {
    let chance = probabilities.get(usize::from(code.0)).copied();
    chance.unwrap_or(0.0).max(f32::MIN_POSITIVE)
}

/// The first change that is judged in clips whose first `prompt` frames start a rollout.
fn first_judged(prompt: usize) -> usize {
    prompt.saturating_sub(1).max(1)
}

/// Runs the dynamics over true frames and codes, all of them, and judges its predictions of the changes that follow `prompt` frames.
pub(super) fn judge(
    world: &Arc<World>,
    dataset: &Dataset,
    clips: &[Clip],
    prompt: usize,
) -> Result<Vec<Judged>> {
    let of_clip = |clip: &Clip| {
        let frames = true_frames(dataset, clip)?;
        let codes = inferred_codes(world, &frames)?;
        let pictures = Frame::clip(&frames, &world.device)?;
        let tokens = world.tokenizer.encode(&pictures)?.squeeze(0)?;
        let mut cache = world.dynamics.start();
        let mut judged = Vec::new();
        for number in 0..frames.len() {
            let (before, next) = (codes.into_frame(number), codes.after(number));
            let Some(next) = next else { break };
            let tokens = tokens.get(number)?.to_vec1::<u32>()?;
            let logits = world.dynamics.commit(&mut cache, before, &tokens)?;
            if number >= first_judged(prompt) {
                judged.push(Judged::new(&logits, next));
            }
        }
        Ok(judged)
    };
    let judged = clips
        .par_iter()
        .map(in_this_scope(of_clip))
        .collect::<Result<Vec<_>>>()?;
    Ok(judged.concat())
}

/// The figures of changes that were judged, in a world of `codes` action codes.
pub(super) fn figures(judged: &[Judged], codes: usize) -> PriorFigures {
    let mut counts = vec![0u64; codes];
    for judged in judged {
        counts[usize::from(judged.code.0)] += 1;
    }
    let over = |figure: fn(&Judged) -> f64| mean(&judged.iter().map(figure).collect::<Vec<_>>());
    PriorFigures {
        cross_entropy: over(|judged| judged.surprise),
        entropy_of_frequencies: entropy_of_counts(&counts),
        accuracy: over(|judged| f64::from(u8::from(judged.foreseen))),
        changes: judged.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clips::ClipSampler;
    use crate::clips::tests::noise;
    use crate::dataset::Split;
    use worlds::{Rollout, RolloutSettings};

    #[test]
    fn what_is_judged_is_what_play_would_choose_from_after_the_prompt() {
        const PROMPT: usize = 4;
        let folder = tempfile::tempdir().unwrap();
        let dataset = noise(&folder.path().join("d"), 15.0, &[(30, Split::Train)]);
        let mut world = worlds::tiny_world(1).unwrap();
        world.precision = nn::Precision::F32;
        let world = Arc::new(world);
        let clips = ClipSampler::held_out(&dataset, 9).unwrap().fixed(2);
        let judged = judge(&world, &dataset, &clips, PROMPT).unwrap();
        assert_eq!(judged.len(), 2 * 5);
        for (clip, judged) in clips.iter().zip(judged.chunks(5)) {
            let truth = true_frames(&dataset, clip).unwrap();
            let settings = RolloutSettings::of(&world.manifest, 1);
            let rollout = Rollout::start(world.clone(), &truth[..PROMPT], settings).unwrap();
            let chance = rollout.prior()[usize::from(judged[0].code.0)];
            assert!((judged[0].surprise + f64::from(chance).ln()).abs() < 1e-3);
        }
    }

    #[test]
    fn a_first_change_is_never_judged() {
        assert_eq!([1, 2, 4].map(first_judged), [1, 1, 3]);
    }

    #[test]
    fn surprise_is_in_nats_and_the_likeliest_code_is_foreseen() {
        let judged = [0u16, 1, 1, 2].map(|code| {
            let logits = [0.25f32, 0.5, 0.25].map(f32::ln);
            Judged::new(&logits, ActionCode(code))
        });
        let found = figures(&judged, 3);
        let expected = 1.5 * std::f64::consts::LN_2;
        assert!((found.cross_entropy - expected).abs() < 1e-6);
        assert!((found.entropy_of_frequencies - expected).abs() < 1e-6);
        assert_eq!((found.accuracy, found.changes), (0.5, 4));
    }
}
