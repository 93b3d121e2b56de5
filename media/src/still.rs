//! Single pictures: PNG, JPEG, WebP and GIF files or bytes to [`Picture`], and back to PNG.

use std::fs::File;
use std::io::{BufReader, Cursor};
use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageReader, Limits, RgbaImage,
};

use crate::picture::{MAXIMUM_PIXELS, MAXIMUM_SIDE, Picture, check_size};
use crate::{Error, TimedPicture, VideoReader};

/// What the image decoders may allocate for one picture.
pub(crate) fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAXIMUM_SIDE);
    limits.max_image_height = Some(MAXIMUM_SIDE);
    limits.max_alloc = Some(MAXIMUM_PIXELS * 16);
    limits
}

/// Reads a picture from a PNG, JPEG, WebP or GIF file; of an animation the first picture. Transparent parts become black.
///
/// # Errors
///
/// [`Error::Io`], [`Error::Malformed`], and [`Error::TooLarge`] before anything is allocated.
pub fn read_image(path: &Path) -> Result<Picture, Error> {
    let file = File::open(path).map_err(Error::io(path))?;
    decode(path, ImageReader::new(BufReader::new(file)))
}

/// As [`read_image`], from memory. `name` stands for the path in messages.
///
/// # Errors
///
/// As [`read_image`].
pub fn read_image_bytes(name: &Path, bytes: &[u8]) -> Result<Picture, Error> {
    decode(name, ImageReader::new(Cursor::new(bytes)))
}

fn decode<R: std::io::BufRead + std::io::Seek>(
    path: &Path,
    reader: ImageReader<R>,
) -> Result<Picture, Error> {
    let mut reader = reader.with_guessed_format().map_err(Error::io(path))?;
    reader.limits(limits());
    let decoder = reader
        .into_decoder()
        .map_err(|error| Error::malformed(path, error))?;
    let (width, height) = decoder.dimensions();
    check_size(path, u64::from(width), u64::from(height))?;
    let image =
        DynamicImage::from_decoder(decoder).map_err(|error| Error::malformed(path, error))?;
    if image.color().has_alpha() {
        Ok(over_black(&image.into_rgba8()))
    } else {
        let image = image.into_rgb8();
        Picture::new(image.width(), image.height(), image.into_raw())
    }
}

/// Lays a picture with transparency over black.
pub(crate) fn over_black(image: &RgbaImage) -> Picture {
    let mut rgb = Vec::with_capacity(image.as_raw().len() / 4 * 3);
    for pixel in image.as_raw().chunks_exact(4) {
        let alpha = u32::from(pixel[3]);
        rgb.extend(
            pixel[..3]
                .iter()
                .map(|&value| ((u32::from(value) * alpha + 127) / 255) as u8),
        );
    }
    Picture {
        width: image.width(),
        height: image.height(),
        rgb,
    }
}

/// Writes a PNG file.
///
/// # Errors
///
/// [`Error::Io`] or [`Error::Encode`].
pub fn write_png(path: &Path, picture: &Picture) -> Result<(), Error> {
    let bytes = encode(picture).map_err(|error| Error::encode(path, error))?;
    std::fs::write(path, bytes).map_err(Error::io(path))
}

/// A PNG file in memory.
///
/// # Errors
///
/// [`Error::Encode`], without a path.
pub fn png_bytes(picture: &Picture) -> Result<Vec<u8>, Error> {
    encode(picture).map_err(|error| Error::encode(Path::new("PNG"), error))
}

/// Encodes into memory: the encoder ends a file when it is dropped, where a full disk would go unseen.
fn encode(picture: &Picture) -> image::ImageResult<Vec<u8>> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes).write_image(
        &picture.rgb,
        picture.width,
        picture.height,
        ExtendedColorType::Rgb8,
    )?;
    Ok(bytes)
}

/// A single picture read as a video of one.
pub(crate) struct StillReader(pub Option<Picture>);

impl VideoReader for StillReader {
    fn codec(&self) -> &str {
        "image"
    }

    fn frame_count_hint(&self) -> Option<u64> {
        Some(1)
    }

    fn is_timed(&self) -> bool {
        false
    }

    fn next_picture(&mut self) -> Result<Option<TimedPicture>, Error> {
        Ok(self.0.take().map(|picture| TimedPicture {
            picture,
            seconds: 0.0,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient() -> Picture {
        let rgb = (0..7 * 5 * 3).map(|i| (i * 2) as u8).collect();
        Picture::new(7, 5, rgb).unwrap()
    }

    #[test]
    fn png_there_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        write_png(&path, &gradient()).unwrap();
        assert_eq!(read_image(&path).unwrap(), gradient());
        assert_eq!(
            read_image_bytes(Path::new("a"), &png_bytes(&gradient()).unwrap()).unwrap(),
            gradient()
        );
    }

    #[test]
    fn a_png_that_claims_to_be_huge_is_refused() {
        let mut bytes = png_bytes(&gradient()).unwrap();
        bytes[16..20].copy_from_slice(&0x4000_0000u32.to_be_bytes());
        let error = read_image_bytes(Path::new("huge.png"), &bytes).unwrap_err();
        assert!(error.to_string().starts_with("huge.png: "), "{error}");
    }

    #[test]
    fn what_is_no_image_is_an_error() {
        assert!(read_image_bytes(Path::new("a"), b"no image at all").is_err());
        assert!(read_image_bytes(Path::new("a"), &[]).is_err());
        assert!(matches!(
            read_image(Path::new("/nowhere/a.png")),
            Err(Error::Io { .. })
        ));
    }

    #[test]
    fn transparency_becomes_black() {
        let image = RgbaImage::from_raw(2, 1, vec![200, 100, 50, 255, 200, 100, 50, 0]).unwrap();
        assert_eq!(over_black(&image).rgb, [200, 100, 50, 0, 0, 0]);
    }
}
