//! Rollouts beside the true continuation.

use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::Tensor;
use nn::quality::{psnr, ssim};
use nn::{ActionCode, FrameSize, Transitions, generator, in_this_scope};
use rand::Rng;
use rayon::prelude::*;
use worlds::{Frame, Rollout, RolloutSettings, World, WorldManifest};

use super::true_actions::CodesOfActions;
use crate::clips::{Clip, push_unit, true_actions};
use crate::dataset::Dataset;
use crate::{Error, Result};

/// What decides the frames after the prompt.
#[derive(Clone, Copy)]
pub(crate) enum Continuation<'a> {
    /// The world, with the codes that the latent action model finds in the true continuation.
    Inferred,
    /// The world, with codes drawn evenly at random from these, which are in use.
    Random(&'a [ActionCode]),
    /// Nothing: the prompt's last frame again and again.
    Copy,
    /// The forecast alone, fed back into itself, with the inferred codes.
    Forecast,
    /// The world, with the codes that the true actions come to.
    TrueActions(&'a CodesOfActions),
}

/// PSNR and SSIM of each frame after the prompt, for one clip.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    pub psnr: Vec<f64>,
    pub ssim: Vec<f64>,
}

/// Continues each clip's first `prompt` frames to its end and compares with what really followed. `first` is the number of the first of the clips
/// among all: each has luck of its own.
pub(crate) fn follow(
    world: &Arc<World>,
    dataset: &Dataset,
    clips: &[Clip],
    prompt: usize,
    continuation: Continuation<'_>,
    first: usize,
) -> Result<Vec<Followed>> {
    let of_clip = |(number, clip): (usize, &Clip)| {
        let truth = true_frames(dataset, clip)?;
        let of = (dataset, clip, truth.as_slice());
        let seed = (first + number) as u64;
        let guesses = continue_clip(world, of, prompt, continuation, seed)?;
        let pairs = || guesses.iter().zip(&truth[prompt..]);
        let size = dataset.frame_size();
        Ok(Followed {
            psnr: pairs().map(|(a, b)| psnr(&unit(a), &unit(b))).collect(),
            ssim: pairs()
                .map(|(a, b)| ssim(&unit(a), &unit(b), size))
                .collect(),
        })
    };
    clips
        .par_iter()
        .enumerate()
        .map(in_this_scope(of_clip))
        .collect()
}

/// A clip's frames.
pub(crate) fn true_frames(dataset: &Dataset, clip: &Clip) -> Result<Vec<Frame>> {
    let size = dataset.frame_size();
    let bytes = dataset.frames(&clip.episode, clip.start..clip.start + clip.length);
    let frames = bytes.chunks_exact(size.bytes());
    Ok(frames
        .map(|frame| Frame::new(size, frame.to_vec()))
        .collect::<worlds::Result<_>>()?)
}

/// The codes of the changes between frames.
pub(crate) fn inferred_codes(world: &World, frames: &[Frame]) -> Result<Transitions<ActionCode>> {
    let clip = Frame::clip(frames, &world.device)?;
    Ok(world.latent_actions.transitions(&clip)?)
}

/// The codes that occur in clips, each once. Random codes are drawn from them: one that never occurs means nothing to the world, and to go astray
/// with it would pass for control.
pub(crate) fn codes_in_use(
    world: &World,
    dataset: &Dataset,
    clips: &[Clip],
) -> Result<Vec<ActionCode>> {
    let of_clip = |clip: &Clip| -> Result<BTreeSet<ActionCode>> {
        let codes = inferred_codes(world, &true_frames(dataset, clip)?)?;
        Ok(codes.as_slice().iter().copied().collect())
    };
    let found: Vec<BTreeSet<ActionCode>> = clips
        .par_iter()
        .map(in_this_scope(of_clip))
        .collect::<Result<_>>()?;
    let all: BTreeSet<ActionCode> = found.into_iter().flatten().collect();
    Ok(all.into_iter().collect())
}

/// Codes between `frames` frames, drawn evenly from those `in_use`.
fn random_codes(frames: usize, in_use: &[ActionCode], seed: u64) -> Transitions<ActionCode> {
    let mut random = generator(seed, 0x7a6d);
    let count = in_use.len().max(1) as u16;
    Transitions::of_frames(frames, |_| {
        let drawn = usize::from(random.random_range(0..count));
        in_use.get(drawn).copied().unwrap_or(ActionCode(0))
    })
}

/// Frames that continue the first `prompt` of a clip's frames, `truth`, as many as follow them there.
pub(crate) fn continue_clip(
    world: &Arc<World>,
    (dataset, clip, truth): (&Dataset, &Clip, &[Frame]),
    prompt: usize,
    continuation: Continuation<'_>,
    seed: u64,
) -> Result<Vec<Frame>> {
    let (past, future) = truth.split_at(prompt);
    let Some(last) = past.last() else {
        return Err(Error::config("a rollout needs a prompt"));
    };
    // What leads into the frames after the prompt.
    let following = |codes: &Transitions<ActionCode>| -> Vec<ActionCode> {
        let frames = prompt..truth.len();
        frames.filter_map(|frame| codes.into_frame(frame)).collect()
    };
    let codes = match continuation {
        Continuation::Copy => return Ok(vec![last.clone(); future.len()]),
        Continuation::Forecast => {
            let codes = following(&inferred_codes(world, truth)?);
            return forecast_alone(world, last, &codes);
        }
        Continuation::Inferred => following(&inferred_codes(world, truth)?),
        Continuation::Random(in_use) => following(&random_codes(truth.len(), in_use, seed)),
        Continuation::TrueActions(learned) => {
            let before = inferred_codes(world, past)?.into_frame(prompt - 1);
            let actions = true_actions(dataset, clip);
            let actions: Vec<Option<u16>> = (prompt..truth.len())
                .map(|frame| actions.as_ref()?.into_frame(frame)?)
                .collect();
            learned.codes(before.unwrap_or(ActionCode(0)), &actions)
        }
    };
    let settings = RolloutSettings::of(&world.manifest, seed);
    let mut rollout = Rollout::start(world.clone(), past, settings)?;
    codes
        .iter()
        .map(|&code| Ok(rollout.step_with_code(code)?.frame))
        .collect()
}

fn forecast_alone(world: &World, last: &Frame, codes: &[ActionCode]) -> Result<Vec<Frame>> {
    let size = world.manifest.frame;
    let clip = Frame::clip(std::slice::from_ref(last), &world.device)?;
    let mut picture = world
        .tokenizer
        .decode(&world.tokenizer.encode(&clip)?)?
        .squeeze(1)?;
    codes
        .iter()
        .map(|code| {
            let code = Tensor::new(&[u32::from(code.0)], &world.device)?;
            picture = world.latent_actions.forecast(&picture, &code)?;
            Ok(Frame::from_tensor(&picture, size)?)
        })
        .collect()
}

/// A frame's values 0..1.
pub(crate) fn unit(frame: &Frame) -> Vec<f32> {
    let mut values = Vec::with_capacity(frame.rgb().len());
    push_unit(&mut values, frame.rgb());
    values
}

/// Video of another size than a world's frames is of no use to it.
pub(crate) fn check_size(world: &WorldManifest, video: FrameSize) -> Result<()> {
    if world.frame == video {
        return Ok(());
    }
    Err(Error::TooLittleVideo(format!(
        "the world's frames are {}, the dataset's {video}; ingest the video with --size to fit",
        world.frame
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clips::ClipSampler;
    use crate::clips::tests::{noise, videos};
    use crate::dataset::Split;

    #[test]
    fn random_codes_are_drawn_from_those_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let world = Arc::new(worlds::tiny_world(1).unwrap());
        let lengths = [(30, Split::Validation)];
        let still = videos(&folder.path().join("still"), 15.0, &lengths, |bytes| {
            vec![90; bytes]
        });
        let clips = ClipSampler::held_out(&still, 8).unwrap().fixed(2);
        // Where nothing ever happens, there is but one code to draw.
        let in_use = codes_in_use(&world, &still, &clips).unwrap();
        assert_eq!(in_use.len(), 1);
        let of = |continuation| -> Vec<Vec<f64>> {
            let followed = follow(&world, &still, &clips, 4, continuation, 0).unwrap();
            followed.into_iter().map(|clip| clip.psnr).collect()
        };
        let inferred = of(Continuation::Inferred);
        assert_eq!(of(Continuation::Random(&in_use)), inferred);
        let other = [ActionCode((in_use[0].0 + 1) % 4)];
        assert_ne!(of(Continuation::Random(&other)), inferred);

        let noise = noise(&folder.path().join("noise"), 15.0, &lengths);
        let clips = ClipSampler::held_out(&noise, 8).unwrap().fixed(4);
        let in_use = codes_in_use(&world, &noise, &clips).unwrap();
        assert!(in_use.is_sorted() && in_use.len() > 1, "{in_use:?}");
        let drawn = random_codes(200, &in_use, 1);
        let drawn = drawn.as_slice();
        assert!(in_use.iter().all(|code| drawn.contains(code)));
        assert!(drawn.iter().all(|code| in_use.contains(code)));
    }
}
