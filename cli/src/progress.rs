//! What training and evaluation tell while they run, as bars and lines.

use indicatif::ProgressBar;
use std::time::Instant;
use trainer::TrainEvent;

use crate::output::{Output, complain, readable_seconds};

/// One bar at a time: of a stage, or of the work between stages.
pub struct Progress {
    output: Output,
    bar: Option<ProgressBar>,
    work: Option<Work>,
}

/// Work between the stages: since when, and how much of it was done then.
struct Work {
    what: &'static str,
    begun: Instant,
    first: u64,
}

impl Work {
    /// How fast it goes and how long it still takes; nothing before that can be told.
    fn pace(&self, seconds: f64, done: u64, total: u64) -> String {
        let made = done.saturating_sub(self.first) as f64;
        if made == 0.0 || seconds <= 0.0 {
            return String::new();
        }
        let rate = made / seconds;
        let left = readable_seconds(total.saturating_sub(done) as f64 / rate);
        format!(", {rate:.1}/s, {left} left")
    }
}

impl Progress {
    /// Shows nothing yet.
    pub fn new(output: Output) -> Self {
        Self {
            output,
            bar: None,
            work: None,
        }
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
                let fresh = || Work {
                    what,
                    begun: Instant::now(),
                    first: *done,
                };
                let work = match self.work.take() {
                    Some(work) if work.what == *what => work,
                    _ => fresh(),
                };
                let pace = work.pace(work.begun.elapsed().as_secs_f64(), *done, *total);
                let message = format!("{what}, {done} of {total}{pace}");
                self.work = (done < total).then_some(work);
                let bar = self.share_bar();
                bar.set_position(done * 1000 / (*total).max(1));
                bar.set_message(message);
                if done >= total {
                    self.end_bar();
                }
            }
            TrainEvent::Note(text) => self.say(text),
            TrainEvent::Warning(text) => match &self.bar {
                Some(bar) => bar.suspend(|| complain(format!("warning: {text}"))),
                None => complain(format!("warning: {text}")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_tells_its_rate_and_the_time_left_from_where_it_began() {
        let work = Work {
            what: "tokens",
            begun: Instant::now(),
            first: 100,
        };
        assert_eq!(work.pace(10.0, 150, 400), ", 5.0/s, 50 s left");
        assert_eq!(work.pace(10.0, 100, 400), "");
    }
}
