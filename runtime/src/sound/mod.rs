//! Sound: what a world sounds like, frame by frame, and how it gets to the player's ears.
//!
//! ```text
//! Soundscape ─► Mixer ─ samples of one frame ─► Recorder: audio.wav, sound track of video.mp4
//!             └► Mixer ─ samples of one frame ─► SoundOutput ─ Buffer ─► Sink (PulseAudio, cpal, none)
//! ```
//!
//! A [`Mixer`] knows no clock: each frame that it is told of yields exactly that frame's samples, so that a session sounds the same whenever and
//! however fast it is played, recorded or exported. [`SoundOutput`] brings the frame clock and the device's clock together. The player's volume
//! lies behind the mixer and never reaches a recording.

mod buffer;
#[cfg(any(not(target_os = "linux"), feature = "alsa"))]
mod device;
mod interpolation;
mod mixer;
mod output;
#[cfg(target_os = "linux")]
mod pulse;

pub use mixer::{MIX_RATE, Mixer, Moment};
pub(crate) use output::mixer_of;
pub use output::{LiveSound, Sink, SoundOutput, Volume};
