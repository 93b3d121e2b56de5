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
        formatter.write_str(&self.message)?;
        match &self.help {
            // Some messages give the help themselves.
            Some(help) if !self.message.contains(help) => write!(formatter, ". {help}"),
            _ => Ok(()),
        }
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
        let help = help.or_else(|| help_for(error).map(str::to_owned));
        // Some errors speak of a picture and do not know which file it is from.
        let message = match error.path() {
            Some(_) => error.to_string(),
            None => format!("{}: {error}", path.display()),
        };
        Self {
            path: path.to_owned(),
            codec,
            tried,
            help,
            message,
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

    pub(super) fn with_help(self, help: &str) -> Self {
        Self {
            help: Some(help.to_owned()),
            ..self
        }
    }
}

/// What would help against an error that does not say so itself.
fn help_for(error: &media::Error) -> Option<&'static str> {
    match error {
        media::Error::Malformed { .. } | media::Error::Damaged { .. } => {
            Some("Copy it again from where it came from, or record it again")
        }
        media::Error::CropOutside { .. } => Some(
            "Give a --crop that lies inside the pictures, or ingest videos of one size at a time",
        ),
        media::Error::TooLarge { .. } => {
            Some("Make its pictures smaller first, with ffmpeg for one")
        }
        _ => None,
    }
}

/// A source of which only a part is in the dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedSource {
    /// The source.
    pub path: PathBuf,
    /// Its codec.
    pub codec: String,
    /// In how many places it could not be read. An episode ends at each.
    pub places: u64,
    /// Pictures left out, where that is known.
    pub pictures_lost: u64,
    /// The whole story in one sentence, the path included.
    pub message: String,
    /// What would help.
    pub help: String,
}

impl fmt::Display for DamagedSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}. {}", self.message, self.help)
    }
}

/// What was met in the places where a source could not be read.
#[derive(Debug)]
pub(super) struct Damage {
    first: media::Error,
    places: u64,
    pictures_lost: u64,
}

impl Damage {
    /// Adds a place to those met before.
    pub(super) fn add(before: Option<Self>, error: media::Error) -> Self {
        let lost = match error {
            media::Error::Damaged { pictures_lost, .. } => pictures_lost,
            _ => 0,
        };
        match before {
            Some(before) => Self {
                places: before.places + 1,
                pictures_lost: before.pictures_lost + lost,
                ..before
            },
            None => Self {
                first: error,
                places: 1,
                pictures_lost: lost,
            },
        }
    }

    /// The first error met.
    pub(super) fn first(&self) -> &media::Error {
        &self.first
    }

    /// The report on a source from which `used` pictures could be read all the same.
    pub(super) fn report(&self, path: &Path, codec: &str, used: u64) -> DamagedSource {
        let SkippedSource { message, help, .. } = SkippedSource::from_error(path, &self.first);
        let places = match self.places {
            1 => String::new(),
            places => format!(" (the first of {places} such places)"),
        };
        let rest = match self.pictures_lost {
            0 => format!("the {used} pictures that could be read are used"),
            lost => format!("{lost} pictures are left out, {used} are used"),
        };
        DamagedSource {
            path: path.to_owned(),
            codec: codec.to_owned(),
            places: self.places,
            pictures_lost: self.pictures_lost,
            message: format!("{message}{places}; {rest}"),
            help: help.unwrap_or_default(),
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
    /// Episodes that ended because their actions said so: a lone null between two of a sidecar, or a player who went back.
    pub action_cuts: usize,
    /// Names of the true actions; empty when none are known.
    pub action_names: Vec<String>,
    /// Sources that could not be read. Not empty: something was asked for and is missing.
    pub skipped: Vec<SkippedSource>,
    /// Sources that were read in part. Not empty: something was asked for and is missing.
    pub damaged: Vec<DamagedSource>,
    /// Sources that came twice, and sidecars that did not fit.
    pub warnings: Vec<String>,
    /// Decisions worth knowing, such as how the validation frames were chosen.
    pub notes: Vec<String>,
    /// The work was ended early; the dataset holds what was read until then.
    pub cancelled: bool,
}

impl IngestReport {
    /// Whether everything that was asked for is in the dataset.
    pub fn is_complete(&self) -> bool {
        self.skipped.is_empty() && self.damaged.is_empty()
    }

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
