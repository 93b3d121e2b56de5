//! Luma and chroma to RGB and back.

use crate::picture::Picture;

/// How RGB was mixed into luma and chroma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matrix {
    /// ITU-R BT.601, for small pictures.
    Bt601,
    /// ITU-R BT.709, for high definition.
    Bt709,
    /// ITU-R BT.2020, non-constant luminance.
    Bt2020,
    /// No mixing: the planes are green, blue and red.
    Identity,
}

impl Matrix {
    /// From the code points of ISO/IEC 23091-2, which H.264, AV1, MP4 and Matroska share; `None` for unspecified.
    pub(crate) fn from_code_point(code: u64) -> Option<Self> {
        match code {
            0 => Some(Self::Identity),
            1 => Some(Self::Bt709),
            4..=6 => Some(Self::Bt601),
            9 | 10 => Some(Self::Bt2020),
            _ => None,
        }
    }

    /// What players assume of a stream that does not say.
    pub(crate) fn usual_for_height(height: usize) -> Self {
        if height < 720 {
            Self::Bt601
        } else {
            Self::Bt709
        }
    }

    /// Shares of red and blue in luma.
    fn shares(self) -> (f64, f64) {
        match self {
            Self::Bt601 | Self::Identity => (0.299, 0.114),
            Self::Bt709 => (0.2126, 0.0722),
            Self::Bt2020 => (0.2627, 0.0593),
        }
    }
}

/// What a stream says of its colours; a container's word fills in where the codec is silent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ColourTags {
    pub matrix: Option<Matrix>,
    pub full_range: Option<bool>,
}

impl ColourTags {
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            matrix: self.matrix.or(other.matrix),
            full_range: self.full_range.or(other.full_range),
        }
    }
}

/// A plane of 8-bit samples, rows without gaps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plane {
    pub width: usize,
    pub samples: Vec<u8>,
}

impl Plane {
    /// Copies `height` rows of `width` samples that lie `stride` apart; `None` when `data` is too short.
    pub(crate) fn copy(data: &[u8], stride: usize, width: usize, height: usize) -> Option<Self> {
        let mut samples = Vec::with_capacity(width * height);
        for y in 0..height {
            let start = y.checked_mul(stride)?;
            samples.extend_from_slice(data.get(start..start.checked_add(width)?)?);
        }
        Some(Self { width, samples })
    }

    fn row(&self, y: usize) -> &[u8] {
        self.samples
            .get(y * self.width..(y + 1) * self.width)
            .unwrap_or_default()
    }
}

/// A decoded picture as video codecs have it. Chroma planes are empty for grey.
#[derive(Debug, Clone)]
pub(crate) struct YuvPicture {
    pub width: usize,
    pub height: usize,
    pub luma: Plane,
    pub chroma: [Plane; 2],
    /// Whether chroma has half the width, and half the height.
    pub halved: (bool, bool),
    pub tags: ColourTags,
}

const SHIFT: i32 = 14;

/// Fixed-point factors from luma and chroma to RGB.
struct Factors {
    luma: i32,
    luma_offset: i32,
    red: i32,
    green: (i32, i32),
    blue: i32,
}

impl Factors {
    fn new(matrix: Matrix, full_range: bool) -> Self {
        let (red_share, blue_share) = matrix.shares();
        let green_share = 1.0 - red_share - blue_share;
        let (luma_scale, chroma_scale, luma_offset) = if full_range {
            (1.0, 1.0, 0)
        } else {
            (255.0 / 219.0, 255.0 / 224.0, 16)
        };
        let fixed = |value: f64| (value * f64::from(1 << SHIFT)).round() as i32;
        let red = 2.0 * (1.0 - red_share) * chroma_scale;
        let blue = 2.0 * (1.0 - blue_share) * chroma_scale;
        Self {
            luma: fixed(luma_scale),
            luma_offset,
            red: fixed(red),
            green: (
                fixed(-blue * blue_share / green_share),
                fixed(-red * red_share / green_share),
            ),
            blue: fixed(blue),
        }
    }
}

fn to_byte(value: i32) -> u8 {
    (value >> SHIFT).clamp(0, 255) as u8
}

impl YuvPicture {
    /// Converts with the stream's own matrix and range. Chroma is repeated rather than interpolated: pixel art that was
    /// enlarged by an even factor then comes out exact.
    pub(crate) fn to_rgb(&self) -> Picture {
        let matrix = self
            .tags
            .matrix
            .unwrap_or_else(|| Matrix::usual_for_height(self.height));
        let full_range = self.tags.full_range.unwrap_or(false);
        let mut rgb = vec![0u8; self.width * self.height * 3];
        let factors = Factors::new(matrix, full_range);
        let grey = vec![128u8; self.width];
        for (y, out) in rgb.chunks_exact_mut(self.width * 3).enumerate() {
            let luma = self.luma.row(y);
            let chroma_y = if self.halved.1 { y / 2 } else { y };
            let [u, v] = &self.chroma;
            let (u, v) = (u.row(chroma_y), v.row(chroma_y));
            let (u, v) = if u.is_empty() || v.is_empty() {
                (&grey[..], &grey[..])
            } else {
                (u, v)
            };
            if matrix == Matrix::Identity && !self.halved.0 {
                identity_row(out, luma, u, v, full_range);
            } else if self.halved.0 {
                let pairs = out.chunks_mut(6).zip(luma.chunks(2)).zip(u.iter().zip(v));
                for ((out, luma), (&u, &v)) in pairs {
                    convert(out, luma, u, v, &factors);
                }
            } else {
                let pixels = out
                    .chunks_exact_mut(3)
                    .zip(luma.chunks(1))
                    .zip(u.iter().zip(v));
                for ((out, luma), (&u, &v)) in pixels {
                    convert(out, luma, u, v, &factors);
                }
            }
        }
        Picture {
            width: self.width as u32,
            height: self.height as u32,
            rgb,
        }
    }
}

/// One chroma sample and the luma samples that share it.
#[inline(always)]
fn convert(out: &mut [u8], luma: &[u8], u: u8, v: u8, factors: &Factors) {
    let half = 1 << (SHIFT - 1);
    let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
    let red = factors.red * v + half;
    let green = factors.green.0 * u + factors.green.1 * v + half;
    let blue = factors.blue * u + half;
    for (pixel, &luma) in out.chunks_exact_mut(3).zip(luma) {
        let luma = (i32::from(luma) - factors.luma_offset) * factors.luma;
        pixel[0] = to_byte(luma + red);
        pixel[1] = to_byte(luma + green);
        pixel[2] = to_byte(luma + blue);
    }
}

fn identity_row(out: &mut [u8], green: &[u8], blue: &[u8], red: &[u8], full_range: bool) {
    let widen = |value: u8| {
        if full_range {
            value
        } else {
            ((i32::from(value) - 16) * 255 / 219).clamp(0, 255) as u8
        }
    };
    for (pixel, ((&green, &blue), &red)) in
        out.chunks_exact_mut(3).zip(green.iter().zip(blue).zip(red))
    {
        pixel.copy_from_slice(&[widen(red), widen(green), widen(blue)]);
    }
}

/// Converts to 4:2:0 in limited range. Odd sides are padded to even by repeating the last column or row.
pub(crate) fn from_rgb(picture: &Picture, matrix: Matrix) -> YuvPicture {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let (even_width, even_height) = (width.next_multiple_of(2), height.next_multiple_of(2));
    let (red_share, blue_share) = matrix.shares();
    let green_share = 1.0 - red_share - blue_share;
    let fixed = |value: f64| (value * f64::from(1 << SHIFT)).round() as i32;
    let luma_scale = 219.0 / 255.0;
    let luma_factors = [red_share, green_share, blue_share].map(|share| fixed(share * luma_scale));
    let u_scale = 224.0 / 255.0 / (2.0 * (1.0 - blue_share));
    let v_scale = 224.0 / 255.0 / (2.0 * (1.0 - red_share));
    let u_factors =
        [-red_share, -green_share, 1.0 - blue_share].map(|share| fixed(share * u_scale));
    let v_factors =
        [1.0 - red_share, -green_share, -blue_share].map(|share| fixed(share * v_scale));
    let half = 1 << (SHIFT - 1);
    let mix = |factors: [i32; 3], rgb: [i32; 3]| {
        factors
            .iter()
            .zip(rgb)
            .map(|(factor, value)| factor * value)
            .sum::<i32>()
    };

    let mut luma = Vec::with_capacity(even_width * even_height);
    let mut u_samples = Vec::with_capacity(even_width * even_height / 4);
    let mut v_samples = Vec::with_capacity(even_width * even_height / 4);
    let mut sums = vec![[0i32; 3]; even_width / 2];
    for y in 0..even_height {
        let row = picture.row(y.min(height - 1) as u32);
        if y % 2 == 0 {
            sums.fill([0; 3]);
        }
        for x in 0..even_width {
            let start = x.min(width - 1) * 3;
            let rgb =
                [0, 1, 2].map(|channel| row.get(start + channel).copied().map_or(0, i32::from));
            luma.push(to_byte(mix(luma_factors, rgb) + (16 << SHIFT) + half));
            for (sum, value) in sums[x / 2].iter_mut().zip(rgb) {
                *sum += value;
            }
        }
        if y % 2 == 1 {
            for sum in &sums {
                let mean = sum.map(|value| (value + 2) / 4);
                u_samples.push(to_byte(mix(u_factors, mean) + (128 << SHIFT) + half));
                v_samples.push(to_byte(mix(v_factors, mean) + (128 << SHIFT) + half));
            }
        }
    }
    let plane = |width, samples| Plane { width, samples };
    YuvPicture {
        width: even_width,
        height: even_height,
        luma: plane(even_width, luma),
        chroma: [
            plane(even_width / 2, u_samples),
            plane(even_width / 2, v_samples),
        ],
        halved: (true, true),
        tags: ColourTags {
            matrix: Some(matrix),
            full_range: Some(false),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(rgb: [u8; 3]) -> Picture {
        Picture::new(5, 3, rgb.repeat(15)).unwrap()
    }

    #[test]
    fn known_colours() {
        // BT.601 limited range: pure red is Y 81, U 90, V 240 (ITU-R BT.601, 8 bit).
        let red = from_rgb(&flat([255, 0, 0]), Matrix::Bt601);
        assert_eq!(
            (
                red.luma.samples[0],
                red.chroma[0].samples[0],
                red.chroma[1].samples[0]
            ),
            (81, 90, 240)
        );
        // BT.709 limited range: pure green is Y 173, U 42, V 26.
        let green = from_rgb(&flat([0, 255, 0]), Matrix::Bt709);
        assert_eq!(
            (
                green.luma.samples[0],
                green.chroma[0].samples[0],
                green.chroma[1].samples[0]
            ),
            (173, 42, 26)
        );
    }

    #[test]
    fn there_and_back() {
        for matrix in [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020] {
            for rgb in [
                [0, 0, 0],
                [255, 255, 255],
                [255, 0, 0],
                [0, 255, 0],
                [0, 0, 255],
                [12, 200, 99],
                [240, 130, 7],
            ] {
                let yuv = from_rgb(&flat(rgb), matrix);
                assert_eq!((yuv.width, yuv.height), (6, 4));
                for pixel in yuv.to_rgb().rgb.chunks(3) {
                    for (got, wanted) in pixel.iter().zip(rgb) {
                        assert!(got.abs_diff(wanted) <= 3, "{matrix:?} {rgb:?} {pixel:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn full_range_grey_is_untouched() {
        let plane = Plane {
            width: 4,
            samples: vec![0, 90, 200, 255],
        };
        let picture = YuvPicture {
            width: 4,
            height: 1,
            luma: plane,
            chroma: [Plane::default(), Plane::default()],
            halved: (true, true),
            tags: ColourTags {
                matrix: None,
                full_range: Some(true),
            },
        };
        assert_eq!(
            picture.to_rgb().rgb,
            [0, 0, 0, 90, 90, 90, 200, 200, 200, 255, 255, 255]
        );
    }
}
