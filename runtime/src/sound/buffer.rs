//! Between two clocks: frames put samples in, a device takes them out.

use super::MIX_RATE;
use std::collections::VecDeque;

/// Sample pairs in which something fades where it would otherwise click: 5 ms.
const RAMP: usize = MIX_RATE as usize / 200;
/// Sample pairs that should still be there when the next frame's come: 25 ms, enough for a frame that is a little late.
const RESERVE: usize = MIX_RATE as usize / 40;
/// Most sample pairs that may still be there then: 70 ms. More would be heard too late and is left out.
const MOST_RESERVE: usize = MIX_RATE as usize * 7 / 100;
/// A pause between frames, in sample pairs, that says nothing about how fast they come: half a second.
const PAUSE: f64 = MIX_RATE as f64 / 2.0;
/// Largest share by which the speed differs from the frames' to bring the reserve back: less than is heard.
const LARGEST_CORRECTION: f64 = 0.005;
/// Share by which the frames' speed may differ from the device's and still counts as the same, up to what jitter and clocks make of it.
const SAME_PACE: f64 = 0.03;

/// A queue of sample pairs that is read at a speed which keeps a small reserve.
///
/// The frames' clock and the device's never agree quite. Each time that a frame comes, the reserve that is left tells which of the two is ahead, and
/// reading goes on a trace faster or slower. Where the world itself runs slower than it should, sound follows, as a tape would. Where nothing comes
/// any more, what is left fades out, and what comes next fades in.
pub(super) struct Buffer {
    pairs: VecDeque<[f32; 2]>,
    /// Place of the next sample between the second pair and the third, from 0 to 1.
    position: f64,
    /// Pairs that are read for each that is put out.
    speed: f64,
    /// Pairs that were put out for each that came, lately. Averaged this way around, since a device takes its pairs in pieces: what one frame seems to
    /// be short of is too much for the next, while their inverses do not make up for each other, and would raise the pitch.
    taken: f64,
    /// By how much the reserve was too large lately, in pairs.
    surplus: f64,
    last_push: usize,
    /// Pairs put out since then, at the mix rate.
    pulled: f64,
    /// Pairs at the mix rate for each that the device plays.
    ratio: f64,
    starved: bool,
    /// How far the sound is faded in.
    open: f32,
    volume: f32,
    muted: bool,
    /// What volume and muting have come to so far.
    gain: f32,
}

impl Default for Buffer {
    fn default() -> Self {
        Self {
            pairs: VecDeque::new(),
            position: 0.0,
            speed: 1.0,
            taken: 1.0,
            surplus: 0.0,
            last_push: 0,
            pulled: 0.0,
            ratio: 1.0,
            starved: true,
            open: 0.0,
            volume: 1.0,
            muted: false,
            gain: 1.0,
        }
    }
}

impl Buffer {
    /// Adds a frame's samples, left and right in turn.
    pub(super) fn push(&mut self, samples: &[f32]) {
        let reserve = self.pairs.len();
        let count = samples.len() / 2;
        let weight = (count as f64 / f64::from(MIX_RATE)).clamp(0.001, 0.2);
        if self.pulled > 0.0 && self.pulled < PAUSE && self.last_push > 0 {
            let taken = self.pulled / self.last_push as f64;
            self.taken += weight * (taken.clamp(0.25, 4.0) - self.taken);
        }
        (self.pulled, self.last_push) = (0.0, count);
        let begins = std::mem::take(&mut self.starved);
        if begins {
            self.pairs.clear();
            self.pairs.resize(RESERVE, [0.0; 2]);
            self.surplus = 0.0;
        } else {
            if reserve > MOST_RESERVE {
                self.leave_out(reserve - RESERVE);
            }
            let surplus = self.pairs.len() as f64 - RESERVE as f64;
            self.surplus += weight.max(0.05) * (surplus - self.surplus);
        }
        let pace = 1.0 / self.taken;
        let base = match (pace - 1.0).abs() <= SAME_PACE {
            true => 1.0,
            false => pace.clamp(0.5, 2.0),
        };
        let correction = 0.2 * self.surplus / f64::from(MIX_RATE);
        self.speed = base * (1.0 + correction.clamp(-LARGEST_CORRECTION, LARGEST_CORRECTION));
        let pairs = samples.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
        self.pairs.extend(pairs);
        if begins {
            // What comes after silence fades in.
            for (index, pair) in self.pairs.range_mut(RESERVE..).take(RAMP).enumerate() {
                *pair = pair.map(|sample| sample * index as f32 / RAMP as f32);
            }
        }
    }

    /// Leaves `count` pairs out, faded across.
    fn leave_out(&mut self, count: usize) {
        for index in 0..RAMP.min(self.pairs.len().saturating_sub(count)) {
            let share = index as f32 / RAMP as f32;
            let [old, new] = [self.pairs[index], self.pairs[index + count]];
            self.pairs[index + count] =
                [0, 1].map(|channel| old[channel] + share * (new[channel] - old[channel]));
        }
        self.pairs.drain(..count.min(self.pairs.len()));
    }

    /// Fades out the end of what is there, because what follows is no continuation.
    pub(super) fn end_softly(&mut self) {
        let length = self.pairs.len();
        let ramp = RAMP.min(length);
        for (index, pair) in self.pairs.range_mut(length - ramp..).enumerate() {
            *pair = pair.map(|sample| sample * (1.0 - (index + 1) as f32 / ramp as f32));
        }
    }

    /// Takes samples out for the device, left and right in turn, at the player's volume; silence where there are none.
    pub(super) fn pull(&mut self, samples: &mut [f32]) {
        for out in samples.chunks_exact_mut(2) {
            out.copy_from_slice(&self.next_pair());
        }
        self.pulled += (samples.len() / 2) as f64 * self.ratio;
    }

    fn next_pair(&mut self) -> [f32; 2] {
        let wanted = match self.muted {
            true => 0.0,
            // What sounds half as loud has about a quarter of the power and less.
            false => self.volume * self.volume,
        };
        let step = 1.0 / RAMP as f32;
        self.gain += (wanted - self.gain).clamp(-step, step);
        let &[before, here, next, after] = &[0, 1, 2, 3].map(|index| self.pairs.get(index));
        let (Some(before), Some(here), Some(next), Some(after)) = (before, here, next, after)
        else {
            (self.starved, self.open, self.position) = (true, 0.0, 0.0);
            return [0.0; 2];
        };
        let left = (self.pairs.len() - 4) as f32 * step;
        self.open = (self.open + step).min(left).min(1.0);
        let loudness = self.open * self.gain;
        let place = self.position as f32;
        let pair = [0, 1].map(|channel| {
            let points = [before, here, next, after].map(|pair| pair[channel]);
            between(points, place) * loudness
        });
        self.position += self.speed * self.ratio;
        while self.position >= 1.0 {
            self.pairs.pop_front();
            self.position -= 1.0;
        }
        pair
    }

    /// Sets how many samples of each channel the device plays in a second.
    pub(super) fn set_device_rate(&mut self, rate: u32) {
        self.ratio = f64::from(MIX_RATE) / f64::from(rate.clamp(8_000, 384_000));
    }

    /// Sets how loud the player wants it, from 0 to 1.
    pub(super) fn set_volume(&mut self, volume: f32) {
        if volume.is_finite() {
            self.volume = volume.clamp(0.0, 1.0);
        }
    }

    pub(super) fn volume(&self) -> f32 {
        self.volume
    }

    pub(super) fn set_muted(&mut self, muted: bool) {
        self.muted = muted;
    }

    pub(super) fn is_muted(&self) -> bool {
        self.muted
    }
}

/// The value at `place`, from 0 to 1, between the middle two of four points: a cubic through them.
fn between([before, here, next, after]: [f32; 4], place: f32) -> f32 {
    let slope = 0.5 * (next - before);
    let curve = before - 2.5 * here + 2.0 * next - 0.5 * after;
    let twist = 1.5 * (here - next) + 0.5 * (after - before);
    ((twist * place + curve) * place + slope) * place + here
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAME: usize = MIX_RATE as usize / 15;

    /// A quiet tone, so that any click stands out.
    fn tone(from: usize, count: usize) -> Vec<f32> {
        let sample = |i: usize| (i as f32 * 0.02).sin() * 0.5;
        (from..from + count)
            .flat_map(|i| [sample(i), sample(i)])
            .collect()
    }

    /// Plays `seconds` of the tone, with frames at `pace` times their rate and a device that asks for 10 ms at a time, and returns what the device got and
    /// the largest number of pairs that waited before a frame came.
    fn play(
        buffer: &mut Buffer,
        seconds: f64,
        pace: f64,
        gap: std::ops::Range<f64>,
    ) -> (Vec<f32>, usize) {
        let (mut heard, mut sent, mut most) = (Vec::new(), 0, 0);
        let block = MIX_RATE as usize / 100;
        let mut due = 0.0;
        for step in 0..(seconds * 100.0) as usize {
            let now = step as f64 / 100.0;
            while due <= now {
                if !gap.contains(&now) {
                    most = most.max(buffer.pairs.len());
                    buffer.push(&tone(sent, FRAME));
                    sent += FRAME;
                }
                due += 1.0 / 15.0 / pace;
            }
            let mut samples = vec![0.0; 2 * block];
            buffer.pull(&mut samples);
            heard.extend(samples);
        }
        (heard, most)
    }

    fn largest_step(samples: &[f32]) -> f32 {
        let steps = samples.windows(3).map(|pair| (pair[2] - pair[0]).abs());
        steps.fold(0.0, f32::max)
    }

    fn silent_pairs(samples: &[f32]) -> usize {
        let pairs: Vec<_> = samples.chunks_exact(2).collect();
        pairs
            .windows(20)
            .filter(|pairs| pairs.iter().all(|pair| pair[0] == 0.0))
            .count()
    }

    #[test]
    fn clocks_that_differ_a_little_are_brought_together_for_as_long_as_it_takes() {
        for pace in [0.997, 0.9995, 1.0, 1.0005, 1.003] {
            let mut buffer = Buffer::default();
            let (heard, most) = play(&mut buffer, 120.0, pace, 0.0..0.0);
            // The start is silent, and nothing after it.
            assert!(silent_pairs(&heard[20_000..]) == 0, "{pace}");
            assert!(
                largest_step(&heard) < 0.013,
                "{pace}: {}",
                largest_step(&heard)
            );
            assert!(most <= MOST_RESERVE, "{pace}: {most}");
        }
    }

    #[test]
    fn however_large_the_pieces_are_that_a_device_asks_for_the_pitch_stays() {
        for milliseconds in [5, 10, 20, 25, 30, 40] {
            let (mut buffer, mut sent) = (Buffer::default(), 0);
            let block = MIX_RATE as usize * milliseconds / 1000;
            for asked in 0..60_000 / milliseconds {
                while sent <= asked * block {
                    buffer.push(&tone(sent, FRAME));
                    sent += FRAME;
                    let off = (buffer.speed - 1.0).abs();
                    assert!(off <= LARGEST_CORRECTION, "{milliseconds} ms: {off}");
                }
                buffer.pull(&mut vec![0.0; 2 * block]);
            }
        }
    }

    #[test]
    fn a_world_that_runs_too_slowly_sounds_lower_and_not_chopped() {
        for pace in [0.6, 0.8] {
            let mut buffer = Buffer::default();
            let (heard, _) = play(&mut buffer, 30.0, pace, 0.0..0.0);
            let late = &heard[heard.len() / 2..];
            assert!(silent_pairs(late) == 0, "{pace}: {}", silent_pairs(late));
            assert!(
                (buffer.speed - pace).abs() < 0.03,
                "{pace}: {}",
                buffer.speed
            );
            assert!(
                largest_step(&heard) < 0.03,
                "{pace}: {}",
                largest_step(&heard)
            );
        }
    }

    #[test]
    fn a_device_of_another_rate_hears_the_same_tone() {
        let mut buffer = Buffer::default();
        buffer.set_device_rate(44_100);
        for frame in 0..30 {
            buffer.push(&tone(frame * FRAME, FRAME));
            let mut heard = vec![0.0; 2 * 44_100 / 15];
            buffer.pull(&mut heard);
            assert!((buffer.speed - 1.0).abs() < 0.001, "{}", buffer.speed);
            // The tone's slope: 0.02 a pair at 48 kHz.
            let slope = largest_step(&heard) / 0.5;
            assert!(
                frame == 0 || (slope - 0.02 * 48.0 / 44.1).abs() < 1e-3,
                "{slope}"
            );
        }
    }

    #[test]
    fn a_pause_fades_out_and_in() {
        let mut buffer = Buffer::default();
        let (heard, _) = play(&mut buffer, 6.0, 1.0, 2.0..4.0);
        let second = |second: f64| (second * f64::from(MIX_RATE)) as usize * 2;
        assert!(
            heard[second(2.3)..second(3.9)]
                .iter()
                .all(|&sample| sample == 0.0)
        );
        assert!(silent_pairs(&heard[second(4.3)..]) == 0);
        assert!(largest_step(&heard) < 0.013, "{}", largest_step(&heard));
    }

    #[test]
    fn what_waits_too_long_is_left_out_without_a_click() {
        let mut buffer = Buffer::default();
        // Nobody listens: as much is kept as is heard in time.
        (0..100).for_each(|frame| buffer.push(&tone(frame * FRAME, FRAME)));
        assert!(buffer.pairs.len() <= MOST_RESERVE + FRAME);
        let mut heard = vec![0.0; 2 * (RESERVE + FRAME - RAMP)];
        buffer.pull(&mut heard);
        assert!(largest_step(&heard) < 0.013, "{}", largest_step(&heard));
    }

    #[test]
    fn volume_and_muting_come_and_go_softly() {
        let mut buffer = Buffer::default();
        let level = |heard: &[f32]| heard.iter().fold(0.0f32, |most, sample| most.max(*sample));
        let mut all = Vec::new();
        let mut next = |buffer: &mut Buffer| {
            let (heard, _) = play(buffer, 1.0, 1.0, 0.0..0.0);
            let heard_late = level(&heard[48_000..]);
            all.extend(heard);
            heard_late
        };
        assert!((next(&mut buffer) - 0.5).abs() < 0.01);
        buffer.set_volume(0.5);
        assert!((next(&mut buffer) - 0.125).abs() < 0.01);
        buffer.set_muted(true);
        assert_eq!(next(&mut buffer), 0.0);
        buffer.set_muted(false);
        buffer.set_volume(f32::NAN);
        assert!((next(&mut buffer) - 0.125).abs() < 0.01);
        assert!((buffer.volume(), buffer.is_muted()) == (0.5, false));
    }

    #[test]
    fn an_end_fades_out() {
        let mut buffer = Buffer::default();
        buffer.push(&[0.5; 2 * FRAME]);
        buffer.end_softly();
        buffer.push(&[0.0; 2 * FRAME]);
        let mut heard = vec![0.0; 2 * (RESERVE + 2 * FRAME - RAMP)];
        buffer.pull(&mut heard);
        assert!(largest_step(&heard) < 0.01, "{}", largest_step(&heard));
        assert_eq!(heard[heard.len() - 2], 0.0);
        Buffer::default().end_softly();
    }

    proptest! {
        #[test]
        fn it_stays_small_and_sound_whatever_the_clocks_do(steps in prop::collection::vec((any::<bool>(), 1usize..4000), 1..80)) {
            let mut buffer = Buffer::default();
            for (push, count) in steps {
                match push {
                    true => buffer.push(&tone(0, count)),
                    false => {
                        let mut heard = vec![0.0; 2 * count];
                        buffer.pull(&mut heard);
                        prop_assert!(heard.iter().all(|sample| sample.abs() <= 0.6));
                    }
                }
                prop_assert!(buffer.pairs.len() <= MOST_RESERVE + 4000);
                prop_assert!((0.49..=2.02).contains(&buffer.speed));
            }
        }
    }
}
