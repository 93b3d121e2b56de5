//! Whole runs on a tiny world whose motion is known.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use dynamics::DynamicsConfig;
use latent_actions::{BottleneckConfig, LatentActionConfig};
use media::Fit;
use nn::quantizer::QuantizerConfig;
use nn::{ActionCode, FrameSize};
use rand::Rng;
use tokenizer::TokenizerConfig;
use trainer::dataset::{Dataset, DatasetWriter, MAXIMUM_SHARD_BYTES, Split, WriterOptions};
use trainer::{
    AdversarialConfig, Beginning, Budget, DynamicsStage, EvaluateOptions, LatentActionStage,
    MetricsLine, Stage, TokenizerStage, TrainConfig, TrainEvent, TrainOptions, TrainOutcome,
    evaluate, run_folder, train, write_report,
};
use worlds::Lasting;

const SIDE: usize = 16;

/// Episodes of a smooth random landscape, seen through a window that a die moves: left, right or not at all.
fn landscape(folder: &Path, episodes: usize, frames: usize) -> Dataset {
    let path = folder.join("dataset");
    let options = WriterOptions {
        height: SIDE,
        width: SIDE,
        frames_per_second: 10.0,
        fit: Fit::Crop,
        crop: None,
        max_shard_bytes: MAXIMUM_SHARD_BYTES,
    };
    let mut writer = DatasetWriter::create(&path, options).unwrap();
    let mut random = nn::generator(5, 0);
    for episode in 0..episodes {
        writer.begin_source(format!("{episode}"), "0".repeat(64), "none".to_owned());
        let waves: Vec<[f32; 4]> = (0..4)
            .map(|_| {
                [
                    random.random_range(0.2..0.7),
                    random.random_range(-0.4..0.4),
                    random.random_range(0.0..6.3),
                    random.random_range(0.0..3.0),
                ]
            })
            .collect();
        let mut place = 0i32;
        for _ in 0..frames {
            let mut frame = Vec::new();
            for y in 0..SIDE {
                for x in 0..SIDE {
                    for colour in 0..3 {
                        let value: f32 = waves
                            .iter()
                            .map(|[across, down, phase, tint]| {
                                let x = (x as i32 + place) as f32;
                                (across * x + down * y as f32 + phase + tint * colour as f32).sin()
                            })
                            .sum();
                        frame.push((128.0 + 30.0 * value) as u8);
                    }
                }
            }
            let step = random.random_range(-1..=1);
            let name = ["left", "stay", "right"][(step + 1) as usize];
            let action = writer.action(name);
            writer.push_frame(&frame, Some(action)).unwrap();
            place += 3 * step;
        }
        writer.end_episode();
    }
    let mut records = writer.episodes().to_vec();
    let held_out = records.len() / 4;
    for record in records.iter_mut().rev().take(held_out) {
        record.split = Split::Validation;
    }
    writer.finish(records).unwrap();
    Dataset::open(&path).unwrap()
}

fn config() -> TrainConfig {
    TrainConfig {
        log_steps: 1,
        checkpoint_seconds: 1e6,
        tokenizer: TokenizerStage {
            model: TokenizerConfig {
                patch: 8,
                width: 32,
                heads: 2,
                encoder_layers: 1,
                decoder_layers: 1,
                quantizer: QuantizerConfig::Fsq {
                    levels: vec![5, 5, 4],
                },
                ..TokenizerConfig::default()
            },
            batch: 8,
            accumulate: 2,
            budget: Some(Budget::Steps(8)),
            evaluations: 2,
            ..TokenizerStage::default()
        },
        latent_actions: LatentActionStage {
            model: LatentActionConfig {
                patch: 4,
                width: 32,
                heads: 2,
                encoder_layers: 1,
                predictor_layers: 1,
                action_width: 4,
                codes: 3,
                ..LatentActionConfig::default()
            },
            batch: 8,
            budget: Some(Budget::Steps(12)),
            evaluations: 3,
            attempts: 1,
            codes_fraction: 0.5,
            ..LatentActionStage::default()
        },
        dynamics: DynamicsStage {
            model: DynamicsConfig {
                width: 32,
                heads: 2,
                layers: 1,
                window: 3,
                ..DynamicsConfig::default()
            },
            batch: 2,
            clip_frames: 4,
            budget: Some(Budget::Steps(8)),
            evaluations: 1,
            ..DynamicsStage::default()
        },
        evaluation: EvaluateOptions {
            frames: 8,
            changes: 8,
            clips: 2,
            prompt: 2,
            wish_starts: 1,
            drift_rollouts: 2,
            drift_frames: 50,
        },
        ..TrainConfig::default()
    }
}

fn options(folder: &Path, name: &str) -> TrainOptions {
    TrainOptions {
        out: folder.join(name),
        config: Some(config()),
        stage: None,
        from: None,
        budget: None,
        resume: false,
    }
}

/// The settings among options.
fn settings(options: &mut TrainOptions) -> &mut TrainConfig {
    options.config.as_mut().unwrap()
}

/// Trains to the end, or until one of `stops` (stage and step) is reached; each is used once.
fn run(
    dataset: &Dataset,
    options: &TrainOptions,
    stops: &mut Vec<(Stage, u64)>,
) -> trainer::Result<TrainOutcome> {
    let cancel = AtomicBool::new(false);
    let mut observer = |event: &TrainEvent| {
        if let TrainEvent::Step { stage, step, .. } = event
            && let Some(index) = stops.iter().position(|stop| stop == &(*stage, *step))
        {
            stops.remove(index);
            cancel.store(true, Ordering::Relaxed);
        }
    };
    train(dataset, options, &mut observer, &cancel)
}

fn lines(out: &Path) -> Vec<MetricsLine> {
    let text = fs::read_to_string(run_folder(out).join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

type Line = (Stage, u64, bool, BTreeMap<String, f64>);

fn metrics(out: &Path) -> Vec<Line> {
    let lines = lines(out).into_iter();
    lines
        .map(|line| (line.stage, line.step, line.held_out, line.figures))
        .collect()
}

/// What `work` returns on one of two threads, of which the other computes in bf16 and takes pieces of it.
fn beside_another_precision<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
    let (there, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let help = || {
        there.store(true, Ordering::Release);
        while !over.load(Ordering::Acquire) {
            rayon::yield_now();
        }
    };
    pool.unwrap().install(|| {
        rayon::scope(|scope| {
            scope.spawn(|_| nn::with_precision(nn::Precision::Bf16, help));
            while !there.load(Ordering::Acquire) {
                thread::yield_now();
            }
            let result = catch_unwind(AssertUnwindSafe(work));
            over.store(true, Ordering::Release);
            result.unwrap_or_else(|panic| resume_unwind(panic))
        })
    })
}

fn weights(out: &Path) -> Vec<Vec<u8>> {
    ["tokenizer", "latent_actions", "dynamics"]
        .map(|part| fs::read(out.join(format!("{part}.safetensors"))).unwrap())
        .into()
}

#[test]
fn an_interrupted_run_takes_the_very_steps_of_an_uninterrupted_one_and_ends_in_a_world() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 8, 40);
    let straight = options(folder.path(), "straight");
    let outcome = run(&dataset, &straight, &mut Vec::new()).unwrap();
    let report = run_folder(&straight.out).join("report.html");
    let TrainOutcome::World {
        path, report: at, ..
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!((path, at), (straight.out.clone(), report.clone()));

    let mut broken = options(folder.path(), "broken");
    let mut stops = vec![
        (Stage::LatentActions, 3),
        (Stage::LatentActions, 9),
        (Stage::Tokenizer, 5),
        (Stage::Dynamics, 1),
        (Stage::Dynamics, 6),
    ];
    let mut rounds = 0;
    while !stops.is_empty() {
        let outcome = run(&dataset, &broken, &mut stops).unwrap();
        assert!(
            matches!(outcome, TrainOutcome::Interrupted { .. }),
            "{outcome:?}"
        );
        // Neither configuration nor budget is repeated: the run knows what it was begun with.
        (broken.resume, broken.config) = (true, None);
        rounds += 1;
    }
    assert_eq!(rounds, 5);
    run(&dataset, &broken, &mut stops).unwrap();
    assert_eq!(metrics(&straight.out), metrics(&broken.out));
    assert!(metrics(&straight.out).len() >= 8 + 12 + 8);
    assert_eq!(weights(&straight.out), weights(&broken.out));
    let stored = |out: &Path| fs::read_to_string(run_folder(out).join("train.ron")).unwrap();
    assert_eq!(stored(&straight.out), stored(&broken.out));

    // The bundle is a world, with its figures, and the report needs nothing from elsewhere.
    let world = Arc::new(worlds::World::load(&straight.out).unwrap());
    assert!(world.manifest.quality.contains_key("rollout.gap4"));
    assert!(world.manifest.quality.contains_key("drift.50"));
    assert_eq!(world.manifest.codes(), 3);
    assert!(straight.out.join("play.gif").is_file());
    let readme = fs::read_to_string(straight.out.join("README.md")).unwrap();
    assert!(readme.contains("play.gif") && readme.contains("rollout: gap at frame 4"));
    let html = fs::read_to_string(&report).unwrap();
    assert!(html.contains("data:image/png;base64,") && html.contains("Stage dynamics"));
    for foreign in ["http://", "https://", "<script", "<link"] {
        assert!(!html.contains(foreign), "{foreign} in the report");
    }

    // The same figures come of the same world again, whatever it was trained in.
    let cancel = AtomicBool::new(false);
    let options = config();
    let measure = || {
        let observer = &mut |_: &TrainEvent| {};
        evaluate(&world, &dataset, &options.evaluation, observer, &cancel)
    };
    let evaluation = measure().unwrap();
    assert_eq!(evaluation, measure().unwrap());
    assert_eq!(evaluation, beside_another_precision(measure).unwrap());
    for (name, figure) in evaluation.figures() {
        if figure.is_finite() {
            assert_eq!(Some(&figure), world.manifest.quality.get(&name), "{name}");
        }
    }
    let path = folder.path().join("other.html");
    let observer = &mut |_: &TrainEvent| {};
    write_report(
        &path,
        (&world, &dataset),
        &evaluation,
        None,
        observer,
        &cancel,
    )
    .unwrap();
    cancel.store(true, Ordering::Relaxed);
    assert!(matches!(measure(), Err(trainer::Error::Cancelled)));

    // What is there is not trained over.
    let error = run(&dataset, &straight, &mut Vec::new())
        .unwrap_err()
        .to_string();
    assert!(error.contains("--resume"), "{error}");
}

#[test]
fn a_run_goes_on_from_a_world_and_keeps_its_actions() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 8, 40);
    let first = options(folder.path(), "first");
    run(&dataset, &first, &mut Vec::new()).unwrap();
    let source = worlds::FolderSource::new(&first.out).unwrap();
    let mut from = Beginning::read(&source).unwrap();
    from.weights.manifest.actions[0].name = "hop".to_owned();
    from.weights.manifest.idle = Some(ActionCode(2));
    let lasts = vec![Some(Lasting { frames: 3, of: 5 })];
    let voluntary = vec![vec![ActionCode(1)]];
    from.weights.manifest.lasts.clone_from(&lasts);
    from.weights.manifest.voluntary.clone_from(&voluntary);

    let mut second = options(folder.path(), "second");
    // Models have the sizes of the world, whatever is configured.
    settings(&mut second).dynamics.model.width = 64;
    second.from = Some(from.clone());
    let outcome = run(&dataset, &second, &mut vec![(Stage::Tokenizer, 5)]).unwrap();
    assert!(matches!(outcome, TrainOutcome::Interrupted { .. }));
    // The run has all it needs to go on.
    (second.resume, second.config, second.from) = (true, None, None);
    run(&dataset, &second, &mut Vec::new()).unwrap();

    let [old, new] = [&first.out, &second.out].map(|out| weights(out));
    assert_eq!(old[1], new[1], "latent actions stay as they are");
    assert!(old[0] != new[0] && old[2] != new[2]);
    let lines = metrics(&second.out);
    assert!(lines.iter().all(|line| line.0 != Stage::LatentActions));
    let loss = |out: &Path, stage: Stage| {
        let lines = metrics(out);
        let first = lines.iter().find(|line| line.0 == stage && line.1 == 1);
        first.unwrap().3["loss"]
    };
    // The dynamics has hardly learned anything in eight steps, the tokenizer has.
    let (before, after) = (
        loss(&first.out, Stage::Tokenizer),
        loss(&second.out, Stage::Tokenizer),
    );
    assert!(after < before, "it begins at {after}, not at {before}");
    let manifest = worlds::World::load(&second.out).unwrap().manifest;
    assert_eq!(manifest.actions[0].name, "hop");
    assert_eq!(manifest.idle, Some(ActionCode(2)));
    assert_eq!((manifest.lasts, manifest.voluntary), (lasts, voluntary));

    // Stage by stage, only the first one need be told of the world.
    let mut stepwise = TrainOptions {
        stage: Some(Stage::Tokenizer),
        from: Some(from.clone()),
        ..options(folder.path(), "stepwise")
    };
    run(&dataset, &stepwise, &mut Vec::new()).unwrap();
    (stepwise.stage, stepwise.from) = (Some(Stage::Dynamics), None);
    (stepwise.config, stepwise.resume) = (None, false);
    run(&dataset, &stepwise, &mut Vec::new()).unwrap();
    assert_eq!(old[1], weights(&stepwise.out)[1]);

    let only = TrainOptions {
        stage: Some(Stage::LatentActions),
        from: Some(from.clone()),
        ..options(folder.path(), "third")
    };
    let error = run(&dataset, &only, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("keeps its latent actions"));
    from.weights.manifest.frame.width = 24;
    let wide = TrainOptions {
        from: Some(from),
        ..options(folder.path(), "fourth")
    };
    let error = run(&dataset, &wide, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("--size"), "{error}");
}

#[test]
fn a_critic_learns_beside_the_tokenizer_and_is_no_part_of_the_world() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 4, 30);
    let mut options = options(folder.path(), "world");
    settings(&mut options).tokenizer.adversarial = Some(AdversarialConfig {
        begins: 0.3,
        share: 0.5,
    });
    run(&dataset, &options, &mut vec![(Stage::Tokenizer, 5)]).unwrap();
    options.resume = true;
    run(&dataset, &options, &mut Vec::new()).unwrap();
    let checkpoint = run_folder(&options.out).join("tokenizer.checkpoint.safetensors");
    let text = fs::read(checkpoint).unwrap();
    let has = |name: &[u8]| text.windows(name.len()).any(|part| part == name);
    assert!(has(b"average.critic.hidden.weight"));
    // A loader refuses weights that no model asks for.
    worlds::World::load(&options.out).unwrap();
}

#[test]
fn single_stages_run_in_any_order_and_the_last_one_waits_for_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 4, 30);
    let with = |stage| TrainOptions {
        stage: Some(stage),
        ..options(folder.path(), "world")
    };
    let error = run(&dataset, &with(Stage::Dynamics), &mut Vec::new());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("train latent_actions first"), "{error}");
    for stage in [Stage::Tokenizer, Stage::LatentActions] {
        let outcome = run(&dataset, &with(stage), &mut Vec::new()).unwrap();
        assert!(matches!(outcome, TrainOutcome::Stage { stage: s, .. } if s == stage));
    }
    let outcome = run(
        &dataset,
        &with(Stage::Dynamics),
        &mut vec![(Stage::Dynamics, 3)],
    )
    .unwrap();
    assert!(matches!(outcome, TrainOutcome::Interrupted { .. }));

    // Frames of other video are refused before they replace those that the dynamics learned from.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = landscape(elsewhere.path(), 5, 30);
    let again = TrainOptions {
        resume: true,
        ..with(Stage::Dynamics)
    };
    let shard = run_folder(&again.out).join("prepared/train-00000.safetensors");
    let before = fs::read(&shard).unwrap();
    let error = run(&other, &again, &mut Vec::new())
        .unwrap_err()
        .to_string();
    assert!(error.contains("with other video"), "{error}");
    assert!(error.contains("dataset: "), "{error}");
    assert!(fs::read(&shard).unwrap() == before);

    // So are frames that another tokenizer made.
    let checkpoint = run_folder(&again.out).join("tokenizer.checkpoint.safetensors");
    let kept = fs::read(&checkpoint).unwrap();
    fs::remove_file(&checkpoint).unwrap();
    let mut anew = with(Stage::Tokenizer);
    settings(&mut anew).tokenizer.learning_rate = 2e-4;
    run(&dataset, &anew, &mut Vec::new()).unwrap();
    let error = run(&dataset, &again, &mut Vec::new())
        .unwrap_err()
        .to_string();
    assert!(error.contains("prepared from weights"), "{error}");
    assert!(fs::read(&shard).unwrap() == before);
    fs::write(&checkpoint, kept).unwrap();
    let outcome = run(&dataset, &again, &mut Vec::new()).unwrap();
    assert!(matches!(outcome, TrainOutcome::World { .. }));
}

#[test]
fn nobody_else_trains_in_the_folder_of_a_run_and_what_a_killed_one_left_goes() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 4, 30);
    let options = TrainOptions {
        stage: Some(Stage::Tokenizer),
        resume: true,
        ..options(folder.path(), "world")
    };
    let of_run = |name: &str| run_folder(&options.out).join(name);
    fs::create_dir(run_folder(&options.out)).unwrap();
    let (left, other) = (of_run("report.html.4711.tmp"), of_run("notes.tmp"));
    fs::write(&left, "half").unwrap();
    fs::write(&other, "mine").unwrap();
    let mut second = None;
    let cancel = AtomicBool::new(false);
    let mut observer = |event: &TrainEvent| {
        if matches!(event, TrainEvent::Step { step: 1, .. }) {
            second = Some(run(&dataset, &options, &mut Vec::new()));
            cancel.store(true, Ordering::Relaxed);
        }
    };
    train(&dataset, &options, &mut observer, &cancel).unwrap();
    let refused = second.unwrap().unwrap_err().to_string();
    assert!(refused.contains("another training"), "{refused}");
    assert_eq!((left.exists(), other.exists()), (false, true));
    run(&dataset, &options, &mut Vec::new()).unwrap();
}

#[test]
fn checkpoints_that_do_not_fit_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 4, 30);
    let mut options = TrainOptions {
        stage: Some(Stage::Tokenizer),
        resume: true,
        ..options(folder.path(), "world")
    };
    run(&dataset, &options, &mut vec![(Stage::Tokenizer, 3)]).unwrap();
    let kept = run_folder(&options.out).join("train.ron");
    let stored = || fs::read_to_string(&kept).unwrap();
    let before = stored();
    let mut other = options.clone();
    settings(&mut other).tokenizer.batch = 4;
    settings(&mut other).tokenizer.model.width = 64;
    let error = run(&dataset, &other, &mut Vec::new())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("(tokenizer.batch: 8 -> 4, tokenizer.model.width: 32 -> 64)"),
        "{error}"
    );
    assert!(
        error.len() < 400 && !error.contains("TokenizerConfig"),
        "{error}"
    );
    assert_eq!(stored(), before, "a refused configuration leaves no trace");
    let path: PathBuf = run_folder(&options.out).join("tokenizer.checkpoint.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = run(&dataset, &options, &mut Vec::new())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("tokenizer.checkpoint.safetensors"),
        "{error}"
    );
    fs::write(&path, bytes).unwrap();
    // What the checkpoint does not depend on may change, and is told.
    settings(&mut options).tokenizer.learning_rate = 2e-4;
    let mut notes = Vec::new();
    let mut observer = |event: &TrainEvent| {
        if let TrainEvent::Note(text) = event {
            notes.push(text.clone());
        }
    };
    let outcome = train(&dataset, &options, &mut observer, &false.into()).unwrap();
    assert!(matches!(outcome, TrainOutcome::Stage { .. }));
    assert!(
        notes[0].contains("tokenizer.learning_rate: 0.001 -> 0.0002"),
        "{notes:?}"
    );
    assert_ne!(stored(), before);
}

#[test]
fn a_run_is_not_resumed_with_other_video_of_the_same_shape() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 4, 30);
    let mut options = TrainOptions {
        stage: Some(Stage::Tokenizer),
        ..options(folder.path(), "world")
    };
    run(&dataset, &options, &mut vec![(Stage::Tokenizer, 3)]).unwrap();
    options.resume = true;
    settings(&mut options).tokenizer.learning_rate = 2e-4;
    let kept = run_folder(&options.out).join("train.ron");
    let before = fs::read_to_string(&kept).unwrap();
    let manifest = dataset.path().join("dataset.ron");
    let text = fs::read_to_string(&manifest).unwrap();
    let (zeros, ones) = ("0".repeat(64), "1".repeat(64));
    for (from, to) in [(zeros.as_str(), ones.as_str()), ("10.0", "12.0")] {
        assert!(text.contains(from), "{text}");
        fs::write(&manifest, text.replace(from, to)).unwrap();
        let other = Dataset::open(dataset.path()).unwrap();
        let error = run(&other, &options, &mut Vec::new()).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("with other video"), "{error}");
        assert!(error.contains("dataset: "), "{error}");
    }
    assert_eq!(fs::read_to_string(&kept).unwrap(), before);
    let outcome = run(&dataset, &options, &mut Vec::new()).unwrap();
    assert!(matches!(outcome, TrainOutcome::Stage { .. }));
}

#[test]
fn a_run_keeps_the_budget_that_it_was_begun_with_unless_another_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 4, 30);
    let mut options = TrainOptions {
        stage: Some(Stage::Tokenizer),
        budget: Some(Duration::from_secs(90)),
        ..options(folder.path(), "world")
    };
    let stored = |out: &Path| TrainConfig::read(&run_folder(out).join("train.ron")).unwrap();
    run(&dataset, &options, &mut vec![(Stage::Tokenizer, 3)]).unwrap();
    assert_eq!(stored(&options.out).budget_minutes, 1.5);
    (options.config, options.budget, options.resume) = (None, None, true);
    run(&dataset, &options, &mut vec![(Stage::Tokenizer, 5)]).unwrap();
    assert_eq!(stored(&options.out).budget_minutes, 1.5);
    assert_eq!(stored(&options.out).tokenizer.batch, 8);
    options.budget = Some(Duration::from_secs(30));
    run(&dataset, &options, &mut Vec::new()).unwrap();
    assert_eq!(stored(&options.out).budget_minutes, 0.5);
}

#[test]
fn the_report_can_be_read_while_training_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 4, 40);
    let options = options(folder.path(), "world");
    let report = run_folder(&options.out).join("report.html");
    let mut shown: BTreeMap<Stage, String> = BTreeMap::new();
    let mut observer = |event: &TrainEvent| {
        if let TrainEvent::Evaluated { stage, .. } = event {
            shown.insert(*stage, fs::read_to_string(&report).unwrap());
        }
    };
    train(&dataset, &options, &mut observer, &false.into()).unwrap();
    let has = |stage, text: &str| shown[&stage].contains(text);
    assert!(has(Stage::LatentActions, "Stage latent_actions"));
    assert!(!has(Stage::LatentActions, "Reconstructions"));
    assert!(has(Stage::Tokenizer, "Reconstructions"));
    for part in [
        "Stage tokenizer",
        "Stage dynamics",
        "Reconstructions",
        "as a wish",
        "as an order",
        "true continuation",
    ] {
        assert!(has(Stage::Dynamics, part), "{part}");
    }
}

#[test]
fn vector_quantizers_train_in_both_stages_and_dead_codes_are_revived() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 8, 40);
    let mut options = options(folder.path(), "world");
    let config = settings(&mut options);
    config.tokenizer.model.quantizer = QuantizerConfig::Vq {
        codes: 24,
        width: 4,
    };
    // Past the first revivals.
    config.tokenizer.budget = Some(Budget::Steps(230));
    config.tokenizer.accumulate = 1;
    config.latent_actions.model.bottleneck = BottleneckConfig::Vq;
    config.latent_actions.budget = Some(Budget::Steps(130));
    config.log_steps = 50;
    run(&dataset, &options, &mut Vec::new()).unwrap();
    let lines = metrics(&options.out);
    let last = |stage| {
        let of_stage = |line: &&Line| line.0 == stage && line.2;
        lines.iter().rfind(of_stage).unwrap().3.clone()
    };
    assert!(last(Stage::Tokenizer)["codes_used"] >= 8.0, "{lines:?}");
    assert!(last(Stage::LatentActions)["codes_used"] >= 1.0);
    let world = worlds::World::load(&options.out).unwrap();
    assert_eq!(world.manifest.dynamics.vocabulary, 24);
}

#[test]
fn too_little_video_is_said_before_anything_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 4, 2);
    let with = |stage| TrainOptions {
        stage,
        ..options(folder.path(), "world")
    };
    let latent_actions = with(Some(Stage::LatentActions));
    let error = run(&dataset, &latent_actions, &mut Vec::new());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("no training episode of 3 frames"), "{error}");

    // Enough for the first two stages, and too little to play the world that the last one makes.
    let elsewhere = tempfile::tempdir().unwrap();
    let longer = landscape(elsewhere.path(), 4, 5);
    let error = run(&longer, &with(None), &mut Vec::new()).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("no training episode of 8 frames"), "{error}");
    let checkpoint = run_folder(&latent_actions.out).join("latent_actions.checkpoint.safetensors");
    assert!(!checkpoint.exists());
    let outcome = run(&longer, &latent_actions, &mut Vec::new()).unwrap();
    assert!(matches!(outcome, TrainOutcome::Stage { .. }));
    assert!(checkpoint.exists());
    assert_eq!(
        dataset.frame_size(),
        FrameSize {
            height: SIDE,
            width: SIDE
        }
    );
}

#[test]
fn what_no_world_can_be_written_or_measured_with_is_refused_before_anything_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 4, 30);
    type Change = fn(&mut TrainConfig);
    let changes: [(&str, Change); 8] = [
        ("name", |c| c.world.name = "two\nlines".to_owned()),
        ("author", |c| c.world.author = "\u{7}".to_owned()),
        ("licence", |c| c.world.licence = "x".repeat(10_001)),
        ("source", |c| c.world.source = "x".repeat(10_001)),
        ("licence", |c| c.world.source_licence = "x".repeat(10_001)),
        ("prompt = 0", |c| c.evaluation.prompt = 0),
        ("wish_starts = ", |c| c.evaluation.wish_starts = usize::MAX),
        ("drift_frames = ", |c| {
            c.evaluation.drift_frames = usize::MAX
        }),
    ];
    for (field, change) in changes {
        let mut options = options(folder.path(), "world");
        change(settings(&mut options));
        let error = run(&dataset, &options, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, trainer::Error::Config { .. }), "{error}");
        assert!(error.to_string().contains(field), "{error}");
        assert!(!run_folder(&options.out).exists(), "{field}");
    }
    // A world without a name has that of its folder.
    let unsaid = options(folder.path(), "two\nlines");
    let error = run(&dataset, &unsaid, &mut Vec::new()).unwrap_err();
    assert!(
        error.to_string().contains("name: must be one line"),
        "{error}"
    );
}

#[test]
fn a_world_that_is_being_edited_does_not_end_its_training() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 4, 30);
    let mut options = options(folder.path(), "world");
    settings(&mut options).dynamics.evaluations = 2;
    let manifest = options.out.join("world.ron");
    let mut whole = None;
    let mut observer = |event: &TrainEvent| match event {
        // Someone saves it half.
        TrainEvent::Evaluated {
            stage: Stage::Dynamics,
            ..
        } if whole.is_none() => {
            let text = fs::read_to_string(&manifest).unwrap();
            fs::write(&manifest, &text[..text.len() / 2]).unwrap();
            whole = Some(text);
        }
        TrainEvent::Warning(text) if text.contains("could not be saved") => {
            assert!(text.contains("world.ron"), "{text}");
            fs::write(&manifest, whole.as_ref().unwrap()).unwrap();
        }
        _ => {}
    };
    let outcome = train(&dataset, &options, &mut observer, &false.into()).unwrap();
    assert!(matches!(outcome, TrainOutcome::World { .. }));
    worlds::World::load(&options.out).unwrap();
}

#[test]
fn a_world_is_not_written_over_by_a_run_that_did_not_make_it() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 4, 30);
    let options = TrainOptions {
        resume: true,
        ..options(folder.path(), "world")
    };
    // Nothing is there yet, so nothing can be lost.
    run(&dataset, &options, &mut Vec::new()).unwrap();
    let before = weights(&options.out);
    fs::remove_dir_all(run_folder(&options.out)).unwrap();
    let error = run(&dataset, &options, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("give it as --from"), "{error}");
    assert!(weights(&options.out) == before);
}

#[test]
fn a_place_without_a_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 4, 30);
    for out in [".", "./", "..", "a/..", "a/../", "/", ""] {
        let nameless = TrainOptions {
            out: PathBuf::from(out),
            ..options(folder.path(), "world")
        };
        let error = run(&dataset, &nameless, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, trainer::Error::NoName(_)), "{error}");
    }
}

/// The one meaning of an action: what happens between frame i and i + 1, in the dataset as in the codes. Were either off by
/// one, codes and true actions would have nothing to do with each other, as each action is drawn anew.
#[test]
fn codes_learn_known_motion_and_agree_with_the_true_actions() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 24, 60);
    let mut options = TrainOptions {
        stage: Some(Stage::LatentActions),
        ..options(folder.path(), "world")
    };
    let stage = &mut settings(&mut options).latent_actions;
    stage.budget = Some(Budget::Steps(700));
    stage.batch = 16;
    stage.learning_rate = 2e-3;
    stage.attempts = 3;
    stage.evaluations = 7;
    settings(&mut options).log_steps = 100;
    run(&dataset, &options, &mut Vec::new()).unwrap();
    let lines = metrics(&options.out);
    let (.., figures) = lines.iter().rfind(|line| line.2).unwrap();
    assert!(figures["gap"] > 1.0, "{figures:?}");
    assert!(figures["nmi"] > 0.5, "{figures:?}");

    // A world of them calls the codes by that motion.
    let evaluation = config().evaluation;
    let others = TrainOptions {
        stage: None,
        resume: true,
        config: None,
        ..options
    };
    run(&dataset, &others, &mut Vec::new()).unwrap();
    let world = Arc::new(worlds::World::load(&others.out).unwrap());
    let observer = &mut |_: &TrainEvent| {};
    let evaluation = evaluate(&world, &dataset, &evaluation, observer, &false.into()).unwrap();
    let mut named = 0;
    for code in &evaluation.latent_actions.true_actions {
        let most = code.pressed.iter().max_by_key(|(_, count)| **count);
        let (Some((action, _)), [name, ..]) = (most, &code.code.split(' ').collect::<Vec<_>>()[..])
        else {
            continue;
        };
        let expected = if action == "stay" { "still" } else { action };
        assert_eq!(*name, expected, "{code:?}");
        named += 1;
    }
    assert!(named >= 2, "{evaluation:?}");
}

#[test]
fn a_collapsed_model_is_reported_and_tried_again_while_there_is_time() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 4, 30);
    let mut options = TrainOptions {
        stage: Some(Stage::LatentActions),
        ..options(folder.path(), "world")
    };
    let stage = &mut settings(&mut options).latent_actions;
    // No model opens such a gap.
    stage.breakthrough_gap = 1e3;
    stage.attempts = 2;
    stage.evaluations = 12;
    let mut warnings = Vec::new();
    let mut observer = |event: &TrainEvent| {
        if let TrainEvent::Warning(text) = event {
            warnings.push(text.clone());
        }
    };
    let outcome = train(&dataset, &options, &mut observer, &false.into()).unwrap();
    let with = |text: &str| warnings.iter().filter(|w| w.contains(text)).count();
    assert_eq!(with("attempt 2 of 2"), 1, "{warnings:?}");
    assert!(
        with("collapsed: the actions make no difference") >= 1,
        "{warnings:?}"
    );
    // On the last attempt while there is still time, and at the very end once more.
    let early = warnings
        .iter()
        .position(|w| w.contains("this is the last attempt"));
    let late = warnings.iter().position(|w| w.contains("collapsed:"));
    assert!(early.is_some() && early < late, "{warnings:?}");
    let TrainOutcome::Stage { warnings: kept, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(kept.len() == 1 && kept[0].contains("latent_actions: collapsed"));
    let report = fs::read_to_string(run_folder(&options.out).join("report.html")).unwrap();
    assert!(report.contains("Warnings") && report.contains("latent_actions: collapsed"));
    // They go with the world.
    let others = TrainOptions {
        stage: None,
        resume: true,
        config: None,
        ..options
    };
    let outcome = run(&dataset, &others, &mut Vec::new()).unwrap();
    let TrainOutcome::World { path, warnings, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(warnings, kept);
    let readme = fs::read_to_string(path.join("README.md")).unwrap();
    assert!(readme.contains("## Warnings") && readme.contains("latent_actions: collapsed"));
    assert!(readme.contains("rollouts of 50 frames"), "{readme}");
    assert!(
        readme.contains("- Trained on: 0 (30 frames), 1 (30 frames)"),
        "{readme}"
    );
}

#[test]
fn a_budget_of_time_is_shared_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 8, 40);
    let mut options = options(folder.path(), "world");
    options.budget = Some(Duration::from_secs(4));
    let config = settings(&mut options);
    config.tokenizer.budget = None;
    config.latent_actions.budget = None;
    config.dynamics.budget = None;
    let mut seconds = BTreeMap::new();
    let mut observer = |event: &TrainEvent| {
        if let TrainEvent::StageFinished {
            stage, seconds: s, ..
        } = event
        {
            seconds.insert(*stage, *s);
        }
    };
    let outcome = train(&dataset, &options, &mut observer, &false.into()).unwrap();
    assert!(matches!(outcome, TrainOutcome::World { .. }));
    let mut budgets = BTreeMap::from([
        (Stage::LatentActions, 0.17 * 4.0),
        (Stage::Tokenizer, 0.30 * 4.0),
    ]);
    for (stage, budget) in &budgets {
        assert!(seconds[stage] >= *budget, "{seconds:?}");
    }
    // However long a step takes, none begins when the time is over: after the other two stages, the dynamics has what is left.
    let spent: f64 = budgets.keys().map(|stage| seconds[stage]).sum();
    budgets.insert(Stage::Dynamics, (4.0 - spent).max(0.1 * 4.0));
    let steps = lines(&options.out)
        .into_iter()
        .filter(|line| !line.held_out);
    for step in steps {
        assert!(
            step.seconds < budgets[&step.stage],
            "{step:?} of {seconds:?}"
        );
    }
}

#[test]
fn a_world_of_another_frame_size_is_not_measured() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = landscape(folder.path(), 4, 30);
    let world = Arc::new(worlds::tiny_world(1).unwrap());
    let observer = &mut |_: &TrainEvent| {};
    let options = EvaluateOptions::default();
    let error = evaluate(&world, &dataset, &options, observer, &false.into());
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("24x16") && error.contains("16x16"),
        "{error}"
    );
}
