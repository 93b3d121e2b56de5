//! How far a recording is that is watched, a way to any place in it, and one to play on from there.

use super::style::{ROOMY, TEXT, key, quiet, shade};
use super::symbols::{Symbol, show as symbol};
use super::{HudAction, HudState};
use crate::frame_loop::{Command, ReplayView};
use egui::{Align, Align2, Area, Id, Layout, RichText, Sense, Slider, Ui};

/// Distance from the window's edge.
const MARGIN: f32 = 6.0;
/// Width from which there is room for all of it side by side.
const WIDE: f32 = 420.0;
/// Room at the right of the slider that the way to play on takes.
const BUTTON: f32 = 150.0;

/// Shows the seek bar at the window's lower edge, if a recording is watched; returns how far up it reaches.
pub(super) fn show(context: &egui::Context, state: &HudState, actions: &mut Vec<HudAction>) -> f32 {
    let window = context.content_rect();
    let Some(replay) = state.view.replay else {
        return window.bottom();
    };
    let area = Area::new(Id::unique("seek bar")).anchor(Align2::LEFT_BOTTOM, [MARGIN, -MARGIN]);
    let shown = area.show(context, |ui| {
        shade().show(ui, |ui| {
            ui.set_width(window.width() - 2.0 * MARGIN - shade().inner_margin.sum().x);
            if window.width() >= WIDE {
                ui.horizontal(|ui| {
                    time(ui, state, replay, actions);
                    let room = ui.available_width() - BUTTON;
                    slider(ui, replay, room, actions);
                    take_over(ui, actions);
                });
                return;
            }
            slider(ui, replay, ui.available_width(), actions);
            if window.width() >= ROOMY {
                ui.horizontal(|ui| {
                    time(ui, state, replay, actions);
                    take_over(ui, actions);
                });
                return;
            }
            ui.horizontal(|ui| time(ui, state, replay, actions));
            ui.horizontal(|ui| take_over(ui, actions));
        });
    });
    shown.response.rect.top()
}

/// What stands still or moves, and the time that has passed of all there is.
fn time(ui: &mut Ui, state: &HudState, replay: ReplayView, actions: &mut Vec<HudAction>) {
    let paused = state.view.paused;
    let drawn = if paused { Symbol::Play } else { Symbol::Pause };
    let place = ui.scope(|ui| symbol(ui, drawn, 15.0)).response;
    let pressed = ui.interact(place.rect.expand(4.0), Id::unique("go on"), Sense::click());
    if pressed.clicked() {
        actions.push(HudAction::World(Command::Pause(!paused)));
    }
    let seconds = |frames: usize| {
        let seconds = frames as f64 / state.manifest.frames_per_second.max(0.1);
        let whole = seconds as u64;
        format!("{}:{:02}", whole / 60, whole % 60)
    };
    ui.label(RichText::new(seconds(replay.position)).color(TEXT));
    ui.label(quiet(format!("of {}", seconds(replay.last))));
}

fn slider(ui: &mut Ui, replay: ReplayView, width: f32, actions: &mut Vec<HudAction>) {
    let mut position = replay.position;
    ui.spacing_mut().slider_width = width.max(40.0);
    let slider = Slider::new(&mut position, 0..=replay.last.max(1)).show_value(false);
    if ui.add_enabled(replay.last > 0, slider).changed() {
        actions.push(HudAction::World(Command::Seek(position)));
    }
}

fn take_over(ui: &mut Ui, actions: &mut Vec<HudAction>) {
    ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        if ui.button("Take over").clicked() {
            actions.push(HudAction::World(Command::TakeOver));
        }
        if ui.available_width() > 44.0 {
            key(ui, "Enter");
        }
    });
}
