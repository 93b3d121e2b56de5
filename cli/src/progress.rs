//! What training and evaluation tell while they run, as bars and lines.

use indicatif::ProgressBar;
use trainer::TrainEvent;

use crate::output::{Output, readable_seconds};

/// One bar at a time: of a stage, or of the work between stages.
pub struct Progress {
    output: Output,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Shows nothing yet.
    pub fn new(output: Output) -> Self {
        Self { output, bar: None }
    }

    /// Clears the bar.
    pub fn end_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Says something above the bar.
    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.output.say(text)),
            None => self.output.say(text),
        }
    }

    fn share_bar(&mut self) -> &ProgressBar {
        let output = self.output;
        self.bar.get_or_insert_with(|| output.share_bar())
    }

    /// Shows an event.
    pub fn show(&mut self, event: &TrainEvent) {
        match event {
            TrainEvent::StageStarted {
                stage,
                parameters,
                step,
                ..
            } => {
                self.end_bar();
                let from = if *step > 0 {
                    format!(", continued at step {step}")
                } else {
                    String::new()
                };
                let millions = *parameters as f64 / 1e6;
                self.say(&format!(
                    "{}: {millions:.1} million parameters{from}",
                    stage.name()
                ));
            }
            TrainEvent::Step {
                stage,
                step,
                progress,
                loss,
                figure_name,
                figure,
                steps_per_second,
                seconds_left,
            } => {
                let message = format!(
                    "{} step {step}, loss {loss:.4}, {figure_name} {figure:.2}, {steps_per_second:.1} steps/s, {} left",
                    stage.name(),
                    readable_seconds(*seconds_left)
                );
                let bar = self.share_bar();
                bar.set_position((progress * 1000.0) as u64);
                bar.set_message(message);
            }
            TrainEvent::Evaluated {
                stage, step, text, ..
            } => {
                self.say(&format!("{} step {step}: {text}", stage.name()));
            }
            TrainEvent::StageFinished {
                stage,
                step,
                seconds,
            } => {
                self.end_bar();
                self.say(&format!(
                    "{}: {step} steps in {}",
                    stage.name(),
                    readable_seconds(*seconds)
                ));
            }
            TrainEvent::Work { what, done, total } => {
                let message = format!("{what}, {done} of {total}");
                let bar = self.share_bar();
                bar.set_position(done * 1000 / (*total).max(1));
                bar.set_message(message);
                if done >= total {
                    self.end_bar();
                }
            }
            TrainEvent::Note(text) => self.say(text),
            TrainEvent::Warning(text) => match &self.bar {
                Some(bar) => bar.suspend(|| eprintln!("warning: {text}")),
                None => eprintln!("warning: {text}"),
            },
        }
    }
}
