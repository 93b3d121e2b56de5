//! The window for real: a virtual display, a software Vulkan driver, keys sent through the X server, and a screenshot.

use super::common::{action_lines, codes_of, djinn, json, succeed, verify};
use super::wait_until;
use media::{Fit, Fitting, Picture, fit_picture};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Side of a frame of the built-in world.
const SIDE: u32 = 64;

/// A virtual display, which ends with this value.
struct Display {
    server: Child,
    name: String,
}

impl Display {
    /// `None` where a program that this test needs is missing.
    fn start() -> Option<Self> {
        for program in ["Xvfb", "xdotool", "xwd"] {
            let found = Command::new("which").arg(program).output();
            if !found.is_ok_and(|found| found.status.success()) {
                skip(&format!("there is no {program}"));
                return None;
            }
        }
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1024x768x24"])
            .args(["-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut number = String::new();
        let output = server.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut number).unwrap();
        let name = format!(":{}", number.trim());
        Some(Self { server, name })
    }

    /// Runs an X program to its end and gives its output.
    fn run(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let mut command = Command::new(program);
        command.args(arguments).env("DISPLAY", &self.name);
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {errors}");
        output.stdout
    }

    /// The number of the visible window with that title, once there is one.
    fn window(&self, title: &str) -> Option<String> {
        let mut command = Command::new("xdotool");
        command.args(["search", "--onlyvisible", "--name", title]);
        let output = command.env("DISPLAY", &self.name).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().next().map(str::to_owned)
    }

    fn screenshot(&self, window: &str) -> Picture {
        picture_of_dump(&self.run("xwd", &["-silent", "-id", window]))
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Tells of a skipped test past the harness, which shows nothing of tests that pass.
fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: the window's test: {why}");
}

/// Reads what `xwd` writes: 32-bit words of a header, a colour map, and rows of pixels of blue, green, red and nothing.
fn picture_of_dump(dump: &[u8]) -> Picture {
    let word = |index: usize| {
        let bytes = dump[index * 4..][..4].try_into().unwrap();
        u32::from_be_bytes(bytes) as usize
    };
    let (header, width, height, stride, colours) = (word(0), word(4), word(5), word(12), word(19));
    assert_eq!(
        (word(7), word(11)),
        (0, 32),
        "little-endian, 32 bits a pixel"
    );
    let rows = dump[header + colours * 12..].chunks_exact(stride);
    let pixels = rows
        .take(height)
        .flat_map(|row| row[..width * 4].chunks_exact(4));
    let rgb = pixels.flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]);
    Picture::new(width as u32, height as u32, rgb.collect()).unwrap()
}

/// The mean of each square of pixels that shows one pixel of a frame.
fn shrunk(picture: &Picture) -> Picture {
    let fitting = Fitting {
        width: SIDE,
        height: SIDE,
        fit: Fit::Stretch,
        crop: None,
    };
    fit_picture(picture, &fitting).unwrap()
}

/// Compares the middle of two pictures of a frame's size: above it the light of the recording is shown, below it hints and messages.
fn psnr(a: &Picture, b: &Picture) -> f64 {
    let row = 3 * SIDE as usize;
    let middle = 8 * row..46 * row;
    let (a, b) = (&a.rgb[middle.clone()], &b.rgb[middle]);
    let pairs = a.iter().zip(b);
    let squares: f64 = pairs.map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 / (squares / a.len() as f64).max(1e-9)).log10()
}

#[test]
fn the_window_shows_the_frames_that_are_made_and_takes_keys() {
    let Some(display) = Display::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let session = folder.path().join("s");
    let Some(mut player) = recorded(&display, &session) else {
        return;
    };
    let window = display.window("^Djinn").expect("a window with its name");
    display.run("xdotool", &["windowfocus", "--sync", &window]);
    let right = codes_of("ArrowRight");
    assert!(right.len() > 1, "a key of several codes: {right:?}");
    let right = Value::from(right);
    let frames = || action_lines(&session).len();
    let wishes_right = || {
        let lines = action_lines(&session);
        lines.last().is_some_and(|line| line["wish"] == right)
    };
    display.run("xdotool", &["keydown", "Right"]);
    wait_until("the key's first frame", wishes_right);
    let pressed = frames();
    wait_until("ten frames", || frames() > pressed + 10);
    let before = frames();
    let screenshot = display.screenshot(&window);
    let after = frames();
    display.run("xdotool", &["keyup", "Right"]);
    wait_until("the key's last frame", || !wishes_right());
    display.run("xdotool", &["key", "Escape"]);
    wait_until("the end", || player.try_wait().unwrap().is_some());
    let said: super::common::Said = player.wait_with_output().unwrap().into();
    assert_eq!(said.code, Some(0), "{}", said.err);

    let wishes: Vec<Value> = action_lines(&session)
        .iter()
        .map(|line| {
            assert_eq!(line["device"], "keyboard");
            line["wish"].clone()
        })
        .collect();
    // The built-in world's code for nothing pressed.
    let idle = Value::from(vec![5]);
    assert_eq!(wishes[0], idle);
    for wish in &wishes[pressed - 1..before] {
        assert_eq!(*wish, right, "{wishes:?}");
    }
    assert_eq!(wishes.last(), Some(&idle), "{wishes:?}");

    // The video begins with the prompt, so frame `n` is picture `n` where there are `n` lines.
    assert_eq!((screenshot.width, screenshot.height), (640, 640));
    let shown = shrunk(&screenshot);
    let mut video = media::open(&session.join("video.mp4")).unwrap();
    let mut qualities = Vec::new();
    while let Some(timed) = video.next_picture().unwrap() {
        qualities.push(psnr(&shown, &shrunk(&timed.picture)));
    }
    let best = qualities.iter().copied().fold(0.0, f64::max);
    assert!(best > 30.0, "{qualities:.1?}");
    // Where the world stands still, several pictures are the one that was shown.
    let shown_then = &qualities[before.saturating_sub(8)..(after + 2).min(qualities.len())];
    assert!(
        shown_then.iter().any(|quality| best - quality < 0.5),
        "between frames {before} and {after}: {qualities:.1?}"
    );
}

/// Starts a recorded play on a display, once it runs; `None` where nothing can be drawn. The player's own settings lie beside the session.
fn recorded(display: &Display, session: &Path) -> Option<Child> {
    let mut player = djinn()
        .args(["play", "coinrun", "--window", "--seed", "7", "--record"])
        .arg(session)
        .env("XDG_CONFIG_HOME", session.with_file_name("configuration"))
        .env("DISPLAY", &display.name)
        .env("WINIT_X11_SCALE_FACTOR", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("play", || {
        action_lines(session).len() > 3 || player.try_wait().unwrap().is_some()
    });
    if player.try_wait().unwrap().is_none() {
        return Some(player);
    }
    let said: super::common::Said = player.wait_with_output().unwrap().into();
    let missing = ["no graphics", "could not be loaded"];
    assert!(
        missing.iter().any(|word| said.err.contains(word)),
        "{}",
        said.err
    );
    skip(&said.err);
    None
}

/// Makes a window small, invisible, large and full, with frames in between.
fn disturb(display: &Display, session: &Path) {
    let window = display.window("^Djinn").expect("a window with its name");
    let more = || {
        let before = action_lines(session).len();
        wait_until("more frames", || action_lines(session).len() > before + 3);
    };
    for change in [
        &["windowsize", &window, "300", "200"][..],
        &["windowunmap", &window],
        &["windowmap", &window],
        &["windowsize", &window, "900", "700"],
        &["windowfocus", &window],
        &["key", "F11"],
    ] {
        display.run("xdotool", change);
        more();
    }
}

#[test]
fn a_session_outlives_whatever_happens_to_its_window() {
    let Some(display) = Display::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (closed, lost) = (folder.path().join("closed"), folder.path().join("lost"));
    let Some(mut player) = recorded(&display, &closed) else {
        return;
    };
    disturb(&display, &closed);
    display.run("xdotool", &["key", "Escape"]);
    wait_until("the end", || player.try_wait().unwrap().is_some());
    assert_eq!(player.wait().unwrap().code(), Some(0));
    let said = verify(&closed);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(!said.out.contains("cut short"), "{}", said.out);

    let Some(mut player) = recorded(&display, &lost) else {
        return;
    };
    drop(display);
    wait_until("the end", || player.try_wait().unwrap().is_some());
    let said = verify(&lost);
    assert_eq!(said.code, Some(0), "{} {}", said.out, said.err);
}

/// The sampling temperature that a session began with.
fn temperature(session: &Path) -> f64 {
    let text = std::fs::read_to_string(session.join("session.ron")).unwrap();
    let mut values = text.split("temperature: ").skip(1);
    let value = values.next().and_then(|rest| rest.split([',', ')']).next());
    value.unwrap_or_default().trim().parse().expect(&text)
}

#[test]
fn what_is_set_for_a_world_in_the_window_is_kept_for_it() {
    let Some(display) = Display::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let Some(mut player) = recorded(&display, &first) else {
        return;
    };
    let window = display.window("^Djinn").expect("a window with its name");
    display.run("xdotool", &["windowfocus", "--sync", &window]);
    display.run("xdotool", &["key", "F4"]);
    let more = || {
        let before = action_lines(&first).len();
        wait_until("more frames", || action_lines(&first).len() > before + 3);
    };
    more();
    // Three quarters along the slider below "Temperature", pressed for as long as a person would.
    display.run("xdotool", &["mousemove", "--window", &window, "549", "296"]);
    more();
    display.run("xdotool", &["mousedown", "1"]);
    more();
    display.run("xdotool", &["mouseup", "1"]);
    more();
    // The page is closed first, then the window.
    display.run("xdotool", &["key", "Escape"]);
    more();
    display.run("xdotool", &["key", "Escape"]);
    wait_until("the end", || player.try_wait().unwrap().is_some());
    assert_eq!(player.wait().unwrap().code(), Some(0));
    let said = verify(&first);
    assert_eq!(said.code, Some(0), "{} {}", said.out, said.err);

    let mut player = recorded(&display, &second).expect("another play");
    let window = display.window("^Djinn").expect("a window with its name");
    display.run(
        "xdotool",
        &["windowfocus", "--sync", &window, "key", "Escape"],
    );
    wait_until("the end", || player.try_wait().unwrap().is_some());
    let (before, after) = (temperature(&first), temperature(&second));
    let world = json(&succeed(djinn().args(["worlds", "coinrun", "--json"])).out);
    let own = world["manifest"]["sampler"]["temperature"]
        .as_f64()
        .unwrap();
    assert!((before - own).abs() < 1e-6, "{before}");
    assert!((1.2..1.9).contains(&after), "{after}");
}
