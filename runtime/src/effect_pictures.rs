//! What every action code does, as one moving or still picture.

use crate::error::{Error, Result};
use crate::play::picture_of;
use crate::whole_file::write_whole;
use media::{GifWriter, Picture};
use std::path::Path;
use worlds::CodeEffect;

/// Pixels between two pictures and around them.
const GAP: u32 = 4;
/// Frames that a moving picture rests at its end before it starts again.
const REST: usize = 4;
/// By what the short side of a frame is at least enlarged to.
const SIDE: u32 = 96;

/// The digits, three dots wide and five high, row by row from the top.
const DIGITS: [u16; 10] = [
    0b111_101_101_101_111,
    0b010_110_010_010_111,
    0b111_001_111_100_111,
    0b111_001_111_001_111,
    0b101_101_111_001_001,
    0b111_100_111_001_111,
    0b111_100_111_101_111,
    0b111_001_001_001_001,
    0b111_101_111_101_111,
    0b111_101_111_001_111,
];
/// Pixels of a digit's dot.
const DOT: u32 = 3;

/// All codes after `frame` frames: a row for each, beginning with its number, and a column for each starting frame.
///
/// # Errors
/// When there is nothing to show.
pub fn effect_sheet(effects: &[CodeEffect], frame: usize) -> Result<Picture> {
    let cells: Vec<Vec<Picture>> = effects
        .iter()
        .map(|effect| row(effect, frame))
        .collect::<Result<_>>()?;
    let (width, height) = match cells.first().and_then(|row| row.first()) {
        Some(cell) => (cell.width, cell.height),
        None => return Err(Error::Binding("there is no action to show".into())),
    };
    let label = 2 * 4 * DOT + GAP;
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0) as u32;
    let mut sheet = Sheet::new(
        label + columns * (width + GAP) + GAP,
        cells.len() as u32 * (height + GAP) + GAP,
    );
    for (row, (effect, cells)) in (0u32..).zip(effects.iter().zip(&cells)) {
        let top = GAP + row * (height + GAP);
        sheet.number(
            GAP,
            top + (height.saturating_sub(5 * DOT)) / 2,
            effect.code.0,
        );
        for (column, cell) in (0u32..).zip(cells) {
            sheet.paste(label + GAP + column * (width + GAP), top, cell);
        }
    }
    Ok(Picture::new(sheet.width, sheet.height, sheet.rgb)?)
}

fn row(effect: &CodeEffect, frame: usize) -> Result<Vec<Picture>> {
    let shown = effect
        .pictures
        .iter()
        .filter_map(|pictures| pictures.get(frame).or(pictures.last()));
    shown
        .map(|frame| {
            let picture = picture_of(frame)?;
            let factor = SIDE.div_ceil(picture.width.min(picture.height).max(1));
            Ok(media::enlarge(&picture, factor))
        })
        .collect()
}

/// Writes what every code does: a `.gif` that moves at `frames_per_second`, over and over, or a `.png` with the last frames.
///
/// # Errors
/// When there is nothing to show, or the file's name has another ending or it cannot be written.
pub fn write_effects(effects: &[CodeEffect], path: &Path, frames_per_second: f64) -> Result<()> {
    let frames = effects
        .iter()
        .flat_map(|effect| &effect.pictures)
        .map(Vec::len)
        .max()
        .unwrap_or(0);
    let last = frames.saturating_sub(1);
    let is_gif = effect_file_is_gif(path)?;
    write_whole(path, |path| {
        if !is_gif {
            return Ok(media::write_png(path, &effect_sheet(effects, last)?)?);
        }
        let first = effect_sheet(effects, 0)?;
        let rate = frames_per_second.clamp(1.0, 50.0);
        let mut gif = GifWriter::create(path, first.width, first.height, rate)?;
        for frame in (0..frames).chain(std::iter::repeat_n(last, REST)) {
            gif.write(&effect_sheet(effects, frame)?)?;
        }
        Ok(gif.finish()?)
    })
}

/// Whether a file for [`write_effects`] is an animation, by its name; to be asked before what takes long is measured.
///
/// # Errors
/// When its name ends neither in `.png` nor in `.gif`.
pub fn effect_file_is_gif(path: &Path) -> Result<bool> {
    let ending = path.extension().and_then(|ending| ending.to_str());
    match ending.map(str::to_ascii_lowercase).as_deref() {
        Some("png") => Ok(false),
        Some("gif") => Ok(true),
        _ => Err(Error::EffectFormat(path.to_owned())),
    }
}

/// A dark picture to paste others on.
struct Sheet {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Sheet {
    fn new(width: u32, height: u32) -> Self {
        Self {
            width,
            height,
            rgb: vec![32; 3 * width as usize * height as usize],
        }
    }

    /// The bytes of a row from `x` on.
    fn from(&mut self, x: u32, y: u32) -> &mut [u8] {
        let start = 3 * (y as usize * self.width as usize + x as usize);
        let end = 3 * (y as usize + 1) * self.width as usize;
        self.rgb.get_mut(start..end).unwrap_or_default()
    }

    fn paste(&mut self, x: u32, y: u32, picture: &Picture) {
        for row in 0..picture.height {
            let pixels = picture.row(row);
            if let Some(target) = self.from(x, y + row).get_mut(..pixels.len()) {
                target.copy_from_slice(pixels);
            }
        }
    }

    /// A number of one or two digits.
    fn number(&mut self, x: u32, y: u32, number: u16) {
        let digits = [number / 10 % 10, number % 10];
        for (place, digit) in (0u32..).zip(digits) {
            if place == 0 && digit == 0 {
                continue;
            }
            let dots = DIGITS[usize::from(digit)];
            for dot in (0..15u32).filter(|dot| dots >> (14 - dot) & 1 == 1) {
                for row in 0..DOT {
                    let left = x + (place * 4 + dot % 3) * DOT;
                    let pixels = self.from(left, y + dot / 3 * DOT + row);
                    pixels
                        .iter_mut()
                        .take(3 * DOT as usize)
                        .for_each(|byte| *byte = 230);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use worlds::EffectOptions;

    #[test]
    fn a_sheet_has_a_row_for_each_code_and_is_written_still_and_moving() {
        let world = Arc::new(worlds::tiny_world(1).unwrap());
        let options = EffectOptions {
            starts: 2,
            frames: 3,
        };
        let effects = worlds::measure_effects(&world, options, &mut || true).unwrap();
        let sheet = effect_sheet(&effects, 0).unwrap();
        // Frames of 24x16 are enlarged six times.
        assert_eq!((sheet.width, sheet.height), (28 + 2 * 148 + 4, 4 * 100 + 4));
        let at = |x: u32, y: u32| &sheet.row(y)[3 * x as usize..][..3];
        let first = &effects[0].pictures[0][0].rgb()[..3];
        assert_eq!((at(32, 4), at(37, 9)), (first, first));
        assert_eq!(at(31, 4), [32; 3]);
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.png", "a.gif"] {
            let path = folder.path().join(name);
            write_effects(&effects, &path, 15.0).unwrap();
            let shown = media::read_image(&path).unwrap();
            assert_eq!((shown.width, shown.height), (sheet.width, sheet.height));
        }
        let refused = write_effects(&effects, &folder.path().join("a.bmp"), 15.0).unwrap_err();
        assert!(refused.to_string().contains(".gif"), "{refused}");
        assert!(effect_sheet(&[], 0).is_err());
    }
}
