use std::io::Read;
use std::path::Path;

use media::{CropRect, Fit};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::DatasetError;
use crate::files;

/// Version of the format that this program writes and reads.
pub const VERSION: u32 = 1;

/// Name of the manifest within a dataset's folder.
pub const MANIFEST_FILE: &str = "dataset.ron";

/// Longest manifest that is read, in bytes: room for about a million episodes.
const LONGEST_MANIFEST: u64 = 128 << 20;

/// Longest side of a frame, in pixels.
pub(super) const LONGEST_SIDE: usize = 4096;

/// What an episode is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Split {
    /// Trained on.
    Train,
    /// Measured on, never trained on.
    Validation,
}

/// One video, animation, image folder or session that went into a dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRecord {
    /// Path as it was given to ingest.
    pub path: String,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
    /// What it was coded with.
    pub codec: String,
    /// Frames taken from it.
    pub frames: u64,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRecord {
    /// File name within the dataset's folder.
    pub file: String,
    /// Number of frames in it.
    pub frames: usize,
}

/// One run of frames without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpisodeRecord {
    /// Number of the shard.
    pub shard: usize,
    /// Its first frame within the shard.
    pub start: usize,
    /// Number of frames, at least 2.
    pub length: usize,
    /// Number of the source.
    pub source: usize,
    /// What it is for.
    pub split: Split,
}

/// The content of `dataset.ron`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetManifest {
    /// Version of the format: [`VERSION`].
    pub version: u32,
    /// Height of a frame in pixels.
    pub height: usize,
    /// Width of a frame in pixels.
    pub width: usize,
    /// Frame rate.
    pub frames_per_second: f64,
    /// How source pictures were brought to the frame size.
    pub fit: Fit,
    /// Part of the source pictures that was looked at, if not all.
    pub crop: Option<CropRect>,
    /// Names of the true actions: entry `a` of this list is the name of action `a` in the shards. Empty when no true
    /// actions are known.
    pub action_names: Vec<String>,
    /// What went in.
    pub sources: Vec<SourceRecord>,
    /// The files with the frames.
    pub shards: Vec<ShardRecord>,
    /// The runs of frames to use.
    pub episodes: Vec<EpisodeRecord>,
}

/// Name of shard number `index`.
pub(super) fn shard_file(index: usize) -> String {
    format!("frames-{index:05}.safetensors")
}

/// Only the version, to tell a foreign version from a broken file.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl DatasetManifest {
    /// Bytes of one frame.
    pub fn frame_bytes(&self) -> usize {
        self.height * self.width * 3
    }

    /// Sixteen hexadecimal digits that change with the frames and with what they are used for: with their size and rate, with the content, fit
    /// and crop of the sources, and with the episodes. Where the sources lie and what their true actions are does not matter.
    pub fn digest(&self) -> String {
        let sources = self.sources.iter();
        let sources: Vec<_> = sources
            .map(|source| (&source.sha256, &source.codec, source.frames))
            .collect();
        let text = format!(
            "{} {} {} {:?} {:?} {sources:?} {:?}",
            self.height, self.width, self.frames_per_second, self.fit, self.crop, self.episodes
        );
        files::short_digest(Sha256::new_with_prefix(text))
    }

    pub(super) fn read(path: &Path) -> Result<Self, DatasetError> {
        let file = std::fs::File::open(path).map_err(DatasetError::io(path))?;
        let mut text = String::new();
        let length = file
            .take(LONGEST_MANIFEST + 1)
            .read_to_string(&mut text)
            .map_err(DatasetError::io(path))?;
        if length as u64 > LONGEST_MANIFEST {
            return Err(DatasetError::manifest(
                path,
                format!("longer than {LONGEST_MANIFEST} bytes"),
            ));
        }
        Self::parse(path, &text)
    }

    /// Parses and checks a manifest; `path` is for messages.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, DatasetError> {
        let broken =
            |error: ron::error::SpannedError| DatasetError::manifest(path, error.to_string());
        let Versioned { version } = ron::from_str(text).map_err(broken)?;
        if version != VERSION {
            return Err(DatasetError::Version {
                path: path.to_owned(),
                found: version,
            });
        }
        let manifest: Self = ron::from_str(text).map_err(broken)?;
        manifest
            .check()
            .map_err(|what| DatasetError::manifest(path, what))?;
        Ok(manifest)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (name, side) in [("height", self.height), ("width", self.width)] {
            if !(1..=LONGEST_SIDE).contains(&side) {
                return Err(format!(
                    "{name}: {side} is not between 1 and {LONGEST_SIDE}"
                ));
            }
        }
        if !(self.frames_per_second > 0.0 && self.frames_per_second <= 1000.0) {
            return Err(format!(
                "frames_per_second: {} is not over 0 and at most 1000",
                self.frames_per_second
            ));
        }
        if self.action_names.len() >= usize::from(super::UNKNOWN_ACTION) {
            return Err(format!(
                "action_names: {} names are too many",
                self.action_names.len()
            ));
        }
        for (index, shard) in self.shards.iter().enumerate() {
            let expected = shard_file(index);
            if shard.file != expected {
                return Err(format!(
                    "shards[{index}].file: {:?} should be {expected:?}",
                    shard.file
                ));
            }
        }
        let mut used = vec![0usize; self.shards.len()];
        for (index, episode) in self.episodes.iter().enumerate() {
            let Some(shard) = self.shards.get(episode.shard) else {
                return Err(format!(
                    "episodes[{index}].shard: there is no shard {}",
                    episode.shard
                ));
            };
            if episode.source >= self.sources.len() {
                return Err(format!(
                    "episodes[{index}].source: there is no source {}",
                    episode.source
                ));
            }
            if episode.length < 2 {
                return Err(format!(
                    "episodes[{index}].length: {} is less than 2",
                    episode.length
                ));
            }
            let end = episode
                .start
                .checked_add(episode.length)
                .filter(|&end| end <= shard.frames);
            let Some(end) = end else {
                return Err(format!(
                    "episodes[{index}]: {} frames from {} leave shard {} of {} frames",
                    episode.length, episode.start, episode.shard, shard.frames
                ));
            };
            // Overlapping episodes would let validation frames into training.
            if episode.start < used[episode.shard] {
                return Err(format!(
                    "episodes[{index}].start: {} overlaps the episode before it",
                    episode.start
                ));
            }
            used[episode.shard] = end;
        }
        Ok(())
    }

    pub(super) fn to_text(&self) -> Result<String, String> {
        let style = ron::ser::PrettyConfig::new()
            .depth_limit(2)
            .compact_structs(false);
        let text = ron::ser::to_string_pretty(self, style).map_err(|error| error.to_string())?;
        Ok(text + "\n")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::dataset) fn small() -> DatasetManifest {
        let episode = |start, length, split| EpisodeRecord {
            shard: 0,
            start,
            length,
            source: 0,
            split,
        };
        DatasetManifest {
            version: VERSION,
            height: 4,
            width: 6,
            frames_per_second: 15.0,
            fit: Fit::Crop,
            crop: None,
            action_names: vec!["left".to_owned()],
            sources: vec![SourceRecord {
                path: "a.mp4".to_owned(),
                sha256: "00".repeat(32),
                codec: "H.264".to_owned(),
                frames: 10,
            }],
            shards: vec![ShardRecord {
                file: shard_file(0),
                frames: 10,
            }],
            episodes: vec![
                episode(0, 5, Split::Train),
                episode(6, 4, Split::Validation),
            ],
        }
    }

    fn refusal(change: impl FnOnce(&mut DatasetManifest)) -> String {
        let mut manifest = small();
        change(&mut manifest);
        let text = manifest.to_text().unwrap();
        DatasetManifest::parse(Path::new("d/dataset.ron"), &text)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn writes_what_it_reads() {
        let text = small().to_text().unwrap();
        assert_eq!(
            DatasetManifest::parse(Path::new("x"), &text).unwrap(),
            small()
        );
    }

    #[test]
    fn the_digest_tells_other_video_apart_and_not_where_it_lies() {
        let digest = |change: fn(&mut DatasetManifest)| {
            let mut manifest = small();
            change(&mut manifest);
            manifest.digest()
        };
        let same = digest(|_| {});
        assert_eq!(same.len(), 16);
        assert_eq!(same, digest(|m| m.sources[0].path = "b.mp4".to_owned()));
        assert_eq!(same, digest(|m| m.action_names.clear()));
        let changes: [fn(&mut DatasetManifest); 8] = [
            |m| m.height = 5,
            |m| m.width = 5,
            |m| m.frames_per_second = 15.5,
            |m| m.fit = Fit::Pad,
            |m| {
                m.crop = Some(CropRect {
                    x: 0,
                    y: 0,
                    width: 4,
                    height: 4,
                })
            },
            |m| m.sources[0].sha256 = "01".repeat(32),
            |m| m.episodes[0].length = 4,
            |m| m.episodes[1].split = Split::Train,
        ];
        let mut digests: Vec<String> = changes.into_iter().map(digest).collect();
        digests.push(same);
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), 9);
    }

    #[test]
    fn refusals_name_file_and_field() {
        let cases = [
            (refusal(|m| m.height = 0), "height"),
            (refusal(|m| m.width = usize::MAX), "width"),
            (
                refusal(|m| m.frames_per_second = f64::NAN),
                "frames_per_second",
            ),
            (
                refusal(|m| m.shards[0].file = "../../etc/passwd".to_owned()),
                "shards[0].file",
            ),
            (refusal(|m| m.episodes[0].shard = 3), "episodes[0].shard"),
            (refusal(|m| m.episodes[0].source = 3), "episodes[0].source"),
            (refusal(|m| m.episodes[1].start = usize::MAX), "episodes[1]"),
            (refusal(|m| m.episodes[1].start = 4), "episodes[1].start"),
            (refusal(|m| m.episodes[0].length = 1), "episodes[0].length"),
        ];
        for (message, field) in cases {
            assert!(
                message.contains("d/dataset.ron") && message.contains(field),
                "{message}"
            );
        }
        assert!(refusal(|m| m.version = 99).contains("version 99"));
    }

    proptest! {
        #[test]
        fn damaged_manifests_never_panic(at in 0usize..600, byte: u8, cut in 0usize..600) {
            let mut bytes = small().to_text().unwrap().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = DatasetManifest::parse(Path::new("x"), &String::from_utf8_lossy(&bytes));
            bytes.truncate(cut);
            let _ = DatasetManifest::parse(Path::new("x"), &String::from_utf8_lossy(&bytes));
        }
    }
}
