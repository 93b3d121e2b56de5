//! Which sources the given paths name.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use super::SkippedSource;
use crate::files;

/// File name endings that are looked at in folders; a file that is named itself may have any.
const VIDEO_ENDINGS: [&str; 25] = [
    "3gp", "apng", "asf", "avi", "flv", "gif", "ivf", "m2ts", "m4v", "mjpeg", "mkv", "mov", "mp4",
    "mpeg", "mpg", "mts", "obu", "ogm", "ogv", "ts", "vob", "webm", "webp", "wmv", "y4m",
];

/// Folders within folders are followed this deep.
const DEEPEST_FOLDER: usize = 32;

/// Folders with these files are this program's own work, whose pictures are no gameplay.
const OWN_MANIFESTS: [(&str, &str); 3] = [
    ("world.ron", "a world"),
    ("dataset.ron", "a dataset"),
    (crate::metrics::METRICS_FILE, "a training run"),
];

/// Folder names that say "held back".
const VALIDATION_FOLDERS: [&str; 4] = ["validation", "valid", "val", "test"];

/// What a source is, beyond its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A video or an animation.
    Video,
    /// A folder of numbered images.
    Images,
    /// A recorded play.
    Session,
}

/// One thing that frames come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub path: PathBuf,
    pub kind: Kind,
    /// Whether a folder that it lies in has a name that says so: one that was given, or one within that.
    pub held_back: bool,
}

impl Source {
    /// A source that was found in `root`, a folder that was given or that of a file that was.
    pub(super) fn new(path: PathBuf, kind: Kind, root: &Path) -> Self {
        let folder = match kind {
            Kind::Images => Some(path.as_path()),
            // A session's own folder has the name that its player gave it.
            Kind::Video | Kind::Session => path.parent(),
        };
        // What the root lies in says where someone keeps things, not what they are for.
        let outside = root.parent().unwrap_or(root);
        let within = folder.and_then(|folder| folder.strip_prefix(outside).ok());
        let held_back = within.into_iter().flat_map(Path::components).any(|part| {
            let part = part.as_os_str().to_string_lossy().to_ascii_lowercase();
            VALIDATION_FOLDERS.contains(&part.as_str())
        });
        Self {
            path,
            kind,
            held_back,
        }
    }

    /// Where its pictures are.
    pub(super) fn pictures(&self) -> PathBuf {
        match self.kind {
            Kind::Session => self.path.join("video.mp4"),
            Kind::Video | Kind::Images => self.path.clone(),
        }
    }

    /// SHA-256 of its pictures, in hexadecimal; `None` when `cancel` becomes true.
    pub(super) fn hash(&self, cancel: &AtomicBool) -> io::Result<Option<String>> {
        let mut hasher = Sha256::new();
        let paths = match self.kind {
            Kind::Images => media::numbered_images(&self.path)?,
            Kind::Video | Kind::Session => vec![self.pictures()],
        };
        let mut buffer = vec![0; 1 << 16];
        for path in paths {
            // Opening a pipe would wait for whoever writes to it.
            if !path.metadata()?.is_file() {
                return Err(io::Error::other("it is no regular file"));
            }
            let mut file = File::open(path)?;
            loop {
                if cancel.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let count = file.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                hasher.update(&buffer[..count]);
            }
        }
        Ok(Some(files::hexadecimal(&hasher.finalize())))
    }
}

/// The sources behind `inputs`, each once, in order but those first that are to be held back; what is not there goes to `skipped`.
pub(super) fn find(inputs: &[PathBuf], skipped: &mut Vec<SkippedSource>) -> Vec<Source> {
    let mut search = Search {
        sources: Vec::new(),
        seen: BTreeSet::new(),
        skipped,
        root: PathBuf::new(),
    };
    for input in inputs {
        match fs::metadata(input) {
            Err(error) => search.skip(input, error),
            Ok(metadata) if metadata.is_dir() => {
                search.root.clone_from(input);
                search.input_folder(input);
            }
            Ok(_) => {
                search.root = input.parent().unwrap_or(input).to_owned();
                search.add(input.clone(), Kind::Video);
            }
        }
    }
    // Of two copies the first is used, and nobody wants to train on what was put aside.
    search.sources.sort_by_key(|source| !source.held_back);
    search.sources
}

/// What has been found so far.
struct Search<'a> {
    sources: Vec<Source>,
    /// Real paths of all files and folders looked at: whatever links lead to them, they are looked at once.
    seen: BTreeSet<PathBuf>,
    skipped: &'a mut Vec<SkippedSource>,
    /// The folder that was given, or that of the file that was.
    root: PathBuf,
}

impl Search<'_> {
    fn skip(&mut self, path: &Path, why: impl std::fmt::Display) {
        self.skipped.push(SkippedSource::new(path, why));
    }

    /// Whether `path` is met for the first time.
    fn is_new(&mut self, path: &Path) -> bool {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        self.seen.insert(real)
    }

    fn add(&mut self, path: PathBuf, kind: Kind) {
        if self.is_new(&path) {
            self.sources.push(Source::new(path, kind, &self.root));
        }
    }

    /// A folder that was named itself, so that finding nothing in it is worth a word.
    fn input_folder(&mut self, folder: &Path) {
        if let Some(what) = own_work(folder) {
            let reason = format!("this is {what}, not gameplay");
            self.skip(folder, reason);
            return;
        }
        let before = (self.seen.len(), self.skipped.len());
        let sources = self.sources.len();
        self.visit(folder, 0);
        // A folder that was looked at before, alone or within another, is no mistake.
        let looked_at = self.seen.len() > before.0;
        if looked_at && self.sources.len() == sources && self.skipped.len() == before.1 {
            self.skip(
                folder,
                "there is no video, animation, image sequence or session in this folder",
            );
        }
    }

    fn visit(&mut self, folder: &Path, depth: usize) {
        if depth > DEEPEST_FOLDER || own_work(folder).is_some() {
            return;
        }
        if folder.join("session.ron").is_file() && folder.join("video.mp4").is_file() {
            self.add(folder.to_owned(), Kind::Session);
            return;
        }
        if !self.is_new(folder) {
            return;
        }
        let entries = match entries(folder) {
            Ok(entries) => entries,
            Err(error) => return self.skip(folder, error),
        };
        let images = media::numbered_images(folder).unwrap_or_default();
        let images: BTreeSet<PathBuf> = images.into_iter().collect();
        let is_image = |path: &PathBuf| images.len() >= 2 && images.contains(path);
        let (folders, files): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|path| path.is_dir());
        let videos: Vec<_> = files
            .into_iter()
            .filter(|path| is_video(path) && !is_image(path))
            .collect();
        // Numbered images beside videos are thumbnails or screenshots.
        if images.len() >= 2 && videos.is_empty() {
            let images = Source::new(folder.to_owned(), Kind::Images, &self.root);
            self.sources.push(images);
        }
        for path in videos {
            self.add(path, Kind::Video);
        }
        for path in folders {
            self.visit(&path, depth + 1);
        }
    }
}

/// What a folder is, if this program made it as something other than gameplay.
fn own_work(folder: &Path) -> Option<&'static str> {
    let made = OWN_MANIFESTS
        .iter()
        .find(|(file, _)| folder.join(file).is_file());
    made.map(|(_, what)| *what)
}

/// What is in a folder, in order, hidden things left out.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push(entry.path());
        }
    }
    entries.sort();
    Ok(entries)
}

fn is_video(path: &Path) -> bool {
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    ending.is_some_and(|ending| VIDEO_ENDINGS.contains(&ending.as_str())) && path.is_file()
}
