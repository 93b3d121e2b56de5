//! Which sources the given paths name.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use super::SkippedSource;
use crate::files;
use crate::metrics::METRICS_FILE;
use crate::resume::CONFIG_FILE;

/// File name endings that are looked at in folders; a file that is named itself may have any.
const VIDEO_ENDINGS: [&str; 25] = [
    "3gp", "apng", "asf", "avi", "flv", "gif", "ivf", "m2ts", "m4v", "mjpeg", "mkv", "mov", "mp4",
    "mpeg", "mpg", "mts", "obu", "ogm", "ogv", "ts", "vob", "webm", "webp", "wmv", "y4m",
];

/// Folders within folders are followed this deep.
const DEEPEST_FOLDER: usize = 32;

/// Folders with these files are this program's own work, whose pictures are no gameplay.
const OWN_FILES: [(&[&str], &str); 3] = [
    (&["world.ron"], "a world"),
    (&["dataset.ron"], "a dataset"),
    (&[CONFIG_FILE, METRICS_FILE], "a training run"),
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

/// A folder that was given, or that of a file that was.
#[derive(Debug, Clone, Default)]
pub(super) struct Root {
    given: PathBuf,
    /// The same from the top of the file system; empty where the input is not there.
    real: PathBuf,
    /// What all roots lie in, or what this one lies in where they have nothing to do with each other. Its name and those above say where someone keeps things, not
    /// what they are for.
    outside: PathBuf,
}

impl Root {
    /// The roots of inputs, in their order.
    pub(super) fn all(inputs: &[PathBuf]) -> Vec<Self> {
        let mut roots: Vec<Self> = inputs
            .iter()
            .map(|input| {
                let given = match input.is_dir() {
                    true => input.as_path(),
                    false => input.parent().unwrap_or(input),
                };
                let whole = match given == Path::new("") {
                    true => Path::new("."),
                    false => given,
                };
                let there = input.exists();
                Self {
                    real: whole
                        .canonicalize()
                        .ok()
                        .filter(|_| there)
                        .unwrap_or_default(),
                    given: given.to_owned(),
                    outside: PathBuf::new(),
                }
            })
            .collect();
        let there = || roots.iter().filter(|root| root.real != Path::new(""));
        let shared = |folder: &&Path| there().all(|root| root.real.starts_with(folder));
        let mut above = there().take(1).flat_map(|root| root.real.ancestors());
        let common = above
            .find(shared)
            .filter(|folder| folder.parent().is_some());
        let common = common.map(|folder| {
            // The name of a folder that was given says something.
            let is_given = there().any(|root| root.real == folder);
            let outside = if is_given {
                folder.parent()
            } else {
                Some(folder)
            };
            outside.unwrap_or(folder).to_owned()
        });
        for root in &mut roots {
            let own = || root.real.parent().unwrap_or(&root.real).to_owned();
            root.outside = common.clone().unwrap_or_else(own);
        }
        roots
    }
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
    /// A source that was found in `root`.
    pub(super) fn new(path: PathBuf, kind: Kind, root: &Root) -> Self {
        let place = match path.strip_prefix(&root.given) {
            Ok(within) => root.real.join(within),
            Err(_) => path.clone(),
        };
        let folder = match kind {
            Kind::Images => Some(place.as_path()),
            // A session's own folder has the name that its player gave it.
            Kind::Video | Kind::Session => place.parent(),
        };
        let within = folder.and_then(|folder| folder.strip_prefix(&root.outside).ok());
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

/// The sources behind `inputs`, in order, each once; what is not there goes to `skipped`.
pub(super) fn find(inputs: &[PathBuf], skipped: &mut Vec<SkippedSource>) -> Vec<Source> {
    let mut search = Search {
        sources: Vec::new(),
        seen: BTreeSet::new(),
        skipped,
        root: Root::default(),
    };
    for (input, root) in inputs.iter().zip(Root::all(inputs)) {
        search.root = root;
        match fs::metadata(input) {
            Err(error) => search.skip(input, error),
            Ok(metadata) if metadata.is_dir() => search.input_folder(input),
            Ok(_) => search.add(input.clone(), Kind::Video),
        }
    }
    search.sources
}

/// What has been found so far.
struct Search<'a> {
    sources: Vec<Source>,
    /// Real paths of all files and folders looked at: whatever links lead to them, they are looked at once.
    seen: BTreeSet<PathBuf>,
    skipped: &'a mut Vec<SkippedSource>,
    /// Where what is being looked at was found.
    root: Root,
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
    let is_there = |file: &&str| folder.join(file).is_file();
    let made = OWN_FILES
        .iter()
        .find(|(files, _)| files.iter().all(is_there));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these files, given one by one or by their folders, are held back.
    fn held_back(inputs: &[&str], files: &[&str]) -> Vec<bool> {
        let folder = tempfile::tempdir().unwrap();
        // Where someone keeps videos says nothing.
        let top = folder.path().join("test");
        for file in files {
            let path = top.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        let inputs: Vec<PathBuf> = inputs.iter().map(|input| top.join(input)).collect();
        let found = find(&inputs, &mut Vec::new());
        let is_held = |file: &&str| {
            let wanted = top.join(file).canonicalize().unwrap();
            let is_wanted = |source: &&Source| source.path.canonicalize().unwrap() == wanted;
            found.iter().find(is_wanted).unwrap().held_back
        };
        files.iter().map(is_held).collect()
    }

    #[test]
    fn names_below_what_all_inputs_lie_in_hold_back() {
        let files = ["v/train/1/a.mp4", "v/validation/1/b.mp4"];
        for inputs in [
            &["v"][..],
            &["v/train", "v/validation"],
            &["v/train/1", "v/validation/1"],
            &["v/train/1/a.mp4", "v/validation/1/b.mp4"],
            &["v/validation/../train", "v/train/../validation/1"],
        ] {
            assert_eq!(held_back(inputs, &files), [false, true], "{inputs:?}");
        }
        // What is not there, or elsewhere altogether, changes nothing.
        for other in ["/dev/null", "nowhere", "nowhere/x.mp4"] {
            assert_eq!(held_back(&["v", other], &files), [false, true], "{other:?}");
            assert_eq!(held_back(&["v", other], &["v/a.mp4"]), [false], "{other:?}");
        }
        for input in ["", "v", "v/a.mp4"] {
            assert_eq!(
                held_back(&[input], &["v/a.mp4"]),
                [input.is_empty()],
                "{input:?}"
            );
        }
    }
}
