//! The pictures of a report, and the moving one of a bundle's README.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dynamics::Strength;
use media::{GifWriter, Picture, enlarge};
use nn::{ActionCode, in_this_scope};
use rayon::prelude::*;
use tokenizer::Tokenizer;
use worlds::{Frame, RandomPlayer, Rollout, RolloutSettings, Wish, World};

use super::html::{Page, strip};
use crate::clips::ClipSampler;
use crate::dataset::Dataset;
use crate::evaluate::rollouts::{Continuation, codes_in_use, continue_clip, true_frames};
use crate::observer::{TrainEvent, TrainObserver};
use crate::{Error, Result};

/// Reconstructions shown.
const RECONSTRUCTIONS: usize = 8;
/// How many pictures there are to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Frames after which an action that is held is shown; it is held up to the last.
    shown: &'static [usize],
    /// Starting frames of the contact sheets.
    starts: usize,
    /// Most actions in them.
    codes: usize,
    /// Clips with rollouts.
    clips: usize,
}

/// For finished worlds.
pub(crate) const FULL: Scale = Scale {
    shown: &[2, 6, 12],
    starts: 3,
    codes: 64,
    clips: 2,
};

/// For worlds in training, and where there is little time: some seconds on two cores.
pub(crate) const BRIEF: Scale = Scale {
    shown: &[2, 6],
    starts: 1,
    codes: 16,
    clips: 1,
};

/// Frames that start a rollout, and follow in its strip.
const PROMPT: usize = 4;
const AHEAD: usize = 12;

/// Adds all pictures to a page.
pub(super) fn add(
    page: &mut Page,
    (world, dataset): (&Arc<World>, &Dataset),
    scale: Scale,
    observer: &mut dyn TrainObserver,
    cancel: &AtomicBool,
) -> Result<()> {
    let mut report = |done| {
        observer.observe(&TrainEvent::Work {
            what: "report",
            done,
            total: 4,
        });
        match cancel.load(Ordering::Relaxed) {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    };
    report(0)?;
    page.raw(&reconstructions(&world.tokenizer, dataset)?);
    report(1)?;
    as_wishes(page, world, scale)?;
    report(2)?;
    as_orders(page, world, scale)?;
    report(3)?;
    continuation(page, world, dataset, scale)?;
    report(4)
}

/// What a world in training does, as part of a page.
pub(crate) fn of_world(world: &Arc<World>, dataset: &Dataset, scale: Scale) -> Result<String> {
    let mut page = Page::part();
    as_wishes(&mut page, world, scale)?;
    as_orders(&mut page, world, scale)?;
    continuation(&mut page, world, dataset, scale)?;
    Ok(page.into_part())
}

/// Held-out frames and what a tokenizer keeps of them, as part of a page.
pub(crate) fn reconstructions(tokenizer: &Tokenizer, dataset: &Dataset) -> Result<String> {
    let sampler = ClipSampler::held_out(dataset, 1)?;
    let (mut originals, mut decoded) = (Vec::new(), Vec::new());
    for clip in sampler.fixed(RECONSTRUCTIONS) {
        let frames = true_frames(dataset, &clip)?;
        let tokens = tokenizer.encode(&Frame::clip(&frames, nn::device())?)?;
        let picture = tokenizer.decode(&tokens)?;
        decoded.push(Frame::from_tensor(&picture, dataset.frame_size())?);
        originals.extend(frames);
    }
    let mut page = Page::part();
    page.heading("Reconstructions");
    page.paragraph("Held-out frames (above), and the same from their tokens (below).");
    let rows = [
        ("original".to_owned(), vec![strip(&originals, 2)?]),
        ("from tokens".to_owned(), vec![strip(&decoded, 2)?]),
    ];
    page.grid(&["", ""], &rows);
    Ok(page.into_part())
}

fn as_wishes(page: &mut Page, world: &Arc<World>, scale: Scale) -> Result<()> {
    page.heading("What each action does, as a wish");
    page.paragraph(&format!(
        "Each action wished for over and over; frames {:?} after the start (left of each row). The action prior decides what comes of a wish: what cannot happen does not.",
        scale.shown
    ));
    contact_sheet(page, world, world.manifest.strength, scale)
}

fn as_orders(page: &mut Page, world: &Arc<World>, scale: Scale) -> Result<()> {
    page.heading("What each action does, as an order");
    page.paragraph("The same with every code carried out, possible or not.");
    contact_sheet(page, world, Strength::Order, scale)
}

fn contact_sheet(
    page: &mut Page,
    world: &Arc<World>,
    strength: Strength,
    scale: Scale,
) -> Result<()> {
    let starts: Vec<&Frame> = world.prompts.iter().take(scale.starts).collect();
    let codes = world.manifest.codes().min(scale.codes);
    let held = scale.shown.last().copied().unwrap_or(0);
    let cells: Vec<(usize, usize)> = (0..codes)
        .flat_map(|code| (0..starts.len()).map(move |start| (code, start)))
        .collect();
    let of_cell = |&(code, start): &(usize, usize)| {
        let settings = RolloutSettings {
            strength,
            ..RolloutSettings::of(&world.manifest, start as u64)
        };
        let prompt = std::slice::from_ref(starts[start]);
        let mut rollout = Rollout::start(world.clone(), prompt, settings)?;
        let wish: Wish = [ActionCode(code as u16)].into_iter().collect();
        let mut shown = vec![starts[start].clone()];
        for frame in 1..=held {
            let step = rollout.step(&wish)?;
            if scale.shown.contains(&frame) {
                shown.push(step.frame);
            }
        }
        strip(&shown, 1)
    };
    let pictures = cells
        .par_iter()
        .map(in_this_scope(of_cell))
        .collect::<Result<Vec<String>>>()?;
    let rows: Vec<(String, Vec<String>)> = pictures
        .chunks(starts.len().max(1))
        .enumerate()
        .map(|(code, cells)| {
            let name = world.manifest.action_name(ActionCode(code as u16));
            (format!("{code}: {name}"), cells.to_vec())
        })
        .collect();
    let head: Vec<String> = (0..starts.len())
        .map(|start| format!("start {start}"))
        .collect();
    let head: Vec<&str> = [""]
        .into_iter()
        .chain(head.iter().map(String::as_str))
        .collect();
    page.grid(&head, &rows);
    Ok(())
}

fn continuation(
    page: &mut Page,
    world: &Arc<World>,
    dataset: &Dataset,
    scale: Scale,
) -> Result<()> {
    let sampler = ClipSampler::held_out(dataset, PROMPT + AHEAD)
        .or_else(|_| ClipSampler::held_out(dataset, PROMPT + 1))?;
    page.heading("Rollouts beside the true continuation");
    page.paragraph(&format!(
        "Held-out clips. The first {PROMPT} frames start the world; what follows is its own, with the actions found in the true continuation, with random ones, or the forecast alone."
    ));
    let clips = sampler.fixed(scale.clips);
    let in_use = codes_in_use(world, dataset, &clips)?;
    for clip in clips {
        let truth = true_frames(dataset, &clip)?;
        let row = |name: &str, continuation: Continuation<'_>| {
            let of = (dataset, &clip, truth.as_slice());
            let guess = continue_clip(world, of, PROMPT, continuation, 0)?;
            let frames: Vec<Frame> = truth[..PROMPT].iter().cloned().chain(guess).collect();
            Ok::<_, Error>((name.to_owned(), vec![strip(&frames, 1)?]))
        };
        let rows = [
            ("true".to_owned(), vec![strip(&truth, 1)?]),
            row("its actions", Continuation::Inferred)?,
            row("random actions", Continuation::Random(&in_use))?,
            row("forecast alone", Continuation::Forecast)?,
        ];
        let rows: Vec<(String, Vec<String>)> = rows.into_iter().collect();
        page.grid(&["", ""], &rows);
    }
    Ok(())
}

/// A moving picture of play under the random player, as the bytes of a GIF; `path` is where it is made.
pub(crate) fn play_gif(world: &Arc<World>, path: &Path, frames: usize) -> Result<Vec<u8>> {
    const SMALLEST_SIDE: usize = 192;
    let size = world.manifest.frame;
    let factor = (SMALLEST_SIDE / size.height.min(size.width).max(1)).max(1) as u32;
    let refuse = |error: media::Error| Error::damaged(path, "picture", error.to_string());
    let picture = |frame: &Frame| {
        Picture::new(size.width as u32, size.height as u32, frame.rgb().to_vec())
            .map(|picture| enlarge(&picture, factor))
    };
    let rate = world.manifest.frames_per_second.min(50.0);
    let (width, height) = (size.width as u32 * factor, size.height as u32 * factor);
    let mut gif = GifWriter::create(path, width, height, rate).map_err(refuse)?;
    let settings = RolloutSettings::of(&world.manifest, 1);
    let prompt = &world.prompts[..world.prompts.len().min(1)];
    let mut rollout = Rollout::start(world.clone(), prompt, settings)?;
    let mut player = RandomPlayer::new(1, world.manifest.codes());
    for _ in 0..frames {
        let frame = rollout.step(&player.next_wish())?.frame;
        gif.write(&picture(&frame).map_err(refuse)?)
            .map_err(refuse)?;
    }
    gif.finish().map_err(refuse)?;
    std::fs::read(path).map_err(Error::io(path))
}
