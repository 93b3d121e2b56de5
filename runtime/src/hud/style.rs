//! Colours, sizes and the way that text looks.

use egui::{
    Color32, CornerRadius, FontFamily, FontId, Frame, Margin, Shadow, Stroke, TextStyle,
    TextWrapMode, WidgetAtom,
};

// The colours of Okabe and Ito.
pub(super) const SKY: Color32 = Color32::from_rgb(0x56, 0xb4, 0xe9);
pub(super) const ORANGE: Color32 = Color32::from_rgb(0xe6, 0x9f, 0x00);
pub(super) const VERMILLION: Color32 = Color32::from_rgb(0xd5, 0x5e, 0x00);

/// Ordinary text.
pub(super) const TEXT: Color32 = Color32::from_rgb(0xf2, 0xf2, 0xf2);
/// Text of less weight.
pub(super) const QUIET: Color32 = Color32::from_rgb(0xb8, 0xbc, 0xc4);
/// What lies behind text: dark enough for it on any picture.
pub(super) const BEHIND: Color32 = Color32::from_rgba_premultiplied(9, 10, 13, 236);
/// Behind what can be pressed.
const RAISED: Color32 = Color32::from_rgb(0x30, 0x34, 0x3c);
const RAISED_MORE: Color32 = Color32::from_rgb(0x42, 0x48, 0x54);

/// Width from which there is room for more than the most needed, in points.
pub(super) const ROOMY: f32 = 340.0;

/// Makes an egui context look like the HUD.
pub fn set_style(context: &egui::Context) {
    context.set_theme(egui::Theme::Dark);
    context.all_styles_mut(|style| {
        style.text_styles = [
            (TextStyle::Heading, 18.0),
            (TextStyle::Body, 14.5),
            (TextStyle::Button, 14.5),
            (TextStyle::Small, 12.5),
        ]
        .into_iter()
        .map(|(style, size)| (style, FontId::new(size, FontFamily::Proportional)))
        .chain([(
            TextStyle::Monospace,
            FontId::new(13.0, FontFamily::Monospace),
        )])
        .collect();
        style.animation_time = 0.0;
        style.interaction.selectable_labels = false;
        style.spacing.item_spacing = egui::vec2(8.0, 6.0);
        style.spacing.button_padding = egui::vec2(8.0, 4.0);
        style.spacing.interact_size.y = 24.0;
        style.spacing.slider_rail_height = 6.0;
        style.spacing.scroll = egui::style::ScrollStyle::solid();
        let visuals = &mut style.visuals;
        visuals.override_text_color = None;
        visuals.selection.bg_fill = SKY;
        visuals.selection.stroke = Stroke::new(1.5, Color32::BLACK);
        visuals.slider_trailing_fill = true;
        let widgets = &mut visuals.widgets;
        widgets.noninteractive.fg_stroke = Stroke::new(1.0, TEXT);
        for (widget, fill) in [
            (&mut widgets.inactive, RAISED),
            (&mut widgets.hovered, RAISED_MORE),
            (&mut widgets.active, RAISED_MORE),
            (&mut widgets.open, RAISED_MORE),
        ] {
            widget.bg_fill = fill;
            widget.weak_bg_fill = fill;
            widget.fg_stroke = Stroke::new(1.5, TEXT);
            widget.corner_radius = CornerRadius::same(5);
        }
        widgets.inactive.bg_stroke = Stroke::new(1.0, QUIET.gamma_multiply(0.5));
        widgets.hovered.bg_stroke = Stroke::new(1.0, SKY);
        widgets.active.bg_stroke = Stroke::new(1.0, SKY);
    });
}

/// A dark box with round corners.
pub(super) fn shade() -> Frame {
    Frame {
        inner_margin: Margin::symmetric(9, 5),
        fill: BEHIND,
        corner_radius: CornerRadius::same(7),
        shadow: Shadow::NONE,
        ..Frame::NONE
    }
}

/// A key as it looks on a keyboard. Its size is known before its place, so that a row that is full goes on below.
pub(super) fn key(ui: &mut egui::Ui, name: &str) {
    let text = egui::RichText::new(name)
        .text_style(TextStyle::Small)
        .color(TEXT);
    let frame = Frame {
        inner_margin: Margin::symmetric(6, 2),
        fill: RAISED,
        stroke: Stroke::new(1.0, RAISED_MORE),
        corner_radius: CornerRadius::same(4),
        ..Frame::NONE
    };
    WidgetAtom::new(text)
        .frame(frame)
        .wrap_mode(TextWrapMode::Extend)
        .show(ui);
}

/// Text of less weight.
pub(super) fn quiet(text: impl Into<String>) -> egui::RichText {
    egui::RichText::new(text)
        .text_style(TextStyle::Small)
        .color(QUIET)
}
