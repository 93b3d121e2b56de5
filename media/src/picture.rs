//! Pictures in memory.

use std::path::Path;

use crate::Error;

/// Longest side of a picture that is read or written, in pixels.
pub const MAXIMUM_SIDE: u32 = 16_384;

/// Most pixels that a picture that is read or written may have (16,384 x 4,096): bounds what a hostile file can make
/// the program allocate.
pub const MAXIMUM_PIXELS: u64 = 1 << 26;

/// An RGB picture, 8 bits a channel, row by row from the top left.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `width * height * 3` bytes.
    pub rgb: Vec<u8>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Picture({}x{})", self.width, self.height)
    }
}

impl Picture {
    /// A picture of `width` x `height` from `width * height * 3` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::PictureSize`] when a side is zero or the number of bytes is another.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self, Error> {
        let needed = u64::from(width) * u64::from(height) * 3;
        if width == 0 || height == 0 || rgb.len() as u64 != needed {
            return Err(Error::PictureSize {
                width,
                height,
                bytes: rgb.len(),
            });
        }
        Ok(Self { width, height, rgb })
    }

    /// Bytes of row `y`; empty when there is no such row.
    pub fn row(&self, y: u32) -> &[u8] {
        let stride = self.width as usize * 3;
        let start = y as usize * stride;
        self.rgb.get(start..start + stride).unwrap_or_default()
    }
}

/// How a picture is turned, clockwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Turn {
    #[default]
    None,
    Quarter,
    Half,
    ThreeQuarters,
}

impl Turn {
    /// The picture turned. Taken by value: most pictures are not turned at all.
    pub(crate) fn apply(self, picture: Picture) -> Picture {
        let (across, down) = (picture.width as usize, picture.height as usize);
        let (width, height) = match self {
            Self::None => return picture,
            Self::Half => (across, down),
            Self::Quarter | Self::ThreeQuarters => (down, across),
        };
        let mut rgb = Vec::with_capacity(picture.rgb.len());
        for y in 0..height {
            for x in 0..width {
                let (from_x, from_y) = match self {
                    Self::None => (x, y),
                    Self::Quarter => (y, down - 1 - x),
                    Self::Half => (across - 1 - x, down - 1 - y),
                    Self::ThreeQuarters => (across - 1 - y, x),
                };
                let start = (from_y * across + from_x) * 3;
                rgb.extend_from_slice(&picture.rgb[start..start + 3]);
            }
        }
        Picture {
            width: width as u32,
            height: height as u32,
            rgb,
        }
    }
}

/// A picture and the time at which it is to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedPicture {
    /// The picture.
    pub picture: Picture,
    /// Presentation time in seconds; the first picture of a source is at 0.
    pub seconds: f64,
}

/// Repeats every pixel of `picture` `factor` times in both directions. A factor of 0 counts as 1.
pub fn enlarge(picture: &Picture, factor: u32) -> Picture {
    let factor = factor.max(1) as usize;
    let mut rgb = Vec::with_capacity(picture.rgb.len() * factor * factor);
    for row in picture
        .rgb
        .chunks_exact((picture.width as usize * 3).max(1))
    {
        let start = rgb.len();
        for pixel in row.chunks_exact(3) {
            for _ in 0..factor {
                rgb.extend_from_slice(pixel);
            }
        }
        let end = rgb.len();
        for _ in 1..factor {
            rgb.extend_from_within(start..end);
        }
    }
    Picture {
        width: picture.width * factor as u32,
        height: picture.height * factor as u32,
        rgb,
    }
}

/// Refuses sizes that a hostile or broken file may claim, before anything is allocated for them.
pub(crate) fn check_size(path: &Path, width: u64, height: u64) -> Result<(), Error> {
    let side = u64::from(MAXIMUM_SIDE);
    if width > side || height > side || width * height > MAXIMUM_PIXELS {
        return Err(Error::TooLarge {
            path: path.to_owned(),
            width,
            height,
        });
    }
    if width == 0 || height == 0 {
        return Err(Error::malformed(
            path,
            format!("a picture of {width}x{height}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_bytes_must_agree() {
        assert!(Picture::new(2, 2, vec![0; 12]).is_ok());
        assert!(Picture::new(2, 2, vec![0; 11]).is_err());
        assert!(Picture::new(0, 2, vec![]).is_err());
        assert!(Picture::new(u32::MAX, u32::MAX, vec![0; 3]).is_err());
    }

    #[test]
    fn turns_are_clockwise() {
        // 1 2 3
        // 4 5 6
        let rgb = (1u8..=6).flat_map(|value| [value; 3]).collect();
        let picture = Picture::new(3, 2, rgb).unwrap();
        let turned = |turn: Turn| {
            let turned = turn.apply(picture.clone());
            let values: Vec<u8> = turned.rgb.iter().copied().step_by(3).collect();
            (turned.width, turned.height, values)
        };
        assert_eq!(turned(Turn::None), (3, 2, vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(turned(Turn::Quarter), (2, 3, vec![4, 1, 5, 2, 6, 3]));
        assert_eq!(turned(Turn::Half), (3, 2, vec![6, 5, 4, 3, 2, 1]));
        assert_eq!(turned(Turn::ThreeQuarters), (2, 3, vec![3, 6, 2, 5, 1, 4]));
    }

    #[test]
    fn enlarging_repeats_pixels() {
        let picture = Picture::new(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        let large = enlarge(&picture, 2);
        assert_eq!((large.width, large.height), (4, 2));
        assert_eq!(large.row(0), [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]);
        assert_eq!(large.row(0), large.row(1));
    }
}
