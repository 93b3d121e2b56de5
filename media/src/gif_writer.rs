//! Writes animated GIFs.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use gif::{Encoder, EncodingError, Frame, Repeat};

use crate::{Error, Picture};

/// How carefully colours are chosen, from 1 (best) to 30 (fastest).
const SPEED: i32 = 10;

/// Hundredths of a second that a picture is shown at least: players slow down what is shown for less.
const SHORTEST: u64 = 2;

/// Writes pictures of one size to a GIF that repeats for ever. Of more than 50 in a second, those that would be shown too briefly are left out,
/// so that the speed stays right.
pub struct GifWriter {
    path: PathBuf,
    encoder: Encoder<BufWriter<File>>,
    size: (u16, u16),
    frames_per_second: f64,
    pictures: u64,
    /// Number of the next picture that is not left out.
    next: u64,
}

impl GifWriter {
    /// Creates the file, replacing one that is there.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] for a size over 65,535 a side or a rate over 1000; [`Error::Io`].
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
        if !(frames_per_second > 0.001 && frames_per_second <= 1000.0) {
            return Err(Error::InvalidSetting {
                what: "GIF frame rate",
                expected: "over 0.001 and at most 1000 frames per second".to_owned(),
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
            next: 0,
        })
    }

    /// Adds a picture, or leaves it out.
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
        let number = self.pictures;
        if number < self.next {
            self.pictures += 1;
            return Ok(());
        }
        // GIFs count in hundredths of a second; rounding the times instead of the durations keeps the speed right.
        let hundredths =
            |number: u64| (number as f64 * 100.0 / self.frames_per_second).round() as u64;
        let mut next = number + 1;
        while hundredths(next).saturating_sub(hundredths(number)) < SHORTEST {
            next += 1;
        }
        let duration = hundredths(next) - hundredths(number);
        let frame = Frame {
            delay: u16::try_from(duration).unwrap_or(u16::MAX),
            ..Frame::from_rgb_speed(width, height, &picture.rgb, SPEED)
        };
        self.encoder
            .write_frame(&frame)
            .map_err(failed(&self.path))?;
        (self.pictures, self.next) = (number + 1, next);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_more_than_50_pictures_a_second_some_are_left_out_and_the_speed_stays() {
        let folder = tempfile::tempdir().unwrap();
        let shade = |number: usize| (8 * number) as u8;
        for (rate, shown) in [(50.0, 30), (60.0, 20), (240.0, 7)] {
            let path = folder.path().join("a.gif");
            let mut writer = GifWriter::create(&path, 4, 4, rate).unwrap();
            for number in 0..30 {
                let picture = Picture::new(4, 4, vec![shade(number); 48]).unwrap();
                writer.write(&picture).unwrap();
            }
            writer.finish().unwrap();
            let mut animation = crate::open(&path).unwrap();
            let mut times = Vec::new();
            while let Some(timed) = animation.next_picture().unwrap() {
                // It is shown when its time has come, to half a hundredth.
                let number = (0..30).find(|number| shade(*number) == timed.picture.rgb[0]);
                let due = number.unwrap() as f64 / rate;
                assert!((timed.seconds - due).abs() <= 0.0051, "{rate}: {due}");
                times.push(timed.seconds);
            }
            assert_eq!(times.len(), shown, "{rate}");
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] > 0.0199));
        }
    }
}
