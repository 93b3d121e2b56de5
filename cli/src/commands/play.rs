//! `djinn play`, and plain `djinn`.

use ::worlds::{Frame, World};
use anyhow::{Context, Result, bail};
use runtime::{
    ActionSource, Bindings, HeadlessOptions, OwnWorld, PlayOptions, PlaySummary, Preferences,
    Recording, Settings, has_terminal, keep_somewhere, play_headless, play_in_terminal,
    play_in_window, read_prompt,
};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{exit_code, find_world, own_world};
use crate::arguments::PlayArguments;
use crate::cancel::{INTERRUPTED, on_interrupt};
use crate::log::HeldLog;
use crate::output::Output;

/// Frames that are played without a window where nothing says how many.
const DEFAULT_FRAMES: usize = 300;

pub fn run(arguments: PlayArguments, output: Output) -> Result<ExitCode> {
    let found = find_world(arguments.world.as_deref())?;
    let mut world = found.load()?;
    world.precision = arguments.precision.into();
    let world = Arc::new(world);
    let seed = arguments.seed.unwrap_or_else(seed_from_clock);
    // Without a window, the command line alone says how to play, so that it can be repeated anywhere.
    let (own, of_world) = match arguments.headless {
        true => (Settings::default(), OwnWorld::none(&world.manifest)),
        false => (own_settings(output), own_world(&world, output)),
    };
    let orders = arguments.orders.then_some(f32::INFINITY);
    let asked = Preferences {
        strength: orders.or(arguments.strength),
        steps: arguments.steps,
        temperature: arguments.temperature,
        speed: None,
    };
    let preferences = asked.or(of_world.preferences);
    let of_all = own.preferences();
    let allowed = of_all.within(&world.manifest);
    if let (None, Some(wanted), Some(steps)) = (preferences.steps, of_all.steps, allowed.steps)
        && wanted != steps
    {
        output.tell(format!("This world is not made for the {wanted} MaskGIT steps of your settings, so it makes {steps}."));
    }
    let preferences = preferences.or(allowed);
    let game = Game {
        settings: preferences.settings(&world.manifest, seed)?,
        speed: preferences.speed(),
        bindings: of_world.bindings(&world.manifest),
        prompt: prompt(&arguments, &world, output)?,
        actions: match &arguments.actions {
            Some(path) => Some(ActionSource::read(path, &world.manifest)?),
            None => arguments.autoplay.then_some(ActionSource::Autoplay),
        },
        name: found.lasting_name(),
        world,
        own,
    };
    let cancel = on_interrupt()?;
    let seen = match arguments.headless {
        true => None,
        false => shown(&arguments, &game, &cancel, output)?,
    };
    let is_seen = seen.is_some();
    let summary = match seen {
        Some(summary) => summary,
        None => headless(&arguments, &game, &cancel, output)?,
    };
    report(&summary, seed, output)?;
    // To leave a window or a terminal is no interruption; frames that were asked for and not made are one.
    Ok(match summary.interrupted && !is_seen {
        true => ExitCode::from(INTERRUPTED),
        false => exit_code(summary.recording_failure.is_none()),
    })
}

/// The player's own settings; the defaults, and a word about it, where their file is broken.
pub fn own_settings(output: Output) -> Settings {
    let Some(path) = Settings::path() else {
        return Settings::default();
    };
    Settings::read(&path).unwrap_or_else(|error| {
        output.tell(format!(
            "The settings are left as they are, and the defaults are used: {error}"
        ));
        Settings::default()
    })
}

/// What is played.
struct Game {
    world: Arc<World>,
    /// By which a session finds its world again.
    name: String,
    prompt: Vec<Frame>,
    settings: ::worlds::RolloutSettings,
    speed: f64,
    bindings: Bindings,
    /// What presses keys in place of a person, if anything was named; read once, as it may be a pipe.
    actions: Option<ActionSource>,
    /// The player's own settings.
    own: Settings,
}

impl Game {
    /// How it is played by a person.
    fn options(&self, arguments: &PlayArguments) -> Result<PlayOptions> {
        Ok(PlayOptions {
            bindings: self.bindings.clone(),
            speed: self.speed,
            prompt: self.prompt.clone(),
            settings: self.settings,
            actions: self.actions.clone(),
            recording: arguments
                .record
                .clone()
                .map(|folder| self.recording(folder)),
            world_name: self.name.clone(),
            player: self.own.clone(),
            replay: None,
        })
    }

    /// Frames to make without a window.
    fn frames(&self, arguments: &PlayArguments) -> usize {
        let listed = || self.actions.as_ref().and_then(ActionSource::remaining);
        arguments.frames.or_else(listed).unwrap_or(DEFAULT_FRAMES)
    }

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

fn prompt(arguments: &PlayArguments, world: &Arc<World>, output: Output) -> Result<Vec<Frame>> {
    match &arguments.prompt {
        Some(path) => {
            tracing::info!("prompt: {}", path.display());
            let prompt = read_prompt(path, world).context("the prompt cannot be used")?;
            if let Some(warning) = prompt.warning {
                output.tell(warning);
            }
            Ok(prompt.frames)
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

/// Plays in a window, and where there is no display in the terminal, each where it was asked for or not at all; `None` where nobody sits at one, so that the world is to play
/// itself.
fn shown(
    arguments: &PlayArguments,
    game: &Game,
    cancel: &AtomicBool,
    output: Output,
) -> Result<Option<PlaySummary>> {
    if arguments.terminal {
        let options = game.options(arguments)?;
        let _held = HeldLog::begin();
        return Ok(Some(play_in_terminal(game.world.clone(), options, cancel)?));
    }
    let reason = match play_in_window(game.world.clone(), game.options(arguments)?, cancel) {
        Err(runtime::Error::NoDisplay(reason)) if !arguments.window => reason,
        other => return Ok(Some(other?)),
    };
    if has_terminal() {
        output.tell(format!("There is no display to open a window on ({reason}), so the world is played in this terminal."));
        let options = game.options(arguments)?;
        let _held = HeldLog::begin();
        match play_in_terminal(game.world.clone(), options, cancel) {
            Err(runtime::Error::NoTerminal(reason)) => {
                output.tell(format!("There is no terminal to play in: {reason}."));
            }
            other => return Ok(Some(other?)),
        }
    } else {
        output.tell(format!("There is no display to open a window on ({reason}), so the world plays {} frames by itself.", game.frames(arguments)));
    }
    Ok(None)
}

/// A new folder for a session that nobody named: in the folder of the player's settings, which is this one where they name none, else where one can be made.
fn new_session_folder(game: &Game, output: Output) -> Result<PathBuf> {
    let wanted = game.own.recording_folder.clone().unwrap_or_default();
    let new_folder = |place: &Path| Recording::into_new_folder(place, &game.name);
    let (Recording { folder, .. }, refusal) = keep_somewhere(&wanted, new_folder)
        .context("no session can be recorded; name a folder for it with --record DIR")?;
    if let Some(refusal) = refusal {
        output.tell(format!(
            "The folder for sessions cannot be written to ({refusal}), so this one goes to {}.",
            folder.display()
        ));
    }
    Ok(folder)
}

fn headless(
    arguments: &PlayArguments,
    game: &Game,
    cancel: &AtomicBool,
    output: Output,
) -> Result<PlaySummary> {
    let actions = match &game.actions {
        Some(actions) => actions.clone(),
        // A machine without a display has nobody at its keys either.
        None if !arguments.headless => ActionSource::Autoplay,
        None => ActionSource::random(game.settings.seed, &game.world.manifest),
    };
    let record = match &arguments.record {
        // What nobody sees is to be looked at later.
        None if !arguments.headless => Some(new_session_folder(game, output)?),
        record => record.clone(),
    };
    let options = HeadlessOptions {
        frames: game.frames(arguments) as u64,
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

/// Tells what play came to.
pub fn report(summary: &PlaySummary, seed: u64, output: Output) -> Result<()> {
    let session = summary.sessions.last();
    let mut text = format!(
        "{} frames, made at {:.1} frames/s, seed {seed}",
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
    if let Some(failure) = &summary.recording_failure {
        text += &format!("\nrecording stopped before play did: {failure}");
    }
    let value = json!({
        "frames": summary.frames,
        "seed": seed,
        "frames_per_second": summary.times.frames_per_second(),
        "frame_ms": { "p50": summary.times.p50, "p95": summary.times.p95, "p99": summary.times.p99 },
        "interrupted": summary.interrupted,
        "sessions": summary.sessions,
        "recording_failure": summary.recording_failure,
        "video": summary.video(),
    });
    output.result(&value, text)
}
