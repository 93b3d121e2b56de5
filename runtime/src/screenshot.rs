//! Pictures of play: the model's frame itself, enlarged, without what the window draws around it.

use crate::error::{Error, Result};
use crate::play::picture_of;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use worlds::Frame;

/// Side that the short side of a screenshot has at least, in pixels.
const SHORT_SIDE: usize = 512;

/// Writes a frame into `folder` as `djinn-1.png`, or the next number that is free, every pixel enlarged by the same whole factor. Returns the
/// file's place.
///
/// # Errors
/// When it cannot be written; then there is no file.
pub fn save_screenshot(frame: &Frame, folder: &Path) -> Result<PathBuf> {
    let picture = picture_of(frame)?;
    let short = frame.size().width.min(frame.size().height).max(1);
    let factor = SHORT_SIDE.div_ceil(short) as u32;
    let large = media::enlarge(&picture, factor);
    let size = nn::FrameSize {
        height: large.height as usize,
        width: large.width as usize,
    };
    let png = Frame::new(size, large.rgb)?.to_png()?;
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    for number in 1u32.. {
        let path = folder.join(format!("djinn-{number}.png"));
        // Never over a picture that is there already.
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let written = match file {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            Err(error) => Err(error),
            Ok(mut file) => file.write_all(&png).inspect_err(|_| {
                // Half a picture is of no use.
                let _ = fs::remove_file(&path);
            }),
        };
        return match written {
            Ok(()) => Ok(path),
            Err(error) => Err(Error::io(path)(error)),
        };
    }
    Err(Error::io(folder)(ErrorKind::AlreadyExists.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screenshot_is_the_frame_enlarged_and_never_replaces_another() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("pictures");
        let size = nn::FrameSize {
            height: 20,
            width: 30,
        };
        let rgb: Vec<u8> = (0..1800).map(|i| (i * 7 % 256) as u8).collect();
        let frame = Frame::new(size, rgb).unwrap();
        let paths: Vec<_> = (0..3)
            .map(|_| save_screenshot(&frame, &place).unwrap())
            .collect();
        let expected: Vec<_> = (1..4)
            .map(|n| place.join(format!("djinn-{n}.png")))
            .collect();
        assert_eq!(paths, expected);
        let png = fs::read(&paths[0]).unwrap();
        let read = Frame::from_png(&png, None, "screenshot").unwrap();
        assert_eq!((read.size().width, read.size().height), (780, 520));
        for (x, y) in [(0, 0), (29, 19), (13, 7)] {
            let at = |frame: &Frame, x: usize, y: usize| {
                let start = (y * frame.size().width + x) * 3;
                frame.rgb()[start..start + 3].to_vec()
            };
            assert_eq!(at(&read, x * 26 + 25, y * 26), at(&frame, x, y));
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let size = nn::FrameSize {
            height: 1,
            width: 1,
        };
        let frame = Frame::new(size, vec![0; 3]).unwrap();
        let error = save_screenshot(&frame, &file).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}
