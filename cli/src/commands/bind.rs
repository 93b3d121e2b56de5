//! `djinn bind`.

use ::worlds::{
    Action, Chord, CodeEffect, EffectOptions, Proposal, World, WorldManifest, measure_effects,
    propose,
};
use anyhow::{Context, Result};
use nn::ActionCode;
use runtime::{ControlTable, OwnWorld, effect_file_is_gif, write_effects};
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::play::own_settings;
use super::{check_free, find_world};
use crate::arguments::BindArguments;
use crate::cancel::{INTERRUPTED, interrupted, on_interrupt};
use crate::output::Output;

pub fn run(arguments: BindArguments, output: Output) -> Result<ExitCode> {
    if let Some(pictures) = &arguments.pictures {
        effect_file_is_gif(pictures)?;
        check_free(pictures, arguments.force)?;
    }
    let world = Arc::new(find_world(Some(&arguments.world))?.load()?);
    let manifest = &world.manifest;
    let path = OwnWorld::path(&world)
        .context("this system names no configuration folder to keep bindings in")?;
    let kept = OwnWorld::of(&world);
    let mut own = match arguments.reset {
        // What is broken is replaced when that is asked for, and only then.
        true => kept.unwrap_or_else(|_| OwnWorld::none(manifest)),
        false => kept?,
    };
    if arguments.reset {
        own.reset_actions();
    }
    let controls = ControlTable::of_player(&own_settings(output).commands, false);
    let controls = controls.map_err(anyhow::Error::msg)?;
    let changes = !arguments.set.is_empty() || !arguments.name.is_empty();
    for (code, inputs) in &arguments.set {
        let inputs: Vec<String> = inputs.iter().map(|input| input.trim().to_owned()).collect();
        own.bind(manifest, &controls, code_of(code, &own, manifest)?, &inputs)
            .with_context(|| format!("--set {code}"))?;
    }
    for (code, name) in &arguments.name {
        own.name(manifest, code_of(code, &own, manifest)?, name)
            .with_context(|| format!("--name {code}"))?;
    }
    if changes || arguments.reset {
        own.keep(&world)?;
    }
    let cancel = on_interrupt()?;
    // Who only sets something need not wait for what is measured.
    let asked_for = !changes && !arguments.reset;
    let measured = match asked_for || arguments.pictures.is_some() {
        true => match measured(&world, output, &cancel)? {
            None => return Ok(interrupted("stopped as asked")),
            measured => measured,
        },
        false => None,
    };
    let report = Report {
        measured: measured.as_ref(),
        path: &path,
        pictures: arguments.pictures.as_ref(),
    };
    // Before the pictures: should they fail, what was measured is told all the same.
    output.result(&report.value(&own, manifest), report.text(&own, manifest))?;
    if let (Some((effects, _)), Some(pictures)) = (&measured, &arguments.pictures) {
        write_effects(effects, pictures, manifest.frames_per_second)?;
    }
    if cancel.load(Ordering::Relaxed) {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let at_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if asked_for && at_terminal && !output.is_for_programs() {
        // Nobody can look at a flag while an answer is waited for, so the first Ctrl-C ends the program now.
        cancel.store(true, Ordering::Relaxed);
        // Whoever ends it half way keeps what was answered.
        let keep = |own: &OwnWorld| Ok(own.keep(&world)?);
        ask(
            &mut own,
            manifest,
            &controls,
            &mut std::io::stdin().lock(),
            keep,
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The code that a number or name means: the player's own name, or else the world's.
fn code_of(text: &str, own: &OwnWorld, manifest: &WorldManifest) -> Result<ActionCode> {
    let mut named = manifest.clone();
    named.actions = own.actions(manifest);
    let code = [&named, manifest]
        .into_iter()
        .find_map(|manifest| manifest.find_action(text.trim()));
    code.with_context(|| format!("no action {text:?} in this world; `djinn worlds` lists them"))
}

/// `None` when it was interrupted.
fn measured(
    world: &Arc<World>,
    output: Output,
    cancel: &AtomicBool,
) -> Result<Option<(Vec<CodeEffect>, Proposal)>> {
    let options = EffectOptions::default();
    let rollouts = world.manifest.codes() * options.starts;
    let bar = output.bar(rollouts as u64, "rollouts");
    let effects = measure_effects(world, options, &mut || {
        bar.inc(1);
        !cancel.load(Ordering::Relaxed)
    })?;
    bar.finish_and_clear();
    if effects.len() < world.manifest.codes() {
        return Ok(None);
    }
    let proposal = propose(&effects, world.manifest.frame.width);
    Ok(Some((effects, proposal)))
}

/// What is told about the codes.
struct Report<'a> {
    measured: Option<&'a (Vec<CodeEffect>, Proposal)>,
    path: &'a PathBuf,
    pictures: Option<&'a PathBuf>,
}

/// One code's line.
struct Line {
    code: u16,
    action: Action,
    proposed: Option<String>,
    /// Pixels a frame to the right, down, and outward at the edge.
    motion: Option<[f32; 3]>,
    inputs: Vec<String>,
}

impl Report<'_> {
    fn lines(&self, own: &OwnWorld, manifest: &WorldManifest) -> Vec<Line> {
        let actions = own.actions(manifest);
        let bindings = own.bindings(manifest);
        let line = |(code, action): (u16, Action)| {
            let index = usize::from(code);
            let effect = self.measured.and_then(|(effects, _)| effects.get(index));
            let motion = effect.map(CodeEffect::motion);
            let proposed = self
                .measured
                .and_then(|(_, proposal)| proposal.actions.get(index));
            Line {
                code,
                action,
                proposed: proposed.map(|action| action.name.clone()),
                motion: motion.map(|m| [m.total().0, m.total().1, m.approach]),
                inputs: bindings
                    .of_code(ActionCode(code))
                    .into_iter()
                    .map(Chord::to_string)
                    .collect(),
            }
        };
        (0u16..).zip(actions).map(line).collect()
    }

    fn value(&self, own: &OwnWorld, manifest: &WorldManifest) -> Value {
        let lines = self.lines(own, manifest);
        let actions: Vec<Value> = lines
            .iter()
            .map(|line| {
                json!({
                    "code": line.code,
                    "name": line.action.name,
                    "proposed": line.proposed,
                    "motion": line.motion,
                    "inputs": line.inputs,
                })
            })
            .collect();
        json!({ "actions": actions, "bindings": self.path, "own": own.has_actions(), "pictures": self.pictures })
    }

    fn text(&self, own: &OwnWorld, manifest: &WorldManifest) -> String {
        let mut lines = vec![match self.measured {
            Some(_) => "code  name              looks like      right   down   inputs".to_owned(),
            None => "code  name              inputs".to_owned(),
        }];
        for line in self.lines(own, manifest) {
            let Line {
                code,
                action,
                inputs,
                ..
            } = &line;
            let inputs = inputs.join(" ");
            lines.push(match (&line.proposed, line.motion) {
                (Some(proposed), Some([right, down, _])) => {
                    format!(
                        "{code:<4}  {:<16}  {proposed:<14}  {right:>5.1}  {down:>5.1}   {inputs}",
                        action.name
                    )
                }
                _ => format!("{code:<4}  {:<16}  {inputs}", action.name),
            });
        }
        if self.measured.is_some() {
            lines.push(
                "right and down: pixels a frame, over the background, while the code is held"
                    .into(),
            );
        }
        if let Some(pictures) = self.pictures {
            lines.push(format!("pictures: {}", pictures.display()));
        }
        if own.has_actions() {
            lines.push(format!("your own bindings: {}", self.path.display()));
        }
        lines.join("\n")
    }
}

/// Asks for the inputs of each code until `input` ends; `keep` gets what each answer has come to.
fn ask(
    own: &mut OwnWorld,
    manifest: &WorldManifest,
    controls: &ControlTable,
    input: &mut impl BufRead,
    mut keep: impl FnMut(&OwnWorld) -> Result<()>,
) -> Result<()> {
    println!(
        "Name keys, buttons or chords for each action, several with commas, as in ArrowRight,DPadRight,KeyD+Space. Enter keeps what there is, - unbinds, q ends."
    );
    for code in (0u16..).take(manifest.codes()).map(ActionCode) {
        loop {
            let actions = own.actions(manifest);
            let Some(action) = actions.get(usize::from(code.0)) else {
                break;
            };
            print!("{code} {} [{}]: ", action.name, action.bindings.join(","));
            std::io::stdout().flush()?;
            let mut answer = String::new();
            if input.read_line(&mut answer)? == 0 {
                return Ok(());
            }
            let inputs: Vec<String> = match answer.trim() {
                "" => break,
                "q" => return Ok(()),
                "-" => Vec::new(),
                inputs => inputs
                    .split(',')
                    .map(|input| input.trim().to_owned())
                    .collect(),
            };
            match own.bind(manifest, controls, code, &inputs) {
                Ok(()) => {
                    keep(own)?;
                    break;
                }
                Err(error) => println!("{error}"),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_bind_and_mistakes_are_asked_again() {
        let manifest = ::worlds::tiny_contents(1).unwrap().manifest;
        let mut own = OwnWorld::none(&manifest);
        let mut answers = &b"\nfoo\nKeyL, South\n-\nq\n"[..];
        let mut kept = Vec::new();
        let keep = |own: &OwnWorld| {
            kept.push(own.clone());
            Ok(())
        };
        ask(
            &mut own,
            &manifest,
            &ControlTable::default(),
            &mut answers,
            keep,
        )
        .unwrap();
        assert_eq!((kept.len(), kept.last()), (2, Some(&own)));
        let bound: Vec<Vec<String>> = own
            .actions(&manifest)
            .into_iter()
            .map(|a| a.bindings)
            .collect();
        assert!(bound[0].contains(&"ArrowLeft".to_owned()), "{bound:?}");
        assert_eq!(bound[1], ["KeyL", "South"]);
        assert!(bound[2].is_empty() && bound[3].is_empty());
        assert!(answers.is_empty());
    }
}
