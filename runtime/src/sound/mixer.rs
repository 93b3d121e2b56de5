//! The mixer: what is heard during each frame.

use super::interpolation::Reader;
use nn::ActionCode;
use std::collections::VecDeque;
use std::sync::Arc;
use worlds::{Soundscape, Trigger, Wish};

/// Samples in a second, of each channel, of every mix. It is what Opus works with and what nearly every sound device runs at, so that a mix goes to
/// both without being resampled again; sounds of other rates are resampled while they are mixed.
pub const MIX_RATE: u32 = 48_000;

/// Samples that sound at the same time; one more, and the oldest gives way.
const MOST_VOICES: usize = 16;
/// Sample pairs in which something fades where it would otherwise click: 5 ms.
const RAMP: u32 = MIX_RATE / 200;
/// Loudness below which the limiter changes nothing.
const KNEE: f32 = 0.9;

/// What happens during a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Moment {
    /// A picture of the prompt is shown.
    Prompt,
    /// The world was played on.
    Played {
        /// The codes that the player wished for.
        wish: Wish,
        /// The code that came of it.
        code: ActionCode,
    },
    /// A picture from the past is shown, as in a rewind: all that sounds fades out, and play goes on in silence from there.
    Still,
}

/// Mixes a world's sounds. It is a function of the frames that it is told of, and of nothing else.
pub struct Mixer {
    soundscape: Arc<Soundscape>,
    frames_per_second: f64,
    frames: u64,
    /// Sample pairs handed out.
    pairs: u64,
    /// Sample pairs of the ambient loop that have been heard.
    ambient: u64,
    voices: VecDeque<Voice>,
    /// How far the sound is faded in, from 0 to [`RAMP`].
    open: u32,
    before: Option<(Wish, ActionCode)>,
}

/// A sample that sounds.
struct Voice {
    sample: usize,
    /// Sample pairs that have been heard.
    heard: u64,
    /// Sample pairs until it is faded out; `None` while it is wanted.
    fading: Option<u32>,
}

impl Mixer {
    /// A mixer for a world of this soundscape and frame rate, before its first frame.
    pub fn new(soundscape: Arc<Soundscape>, frames_per_second: f64) -> Self {
        Self {
            soundscape,
            frames_per_second,
            frames: 0,
            pairs: 0,
            ambient: 0,
            voices: VecDeque::new(),
            open: 0,
            before: None,
        }
    }

    /// Whether there is nothing to hear, ever.
    pub fn is_silent(&self) -> bool {
        self.soundscape.is_silent()
    }

    /// The samples of the next frame at [`MIX_RATE`], from -1 to 1, left and right in turn. Rounding is done on times, so that it never adds up.
    pub fn next_frame(&mut self, moment: &Moment) -> Vec<f32> {
        self.frames += 1;
        let seconds = self.frames as f64 / self.frames_per_second;
        let end = (seconds * f64::from(MIX_RATE)).round() as u64;
        let count = end.saturating_sub(self.pairs);
        self.pairs += count;
        if self.is_silent() {
            return vec![0.0; 2 * count as usize];
        }
        let open = match moment {
            Moment::Still => {
                self.before = None;
                false
            }
            Moment::Prompt => true,
            Moment::Played { wish, code } => {
                self.trigger(wish, *code);
                true
            }
        };
        let mut samples = Vec::with_capacity(2 * count as usize);
        for _ in 0..count {
            samples.extend(self.next_pair(open).map(limit));
        }
        samples
    }

    /// Starts the samples whose time has come.
    fn trigger(&mut self, wish: &Wish, code: ActionCode) {
        let before = self.before.replace((wish.clone(), code));
        for (index, sample) in self.soundscape.samples.iter().enumerate() {
            let happens = |wish: &Wish, code: ActionCode| match &sample.when {
                Trigger::Code(codes) | Trigger::While(codes) => codes.contains(&code),
                Trigger::Wish(codes) => codes.iter().all(|code| wish.codes().contains(code)),
            };
            let goes_on = match &sample.when {
                Trigger::While(_) => self.voices.iter().any(|voice| voice.sample == index),
                _ => before.as_ref().is_some_and(|(w, c)| happens(w, *c)),
            };
            if !happens(wish, code) || goes_on {
                continue;
            }
            let wanted = self.voices.iter_mut();
            let mut wanted = wanted.filter(|voice| voice.fading.is_none());
            if let (Some(oldest), more) = (wanted.next(), wanted.count())
                && more + 1 >= MOST_VOICES
            {
                oldest.fading = Some(RAMP);
            }
            self.voices.push_back(Voice {
                sample: index,
                heard: 0,
                fading: None,
            });
        }
        // What gave way within the frame in which it began was never heard.
        self.voices
            .retain(|voice| voice.heard > 0 || voice.fading.is_none());
    }

    fn next_pair(&mut self, open: bool) -> [f32; 2] {
        if !open && self.open == 0 {
            self.voices.clear();
            return [0.0; 2];
        }
        self.open = match open {
            true => (self.open + 1).min(RAMP),
            false => self.open - 1,
        };
        let mut mix = [0.0; 2];
        if let Some((sound, volume)) = &self.soundscape.ambient {
            let pair = Reader::new(sound, true).pair(self.ambient);
            self.ambient += 1;
            add(&mut mix, pair, *volume);
        }
        let soundscape = &self.soundscape;
        self.voices.retain_mut(|voice| {
            let Some(sample) = soundscape.samples.get(voice.sample) else {
                return false;
            };
            let reader = Reader::new(&sample.sound, false);
            let fade = voice.fading.map_or(1.0, |left| left as f32 / RAMP as f32);
            add(&mut mix, reader.pair(voice.heard), sample.volume * fade);
            voice.heard += 1;
            voice.fading = voice.fading.map(|left| left.saturating_sub(1));
            voice.heard < reader.pairs() && voice.fading != Some(0)
        });
        mix.map(|sample| sample * self.open as f32 / RAMP as f32)
    }
}

fn add(mix: &mut [f32; 2], pair: [f32; 2], volume: f32) {
    for (sum, sample) in mix.iter_mut().zip(pair) {
        *sum += sample * volume;
    }
}

/// Bends what is too loud, smoothly, to stay below 1.
fn limit(sample: f32) -> f32 {
    let loudness = sample.abs();
    if loudness <= KNEE {
        return sample;
    }
    let room = 1.0 - KNEE;
    (KNEE + room * ((loudness - KNEE) / room).tanh()).copysign(sample)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use worlds::{LoadedSample, Sound};

    fn wish(codes: &[u16]) -> Wish {
        codes.iter().map(|&code| ActionCode(code)).collect()
    }

    fn played(wish_codes: &[u16], code: u16) -> Moment {
        Moment::Played {
            wish: wish(wish_codes),
            code: ActionCode(code),
        }
    }

    /// A sound that stays at one level.
    fn level(level: f32, pairs: usize) -> Sound {
        Sound {
            sample_rate: MIX_RATE,
            channels: 1,
            samples: vec![level; pairs],
        }
    }

    fn sample(sound: Sound, when: Trigger) -> LoadedSample {
        LoadedSample {
            sound,
            volume: 1.0,
            when,
        }
    }

    fn codes(codes: &[u16]) -> Vec<ActionCode> {
        codes.iter().copied().map(ActionCode).collect()
    }

    fn mixer(ambient: Option<(Sound, f32)>, samples: Vec<LoadedSample>) -> Mixer {
        Mixer::new(Arc::new(Soundscape { ambient, samples }), 15.0)
    }

    /// Samples of code 1 at level 0.25 and of the chord 2 and 3 at 0.5, each a frame and a half long.
    fn two_samples() -> Mixer {
        let samples = vec![
            sample(level(0.25, 4800), Trigger::Code(codes(&[1]))),
            sample(level(0.5, 4800), Trigger::Wish(codes(&[2, 3]))),
        ];
        mixer(None, samples)
    }

    /// Levels at the start and the end of the next frame.
    fn ends(mixer: &mut Mixer, moment: &Moment) -> (f32, f32) {
        let samples = mixer.next_frame(moment);
        (samples[0], samples[samples.len() - 1])
    }

    #[test]
    fn frames_are_as_long_as_they_last_at_any_rate() {
        for rate in [7.3, 15.0, 24.0, 29.97, 60.0, 240.0] {
            for silent in [true, false] {
                let ambient = (!silent).then(|| (level(0.1, 10), 1.0));
                let soundscape = Soundscape {
                    ambient,
                    samples: vec![],
                };
                let mut mixer = Mixer::new(Arc::new(soundscape), rate);
                assert_eq!(mixer.is_silent(), silent);
                let mut pairs = 0;
                for frame in 1..=300u32 {
                    pairs += mixer.next_frame(&Moment::Prompt).len() / 2;
                    let exact = f64::from(frame) / rate * f64::from(MIX_RATE);
                    assert!((pairs as f64 - exact).abs() <= 0.5);
                }
            }
        }
    }

    #[test]
    fn an_ambient_loop_goes_on_from_frame_to_frame_and_starts_again() {
        let sound = Sound {
            sample_rate: MIX_RATE,
            channels: 2,
            samples: (0..2000).map(|i| i as f32 / 4000.0).collect(),
        };
        let mut mixer = mixer(Some((sound.clone(), 0.5)), vec![]);
        let mut samples = mixer.next_frame(&Moment::Prompt);
        samples.extend(mixer.next_frame(&played(&[], 0)));
        samples.extend(mixer.next_frame(&played(&[], 0)));
        assert_eq!(samples.len(), 2 * 9600);
        // It begins softly.
        let faded = |pair: usize| ((pair + 1) as f32 / RAMP as f32).min(1.0);
        for (index, sample) in samples.iter().enumerate() {
            let whole = sound.samples[index % 2000] * 0.5;
            assert!((*sample - whole * faded(index / 2)).abs() < 1e-6);
        }
    }

    #[test]
    fn a_code_sounds_when_it_begins_and_not_while_it_lasts() {
        let mut mixer = two_samples();
        assert_eq!(ends(&mut mixer, &Moment::Prompt), (0.0, 0.0));
        assert_eq!(ends(&mut mixer, &played(&[], 1)), (0.25, 0.25));
        assert_eq!(ends(&mut mixer, &played(&[], 1)), (0.25, 0.0));
        assert_eq!(ends(&mut mixer, &played(&[], 1)), (0.0, 0.0));
        assert_eq!(ends(&mut mixer, &played(&[], 0)), (0.0, 0.0));
        assert_eq!(ends(&mut mixer, &played(&[1], 1)), (0.25, 0.25));
    }

    #[test]
    fn a_chord_sounds_when_all_of_it_is_wished_for_and_samples_overlap() {
        let mut mixer = two_samples();
        mixer.next_frame(&Moment::Prompt);
        assert_eq!(ends(&mut mixer, &played(&[2], 0)), (0.0, 0.0));
        assert_eq!(ends(&mut mixer, &played(&[2, 3], 0)), (0.5, 0.5));
        assert_eq!(ends(&mut mixer, &played(&[0, 2, 3], 1)), (0.75, 0.25));
        assert_eq!(ends(&mut mixer, &played(&[3], 1)), (0.25, 0.0));
        // The same sample twice at a time.
        assert_eq!(ends(&mut mixer, &played(&[2, 3], 1)), (0.5, 0.5));
        let mut mixer = two_samples();
        mixer.next_frame(&Moment::Prompt);
        mixer.soundscape = Arc::new(Soundscape {
            samples: vec![sample(level(0.25, 48_000), Trigger::Code(codes(&[1])))],
            ambient: None,
        });
        assert_eq!(ends(&mut mixer, &played(&[], 1)), (0.25, 0.25));
        assert_eq!(ends(&mut mixer, &played(&[], 0)), (0.25, 0.25));
        assert_eq!(ends(&mut mixer, &played(&[], 1)), (0.5, 0.5));
    }

    #[test]
    fn footsteps_go_on_as_long_as_the_code_does_each_to_its_end() {
        let steps = Trigger::While(codes(&[1, 2]));
        let mut mixer = mixer(None, vec![sample(level(0.25, 4800), steps)]);
        assert_eq!(ends(&mut mixer, &Moment::Prompt), (0.0, 0.0));
        for code in [1, 2, 1] {
            // A frame and a half long: the next one begins with the third frame.
            assert_eq!(ends(&mut mixer, &played(&[], code)), (0.25, 0.25));
            assert_eq!(ends(&mut mixer, &played(&[], code)), (0.25, 0.0));
        }
        assert_eq!(ends(&mut mixer, &played(&[], 2)), (0.25, 0.25));
        assert_eq!(ends(&mut mixer, &played(&[2], 0)), (0.25, 0.0));
        assert_eq!(ends(&mut mixer, &played(&[2], 0)), (0.0, 0.0));
    }

    #[test]
    fn a_rewind_fades_out_and_in_without_a_click() {
        let samples = vec![sample(level(0.3, 96_000), Trigger::Code(codes(&[1])))];
        let mut mixer = mixer(Some((level(0.5, 100), 1.0)), samples);
        let mut all = mixer.next_frame(&played(&[], 1));
        assert_eq!(all[6000], 0.8);
        let still = mixer.next_frame(&Moment::Still);
        assert!(
            still[2 * RAMP as usize..]
                .iter()
                .all(|&sample| sample == 0.0)
        );
        all.extend(still);
        all.extend(mixer.next_frame(&Moment::Still));
        let back = mixer.next_frame(&played(&[], 0));
        assert_eq!(*back.last().unwrap(), 0.5, "what sounded before is over");
        all.extend(back);
        let steps = all.chunks_exact(2).map(|pair| pair[0]).collect::<Vec<_>>();
        let largest = steps.windows(2).map(|pair| (pair[1] - pair[0]).abs());
        assert!(largest.fold(0.0, f32::max) <= 0.8 / RAMP as f32 + 1e-4);
    }

    #[test]
    fn the_oldest_sample_gives_way_softly() {
        let samples = vec![sample(level(0.05, 960_000), Trigger::Code(codes(&[1])))];
        let mut mixer = mixer(None, samples);
        for voice in 1..=30 {
            let samples = mixer.next_frame(&played(&[], 1));
            let end = samples[samples.len() - 1];
            assert!((end - 0.05 * voice.min(16) as f32).abs() < 1e-4, "{end}");
            let steps = samples.windows(3).map(|pair| (pair[2] - pair[0]).abs());
            assert!(steps.fold(0.0, f32::max) < 0.001);
            mixer.next_frame(&played(&[], 0));
        }
    }

    #[test]
    fn it_never_clips_and_leaves_what_is_not_too_loud_alone() {
        let samples = (0..40).map(|_| sample(level(1.0, 9000), Trigger::Code(codes(&[1]))));
        let mut mixer = mixer(Some((level(1.0, 100), 1.0)), samples.collect());
        mixer.next_frame(&Moment::Prompt);
        let loud = mixer.next_frame(&played(&[], 1));
        assert!(loud.iter().all(|&sample| sample <= 1.0 && sample > 0.98));
        assert_eq!(limit(-0.9), -0.9);
        assert!(limit(0.95) < 0.95 && limit(0.95) > 0.9 && limit(-50.0) >= -1.0);
    }

    proptest! {
        #[test]
        fn the_same_frames_sound_the_same(moments in prop::collection::vec((0u8..4, 0u16..4, 0u16..4), 1..40)) {
            let moments: Vec<Moment> = moments.into_iter().map(|(kind, wish, code)| match kind {
                0 => Moment::Still,
                _ => played(&[wish, 2], code),
            }).collect();
            let mix = || -> Vec<f32> {
                let mut mixer = two_samples();
                moments.iter().flat_map(|moment| mixer.next_frame(moment)).collect()
            };
            let first = mix();
            prop_assert!(first.iter().all(|sample| (-1.0..=1.0).contains(sample)));
            prop_assert_eq!(first.len(), 2 * 3200 * moments.len());
            prop_assert_eq!(first, mix());
        }
    }
}
