//! What a player sits at, whatever shows the picture: a running world, the keys, and what they command.

use crate::actions::ActionSource;
use crate::error::Result;
use crate::frame_loop::{Command, FrameLoop, LoopOptions, View};
use crate::play::{NextSeed, Play, PlaySummary, Recording};
use crate::player::Player;
use crate::saved_state::Slots;
use crate::settings::Settings;
use crate::sound::SoundOutput;
use crate::window::{Bindings, Keyboard};
use crate::world_thread::WorldThread;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use worlds::{Frame, RolloutSettings, World};

/// How a player plays.
#[derive(Clone, Debug)]
pub struct PlayOptions {
    /// The starting frames.
    pub prompt: Vec<Frame>,
    /// Seed, sampler and strength.
    pub settings: RolloutSettings,
    /// Where the actions come from; `None` for the player's own hands. Play ends when they come to their end.
    pub actions: Option<ActionSource>,
    /// Where the play is recorded from its start.
    pub recording: Option<Recording>,
    /// Name by which recordings that are begun later find the world again.
    pub world_name: String,
    /// The player's own settings.
    pub player: Settings,
}

/// A running world and what steers it.
pub(crate) struct Desk {
    world: WorldThread,
    keyboard: Arc<Mutex<Keyboard>>,
    world_name: String,
    /// Where recordings go.
    recording_folder: PathBuf,
}

/// What a key asks of whoever shows the picture; the rest is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing.
    Nothing,
    /// To leave.
    Leave,
}

impl Desk {
    /// Starts the world on a thread of its own. `notify` is called there whenever there is something new to see.
    ///
    /// # Errors
    /// When prompt or settings do not fit the world, the recording's folder cannot be used, or no thread can be started.
    pub(crate) fn start(
        world: Arc<World>,
        options: PlayOptions,
        notify: impl Fn() + Send + 'static,
    ) -> Result<Self> {
        let PlayOptions {
            prompt,
            settings,
            actions,
            recording,
            world_name,
            player: own,
        } = options;
        let keyboard = Arc::new(Mutex::new(Keyboard::new(Bindings::of(&world.manifest))));
        let slots = Slots::of(&world);
        let sounds = !world.soundscape.is_silent();
        let mut play = Play::start(world, prompt, settings, recording)?;
        if sounds {
            let output = SoundOutput::open();
            output.volume().set(own.volume);
            output.volume().set_muted(own.mute);
            play = play.with_sound(output);
        }
        let player = match actions {
            Some(source) => Player::Source(source),
            None => {
                let keyboard = keyboard.clone();
                Player::Person {
                    device: "keyboard",
                    wish: Box::new(move || locked(&keyboard, Keyboard::take_wish)),
                }
            }
        };
        let frames = FrameLoop::new(play, player, LoopOptions::of(&own, slots))?;
        Ok(Self {
            world: WorldThread::start(frames, notify)?,
            keyboard,
            world_name,
            recording_folder: own.recording_folder.unwrap_or_default(),
        })
    }

    /// A key went down, by its physical name.
    pub(crate) fn press(&self, key: &str) -> Asked {
        if key == "Escape" {
            return Asked::Leave;
        }
        match self.command_of(key) {
            Some(command) => self.world.command(command),
            None => locked(&self.keyboard, |keyboard| keyboard.press(key)),
        }
        Asked::Nothing
    }

    /// A key went up.
    pub(crate) fn release(&self, key: &str) {
        match key {
            "Backspace" => self.world.command(Command::Rewind(false)),
            _ => locked(&self.keyboard, |keyboard| keyboard.release(key)),
        }
    }

    /// All keys went up, as when whoever shows the picture hears no more of them.
    pub(crate) fn release_all(&self) {
        locked(&self.keyboard, Keyboard::release_all);
        self.world.command(Command::Rewind(false));
    }

    /// What a key commands when it goes down; `None` for one that commands nothing.
    fn command_of(&self, key: &str) -> Option<Command> {
        let view = self.world.view();
        Some(match key {
            "Backspace" => Command::Rewind(true),
            "KeyR" => Command::Restart(NextSeed::New),
            "KeyP" => Command::Pause(!view.paused),
            "Period" | "KeyN" => Command::Step,
            "F5" => Command::Save(0),
            "F9" => Command::Load(0),
            "F2" if view.recording.is_some() => Command::Record(None),
            "F2" => match Recording::into_new_folder(&self.recording_folder, &self.world_name) {
                Ok(recording) => Command::Record(Some(recording)),
                Err(error) => Command::Say(format!("no recording: {error}")),
            },
            _ => return None,
        })
    }

    /// What there is to see, once: `None` until there is something new.
    pub(crate) fn take_view(&self) -> Option<Arc<View>> {
        self.world.take_view()
    }

    /// What there is to see.
    pub(crate) fn view(&self) -> Arc<View> {
        self.world.view()
    }

    /// Whether the world has come to its end, of itself or by an error.
    pub(crate) fn has_ended(&self) -> bool {
        self.world.has_ended()
    }

    /// Stops the world, completes its recording and tells what it came to.
    ///
    /// # Errors
    /// What stopped it, if it was an error.
    pub(crate) fn finish(self) -> Result<PlaySummary> {
        self.world.finish()
    }
}

fn locked<R>(keyboard: &Mutex<Keyboard>, with: impl FnOnce(&mut Keyboard) -> R) -> R {
    with(&mut keyboard.lock().unwrap_or_else(PoisonError::into_inner))
}
