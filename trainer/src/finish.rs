//! Worlds on their way and at the end: milestones while the dynamics trains, and the finished bundle.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nn::Parameters;
use worlds::{BundleContents, WeightFormat};

use crate::bundle::Blueprint;
use crate::clips::{Clip, ClipSampler};
use crate::dataset::Dataset;
use crate::evaluate::rollouts::{Continuation, follow};
use crate::evaluate::stored::StoredWeights;
use crate::evaluate::{EvaluateOptions, Evaluation, evaluate};
use crate::measure::median;
use crate::observer::{Figures, TrainEvent, TrainObserver};
use crate::report::{play_gif, write_report};
use crate::{Error, Result};

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

/// Frames of the moving picture in a bundle's README.
const GIF_FRAMES: usize = 90;
/// Its name.
const GIF: &str = "play.gif";

/// Measures the finished world, writes its bundle and its report, and gives the report's path; `None` when it was asked to
/// stop first (the bundle then holds the world already, without figures).
pub(crate) fn finish(
    mut contents: BundleContents,
    dataset: &Dataset,
    (out, run): (&Path, &Path),
    options: &EvaluateOptions,
    observer: &mut dyn TrainObserver,
    cancel: &AtomicBool,
) -> Result<Option<PathBuf>> {
    let world = Arc::new(worlds::save(&contents, WeightFormat::F16, out)?);
    let evaluation = match evaluate(&world, dataset, options, observer, cancel) {
        Err(Error::Cancelled) => return Ok(None),
        evaluation => evaluation?,
    };
    let trained = Arc::new(contents.world(WeightFormat::F32)?);
    let weights = StoredWeights::compare(&trained, &world, dataset)?;
    drop(trained);
    contents.manifest.quality = evaluation.figures();
    contents.manifest.quality.extend(weights.figures());
    contents
        .manifest
        .quality
        .retain(|_, value| value.is_finite());
    let gif = play_gif(&world, &run.join(GIF), GIF_FRAMES)?;
    contents.files.insert(GIF.to_owned(), gif);
    contents.readme = readme(&contents, &evaluation);
    contents.readme += &format!("\n{}\n", weights.to_text());
    let world = Arc::new(worlds::save(&contents, WeightFormat::F16, out)?);
    let report = run.join("report.html");
    match write_report(
        &report,
        (&world, dataset),
        &evaluation,
        Some(run),
        observer,
        cancel,
    ) {
        Err(Error::Cancelled) => return Ok(None),
        written => written?,
    }
    observer.observe(&TrainEvent::Note(evaluation.to_text()));
    Ok(Some(report))
}

/// The text for people in a bundle.
fn readme(contents: &BundleContents, evaluation: &Evaluation) -> String {
    let manifest = &contents.manifest;
    let actions: String = manifest
        .actions
        .iter()
        .enumerate()
        .map(|(code, action)| {
            let keys = match action.bindings.as_slice() {
                [] => "no key".to_owned(),
                keys => keys.join(", "),
            };
            format!("| {code} | {} | {keys} |\n", action.name)
        })
        .collect();
    format!(
        "# {name}\n\nA world that Djinn learned from video. Play it with `djinn play {name_quoted}` or `djinn play FOLDER`.\n\n![{name} played by dice]({GIF})\n\n- Trained on: {source} (licence: {source_licence})\n- Author: {author}; licence: {licence}\n- {size} pixels, {fps} frames/s, {codes} latent actions\n\nThe actions were found in the video without labels; their names say how they move the view. Keys are wishes: the world decides what comes of them.\n\n| code | name | keys |\n|---|---|---|\n{actions}\n## Measured\n\n{table}\nPSNRs of rollouts are medians over {clips} clips. Drift is the distance of 1,000-frame rollouts under a random player from real frames, as squared Fréchet distance of picture statistics, in units of the same distance of equally much real video.\n",
        name = manifest.name,
        name_quoted = match manifest.name.contains(' ') {
            true => format!("\"{}\"", manifest.name),
            false => manifest.name.clone(),
        },
        source = manifest.training_video.source,
        source_licence = manifest.training_video.licence,
        author = manifest.author,
        licence = manifest.licence,
        size = manifest.frame,
        fps = manifest.frames_per_second,
        codes = manifest.codes(),
        table = evaluation.to_table(),
        clips = evaluation.clips,
    )
}
