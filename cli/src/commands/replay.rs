//! `djinn replay`.

use anyhow::{Context, Result, bail};
use runtime::{Session, Verification, export, verify};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::{exit_code, find_world};
use crate::arguments::ReplayArguments;
use crate::cancel::on_interrupt;
use crate::output::Output;

pub fn run(arguments: ReplayArguments, output: Output) -> Result<ExitCode> {
    let session = Session::open(&arguments.session)?;
    if !arguments.verify && arguments.export.is_none() {
        describe(&session, output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let found = match &arguments.world {
        Some(name) => find_world(Some(name)),
        None => recorded_world(&session.manifest.world),
    };
    let found = found.context("the session's world is not here; name it with --world WORLD")?;
    let world = Arc::new(found.load()?);
    let cancel = on_interrupt()?;
    let mut exported = None;
    if let Some(path) = &arguments.export {
        if path.exists() && !arguments.force {
            bail!(
                "{} is there already; choose another name, or write over it with --force",
                path.display()
            );
        }
        let bar = output.bar(session.frames() as u64, "frames");
        let frames = export(
            &session,
            world.clone(),
            path,
            &mut |done| bar.set_position(done),
            &cancel,
        )?;
        bar.finish_and_clear();
        let text = format!("{}: {frames} pictures", path.display());
        let value = json!({ "path": path, "pictures": frames });
        if !arguments.verify {
            output.result(&value, text)?;
            return Ok(ExitCode::SUCCESS);
        }
        output.say(text);
        exported = Some(value);
    }
    let bar = output.bar(session.frames() as u64, "frames");
    let verification = verify(&session, world, &mut |done| bar.set_position(done), &cancel)?;
    bar.finish_and_clear();
    let mut value = serde_json::to_value(&verification)?;
    if let (Some(fields), Some(exported)) = (value.as_object_mut(), exported) {
        fields.insert("export".to_owned(), exported);
    }
    output.result(&value, text(&verification))?;
    Ok(exit_code(verification.difference.is_none()))
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

fn text(verification: &Verification) -> String {
    let mut text = match &verification.difference {
        None => format!(
            "verified: all {} frames come out the same, token by token",
            verification.frames
        ),
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
    if !verification.same_instructions {
        text += "\nit was recorded with other CPU instructions, whose rounding may lead to other tokens";
    }
    text
}

/// What a session is, for those who ask nothing else of it.
fn describe(session: &Session, output: Output) -> Result<()> {
    let manifest = &session.manifest;
    let video = session.folder.join("video.mp4");
    let shown = |path: &Path| path.display().to_string();
    let value = json!({
        "session": session.folder,
        "world": manifest.world,
        "frames": session.frames(),
        "frames_per_second": manifest.frames_per_second,
        "seed": manifest.settings.seed,
        "complete": session.complete,
        "video": video,
    });
    let state = if session.complete {
        "complete"
    } else {
        "cut short"
    };
    let text = format!(
        "{}: {} frames ({:.1} s) in world {}, seed {}, {state}\nvideo: {}",
        shown(&session.folder),
        session.frames(),
        session.frames() as f64 / manifest.frames_per_second,
        manifest.world,
        manifest.settings.seed,
        shown(&video),
    );
    output.result(&value, text)
}
