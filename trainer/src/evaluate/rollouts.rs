//! Rollouts beside the true continuation.

use std::sync::Arc;

use candle_core::Tensor;
use nn::quality::{psnr, ssim};
use nn::{ActionCode, FrameSize, Transitions, generator};
use rand::Rng;
use rayon::prelude::*;
use worlds::{Frame, Rollout, RolloutSettings, World};

use super::true_actions::CodesOfActions;
use crate::clips::{Clip, push_unit, true_actions};
use crate::dataset::Dataset;
use crate::{Error, Result};

/// What decides the frames after the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continuation {
    /// The world, with the codes that the latent action model finds in the true continuation.
    Inferred,
    /// The world, with codes drawn evenly at random.
    Random,
    /// Nothing: the prompt's last frame again and again.
    Copy,
    /// The forecast alone, fed back into itself, with the inferred codes.
    Forecast,
}

impl Continuation {
    pub const ALL: [Self; 4] = [Self::Inferred, Self::Random, Self::Copy, Self::Forecast];
}

/// PSNR and SSIM of each frame after the prompt, for one clip.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    pub psnr: Vec<f64>,
    pub ssim: Vec<f64>,
}

impl Followed {
    fn of(guesses: &[Frame], truth: &[Frame], size: FrameSize) -> Self {
        let pairs = || guesses.iter().zip(truth);
        Self {
            psnr: pairs().map(|(a, b)| psnr(&unit(a), &unit(b))).collect(),
            ssim: pairs()
                .map(|(a, b)| ssim(&unit(a), &unit(b), size))
                .collect(),
        }
    }
}

/// Continues each clip's first `prompt` frames to its end and compares with what really followed.
pub(crate) fn follow(
    world: &Arc<World>,
    dataset: &Dataset,
    clips: &[Clip],
    prompt: usize,
    continuation: Continuation,
) -> Result<Vec<Followed>> {
    clips
        .par_iter()
        .enumerate()
        .map(|(number, clip)| {
            let truth = true_frames(dataset, clip)?;
            let guesses = continue_clip(world, &truth, prompt, continuation, number as u64)?;
            Ok(Followed::of(
                &guesses,
                &truth[prompt..],
                dataset.frame_size(),
            ))
        })
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

/// As [`follow`] does, with the codes that the clips' true actions come to.
pub(crate) fn follow_actions(
    world: &Arc<World>,
    dataset: &Dataset,
    clips: &[Clip],
    prompt: usize,
    learned: &CodesOfActions,
) -> Result<Vec<Followed>> {
    let of_clip = |(number, clip): (usize, &Clip)| {
        let truth = true_frames(dataset, clip)?;
        let inferred = inferred_codes(world, &truth[..prompt])?;
        let last = inferred.into_frame(prompt.saturating_sub(1));
        let actions = true_actions(dataset, clip);
        let actions: Vec<Option<u16>> = (prompt..truth.len())
            .map(|frame| actions.as_ref()?.into_frame(frame)?)
            .collect();
        let codes = learned.codes(last.unwrap_or(ActionCode(0)), &actions);
        let guesses = play_codes(world, &truth[..prompt], &codes, number as u64)?;
        Ok(Followed::of(
            &guesses,
            &truth[prompt..],
            dataset.frame_size(),
        ))
    };
    clips.par_iter().enumerate().map(of_clip).collect()
}

/// Frames that continue the first `prompt` of `truth`, as many as follow them there.
pub(crate) fn continue_clip(
    world: &Arc<World>,
    truth: &[Frame],
    prompt: usize,
    continuation: Continuation,
    seed: u64,
) -> Result<Vec<Frame>> {
    let ahead = truth.len() - prompt;
    let codes = match continuation {
        Continuation::Random => {
            let mut random = generator(seed, 0x7a6d);
            let codes = world.manifest.codes() as u16;
            Transitions::of_frames(truth.len(), |_| ActionCode(random.random_range(0..codes)))
        }
        Continuation::Copy => Transitions::default(),
        Continuation::Inferred | Continuation::Forecast => inferred_codes(world, truth)?,
    };
    let Some(last) = truth[..prompt].last() else {
        return Err(Error::config("a rollout needs a prompt"));
    };
    // What leads into the frames after the prompt.
    let codes: Vec<ActionCode> = (prompt..truth.len())
        .filter_map(|frame| codes.into_frame(frame))
        .collect();
    match continuation {
        Continuation::Copy => Ok(vec![last.clone(); ahead]),
        Continuation::Forecast => forecast_alone(world, last, &codes),
        Continuation::Inferred | Continuation::Random => {
            play_codes(world, &truth[..prompt], &codes, seed)
        }
    }
}

/// The frames that a world makes of these codes.
fn play_codes(
    world: &Arc<World>,
    prompt: &[Frame],
    codes: &[ActionCode],
    seed: u64,
) -> Result<Vec<Frame>> {
    let settings = RolloutSettings::of(&world.manifest, seed);
    let mut rollout = Rollout::start(world.clone(), prompt, settings)?;
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

/// Bytes of a frame of another size cannot be compared.
pub(crate) fn check_size(world: &World, size: FrameSize) -> Result<()> {
    if world.manifest.frame == size {
        return Ok(());
    }
    Err(Error::TooLittleVideo(format!(
        "the world's frames are {}, the dataset's {size}; ingest the video with --size to fit",
        world.manifest.frame
    )))
}
