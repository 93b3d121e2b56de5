//! The program on every kernel path that this CPU has and on any number of threads, and sessions that go from one path to another.

use super::common::{djinn, fail, run, succeed, tiny};
use serde_json::Value;
use std::path::Path;

/// What every CPU of the target architecture can run.
const BASELINE: &str = if cfg!(target_arch = "aarch64") {
    "neon"
} else {
    "scalar"
};

/// What `DJINN_CPU` can ask for, narrowest first.
const PATHS: [&str; 4] = [BASELINE, "avx2", "avx512", "amx"];

/// Those of them that the program finds on this CPU.
fn paths() -> Vec<&'static str> {
    let said = fail(
        djinn().arg("worlds").env("DJINN_CPU", "abacus"),
        &["abacus"],
    );
    let here = said.err.split("can run ").nth(1).unwrap().trim();
    let known = |name: &str| PATHS.into_iter().find(|path| *path == name);
    here.split(", ").map(|name| known(name).unwrap()).collect()
}

/// A session of 12 frames made on one path and verified on another.
fn verified(world: &Path, made: &str, checked: &str) -> (Value, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    let session = folder.path().join("session");
    let mut play = djinn();
    play.arg("play")
        .arg(world)
        .args(["--headless", "--frames", "12", "--seed", "7", "--record"])
        .arg(&session);
    succeed(play.env("DJINN_CPU", made));
    let mut replay = djinn();
    replay
        .arg("replay")
        .arg(&session)
        .args(["--verify", "--json"]);
    let said = run(replay.env("DJINN_CPU", checked));
    (serde_json::from_str(&said.out).unwrap(), said.code)
}

#[test]
fn every_path_plays_and_verifies_itself() {
    let world = &tiny().world;
    for path in paths() {
        let (found, code) = verified(world, path, path);
        assert_eq!(
            (found["same_kernels"].as_bool(), code),
            (Some(true), Some(0)),
            "{path}: {found}"
        );
    }
}

#[test]
fn a_path_is_taken_or_refused_with_those_that_there_are() {
    let here = paths();
    #[cfg(target_arch = "x86_64")]
    for (path, found) in [
        (
            "avx2",
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        ),
        ("avx512", is_x86_feature_detected!("avx512vl")),
    ] {
        assert_eq!(here.contains(&path), found, "{path} of {here:?}");
    }
    assert_eq!(here[0], BASELINE);
    let offer = format!("this CPU can run {BASELINE}");
    for path in PATHS {
        let mut worlds = djinn();
        worlds.arg("worlds").env("DJINN_CPU", path);
        match here.contains(&path) {
            true => succeed(&mut worlds),
            false => fail(&mut worlds, &["DJINN_CPU", path, &offer]),
        };
    }
}

#[test]
fn sessions_do_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let session = |threads: &str| {
        let session = folder.path().join(threads);
        let mut play = djinn();
        play.arg("play")
            .arg(&tiny().world)
            .args(["--headless", "--frames", "30", "--seed", "7", "--record"])
            .arg(&session);
        succeed(play.env("RAYON_NUM_THREADS", threads));
        let read = |file: &str| std::fs::read(session.join(file)).unwrap();
        (read("tokens.safetensors"), read("video.mp4"))
    };
    let alone = session("1");
    for threads in ["2", "3", "5"] {
        assert!(session(threads) == alone, "{threads} threads");
    }
}

#[test]
fn another_path_says_so_and_where_frames_first_differ() {
    let world = &tiny().world;
    let here = paths();
    let widest = here[here.len() - 1];
    if widest == BASELINE {
        return;
    }
    let (found, code) = verified(world, widest, BASELINE);
    assert_eq!(found["same_kernels"].as_bool(), Some(false), "{found}");
    match &found["difference"] {
        Value::Null => assert_eq!(code, Some(0), "{found}"),
        difference => assert!(difference["frame"].is_u64() && code == Some(3), "{found}"),
    }
}
