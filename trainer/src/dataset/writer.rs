use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use media::{CropRect, Fit};

use super::manifest::{
    DatasetManifest, EpisodeRecord, LONGEST_SIDE, MANIFEST_FILE, ShardRecord, SourceRecord, Split,
    VERSION, shard_file,
};
use super::shard::ShardWriter;
use super::{DatasetError, MAXIMUM_SHARD_BYTES, UNKNOWN_ACTION};
use crate::files::LOCK_FILE;

/// What a new dataset is like.
#[derive(Debug, Clone, PartialEq)]
pub struct WriterOptions {
    /// Height of a frame in pixels.
    pub height: usize,
    /// Width of a frame in pixels.
    pub width: usize,
    /// Frame rate.
    pub frames_per_second: f64,
    /// How source pictures were brought to the frame size, for the record.
    pub fit: Fit,
    /// Part of the source pictures that was looked at, for the record.
    pub crop: Option<CropRect>,
    /// Size that a shard does not exceed, in bytes; at most [`MAXIMUM_SHARD_BYTES`].
    pub max_shard_bytes: u64,
}

/// Writes a dataset. It takes shape in a folder beside its place and is renamed when it is complete, so a dataset that is
/// there is whole; dropping the writer before removes what it wrote.
pub struct DatasetWriter {
    target: PathBuf,
    temporary: PathBuf,
    /// Held for as long as the temporary folder is written to.
    lock: Option<File>,
    finished: bool,
    options: WriterOptions,
    shard: Option<ShardWriter>,
    shards: Vec<ShardRecord>,
    sources: Vec<SourceRecord>,
    episodes: Vec<EpisodeRecord>,
    action_names: Vec<String>,
    in_episode: bool,
    any_action: bool,
}

impl DatasetWriter {
    /// Prepares a dataset at `path`, which must not exist or be an empty folder.
    ///
    /// # Errors
    ///
    /// [`DatasetError::OutputExists`] when something is there, [`DatasetError::Write`] for settings that make no sense.
    pub fn create(path: &Path, options: WriterOptions) -> Result<Self, DatasetError> {
        let refuse = |what: String| DatasetError::Write {
            path: path.to_owned(),
            what,
        };
        for side in [options.height, options.width] {
            if !(1..=LONGEST_SIDE).contains(&side) {
                return Err(refuse(format!(
                    "a frame side of {side} is not between 1 and {LONGEST_SIDE}"
                )));
            }
        }
        let frame = (options.height * options.width * 3) as u64;
        if options.max_shard_bytes > MAXIMUM_SHARD_BYTES
            || options.max_shard_bytes < frame * 2 + 8192
        {
            return Err(refuse(format!(
                "a shard of {} bytes: it must hold two frames and stay within {MAXIMUM_SHARD_BYTES}",
                options.max_shard_bytes
            )));
        }
        if !(options.frames_per_second > 0.0 && options.frames_per_second <= 1000.0) {
            return Err(refuse(format!(
                "{} frames per second",
                options.frames_per_second
            )));
        }
        check_free(path)?;
        let name = path
            .file_name()
            .ok_or_else(|| refuse("this is no name for a dataset".to_owned()))?;
        let mut temporary_name = std::ffi::OsString::from(".");
        temporary_name.push(name);
        temporary_name.push(".partial-");
        remove_abandoned(path, &temporary_name);
        temporary_name.push(std::process::id().to_string());
        let temporary = path.with_file_name(temporary_name);
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            fs::create_dir_all(parent).map_err(DatasetError::io(parent))?;
        }
        if temporary.exists() {
            // Left by a killed process of the same number.
            fs::remove_dir_all(&temporary).map_err(DatasetError::io(&temporary))?;
        }
        fs::create_dir(&temporary).map_err(DatasetError::io(&temporary))?;
        Ok(Self {
            target: path.to_owned(),
            lock: lock(&temporary),
            temporary,
            finished: false,
            options,
            shard: None,
            shards: Vec::new(),
            sources: Vec::new(),
            episodes: Vec::new(),
            action_names: Vec::new(),
            in_episode: false,
            any_action: false,
        })
    }

    /// Registers a source; what is pushed from now on comes from it. Its `frames` are counted here.
    pub fn begin_source(&mut self, path: String, sha256: String, codec: String) {
        self.end_episode();
        self.sources.push(SourceRecord {
            path,
            sha256,
            codec,
            frames: 0,
        });
    }

    /// Number that stands for the true action called `name` in this dataset; [`UNKNOWN_ACTION`] when there are too many.
    pub fn action(&mut self, name: &str) -> u16 {
        if let Some(number) = self.action_names.iter().position(|known| known == name) {
            return number as u16;
        }
        if self.action_names.len() + 1 >= usize::from(UNKNOWN_ACTION) {
            return UNKNOWN_ACTION;
        }
        self.action_names.push(name.to_owned());
        (self.action_names.len() - 1) as u16
    }

    /// Adds a frame (`H * W * 3` bytes) and the true action between it and the next one, if known. The first frame after
    /// [`DatasetWriter::begin_source`] or [`DatasetWriter::end_episode`] begins an episode; where a shard is full, the
    /// episode goes on as a new one.
    ///
    /// # Errors
    ///
    /// [`DatasetError::Write`] for a frame of the wrong size, [`DatasetError::Io`] when the disk is full.
    pub fn push_frame(&mut self, frame: &[u8], action: Option<u16>) -> Result<(), DatasetError> {
        let frame_bytes = self.options.height * self.options.width * 3;
        if frame.len() != frame_bytes || self.sources.is_empty() {
            return Err(DatasetError::Write {
                path: self.target.clone(),
                what: format!(
                    "a frame of {} bytes from source {}, expected {frame_bytes}",
                    frame.len(),
                    self.sources.len()
                ),
            });
        }
        let needed = frame_bytes as u64 + 2 + 16;
        let limit = self.options.max_shard_bytes;
        if let Some(shard) = &self.shard {
            // An episode is not begun in the last eighth of a shard, only to be cut at once.
            let reserve = if self.in_episode {
                needed
            } else {
                needed.max(limit / 8)
            };
            if shard.bytes() + reserve > limit {
                self.close_shard()?;
            }
        }
        let shard = match &mut self.shard {
            Some(shard) => shard,
            None => {
                let path = self.temporary.join(shard_file(self.shards.len()));
                self.shard.insert(ShardWriter::create(
                    &path,
                    [self.options.height, self.options.width],
                )?)
            }
        };
        if !self.in_episode {
            self.in_episode = true;
            shard.starts.push(shard.frames as i64);
            self.episodes.push(EpisodeRecord {
                shard: self.shards.len(),
                start: shard.frames,
                length: 0,
                source: self.sources.len() - 1,
                split: Split::Train,
            });
        }
        shard.push(frame, action.unwrap_or(UNKNOWN_ACTION))?;
        self.any_action |= action.is_some();
        if let Some(episode) = self.episodes.last_mut() {
            episode.length += 1;
        }
        if let Some(source) = self.sources.last_mut() {
            source.frames += 1;
        }
        Ok(())
    }

    /// The next frame is no continuation of the last one.
    pub fn end_episode(&mut self) {
        if std::mem::take(&mut self.in_episode)
            && let Some(shard) = &mut self.shard
        {
            shard.forget_last_action();
        }
    }

    /// Episodes so far, those too short to be used included.
    pub fn episodes(&self) -> &[EpisodeRecord] {
        &self.episodes
    }

    /// Number of frames so far.
    pub fn frame_count(&self) -> u64 {
        self.sources.iter().map(|source| source.frames).sum()
    }

    /// Takes back the last source if no two frames in a row came from it, and tells how many frames it had then. They stay
    /// in the shard, where no episode speaks of them.
    pub fn forget_useless_source(&mut self) -> Option<u64> {
        self.end_episode();
        let last = self.sources.len().checked_sub(1)?;
        let mut own = self
            .episodes
            .iter()
            .filter(|episode| episode.source == last);
        if own.any(|episode| episode.length >= 2) {
            return None;
        }
        self.episodes.retain(|episode| episode.source != last);
        self.sources.pop().map(|source| source.frames)
    }

    fn close_shard(&mut self) -> Result<(), DatasetError> {
        self.end_episode();
        if let Some(shard) = self.shard.take() {
            self.shards.push(ShardRecord {
                file: shard_file(self.shards.len()),
                frames: shard.frames,
            });
            shard.finish(self.any_action)?;
        }
        Ok(())
    }

    /// Completes the dataset. `episodes` are those of [`DatasetWriter::episodes`], or parts of them, with their split.
    ///
    /// # Errors
    ///
    /// [`DatasetError::Io`] when something cannot be written, [`DatasetError::OutputExists`] when something has come to
    /// lie at its place meanwhile.
    pub fn finish(mut self, episodes: Vec<EpisodeRecord>) -> Result<DatasetManifest, DatasetError> {
        self.close_shard()?;
        let manifest = DatasetManifest {
            version: VERSION,
            height: self.options.height,
            width: self.options.width,
            frames_per_second: self.options.frames_per_second,
            fit: self.options.fit,
            crop: self.options.crop,
            action_names: if self.any_action {
                std::mem::take(&mut self.action_names)
            } else {
                Vec::new()
            },
            sources: std::mem::take(&mut self.sources),
            shards: std::mem::take(&mut self.shards),
            episodes,
        };
        let path = self.temporary.join(MANIFEST_FILE);
        manifest
            .check()
            .map_err(|what| DatasetError::manifest(&path, what))?;
        let text = manifest
            .to_text()
            .map_err(|what| DatasetError::manifest(&path, what))?;
        // To disk, as the shards are, before the folder gets the name of what is whole.
        File::create(&path)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .map_err(DatasetError::io(&path))?;
        check_free(&self.target)?;
        if self.lock.take().is_some() {
            let path = self.temporary.join(LOCK_FILE);
            fs::remove_file(&path).map_err(DatasetError::io(&path))?;
        }
        if self.target.exists() {
            fs::remove_dir(&self.target).map_err(DatasetError::io(&self.target))?;
        }
        fs::rename(&self.temporary, &self.target).map_err(DatasetError::io(&self.target))?;
        self.finished = true;
        Ok(manifest)
    }
}

impl Drop for DatasetWriter {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = fs::remove_dir_all(&self.temporary)
        {
            tracing::warn!("{}: cannot be removed: {error}", self.temporary.display());
        }
    }
}

/// Locks a temporary folder, for others to see that its writer lives; `None` where the file system has no locks.
fn lock(temporary: &Path) -> Option<File> {
    let path = temporary.join(LOCK_FILE);
    let file = File::create(&path).ok()?;
    if file.try_lock().is_err() {
        // Without a lock, it would pass for abandoned.
        let _ = fs::remove_file(&path);
        return None;
    }
    Some(file)
}

/// Removes what killed writers left beside `path` in folders whose names begin with `prefix`. A lock ends with its process, on whatever machine
/// that one ran, so a folder whose lock is free is nobody's; one without a lock file stays.
pub(super) fn remove_abandoned(path: &Path, prefix: &OsStr) {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let entries = fs::read_dir(folder.unwrap_or(Path::new(".")));
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name
            .as_encoded_bytes()
            .strip_prefix(prefix.as_encoded_bytes());
        if !process.is_some_and(|process| process.iter().all(u8::is_ascii_digit)) {
            continue;
        }
        let abandoned = entry.path();
        // Some file systems lock only what is open for writing.
        let Ok(file) = File::options().write(true).open(abandoned.join(LOCK_FILE)) else {
            continue;
        };
        if file.try_lock().is_ok()
            && let Err(error) = fs::remove_dir_all(&abandoned)
        {
            tracing::warn!("{}: cannot be removed: {error}", abandoned.display());
        }
    }
}

/// The place must be free, or an empty folder.
fn check_free(path: &Path) -> Result<(), DatasetError> {
    let taken = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => true,
        Err(error) => return Err(DatasetError::io(path)(error)),
    };
    if taken {
        return Err(DatasetError::OutputExists {
            path: path.to_owned(),
        });
    }
    Ok(())
}
