//! Play in a terminal, as over SSH: pictures of half blocks, keys as far as the terminal tells of them.
//!
//! ```text
//! key events ─► Keys ─ down, up ─► Desk ─ newest View ─► Canvas ─► escape sequences ─► terminal
//! ```

mod canvas;
mod keys;
mod screen;

use crate::desk::{Desk, PlayOptions};
use crate::error::{Error, Result};
use crate::frame_loop::{Command, View};
use crate::hud::hints;
use crate::input::{Bindings, Control};
use crate::play::PlaySummary;
use canvas::{Canvas, Colours};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use keys::{Change, Keys};
use screen::TakenTerminal;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use worlds::{World, WorldManifest};

/// How long keys are waited for before the picture is looked after: it limits how late both can be.
const PATIENCE: Duration = Duration::from_millis(4);
/// The picture is drawn at least this often.
const LONGEST_STILL: Duration = Duration::from_secs(1);
/// What the line below the picture says of the keys.
const HELP: [(Control, &str); 8] = [
    (Control::Pause, "pause"),
    (Control::Step, "step"),
    (Control::Rewind, "back"),
    (Control::Restart, "again"),
    (Control::NextPrompt, "prompt"),
    (Control::Record, "record"),
    (Control::Save, "save"),
    (Control::Load, "load"),
];

/// How long a message stays in the line below the picture.
const MESSAGE_TIME: Duration = Duration::from_secs(4);

/// Plays a world in the terminal until Escape or Ctrl-C is pressed, the actions come to their end or `cancel` becomes true. The keys are those of the
/// window. The terminal is given back as it was, also after an error or a panic.
///
/// # Errors
/// [`Error::NoTerminal`], before anything is played or recorded, when standard input or output is no terminal, or one that cannot move its cursor.
/// Otherwise what stopped play.
pub fn play_in_terminal(
    world: Arc<World>,
    options: PlayOptions,
    cancel: &AtomicBool,
) -> Result<PlaySummary> {
    let variable = |name| std::env::var(name).ok();
    let (term, colour_term) = (variable("TERM"), variable("COLORTERM"));
    if let Some(reason) = reason_against(term.as_deref()) {
        return Err(Error::NoTerminal(reason));
    }
    let taken = TakenTerminal::take().map_err(|error| Error::NoTerminal(error.to_string()))?;
    let manifest = world.manifest.clone();
    let mut desk = Desk::start(world, options, || {})?;
    let mut terminal = Terminal {
        bindings: desk.bindings(),
        leave: hints(&desk.controls(), &[(Control::Leave, "leaves")]),
        canvas: Canvas::new(Colours::of(colour_term.as_deref(), term.as_deref())),
        keys: Keys::new(taken.releases()),
        message: (0, Instant::now()),
        drawn: Instant::now(),
    };
    let shown = events().and_then(|events| terminal.run(&mut desk, &manifest, &events, cancel));
    // Nothing is written after a terminal that is gone, but a recording is completed.
    drop(taken);
    let summary = desk.finish();
    shown.and(summary)
}

/// Whether [`play_in_terminal`] can be expected to work here.
pub fn has_terminal() -> bool {
    reason_against(std::env::var("TERM").ok().as_deref()).is_none()
}

fn reason_against(term: Option<&str>) -> Option<String> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Some("input or output is not a terminal".into());
    }
    match term {
        Some("dumb") => Some("this terminal says that it is dumb".into()),
        _ => None,
    }
}

struct Terminal {
    bindings: Bindings,
    /// What the line says of leaving.
    leave: Vec<String>,
    canvas: Canvas,
    keys: Keys,
    /// The number of the newest message, and until when it is shown.
    message: (u64, Instant),
    /// When the picture was drawn last.
    drawn: Instant,
}

impl Terminal {
    fn run(
        &mut self,
        desk: &mut Desk,
        manifest: &WorldManifest,
        events: &Receiver<Event>,
        cancel: &AtomicBool,
    ) -> Result<()> {
        let mut newest = desk.view();
        self.draw(&newest, manifest)?;
        while !desk.has_ended() && !cancel.load(Ordering::Relaxed) {
            // Drawing is how one learns that the terminal is gone, so a world that stands still is drawn, too.
            let mut changed = self.drawn.elapsed() > LONGEST_STILL;
            // All that has come is read before anything is drawn, so that keys never queue behind pictures.
            let mut patience = PATIENCE;
            while let Some(event) = next(events, patience)? {
                patience = Duration::ZERO;
                match event {
                    Event::Key(key) if asks_to_leave(&key) => return Ok(()),
                    Event::Key(key) => {
                        apply(desk, self.keys.take(&key, Instant::now()));
                    }
                    Event::FocusLost => {
                        self.keys.release_all();
                        desk.release_all();
                    }
                    Event::Resize(..) => changed = true,
                    _ => {}
                }
            }
            apply(desk, self.keys.expire(Instant::now()));
            for control in desk.obey() {
                match control {
                    Control::Leave => return Ok(()),
                    Control::Help => {
                        desk.command(Command::Say(hints(&desk.controls(), &HELP).join("  ")))
                    }
                    _ => desk.command(Command::Say("only in a window".into())),
                }
            }
            if let Some(view) = desk.take_view() {
                newest = view;
                changed = true;
            }
            if changed {
                self.draw(&newest, manifest)?;
            }
        }
        Ok(())
    }

    fn draw(&mut self, view: &View, manifest: &WorldManifest) -> Result<()> {
        self.drawn = Instant::now();
        let size = crossterm::terminal::size().map_err(gone)?;
        let now = Instant::now();
        if self.message.0 != view.message.number {
            self.message = (view.message.number, now + MESSAGE_TIME);
        }
        let message = (now < self.message.1).then_some(view.message.text.as_str());
        let mut text = String::new();
        let mut status = status(view, manifest, &self.bindings, message);
        status.extend(self.leave.iter().cloned());
        let status = status.join("  ");
        self.canvas.draw(&mut text, &view.frame, size, &status)?;
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(gone)
    }
}

/// The terminal's events, read on a thread of their own: reading from a terminal that hangs up may never come to an end.
fn events() -> Result<Receiver<Event>> {
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .name("keys".into())
        .spawn(move || {
            while let Ok(event) = event::read() {
                if sender.send(event).is_err() {
                    break;
                }
            }
        })
        .map_err(Error::io("the thread that reads keys"))?;
    Ok(receiver)
}

/// The next event, if one comes within `patience`.
fn next(events: &Receiver<Event>, patience: Duration) -> Result<Option<Event>> {
    match events.recv_timeout(patience) {
        Ok(event) => Ok(Some(event)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(gone(io::ErrorKind::UnexpectedEof.into())),
    }
}

fn gone(error: io::Error) -> Error {
    Error::Terminal(error)
}

/// In a terminal that is read key by key, Ctrl-C is a key.
fn asks_to_leave(key: &KeyEvent) -> bool {
    key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'C'))
}

fn apply(desk: &Desk, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Down(key) => desk.press(&key),
            Change::Up(key) => desk.release(&key),
        }
    }
}

/// The parts of the line below the picture: what matters most comes first, since narrow terminals cut it.
fn status(
    view: &View,
    manifest: &WorldManifest,
    bindings: &Bindings,
    message: Option<&str>,
) -> Vec<String> {
    let name = |code: nn::ActionCode| bindings.name(code);
    let mut parts = Vec::new();
    for (on, sign) in [
        (view.recording.is_some(), "● REC"),
        (view.rewinding, "◀◀"),
        (view.paused, "❚❚"),
        (view.attract, "plays itself"),
    ] {
        if on {
            parts.push(sign.to_owned());
        }
    }
    parts.extend(message.map(str::to_owned));
    if let Some(code) = view.code {
        let wishes: Vec<String> = view.wish.codes().iter().map(|&code| name(code)).collect();
        parts.push(match wishes.is_empty() {
            true => name(code),
            false => format!("{} → {}", wishes.join("+"), name(code)),
        });
    }
    let speed = match view.slow {
        true => format!(
            "slow: {:.0} of {:.0} fps",
            view.frames_per_second,
            manifest.frames_per_second * view.speed
        ),
        false => format!("{:.0} fps", view.frames_per_second),
    };
    parts.push(speed);
    parts.push(format!("seed {}", view.settings.seed));
    parts
}
