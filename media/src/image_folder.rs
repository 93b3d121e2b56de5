//! Folders of numbered images.

use std::io;
use std::path::{Path, PathBuf};

use crate::still::read_image;
use crate::{Error, TimedPicture, VideoReader};

/// File name endings of images.
const IMAGE_ENDINGS: [&str; 4] = ["jpeg", "jpg", "png", "webp"];

/// The numbered images in a folder, by number; empty when it is not a folder of numbered images and nothing else but
/// files that are no images.
///
/// Names count as numbered when they end in digits before the dot (`frame_0001.png`), all images share what comes before
/// the digits, and no number comes twice. Hidden files are left out: macOS puts `._0001.png` beside `0001.png` on disks that are not its own.
///
/// # Errors
///
/// When the folder cannot be listed.
pub fn numbered_images(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    let mut common: Option<(String, String)> = None;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let ending = path
            .extension()
            .map(|ending| ending.to_string_lossy().to_ascii_lowercase())
            .unwrap_or_default();
        if !IMAGE_ENDINGS.contains(&ending.as_str()) || !path.is_file() {
            continue;
        }
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else {
            return Ok(Vec::new());
        };
        let name = stem.trim_end_matches(|c: char| c.is_ascii_digit());
        let Ok(number) = stem[name.len()..].parse::<u64>() else {
            return Ok(Vec::new());
        };
        let shared = (name.to_owned(), ending);
        if common.get_or_insert_with(|| shared.clone()) != &shared {
            return Ok(Vec::new());
        }
        images.push((number, path));
    }
    images.sort();
    if images.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Ok(Vec::new());
    }
    Ok(images.into_iter().map(|(_, path)| path).collect())
}

/// Opens a folder of numbered images as a video, one image a picture, without times.
pub(crate) fn open(folder: &Path) -> Result<Box<dyn VideoReader>, Error> {
    let images = numbered_images(folder).map_err(Error::io(folder))?;
    if images.is_empty() {
        return Err(Error::malformed(
            folder,
            "a folder is read as a video when its images are numbered, such as frame_0001.png, frame_0002.png; this one is not like that",
        ));
    }
    Ok(Box::new(FolderReader {
        folder: folder.to_owned(),
        images,
        next: 0,
        pictures: 0,
    }))
}

struct FolderReader {
    folder: PathBuf,
    images: Vec<PathBuf>,
    next: usize,
    pictures: u64,
}

impl VideoReader for FolderReader {
    fn codec(&self) -> &str {
        "image sequence"
    }

    fn frame_count_hint(&self) -> Option<u64> {
        Some(self.images.len() as u64)
    }

    fn is_timed(&self) -> bool {
        false
    }

    fn next_picture(&mut self) -> Result<Option<TimedPicture>, Error> {
        let Some(path) = self.images.get(self.next) else {
            return Ok(None);
        };
        let seconds = self.next as f64;
        self.next += 1;
        let picture = read_image(path).map_err(|error| Error::Damaged {
            path: self.folder.clone(),
            codec: self.codec().to_owned(),
            pictures_read: self.pictures,
            pictures_lost: 1,
            reason: error.to_string(),
        })?;
        self.pictures += 1;
        Ok(Some(TimedPicture { picture, seconds }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Picture, write_png};

    fn names(folder: &Path) -> Vec<String> {
        let images = numbered_images(folder).unwrap();
        images
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn numbers_count_not_letters() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["shot10.png", "shot2.png", "shot1.png"] {
            std::fs::write(folder.path().join(name), []).unwrap();
        }
        std::fs::write(folder.path().join("notes.txt"), []).unwrap();
        assert_eq!(
            names(folder.path()),
            ["shot1.png", "shot2.png", "shot10.png"]
        );
        std::fs::write(folder.path().join("other3.png"), []).unwrap();
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn hidden_files_are_no_images() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["0001.png", "0002.png", "._0001.png", ".3.png", ".DS_Store"] {
            std::fs::write(folder.path().join(name), []).unwrap();
        }
        assert_eq!(names(folder.path()), ["0001.png", "0002.png"]);
    }

    #[test]
    fn images_become_pictures_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for number in [9u8, 10, 11] {
            let picture = Picture::new(2, 2, vec![number; 12]).unwrap();
            write_png(&folder.path().join(format!("{number}.png")), &picture).unwrap();
        }
        let mut reader = open(folder.path()).unwrap();
        assert_eq!(reader.frame_count_hint(), Some(3));
        for number in [9u8, 10, 11] {
            assert_eq!(
                reader.next_picture().unwrap().unwrap().picture.rgb,
                [number; 12]
            );
        }
        assert!(reader.next_picture().unwrap().is_none());
    }

    #[test]
    fn a_broken_image_is_an_error_and_the_others_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let picture = Picture::new(2, 2, vec![7; 12]).unwrap();
        for name in ["1.png", "3.png"] {
            write_png(&folder.path().join(name), &picture).unwrap();
        }
        std::fs::write(folder.path().join("2.png"), b"no image").unwrap();
        let mut reader = open(folder.path()).unwrap();
        assert!(reader.next_picture().unwrap().is_some());
        let error = reader.next_picture().unwrap_err();
        assert!(
            matches!(
                error,
                Error::Damaged {
                    pictures_read: 1,
                    pictures_lost: 1,
                    ..
                }
            ) && error.to_string().contains("2.png"),
            "{error}"
        );
        assert!(reader.next_picture().unwrap().is_some());
        assert!(reader.next_picture().unwrap().is_none());
        assert!(open(tempfile::tempdir().unwrap().path()).is_err());
    }
}
