//! `djinn train`.

use anyhow::Result;
use serde_json::json;
use std::process::ExitCode;
use trainer::dataset::Dataset;
use trainer::{Beginning, Stage, TrainConfig, TrainEvent, TrainOptions, TrainOutcome, train};

use super::find_world;
use crate::arguments::{StageArgument, TrainArguments};
use crate::cancel::{INTERRUPTED, on_interrupt};
use crate::output::Output;
use crate::progress::Progress;

pub fn run(arguments: TrainArguments, output: Output) -> Result<ExitCode> {
    let dataset = Dataset::open(&arguments.dataset)?;
    let options = TrainOptions {
        config: match &arguments.config {
            Some(path) => Some(TrainConfig::read(path)?),
            None => None,
        },
        out: arguments.out,
        stage: arguments.stage.map(|stage| match stage {
            StageArgument::Tokenizer => Stage::Tokenizer,
            StageArgument::LatentActions => Stage::LatentActions,
            StageArgument::Dynamics => Stage::Dynamics,
        }),
        from: match &arguments.from {
            Some(name) => Some(Beginning::read(find_world(Some(name))?.source()?.as_ref())?),
            None => None,
        },
        budget: arguments.budget,
        resume: arguments.resume,
    };
    let cancel = on_interrupt()?;
    let mut progress = Progress::new(output);
    let outcome = train(
        &dataset,
        &options,
        &mut |event: &TrainEvent| progress.show(event),
        &cancel,
    )?;
    progress.end_bar();
    let interrupted = matches!(outcome, TrainOutcome::Interrupted { .. });
    let (value, text) = match outcome {
        TrainOutcome::World {
            path,
            report,
            warnings,
        } => (
            json!({ "outcome": "world", "world": path, "report": report, "warnings": warnings }),
            format!(
                "world:  {}\nreport: {}\nnext:   djinn play {}{}",
                path.display(),
                report.display(),
                path.display(),
                listed(&warnings)
            ),
        ),
        TrainOutcome::Stage { stage, warnings } => (
            json!({ "outcome": "stage", "stage": stage.name(), "warnings": warnings }),
            format!("stage {} is finished{}", stage.name(), listed(&warnings)),
        ),
        TrainOutcome::Interrupted { run } => (
            json!({ "outcome": "interrupted", "run": run }),
            format!(
                "stopped; everything is kept in {}; go on with --resume",
                run.display()
            ),
        ),
    };
    output.result(&value, text)?;
    Ok(match interrupted {
        true => ExitCode::from(INTERRUPTED),
        false => ExitCode::SUCCESS,
    })
}

/// Warnings as lines of their own, each after a line's end.
fn listed(warnings: &[String]) -> String {
    warnings
        .iter()
        .map(|warning| format!("\nwarning: {warning}"))
        .collect()
}
