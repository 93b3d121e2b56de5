//! The page of keys.

use super::page::{Place, show as page};
use super::style::{ROOMY, key, quiet};
use super::{HudAction, HudState, KeyLine, action_name};
use egui::{Align, Layout, Ui, Vec2};
use nn::ActionCode;

pub(super) fn show(
    context: &egui::Context,
    state: &HudState,
    room: egui::Rangef,
    actions: &mut Vec<HudAction>,
) {
    page(
        context,
        "Help",
        Place::Middle,
        470.0,
        room,
        actions,
        |ui, _| {
            ui.label(quiet(format!("Actions of {}", state.manifest.name)));
            let bound = (0u16..).map(ActionCode).zip(state.action_keys);
            for (code, keys) in bound.filter(|(_, keys)| !keys.is_empty()) {
                let what = action_name(state, code);
                line(
                    ui,
                    &KeyLine {
                        keys: keys.clone(),
                        what,
                    },
                );
            }
            ui.add_space(6.0);
            ui.label(quiet("Commands"));
            for command in state.commands {
                line(ui, command);
            }
        },
    );
}

/// What a line's keys do, and the keys to the right of it, or below where there is little room.
fn line(ui: &mut Ui, line: &KeyLine) {
    let keys = |ui: &mut Ui| {
        ui.spacing_mut().item_spacing = Vec2::new(4.0, 3.0);
        for name in &line.keys {
            key(ui, name);
        }
    };
    if ui.available_width() < ROOMY - 80.0 {
        ui.label(&line.what);
        ui.horizontal_wrapped(keys);
        return;
    }
    ui.horizontal_top(|ui| {
        let half = ui.available_width() * 0.38;
        ui.allocate_ui_with_layout(Vec2::new(half, 20.0), Layout::top_down(Align::Min), |ui| {
            ui.set_min_width(half);
            ui.add_space(2.0);
            ui.add(egui::Label::new(&line.what).wrap());
        });
        ui.horizontal_wrapped(keys);
    });
}
