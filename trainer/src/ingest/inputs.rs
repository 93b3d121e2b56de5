//! Which sources the given paths name.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::SkippedSource;

/// File name endings that are looked at in folders; a file that is named itself may have any.
const VIDEO_ENDINGS: [&str; 25] = [
    "3gp", "apng", "asf", "avi", "flv", "gif", "ivf", "m2ts", "m4v", "mjpeg", "mkv", "mov", "mp4",
    "mpeg", "mpg", "mts", "obu", "ogm", "ogv", "ts", "vob", "webm", "webp", "wmv", "y4m",
];

/// Folders within folders are followed this deep, which also ends loops of links.
const DEEPEST_FOLDER: usize = 32;

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
}

impl Source {
    /// Where its pictures are.
    pub(super) fn pictures(&self) -> PathBuf {
        match self.kind {
            Kind::Session => self.path.join("video.mp4"),
            Kind::Video | Kind::Images => self.path.clone(),
        }
    }

    /// SHA-256 of its pictures, in hexadecimal.
    pub(super) fn hash(&self) -> io::Result<String> {
        let mut hasher = Sha256::new();
        let files = match self.kind {
            Kind::Images => media::numbered_images(&self.path)?,
            Kind::Video | Kind::Session => vec![self.pictures()],
        };
        let mut buffer = vec![0; 1 << 16];
        for path in files {
            let mut file = File::open(path)?;
            loop {
                let count = file.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                hasher.update(&buffer[..count]);
            }
        }
        Ok(hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }
}

/// The sources behind `inputs`, in order; what is not there goes to `skipped`.
pub(super) fn find(inputs: &[PathBuf], skipped: &mut Vec<SkippedSource>) -> Vec<Source> {
    let mut sources = Vec::new();
    for input in inputs {
        match fs::metadata(input) {
            Err(error) => skipped.push(SkippedSource::new(input, error)),
            Ok(metadata) if metadata.is_dir() => {
                let before = sources.len();
                visit(input, 0, &mut sources, skipped);
                if sources.len() == before {
                    skipped.push(SkippedSource::new(
                        input,
                        "there is no video, animation, image sequence or session in this folder",
                    ));
                }
            }
            Ok(_) => add(&mut sources, input.clone(), Kind::Video),
        }
    }
    sources
}

/// The same file named twice must not land in both halves of the split.
fn add(sources: &mut Vec<Source>, path: PathBuf, kind: Kind) {
    if !sources.iter().any(|source| source.path == path) {
        sources.push(Source { path, kind });
    }
}

fn visit(folder: &Path, depth: usize, sources: &mut Vec<Source>, skipped: &mut Vec<SkippedSource>) {
    if folder.join("session.ron").is_file() && folder.join("video.mp4").is_file() {
        add(sources, folder.to_owned(), Kind::Session);
        return;
    }
    let entries = fs::read_dir(folder).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()
    });
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => {
            skipped.push(SkippedSource::new(folder, error));
            return;
        }
    };
    entries.sort();
    let hidden = |path: &Path| {
        path.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    entries.retain(|path| !hidden(path));
    let is_video = |path: &Path| {
        let ending = path
            .extension()
            .map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        ending.is_some_and(|ending| VIDEO_ENDINGS.contains(&ending.as_str())) && path.is_file()
    };
    if media::numbered_images(folder).is_ok_and(|images| images.len() >= 2) {
        add(sources, folder.to_owned(), Kind::Images);
        return;
    }
    for path in entries {
        if path.is_dir() {
            if depth < DEEPEST_FOLDER {
                visit(&path, depth + 1, sources, skipped);
            }
        } else if is_video(&path) {
            add(sources, path, Kind::Video);
        }
    }
}
