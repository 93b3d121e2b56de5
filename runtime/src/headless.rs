//! Play without a window: as fast as the machine goes.

use crate::actions::ActionSource;
use crate::error::Result;
use crate::play::{Play, PlaySummary, Recording};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use worlds::{Frame, RolloutSettings, Step, World};

/// How to play without a window.
#[derive(Clone, Debug)]
pub struct HeadlessOptions {
    /// Frames to make.
    pub frames: u64,
    /// The starting frames.
    pub prompt: Vec<Frame>,
    /// Seed, sampler and strength.
    pub settings: RolloutSettings,
    /// Where the actions come from.
    pub actions: ActionSource,
    /// Where the play is recorded.
    pub recording: Option<Recording>,
}

/// Plays a world without a window. `on_frame` is called after each frame; when `cancel` becomes true, play stops after the present
/// frame with everything kept.
///
/// # Errors
/// When prompt, settings or an action do not fit the world, or the recording cannot be begun.
pub fn play_headless(
    world: Arc<World>,
    options: HeadlessOptions,
    on_frame: &mut dyn FnMut(&Step),
    cancel: &AtomicBool,
) -> Result<PlaySummary> {
    let HeadlessOptions {
        frames,
        prompt,
        settings,
        mut actions,
        recording,
    } = options;
    let mut play = Play::start(world, prompt, settings, recording)?;
    for _ in 0..frames {
        if cancel.load(Ordering::Relaxed) {
            return Ok(play.finish(true));
        }
        // Which of a file's lines are used up decides what the device is called.
        let device = match actions.remaining() {
            Some(0) => "none",
            _ => actions.device(),
        };
        let step = play.advance(&actions.next_asked(), device)?;
        on_frame(&step);
    }
    Ok(play.finish(false))
}
