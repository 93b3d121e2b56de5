//! Reading a sound at the mix rate, whatever its own rate is.

use super::MIX_RATE;
use std::f64::consts::PI;
use std::sync::OnceLock;
use worlds::Sound;

/// Samples to each side that a sample in between is made of, at the sound's own rate.
const REACH: usize = 16;
/// Steps of the table between two samples.
const STEPS: usize = 512;

/// Reads a sound at [`MIX_RATE`] by band-limited interpolation (a windowed sinc). The place of each sample is computed from its number, in whole
/// numbers, so that nothing drifts, however long it goes on.
pub(super) struct Reader<'a> {
    sound: &'a Sound,
    /// Whether the end is followed by the start; otherwise by silence.
    looping: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sound: &'a Sound, looping: bool) -> Self {
        Self { sound, looping }
    }

    /// Sample pairs of the sound at its own rate.
    fn source_pairs(&self) -> u64 {
        let channels = u64::from(self.sound.channels.max(1));
        (self.sound.samples.len() as u64 / channels).max(1)
    }

    /// Sample pairs at the mix rate until it is over.
    pub(super) fn pairs(&self) -> u64 {
        (self.source_pairs() * u64::from(MIX_RATE)).div_ceil(u64::from(self.sound.sample_rate))
    }

    /// The sample pair `number` at the mix rate.
    pub(super) fn pair(&self, number: u64) -> [f32; 2] {
        let rate = u64::from(self.sound.sample_rate);
        let length = self.source_pairs();
        // A loop is as many source samples long, at whatever place in time that is.
        let place = u128::from(number) * u128::from(rate);
        let whole = place / u128::from(MIX_RATE);
        let part = (place % u128::from(MIX_RATE)) as f64 / f64::from(MIX_RATE);
        let at = match self.looping {
            true => (whole % u128::from(length)) as i64,
            false => i64::try_from(whole).unwrap_or(i64::MAX / 2),
        };
        if part == 0.0 && rate == u64::from(MIX_RATE) {
            return self.source(at);
        }
        // A sound of a higher rate has too high tones for the mix: the kernel is stretched, which filters them out.
        let stretch = (rate as f64 / f64::from(MIX_RATE)).max(1.0);
        let reach = (REACH as f64 * stretch).ceil() as i64;
        let (mut left, mut right) = (0.0, 0.0);
        for offset in 1 - reach..=reach {
            let weight = kernel((offset as f64 - part) / stretch) / stretch;
            let [l, r] = self.source(at + offset);
            left += weight * f64::from(l);
            right += weight * f64::from(r);
        }
        [left as f32, right as f32]
    }

    /// The sample pair at its own rate.
    fn source(&self, pair: i64) -> [f32; 2] {
        let length = self.source_pairs() as i64;
        let pair = match self.looping {
            true => pair.rem_euclid(length),
            false => pair,
        };
        let channels = usize::from(self.sound.channels.max(1));
        let Ok(first) = usize::try_from(pair).map(|pair| pair.saturating_mul(channels)) else {
            return [0.0; 2];
        };
        let sample = |index: usize| self.sound.samples.get(index).copied().unwrap_or(0.0);
        [sample(first), sample(first.saturating_add(channels - 1))]
    }
}

/// The weight of a sample at this distance: a sinc under a Blackman-Harris window.
fn kernel(distance: f64) -> f64 {
    static TABLE: OnceLock<Vec<f64>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let weight = |step: usize| {
            let x = step as f64 / STEPS as f64;
            let turn = PI * x / REACH as f64;
            let window = 0.35875
                + 0.48829 * turn.cos()
                + 0.14128 * (2.0 * turn).cos()
                + 0.01168 * (3.0 * turn).cos();
            match step {
                0 => 1.0,
                _ => (PI * x).sin() / (PI * x) * window,
            }
        };
        (0..REACH * STEPS).map(weight).collect()
    });
    let place = distance.abs() * STEPS as f64;
    let step = place as usize;
    let at = |step: usize| table.get(step).copied().unwrap_or(0.0);
    at(step) + (at(step + 1) - at(step)) * (place - step as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tone(rate: u32, hertz: f64, pairs: usize) -> Sound {
        let sample = |i: usize| (i as f64 / f64::from(rate) * hertz * 2.0 * PI).sin() as f32 * 0.5;
        Sound {
            sample_rate: rate,
            channels: 1,
            samples: (0..pairs).map(sample).collect(),
        }
    }

    #[test]
    fn the_mix_rate_itself_is_passed_on_unchanged() {
        let sound = Sound {
            channels: 2,
            ..tone(MIX_RATE, 777.0, 2000)
        };
        let reader = Reader::new(&sound, true);
        assert_eq!(reader.pairs(), 1000);
        for number in 0..2500 {
            let at = number as usize % 1000 * 2;
            assert_eq!(reader.pair(number)[..], sound.samples[at..at + 2]);
        }
    }

    #[test]
    fn a_tone_of_any_rate_is_the_same_tone_in_the_mix() {
        for rate in [8_000, 11_025, 22_050, 44_100, 96_000, 192_000] {
            let hertz = 1000.0;
            // Whole periods, so that the loop has no seam.
            let sound = tone(rate, hertz, rate as usize);
            let reader = Reader::new(&sound, true);
            assert_eq!(reader.pairs(), 48_000);
            let expected = tone(MIX_RATE, hertz, 48_000);
            for number in (0..200_000).step_by(37) {
                let [left, right] = reader.pair(number);
                let wanted = expected.samples[number as usize % 48_000];
                assert!(
                    (left - wanted).abs() < 2e-3,
                    "{rate}: {left} {wanted} at {number}"
                );
                assert_eq!(left, right);
            }
        }
    }

    #[test]
    fn tones_that_the_mix_cannot_have_are_gone() {
        let sound = tone(192_000, 40_000.0, 192_000);
        let reader = Reader::new(&sound, true);
        let loudest = (0..4000)
            .map(|n| reader.pair(n)[0].abs())
            .fold(0.0, f32::max);
        assert!(loudest < 1e-3, "{loudest}");
    }

    #[test]
    fn after_its_end_a_sample_is_silent() {
        let sound = tone(44_100, 500.0, 441);
        let reader = Reader::new(&sound, false);
        assert_eq!(reader.pairs(), 480);
        assert_eq!(reader.pair(480 + 40), [0.0; 2]);
        assert_eq!(reader.pair(u64::MAX), [0.0; 2]);
    }

    proptest! {
        #[test]
        fn anywhere_in_any_sound_there_is_a_number(number: u64, rate in 8000u32..=192_000, pairs in 1usize..50, looping: bool) {
            let sound = tone(rate, 100.0, pairs);
            let [left, right] = Reader::new(&sound, looping).pair(number);
            prop_assert!(left.is_finite() && left.abs() < 2.0 && left == right);
        }
    }
}
