//! Between the stages: every frame's tokens, every change's code and every forecast, once, to disk.
//!
//! `RUN/prepared/train-00000.safetensors`, `validation-00000.safetensors` and so on hold whole episodes one after another,
//! for `F` frames: `tokens` (u16 `[F, N]`), `codes` (u16 `[F]`: entry i is the change from frame i to i+1), `forecast`
//! (u8 `[F, H, W, 3]`: entry i is the guess of frame i+1, made from frame i *as decoded from its tokens*, some of which were
//! replaced at random, and code i), `latents` (f32 `[F, N, L]`, the tokenizer's latents of that guess) and `episode_start`
//! (i64 `[E]`). What would follow an episode's last frame is left zero and never read. Shards are written one at a time and
//! renamed when complete, so a preparation that was interrupted, or whose time was over and which has more now, goes on where it stopped;
//! `preparation.json` keeps the time that it has taken.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::Tensor;
use latent_actions::LatentActionModel;
use nn::{FrameSize, generator};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};
use tokenizer::Tokenizer;

use crate::clips::{Clip, frames};
use crate::dataset::{Dataset, Episode, Split};
use crate::measure::CHUNK;
use crate::observer::{TrainEvent, TrainObserver};
use crate::prepared::{IDENTITY, PreparedSet, shard_path};
use crate::{Error, PreparationConfig, Result, files};

/// Frames after which a shard is closed, and into pieces of how many frames longer episodes are cut: so little is prepared between two
/// looks at the clock. The change across a cut is not trained on.
pub(crate) const SHARD_FRAMES: usize = 512;
/// Share of the time that held-out frames may take.
const VALIDATION_SHARE: f64 = 0.2;
/// Keeps this use of the seed apart from others.
const STREAM: u64 = 0x9e9a;

/// What preparation works with.
pub(crate) struct Preparation<'a> {
    pub dataset: &'a Dataset,
    pub tokenizer: &'a Tokenizer,
    pub latent_actions: &'a LatentActionModel,
    pub config: &'a PreparationConfig,
    /// Says which weights the tokens and forecasts come from.
    pub identity: String,
    pub seed: u64,
    /// Seconds, of all attempts together, after which no further shard is begun; there is at least one of each split.
    pub budget_seconds: f64,
    pub folder: PathBuf,
    pub cancel: &'a AtomicBool,
}

/// How far preparation has come, kept in a file beside the shards.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// As in [`Preparation`].
    identity: String,
    /// Seconds spent, in all attempts.
    pub seconds: f64,
    /// Shards that were made of what is held out and of what is trained on. Those that are lost are made again, whatever the time.
    #[serde(default)]
    shards: BTreeMap<Split, usize>,
}

impl Record {
    fn path(folder: &Path) -> PathBuf {
        folder.join("preparation.json")
    }

    /// What is known of the preparation of this identity: that nothing has been done where there is no file of it.
    pub fn read(folder: &Path, identity: &str) -> Self {
        let known = std::fs::read(Self::path(folder)).ok();
        known
            .and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok())
            .filter(|record| record.identity == identity)
            .unwrap_or_else(|| Self {
                identity: identity.to_owned(),
                seconds: 0.0,
                shards: BTreeMap::new(),
            })
    }

    fn shards(&self, split: Split) -> usize {
        self.shards.get(&split).copied().unwrap_or(0)
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let path = Self::path(folder);
        let bytes = serde_json::to_vec(self)
            .map_err(|error| Error::damaged(&path, "preparation", error.to_string()))?;
        files::write_atomically(&path, &bytes)
    }
}

impl Preparation<'_> {
    /// Prepares what is not prepared yet and gives the seconds that it took, in all attempts; `None` when it was asked to stop first.
    pub fn run(&self, observer: &mut dyn TrainObserver) -> Result<Option<f64>> {
        let start = Instant::now();
        files::make_folder(&self.folder)?;
        let mut record = Record::read(&self.folder, &self.identity);
        let before = record.seconds;
        let spent = || before + start.elapsed().as_secs_f64();
        let validation = self.episodes(Split::Validation, self.config.validation_frames);
        let train = self.episodes(Split::Train, usize::MAX);
        let total: usize = [&validation, &train]
            .into_iter()
            .flatten()
            .map(|episode| episode.length)
            .sum();
        // Later figures are to be compared with earlier ones, so what is held out stays as it was once there is something to train on.
        let measured = self.is_prepared(Split::Train, 0) || record.shards(Split::Train) > 0;
        let (mut done, mut worked) = (0, false);
        for (split, episodes) in [(Split::Validation, validation), (Split::Train, train)] {
            for (number, shard) in shards_of(&episodes).into_iter().enumerate() {
                let share = match split {
                    Split::Train => 1.0,
                    Split::Validation => VALIDATION_SHARE,
                };
                // What an earlier attempt has made counts, however late it is.
                let current = self.is_prepared(split, number);
                let known = current || number < record.shards(split);
                let over = number > 0 && !known && spent() > share * self.budget_seconds;
                if split == Split::Validation && (over || measured && !known && number > 0) {
                    break;
                }
                if over {
                    if worked {
                        observer.observe(&TrainEvent::Note(format!(
                            "prepared {done} of {total} frames in the time that was planned for it; the dynamics trains on these"
                        )));
                    }
                    return Ok(Some(record.seconds));
                }
                let frames: usize = shard.iter().map(|episode| episode.length).sum();
                if !current {
                    let mut random = generator(
                        self.seed,
                        STREAM + (number as u64 + 1) * 4 + u64::from(split == Split::Train),
                    );
                    let mut report = |frames: usize| {
                        observer.observe(&TrainEvent::Work {
                            what: "tokens and forecasts",
                            done: (done + frames) as u64,
                            total: total as u64,
                        });
                    };
                    let made = self.shard(shard, &mut random, &mut report)?;
                    if let Some(made) = &made {
                        made.write(&shard_path(&self.folder, split, number), &self.identity)?;
                        let shards = record.shards(split).max(number + 1);
                        record.shards.insert(split, shards);
                        worked = true;
                    }
                    record.seconds = spent();
                    record.write(&self.folder)?;
                    if made.is_none() {
                        return Ok(None);
                    }
                }
                done += frames;
            }
        }
        Ok(Some(record.seconds))
    }

    fn is_prepared(&self, split: Split, number: usize) -> bool {
        PreparedSet::is_current(&shard_path(&self.folder, split, number), &self.identity)
    }

    /// Episodes, the long ones in pieces, in an order of no meaning, up to so many frames.
    fn episodes(&self, split: Split, most_frames: usize) -> Vec<Episode> {
        let mut episodes: Vec<Episode> = self
            .dataset
            .episodes(split)
            .iter()
            .flat_map(pieces)
            .collect();
        episodes.shuffle(&mut generator(self.seed, STREAM));
        let mut frames = 0;
        episodes.retain(|episode| {
            let wanted = frames < most_frames;
            frames += if wanted { episode.length } else { 0 };
            wanted
        });
        episodes
    }

    fn shard(
        &self,
        episodes: &[Episode],
        random: &mut ChaCha8Rng,
        report: &mut dyn FnMut(usize),
    ) -> Result<Option<Shard>> {
        let config = self.tokenizer.config();
        let mut shard = Shard {
            size: self.dataset.frame_size(),
            tokens_per_frame: config.tokens_per_frame(),
            latent_width: config.latent_width(),
            tokens: Vec::new(),
            codes: Vec::new(),
            forecast: Vec::new(),
            latents: Vec::new(),
            episode_start: Vec::new(),
        };
        for episode in episodes {
            shard.episode_start.push(shard.codes.len() as i64);
            let whole = match config.temporal_window {
                Some(_) => Some(self.whole_episode(episode, random)?),
                None => None,
            };
            for start in (0..episode.length).step_by(CHUNK) {
                if self.cancel.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let range = start..(start + CHUNK).min(episode.length);
                let coded = match &whole {
                    Some(whole) => whole.part(range.clone())?,
                    None => self.code_singly(episode, range.clone(), random)?,
                };
                self.push(&mut shard, episode, range, &coded)?;
                report(shard.codes.len());
            }
        }
        Ok(Some(shard))
    }

    fn pictures(&self, episode: &Episode, range: Range<usize>) -> Result<Tensor> {
        let clip = Clip {
            episode: *episode,
            start: range.start,
            length: range.len(),
        };
        frames(self.dataset, &[clip])
    }

    /// Codes frames each on its own.
    fn code_singly(
        &self,
        episode: &Episode,
        range: Range<usize>,
        random: &mut ChaCha8Rng,
    ) -> Result<Coded> {
        let pictures = self
            .pictures(episode, range)?
            .transpose(0, 1)?
            .contiguous()?;
        let tokens = self.tokenizer.encode(&pictures)?;
        let decoded = self.tokenizer.decode(&self.corrupt(&tokens, random)?)?;
        Ok(Coded {
            tokens: tokens.squeeze(1)?,
            decoded: decoded.squeeze(1)?,
        })
    }

    /// Codes an episode in one go, for tokenizers that look back.
    fn whole_episode(&self, episode: &Episode, random: &mut ChaCha8Rng) -> Result<Coded> {
        let tokens = self
            .tokenizer
            .encode(&self.pictures(episode, 0..episode.length)?)?;
        let decoded = self.tokenizer.decode(&self.corrupt(&tokens, random)?)?;
        Ok(Coded {
            tokens: tokens.squeeze(0)?,
            decoded: decoded.squeeze(0)?,
        })
    }

    /// Replaces a random share of the tokens, up to the configured one.
    fn corrupt(&self, tokens: &Tensor, random: &mut ChaCha8Rng) -> Result<Tensor> {
        let vocabulary = self.tokenizer.config().vocabulary() as u32;
        let mut values = tokens.flatten_all()?.to_vec1::<u32>()?;
        for frame in values.chunks_mut(self.tokenizer.config().tokens_per_frame().max(1)) {
            let share = self.config.corruption * random.random::<f64>();
            for token in frame {
                if random.random::<f64>() < share {
                    *token = random.random_range(0..vocabulary);
                }
            }
        }
        Ok(Tensor::from_vec(values, tokens.shape(), nn::device())?)
    }

    /// Adds frames `range` of an episode with their codes and forecasts.
    fn push(
        &self,
        shard: &mut Shard,
        episode: &Episode,
        range: Range<usize>,
        coded: &Coded,
    ) -> Result<()> {
        let count = range.len();
        // Changes i -> i+1 for each frame but the episode's last; the encoder wants the frame before, too.
        let changes = count - usize::from(range.end == episode.length);
        let before = range.start.saturating_sub(1);
        let mut codes = vec![0; count];
        let numbers = shard.tokens_per_frame * shard.latent_width;
        let (mut pixels, mut latents) = (
            vec![0; count * shard.size.bytes()],
            vec![0f32; count * numbers],
        );
        if changes > 0 {
            let pictures = self.pictures(episode, before..range.start + changes + 1)?;
            let found = self.latent_actions.codes(&pictures)?.squeeze(0)?;
            let found = found.narrow(0, range.start - before, changes)?;
            codes[..changes].copy_from_slice(&found.to_vec1::<u32>()?);
            let guess = self
                .latent_actions
                .forecast(&coded.decoded.narrow(0, 0, changes)?.contiguous()?, &found)?;
            let latent = self.tokenizer.latents(&guess.unsqueeze(1)?)?;
            let bytes = guess.flatten_all()?.to_vec1::<f32>()?;
            for (to, value) in pixels.iter_mut().zip(bytes) {
                *to = (value * 255.0).round() as u8;
            }
            latents[..changes * numbers].copy_from_slice(&latent.flatten_all()?.to_vec1::<f32>()?);
        }
        let tokens = coded.tokens.flatten_all()?.to_vec1::<u32>()?;
        shard
            .tokens
            .extend(tokens.iter().map(|&token| token as u16));
        shard.codes.extend(codes.iter().map(|&code| code as u16));
        shard.forecast.extend(pixels);
        shard.latents.extend(latents);
        Ok(())
    }
}

/// An episode in pieces of at most [`SHARD_FRAMES`] frames, all of about the same length.
fn pieces(episode: &Episode) -> Vec<Episode> {
    let count = episode.length.div_ceil(SHARD_FRAMES).max(1);
    let end = |piece: usize| episode.length * piece / count;
    (0..count)
        .map(|piece| Episode {
            start: episode.start + end(piece),
            length: end(piece + 1) - end(piece),
            ..*episode
        })
        .collect()
}

/// Groups episodes into shards.
fn shards_of(episodes: &[Episode]) -> Vec<&[Episode]> {
    let mut shards = Vec::new();
    let (mut first, mut frames) = (0, 0);
    for (index, episode) in episodes.iter().enumerate() {
        frames += episode.length;
        if frames >= SHARD_FRAMES || index + 1 == episodes.len() {
            shards.push(&episodes[first..=index]);
            (first, frames) = (index + 1, 0);
        }
    }
    shards
}

/// Tokens `[F, N]` of frames, and the frames `[F, H, W, 3]` as decoded from slightly corrupted tokens.
struct Coded {
    tokens: Tensor,
    decoded: Tensor,
}

impl Coded {
    fn part(&self, range: Range<usize>) -> Result<Self> {
        let part = |tensor: &Tensor| tensor.narrow(0, range.start, range.len())?.contiguous();
        Ok(Self {
            tokens: part(&self.tokens)?,
            decoded: part(&self.decoded)?,
        })
    }
}

/// A shard in the making.
struct Shard {
    size: FrameSize,
    tokens_per_frame: usize,
    latent_width: usize,
    tokens: Vec<u16>,
    codes: Vec<u16>,
    forecast: Vec<u8>,
    latents: Vec<f32>,
    episode_start: Vec<i64>,
}

impl Shard {
    fn write(&self, path: &Path, identity: &str) -> Result<()> {
        fn bytes<T: Copy, const N: usize>(values: &[T], le: impl Fn(T) -> [u8; N]) -> Vec<u8> {
            values.iter().flat_map(|&value| le(value)).collect()
        }
        let frames = self.codes.len();
        let parts = [
            (
                "tokens",
                Dtype::U16,
                vec![frames, self.tokens_per_frame],
                bytes(&self.tokens, u16::to_le_bytes),
            ),
            (
                "codes",
                Dtype::U16,
                vec![frames],
                bytes(&self.codes, u16::to_le_bytes),
            ),
            (
                "forecast",
                Dtype::U8,
                vec![frames, self.size.height, self.size.width, 3],
                self.forecast.clone(),
            ),
            (
                "latents",
                Dtype::F32,
                vec![frames, self.tokens_per_frame, self.latent_width],
                bytes(&self.latents, f32::to_le_bytes),
            ),
            (
                "episode_start",
                Dtype::I64,
                vec![self.episode_start.len()],
                bytes(&self.episode_start, i64::to_le_bytes),
            ),
        ];
        let refuse =
            |error: safetensors::SafeTensorError| Error::damaged(path, "shard", error.to_string());
        let mut views = Vec::new();
        for (name, dtype, shape, data) in &parts {
            let view = TensorView::new(*dtype, shape.clone(), data).map_err(refuse)?;
            views.push((*name, view));
        }
        let metadata = [(IDENTITY.to_owned(), identity.to_owned())].into();
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(refuse)?;
        files::write_atomically(path, &bytes)
    }
}

#[cfg(test)]
mod tests;
