//! Tells where one scene ends and another begins.

use std::collections::VecDeque;

/// Side of the small grey picture that is compared.
const SIDE: usize = 32;

/// Largest camera movement between two frames that still counts as the same scene, in small pixels: a quarter of the picture.
const REACH: isize = 8;

/// Number of past differences whose median is what is usual.
const MEMORY: usize = 15;

/// Levels of each colour in the histogram.
const LEVELS: usize = 4;

/// Watches frames go by. Three things must come together for a cut: the frame differs from the one before by far more than
/// is usual in this video, its colours differ, and no movement of the camera explains it.
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

/// How two neighbouring frames differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    /// Mean difference of brightness, 0 to 1.
    pub difference: f32,
    /// Share of the picture whose colours are not in the other, 0 to 1.
    pub colours: f32,
    /// What of the difference is left when the camera has moved as well as it can, as a share of the contrast.
    pub unexplained: f32,
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
        let difference = previous.difference(current, 0, 0);
        let mut sorted: Vec<f32> = self.usual.iter().copied().collect();
        sorted.sort_by(f32::total_cmp);
        let usual = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        let unusual = difference > 0.03 + 2.0 * usual;
        let cut = unusual && {
            let change = previous.change(current, difference);
            change.colours > 0.6 * self.threshold && change.unexplained > self.threshold
        };
        if cut {
            self.usual.clear();
        } else {
            if self.usual.len() == MEMORY {
                self.usual.pop_front();
            }
            self.usual.push_back(difference);
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
        let mut histogram = vec![0f32; LEVELS * LEVELS * LEVELS];
        for (y, row) in rgb.chunks_exact(width * 3).enumerate() {
            // Small frames are spread over the cells instead, which leaves some empty; those are skipped below.
            let cells = y * SIDE / height * SIDE;
            for (x, pixel) in row.chunks_exact(3).enumerate() {
                let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
                let cell = cells + x * SIDE / width;
                sums[cell] += 77 * red + 150 * green + 29 * blue;
                counts[cell] += 1;
                let level = |value: u32| value as usize * LEVELS / 256;
                histogram[(level(red) * LEVELS + level(green)) * LEVELS + level(blue)] += 1.0;
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
        let pixels = (rgb.len() / 3).max(1) as f32;
        histogram.iter_mut().for_each(|bin| *bin /= pixels);
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

    fn change(&self, other: &Self, difference: f32) -> Change {
        let colours = self
            .colours
            .iter()
            .zip(&other.colours)
            .map(|(a, b)| (a - b).abs())
            .sum::<f32>()
            / 2.0;
        let moves = (-REACH..=REACH).flat_map(|dy| (-REACH..=REACH).map(move |dx| (dx, dy)));
        let least = moves
            .map(|(dx, dy)| self.difference(other, dx, dy))
            .fold(f32::INFINITY, f32::min);
        let contrast = self.contrast.max(other.contrast).max(0.02);
        Change {
            difference,
            colours,
            unexplained: (least / contrast).min(1.0),
        }
    }
}
