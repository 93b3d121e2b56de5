//! Sound as WAV files.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavReader, WavSpec};

use crate::Error;

/// Channels that are written: left and right.
pub const CHANNELS: u16 = 2;

/// Most samples that are read from a file: six hours of stereo at 48 kHz.
const MOST_SAMPLES: u32 = 6 * 3600 * 48_000 * 2;

/// Most bytes of samples in a file: its own figures have 32 bits.
const MOST_BYTES: u64 = u32::MAX as u64 - 4096;

/// How samples are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WavFormat {
    /// 32-bit floating point: nothing is lost.
    #[default]
    Float,
    /// 16-bit whole numbers: half the size, and every player takes it.
    Integer16,
}

/// Writes stereo sound.
pub struct WavWriter {
    path: PathBuf,
    writer: hound::WavWriter<BufWriter<File>>,
    format: WavFormat,
    /// Bytes of samples so far.
    bytes: u64,
}

impl WavWriter {
    /// Creates a file of 32-bit floating point samples, replacing one that is there.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] for a sample rate of zero, [`Error::Io`].
    pub fn create(path: &Path, sample_rate: u32) -> Result<Self, Error> {
        Self::create_as(path, sample_rate, WavFormat::Float)
    }

    /// As [`WavWriter::create`], in the given format.
    ///
    /// # Errors
    ///
    /// As [`WavWriter::create`].
    pub fn create_as(path: &Path, sample_rate: u32, format: WavFormat) -> Result<Self, Error> {
        if !(1..=768_000).contains(&sample_rate) {
            return Err(Error::InvalidSetting {
                what: "sample rate",
                expected: "1 to 768000 samples per second".to_owned(),
                got: sample_rate.to_string(),
            });
        }
        let (bits_per_sample, sample_format) = match format {
            WavFormat::Float => (32, SampleFormat::Float),
            WavFormat::Integer16 => (16, SampleFormat::Int),
        };
        let spec = WavSpec {
            channels: CHANNELS,
            sample_rate,
            bits_per_sample,
            sample_format,
        };
        let writer =
            hound::WavWriter::create(path, spec).map_err(|error| wav_error(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            writer,
            format,
            bytes: 0,
        })
    }

    /// Bytes of so many samples.
    fn size(&self, samples: usize) -> u64 {
        let width = match self.format {
            WavFormat::Float => 4,
            WavFormat::Integer16 => 2,
        };
        samples as u64 * width
    }

    /// Whether the file, whose own figures have 32 bits, can hold so many more samples.
    pub fn has_room(&self, samples: usize) -> bool {
        self.bytes + self.size(samples) <= MOST_BYTES
    }

    /// Adds samples from -1 to 1, left and right in turn. An odd number of them is an error.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`], or [`Error::Io`] as when the disk is full.
    pub fn write(&mut self, samples: &[f32]) -> Result<(), Error> {
        if !samples.len().is_multiple_of(usize::from(CHANNELS)) {
            return Err(Error::encode(
                &self.path,
                format!("{} samples are not whole pairs", samples.len()),
            ));
        }
        if !self.has_room(samples.len()) {
            return Err(Error::encode(&self.path, "a WAV file holds 4 GB at most"));
        }
        self.bytes += self.size(samples.len());
        let path = &self.path;
        for &sample in samples {
            let sample = if sample.is_finite() { sample } else { 0.0 };
            let written = match self.format {
                WavFormat::Float => self.writer.write_sample(sample),
                WavFormat::Integer16 => self
                    .writer
                    .write_sample((sample.clamp(-1.0, 1.0) * 32_767.0).round() as i16),
            };
            written.map_err(|error| wav_error(path, error))?;
        }
        Ok(())
    }

    /// Brings the file up to date, so that what was written so far survives a crash.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn flush(&mut self) -> Result<(), Error> {
        self.writer
            .flush()
            .map_err(|error| wav_error(&self.path, error))
    }

    /// Completes the file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn finish(self) -> Result<(), Error> {
        self.writer
            .finalize()
            .map_err(|error| wav_error(&self.path, error))
    }
}

/// Sound in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Sound {
    /// Samples per second and channel.
    pub sample_rate: u32,
    /// Number of channels.
    pub channels: u16,
    /// Samples from -1 to 1, the channels in turn.
    pub samples: Vec<f32>,
}

/// Reads a WAV file of 8 to 32 bits.
///
/// # Errors
///
/// [`Error::Io`]; [`Error::Malformed`] for a damaged file or one of more than six hours.
pub fn read_wav(path: &Path) -> Result<Sound, Error> {
    let reader = WavReader::open(path).map_err(|error| wav_error(path, error))?;
    let spec = reader.spec();
    if reader.len() > MOST_SAMPLES {
        return Err(Error::malformed(
            path,
            format!("{} samples are too many", reader.len()),
        ));
    }
    let samples: Result<Vec<f32>, hound::Error> = match spec.sample_format {
        SampleFormat::Float => reader.into_samples::<f32>().collect(),
        SampleFormat::Int => {
            let scale = 1.0 / (1i64 << spec.bits_per_sample.clamp(1, 32).saturating_sub(1)) as f32;
            reader
                .into_samples::<i32>()
                .map(|sample| sample.map(|sample| sample as f32 * scale))
                .collect()
        }
    };
    Ok(Sound {
        sample_rate: spec.sample_rate,
        channels: spec.channels,
        samples: samples.map_err(|error| wav_error(path, error))?,
    })
}

fn wav_error(path: &Path, error: hound::Error) -> Error {
    match error {
        hound::Error::IoError(source) => Error::io(path)(source),
        other => Error::malformed(path, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tone() -> Vec<f32> {
        (0..2000).map(|i| (i as f32 * 0.05).sin() * 0.8).collect()
    }

    #[test]
    fn there_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        for (format, tolerance) in [(WavFormat::Float, 0.0), (WavFormat::Integer16, 1e-4)] {
            let mut writer = WavWriter::create_as(&path, 48_000, format).unwrap();
            writer.write(&tone()).unwrap();
            writer.finish().unwrap();
            let sound = read_wav(&path).unwrap();
            assert_eq!(
                (sound.sample_rate, sound.channels, sound.samples.len()),
                (48_000, 2, 2000)
            );
            assert!(
                sound
                    .samples
                    .iter()
                    .zip(tone())
                    .all(|(a, b)| (a - b).abs() <= tolerance)
            );
        }
    }

    #[test]
    fn what_was_flushed_survives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        let mut writer = WavWriter::create(&path, 48_000).unwrap();
        writer.write(&tone()).unwrap();
        writer.flush().unwrap();
        // As after a kill: nothing is finished or dropped.
        let copy = folder.path().join("b.wav");
        std::fs::copy(&path, &copy).unwrap();
        assert_eq!(read_wav(&copy).unwrap().samples.len(), 2000);
        assert!(writer.write(&[0.0]).is_err());
    }

    proptest! {
        #[test]
        fn damaged_files_are_errors_or_sound(at in 0usize..200, byte: u8, cut in 0usize..9000) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.wav");
            let mut writer = WavWriter::create_as(&path, 48_000, WavFormat::Integer16).unwrap();
            writer.write(&tone()).unwrap();
            writer.finish().unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[at] = byte;
            bytes.truncate(cut);
            std::fs::write(&path, bytes).unwrap();
            let _ = read_wav(&path);
        }
    }
}
