//! Writing a session while it is played.

use super::encoder::{Encoder, SILENCE_RATE, Tracks};
use super::lines::{ActionLine, Event};
use super::{
    ACTIONS_FILE, AUDIO_FILE, JOURNAL_FILE, MANIFEST_FILE, SESSION_VERSION, SessionManifest,
    TOKENS_FILE, VIDEO_FILE,
};
use crate::error::{Error, Result};
use crate::picture_of;
use crate::saved_state::SavedState;
use crate::sound::{MIX_RATE, Moment, mixer_of};
use crate::statistics::FrameTimeSummary;
use crate::whole_file::write_bytes;
use media::{Mp4Writer, WavFormat, WavWriter};
use nn::FrameSize;
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use worlds::{Frame, RolloutSettings, Step, Wish, World};

/// Smallest short side of a video: smaller pictures are enlarged.
const SMALLEST_SIDE: usize = 256;
/// Largest video that is recorded, the longer side first.
const LARGEST_VIDEO: (usize, usize) = (3840, 2160);

/// Where a session begins.
#[derive(Clone, Copy, Debug)]
pub enum Opening<'a> {
    /// Starting frames.
    Prompt(&'a [Frame]),
    /// The middle of play.
    State(&'a SavedState),
}

/// Writes a session. Actions and tokens of each frame reach the disk before the next one is made, so that whatever ends the program leaves a session
/// up to the last complete frame. Video and sound are encoded on a thread beside it, which drops nothing.
pub struct Recorder {
    folder: PathBuf,
    tokens_per_frame: usize,
    /// Number of the frame that the last start, load or prompt ended with.
    oldest: u64,
    /// Starting frames that have files.
    prompts: Vec<(Frame, String)>,
    actions: File,
    journal: File,
    encoder: Encoder,
    /// Whether something could not be written. Half a line may be at the end then, and nothing must follow it.
    failed: bool,
}

impl Recorder {
    /// Starts a session in `folder`, which is made, and writes all that is known before the first frame. `world_name` is how the world
    /// is found again.
    ///
    /// # Errors
    /// When the folder is there and not empty, or something cannot be written.
    pub fn create(
        folder: &Path,
        world: &World,
        world_name: &str,
        opening: Opening<'_>,
        settings: &RolloutSettings,
    ) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let mut entries = fs::read_dir(folder).map_err(Error::io(folder))?;
        if entries.next().is_some() {
            return Err(Error::FolderNotEmpty(folder.to_owned()));
        }
        // Nothing was there, so all that is there now is of a session that never began.
        Self::begin(folder, world, world_name, opening, settings).inspect_err(|_| {
            let _ = fs::remove_dir_all(folder);
        })
    }

    fn begin(
        folder: &Path,
        world: &World,
        world_name: &str,
        opening: Opening<'_>,
        settings: &RolloutSettings,
    ) -> Result<Self> {
        let manifest = &world.manifest;
        let create = |name: &str| {
            let path = folder.join(name);
            File::create(&path).map_err(Error::io(path))
        };
        let factor = enlargement(manifest.frame);
        let mixer = mixer_of(world);
        let create_video = match mixer.is_silent() {
            true => Mp4Writer::create,
            false => Mp4Writer::create_with_sound,
        };
        let video = create_video(
            &folder.join(VIDEO_FILE),
            manifest.frame.width as u32 * factor,
            manifest.frame.height as u32 * factor,
            manifest.frames_per_second,
        )?;
        let (rate, format) = match mixer.is_silent() {
            true => (SILENCE_RATE, WavFormat::Integer16),
            false => (MIX_RATE, WavFormat::Float),
        };
        let audio = WavWriter::create_as(&folder.join(AUDIO_FILE), rate, format)?;
        let tracks = Tracks {
            video,
            audio: Some(audio),
            mixer,
            factor,
            frames_per_second: manifest.frames_per_second,
            frames: 0,
        };
        let mut recorder = Self {
            folder: folder.to_owned(),
            tokens_per_frame: manifest.tokenizer.tokens_per_frame(),
            oldest: 0,
            prompts: Vec::new(),
            actions: create(ACTIONS_FILE)?,
            journal: create(JOURNAL_FILE)?,
            encoder: Encoder::start(tracks, manifest.frame.bytes())?,
            failed: false,
        };
        let (mut prompt, mut state) = (Vec::new(), None);
        let start = match opening {
            Opening::Prompt(frames) => {
                prompt = recorder.keep_prompt(frames)?;
                recorder.jumped(
                    frames.len().saturating_sub(1) as u64,
                    frames,
                    &Moment::Prompt,
                )?
            }
            Opening::State(saved) => {
                state = Some(recorder.keep_state(saved)?);
                recorder.jumped(
                    saved.frame,
                    std::slice::from_ref(&saved.picture),
                    &Moment::Prompt,
                )?
            }
        };
        let (frame, pictures) = start;
        recorder.write_line(&Event::Start { frame, pictures })?;
        let session = SessionManifest {
            version: SESSION_VERSION,
            program: format!("djinn {}", env!("CARGO_PKG_VERSION")),
            world: world_name.to_owned(),
            world_hash: world.hash.clone(),
            actions: manifest.actions.iter().map(|a| a.name.clone()).collect(),
            frame: manifest.frame,
            tokens_per_frame: recorder.tokens_per_frame,
            frames_per_second: manifest.frames_per_second,
            settings: *settings,
            prompt,
            state,
            kernels: world.kernels()?.to_owned(),
        };
        // The manifest comes last: a folder with one is a session.
        let path = folder.join(MANIFEST_FILE);
        let pretty = ron::ser::PrettyConfig::new().depth_limit(2);
        let text = ron::ser::to_string_pretty(&session, pretty)
            .map_err(|error| Error::io(&path)(std::io::Error::other(error)))?;
        fs::write(&path, text + "\n").map_err(Error::io(&path))?;
        Ok(recorder)
    }

    /// The session's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Records a frame: what was wished for, from which device, `seconds` after play began, and what came of it.
    ///
    /// # Errors
    /// When something cannot be written, as when the disk is full; where it was video or sound of a frame before this one, that comes out here, too.
    /// What was recorded before stays a session, and nothing more can be recorded.
    pub fn record(&mut self, step: &Step, wish: &Wish, device: &str, seconds: f64) -> Result<()> {
        self.guarded(|recorder| recorder.write(step, wish, device, seconds))
    }

    /// Writes something, unless something could not be written before.
    fn guarded(&mut self, write: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if self.failed {
            return Err(Error::RecordingEnded);
        }
        let written = write(self);
        self.failed = written.is_err();
        written
    }

    fn write(&mut self, step: &Step, wish: &Wish, device: &str, seconds: f64) -> Result<()> {
        let bytes: Vec<u8> = step.tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
        let journal = self.folder.join(JOURNAL_FILE);
        self.journal.write_all(&bytes).map_err(Error::io(journal))?;
        let line = ActionLine {
            frame: step.number,
            wish: wish.codes().to_vec(),
            code: step.code,
            device: device.to_owned(),
            time: (seconds * 1000.0).round() / 1000.0,
        };
        self.write_line(&line)?;
        let moment = Moment::Played {
            wish: wish.clone(),
            code: step.code,
        };
        self.encoder.show(step.frame.clone(), moment)
    }

    /// One write for the whole line: a kill comes before or after it.
    fn write_line(&mut self, line: &impl Serialize) -> Result<()> {
        let path = self.folder.join(ACTIONS_FILE);
        let text = serde_json::to_string(line)
            .map_err(|error| Error::io(&path)(std::io::Error::other(error)))?;
        self.actions
            .write_all((text + "\n").as_bytes())
            .map_err(Error::io(path))
    }

    /// Number of the oldest frame that a rewind can be recorded to.
    pub fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Records that play went back to frame `frame`, which looked like `picture`.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn rewind(&mut self, frame: u64, picture: &Frame) -> Result<()> {
        self.guarded(|recorder| {
            recorder.encoder.show(picture.clone(), Moment::Still)?;
            recorder.write_line(&Event::Rewind { frame, pictures: 1 })
        })
    }

    /// Records that the world was started from a prompt.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn prompt(&mut self, frames: &[Frame], settings: RolloutSettings) -> Result<()> {
        self.guarded(|recorder| {
            let prompt = recorder.keep_prompt(frames)?;
            let last = frames.len().saturating_sub(1) as u64;
            let (frame, pictures) = recorder.jumped(last, frames, &Moment::Still)?;
            recorder.write_line(&Event::Prompt {
                frame,
                pictures,
                prompt,
                settings,
            })
        })
    }

    /// Records that play went on from a state.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn load(&mut self, saved: &SavedState) -> Result<()> {
        self.guarded(|recorder| {
            let state = recorder.keep_state(saved)?;
            let shown = std::slice::from_ref(&saved.picture);
            let (frame, pictures) = recorder.jumped(saved.frame, shown, &Moment::Still)?;
            recorder.write_line(&Event::Load {
                frame,
                pictures,
                state,
                settings: saved.settings,
            })
        })
    }

    /// Records that other settings hold from the next frame on.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn change(&mut self, settings: RolloutSettings) -> Result<()> {
        self.guarded(|recorder| recorder.write_line(&Event::Settings { settings }))
    }

    /// Shows the frames that play goes on from; the last has the number `frame`. Returns the number and how many they are.
    fn jumped(&mut self, frame: u64, shown: &[Frame], moment: &Moment) -> Result<(u64, u64)> {
        for frame in shown {
            self.encoder.show(frame.clone(), moment.clone())?;
        }
        self.oldest = frame;
        Ok((frame, shown.len() as u64))
    }

    /// The files of starting frames, which are written unless they are there already.
    fn keep_prompt(&mut self, frames: &[Frame]) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for frame in frames {
            let known = self.prompts.iter().find(|(known, _)| known == frame);
            let name = match known {
                Some((_, name)) => name.clone(),
                None => {
                    let name = format!("prompt-{:03}.png", self.prompts.len());
                    media::write_png(&self.folder.join(&name), &picture_of(frame)?)?;
                    self.prompts.push((frame.clone(), name.clone()));
                    name
                }
            };
            names.push(name);
        }
        Ok(names)
    }

    /// The file of a state, which is written unless it is there already.
    fn keep_state(&mut self, state: &SavedState) -> Result<String> {
        let name = format!("{}.state", state.short_hash());
        let path = self.folder.join(&name);
        if !path.exists() {
            state.write(&path)?;
        }
        Ok(name)
    }

    /// Completes the session, of which `times` says how long the frames took, and returns its folder.
    ///
    /// # Errors
    /// When something cannot be written, or could not be before.
    pub fn finish(mut self, times: FrameTimeSummary) -> Result<PathBuf> {
        let ended = self.guarded(|recorder| recorder.write_line(&Event::End { frame_ms: times }));
        // Video and sound are completed whatever became of the rest.
        self.encoder.finish()?;
        ended?;
        let journal = self.folder.join(JOURNAL_FILE);
        self.actions
            .sync_all()
            .map_err(Error::io(self.folder.join(ACTIONS_FILE)))?;
        let tokens = fs::read(&journal).map_err(Error::io(&journal))?;
        write_tokens(&self.folder, &tokens, self.tokens_per_frame)?;
        fs::remove_file(&journal).map_err(Error::io(&journal))?;
        Ok(self.folder)
    }
}

#[cfg(test)]
impl Recorder {
    /// Makes every write from now on fail, as on a full disk.
    pub(crate) fn fail_from_now_on(&mut self) {
        self.journal = File::open(self.folder.join(JOURNAL_FILE)).unwrap();
    }
}

/// Writes `tokens.safetensors` from the journal's bytes.
fn write_tokens(folder: &Path, journal: &[u8], tokens_per_frame: usize) -> Result<()> {
    let path = folder.join(TOKENS_FILE);
    let wrap = |error: safetensors::SafeTensorError| {
        Error::io(folder.join(TOKENS_FILE))(std::io::Error::other(error.to_string()))
    };
    let shape = vec![
        journal.len() / 4 / tokens_per_frame.max(1),
        tokens_per_frame,
    ];
    let view = TensorView::new(Dtype::U32, shape, journal).map_err(wrap)?;
    let bytes = safetensors::serialize([("tokens", view)], None).map_err(wrap)?;
    write_bytes(&path, &bytes)
}

/// The whole factor by which frames are enlarged in a video, so that its short side has at least 256 pixels; even, so that colours, which
/// video keeps at half resolution, do not smear.
pub fn enlargement(size: FrameSize) -> u32 {
    let (short, long) = (
        size.height.min(size.width).max(1),
        size.height.max(size.width),
    );
    let mut factor = SMALLEST_SIDE.div_ceil(short).next_multiple_of(2);
    while factor > 1 && (long * factor > LARGEST_VIDEO.0 || short * factor > LARGEST_VIDEO.1) {
        factor -= 1;
    }
    factor as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_frames_become_videos_of_256_pixels_and_more() {
        let factor = |height, width| enlargement(FrameSize { height, width });
        assert_eq!(factor(64, 64), 4);
        assert_eq!(factor(16, 24), 16);
        assert_eq!(factor(60, 80), 6);
        assert_eq!(factor(256, 256), 2);
        assert_eq!(factor(1024, 1024), 2);
        assert_eq!(factor(16, 1024), 3);
        assert_eq!(factor(1, 1), 256);
    }
}
