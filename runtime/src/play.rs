//! One play of a world: what window, headless play and replay in a window have in common.

use crate::actions::Asked;
use crate::error::{Error, Result};
use crate::session::Recorder;
use crate::sound::{LiveSound, Moment, SoundOutput, Volume};
use crate::statistics::{FrameTimeSummary, FrameTimes};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use worlds::{Frame, Rollout, RolloutSettings, Step, Strength, Wish, World, WorldManifest};

/// What a player may say about how a world is played; the world decides the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Preferences {
    /// Wishes are plain orders.
    pub orders: bool,
    /// How much a wish weighs against the action prior, in nats; infinite for plain orders.
    pub strength: Option<f32>,
    /// MaskGIT steps a frame.
    pub steps: Option<usize>,
    /// Sampling temperature.
    pub temperature: Option<f32>,
}

impl Preferences {
    /// The settings for a world.
    ///
    /// # Errors
    /// When the world does not allow them.
    pub fn settings(&self, manifest: &WorldManifest, seed: u64) -> Result<RolloutSettings> {
        let mut settings = RolloutSettings::of(manifest, seed);
        match self.strength {
            _ if self.orders => settings.strength = Strength::Order,
            Some(strength) if strength == f32::INFINITY => settings.strength = Strength::Order,
            Some(strength) => settings.strength = Strength::Wish(strength),
            None => {}
        }
        if let Some(steps) = self.steps {
            settings.sampler.steps = steps;
        }
        if let Some(temperature) = self.temperature {
            settings.sampler.temperature = temperature;
        }
        settings.validate(manifest)?;
        Ok(settings)
    }
}

/// Where a play is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// A new or empty folder.
    pub folder: PathBuf,
    /// The name by which the world is found again.
    pub world_name: String,
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
    /// Folders of the recorded sessions: one, and one more for each restart.
    pub sessions: Vec<PathBuf>,
}

impl PlaySummary {
    /// The video of the last recorded session.
    pub fn video(&self) -> Option<PathBuf> {
        self.sessions
            .last()
            .map(|folder| folder.join(crate::session::VIDEO_FILE))
    }
}

/// A picture to start a world from: read from a file, cropped and resized to the world's size.
///
/// # Errors
/// When it cannot be read.
pub fn read_prompt(path: &Path, world: &World) -> Result<Frame> {
    let size = world.manifest.frame;
    let fitting = media::Fitting {
        width: size.width as u32,
        height: size.height as u32,
        fit: media::Fit::Crop,
        crop: None,
    };
    let picture = media::fit_picture(&media::read_image(path)?, &fitting)?;
    Ok(Frame::new(size, picture.rgb)?)
}

/// A world being played, and perhaps recorded. It knows neither clock nor window: whoever owns it decides when the next frame comes.
pub struct Play {
    rollout: Rollout,
    prompt: Vec<Frame>,
    recording: Option<Recording>,
    recorder: Option<Recorder>,
    sound: Option<LiveSound>,
    sessions: Vec<PathBuf>,
    times: FrameTimes,
    frames: u64,
    restarts: u64,
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
        let mut play = Self {
            rollout,
            prompt,
            recording,
            recorder: None,
            sound: None,
            sessions: Vec::new(),
            times: FrameTimes::default(),
            frames: 0,
            restarts: 0,
            started: Instant::now(),
        };
        play.begin_session()?;
        Ok(play)
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

    fn begin_session(&mut self) -> Result<()> {
        let Some(recording) = &self.recording else {
            return Ok(());
        };
        let folder = match self.restarts {
            0 => recording.folder.clone(),
            restarts => {
                let mut name = recording.folder.clone().into_os_string();
                name.push(format!(".{}", restarts + 1));
                name.into()
            }
        };
        self.recorder = Some(Recorder::create(
            &folder,
            self.rollout.world(),
            &recording.world_name,
            &self.prompt,
            self.rollout.settings(),
        )?);
        self.sessions.push(folder);
        Ok(())
    }

    fn end_session(&mut self) -> Result<()> {
        match self.recorder.take() {
            Some(recorder) => recorder.finish().map(|_| ()),
            None => Ok(()),
        }
    }

    /// The world.
    pub fn world(&self) -> &Arc<World> {
        self.rollout.world()
    }

    /// The last frame of the prompt: what is seen before the first frame is made.
    pub fn first_picture(&self) -> Option<&Frame> {
        self.prompt.last()
    }

    /// Makes the next frame and records it. `device` says where the wish came from.
    ///
    /// # Errors
    /// When the world refuses the wish or the frame cannot be recorded.
    pub fn advance(&mut self, asked: &Asked, device: &str) -> Result<Step> {
        let begun = Instant::now();
        let none = Wish::none();
        let (step, wish) = match asked {
            Asked::Wish(wish) => (self.rollout.step(wish)?, wish),
            Asked::Code(code) => (self.rollout.step_with_code(*code)?, &none),
        };
        self.times.add(begun.elapsed());
        if let Some(sound) = &mut self.sound {
            sound.show(&Moment::Played {
                wish: wish.clone(),
                code: step.code,
            });
        }
        if let Some(recorder) = &mut self.recorder {
            let seconds = self.started.elapsed().as_secs_f64();
            recorder.record(&step, wish, device, seconds)?;
        }
        self.frames += 1;
        Ok(step)
    }

    /// Starts the world again from the prompt, with the next seed. A recording goes on as a new session, in a folder beside the first
    /// with `.2`, `.3` and so on after its name.
    ///
    /// # Errors
    /// When the session cannot be completed or a new one begun.
    pub fn restart(&mut self) -> Result<()> {
        let mut settings = *self.rollout.settings();
        settings.seed = settings.seed.wrapping_add(1);
        let world = self.rollout.world().clone();
        self.end_session()?;
        self.rollout = Rollout::start(world, &self.prompt, settings)?;
        if let Some(sound) = &mut self.sound {
            sound.restart();
        }
        self.restarts += 1;
        self.started = Instant::now();
        self.begin_session()
    }

    /// Ends the play and completes its recording.
    ///
    /// # Errors
    /// When the recording cannot be completed.
    pub fn finish(mut self, interrupted: bool) -> Result<PlaySummary> {
        self.end_session()?;
        Ok(PlaySummary {
            frames: self.frames,
            times: self.times.summary(),
            interrupted,
            sessions: self.sessions,
        })
    }
}

/// A frame as a picture for the media crate.
pub(crate) fn picture_of(frame: &Frame) -> Result<media::Picture> {
    let (width, height) = (frame.size().width as u32, frame.size().height as u32);
    media::Picture::new(width, height, frame.rgb().to_vec()).map_err(Error::Media)
}
