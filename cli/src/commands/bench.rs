//! `djinn bench`.

use anyhow::Result;
use clap::ValueEnum;
use nn::kernels::peak::Peak;
use nn::kernels::product::unit;
use nn::{Precision, with_precision};
use runtime::{ActionSource, FrameTimeSummary, HeadlessOptions, Preferences, play_headless};
use serde_json::{Map, Value, json};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use trainer::benchmark::{ModelSizes, StepSpeed, model_sizes, training_speed};
use trainer::{Stage, TrainConfig};
use worlds::{FoundWorld, World, WorldManifest};

use super::find_world;
use crate::arguments::{BenchArguments, BenchPart, OptimizerArgument};
use crate::output::Output;

/// Frames that are made before the clock counts, to fill the context and warm the caches.
const WARM_UP: u64 = 10;
/// So many frames show whether a frame's cost grows with the session.
const LONG: usize = 1000;

pub fn run(arguments: BenchArguments, output: Output) -> Result<ExitCode> {
    let found = find_world(arguments.world.as_deref())?;
    let precision = arguments.precision.into();
    let measured = with_precision(precision, || Measured::new(&found, &arguments, precision))?;
    let kernels = unit(precision).name();
    output.result(
        &measured.json(kernels),
        measured.lines(kernels, arguments.profile),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// All that was measured, and of what.
struct Measured {
    world: Arc<World>,
    peak: Peak,
    frame: Option<FrameTimeSummary>,
    training: Vec<(Stage, StepSpeed)>,
    models: ModelSizes,
}

impl Measured {
    fn new(found: &FoundWorld, arguments: &BenchArguments, precision: Precision) -> Result<Self> {
        let mut world = found.load()?;
        world.precision = precision;
        let world = Arc::new(world);
        let mut config = config(&world.manifest);
        if arguments.optimizer == OptimizerArgument::Adamw {
            config.optimizer.muon = None;
        }
        let models = model_sizes(&config)?;
        let peak = Peak::measure();
        let (mut frame, mut training) = (None, Vec::new());
        for &part in BenchPart::value_variants() {
            if !arguments.only.is_empty() && !arguments.only.contains(&part) {
                continue;
            }
            match stage(part) {
                None => frame = Some(play(&world, arguments.frames)?),
                Some(_) if arguments.steps == 0 => {}
                Some(stage) => {
                    let speed = training_speed(stage, &config, arguments.steps, peak.best())?;
                    training.push((stage, speed));
                }
            }
        }
        Ok(Self {
            world,
            peak,
            frame,
            training,
            models,
        })
    }

    fn json(&self, kernels: &str) -> Value {
        let manifest = &self.world.manifest;
        let frame = self
            .frame
            .map(|times| json!({ "p50": times.p50, "p95": times.p95, "p99": times.p99, "p50_of_first_100": times.p50_of_first, "p50_of_last_100": times.p50_of_last }));
        let speeds = self.training.iter();
        let speeds = speeds.map(|(stage, speed)| (stage.name().to_owned(), json!(speed)));
        let training: Map<String, Value> = speeds.collect();
        let mut value = json!({
            "world": manifest.name,
            "kernels": kernels,
            "precision": match unit(self.world.precision).precision() {
                Precision::F32 => "f32",
                Precision::Bf16 => "bf16",
            },
            "threads": std::thread::available_parallelism().map_or(1, usize::from),
            "matmul_gflops": self.peak.best(),
            "matmul_gflops_by": { "djinn": self.peak.djinn, "gemm": self.peak.gemm },
            "frame_ms": frame,
            "fps": self.frame.map(|times| times.frames_per_second()),
            "passes_per_frame": passes(manifest),
            "train": (!training.is_empty()).then_some(training),
            "models": self.models,
        });
        value["models"]["sampler"] = json!(manifest.sampler);
        value
    }

    fn lines(&self, kernels: &str, profile: bool) -> String {
        let mut lines = vec![format!(
            "matrix-multiply peak   {:.0} GFLOP/s (f32, all cores)",
            self.peak.best()
        )];
        if let Some(times) = self.frame {
            lines.push(format!(
                "frame                  {:.1} ms p50, {:.1} ms p95, {:.1} ms p99: {:.1} frames/s ({} dynamics passes a frame)",
                times.p50,
                times.p95,
                times.p99,
                times.frames_per_second(),
                passes(&self.world.manifest)
            ));
            if times.frames >= LONG {
                lines.push(format!(
                    "                       {:.3} ms p50 of the first 100 frames, {:.3} ms of the last 100 of {}",
                    times.p50_of_first, times.p50_of_last, times.frames
                ));
            }
        }
        for (stage, speed) in &self.training {
            let name = format!("{} step", stage.name().replace('_', " "));
            lines.push(format!(
                "{name:<22} {:.1} ms p50: {:.2} steps/s, {:.0} GFLOP/s, {:.0}% of the peak",
                speed.p50_ms,
                speed.steps_per_s,
                speed.gflops,
                100.0 * speed.share_of_peak
            ));
            let parts = speed.profile.iter().filter(|_| profile);
            lines.extend(parts.map(|part| {
                format!(
                    "  {:<20} {:>7.1} ms {:>5.1}%",
                    part.operation,
                    part.ms,
                    100.0 * part.share
                )
            }));
        }
        lines.push(format!("products by {kernels}"));
        lines.join("\n")
    }
}

/// The stage whose training steps a part is; none for play.
fn stage(part: BenchPart) -> Option<Stage> {
    match part {
        BenchPart::Play => None,
        BenchPart::Tokenizer => Some(Stage::Tokenizer),
        BenchPart::LatentActions => Some(Stage::LatentActions),
        BenchPart::Dynamics => Some(Stage::Dynamics),
    }
}

/// The default training of a world's models.
fn config(manifest: &WorldManifest) -> TrainConfig {
    let mut config = TrainConfig::default();
    config.tokenizer.model = manifest.tokenizer.clone();
    config.latent_actions.model = manifest.latent_actions.clone();
    config.dynamics.model = manifest.dynamics.clone();
    config
}

/// Passes of the dynamics that make a frame: the MaskGIT steps, and one that commits what they decided.
fn passes(manifest: &WorldManifest) -> usize {
    manifest.sampler.steps + 1
}

/// Times frames of play under random wishes.
fn play(world: &Arc<World>, frames: usize) -> Result<FrameTimeSummary> {
    // Nothing is lost when a benchmark is interrupted, so it just ends.
    let never = AtomicBool::new(false);
    let settings = Preferences::default().settings(&world.manifest, 1)?;
    let run = |frames| {
        let options = HeadlessOptions {
            frames,
            prompt: world.prompts.iter().take(1).cloned().collect(),
            settings,
            actions: ActionSource::random(1, &world.manifest),
            recording: None,
        };
        play_headless(world.clone(), options, &mut |_| {}, &never)
    };
    run(WARM_UP)?;
    Ok(run(frames.max(1) as u64)?.times)
}
