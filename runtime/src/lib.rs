//! Playing worlds: in a window, without one, and again from a recording.
//!
//! ```text
//! keyboard ─► window ─ Command ─► WorldThread ─► FrameLoop ─► Play ─► worlds::Rollout
//!                    ◄─ View ─────┘    ActionSource ─► play_headless ─┘  │  └─► Timeline, SavedState ─► Slots
//!                                                                        └─► Recorder ─► session folder ─► Session ─► verify, export
//! ```
//!
//! - [`Play`] is one play of a world, recorded or not, with a past to go back in ([`Timeline`]) and states to save and load ([`SavedState`],
//!   [`Slots`]);
//! - [`FrameLoop`] plays frame by frame as [`Command`]s say and tells what there is to see in a [`View`]; [`WorldThread`] runs one at the world's
//!   own rate, and [`play_in_window`] shows it, with a look ([`Filter`]) and a HUD ([`HudState`]) over it, and takes keys. [`play_headless`]
//!   plays as fast as the machine goes;
//! - [`ActionSource`] gives actions where nobody sits at the keys: a file, a recording, dice, the action prior;
//! - [`Session`] is a recorded play, readable up to the last complete frame whatever ended it; [`verify`] makes it again and compares token by
//!   token, [`export`] writes it as video or GIF, and a [`Replayer`] goes through it, to any frame, from which play can be taken over;
//! - [`Settings`] are the player's own.

mod actions;
mod error;
mod frame_loop;
mod headless;
mod hud;
mod pace;
mod play;
mod player;
mod replay;
mod saved_state;
mod screenshot;
mod session;
mod settings;
mod statistics;
mod timeline;
mod window;
mod world_thread;

#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod soak_tests;

pub use actions::{ActionSource, Asked};
pub use error::{Error, Result};
pub use frame_loop::{Command, FrameLoop, LoopOptions, Tick, View};
pub use headless::{HeadlessOptions, play_headless};
pub use hud::{HudAction, HudState, KeyLine, Notice, Notices, Page, Thumbnail, WorldCard};
pub use pace::{AdaptiveSteps, Rate};
pub use play::{
    NextSeed, Play, PlaySummary, Preferences, Recording, USUAL_REWIND_MEMORY, read_prompt,
};
pub use player::{Player, WishReader};
pub use replay::{Difference, Replayer, Verification, export, verify};
pub use saved_state::{SLOTS, SavedState, Slots};
pub use screenshot::save_screenshot;
pub use session::{
    ActionLine, Event, NumberedLine, Opening, Recorder, SESSION_VERSION, Session, SessionLine,
    SessionManifest, enlargement, parse_action_lines, parse_session_lines,
};
pub use settings::{Filter, Settings, SettingsFlaw};
pub use statistics::{FrameTimeSummary, FrameTimes};
pub use timeline::Timeline;
pub use window::{
    Bindings, Keyboard, Rectangle, SceneCommand, WindowOptions, letterbox, play_in_window,
};
pub use world_thread::WorldThread;

pub(crate) use play::picture_of;
