//! Figures of models on fixed clips, shared by evaluation while training and by `djinn eval`.

use std::collections::BTreeMap;

use candle_core::Tensor;
use latent_actions::LatentActionModel;
use nn::quality::{Edges, normalised_mutual_information, psnr, ssim};
use nn::{FrameSize, generator};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tokenizer::Tokenizer;

use crate::Result;
use crate::clips::{Clip, frames, true_actions};
use crate::dataset::Dataset;

/// Frames that go through a model at a time.
pub(crate) const CHUNK: usize = 32;

/// The PSNR of each frame of `a` with the same frame of `b`, both `[.., H, W, 3]`; values beyond 0..1 are clamped.
pub(crate) fn frame_psnrs(a: &Tensor, b: &Tensor, size: FrameSize) -> Result<Vec<f64>> {
    let a = a.clamp(0f32, 1f32)?.flatten_all()?.to_vec1::<f32>()?;
    let b = b.clamp(0f32, 1f32)?.flatten_all()?.to_vec1::<f32>()?;
    let (a, b) = (a.chunks_exact(size.bytes()), b.chunks_exact(size.bytes()));
    Ok(a.zip(b).map(|(a, b)| psnr(a, b)).collect())
}

/// The mean; 0 of nothing.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The median, of an even number the mean of the middle two; 0 of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// What a tokenizer keeps of held-out frames.
pub(crate) struct TokenizerQuality {
    pub psnr: f64,
    pub ssim: f64,
    pub codes_used: usize,
    /// Edge strength of decoded frames as a share of the real ones'.
    pub edges: f64,
    /// Mean error of edges, as a share of the real ones' strength.
    pub edge_error: f64,
}

/// Measures a tokenizer on equally long clips.
pub(crate) fn tokenizer_quality(
    tokenizer: &Tokenizer,
    dataset: &Dataset,
    clips: &[Clip],
) -> Result<TokenizerQuality> {
    let size = dataset.frame_size();
    let (mut psnrs, mut ssims) = (Vec::new(), Vec::new());
    let mut edges = Edges::default();
    let mut used = vec![false; tokenizer.config().vocabulary()];
    let length = clips.first().map_or(1, |clip| clip.length);
    for clips in clips.chunks((CHUNK / length).max(1)) {
        let originals = frames(dataset, clips)?;
        let tokens = tokenizer.encode(&originals)?;
        let decoded = tokenizer.decode(&tokens)?;
        for token in tokens.flatten_all()?.to_vec1::<u32>()? {
            if let Some(used) = used.get_mut(token as usize) {
                *used = true;
            }
        }
        psnrs.extend(frame_psnrs(&originals, &decoded, size)?);
        let originals = originals.flatten_all()?.to_vec1::<f32>()?;
        let decoded = decoded.flatten_all()?.to_vec1::<f32>()?;
        let pairs = originals
            .chunks_exact(size.bytes())
            .zip(decoded.chunks_exact(size.bytes()));
        for (a, b) in pairs {
            ssims.push(ssim(a, b, size));
            edges = edges + Edges::of(a, b, size);
        }
    }
    Ok(TokenizerQuality {
        edges: edges.strength / edges.real.max(1e-12),
        edge_error: edges.error / edges.real.max(1e-12),
        psnr: mean(&psnrs),
        ssim: mean(&ssims),
        codes_used: used.iter().filter(|&&used| used).count(),
    })
}

/// How much codes tell about true actions, over the changes of which these are known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Agreement {
    /// Normalised mutual information.
    pub nmi: f64,
    /// The same with the true actions shuffled: what so many changes give by chance alone.
    pub chance: f64,
    /// Changes, each counted once however many clips show it.
    pub changes: usize,
}

/// Fewer known changes than this say nothing.
const FEWEST_CHANGES: usize = 50;
/// Shuffles whose mean is the level of chance.
const SHUFFLES: usize = 20;

impl Agreement {
    /// Of pairs of a code and a true action.
    fn of(pairs: &[(u32, u32)]) -> Self {
        let (codes, mut truth): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
        let nmi = normalised_mutual_information(&codes, &truth);
        let mut random = generator(0x7a6d, 2);
        let shuffled: Vec<f64> = (0..SHUFFLES)
            .map(|_| {
                truth.shuffle(&mut random);
                normalised_mutual_information(&codes, &truth)
            })
            .collect();
        Self {
            nmi,
            chance: mean(&shuffled),
            changes: pairs.len(),
        }
    }

    /// For people.
    pub fn to_text(self) -> String {
        let Self {
            nmi,
            chance,
            changes,
        } = self;
        match changes {
            0 => "of no held-out change is the true action known".to_owned(),
            1..FEWEST_CHANGES => {
                format!("{nmi:.3} over {changes} changes, too few to mean anything")
            }
            _ => format!("{nmi:.3} over {changes} changes ({chance:.3} by chance)"),
        }
    }
}

/// Pairs of a code and the true action of the same change, each change once, from the codes of clips, `[B, T - 2]` from change 1 on; `None` where no true
/// actions are known.
fn known_actions(
    dataset: &Dataset,
    clips: &[Clip],
    codes: &Tensor,
) -> Result<Option<Vec<(u32, u32)>>> {
    let mut pairs = BTreeMap::new();
    let mut any = false;
    for (clip, codes) in clips.iter().zip(codes.to_vec2::<u32>()?) {
        let Some(truth) = true_actions(dataset, clip) else {
            continue;
        };
        any = true;
        for (change, code) in (1..).zip(codes) {
            if let Some(Some(action)) = truth.after(change) {
                let place = clip.episode.start + clip.start + change;
                pairs.insert((clip.episode.shard, place), (code, u32::from(action)));
            }
        }
    }
    Ok(any.then(|| pairs.into_values().collect()))
}

/// What a latent action model has found out about held-out changes. PSNRs are of the next frame, means over changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct LatentActionQuality {
    /// With the frame's own code, and with a random one of those in use.
    pub psnr: f64,
    pub psnr_random: f64,
    /// With the description before clustering: its own, and another change's.
    pub psnr_continuous: f64,
    pub psnr_shuffled: f64,
    /// Of the frame before, unchanged.
    pub psnr_copy: f64,
    /// Four frames on, the predictor fed back into itself: own codes minus random ones.
    pub gap4: Option<f64>,
    /// Pairs of a code and a true action, where the dataset has true actions.
    pub known_actions: Option<Vec<(u32, u32)>>,
    /// How often each code occurs.
    pub usage: Vec<u64>,
}

impl LatentActionQuality {
    /// Of code and true action, where the dataset has true actions.
    pub fn agreement(&self) -> Option<Agreement> {
        self.known_actions.as_deref().map(Agreement::of)
    }

    pub fn gap(&self) -> f64 {
        self.psnr - self.psnr_random
    }

    pub fn gap_continuous(&self) -> f64 {
        self.psnr_continuous - self.psnr_shuffled
    }

    pub fn codes_used(&self) -> usize {
        self.codes_in_use().len()
    }

    /// The codes that occur.
    fn codes_in_use(&self) -> Vec<u32> {
        let codes = 0..self.usage.len();
        codes
            .filter(|&code| self.usage[code] > 0)
            .map(|code| code as u32)
            .collect()
    }

    /// The gap four frames on, or why there is none.
    pub fn gap4_text(&self) -> String {
        match self.gap4 {
            Some(gap) => format!("{gap:.2} dB"),
            None => format!("not measured, as no held-out episode has {LATENT_ACTION_CLIP} frames"),
        }
    }

    /// Share of the most frequent code.
    pub fn largest_share(&self) -> f64 {
        let all: u64 = self.usage.iter().sum();
        let most = self.usage.iter().copied().max().unwrap_or(0);
        most as f64 / all.max(1) as f64
    }
}

/// Frames in the clips that [`latent_action_quality`] wants: one before, one to start from and four to predict; at least 3.
pub(crate) const LATENT_ACTION_CLIP: usize = 6;

/// Descriptions `[B, T - 1, A]` of clips, in chunks.
pub(crate) fn describe(
    model: &LatentActionModel,
    dataset: &Dataset,
    clips: &[Clip],
) -> Result<Tensor> {
    let length = clips.first().map_or(2, |clip| clip.length);
    let chunks = clips
        .chunks((CHUNK / length).max(1))
        .map(|clips| Ok(model.describe(&frames(dataset, clips)?)?.detach()));
    Ok(Tensor::cat(&chunks.collect::<Result<Vec<_>>>()?, 0)?)
}

/// Clusters descriptions `[.., A]` into the model's codes `[K, A]`.
pub(crate) fn cluster(
    model: &LatentActionModel,
    descriptions: &Tensor,
    seed: u64,
) -> Result<Tensor> {
    let config = model.config();
    let (codes, width) = (config.codes, config.action_width);
    let flat = descriptions.flatten_all()?.to_vec1::<f32>()?;
    let centres = latent_actions::cluster(&flat, width, codes, seed)?;
    Ok(Tensor::from_vec(centres, (codes, width), nn::device())?)
}

/// Measures a latent action model on clips of at least 3 frames. `predictions` of the changes are predicted (all are
/// described). A model that has no codes yet gets those that these very descriptions cluster into.
pub(crate) fn latent_action_quality(
    model: &LatentActionModel,
    dataset: &Dataset,
    clips: &[Clip],
    predictions: usize,
) -> Result<LatentActionQuality> {
    let size = dataset.frame_size();
    let length = clips.first().map_or(3, |clip| clip.length);
    // The first change has no frame before it.
    let descriptions = describe(model, dataset, clips)?
        .narrow(1, 1, length - 2)?
        .contiguous()?;
    if !model.has_codebook()? {
        model.set_codebook(&cluster(model, &descriptions, 1)?)?;
    }
    let codes = model.nearest(&descriptions)?;
    let flat = codes.flatten_all()?.to_vec1::<u32>()?;
    let mut quality = LatentActionQuality {
        known_actions: known_actions(dataset, clips, &codes)?,
        usage: vec![0; model.config().codes],
        ..LatentActionQuality::default()
    };
    for &code in &flat {
        quality.usage[code as usize] += 1;
    }
    next_frame_quality(
        model,
        dataset,
        clips,
        predictions,
        &descriptions,
        &mut quality,
    )?;
    if length >= LATENT_ACTION_CLIP {
        let in_use = quality.codes_in_use();
        quality.gap4 = Some(fed_back_gap(
            model,
            dataset,
            clips,
            (&codes, &in_use),
            size,
        )?);
    }
    Ok(quality)
}

fn next_frame_quality(
    model: &LatentActionModel,
    dataset: &Dataset,
    clips: &[Clip],
    predictions: usize,
    descriptions: &Tensor,
    quality: &mut LatentActionQuality,
) -> Result<()> {
    let size = dataset.frame_size();
    let (clip_count, changes, width) = descriptions.dims3()?;
    let per_clip = (predictions / clip_count.max(1)).clamp(1, changes);
    let described =
        descriptions
            .narrow(1, 0, per_clip)?
            .reshape((clip_count * per_clip, 1, width))?;
    let rows = clip_count * per_clip;
    // Another change's description: from another clip wherever there is more than one.
    let half = (clip_count / 2 * per_clip)
        .max(1)
        .min(rows.saturating_sub(1));
    let shuffled = match half {
        0 => described.clone(),
        half => Tensor::cat(
            &[
                described.narrow(0, half, rows - half)?,
                described.narrow(0, 0, half)?,
            ],
            0,
        )?,
    };
    let own = model.vectors(&model.nearest(&described)?)?;
    let mut random = generator(0x7a6d, 0);
    let random_codes = random_codes(rows, &quality.codes_in_use(), &mut random)?;
    let random_codes = model.vectors(&random_codes.reshape((rows, 1))?)?;
    let mut sums: [Vec<f64>; 5] = Default::default();
    for (number, part) in clips.chunks(CHUNK / 2).enumerate() {
        let pictures = frames(dataset, part)?;
        let (start, count) = (number * (CHUNK / 2) * per_clip, part.len() * per_clip);
        let flat = |tensor: Tensor| {
            tensor
                .contiguous()?
                .reshape((count, 1, size.height, size.width, 3))
        };
        let present = flat(pictures.narrow(1, 1, per_clip)?)?;
        let next = flat(pictures.narrow(1, 2, per_clip)?)?;
        for (sum, actions) in sums
            .iter_mut()
            .zip([&own, &random_codes, &described, &shuffled])
        {
            let actions = actions.narrow(0, start, count)?.contiguous()?;
            let guess = model.predict(&present, &actions)?;
            sum.extend(frame_psnrs(&guess, &next, size)?);
        }
        sums[4].extend(frame_psnrs(&present, &next, size)?);
    }
    quality.psnr = mean(&sums[0]);
    quality.psnr_random = mean(&sums[1]);
    quality.psnr_continuous = mean(&sums[2]);
    quality.psnr_shuffled = mean(&sums[3]);
    quality.psnr_copy = mean(&sums[4]);
    Ok(())
}

/// Random codes u32 `[count]` of those `in_use`. A code that never occurs means nothing to the predictor: to guess badly with it would
/// pass for control.
fn random_codes(count: usize, in_use: &[u32], random: &mut ChaCha8Rng) -> Result<Tensor> {
    let codes: Vec<u32> = (0..count)
        .map(|_| in_use[random.random_range(0..in_use.len())])
        .collect();
    Ok(Tensor::from_vec(codes, count, nn::device())?)
}

/// Four frames of the predictor fed back into itself from frame 1 on: mean PSNR of frame 5 with its own codes (`[B, T - 2]`,
/// from change 1 on) minus that with random ones.
fn fed_back_gap(
    model: &LatentActionModel,
    dataset: &Dataset,
    clips: &[Clip],
    (codes, in_use): (&Tensor, &[u32]),
    size: FrameSize,
) -> Result<f64> {
    const AHEAD: usize = 4;
    const CLIPS: usize = 64;
    let clips = &clips[..clips.len().min(CLIPS)];
    let mut random = generator(0x7a6d, 1);
    let (mut own, mut by_chance) = (Vec::new(), Vec::new());
    for (chunk, part) in clips.chunks(CHUNK / 2).enumerate() {
        let pictures = frames(dataset, part)?;
        let truth = pictures.narrow(1, 1 + AHEAD, 1)?.squeeze(1)?;
        let start = pictures.narrow(1, 1, 1)?.squeeze(1)?.contiguous()?;
        let (mut inferred, mut chance) = (start.clone(), start);
        for step in 0..AHEAD {
            let codes = codes
                .narrow(0, chunk * (CHUNK / 2), part.len())?
                .narrow(1, step, 1)?
                .flatten_all()?;
            inferred = model.forecast(&inferred, &codes)?;
            let codes = random_codes(part.len(), in_use, &mut random)?;
            chance = model.forecast(&chance, &codes)?;
        }
        own.extend(frame_psnrs(&inferred, &truth, size)?);
        by_chance.extend(frame_psnrs(&chance, &truth, size)?);
    }
    Ok(mean(&own) - mean(&by_chance))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn medians_and_means() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!((median(&[]), mean(&[])), (0.0, 0.0));
        assert_eq!(mean(&[1.0, 2.0]), 1.5);
    }

    #[test]
    fn agreement_is_told_beside_chance() {
        let same: Vec<(u32, u32)> = (0..300).map(|i| (i % 3, (i + 1) % 3)).collect();
        let found = Agreement::of(&same);
        assert!((found.nmi - 1.0).abs() < 1e-9 && found.changes == 300);
        assert!(found.chance > 0.0 && found.chance < 0.05, "{found:?}");
        assert!(found.to_text().contains("300 changes"));
        // So few agree by chance alone, and the text says that they mean nothing.
        let few = Agreement::of(&[(0, 1), (1, 0), (2, 2)]);
        assert!(few.chance > 0.5 && few.to_text().contains("too few"));
        assert!(Agreement::of(&[]).to_text().contains("no held-out change"));
    }

    #[test]
    fn random_codes_are_drawn_from_those_in_use() {
        let quality = LatentActionQuality {
            usage: vec![0, 5, 0, 2],
            ..LatentActionQuality::default()
        };
        let drawn = random_codes(100, &quality.codes_in_use(), &mut generator(1, 0)).unwrap();
        let drawn = drawn.to_vec1::<u32>().unwrap();
        assert!(drawn.contains(&1) && drawn.contains(&3));
        assert!(drawn.iter().all(|code| [1, 3].contains(code)));
        assert!(quality.gap4_text().contains("not measured"));
    }

    #[test]
    fn psnr_is_taken_frame_by_frame() {
        let size = FrameSize {
            height: 2,
            width: 2,
        };
        let a = Tensor::full(0.5f32, (1, 2, 2, 2, 3), &Device::Cpu).unwrap();
        let other = Tensor::full(0.6f32, (1, 1, 2, 2, 3), &Device::Cpu).unwrap();
        let b = Tensor::cat(&[&a.narrow(1, 0, 1).unwrap(), &other], 1).unwrap();
        let found = frame_psnrs(&a, &b, size).unwrap();
        assert_eq!(found[0], nn::quality::HIGHEST_PSNR);
        assert!((found[1] - 20.0).abs() < 1e-3);
    }
}
