//! Folders of numbered images.

use std::io;
use std::path::{Path, PathBuf};

/// File name endings of images.
const IMAGE_ENDINGS: [&str; 4] = ["jpeg", "jpg", "png", "webp"];

/// The numbered images in a folder, by number; empty when it is not a folder of numbered images and nothing else but
/// files that are no images.
///
/// Names count as numbered when they end in digits before the dot (`frame_0001.png`), all images share what comes before
/// the digits, and no number comes twice.
///
/// # Errors
///
/// When the folder cannot be listed.
pub fn numbered_images(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    let mut common: Option<(String, String)> = None;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
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
