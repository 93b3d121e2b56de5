//! Drift: how far long rollouts stray from what real frames look like.
//!
//! Several rollouts run under the random player. Around a point, say frame 200, the last 50 frames of all of them (151 to
//! 200) make one cloud of features; real held-out frames make the reference. Features know nothing of the tokenizer: mean
//! colours of a 4x4 grid, edge strength in the same cells and its histogram, and change since the frame before in 2x2
//! cells. The distance is the squared Fréchet distance of Gaussians over the 16 leading principal axes of the reference's
//! features (each scaled to unit variance), *divided by the same distance of equally much real video* in equally long
//! stretches. So 1 means: no further from the average of real video than so little real video usually is.
//!
//! That unit means something only where so much real video is a small part of all there is. Where there is little, stretches are shorter and
//! rollouts fewer; where there is next to none, drift is not given at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nn::{FrameSize, generator, in_this_scope};
use rand::Rng;
use rayon::prelude::*;
use worlds::{Frame, RandomPlayer, Rollout, RolloutSettings, World};

use super::figures::DriftMeasure;
use super::frechet::Yardstick;
use super::rollouts::{true_frames, unit};
use crate::clips::{Clip, ClipSampler};
use crate::dataset::{Dataset, Split};
use crate::measure::mean;
use crate::observer::{TrainEvent, TrainObserver};
use crate::{Error, Result};

/// Frames at which drift is measured.
pub(crate) const POINTS: [u32; 5] = [50, 200, 500, 1000, 2000];
/// Frames up to a point that stand for it; fewer, down to the shortest, where there is little real video.
const STRETCH: usize = 50;
const SHORTEST_STRETCH: usize = 10;
/// Disjoint stretches that real video must have for each rollout.
const SPARE: usize = 2;
/// Real video whose draws are closer than this to all of it does not change enough to measure anything with.
const LEAST_UNIT: f64 = 1e-3;
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
    /// What was compared with what.
    pub measure: DriftMeasure,
}

/// Runs up to `rollouts` rollouts of `frames` frames and measures them.
///
/// # Errors
/// [`Error::TooLittleVideo`] when the real video is not enough to compare with.
pub(crate) fn drift(
    world: &Arc<World>,
    (dataset, split): (&Dataset, Split),
    (rollouts, frames, prompt): (usize, usize, usize),
    observer: &mut dyn TrainObserver,
    cancel: &AtomicBool,
) -> Result<Drift> {
    let lengths: Vec<usize> = dataset.episodes(split).iter().map(|e| e.length).collect();
    let Some(measure) = measure(&lengths, rollouts) else {
        return Err(Error::TooLittleVideo(format!(
            "there is too little real video to compare with ({SPARE} stretches of {SHORTEST_STRETCH} frames are needed at least)"
        )));
    };
    let reference = Reference::new((dataset, split), measure)?;
    if reference.unit < LEAST_UNIT {
        return Err(Error::TooLittleVideo(
            "the real video hardly changes, so that there is no unit to measure in".to_owned(),
        ));
    }
    let start = ClipSampler::new(dataset, split, prompt)?;
    let amount = (measure.rollouts, frames);
    let features = generated_features(world, dataset, &start, amount, observer, cancel)?;
    let mut drift = Drift {
        distance: BTreeMap::new(),
        sharpness: BTreeMap::new(),
        measure,
    };
    for point in POINTS.into_iter().filter(|&point| point as usize <= frames) {
        let end = point as usize;
        let cloud: Vec<Vec<f64>> = features
            .iter()
            .flat_map(|rollout| rollout[end.saturating_sub(measure.stretch)..end].iter())
            .cloned()
            .collect();
        let distance = reference.yardstick.distance(&cloud) / reference.unit;
        drift.distance.insert(point, distance);
        drift
            .sharpness
            .insert(point, edges(&cloud) / reference.edges);
    }
    Ok(drift)
}

/// How much can be compared with real episodes of these lengths, where `rollouts` rollouts were asked for; `None` if nothing can.
fn measure(lengths: &[usize], rollouts: usize) -> Option<DriftMeasure> {
    // The first frame of an episode has no features: there is none before it.
    let disjoint = |stretch: usize| -> usize {
        let changes = lengths.iter().map(|length| length.saturating_sub(1));
        changes.map(|changes| changes / stretch).sum()
    };
    let stretch = (SHORTEST_STRETCH..=STRETCH)
        .rev()
        .find(|&stretch| disjoint(stretch) >= SPARE)?;
    Some(DriftMeasure {
        rollouts: rollouts.min(disjoint(stretch) / SPARE),
        stretch,
        real_frames: lengths.iter().sum(),
    })
}

/// Real video to compare with.
struct Reference {
    yardstick: Yardstick,
    /// Distance of as much real video as is compared with it.
    unit: f64,
    /// Mean edge strength.
    edges: f64,
}

impl Reference {
    fn new((dataset, split): (&Dataset, Split), measure: DriftMeasure) -> Result<Self> {
        let size = dataset.frame_size();
        let sampler = ClipSampler::new(dataset, split, measure.stretch + 1)?;
        let features = |clips: &[Clip]| -> Result<Vec<Vec<f64>>> {
            let of_clip = |clip: &Clip| {
                let frames = true_frames(dataset, clip)?;
                let pairs = frames.windows(2);
                Ok(pairs
                    .map(|pair| features_of(&pair[0], &pair[1], size))
                    .collect::<Vec<_>>())
            };
            let features = clips.par_iter().map(of_clip).collect::<Result<Vec<_>>>()?;
            Ok(features.concat())
        };
        let all = features(&sampler.fixed(REFERENCE_STRETCHES))?;
        let yardstick = Yardstick::new(&all, AXES);
        let mut random = generator(0xd21f7, 0);
        let units = (0..DRAWS).map(|_| {
            let drawn: Vec<Clip> = (0..measure.rollouts)
                .map(|_| sampler.draw(&mut random))
                .collect();
            Ok(yardstick.distance(&features(&drawn)?))
        });
        Ok(Self {
            unit: mean(&units.collect::<Result<Vec<_>>>()?),
            edges: edges(&all).max(1e-9),
            yardstick,
        })
    }
}

/// Mean edge strength of frames, from their features.
fn edges(features: &[Vec<f64>]) -> f64 {
    mean(&features.iter().map(|f| sharpness(f)).collect::<Vec<_>>())
}

/// Features of every generated frame, by rollout; each starts from a clip of `start`.
fn generated_features(
    world: &Arc<World>,
    dataset: &Dataset,
    start: &ClipSampler<'_>,
    (rollouts, frames): (usize, usize),
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
    let mut random = generator(0xd21f7, 1);
    let mut running = (0..rollouts)
        .map(|number| {
            let clip = start.draw(&mut random);
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
        let step_on = in_this_scope(|running: &mut Running| {
            for _ in 0..round {
                let frame = running.rollout.step(&running.player.next_wish())?.frame;
                running
                    .features
                    .push(features_of(&running.last, &frame, size));
                running.last = frame;
            }
            Ok::<_, Error>(())
        });
        running.par_iter_mut().try_for_each(step_on)?;
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
    fn little_real_video_is_compared_with_fewer_and_shorter_rollouts_and_next_to_none_with_nothing()
    {
        let compared = |lengths: &[usize], rollouts| {
            measure(lengths, rollouts).map(|m| (m.rollouts, m.stretch, m.real_frames))
        };
        assert_eq!(compared(&[200; 20], 6), Some((6, 50, 4000)));
        assert_eq!(compared(&[101, 101, 60], 6), Some((2, 50, 262)));
        assert_eq!(compared(&[40, 40], 2), Some((1, 39, 80)));
        assert_eq!(compared(&[75], 6), Some((1, 37, 75)));
        // One stretch only: every draw would be all that there is, and its distance from itself nothing.
        assert_eq!(compared(&[20], 6), None);
        assert_eq!(compared(&[10, 10, 10], 6), None);
        assert_eq!(compared(&[], 6), None);
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
