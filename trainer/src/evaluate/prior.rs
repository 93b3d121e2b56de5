//! How well the action prior knows what comes next, under the conditions of play.

use std::sync::Arc;

use dynamics::prior_probabilities;
use nn::quality::entropy_of_counts;
use rayon::prelude::*;
use worlds::{Frame, World};

use super::PriorFigures;
use super::rollouts::{inferred_codes, true_frames};
use crate::Result;
use crate::clips::Clip;
use crate::dataset::Dataset;
use crate::measure::mean;

/// Runs the dynamics over true frames and codes, and compares each prediction of the next code with the code that followed.
pub(super) fn judge(world: &Arc<World>, dataset: &Dataset, clips: &[Clip]) -> Result<PriorFigures> {
    let judged = clips
        .par_iter()
        .map(|clip| {
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
                let probabilities = prior_probabilities(&logits);
                let chance = probabilities.get(usize::from(next.0)).copied();
                let chance = f64::from(chance.unwrap_or(0.0).max(f32::MIN_POSITIVE));
                let best = probabilities.iter().copied().fold(0.0, f32::max);
                judged.push((next, -chance.ln(), chance >= f64::from(best)));
            }
            Ok(judged)
        })
        .collect::<Result<Vec<_>>>()?
        .concat();
    let mut counts = vec![0u64; world.manifest.codes()];
    for (code, ..) in &judged {
        counts[usize::from(code.0)] += 1;
    }
    let right = |&(_, _, right): &_| f64::from(u8::from(right));
    Ok(PriorFigures {
        cross_entropy: mean(&judged.iter().map(|&(_, loss, _)| loss).collect::<Vec<_>>()),
        entropy_of_frequencies: entropy_of_counts(&counts),
        accuracy: mean(&judged.iter().map(right).collect::<Vec<_>>()),
    })
}
