//! How pictures move: the view as a whole, and what moves within it.

use crate::Frame;
use nn::FrameSize;

/// Side of the blocks that are compared, and how far apart they stand, in pixels.
const BLOCK: usize = 8;
const STRIDE: usize = 4;
/// Colours of a block differ by at least this, of 255 on average, or nothing can be told from it.
const TEXTURE: f32 = 4.0;
/// A difference of more than this, of 255 a pixel, is something else and not the same moved.
const DIFFERENT: f32 = 40.0;
/// Another place must match at least this much better than no motion.
const BETTER: f32 = 0.9;

/// How a picture differs from the one before, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Motion {
    /// By how much the view moves, to the right and down: the content moves the other way.
    pub view: (f32, f32),
    /// By how much something within the view moves over the background, to the right and down; 0 where nothing is seen to.
    pub sprite: (f32, f32),
    /// By how much the picture's content moves outward at its edge, as when walking forward; negative for inward.
    pub approach: f32,
}

impl Motion {
    /// Less motion than this, in pixels a frame of 64, counts as none.
    pub const STILL: f32 = 0.4;

    /// Less [`approach`](Self::approach) than this, in pixels a frame of 64, counts as none. Walking over a plane moves little of the picture: where
    /// a video shows it (`worlds/garden`), the mean is about 0.5 and that of turning below 0.1.
    pub const APPROACH: f32 = 0.25;

    /// How far [`Self::total`] goes along the axis that it goes farther along.
    pub fn extent(&self) -> f32 {
        let (x, y) = self.total();
        x.abs().max(y.abs())
    }

    /// The motion over the background of what the player steers: where the view follows it, the view's; else that of what moves within it.
    pub fn total(&self) -> (f32, f32) {
        const FOLLOWS: f32 = 0.5;
        let axis = |view: f32, sprite: f32| if view.abs() >= FOLLOWS { view } else { sprite };
        (
            axis(self.view.0, self.sprite.0),
            axis(self.view.1, self.sprite.1),
        )
    }

    /// What it is in pixels that are so many times smaller.
    fn times(self, factor: f32) -> Self {
        let pair = |(x, y): (f32, f32)| (factor * x, factor * y);
        Self {
            view: pair(self.view),
            sprite: pair(self.sprite),
            approach: factor * self.approach,
        }
    }

    /// The mean of several.
    pub fn mean(motions: &[Self]) -> Self {
        let mean = |of: &dyn Fn(&Self) -> f32| {
            motions.iter().map(of).sum::<f32>() / motions.len().max(1) as f32
        };
        Self {
            view: (mean(&|m| m.view.0), mean(&|m| m.view.1)),
            sprite: (mean(&|m| m.sprite.0), mean(&|m| m.sprite.1)),
            approach: mean(&|m| m.approach),
        }
    }
}

/// A block of the later picture: where it stands, and how well it matches the earlier picture at each displacement (`None` outside of it).
struct Block {
    x: usize,
    y: usize,
    costs: Vec<Option<f32>>,
}

/// The displacements that are tried: a square of this many pixels to every side.
struct Search {
    reach: isize,
}

impl Search {
    fn displacements(&self) -> impl Iterator<Item = (isize, isize)> + use<> {
        let reach = self.reach;
        (-reach..=reach).flat_map(move |dy| (-reach..=reach).map(move |dx| (dx, dy)))
    }

    fn index(&self, (dx, dy): (isize, isize)) -> Option<usize> {
        let inside = |d: isize| (-self.reach..=self.reach).contains(&d);
        let row = 2 * self.reach + 1;
        (inside(dx) && inside(dy)).then(|| ((dy + self.reach) * row + dx + self.reach) as usize)
    }
}

/// Longest short side of a picture in which blocks are matched, in pixels: what matching costs grows with the fourth power of it.
const LARGEST_SIDE: usize = 128;

/// Estimates how `after` has moved against `before`, both of one size, by matching blocks. Motions of more than an eighth of the picture's
/// shorter side are not found. Large pictures are looked at smaller.
pub fn motion_between(before: &Frame, after: &Frame) -> Motion {
    let size = after.size();
    if before.size() != size || size.height < 2 * BLOCK || size.width < 2 * BLOCK {
        return Motion::default();
    }
    let factor = size.height.min(size.width).div_ceil(LARGEST_SIDE);
    let smaller = FrameSize {
        height: size.height / factor,
        width: size.width / factor,
    };
    let greys = (grey(before, factor), grey(after, factor));
    motion_of_greys(greys, smaller).times(factor as f32)
}

fn motion_of_greys((before, after): (Vec<f32>, Vec<f32>), size: FrameSize) -> Motion {
    let search = Search {
        reach: (size.height.min(size.width) / 8).max(3) as isize,
    };
    let places = |side: usize| (0..=side - BLOCK).step_by(STRIDE);
    let blocks: Vec<Block> = places(size.height)
        .flat_map(|y| places(size.width).map(move |x| (x, y)))
        .filter(|&(x, y)| texture(&after, size.width, x, y) >= TEXTURE)
        .map(|(x, y)| Block {
            x,
            y,
            costs: costs(
                (&before, &after),
                (size.width, size.height),
                (x, y),
                &search,
            ),
        })
        .collect();
    let Some((whole, view)) = common(&blocks, &search) else {
        return Motion::default();
    };
    let own: Vec<_> = blocks
        .iter()
        .map(|block| apart(block, &search, whole))
        .collect();
    Motion {
        view,
        sprite: within(&own),
        approach: approach(&blocks, &own, (size.width, size.height)),
    }
}

/// How bright a picture is, in means over squares of `factor` pixels a side; what is left over at the right and below does not count.
fn grey(frame: &Frame, factor: usize) -> Vec<f32> {
    let (rgb, size) = (frame.rgb(), frame.size());
    let weigh = |p: &[u8]| 0.3 * f32::from(p[0]) + 0.59 * f32::from(p[1]) + 0.11 * f32::from(p[2]);
    let mean = |x: usize, y: usize| {
        let rows = y * factor..(y + 1) * factor;
        let row = |row: usize| &rgb[(row * size.width + x * factor) * 3..][..3 * factor];
        let sum: f32 = rows.flat_map(|y| row(y).chunks_exact(3)).map(weigh).sum();
        sum / (factor * factor) as f32
    };
    let columns = size.width / factor;
    (0..size.height / factor)
        .flat_map(|y| (0..columns).map(move |x| (x, y)))
        .map(|(x, y)| mean(x, y))
        .collect()
}

/// Mean deviation of a block from its own mean.
fn texture(picture: &[f32], width: usize, x: usize, y: usize) -> f32 {
    let pixels = || (y..y + BLOCK).flat_map(|row| &picture[row * width + x..][..BLOCK]);
    let count = (BLOCK * BLOCK) as f32;
    let mean = pixels().sum::<f32>() / count;
    pixels().map(|pixel| (pixel - mean).abs()).sum::<f32>() / count
}

/// How differently a block looks from the earlier picture at each displacement.
fn costs(
    (before, after): (&[f32], &[f32]),
    (width, height): (usize, usize),
    (x, y): (usize, usize),
    search: &Search,
) -> Vec<Option<f32>> {
    let cost = |(dx, dy): (isize, isize)| {
        let left = x
            .checked_add_signed(dx)
            .filter(|left| left + BLOCK <= width)?;
        let top = y
            .checked_add_signed(dy)
            .filter(|top| top + BLOCK <= height)?;
        let rows = (0..BLOCK).map(|row| {
            let here = &after[(y + row) * width + x..][..BLOCK];
            let there = &before[(top + row) * width + left..][..BLOCK];
            here.iter()
                .zip(there)
                .map(|(a, b)| (a - b).abs())
                .sum::<f32>()
        });
        Some(rows.sum::<f32>() / (BLOCK * BLOCK) as f32)
    };
    search.displacements().map(cost).collect()
}

/// The displacement that most blocks share, whole and refined between pixels.
fn common(blocks: &[Block], search: &Search) -> Option<((isize, isize), (f32, f32))> {
    let cost = |displacement| -> Option<f32> {
        let index = search.index(displacement)?;
        let costs: Vec<f32> = blocks
            .iter()
            .filter_map(|block| block.costs[index])
            .collect();
        // A displacement that pushes most of the picture out of sight cannot be judged.
        let enough = !costs.is_empty() && costs.len() * 5 >= blocks.len() * 2;
        let limited = |cost: &f32| cost.min(DIFFERENT);
        enough.then(|| costs.iter().map(limited).sum::<f32>() / costs.len() as f32)
    };
    let still = cost((0, 0))?;
    let judged = search
        .displacements()
        .filter_map(|d| cost(d).map(|cost| (d, cost)));
    let (best, least) = judged.min_by(|a, b| a.1.total_cmp(&b.1))?;
    let (best, least) = match least >= BETTER * still {
        true => ((0, 0), still),
        false => (best, least),
    };
    // The lowest point of the parabola through the three costs along an axis.
    let refined = |whole: isize, [before, after]: [Option<f32>; 2]| {
        let offset = match (before, after) {
            (Some(before), Some(after)) if least > 0.0 && before + after > 2.0 * least => {
                ((before - after) / (2.0 * (before + after - 2.0 * least))).clamp(-0.5, 0.5)
            }
            _ => 0.0,
        };
        whole as f32 + offset
    };
    let (dx, dy) = best;
    let x = refined(dx, [cost((dx - 1, dy)), cost((dx + 1, dy))]);
    let y = refined(dy, [cost((dx, dy - 1)), cost((dx, dy + 1))]);
    Some((best, (x, y)))
}

/// The place that a block matches best, with its cost; the least displaced of equal ones.
fn best_match(block: &Block, search: &Search) -> Option<((isize, isize), f32)> {
    let judged = search
        .displacements()
        .zip(&block.costs)
        .filter_map(|(d, cost)| cost.map(|cost| (d, cost)));
    let far = |(dx, dy): (isize, isize)| dx.abs() + dy.abs();
    judged.min_by(|a, b| a.1.total_cmp(&b.1).then(far(a.0).cmp(&far(b.0))))
}

/// How a block moves over the background, whose displacement is `whole`; `None` where it moves with it.
fn apart(block: &Block, search: &Search, whole: (isize, isize)) -> Option<(f32, f32)> {
    let with_view = block.costs[search.index(whole)?]?;
    let (own, cost) = best_match(block, search)?;
    (with_view > TEXTURE && cost < 0.5 * with_view)
        .then(|| ((whole.0 - own.0) as f32, (whole.1 - own.1) as f32))
}

/// How something moves that does not move with the view: the median of the blocks' own motions, where they agree.
fn within(own: &[Option<(f32, f32)>]) -> (f32, f32) {
    let apart: Vec<(f32, f32)> = own.iter().copied().flatten().collect();
    let middle = (
        median(apart.iter().map(|m| m.0)),
        median(apart.iter().map(|m| m.1)),
    );
    let agree = apart
        .iter()
        .filter(|m| (m.0 - middle.0).abs() <= 1.0 && (m.1 - middle.1).abs() <= 1.0);
    match agree.count() {
        agreeing if agreeing >= 2 && agreeing * 2 >= apart.len() => middle,
        _ => (0.0, 0.0),
    }
}

/// By how much the content moves away from the middle, at the picture's edge, beside what the whole view does: the slope, by least squares, of
/// the blocks' own motions over their places. Walking moves what is near and leaves the horizon where it is, so that the slope is no zoom that
/// explains the picture, only a mean; a turn has none.
fn approach(blocks: &[Block], own: &[Option<(f32, f32)>], (width, height): (usize, usize)) -> f32 {
    const FEWEST: usize = 12;
    /// A block that moves farther over the background, in pixels, has been matched wrongly.
    const FARTHEST: f32 = 5.0;
    let half = (width.min(height) / 2) as f32;
    let centre =
        |at: usize, side: usize| (at as f32 + BLOCK as f32 / 2.0 - side as f32 / 2.0) / half;
    let (mut count, mut along, mut distance) = (0, 0.0, 0.0);
    for (block, own) in blocks.iter().zip(own) {
        let (right, down) = own.unwrap_or_default();
        // Beside the edge, what comes from outside is found nowhere.
        if right.abs().max(down.abs()) > FARTHEST || !block.costs.iter().all(Option::is_some) {
            continue;
        }
        let (x, y) = (centre(block.x, width), centre(block.y, height));
        count += 1;
        along += x * right + y * down;
        distance += x * x + y * y;
    }
    match count >= FEWEST && distance > 0.0 {
        true => along / distance,
        false => 0.0,
    }
}

fn median(values: impl Iterator<Item = f32>) -> f32 {
    let mut sorted: Vec<f32> = values.collect();
    sorted.sort_by(f32::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIDE: usize = 64;

    /// A smooth pattern without repetition, seen through a window at `x`, `y` and enlarged `zoom` times about its middle.
    fn scene(x: f32, y: f32, zoom: f32, sprite: Option<(usize, usize)>) -> Frame {
        let size = FrameSize {
            height: SIDE,
            width: SIDE,
        };
        let mut rgb = Vec::with_capacity(size.bytes());
        for row in 0..SIDE {
            for column in 0..SIDE {
                let (u, v) = (
                    (column as f32 - 31.5) / zoom + x,
                    (row as f32 - 31.5) / zoom + y,
                );
                let wave = (0.35 * u + 2.0 * (0.11 * v).sin()).sin()
                    + (0.29 * v - 0.13 * u + (0.07 * u).cos()).sin();
                let mut grey = 128.0 + 55.0 * wave;
                if let Some((left, top)) = sprite
                    && (left..left + 10).contains(&column)
                    && (top..top + 10).contains(&row)
                {
                    grey = if (column - left + 2 * (row - top)) % 5 < 2 {
                        250.0
                    } else {
                        5.0
                    };
                }
                rgb.extend([grey as u8; 3]);
            }
        }
        Frame::new(size, rgb).unwrap()
    }

    fn near(got: (f32, f32), expected: (f32, f32)) -> bool {
        (got.0 - expected.0).abs() < 0.4 && (got.1 - expected.1).abs() < 0.4
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_view_that_moves_is_followed(x in -6.0f32..6.0, y in -6.0f32..6.0) {
            let motion = motion_between(&scene(0.0, 0.0, 1.0, None), &scene(x, y, 1.0, None));
            prop_assert!(near(motion.view, (x, y)), "({x}, {y}): {motion:?}");
        }

        #[test]
        fn any_two_pictures_have_a_finite_motion(a in proptest::collection::vec(any::<u8>(), 24 * 16 * 3), b in proptest::collection::vec(any::<u8>(), 24 * 16 * 3)) {
            let size = FrameSize { height: 16, width: 24 };
            let motion = motion_between(&Frame::new(size, a).unwrap(), &Frame::new(size, b).unwrap());
            prop_assert!(motion.total().0.is_finite() && motion.total().1.is_finite() && motion.approach.is_finite());
        }
    }

    /// Each pixel `factor` times as wide and high.
    fn enlarged(frame: &Frame, factor: usize) -> Frame {
        let (small, size) = (
            frame.size(),
            FrameSize {
                height: frame.size().height * factor,
                width: frame.size().width * factor,
            },
        );
        let pixel = |x: usize, y: usize| &frame.rgb()[(y * small.width + x) * 3..][..3];
        let places = (0..size.height).flat_map(|y| (0..size.width).map(move |x| (x, y)));
        let rgb = places.flat_map(|(x, y)| pixel(x / factor, y / factor).to_vec());
        Frame::new(size, rgb.collect()).unwrap()
    }

    #[test]
    fn in_a_large_picture_as_much_moves_over_as_many_more_pixels() {
        let (from, to) = (scene(0.0, 0.0, 1.0, None), scene(4.0, -2.0, 1.0, None));
        let small = motion_between(&from, &to);
        let large = motion_between(&enlarged(&from, 8), &enlarged(&to, 8));
        let expected = (8.0 * small.view.0, 8.0 * small.view.1);
        let difference = (large.view.0 - expected.0).abs() + (large.view.1 - expected.1).abs();
        assert!(difference < 4.0, "{small:?} {large:?}");
    }

    #[test]
    fn what_stands_still_does_not_move() {
        let flat = Frame::new(
            FrameSize {
                height: SIDE,
                width: SIDE,
            },
            vec![90; SIDE * SIDE * 3],
        )
        .unwrap();
        assert_eq!(motion_between(&flat, &flat), Motion::default());
        let scene = scene(3.0, 4.0, 1.0, Some((20, 30)));
        assert_eq!(motion_between(&scene, &scene), Motion::default());
    }

    #[test]
    fn a_sprite_moves_within_a_view_that_rests_or_moves() {
        for (view, step) in [
            ((0.0, 0.0), (3, 0)),
            ((0.0, 0.0), (0, -4)),
            ((-2.0, 0.0), (0, -3)),
            ((4.0, 0.0), (0, 0)),
        ] {
            let to = ((27 + step.0) as usize, (27 + step.1) as usize);
            let before = scene(0.0, 0.0, 1.0, Some((27, 27)));
            let motion = motion_between(&before, &scene(view.0, view.1, 1.0, Some(to)));
            // What stays in the middle of a moving view moves over the background.
            let over_background = (view.0 + step.0 as f32, view.1 + step.1 as f32);
            assert!(near(motion.view, view), "{view:?} {step:?}: {motion:?}");
            assert!(
                near(motion.sprite, over_background),
                "{view:?} {step:?}: {motion:?}"
            );
            assert!(
                near(motion.total(), over_background),
                "{view:?} {step:?}: {motion:?}"
            );
        }
    }

    #[test]
    fn walking_forward_and_back_is_told_from_walking_sideways() {
        let from = scene(0.0, 0.0, 1.0, None);
        let nearer = motion_between(&from, &scene(0.0, 0.0, 1.12, None));
        assert!(nearer.approach > 2.0, "{nearer:?}");
        let farther = motion_between(&from, &scene(0.0, 0.0, 0.9, None));
        assert!(farther.approach < -1.5, "{farther:?}");
        assert_eq!(
            motion_between(&from, &scene(3.0, 0.0, 1.0, None)).approach,
            0.0
        );
    }

    /// Hills at the horizon, and before them a plane with large patches, as seen after so many steps.
    fn plane(steps: f32) -> Frame {
        let hills = scene(0.0, 0.0, 1.0, None);
        let mut rgb = hills.rgb().to_vec();
        for row in SIDE / 2..SIDE {
            let depth = 32.0 / (row as f32 - 31.0);
            for column in 0..SIDE {
                let aside = (column as f32 - 31.5) / 32.0 * depth;
                let patch = (2.0 * aside).sin() * (2.0 * (depth + steps)).sin();
                rgb[(row * SIDE + column) * 3..][..3].fill((128.0 + 100.0 * patch) as u8);
            }
        }
        Frame::new(hills.size(), rgb).unwrap()
    }

    #[test]
    fn walking_over_a_plane_is_seen_though_the_horizon_rests() {
        let ahead = motion_between(&plane(0.0), &plane(0.12));
        assert!(ahead.approach > Motion::APPROACH, "{ahead:?}");
        assert!(near(ahead.view, (0.0, 0.0)), "{ahead:?}");
        let back = motion_between(&plane(0.12), &plane(0.0));
        assert!(back.approach < -Motion::APPROACH, "{back:?}");
    }
}
