//! `djinn worlds`.

use ::worlds::{Action, FoundWorld, Strength, Trigger, WorldManifest};
use anyhow::Result;
use nn::ActionCode;
use runtime::Bindings;
use serde_json::{Value, json};
use std::process::ExitCode;

use super::own_world;
use crate::arguments::WorldsArguments;
use crate::output::Output;

pub fn run(arguments: WorldsArguments, output: Output) -> Result<ExitCode> {
    match arguments.world {
        Some(name) => describe(&name, output)?,
        None => list(output)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(output: Output) -> Result<()> {
    let worlds = ::worlds::list();
    let entries: Vec<Value> = worlds.iter().map(entry).collect();
    let lines: Vec<String> = worlds.iter().map(line).collect();
    let folders: Vec<String> = ::worlds::search_folders()
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    let text = format!(
        "{}\nmore worlds are looked for in {}",
        lines.join("\n"),
        folders.join(" and ")
    );
    output.result(&entries, text)
}

fn entry(world: &FoundWorld) -> Value {
    match world.manifest() {
        Ok(manifest) => {
            json!({ "name": world.name, "place": world.place.to_string(), "title": manifest.name })
        }
        Err(error) => {
            json!({ "name": world.name, "place": world.place.to_string(), "error": error.to_string() })
        }
    }
}

fn line(world: &FoundWorld) -> String {
    match world.manifest() {
        Ok(manifest) => format!(
            "{:<16} {} ({}, {} frames/s), {}",
            world.name, manifest.name, manifest.frame, manifest.frames_per_second, world.place
        ),
        Err(error) => format!("{:<16} cannot be played: {error}", world.name),
    }
}

/// Loads the world, so that what is described can also be played.
fn describe(name: &str, output: Output) -> Result<()> {
    let found = ::worlds::find(name)?;
    let world = found.load()?;
    let of_world = own_world(&world, output);
    let own = of_world.actions(&world.manifest);
    let bindings = of_world.bindings(&world.manifest);
    let in_force: Vec<Value> = (0u16..)
        .zip(&own)
        .map(|(code, action)| {
            json!({ "code": code, "name": action.name, "inputs": inputs(&bindings, code) })
        })
        .collect();
    let value = json!({
        "name": found.name,
        "place": found.place.to_string(),
        "hash": world.hash,
        "manifest": world.manifest,
        "bindings": in_force,
    });
    let text = description(&found, &world.manifest, &world.hash, &own, &bindings);
    output.result(&value, text)
}

/// What wishes for a code.
fn inputs(bindings: &Bindings, code: u16) -> Vec<String> {
    let chords = bindings.of_code(ActionCode(code));
    chords.iter().map(ToString::to_string).collect()
}

/// `actions` are the world's with the player's names, `bindings` those in force.
fn description(
    found: &FoundWorld,
    manifest: &WorldManifest,
    hash: &str,
    actions: &[Action],
    bindings: &Bindings,
) -> String {
    let strength = match manifest.strength {
        Strength::Wish(bonus) => format!("{bonus}"),
        Strength::Order => "orders".to_owned(),
    };
    let mut lines = vec![
        format!("{} ({}, {})", manifest.name, found.name, found.place),
        format!("by {}, {}", manifest.author, manifest.licence),
        format!(
            "learned from: {} ({})",
            manifest.training_video.source, manifest.training_video.licence
        ),
        format!(
            "{} at {} frames/s, {} MaskGIT steps, temperature {}, strength of a wish {strength}, hash {}",
            manifest.frame,
            manifest.frames_per_second,
            manifest.sampler.steps,
            manifest.sampler.temperature,
            &hash[..hash.len().min(12)],
        ),
        "actions:".to_owned(),
    ];
    for (code, action) in (0u16..).zip(actions) {
        let inputs = inputs(bindings, code).join(" ");
        lines.push(format!("  {code}  {:<16} {inputs}", action.name));
    }
    let wishes = wishes(manifest, actions);
    if !wishes.is_empty() {
        lines.push("wishes:".to_owned());
        lines.extend(wishes);
    }
    let sounds = sounds(manifest);
    if !sounds.is_empty() {
        lines.push("sounds:".to_owned());
        lines.extend(sounds);
    }
    if !manifest.quality.is_empty() {
        lines.push("measured quality:".to_owned());
        lines.extend(
            manifest
                .quality
                .iter()
                .map(|(name, value)| format!("  {name:<40} {value:.3}")),
        );
    }
    lines.join("\n")
}

/// A line for each action for which a wish is something special.
fn wishes(manifest: &WorldManifest, actions: &[Action]) -> Vec<String> {
    let line = |(at, action): (usize, &Action)| {
        let weight = manifest.weights.get(at).filter(|&&weight| weight != 1.0);
        let lasting = manifest.lasts.get(at).copied().flatten();
        let mut voluntary = manifest.voluntary.iter().flatten();
        let is_voluntary = voluntary.any(|code| usize::from(code.0) == at);
        let parts = [
            weight.map(|weight| format!("weighs {weight}")),
            lasting.map(|l| format!("lasts {} of {} frames at most", l.frames, l.of)),
            is_voluntary.then(|| "does not begin unasked".to_owned()),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("  {:<16} {}", action.name, parts.join(", ")))
    };
    actions.iter().enumerate().filter_map(line).collect()
}

/// A line for each sound: its file, how loud it is and when it is heard.
fn sounds(manifest: &WorldManifest) -> Vec<String> {
    let line = |file: &str, volume: f32, when: String| format!("  {file:<16} {volume:<5} {when}");
    let beside = manifest.sound.iter();
    let beside = beside.map(|file| line(file, 1.0, "always".to_owned()));
    let ambient = manifest.sounds.ambient.iter();
    let ambient = ambient.map(|ambient| line(&ambient.file, ambient.volume, "always".to_owned()));
    let samples = manifest.sounds.samples.iter().map(|sample| {
        let names = sample.when.codes().iter();
        let names: Vec<String> = names.map(|&code| manifest.action_name(code)).collect();
        let when = match &sample.when {
            Trigger::Code(_) => format!("when it comes to {}", names.join(" or ")),
            Trigger::While(_) => format!("again and again during {}", names.join(" or ")),
            Trigger::Wish(_) => format!("when the player asks for {}", names.join(" and ")),
        };
        line(&sample.file, sample.volume, when)
    });
    beside.chain(ambient).chain(samples).collect()
}
