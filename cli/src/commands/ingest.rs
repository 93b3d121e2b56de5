//! `djinn ingest`.

use anyhow::Result;
use media::{CropRect, Fit};
use nn::FrameSize;
use serde_json::json;
use std::process::ExitCode;
use std::time::Instant;
use trainer::TrainConfig;
use trainer::ingest::{IngestOptions, IngestProgress, IngestReport, USUAL_SCENE_CUT, ingest};

use super::exit_code;
use crate::arguments::{FitArgument, IngestArguments};
use crate::cancel::{INTERRUPTED, on_interrupt};
use crate::output::{Output, complain};

pub fn run(arguments: IngestArguments, output: Output) -> Result<ExitCode> {
    let options = options(&arguments);
    let frame = FrameSize {
        height: options.height as usize,
        width: options.width as usize,
    };
    // Now, and not when all of the video has been read.
    if let Err(error) = TrainConfig::default().for_frames(frame) {
        output.tell(format!(
            "Only a --config of its own could train on frames of {frame} ({error}); multiples of 8 do without."
        ));
    }
    let cancel = on_interrupt()?;
    let bar = output.share_bar();
    let start = Instant::now();
    let mut tell = |progress: IngestProgress| {
        bar.set_position((progress.share() * 1000.0) as u64);
        let rate = progress.frames as f64 / start.elapsed().as_secs_f64().max(1e-3);
        let name = progress
            .path
            .file_name()
            .unwrap_or(progress.path.as_os_str())
            .to_string_lossy();
        bar.set_message(format!(
            "{} frames, {rate:.0} frames/s, {name}",
            progress.frames
        ));
    };
    let report = ingest(
        &arguments.inputs,
        &arguments.out,
        &options,
        &mut tell,
        &cancel,
    );
    bar.finish_and_clear();
    let report = report?;
    for skipped in &report.skipped {
        complain(format!("skipped: {skipped}"));
    }
    for damaged in &report.damaged {
        complain(format!("damaged: {damaged}"));
    }
    for warning in &report.warnings {
        complain(format!("warning: {warning}"));
    }
    output.result(
        &summary(&report, &arguments),
        text(&report, &arguments, start.elapsed().as_secs_f64()),
    )?;
    Ok(match report.cancelled {
        true => ExitCode::from(INTERRUPTED),
        false => exit_code(report.is_complete()),
    })
}

fn options(arguments: &IngestArguments) -> IngestOptions {
    let [x, y, width, height] = arguments.crop.unwrap_or_default();
    IngestOptions {
        width: arguments.size.0,
        height: arguments.size.1,
        frames_per_second: arguments.fps,
        fit: match arguments.fit {
            FitArgument::Crop => Fit::Crop,
            FitArgument::Pad => Fit::Pad,
            FitArgument::Stretch => Fit::Stretch,
        },
        crop: arguments.crop.map(|_| CropRect {
            x,
            y,
            width,
            height,
        }),
        scene_cut: (!arguments.no_scene_cuts).then_some(USUAL_SCENE_CUT),
        validation_fraction: arguments.validation,
        ..IngestOptions::default()
    }
}

fn text(report: &IngestReport, arguments: &IngestArguments, seconds: f64) -> String {
    let mut lines = vec![format!(
        "{}: {} frames ({} to train on, {} for validation) in {} episodes from {} sources, {:.0} frames/s",
        arguments.out.display(),
        report.frames,
        report.train_frames,
        report.validation_frames,
        report.episodes,
        report.sources,
        report.frames as f64 / seconds.max(1e-3),
    )];
    if !report.action_names.is_empty() {
        lines.push(format!("true actions: {}", report.action_names.join(", ")));
    }
    lines.extend(report.notes.iter().cloned());
    if report.cancelled {
        lines.push("stopped early: the dataset holds what was read until then".to_owned());
    }
    if !report.skipped.is_empty() {
        lines.push(match report.skipped.len() {
            1 => "1 source was skipped".to_owned(),
            count => format!("{count} sources were skipped"),
        });
    }
    if !report.damaged.is_empty() {
        lines.push(match report.damaged.len() {
            1 => "1 source is damaged and was used in part".to_owned(),
            count => format!("{count} sources are damaged and were used in part"),
        });
    }
    lines.push(format!(
        "next: djinn train {} --out my.world",
        arguments.out.display()
    ));
    lines.join("\n")
}

fn summary(report: &IngestReport, arguments: &IngestArguments) -> serde_json::Value {
    json!({
        "dataset": arguments.out,
        "sources": report.sources,
        "frames": report.frames,
        "train_frames": report.train_frames,
        "validation_frames": report.validation_frames,
        "episodes": report.episodes,
        "scene_cuts": report.scene_cuts,
        "action_cuts": report.action_cuts,
        "action_names": report.action_names,
        "skipped": report.skipped.iter().map(|skipped| json!({
            "path": skipped.path, "codec": skipped.codec, "message": skipped.message, "help": skipped.help,
            "tried": skipped.tried.iter().map(|tried| json!({
                "decoder": tried.decoder, "reason": tried.reason,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "damaged": report.damaged.iter().map(|damaged| json!({
            "path": damaged.path, "codec": damaged.codec, "message": damaged.message, "help": damaged.help,
            "places": damaged.places, "pictures_lost": damaged.pictures_lost,
        })).collect::<Vec<_>>(),
        "warnings": report.warnings,
        "notes": report.notes,
        "cancelled": report.cancelled,
    })
}
