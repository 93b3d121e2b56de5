//! What a player sits at, whatever shows the picture: a running world, keys and gamepads, and what they command.

use crate::actions::ActionSource;
use crate::error::{Error, Result};
use crate::frame_loop::{Command, FrameLoop, LoopOptions, View};
use crate::input::{
    Bindings, Control, ControlEvent, ControlTable, Gamepads, InputState, OwnWorld, SharedInput,
    key_of,
};
use crate::play::{NextSeed, Play, PlaySummary, Recording, keep_somewhere};
use crate::playback::Playback;
use crate::player::Player;
use crate::prompt::{Prompt, read_prompt};
use crate::saved_state::Slots;
use crate::screenshot::save_screenshot;
use crate::session::Session;
use crate::settings::Settings;
use crate::sound::{SoundOutput, Volume};
use crate::world_thread::WorldThread;
use nn::ActionCode;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use worlds::{Frame, Input, RolloutSettings, World};

/// How much a key changes the volume.
const VOLUME_STEP: f32 = 0.1;

/// How a player plays.
#[derive(Clone, Debug)]
pub struct PlayOptions {
    /// The starting frames.
    pub prompt: Vec<Frame>,
    /// Seed, sampler and strength.
    pub settings: RolloutSettings,
    /// Times the world's own rate.
    pub speed: f64,
    /// What wishes for which code, where a person plays.
    pub bindings: Bindings,
    /// Where the actions come from; `None` for keyboard and gamepads. Play ends when they come to their end.
    pub actions: Option<ActionSource>,
    /// Where the play is recorded from its start.
    pub recording: Option<Recording>,
    /// Name by which recordings that are begun later find the world again.
    pub world_name: String,
    /// The player's own settings.
    pub player: Settings,
    /// A recorded session to watch first; play begins where the player takes over from it. Nothing is recorded before that.
    pub replay: Option<Arc<Session>>,
}

/// A running world and what steers it.
pub(crate) struct Desk {
    world: Arc<World>,
    thread: WorldThread,
    input: SharedInput,
    volume: Option<Volume>,
    world_name: String,
    /// The inputs of commands once a recording is no longer watched.
    controls_of_play: ControlTable,
    /// Where recordings and pictures go.
    folder: PathBuf,
    /// Place among the world's prompts of the one that was taken last.
    prompt: usize,
}

impl Desk {
    /// Starts the world on a thread of its own. `notify` is called, on other threads, whenever there is something new to see or to do.
    ///
    /// # Errors
    /// When prompt, settings or the session to watch do not fit the world, the recording's folder cannot be used, or no thread can be started.
    pub(crate) fn start(
        world: Arc<World>,
        options: PlayOptions,
        notify: impl Fn() + Clone + Send + 'static,
    ) -> Result<Self> {
        let PlayOptions {
            prompt,
            settings,
            speed,
            bindings,
            actions,
            recording,
            world_name,
            player: own,
            replay,
        } = options;
        let gamepads = match actions {
            None => Gamepads::find(),
            Some(_) => Gamepads::none(),
        };
        let playback = match replay {
            Some(session) => Some(Playback::open(session, world.clone())?),
            None => None,
        };
        let table = |watching| ControlTable::of_player(&own.commands, watching);
        let controls = table(playback.is_some()).map_err(Error::Binding)?;
        let controls_of_play = table(false).map_err(Error::Binding)?;
        let state = InputState::new(bindings, controls);
        let input = SharedInput::new(state, gamepads);
        let mut play = match &playback {
            Some(playback) => Play::take_over(playback.rollout(), prompt)?,
            None => Play::start(world.clone(), prompt, settings, recording)?,
        };
        if !world.soundscape.is_silent() {
            let output = SoundOutput::open();
            output.volume().set(own.volume);
            output.volume().set_muted(own.mute);
            play = play.with_sound(output);
        }
        let volume = play.volume();
        let player = match actions {
            Some(source) => Player::Source(source),
            None => {
                if let Err(error) = input.watch_gamepads(notify.clone()) {
                    tracing::warn!("gamepads command nothing while the world is paused: {error}");
                }
                let input = input.clone();
                Player::Person(Box::new(move || input.take_wish()))
            }
        };
        let how = LoopOptions::of(&own, speed, Slots::of(&world));
        let mut frames = FrameLoop::new(play, player, how)?;
        if let Some(playback) = playback {
            frames = frames.watching(playback)?;
        }
        Ok(Self {
            world,
            thread: WorldThread::start(frames, notify)?,
            input,
            volume,
            world_name,
            controls_of_play,
            folder: own.recording_folder.unwrap_or_default(),
            prompt: 0,
        })
    }

    /// The world.
    pub(crate) fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// The name by which the world is found again.
    pub(crate) fn world_name(&self) -> &str {
        &self.world_name
    }

    /// What a key means here, by name: itself; or, where the key of that place means nothing, the command of the character on it. Whoever plays presses places, but commands
    /// are known by what is printed on keys, which on keyboards of other languages are elsewhere.
    pub(crate) fn meaning(&self, key: &str, character: Option<char>) -> String {
        let by_character = || {
            let character = character?;
            let name = key_of(character)?;
            let means_something = self.input.with_state(|state| {
                // A letter's place may command something else; a sign's is that of another sign, as of + where - is.
                let is_known = |input| {
                    state.bindings().knows(input)
                        || state.controls().knows_own(input)
                        || character.is_alphabetic() && state.controls().of_input(input).is_some()
                };
                state.is_capturing() || Input::named(key).is_some_and(is_known)
            });
            (!means_something && self.control_of(&name).is_some()).then_some(name)
        };
        by_character().unwrap_or_else(|| key.to_owned())
    }

    /// A key went down, by its physical name.
    pub(crate) fn press(&self, key: &str) {
        self.input.press_key(key);
    }

    /// A key went up.
    pub(crate) fn release(&self, key: &str) {
        self.input.release_key(key);
    }

    /// All keys went up, as when whoever shows the picture hears no more of them.
    pub(crate) fn release_all(&self) {
        self.input.release_keys();
    }

    /// The next inputs are to be bound to a code: [`Self::take_captured`] gives them.
    pub(crate) fn begin_capture(&self) {
        self.input.with_state(InputState::begin_capture);
    }

    /// Inputs wish and command again.
    pub(crate) fn cancel_capture(&self) {
        self.input.with_state(InputState::cancel_capture);
    }

    /// The chord that the player pressed to bind it; `None` until it is complete.
    pub(crate) fn take_captured(&self) -> Option<String> {
        let captured = self.input.with_state(InputState::take_captured)?;
        let names: Vec<String> = captured.iter().map(ToString::to_string).collect();
        Some(names.join("+"))
    }

    /// Binds a chord to a code, beside what is bound to it already, and keeps that for the next time.
    ///
    /// # Errors
    /// When the chord cannot be bound, or the player's bindings cannot be read or written.
    pub(crate) fn bind(&self, code: ActionCode, chord: &str) -> Result<()> {
        let manifest = &self.world.manifest;
        self.change_bindings(|own| own.bind_too(manifest, &self.controls_of_play, code, chord))
    }

    /// Forgets the player's own bindings of this world.
    ///
    /// # Errors
    /// When they cannot be read or written.
    pub(crate) fn reset_bindings(&self) -> Result<()> {
        self.change_bindings(|own| {
            own.reset_actions();
            Ok(())
        })
    }

    fn change_bindings(&self, change: impl FnOnce(&mut OwnWorld) -> Result<()>) -> Result<()> {
        let own = OwnWorld::change(&self.world, change)?;
        let bindings = own.bindings(&self.world.manifest);
        self.input.with_state(|state| state.set_bindings(bindings));
        Ok(())
    }

    /// What an input of that name commands by itself.
    pub(crate) fn control_of(&self, name: &str) -> Option<Control> {
        let input = Input::named(name)?;
        self.input
            .with_state(|state| state.controls().of_input(input))
    }

    /// The inputs of commands.
    pub(crate) fn controls(&self) -> ControlTable {
        self.input.with_state(|state| state.controls().clone())
    }

    /// The bindings in force.
    pub(crate) fn bindings(&self) -> Bindings {
        self.input.with_state(|state| state.bindings().clone())
    }

    /// Does what the player has commanded. Returns what is for whoever shows the picture to do.
    pub(crate) fn obey(&mut self) -> Vec<Control> {
        let events = self.input.take_commands();
        let left = events.into_iter().filter_map(|event| self.control(event));
        left.collect()
    }

    fn control(&mut self, event: ControlEvent) -> Option<Control> {
        let ControlEvent { control, pressed } = event;
        if !pressed && control != Control::Rewind {
            return None;
        }
        let view = self.view();
        self.command(match control {
            Control::Rewind => Command::Rewind(pressed),
            Control::Restart => Command::Restart(NextSeed::Same),
            Control::NewSeed => Command::Restart(NextSeed::New),
            Control::Pause => Command::Pause(!view.paused),
            Control::Step => Command::Step,
            Control::Save => Command::Save(0),
            Control::Load => Command::Load(0),
            Control::Record => self.record(&view),
            Control::NextPrompt => {
                let prompts = self.world.prompts.len().max(1);
                self.start_from_prompt((self.prompt + 1) % prompts);
                return None;
            }
            Control::Screenshot => {
                match keep_somewhere(&self.folder, |folder| save_screenshot(&view.frame, folder)) {
                    Ok((path, _)) => Command::Say(format!("saved {}", path.display())),
                    Err(error) => Command::Warn(format!("no screenshot: {error}")),
                }
            }
            Control::Mute => self.set_muted(!self.is_muted()),
            Control::Louder => self.set_volume(self.volume() + VOLUME_STEP),
            Control::Quieter => self.set_volume(self.volume() - VOLUME_STEP),
            Control::SecondBack => self.seek_seconds(&view, -1.0)?,
            Control::SecondForth => self.seek_seconds(&view, 1.0)?,
            Control::TakeOver => Command::TakeOver,
            Control::Help
            | Control::Bind
            | Control::Panel
            | Control::Worlds
            | Control::Bar
            | Control::Filter
            | Control::Fullscreen
            | Control::Leave => return Some(control),
        });
        None
    }

    /// Seeks in the recording that is watched; `None` where none is.
    fn seek_seconds(&self, view: &View, seconds: f64) -> Option<Command> {
        let frames = seconds * self.world.manifest.frames_per_second;
        let from = view.replay?.position as f64;
        Some(Command::Seek((from + frames).round().max(0.0) as usize))
    }

    fn record(&self, view: &View) -> Command {
        // What is watched cannot be recorded; no folder is made for it.
        if view.recording.is_some() || view.replay.is_some() {
            return Command::Record(None);
        }
        let new_folder = |folder: &Path| Recording::into_new_folder(folder, &self.world_name);
        match keep_somewhere(&self.folder, new_folder) {
            Ok((recording, _)) => Command::Record(Some(recording)),
            Err(error) => Command::Warn(format!("no recording: {error}")),
        }
    }

    /// Starts again from the world's own prompt at a place.
    pub(crate) fn start_from_prompt(&mut self, index: usize) {
        if let Some(prompt) = self.world.prompts.get(index) {
            self.prompt = index;
            self.command(Command::Prompt(vec![prompt.clone()]));
        }
    }

    /// Starts again from a picture or video of the player's.
    pub(crate) fn start_from_file(&self, path: &Path) {
        match read_prompt(path, &self.world) {
            Ok(Prompt { frames, warning }) => {
                self.command(Command::Prompt(frames));
                if let Some(warning) = warning {
                    self.command(Command::Warn(warning));
                }
            }
            Err(error) => self.command(Command::Warn(format!("cannot start from this: {error}"))),
        }
    }

    /// Takes the volume, and whether sound is off, over into the player's settings; a world without sound leaves them as they are.
    pub(crate) fn keep_sound(&self, settings: &mut Settings) {
        if let Some(volume) = &self.volume {
            settings.volume = volume.get();
            settings.mute = volume.is_muted();
        }
    }

    /// The volume, from 0 to 1; 0 in a world without sound.
    fn volume(&self) -> f32 {
        self.volume.as_ref().map_or(0.0, Volume::get)
    }

    /// Whether sound is off.
    fn is_muted(&self) -> bool {
        self.volume.as_ref().is_some_and(Volume::is_muted)
    }

    /// Sets the volume, and returns what says so.
    pub(crate) fn set_volume(&self, volume: f32) -> Command {
        let Some(own) = &self.volume else {
            return Command::Say("this world has no sound".into());
        };
        own.set(volume.clamp(0.0, 1.0));
        Command::Say(format!("volume {:.0} %", 100.0 * own.get()))
    }

    /// Sets sound off or on, and returns what says so.
    pub(crate) fn set_muted(&self, muted: bool) -> Command {
        let Some(own) = &self.volume else {
            return Command::Say("this world has no sound".into());
        };
        own.set_muted(muted);
        Command::Say(if muted { "sound off" } else { "sound on" }.into())
    }

    /// Has the world do something.
    pub(crate) fn command(&self, command: Command) {
        if matches!(command, Command::TakeOver) {
            // What moved through the recording is the world's from now on.
            let controls = self.controls_of_play.clone();
            self.input.with_state(|state| state.set_controls(controls));
        }
        self.thread.command(command);
    }

    /// What there is to see, once: `None` until there is something new.
    pub(crate) fn take_view(&self) -> Option<Arc<View>> {
        self.thread.take_view()
    }

    /// What there is to see.
    pub(crate) fn view(&self) -> Arc<View> {
        self.thread.view()
    }

    /// Whether the world has come to its end, of itself or by an error.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.has_ended()
    }

    /// Stops the world, completes its recording and tells what it came to.
    ///
    /// # Errors
    /// What stopped it, if it was an error.
    pub(crate) fn finish(self) -> Result<PlaySummary> {
        self.thread.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_means_nothing_at_its_place_is_the_command_that_is_printed_on_it() {
        let world = Arc::new(worlds::tiny_world(1).unwrap());
        let options = options(&world, Settings::default());
        let desk = Desk::start(world, options, || ()).unwrap();
        // Of keyboards in German, French and English.
        for (key, character, meaning) in [
            ("BracketRight", '+', "Equal"),
            ("Slash", '-', "Minus"),
            ("Semicolon", 'm', "KeyM"),
            ("Equal", '+', "Equal"),
            // In Swedish and in Turkish.
            ("Minus", '+', "Equal"),
            ("Equal", '-', "Minus"),
            // Whoever plays presses places.
            ("ArrowLeft", 'm', "ArrowLeft"),
            ("KeyR", 'p', "KeyR"),
            ("BracketRight", 'z', "BracketRight"),
        ] {
            assert_eq!(desk.meaning(key, Some(character)), meaning);
            assert_eq!(desk.meaning(key, None), key);
        }
        let own = Settings {
            commands: [(Control::Pause, vec!["ShiftLeft+Slash".to_owned()])].into(),
            ..Settings::default()
        };
        desk.finish().unwrap();
        let world = Arc::new(worlds::tiny_world(1).unwrap());
        let options = self::options(&world, own);
        let desk = Desk::start(world, options, || ()).unwrap();
        assert_eq!(desk.meaning("Slash", Some('-')), "Slash");
        desk.begin_capture();
        assert_eq!(desk.meaning("Semicolon", Some('m')), "Semicolon");
        desk.finish().unwrap();
    }

    fn options(world: &World, player: Settings) -> PlayOptions {
        PlayOptions {
            prompt: world.prompts[..1].to_vec(),
            settings: RolloutSettings::of(&world.manifest, 1),
            speed: 1.0,
            bindings: Bindings::of(&world.manifest.actions),
            actions: Some(ActionSource::Autoplay),
            recording: None,
            world_name: "tiny".into(),
            player,
            replay: None,
        }
    }

    #[test]
    fn a_world_without_sound_leaves_the_players_volume_and_mute_as_they_are() {
        let world = Arc::new(worlds::tiny_world(1).unwrap());
        let player = Settings {
            volume: 0.25,
            mute: true,
            ..Settings::default()
        };
        let options = options(&world, player.clone());
        let desk = Desk::start(world, options, || ()).unwrap();
        let mut kept = player.clone();
        desk.keep_sound(&mut kept);
        assert_eq!(kept, player);
        desk.finish().unwrap();
    }
}
