//! What is said for a while: messages, the hint of the first seconds, and the state that time is in.

use super::HudState;
use super::style::{BEHIND, TEXT, quiet, shade};
use super::symbols::{Symbol, shapes, show as symbol};
use egui::{Align2, Area, Id, Rangef, Rect, TextStyle, Vec2};
use std::time::{Duration, Instant};

/// How long a message stays, and the part of it in which it fades.
const LASTS: Duration = Duration::from_secs(5);
const FADES: Duration = Duration::from_millis(600);
/// Most messages at once.
const MOST: usize = 3;
/// Height below which a window is small, in points.
const SMALL: f32 = 320.0;
/// Height that a page is left, in points.
const LEAST_PAGE: f32 = 160.0;
/// How long a machine must be too slow before that is said, and how long passes before it is said again.
const SLOW_AFTER: Duration = Duration::from_secs(3);
const SLOW_AGAIN: Duration = Duration::from_secs(120);
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

#[derive(Clone, Debug)]
struct Message {
    since: Instant,
    text: String,
    warning: bool,
    /// What it is about, where a newer message about the same takes its place.
    topic: Option<&'static str>,
}

/// Messages and when they came. Time is always given from outside.
#[derive(Clone, Debug, Default)]
pub struct Notices {
    messages: Vec<Message>,
    slow_since: Option<Instant>,
    told_slow: Option<Instant>,
}

impl Notices {
    /// Says something.
    pub fn say(&mut self, text: impl Into<String>, now: Instant) {
        self.push(text.into(), false, now);
    }

    /// Says how something is now, in place of what was said about the same topic before.
    pub fn tell(&mut self, topic: &'static str, text: impl Into<String>, now: Instant) {
        self.messages.retain(|message| message.topic != Some(topic));
        self.push(text.into(), false, now);
        if let Some(message) = self.messages.last_mut() {
            message.topic = Some(topic);
        }
    }

    /// Says something to worry about.
    pub fn warn(&mut self, text: impl Into<String>, now: Instant) {
        self.push(text.into(), true, now);
    }

    fn push(&mut self, text: String, warning: bool, now: Instant) {
        self.messages.retain(|message| message.text != text);
        self.messages.push(Message {
            since: now,
            text,
            warning,
            topic: None,
        });
        let surplus = self.messages.len().saturating_sub(MOST);
        self.messages.drain(..surplus);
    }

    /// Takes in whether the machine keeps up: `reached` of `wanted` frames in a second. Says so once it has not for a while.
    pub fn pace(&mut self, slow: bool, reached: f64, wanted: f64, now: Instant) {
        if !slow {
            self.slow_since = None;
            return;
        }
        let past = |since: Instant| now.saturating_duration_since(since);
        let lasts = past(*self.slow_since.get_or_insert(now)) >= SLOW_AFTER;
        let told = self.told_slow.is_some_and(|told| past(told) < SLOW_AGAIN);
        if lasts && !told {
            self.told_slow = Some(now);
            let text = format!("this machine makes {reached:.0} of {wanted:.0} frames a second");
            self.warn(text, now);
        }
    }

    /// What is to be shown at that time, oldest first, and after which time that changes, if it does.
    pub fn at(&mut self, now: Instant) -> (Vec<Notice>, Option<Duration>) {
        let left =
            |message: &Message| LASTS.saturating_sub(now.saturating_duration_since(message.since));
        self.messages.retain(|message| !left(message).is_zero());
        let notices = self.messages.iter().map(|message| Notice {
            text: message.text.clone(),
            warning: message.warning,
            opacity: opacity(left(message)),
        });
        let next = self.messages.iter().map(left).min();
        let next = next.map(|left| left.saturating_sub(FADES).max(Duration::from_millis(33)));
        (notices.collect(), next)
    }
}

/// How visible something is that has that much time left.
pub(crate) fn opacity(left: Duration) -> f32 {
    (left.as_secs_f32() / FADES.as_secs_f32()).min(1.0)
}

/// Shows what is said, upwards from `bottom`; returns how far up it reaches.
pub(super) fn show(context: &egui::Context, state: &HudState, below_bar: f32, bottom: f32) -> f32 {
    let mut top = time(context, state, below_bar);
    if state.page.is_some() {
        top += LEAST_PAGE;
    }
    let window = context.content_rect();
    let mut bottom = bottom - MARGIN;
    if state.hint > 0.0 && state.page.is_none() {
        let most = match window.width() {
            width if width > 380.0 => 4,
            width if width > 240.0 => 2,
            _ => 1,
        };
        let hints = state.hints.get(..most).unwrap_or(state.hints);
        if !hints.is_empty() {
            let room = Rangef::new(f32::NEG_INFINITY, bottom);
            bottom = message(context, (&hints.join("     "), None), state.hint, room);
        }
    }
    // A small window has no room for more than the newest.
    let most = if window.height() < SMALL { 1 } else { MOST };
    for (age, notice) in state.notices.iter().rev().take(most).enumerate() {
        let drawn = notice.warning.then_some(Symbol::Warning);
        // The newest is told whatever is in its way, those before it where there is room.
        let room = match age {
            0 => Rangef::new(f32::NEG_INFINITY, bottom),
            _ => Rangef::new(top, bottom),
        };
        bottom = message(context, (&notice.text, drawn), notice.opacity, room);
    }
    bottom
}

/// Paints a message, perhaps with a symbol before it, in the middle at the lower end of `room`, if it fits; returns where the next one up may end.
fn message(
    context: &egui::Context,
    (text, drawn): (&str, Option<Symbol>),
    opacity: f32,
    room: Rangef,
) -> f32 {
    const PADDING: Vec2 = Vec2::new(10.0, 6.0);
    const SYMBOL: f32 = 14.0;
    let window = context.content_rect();
    let layer = egui::LayerId::new(egui::Order::Tooltip, Id::unique("notices"));
    let mut painter = context.layer_painter(layer);
    painter.set_opacity(opacity);
    let symbol_width = if drawn.is_some() { SYMBOL + 7.0 } else { 0.0 };
    let font = TextStyle::Body.resolve(&context.global_style());
    let most = (window.width() - 2.0 * (MARGIN + PADDING.x) - symbol_width).clamp(40.0, 500.0);
    let galley = painter.layout(text.to_owned(), font, TEXT, most);
    let size = galley.size() + Vec2::new(symbol_width, 0.0) + 2.0 * PADDING;
    if size.y > room.span() {
        return room.max;
    }
    let corner = egui::pos2(window.center().x - size.x * 0.5, room.max - size.y);
    let place = Rect::from_min_size(corner, size);
    painter.rect_filled(place, 7, BEHIND);
    let inner = place.shrink2(PADDING);
    if let Some(drawn) = drawn {
        let at = egui::pos2(inner.left(), inner.top() + 2.0);
        painter.extend(shapes(drawn, Rect::from_min_size(at, Vec2::splat(SYMBOL))));
    }
    painter.galley(inner.min + Vec2::new(symbol_width, 0.0), galley, TEXT);
    place.top() - 5.0
}

/// Pause, rewind, playing by itself and, while the bar is hidden, recording: a symbol in the upper right corner. Returns how far down it reaches.
fn time(context: &egui::Context, state: &HudState, below_bar: f32) -> f32 {
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
    } else if view.replay.is_some() {
        said.push((Symbol::Play, "recording"));
    } else if view.attract {
        said.push((Symbol::Play, "plays by itself"));
    }
    // A page that is open has the corner; the bar tells of the rest.
    if said.is_empty() || state.page.is_some() {
        return below_bar;
    }
    let area = Area::new(Id::unique("time"))
        .anchor(Align2::RIGHT_TOP, Vec2::new(-MARGIN, MARGIN + below_bar))
        .interactable(false);
    let shown = area.show(context, |ui| {
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
    shown.response.rect.bottom()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(notices: &mut Notices, now: Instant) -> Vec<String> {
        let shown = notices.at(now).0.into_iter();
        shown.map(|notice| notice.text).collect()
    }

    #[test]
    fn messages_fade_and_go_and_the_newest_are_kept() {
        let start = Instant::now();
        let after = |seconds: f32| start + Duration::from_secs_f32(seconds);
        let mut notices = Notices::default();
        assert_eq!(notices.at(start), (Vec::new(), None));
        notices.say("one", start);
        notices.warn("two", after(1.0));
        let (shown, next) = notices.at(after(1.0));
        assert_eq!(shown[1].opacity, 1.0);
        assert!(shown[1].warning && !shown[0].warning);
        assert_eq!(next, Some(Duration::from_millis(3400)));
        assert!((notices.at(after(4.7)).0[0].opacity - 0.5).abs() < 0.01);
        assert_eq!(texts(&mut notices, after(5.1)), ["two"]);
        assert!(texts(&mut notices, after(6.1)).is_empty());
        for text in ["a", "b", "c", "d", "b"] {
            notices.say(text, after(7.0));
        }
        assert_eq!(texts(&mut notices, after(7.0)), ["c", "d", "b"]);
    }

    #[test]
    fn of_one_topic_only_the_newest_is_said() {
        let now = Instant::now();
        let mut notices = Notices::default();
        notices.tell("look", "look: sharp", now);
        notices.say("saved", now);
        notices.tell("look", "look: CRT", now);
        assert_eq!(texts(&mut notices, now), ["saved", "look: CRT"]);
    }

    #[test]
    fn a_slow_machine_is_told_of_once_it_has_been_slow_for_a_while() {
        let start = Instant::now();
        let mut notices = Notices::default();
        let mut said_at = |second: u64, slow: bool| {
            let now = start + Duration::from_secs(second);
            notices.pace(slow, 12.2, 15.0, now);
            texts(&mut notices, now)
        };
        let said = ["this machine makes 12 of 15 frames a second"];
        assert!(said_at(0, true).is_empty());
        assert!(said_at(2, false).is_empty());
        assert!(said_at(3, true).is_empty());
        assert!(said_at(5, true).is_empty());
        assert_eq!(said_at(6, true), said);
        assert!(said_at(20, true).is_empty(), "once is enough for a while");
        assert!(said_at(130, false).is_empty());
        assert!(said_at(131, true).is_empty());
        assert_eq!(said_at(134, true), said);
    }
}
