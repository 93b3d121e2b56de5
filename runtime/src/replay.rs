//! Making a recorded session again: to verify it, or to show it.

use crate::error::{Error, Result};
use crate::play::picture_of;
use crate::session::{Session, enlargement};
use crate::sound::{Moment, mixer_of};
use media::{GifWriter, Mp4Writer, Picture};
use nn::ActionCode;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use worlds::{Rollout, Wish, World};

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
    session.check_world(&world, &world.manifest.name)?;
    let mut rollout = Rollout::start(world.clone(), &session.prompt, session.manifest.settings)?;
    let mut verification = Verification {
        frames: 0,
        recorded: session.recorded as u64,
        difference: None,
        complete: session.complete,
        same_kernels: session.manifest.kernels == world.kernels()?,
    };
    for (index, line) in session.lines.iter().enumerate() {
        if cancel.load(Ordering::Relaxed) {
            break;
        }
        let recorded = session.tokens(index).unwrap_or_default();
        // Where recorded codes were played again, no wish led to them.
        let code = match line.device.as_str() {
            "session" => line.code,
            _ => rollout.choose(&line.wish.iter().copied().collect::<Wish>())?,
        };
        let step = rollout.step_with_code(line.code)?;
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

/// Writes a session as an `.mp4`, with the sound that it had, or `.gif`, from its tokens (or, where they are lost, made again from its codes), enlarged by a whole factor. `on_frame` is called with the number of
/// frames done. Returns the number of pictures written.
///
/// # Errors
/// When the file name has another ending or leads into the session's folder, the session is of another world, or writing fails.
pub fn export(
    session: &Session,
    world: Arc<World>,
    path: &Path,
    on_frame: &mut dyn FnMut(u64),
    cancel: &AtomicBool,
) -> Result<u64> {
    session.check_world(&world, &world.manifest.name)?;
    check_outside(session, path)?;
    let factor = enlargement(session.manifest.frame);
    let mut mixer = mixer_of(&world);
    let mut writer = Export::create(path, session, factor, !mixer.is_silent())?;
    let mut written = 0;
    for frame in &session.prompt {
        let picture = media::enlarge(&picture_of(frame)?, factor);
        writer.write(&picture, &mixer.next_frame(&Moment::Prompt))?;
        written += 1;
    }
    let mut rollout = Rollout::start(world, &session.prompt, session.manifest.settings)?;
    for (index, line) in session.lines.iter().enumerate() {
        if cancel.load(Ordering::Relaxed) {
            break;
        }
        let step = match session.tokens(index) {
            Some(tokens) => rollout.step_with_tokens(line.code, tokens.to_vec())?,
            None => rollout.step_with_code(line.code)?,
        };
        let picture = media::enlarge(&picture_of(&step.frame)?, factor);
        let moment = Moment::Played {
            wish: line.wish.iter().copied().collect(),
            code: line.code,
        };
        writer.write(&picture, &mixer.next_frame(&moment))?;
        written += 1;
        on_frame(written);
    }
    writer.finish()?;
    Ok(written)
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

/// One of the formats that sessions are exported to.
enum Export {
    Mp4 {
        writer: Box<Mp4Writer>,
        /// Whether it has a sound track.
        sound: bool,
    },
    Gif(GifWriter),
}

impl Export {
    fn create(path: &Path, session: &Session, factor: u32, sound: bool) -> Result<Self> {
        let ending = path.extension().and_then(|ending| ending.to_str());
        let size = session.manifest.frame;
        let (width, height) = (size.width as u32 * factor, size.height as u32 * factor);
        let rate = session.manifest.frames_per_second;
        match ending.map(str::to_ascii_lowercase).as_deref() {
            Some("mp4") => {
                let writer = match sound {
                    true => Mp4Writer::create_with_sound(path, width, height, rate)?,
                    false => Mp4Writer::create(path, width, height, rate)?,
                };
                Ok(Self::Mp4 {
                    writer: Box::new(writer),
                    sound,
                })
            }
            Some("gif") => Ok(Self::Gif(GifWriter::create(path, width, height, rate)?)),
            _ => Err(Error::ExportFormat(path.to_owned())),
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
