//! What a stage is to the training loop.

use candle_core::Tensor;
use nn::Parameters;
use rand_chacha::ChaCha8Rng;

use crate::observer::Figures;
use crate::{Result, Stage};

/// The loss of one batch.
pub(crate) struct Loss {
    /// What is minimised, a scalar.
    pub total: Tensor,
    /// The stage's own figure on this batch, as [`Task::FIGURE`] names it.
    pub figure: f64,
    /// Further figures for the metrics.
    pub parts: Vec<(&'static str, f64)>,
}

/// What an evaluation found.
pub(crate) struct Evaluated {
    /// By name.
    pub figures: Figures,
    /// In one line of text.
    pub text: String,
    /// What looks wrong, in plain words.
    pub warnings: Vec<String>,
    /// Pictures for the report, as HTML; `None` leaves those of the evaluation before.
    pub pictures: Option<String>,
}

/// Whether to go on as before.
pub(crate) enum Verdict {
    /// Go on.
    Continue,
    /// Go on, but say what looks wrong while there is still time.
    Warn(String),
    /// Start the stage anew with another seed and a lower rate, for this reason.
    Restart(String),
}

/// Where the stage stands when it is judged.
pub(crate) struct Standing {
    pub phase: usize,
    /// Share of the stage's budget that is used, and that was used when this attempt began.
    pub progress: f64,
    pub attempt_progress: f64,
    pub attempt: u32,
}

/// One stage: its model, its data, its loss and its judgement. All state is in the model's weights; the rest of a task
/// never changes, so that the loader thread can use it, too.
pub(crate) trait Task: Sync {
    const STAGE: Stage;
    /// Name of the stage's own figure.
    const FIGURE: &'static str;
    type Model;
    type Batch: Send;

    fn build(&self, parameters: &Parameters) -> Result<Self::Model>;

    fn batch(&self, random: &mut ChaCha8Rng) -> Result<Self::Batch>;

    fn loss(
        &self,
        model: &Self::Model,
        phase: usize,
        batch: &Self::Batch,
        random: &mut ChaCha8Rng,
    ) -> Result<Loss>;

    /// Evaluates a model of averaged weights.
    fn evaluate(
        &self,
        model: &Self::Model,
        parameters: &Parameters,
        standing: &Standing,
    ) -> Result<Evaluated>;

    /// Whether the stage, once finished, goes on when its budget has become larger: only where nothing else depends on the weights that it ended with.
    fn learns_on(&self) -> bool {
        false
    }

    /// The loss on held-out video among an evaluation's figures, where the stage ends with the weights that were best by it: a model that has learned a
    /// short video by heart grows worse from then on.
    fn held_out_loss(&self, _figures: &Figures) -> Option<f64> {
        None
    }

    /// Shares of the budget at which phases 1, 2 and so on begin.
    fn phases(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Changes the weights as a new phase wants them. They have just been set to their average.
    fn enter_phase(&self, _model: &Self::Model, _phase: usize) -> Result<()> {
        Ok(())
    }

    /// Upkeep of the model before step number `step`, from the seeded generator alone.
    fn maintain(&self, _model: &Self::Model, _step: u64, _random: &mut ChaCha8Rng) -> Result<()> {
        Ok(())
    }

    fn judge(&self, _figures: &Figures, _standing: &Standing) -> Verdict {
        Verdict::Continue
    }
}
