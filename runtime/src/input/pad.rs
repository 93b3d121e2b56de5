//! What gamepads tell, in our own words, and how sticks become directions.

use super::{InputState, Source};
use std::collections::BTreeMap;
use worlds::Input;

/// A stick counts from this far out, of 1...
const OUTER: f32 = 0.45;
/// ...and until it comes back to here.
const INNER: f32 = 0.35;
/// A direction reaches half of an eighth of the circle to either side, in degrees...
const HALF_SECTOR: f32 = 22.5;
/// ...and this much further once it is taken, so that a stick on the border does not flutter.
const STICKING: f32 = 7.5;

/// One of a pad's sticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stick {
    /// The left one.
    Left,
    /// The right one.
    Right,
}

/// One of a stick's axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StickAxis {
    /// From left, -1, to right, 1.
    X,
    /// From below, -1, to above, 1.
    Y,
}

/// Something that happened on a gamepad.
#[derive(Clone, Debug, PartialEq)]
pub enum PadEvent {
    /// A pad was plugged in, or was there from the start.
    Connected {
        /// Its number.
        pad: usize,
        /// What it calls itself.
        name: String,
    },
    /// A pad was unplugged.
    Disconnected {
        /// Its number.
        pad: usize,
    },
    /// A button went down or up.
    Button {
        /// The pad's number.
        pad: usize,
        /// The button.
        button: Input,
        /// Down, not up.
        pressed: bool,
    },
    /// A stick moved.
    Axis {
        /// The pad's number.
        pad: usize,
        /// The stick.
        stick: Stick,
        /// The axis.
        axis: StickAxis,
        /// Where it is now, -1 to 1.
        value: f32,
    },
}

/// Feeds gamepads' events into an [`InputState`]; knows where the sticks are.
#[derive(Clone, Debug, Default)]
pub(crate) struct PadReader {
    sticks: BTreeMap<(usize, Stick), Position>,
}

/// Where a stick is, and which of eight directions (0 is right, counted counter-clockwise) it gives.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    x: f32,
    y: f32,
    direction: Option<u8>,
}

impl PadReader {
    /// Takes an event in.
    pub(crate) fn take(&mut self, event: &PadEvent, state: &mut InputState) {
        match *event {
            PadEvent::Connected { pad, ref name } => {
                tracing::info!("gamepad {pad} is connected: {name}");
            }
            PadEvent::Disconnected { pad } => {
                tracing::info!("gamepad {pad} is gone");
                self.sticks.retain(|(of, _), _| *of != pad);
                state.release_all(Source::Pad(pad));
            }
            PadEvent::Button {
                pad,
                button,
                pressed: true,
            } => state.press(Source::Pad(pad), button),
            PadEvent::Button {
                pad,
                button,
                pressed: false,
            } => state.release(Source::Pad(pad), button),
            PadEvent::Axis {
                pad,
                stick,
                axis,
                value,
            } => {
                let position = self.sticks.entry((pad, stick)).or_default();
                // A driver that gives no number has the stick at rest.
                let value = if value.is_finite() {
                    value.clamp(-1.0, 1.0)
                } else {
                    0.0
                };
                match axis {
                    StickAxis::X => position.x = value,
                    StickAxis::Y => position.y = value,
                }
                let before = position.direction;
                position.direction = direction(position.x, position.y, before);
                let (before, now) = (inputs(stick, before), inputs(stick, position.direction));
                for input in before.iter().filter(|input| !now.contains(input)) {
                    state.release(Source::Pad(pad), *input);
                }
                for input in now.iter().filter(|input| !before.contains(input)) {
                    state.press(Source::Pad(pad), *input);
                }
            }
        }
    }
}

/// The direction of a stick at `x`, `y` that gave `before` until now.
fn direction(x: f32, y: f32, before: Option<u8>) -> Option<u8> {
    let dead = if before.is_some() { INNER } else { OUTER };
    if x.hypot(y) < dead {
        return None;
    }
    let angle = y.atan2(x).to_degrees().rem_euclid(360.0);
    let off = |direction: u8| {
        let off = (angle - f32::from(direction) * 45.0).abs();
        off.min(360.0 - off)
    };
    match before {
        Some(before) if off(before) <= HALF_SECTOR + STICKING => Some(before),
        _ => (0..8).min_by(|&a, &b| off(a).total_cmp(&off(b))),
    }
}

/// A direction as inputs: one of four, or two for those between.
fn inputs(stick: Stick, direction: Option<u8>) -> Vec<Input> {
    let Some(direction) = direction else {
        return Vec::new();
    };
    let names = match stick {
        Stick::Left => [
            "LeftStickRight",
            "LeftStickUp",
            "LeftStickLeft",
            "LeftStickDown",
        ],
        Stick::Right => [
            "RightStickRight",
            "RightStickUp",
            "RightStickLeft",
            "RightStickDown",
        ],
    };
    let first = usize::from(direction / 2);
    let second = (direction % 2 == 1).then_some((first + 1) % 4);
    let directions = std::iter::once(first).chain(second);
    directions
        .filter_map(|index| Input::named(names[index]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Bindings, Control, ControlEvent, ControlTable};
    use proptest::prelude::*;
    use worlds::Action;

    /// A pad or several, the code that gilrs feeds, and a world of five actions.
    struct Scene {
        reader: PadReader,
        state: InputState,
    }

    impl Scene {
        fn new() -> Self {
            let action = |(name, bindings): (&str, &[&str])| Action {
                name: name.into(),
                bindings: bindings.iter().map(|&binding| binding.into()).collect(),
            };
            let actions: [(&str, &[&str]); 5] = [
                ("right", &[]),
                ("up", &[]),
                ("left", &[]),
                ("down", &[]),
                ("jump", &["South", "RightTrigger2"]),
            ];
            Self {
                reader: PadReader::default(),
                state: InputState::new(Bindings::of(&actions.map(action)), ControlTable::default()),
            }
        }

        fn button(&mut self, pad: usize, name: &str, pressed: bool) -> &mut Self {
            let button = Input::named(name).unwrap();
            self.take(PadEvent::Button {
                pad,
                button,
                pressed,
            })
        }

        fn stick(&mut self, pad: usize, x: f32, y: f32) -> &mut Self {
            for (axis, value) in [(StickAxis::X, x), (StickAxis::Y, y)] {
                self.take(PadEvent::Axis {
                    pad,
                    stick: Stick::Left,
                    axis,
                    value,
                });
            }
            self
        }

        fn take(&mut self, event: PadEvent) -> &mut Self {
            self.reader.take(&event, &mut self.state);
            self
        }

        /// What is wished for once taps are forgotten.
        fn held(&mut self) -> Vec<u16> {
            self.state.take_wish();
            self.wish().0
        }

        fn wish(&mut self) -> (Vec<u16>, &'static str) {
            let (wish, device) = self.state.take_wish();
            (wish.codes().iter().map(|code| code.0).collect(), device)
        }
    }

    #[test]
    fn buttons_and_the_cross_wish_for_their_codes() {
        let mut scene = Scene::new();
        scene.take(PadEvent::Connected {
            pad: 0,
            name: "Pad".into(),
        });
        scene.button(0, "DPadRight", true).button(0, "South", true);
        assert_eq!(scene.wish(), (vec![0, 4], "gamepad"));
        scene
            .button(0, "South", false)
            .button(0, "RightTrigger2", true)
            .button(0, "DPadRight", false);
        assert_eq!(scene.wish(), (vec![4], "gamepad"));
        scene.button(0, "RightTrigger2", false);
        assert_eq!(scene.wish(), (vec![], "gamepad"));
    }

    #[test]
    fn a_tap_between_two_frames_counts_in_one() {
        let mut scene = Scene::new();
        scene.button(0, "South", true).button(0, "South", false);
        assert_eq!(scene.wish().0, [4]);
        assert!(scene.wish().0.is_empty());
    }

    #[test]
    fn a_stick_gives_eight_directions_beyond_its_dead_zone() {
        let mut scene = Scene::new();
        assert!(scene.stick(0, 0.3, -0.3).held().is_empty());
        let expected: [&[u16]; 8] = [&[0], &[0, 1], &[1], &[1, 2], &[2], &[2, 3], &[3], &[0, 3]];
        for (eighth, codes) in expected.iter().enumerate() {
            let (y, x) = (eighth as f32 * 45.0).to_radians().sin_cos();
            assert_eq!(scene.stick(0, x, y).held(), *codes, "{eighth}");
            assert!(scene.stick(0, 0.0, 0.0).held().is_empty());
        }
    }

    #[test]
    fn a_stick_on_a_border_does_not_flutter() {
        let mut scene = Scene::new();
        let at = |degrees: f32| {
            let (y, x) = degrees.to_radians().sin_cos();
            (0.9 * x, 0.9 * y)
        };
        let mut held = |degrees: f32| {
            let (x, y) = at(degrees);
            // Both axes at once, as a pad reports them: what lies between is no position of the stick.
            let before = scene
                .reader
                .sticks
                .get(&(0, Stick::Left))
                .copied()
                .unwrap_or_default();
            scene
                .reader
                .sticks
                .insert((0, Stick::Left), Position { x, ..before });
            scene.take(PadEvent::Axis {
                pad: 0,
                stick: Stick::Left,
                axis: StickAxis::Y,
                value: y,
            });
            scene.held()
        };
        assert_eq!(held(0.0), [0]);
        assert_eq!(held(28.0), [0], "past the middle, and still the same");
        assert_eq!(held(32.0), [0, 1]);
        assert_eq!(held(17.0), [0, 1]);
        assert_eq!(held(13.0), [0]);
        assert_eq!(held(-28.0), [0]);
        assert_eq!(held(-32.0), [0, 3]);
        let mut scene = Scene::new();
        assert_eq!(scene.stick(0, 0.5, 0.0).held(), [0]);
        assert_eq!(
            scene.stick(0, 0.4, 0.0).held(),
            [0],
            "it began, so it lasts"
        );
        assert!(scene.stick(0, 0.3, 0.0).held().is_empty());
        assert!(scene.stick(0, 0.4, 0.0).held().is_empty());
    }

    #[test]
    fn an_unplugged_pad_lets_go_and_the_others_hold_on() {
        let mut scene = Scene::new();
        scene
            .button(0, "DPadRight", true)
            .stick(0, 0.0, 1.0)
            .button(1, "South", true)
            .button(0, "LeftTrigger", true);
        assert_eq!(scene.held(), [0, 1, 4]);
        scene.state.take_commands();
        scene.take(PadEvent::Disconnected { pad: 0 });
        assert_eq!(scene.held(), [4]);
        let ended = ControlEvent {
            control: Control::Rewind,
            pressed: false,
        };
        assert_eq!(scene.state.take_commands(), [ended]);
        scene.take(PadEvent::Connected {
            pad: 0,
            name: "again".into(),
        });
        assert_eq!(scene.held(), [4]);
        scene.button(0, "DPadLeft", true);
        assert_eq!(scene.held(), [2, 4]);
    }

    #[test]
    fn two_pads_may_hold_the_same_button() {
        let mut scene = Scene::new();
        scene
            .button(0, "South", true)
            .button(1, "South", true)
            .button(0, "South", false);
        assert_eq!(scene.held(), [4]);
        scene.button(1, "South", false);
        assert!(scene.held().is_empty());
    }

    #[test]
    fn start_select_and_shoulder_are_commands() {
        let mut scene = Scene::new();
        for (button, control) in [
            ("Start", Control::Pause),
            ("Select", Control::Help),
            ("LeftTrigger", Control::Rewind),
        ] {
            scene.button(0, button, true);
            assert_eq!(
                scene.state.take_commands(),
                [ControlEvent {
                    control,
                    pressed: true
                }]
            );
            scene.button(0, button, false);
        }
        assert_eq!(
            scene.state.take_commands(),
            [ControlEvent {
                control: Control::Rewind,
                pressed: false
            }]
        );
        assert!(scene.wish().0.is_empty());
    }

    proptest! {
        /// Whatever a driver says of its stick, letting go of it releases everything.
        #[test]
        fn a_stick_at_rest_wishes_for_nothing(moves in proptest::collection::vec((any::<f32>(), any::<f32>()), 0..30)) {
            let mut scene = Scene::new();
            for (x, y) in moves {
                prop_assert!(scene.stick(0, x, y).held().len() <= 2);
            }
            prop_assert!(scene.stick(0, 0.0, 0.0).held().is_empty());
        }
    }
}
