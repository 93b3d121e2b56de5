//! Making a recorded session again: to verify it, or to show it.

use crate::error::{Error, Result};
use crate::play::picture_of;
use crate::session::{Session, enlargement, instructions};
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
    /// The first frame that came out differently; `None` when all are the same.
    pub difference: Option<Difference>,
    /// Whether the session was played to its end; otherwise the frames that were complete when it was cut short were compared.
    pub complete: bool,
    /// Whether the session was computed with the CPU instructions that this process uses. If not, small differences in rounding
    /// can lead to other tokens without anything being wrong.
    pub same_instructions: bool,
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
/// recorded one. Stops at the first difference. `on_frame` is called with the number of frames done.
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
    let mut rollout = Rollout::start(world, &session.prompt, session.manifest.settings)?;
    let mut verification = Verification {
        frames: 0,
        difference: None,
        complete: session.complete,
        same_instructions: session.manifest.instructions == instructions(),
    };
    for (index, line) in session.lines.iter().enumerate() {
        if cancel.load(Ordering::Relaxed) {
            verification.complete = false;
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

/// Writes a session as an `.mp4` or `.gif`, made again from its codes and enlarged by a whole factor. `on_frame` is called with the number of
/// frames done. Returns the number of pictures written.
///
/// # Errors
/// When the file name has another ending, the session is of another world, or writing fails.
pub fn export(
    session: &Session,
    world: Arc<World>,
    path: &Path,
    on_frame: &mut dyn FnMut(u64),
    cancel: &AtomicBool,
) -> Result<u64> {
    session.check_world(&world, &world.manifest.name)?;
    let factor = enlargement(session.manifest.frame);
    let mut writer = Export::create(path, session, factor)?;
    let mut written = 0;
    for frame in &session.prompt {
        writer.write(&media::enlarge(&picture_of(frame)?, factor))?;
        written += 1;
    }
    let mut rollout = Rollout::start(world, &session.prompt, session.manifest.settings)?;
    let codes = session.codes();
    for code in codes.as_slice().iter().flatten() {
        if cancel.load(Ordering::Relaxed) {
            break;
        }
        let step = rollout.step_with_code(*code)?;
        writer.write(&media::enlarge(&picture_of(&step.frame)?, factor))?;
        written += 1;
        on_frame(written);
    }
    writer.finish()?;
    Ok(written)
}

/// One of the formats that sessions are exported to.
enum Export {
    Mp4(Box<Mp4Writer>),
    Gif(GifWriter),
}

impl Export {
    fn create(path: &Path, session: &Session, factor: u32) -> Result<Self> {
        let ending = path.extension().and_then(|ending| ending.to_str());
        let size = session.manifest.frame;
        let (width, height) = (size.width as u32 * factor, size.height as u32 * factor);
        let rate = session.manifest.frames_per_second;
        match ending.map(str::to_ascii_lowercase).as_deref() {
            Some("mp4") => {
                let writer = Mp4Writer::create(path, width, height, rate)?;
                Ok(Self::Mp4(Box::new(writer)))
            }
            Some("gif") => Ok(Self::Gif(GifWriter::create(path, width, height, rate)?)),
            _ => Err(Error::ExportFormat(path.to_owned())),
        }
    }

    fn write(&mut self, picture: &Picture) -> Result<()> {
        match self {
            Self::Mp4(writer) => writer.write(picture)?,
            Self::Gif(writer) => writer.write(picture)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Mp4(writer) => writer.finish()?,
            Self::Gif(writer) => writer.finish()?,
        }
        Ok(())
    }
}
