//! Bindings of the player's own, as the program shows, keeps and refuses them.

use super::common::{Said, djinn, fail, succeed};
use super::json;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The program with a configuration folder of its own.
fn program(home: &Path) -> Command {
    let mut command = djinn();
    command
        .env("XDG_CONFIG_HOME", home)
        .env("HOME", home)
        .env("APPDATA", home);
    command
}

fn inputs(home: &Path, code: usize) -> Vec<String> {
    let said = succeed(program(home).args(["worlds", "coinrun", "--json"]));
    let bound = json(&said.out)["bindings"][code]["inputs"].clone();
    serde_json::from_value(bound).unwrap()
}

#[test]
fn what_a_player_binds_is_kept_shown_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let usual = inputs(home, 1);
    let set = [
        "--set",
        "jump right=ArrowRight+Space,DPadRight+South",
        "--name",
        "1=leap",
    ];
    let said = succeed(program(home).args(["bind", "coinrun", "--json"]).args(set));
    let value = json(&said.out);
    assert_eq!(value["actions"][1]["name"], "leap");
    assert_eq!(
        value["actions"][1]["motion"],
        Value::Null,
        "nothing is measured for it"
    );
    assert_eq!(
        inputs(home, 1),
        ["Digit1", "ArrowRight+Space", "DPadRight+South"]
    );
    // The player's own name is known from now on, and so is the world's.
    for name in ["LEAP", "jump right"] {
        let set = format!("{name}=ArrowRight+Space,DPadRight+South");
        let said = succeed(program(home).args(["bind", "coinrun", "--json", "--set", &set]));
        assert_eq!(json(&said.out)["actions"][1]["name"], "leap");
        assert_eq!(inputs(home, 1).len(), 3);
    }
    // Refused, and nothing lost.
    for (option, part) in [
        ("1=Start", "pause"),
        ("1=Foo", "no key"),
        ("99=KeyQ", "no action"),
    ] {
        let said = Said::from(
            program(home)
                .args(["bind", "coinrun", "--set", option])
                .output()
                .unwrap(),
        );
        assert!(
            said.code == Some(1) && said.err.contains(part),
            "{}",
            said.err
        );
    }
    assert_eq!(inputs(home, 1).len(), 3);
    // A broken file is told by its place, and the world's bindings serve.
    let file = value["bindings"].as_str().unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, text.replace("ArrowRight+", "Nonsense+")).unwrap();
    let said = succeed(program(home).args(["worlds", "coinrun"]));
    assert!((said.out + &said.err).contains("line "), "{}", said.err);
    assert_eq!(inputs(home, 1), usual);
    succeed(program(home).args(["bind", "coinrun", "--reset"]));
    assert!(!Path::new(file).exists());
}

#[test]
fn what_is_special_about_a_wish_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let said = succeed(program(folder.path()).args(["worlds", "coinrun"]));
    let jump =
        "\n  jump             weighs 1.17, lasts 6 of 12 frames at most, does not begin unasked\n";
    assert!(said.out.contains(jump), "{}", said.out);
}

#[test]
fn every_action_is_measured_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("actions.gif");
    let mut command = program(folder.path());
    let said = succeed(
        command
            .args(["bind", "coinrun", "--json", "--pictures"])
            .arg(&pictures),
    );
    let value = json(&said.out);
    let actions = value["actions"].as_array().unwrap();
    let motion = |name: &str| -> Vec<f64> {
        let action = actions
            .iter()
            .find(|action| action["name"] == name)
            .unwrap();
        serde_json::from_value(action["motion"].clone()).unwrap()
    };
    assert!(
        motion("right")[0] > 0.3 && motion("fall fast")[1] > 0.5,
        "{value:#}"
    );
    assert!(
        motion("jump")[1] < -1.0 && motion("still")[0].abs() < 0.3,
        "{value:#}"
    );
    assert_eq!(value["own"], false);
    assert!(media::read_image(&pictures).unwrap().width > 300);
}

#[test]
fn steps_that_a_world_does_not_allow_are_told_of_and_it_is_played() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let said = succeed(
        program(home)
            .args(["bind", "coinrun", "--json"])
            .args(["--set", "1=KeyK"]),
    );
    let bindings = json(&said.out)["bindings"].clone();
    let configuration = Path::new(bindings.as_str().unwrap()).ancestors().nth(2);
    let settings = configuration.unwrap().join("settings.ron");
    std::fs::write(settings, "(steps: 60)").unwrap();
    let play = || {
        let mut command = program(home);
        command
            .current_dir(home)
            .args(["play", "coinrun", "--frames", "1"]);
        command
    };
    let said = succeed(&mut play());
    assert!(said.out.contains("60 MaskGIT steps"), "{}", said.out);
    let said = succeed(play().args(["--steps", "1"]));
    assert!(!said.out.contains("MaskGIT steps"), "{}", said.out);
    // Who asks for it now is told that it cannot be.
    fail(play().args(["--steps", "60"]), &["60 MaskGIT steps"]);
}
