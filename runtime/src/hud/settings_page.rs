//! The page of settings: picture, world, sound. It stands at the side, so that what changes is seen.

use super::page::{Place, show as page};
use super::style::{QUIET, TEXT, quiet};
use super::{HudAction, HudState};
use crate::frame_loop::Command;
use crate::settings::Filter;
use egui::{Align, Button, Label, Layout, RichText, Slider, SliderClamping, Ui};
use worlds::{RolloutSettings, Strength};

/// How looks are called.
const LOOKS: [(Filter, &str); 3] = [
    (Filter::Integer, "Pixels"),
    (Filter::Sharp, "Sharp"),
    (Filter::Crt, "CRT"),
];
/// Ranges that the sliders offer; files and arguments may go beyond them.
const TEMPERATURES: std::ops::RangeInclusive<f32> = 0.0..=2.0;
const STRENGTHS: std::ops::RangeInclusive<f32> = 0.0..=12.0;
const SPEEDS: std::ops::RangeInclusive<f64> = 0.25..=4.0;

pub(super) fn show(
    context: &egui::Context,
    state: &HudState,
    room: egui::Rangef,
    actions: &mut Vec<HudAction>,
) {
    page(
        context,
        "Settings",
        Place::Side,
        250.0,
        room,
        actions,
        |ui, actions| {
            // Room for the scroll bar.
            ui.spacing_mut().slider_width = ui.available_width() - 12.0;
            picture(ui, state, actions);
            ui.add_space(4.0);
            world(ui, state, actions);
            if state.sound {
                ui.add_space(4.0);
                sound(ui, state, actions);
            }
        },
    );
}

fn picture(ui: &mut Ui, state: &HudState, actions: &mut Vec<HudAction>) {
    ui.label(quiet("Picture"));
    ui.horizontal_wrapped(|ui| {
        for (filter, name) in LOOKS {
            let chosen = state.settings.filter == filter;
            // The chosen one is told by its shape, too: it is framed, and underlined.
            let text = RichText::new(name);
            let text = if chosen {
                text.underline().strong()
            } else {
                text
            };
            if ui
                .add(Button::selectable(chosen, text).frame_when_inactive(true))
                .clicked()
            {
                actions.push(HudAction::Filter(filter));
            }
        }
    });
    let mut fullscreen = state.fullscreen;
    if ui.checkbox(&mut fullscreen, "Fill the screen").changed() {
        actions.push(HudAction::Fullscreen(fullscreen));
    }
}

fn world(ui: &mut Ui, state: &HudState, actions: &mut Vec<HudAction>) {
    let view = state.view;
    let own = RolloutSettings::of(state.manifest, view.settings.seed);
    let mut wanted = view.settings;
    wanted.sampler.steps = view.wanted_steps;
    let before = wanted;
    ui.horizontal(|ui| {
        ui.label(quiet("World"));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let button = Button::new(RichText::new("Reset").color(QUIET).small()).frame(false);
            if ui
                .add_enabled(wanted != own || view.speed != 1.0, button)
                .clicked()
            {
                wanted = own;
                actions.push(HudAction::World(Command::Speed(1.0)));
            }
        });
    });
    strength(ui, &mut wanted.strength, own.strength);
    let temperature = format!("{:.2}", wanted.sampler.temperature);
    let slider = Slider::new(&mut wanted.sampler.temperature, TEMPERATURES).step_by(0.05);
    labelled(ui, "Temperature", &temperature, slider);
    steps(ui, state, &mut wanted, actions);
    let mut speed = view.speed;
    let slider = Slider::new(&mut speed, SPEEDS)
        .logarithmic(true)
        .step_by(0.05);
    if labelled(ui, "Speed", &format!("{:.2} x", view.speed), slider) {
        actions.push(HudAction::World(Command::Speed(speed)));
    }
    if wanted != before {
        actions.push(HudAction::World(Command::Change(wanted)));
    }
}

fn strength(ui: &mut Ui, strength: &mut Strength, own: Strength) {
    let mut order = *strength == Strength::Order;
    let mut nats = match (*strength, own) {
        (Strength::Wish(nats), _) | (Strength::Order, Strength::Wish(nats)) => nats,
        (Strength::Order, Strength::Order) => *STRENGTHS.end() * 0.5,
    };
    let value = match order {
        true => "orders".to_owned(),
        false => format!("{nats:.1}"),
    };
    let slider = Slider::new(&mut nats, STRENGTHS).step_by(0.1);
    let moved = ui
        .add_enabled_ui(!order, |ui| {
            labelled(ui, "Strength of wishes", &value, slider)
        })
        .inner;
    let ordered = ui.checkbox(&mut order, "Wishes are orders").changed();
    if moved || ordered {
        *strength = match order {
            true => Strength::Order,
            false => Strength::Wish(nats),
        };
    }
}

fn steps(
    ui: &mut Ui,
    state: &HudState,
    wanted: &mut RolloutSettings,
    actions: &mut Vec<HudAction>,
) {
    let made = state.view.settings.sampler.steps;
    let range = state.manifest.maskgit_steps;
    let value = match made == wanted.sampler.steps {
        true => made.to_string(),
        false => format!("{} (now {made})", wanted.sampler.steps),
    };
    let slider = Slider::new(&mut wanted.sampler.steps, range.least..=range.most);
    labelled(ui, "MaskGIT steps", &value, slider);
    let mut adaptive = state.settings.adaptive_steps;
    if ui
        .checkbox(&mut adaptive, "Fewer where it is slow")
        .changed()
    {
        actions.push(HudAction::World(Command::AdaptiveSteps(adaptive)));
    }
}

fn sound(ui: &mut Ui, state: &HudState, actions: &mut Vec<HudAction>) {
    ui.label(quiet("Sound"));
    let mut volume = state.settings.volume;
    let value = format!("{:.0} %", volume * 100.0);
    let slider = Slider::new(&mut volume, 0.0..=1.0).step_by(0.01);
    if labelled(ui, "Volume", &value, slider) {
        actions.push(HudAction::Volume(volume));
    }
    let mut mute = state.settings.mute;
    if ui.checkbox(&mut mute, "Mute").changed() {
        actions.push(HudAction::Mute(mute));
    }
}

/// A slider below its name and value; whether it was moved.
fn labelled(ui: &mut Ui, name: &str, value: &str, slider: Slider<'_>) -> bool {
    ui.horizontal(|ui| {
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            ui.add_space(12.0);
            ui.label(RichText::new(value).color(TEXT));
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                ui.add(Label::new(RichText::new(name).color(TEXT)).truncate());
            });
        });
    });
    // What lies beyond a slider's ends or between its steps stays as it is until the player moves it.
    let slider = slider.clamping(SliderClamping::Edits);
    let response = ui.add(slider.show_value(false));
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Slider, true, name));
    response.changed()
}
