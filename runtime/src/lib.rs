//! Playing worlds: in a window, without one, and again from a recording.
//!
//! ```text
//! keys, pads ─► window or terminal ─► Desk ─ Command ─► WorldThread ─► FrameLoop ─► Play ─► worlds::Rollout
//!                    ◄─ View ─────┘    ActionSource ─► play_headless ─┘  ├─► Timeline, SavedState ─► Slots
//!                                                                        ├─► LiveSound ─► SoundOutput ─► the player's ears
//!                                                                        └─► Recorder ─► session folder ─► Session ─┬─► verify, export
//!                                                       FrameLoop ◄─ Playback ◄──────────────────────────────────┘
//! ```
//!
//! - [`Play`] is one play of a world, recorded or not, with a past to go back in ([`Timeline`]) and states to save and load ([`SavedState`],
//!   [`Slots`]);
//! - [`FrameLoop`] plays frame by frame as [`Command`]s say and tells what there is to see in a [`View`]; [`WorldThread`] runs one at the world's
//!   own rate, and [`play_in_window`] shows it, with a look ([`Filter`]) and a HUD ([`HudState`]) over it, and takes keys. [`play_headless`]
//!   plays as fast as the machine goes;
//! - [`ActionSource`] gives actions where nobody sits at the keys: a file, a recording, dice, the action prior;
//! - [`Mixer`] makes the sound of each frame from what the world carries and what happens; [`SoundOutput`] plays it, and a recording has it too;
//! - [`Session`] is a recorded play, readable up to the last complete frame whatever ended it; [`verify`] makes it again and compares token by
//!   token, and [`export`] writes it as video or GIF, both by way of a [`Replayer`]; a [`Playback`] shows any frame of it in a [`FrameLoop`],
//!   and play can be taken over from there;
//! - [`SharedInput`] makes wishes and [`Control`] commands of keys and gamepads, by [`Bindings`] that the world has and the player may change
//!   ([`OwnWorld`]);
//! - [`Settings`] are the player's own.

mod actions;
mod desk;
mod effect_pictures;
mod error;
mod frame_loop;
mod headless;
mod hud;
mod input;
mod pace;
mod play;
mod playback;
mod player;
mod preferences;
mod prompt;
mod replay;
mod saved_state;
mod screenshot;
mod session;
mod settings;
mod sound;
mod statistics;
mod terminal;
mod timeline;
mod whole_file;
mod window;
mod world_thread;

#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod soak_tests;

pub use actions::{ActionSource, Asked};
pub use desk::PlayOptions;
pub use effect_pictures::{effect_file_is_gif, effect_sheet, write_effects};
pub use error::{Error, Result};
pub use frame_loop::{Command, FrameLoop, LoopOptions, Message, ReplayView, Tick, View};
pub use headless::{HeadlessOptions, play_headless};
pub use hud::{HudAction, HudState, KeyLine, Notice, Notices, Page, Thumbnail, WorldCard};
pub use input::{
    Bindings, Control, ControlEvent, ControlTable, Gamepads, InputState, OwnAction, OwnControls,
    OwnWorld, PadEvent, SharedInput, Source, Stick, StickAxis,
};
pub use pace::{AdaptiveSteps, Rate};
pub use play::{NextSeed, Play, PlaySummary, Recording, USUAL_REWIND_MEMORY, keep_somewhere};
pub use playback::Playback;
pub use player::{Player, WishReader};
pub use preferences::Preferences;
pub use prompt::{Prompt, read_prompt};
pub use replay::{Difference, Replayer, Verification, export, verify};
pub use saved_state::{SLOTS, SavedState, Slots};
pub use screenshot::save_screenshot;
pub use session::{
    ActionLine, Event, NumberedLine, Opening, Recorder, SESSION_VERSION, Session, SessionLine,
    SessionManifest, enlargement, parse_session_lines,
};
pub use settings::{Filter, Settings, SettingsFlaw};
pub use sound::{LiveSound, MIX_RATE, Mixer, Moment, Sink, SoundOutput, Volume};
pub use statistics::{FrameTimeSummary, FrameTimes};
pub use terminal::{has_terminal, play_in_terminal};
pub use timeline::Timeline;
pub use window::{Rectangle, letterbox, play_in_window};
pub use world_thread::WorldThread;

pub(crate) use play::picture_of;
