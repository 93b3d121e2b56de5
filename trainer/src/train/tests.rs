//! What a run decides before it trains, and whole runs of a few steps that go on from a world.

use super::*;
use crate::clips::tests::noise;
use crate::edits::tests::wav;
use crate::evaluate::EvaluateOptions;
use std::fs;
use worlds::{Ambient, Provenance, tiny_contents};

#[test]
fn a_run_lies_beside_its_world() {
    for out in ["a/world", "a/world/", "a//world/."] {
        assert_eq!(run_folder(Path::new(out)), Path::new("a/world.run"));
    }
}

#[test]
fn what_interrupted_saving_leaves_is_not_in_the_way_of_a_world() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(".saving-1")).unwrap();
    assert!(may_hold_world(folder.path()));
    std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    assert!(!may_hold_world(folder.path()));
    std::fs::write(folder.path().join(worlds::MANIFEST_FILE), "").unwrap();
    assert!(may_hold_world(folder.path()));
}

#[test]
fn video_of_about_the_rate_of_a_world_is_taken_and_of_another_is_not() {
    let mut world = tiny_contents(1).unwrap().manifest;
    world.frames_per_second = 30.0;
    for same in [30.0, 29.97, 30.1] {
        assert_eq!(check_rate(&world, same).unwrap(), None, "{same}");
    }
    for close in [29.0, 31.2] {
        let warning = check_rate(&world, close).unwrap().unwrap();
        assert!(warning.contains("30 frames/s"), "{warning}");
        assert!(warning.contains(&close.to_string()), "{warning}");
    }
    for other in [15.0, 28.0, 60.0] {
        let error = check_rate(&world, other).unwrap_err().to_string();
        assert!(error.contains("30 frames/s"), "{error}");
        assert!(error.contains(&format!("video at {other}:")), "{error}");
        assert!(error.contains("--fps 30"), "{error}");
    }
}

/// A stage that finished after so many steps and seconds.
fn finished(stage: Stage, step: u64, seconds: f64) -> Position {
    let mut position = Position::start(stage, Recipe::new());
    (position.finished, position.step, position.seconds) = (true, step, seconds);
    position
}

#[test]
fn a_finished_dynamics_goes_on_when_there_is_more_time_for_it_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = TrainConfig {
        budget_minutes: 60.0,
        ..TrainConfig::default()
    };
    // A whole hour was used as it is shared out.
    let positions = [
        finished(Stage::LatentActions, 100, 0.17 * 3600.0),
        finished(Stage::Tokenizer, 100, 0.30 * 3600.0),
        finished(Stage::Dynamics, 100, 0.49 * 3600.0),
    ];
    let learns_on = |config: &TrainConfig, only, kept| {
        dynamics_learns_on(config, &positions, (only, kept), folder.path())
    };
    assert!(!learns_on(&config, None, false));
    config.budget_minutes = 30.0;
    assert!(!learns_on(&config, None, false));
    config.budget_minutes = 120.0;
    assert!(learns_on(&config, None, false));
    config.dynamics.budget = Some(Budget::Steps(100));
    assert!(!learns_on(&config, None, false));
    config.dynamics.budget = Some(Budget::Steps(101));
    assert!(learns_on(&config, None, false));
    let done = |learns_on| done_with(&Stage::ALL, &positions, learns_on);
    assert_eq!(done(true), [Stage::LatentActions, Stage::Tokenizer]);
    assert_eq!(done(false), Stage::ALL);
    // One that was interrupted goes on in any case.
    let mut interrupted = positions.clone();
    interrupted[2].finished = false;
    assert!(!dynamics_learns_on(
        &config,
        &interrupted,
        (None, false),
        folder.path()
    ));
    assert_eq!(done_with(&Stage::ALL, &interrupted, false).len(), 2);
}

/// The tiny world with a sound, to go on from.
fn beginning() -> Beginning {
    let mut contents = tiny_contents(1).unwrap();
    contents.manifest.training_video = Provenance {
        source: "an hour of Pong".to_owned(),
        licence: "CC0".to_owned(),
    };
    contents.manifest.sounds.ambient = Some(Ambient {
        file: "wind.wav".to_owned(),
        volume: 0.5,
    });
    contents.files.insert("sounds/wind.wav".to_owned(), wav(1));
    let folder = tempfile::tempdir().unwrap();
    worlds::save(&contents, edits::FORMAT, folder.path()).unwrap();
    Beginning::read(&worlds::FolderSource::new(folder.path()).unwrap()).unwrap()
}

fn config() -> TrainConfig {
    let mut config = TrainConfig {
        evaluation: EvaluateOptions {
            frames: 8,
            changes: 8,
            clips: 2,
            prompt: 2,
            wish_starts: 0,
            drift_rollouts: 0,
            drift_frames: 50,
        },
        ..TrainConfig::default()
    };
    config.tokenizer.batch = 2;
    config.tokenizer.budget = Some(Budget::Steps(1));
    config.tokenizer.evaluations = 1;
    config.dynamics.batch = 1;
    config.dynamics.clip_frames = 4;
    config.dynamics.budget = Some(Budget::Steps(2));
    config.dynamics.evaluations = 1;
    config.world.prompts = 2;
    config
}

#[test]
fn a_run_from_a_world_keeps_what_it_had_and_goes_on_without_losing_what_people_changed() {
    let folder = tempfile::tempdir().unwrap();
    let lengths = [
        (30, Split::Train),
        (30, Split::Train),
        (20, Split::Validation),
    ];
    let video = |name: &str, rate| noise(&folder.path().join(name), rate, &lengths);
    let dataset = video("d", 15.0);
    let mut options = TrainOptions {
        out: folder.path().join("world"),
        config: Some(config()),
        stage: None,
        from: Some(beginning()),
        budget: None,
        resume: false,
    };
    let run = |options: &TrainOptions, dataset: &Dataset| {
        let mut told = Vec::new();
        let mut observer = |event: &TrainEvent| match event {
            TrainEvent::Note(text) | TrainEvent::Warning(text) => told.push(text.clone()),
            _ => {}
        };
        let outcome = train(dataset, options, &mut observer, &AtomicBool::new(false));
        outcome.map(|_| told)
    };
    let error = run(&options, &video("fast", 30.0)).unwrap_err();
    assert!(matches!(error, Error::AnotherRate { .. }), "{error}");
    assert!(!run_folder(&options.out).exists());

    run(&options, &dataset).unwrap();
    let world = worlds::World::load(&options.out).unwrap();
    let tiny = tiny_contents(1).unwrap().manifest;
    assert_eq!(world.manifest.actions, tiny.actions);
    assert_eq!(world.manifest.author, tiny.author);
    assert_eq!(world.manifest.licence, tiny.licence);
    let Provenance { source, licence } = &world.manifest.training_video;
    assert!(
        source.starts_with("an hour of Pong; and then x (30 frames)"),
        "{source}"
    );
    assert_eq!(licence, "CC0; and then unknown");
    assert_eq!(world.soundscape.ambient.as_ref().unwrap().1, 0.5);

    // Someone names an action, and another sound.
    let path = options.out.join(worlds::MANIFEST_FILE);
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replace("\"left\"", "\"hop\"");
    fs::write(&path, text.replace("wind.wav", "rain.wav")).unwrap();
    fs::write(options.out.join("sounds/rain.wav"), wav(1)).unwrap();

    // Neither the world nor sizes are said again.
    (options.from, options.resume) = (None, true);
    let settings = |options: &mut TrainOptions, change: fn(&mut TrainConfig)| {
        let mut config = config();
        change(&mut config);
        options.config = Some(config);
    };
    let stored = || fs::read_to_string(run_folder(&options.out).join("train.ron")).unwrap();
    let before = stored();
    let mut again = options.clone();
    settings(&mut again, |config| {
        config.tokenizer.budget = Some(Budget::Steps(5));
        config.dynamics.learning_rate = 1e-5;
    });
    let error = run(&again, &dataset).unwrap_err();
    assert!(matches!(error, Error::Finished { .. }), "{error}");
    for part in [
        "tokenizer, dynamics: finished",
        "tokenizer.budget.Steps: 1 -> 5",
        "--from",
    ] {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
    assert_eq!(stored(), before);

    let dynamics = || {
        trained(&run_folder(&options.out), Stage::Dynamics)
            .unwrap()
            .unwrap()
            .1
    };
    for (change, steps) in [
        ((|_| {}) as fn(&mut TrainConfig), 2),
        (|config| config.dynamics.budget = Some(Budget::Steps(5)), 5),
        (|config| config.dynamics.budget = Some(Budget::Steps(5)), 5),
    ] {
        let longer = dynamics().step < steps;
        settings(&mut again, change);
        let told = run(&again, &dataset).unwrap();
        assert_eq!(
            told.iter().any(|text| text.contains("goes on")),
            longer,
            "{told:?}"
        );
        assert!(dynamics().finished && dynamics().step == steps);
        let world = worlds::World::load(&again.out).unwrap();
        let names = [0, 1].map(|code| world.manifest.actions[code].name.as_str());
        assert_eq!(names, ["hop", "right"]);
        let ambient = world.manifest.sounds.ambient.unwrap();
        assert_eq!((ambient.file.as_str(), ambient.volume), ("rain.wav", 0.5));
    }
}
