//! Animated GIF, APNG and WebP. A picture's duration tells when the next one is shown.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, Delay, Frames, ImageDecoder, ImageResult};

use crate::picture::check_size;
use crate::still::{StillReader, limits, over_black, read_image};
use crate::{Error, TimedPicture, VideoReader};

/// Browsers show pictures with no duration, and those of GIFs with nearly none, for this long, and files are made to look right there.
const UNTIMED_SECONDS: f64 = 0.1;

/// Animations in the order of what their first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Gif,
    Png,
    WebP,
}

/// Opens an animation, or a single picture of the same formats.
pub(crate) fn open(path: &Path, format: Format) -> Result<Box<dyn VideoReader>, Error> {
    let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let malformed = |error| Error::malformed(path, error);
    let (codec, frames) = match format {
        Format::Gif => {
            let mut decoder = GifDecoder::new(file).map_err(malformed)?;
            prepare(path, &mut decoder)?;
            ("GIF", decoder.into_frames())
        }
        Format::Png => {
            let mut decoder = PngDecoder::with_limits(file, limits()).map_err(malformed)?;
            prepare(path, &mut decoder)?;
            if !decoder.is_apng().map_err(malformed)? {
                return Ok(Box::new(StillReader(Some(read_image(path)?))));
            }
            ("APNG", decoder.apng().map_err(malformed)?.into_frames())
        }
        Format::WebP => {
            let mut decoder = WebPDecoder::new(file).map_err(malformed)?;
            prepare(path, &mut decoder)?;
            if !decoder.has_animation() {
                return Ok(Box::new(StillReader(Some(read_image(path)?))));
            }
            ("WebP", decoder.into_frames())
        }
    };
    Ok(Box::new(AnimationReader {
        path: path.to_owned(),
        codec,
        frames: Some(frames),
        seconds: 0.0,
        pictures: 0,
    }))
}

/// Checks the size before anything of it is allocated.
fn prepare(path: &Path, decoder: &mut impl ImageDecoder) -> Result<(), Error> {
    let (width, height) = decoder.dimensions();
    check_size(path, u64::from(width), u64::from(height))?;
    let set: ImageResult<()> = decoder.set_limits(limits());
    set.map_err(|error| Error::malformed(path, error))
}

struct AnimationReader {
    path: PathBuf,
    codec: &'static str,
    /// `None` after the end or an error.
    frames: Option<Frames<'static>>,
    seconds: f64,
    pictures: u64,
}

impl VideoReader for AnimationReader {
    fn codec(&self) -> &str {
        self.codec
    }

    fn frame_count_hint(&self) -> Option<u64> {
        None
    }

    fn next_picture(&mut self) -> Result<Option<TimedPicture>, Error> {
        let Some(frames) = &mut self.frames else {
            return Ok(None);
        };
        match frames.next() {
            None => {
                self.frames = None;
                Ok(None)
            }
            Some(Err(error)) => {
                self.frames = None;
                Err(Error::Damaged {
                    path: self.path.clone(),
                    codec: self.codec.to_owned(),
                    pictures_read: self.pictures,
                    pictures_lost: 0,
                    reason: error.to_string(),
                })
            }
            Some(Ok(frame)) => {
                let seconds = self.seconds;
                self.seconds += duration(frame.delay(), self.codec);
                self.pictures += 1;
                Ok(Some(TimedPicture {
                    picture: over_black(frame.buffer()),
                    seconds,
                }))
            }
        }
    }
}

fn duration(delay: Delay, codec: &str) -> f64 {
    let (numerator, denominator) = delay.numer_denom_ms();
    let seconds = f64::from(numerator) / f64::from(denominator.max(1)) / 1000.0;
    if seconds == 0.0 || codec == "GIF" && seconds < 0.015 {
        UNTIMED_SECONDS
    } else {
        seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_without_a_duration_are_shown_all_the_same() {
        let of = |milliseconds, codec| duration(Delay::from_numer_denom_ms(milliseconds, 1), codec);
        for codec in ["GIF", "APNG", "WebP"] {
            assert_eq!(of(0, codec), 0.1, "{codec}");
            assert_eq!(of(20, codec), 0.02, "{codec}");
        }
        assert_eq!((of(10, "GIF"), of(10, "APNG")), (0.1, 0.01));
    }
}
