//! Where in a window the frame is shown.

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

/// The largest place for a frame in the middle of a window, both as (width, height), that enlarges every pixel by the same whole factor; in a
/// window smaller than the frame, the largest that keeps its shape.
pub fn letterbox(window: (u32, u32), frame: (u32, u32)) -> Rectangle {
    let ratio = |window: u32, frame: u32| f64::from(window) / f64::from(frame.max(1));
    let scale = ratio(window.0, frame.0).min(ratio(window.1, frame.1));
    let scale = if scale >= 1.0 { scale.floor() } else { scale };
    let side = |frame: u32| (f64::from(frame) * scale).max(1.0);
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

    #[test]
    fn pixels_are_enlarged_by_a_whole_factor_and_centred() {
        let rectangle = |x, y, width, height| Rectangle {
            x,
            y,
            width,
            height,
        };
        assert_eq!(
            letterbox((640, 640), (64, 64)),
            rectangle(0.0, 0.0, 640.0, 640.0)
        );
        assert_eq!(
            letterbox((700, 500), (64, 64)),
            rectangle(126.0, 26.0, 448.0, 448.0)
        );
        assert_eq!(
            letterbox((64, 32), (64, 64)),
            rectangle(16.0, 0.0, 32.0, 32.0)
        );
    }

    proptest! {
        #[test]
        fn the_frame_stays_inside_the_window(w in 1u32..5000, h in 1u32..5000, fw in 1u32..1025, fh in 1u32..1025) {
            let place = letterbox((w, h), (fw, fh));
            prop_assert!(place.width >= 1.0 && place.height >= 1.0);
            prop_assert!(place.x >= 0.0 && place.x + place.width <= w as f32);
            prop_assert!(place.y >= 0.0 && place.y + place.height <= h as f32);
        }
    }
}
