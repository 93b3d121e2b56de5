//! Small pictures, drawn: no font has to have them.

use super::style::{ORANGE, SKY, TEXT, VERMILLION};
use egui::{Color32, Pos2, Rect, Sense, Shape, Stroke, Ui, Vec2, pos2};

/// A small picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symbol {
    /// Recording: a disc.
    Record,
    /// Standing still: two bars.
    Pause,
    /// Going back: two triangles to the left.
    Rewind,
    /// Playing by itself: a triangle to the right.
    Play,
    /// Something to know: a triangle that points up, with a mark.
    Warning,
    /// What comes of something: an arrow.
    Arrow,
    /// The chosen one: a tick.
    Tick,
}

/// Shows a symbol in a square with that side.
pub(super) fn show(ui: &mut Ui, symbol: Symbol, side: f32) {
    let (place, _) = ui.allocate_exact_size(Vec2::splat(side), Sense::hover());
    for shape in shapes(symbol, place) {
        ui.painter().add(shape);
    }
}

/// The shapes of a symbol in a square.
pub(super) fn shapes(symbol: Symbol, place: Rect) -> Vec<Shape> {
    let at = |x: f32, y: f32| place.min + Vec2::new(x, y) * place.size();
    let side = place.height();
    let triangle = |points: [Pos2; 3], colour: Color32| {
        Shape::convex_polygon(points.to_vec(), colour, Stroke::NONE)
    };
    let bar =
        |x: f32| Shape::rect_filled(Rect::from_two_pos(at(x, 0.12), at(x + 0.24, 0.88)), 1, TEXT);
    match symbol {
        Symbol::Record => vec![Shape::circle_filled(place.center(), side * 0.4, VERMILLION)],
        Symbol::Pause => vec![bar(0.18), bar(0.58)],
        Symbol::Rewind => vec![
            triangle([at(0.0, 0.5), at(0.5, 0.12), at(0.5, 0.88)], TEXT),
            triangle([at(0.5, 0.5), at(1.0, 0.12), at(1.0, 0.88)], TEXT),
        ],
        Symbol::Play => vec![triangle([at(0.2, 0.1), at(0.95, 0.5), at(0.2, 0.9)], SKY)],
        Symbol::Warning => vec![
            triangle([at(0.5, 0.04), at(1.0, 0.94), at(0.0, 0.94)], ORANGE),
            Shape::line_segment(
                [at(0.5, 0.36), at(0.5, 0.64)],
                Stroke::new(side * 0.13, Color32::BLACK),
            ),
            Shape::circle_filled(at(0.5, 0.79), side * 0.075, Color32::BLACK),
        ],
        Symbol::Arrow => {
            let stroke = Stroke::new(1.5, TEXT);
            let (tip, tail) = (pos2(at(0.95, 0.5).x, place.center().y), at(0.05, 0.5));
            vec![
                Shape::line_segment([tail, tip], stroke),
                Shape::line(vec![at(0.62, 0.2), tip, at(0.62, 0.8)], stroke),
            ]
        }
        Symbol::Tick => vec![Shape::line(
            vec![at(0.1, 0.55), at(0.4, 0.85), at(0.95, 0.15)],
            Stroke::new(2.0, SKY),
        )],
    }
}
