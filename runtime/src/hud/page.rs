//! The box that every page is in.

use super::HudAction;
use super::style::{BEHIND, QUIET};
use egui::{
    Align, Align2, Area, Button, CornerRadius, Frame, Id, Layout, Margin, Order, Rangef,
    ScrollArea, Ui, Vec2,
};

/// Distance from the window's edge and from the bar.
const MARGIN: f32 = 8.0;

/// Where a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the middle, from side to side.
    Middle,
    /// At its right side, so that the picture stays in view.
    Side,
}

/// Shows a page of at most `width` points in that room, with its title and a way to close it. What has no room is scrolled to.
pub(super) fn show(
    context: &egui::Context,
    title: &str,
    place: Place,
    width: f32,
    room: Rangef,
    actions: &mut Vec<HudAction>,
    contents: impl FnOnce(&mut Ui, &mut Vec<HudAction>),
) {
    let window = context.content_rect();
    let margin = Margin::symmetric(12, 9);
    let around = 2.0 * MARGIN + margin.sum().x;
    let width = width.min(window.width() - around).max(60.0);
    let height = (room.span() - 2.0 * MARGIN - margin.sum().y).max(60.0);
    // Always from the same height on, so that nothing moves under the pointer when a message comes or goes.
    let down = room.min + MARGIN;
    let (align, offset) = match place {
        Place::Middle => (Align2::CENTER_TOP, Vec2::new(0.0, down)),
        Place::Side => (Align2::RIGHT_TOP, Vec2::new(-MARGIN, down)),
    };
    let area = Area::new(Id::unique(title))
        .order(Order::Foreground)
        .anchor(align, offset);
    let frame = Frame {
        inner_margin: margin,
        fill: BEHIND,
        corner_radius: CornerRadius::same(9),
        ..Frame::NONE
    };
    area.show(context, |ui| {
        frame.show(ui, |ui| {
            ui.set_width(width);
            ui.set_max_height(height);
            ui.horizontal(|ui| {
                ui.add(egui::Label::new(egui::RichText::new(title).heading()).truncate());
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    let close = Button::new(egui::RichText::new("Close").color(QUIET)).frame(false);
                    if ui.add(close).clicked() {
                        actions.push(HudAction::Open(None));
                    }
                });
            });
            ui.add_space(2.0);
            ScrollArea::vertical()
                .auto_shrink([false, true])
                .show(ui, |ui| {
                    contents(ui, actions);
                });
        });
    });
}
