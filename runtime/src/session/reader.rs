//! Reading a session back, also one that a crash cut short, also one from a stranger.

use super::lines::{ActionLine, Event, SessionLine, parse_session_lines};
use super::{
    ACTIONS_FILE, JOURNAL_FILE, MANIFEST_FILE, SESSION_VERSION, SessionManifest, TOKENS_FILE,
};
use crate::error::{Error, Result};
use crate::saved_state::SavedState;
use nn::{ActionCode, Transitions};
use safetensors::tensor::{Dtype, SafeTensors};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use worlds::{BundleSource, FolderSource, Frame, LONGEST_PROMPT, Rollout, RolloutSettings, World};

const LARGEST_MANIFEST: u64 = 1 << 20;
const LARGEST_FILE: u64 = 1 << 30;
const LARGEST_PROMPT: u64 = 16 << 20;
/// Longest text in the manifest; a world may be named by its path.
const LONGEST_LINE: usize = 4096;
/// Highest number of a frame: years of play.
const MOST_FRAMES: u64 = 1 << 40;

/// A recorded session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its folder.
    pub folder: PathBuf,
    /// World, seed and settings.
    pub manifest: SessionManifest,
    /// The starting frames; at least one, unless the session starts from a state.
    pub prompt: Vec<Frame>,
    /// How each frame after the start came to be, in the order in which they were made.
    pub lines: Vec<ActionLine>,
    /// What happened between frames, each with the index of the line before which it happened.
    pub events: Vec<(usize, Event)>,
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
        if folder.is_file() {
            return Err(Error::NotASession(folder.to_owned()));
        }
        let source = FolderSource::new(folder)?;
        let files = Files { folder, source };
        if files
            .as_session(files.source.size(MANIFEST_FILE))?
            .is_none()
        {
            return Err(Error::NotASession(folder.to_owned()));
        }
        let manifest = read_manifest(&files)?;
        let prompt = read_frames(&files, &manifest, &manifest.prompt)?;
        let text = files.text(ACTIONS_FILE, LARGEST_FILE)?;
        let (parsed, whole) = parse_session_lines(&text)
            .map_err(|(line, reason)| files.refuse(ACTIONS_FILE, format!("line {line}"), reason))?;
        let mut sequence = Sequence::new(&manifest);
        for (number, line) in parsed {
            sequence.add(line).map_err(|(field, reason)| {
                files.refuse(ACTIONS_FILE, format!("{field} {number}"), reason)
            })?;
        }
        let Sequence {
            mut lines,
            mut events,
            ..
        } = sequence;
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
        events.retain(|(before, _)| *before <= frames);
        tokens.truncate(frames * per_frame);
        Ok(Self {
            folder: folder.to_owned(),
            manifest,
            prompt,
            lines,
            events,
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

    /// The code that led from each picture of the video to the next; those within prompts and across jumps in time are not known.
    pub fn codes(&self) -> Transitions<Option<ActionCode>> {
        let mut arrivals = Vec::new();
        let mut pictures = self.opening_pictures();
        let mut events = self.events.iter().peekable();
        for (index, line) in self.lines.iter().enumerate() {
            while let Some((_, event)) = events.next_if(|(before, _)| *before <= index) {
                pictures += shown_by(event);
            }
            arrivals.push((pictures, line.code));
            pictures += 1;
        }
        pictures += events.map(|(_, event)| shown_by(event)).sum::<usize>();
        Transitions::from_arrivals(pictures, arrivals)
    }

    /// Pictures of what the session starts from.
    pub fn opening_pictures(&self) -> usize {
        self.prompt.len().max(1)
    }

    /// Reads starting frames that an event names.
    ///
    /// # Errors
    /// When one of them is missing or refused.
    pub fn read_prompt(&self, names: &[String]) -> Result<Vec<Frame>> {
        read_frames(&self.files()?, &self.manifest, names)
    }

    /// Reads a state that the manifest or an event names.
    ///
    /// # Errors
    /// When it is missing or refused.
    pub fn read_state(&self, name: &str) -> Result<SavedState> {
        let files = self.files()?;
        SavedState::from_bytes(files.read(name, crate::saved_state::LARGEST_STATE)?)
            .map_err(|error| files.refuse(name, "state", error))
    }

    /// A rollout at what the session starts from.
    ///
    /// # Errors
    /// When the state that it starts from cannot be read, or the world refuses what it starts with.
    pub(crate) fn start(&self, world: Arc<World>) -> Result<Rollout> {
        let settings = self.manifest.settings;
        match &self.manifest.state {
            Some(state) => self.resume(state, settings, world),
            None => Ok(Rollout::start(world, &self.prompt, settings)?),
        }
    }

    /// A rollout at a state that the manifest or an event names.
    ///
    /// # Errors
    /// When it cannot be read, or the world refuses it or the settings.
    pub(crate) fn resume(
        &self,
        state: &str,
        settings: RolloutSettings,
        world: Arc<World>,
    ) -> Result<Rollout> {
        let mut rollout = self.read_state(state)?.resume(world)?;
        rollout.change(settings)?;
        Ok(rollout)
    }

    fn files(&self) -> Result<Files<'_>> {
        Ok(Files {
            folder: &self.folder,
            source: FolderSource::new(&self.folder)?,
        })
    }

    /// Frames after the start.
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
        // The other one is that of sessions from before the idle code counted.
        if [&world.hash, &world.hash_without_idle].contains(&&self.manifest.world_hash) {
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

/// Pictures that an event adds to the video; those of the start are the prompt's own.
fn shown_by(event: &Event) -> usize {
    match event {
        Event::Start { .. } => 0,
        event => event.jump().map_or(0, |(_, pictures)| pictures as usize),
    }
}

fn read_frames(
    files: &Files<'_>,
    manifest: &SessionManifest,
    names: &[String],
) -> Result<Vec<Frame>> {
    let read = |name: &String| {
        let bytes = files.read(name, LARGEST_PROMPT)?;
        let frame = Frame::from_png(&bytes, Some(manifest.frame), name);
        frame.map_err(|error| files.refuse(name, "picture", error))
    };
    names.iter().map(read).collect()
}

/// Checks that lines follow one another.
struct Sequence<'a> {
    manifest: &'a SessionManifest,
    /// Numbers of the oldest frame that can be gone back to, and of the newest; none before a start from a state.
    frames: Option<(u64, u64)>,
    lines: Vec<ActionLine>,
    events: Vec<(usize, Event)>,
}

impl<'a> Sequence<'a> {
    fn new(manifest: &'a SessionManifest) -> Self {
        let last = manifest.prompt.len().checked_sub(1);
        Self {
            manifest,
            frames: last.map(|last| (last as u64, last as u64)),
            lines: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The error is what the number of the line is to be told with, and what is wrong.
    fn add(&mut self, line: SessionLine) -> Result<(), (&'static str, String)> {
        let wrong = |reason: String| Err(("line", reason));
        match line {
            SessionLine::Frame(line) => {
                let Some((oldest, newest)) = self.frames else {
                    return wrong("a frame before the start".into());
                };
                if line.frame != newest + 1 {
                    let reason = format!("{} where {} follows", line.frame, newest + 1);
                    return Err(("frame of line", reason));
                }
                let actions = self.manifest.actions.len();
                let known = |code: &ActionCode| usize::from(code.0) < actions;
                if !known(&line.code) || !line.wish.iter().all(known) {
                    return wrong(format!("a code that is not below {actions}"));
                }
                self.frames = Some((oldest, line.frame));
                self.lines.push(line);
            }
            SessionLine::Event(event) => {
                self.pass(&event).or_else(|reason| wrong(reason.into()))?;
                self.events.push((self.lines.len(), event));
            }
        }
        Ok(())
    }

    fn pass(&mut self, event: &Event) -> Result<(), &'static str> {
        let first = self.lines.is_empty() && self.events.is_empty();
        if let Some((frame, pictures)) = event.jump() {
            if frame > MOST_FRAMES || !(1..=LONGEST_PROMPT as u64).contains(&pictures) {
                return Err("more frames than there can be");
            }
            let agrees = match (event, self.frames) {
                (Event::Start { .. }, Some((_, last))) => {
                    first && (frame, pictures) == (last, last + 1)
                }
                (Event::Start { .. }, None) => first && pictures == 1,
                (_, None) => return Err("an event before the start"),
                (Event::Rewind { .. }, Some((oldest, newest))) => {
                    pictures == 1 && (oldest..=newest).contains(&frame)
                }
                (Event::Prompt { prompt, .. }, _) => {
                    prompt.len() as u64 == pictures && frame + 1 == pictures
                }
                _ => pictures == 1,
            };
            if !agrees {
                return Err("frame or pictures do not agree with what was before");
            }
            let oldest = match (event, self.frames) {
                (Event::Rewind { .. }, Some((oldest, _))) => oldest,
                _ => frame,
            };
            self.frames = Some((oldest, frame));
        }
        match event {
            Event::Prompt { settings, .. }
            | Event::Load { settings, .. }
            | Event::Settings { settings } => {
                let sound = settings.sampler.validate();
                let sound = sound.and_then(|()| settings.strength.validate());
                sound.map_err(|_| "settings that nothing can be played with")
            }
            _ => Ok(()),
        }
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
    if !(1..=SESSION_VERSION).contains(&version) {
        let reason = format!(
            "{version} is not known to this program, which reads versions up to {SESSION_VERSION}"
        );
        return Err(refuse("version", reason));
    }
    let manifest: SessionManifest = ron::from_str(&text).map_err(unreadable)?;
    // Before pictures of that size are read.
    let sized = manifest.frame.patches(1);
    sized.map_err(|error| refuse("frame", error.to_string()))?;
    if !(1..=4096).contains(&manifest.tokens_per_frame) {
        return Err(refuse("tokens_per_frame", "must lie in 1..=4096".into()));
    }
    if !(0.1..=240.0).contains(&manifest.frames_per_second) {
        return Err(refuse("frames_per_second", "must lie in 0.1..=240".into()));
    }
    let starts = (manifest.prompt.len(), &manifest.state);
    if !matches!(starts, (1..=LONGEST_PROMPT, None) | (0, Some(_))) {
        return Err(refuse(
            "prompt",
            format!("must name 1 to {LONGEST_PROMPT} pictures, or none where there is a state"),
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
