//! From video files to a dataset.
//!
//! [`ingest`] finds the sources behind the given paths, decodes them one after another, brings every picture to the
//! frame size and the frame rate, cuts episodes where a scene ends, pairs frames with the true actions of a sidecar or a
//! recorded session, and decides which sources are held back for validation. A source that cannot be read is reported
//! and passed over; where one is damaged, the episode ends and the next begins where pictures can be read again.

mod actions;
mod episodes;
mod error;
mod inputs;
mod report;
mod scene_cut;
mod split;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use media::{CropRect, Fit, Fitting};

pub use error::IngestError;
pub use report::{DamagedSource, IngestProgress, IngestReport, SkippedSource};

use crate::dataset::{DatasetWriter, MAXIMUM_SHARD_BYTES, WriterOptions};
use episodes::SourceOutcome;

/// How videos become a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct IngestOptions {
    /// Width of a frame in pixels.
    pub width: u32,
    /// Height of a frame in pixels.
    pub height: u32,
    /// Frames per second.
    pub frames_per_second: f64,
    /// What to do with pictures of another shape.
    pub fit: Fit,
    /// Part of the source pictures to look at.
    pub crop: Option<CropRect>,
    /// How different two neighbouring frames must be to end an episode, from 0 (anything) to 1 (nothing is);
    /// `None` never cuts.
    pub scene_cut: Option<f32>,
    /// Share of the material that is held back for validation, from 0 to less than 1.
    pub validation_fraction: f64,
    /// Size that a shard does not exceed, in bytes.
    pub max_shard_bytes: u64,
}

/// [`IngestOptions::scene_cut`] that splits hard cuts and leaves fast camera movement whole.
pub const USUAL_SCENE_CUT: f32 = 0.2;

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            width: 64,
            height: 64,
            frames_per_second: 15.0,
            fit: Fit::Crop,
            crop: None,
            scene_cut: Some(USUAL_SCENE_CUT),
            validation_fraction: 0.1,
            max_shard_bytes: MAXIMUM_SHARD_BYTES,
        }
    }
}

impl IngestOptions {
    fn check(&self) -> Result<(), IngestError> {
        let refuse = |what: String| Err(IngestError::Options { what });
        if !(0.0..1.0).contains(&self.validation_fraction) {
            return refuse(format!(
                "a validation share of {} is not between 0 and 1",
                self.validation_fraction
            ));
        }
        if let Some(threshold) = self.scene_cut
            && !(0.0..=1.0).contains(&threshold)
        {
            return refuse(format!(
                "a scene cut threshold of {threshold} is not between 0 and 1"
            ));
        }
        if !worlds::FRAME_RATES.contains(&self.frames_per_second) {
            let (least, most) = worlds::FRAME_RATES.into_inner();
            return refuse(format!(
                "{} frames per second are not between {least} and {most}",
                self.frames_per_second
            ));
        }
        Ok(())
    }

    fn fitting(&self) -> Fitting {
        Fitting {
            width: self.width,
            height: self.height,
            fit: self.fit,
            crop: self.crop,
        }
    }
}

/// Reads videos, animations, image folders and session folders, or folders of them, into a new dataset at `out`.
///
/// `progress` is called several times a second. Setting `cancel` ends the work early; what was read until then becomes
/// the dataset, and the report says so.
///
/// # Errors
///
/// Only what stops the whole: settings that make no sense, a place that is taken, a full disk, no readable source at all.
/// A source that cannot be read is listed in [`IngestReport::skipped`], one that was read in part in
/// [`IngestReport::damaged`].
pub fn ingest(
    inputs: &[PathBuf],
    out: &Path,
    options: &IngestOptions,
    progress: &mut dyn FnMut(IngestProgress<'_>),
    cancel: &AtomicBool,
) -> Result<IngestReport, IngestError> {
    options.check()?;
    let mut report = IngestReport::default();
    let sources = inputs::find(inputs, &mut report.skipped);
    let mut writer = DatasetWriter::create(
        out,
        WriterOptions {
            height: options.height as usize,
            width: options.width as usize,
            frames_per_second: options.frames_per_second,
            fit: options.fit,
            crop: options.crop,
            max_shard_bytes: options.max_shard_bytes,
        },
    )?;

    let mut used = Vec::new();
    // Two copies of one video could end up on both sides of the split.
    let mut seen: BTreeMap<String, &Path> = BTreeMap::new();
    // Nobody wants to train on what was put aside, whichever copy comes first.
    let mut put_aside: BTreeMap<&Path, String> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.held_back) {
        // What cannot be read is told when its turn comes.
        if let Ok(Some(hash)) = source.hash(cancel) {
            put_aside.insert(&source.path, hash);
        }
    }
    for (index, source) in sources.iter().enumerate() {
        if cancel.load(Ordering::Relaxed) {
            report.cancelled = true;
            break;
        }
        let known = put_aside.get(source.path.as_path()).cloned();
        let hash = match known.map_or_else(|| source.hash(cancel), |hash| Ok(Some(hash))) {
            Ok(Some(hash)) => hash,
            Ok(None) => break,
            Err(error) => {
                report.skipped.push(SkippedSource::new(&source.path, error));
                continue;
            }
        };
        let mut kept = put_aside.iter().filter(|_| !source.held_back);
        let kept = || kept.find(|(_, of)| **of == hash).map(|(path, _)| path);
        if let Some(twin) = seen.get(&hash).or_else(kept) {
            report.warnings.push(format!(
                "{}: the same as {}; it is used once",
                source.path.display(),
                twin.display()
            ));
            continue;
        }
        let mut tell = |within: Option<f64>, frames: u64| {
            progress(IngestProgress {
                path: &source.path,
                source: index,
                sources: sources.len(),
                source_share: within,
                frames,
            });
        };
        match episodes::read_source(source, &hash, options, &mut writer, &mut tell, cancel)? {
            SourceOutcome::Read {
                scene_cuts,
                action_cuts,
                damaged,
                warnings,
            } => {
                report.scene_cuts += scene_cuts;
                report.action_cuts += action_cuts;
                report.damaged.extend(damaged);
                report.warnings.extend(warnings);
                used.push(source);
                seen.insert(hash, &source.path);
            }
            SourceOutcome::Unreadable(skipped) => report.skipped.push(skipped),
            SourceOutcome::Cancelled => {}
        }
    }
    writer.end_episode();
    report.cancelled |= cancel.load(Ordering::Relaxed);
    if !writer.episodes().iter().any(|episode| episode.length >= 2) {
        return Err(if report.cancelled {
            IngestError::Cancelled
        } else {
            IngestError::NothingRead {
                skipped: report.skipped,
            }
        });
    }

    let (episodes, note) = split::decide(&used, writer.episodes(), options);
    report.notes.push(note);
    if report.action_cuts > 0 {
        report.notes.push(format!(
            "episodes that end where their actions say so, at a lone null between two of them or where a player went back: {}",
            report.action_cuts
        ));
    }
    let manifest = writer.finish(episodes)?;
    report.count(&manifest);
    Ok(report)
}

#[cfg(test)]
mod tests;
