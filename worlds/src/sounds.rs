//! The sounds of a world: what `world.ron` says of them, and what is loaded.

use crate::error;
use crate::manifest::{Flaw, flaw};
use crate::source::{BundleSource, is_safe_name, read_limited, refused};
use crate::world::SOUNDS_FOLDER;
use crate::{Sound, WorldManifest};
use nn::ActionCode;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most samples that a world ties to actions.
const MOST_SAMPLES: usize = 64;
/// Longest of them, in seconds.
const LONGEST_SAMPLE: f64 = 30.0;
/// Most action codes that a trigger names.
const MOST_CODES: usize = 64;
const LARGEST_AMBIENT: u64 = 256 << 20;
const LARGEST_SAMPLE: u64 = 16 << 20;
/// Most bytes of all samples that are tied to actions.
const LARGEST_SAMPLES: u64 = 64 << 20;

/// What a world sounds like: WAV files in `sounds/`, and when each is heard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sounds {
    /// Heard all the time, over and over.
    #[serde(default)]
    pub ambient: Option<Ambient>,
    /// Heard once each time that something happens.
    #[serde(default)]
    pub samples: Vec<Sample>,
}

/// A sound that is heard all the time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ambient {
    /// Name of a WAV file in `sounds/`.
    pub file: String,
    /// Factor for its samples, from 0 to 1.
    #[serde(default = "full")]
    pub volume: f32,
}

/// A sound that is heard when something happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Name of a WAV file in `sounds/`.
    pub file: String,
    /// Factor for its samples, from 0 to 1.
    #[serde(default = "full")]
    pub volume: f32,
    /// What must happen.
    pub when: Trigger,
}

fn full() -> f32 {
    1.0
}

/// What makes a sample sound. Every kind can be told from a session, so that a replay sounds as the play did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trigger {
    /// The action code becomes one of these and was none of them in the frame before: something begins to happen.
    Code(Vec<ActionCode>),
    /// The player wishes for all of these at once and did not in the frame before: a key that means them, or a chord of keys, goes down.
    Wish(Vec<ActionCode>),
    /// The action code is one of these and the sample is not sounding: it is heard over and over as long as that lasts, each time to its end, as
    /// footsteps are.
    While(Vec<ActionCode>),
}

impl Trigger {
    /// The codes that it names.
    pub fn codes(&self) -> &[ActionCode] {
        match self {
            Self::Code(codes) | Self::Wish(codes) | Self::While(codes) => codes,
        }
    }
}

impl Sounds {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ambient.is_none() && self.samples.is_empty()
    }

    /// The files in `sounds/` that are needed, each once.
    pub fn files(&self) -> BTreeSet<&str> {
        let ambient = self.ambient.iter().map(|ambient| ambient.file.as_str());
        let samples = self.samples.iter().map(|sample| sample.file.as_str());
        ambient.chain(samples).collect()
    }

    /// Checks names, volumes and triggers for a world of `codes` action codes.
    pub(crate) fn validate(&self, codes: usize) -> Result<(), Flaw> {
        if let Some(ambient) = &self.ambient {
            check_file("sounds.ambient", &ambient.file)?;
            check_volume("sounds.ambient", ambient.volume)?;
        }
        if self.samples.len() > MOST_SAMPLES {
            return flaw("sounds.samples", format!("more than {MOST_SAMPLES}"));
        }
        for (index, sample) in self.samples.iter().enumerate() {
            let place = format!("sounds.samples[{index}]");
            check_file(&place, &sample.file)?;
            check_volume(&place, sample.volume)?;
            let named = sample.when.codes();
            let different: BTreeSet<_> = named.iter().collect();
            if named.is_empty() || named.len() > MOST_CODES || different.len() < named.len() {
                let reason = format!("must name 1 to {MOST_CODES} action codes, each once");
                return flaw(format!("{place}.when"), reason);
            }
            if let Some(code) = named.iter().find(|code| usize::from(code.0) >= codes) {
                let reason = format!("{code} is none of {codes} action codes");
                return flaw(format!("{place}.when"), reason);
            }
        }
        Ok(())
    }
}

impl WorldManifest {
    /// The files with the world's sounds, by their names in the bundle.
    pub fn sound_files(&self) -> BTreeSet<String> {
        let inside = self.sounds.files().into_iter();
        let inside = inside.map(|file| format!("{SOUNDS_FOLDER}/{file}"));
        self.sound.iter().cloned().chain(inside).collect()
    }
}

/// Reads the files with a world's sounds, by their names in the bundle.
///
/// # Errors
/// When one of them is missing or larger than any sound may be.
pub fn read_sound_files(
    source: &dyn BundleSource,
    manifest: &WorldManifest,
) -> error::Result<BTreeMap<String, Vec<u8>>> {
    let names = manifest.sound_files().into_iter();
    let read = names.map(|name| {
        let bytes = read_limited(source, &name, LARGEST_AMBIENT)?;
        Ok((name, bytes))
    });
    read.collect()
}

fn check_file(place: &str, name: &str) -> Result<(), Flaw> {
    match is_wav_name(name) {
        true => Ok(()),
        false => flaw(
            format!("{place}.file"),
            format!("{name:?} is no plain name of a WAV file"),
        ),
    }
}

/// Whether this is the plain name of a WAV file.
pub(crate) fn is_wav_name(name: &str) -> bool {
    is_safe_name(name) && !name.contains('/') && name.ends_with(".wav")
}

fn check_volume(place: &str, volume: f32) -> Result<(), Flaw> {
    match (0.0..=1.0).contains(&volume) {
        true => Ok(()),
        false => flaw(
            format!("{place}.volume"),
            format!("{volume} must lie in 0..=1"),
        ),
    }
}

/// The loaded sounds of a world.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Soundscape {
    /// Heard all the time, and the factor for its samples.
    pub ambient: Option<(Sound, f32)>,
    /// Heard when something happens.
    pub samples: Vec<LoadedSample>,
}

/// A sample of a [`Soundscape`].
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedSample {
    /// The sound.
    pub sound: Sound,
    /// Factor for its samples.
    pub volume: f32,
    /// What makes it sound.
    pub when: Trigger,
}

impl Soundscape {
    /// Whether there is nothing to hear.
    pub fn is_silent(&self) -> bool {
        self.ambient.is_none() && self.samples.is_empty()
    }

    /// Reads the files that a manifest names.
    pub(crate) fn read(source: &dyn BundleSource, manifest: &WorldManifest) -> error::Result<Self> {
        let in_folder = |file: &str| format!("{SOUNDS_FOLDER}/{file}");
        let ambient = match (&manifest.sound, &manifest.sounds.ambient) {
            (Some(file), _) => Some((read_sound(source, file, LARGEST_AMBIENT)?, 1.0)),
            (None, Some(Ambient { file, volume })) => {
                let sound = read_sound(source, &in_folder(file), LARGEST_AMBIENT)?;
                Some((sound, *volume))
            }
            (None, None) => None,
        };
        let mut samples = Vec::new();
        let mut left = LARGEST_SAMPLES;
        for sample in &manifest.sounds.samples {
            let file = in_folder(&sample.file);
            let sound = read_sound(source, &file, LARGEST_SAMPLE.min(left))?;
            left = left.saturating_sub(source.size(&file)?.unwrap_or(0));
            if sound.seconds() > LONGEST_SAMPLE {
                let reason = format!(
                    "{:.1} seconds, at most {LONGEST_SAMPLE} are played",
                    sound.seconds()
                );
                return Err(refused(source, &file, "sound", reason));
            }
            samples.push(LoadedSample {
                sound,
                volume: sample.volume,
                when: sample.when.clone(),
            });
        }
        Ok(Self { ambient, samples })
    }
}

fn read_sound(source: &dyn BundleSource, file: &str, limit: u64) -> error::Result<Sound> {
    let bytes = read_limited(source, file, limit)?;
    Sound::from_wav(&bytes).map_err(|reason| refused(source, file, "sound", reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BundleContents, WeightFormat, World, save, tiny_contents};
    use proptest::prelude::*;
    use std::io::Cursor;

    fn wav(pairs: u32, sample: f32) -> Vec<u8> {
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 8000,
            bits_per_sample: 32,
            sample_format: hound::SampleFormat::Float,
        };
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        (0..2 * pairs).for_each(|_| writer.write_sample(sample).unwrap());
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    fn sample(file: &str, when: Trigger) -> Sample {
        Sample {
            file: file.into(),
            volume: 0.5,
            when,
        }
    }

    fn codes(codes: &[u16]) -> Vec<ActionCode> {
        codes.iter().copied().map(ActionCode).collect()
    }

    /// A tiny world with a loop, a sample for a code and one for a chord.
    fn contents() -> BundleContents {
        let mut contents = tiny_contents(1).unwrap();
        contents.manifest.sounds = Sounds {
            ambient: Some(Ambient {
                file: "wind.wav".into(),
                volume: 0.25,
            }),
            samples: vec![
                sample("jump.wav", Trigger::Code(codes(&[2]))),
                sample("jump.wav", Trigger::Wish(codes(&[1, 2]))),
            ],
        };
        let files = [
            ("sounds/wind.wav", wav(100, 0.5)),
            ("sounds/jump.wav", wav(50, -0.5)),
        ];
        contents.files = files.map(|(name, bytes)| (name.to_owned(), bytes)).into();
        contents
    }

    fn refusal(change: impl FnOnce(&mut BundleContents)) -> String {
        let mut contents = contents();
        change(&mut contents);
        contents.world(WeightFormat::F16).unwrap_err().to_string()
    }

    #[test]
    fn sounds_are_saved_and_loaded_with_their_world() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny");
        save(&contents(), WeightFormat::F16, &path).unwrap();
        let world = World::load(&path).unwrap();
        assert_eq!(world.manifest.sounds, contents().manifest.sounds);
        let (ambient, volume) = world.soundscape.ambient.as_ref().unwrap();
        assert_eq!(
            (ambient.samples.len(), ambient.samples[0], *volume),
            (200, 0.5, 0.25)
        );
        let when: Vec<_> = world
            .soundscape
            .samples
            .iter()
            .map(|sample| &sample.when)
            .collect();
        assert_eq!(
            when,
            [&Trigger::Code(codes(&[2])), &Trigger::Wish(codes(&[1, 2]))]
        );
        assert_eq!(world.soundscape.samples[0].sound.samples[..2], [-0.5, -0.5]);
        // The frames are the same with and without sounds, and so is the hash.
        let silent = tiny_contents(1).unwrap();
        save(&silent, WeightFormat::F16, &path).unwrap();
        let silent = World::load(&path).unwrap();
        assert!(silent.soundscape.is_silent());
        assert_eq!(silent.hash, world.hash);
        assert!(!path.join("sounds").exists(), "old sounds are gone");
    }

    #[test]
    fn a_world_from_before_there_were_sounds_is_as_it_was() {
        let silent = tiny_contents(1).unwrap().manifest;
        let text = silent.to_text().unwrap();
        assert!(!text.contains("sounds"), "{text}");
        assert_eq!(WorldManifest::parse(&text).unwrap(), silent);
        let mut contents = tiny_contents(1).unwrap();
        contents.manifest.sound = Some("beat.wav".into());
        contents.files.insert("beat.wav".into(), wav(10, 0.1));
        let world = contents.world(WeightFormat::F16).unwrap();
        assert_eq!(world.soundscape.ambient.as_ref().unwrap().1, 1.0);
    }

    #[test]
    fn refusals_name_file_and_field() {
        let change_sample = |change: fn(&mut Sample)| {
            refusal(|contents| change(&mut contents.manifest.sounds.samples[1]))
        };
        for name in [
            "../jump.wav",
            "a/jump.wav",
            ".wav",
            "jump.ogg",
            "/jump.wav",
            "j p.wav",
        ] {
            let refused = refusal(|c| c.manifest.sounds.samples[1].file = name.into());
            assert!(refused.contains("sounds.samples[1].file"), "{refused}");
        }
        for volume in [-0.1, 1.5, f32::NAN, f32::INFINITY] {
            let refused = refusal(|c| c.manifest.sounds.samples[0].volume = volume);
            assert!(refused.contains("sounds.samples[0].volume"), "{refused}");
            let refused = refusal(|c| c.manifest.sounds.ambient.as_mut().unwrap().volume = volume);
            assert!(refused.contains("sounds.ambient.volume"), "{refused}");
        }
        for when in [&[][..], &[4], &[1, 1]] {
            let refused = refusal(|c| {
                c.manifest.sounds.samples[1].when = Trigger::Wish(codes(when));
            });
            assert!(refused.contains("sounds.samples[1].when"), "{refused}");
        }
        let missing = change_sample(|sample| sample.file = "missing.wav".into());
        assert!(
            missing.contains("sounds/missing.wav: file: is missing"),
            "{missing}"
        );
        let many = refusal(|c| {
            c.manifest.sounds.samples = vec![sample("jump.wav", Trigger::Code(codes(&[0]))); 65];
        });
        assert!(many.contains("sounds.samples: more than 64"), "{many}");
        let twice = refusal(|c| {
            c.manifest.sound = Some("wind.wav".into());
        });
        assert!(
            twice.contains("sound: says what sounds.ambient says"),
            "{twice}"
        );
        let put =
            |bytes: Vec<u8>| refusal(|c| drop(c.files.insert("sounds/jump.wav".into(), bytes)));
        let long = put(wav(8000 * 31, 0.0));
        assert!(
            long.contains("sounds/jump.wav: sound: 31.0 seconds"),
            "{long}"
        );
        let nan = put(wav(8, f32::NAN));
        assert!(nan.contains("sounds/jump.wav: sound: "), "{nan}");
        let empty = put(wav(0, 0.0));
        assert!(empty.contains("sounds/jump.wav: sound: "), "{empty}");
        let large = put(vec![0; (16 << 20) + 1]);
        assert!(large.contains("sounds/jump.wav: size: "), "{large}");
    }

    #[test]
    fn all_samples_together_are_limited() {
        let refused = refusal(|c| {
            c.manifest.sounds.samples = vec![sample("jump.wav", Trigger::Code(codes(&[0]))); 64];
            c.files
                .insert("sounds/jump.wav".into(), wav(8000 * 29, 0.0));
        });
        assert!(refused.contains("sounds/jump.wav: size: "), "{refused}");
    }

    proptest! {
        #[test]
        fn any_trigger_is_taken_or_refused(named in prop::collection::vec(0u16..6, 0..6), kind in 0usize..3) {
            let when = [Trigger::Wish, Trigger::Code, Trigger::While][kind](codes(&named));
            let sounds = Sounds { ambient: None, samples: vec![sample("a.wav", when)] };
            let different: BTreeSet<_> = named.iter().collect();
            let good = !named.is_empty() && different.len() == named.len() && named.iter().all(|&code| code < 4);
            prop_assert_eq!(sounds.validate(4).is_ok(), good);
        }
    }
}
