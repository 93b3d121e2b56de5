//! The sound that goes with a video: exactly as long, frame by frame.

use worlds::Sound;

/// Samples in a second of silence; silence needs no more.
const SILENCE_RATE: u32 = 16_000;

/// Hands out the stereo samples that belong to each frame: the world's sound from its start, over and over, or silence.
pub(crate) struct Soundtrack {
    sound: Option<Sound>,
    frames_per_second: f64,
    frames: u64,
    /// Sample pairs handed out so far.
    pairs: u64,
}

impl Soundtrack {
    pub(crate) fn new(sound: Option<Sound>, frames_per_second: f64) -> Self {
        Self {
            sound,
            frames_per_second,
            frames: 0,
            pairs: 0,
        }
    }

    /// Samples in a second.
    pub(crate) fn sample_rate(&self) -> u32 {
        self.sound
            .as_ref()
            .map_or(SILENCE_RATE, |sound| sound.sample_rate)
    }

    /// Whether there is anything to hear.
    pub(crate) fn is_silent(&self) -> bool {
        self.sound.is_none()
    }

    /// The samples of the next frame, left and right in turn. Rounding is done on times, so that it never adds up.
    pub(crate) fn next_frame(&mut self) -> Vec<f32> {
        self.frames += 1;
        let seconds = self.frames as f64 / self.frames_per_second;
        let end = (seconds * f64::from(self.sample_rate())).round() as u64;
        let range = self.pairs..end.max(self.pairs);
        self.pairs = range.end;
        let Some(sound) = &self.sound else {
            return vec![0.0; 2 * (range.end - range.start) as usize];
        };
        let channels = usize::from(sound.channels).max(1);
        let length = (sound.samples.len() / channels).max(1) as u64;
        let sample = |index: usize| sound.samples.get(index).copied().unwrap_or(0.0);
        let pair = |pair: u64| {
            let first = (pair % length) as usize * channels;
            [sample(first), sample(first + channels - 1)]
        };
        range.flat_map(pair).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_as_long_as_the_frames() {
        let mut track = Soundtrack::new(None, 24.0);
        assert!(track.is_silent());
        let samples: Vec<f32> = (0..7).flat_map(|_| track.next_frame()).collect();
        assert_eq!(samples.len(), 2 * (7.0 / 24.0 * 16_000f64).round() as usize);
        assert!(samples.iter().all(|&sample| sample == 0.0));
    }

    #[test]
    fn a_sound_goes_on_from_frame_to_frame_and_starts_again() {
        let sound = Sound {
            sample_rate: 8000,
            channels: 1,
            samples: (0..1000).map(|i| i as f32 / 1000.0).collect(),
        };
        let mut track = Soundtrack::new(Some(sound.clone()), 15.0);
        let samples: Vec<f32> = (0..15).flat_map(|_| track.next_frame()).collect();
        assert_eq!(samples.len(), 16_000);
        for (index, pair) in samples.chunks_exact(2).enumerate() {
            assert_eq!(pair, [sound.samples[index % 1000]; 2]);
        }
        let stereo = Sound {
            channels: 2,
            ..sound
        };
        let mut track = Soundtrack::new(Some(stereo.clone()), 16.0);
        let samples = track.next_frame();
        assert_eq!(samples.len(), 1000);
        assert_eq!(samples, stereo.samples);
    }
}
