//! Random clips of a dataset as tensors.

use candle_core::Tensor;
use nn::{Transitions, generator};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::dataset::{Dataset, Episode, Split};
use crate::{Error, Result};

/// A place in a dataset: `length` frames of an episode from `start` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clip {
    pub episode: Episode,
    pub start: usize,
    pub length: usize,
}

/// Draws clips of one length; every clip of the split is equally likely.
pub(crate) struct ClipSampler<'a> {
    dataset: &'a Dataset,
    episodes: Vec<Episode>,
    /// Clips in all episodes up to and including each.
    ends: Vec<usize>,
    length: usize,
}

impl<'a> ClipSampler<'a> {
    /// Clips of `length` frames of one split.
    ///
    /// # Errors
    /// When no episode is that long.
    pub fn new(dataset: &'a Dataset, split: Split, length: usize) -> Result<Self> {
        let long_enough = |episode: &&Episode| episode.length >= length;
        let episodes: Vec<Episode> = dataset
            .episodes(split)
            .iter()
            .filter(long_enough)
            .copied()
            .collect();
        let mut clips = 0;
        let ends = episodes.iter().map(|episode| {
            clips += episode.length - length + 1;
            clips
        });
        let ends = ends.collect();
        if clips == 0 {
            let name = match split {
                Split::Train => "training",
                Split::Validation => "validation",
            };
            return Err(Error::TooLittleVideo(format!(
                "the dataset {} has no {name} episode of {length} frames or more (the longest has {}); ingest more or longer video",
                dataset.path().display(),
                longest_episode(dataset, split)
            )));
        }
        Ok(Self {
            dataset,
            episodes,
            ends,
            length,
        })
    }

    /// Clips of the video that models are measured on ([`measured_split`]).
    ///
    /// # Errors
    /// When no episode of it is long enough.
    pub fn held_out(dataset: &'a Dataset, length: usize) -> Result<Self> {
        Self::new(dataset, measured_split(dataset), length).map_err(|error| {
            // Where training video is too short as well, that is the first thing to mend.
            let training = Self::new(dataset, Split::Train, length);
            training.err().unwrap_or(error)
        })
    }

    /// A clip.
    pub fn draw(&self, random: &mut ChaCha8Rng) -> Clip {
        let all = self.ends.last().copied().unwrap_or(1);
        let number = random.random_range(0..all);
        let index = self.ends.partition_point(|&end| end <= number);
        let before = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Clip {
            episode: self.episodes[index],
            start: number - before,
            length: self.length,
        }
    }

    /// The same `count` clips each time.
    pub fn fixed(&self, count: usize) -> Vec<Clip> {
        const FIXED_SEED: u64 = 0x5eed_0f0e;
        let mut random = generator(FIXED_SEED, self.length as u64);
        (0..count).map(|_| self.draw(&mut random)).collect()
    }

    /// The frames of clips, `[B, T, H, W, 3]`, values 0..1.
    ///
    /// # Errors
    /// When the tensor cannot be made.
    pub fn frames(&self, clips: &[Clip]) -> Result<Tensor> {
        frames(self.dataset, clips)
    }

    /// A random batch of frames `[count, T, H, W, 3]`.
    ///
    /// # Errors
    /// As [`Self::frames`].
    pub fn batch(&self, count: usize, random: &mut ChaCha8Rng) -> Result<Tensor> {
        let clips: Vec<Clip> = (0..count).map(|_| self.draw(random)).collect();
        self.frames(&clips)
    }
}

/// The video that models are measured on: what is held out, and training video only where nothing at all is held out. It does not depend on
/// how long clips must be, or figures of training video would go by the name of held-out ones.
pub(crate) fn measured_split(dataset: &Dataset) -> Split {
    match dataset.episodes(Split::Validation) {
        [] => Split::Train,
        _ => Split::Validation,
    }
}

/// Frames in the longest episode of a split.
pub(crate) fn longest_episode(dataset: &Dataset, split: Split) -> usize {
    let lengths = dataset.episodes(split).iter().map(|e| e.length);
    lengths.max().unwrap_or(0)
}

/// The frames of equally long clips, `[B, T, H, W, 3]`, values 0..1.
pub(crate) fn frames(dataset: &Dataset, clips: &[Clip]) -> Result<Tensor> {
    let size = dataset.frame_size();
    let length = clips.first().map_or(0, |clip| clip.length);
    let mut values = Vec::with_capacity(clips.len() * length * size.bytes());
    for clip in clips {
        let bytes = dataset.frames(&clip.episode, clip.start..clip.start + clip.length);
        push_unit(&mut values, bytes);
    }
    let shape = (clips.len(), length, size.height, size.width, 3);
    Ok(Tensor::from_vec(values, shape, nn::device())?)
}

/// Appends bytes as numbers 0..1.
pub(crate) fn push_unit(values: &mut Vec<f32>, bytes: &[u8]) {
    values.extend(bytes.iter().map(|&byte| f32::from(byte) * (1.0 / 255.0)));
}

/// The true actions of a clip, where the dataset has any.
pub(crate) fn true_actions(dataset: &Dataset, clip: &Clip) -> Option<Transitions<Option<u16>>> {
    let actions = dataset.true_actions(&clip.episode)?;
    actions.part(clip.start..clip.start + clip.length)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::dataset::{DatasetWriter, MAXIMUM_SHARD_BYTES, WriterOptions};
    use std::path::Path;

    /// A dataset of noise of the tiny world's size, in episodes of these lengths.
    pub(crate) fn noise(path: &Path, rate: f64, lengths: &[(usize, Split)]) -> Dataset {
        let mut random = generator(5, 0);
        videos(path, rate, lengths, |bytes| {
            (0..bytes).map(|_| random.random()).collect()
        })
    }

    /// A dataset of the tiny world's size, in episodes of these lengths; `frame` makes the bytes of each frame, as many as it is told.
    pub(crate) fn videos(
        path: &Path,
        rate: f64,
        lengths: &[(usize, Split)],
        mut frame: impl FnMut(usize) -> Vec<u8>,
    ) -> Dataset {
        let (height, width) = (16, 24);
        let options = WriterOptions {
            height,
            width,
            frames_per_second: rate,
            fit: media::Fit::Crop,
            crop: None,
            max_shard_bytes: MAXIMUM_SHARD_BYTES,
        };
        let mut writer = DatasetWriter::create(path, options).unwrap();
        for (length, _) in lengths {
            writer.begin_source("x".into(), "0".repeat(64), "test".into());
            for _ in 0..*length {
                writer.push_frame(&frame(height * width * 3), None).unwrap();
            }
            writer.end_episode();
        }
        let mut records = writer.episodes().to_vec();
        for (record, (_, split)) in records.iter_mut().zip(lengths) {
            record.split = *split;
        }
        writer.finish(records).unwrap();
        Dataset::open(path).unwrap()
    }

    #[test]
    fn training_video_is_measured_on_only_where_nothing_is_held_out() {
        let folder = tempfile::tempdir().unwrap();
        let none = noise(&folder.path().join("none"), 15.0, &[(30, Split::Train)]);
        let sampler = ClipSampler::held_out(&none, 20).unwrap();
        assert_eq!(sampler.fixed(3)[0].episode.split, Split::Train);

        let lengths = [(30, Split::Train), (6, Split::Validation)];
        let short = noise(&folder.path().join("short"), 15.0, &lengths);
        let fits = ClipSampler::held_out(&short, 6).unwrap();
        let validation = |clip: &Clip| clip.episode.split == Split::Validation;
        assert!(fits.fixed(5).iter().all(validation));
        let error = ClipSampler::held_out(&short, 7).err().unwrap().to_string();
        assert!(
            error.contains("no validation episode of 7 frames") && error.contains("longest has 6"),
            "{error}"
        );
    }
}
