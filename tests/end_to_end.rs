//! What users do, on the real program: from a video file to a world that is played, recorded, replayed and measured.

mod common;
mod known_motion;

use common::{clip, djinn, fail, run, succeed, tiny};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// Waits until `happened`, for at most a minute.
fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{what} did not happen"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[test]
fn the_clip_becomes_a_dataset_with_its_true_actions() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("d");
    let said = succeed(
        djinn()
            .args(["ingest", "--json", "--size", "32", "--fps", "7.5"])
            .arg(clip())
            .arg("--out")
            .arg(&out),
    );
    let report = json(&said.out);
    assert_eq!(report["sources"], 1);
    let frames = report["frames"].as_u64().unwrap();
    assert!((140..=155).contains(&frames), "{frames} of 150 expected");
    assert!(report["validation_frames"].as_u64().unwrap() > 0);
    assert!(
        report["action_names"]
            .as_array()
            .unwrap()
            .iter()
            .any(|name| name == "right+jump")
    );
    fail(
        djinn().arg("ingest").arg(clip()).arg("--out").arg(&out),
        &["d"],
    );
}

#[test]
fn unreadable_files_are_told_and_stop_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.mp4");
    std::fs::write(&broken, b"this is no video").unwrap();
    let mut command = djinn();
    command
        .arg("ingest")
        .arg(&broken)
        .arg(clip())
        .arg("--out")
        .arg(folder.path().join("d"))
        .env("PATH", "");
    let said = run(&mut command);
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert!(
        said.err.contains("skipped") && said.err.contains("broken.mp4"),
        "{}",
        said.err
    );
    assert!(folder.path().join("d/dataset.ron").is_file());
    fail(
        djinn()
            .arg("ingest")
            .arg(&broken)
            .arg("--out")
            .arg(folder.path().join("e"))
            .env("PATH", ""),
        &["broken.mp4"],
    );
    assert!(!folder.path().join("e").exists());
}

#[test]
fn training_leaves_a_playable_bundle_and_a_report() {
    let tiny = tiny();
    for file in [
        "world.ron",
        "tokenizer.safetensors",
        "latent_actions.safetensors",
        "dynamics.safetensors",
        "README.md",
    ] {
        assert!(tiny.world.join(file).is_file(), "{file} is missing");
    }
    assert!(
        std::fs::read_dir(tiny.world.join("prompts"))
            .unwrap()
            .count()
            > 0
    );
    let run_folder = tiny.folder.path().join("clip.world.run");
    assert!(lines(&run_folder.join("metrics.jsonl")) > 5);
    let report = std::fs::read_to_string(run_folder.join("report.html")).unwrap();
    assert!(report.contains("<svg") && report.contains("data:image/png;base64,"));
    assert!(
        !report.contains("http://") || !report.contains("src=\"http"),
        "the report is a single file"
    );
    let described = json(&succeed(djinn().args(["worlds", "--json"]).arg(&tiny.world)).out);
    assert_eq!(
        described["manifest"]["actions"].as_array().unwrap().len(),
        4
    );
}

#[test]
fn an_interrupted_training_run_is_resumed() {
    let tiny = tiny();
    let folder = tempfile::tempdir().unwrap();
    let world = folder.path().join("w");
    let config = folder.path().join("train.ron");
    let text = std::fs::read_to_string(&tiny.config).unwrap();
    std::fs::write(&config, text.replace("Steps(30)", "Steps(150)")).unwrap();
    let train = || {
        let mut command = djinn();
        command
            .arg("train")
            .arg(&tiny.dataset)
            .arg("--out")
            .arg(&world)
            .arg("--config")
            .arg(&config);
        command
    };
    let mut child = train()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let metrics = folder.path().join("w.run/metrics.jsonl");
    wait_until("training", || lines(&metrics) > 2);
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(
        !world.join("world.ron").exists(),
        "an unfinished run leaves no finished world"
    );
    fail(&mut train(), &["--resume"]);
    // The run knows its configuration; the file is not even there any more.
    std::fs::remove_file(&config).unwrap();
    let mut resume = djinn();
    resume
        .arg("train")
        .arg(&tiny.dataset)
        .arg("--out")
        .arg(&world)
        .arg("--resume");
    succeed(&mut resume);
    assert!(world.join("world.ron").is_file());
    let count = |text: &str| {
        std::fs::read_to_string(&metrics)
            .unwrap()
            .matches(text)
            .count()
    };
    assert!(
        count("\"tokenizer\"") < 20,
        "150 steps, not those of the default budget"
    );
}

#[test]
fn nobody_reading_stops_nothing() {
    let tiny = tiny();
    let folder = tempfile::tempdir().unwrap();
    let unheard = |command: &mut std::process::Command| {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().unwrap().code(), Some(0), "{command:?}");
    };
    let (dataset, world) = (folder.path().join("d"), folder.path().join("w"));
    unheard(djinn().arg("ingest").arg(clip()).arg("--out").arg(&dataset));
    unheard(
        djinn()
            .args(["train", "--stage", "latent_actions"])
            .arg(&dataset)
            .arg("--out")
            .arg(&world)
            .arg("--config")
            .arg(&tiny.config),
    );
    assert!(lines(&folder.path().join("w.run/metrics.jsonl")) > 2);
}

fn interrupt(child: &Child) {
    // SAFETY: sends a signal to a child that has not been waited for, so the number is still its own.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
}

#[test]
fn a_session_is_recorded_verified_exported_and_trained_on() {
    let tiny = tiny();
    let folder = tempfile::tempdir().unwrap();
    let session = folder.path().join("s");
    let play = || {
        let mut command = djinn();
        command.arg("play").arg(&tiny.world).args([
            "--headless",
            "--frames",
            "20",
            "--seed",
            "7",
            "--record",
        ]);
        command
    };
    succeed(play().arg(&session));
    for file in [
        "session.ron",
        "actions.jsonl",
        "tokens.safetensors",
        "video.mp4",
        "audio.wav",
    ] {
        assert!(session.join(file).is_file(), "{file} is missing");
    }
    assert_eq!(lines(&session.join("actions.jsonl")), 20);
    let replay = || {
        let mut command = djinn();
        command
            .arg("replay")
            .arg(&session)
            .arg("--world")
            .arg(&tiny.world);
        command
    };
    succeed(replay().arg("--verify"));
    let gif = folder.path().join("s.gif");
    succeed(replay().arg("--export").arg(&gif));
    assert!(std::fs::read(&gif).unwrap().starts_with(b"GIF89a"));
    succeed(replay().arg("--export").arg(folder.path().join("s.mp4")));

    let again = folder.path().join("again");
    succeed(play().arg(&again));
    let codes = |path: &Path| -> Vec<Value> {
        let text = std::fs::read_to_string(path.join("actions.jsonl")).unwrap();
        text.lines()
            .map(|line| json(line)["code"].clone())
            .collect()
    };
    assert_eq!(
        codes(&session),
        codes(&again),
        "the same seed plays the same"
    );
    let repeated = folder.path().join("repeated");
    succeed(
        play()
            .arg(&repeated)
            .arg("--actions")
            .arg(session.join("actions.jsonl")),
    );
    assert_eq!(codes(&session), codes(&repeated));

    let dataset = folder.path().join("d");
    let report = json(
        &succeed(
            djinn()
                .args(["ingest", "--json", "--no-scene-cuts"])
                .arg(&session)
                .arg("--out")
                .arg(&dataset),
        )
        .out,
    );
    assert!(!report["action_names"].as_array().unwrap().is_empty());

    // One changed token is found, and told by its frame.
    let mut tokens = std::fs::read(session.join("tokens.safetensors")).unwrap();
    let last = tokens.len() - 4;
    tokens[last] ^= 1;
    std::fs::write(session.join("tokens.safetensors"), tokens).unwrap();
    let said = run(replay().arg("--verify"));
    assert_ne!(said.code, Some(0));
    assert!(
        format!("{}{}", said.out, said.err).contains("frame"),
        "{} {}",
        said.out,
        said.err
    );
}

#[test]
fn a_killed_player_leaves_a_session_that_replays() {
    let tiny = tiny();
    let folder = tempfile::tempdir().unwrap();
    let session = folder.path().join("s");
    let mut child = djinn()
        .arg("play")
        .arg(&tiny.world)
        .args([
            "--headless",
            "--frames",
            "100000",
            "--seed",
            "3",
            "--record",
        ])
        .arg(&session)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("play", || lines(&session.join("actions.jsonl")) > 40);
    child.kill().unwrap();
    child.wait().unwrap();
    succeed(
        djinn()
            .arg("replay")
            .arg(&session)
            .arg("--world")
            .arg(&tiny.world)
            .arg("--verify"),
    );
    succeed(
        djinn()
            .arg("replay")
            .arg(&session)
            .arg("--world")
            .arg(&tiny.world)
            .arg("--export")
            .arg(folder.path().join("s.gif")),
    );
}

#[test]
fn wishes_come_from_a_file_and_orders_are_carried_out() {
    let tiny = tiny();
    let folder = tempfile::tempdir().unwrap();
    let (wishes, session) = (folder.path().join("wishes.txt"), folder.path().join("s"));
    std::fs::write(&wishes, "0\n1\n\n2\n3\n0\n").unwrap();
    let play = |out: &Path| {
        let mut command = djinn();
        command
            .arg("play")
            .arg(&tiny.world)
            .args(["--headless", "--frames", "6", "--orders", "--record"])
            .arg(out);
        command.arg("--actions").arg(&wishes);
        command
    };
    succeed(&mut play(&session));
    let text = std::fs::read_to_string(session.join("actions.jsonl")).unwrap();
    let codes: Vec<Value> = text
        .lines()
        .map(|line| json(line)["code"].clone())
        .collect();
    assert_eq!(
        [&codes[0], &codes[1], &codes[3], &codes[4], &codes[5]],
        [0, 1, 2, 3, 0].map(Value::from).each_ref()
    );
    std::fs::write(&wishes, "0\nfly\n").unwrap();
    fail(&mut play(&folder.path().join("t")), &["2", "fly"]);
}

#[test]
fn evaluation_and_benchmark_have_the_documented_keys() {
    let tiny = tiny();
    let folder = tempfile::tempdir().unwrap();
    let html = folder.path().join("r.html");
    let mut eval = djinn();
    eval.arg("eval")
        .arg(&tiny.world)
        .arg(&tiny.dataset)
        .args(["--json", "--clips", "2", "--drift-frames", "60", "--report"])
        .arg(&html);
    let figures = json(&succeed(&mut eval).out);
    for path in [
        "/tokenizer/psnr",
        "/tokenizer/ssim",
        "/tokenizer/codes_used",
        "/latent_actions/psnr",
        "/latent_actions/psnr_random",
        "/latent_actions/gap",
        "/latent_actions/nmi",
        "/latent_actions/codes_used",
        "/prior/cross_entropy",
        "/prior/entropy_of_frequencies",
        "/rollout/inferred/1",
        "/rollout/random/4",
        "/rollout/copy/8",
        "/rollout/forecast/16",
        "/rollout/gap4",
        "/drift/50",
    ] {
        assert!(
            figures.pointer(path).is_some_and(Value::is_number),
            "{path} in {figures}"
        );
    }
    assert!(std::fs::read_to_string(&html).unwrap().contains("<html"));
    let figures = json(
        &succeed(
            djinn()
                .arg("bench")
                .arg(&tiny.world)
                .args(["--json", "--frames", "5", "--steps", "1"]),
        )
        .out,
    );
    for path in [
        "/matmul_gflops",
        "/frame_ms/p50",
        "/frame_ms/p95",
        "/frame_ms/p99",
        "/fps",
        "/train/tokenizer/steps_per_s",
        "/train/latent_actions/gflops",
        "/train/dynamics/share_of_peak",
    ] {
        assert!(
            figures
                .pointer(path)
                .and_then(Value::as_f64)
                .is_some_and(|value| value > 0.0),
            "{path} in {figures}"
        );
    }
}

#[test]
fn without_a_display_play_says_why_and_leaves_a_session() {
    let tiny = tiny();
    let folder = tempfile::tempdir().unwrap();
    let said = succeed(
        djinn()
            .current_dir(folder.path())
            .arg("play")
            .arg(&tiny.world)
            .args(["--frames", "10"]),
    );
    let all = format!("{}{}", said.out, said.err);
    assert!(all.contains("display"), "{all}");
    assert!(all.contains("video.mp4"), "{all}");
    let mut command = djinn();
    fail(
        command.arg("play").arg(&tiny.world).arg("--window"),
        &["display"],
    );
}

#[test]
fn hostile_bundles_are_refused_by_file_and_field() {
    let tiny = tiny();
    let folder = tempfile::tempdir().unwrap();
    let copy = || {
        let to = tempfile::tempdir_in(folder.path()).unwrap().keep();
        let status = std::process::Command::new("cp")
            .arg("-r")
            .arg(&tiny.world)
            .arg(to.join("w"))
            .status()
            .unwrap();
        assert!(status.success());
        to.join("w")
    };
    let edit = |from: &str, to: &str| {
        let world = copy();
        let text = std::fs::read_to_string(world.join("world.ron")).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(world.join("world.ron"), text.replacen(from, to, 1)).unwrap();
        world
    };
    fail(
        djinn().arg("worlds").arg(edit("version: 1", "version: 99")),
        &["world.ron", "version", "99"],
    );
    fail(
        djinn().arg("worlds").arg(edit("width: 32", "width: 4096")),
        &["safetensors"],
    );
    let truncated = copy();
    let weights = std::fs::read(truncated.join("dynamics.safetensors")).unwrap();
    std::fs::write(
        truncated.join("dynamics.safetensors"),
        &weights[..weights.len() / 2],
    )
    .unwrap();
    fail(
        djinn().arg("worlds").arg(&truncated),
        &["dynamics.safetensors"],
    );
}

#[test]
fn errors_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    fail(
        djinn().args(["play", "no-such-world", "--headless"]),
        &["no-such-world"],
    );
    fail(
        djinn().args(["eval", "coinrun", "no-such-dataset"]),
        &["no-such-dataset"],
    );
    fail(
        djinn()
            .args(["train", "no-such-dataset", "--out"])
            .arg(folder.path().join("w")),
        &["no-such-dataset"],
    );
    fail(
        djinn().args(["replay", "no-such-session"]),
        &["no-such-session"],
    );
    fail(
        djinn()
            .args(["ingest", "no-such-file.mp4", "--out"])
            .arg(folder.path().join("d")),
        &["no-such-file.mp4"],
    );
    fail(djinn().arg("conjure"), &["conjure"]);
}
