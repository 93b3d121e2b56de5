//! Reading what [`crate::prepare`] has written, by memory map.

use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use memmap2::Mmap;
use nn::{ActionCode, FrameSize, Transitions, generator};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, SafeTensors};

use crate::clips::push_unit;
use crate::dataset::Split;
use crate::{Error, Result};

/// Metadata entry that says which weights a shard comes from.
pub(crate) const IDENTITY: &str = "djinn";

/// Where shard number `number` of a split lies.
pub(crate) fn shard_path(folder: &Path, split: Split, number: usize) -> PathBuf {
    let name = match split {
        Split::Train => "train",
        Split::Validation => "validation",
    };
    folder.join(format!("{name}-{number:05}.safetensors"))
}

/// Sizes that prepared data must have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub frame: FrameSize,
    pub tokens_per_frame: usize,
    pub latent_width: usize,
    pub vocabulary: usize,
    pub codes: usize,
}

/// All shards of one split.
pub(crate) struct PreparedSet {
    sizes: Sizes,
    shards: Vec<Shard>,
    sequences: Vec<Sequence>,
}

/// An episode within a shard.
#[derive(Clone, Copy)]
struct Sequence {
    shard: usize,
    start: usize,
    length: usize,
}

struct Shard {
    map: Mmap,
    tokens: usize,
    codes: usize,
    forecast: usize,
    latents: usize,
}

/// Equally long clips of prepared frames.
pub(crate) struct PreparedClips {
    /// u32 `[B, T, N]`.
    pub tokens: Vec<u32>,
    /// Of each clip.
    pub codes: Vec<Transitions<ActionCode>>,
    /// `[B, T - 1, H, W, 3]`.
    pub forecast: Tensor,
    /// `[B, T - 1, N, L]`.
    pub latents: Tensor,
}

impl PreparedSet {
    /// Whether the file is a complete shard of this identity.
    pub fn is_current(path: &Path, identity: &str) -> bool {
        map(path).is_ok_and(|map| {
            SafeTensors::deserialize(&map).is_ok() && identity_of(&map).as_deref() == Some(identity)
        })
    }

    /// Opens the shards of a split that are there, of this identity.
    pub fn open(folder: &Path, split: Split, identity: &str, sizes: Sizes) -> Result<Self> {
        let mut set = Self {
            sizes,
            shards: Vec::new(),
            sequences: Vec::new(),
        };
        for number in 0.. {
            let path = shard_path(folder, split, number);
            if !path.exists() || !Self::is_current(&path, identity) {
                break;
            }
            set.add(&path)?;
        }
        Ok(set)
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let map = map(path)?;
        let refuse = |field: &str, reason: String| {
            Error::damaged(
                path,
                field,
                format!("{reason}; remove the file to prepare it anew"),
            )
        };
        let tensors =
            SafeTensors::deserialize(&map).map_err(|error| refuse("header", error.to_string()))?;
        let find = |name: &str, dtype: Dtype, shape: &[usize]| -> Result<(usize, usize)> {
            let view = tensors
                .tensor(name)
                .map_err(|error| refuse(name, error.to_string()))?;
            let (frames, rest) = view.shape().split_first().unwrap_or((&0, &[]));
            if view.dtype() != dtype || rest != shape {
                return Err(refuse(
                    name,
                    format!(
                        "{:?} {:?} is not {dtype:?} [_, {shape:?}]",
                        view.dtype(),
                        view.shape()
                    ),
                ));
            }
            Ok((
                view.data().as_ptr() as usize - map.as_ptr() as usize,
                *frames,
            ))
        };
        let Sizes {
            frame,
            tokens_per_frame: tokens,
            latent_width,
            vocabulary,
            codes: code_count,
        } = self.sizes;
        let (tokens_at, frames) = find("tokens", Dtype::U16, &[tokens])?;
        let (codes_at, codes) = find("codes", Dtype::U16, &[])?;
        let (forecast_at, forecasts) =
            find("forecast", Dtype::U8, &[frame.height, frame.width, 3])?;
        let (latents_at, latents) = find("latents", Dtype::F32, &[tokens, latent_width])?;
        let (starts_at, episodes) = find("episode_start", Dtype::I64, &[])?;
        if [codes, forecasts, latents] != [frames; 3] {
            return Err(refuse("codes", format!("not {frames} of everything")));
        }
        let check = |name: &str, at: usize, count: usize, limit: usize| {
            let mut values = map[at..at + count * 2].chunks_exact(2);
            match values.find(|pair| usize::from(u16::from_le_bytes([pair[0], pair[1]])) >= limit) {
                Some(pair) => Err(refuse(name, format!("{pair:?} is not below {limit}"))),
                None => Ok(()),
            }
        };
        check("tokens", tokens_at, frames * tokens, vocabulary)?;
        check("codes", codes_at, frames, code_count)?;
        let mut starts: Vec<usize> = map[starts_at..starts_at + episodes * 8]
            .chunks_exact(8)
            .map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap_or_default()) as usize)
            .collect();
        starts.push(frames);
        if starts.first() != Some(&0) || starts.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(refuse(
                "episode_start",
                "is not a rising list of frame numbers".to_owned(),
            ));
        }
        let shard = self.shards.len();
        self.sequences
            .extend(starts.windows(2).map(|pair| Sequence {
                shard,
                start: pair[0],
                length: pair[1] - pair[0],
            }));
        self.shards.push(Shard {
            map,
            tokens: tokens_at,
            codes: codes_at,
            forecast: forecast_at,
            latents: latents_at,
        });
        Ok(())
    }

    /// Frames in all.
    pub fn frames(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.length).sum()
    }

    /// The codes of all changes, episode by episode.
    pub fn codes(&self) -> Vec<Vec<ActionCode>> {
        let of_sequence = |sequence: &Sequence| {
            let changes = sequence.start..sequence.start + sequence.length - 1;
            let code = |frame| ActionCode(self.shards[sequence.shard].code(frame));
            changes.map(code).collect()
        };
        self.sequences.iter().map(of_sequence).collect()
    }

    /// How often each code occurs.
    pub fn code_counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.sizes.codes];
        for code in self.codes().into_iter().flatten() {
            counts[usize::from(code.0)] += 1;
        }
        counts
    }

    /// Draws clips of `length` frames.
    pub fn sampler(&self, length: usize) -> Result<PreparedSampler<'_>> {
        let mut clips = 0;
        let long_enough = |sequence: &&Sequence| sequence.length >= length;
        let sequences: Vec<Sequence> = self.sequences.iter().filter(long_enough).copied().collect();
        let ends = sequences.iter().map(|sequence| {
            clips += sequence.length - length + 1;
            clips
        });
        let ends = ends.collect();
        if clips == 0 {
            return Err(Error::TooLittleVideo(format!(
                "no prepared episode has {length} frames, as many as dynamics.clip_frames; ingest longer video or lower it"
            )));
        }
        Ok(PreparedSampler {
            set: self,
            sequences,
            ends,
            length,
        })
    }
}

impl Shard {
    fn u16_at(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.map[at], self.map[at + 1]])
    }

    fn code(&self, frame: usize) -> u16 {
        self.u16_at(self.codes + frame * 2)
    }
}

/// Draws clips of one length; every clip is equally likely.
pub(crate) struct PreparedSampler<'a> {
    set: &'a PreparedSet,
    sequences: Vec<Sequence>,
    ends: Vec<usize>,
    length: usize,
}

impl PreparedSampler<'_> {
    /// A random batch.
    pub fn batch(&self, count: usize, random: &mut ChaCha8Rng) -> Result<PreparedClips> {
        let all = self.ends.last().copied().unwrap_or(1);
        let places: Vec<(Sequence, usize)> = (0..count)
            .map(|_| {
                let number = random.random_range(0..all);
                let index = self.ends.partition_point(|&end| end <= number);
                let before = index.checked_sub(1).map_or(0, |before| self.ends[before]);
                (self.sequences[index], number - before)
            })
            .collect();
        self.clips(&places)
    }

    /// The same batches each time.
    pub fn fixed(&self, batches: usize, count: usize) -> Result<Vec<PreparedClips>> {
        (0..batches)
            .map(|batch| self.batch(count, &mut generator(0x5eed_0f0e, batch as u64)))
            .collect()
    }

    fn clips(&self, places: &[(Sequence, usize)]) -> Result<PreparedClips> {
        let Sizes {
            frame,
            tokens_per_frame,
            latent_width,
            ..
        } = self.set.sizes;
        let (clips, length) = (places.len(), self.length);
        let (mut tokens, mut codes) = (Vec::new(), Vec::new());
        let mut pixels = Vec::with_capacity(clips * (length - 1) * frame.bytes());
        let numbers = tokens_per_frame * latent_width;
        let mut latents = Vec::with_capacity(clips * (length - 1) * numbers);
        for (sequence, offset) in places {
            let shard = &self.set.shards[sequence.shard];
            let first = sequence.start + offset;
            for number in 0..length * tokens_per_frame {
                let at = shard.tokens + (first * tokens_per_frame + number) * 2;
                tokens.push(u32::from(shard.u16_at(at)));
            }
            codes.push(Transitions::of_frames(length, |frame| {
                ActionCode(shard.code(first + frame))
            }));
            let at = shard.forecast + first * frame.bytes();
            push_unit(
                &mut pixels,
                &shard.map[at..at + (length - 1) * frame.bytes()],
            );
            let at = shard.latents + first * numbers * 4;
            let bytes = &shard.map[at..at + (length - 1) * numbers * 4];
            latents.extend(
                bytes
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            );
        }
        let shape = (clips, length - 1, frame.height, frame.width, 3);
        Ok(PreparedClips {
            tokens,
            codes,
            forecast: Tensor::from_vec(pixels, shape, nn::device())?,
            latents: Tensor::from_vec(
                latents,
                (clips, length - 1, tokens_per_frame, latent_width),
                nn::device(),
            )?,
        })
    }
}

fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).map_err(Error::io(path))?;
    // SAFETY: the map is read only, and shards are written under another name and never changed afterwards.
    unsafe { Mmap::map(&file) }.map_err(Error::io(path))
}

fn identity_of(bytes: &[u8]) -> Option<String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    metadata.metadata().as_ref()?.get(IDENTITY).cloned()
}
