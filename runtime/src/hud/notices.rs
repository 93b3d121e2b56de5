//! What is said for a while: messages, the hint of the first seconds, and the state that time is in.

use super::HudState;
use super::style::{TEXT, quiet, shade};
use super::symbols::{Symbol, show as symbol};
use egui::{Align2, Area, Id, RichText, TextStyle, Vec2};
use std::time::{Duration, Instant};

/// How long a message stays, and the part of it in which it fades.
const LASTS: Duration = Duration::from_secs(5);
const FADES: Duration = Duration::from_millis(600);
/// Most messages at once.
const MOST: usize = 3;
/// How long a machine must be too slow before that is said, and how long it must have kept up before it is said again.
const SLOW_AFTER: Duration = Duration::from_secs(3);
/// Distance from the window's edge.
const MARGIN: f32 = 8.0;

/// A message as it is shown now.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// What it says.
    pub text: String,
    /// Whether it is something to worry about.
    pub warning: bool,
    /// From 0, gone, to 1.
    pub opacity: f32,
}

/// Messages and when they came. Time is always given from outside.
#[derive(Clone, Debug, Default)]
pub struct Notices {
    messages: Vec<(Instant, String, bool)>,
    slow_since: Option<Instant>,
    told_slow: bool,
}

impl Notices {
    /// Says something.
    pub fn say(&mut self, text: impl Into<String>, now: Instant) {
        self.push(text.into(), false, now);
    }

    /// Says something to worry about.
    pub fn warn(&mut self, text: impl Into<String>, now: Instant) {
        self.push(text.into(), true, now);
    }

    fn push(&mut self, text: String, warning: bool, now: Instant) {
        self.messages.retain(|(_, known, _)| *known != text);
        self.messages.push((now, text, warning));
        let surplus = self.messages.len().saturating_sub(MOST);
        self.messages.drain(..surplus);
    }

    /// Takes in whether the machine keeps up: `reached` of `wanted` frames in a second. Says so once it has not for a while.
    pub fn pace(&mut self, slow: bool, reached: f64, wanted: f64, now: Instant) {
        if !slow {
            self.slow_since = None;
            self.told_slow = false;
            return;
        }
        let since = *self.slow_since.get_or_insert(now);
        if !self.told_slow && now.saturating_duration_since(since) >= SLOW_AFTER {
            self.told_slow = true;
            let text = format!("this machine makes {reached:.0} of {wanted:.0} frames a second");
            self.warn(text, now);
        }
    }

    /// What is to be shown at that time, oldest first, and after which time that changes, if it does.
    pub fn at(&mut self, now: Instant) -> (Vec<Notice>, Option<Duration>) {
        self.messages
            .retain(|(since, ..)| now.saturating_duration_since(*since) < LASTS);
        let left = |since: Instant| LASTS.saturating_sub(now.saturating_duration_since(since));
        let notices = self.messages.iter().map(|(since, text, warning)| Notice {
            text: text.clone(),
            warning: *warning,
            opacity: opacity(left(*since)),
        });
        let next = self.messages.iter().map(|(since, ..)| left(*since));
        let next = next
            .min()
            .map(|left| left.saturating_sub(FADES).max(Duration::from_millis(33)));
        (notices.collect(), next)
    }
}

/// How visible something is that has that much time left.
pub(crate) fn opacity(left: Duration) -> f32 {
    (left.as_secs_f32() / FADES.as_secs_f32()).min(1.0)
}

pub(super) fn show(context: &egui::Context, state: &HudState, below_bar: f32) {
    time(context, state, below_bar);
    let width = context.content_rect().width() - 2.0 * MARGIN;
    let area = Area::new(Id::unique("notices"))
        .order(egui::Order::Tooltip)
        .anchor(Align2::CENTER_BOTTOM, Vec2::new(0.0, -MARGIN))
        .interactable(false);
    area.show(context, |ui| {
        ui.set_max_width(width.min(520.0));
        ui.with_layout(egui::Layout::top_down(egui::Align::Center), |ui| {
            for notice in state.notices {
                ui.scope(|ui| {
                    ui.set_opacity(notice.opacity);
                    message(ui, notice);
                });
            }
            if state.hint > 0.0 && state.page.is_none() {
                ui.scope(|ui| {
                    ui.set_opacity(state.hint);
                    hint(ui, width);
                });
            }
        });
    });
}

fn message(ui: &mut egui::Ui, notice: &Notice) {
    let symbol_width = if notice.warning { 22.0 } else { 0.0 };
    let most = ui.available_width() - 18.0 - symbol_width;
    let font = TextStyle::Body.resolve(ui.style());
    let galley = ui.painter().layout(notice.text.clone(), font, TEXT, most);
    shade().show(ui, |ui| {
        // As wide as its text, or the box would be as wide as the window.
        ui.set_max_width(galley.size().x + symbol_width);
        ui.horizontal(|ui| {
            if notice.warning {
                symbol(ui, Symbol::Warning, 14.0);
            }
            ui.label(galley);
        });
    });
}

/// What the first seconds say.
fn hint(ui: &mut egui::Ui, width: f32) {
    let text = match width {
        width if width > 380.0 => "F1 help     F4 settings     F7 worlds     Esc quit",
        width if width > 240.0 => "F1 help     F4 settings",
        _ => "F1 help",
    };
    shade().show(ui, |ui| ui.label(RichText::new(text).color(TEXT)));
}

/// Pause, rewind, playing by itself and, while the bar is hidden, recording: a symbol in the upper right corner.
fn time(context: &egui::Context, state: &HudState, below_bar: f32) {
    let view = state.view;
    let roomy = context.content_rect().width() > 240.0;
    let mut said = Vec::new();
    if view.recording.is_some() && !state.bar {
        said.push((Symbol::Record, "REC"));
    }
    if view.rewinding {
        said.push((Symbol::Rewind, "rewind"));
    } else if view.paused {
        said.push((Symbol::Pause, "paused"));
    } else if view.attract {
        said.push((Symbol::Play, "plays by itself"));
    }
    // A page that is open has the corner; the bar tells of the rest.
    if said.is_empty() || state.page.is_some() {
        return;
    }
    let area = Area::new(Id::unique("time"))
        .anchor(Align2::RIGHT_TOP, Vec2::new(-MARGIN, MARGIN + below_bar))
        .interactable(false);
    area.show(context, |ui| {
        shade().show(ui, |ui| {
            ui.horizontal(|ui| {
                for (drawn, word) in said {
                    symbol(ui, drawn, 15.0);
                    if roomy {
                        ui.label(quiet(word));
                    }
                }
            });
        });
    });
}
