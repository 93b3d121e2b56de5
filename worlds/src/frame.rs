//! Frames as bytes, as tensors and as PNG files.

use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};
use image::{ImageFormat, ImageReader, Limits};
use nn::FrameSize;
use std::io::Cursor;

/// One RGB picture, 8 bits a colour, row by row from the top left.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    size: FrameSize,
    rgb: Vec<u8>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({})", self.size)
    }
}

impl Frame {
    /// A frame from `size.height * size.width * 3` bytes.
    ///
    /// # Errors
    /// When there are more or fewer bytes.
    pub fn new(size: FrameSize, rgb: Vec<u8>) -> Result<Self> {
        let pixels = size.height.checked_mul(size.width);
        if pixels.and_then(|pixels| pixels.checked_mul(3)) != Some(rgb.len()) {
            return Err(Error::FrameSize {
                got: format!("{} bytes", rgb.len()),
                expected: size.to_string(),
            });
        }
        Ok(Self { size, rgb })
    }

    /// Height and width.
    pub fn size(&self) -> FrameSize {
        self.size
    }

    /// The pixels.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The pixels, by value.
    pub fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }

    /// A clip `[1, T, H, W, 3]` of values 0..1.
    ///
    /// # Errors
    /// When there is no frame or their sizes differ.
    pub fn clip(frames: &[Self], device: &Device) -> Result<Tensor> {
        let size = match frames.first() {
            Some(first) => first.size,
            None => return Err(Error::Settings("a clip needs at least one frame".into())),
        };
        let mut bytes = Vec::with_capacity(frames.len() * size.bytes());
        for frame in frames {
            if frame.size != size {
                return Err(Error::FrameSize {
                    got: frame.size.to_string(),
                    expected: size.to_string(),
                });
            }
            bytes.extend_from_slice(&frame.rgb);
        }
        let shape = (1, frames.len(), size.height, size.width, 3);
        let tensor = Tensor::from_vec(bytes, shape, device)?.to_dtype(DType::F32)?;
        Ok((tensor / 255.0)?)
    }

    /// The frame of a tensor with `H * W * 3` values 0..1, the last dimensions being `H`, `W` and 3.
    ///
    /// # Errors
    /// When it holds more or fewer numbers.
    pub fn from_tensor(tensor: &Tensor, size: FrameSize) -> Result<Self> {
        Self::from_numbers(&nn::numbers(tensor)?, size)
    }

    /// The frame of `H * W * 3` values 0..1.
    ///
    /// # Errors
    /// When there are more or fewer.
    pub fn from_numbers(values: &[f32], size: FrameSize) -> Result<Self> {
        let byte = |value: &f32| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
        Self::new(size, values.iter().map(byte).collect())
    }

    /// The frame in a PNG file's bytes; `what` names it in errors. With `expected`, a picture of another size is refused before it
    /// is decoded.
    ///
    /// # Errors
    /// When it is no PNG picture or of another size.
    pub fn from_png(bytes: &[u8], expected: Option<FrameSize>, what: &str) -> Result<Self> {
        const LARGEST_SIDE: u32 = 4096;
        let wrap = |source| Error::Picture {
            what: what.to_owned(),
            source,
        };
        let reader = || {
            let mut reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png);
            let mut limits = Limits::default();
            limits.max_image_width = Some(LARGEST_SIDE);
            limits.max_image_height = Some(LARGEST_SIDE);
            limits.max_alloc = Some(256 << 20);
            reader.limits(limits);
            reader
        };
        let (width, height) = reader().into_dimensions().map_err(wrap)?;
        let size = FrameSize {
            height: height as usize,
            width: width as usize,
        };
        if let Some(expected) = expected
            && size != expected
        {
            return Err(Error::FrameSize {
                got: size.to_string(),
                expected: expected.to_string(),
            });
        }
        let picture = reader().decode().map_err(wrap)?;
        Self::new(size, picture.into_rgb8().into_raw())
    }

    /// The frame as a PNG file.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let mut bytes = Cursor::new(Vec::new());
        let (width, height) = (self.size.width as u32, self.size.height as u32);
        image::write_buffer_with_format(
            &mut bytes,
            &self.rgb,
            width,
            height,
            image::ExtendedColorType::Rgb8,
            ImageFormat::Png,
        )
        .map_err(|source| Error::Picture {
            what: "a frame".into(),
            source,
        })?;
        Ok(bytes.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: FrameSize = FrameSize {
        height: 2,
        width: 3,
    };

    fn frame() -> Frame {
        Frame::new(SIZE, (0..18).map(|i| i * 14).collect()).unwrap()
    }

    #[test]
    fn bytes_and_size_must_agree() {
        assert!(Frame::new(SIZE, vec![0; 17]).is_err());
        let absurd = FrameSize {
            height: usize::MAX,
            width: 2,
        };
        assert!(Frame::new(absurd, vec![0; 6]).is_err());
    }

    #[test]
    fn tensors_and_png_files_keep_every_pixel() {
        let frame = frame();
        let clip = Frame::clip(&[frame.clone(), frame.clone()], &Device::Cpu).unwrap();
        assert_eq!(clip.dims(), [1, 2, 2, 3, 3]);
        let second = clip.get(0).unwrap().get(1).unwrap();
        assert_eq!(Frame::from_tensor(&second, SIZE).unwrap(), frame);
        let png = frame.to_png().unwrap();
        assert_eq!(Frame::from_png(&png, Some(SIZE), "x").unwrap(), frame);
        assert_eq!(Frame::from_png(&png, None, "x").unwrap(), frame);
    }

    #[test]
    fn another_size_is_refused() {
        let png = frame().to_png().unwrap();
        let other = FrameSize {
            height: 3,
            width: 2,
        };
        let error = Frame::from_png(&png, Some(other), "x").unwrap_err();
        assert_eq!(error.to_string(), "a frame of 3x2 in a world of 2x3");
    }

    proptest! {
        #[test]
        fn damaged_png_files_are_read_or_refused(at in 0usize..200, byte in any::<u8>(), cut in any::<bool>()) {
            let mut png = frame().to_png().unwrap();
            let at = at % png.len();
            if cut { png.truncate(at) } else { png[at] = byte }
            let _ = Frame::from_png(&png, None, "x");
        }
    }
}
