//! Playing worlds: in a window, without one, and again from a recording.
//!
//! ```text
//! keyboard ─► window ─► WorldThread ─► Play ─► worlds::Rollout
//!            ActionSource ─► play_headless ─┘  ├─► Recorder ─► session folder ─► Session ─► verify, export
//!                                               └─► LiveSound ─► SoundOutput ─► the player's ears
//! ```
//!
//! - [`Play`] is one play of a world, recorded or not; [`play_headless`] runs it as fast as the machine goes, [`WorldThread`] at the world's own rate, and
//!   [`play_in_window`] shows it and takes keys;
//! - [`ActionSource`] gives actions where nobody sits at the keys: a file, a recording, dice, the action prior;
//! - [`Mixer`] makes the sound of each frame from what the world carries and what happens; [`SoundOutput`] plays it, and a recording has it too;
//! - [`Session`] is a recorded play, readable up to the last complete frame whatever ended it; [`verify`] makes it again and compares token by
//!   token, [`export`] writes it as video or GIF.

mod actions;
mod error;
mod headless;
mod play;
mod replay;
mod session;
mod sound;
mod statistics;
mod window;
mod world_thread;

#[cfg(test)]
mod session_tests;

pub use actions::{ActionSource, Asked};
pub use error::{Error, Result};
pub use headless::{HeadlessOptions, play_headless};
pub use play::{Play, PlaySummary, Preferences, Recording, read_prompt};
pub use replay::{Difference, Verification, export, verify};
pub use session::{
    ActionLine, Recorder, SESSION_VERSION, Session, SessionManifest, enlargement,
    parse_action_lines,
};
pub use sound::{LiveSound, MIX_RATE, Mixer, Moment, NullSink, Sink, SoundOutput, Volume};
pub use statistics::{FrameTimeSummary, FrameTimes};
pub use window::{Bindings, Keyboard, Rectangle, WindowOptions, letterbox, play_in_window};
pub use world_thread::{Player, WishReader, WorldThread};

pub(crate) use play::picture_of;
