//! Drift: how far long rollouts stray from what real frames look like.
//!
//! Several rollouts run under the random player. Around a point, say frame 200, the last 50 frames of all of them (151 to
//! 200) make one cloud of features; real held-out frames make the reference. Features know nothing of the tokenizer: mean
//! colours of a 4x4 grid, edge strength in the same cells and its histogram, and change since the frame before in 2x2
//! cells. The distance is the squared Fréchet distance of Gaussians over the 16 leading principal axes of the reference's
//! features (each scaled to unit variance), *divided by the same distance of equally much real video* in equally long
//! stretches. So 1 means: no further from the average of real video than so little real video usually is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nn::{FrameSize, generator};
use rand::Rng;
use rayon::prelude::*;
use worlds::{Frame, RandomPlayer, Rollout, RolloutSettings, World};

use super::frechet::Yardstick;
use super::rollouts::{true_frames, unit};
use crate::clips::{Clip, ClipSampler};
use crate::dataset::{Dataset, Split};
use crate::measure::mean;
use crate::observer::{TrainEvent, TrainObserver};
use crate::{Error, Result};

/// Frames at which drift is measured.
pub(crate) const POINTS: [u32; 4] = [50, 200, 500, 1000];
/// Frames up to a point that stand for it.
const STRETCH: usize = 50;
/// Principal axes that are compared.
const AXES: usize = 16;
/// Real stretches that the reference is made of, and draws of real video that make the unit.
const REFERENCE_STRETCHES: usize = 100;
const DRAWS: usize = 10;
/// Cells along a side, and bins of the edge histogram.
const CELLS: usize = 4;
const BINS: usize = 8;

/// What long rollouts came to.
pub(crate) struct Drift {
    /// Distance in units of equally much real video, by frame.
    pub distance: BTreeMap<u32, f64>,
    /// Mean edge strength as a share of real frames', by frame: falls when pictures blur, rises when they break up.
    pub sharpness: BTreeMap<u32, f64>,
}

/// Runs `rollouts` rollouts of `frames` frames and measures them.
pub(crate) fn drift(
    world: &Arc<World>,
    dataset: &Dataset,
    (rollouts, frames, prompt): (usize, usize, usize),
    observer: &mut dyn TrainObserver,
    cancel: &AtomicBool,
) -> Result<Drift> {
    let size = dataset.frame_size();
    let features =
        generated_features(world, dataset, (rollouts, frames, prompt), observer, cancel)?;
    let stretch = STRETCH
        .min(longest_episode(dataset).saturating_sub(1))
        .max(1);
    let sampler = ClipSampler::held_out(dataset, stretch + 1)?;
    let real = |clip: &Clip| -> Result<Vec<Vec<f64>>> {
        let frames = true_frames(dataset, clip)?;
        Ok(frames
            .windows(2)
            .map(|pair| features_of(&pair[0], &pair[1], size))
            .collect())
    };
    let reference = sampler
        .fixed(REFERENCE_STRETCHES)
        .par_iter()
        .map(real)
        .collect::<Result<Vec<_>>>()?
        .concat();
    let yardstick = Yardstick::new(&reference, AXES);
    let mut random = generator(0xd21f7, 0);
    let units = (0..DRAWS).map(|_| {
        let clips: Vec<Clip> = (0..rollouts).map(|_| sampler.draw(&mut random)).collect();
        let drawn = clips.par_iter().map(real).collect::<Result<Vec<_>>>()?;
        Ok(yardstick.distance(&drawn.concat()))
    });
    let unit = mean(&units.collect::<Result<Vec<_>>>()?).max(1e-9);
    let edges =
        |features: &[Vec<f64>]| mean(&features.iter().map(|f| sharpness(f)).collect::<Vec<_>>());
    let real_edges = edges(&reference).max(1e-9);
    let mut drift = Drift {
        distance: BTreeMap::new(),
        sharpness: BTreeMap::new(),
    };
    for point in POINTS.into_iter().filter(|&point| point as usize <= frames) {
        let end = point as usize;
        let cloud: Vec<Vec<f64>> = features
            .iter()
            .flat_map(|rollout| rollout[end.saturating_sub(stretch)..end].iter().cloned())
            .collect();
        drift
            .distance
            .insert(point, yardstick.distance(&cloud) / unit);
        drift.sharpness.insert(point, edges(&cloud) / real_edges);
    }
    Ok(drift)
}

fn longest_episode(dataset: &Dataset) -> usize {
    let longest = |split| dataset.episodes(split).iter().map(|e| e.length).max();
    longest(Split::Validation)
        .or_else(|| longest(Split::Train))
        .unwrap_or(0)
}

/// Features of every generated frame, by rollout.
fn generated_features(
    world: &Arc<World>,
    dataset: &Dataset,
    (rollouts, frames, prompt): (usize, usize, usize),
    observer: &mut dyn TrainObserver,
    cancel: &AtomicBool,
) -> Result<Vec<Vec<Vec<f64>>>> {
    /// Frames between reports of progress.
    const ROUND: usize = 10;
    struct Running {
        rollout: Rollout,
        player: RandomPlayer,
        last: Frame,
        features: Vec<Vec<f64>>,
    }
    let sampler = ClipSampler::held_out(dataset, prompt)?;
    let mut random = generator(0xd21f7, 1);
    let mut running = (0..rollouts)
        .map(|number| {
            let clip = sampler.draw(&mut random);
            let seed = random.random();
            let settings = RolloutSettings::of(&world.manifest, seed);
            let rollout = Rollout::start(world.clone(), &true_frames(dataset, &clip)?, settings)?;
            Ok(Running {
                last: rollout.frame()?,
                rollout,
                player: RandomPlayer::new(number as u64, world.manifest.codes()),
                features: Vec::with_capacity(frames),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let size = dataset.frame_size();
    for start in (0..frames).step_by(ROUND) {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let round = ROUND.min(frames - start);
        running.par_iter_mut().try_for_each(|running| {
            for _ in 0..round {
                let frame = running.rollout.step(&running.player.next_wish())?.frame;
                running
                    .features
                    .push(features_of(&running.last, &frame, size));
                running.last = frame;
            }
            Ok::<_, Error>(())
        })?;
        observer.observe(&TrainEvent::Work {
            what: "evaluation: long rollouts",
            done: (start + round) as u64,
            total: frames as u64,
        });
    }
    Ok(running.into_iter().map(|r| r.features).collect())
}

/// Features of a frame, given the one before: colours, edges, histogram of edges, change.
fn features_of(before: &Frame, frame: &Frame, size: FrameSize) -> Vec<f64> {
    let (before, frame) = (unit(before), unit(frame));
    let at = |y: usize, x: usize, c: usize| f64::from(frame[(y * size.width + x) * 3 + c]);
    let mut colours = vec![0.0; CELLS * CELLS * 3];
    let mut edges = vec![0.0; CELLS * CELLS];
    let mut histogram = vec![0.0; BINS];
    let mut change = vec![0.0; 4];
    let mut counts = [0.0; CELLS * CELLS];
    for y in 0..size.height {
        for x in 0..size.width {
            let cell = (y * CELLS / size.height) * CELLS + x * CELLS / size.width;
            let quarter = (y * 2 / size.height) * 2 + x * 2 / size.width;
            let (below, right) = ((y + 1).min(size.height - 1), (x + 1).min(size.width - 1));
            let mut edge = 0.0;
            for c in 0..3 {
                let value = at(y, x, c);
                colours[cell * 3 + c] += value;
                edge += ((at(below, x, c) - value).abs() + (at(y, right, c) - value).abs()) / 6.0;
                let index = (y * size.width + x) * 3 + c;
                change[quarter] += f64::from((frame[index] - before[index]).abs()) / 3.0;
            }
            edges[cell] += edge;
            counts[cell] += 1.0;
            // Each bin is twice as wide as the one before.
            let bin = ((edge * 256.0 + 1.0).log2() as usize).min(BINS - 1);
            histogram[bin] += 1.0;
        }
    }
    let pixels = (size.height * size.width) as f64;
    for cell in 0..CELLS * CELLS {
        let count = f64::max(counts[cell], 1.0);
        edges[cell] /= count;
        colours[cell * 3..cell * 3 + 3]
            .iter_mut()
            .for_each(|c| *c /= count);
    }
    histogram.iter_mut().for_each(|h| *h /= pixels);
    change.iter_mut().for_each(|c| *c /= pixels / 4.0);
    [edges, colours, histogram, change].concat()
}

/// Mean edge strength, from features.
fn sharpness(features: &[f64]) -> f64 {
    mean(&features[..CELLS * CELLS])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: FrameSize = FrameSize {
        height: 16,
        width: 24,
    };

    fn frame(value: impl Fn(usize, usize) -> u8) -> Frame {
        let pixels = (0..SIZE.height).flat_map(|y| (0..SIZE.width).map(move |x| (y, x)));
        Frame::new(SIZE, pixels.flat_map(|(y, x)| [value(y, x); 3]).collect()).unwrap()
    }

    #[test]
    fn features_tell_colour_edges_and_change_apart() {
        let grey = frame(|_, _| 128);
        let stripes = frame(|_, x| if x % 2 == 0 { 255 } else { 0 });
        let flat = features_of(&grey, &grey, SIZE);
        assert_eq!(sharpness(&flat), 0.0);
        assert_eq!(flat.len(), CELLS * CELLS * 4 + BINS + 4);
        assert!((flat[CELLS * CELLS] - 128.0 / 255.0).abs() < 1e-6);
        assert_eq!(flat[flat.len() - 4..], [0.0; 4]);
        let striped = features_of(&grey, &stripes, SIZE);
        assert!(sharpness(&striped) > 0.4);
        assert!(striped[striped.len() - 1] > 0.4);
        let bins = &striped[CELLS * CELLS * 4..][..BINS];
        assert!((bins.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }
}
