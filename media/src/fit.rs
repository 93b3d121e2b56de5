//! Brings pictures to the size that a model sees: crop, then fit, averaging over areas.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::picture::{MAXIMUM_SIDE, Picture};

/// What happens to a picture whose shape differs from the target's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Fit {
    /// Cut off what sticks out on two sides, equally.
    #[default]
    Crop,
    /// Keep everything and add black bars.
    Pad,
    /// Keep everything and distort it.
    Stretch,
}

/// A rectangle in source pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CropRect {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width, at least 1.
    pub width: u32,
    /// Height, at least 1.
    pub height: u32,
}

/// How source pictures become pictures of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fitting {
    /// Width of the result in pixels.
    pub width: u32,
    /// Height of the result in pixels.
    pub height: u32,
    /// What to do when the shapes differ.
    pub fit: Fit,
    /// Part of the source to look at; all of it when `None`.
    pub crop: Option<CropRect>,
}

/// Crops and resizes `picture`. Every pixel of the result is the mean over the source area that it covers.
///
/// # Errors
///
/// [`Error::CropOutside`] when the crop leaves the picture, [`Error::InvalidSetting`] for a target size of zero or over
/// the limit.
pub fn fit_picture(picture: &Picture, fitting: &Fitting) -> Result<Picture, Error> {
    for side in [fitting.width, fitting.height] {
        if side == 0 || side > MAXIMUM_SIDE {
            return Err(Error::InvalidSetting {
                what: "target size",
                expected: format!("1 to {MAXIMUM_SIDE} pixels a side"),
                got: format!("{}x{}", fitting.width, fitting.height),
            });
        }
    }
    let crop = fitting.crop.unwrap_or(CropRect {
        x: 0,
        y: 0,
        width: picture.width,
        height: picture.height,
    });
    let inside = |start: u32, length: u32, all: u32| {
        length > 0 && start.checked_add(length).is_some_and(|end| end <= all)
    };
    if !inside(crop.x, crop.width, picture.width) || !inside(crop.y, crop.height, picture.height) {
        return Err(Error::CropOutside {
            x: crop.x,
            y: crop.y,
            crop_width: crop.width,
            crop_height: crop.height,
            width: picture.width,
            height: picture.height,
        });
    }

    let mut source = Area {
        x: f64::from(crop.x),
        y: f64::from(crop.y),
        width: f64::from(crop.width),
        height: f64::from(crop.height),
    };
    let (mut width, mut height) = (fitting.width, fitting.height);
    let source_shape = source.width / source.height;
    let target_shape = f64::from(width) / f64::from(height);
    match fitting.fit {
        Fit::Stretch => {}
        Fit::Crop if source_shape > target_shape => {
            let kept = source.height * target_shape;
            source.x += (source.width - kept) / 2.0;
            source.width = kept;
        }
        Fit::Crop => {
            let kept = source.width / target_shape;
            source.y += (source.height - kept) / 2.0;
            source.height = kept;
        }
        Fit::Pad if source_shape > target_shape => {
            height = ((f64::from(width) / source_shape).round() as u32).clamp(1, height);
        }
        Fit::Pad => {
            width = ((f64::from(height) * source_shape).round() as u32).clamp(1, width);
        }
    }
    let resized = resize(picture, source, width, height);
    if (width, height) == (fitting.width, fitting.height) {
        return Ok(resized);
    }
    let mut rgb = vec![0; fitting.width as usize * fitting.height as usize * 3];
    let left = (fitting.width - width) as usize / 2 * 3;
    let top = (fitting.height - height) / 2;
    for (y, row) in rgb.chunks_exact_mut(fitting.width as usize * 3).enumerate() {
        let y = y as u32;
        if (top..top + height).contains(&y) {
            row[left..left + width as usize * 3].copy_from_slice(resized.row(y - top));
        }
    }
    Picture::new(fitting.width, fitting.height, rgb)
}

/// A rectangle in fractions of source pixels.
#[derive(Debug, Clone, Copy)]
struct Area {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

fn resize(picture: &Picture, area: Area, width: u32, height: u32) -> Picture {
    let whole = |value: f64| value.fract() == 0.0;
    let across = area.width / f64::from(width);
    let down = area.height / f64::from(height);
    if across == 1.0 && down == 1.0 && (width, height) == (picture.width, picture.height) {
        return picture.clone();
    }
    if [area.x, area.y, across, down].into_iter().all(whole)
        && (1.0..=256.0).contains(&across)
        && (1.0..=256.0).contains(&down)
    {
        let origin = (area.x as usize, area.y as usize);
        return reduce(
            picture,
            origin,
            (across as usize, down as usize),
            (width, height),
        );
    }
    average(picture, area, width, height)
}

/// Means over blocks of whole pixels: the common case of gameplay that was recorded enlarged.
fn reduce(
    picture: &Picture,
    origin: (usize, usize),
    factor: (usize, usize),
    size: (u32, u32),
) -> Picture {
    let (across, down) = factor;
    let used = size.0 as usize * across * 3;
    let pixels = (across * down) as u32;
    let mut rgb = Vec::with_capacity(size.0 as usize * size.1 as usize * 3);
    // At most 256 rows of at most 255 each: a u16 holds the sum.
    let mut sums = vec![0u16; used];
    for y in 0..size.1 as usize {
        sums.fill(0);
        for source_y in 0..down {
            let row = picture.row((origin.1 + y * down + source_y) as u32);
            let row = row
                .get(origin.0 * 3..origin.0 * 3 + used)
                .unwrap_or_default();
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += u16::from(value);
            }
        }
        for block in sums.chunks_exact(across * 3) {
            let mut totals = [0u32; 3];
            for pixel in block.chunks_exact(3) {
                for (total, &value) in totals.iter_mut().zip(pixel) {
                    *total += u32::from(value);
                }
            }
            rgb.extend(totals.map(|total| ((total + pixels / 2) / pixels) as u8));
        }
    }
    Picture {
        width: size.0,
        height: size.1,
        rgb,
    }
}

/// The source positions that one target position covers, and the share of each.
struct Span {
    first: usize,
    weights: Vec<f32>,
}

fn spans(start: f64, length: f64, count: u32, limit: u32) -> Vec<Span> {
    let step = length / f64::from(count);
    (0..count)
        .map(|index| {
            let from = start + step * f64::from(index);
            let to = (from + step).min(f64::from(limit));
            let first = (from.floor() as usize).min(limit as usize - 1);
            let last = (to.ceil() as usize).clamp(first + 1, limit as usize);
            let mut weights: Vec<f32> = (first..last)
                .map(|position| {
                    (to.min(position as f64 + 1.0) - from.max(position as f64)).max(0.0) as f32
                })
                .collect();
            let total: f32 = weights.iter().sum();
            if total > 0.0 {
                weights.iter_mut().for_each(|weight| *weight /= total);
            } else {
                let even = 1.0 / weights.len() as f32;
                weights.fill(even);
            }
            Span { first, weights }
        })
        .collect()
}

fn average(picture: &Picture, area: Area, width: u32, height: u32) -> Picture {
    let columns = spans(area.x, area.width, width, picture.width);
    let rows = spans(area.y, area.height, height, picture.height);
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    let mut sums = vec![0f32; picture.width as usize * 3];
    for row in &rows {
        sums.fill(0.0);
        for (offset, &weight) in row.weights.iter().enumerate() {
            let source = picture.row((row.first + offset) as u32);
            for (sum, &value) in sums.iter_mut().zip(source) {
                *sum += weight * f32::from(value);
            }
        }
        for column in &columns {
            let mut totals = [0.5f32; 3];
            let pixels = sums
                .get(column.first * 3..)
                .unwrap_or_default()
                .chunks_exact(3);
            for (pixel, &weight) in pixels.zip(&column.weights) {
                for (total, &value) in totals.iter_mut().zip(pixel) {
                    *total += weight * value;
                }
            }
            rgb.extend(totals.map(|total| total as u8));
        }
    }
    Picture { width, height, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enlarge;
    use proptest::prelude::*;

    fn noise(width: u32, height: u32) -> Picture {
        let rgb = (0..width * height * 3)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        Picture::new(width, height, rgb).unwrap()
    }

    fn fitting(width: u32, height: u32, fit: Fit) -> Fitting {
        Fitting {
            width,
            height,
            fit,
            crop: None,
        }
    }

    #[test]
    fn shrinking_undoes_enlarging() {
        let picture = noise(16, 12);
        for factor in [1, 2, 4, 7] {
            let large = enlarge(&picture, factor);
            assert_eq!(
                fit_picture(&large, &fitting(16, 12, Fit::Crop)).unwrap(),
                picture
            );
        }
    }

    #[test]
    fn whole_factors_agree_with_the_general_way() {
        let picture = noise(24, 18);
        let area = Area {
            x: 3.0,
            y: 2.0,
            width: 18.0,
            height: 12.0,
        };
        let exact = reduce(&picture, (3, 2), (3, 2), (6, 6));
        let general = average(&picture, area, 6, 6);
        let largest = exact
            .rgb
            .iter()
            .zip(&general.rgb)
            .map(|(a, b)| a.abs_diff(*b))
            .max()
            .unwrap();
        assert!(largest <= 1, "{largest}");
    }

    #[test]
    fn crop_keeps_the_middle_and_pad_adds_bars() {
        let mut picture = Picture::new(4, 2, vec![0; 24]).unwrap();
        for y in 0..2 {
            for x in 1..3 {
                picture.rgb[(y * 4 + x) * 3] = 200;
            }
        }
        let cropped = fit_picture(&picture, &fitting(2, 2, Fit::Crop)).unwrap();
        assert!(cropped.rgb.chunks(3).all(|p| p == [200, 0, 0]));
        let white = Picture::new(4, 2, vec![255; 24]).unwrap();
        let padded = fit_picture(&white, &fitting(4, 4, Fit::Pad)).unwrap();
        assert!(padded.row(0).iter().all(|&v| v == 0) && padded.row(3).iter().all(|&v| v == 0));
        assert!(padded.row(1).iter().all(|&v| v == 255) && padded.row(2).iter().all(|&v| v == 255));
        let stretched = fit_picture(&white, &fitting(3, 5, Fit::Stretch)).unwrap();
        assert!(stretched.rgb.iter().all(|&v| v == 255));
    }

    #[test]
    fn crop_must_lie_inside() {
        let picture = noise(8, 8);
        for crop in [
            (0, 0, 9, 1),
            (8, 0, 1, 1),
            (0, 0, 0, 1),
            (u32::MAX, 0, 2, 2),
        ] {
            let crop = CropRect {
                x: crop.0,
                y: crop.1,
                width: crop.2,
                height: crop.3,
            };
            let result = fit_picture(
                &picture,
                &Fitting {
                    crop: Some(crop),
                    ..fitting(4, 4, Fit::Crop)
                },
            );
            assert!(matches!(result, Err(Error::CropOutside { .. })), "{crop:?}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_colour_stays_plain(w in 1u32..40, h in 1u32..40, tw in 1u32..40, th in 1u32..40, value: u8) {
            let picture = Picture::new(w, h, vec![value; (w * h * 3) as usize]).unwrap();
            for fit in [Fit::Crop, Fit::Stretch] {
                let fitted = fit_picture(&picture, &fitting(tw, th, fit)).unwrap();
                prop_assert_eq!((fitted.width, fitted.height), (tw, th));
                prop_assert!(fitted.rgb.iter().all(|&v| v == value));
            }
            prop_assert!(fit_picture(&picture, &fitting(tw, th, Fit::Pad)).is_ok());
        }
    }
}
