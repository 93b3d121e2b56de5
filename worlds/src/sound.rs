//! A sound of a world: WAV in, samples out.

use std::io::Cursor;

/// Longest sound track, in samples of all channels together: ten minutes of stereo at 48 kHz.
const MOST_SAMPLES: usize = 10 * 60 * 48_000 * 2;

/// A sound: an ambient loop, or a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// Samples in a second.
    pub sample_rate: u32,
    /// 1 or 2; the samples of the channels take turns.
    pub channels: u16,
    /// Samples from -1 to 1.
    pub samples: Vec<f32>,
}

impl Sound {
    /// How long it is.
    pub fn seconds(&self) -> f64 {
        let pairs = self.samples.len() / usize::from(self.channels).max(1);
        pairs as f64 / f64::from(self.sample_rate.max(1))
    }

    /// Reads a WAV file's bytes.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_wav(bytes: &[u8]) -> Result<Self, String> {
        let say = |error: hound::Error| error.to_string();
        let mut reader = hound::WavReader::new(Cursor::new(bytes)).map_err(say)?;
        let spec = reader.spec();
        if !(1..=2).contains(&spec.channels) {
            return Err(format!(
                "{} channels, only 1 or 2 are played",
                spec.channels
            ));
        }
        if !(8_000..=192_000).contains(&spec.sample_rate) {
            return Err(format!(
                "{} samples a second, 8,000 to 192,000 are played",
                spec.sample_rate
            ));
        }
        let mut samples = Vec::new();
        let mut take = |sample: f32| {
            if !sample.is_finite() {
                return Err("holds what is no number".to_owned());
            }
            if samples.len() >= MOST_SAMPLES {
                return Err(format!("holds more than {MOST_SAMPLES} samples"));
            }
            samples.push(sample.clamp(-1.0, 1.0));
            Ok(())
        };
        match (spec.sample_format, spec.bits_per_sample) {
            (hound::SampleFormat::Float, 32) => {
                for sample in reader.samples::<f32>() {
                    take(sample.map_err(say)?)?;
                }
            }
            (hound::SampleFormat::Int, bits @ 8..=32) => {
                let full = (1u64 << (bits - 1)) as f32;
                for sample in reader.samples::<i32>() {
                    take(sample.map_err(say)? as f32 / full)?;
                }
            }
            (_, bits) => return Err(format!("{bits} bits a sample are not played")),
        }
        if samples.is_empty() || !samples.len().is_multiple_of(usize::from(spec.channels)) {
            return Err("holds no whole sample".into());
        }
        Ok(Self {
            sample_rate: spec.sample_rate,
            channels: spec.channels,
            samples,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wav(format: hound::SampleFormat, bits_per_sample: u16, channels: u16) -> Vec<u8> {
        let spec = hound::WavSpec {
            channels,
            sample_rate: 8000,
            bits_per_sample,
            sample_format: format,
        };
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        for i in 0..12 {
            match format {
                hound::SampleFormat::Float => writer.write_sample(i as f32 / 16.0).unwrap(),
                hound::SampleFormat::Int => writer.write_sample(i * 8).unwrap(),
            }
        }
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    #[test]
    fn samples_are_scaled_to_one() {
        let float = Sound::from_wav(&wav(hound::SampleFormat::Float, 32, 2)).unwrap();
        assert_eq!((float.sample_rate, float.channels), (8000, 2));
        assert_eq!(float.samples[3], 3.0 / 16.0);
        let small = Sound::from_wav(&wav(hound::SampleFormat::Int, 8, 1)).unwrap();
        assert_eq!(small.samples[3], 24.0 / 128.0);
    }

    #[test]
    fn many_channels_are_refused() {
        let reason = Sound::from_wav(&wav(hound::SampleFormat::Int, 16, 6)).unwrap_err();
        assert!(reason.contains("6 channels"));
    }

    proptest! {
        #[test]
        fn damaged_files_are_read_or_refused(at in 0usize..200, byte in any::<u8>(), cut in any::<bool>()) {
            let mut bytes = wav(hound::SampleFormat::Int, 16, 2);
            let at = at % bytes.len();
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            if let Ok(sound) = Sound::from_wav(&bytes) {
                prop_assert!(sound.samples.len() <= 12 * 4);
            }
        }
    }
}
