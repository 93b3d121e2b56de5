//! Play in a terminal for real: in a pseudo-terminal, read by a terminal emulator.

use super::common::{Said, action_lines, codes_of, djinn, tiny, verify};
use super::wait_until;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Columns and rows: room for a frame of 64 pixels and the line below it.
const SIZE: (u16, u16) = (64, 33);

/// A terminal that answers what programs ask of it.
struct Terminal {
    keyboard: File,
    /// The program's side.
    line: File,
    before: Termios,
    /// All that the program wrote, and what it made of the screen.
    screen: Arc<Mutex<(Vec<u8>, vt100::Parser)>>,
    hung_up: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Terminal {
    /// A terminal that tells when a key goes up if `releases`.
    fn open(releases: bool) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        // A program that inherited this side would keep its own terminal from hanging up.
        fcntl_setfd(&ours, FdFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let mut options = File::options();
        let line = options
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let size = Winsize {
            ws_row: SIZE.1,
            ws_col: SIZE.0,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&line, size).unwrap();
        let before = tcgetattr(&line).unwrap();
        let keyboard = File::from(ours);
        let screen = Arc::new(Mutex::new((
            Vec::new(),
            vt100::Parser::new(SIZE.1, SIZE.0, 0),
        )));
        let (mut reader, mut answers, theirs) = (
            keyboard.try_clone().unwrap(),
            keyboard.try_clone().unwrap(),
            screen.clone(),
        );
        let hung_up = Arc::new(AtomicBool::new(false));
        let ended = hung_up.clone();
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 65536];
            let moment = Timespec {
                tv_sec: 0,
                tv_nsec: 50_000_000,
            };
            while !ended.load(Ordering::Relaxed) {
                let mut waiting = [PollFd::new(&reader, PollFlags::IN)];
                if poll(&mut waiting, Some(&moment)).unwrap() == 0 {
                    continue;
                }
                let Ok(count @ 1..) = reader.read(&mut bytes) else {
                    break;
                };
                let mut screen = theirs.lock().unwrap();
                screen.0.extend(&bytes[..count]);
                screen.1.process(&bytes[..count]);
                // The question for kitty's keyboard protocol, and the one that every terminal answers.
                if bytes[..count].windows(3).any(|bytes| bytes == b"\x1b[c") {
                    let answer: &[u8] = if releases {
                        b"\x1b[?0u\x1b[?62c"
                    } else {
                        b"\x1b[?62c"
                    };
                    answers.write_all(answer).unwrap();
                }
            }
        });
        Self {
            keyboard,
            line,
            before,
            screen,
            hung_up,
            thread,
        }
    }

    /// Starts the program in the terminal.
    fn run(&self, command: &mut Command) -> Child {
        let side = || self.line.try_clone().unwrap();
        command
            .env("TERM", "xterm-256color")
            .env("COLORTERM", "truecolor");
        command.stdin(side()).stdout(side()).stderr(side());
        let alone = || Ok(rustix::process::setsid().map(|_| ())?);
        // SAFETY: a single system call. Where the tests themselves run in a terminal, the program must not ask that one.
        unsafe { command.pre_exec(alone) }.spawn().unwrap()
    }

    /// Closes the terminal's side, as when a connection is lost.
    fn hang_up(self) {
        self.hung_up.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }

    fn press(&self, keys: &[u8]) {
        (&self.keyboard).write_all(keys).unwrap();
    }

    /// The pixels that the screen shows, row by row; none before there is a whole picture.
    fn pixels(&self) -> Vec<u8> {
        let screen = self.screen.lock().unwrap();
        let cell = |row, column| screen.1.screen().cell(row, column).unwrap();
        // The last one that is drawn; a picture comes in pieces.
        if cell(SIZE.1 - 2, SIZE.0 - 1).contents() != "\u{2580}" {
            return Vec::new();
        }
        let colour = |colour| match colour {
            vt100::Color::Rgb(red, green, blue) => [red, green, blue],
            other => panic!("{other:?}"),
        };
        let mut pixels = Vec::new();
        for row in 0..2 * (SIZE.1 - 1) {
            for column in 0..SIZE.0 {
                let cell = cell(row / 2, column);
                pixels.extend(colour(if row % 2 == 0 {
                    cell.fgcolor()
                } else {
                    cell.bgcolor()
                }));
            }
        }
        pixels
    }

    fn status(&self) -> String {
        let screen = self.screen.lock().unwrap();
        let rows: Vec<String> = screen.1.screen().rows(0, SIZE.0).collect();
        rows.last().cloned().unwrap_or_default()
    }

    fn has_written(&self, text: &str) -> bool {
        let screen = self.screen.lock().unwrap();
        String::from_utf8_lossy(&screen.0).contains(text)
    }

    /// Asserts that it is as it was before.
    fn check_given_back(&self) {
        wait_until("the screen is given back", || {
            self.has_written("\x1b[?1049l")
        });
        assert!(self.has_written("\x1b[?25h"), "the cursor shows again");
        let screen = self.screen.lock().unwrap();
        let written = String::from_utf8_lossy(&screen.0);
        let given_back = written.find("\x1b[?1049l");
        let logged = written.find("WARN");
        assert!(logged.is_none_or(|at| Some(at) > given_back), "{logged:?}");
        let after = tcgetattr(&self.line).unwrap();
        assert_eq!(
            (after.local_modes, after.input_modes, after.output_modes),
            (
                self.before.local_modes,
                self.before.input_modes,
                self.before.output_modes
            )
        );
    }
}

fn play(session: &Path) -> Command {
    let mut command = djinn();
    command
        .args(["play", "coinrun", "--seed", "7", "--steps", "1", "--record"])
        .arg(session);
    command
}

fn wishes(session: &Path) -> Vec<Value> {
    action_lines(session)
        .iter()
        .map(|line| line["wish"].clone())
        .collect()
}

fn exit_code(mut child: Child) -> Option<i32> {
    wait_until("the end", || child.try_wait().unwrap().is_some());
    child.wait().unwrap().code()
}

/// The newest frame of a session, made again.
fn last_frame(session: &Path) -> worlds::Frame {
    let world = Arc::new(worlds::find("coinrun").unwrap().load().unwrap());
    let session = runtime::Session::open(session).unwrap();
    let last = session.frames() - 1;
    let replayer = runtime::Replayer::at(&session, world, last).unwrap();
    replayer.rollout().frame().unwrap()
}

#[test]
fn a_terminal_shows_the_very_pixels_and_takes_keys_that_go_down_and_up() {
    let folder = tempfile::tempdir().unwrap();
    let session = folder.path().join("s");
    let terminal = Terminal::open(true);
    // Without a display, plain play comes here by itself.
    let player = terminal.run(&mut play(&session));
    wait_until("the picture", || {
        !terminal.pixels().is_empty() && action_lines(&session).len() > 3
    });
    let right = Value::from(codes_of("ArrowRight"));
    let wishes_right = || wishes(&session).last() == Some(&right);
    terminal.press(b"\x1b[1;1:1C");
    wait_until("the key's first frame", wishes_right);
    let pressed = action_lines(&session).len();
    wait_until("ten frames", || action_lines(&session).len() > pressed + 10);
    let held = action_lines(&session).len();
    terminal.press(b"\x1b[1;1:3C");
    wait_until("the key's last frame", || !wishes_right());
    terminal.press(b"\x1b[112;1:1u\x1b[112;1:3u");
    wait_until("the pause", || terminal.status().contains('❚'));
    let status = terminal.status();
    assert!(status.contains("REC"), "{status}");
    let last = last_frame(&session);
    wait_until("the last frame", || terminal.pixels() == last.rgb());
    terminal.press(b"\x1b[27u");
    assert_eq!(exit_code(player), Some(0));
    terminal.check_given_back();
    let wishes = wishes(&session);
    for wish in &wishes[pressed - 1..held] {
        assert_eq!(*wish, right, "{wishes:?}");
    }
}

#[test]
fn without_news_of_releases_a_key_is_held_while_it_repeats() {
    let folder = tempfile::tempdir().unwrap();
    let session = folder.path().join("s");
    let terminal = Terminal::open(false);
    let player = terminal.run(play(&session).arg("--terminal"));
    wait_until("the picture", || {
        !terminal.pixels().is_empty() && action_lines(&session).len() > 2
    });
    let left = Value::from(codes_of("ArrowLeft"));
    let held = || {
        let wishes = wishes(&session);
        wishes
            .iter()
            .rev()
            .take_while(|wish| **wish == left)
            .count()
    };
    // More frames of a fifteenth of a second than a key counts as held that never repeats. Where a busy machine lets a repetition come late,
    // they are counted anew.
    wait_until("a key that is held", || {
        terminal.press(b"\x1b[D");
        std::thread::sleep(Duration::from_millis(30));
        held() > 12
    });
    wait_until("its release", || held() == 0);
    // Such a terminal tells of a shift key by the capital letter alone.
    terminal.press(b"R");
    wait_until("a new seed", || terminal.status().contains("seed 8"));
    terminal.press(b"\x03");
    assert_eq!(exit_code(player), Some(0));
    terminal.check_given_back();
}

#[test]
fn a_terminal_is_given_back_when_the_program_is_told_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let session = folder.path().join("s");
    let terminal = Terminal::open(true);
    let player = terminal.run(play(&session).arg("--terminal"));
    wait_until("the picture", || !terminal.pixels().is_empty());
    let id = rustix::process::Pid::from_child(&player);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(exit_code(player), Some(0));
    terminal.check_given_back();
    let said = verify(&session);
    assert_eq!(said.code, Some(0), "{}", said.err);
}

#[test]
fn a_terminal_that_hangs_up_ends_the_program_and_keeps_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let session = folder.path().join("s");
    let terminal = Terminal::open(true);
    let player = terminal.run(play(&session).arg("--terminal"));
    wait_until("the picture", || action_lines(&session).len() > 3);
    terminal.hang_up();
    // The terminal was lost, which is no way to end well.
    assert_eq!(exit_code(player), Some(1));
    let said = verify(&session);
    assert_eq!(said.code, Some(0), "{}", said.err);
}

#[test]
fn the_questions_for_keys_end_when_they_are_interrupted() {
    let home = tempfile::tempdir().unwrap();
    let terminal = Terminal::open(false);
    let mut command = djinn();
    command.arg("bind").arg(&tiny().world);
    command
        .env("XDG_CONFIG_HOME", home.path())
        .env("HOME", home.path());
    let program = terminal.run(&mut command);
    wait_until("the questions", || terminal.has_written("q ends"));
    let id = rustix::process::Pid::from_child(&program);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert_eq!(exit_code(program), Some(130));
}

#[test]
fn what_is_no_terminal_is_told_so() {
    let said: Said = djinn()
        .args(["play", "--terminal"])
        .output()
        .unwrap()
        .into();
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("no terminal"), "{}", said.err);
}
