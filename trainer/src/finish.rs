//! Worlds on their way and at the end: milestones while the dynamics trains, and the finished bundle.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nn::Parameters;
use worlds::{BundleContents, WeightFormat, World};

use crate::Result;
use crate::bundle::Blueprint;
use crate::clips::{Clip, ClipSampler};
use crate::dataset::Dataset;
use crate::evaluate::rollouts::{Continuation, follow};
use crate::measure::median;
use crate::observer::{Figures, TrainEvent, TrainObserver};

/// Clips that a milestone's world is played on, the frames that start it, and the frames it makes of each.
const CLIPS: usize = 24;
const PROMPT: usize = 4;
const AHEAD: usize = 4;

/// Puts the present state of the dynamics into a bundle and plays it on held-out clips.
pub(crate) struct Milestone<'a> {
    blueprint: &'a Blueprint,
    dataset: &'a Dataset,
    out: PathBuf,
    clips: Vec<Clip>,
}

impl<'a> Milestone<'a> {
    pub fn new(blueprint: &'a Blueprint, dataset: &'a Dataset, out: &Path) -> Result<Self> {
        let sampler = ClipSampler::held_out(dataset, PROMPT + AHEAD)?;
        Ok(Self {
            blueprint,
            dataset,
            out: out.to_owned(),
            clips: sampler.fixed(CLIPS),
        })
    }

    /// Saves the world that these weights make, and measures how well it follows inferred codes and random ones.
    pub fn play_test(&self, dynamics: &Parameters) -> Result<(Figures, String)> {
        let contents = self.blueprint.with_dynamics(dynamics.tensors());
        let world = Arc::new(worlds::save(&contents, WeightFormat::F16, &self.out)?);
        let at = |continuation, frame: usize| -> Result<f64> {
            let followed = follow(&world, self.dataset, &self.clips, PROMPT, continuation)?;
            let psnrs: Vec<f64> = followed.iter().map(|clip| clip.psnr[frame - 1]).collect();
            Ok(median(&psnrs))
        };
        let inferred = at(Continuation::Inferred, AHEAD)?;
        let random = at(Continuation::Random, AHEAD)?;
        let copy = at(Continuation::Copy, AHEAD)?;
        let figures = [
            ("rollout_psnr4", inferred),
            ("rollout_random_psnr4", random),
            ("rollout_copy_psnr4", copy),
            ("rollout_gap4", inferred - random),
        ];
        let text = format!(
            "frame 4 of rollouts: {inferred:.2} dB with inferred codes, {random:.2} with random ones (gap {:.2}), {copy:.2} by copying",
            inferred - random
        );
        Ok((
            figures.map(|(name, value)| (name.to_owned(), value)).into(),
            text,
        ))
    }
}

/// Writes the finished bundle and gives the path of the report; `None` when it was asked to stop first.
pub(crate) fn finish(
    contents: BundleContents,
    _dataset: &Dataset,
    out: &Path,
    run: &Path,
    observer: &mut dyn TrainObserver,
    _cancel: &AtomicBool,
) -> Result<Option<PathBuf>> {
    let _: World = worlds::save(&contents, WeightFormat::F16, out)?;
    observer.observe(&TrainEvent::Note(format!("saved {}", out.display())));
    Ok(Some(run.join("report.html")))
}
