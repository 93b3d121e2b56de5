//! The page where worlds and prompts are chosen.

use super::actions_page::{image, shape};
use super::page::{Place, show as page};
use super::style::{QUIET, SKY, TEXT, quiet};
use super::symbols::{Symbol, show as symbol};
use super::{HudAction, HudState, WorldCard};
use egui::{Button, CornerRadius, Frame, Margin, RichText, Sense, Stroke, StrokeKind, Ui};

/// Side of a picture.
const SIDE: f32 = 88.0;
/// Width of a world's card: the picture, and what frames it.
const CARD: f32 = SIDE + 13.0;

pub(super) fn show(
    context: &egui::Context,
    state: &HudState,
    room: egui::Rangef,
    actions: &mut Vec<HudAction>,
) {
    let title = match state.worlds.is_empty() {
        true => "Prompts",
        false => "Worlds",
    };
    page(
        context,
        title,
        Place::Middle,
        460.0,
        room,
        actions,
        |ui, actions| {
            if !state.worlds.is_empty() {
                rows(ui, state.worlds, CARD, |ui, index, world| {
                    if card(ui, index, world) {
                        actions.push(HudAction::ChooseWorld(index));
                    }
                });
                ui.add_space(6.0);
            }
            ui.label(quiet(format!("Start {} from", state.manifest.name)));
            let widest = state.prompts.iter().map(|prompt| shape(prompt) * SIDE);
            let width = widest.fold(SIDE, f32::max);
            rows(ui, state.prompts, width, |ui, index, prompt| {
                let response = image(ui, ("prompt", index), prompt, SIDE);
                if pressable(ui, response, &format!("prompt {}", index + 1)) {
                    actions.push(HudAction::ChoosePrompt(index));
                }
            });
        },
    );
}

/// Shows things of at most `width` in as many columns as there is room for.
fn rows<T>(ui: &mut Ui, things: &[T], width: f32, mut show: impl FnMut(&mut Ui, usize, &T)) {
    let gap = ui.spacing().item_spacing.x;
    let columns = ((ui.available_width() + gap) / (width + gap)).max(1.0) as usize;
    for (row, things) in things.chunks(columns).enumerate() {
        ui.horizontal_top(|ui| {
            for (column, thing) in things.iter().enumerate() {
                show(ui, row * columns + column, thing);
            }
        });
    }
}

/// A world's picture and name; whether it was chosen.
fn card(ui: &mut Ui, index: usize, world: &WorldCard) -> bool {
    let frame = Frame {
        inner_margin: Margin::same(5),
        corner_radius: CornerRadius::same(6),
        stroke: Stroke::new(
            1.5,
            if world.played {
                SKY
            } else {
                QUIET.gamma_multiply(0.25)
            },
        ),
        ..Frame::NONE
    };
    let shown = frame.show(ui, |ui| {
        ui.vertical(|ui| {
            ui.set_width(SIDE);
            let mut chosen = false;
            if let Some(picture) = &world.picture {
                let response = image(
                    ui,
                    ("world", index),
                    picture,
                    SIDE / shape(picture).max(1.0),
                );
                chosen |= pressable(ui, response, &world.name);
            }
            ui.horizontal(|ui| {
                if world.played {
                    symbol(ui, Symbol::Tick, 13.0);
                }
                let name = RichText::new(&world.name).color(TEXT);
                chosen |= ui.add(Button::new(name).frame(false).truncate()).clicked();
            });
            chosen
        })
        .inner
    });
    shown.inner
}

/// Makes a picture one that can be pressed, called `name` where pictures are read aloud.
fn pressable(ui: &Ui, picture: egui::Response, name: &str) -> bool {
    let pressed = picture.interact(Sense::click());
    pressed.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, true, name));
    if pressed.hovered() || pressed.has_focus() {
        let edge = pressed.rect.expand(1.0);
        ui.painter()
            .rect_stroke(edge, 4, Stroke::new(2.0, SKY), StrokeKind::Outside);
    }
    pressed.clicked()
}
