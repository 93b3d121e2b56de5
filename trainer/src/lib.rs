//! From gameplay video to a world: datasets, the three stages of training, evaluation and reports.
//!
//! ```text
//! videos ─ ingest ─► Dataset
//! Dataset ─ stage latent_actions ─► codes of changes, forecasts ─┐
//! Dataset ─ stage tokenizer ──────► tokens of frames ────────────┤
//!                                     preparation, once, to disk ┴─► stage dynamics ─► bundle, report
//! bundle + Dataset ─ evaluate ─► figures
//! ```
//!
//! [`train`] writes the finished bundle to `OUT` and everything else to `OUT.run` beside it:
//!
//! - `train.ron`: the configuration with every field set, which `--resume` goes by unless told otherwise;
//! - `STAGE.checkpoint.safetensors`: from which `--resume` continues exactly where the stage stopped;
//! - `metrics.jsonl` and `events/STAGE/`: figures of every logged step and every evaluation, the latter for TensorBoard;
//! - `prepared/`: every frame's tokens and forecast, which the dynamics trains on;
//! - `STAGE.beginning.safetensors` and `beginning/`: what a run that goes on from a world needs of it;
//! - `written.world.ron`: the bundle's manifest without what people changed in it, which stays when it is written again;
//! - `report.html`: curves and pictures, written anew after every evaluation; `pictures/` holds what it shows of each stage.
//!
//! While the dynamics trains, `OUT` already holds the world as it was at the last evaluation.
//!
//! A stage is a `Task`; the loop around it (`session`) is the same for all. Every batch is drawn from a generator
//! made of the seed and the step alone, so a resumed run takes the very steps that an uninterrupted one takes.

mod actions;
mod beginning;
pub mod benchmark;
mod bundle;
mod checkpoint;
mod clips;
mod config;
pub mod dataset;
mod edits;
mod error;
pub mod evaluate;
mod files;
mod finish;
pub mod ingest;
mod lasting;
mod loader;
mod measure;
mod metrics;
mod observer;
mod prepare;
mod prepared;
mod recipe;
mod report;
mod resume;
mod schedule;
mod session;
mod stage;
mod stages;
mod task;
mod tensorboard;
mod train;

pub use beginning::Beginning;
pub use config::{
    AdversarialConfig, Budget, DynamicsStage, LatentActionStage, OptimizerConfig,
    PreparationConfig, TokenizerStage, TrainConfig, WorldDetails,
};
pub use error::{Error, Result};
pub use evaluate::{EvaluateOptions, Evaluation, evaluate};
pub use metrics::MetricsLine;
pub use observer::{Figures, TrainEvent, TrainObserver};
pub use report::write_report;
pub use stage::Stage;
pub use train::{TrainOptions, TrainOutcome, run_folder, train};
