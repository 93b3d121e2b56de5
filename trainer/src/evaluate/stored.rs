//! Whether play is harmed by storing weights in half the bits: the world as it was trained beside the world as it is stored.

use std::sync::Arc;

use worlds::World;

use super::rollouts::{Continuation, follow};
use crate::Result;
use crate::clips::{ClipSampler, longest_episode, measured_split};
use crate::dataset::Dataset;
use crate::measure::{mean, median, tokenizer_quality};
use crate::observer::Figures;

/// Frames that the tokenizers are compared on, and clips that rollouts are: few, as all this is to take seconds.
const FRAMES: usize = 64;
const CLIPS: usize = 16;
/// Frames that start a rollout, and frames that follow at most.
const PROMPT: usize = 4;
const AHEAD: usize = 4;

/// The same figures of a world as it was trained (f32) and as it is stored (f16), on the same held-out clips.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredWeights {
    trained: Play,
    stored: Play,
    /// Frames after the prompt at which rollouts were compared.
    ahead: usize,
}

/// How well a world shows and continues video, in dB.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Play {
    tokenizer: f64,
    median: f64,
    mean: f64,
}

impl StoredWeights {
    /// Compares `stored`, the world that a player will load, with the same world at full precision.
    pub fn compare(trained: &Arc<World>, stored: &Arc<World>, dataset: &Dataset) -> Result<Self> {
        let longest = longest_episode(dataset, measured_split(dataset));
        let ahead = longest.saturating_sub(PROMPT).clamp(1, AHEAD);
        Ok(Self {
            trained: play(trained, dataset, ahead)?,
            stored: play(stored, dataset, ahead)?,
            ahead,
        })
    }

    /// The figures by dotted name.
    pub fn figures(&self) -> Figures {
        [("f32", self.trained), ("f16", self.stored)]
            .into_iter()
            .flat_map(|(format, play)| {
                let name = |figure: &str| format!("weights.{format}.{figure}");
                let rollout = format!("rollout_psnr{}", self.ahead);
                [
                    (name("tokenizer_psnr"), play.tokenizer),
                    (name(&rollout), play.median),
                    (name(&format!("{rollout}_mean")), play.mean),
                ]
            })
            .collect()
    }

    /// The figures in a line for people.
    pub fn to_text(&self) -> String {
        let (a, b) = (self.trained, self.stored);
        format!(
            "Weights are stored as f16. As trained (f32) and as stored: tokenizer {:.2} and {:.2} dB on {FRAMES} held-out frames; rollouts at frame {} {:.2} and {:.2} dB (means {:.2} and {:.2}) on {CLIPS} clips.",
            a.tokenizer, b.tokenizer, self.ahead, a.median, b.median, a.mean, b.mean
        )
    }
}

fn play(world: &Arc<World>, dataset: &Dataset, ahead: usize) -> Result<Play> {
    let length = match world.manifest.tokenizer.temporal_window {
        Some(_) => PROMPT,
        None => 1,
    };
    let frames = ClipSampler::held_out(dataset, length)?.fixed(FRAMES / length);
    let clips = ClipSampler::held_out(dataset, PROMPT + ahead)?.fixed(CLIPS);
    let followed = follow(world, dataset, &clips, PROMPT, Continuation::Inferred, 0)?;
    let psnrs: Vec<f64> = followed.iter().map(|clip| clip.psnr[ahead - 1]).collect();
    Ok(Play {
        tokenizer: tokenizer_quality(&world.tokenizer, dataset, &frames)?.psnr,
        median: median(&psnrs),
        mean: mean(&psnrs),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trained_and_stored_are_told_apart() {
        let play = |base: f64| Play {
            tokenizer: base + 10.0,
            median: base,
            mean: base - 0.5,
        };
        let compared = StoredWeights {
            trained: play(20.25),
            stored: play(20.0),
            ahead: 4,
        };
        let figures = compared.figures();
        assert_eq!(figures.len(), 6);
        assert_eq!(figures["weights.f32.tokenizer_psnr"], 30.25);
        assert_eq!(figures["weights.f16.rollout_psnr4"], 20.0);
        assert_eq!(figures["weights.f16.rollout_psnr4_mean"], 19.5);
        let text = compared.to_text();
        assert!(text.contains("tokenizer 30.25 and 30.00 dB"), "{text}");
        assert!(text.contains("frame 4 20.25 and 20.00 dB"), "{text}");
    }
}
