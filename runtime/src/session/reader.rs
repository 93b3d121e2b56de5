//! Reading a session back, also one that a crash cut short, also one from a stranger.

use super::lines::{ActionLine, parse_action_lines};
use super::{
    ACTIONS_FILE, JOURNAL_FILE, MANIFEST_FILE, SESSION_VERSION, SessionManifest, TOKENS_FILE,
};
use crate::error::{Error, Result};
use nn::{ActionCode, Transitions};
use safetensors::tensor::{Dtype, SafeTensors};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use worlds::{BundleSource, FolderSource, Frame, World};

const LARGEST_MANIFEST: u64 = 1 << 20;
const LARGEST_FILE: u64 = 1 << 30;
const LARGEST_PROMPT: u64 = 16 << 20;
/// Longest text in the manifest; a world may be named by its path.
const LONGEST_LINE: usize = 4096;
const MOST_PROMPT_FRAMES: usize = 256;

/// A recorded session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its folder.
    pub folder: PathBuf,
    /// World, seed and settings.
    pub manifest: SessionManifest,
    /// The starting frames; at least one.
    pub prompt: Vec<Frame>,
    /// How each frame after the prompt came to be.
    pub lines: Vec<ActionLine>,
    /// Whether play came to its end; otherwise the session holds what was complete when it was cut short.
    pub complete: bool,
    /// Frames that the actions speak of; more than there are [`Self::lines`] where the tokens of the last ones are lost.
    pub recorded: usize,
    tokens: Vec<u32>,
}

/// Reads files of a session's folder, each within a limit.
struct Files<'a> {
    folder: &'a Path,
    source: FolderSource,
}

impl Files<'_> {
    fn refuse(&self, file: &str, field: impl Into<String>, reason: impl ToString) -> Error {
        refuse(self.folder, file, field, reason)
    }

    /// The reader of folders is made for worlds, and speaks of one where it refuses a file.
    fn as_session<T>(&self, result: worlds::Result<T>) -> Result<T> {
        result.map_err(|error| match error {
            worlds::Error::Refused {
                file,
                field,
                reason,
                ..
            } => self.refuse(&file, field, reason),
            other => other.into(),
        })
    }

    /// The file's bytes; `None` when there is no such file.
    fn find(&self, file: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        match self.as_session(self.source.size(file))? {
            None => Ok(None),
            Some(size) if size > limit => {
                let reason = format!("{size} bytes, at most {limit} are allowed");
                Err(self.refuse(file, "size", reason))
            }
            Some(size) => Ok(Some(self.as_session(self.source.read(file, size))?)),
        }
    }

    fn read(&self, file: &str, limit: u64) -> Result<Vec<u8>> {
        let found = self.find(file, limit)?;
        found.ok_or_else(|| self.refuse(file, "file", "is missing"))
    }

    fn text(&self, file: &str, limit: u64) -> Result<String> {
        String::from_utf8(self.read(file, limit)?)
            .map_err(|error| self.refuse(file, "text", error.utf8_error()))
    }
}

fn refuse(folder: &Path, file: &str, field: impl Into<String>, reason: impl ToString) -> Error {
    Error::Refused {
        folder: folder.to_owned(),
        file: file.to_owned(),
        field: field.into(),
        reason: reason.to_string(),
    }
}

impl Session {
    /// Opens the session in `folder`.
    ///
    /// # Errors
    /// When there is none, or what is there cannot be replayed; the message names file and field.
    pub fn open(folder: &Path) -> Result<Self> {
        let source = FolderSource::new(folder)?;
        let files = Files { folder, source };
        if files
            .as_session(files.source.size(MANIFEST_FILE))?
            .is_none()
        {
            return Err(Error::NotASession(folder.to_owned()));
        }
        let manifest = read_manifest(&files)?;
        let mut prompt = Vec::new();
        for name in &manifest.prompt {
            let bytes = files.read(name, LARGEST_PROMPT)?;
            let frame = Frame::from_png(&bytes, Some(manifest.frame), name);
            prompt.push(frame.map_err(|error| files.refuse(name, "picture", error))?);
        }
        let text = files.text(ACTIONS_FILE, LARGEST_FILE)?;
        let (mut lines, whole) = parse_action_lines(&text)
            .map_err(|(line, reason)| files.refuse(ACTIONS_FILE, format!("line {line}"), reason))?;
        for (index, line) in lines.iter().enumerate() {
            let expected = (prompt.len() + index) as u64;
            if line.frame != expected {
                let reason = format!("{} where {expected} follows", line.frame);
                return Err(files.refuse(
                    ACTIONS_FILE,
                    format!("frame of line {}", index + 1),
                    reason,
                ));
            }
            let actions = manifest.actions.len();
            let known = |code: &ActionCode| usize::from(code.0) < actions;
            if !known(&line.code) || !line.wish.iter().all(known) {
                let reason = format!("a code that is not below {actions}");
                return Err(files.refuse(ACTIONS_FILE, format!("line {}", index + 1), reason));
            }
        }
        let per_frame = manifest.tokens_per_frame;
        let (mut tokens, finished) = read_tokens(&files, per_frame)?;
        let frames = lines.len().min(tokens.len() / per_frame);
        if finished && (frames < lines.len() || frames * per_frame < tokens.len()) {
            let reason = format!(
                "{} frames, but {ACTIONS_FILE} speaks of {}",
                tokens.len() / per_frame,
                lines.len()
            );
            return Err(files.refuse(TOKENS_FILE, "tokens", reason));
        }
        let recorded = lines.len();
        lines.truncate(frames);
        tokens.truncate(frames * per_frame);
        Ok(Self {
            folder: folder.to_owned(),
            manifest,
            prompt,
            lines,
            complete: finished && whole,
            recorded,
            tokens,
        })
    }

    /// The precision that its frames were computed in.
    pub fn precision(&self) -> nn::Precision {
        match self.manifest.kernels.ends_with("bf16") {
            true => nn::Precision::Bf16,
            false => nn::Precision::F32,
        }
    }

    /// The code that led from each frame to the next, prompt included; those within the prompt are not recorded.
    pub fn codes(&self) -> Transitions<Option<ActionCode>> {
        let arrivals = self
            .lines
            .iter()
            .map(|line| (line.frame as usize, line.code));
        Transitions::from_arrivals(self.prompt.len() + self.lines.len(), arrivals)
    }

    /// Frames after the prompt.
    pub fn frames(&self) -> usize {
        self.lines.len()
    }

    /// The tokens of the frame that line `line` (from 0) speaks of.
    pub fn tokens(&self, line: usize) -> Option<&[u32]> {
        self.tokens
            .chunks_exact(self.manifest.tokens_per_frame)
            .nth(line)
    }

    /// Checks that the session was recorded in `world` and can be made again there; `name` is what the message calls it.
    ///
    /// # Errors
    /// When it was another one, or the world does not allow the session's settings.
    pub fn check_world(&self, world: &World, name: &str) -> Result<()> {
        if self.manifest.world_hash == world.hash {
            let allowed = self.manifest.settings.validate(&world.manifest);
            return allowed.map_err(|error| refuse(&self.folder, MANIFEST_FILE, "settings", error));
        }
        Err(Error::AnotherWorld {
            recorded: self.manifest.world.clone(),
            recorded_hash: self.manifest.world_hash.clone(),
            given: name.to_owned(),
            given_hash: world.hash.clone(),
        })
    }
}

fn read_manifest(files: &Files<'_>) -> Result<SessionManifest> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let refuse = |field: &str, reason: String| files.refuse(MANIFEST_FILE, field, reason);
    let text = files.text(MANIFEST_FILE, LARGEST_MANIFEST)?;
    let unreadable = |error: ron::error::SpannedError| {
        refuse(
            &format!("line {}", error.span.start.line),
            error.code.to_string(),
        )
    };
    let Versioned { version } = ron::from_str(&text).map_err(unreadable)?;
    if version != SESSION_VERSION {
        let reason =
            format!("{version} is not known to this program, which reads {SESSION_VERSION}");
        return Err(refuse("version", reason));
    }
    let manifest: SessionManifest = ron::from_str(&text).map_err(unreadable)?;
    if !(1..=4096).contains(&manifest.tokens_per_frame) {
        return Err(refuse("tokens_per_frame", "must lie in 1..=4096".into()));
    }
    if !(0.1..=240.0).contains(&manifest.frames_per_second) {
        return Err(refuse("frames_per_second", "must lie in 0.1..=240".into()));
    }
    if !(1..=MOST_PROMPT_FRAMES).contains(&manifest.prompt.len()) {
        return Err(refuse(
            "prompt",
            format!("must name 1 to {MOST_PROMPT_FRAMES} pictures"),
        ));
    }
    if manifest.actions.len() > 1024 {
        return Err(refuse("actions", "more than 1024 codes".into()));
    }
    let settings = &manifest.settings;
    let sound = settings.sampler.validate();
    if let Err(error) = sound.and_then(|()| settings.strength.validate()) {
        return Err(refuse("settings", error.to_string()));
    }
    let one_line = |text: &str| text.len() <= LONGEST_LINE && !text.chars().any(char::is_control);
    for (field, text) in [
        ("world", &manifest.world),
        ("world_hash", &manifest.world_hash),
        ("program", &manifest.program),
        ("kernels", &manifest.kernels),
    ] {
        if !one_line(text) {
            return Err(refuse(
                field,
                "must be one short line without control characters".into(),
            ));
        }
    }
    Ok(manifest)
}

/// All tokens, and whether they come from a session that was completed.
fn read_tokens(files: &Files<'_>, per_frame: usize) -> Result<(Vec<u32>, bool)> {
    let numbers = |bytes: &[u8]| -> Vec<u32> {
        let words = bytes.chunks_exact(4);
        words
            .map(|word| {
                word.iter()
                    .rev()
                    .fold(0, |n, &byte| n << 8 | u32::from(byte))
            })
            .collect()
    };
    let Some(bytes) = files.find(TOKENS_FILE, LARGEST_FILE)? else {
        // The recorder removes the journal only when the tokens are in their own file.
        let Some(journal) = files.find(JOURNAL_FILE, LARGEST_FILE)? else {
            let reason = format!("is missing, and so is {JOURNAL_FILE}");
            return Err(files.refuse(TOKENS_FILE, "file", reason));
        };
        return Ok((numbers(&journal), false));
    };
    let refuse = |reason: String| files.refuse(TOKENS_FILE, "tokens", reason);
    let stored = SafeTensors::deserialize(&bytes).map_err(|error| refuse(error.to_string()))?;
    let tensor = stored
        .tensor("tokens")
        .map_err(|error| refuse(error.to_string()))?;
    match (tensor.dtype(), tensor.shape()) {
        (Dtype::U32, &[_, width]) if width == per_frame => Ok((numbers(tensor.data()), true)),
        (dtype, shape) => Err(refuse(format!(
            "{dtype:?} {shape:?}, expected U32 [frames, {per_frame}]"
        ))),
    }
}
