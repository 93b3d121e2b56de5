//! What comes of wishes: whether the world obeys a key, comes to rest, and plays as real video does.
//!
//! From each of some held-out starts every bound key is held, then nothing but the idle code is wished for, then the world is left to itself.
//! Judged are the codes that were played and how the pictures moved:
//!
//! - *obedience*: a wished code is played within a few frames, counted where real video shows that it can be: where one of the key's codes
//!   follows the start's last code soon, often enough;
//! - *rest*: where a held key no longer moves anything, as at a wall, the picture stays still;
//! - *landing*: what rose under a held key stops falling again;
//! - *plausibility*: what the action prior thinks of the codes that were played, and how long the view goes up and down at a stretch,
//!   beside the same of real video.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nn::{ActionCode, in_this_scope};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use worlds::{
    Motion, Rollout, RolloutSettings, Snapshot, Wish, World, WorldManifest, codes_by_chord,
    motion_between,
};

use super::prior::chance_of;
use super::rollouts::{inferred_codes, true_frames};
use crate::clips::{Clip, ClipSampler, longest_episode};
use crate::dataset::{Dataset, Split};
use crate::measure::mean;
use crate::observer::{TrainEvent, TrainObserver};
use crate::{Error, Result};

/// Frames for which a key is held.
const HELD: usize = 60;
/// Frames within which a wish should be obeyed.
pub(super) const SOON: usize = 5;
/// A code can follow another soon where it does so in at least this share of the real changes.
const POSSIBLE: f64 = 0.05;
/// Frames that the idle code gets to come to rest, before it is to stay there for [`HELD`].
const SETTLING: usize = 30;
/// Still frames in a row, after the first half of a hold, that mean that something stops the view; and those at the end that mean rest.
const STOPPED: usize = 4;
const RESTING: usize = 10;
/// A view that rose by so many pixels in a frame of 64 has left the ground.
const ROSE: f32 = 3.0;
/// Real clips that say which codes follow which, and how long the view moves up and down.
const REAL_CLIPS: usize = 64;

/// What came of wishes, from some starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WishFigures {
    /// Starts from which every key was held.
    pub starts: usize,
    /// Frames for which each was held.
    pub frames: usize,
    /// By key: the first binding of those that wish for the same codes.
    pub keys: BTreeMap<String, KeyFigures>,
    /// Starts from which the picture, once come to rest under the idle code, stayed still; `None` in worlds without one.
    pub stayed_idle: Option<Share>,
    /// Mean log-probability under the action prior of the codes played under keys, in nats.
    pub plausibility: f64,
    /// Mean length in frames of the view's motions up and down when the world plays itself; `None` where there are none.
    pub rise_and_fall: Option<f64>,
    /// The same of real video.
    pub rise_and_fall_real: Option<f64>,
}

/// What came of holding one key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeyFigures {
    /// Names of the codes that it wishes for.
    pub wishes: String,
    /// Starts where it can be obeyed, and those of them where it was within five frames.
    pub obeyed: Share,
    /// Mean number of frames after which it was obeyed, where it was at all.
    pub frames_to_obey: Option<f64>,
    /// Starts where the view was stopped, and those of them where it was still at the end.
    pub rested: Share,
    /// Starts where the view rose, and those of them where it stopped falling later.
    pub landed: Share,
}

/// A part of some cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Those that were as they should be.
    pub good: usize,
    /// All that could be judged.
    pub of: usize,
}

impl Share {
    fn add(&mut self, good: bool) {
        self.good += usize::from(good);
        self.of += 1;
    }

    pub(super) fn to_text(self) -> String {
        format!("{} of {}", self.good, self.of)
    }
}

/// Where keys are held from.
struct Start {
    state: Snapshot,
    /// The code of the last change before.
    last: Option<ActionCode>,
}

impl Start {
    fn new(world: &Arc<World>, dataset: &Dataset, clip: &Clip) -> Result<Self> {
        let frames = true_frames(dataset, clip)?;
        let settings = RolloutSettings::of(&world.manifest, 0);
        Ok(Self {
            state: Rollout::start(world.clone(), &frames, settings)?.snapshot(),
            last: inferred_codes(world, &frames)?.into_frame(frames.len() - 1),
        })
    }
}

/// Frames under one wish.
struct Held {
    codes: Vec<ActionCode>,
    surprise: Vec<f64>,
    motions: Vec<Motion>,
}

/// Holds every key of a world from `starts` true beginnings of `prompt` frames.
///
/// # Errors
/// When the world fails, or `cancel` became true.
pub(super) fn wishes(
    world: &Arc<World>,
    (dataset, split): (&Dataset, Split),
    (starts, prompt): (usize, usize),
    observer: &mut dyn TrainObserver,
    cancel: &AtomicBool,
) -> Result<WishFigures> {
    let scale = world.manifest.frame.height as f32 / 64.0;
    let real = Real::new(world, (dataset, split), scale)?;
    let clips = ClipSampler::new(dataset, split, prompt)?.fixed(starts);
    let starts: Vec<Start> = clips
        .iter()
        .map(|clip| Start::new(world, dataset, clip))
        .collect::<Result<_>>()?;
    let keys = keys(&world.manifest);
    let kinds = keys.len() + 2;
    let mut done = 0;
    let mut hold = |wish: &Wish, frames: usize| -> Result<Vec<Held>> {
        observer.observe(&TrainEvent::Work {
            what: "evaluation: wishes",
            done,
            total: kinds as u64,
        });
        done += 1;
        let of_start = |(number, start): (usize, &Start)| {
            let settings = RolloutSettings::of(&world.manifest, number as u64);
            let rollout = Rollout::resume(world.clone(), &start.state, settings)?;
            held(rollout, (wish, frames), cancel)
        };
        starts
            .par_iter()
            .enumerate()
            .map(in_this_scope(of_start))
            .collect()
    };
    let mut surprise = Vec::new();
    let mut figures = BTreeMap::new();
    for (key, wish) in keys {
        let all = hold(&wish, HELD)?;
        let mut of_key = KeyFigures {
            wishes: wish.to_text(&world.manifest),
            ..KeyFigures::default()
        };
        let mut waits = Vec::new();
        for (held, start) in all.iter().zip(&starts) {
            let wait = held
                .codes
                .iter()
                .position(|code| wish.codes().contains(code));
            waits.extend(wait.map(|frames| (frames + 1) as f64));
            if real.can_follow(start.last, &wish) {
                of_key.obeyed.add(wait.is_some_and(|frames| frames < SOON));
            }
            judge_motion(&held.motions, scale, &mut of_key);
            surprise.extend(&held.surprise);
        }
        of_key.frames_to_obey = (!waits.is_empty()).then(|| mean(&waits));
        figures.insert(key, of_key);
    }
    let stayed_idle = match world.manifest.idle {
        Some(idle) => {
            let wish = [idle].into_iter().collect();
            let mut share = Share::default();
            for held in hold(&wish, SETTLING + HELD)? {
                let after = &held.motions[SETTLING..];
                share.add(after.iter().all(|motion| is_still(motion, scale)));
            }
            Some(share)
        }
        None => None,
    };
    let alone = hold(&Wish::none(), HELD)?;
    let motions = alone.iter().map(|held| held.motions.as_slice());
    Ok(WishFigures {
        starts: starts.len(),
        frames: HELD,
        keys: figures,
        stayed_idle,
        plausibility: -mean(&surprise),
        rise_and_fall: rise_and_fall(motions, scale),
        rise_and_fall_real: real.rise_and_fall,
    })
}

/// What the world binds, without what wishes for the same as something before it, each with its wish. What is bound to the idle code alone is
/// left out: that is judged by itself.
fn keys(manifest: &WorldManifest) -> Vec<(String, Wish)> {
    let codes = codes_by_chord(&manifest.actions);
    let idle = manifest.idle.map(|code| [code].into_iter().collect());
    let mut keys: Vec<(String, Wish)> = Vec::new();
    for chord in manifest.actions.iter().flat_map(|action| action.chords()) {
        let wish: Wish = codes.get(&chord).into_iter().flatten().copied().collect();
        if idle.as_ref() != Some(&wish) && keys.iter().all(|(_, other)| *other != wish) {
            keys.push((chord.to_string(), wish));
        }
    }
    keys
}

fn held(mut rollout: Rollout, (wish, frames): (&Wish, usize), cancel: &AtomicBool) -> Result<Held> {
    let mut last = rollout.frame()?;
    let mut held = Held {
        codes: Vec::new(),
        surprise: Vec::new(),
        motions: Vec::new(),
    };
    for _ in 0..frames {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let code = rollout.choose(wish)?;
        let chance = chance_of(rollout.prior(), code);
        let frame = rollout.step_with_code(code)?.frame;
        held.codes.push(code);
        held.surprise.push(-f64::from(chance).ln());
        held.motions.push(motion_between(&last, &frame));
        last = frame;
    }
    Ok(held)
}

/// What real video shows.
struct Real {
    /// Codes of real clips, in order.
    clips: Vec<Vec<ActionCode>>,
    rise_and_fall: Option<f64>,
}

impl Real {
    fn new(world: &Arc<World>, (dataset, split): (&Dataset, Split), scale: f32) -> Result<Self> {
        let length = longest_episode(dataset, split).min(HELD + 1);
        let sampler = ClipSampler::new(dataset, split, length)?;
        let seen = |clip: &Clip| {
            let frames = true_frames(dataset, clip)?;
            let codes = inferred_codes(world, &frames)?;
            let codes = (0..frames.len()).filter_map(|frame| codes.into_frame(frame));
            let pairs = frames.windows(2);
            let motions = pairs.map(|pair| motion_between(&pair[0], &pair[1]));
            Ok((codes.collect(), motions.collect()))
        };
        let clips = sampler.fixed(REAL_CLIPS);
        let seen = clips
            .par_iter()
            .map(in_this_scope(seen))
            .collect::<Result<Vec<_>>>()?;
        let (codes, motions): (Vec<Vec<ActionCode>>, Vec<Vec<Motion>>) = seen.into_iter().unzip();
        Ok(Self {
            clips: codes,
            rise_and_fall: rise_and_fall(motions.iter().map(Vec::as_slice), scale),
        })
    }

    /// Whether one of the wished codes comes soon after this one, often enough.
    fn can_follow(&self, last: Option<ActionCode>, wish: &Wish) -> bool {
        let Some(last) = last else { return true };
        let windows = self.clips.iter().flat_map(|codes| codes.windows(SOON + 1));
        let mut share = Share::default();
        for window in windows.filter(|window| window[0] == last) {
            share.add(window[1..].iter().any(|code| wish.codes().contains(code)));
        }
        share.good as f64 >= POSSIBLE * share.of as f64 && share.good > 0
    }
}

fn is_still(motion: &Motion, scale: f32) -> bool {
    motion.extent() < Motion::STILL * scale && motion.approach.abs() < Motion::APPROACH * scale
}

/// Whether a hold was stopped and rested, rose and landed.
fn judge_motion(motions: &[Motion], scale: f32, figures: &mut KeyFigures) {
    let still: Vec<bool> = motions.iter().map(|m| is_still(m, scale)).collect();
    let (_, late) = still.split_at(still.len() / 2);
    if late
        .windows(STOPPED)
        .any(|run| run.iter().all(|&still| still))
    {
        let end = &late[late.len().saturating_sub(RESTING)..];
        figures.rested.add(end.iter().all(|&still| still));
    }
    let down: Vec<f32> = motions.iter().map(|m| m.total().1).collect();
    let heights = down.iter().scan(0.0, |height: &mut f32, down| {
        *height -= down;
        Some(*height)
    });
    let left_ground = heights
        .into_iter()
        .position(|height| height >= ROSE * scale);
    if let Some(rose) = left_ground {
        let after = &down[rose..];
        let falls = |down: &f32| *down > Motion::STILL * scale;
        let landed = after
            .windows(2)
            .any(|pair| falls(&pair[0]) && !falls(&pair[1]));
        figures.landed.add(landed);
    }
}

/// Mean number of frames for which the view goes up or down at a stretch; stretches of a single frame are noise, and those that are cut off by the
/// end of a clip are not counted.
fn rise_and_fall<'a>(clips: impl Iterator<Item = &'a [Motion]>, scale: f32) -> Option<f64> {
    let mut lengths = Vec::new();
    for motions in clips {
        let mut run = 0;
        for motion in motions {
            if motion.total().1.abs() >= Motion::STILL * scale {
                run += 1;
                continue;
            }
            if run > 1 {
                lengths.push(f64::from(run));
            }
            run = 0;
        }
    }
    (!lengths.is_empty()).then(|| mean(&lengths))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clips::tests::noise;

    fn moving(steps: &[(f32, f32)]) -> Vec<Motion> {
        let motion = |&view: &(f32, f32)| Motion {
            view,
            ..Motion::default()
        };
        steps.iter().map(motion).collect()
    }

    fn judged(steps: &[(f32, f32)]) -> KeyFigures {
        let mut figures = KeyFigures::default();
        judge_motion(&moving(steps), 1.0, &mut figures);
        figures
    }

    #[test]
    fn a_view_that_is_stopped_is_to_stay_still() {
        let walk = |still: usize, then: usize| {
            let mut steps = vec![(2.0, 0.0); 60 - still - then];
            steps.extend(vec![(0.1, -0.1); still]);
            steps.extend(vec![(-2.0, 0.0); then]);
            judged(&steps).rested
        };
        assert_eq!(walk(40, 0), Share { good: 1, of: 1 });
        assert_eq!(walk(20, 5), Share { good: 0, of: 1 });
        assert_eq!(walk(3, 0), Share { good: 0, of: 0 });
    }

    #[test]
    fn what_rises_is_to_stop_falling() {
        let jump = |up: usize, down: usize, after: usize| {
            let mut steps = vec![(0.0, -1.5); up];
            steps.extend(vec![(0.0, 1.5); down]);
            steps.extend(vec![(0.0, 0.0); after]);
            judged(&steps).landed
        };
        assert_eq!(jump(6, 6, 4), Share { good: 1, of: 1 });
        assert_eq!(
            jump(6, 20, 0),
            Share { good: 0, of: 1 },
            "it falls for ever"
        );
        assert_eq!(
            jump(20, 0, 9),
            Share { good: 0, of: 1 },
            "it hangs in the air"
        );
        assert_eq!(jump(1, 9, 4), Share { good: 0, of: 0 }, "it never rose");
    }

    #[test]
    fn rises_and_falls_are_measured_where_both_ends_are_seen() {
        let up = (0.0, -2.0);
        let rest = (1.0, 0.0);
        let one = moving(&[rest, up, up, up, rest, up, rest, up, up]);
        assert_eq!(rise_and_fall([one.as_slice()].into_iter(), 1.0), Some(3.0));
        let level = moving(&[rest; 5]);
        assert_eq!(rise_and_fall([level.as_slice()].into_iter(), 1.0), None);
    }

    #[test]
    fn a_key_can_be_obeyed_where_real_video_shows_it_often_enough() {
        let codes = |numbers: &[u16]| numbers.iter().copied().map(ActionCode).collect::<Vec<_>>();
        let mut clips = vec![codes(&[0, 1, 1, 1, 1, 1, 1]); 30];
        clips.push(codes(&[0, 1, 1, 2, 1, 1, 1]));
        let real = Real {
            clips,
            rise_and_fall: None,
        };
        let can = |last: u16, code: u16| {
            real.can_follow(
                Some(ActionCode(last)),
                &[ActionCode(code)].into_iter().collect(),
            )
        };
        assert!(can(0, 1));
        assert!(!can(0, 2), "once in 31 times");
        assert!(!can(2, 1), "never with enough after it");
    }

    #[test]
    fn keys_that_wish_for_the_same_are_held_once_and_idle_ones_not_at_all() {
        let mut manifest = worlds::tiny_contents(1).unwrap().manifest;
        let bind = ["ArrowUp KeyW", "ArrowUp KeyW", "ArrowDown", ""];
        for (action, keys) in manifest.actions.iter_mut().zip(bind) {
            action.bindings = keys.split_whitespace().map(str::to_owned).collect();
        }
        manifest.idle = Some(ActionCode(2));
        let wish = [0, 1].map(ActionCode).into_iter().collect();
        assert_eq!(keys(&manifest), [("ArrowUp".to_owned(), wish)]);
    }

    #[test]
    fn every_key_of_a_world_is_held_from_every_start() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = noise(&folder.path().join("d"), 15.0, &[(40, Split::Train)]);
        let world = Arc::new(worlds::tiny_world(1).unwrap());
        let run = |cancelled: bool| {
            let cancel = AtomicBool::new(cancelled);
            let video = (&dataset, Split::Train);
            wishes(&world, video, (3, 4), &mut |_: &TrainEvent| {}, &cancel)
        };
        let figures = run(false).unwrap();
        assert_eq!(figures.starts, 3);
        assert_eq!(figures.keys.len(), keys(&world.manifest).len());
        assert!(figures.keys.values().all(|key| key.obeyed.of <= 3));
        assert!(figures.plausibility < 0.0);
        assert_eq!(
            figures.stayed_idle.map(|share| share.of),
            world.manifest.idle.map(|_| 3)
        );
        assert!(matches!(run(true), Err(Error::Cancelled)));
    }
}
