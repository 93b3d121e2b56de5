//! `djinn replay`.

use ::worlds::World;
use anyhow::{Context, Result};
use runtime::{Error, PlayOptions, Session, Verification, export, play_in_window, verify};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::play::{own_settings, report};
use super::{check_free, exit_code, find_world, own_world};
use crate::arguments::ReplayArguments;
use crate::cancel::{INTERRUPTED, on_interrupt};
use crate::output::Output;

pub fn run(arguments: ReplayArguments, output: Output) -> Result<ExitCode> {
    let session = Session::open(&arguments.session)?;
    let cancel = on_interrupt()?;
    if !arguments.verify && arguments.export.is_none() {
        let watched = arguments.window || !arguments.describe && output.is_for_a_person();
        if watched && let Some(code) = watch(&session, &arguments, output, &cancel)? {
            return Ok(code);
        }
        return describe(&session, &arguments, output, &cancel);
    }
    let (world, _) = world_of(&session, &arguments)?;
    let mut exported = None;
    if let Some(path) = &arguments.export {
        check_free(path, arguments.force)?;
        let bar = output.bar(session.frames() as u64, "frames");
        let frames = export(
            &session,
            world.clone(),
            path,
            &mut |done| bar.set_position(done),
            &cancel,
        );
        bar.finish_and_clear();
        let frames = frames?;
        let text = format!("{}: {frames} pictures", path.display());
        let value = json!({ "path": path, "pictures": frames });
        if !arguments.verify {
            output.result(&value, text)?;
            return Ok(ExitCode::SUCCESS);
        }
        output.say(text);
        exported = Some(value);
    }
    let verification = verified(&session, world, output, &cancel)?;
    let mut value = serde_json::to_value(&verification)?;
    if let (Some(fields), Some(exported)) = (value.as_object_mut(), exported) {
        fields.insert("export".to_owned(), exported);
    }
    output.result(&value, text(&verification, &session))?;
    Ok(code_of(&verification, &cancel))
}

/// What was compared until an interruption is told all the same.
fn code_of(verification: &Verification, cancel: &AtomicBool) -> ExitCode {
    let stopped = cancel.load(Ordering::Relaxed) && verification.frames < verification.recorded;
    match stopped && verification.difference.is_none() {
        true => ExitCode::from(INTERRUPTED),
        false => exit_code(verification.is_whole()),
    }
}

/// The world to make the session in again, and the name by which it is found.
fn world_of(session: &Session, arguments: &ReplayArguments) -> Result<(Arc<World>, String)> {
    let found = match &arguments.world {
        Some(name) => find_world(Some(name)),
        None => recorded_world(&session.manifest.world),
    };
    let found = found.context("the session's world is not here; name it with --world WORLD")?;
    let mut world = found.load()?;
    // What a session was computed with decides how it rounds.
    world.precision = session.precision();
    Ok((Arc::new(world), found.lasting_name()))
}

/// The world that a session names: a whole path, or a name. A folder that is here by chance under that name is looked at last.
fn recorded_world(name: &str) -> Result<::worlds::FoundWorld> {
    let named = match Path::new(name).is_absolute() {
        true => None,
        false => ::worlds::find_named(name).ok(),
    };
    match named {
        Some(found) => Ok(found),
        None => find_world(Some(name)),
    }
}

fn verified(
    session: &Session,
    world: Arc<World>,
    output: Output,
    cancel: &AtomicBool,
) -> Result<Verification> {
    let bar = output.bar(session.frames() as u64, "frames");
    let verification = verify(session, world, &mut |done| bar.set_position(done), cancel)?;
    bar.finish_and_clear();
    Ok(verification)
}

fn text(verification: &Verification, session: &Session) -> String {
    let Verification {
        frames, recorded, ..
    } = *verification;
    let mut text = match &verification.difference {
        None if recorded == 0 => "there is no complete frame to verify".to_owned(),
        None if frames == recorded => {
            format!("verified: all {frames} frames come out the same, token by token")
        }
        None => {
            let why = match session.frames() as u64 == frames {
                true => "the tokens of the others are missing",
                false => "stopped before the others",
            };
            format!(
                "verified: {frames} of {recorded} frames come out the same, token by token; {why}"
            )
        }
        Some(difference) => {
            let mut text = format!(
                "frame {} comes out differently: {} of {} tokens differ",
                difference.frame, difference.tokens, difference.tokens_per_frame
            );
            if let Some(code) = difference.code {
                text += &format!(", and its wish leads to code {code}");
            }
            text
        }
    };
    if !verification.complete {
        text += "\nthe session was cut short; what was complete has been compared";
    }
    if !verification.same_kernels {
        text += "\nit was recorded with other kernels (another CPU or precision), whose rounding may lead to other tokens";
    }
    text
}

/// Shows a session in a window, from which play can be taken over; `None` where there is no display, or not the session's world, and no
/// window was asked for.
fn watch(
    session: &Session,
    arguments: &ReplayArguments,
    output: Output,
    cancel: &AtomicBool,
) -> Result<Option<ExitCode>> {
    let (world, world_name) = match world_of(session, arguments) {
        Err(error) if arguments.window => return Err(error),
        Err(_) => return Ok(None),
        Ok(found) => found,
    };
    let (own, of_world) = (own_settings(output), own_world(&world, output));
    let bindings = of_world.bindings(&world.manifest);
    let settings = session.manifest.settings;
    // What starts again after a session that began in the middle of play.
    let prompt = match session.prompt.is_empty() {
        true => world.prompts.iter().take(1).cloned().collect(),
        false => session.prompt.clone(),
    };
    let options = PlayOptions {
        prompt,
        settings,
        speed: of_world.preferences.or(own.preferences()).speed(),
        bindings,
        actions: None,
        recording: None,
        world_name,
        player: own,
        replay: Some(Arc::new(session.clone())),
    };
    let summary = match play_in_window(world, options, cancel) {
        Err(Error::NoDisplay(reason)) if !arguments.window => {
            output.tell(format!(
                "There is no display to open a window on ({reason})."
            ));
            return Ok(None);
        }
        summary => summary?,
    };
    // Who only watched has played nothing.
    if summary.frames > 0 {
        report(&summary, settings.seed, output)?;
    }
    Ok(Some(exit_code(summary.recording_failure.is_none())))
}

/// What a session is, whether it comes out the same again, and how to see it: for those who ask nothing else of it.
fn describe(
    session: &Session,
    arguments: &ReplayArguments,
    output: Output,
    cancel: &AtomicBool,
) -> Result<ExitCode> {
    let world = world_of(session, arguments);
    let verification = world.and_then(|(world, _)| verified(session, world, output, cancel));
    let manifest = &session.manifest;
    let video = session.folder.join("video.mp4");
    let verdict = match &verification {
        Ok(verification) => text(verification, session),
        Err(error) => format!("not verified: {error:#}"),
    };
    let value = json!({
        "session": session.folder,
        "world": manifest.world,
        "frames": session.frames(),
        "frames_per_second": manifest.frames_per_second,
        "seed": manifest.settings.seed,
        "complete": session.complete,
        "video": video,
        "verification": verification.as_ref().ok(),
        "not_verified": verification.as_ref().err().map(|error| format!("{error:#}")),
    });
    let state = if session.complete {
        "complete"
    } else {
        "cut short"
    };
    let folder = session.folder.display();
    let description = format!(
        "{folder}: {} frames ({:.1} s) in world {}, seed {}, {state}",
        session.frames(),
        session.frames() as f64 / manifest.frames_per_second,
        manifest.world,
        manifest.settings.seed,
    );
    let watch = match video.is_file() {
        true => format!(
            "watch:  djinn replay {folder} --window, or {} in any video player",
            video.display()
        ),
        false => format!(
            "watch:  djinn replay {folder} --window; the video is gone, and an export makes it again"
        ),
    };
    let ways = format!("{watch}\nexport: djinn replay {folder} --export play.gif (or .mp4)");
    output.result(&value, format!("{description}\n{verdict}\n{ways}"))?;
    Ok(match verification {
        Ok(verification) => code_of(&verification, cancel),
        Err(_) => exit_code(false),
    })
}
