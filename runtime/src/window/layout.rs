//! Where in a window the frame is shown.

use crate::settings::Filter;

/// A rectangle in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rectangle {
    /// Left edge.
    pub x: f32,
    /// Upper edge.
    pub y: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
}

/// Where a frame is shown in a window, both as (width, height): in its middle, as large as fits in its own shape; with
/// [`Filter::Integer`], every pixel enlarged by the same whole factor as long as the window is no smaller than the frame.
pub fn letterbox(window: (u32, u32), frame: (u32, u32), filter: Filter) -> Rectangle {
    let ratio = |window: u32, frame: u32| f64::from(window) / f64::from(frame.max(1));
    let scale = ratio(window.0, frame.0).min(ratio(window.1, frame.1));
    let scale = match filter {
        Filter::Integer if scale >= 1.0 => scale.floor(),
        _ => scale,
    };
    let side = |frame: u32| (f64::from(frame) * scale).round().max(1.0);
    let (width, height) = (side(frame.0), side(frame.1));
    let margin = |window: u32, side: f64| ((f64::from(window) - side) / 2.0).floor().max(0.0);
    Rectangle {
        x: margin(window.0, width) as f32,
        y: margin(window.1, height) as f32,
        width: width.min(f64::from(window.0)) as f32,
        height: height.min(f64::from(window.1)) as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rectangle(x: f32, y: f32, width: f32, height: f32) -> Rectangle {
        Rectangle {
            x,
            y,
            width,
            height,
        }
    }

    #[test]
    fn pixels_are_enlarged_by_a_whole_factor_and_centred() {
        for (window, place) in [
            ((640, 640), rectangle(0.0, 0.0, 640.0, 640.0)),
            ((700, 500), rectangle(126.0, 26.0, 448.0, 448.0)),
            ((64, 32), rectangle(16.0, 0.0, 32.0, 32.0)),
        ] {
            assert_eq!(letterbox(window, (64, 64), Filter::Integer), place);
        }
    }

    #[test]
    fn other_looks_fill_the_window() {
        for filter in [Filter::Sharp, Filter::Crt] {
            let place = letterbox((700, 500), (64, 64), filter);
            assert_eq!(place, rectangle(100.0, 0.0, 500.0, 500.0));
            let place = letterbox((1000, 300), (160, 90), filter);
            assert_eq!(place, rectangle(233.0, 0.0, 533.0, 300.0));
        }
    }

    fn filters() -> impl Strategy<Value = Filter> {
        prop::sample::select(vec![Filter::Integer, Filter::Sharp, Filter::Crt])
    }

    proptest! {
        #[test]
        fn the_frame_stays_inside_the_window(w in 1u32..5000, h in 1u32..5000, fw in 1u32..1025, fh in 1u32..1025, filter in filters()) {
            let place = letterbox((w, h), (fw, fh), filter);
            prop_assert!(place.width >= 1.0 && place.height >= 1.0);
            prop_assert!(place.x >= 0.0 && place.x + place.width <= w as f32);
            prop_assert!(place.y >= 0.0 && place.y + place.height <= h as f32);
        }

        #[test]
        fn the_frame_keeps_its_shape_lies_in_the_middle_and_fills_what_it_may(w in 1u32..5000, h in 1u32..5000, fw in 1u32..1025, fh in 1u32..1025, filter in filters()) {
            let place = letterbox((w, h), (fw, fh), filter);
            let (scale_x, scale_y) = (place.width / fw as f32, place.height / fh as f32);
            // Sides are whole pixels, so each is off by half a one at most, or kept from vanishing.
            let (off_x, off_y) = (1.0 / fw as f32, 1.0 / fh as f32);
            prop_assert!((scale_x - scale_y).abs() <= off_x.max(off_y), "{place:?}");
            prop_assert!((2.0 * place.x + place.width - w as f32).abs() <= 1.0);
            prop_assert!((2.0 * place.y + place.height - h as f32).abs() <= 1.0);
            let (left_x, left_y) = (w as f32 - place.width, h as f32 - place.height);
            if filter == Filter::Integer && w >= fw && h >= fh {
                prop_assert!(place.width % fw as f32 == 0.0 && scale_x == scale_y);
                prop_assert!(left_x < fw as f32 || left_y < fh as f32);
            } else {
                prop_assert!(left_x.min(left_y) < 1.0, "{place:?}");
            }
        }
    }
}
