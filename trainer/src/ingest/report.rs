use std::fmt;
use std::path::{Path, PathBuf};

use media::Attempt;

use crate::dataset::{DatasetManifest, Split};

/// How far an ingest has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IngestProgress<'a> {
    /// The source being read.
    pub path: &'a Path,
    /// Its number.
    pub source: usize,
    /// How many sources there are.
    pub sources: usize,
    /// Share of this source that has been read, from 0 to 1, where its length is known.
    pub source_share: Option<f64>,
    /// Frames written so far, over all sources.
    pub frames: u64,
}

impl IngestProgress<'_> {
    /// Share of the whole work that is done, from 0 to 1, every source counting the same.
    pub fn share(&self) -> f64 {
        (self.source as f64 + self.source_share.unwrap_or(0.0).clamp(0.0, 1.0))
            / self.sources.max(1) as f64
    }
}

/// A source that is not in the dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedSource {
    /// The source.
    pub path: PathBuf,
    /// Its codec, where that much is known.
    pub codec: Option<String>,
    /// Decoders that were tried, and why each failed.
    pub tried: Vec<Attempt>,
    /// What would help, where something would.
    pub help: Option<String>,
    /// The whole story in one sentence, the path included.
    pub message: String,
}

impl fmt::Display for SkippedSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl SkippedSource {
    pub(super) fn from_error(path: &Path, error: &media::Error) -> Self {
        let (codec, tried, help) = match error {
            media::Error::NoDecoder {
                codec, tried, help, ..
            } => (Some(codec.clone()), tried.clone(), Some(help.clone())),
            media::Error::Damaged { codec, .. } => (Some(codec.clone()), Vec::new(), None),
            _ => (None, Vec::new(), None),
        };
        Self {
            path: path.to_owned(),
            codec,
            tried,
            help,
            message: error.to_string(),
        }
    }

    pub(super) fn new(path: &Path, what: impl fmt::Display) -> Self {
        Self {
            path: path.to_owned(),
            codec: None,
            tried: Vec::new(),
            help: None,
            message: format!("{}: {what}", path.display()),
        }
    }
}

/// What came of an ingest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IngestReport {
    /// Sources in the dataset.
    pub sources: usize,
    /// Frames in its episodes.
    pub frames: usize,
    /// Of these, frames to train on.
    pub train_frames: usize,
    /// Of these, frames held back for validation.
    pub validation_frames: usize,
    /// Number of episodes.
    pub episodes: usize,
    /// Episodes that ended because the scene changed.
    pub scene_cuts: usize,
    /// Names of the true actions; empty when none are known.
    pub action_names: Vec<String>,
    /// Sources that could not be read. Not empty: something was asked for and is missing.
    pub skipped: Vec<SkippedSource>,
    /// Sources that were read in part, and sidecars that did not fit.
    pub warnings: Vec<String>,
    /// Decisions worth knowing, such as how the validation frames were chosen.
    pub notes: Vec<String>,
    /// The work was ended early; the dataset holds what was read until then.
    pub cancelled: bool,
}

impl IngestReport {
    pub(super) fn count(&mut self, manifest: &DatasetManifest) {
        self.sources = manifest.sources.len();
        self.episodes = manifest.episodes.len();
        self.action_names.clone_from(&manifest.action_names);
        for episode in &manifest.episodes {
            self.frames += episode.length;
            match episode.split {
                Split::Train => self.train_frames += episode.length,
                Split::Validation => self.validation_frames += episode.length,
            }
        }
    }
}
