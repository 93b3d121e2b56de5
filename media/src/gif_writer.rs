//! Writes animated GIFs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, Frame, RgbaImage};

use crate::{Error, Picture};

/// How carefully colours are chosen, from 1 (best) to 30 (fastest).
const SPEED: i32 = 10;

/// Writes pictures of one size to a GIF that repeats for ever.
pub struct GifWriter {
    path: PathBuf,
    encoder: GifEncoder<BufWriter<File>>,
    size: (u32, u32),
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
        if width == 0 || height == 0 || width > 65_535 || height > 65_535 {
            return Err(Error::InvalidSetting {
                what: "GIF size",
                expected: "1 to 65535 a side".to_owned(),
                got: format!("{width}x{height}"),
            });
        }
        if !(frames_per_second > 0.001 && frames_per_second <= 50.0) {
            return Err(Error::InvalidSetting {
                what: "GIF frame rate",
                expected: "over 0.001 and at most 50 frames per second".to_owned(),
                got: frames_per_second.to_string(),
            });
        }
        let file = File::create(path).map_err(Error::io(path))?;
        let mut encoder = GifEncoder::new_with_speed(BufWriter::new(file), SPEED);
        encoder
            .set_repeat(Repeat::Infinite)
            .map_err(|error| Error::encode(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            encoder,
            size: (width, height),
            frames_per_second,
            pictures: 0,
        })
    }

    /// Adds a picture.
    ///
    /// # Errors
    ///
    /// [`Error::WrongPictureSize`] or [`Error::Encode`].
    pub fn write(&mut self, picture: &Picture) -> Result<(), Error> {
        if (picture.width, picture.height) != self.size {
            return Err(Error::WrongPictureSize {
                path: self.path.clone(),
                width: picture.width,
                height: picture.height,
                expected_width: self.size.0,
                expected_height: self.size.1,
            });
        }
        // GIFs count in hundredths of a second; rounding the times instead of the durations keeps the speed right.
        let hundredths =
            |number: u64| (number as f64 * 100.0 / self.frames_per_second).round() as u32;
        let duration = hundredths(self.pictures + 1) - hundredths(self.pictures);
        let rgba = picture
            .rgb
            .chunks_exact(3)
            .flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255])
            .collect();
        let image = RgbaImage::from_raw(picture.width, picture.height, rgba)
            .ok_or_else(|| Error::encode(&self.path, "the picture's size and bytes disagree"))?;
        let frame = Frame::from_parts(image, 0, 0, Delay::from_numer_denom_ms(duration * 10, 1));
        self.encoder
            .encode_frame(frame)
            .map_err(|error| Error::encode(&self.path, error))?;
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
        // The encoder writes its end when it is dropped, into a buffer whose errors would be lost: look at the file.
        drop(self.encoder);
        let mut file = File::options()
            .append(true)
            .open(&self.path)
            .map_err(Error::io(&self.path))?;
        file.flush()
            .and_then(|()| file.sync_all())
            .map_err(Error::io(&self.path))
    }
}
