//! How a run tells whoever started it what is going on.

use std::collections::BTreeMap;

use crate::Stage;

/// Measured figures by name.
pub type Figures = BTreeMap<String, f64>;

/// Something that happened in a run.
#[derive(Clone, Debug)]
pub enum TrainEvent {
    /// A stage begins, or continues where a checkpoint left it.
    StageStarted {
        /// Which.
        stage: Stage,
        /// Numbers in the model.
        parameters: usize,
        /// Steps already taken.
        step: u64,
        /// Share of its budget already used, 0 to 1.
        progress: f64,
    },
    /// A step was taken.
    Step {
        /// Of which stage.
        stage: Stage,
        /// Steps taken so far.
        step: u64,
        /// Share of the stage's budget used, 0 to 1.
        progress: f64,
        /// The loss, averaged over the last few steps.
        loss: f64,
        /// Name of the stage's own quality figure: `PSNR` (dB) or `cross-entropy` (nats).
        figure_name: &'static str,
        /// That figure on training batches, averaged over the last few steps.
        figure: f64,
        /// Steps taken in a second, lately.
        steps_per_second: f64,
        /// Seconds until the stage ends.
        seconds_left: f64,
    },
    /// Held-out video was looked at.
    Evaluated {
        /// In which stage.
        stage: Stage,
        /// After how many steps.
        step: u64,
        /// The figures.
        figures: Figures,
        /// The same as one line of text.
        text: String,
    },
    /// A stage has ended.
    StageFinished {
        /// Which.
        stage: Stage,
        /// Steps taken.
        step: u64,
        /// Seconds that it took in all.
        seconds: f64,
    },
    /// Work that is not training: preparation, evaluation, writing the bundle.
    Work {
        /// What is being done.
        what: &'static str,
        /// Things done.
        done: u64,
        /// Things to do.
        total: u64,
    },
    /// Something worth knowing.
    Note(String),
    /// Something that went wrong or looks wrong, in plain words.
    Warning(String),
}

/// Listens to a run.
pub trait TrainObserver: Send {
    /// Called as things happen, on the thread that trains: be quick.
    fn observe(&mut self, event: &TrainEvent);
}

impl<F: FnMut(&TrainEvent) + Send> TrainObserver for F {
    fn observe(&mut self, event: &TrainEvent) {
        self(event);
    }
}
