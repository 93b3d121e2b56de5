use std::ops::Range;
use std::path::{Path, PathBuf};

use nn::{FrameSize, Transitions};

use super::manifest::{DatasetManifest, MANIFEST_FILE, Split};
use super::shard::Shard;
use super::{DatasetError, EpisodeRecord};

/// One run of frames without a break, as [`Dataset::episodes`] lists them.
pub type Episode = EpisodeRecord;

/// A dataset that is open for reading. Frames stay on disk until they are looked at.
pub struct Dataset {
    path: PathBuf,
    manifest: DatasetManifest,
    shards: Vec<Shard>,
    train: Vec<Episode>,
    validation: Vec<Episode>,
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Dataset")
            .field("path", &self.path)
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
}

impl Dataset {
    /// Opens the dataset in the folder `path`.
    ///
    /// # Errors
    ///
    /// Whatever is missing, damaged or contradictory, by file and field.
    pub fn open(path: &Path) -> Result<Self, DatasetError> {
        let manifest_path = path.join(MANIFEST_FILE);
        if path.exists() && !manifest_path.exists() {
            return Err(DatasetError::NotADataset {
                path: path.to_owned(),
            });
        }
        let manifest = DatasetManifest::read(&manifest_path)?;
        let shards = manifest
            .shards
            .iter()
            .enumerate()
            .map(|(index, shard)| Shard::open(&path.join(&shard.file), index, &manifest))
            .collect::<Result<_, _>>()?;
        let of = |split| {
            manifest
                .episodes
                .iter()
                .copied()
                .filter(|episode| episode.split == split)
                .collect()
        };
        Ok(Self {
            path: path.to_owned(),
            train: of(Split::Train),
            validation: of(Split::Validation),
            shards,
            manifest,
        })
    }

    /// The folder that it was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `dataset.ron` says.
    pub fn manifest(&self) -> &DatasetManifest {
        &self.manifest
    }

    /// Height and width of every frame in pixels.
    pub fn frame_size(&self) -> FrameSize {
        FrameSize {
            height: self.manifest.height,
            width: self.manifest.width,
        }
    }

    /// Frame rate.
    pub fn frames_per_second(&self) -> f64 {
        self.manifest.frames_per_second
    }

    /// The episodes of one split, in the order of the sources.
    pub fn episodes(&self, split: Split) -> &[Episode] {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
        }
    }

    /// Number of frames in the episodes of one split.
    pub fn frame_count(&self, split: Split) -> usize {
        self.episodes(split)
            .iter()
            .map(|episode| episode.length)
            .sum()
    }

    /// Frames `range` of `episode` (counted from its start), straight out of the memory map: `range.len() * H * W * 3`
    /// bytes.
    ///
    /// # Panics
    ///
    /// When `episode` is not of this dataset, or `range` leaves it.
    pub fn frames(&self, episode: &Episode, range: Range<usize>) -> &[u8] {
        assert!(
            range.start <= range.end && range.end <= episode.length,
            "frames {range:?} of an episode of {}",
            episode.length
        );
        self.shards[episode.shard].frames(episode.start + range.start..episode.start + range.end)
    }

    /// True actions of `episode`, where the dataset has them: numbers that count into [`Dataset::action_names`], `None` where
    /// none is known.
    ///
    /// # Panics
    ///
    /// When `episode` is not of this dataset.
    pub fn true_actions(&self, episode: &Episode) -> Option<Transitions<Option<u16>>> {
        if self.manifest.action_names.is_empty() {
            return None;
        }
        let actions = self.shards[episode.shard].actions.as_ref()?;
        let actions = &actions[episode.start..episode.start + episode.length];
        let known = |action: u16| (action != super::UNKNOWN_ACTION).then_some(action);
        Some(Transitions::of_frames(episode.length, |frame| {
            known(actions[frame])
        }))
    }

    /// Names of the true actions; empty when there are none.
    pub fn action_names(&self) -> &[String] {
        &self.manifest.action_names
    }
}
