//! The frame loop without its clock: what players command, what each frame does, and what there is to see.

use crate::actions::Asked;
use crate::error::Result;
use crate::pace::{AdaptiveSteps, Rate};
use crate::play::{NextSeed, Play, PlaySummary, Recording, USUAL_REWIND_MEMORY};
use crate::playback::Playback;
use crate::player::Player;
use crate::preferences::SPEEDS;
use crate::saved_state::Slots;
use crate::settings::Settings;
use crate::statistics::FrameTimeSummary;
use nn::ActionCode;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use worlds::{Frame, RolloutSettings, Wish};

/// Frames whose times a view shows.
const GRAPH_FRAMES: usize = 120;
/// Share of its rate below which play counts as slow.
const SLOW: f64 = 0.93;

/// What a player can have a running world do.
#[derive(Clone, Debug)]
pub enum Command {
    /// Stands still, or goes on.
    Pause(bool),
    /// Makes one frame, and stands still.
    Step,
    /// Goes back frame by frame as long as it is on.
    Rewind(bool),
    /// Starts again from the prompt.
    Restart(NextSeed),
    /// Saves the state in a slot.
    Save(u8),
    /// Goes on from the state in a slot.
    Load(u8),
    /// Starts from another prompt.
    Prompt(Vec<Frame>),
    /// Records from now on, or ends recording.
    Record(Option<Recording>),
    /// Plays with other settings from the next frame on.
    Change(RolloutSettings),
    /// Plays at this many times the world's own rate.
    Speed(f64),
    /// Whether MaskGIT steps give way where the machine is too slow.
    AdaptiveSteps(bool),
    /// Seconds without input after which the world plays itself; 0 for never.
    Attract(f64),
    /// Memory for going back, in bytes.
    RewindMemory(usize),
    /// Shows another position of the recording that is watched.
    Seek(usize),
    /// Plays on from where the recording that is watched stands.
    TakeOver,
    /// Shows a message.
    Say(String),
    /// Shows a message of something to worry about.
    Warn(String),
}

/// How a frame loop runs.
#[derive(Clone, Debug)]
pub struct LoopOptions {
    /// Where states are saved; `None` where there is no place for them.
    pub slots: Option<Slots>,
    /// Times the world's own rate.
    pub speed: f64,
    /// Whether MaskGIT steps give way where the machine is too slow.
    pub adaptive_steps: bool,
    /// Seconds without input after which the world plays itself; 0 for never.
    pub attract_seconds: f64,
    /// Memory for going back, in bytes.
    pub rewind_memory: usize,
}

impl Default for LoopOptions {
    /// Nothing but the frames: no slots, no adapting, no playing by itself.
    fn default() -> Self {
        Self {
            slots: None,
            speed: 1.0,
            adaptive_steps: false,
            attract_seconds: 0.0,
            rewind_memory: USUAL_REWIND_MEMORY,
        }
    }
}

impl LoopOptions {
    /// As a player set them.
    pub fn of(settings: &Settings, speed: f64, slots: Option<Slots>) -> Self {
        Self {
            slots,
            speed,
            adaptive_steps: settings.adaptive_steps,
            attract_seconds: settings.attract_seconds,
            rewind_memory: settings.rewind_memory_mb << 20,
        }
    }
}

/// How far a recording is that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayView {
    /// Frames from its start to the one that is shown, or to the one that is sought.
    pub position: usize,
    /// Frames from its start to its end.
    pub last: usize,
}

/// The newest of the messages for the player.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// How many there have been, this one included: another number means another message. 0 before the first.
    pub number: u64,
    /// What it says.
    pub text: String,
    /// Whether it is something to worry about.
    pub warning: bool,
}

/// What there is to see and to know of a running world.
#[derive(Clone, Debug)]
pub struct View {
    /// The newest frame.
    pub frame: Arc<Frame>,
    /// Its number; the prompt's first is 0.
    pub number: u64,
    /// Frames made so far, those gone back over included: another one means something new to hear.
    pub made: u64,
    /// What was wished for it.
    pub wish: Wish,
    /// The code that led to it; none for a frame that was not just made.
    pub code: Option<ActionCode>,
    /// Seed, sampler and strength for the next frame.
    pub settings: RolloutSettings,
    /// MaskGIT steps that the player asked for; fewer are made where they give way.
    pub wanted_steps: usize,
    /// Whether the world stands still.
    pub paused: bool,
    /// Whether it goes back.
    pub rewinding: bool,
    /// Frames that it can go back.
    pub past: u64,
    /// Bytes that the past takes.
    pub past_bytes: usize,
    /// Whether it plays itself because nobody does.
    pub attract: bool,
    /// How far the recording is that is watched; `None` where the world is played.
    pub replay: Option<ReplayView>,
    /// Where it is being recorded.
    pub recording: Option<PathBuf>,
    /// Times the world's own rate that was asked for.
    pub speed: f64,
    /// Times the world's own rate that is reached; 0 before there is a second frame.
    pub speed_reached: f64,
    /// Frames in a second that are reached.
    pub frames_per_second: f64,
    /// Whether the machine is too slow for the rate that was asked for.
    pub slow: bool,
    /// The newest message for the player.
    pub message: Message,
    /// How long the frames of the graph took to make.
    pub times: FrameTimeSummary,
    /// The time of each of them in milliseconds, oldest first.
    pub graph: Vec<f32>,
}

/// What a tick did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// There is another frame.
    Moved,
    /// Nothing moves until the next command.
    Still,
    /// The player's list came to its end.
    Ended,
}

/// Plays frame by frame as it is commanded. It knows no clock but for measuring: whoever owns it decides when the next tick comes.
pub struct FrameLoop {
    play: Play,
    /// The recording that is watched until the player takes over.
    replay: Option<Playback>,
    player: Player,
    options: LoopOptions,
    idle: Option<ActionCode>,
    adaptive: AdaptiveSteps,
    wanted_steps: usize,
    rate: Rate,
    frame: Arc<Frame>,
    wish: Wish,
    code: Option<ActionCode>,
    paused: bool,
    step: bool,
    rewinding: bool,
    /// How long play has gone on without input.
    quiet: Duration,
    message: Message,
}

impl FrameLoop {
    /// A loop that has made no frame yet.
    ///
    /// # Errors
    /// When the play has no frame to show.
    pub fn new(mut play: Play, player: Player, options: LoopOptions) -> Result<Self> {
        play.set_rewind_memory(options.rewind_memory);
        Ok(Self {
            frame: Arc::new(play.frame()?),
            idle: play.world().manifest.idle,
            wanted_steps: play.settings().sampler.steps,
            play,
            replay: None,
            player,
            options,
            adaptive: AdaptiveSteps::default(),
            rate: Rate::default(),
            wish: Wish::none(),
            code: None,
            paused: false,
            step: false,
            rewinding: false,
            quiet: Duration::ZERO,
            message: Message::default(),
        })
    }

    /// What is being played.
    pub fn play(&self) -> &Play {
        &self.play
    }

    /// The time from one frame to the next.
    pub fn interval(&self) -> Duration {
        let rate = self.play.world().manifest.frames_per_second * self.options.speed;
        Duration::from_secs_f64(1.0 / rate)
    }

    /// Does what is commanded. What cannot be done is told in a message, and play stays as it was.
    pub fn command(&mut self, command: Command) {
        if let Err(error) = self.try_command(command) {
            self.warn(error.to_string());
        }
        self.tell_recording_failure();
    }

    fn try_command(&mut self, command: Command) -> Result<()> {
        let Some(command) = self.replay_command(command)? else {
            return Ok(());
        };
        match command {
            Command::Pause(paused) => {
                self.paused = paused;
                self.step = false;
                self.rate.clear();
            }
            Command::Step => {
                self.paused = true;
                self.step = true;
                self.rate.clear();
            }
            Command::Rewind(rewinding) => {
                self.rewinding = rewinding;
                self.rate.clear();
            }
            Command::Restart(seed) => {
                self.play.restart(seed)?;
                self.jumped()?;
            }
            Command::Prompt(prompt) => {
                let settings = *self.play.settings();
                self.play.start_from(prompt, settings)?;
                self.jumped()?;
            }
            Command::Save(slot) => self.save(slot)?,
            Command::Load(slot) => self.load(slot)?,
            Command::Record(recording) => self.record(recording.as_ref())?,
            Command::Change(settings) => {
                self.play.change(settings)?;
                self.wanted_steps = settings.sampler.steps;
            }
            Command::Speed(speed) if SPEEDS.contains(&speed) => {
                self.options.speed = speed;
                self.rate.clear();
            }
            Command::Speed(speed) => {
                let (least, most) = SPEEDS.into_inner();
                self.warn(format!("speed {speed} is not within {least} to {most}"));
            }
            Command::AdaptiveSteps(on) => {
                self.options.adaptive_steps = on;
                self.set_steps(self.wanted_steps)?;
            }
            Command::Attract(seconds) => {
                self.options.attract_seconds = seconds;
                self.quiet = Duration::ZERO;
            }
            Command::RewindMemory(bytes) => self.play.set_rewind_memory(bytes),
            Command::Say(text) => self.say(text),
            Command::Warn(text) => self.warn(text),
            // Nothing is watched.
            Command::Seek(_) | Command::TakeOver => {}
        }
        Ok(())
    }

    fn save(&mut self, slot: u8) -> Result<()> {
        match &self.options.slots {
            Some(slots) => {
                slots.save(slot, &self.play.save()?)?;
                self.say(format!("saved in slot {slot}"));
            }
            None => self.warn("there is no folder to save states in".into()),
        }
        Ok(())
    }

    fn load(&mut self, slot: u8) -> Result<()> {
        let found = match &self.options.slots {
            Some(slots) => slots.load(slot)?,
            None => None,
        };
        match found {
            Some(state) => {
                self.play.load(&state)?;
                self.want_steps_of(state.settings);
                self.jumped()?;
                self.say(format!("loaded slot {slot}"));
            }
            None => self.warn(format!("slot {slot} is empty")),
        }
        Ok(())
    }

    /// Takes over the steps of settings that come with a state or a recording; adaptive ones may have been fewer than the player wants.
    fn want_steps_of(&mut self, settings: RolloutSettings) {
        if !self.options.adaptive_steps {
            self.wanted_steps = settings.sampler.steps;
        }
    }

    fn record(&mut self, recording: Option<&Recording>) -> Result<()> {
        let before = self
            .play
            .recording()
            .map(|folder| folder.display().to_string());
        self.play.record(recording)?;
        match (before, recording) {
            (_, Some(recording)) => {
                self.say(format!("recording into {}", recording.folder.display()))
            }
            (Some(before), None) => self.say(format!("recorded {before}")),
            (None, None) => {}
        }
        Ok(())
    }

    fn set_steps(&mut self, steps: usize) -> Result<()> {
        let mut settings = *self.play.settings();
        settings.sampler.steps = steps;
        self.play.change(settings)
    }

    fn say(&mut self, text: String) {
        self.tell(text, false);
    }

    fn warn(&mut self, text: String) {
        self.tell(text, true);
    }

    fn tell(&mut self, text: String, warning: bool) {
        tracing::info!("{text}");
        self.message = Message {
            number: self.message.number + 1,
            text,
            warning,
        };
    }

    fn tell_recording_failure(&mut self) {
        if let Some(failure) = self.play.take_recording_failure() {
            self.warn(format!("recording stopped: {failure}"));
        }
    }

    /// Another frame is the newest, and it was not made just now.
    fn jumped(&mut self) -> Result<()> {
        self.frame = Arc::new(self.play.frame()?);
        self.wish = Wish::none();
        self.code = None;
        self.quiet = Duration::ZERO;
        Ok(())
    }

    /// Whether a tick would do nothing.
    pub fn is_still(&self) -> bool {
        self.paused && !self.step && !self.rewinding && !self.is_seeking()
    }

    /// Makes or goes back one frame. Input is read here, right before the frame is made.
    ///
    /// # Errors
    /// When the world refuses what is asked, or gives what no world should.
    pub fn tick(&mut self) -> Result<Tick> {
        if self.is_still() {
            return Ok(Tick::Still);
        }
        if self.replay.is_some() {
            return self.replay_tick();
        }
        if self.rewinding {
            if let Some(frame) = self.play.back()? {
                self.frame = Arc::new(frame);
                self.wish = Wish::none();
                self.code = None;
            }
            self.quiet = Duration::ZERO;
            return Ok(Tick::Moved);
        }
        let attract = self.attract();
        let Some((asked, device)) = self.player.next_asked(self.idle, attract) else {
            return Ok(Tick::Ended);
        };
        let begun = Instant::now();
        let step = self.play.advance(&asked, device)?;
        let time = begun.elapsed();
        self.step = false;
        self.wish = match asked {
            Asked::Wish(wish) => wish,
            Asked::Code(_) => Wish::none(),
        };
        let pressed = !self.wish.is_none() && self.wish.codes() != self.idle.as_slice();
        self.quiet = match pressed {
            true => Duration::ZERO,
            // Frames come at their rate, or as fast as the machine makes them.
            false => self.quiet + self.interval().max(time),
        };
        self.code = Some(step.code);
        self.frame = Arc::new(step.frame);
        self.rate.add(Instant::now());
        self.tell_recording_failure();
        if self.options.adaptive_steps {
            self.adapt(time)?;
        }
        Ok(Tick::Moved)
    }

    /// Whether nobody has pressed anything for so long that the world plays itself.
    fn attract(&self) -> bool {
        let seconds = self.options.attract_seconds;
        seconds > 0.0 && self.quiet.as_secs_f64() >= seconds
    }

    fn adapt(&mut self, time: Duration) -> Result<()> {
        let steps = self.play.settings().sampler.steps;
        let range = self.play.world().manifest.maskgit_steps;
        let interval = self.interval();
        let wanted = self.wanted_steps;
        match self.adaptive.next(time, interval, steps, wanted, range) {
            Some(steps) => self.set_steps(steps),
            None => Ok(()),
        }
    }

    /// What there is to see.
    pub fn view(&self) -> View {
        let times = self.play.times();
        let own = self.play.world().manifest.frames_per_second;
        let frames_per_second = self.rate.per_second();
        let wanted = own * self.options.speed;
        let timeline = self.play.timeline();
        let view = View {
            frame: self.frame.clone(),
            number: self.play.number(),
            made: self.play.frames(),
            wish: self.wish.clone(),
            code: self.code,
            settings: *self.play.settings(),
            wanted_steps: self.wanted_steps,
            paused: self.paused,
            rewinding: self.rewinding,
            past: timeline.newest() - timeline.oldest(),
            past_bytes: timeline.bytes(),
            attract: self.attract(),
            replay: None,
            recording: self.play.recording().map(Into::into),
            speed: self.options.speed,
            speed_reached: frames_per_second / own,
            frames_per_second,
            slow: frames_per_second > 0.0 && frames_per_second < SLOW * wanted,
            message: self.message.clone(),
            times: times.summary_of_newest(GRAPH_FRAMES),
            graph: times.newest(GRAPH_FRAMES).to_vec(),
        };
        self.with_replay(view)
    }

    /// Ends play and completes its recording; if that fails, the summary says so.
    pub fn finish(self, interrupted: bool) -> PlaySummary {
        self.play.finish(interrupted)
    }
}

mod watching;

#[cfg(test)]
mod tests;
