//! The bar: how fast, what was wished and what came of it, from which seed, and whether it is recorded.

use super::style::{QUIET, SKY, TEXT, VERMILLION, quiet, shade};
use super::symbols::{Symbol, show as symbol};
use super::{HudState, action_name};
use egui::{
    Align, Align2, Area, Id, Label, Layout, Rect, RichText, Sense, Stroke, StrokeKind, TextStyle,
    Ui, Vec2,
};

/// Distance from the window's edge.
const MARGIN: f32 = 6.0;
/// Widths from which there is room for the graph, wish and code, and the seed, beside what is told before them.
const WITH_GRAPH: f32 = 430.0;
const WITH_ACTIONS: f32 = 250.0;
const WITH_SEED: f32 = 560.0;

/// Shows the bar; returns how far down it reaches.
pub(super) fn show(context: &egui::Context, state: &HudState) -> f32 {
    let width = context.content_rect().width();
    let area = Area::new(Id::unique("bar"))
        .anchor(Align2::LEFT_TOP, Vec2::splat(MARGIN))
        .interactable(false);
    let shown = area.show(context, |ui| {
        ui.set_max_width(width - 2.0 * MARGIN);
        shade().show(ui, |ui| ui.horizontal(|ui| contents(ui, state, width)));
    });
    shown.response.rect.bottom()
}

fn contents(ui: &mut Ui, state: &HudState, mut width: f32) {
    ui.spacing_mut().item_spacing.x = 7.0;
    let view = state.view;
    if view.recording.is_some() {
        symbol(ui, Symbol::Record, 14.0);
        width -= 21.0;
        if width >= WITH_ACTIONS {
            ui.label(RichText::new("REC").color(TEXT));
            width -= 36.0;
        }
    }
    if view.slow {
        symbol(ui, Symbol::Warning, 14.0);
        width -= 21.0;
    }
    let own = state.manifest.frames_per_second;
    let rate = match view.frames_per_second {
        rate if rate > 0.0 => format!("{rate:.0}"),
        _ => "–".to_owned(),
    };
    text_place(ui, 18.0, Side::Right, RichText::new(rate).color(TEXT));
    ui.label(quiet(format!("of {:.0} fps", own * view.speed)));
    if width >= WITH_GRAPH {
        graph(ui, &view.graph, 1000.0 / (own * view.speed).max(1e-3));
    }
    if width >= WITH_ACTIONS {
        actions(ui, state, width);
    }
    if width >= WITH_SEED {
        ui.label(quiet("seed"));
        ui.label(format!("{}", view.settings.seed));
    }
}

/// The wish and the code that came of it. Each has a place of its own width, so that nothing jumps about.
fn actions(ui: &mut Ui, state: &HudState, width: f32) {
    let names = |codes: &[nn::ActionCode]| match codes {
        [] => "–".to_owned(),
        codes => {
            let names: Vec<_> = codes.iter().map(|&code| action_name(state, code)).collect();
            names.join(" + ")
        }
    };
    // What is left for the two of them.
    let taken = match width {
        width if width >= WITH_SEED => 375.0,
        width if width >= WITH_GRAPH => 295.0,
        _ => 160.0,
    };
    let each = ((width - taken) * 0.5).clamp(44.0, 150.0);
    let wished = RichText::new(names(state.view.wish.codes())).color(QUIET);
    let became = RichText::new(names(state.view.code.as_slice())).color(TEXT);
    text_place(ui, each, Side::Right, wished);
    symbol(ui, Symbol::Arrow, 14.0);
    text_place(ui, each, Side::Left, became);
}

/// At which side of its place a text begins or ends.
#[derive(Clone, Copy, Debug)]
enum Side {
    Left,
    Right,
}

/// Text in a place of its own width, cut where it is longer.
fn text_place(ui: &mut Ui, width: f32, side: Side, text: RichText) {
    let layout = match side {
        Side::Left => Layout::left_to_right(Align::Center),
        Side::Right => Layout::right_to_left(Align::Center),
    };
    ui.allocate_ui_with_layout(Vec2::new(width, 18.0), layout, |ui| {
        ui.set_min_width(width);
        ui.add(Label::new(text).truncate());
    });
}

/// The time of each of the newest frames as a bar, and a line at what each may take. What takes longer reaches over the line.
fn graph(ui: &mut Ui, times: &[f32], allowed: f64) {
    const BARS: usize = 40;
    let (place, _) = ui.allocate_exact_size(Vec2::new(2.0 * BARS as f32, 20.0), Sense::hover());
    let painter = ui.painter_at(place.expand(1.0));
    painter.rect_stroke(
        place,
        2,
        Stroke::new(1.0, QUIET.gamma_multiply(0.4)),
        StrokeKind::Outside,
    );
    let newest = &times[times.len().saturating_sub(BARS)..];
    let allowed = allowed as f32;
    // The line is at two thirds of the height.
    let height = |time: f32| (time / allowed * place.height() / 1.5).clamp(1.0, place.height());
    let left = place.right() - 2.0 * newest.len() as f32;
    for (index, &time) in newest.iter().enumerate() {
        let x = left + 2.0 * index as f32;
        let bar = Rect::from_min_max(
            egui::pos2(x, place.bottom() - height(time)),
            egui::pos2(x + 1.5, place.bottom()),
        );
        let colour = if time > allowed { VERMILLION } else { SKY };
        painter.rect_filled(bar, 0, colour);
    }
    let y = place.bottom() - height(allowed);
    painter.hline(place.x_range(), y, Stroke::new(1.0, TEXT));
    let millisecond = newest.last().copied().unwrap_or_default();
    let text = RichText::new(format!("{millisecond:.0} ms"))
        .text_style(TextStyle::Small)
        .color(QUIET);
    text_place(ui, 44.0, Side::Right, text);
}
