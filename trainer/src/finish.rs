//! Worlds on their way and at the end: milestones while the dynamics trains, and the finished bundle.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nn::Parameters;
use worlds::{BundleContents, WeightFormat};

use crate::bundle::Blueprint;
use crate::clips::{Clip, ClipSampler};
use crate::dataset::Dataset;
use crate::evaluate::rollouts::{Continuation, codes_in_use, follow};
use crate::evaluate::stored::StoredWeights;
use crate::evaluate::{EvaluateOptions, Evaluation, evaluate};
use crate::measure::median;
use crate::metrics;
use crate::observer::{TrainEvent, TrainObserver};
use crate::report::{self, play_gif};
use crate::report::{BRIEF, FULL, REPORT_FILE, of_world};
use crate::session::part_of;
use crate::stages::dynamics::Played;
use crate::{Error, Result, edits};

/// Clips that a milestone's world is played on, the frames that start it, and the frames it makes of each.
const CLIPS: usize = 24;
const PROMPT: usize = 4;
const AHEAD: usize = 4;
/// Frames that an episode must have for that.
pub(crate) const SHORTEST_EPISODE: usize = PROMPT + AHEAD;

/// Runs `work` on a world as everyone does who plays or measures it later, outside of training's precision.
pub(crate) fn as_played<R>(work: impl FnOnce() -> R) -> R {
    nn::with_precision(nn::Precision::F32, work)
}

/// Puts the present state of the dynamics into a bundle and plays it on held-out clips.
pub(crate) struct Milestone<'a> {
    blueprint: &'a Blueprint,
    dataset: &'a Dataset,
    out: PathBuf,
    run: PathBuf,
    clips: Vec<Clip>,
}

impl<'a> Milestone<'a> {
    /// `thoroughness` is the share of the usual clips that the world is played on.
    pub fn new(
        blueprint: &'a Blueprint,
        dataset: &'a Dataset,
        (out, run): (&Path, &Path),
        thoroughness: f64,
    ) -> Result<Self> {
        let sampler = ClipSampler::held_out(dataset, SHORTEST_EPISODE)?;
        Ok(Self {
            blueprint,
            dataset,
            out: out.to_owned(),
            run: run.to_owned(),
            clips: sampler.fixed(part_of(CLIPS, thoroughness, 4)),
        })
    }

    /// Saves the world that these weights make, and measures how well it follows inferred codes and random ones. Where it cannot be saved, as when someone is
    /// changing its manifest at that moment, it is measured all the same: training that has taken hours goes on.
    pub fn play_test(&self, dynamics: &Parameters) -> Result<Played> {
        let mut contents = self.blueprint.with_dynamics(dynamics.tensors());
        let mut own = contents.manifest.clone();
        let (world, warnings) = match edits::save(&mut contents, &mut own, (&self.out, &self.run)) {
            Ok(world) => (world, Vec::new()),
            Err(error) => {
                let warning = format!("the world could not be saved as it is now: {error}");
                // Without what people have changed, which may be what was wrong.
                let contents = self.blueprint.with_dynamics(dynamics.tensors());
                (contents.world(edits::FORMAT)?, vec![warning])
            }
        };
        let world = Arc::new(world);
        let at = |continuation, frame: usize| -> Result<f64> {
            let followed = follow(&world, self.dataset, &self.clips, PROMPT, continuation, 0)?;
            let psnrs: Vec<f64> = followed.iter().map(|clip| clip.psnr[frame - 1]).collect();
            Ok(median(&psnrs))
        };
        let inferred = at(Continuation::Inferred, AHEAD)?;
        let in_use = codes_in_use(&world, self.dataset, &self.clips)?;
        let random = at(Continuation::Random(&in_use), AHEAD)?;
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
        Ok(Played {
            figures: figures.map(|(name, value)| (name.to_owned(), value)).into(),
            text,
            warnings,
            pictures: of_world(&world, self.dataset, BRIEF)?,
        })
    }
}

/// Frames of the moving picture in a bundle's README, of a long run and of the shortest.
const GIF_FRAMES: usize = 90;
const FEWEST_GIF_FRAMES: usize = 30;
/// A run of this many minutes ends with all that there is to be seen; after a shorter one, less has to do.
const FULL_MINUTES: f64 = 20.0;
/// Its name.
const GIF: &str = "play.gif";

/// What a run ends in.
pub(crate) struct Finished {
    pub report: PathBuf,
    /// What looks wrong with the world, in plain words.
    pub warnings: Vec<String>,
}

/// Measures the finished world, writes its bundle and its report; `None` when it was asked to
/// stop first (the bundle then holds the world already, without figures).
pub(crate) fn finish(
    mut contents: BundleContents,
    dataset: &Dataset,
    (out, run): (&Path, &Path),
    (options, minutes): (&EvaluateOptions, f64),
    observer: &mut dyn TrainObserver,
    cancel: &AtomicBool,
) -> Result<Option<Finished>> {
    let mut own = contents.manifest.clone();
    let world = Arc::new(edits::save(&mut contents, &mut own, (out, run))?);
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
    let share = (minutes / FULL_MINUTES).min(1.0);
    let frames = part_of(GIF_FRAMES, share, FEWEST_GIF_FRAMES);
    let gif = play_gif(&world, &run.join(GIF), frames)?;
    contents.files.insert(GIF.to_owned(), gif);
    let warnings = metrics::warnings(&metrics::read(run)?);
    let drift_frames = (options.drift_rollouts > 0).then_some(options.drift_frames);
    contents.readme = readme(&contents, &evaluation, drift_frames, &warnings);
    contents.readme += &format!("\n{}\n", weights.to_text());
    let world = Arc::new(edits::save(&mut contents, &mut own, (out, run))?);
    let report = run.join(REPORT_FILE);
    let scale = if share < 1.0 { BRIEF } else { FULL };
    match report::write(
        &report,
        (&world, dataset),
        &evaluation,
        (Some(run), scale),
        observer,
        cancel,
    ) {
        Err(Error::Cancelled) => return Ok(None),
        written => written?,
    }
    observer.observe(&TrainEvent::Note(evaluation.to_text()));
    Ok(Some(Finished { report, warnings }))
}

/// The text for people in a bundle.
fn readme(
    contents: &BundleContents,
    evaluation: &Evaluation,
    drift_frames: Option<usize>,
    warnings: &[String],
) -> String {
    let manifest = &contents.manifest;
    let list: String = warnings.iter().map(|text| format!("- {text}\n")).collect();
    let warnings = match warnings {
        [] => String::new(),
        _ => format!("## Warnings\n\n{list}\n"),
    };
    let drift = drift_frames.map_or(String::new(), |frames| {
        format!(
            " Drift is the distance of rollouts of {frames} frames under a random player from real frames, as squared Fréchet distance of picture statistics, in units of the same distance of equally much real video."
        )
    });
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
        "# {name}\n\nA world that Djinn learned from video. Play it with `djinn play FOLDER`, FOLDER being this folder.\n\n![{name} played by dice]({GIF})\n\n- Trained on: {source} (licence: {source_licence})\n- Author: {author}; licence: {licence}\n- {size} pixels, {fps} frames/s, {codes} latent actions\n\n{warnings}The actions were found in the video without labels; their names say how they move the view. Keys are wishes: the world decides what comes of them.\n\n| code | name | keys |\n|---|---|---|\n{actions}\n## Measured\n\n{table}\nPSNRs of rollouts are medians over {clips} clips.{drift}\n",
        name = manifest.name,
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
