//! `djinn play`, and plain `djinn`.

use ::worlds::{Frame, World};
use anyhow::{Context, Result, bail};
use runtime::{
    ActionSource, HeadlessOptions, PlaySummary, Preferences, Recording, play_headless, read_prompt,
};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use super::find_world;
use crate::arguments::PlayArguments;
use crate::cancel::on_interrupt;
use crate::output::Output;

pub fn run(arguments: PlayArguments, output: Output) -> Result<ExitCode> {
    let found = find_world(arguments.world.as_deref())?;
    let mut world = found.load()?;
    world.precision = arguments.precision.into();
    let world = Arc::new(world);
    let seed = arguments.seed.unwrap_or_else(seed_from_clock);
    let preferences = Preferences {
        orders: arguments.orders,
        strength: arguments.strength,
        steps: arguments.steps,
        temperature: arguments.temperature,
    };
    let game = Game {
        settings: preferences.settings(&world.manifest, seed)?,
        prompt: prompt(&arguments, &world)?,
        name: found.lasting_name(),
        world,
    };
    let cancel = on_interrupt()?;
    let summary = match arguments.headless {
        true => headless(&arguments, &game, arguments.record.clone(), &cancel, output)?,
        false => window_or_not(&arguments, &game, &cancel, output)?,
    };
    report(&summary, seed, output)?;
    Ok(ExitCode::SUCCESS)
}

/// What is played.
struct Game {
    world: Arc<World>,
    /// By which a session finds its world again.
    name: String,
    prompt: Vec<Frame>,
    settings: ::worlds::RolloutSettings,
}

impl Game {
    fn recording(&self, folder: PathBuf) -> Recording {
        Recording {
            folder,
            world_name: self.name.clone(),
        }
    }
}

/// A seed that differs from run to run; it is told and recorded, so that the run can be repeated.
fn seed_from_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |time| time.as_millis() as u64 % 1_000_000)
}

fn prompt(arguments: &PlayArguments, world: &World) -> Result<Vec<Frame>> {
    match &arguments.prompt {
        Some(path) => {
            tracing::info!("prompt: {}", path.display());
            let prompt = read_prompt(path, world).context("the prompt cannot be used")?;
            Ok(vec![prompt])
        }
        None => match world.prompts.first() {
            Some(prompt) => {
                tracing::info!("prompt: the first of the world's {}", world.prompts.len());
                Ok(vec![prompt.clone()])
            }
            None => bail!("this world has no prompt of its own; give one with --prompt FILE"),
        },
    }
}

/// Opens a window where there is a display. Where there is none, says so and lets the world play itself, unless a window was asked for.
fn window_or_not(
    arguments: &PlayArguments,
    game: &Game,
    cancel: &AtomicBool,
    output: Output,
) -> Result<PlaySummary> {
    let recording = arguments
        .record
        .clone()
        .map(|folder| game.recording(folder));
    let actions = match &arguments.actions {
        Some(path) => Some(ActionSource::read(path, &game.world.manifest)?),
        None if arguments.autoplay => Some(ActionSource::Autoplay),
        None => None,
    };
    let window = runtime::WindowOptions {
        prompt: game.prompt.clone(),
        settings: game.settings,
        actions,
        recording,
    };
    match runtime::play_in_window(game.world.clone(), window, cancel) {
        Err(runtime::Error::NoDisplay(reason)) if !arguments.window => {
            output.tell(format!("There is no display to open a window on ({reason}), so the world plays {} frames by itself.", arguments.frames));
            let folder = match &arguments.record {
                Some(folder) => folder.clone(),
                None => new_session_folder(output)?,
            };
            headless(arguments, game, Some(folder), cancel, output)
        }
        other => Ok(other?),
    }
}

/// A new folder for a session that nobody named: in this folder, else in the user's data folder, else among temporary files.
fn new_session_folder(output: Output) -> Result<PathBuf> {
    let user = directories::ProjectDirs::from("", "", "djinn");
    let data = user.map(|user| user.data_dir().join("sessions"));
    let mut refusal = None;
    let places = [Some(PathBuf::new()), data, Some(std::env::temp_dir())];
    for place in places.into_iter().flatten() {
        match create_unused(&place.join("djinn-session")) {
            Ok(folder) => {
                if let Some(refusal) = refusal {
                    output.tell(format!(
                        "This folder cannot be written to ({refusal}), so the session goes to {}.",
                        folder.display()
                    ));
                }
                return Ok(folder);
            }
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    let refusal = refusal
        .map(|error| format!(" ({error})"))
        .unwrap_or_default();
    bail!("no session can be recorded in this folder{refusal}; name another one with --record DIR")
}

/// Makes the folder `name`, or `name-2`, `name-3` and so on: the first that is not there yet.
fn create_unused(name: &Path) -> std::io::Result<PathBuf> {
    if let Some(parent) = name.parent() {
        std::fs::create_dir_all(parent)?;
    }
    for number in 1.. {
        let mut folder = name.as_os_str().to_owned();
        if number > 1 {
            folder.push(format!("-{number}"));
        }
        match std::fs::create_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| folder.into()),
        }
    }
    Err(std::io::ErrorKind::AlreadyExists.into())
}

fn headless(
    arguments: &PlayArguments,
    game: &Game,
    record: Option<PathBuf>,
    cancel: &AtomicBool,
    output: Output,
) -> Result<PlaySummary> {
    let actions = match &arguments.actions {
        Some(path) => ActionSource::read(path, &game.world.manifest)?,
        // A machine without a display has nobody at its keys either.
        None if arguments.autoplay || !arguments.headless => ActionSource::Autoplay,
        None => ActionSource::random(game.settings.seed, &game.world.manifest),
    };
    let options = HeadlessOptions {
        frames: arguments.frames as u64,
        prompt: game.prompt.clone(),
        settings: game.settings,
        actions,
        recording: record.map(|folder| game.recording(folder)),
    };
    let bar = output.bar(options.frames, "frames");
    let summary = play_headless(game.world.clone(), options, &mut |_| bar.inc(1), cancel)?;
    bar.finish_and_clear();
    Ok(summary)
}

fn report(summary: &PlaySummary, seed: u64, output: Output) -> Result<()> {
    let session = summary.sessions.last();
    let mut text = format!(
        "{} frames at {:.1} frames/s, seed {seed}",
        summary.frames,
        summary.times.frames_per_second()
    );
    if let (Some(session), Some(video)) = (session, summary.video()) {
        text += &format!(
            "\nsession: {}\nvideo:   {}",
            session.display(),
            video.display()
        );
    }
    let value = json!({
        "frames": summary.frames,
        "seed": seed,
        "frames_per_second": summary.times.frames_per_second(),
        "frame_ms": { "p50": summary.times.p50, "p95": summary.times.p95, "p99": summary.times.p99 },
        "interrupted": summary.interrupted,
        "sessions": summary.sessions,
        "video": summary.video(),
    });
    output.result(&value, text)
}
