//! What users do, on the real program: from a video file to a world that is played, recorded, replayed and measured.

mod common;
mod controls;
mod kernels;
mod known_motion;
#[cfg(unix)]
mod terminal;
mod window;

use common::{action_lines, clip, djinn, fail, json, run, succeed, tiny};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

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
fn a_damaged_video_is_used_in_part_and_the_exit_code_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged.mp4");
    let mut bytes = std::fs::read(clip()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 400].fill(0xff);
    std::fs::write(&damaged, bytes).unwrap();
    let mut command = djinn();
    command.arg("ingest").arg(&damaged).arg("--json");
    let said = run(command.arg("--out").arg(folder.path().join("d")));
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert!(said.err.contains("damaged.mp4"), "{}", said.err);
    let report = json(&said.out);
    let lost = report["damaged"][0]["pictures_lost"].as_u64().unwrap();
    let frames = report["frames"].as_u64().unwrap();
    assert!(
        lost > 0 && frames > 150 && report["episodes"].as_u64() > Some(1),
        "{report}"
    );

    // What cannot be read at all says what was tried.
    let broken = folder.path().join("broken.mp4");
    std::fs::write(&broken, b"\0\0\0\x10ftypisom\0\0\0\0").unwrap();
    let mut command = djinn();
    command.args(["ingest", "--json"]).arg(&broken).arg(clip());
    command
        .arg("--out")
        .arg(folder.path().join("e"))
        .env("PATH", "");
    let said = run(&mut command);
    assert_eq!(said.code, Some(3), "{}", said.err);
    let tried = json(&said.out)["skipped"][0]["tried"].clone();
    assert_eq!(tried[1]["decoder"], "ffmpeg", "{tried}");
    assert!(said.err.contains("Install ffmpeg"), "{}", said.err);
}

#[test]
fn an_interrupted_ingest_says_so_and_leaves_no_half_dataset() {
    let folder = tempfile::tempdir().unwrap();
    let videos = folder.path().join("videos");
    std::fs::create_dir(&videos).unwrap();
    let bytes = std::fs::read(clip()).unwrap();
    for number in 0..40u8 {
        // Different files of the same pictures: what follows the last box is ignored.
        let mut copy = bytes.clone();
        copy.extend([0, 0, 0, 9, b'f', b'r', b'e', b'e', number]);
        std::fs::write(videos.join(format!("{number}.mp4")), copy).unwrap();
    }
    let out = folder.path().join("d");
    let mut command = djinn();
    command.arg("ingest").arg(&videos).arg("--out").arg(&out);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    };
    wait_until("ingest", || {
        names().iter().any(|name| name.contains("partial"))
    });
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(
        names().iter().all(|name| !name.contains("partial")),
        "{:?}",
        names()
    );
    if out.exists() {
        assert!(out.join("dataset.ron").is_file());
    }
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
fn a_world_learns_on_and_keeps_its_actions() {
    let tiny = tiny();
    let folder = tempfile::tempdir().unwrap();
    let next = folder.path().join("next");
    let mut train = djinn();
    train.arg("train").arg(&tiny.dataset).arg("--from");
    train.arg(&tiny.world).arg("--config").arg(&tiny.config);
    succeed(train.arg("--out").arg(&next));
    let actions = |world: &Path| {
        let out = succeed(djinn().args(["worlds", "--json"]).arg(world)).out;
        json(&out)["manifest"]["actions"].clone()
    };
    assert_eq!(actions(&next), actions(&tiny.world));
    let weights = |world: &Path| std::fs::read(world.join("latent_actions.safetensors")).unwrap();
    assert_eq!(weights(&next), weights(&tiny.world));

    let mut nowhere = djinn();
    nowhere.arg("train").arg(&tiny.dataset);
    nowhere.args(["--from", "no-such-world"]);
    fail(
        nowhere.arg("--out").arg(folder.path().join("none")),
        &["no-such-world"],
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
    assert_eq!(action_lines(&session).len(), 20);
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
    let said = succeed(replay().arg("--json").arg("--export").arg(&gif));
    assert_eq!(json(&said.out)["pictures"], 21);
    assert!(std::fs::read(&gif).unwrap().starts_with(b"GIF89a"));
    fail(replay().arg("--export").arg(&gif), &["s.gif", "--force"]);
    let nowhere = folder.path().join("nowhere/s.gif");
    fail(
        replay().arg("--export").arg(&nowhere),
        &["s.gif", "no folder"],
    );
    succeed(replay().args(["--force", "--export"]).arg(&gif));
    succeed(replay().arg("--export").arg(folder.path().join("s.mp4")));
    let own = session.join("video.mp4");
    fail(
        replay().args(["--force", "--export"]).arg(&own),
        &["own folder"],
    );

    let again = folder.path().join("again");
    succeed(play().arg(&again));
    let codes = |path: &Path| -> Vec<Value> {
        let lines = action_lines(path).into_iter();
        lines.map(|line| line["code"].clone()).collect()
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
    wait_until("play", || action_lines(&session).len() > 40);
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
    let lines = action_lines(&session).into_iter();
    let codes: Vec<Value> = lines.map(|line| line["code"].clone()).collect();
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
        .args(["--json", "--clips", "2", "--wish-starts", "2"])
        .args(["--drift-frames", "60", "--report"])
        .arg(&html);
    let figures = json(&succeed(&mut eval).out);
    for path in [
        "/wishes/starts",
        "/wishes/plausibility",
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
        "/train/tokenizer/p50_ms",
        "/train/latent_actions/gflops",
        "/train/dynamics/share_of_peak",
        "/models/tokenizer/parameters",
        "/models/latent_actions/batch",
        "/models/dynamics/clip_frames",
        "/models/dynamics/config/width",
        "/models/sampler/steps",
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
fn training_takes_the_place_of_nothing_that_is_no_world() {
    let tiny = tiny();
    let folder = tempfile::tempdir().unwrap();
    let (mine, file) = (folder.path().join("mine"), folder.path().join("file"));
    std::fs::create_dir(&mine).unwrap();
    std::fs::write(mine.join("README.md"), "mine").unwrap();
    std::fs::write(&file, "mine").unwrap();
    for out in [&mine, &file] {
        for resume in [false, true] {
            let mut train = djinn();
            train.arg("train").arg(&tiny.dataset).arg("--out").arg(out);
            train.args(resume.then_some("--resume"));
            fail(&mut train, &["is no world", "--out"]);
            assert!(!trainer::run_folder(out).exists());
        }
    }
    assert_eq!(
        std::fs::read_to_string(mine.join("README.md")).unwrap(),
        "mine"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn figures_are_told_though_the_report_cannot_be_written() {
    let tiny = tiny();
    let folder = tempfile::tempdir().unwrap();
    // Longer than names of files may be.
    let report = folder.path().join("r".repeat(300) + ".html");
    let mut eval = djinn();
    eval.arg("eval").arg(&tiny.world).arg(&tiny.dataset);
    eval.args(["--clips", "1", "--wish-starts", "0", "--drift-frames", "1"]);
    eval.arg("--report").arg(&report);
    let said = fail(&mut eval, &["rrr.html"]);
    assert!(said.out.contains("tokenizer: PSNR"), "{}", said.out);
}

#[test]
fn a_benchmark_of_some_parts_leaves_the_others_out() {
    let mut bench = djinn();
    bench.arg("bench").arg(&tiny().world).args([
        "--only",
        "tokenizer",
        "--only",
        "latent-actions",
        "--precision",
        "f32",
        "--steps",
        "1",
        "--json",
    ]);
    let figures = json(&succeed(&mut bench).out);
    assert_eq!(figures["precision"], "f32");
    assert!(figures["train"]["tokenizer"]["profile"][0]["ms"].is_number());
    assert!(figures["frame_ms"].is_null());
    let timed: Vec<_> = figures["train"].as_object().unwrap().keys().collect();
    assert_eq!(timed, ["latent_actions", "tokenizer"]);
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
fn a_session_of_a_world_in_a_folder_replays_from_any_folder() {
    let tiny = tiny();
    let folder = tempfile::tempdir().unwrap();
    let session = folder.path().join("s");
    let (parent, name) = (
        tiny.world.parent().unwrap(),
        tiny.world.file_name().unwrap(),
    );
    let mut play = djinn();
    play.current_dir(parent).arg("play").arg(name);
    play.args(["--headless", "--frames", "3", "--record"]);
    succeed(play.arg(&session));
    let replay = |session: &Path| {
        let mut command = djinn();
        command.current_dir(folder.path());
        command.arg("replay").arg(session).arg("--verify");
        command
    };
    succeed(&mut replay(&session));

    // A folder that has the built-in world's name is another world, also when the session is replayed elsewhere, and
    // is not mistaken for the built-in one where a session is replayed beside it.
    let namesake = folder.path().join("here/coinrun");
    let status = std::process::Command::new("mkdir")
        .arg(folder.path().join("here"))
        .status();
    assert!(status.unwrap().success());
    let status = std::process::Command::new("cp")
        .arg("-r")
        .arg(&tiny.world)
        .arg(&namesake)
        .status();
    assert!(status.unwrap().success());
    let (of_folder, of_built_in) = (folder.path().join("f"), folder.path().join("b"));
    for (place, out) in [
        (folder.path().join("here"), &of_folder),
        (parent.to_owned(), &of_built_in),
    ] {
        let mut play = djinn();
        play.current_dir(place).args(["play", "coinrun"]);
        play.args(["--headless", "--frames", "3", "--record"]);
        succeed(play.arg(out));
    }
    succeed(&mut replay(&of_folder));
    succeed(replay(&of_built_in).current_dir(folder.path().join("here")));
}

#[test]
fn what_is_there_already_is_written_over_only_by_force() {
    let tiny = tiny();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, "precious").unwrap();
        path
    };
    let eval = || {
        let mut eval = djinn();
        eval.arg("eval").arg(&tiny.world).arg(&tiny.dataset);
        eval.args(["--clips", "1", "--wish-starts", "0", "--drift-frames", "1"]);
        eval.arg("--report");
        eval
    };
    let bind = || {
        let mut bind = djinn();
        bind.arg("bind").arg(&tiny.world).arg("--pictures");
        bind
    };
    let (page, pictures, video) = (file("r.html"), file("p.gif"), file("v.mp4"));
    fail(eval().arg(&page), &["r.html", "--force"]);
    fail(eval().arg(&video).arg("--force"), &["v.mp4", ".html"]);
    fail(bind().arg(&pictures), &["p.gif", "--force"]);
    for report in [folder.path().join("nowhere/r.html"), page.join("r.html")] {
        fail(eval().arg(&report), &["r.html", "no folder"]);
    }
    for path in [&page, &pictures, &video] {
        assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
    }
    succeed(eval().arg(&page).arg("--force"));
    succeed(bind().arg(&pictures).arg("--force"));
    assert!(std::fs::metadata(&page).unwrap().len() > 100);
    assert!(std::fs::metadata(&pictures).unwrap().len() > 100);
}

#[test]
fn without_a_window_wishes_are_played_to_their_end() {
    let tiny = tiny();
    let folder = tempfile::tempdir().unwrap();
    let wishes = folder.path().join("wishes.txt");
    std::fs::write(&wishes, "0\n\n1\n0\n1\n").unwrap();
    let frames = |asked: &[&str]| {
        let mut play = djinn();
        play.arg("play")
            .arg(&tiny.world)
            .args(["--headless", "--json", "--actions"]);
        let said = succeed(play.arg(&wishes).args(asked));
        let value: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        value["frames"].as_u64().unwrap()
    };
    assert_eq!((frames(&[]), frames(&["--frames", "7"])), (5, 7));
}

#[test]
#[cfg(unix)]
fn whoever_is_not_to_be_hung_up_on_goes_on() {
    use std::os::unix::process::CommandExt;
    let tiny = tiny();
    let folder = tempfile::tempdir().unwrap();
    let session = folder.path().join("s");
    let mut play = djinn();
    play.arg("play").arg(&tiny.world);
    // Long enough, and over some day should a test fail.
    play.args(["--headless", "--frames", "50000", "--record"]);
    play.arg(&session)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // As `nohup` does it.
    // SAFETY: between fork and exec only a signal is set.
    unsafe {
        play.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            Ok(())
        })
    };
    let mut child = play.spawn().unwrap();
    let actions = session.join("actions.jsonl");
    wait_until("play", || lines(&actions) > 2);
    // SAFETY: the child has not been waited for, so the number is still its own.
    unsafe { libc::kill(child.id() as i32, libc::SIGHUP) };
    let before = lines(&actions);
    wait_until("more of it", || lines(&actions) > before + 50);
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn where_this_folder_cannot_be_written_to_the_session_goes_elsewhere() {
    let tiny = tiny();
    let data = tempfile::tempdir().unwrap();
    let mut play = djinn();
    // Not even the superuser can write there.
    play.current_dir("/proc").arg("play").arg(&tiny.world);
    play.args(["--frames", "3"])
        .env("XDG_DATA_HOME", data.path());
    let said = succeed(&mut play);
    assert!(said.out.contains("cannot be written to"), "{}", said.out);
    let session = data.path().join("djinn/sessions/djinn-session");
    assert!(session.join("video.mp4").is_file());
    let again = succeed(play.arg("--json"));
    assert!(again.err.contains("no display"), "{}", again.err);
    assert!(
        json(&again.out)["video"]
            .as_str()
            .unwrap()
            .contains("djinn-session-2")
    );
}

#[test]
fn what_is_logged_is_plain_and_what_cannot_be_logged_is_told() {
    let tiny = tiny();
    let play = || {
        let mut command = djinn();
        command.arg("play").arg(&tiny.world);
        command.args(["--headless", "--frames", "1"]);
        command
    };
    assert_eq!(succeed(play().arg("-q")).err, "");
    let said = succeed(play().arg("-v"));
    assert!(
        said.err.contains("loaded") && said.err.contains("prompt"),
        "{}",
        said.err
    );
    assert!(!said.err.contains('\x1b'), "{:?}", said.err);
    let said = succeed(play().env("RUST_LOG", "djinn=loud"));
    assert!(said.err.contains("RUST_LOG"), "{}", said.err);
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
        djinn().arg("worlds").arg(edit("version: 2", "version: 99")),
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
