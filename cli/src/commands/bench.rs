//! `djinn bench`.

use anyhow::Result;
use runtime::{ActionSource, HeadlessOptions, Preferences, play_headless};
use serde_json::json;
use std::process::ExitCode;
use std::sync::Arc;
use trainer::benchmark::{StepSpeed, matmul_peak, training_speed};

use super::find_world;
use crate::arguments::BenchArguments;
use crate::cancel::on_interrupt;
use crate::output::Output;

/// Frames that are made before the clock counts, to fill the context and warm the caches.
const WARM_UP: u64 = 10;

pub fn run(arguments: BenchArguments, output: Output) -> Result<ExitCode> {
    let found = find_world(arguments.world.as_deref())?;
    let world = Arc::new(found.load()?);
    let cancel = on_interrupt()?;
    let peak = matmul_peak();
    let settings = Preferences::default().settings(&world.manifest, 1)?;
    let play = |frames| {
        let options = HeadlessOptions {
            frames,
            prompt: world.prompts.iter().take(1).cloned().collect(),
            settings,
            actions: ActionSource::random(1, &world.manifest),
            recording: None,
        };
        play_headless(world.clone(), options, &mut |_| {}, &cancel)
    };
    play(WARM_UP)?;
    let times = play(arguments.frames.max(1) as u64)?.times;
    // The forecast's own passes and the commit beside the MaskGIT steps.
    let passes = settings.sampler.steps + 1;
    let manifest = &world.manifest;
    let training = match arguments.steps {
        0 => None,
        steps => Some(training_speed(
            &manifest.tokenizer,
            &manifest.latent_actions,
            &manifest.dynamics,
            steps,
            peak,
        )?),
    };
    let mut lines = vec![
        format!("matrix-multiply peak   {peak:.0} GFLOP/s (f32, all cores)"),
        format!(
            "frame                  {:.1} ms p50, {:.1} ms p95, {:.1} ms p99: {:.1} frames/s ({} dynamics passes a frame)",
            times.p50,
            times.p95,
            times.p99,
            times.frames_per_second(),
            passes
        ),
    ];
    if let Some(training) = &training {
        for (name, speed) in [
            ("tokenizer step", training.tokenizer),
            ("latent actions step", training.latent_actions),
            ("dynamics step", training.dynamics),
        ] {
            lines.push(line(name, speed));
        }
    }
    let value = json!({
        "world": manifest.name,
        "instructions": format!("{:?}", nn::kernels::dispatch::instruction_set()),
        "matmul_gflops": peak,
        "frame_ms": { "p50": times.p50, "p95": times.p95, "p99": times.p99 },
        "fps": times.frames_per_second(),
        "passes_per_frame": passes,
        "train": training,
    });
    output.result(&value, lines.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn line(name: &str, speed: StepSpeed) -> String {
    format!(
        "{name:<22} {:.2} steps/s, {:.0} GFLOP/s, {:.0}% of the peak",
        speed.steps_per_s,
        speed.gflops,
        100.0 * speed.share_of_peak
    )
}
