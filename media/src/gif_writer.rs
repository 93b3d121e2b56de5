//! Writes animated GIFs.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use gif::{Encoder, EncodingError, Frame, Repeat};

use crate::{Error, Picture};

/// How carefully colours are chosen, from 1 (best) to 30 (fastest).
const SPEED: i32 = 10;

/// Writes pictures of one size to a GIF that repeats for ever.
pub struct GifWriter {
    path: PathBuf,
    encoder: Encoder<BufWriter<File>>,
    size: (u16, u16),
    frames_per_second: f64,
    pictures: u64,
}

impl GifWriter {
    /// Creates the file, replacing one that is there.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] for a size over 65,535 a side or a rate over 50, which players do not follow; [`Error::Io`].
    pub fn create(
        path: &Path,
        width: u32,
        height: u32,
        frames_per_second: f64,
    ) -> Result<Self, Error> {
        let (Ok(across @ 1..), Ok(down @ 1..)) = (u16::try_from(width), u16::try_from(height))
        else {
            return Err(Error::InvalidSetting {
                what: "GIF size",
                expected: "1 to 65535 a side".to_owned(),
                got: format!("{width}x{height}"),
            });
        };
        if !(frames_per_second > 0.001 && frames_per_second <= 50.0) {
            return Err(Error::InvalidSetting {
                what: "GIF frame rate",
                expected: "over 0.001 and at most 50 frames per second".to_owned(),
                got: frames_per_second.to_string(),
            });
        }
        let file = File::create(path).map_err(Error::io(path))?;
        let mut encoder =
            Encoder::new(BufWriter::new(file), across, down, &[]).map_err(failed(path))?;
        encoder.set_repeat(Repeat::Infinite).map_err(failed(path))?;
        Ok(Self {
            path: path.to_owned(),
            encoder,
            size: (across, down),
            frames_per_second,
            pictures: 0,
        })
    }

    /// Adds a picture.
    ///
    /// # Errors
    ///
    /// [`Error::WrongPictureSize`], [`Error::PictureSize`], [`Error::Encode`], or [`Error::Io`] as when the disk is full.
    pub fn write(&mut self, picture: &Picture) -> Result<(), Error> {
        let (width, height) = self.size;
        if (picture.width, picture.height) != (width.into(), height.into()) {
            return Err(Error::WrongPictureSize {
                path: self.path.clone(),
                width: picture.width,
                height: picture.height,
                expected_width: width.into(),
                expected_height: height.into(),
            });
        }
        if picture.rgb.len() != usize::from(width) * usize::from(height) * 3 {
            return Err(Error::PictureSize {
                width: picture.width,
                height: picture.height,
                bytes: picture.rgb.len(),
            });
        }
        // GIFs count in hundredths of a second; rounding the times instead of the durations keeps the speed right.
        let hundredths =
            |number: u64| (number as f64 * 100.0 / self.frames_per_second).round() as u32;
        let duration = hundredths(self.pictures + 1) - hundredths(self.pictures);
        let frame = Frame {
            delay: u16::try_from(duration).unwrap_or(u16::MAX),
            ..Frame::from_rgb_speed(width, height, &picture.rgb, SPEED)
        };
        self.encoder
            .write_frame(&frame)
            .map_err(failed(&self.path))?;
        self.pictures += 1;
        Ok(())
    }

    /// Completes the file.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`] when there is no picture in it, [`Error::Io`].
    pub fn finish(self) -> Result<(), Error> {
        if self.pictures == 0 {
            return Err(Error::encode(
                &self.path,
                "an animation needs at least one picture",
            ));
        }
        // Dropped, the encoder and the buffer would write the rest as well, and tell no one where they could not.
        let buffer = self.encoder.into_inner().map_err(failed(&self.path))?;
        let file = buffer.into_inner().map_err(|error| error.into_error());
        file.and_then(|file| file.sync_all())
            .map_err(Error::io(&self.path))
    }
}

fn failed(path: &Path) -> impl FnOnce(EncodingError) -> Error {
    let path = path.to_owned();
    move |error| match error {
        EncodingError::Io(source) => Error::Io { path, source },
        other => Error::encode(&path, other),
    }
}
