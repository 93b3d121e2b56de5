//! Recorded plays: a folder that outlives a crash, can be made again frame by frame, and can be trained on.
//!
//! | file | content |
//! |---|---|
//! | `session.ron` | [`SessionManifest`]: world, hash, seed, settings |
//! | `prompt-000.png` … | starting frames, exactly |
//! | `0123456789abcdef.state` … | states ([`crate::SavedState`]) that play went on from; one of them is the start where recording began in the middle of play |
//! | `actions.jsonl` | one [`ActionLine`] for each frame after the start, and an [`Event`] for what happened between frames |
//! | `tokens.safetensors` | `tokens` u32 `[frames, N]` of the same frames; `tokens.journal` until play has ended |
//! | `video.mp4` | the starting frames and all others in the order in which they were made, enlarged by a whole factor; where time jumps, first the frames that play went on from; with the sound where the world has any |
//! | `audio.wav` | what was heard, at full volume, or silence, as long as the video (or the 4 GB that such a file holds) |
//!
//! Version 1 had no events and no states, and always began with a prompt; it is still read.

mod encoder;
mod lines;
mod reader;
mod recorder;

pub use lines::{ActionLine, Event, NumberedLine, SessionLine, parse_session_lines};
pub use reader::Session;
pub use recorder::{Opening, Recorder, enlargement};

use nn::FrameSize;
use serde::{Deserialize, Serialize};
use worlds::RolloutSettings;

/// The version of the session format that this program writes; it reads this one and those before it.
pub const SESSION_VERSION: u32 = 2;

pub(crate) const MANIFEST_FILE: &str = "session.ron";
pub(crate) const ACTIONS_FILE: &str = "actions.jsonl";
pub(crate) const TOKENS_FILE: &str = "tokens.safetensors";
pub(crate) const JOURNAL_FILE: &str = "tokens.journal";
pub(crate) const VIDEO_FILE: &str = "video.mp4";
pub(crate) const AUDIO_FILE: &str = "audio.wav";

/// The content of `session.ron`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionManifest {
    /// Version of the session format, at most [`SESSION_VERSION`].
    pub version: u32,
    /// The program that recorded it, and its version.
    pub program: String,
    /// Name by which the world was found.
    pub world: String,
    /// The world's hash: frames can be made again in a world with this hash only. Older sessions have the one that leaves out the idle code.
    pub world_hash: String,
    /// Names of the world's action codes: entry `k` is code `k`.
    pub actions: Vec<String>,
    /// Size of the frames.
    pub frame: FrameSize,
    /// Tokens in a frame (`N`).
    pub tokens_per_frame: usize,
    /// Frames in a second.
    pub frames_per_second: f64,
    /// Seed, sampler and strength at the start.
    pub settings: RolloutSettings,
    /// Files of the starting frames; none where the start is a state.
    pub prompt: Vec<String>,
    /// File of the starting state, where recording began in the middle of play.
    #[serde(default)]
    pub state: Option<String>,
    /// What computed the frames' matrix products, as [`worlds::World::kernels`] names it; anything else may round differently.
    /// Sessions of version 1 called it `instructions`.
    #[serde(alias = "instructions")]
    pub kernels: String,
}
