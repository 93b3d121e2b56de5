//! The loop with a task whose trouble is made to order.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use candle_core::Tensor;
use candle_nn::Init;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::observer::TrainEvent;
use crate::task::{Evaluated, Loss};
use crate::{Stage, metrics};

/// What goes wrong.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    Nothing,
    /// The loss is not a number at the step with this number, the first time.
    NotANumberOnce(u64),
    /// The loss is a hundred times too large at the step with this number, the first time.
    ExplosionOnce(u64),
    /// From the step with this number on, each loss is a fifth larger than the one before.
    Growth(u64),
    /// Of every ten losses one is a hundred times the others, as of video in which little moves.
    Spikes,
    /// The gradient, but not the loss, is not a number at the step with this number, the first time.
    GradientOnce(u64),
    /// Every loss after this many is infinite.
    Always(u64),
    /// Every attempt but the third is judged hopeless at the first evaluation.
    Hopeless,
    /// A phase begins where the stage ends.
    LatePhase,
}

/// Learns one number to be a half.
struct Toy {
    trouble: Trouble,
    learns_on: bool,
    /// Progress at which held-out video is predicted best.
    best_at: Option<f64>,
    taken: Mutex<u64>,
    done: Mutex<bool>,
}

impl Toy {
    fn new(trouble: Trouble) -> Self {
        Self {
            trouble,
            learns_on: false,
            best_at: None,
            taken: Mutex::new(0),
            done: Mutex::new(false),
        }
    }
}

impl Task for Toy {
    const STAGE: Stage = Stage::Tokenizer;
    const FIGURE: &'static str = "figure";
    type Model = Tensor;
    type Batch = f64;

    fn build(&self, parameters: &Parameters) -> Result<Tensor> {
        let init = Init::Randn {
            mean: 0.0,
            stdev: 1.0,
        };
        Ok(parameters.builder().get_with_hints(1, "number", init)?)
    }

    fn batch(&self, random: &mut ChaCha8Rng) -> Result<f64> {
        Ok(random.random_range(0.4..0.6))
    }

    fn loss(&self, model: &Tensor, _: usize, batch: &f64, _: &mut ChaCha8Rng) -> Result<Loss> {
        let mut taken = self.taken.lock().unwrap();
        let mut done = self.done.lock().unwrap();
        let mut once = |step: u64| *taken == step && !std::mem::replace(&mut *done, true);
        let factor = match self.trouble {
            Trouble::NotANumberOnce(step) if once(step) => f64::NAN,
            Trouble::ExplosionOnce(step) if once(step) => 100.0,
            Trouble::Growth(step) if *taken >= step => 1.2f64.powi((*taken - step) as i32),
            Trouble::Spikes if *taken % 10 == 9 => 100.0,
            Trouble::Always(step) if *taken >= step => f64::INFINITY,
            _ => 1.0,
        };
        let broken = matches!(self.trouble, Trouble::GradientOnce(step) if once(step));
        *taken += 1;
        let total = ((((model - *batch)?.sqr()?.sum_all()? + 0.5)?) * factor)?;
        // The slope of a root at zero is infinite.
        let total = match broken {
            true => (total + (model - model.detach())?.sqrt()?.sum_all()?)?,
            false => total,
        };
        Ok(Loss {
            total,
            figure: *batch,
            parts: Vec::new(),
        })
    }

    fn learns_on(&self) -> bool {
        self.learns_on
    }

    fn phases(&self) -> Vec<f64> {
        match self.trouble {
            Trouble::LatePhase => vec![1.0],
            _ => Vec::new(),
        }
    }

    fn held_out_loss(&self, figures: &Figures) -> Option<f64> {
        self.best_at.map(|best| (figures["progress"] - best).abs())
    }

    fn evaluate(&self, model: &Tensor, _: &Parameters, standing: &Standing) -> Result<Evaluated> {
        let figures = [
            ("number", f64::from(model.to_vec1::<f32>()?[0])),
            ("phase", standing.phase as f64),
            ("progress", standing.progress),
        ];
        Ok(Evaluated {
            figures: figures.map(|(name, value)| (name.to_owned(), value)).into(),
            text: String::new(),
            warnings: Vec::new(),
            pictures: None,
        })
    }

    fn judge(&self, _: &Figures, standing: &Standing) -> Verdict {
        match self.trouble == Trouble::Hopeless && standing.attempt < 2 {
            true => Verdict::Restart("hopeless".to_owned()),
            false => Verdict::Continue,
        }
    }
}

struct Told {
    steps: Vec<u64>,
    /// Steps after which there was an evaluation.
    evaluated: Vec<u64>,
    warnings: Vec<String>,
    result: Result<Ending>,
    position: Option<Position>,
}

fn settings<'a>(run: &'a Path, cancel: &'a AtomicBool) -> Settings<'a> {
    Settings {
        seed: 1,
        recipe: Recipe::new(),
        pace: Pace {
            batch: 1,
            accumulate: 1,
            clip_frames: 1,
            learning_rate: 1e-2,
            warmup_steps: 1,
            evaluations: 4,
            budget: None,
        },
        budget: Budget::Steps(60),
        optimizer: OptimizerConfig::default(),
        checkpoint_seconds: 1e6,
        log_steps: 1,
        run,
        cancel,
    }
}

fn train(trouble: Trouble, checkpoint_seconds: f64) -> Told {
    let folder = tempfile::tempdir().unwrap();
    let cancel = AtomicBool::new(false);
    let settings = Settings {
        checkpoint_seconds,
        ..settings(folder.path(), &cancel)
    };
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    let mut observer = |event: &TrainEvent| match event {
        TrainEvent::Step { step, .. } => steps.push(*step),
        TrainEvent::Warning(text) => warnings.push(text.clone()),
        _ => {}
    };
    let result = train_stage(&Toy::new(trouble), &settings, &mut observer);
    let logged = metrics::read(folder.path()).unwrap();
    let held_out = logged.iter().filter(|line| line.held_out);
    let evaluated = held_out.map(|line| line.step).collect();
    if result.is_ok() {
        let logged: Vec<u64> = logged
            .iter()
            .filter(|l| !l.held_out)
            .map(|l| l.step)
            .collect();
        assert_eq!(logged, (1..=60).collect::<Vec<u64>>());
    }
    Told {
        steps,
        evaluated,
        warnings,
        result,
        position: trained(folder.path(), Stage::Tokenizer)
            .unwrap()
            .map(|t| t.1),
    }
}

#[test]
fn an_undisturbed_stage_takes_its_steps_and_finishes() {
    let told = train(Trouble::Nothing, 1e6);
    assert_eq!(told.steps, (1..=60).collect::<Vec<u64>>());
    assert!(told.warnings.is_empty());
    let position = told.position.unwrap();
    assert!(position.finished && position.rollbacks == 0);
    let number = position.figures["number"];
    assert!(number.is_finite());
}

#[test]
fn the_last_evaluation_is_of_what_the_stage_ends_with() {
    for (trouble, phase) in [(Trouble::Nothing, 0), (Trouble::LatePhase, 1)] {
        let told = train(trouble, 1e6);
        assert_eq!(told.evaluated, [15, 30, 45, 60]);
        let position = told.position.unwrap();
        assert_eq!(position.phase, phase);
        assert_eq!(position.figures["phase"], phase as f64);
    }
}

#[test]
fn a_loss_that_is_no_number_or_explodes_goes_back_to_the_checkpoint_with_a_lower_rate() {
    for (trouble, said) in [
        (
            Trouble::NotANumberOnce(30),
            "the loss exploded at step 30 (NaN",
        ),
        (Trouble::ExplosionOnce(40), "the loss exploded at step 40 ("),
        (
            Trouble::GradientOnce(35),
            "the gradient is not finite at step 35, though the loss is (",
        ),
    ] {
        // A checkpoint after every step: only the bad step is taken again.
        let told = train(trouble, 0.0);
        assert_eq!(told.steps, (1..=60).collect::<Vec<u64>>());
        assert_eq!(told.warnings.len(), 1);
        assert!(told.warnings[0].contains(said), "{:?}", told.warnings);
        let position = told.position.unwrap();
        assert_eq!((position.rollbacks, position.rate), (1, ROLLBACK_RATE));
    }
    // No checkpoint yet: from the start.
    let told = train(Trouble::NotANumberOnce(30), 1e6);
    let expected: Vec<u64> = (1..=30).chain(1..=60).collect();
    assert_eq!(told.steps, expected);
}

#[test]
fn a_loss_that_grows_from_step_to_step_does_not_raise_its_own_limit() {
    let told = train(Trouble::Growth(30), 1e6);
    assert!(
        told.warnings[0].contains("exploded at step"),
        "{:?}",
        told.warnings
    );
}

#[test]
fn losses_that_are_now_and_then_high_are_no_explosion() {
    let told = train(Trouble::Spikes, 1e6);
    assert_eq!(told.steps, (1..=60).collect::<Vec<u64>>());
    assert!(told.warnings.is_empty(), "{:?}", told.warnings);
}

#[test]
fn a_loss_that_keeps_exploding_ends_the_stage_with_advice() {
    let told = train(Trouble::Always(25), 0.0);
    assert_eq!(told.warnings.len(), MOST_ROLLBACKS as usize);
    let error = told.result.err().unwrap().to_string();
    assert!(
        error.contains("step 25") && error.contains("tokenizer.learning_rate"),
        "{error}"
    );
    assert!(!told.position.unwrap().finished);
}

#[test]
fn hopeless_attempts_start_anew_with_another_seed_and_a_lower_rate() {
    let told = train(Trouble::Hopeless, 1e6);
    assert!(told.result.is_ok());
    assert_eq!(
        told.warnings,
        ["tokenizer: hopeless", "tokenizer: hopeless"]
    );
    let position = told.position.unwrap();
    assert_eq!((position.attempt, position.attempt_step), (2, 30));
    assert!((position.rate - RESTART_RATE.powi(2)).abs() < 1e-12);
    assert!((position.attempt_progress - 0.5).abs() < 1e-9);
}

#[test]
fn a_finished_stage_goes_on_under_a_larger_budget_only_where_nothing_depends_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let cancel = AtomicBool::new(false);
    let rate = |step: u64| {
        let lines = metrics::read(folder.path()).unwrap();
        let line = lines
            .iter()
            .find(|line| !line.held_out && line.step == step);
        line.unwrap().figures["learning_rate"]
    };
    for (learns_on, steps, reached) in [
        (false, 60, 60),
        (false, 100, 60),
        (true, 60, 60),
        (true, 40, 60),
        (true, 100, 100),
        (true, 100, 100),
    ] {
        let toy = Toy {
            learns_on,
            ..Toy::new(Trouble::Nothing)
        };
        let settings = Settings {
            budget: Budget::Steps(steps),
            ..settings(folder.path(), &cancel)
        };
        let before = trained(folder.path(), Stage::Tokenizer).unwrap();
        let ending = train_stage(&toy, &settings, &mut |_: &TrainEvent| {}).unwrap();
        assert!(matches!(ending, Ending::Finished));
        let position = trained(folder.path(), Stage::Tokenizer).unwrap().unwrap().1;
        assert!(position.finished && position.step == reached);
        if before.is_some_and(|(_, before)| before.step == reached) {
            assert_eq!(*toy.taken.lock().unwrap(), 0, "{steps}");
        }
    }
    // The rate falls over the last half of the budget that holds: in step 60 nothing was left of it, after it four fifths.
    assert!(rate(60) < 0.05 * rate(30));
    assert!((rate(61) / rate(30) - 0.8).abs() < 1e-9 && rate(100) < 0.05 * rate(30));
}

#[test]
fn a_stage_ends_with_the_weights_that_were_best_on_held_out_video() {
    let number = |tensors: &Tensors| f64::from(tensors["number"].to_vec1::<f32>().unwrap()[0]);
    for (best_at, interrupted, step) in [(0.5, false, 30), (0.5, true, 30), (1.0, false, 60)] {
        let folder = tempfile::tempdir().unwrap();
        let cancel = AtomicBool::new(false);
        let toy = Toy {
            best_at: Some(best_at),
            ..Toy::new(Trouble::Nothing)
        };
        let (mut evaluated, mut warnings) = (Vec::new(), Vec::new());
        let mut observer = |event: &TrainEvent| match event {
            TrainEvent::Evaluated { step, figures, .. } => {
                evaluated.push((*step, figures["number"]))
            }
            TrainEvent::Step { step: 40, .. } if interrupted => {
                cancel.store(true, Ordering::Relaxed)
            }
            TrainEvent::Warning(text) => warnings.push(text.clone()),
            _ => {}
        };
        let settings = settings(folder.path(), &cancel);
        train_stage(&toy, &settings, &mut observer).unwrap();
        if interrupted {
            let (average, position) = trained(folder.path(), Stage::Tokenizer).unwrap().unwrap();
            assert_eq!(position.step, 40);
            assert!(number(&average) != position.figures["number"]);
            cancel.store(false, Ordering::Relaxed);
            train_stage(&toy, &settings, &mut |_: &TrainEvent| {}).unwrap();
        }
        let (average, position) = trained(folder.path(), Stage::Tokenizer).unwrap().unwrap();
        assert!(position.finished && position.step == 60);
        let at_best = evaluated.iter().find(|(at, _)| *at == step).unwrap().1;
        assert_eq!(number(&average), at_best);
        assert_eq!(position.figures["number"], at_best);
        assert_eq!(position.best.unwrap().step, step);
        if !interrupted {
            assert_eq!(warnings.len(), usize::from(step < 60), "{warnings:?}");
        }
    }
}

#[test]
fn seeds_differ_by_stage_attempt_and_rollback() {
    let mut seeds = Vec::new();
    for stage in Stage::ALL {
        for attempt in 0..3 {
            for rollbacks in 0..3 {
                seeds.push(stage_seed(1, stage, attempt, rollbacks));
            }
        }
    }
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 27);
}
