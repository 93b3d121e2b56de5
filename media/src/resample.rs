//! Changes the frame rate of a source by its presentation times.

use crate::Error;

/// How far before its time a source picture may be used, as a share of the output interval. It absorbs clocks that count
/// in whole milliseconds; it must stay under one source interval of a source several times as fast.
const TOLERANCE: f64 = 0.2;

/// Longest pause, in seconds, that is filled with repetitions of the picture before it. A longer one is a break.
const LONGEST_HOLD: f64 = 10.0;

/// Seconds that times may run back by. Where they run back further, another recording begins.
const LONGEST_STEP_BACK: f64 = 1.0;

/// Picks, for every output picture, the source picture that is on screen at that moment.
///
/// Show it the source's times in order; it answers how often to put out the picture *before* the one just announced.
/// At the end, [`Resampler::finish`] says how often to put out the last one.
#[derive(Debug, Clone)]
pub struct Resampler {
    interval: f64,
    origin: Option<f64>,
    latest: f64,
    /// Time between the last two pictures.
    step: f64,
    emitted: u64,
}

/// Answer to one announced source picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeats {
    /// How often the picture before the announced one is to be put out.
    pub previous: u64,
    /// The source paused for so long, or its clock began anew, that what follows is no continuation.
    pub pause: bool,
}

impl Resampler {
    /// A resampler to `frames_per_second`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] for a rate that is not positive or over 1,000.
    pub fn new(frames_per_second: f64) -> Result<Self, Error> {
        if !(frames_per_second > 0.0 && frames_per_second <= 1000.0) {
            return Err(Error::InvalidSetting {
                what: "frame rate",
                expected: "over 0 and at most 1000 frames per second".to_owned(),
                got: frames_per_second.to_string(),
            });
        }
        Ok(Self {
            interval: 1.0 / frames_per_second,
            origin: None,
            latest: 0.0,
            step: f64::INFINITY,
            emitted: 0,
        })
    }

    /// Announces the next source picture, shown from `seconds` on. Times that run back a little count as standing still.
    pub fn announce(&mut self, seconds: f64) -> Repeats {
        let Some(origin) = self.origin else {
            self.origin = Some(if seconds.is_finite() { seconds } else { 0.0 });
            return Repeats {
                previous: 0,
                pause: false,
            };
        };
        let now = seconds - origin;
        let passed = now - self.latest;
        if now.is_finite() && !(-LONGEST_STEP_BACK..=LONGEST_HOLD).contains(&passed) {
            let previous = self.restart();
            self.origin = Some(seconds);
            return Repeats {
                previous,
                pause: true,
            };
        }
        let now = if now.is_finite() {
            now.max(self.latest)
        } else {
            self.latest
        };
        if now > self.latest {
            self.step = now - self.latest;
        }
        self.latest = now;
        Repeats {
            previous: self.due_before(now),
            pause: false,
        }
    }

    /// How often the last announced picture is to be put out. It is taken to be shown as long as the one before it was,
    /// but not longer than one output picture.
    pub fn finish(&mut self) -> u64 {
        if self.origin.is_none() {
            return 0;
        }
        let end = self.latest + self.step.min(self.interval);
        self.due_before(end + self.interval * (TOLERANCE / 2.0))
    }

    /// Ends as [`Resampler::finish`] does and begins anew with the next picture, which is no continuation.
    pub fn restart(&mut self) -> u64 {
        let last = self.finish();
        self.origin = None;
        self.latest = 0.0;
        self.step = f64::INFINITY;
        self.emitted = 0;
        last
    }

    fn due_before(&mut self, now: f64) -> u64 {
        let mut due = 0;
        while (self.emitted as f64 + TOLERANCE) * self.interval < now - 1e-9 {
            self.emitted += 1;
            due += 1;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers of the source pictures that are put out.
    fn resample(times: &[f64], rate: f64) -> Vec<usize> {
        let mut resampler = Resampler::new(rate).unwrap();
        let mut out = Vec::new();
        for (index, &time) in times.iter().enumerate() {
            let repeats = resampler.announce(time);
            out.extend((0..repeats.previous).map(|_| index - 1));
        }
        out.extend((0..resampler.finish()).map(|_| times.len() - 1));
        out
    }

    fn steady(rate: f64, count: usize) -> Vec<f64> {
        (0..count).map(|i| i as f64 / rate).collect()
    }

    #[test]
    fn the_same_rate_changes_nothing() {
        for rate in [10.0, 15.0, 29.97, 60.0] {
            assert_eq!(
                resample(&steady(rate, 100), rate),
                (0..100).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn whole_milliseconds_change_nothing() {
        let times: Vec<f64> = steady(15.0, 200)
            .iter()
            .map(|t| (t * 1000.0).round() / 1000.0)
            .collect();
        assert_eq!(resample(&times, 15.0), (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn half_rate_takes_every_other() {
        assert_eq!(
            resample(&steady(30.0, 100), 15.0),
            (0..50).map(|i| i * 2).collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_end_is_not_drawn_out() {
        for (rate, count, wanted) in [
            (60.0, 240, 60),
            (30.0, 90, 45),
            (30.0, 91, 46),
            (15.0, 1, 1),
            (7.5, 10, 19),
        ] {
            assert_eq!(
                resample(&steady(rate, count), 15.0).len(),
                wanted,
                "{count} at {rate}"
            );
        }
        assert_eq!(resample(&[0.0, 0.0, 0.0], 15.0), [2]);
    }

    #[test]
    fn ntsc_rate_slips_seldom() {
        let out = resample(&steady(30_000.0 / 1001.0, 3000), 15.0);
        let steps: Vec<usize> = out.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(steps.iter().all(|&s| s == 1 || s == 2));
        let odd = steps.iter().filter(|&&s| s == 1).count();
        assert!((1..=4).contains(&odd), "{odd}");
        assert!((1500..=1504).contains(&out.len()), "{}", out.len());
    }

    #[test]
    fn a_higher_rate_repeats() {
        assert_eq!(resample(&steady(5.0, 3), 15.0), [0, 0, 0, 1, 1, 1, 2]);
    }

    #[test]
    fn a_held_picture_is_repeated_until_the_next() {
        assert_eq!(resample(&[0.0, 1.0], 4.0), [0, 0, 0, 0, 1]);
    }

    #[test]
    fn long_pauses_are_breaks() {
        let mut resampler = Resampler::new(10.0).unwrap();
        resampler.announce(0.0);
        assert_eq!(
            resampler.announce(1e15),
            Repeats {
                previous: 1,
                pause: true
            }
        );
        assert_eq!(
            resampler.announce(1e15),
            Repeats {
                previous: 0,
                pause: false
            }
        );
        assert_eq!(resampler.finish(), 1);
    }

    #[test]
    fn a_clock_that_begins_anew_is_a_break_and_loses_nothing() {
        let mut resampler = Resampler::new(10.0).unwrap();
        let times = [0.0, 0.1, 0.2, 5.0, 4.5, 5.1, 0.0, 0.1, 0.2];
        let repeats = times.map(|time| resampler.announce(time));
        let pauses = repeats.map(|repeats| repeats.pause);
        assert_eq!(
            pauses,
            [false, false, false, false, false, false, true, false, false]
        );
        let after: u64 = repeats[7..].iter().map(|repeats| repeats.previous).sum();
        assert_eq!(after + resampler.finish(), 3);
    }

    #[test]
    fn absurd_rates_are_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(Resampler::new(rate).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_times_give_a_forward_and_bounded_answer(times in prop::collection::vec(prop::num::f64::ANY, 1..50)) {
            let mut resampler = Resampler::new(15.0).unwrap();
            let mut total = 0;
            for &time in &times {
                total += resampler.announce(time).previous;
            }
            total += resampler.finish();
            prop_assert!(total <= times.len() as u64 * 152);
        }
    }
}
