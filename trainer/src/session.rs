//! The training loop that all stages share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nn::{ExponentialAverage, Gradients, Optimizer, OptimizerState, Parameters, gradients};

use crate::checkpoint::{Best, Checkpoint, Position, Tensors};
use crate::config::Pace;
use crate::loader::{Loader, Purpose, generator_at, load};
use crate::metrics::{Metrics, MetricsLine};
use crate::observer::{Figures, TrainEvent, TrainObserver};
use crate::recipe::Recipe;
use crate::task::{Loss, Standing, Task, Verdict};
use crate::{Budget, Error, OptimizerConfig, Result, beginning, report, resume, schedule};

/// Losses that the running median is taken of.
const RECENT: usize = 100;
/// Fewer than this say nothing yet.
const FEWEST_RECENT: usize = 20;
/// A loss this many times the running median has exploded,
const EXPLOSION: f64 = 10.0;
/// if it is also this many times what all but one in so many of the recent losses stayed below: of video that mostly stands still, whatever moves is far
/// above the median. The newest do not count, or a loss that grows from step to step would raise its own limit.
const OUTLIER: f64 = 2.0;
const OUTLIERS: usize = 50;
const NEWEST: usize = 10;
/// Returns to a checkpoint before a stage gives up.
const MOST_ROLLBACKS: u32 = 3;
/// What a return to a checkpoint leaves of the learning rate.
const ROLLBACK_RATE: f64 = 0.5;
/// What a new attempt leaves of the learning rate.
const RESTART_RATE: f64 = 0.7;
/// Share of a stage's time so far that evaluations may have taken; the last one comes in any case.
const EVALUATION_SHARE: f64 = 0.15;
/// A stage this long, in seconds, is evaluated in full; a shorter one on accordingly less video.
const FULL_EVALUATION_SECONDS: f64 = 300.0;

/// What a stage trains with.
pub(crate) struct Settings<'a> {
    pub seed: u64,
    /// What is trained on what; a checkpoint of anything else is refused.
    pub recipe: Recipe,
    pub pace: Pace,
    pub budget: Budget,
    pub optimizer: OptimizerConfig,
    pub checkpoint_seconds: f64,
    pub log_steps: u64,
    pub run: &'a Path,
    pub cancel: &'a AtomicBool,
}

/// Share of the usual clips that evaluations while training look at, so that these do not take longer than the training.
pub(crate) fn thoroughness(budget: Budget) -> f64 {
    match budget {
        Budget::Steps(_) => 1.0,
        Budget::Minutes(minutes) => (minutes * 60.0 / FULL_EVALUATION_SECONDS).min(1.0),
    }
}

/// That share of `whole`, but at least `least`.
pub(crate) fn part_of(whole: usize, share: f64, least: usize) -> usize {
    ((whole as f64 * share) as usize).max(least).min(whole)
}

/// How a stage ended.
pub(crate) enum Ending {
    /// Its budget is used up.
    Finished,
    /// It was asked to stop; the checkpoint has everything.
    Interrupted,
}

/// Where the checkpoint of a stage lies in a run folder.
pub(crate) fn checkpoint_path(run: &Path, stage: crate::Stage) -> PathBuf {
    run.join(format!("{stage}.checkpoint.safetensors"))
}

/// Trains one stage to the end of its budget, from its checkpoint if there is one. A finished stage goes on where it [`Task::learns_on`] and its
/// budget has become larger.
pub(crate) fn train_stage<T: Task>(
    task: &T,
    settings: &Settings,
    observer: &mut dyn TrainObserver,
) -> Result<Ending> {
    let mut session = Session::open(task, settings)?;
    if session.position.finished && (!task.learns_on() || session.progress() >= 1.0) {
        return Ok(Ending::Finished);
    }
    session.position.finished = false;
    observer.observe(&TrainEvent::StageStarted {
        stage: T::STAGE,
        parameters: session.parameters.count(),
        step: session.position.step,
        progress: session.progress(),
    });
    report::write_progress(settings.run, T::STAGE, None)?;
    loop {
        let first = session.position.step * settings.pace.accumulate as u64;
        let seed = session.data_seed();
        let event = std::thread::scope(|scope| {
            let loader = load(scope, task, seed, first);
            session.run(loader, observer)
        })?;
        match event {
            Event::Done => break,
            Event::Interrupted => {
                session.save()?;
                return Ok(Ending::Interrupted);
            }
            Event::Exploded(how) => session.roll_back(&how, observer)?,
            Event::Restart => session.restart()?,
        }
    }
    session.end_with_the_best(observer)?;
    session.position.finished = true;
    session.save()?;
    observer.observe(&TrainEvent::StageFinished {
        stage: T::STAGE,
        step: session.position.step,
        seconds: session.position.seconds,
    });
    Ok(Ending::Finished)
}

/// Why the loop paused.
enum Event {
    Done,
    Interrupted,
    /// In which way, and at which loss.
    Exploded(String),
    Restart,
}

struct Session<'a, T: Task> {
    task: &'a T,
    settings: &'a Settings<'a>,
    path: PathBuf,
    parameters: Parameters,
    model: T::Model,
    optimizer: Optimizer,
    average: ExponentialAverage,
    best: Tensors,
    position: Position,
    metrics: Metrics,
    /// Since when seconds count that are not in the position yet.
    clock: Instant,
    saved: Instant,
    pulse: Pulse,
}

/// Averages for the progress line.
struct Pulse {
    loss: Option<f64>,
    figure: f64,
    seconds_per_step: f64,
    last: Instant,
}

impl Pulse {
    fn new() -> Self {
        Self {
            loss: None,
            figure: 0.0,
            seconds_per_step: 0.0,
            last: Instant::now(),
        }
    }

    fn take(&mut self, loss: f64, figure: f64) {
        let seconds = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        match self.loss {
            None => (self.loss, self.figure, self.seconds_per_step) = (Some(loss), figure, seconds),
            Some(before) => {
                const KEPT: f64 = 0.95;
                let mix = |old: f64, new: f64| KEPT * old + (1.0 - KEPT) * new;
                self.loss = Some(mix(before, loss));
                self.figure = mix(self.figure, figure);
                self.seconds_per_step = mix(self.seconds_per_step, seconds);
            }
        }
    }
}

impl<'a, T: Task> Session<'a, T> {
    fn open(task: &'a T, settings: &'a Settings<'a>) -> Result<Self> {
        let path = checkpoint_path(settings.run, T::STAGE);
        let checkpoint = Checkpoint::read(&path, T::STAGE)?;
        if let Some(checkpoint) = &checkpoint {
            let before = &checkpoint.position.recipe;
            resume::check(&path, T::STAGE, before, &settings.recipe)?;
        }
        let position = match &checkpoint {
            Some(checkpoint) => checkpoint.position.clone(),
            None => Position::start(T::STAGE, settings.recipe.clone()),
        };
        let metrics = Metrics::open(settings.run, T::STAGE, position.step)?;
        let state = State::new(task, settings, &position, checkpoint.as_ref())?;
        Ok(Self {
            task,
            settings,
            path,
            parameters: state.parameters,
            model: state.model,
            optimizer: state.optimizer,
            average: state.average,
            best: state.best,
            position,
            metrics,
            clock: Instant::now(),
            saved: Instant::now(),
            pulse: Pulse::new(),
        })
    }

    /// Depends on the attempt and on returns to checkpoints, so that neither sees the same data again.
    fn data_seed(&self) -> u64 {
        stage_seed(
            self.settings.seed,
            T::STAGE,
            self.position.attempt,
            self.position.rollbacks,
        )
    }

    fn progress(&self) -> f64 {
        schedule::progress(
            self.settings.budget,
            self.position.step,
            self.position.seconds,
        )
    }

    fn count_time(&mut self) {
        self.position.seconds += self.clock.elapsed().as_secs_f64();
        self.clock = Instant::now();
    }

    fn run(&mut self, loader: Loader<T::Batch>, observer: &mut dyn TrainObserver) -> Result<Event> {
        self.pulse = Pulse::new();
        let mut evaluated = None;
        loop {
            self.count_time();
            let progress = self.progress();
            if self.settings.cancel.load(Ordering::Relaxed) {
                return Ok(Event::Interrupted);
            }
            // Also where the time is over at once: a phase may be what makes a stage whole.
            self.enter_due_phases(progress)?;
            if progress >= 1.0 {
                // The stage's last word is about what it ends with: after the last step and in the last phase.
                if self.settings.pace.evaluations > 0 && evaluated != Some(self.standpoint()) {
                    self.evaluate(progress, observer)?;
                }
                return Ok(Event::Done);
            }
            if let Some(exploded) = self.step(&loader, progress, observer)? {
                return Ok(exploded);
            }
            self.count_time();
            let (places, now) = (self.settings.pace.evaluations as f64, self.progress());
            let due = now < 1.0 && (now * places).floor() > (progress * places).floor();
            if due && self.can_afford_evaluation() {
                evaluated = Some(self.standpoint());
                if let Some(restart) = self.evaluate(now, observer)? {
                    return Ok(restart);
                }
            }
            if self.saved.elapsed().as_secs_f64() >= self.settings.checkpoint_seconds {
                self.save()?;
            }
        }
    }

    /// Step and phase: as long as these stay, the weights do.
    fn standpoint(&self) -> (u64, usize) {
        (self.position.step, self.position.phase)
    }

    /// Whether another evaluation like the last one leaves most of the time so far to training.
    fn can_afford_evaluation(&self) -> bool {
        let position = &self.position;
        match self.settings.budget {
            Budget::Steps(_) => true,
            Budget::Minutes(_) => {
                position.evaluation_seconds + position.last_evaluation_seconds
                    <= EVALUATION_SHARE * position.seconds
            }
        }
    }

    fn enter_due_phases(&mut self, progress: f64) -> Result<()> {
        let due = self
            .task
            .phases()
            .iter()
            .filter(|&&at| progress >= at)
            .count();
        while self.position.phase < due {
            self.position.phase += 1;
            for (name, tensor) in self.average.tensors()? {
                if let Some(variable) = self.parameters.variables().get(&name) {
                    variable.set(&tensor)?;
                }
            }
            self.task.enter_phase(&self.model, self.position.phase)?;
            self.average = ExponentialAverage::restore(
                &self.parameters.tensors(),
                self.settings.optimizer.average_decay,
                self.average.updates(),
            )?;
            self.position.recent_losses.clear();
        }
        Ok(())
    }

    /// Takes a step, unless the loss has exploded.
    fn step(
        &mut self,
        loader: &Loader<T::Batch>,
        progress: f64,
        observer: &mut dyn TrainObserver,
    ) -> Result<Option<Event>> {
        let (pace, optimizer) = (self.settings.pace, &self.settings.optimizer);
        let (step, seed) = (self.position.step, self.data_seed());
        let mut upkeep = generator_at(seed, Purpose::Upkeep, step);
        self.task.maintain(&self.model, step, &mut upkeep)?;
        let variables = self.parameters.variables();
        let mut sum = Gradients::default();
        let (mut loss, mut figure, mut parts) = (0.0, 0.0, Figures::new());
        let share = 1.0 / pace.accumulate as f64;
        for part in 0..pace.accumulate as u64 {
            let mut noise =
                generator_at(seed, Purpose::Noise, step * pace.accumulate as u64 + part);
            let batch = loader.next()?;
            let Loss {
                total,
                figure: own,
                parts: others,
            } = self
                .task
                .loss(&self.model, self.position.phase, &batch, &mut noise)?;
            loss += share * f64::from(total.to_scalar::<f32>()?);
            figure += share * own;
            for (name, value) in others {
                *parts.entry(name.to_owned()).or_insert(0.0) += share * value;
            }
            if loss.is_finite() {
                sum.accumulate(gradients(&total, &variables)?)?;
            }
        }
        if pace.accumulate > 1 {
            sum.scale(share)?;
        }
        let recent = &self.position.recent_losses;
        let median = below(recent.len().saturating_sub(1) / 2, recent);
        let known = recent.len() >= FEWEST_RECENT;
        let older = &recent[..recent.len().saturating_sub(NEWEST)];
        let high = below(older.len() / OUTLIERS, older);
        let limit = (EXPLOSION * median).max(OUTLIER * high);
        if !loss.is_finite() || known && loss > limit {
            return Ok(Some(Event::Exploded(format!(
                "the loss exploded at step {step} ({loss:.4}, usually {median:.4})"
            ))));
        }
        let attempt_step = step - self.position.attempt_step;
        let factor = schedule::rate_factor(
            attempt_step,
            pace.warmup_steps,
            progress,
            optimizer.decay_fraction,
        );
        let rate = pace.learning_rate * self.position.rate * factor;
        let report = self.optimizer.step(&sum, rate, optimizer.gradient_clip)?;
        if !report.gradient_norm.is_finite() {
            return Ok(Some(Event::Exploded(format!(
                "the gradient is not finite at step {step}, though the loss is ({loss:.4}, usually {median:.4})"
            ))));
        }
        self.average.update(&variables)?;
        self.position.step += 1;
        let recent = &mut self.position.recent_losses;
        recent.push(loss);
        if recent.len() > RECENT {
            recent.remove(0);
        }
        self.pulse.take(loss, figure);
        observer.observe(&TrainEvent::Step {
            stage: T::STAGE,
            step: self.position.step,
            progress,
            loss: self.pulse.loss.unwrap_or(loss),
            figure_name: T::FIGURE,
            figure: self.pulse.figure,
            steps_per_second: 1.0 / self.pulse.seconds_per_step.max(1e-9),
            seconds_left: self.seconds_left(),
        });
        if self.position.step.is_multiple_of(self.settings.log_steps) {
            parts.insert("loss".to_owned(), loss);
            parts.insert("learning_rate".to_owned(), rate);
            parts.insert("gradient_norm".to_owned(), report.gradient_norm);
            self.write_metrics(false, parts, Vec::new())?;
        }
        Ok(None)
    }

    fn seconds_left(&self) -> f64 {
        match self.settings.budget {
            Budget::Minutes(minutes) => (minutes * 60.0 - self.position.seconds).max(0.0),
            Budget::Steps(steps) => {
                steps.saturating_sub(self.position.step) as f64 * self.pulse.seconds_per_step
            }
        }
    }

    fn write_metrics(
        &mut self,
        held_out: bool,
        figures: Figures,
        warnings: Vec<String>,
    ) -> Result<()> {
        self.metrics.write(&MetricsLine {
            stage: T::STAGE,
            step: self.position.step,
            seconds: self.position.seconds,
            held_out,
            figures,
            warnings,
        })
    }

    /// Looks at held-out video with the averaged weights, and brings the report up to date.
    fn evaluate(
        &mut self,
        progress: f64,
        observer: &mut dyn TrainObserver,
    ) -> Result<Option<Event>> {
        self.count_time();
        let start = Instant::now();
        let averaged = Parameters::from_tensors(self.average.tensors()?, nn::device());
        let model = self.task.build(&averaged)?;
        let standing = Standing {
            phase: self.position.phase,
            progress,
            attempt_progress: self.position.attempt_progress,
            attempt: self.position.attempt,
        };
        let evaluated = self.task.evaluate(&model, &averaged, &standing)?;
        let verdict = self.task.judge(&evaluated.figures, &standing);
        let mut warnings = evaluated.warnings;
        if let Verdict::Warn(warning) = &verdict {
            warnings.push(warning.clone());
        }
        self.position.figures = evaluated.figures.clone();
        self.compare_with_the_best(&averaged);
        self.count_time();
        self.write_metrics(true, evaluated.figures.clone(), warnings.clone())?;
        report::write_progress(self.settings.run, T::STAGE, evaluated.pictures.as_deref())?;
        self.count_time();
        let seconds = start.elapsed().as_secs_f64();
        self.position.evaluation_seconds += seconds;
        self.position.last_evaluation_seconds = seconds;
        self.pulse.last = Instant::now();
        observer.observe(&TrainEvent::Evaluated {
            stage: T::STAGE,
            step: self.position.step,
            figures: evaluated.figures,
            text: evaluated.text,
        });
        for warning in warnings {
            observer.observe(&TrainEvent::Warning(format!("{}: {warning}", T::STAGE)));
        }
        Ok(match verdict {
            Verdict::Continue | Verdict::Warn(_) => None,
            Verdict::Restart(reason) => {
                observer.observe(&TrainEvent::Warning(format!("{}: {reason}", T::STAGE)));
                Some(Event::Restart)
            }
        })
    }

    /// Keeps the weights that have just been evaluated, if none before were better.
    fn compare_with_the_best(&mut self, averaged: &Parameters) {
        let position = &mut self.position;
        let Some(loss) = self.task.held_out_loss(&position.figures) else {
            return;
        };
        if position.best.as_ref().is_none_or(|best| loss <= best.loss) {
            self.best = averaged.tensors();
            position.best = Some(Best {
                step: position.step,
                loss,
                figures: position.figures.clone(),
            });
        }
    }

    /// Sets the averaged weights to those that were best on held-out video, where these are not the last.
    fn end_with_the_best(&mut self, observer: &mut dyn TrainObserver) -> Result<()> {
        let position = &mut self.position;
        let last = self.task.held_out_loss(&position.figures);
        let (Some(best), Some(last)) = (&position.best, last) else {
            return Ok(());
        };
        if best.step == position.step {
            return Ok(());
        }
        observer.observe(&TrainEvent::Warning(format!(
            "{}: held-out video was predicted best after {} of {} steps ({:.3}, at the end {last:.3}); these weights are kept. More video would help more than more time",
            T::STAGE,
            best.step,
            position.step,
            best.loss
        )));
        position.figures = best.figures.clone();
        self.average = ExponentialAverage::restore(
            &self.best,
            self.settings.optimizer.average_decay,
            self.average.updates(),
        )?;
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        self.count_time();
        let OptimizerState { steps, tensors } = self.optimizer.state()?;
        self.position.optimizer_steps = steps;
        self.position.average_updates = self.average.updates();
        let checkpoint = Checkpoint {
            position: self.position.clone(),
            weights: self.parameters.tensors(),
            average: self.average.tensors()?,
            best: self.best.clone(),
            moments: tensors,
        };
        checkpoint.write(&self.path)?;
        self.saved = Instant::now();
        Ok(())
    }

    /// Returns to the last checkpoint (or the start), with a lower rate and other data from there on.
    fn roll_back(&mut self, how: &str, observer: &mut dyn TrainObserver) -> Result<()> {
        let (step, seconds) = (self.position.step, self.position.seconds);
        let rollbacks = self.position.rollbacks + 1;
        if rollbacks > MOST_ROLLBACKS {
            return Err(Error::Diverged {
                stage: T::STAGE,
                step,
                rollbacks: MOST_ROLLBACKS,
                learning_rate: self.settings.pace.learning_rate,
            });
        }
        let rate = self.position.rate * ROLLBACK_RATE;
        let checkpoint = Checkpoint::read(&self.path, T::STAGE)?;
        let mut position = match &checkpoint {
            Some(checkpoint) => checkpoint.position.clone(),
            None => Position::start(T::STAGE, self.position.recipe.clone()),
        };
        (position.rollbacks, position.rate, position.seconds) = (rollbacks, rate, seconds);
        observer.observe(&TrainEvent::Warning(format!(
            "{}: {how}; going back to step {} with half the learning rate and other clips",
            T::STAGE,
            position.step
        )));
        self.position = position;
        let state = State::new(
            self.task,
            self.settings,
            &self.position,
            checkpoint.as_ref(),
        )?;
        self.replace(state);
        self.metrics = Metrics::open(self.settings.run, T::STAGE, self.position.step)?;
        Ok(())
    }

    /// Begins anew with another seed and a lower rate; steps and time go on counting.
    fn restart(&mut self) -> Result<()> {
        let progress = self.progress();
        let position = &mut self.position;
        position.attempt += 1;
        position.attempt_step = position.step;
        position.attempt_progress = progress;
        position.phase = 0;
        position.best = None;
        position.rate *= RESTART_RATE;
        position.recent_losses.clear();
        let state = State::new(self.task, self.settings, position, None)?;
        self.replace(state);
        self.save()
    }

    fn replace(&mut self, state: State<T::Model>) {
        self.parameters = state.parameters;
        self.model = state.model;
        self.optimizer = state.optimizer;
        self.average = state.average;
        self.best = state.best;
    }
}

/// What changes with every step, apart from the position.
struct State<M> {
    parameters: Parameters,
    model: M,
    optimizer: Optimizer,
    average: ExponentialAverage,
    /// The averaged weights of the best evaluation.
    best: Tensors,
}

impl<M> State<M> {
    fn new<T: Task<Model = M>>(
        task: &T,
        settings: &Settings,
        position: &Position,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Self> {
        let parameters = match checkpoint {
            Some(checkpoint) => Parameters::trainable(&checkpoint.weights, nn::device())?,
            None => {
                let seed = stage_seed(settings.seed, T::STAGE, position.attempt, 0);
                Parameters::seeded(seed, nn::device())
            }
        };
        let model = task.build(&parameters)?;
        if checkpoint.is_none() {
            beginning::set(settings.run, T::STAGE, &parameters)?;
        }
        let mut optimizer = Optimizer::new(
            parameters.variables(),
            settings.optimizer.adamw,
            settings.optimizer.muon,
        )?;
        let decay = settings.optimizer.average_decay;
        let average = match checkpoint {
            Some(checkpoint) => {
                if let Some(name) = parameters.unused().first() {
                    return Err(Error::damaged(
                        &checkpoint_path(settings.run, T::STAGE),
                        format!("weights.{name}"),
                        "the model has no such weight",
                    ));
                }
                optimizer.restore(&OptimizerState {
                    steps: position.optimizer_steps,
                    tensors: checkpoint.moments.clone(),
                })?;
                ExponentialAverage::restore(&checkpoint.average, decay, position.average_updates)?
            }
            None => ExponentialAverage::new(&parameters.tensors(), decay)?,
        };
        Ok(Self {
            parameters,
            model,
            optimizer,
            average,
            best: checkpoint.map_or_else(Tensors::new, |checkpoint| checkpoint.best.clone()),
        })
    }
}

/// Averaged weights and position of a stage that has been trained, finished or not.
pub(crate) fn trained(run: &Path, stage: crate::Stage) -> Result<Option<(Tensors, Position)>> {
    let checkpoint = Checkpoint::read(&checkpoint_path(run, stage), stage)?;
    Ok(checkpoint.map(|checkpoint| (checkpoint.average, checkpoint.position)))
}

fn stage_seed(seed: u64, stage: crate::Stage, attempt: u32, rollbacks: u32) -> u64 {
    let parts = [stage.stream(), u64::from(attempt), u64::from(rollbacks)];
    // SplitMix64's step: any mixing that keeps neighbouring seeds apart will do.
    parts.into_iter().fold(seed, |seed, part| {
        let mixed = (seed ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    })
}

/// Of some values the one that so many others are above; zero where there are not as many.
fn below(many: usize, values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.iter().rev().nth(many).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests;
