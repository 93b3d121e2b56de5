//! How fast play goes: the rate that it reaches, and MaskGIT steps that give way where the machine is too slow.

use std::collections::VecDeque;
use std::time::{Duration, Instant};
use worlds::StepRange;

/// Frames after which the steps may change again.
const FRAMES_BETWEEN: usize = 12;
/// Share of a frame's time above which frames take too long.
const TOO_SLOW: f64 = 0.95;
/// Share of a frame's time that one more step may lead to.
const ROOM: f64 = 0.75;

/// Chooses MaskGIT steps that the machine keeps up with: fewer where frames take too long, more again where there is room, never more than
/// are wanted and never outside the world's range.
#[derive(Clone, Debug, Default)]
pub struct AdaptiveSteps {
    times: Vec<Duration>,
}

impl AdaptiveSteps {
    /// Takes in the time that a frame with `steps` steps took, where each may take `interval`. Returns other steps for the next frames, if that
    /// is called for.
    pub fn next(
        &mut self,
        time: Duration,
        interval: Duration,
        steps: usize,
        wanted: usize,
        range: StepRange,
    ) -> Option<usize> {
        self.times.push(time);
        if self.times.len() < FRAMES_BETWEEN {
            return None;
        }
        let mut times = std::mem::take(&mut self.times);
        times.sort_unstable();
        let median = times[times.len() / 2].as_secs_f64();
        let share = median / interval.as_secs_f64().max(1e-9);
        // A frame is its steps, and about as much as one of them for all else.
        let with_one_more = share * (steps + 2) as f64 / (steps + 1) as f64;
        let most = wanted.min(range.most);
        if steps > most || (share > TOO_SLOW && steps > range.least) {
            Some((steps - 1).max(range.least))
        } else if with_one_more < ROOM && steps < most {
            Some(steps + 1)
        } else {
            None
        }
    }
}

/// The frames of the last two seconds, to tell how many come in a second.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    frames: VecDeque<Instant>,
}

impl Rate {
    /// A frame came at `now`.
    pub fn add(&mut self, now: Instant) {
        self.frames.push_back(now);
        let recent = |frame: &Instant| now.duration_since(*frame) <= Duration::from_secs(2);
        while self.frames.front().is_some_and(|frame| !recent(frame)) && self.frames.len() > 2 {
            self.frames.pop_front();
        }
    }

    /// Play stood still: what was before says nothing of what comes.
    pub fn clear(&mut self) {
        self.frames.clear();
    }

    /// Frames in a second; 0 before there are two frames.
    pub fn per_second(&self) -> f64 {
        let (Some(first), Some(last)) = (self.frames.front(), self.frames.back()) else {
            return 0.0;
        };
        let seconds = last.duration_since(*first).as_secs_f64();
        match seconds > 0.0 {
            true => (self.frames.len() - 1) as f64 / seconds,
            false => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RANGE: StepRange = StepRange { least: 1, most: 8 };
    const INTERVAL: Duration = Duration::from_millis(66);

    /// Steps after `frames` frames on a machine that needs `per_pass` for each step and once more.
    fn settled(per_pass: u64, wanted: usize, mut steps: usize, frames: usize) -> Vec<usize> {
        let mut adaptive = AdaptiveSteps::default();
        let mut all = Vec::new();
        for _ in 0..frames {
            let time = Duration::from_millis(per_pass * (steps as u64 + 1));
            steps = adaptive
                .next(time, INTERVAL, steps, wanted, RANGE)
                .unwrap_or(steps);
            all.push(steps);
        }
        all
    }

    #[test]
    fn steps_give_way_to_a_slow_machine_and_come_back_on_a_fast_one() {
        assert_eq!(settled(20, 4, 4, 100).last(), Some(&2));
        assert_eq!(settled(100, 4, 4, 100).last(), Some(&1));
        assert_eq!(settled(5, 4, 1, 100).last(), Some(&4));
        assert_eq!(settled(5, 20, 1, 200).last(), Some(&8));
    }

    #[test]
    fn one_slow_frame_changes_nothing() {
        let mut adaptive = AdaptiveSteps::default();
        for frame in 0..60 {
            let time = Duration::from_millis(if frame % 12 == 3 { 900 } else { 40 });
            assert_eq!(adaptive.next(time, INTERVAL, 2, 2, RANGE), None);
        }
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(), 0.0);
        for frame in 0..100u64 {
            let gap = if frame < 50 { 100 } else { 50 };
            let at = frame.min(50) * 100 + frame.saturating_sub(50) * gap;
            rate.add(start + Duration::from_millis(at));
        }
        assert!((rate.per_second() - 20.0).abs() < 0.1);
        rate.clear();
        assert_eq!(rate.per_second(), 0.0);
    }

    proptest! {
        #[test]
        fn steps_settle_within_the_range(per_pass in 1u64..200, wanted in 1usize..20, steps in 1usize..8) {
            let all = settled(per_pass, wanted, steps, 400);
            prop_assert!(all.iter().all(|steps| (1..=8).contains(steps)));
            let last = *all.last().unwrap();
            prop_assert!(last <= wanted.max(1));
            prop_assert!(all[300..].iter().all(|steps| *steps == last), "{:?}", &all[300..]);
        }
    }
}
