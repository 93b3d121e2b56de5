//! The program on every kernel path that this CPU has, and sessions that go from one path to another.

use super::common::{djinn, run, succeed, tiny};
use serde_json::Value;
use std::path::Path;

/// What `DJINN_CPU` can ask for, narrowest first.
const PATHS: [&str; 4] = ["scalar", "avx2", "avx512", "amx"];

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
    for path in PATHS {
        let (found, code) = verified(world, path, path);
        assert_eq!(
            (found["same_kernels"].as_bool(), code),
            (Some(true), Some(0)),
            "{path}: {found}"
        );
    }
}

#[test]
fn another_path_says_so_and_where_frames_first_differ() {
    let world = &tiny().world;
    let (found, code) = verified(world, "amx", "scalar");
    if found["same_kernels"] == Value::Bool(true) {
        // A CPU with one path only.
        return;
    }
    match &found["difference"] {
        Value::Null => assert_eq!(code, Some(0), "{found}"),
        difference => assert!(difference["frame"].is_u64() && code == Some(3), "{found}"),
    }
}
