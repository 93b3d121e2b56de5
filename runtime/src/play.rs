//! One play of a world: what window, headless play and replay in a window have in common.

use crate::actions::Asked;
use crate::error::{Error, Result};
use crate::saved_state::SavedState;
use crate::session::{Opening, Recorder};
use crate::sound::{LiveSound, Moment, SoundOutput, Volume};
use crate::statistics::{FrameTimeSummary, FrameTimes};
use crate::timeline::Timeline;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use worlds::{Frame, Rollout, RolloutSettings, Step, Wish, World};

/// Where a play is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// A new or empty folder.
    pub folder: PathBuf,
    /// The name by which the world is found again.
    pub world_name: String,
}

impl Recording {
    /// A recording into a new folder in `parent`, named `djinn-session`, or `djinn-session-2` and so on: the first that is not there yet.
    ///
    /// # Errors
    /// When no folder can be made there.
    pub fn into_new_folder(parent: &Path, world_name: &str) -> Result<Self> {
        if parent != Path::new("") {
            std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
        }
        let name = parent.join("djinn-session");
        for number in 1u32.. {
            let mut folder = name.clone().into_os_string();
            if number > 1 {
                folder.push(format!("-{number}"));
            }
            let folder = PathBuf::from(folder);
            match std::fs::create_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io(folder)(error)),
                Ok(()) => {
                    return Ok(Self {
                        folder,
                        world_name: world_name.to_owned(),
                    });
                }
            }
        }
        Err(Error::FolderNotEmpty(name))
    }
}

/// Keeps something in the folder that is wanted for it, or where that cannot be written to in the user's data folder, or else among temporary files. Says why it is
/// not where it was wanted.
///
/// # Errors
/// What was wrong with the folder that was wanted, when it can be kept nowhere.
pub fn keep_somewhere<T>(
    wanted: &Path,
    keep: impl Fn(&Path) -> Result<T>,
) -> Result<(T, Option<Error>)> {
    let refusal = match keep(wanted) {
        Ok(kept) => return Ok((kept, None)),
        Err(error) => error,
    };
    let user = directories::ProjectDirs::from("", "", "djinn");
    let data = user.map(|user| user.data_dir().join("sessions"));
    let others = data.into_iter().chain([std::env::temp_dir()]);
    match others.map(|place| keep(&place)).find_map(Result::ok) {
        Some(kept) => Ok((kept, Some(refusal))),
        None => Err(refusal),
    }
}

/// What a play came to.
#[derive(Clone, Debug, Default)]
pub struct PlaySummary {
    /// Frames made.
    pub frames: u64,
    /// How long they took to make, recording left out.
    pub times: FrameTimeSummary,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    /// Folders of the recorded sessions, one for each time that recording was begun.
    pub sessions: Vec<PathBuf>,
    /// Why recording ended before play did, where it failed; what was recorded before is kept.
    pub recording_failure: Option<String>,
}

impl PlaySummary {
    /// The video of the last recorded session.
    pub fn video(&self) -> Option<PathBuf> {
        self.sessions
            .last()
            .map(|folder| folder.join(crate::session::VIDEO_FILE))
    }
}

/// With which seed a world starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextSeed {
    /// The same: the same inputs give the same frames again.
    Same,
    /// The next number.
    New,
    /// This one.
    Of(u64),
}

/// Memory for going back unless [`Play::set_rewind_memory`] says otherwise, in bytes: five minutes of the built-in world and more.
pub const USUAL_REWIND_MEMORY: usize = 512 << 20;

/// A world being played, and perhaps recorded. It knows neither clock nor window: whoever owns it decides when the next frame comes.
///
/// All that play is made of, going back and jumping elsewhere included, becomes part of the recording. A recording that fails ends, with
/// what it holds kept, and play goes on: [`Self::take_recording_failure`] tells.
pub struct Play {
    rollout: Rollout,
    prompt: Vec<Frame>,
    timeline: Timeline,
    recorder: Option<Recorder>,
    /// Whether no frame has followed the prompt.
    at_prompt: bool,
    /// Whether play went back since the last recorded frame.
    went_back: bool,
    sound: Option<LiveSound>,
    sessions: Vec<PathBuf>,
    failure: Option<String>,
    new_failure: bool,
    times: FrameTimes,
    /// Frames that were measured before recording began.
    times_before: usize,
    frames: u64,
    started: Instant,
}

impl Play {
    /// Starts a world from a prompt.
    ///
    /// # Errors
    /// When prompt or settings do not fit the world, or the session's folder cannot be used.
    pub fn start(
        world: Arc<World>,
        prompt: Vec<Frame>,
        settings: RolloutSettings,
        recording: Option<Recording>,
    ) -> Result<Self> {
        let rollout = Rollout::start(world, &prompt, settings)?;
        let mut play = Self::of(rollout, prompt);
        play.at_prompt = true;
        if let Some(recording) = recording {
            play.begin_recording(&recording, false)?;
        }
        Ok(play)
    }

    /// Plays on from where a rollout stands, as from a frame of a recorded session ([`crate::Playback::rollout`]). `prompt` is what a restart
    /// starts from.
    ///
    /// # Errors
    /// When the world does not allow the rollout's settings.
    pub fn take_over(rollout: &Rollout, prompt: Vec<Frame>) -> Result<Self> {
        let world = rollout.world().clone();
        let rollout = Rollout::resume(world, &rollout.snapshot(), *rollout.settings())?;
        Ok(Self::of(rollout, prompt))
    }

    /// Goes on from where another rollout of the same world stands. `prompt`, where there is one, is what a restart starts from from now on.
    ///
    /// # Errors
    /// When the world does not allow the rollout's settings; then play stays where it was.
    pub(crate) fn go_on_from(
        &mut self,
        rollout: &Rollout,
        prompt: Option<Vec<Frame>>,
    ) -> Result<()> {
        let world = self.rollout.world().clone();
        self.rollout = Rollout::resume(world, &rollout.snapshot(), *rollout.settings())?;
        self.prompt = prompt.unwrap_or_else(|| std::mem::take(&mut self.prompt));
        self.jumped();
        Ok(())
    }

    /// Lets the world be heard on `output`.
    pub fn with_sound(mut self, output: SoundOutput) -> Self {
        self.sound = Some(LiveSound::new(self.rollout.world().clone(), output));
        self
    }

    /// How loud the player wants it; `None` where nothing is heard.
    pub fn volume(&self) -> Option<Volume> {
        self.sound.as_ref().map(LiveSound::volume)
    }

    fn of(rollout: Rollout, prompt: Vec<Frame>) -> Self {
        let world = rollout.world().clone();
        Self {
            timeline: Timeline::new(world, rollout.snapshot(), USUAL_REWIND_MEMORY),
            rollout,
            prompt,
            recorder: None,
            sound: None,
            at_prompt: false,
            went_back: false,
            sessions: Vec::new(),
            failure: None,
            new_failure: false,
            times: FrameTimes::default(),
            times_before: 0,
            frames: 0,
            started: Instant::now(),
        }
    }

    /// The world.
    pub fn world(&self) -> &Arc<World> {
        self.rollout.world()
    }

    /// Seed, sampler and strength.
    pub fn settings(&self) -> &RolloutSettings {
        self.rollout.settings()
    }

    /// Number of the newest frame; the prompt's first is 0.
    pub fn number(&self) -> u64 {
        self.rollout.frames().saturating_sub(1)
    }

    /// The newest frame. Right after a start this is the prompt's last frame itself, not as the tokenizer sees it.
    ///
    /// # Errors
    /// When the picture is not of the world's size.
    pub fn frame(&self) -> Result<Frame> {
        match self.prompt.last() {
            Some(last) if self.at_prompt => Ok(last.clone()),
            _ => Ok(self.rollout.frame()?),
        }
    }

    /// How long frames took to make, recording left out.
    pub fn times(&self) -> &FrameTimes {
        &self.times
    }

    /// Frames made, those gone back over included.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The past that can be gone back to.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Sets how many bytes the past may take.
    pub fn set_rewind_memory(&mut self, bytes: usize) {
        self.timeline.set_limit(bytes);
    }

    /// Makes the next frame and records it. `device` says where the wish came from.
    ///
    /// # Errors
    /// When the world refuses the wish.
    pub fn advance(&mut self, asked: &Asked, device: &str) -> Result<Step> {
        self.record_going_back();
        let begun = Instant::now();
        let none = Wish::none();
        let (step, wish) = match asked {
            Asked::Wish(wish) => (self.rollout.step(wish)?, wish),
            Asked::Code(code) => (self.rollout.step_with_code(*code)?, &none),
        };
        self.times.add(begun.elapsed());
        self.timeline
            .push(step.code, &step.tokens, self.rollout.snapshot());
        self.heard(&Moment::Played {
            wish: wish.clone(),
            code: step.code,
        });
        self.frames += 1;
        self.at_prompt = false;
        let seconds = self.started.elapsed().as_secs_f64();
        self.recorded(|recorder| recorder.record(&step, wish, device, seconds));
        Ok(step)
    }

    /// Goes back by one frame and returns it; `None` where the past ends. The same inputs lead from there to the same frames again.
    ///
    /// # Errors
    /// When the world does not make again what it made before.
    pub fn back(&mut self) -> Result<Option<Frame>> {
        let Some(snapshot) = self.timeline.back()? else {
            return Ok(None);
        };
        self.rollout.restore(&snapshot);
        self.went_back = true;
        self.at_prompt = false;
        self.heard(&Moment::Still);
        Ok(Some(self.rollout.frame()?))
    }

    /// Starts the world again from its prompt.
    ///
    /// # Errors
    /// When the world cannot be started.
    pub fn restart(&mut self, seed: NextSeed) -> Result<()> {
        let mut settings = *self.rollout.settings();
        settings.seed = match seed {
            NextSeed::Same => settings.seed,
            NextSeed::New => settings.seed.wrapping_add(1),
            NextSeed::Of(seed) => seed,
        };
        let prompt = self.prompt.clone();
        self.start_from(prompt, settings)
    }

    /// Starts the world again from another prompt, which it keeps for restarts.
    ///
    /// # Errors
    /// When the prompt does not fit the world; then play stays where it was.
    pub fn start_from(&mut self, prompt: Vec<Frame>, settings: RolloutSettings) -> Result<()> {
        let world = self.rollout.world().clone();
        self.rollout = Rollout::start(world, &prompt, settings)?;
        self.prompt = prompt;
        self.jumped();
        self.at_prompt = true;
        let prompt = std::mem::take(&mut self.prompt);
        self.recorded(|recorder| recorder.prompt(&prompt, settings));
        self.prompt = prompt;
        Ok(())
    }

    /// The state, to be saved.
    ///
    /// # Errors
    /// When it cannot be put together.
    pub fn save(&self) -> Result<SavedState> {
        SavedState::of(&self.rollout)
    }

    /// Goes on from a saved state, with its settings.
    ///
    /// # Errors
    /// When it is of another world; then play stays where it was.
    pub fn load(&mut self, state: &SavedState) -> Result<()> {
        self.rollout = state.resume(self.rollout.world().clone())?;
        self.jumped();
        self.recorded(|recorder| recorder.load(state));
        Ok(())
    }

    /// Plays another way from the next frame on.
    ///
    /// # Errors
    /// When the world does not allow the settings; then the old ones stay.
    pub fn change(&mut self, settings: RolloutSettings) -> Result<()> {
        if settings != *self.rollout.settings() {
            self.rollout.change(settings)?;
            self.recorded(|recorder| recorder.change(settings));
        }
        Ok(())
    }

    /// Where play is being recorded.
    pub fn recording(&self) -> Option<&Path> {
        self.recorder.as_ref().map(Recorder::folder)
    }

    /// Completes the recording that there is, if any, and begins another one from the present state.
    ///
    /// # Errors
    /// When the one cannot be completed or the other begun; play can go on.
    pub fn record(&mut self, recording: Option<&Recording>) -> Result<()> {
        self.end_recording()?;
        match recording {
            Some(recording) => self.begin_recording(recording, true),
            None => Ok(()),
        }
    }

    fn begin_recording(&mut self, recording: &Recording, in_the_middle: bool) -> Result<()> {
        let state = in_the_middle.then(|| self.save()).transpose()?;
        let opening = match &state {
            Some(state) => Opening::State(state),
            None => Opening::Prompt(&self.prompt),
        };
        self.recorder = Some(Recorder::create(
            &recording.folder,
            self.rollout.world(),
            &recording.world_name,
            opening,
            self.rollout.settings(),
        )?);
        self.went_back = false;
        self.times_before = self.times.len();
        self.sessions.push(recording.folder.clone());
        Ok(())
    }

    /// Completes the recording, if there is one; that it failed is remembered for the summary, too.
    fn end_recording(&mut self) -> Result<()> {
        let Some(recorder) = self.recorder.take() else {
            return Ok(());
        };
        let frames = self.times.len() - self.times_before;
        let ended = recorder.finish(self.times.summary_of_newest(frames));
        if let Err(error) = &ended {
            self.failure = Some(error.to_string());
        }
        ended.map(drop)
    }

    /// Why recording failed, once.
    pub fn take_recording_failure(&mut self) -> Option<String> {
        match std::mem::take(&mut self.new_failure) {
            true => self.failure.clone(),
            false => None,
        }
    }

    /// Lets whoever listens hear what happens.
    pub(crate) fn heard(&mut self, moment: &Moment) {
        if let Some(sound) = &mut self.sound {
            sound.show(moment);
        }
    }

    /// Lets the recorder, if there is one, record something; if it cannot, it has recorded its last.
    fn recorded(&mut self, record: impl FnOnce(&mut Recorder) -> Result<()>) {
        if let Some(recorder) = &mut self.recorder
            && let Err(error) = record(recorder)
        {
            tracing::warn!("recording stopped: {error}");
            self.failure = Some(error.to_string());
            self.new_failure = true;
            self.recorder = None;
        }
    }

    /// Going back is recorded when it is known how far, before the next frame.
    fn record_going_back(&mut self) {
        if !std::mem::take(&mut self.went_back) {
            return;
        }
        let number = self.number();
        let Some(recorder) = &self.recorder else {
            return;
        };
        if number >= recorder.oldest() {
            let picture = self.rollout.frame();
            self.recorded(|recorder| recorder.rewind(number, &picture?));
        } else {
            // To before the recording began.
            let state = self.save();
            self.recorded(|recorder| recorder.load(&state?));
        }
    }

    /// Time has jumped: there is nothing to go back to.
    fn jumped(&mut self) {
        self.timeline.begin(self.rollout.snapshot());
        if let Some(sound) = &mut self.sound {
            sound.restart();
        }
        self.went_back = false;
        self.at_prompt = false;
    }

    /// Ends the play and completes its recording; if that fails, the summary says so.
    pub fn finish(mut self, interrupted: bool) -> PlaySummary {
        // What failed is remembered, and told by the summary.
        let _ = self.end_recording();
        PlaySummary {
            frames: self.frames,
            times: self.times.summary(),
            interrupted,
            sessions: self.sessions,
            recording_failure: self.failure,
        }
    }

    /// Makes every write of the recorder fail from now on.
    #[cfg(test)]
    pub(crate) fn break_recorder(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.fail_from_now_on();
        }
    }
}

/// A frame as a picture for the media crate.
pub(crate) fn picture_of(frame: &Frame) -> Result<media::Picture> {
    let (width, height) = (frame.size().width as u32, frame.size().height as u32);
    media::Picture::new(width, height, frame.rgb().to_vec()).map_err(Error::Media)
}
