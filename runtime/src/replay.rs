//! Making a recorded session again: to verify it, or to show it.

use crate::error::{Error, Result};
use crate::play::picture_of;
use crate::session::{Event, Session, enlargement};
use crate::sound::{Moment, mixer_of};
use crate::timeline::Timeline;
use crate::whole_file::write_whole;
use media::{GifWriter, Mp4Writer, Picture};
use nn::ActionCode;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use worlds::{Frame, Rollout, Step, Wish, World};

/// Bytes of snapshots that a replay keeps to go back to.
const REPLAY_MEMORY: usize = 256 << 20;

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Frames that were made again and compared.
    pub frames: u64,
    /// Frames that the session's actions speak of: more than were compared where their tokens are lost or the comparison ended early.
    pub recorded: u64,
    /// The first frame that came out differently; `None` when all are the same.
    pub difference: Option<Difference>,
    /// Whether the session was played to its end; otherwise the frames that were complete when it was cut short were compared.
    pub complete: bool,
    /// Whether the session was computed by the kernels that this process uses for the world. If not, small differences in rounding
    /// can lead to other tokens without anything being wrong.
    pub same_kernels: bool,
}

/// The first frame that came out differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Number of the frame.
    pub frame: u64,
    /// The action code that the recorded wish leads to, where it is another than the recorded one.
    pub code: Option<ActionCode>,
    /// How many of the frame's tokens differ.
    pub tokens: usize,
    /// Tokens in a frame.
    pub tokens_per_frame: usize,
}

/// Goes through a session as it was played, jumps in time included.
pub struct Replayer<'a> {
    session: &'a Session,
    rollout: Rollout,
    timeline: Timeline,
    /// Index of the next line, and of the next event.
    next: (usize, usize),
}

impl<'a> Replayer<'a> {
    /// Stands where the session starts.
    ///
    /// # Errors
    /// When the session is of another world or cannot be run in it.
    pub fn start(session: &'a Session, world: Arc<World>) -> Result<Self> {
        session.check_world(&world, &world.manifest.name)?;
        let rollout = session.start(world.clone())?;
        Ok(Self {
            session,
            timeline: Timeline::whole(world, rollout.snapshot(), REPLAY_MEMORY),
            rollout,
            next: (0, 0),
        })
    }

    /// Stands where line `line` (from 0) of the session was the newest: all the way from its start, where [`crate::Playback`] takes short cuts.
    ///
    /// # Errors
    /// As [`Self::start`], and when there is no such line.
    pub fn at(session: &'a Session, world: Arc<World>, line: usize) -> Result<Self> {
        let mut replayer = Self::start(session, world)?;
        while replayer.next.0 <= line {
            replayer.pass_events()?;
            if replayer.show_next()?.is_none() {
                return Err(Error::Forgotten { frame: line as u64 });
            }
        }
        Ok(replayer)
    }

    /// What makes the frames, where the replay stands.
    pub fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    /// The pictures that the session starts with.
    ///
    /// # Errors
    /// When the state's picture cannot be shown.
    pub fn opening(&self) -> Result<Vec<Frame>> {
        match self.session.manifest.state {
            Some(_) => Ok(vec![self.rollout.frame()?]),
            None => Ok(self.session.prompt.clone()),
        }
    }

    /// Does what happened before the next frame. Returns the pictures that the session's video shows of it.
    ///
    /// # Errors
    /// When a prompt or a state cannot be read or is not for this world.
    pub fn pass_events(&mut self) -> Result<Vec<Frame>> {
        let mut shown = Vec::new();
        while let Some((before, event)) = self.session.events.get(self.next.1)
            && *before <= self.next.0
        {
            self.next.1 += 1;
            shown.extend(self.pass(event)?);
        }
        Ok(shown)
    }

    fn pass(&mut self, event: &Event) -> Result<Vec<Frame>> {
        let world = self.rollout.world().clone();
        match event {
            Event::Start { frame, .. } if *frame + 1 == self.rollout.frames() => {
                return Ok(Vec::new());
            }
            Event::Start { frame, .. } => return Err(Error::Forgotten { frame: *frame }),
            Event::End { .. } => return Ok(Vec::new()),
            Event::Settings { settings } => {
                self.rollout.change(*settings)?;
                return Ok(Vec::new());
            }
            Event::Rewind { frame, .. } => {
                let snapshot = self.timeline.back_to(*frame)?;
                let snapshot = snapshot.ok_or(Error::Forgotten { frame: *frame })?;
                self.rollout.restore(&snapshot);
                return Ok(vec![self.rollout.frame()?]);
            }
            Event::Prompt {
                prompt, settings, ..
            } => {
                let prompt = self.session.read_prompt(prompt)?;
                self.rollout = Rollout::start(world, &prompt, *settings)?;
                self.timeline.begin(self.rollout.snapshot());
                return Ok(prompt);
            }
            Event::Load {
                frame,
                state,
                settings,
                ..
            } => {
                self.rollout = self.session.resume(state, *settings, world)?;
                if *frame + 1 != self.rollout.frames() {
                    return Err(Error::Forgotten { frame: *frame });
                }
            }
        }
        self.timeline.begin(self.rollout.snapshot());
        Ok(vec![self.rollout.frame()?])
    }

    /// Shows the next recorded frame; `None` after the last. Events before it must have been passed.
    ///
    /// # Errors
    /// When the world refuses the recorded tokens.
    pub fn show_next(&mut self) -> Result<Option<Step>> {
        let index = self.next.0;
        let Some(line) = self.session.lines.get(index) else {
            return Ok(None);
        };
        let step = match self.session.tokens(index) {
            Some(tokens) => self.rollout.step_with_tokens(line.code, tokens.to_vec())?,
            None => self.rollout.step_with_code(line.code)?,
        };
        self.made(&step);
        Ok(Some(step))
    }

    /// What was wished for the next frame; nothing after the last.
    pub fn next_wish(&self) -> Wish {
        let line = self.session.lines.get(self.next.0);
        line.map_or_else(Wish::none, |line| line.wish.iter().copied().collect())
    }

    fn made(&mut self, step: &Step) {
        self.timeline
            .push(step.code, &step.tokens, self.rollout.snapshot());
        self.next.0 += 1;
    }
}

/// Makes every frame of a session again and compares it with the recording, token by token, and the code that comes of each wish with the
/// recorded one. Stops at the first difference, or when `cancel` becomes true. `on_frame` is called with the number of frames done.
///
/// # Errors
/// When the session is of another world or cannot be run in it.
pub fn verify(
    session: &Session,
    world: Arc<World>,
    on_frame: &mut dyn FnMut(u64),
    cancel: &AtomicBool,
) -> Result<Verification> {
    let mut verification = Verification {
        frames: 0,
        recorded: session.recorded as u64,
        difference: None,
        complete: session.complete,
        same_kernels: session.manifest.kernels == world.kernels()?,
    };
    let mut replayer = Replayer::start(session, world)?;
    for (index, line) in session.lines.iter().enumerate() {
        if cancel.load(Ordering::Relaxed) {
            break;
        }
        replayer.pass_events()?;
        let recorded = session.tokens(index).unwrap_or_default();
        // Where recorded codes were played again, no wish led to them.
        let code = match line.device.as_str() {
            "session" => line.code,
            _ => {
                let wish = line.wish.iter().copied().collect::<Wish>();
                replayer.rollout.choose(&wish)?
            }
        };
        let step = replayer.rollout.step_with_code(line.code)?;
        replayer.made(&step);
        let pairs = step.tokens.iter().zip(recorded);
        let differing = pairs.filter(|(made, recorded)| made != recorded).count()
            + step.tokens.len().abs_diff(recorded.len());
        verification.frames += 1;
        on_frame(verification.frames);
        if differing > 0 || code != line.code {
            verification.difference = Some(Difference {
                frame: line.frame,
                code: (code != line.code).then_some(code),
                tokens: differing,
                tokens_per_frame: step.tokens.len(),
            });
            break;
        }
    }
    Ok(verification)
}

impl Verification {
    /// Whether every frame that was recorded came out the same.
    pub fn is_whole(&self) -> bool {
        self.difference.is_none() && self.frames == self.recorded
    }
}

/// Writes a session as an `.mp4`, with the sound that it had, or `.gif`, from its tokens (or, where they are lost, made again from its codes),
/// enlarged by a whole factor. It is written under another name first, so that it is never there half, and what was there is kept until then.
/// `on_frame` is called with the number of pictures done. Returns how many there are; a `.gif` shows fewer where there are more than 50 in a
/// second.
///
/// # Errors
/// When the file name has another ending or leads into the session's folder, the session is of another world, writing fails, or `cancel`
/// became true.
pub fn export(
    session: &Session,
    world: Arc<World>,
    path: &Path,
    on_frame: &mut dyn FnMut(u64),
    cancel: &AtomicBool,
) -> Result<u64> {
    session.check_world(&world, &world.manifest.name)?;
    check_outside(session, path)?;
    let format = Format::of(path)?;
    if path.is_dir() {
        // Nothing could take its place in the end.
        let error = std::io::ErrorKind::IsADirectory.into();
        return Err(Error::io(path)(error));
    }
    write_whole(path, |unfinished| {
        write_export(session, world, (unfinished, format), on_frame, cancel)?
            .ok_or_else(|| Error::ExportCancelled(path.to_owned()))
    })
}

/// Writes a session to a new file. Returns the number of pictures; `None` when `cancel` became true before the last.
fn write_export(
    session: &Session,
    world: Arc<World>,
    (path, format): (&Path, Format),
    on_frame: &mut dyn FnMut(u64),
    cancel: &AtomicBool,
) -> Result<Option<u64>> {
    let factor = enlargement(session.manifest.frame);
    let mut mixer = mixer_of(&world);
    let mut replayer = Replayer::start(session, world)?;
    let mut writer = Export::create(path, format, session, factor, !mixer.is_silent())?;
    let mut written = 0;
    let mut write = |frame: &Frame, moment: &Moment| -> Result<()> {
        let picture = media::enlarge(&picture_of(frame)?, factor);
        writer.write(&picture, &mixer.next_frame(moment))?;
        written += 1;
        on_frame(written);
        Ok(())
    };
    for frame in replayer.opening()? {
        write(&frame, &Moment::Prompt)?;
    }
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Ok(None);
        }
        for frame in replayer.pass_events()? {
            write(&frame, &Moment::Still)?;
        }
        let wish = replayer.next_wish();
        let Some(step) = replayer.show_next()? else {
            break;
        };
        let code = step.code;
        write(&step.frame, &Moment::Played { wish, code })?;
    }
    writer.finish()?;
    Ok(Some(written))
}

/// The session's own files are not to be written over.
fn check_outside(session: &Session, path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let real = path.canonicalize().or_else(|_| folder.canonicalize());
    match (real, session.folder.canonicalize()) {
        (Ok(real), Ok(session)) if real.starts_with(&session) => {
            Err(Error::ExportIntoSession(path.to_owned()))
        }
        _ => Ok(()),
    }
}

/// The formats that sessions are exported to.
#[derive(Clone, Copy)]
enum Format {
    Mp4,
    Gif,
}

impl Format {
    /// The one that a file's name asks for.
    fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().and_then(|ending| ending.to_str());
        match ending.map(str::to_ascii_lowercase).as_deref() {
            Some("mp4") => Ok(Self::Mp4),
            Some("gif") => Ok(Self::Gif),
            _ => Err(Error::ExportFormat(path.to_owned())),
        }
    }
}

/// A file that a session is being exported to.
enum Export {
    Mp4 {
        writer: Box<Mp4Writer>,
        /// Whether it has a sound track.
        sound: bool,
    },
    Gif(GifWriter),
}

impl Export {
    fn create(
        path: &Path,
        format: Format,
        session: &Session,
        factor: u32,
        sound: bool,
    ) -> Result<Self> {
        let size = session.manifest.frame;
        let (width, height) = (size.width as u32 * factor, size.height as u32 * factor);
        let rate = session.manifest.frames_per_second;
        match format {
            Format::Mp4 => {
                let writer = match sound {
                    true => Mp4Writer::create_with_sound(path, width, height, rate)?,
                    false => Mp4Writer::create(path, width, height, rate)?,
                };
                Ok(Self::Mp4 {
                    writer: Box::new(writer),
                    sound,
                })
            }
            Format::Gif => Ok(Self::Gif(GifWriter::create(path, width, height, rate)?)),
        }
    }

    fn write(&mut self, picture: &Picture, samples: &[f32]) -> Result<()> {
        match self {
            Self::Mp4 { writer, sound } => {
                if *sound {
                    writer.write_sound(samples)?;
                }
                writer.write(picture)?;
            }
            Self::Gif(writer) => writer.write(picture)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Mp4 { writer, .. } => writer.finish()?,
            Self::Gif(writer) => writer.finish()?,
        }
        Ok(())
    }
}
