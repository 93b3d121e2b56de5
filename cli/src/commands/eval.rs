//! `djinn eval`.

use anyhow::{Result, bail};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use trainer::dataset::Dataset;
use trainer::{EvaluateOptions, TrainEvent, evaluate, write_report};

use super::{check_free, find_world};
use crate::arguments::EvalArguments;
use crate::cancel::on_interrupt;
use crate::output::Output;
use crate::progress::Progress;

pub fn run(arguments: EvalArguments, output: Output) -> Result<ExitCode> {
    if let Some(path) = &arguments.report {
        check_report(path, arguments.force)?;
    }
    let dataset = Dataset::open(&arguments.dataset)?;
    let world = Arc::new(find_world(Some(&arguments.world))?.load()?);
    let usual = EvaluateOptions::default();
    let options = EvaluateOptions {
        clips: arguments.clips.unwrap_or(usual.clips),
        wish_starts: arguments.wish_starts.unwrap_or(usual.wish_starts),
        drift_frames: arguments.drift_frames.unwrap_or(usual.drift_frames),
        ..usual
    };
    let cancel = on_interrupt()?;
    let mut progress = Progress::new(output);
    let mut observe = |event: &TrainEvent| progress.show(event);
    let evaluation = evaluate(&world, &dataset, &options, &mut observe, &cancel);
    progress.end_bar();
    let evaluation = evaluation?;
    // Before the report: should that fail, the figures are told all the same.
    output.result(&evaluation, evaluation.to_text())?;
    if let Some(path) = &arguments.report {
        let mut observe = |event: &TrainEvent| progress.show(event);
        let written = write_report(
            path,
            (&world, &dataset),
            &evaluation,
            None,
            &mut observe,
            &cancel,
        );
        progress.end_bar();
        written?;
        output.say(format!("report: {}", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Before hours are spent on it.
fn check_report(path: &Path, force: bool) -> Result<()> {
    let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
    if !ending.is_some_and(|ending| ending == "html" || ending == "htm") {
        bail!(
            "{}: a report is a web page, give it a name that ends in .html",
            path.display()
        );
    }
    check_free(path, force)
}
