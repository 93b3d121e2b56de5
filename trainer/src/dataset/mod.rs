//! Datasets on disk: frames that a random clip is a slice of.
//!
//! A dataset is a folder with `dataset.ron` ([`DatasetManifest`]: version, frame size and rate, sources, episodes and
//! their split) and `frames-00000.safetensors`, `frames-00001.safetensors` and so on. Each of these shards holds
//! `frames` (u8 `[N, H, W, 3]`), `episode_start` (i64 `[E]`, numbers of frames within the shard) and, where the true
//! actions are known, `actions` (u16 `[N]`). Shards are read by memory map, so opening a dataset of any size takes no
//! time and clips are not copied.
//!
//! A dataset may come from strangers: [`Dataset::open`] checks the manifest, every shard's header and how they fit
//! together, and refuses with the file and the field at fault.

mod error;
mod manifest;
mod reader;
mod shard;
mod writer;

pub use error::DatasetError;
pub use manifest::{
    DatasetManifest, EpisodeRecord, MANIFEST_FILE, ShardRecord, SourceRecord, Split, VERSION,
};
pub use reader::{Dataset, Episode};
pub use writer::{DatasetWriter, WriterOptions};

/// Entry of `actions` where the action is not known.
pub const UNKNOWN_ACTION: u16 = u16::MAX;

/// Size of a shard that the documented format does not exceed, in bytes.
pub const MAXIMUM_SHARD_BYTES: u64 = 256 << 20;

#[cfg(test)]
mod tests;
