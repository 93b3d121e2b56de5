//! The page that answers what a button does: each action code with its name, its keys and a picture of what it does. What is wished for
//! now and what came of it are marked, so that pressing a key shows what it is.

use super::page::{Place, show as page};
use super::style::{QUIET, SKY, TEXT, key, quiet};
use super::symbols::{Symbol, show as symbol};
use super::{HudAction, HudState, Thumbnail, action_name};
use egui::{CornerRadius, Frame, Image, Margin, RichText, Stroke, TextureOptions, Ui, Vec2};
use nn::ActionCode;

/// Side of a picture.
const SIDE: f32 = 64.0;

pub(super) fn show(
    context: &egui::Context,
    state: &HudState,
    room: egui::Rangef,
    actions: &mut Vec<HudAction>,
) {
    page(
        context,
        "Actions",
        Place::Side,
        300.0,
        room,
        actions,
        |ui, actions| {
            let text = "Press keys and buttons to see what they wish for; the arrow marks what came of it.";
            ui.label(quiet(text));
            if state.action_pictures.is_empty() {
                ui.label(quiet("Moving pictures of what they do are being made ..."));
            }
            for index in 0..state.manifest.actions.len() {
                action(ui, state, index, actions);
            }
            if ui
                .small_button("Reset all keys to the world's own")
                .clicked()
            {
                actions.push(HudAction::ResetBindings);
            }
        },
    );
}

fn action(ui: &mut Ui, state: &HudState, index: usize, actions: &mut Vec<HudAction>) {
    let code = ActionCode(index as u16);
    let wished = state.view.wish.codes().contains(&code);
    let frame = Frame {
        inner_margin: Margin::symmetric(6, 4),
        corner_radius: CornerRadius::same(5),
        stroke: Stroke::new(
            1.5,
            if wished {
                SKY
            } else {
                QUIET.gamma_multiply(0.25)
            },
        ),
        ..Frame::NONE
    };
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal(|ui| {
            ui.label(RichText::new(code.to_string()).color(QUIET));
            let name = RichText::new(action_name(state, code)).color(TEXT);
            ui.add(egui::Label::new(name).truncate());
            if state.view.code == Some(code) {
                symbol(ui, Symbol::Arrow, 14.0);
            }
        });
        if let Some(Some(picture)) = state.action_pictures.get(index) {
            let room = ui.available_width() / shape(picture);
            image(ui, ("action", index), picture, room.min(SIDE));
        }
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing = Vec2::new(4.0, 3.0);
            for name in state.action_keys.get(index).into_iter().flatten() {
                key(ui, name);
            }
            bind(ui, state, code, actions);
        });
    });
}

/// The button that binds another key; while it waits for one, a word instead.
fn bind(ui: &mut Ui, state: &HudState, code: ActionCode, actions: &mut Vec<HudAction>) {
    if state.binding == Some(code) {
        ui.label(RichText::new("press a key or button").color(SKY));
        if ui.small_button("cancel").clicked() {
            actions.push(HudAction::Bind(None));
        }
    } else if ui.small_button("bind").clicked() {
        actions.push(HudAction::Bind(Some(code)));
    }
}

/// Shows a picture as high as `side`, its pixels as squares.
pub(super) fn image(
    ui: &mut Ui,
    id: (&'static str, usize),
    picture: &Thumbnail,
    side: f32,
) -> egui::Response {
    let texture = ui.ctx().load_texture_cached(
        id.0,
        egui::Id::unique(id),
        picture.clone(),
        TextureOptions::NEAREST,
    );
    let size = Vec2::new(shape(picture), 1.0) * side;
    ui.add(Image::new((texture.id(), size)).corner_radius(3))
}

/// Width of a picture by its height.
pub(super) fn shape(picture: &Thumbnail) -> f32 {
    let [width, height] = picture.size;
    width as f32 / height.max(1) as f32
}
