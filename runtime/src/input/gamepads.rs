//! Gamepads as gilrs finds them.

use super::{PadEvent, Stick, StickAxis};
use gilrs::{Axis, Button, EventType, Gilrs};
use worlds::Input;

/// The gamepads of this machine, those that are plugged in later included. gilrs knows how hundreds of them are laid out, from SDL's
/// table of mappings and from the variable `SDL_GAMECONTROLLERCONFIG`.
pub struct Gamepads {
    gilrs: Option<Gilrs>,
    /// Pads that were there from the start and have not been told yet.
    present: Vec<PadEvent>,
}

impl Gamepads {
    /// Looks for gamepads. Where there can be none, as on Linux without libudev, the log says why, and none will ever come.
    pub fn find() -> Self {
        match Gilrs::new() {
            Ok(gilrs) => {
                let pads = gilrs.gamepads();
                let present = pads.map(|(id, pad)| PadEvent::Connected {
                    pad: id.into(),
                    name: pad.name().to_owned(),
                });
                let present: Vec<_> = present.collect();
                if present.is_empty() {
                    tracing::info!("no gamepad is connected; one that is plugged in will be found");
                }
                Self {
                    present,
                    gilrs: Some(gilrs),
                }
            }
            Err(error) => {
                tracing::info!("no gamepads, only the keyboard: {error}");
                Self::none()
            }
        }
    }

    /// No gamepads.
    pub fn none() -> Self {
        Self {
            gilrs: None,
            present: Vec::new(),
        }
    }

    /// Whether there are no gamepads and will be none.
    pub fn are_impossible(&self) -> bool {
        self.gilrs.is_none()
    }

    /// The next thing that happened, without waiting for one.
    pub fn next_event(&mut self) -> Option<PadEvent> {
        if let Some(event) = self.present.pop() {
            return Some(event);
        }
        let gilrs = self.gilrs.as_mut()?;
        loop {
            let event = gilrs.next_event()?;
            let pad = event.id.into();
            let told = match event.event {
                EventType::Connected => Some(PadEvent::Connected {
                    pad,
                    name: gilrs.gamepad(event.id).name().to_owned(),
                }),
                other => translated(pad, &other),
            };
            if told.is_some() {
                return told;
            }
        }
    }
}

/// What an event of gilrs' means; `None` for those that mean nothing here.
fn translated(pad: usize, event: &EventType) -> Option<PadEvent> {
    match *event {
        EventType::Disconnected => Some(PadEvent::Disconnected { pad }),
        EventType::ButtonPressed(button, _) => named(button).map(|button| PadEvent::Button {
            pad,
            button,
            pressed: true,
        }),
        EventType::ButtonReleased(button, _) => named(button).map(|button| PadEvent::Button {
            pad,
            button,
            pressed: false,
        }),
        EventType::AxisChanged(axis, value, _) => {
            let (stick, axis) = match axis {
                Axis::LeftStickX => (Stick::Left, StickAxis::X),
                Axis::LeftStickY => (Stick::Left, StickAxis::Y),
                Axis::RightStickX => (Stick::Right, StickAxis::X),
                Axis::RightStickY => (Stick::Right, StickAxis::Y),
                // gilrs makes buttons of a cross that reports axes, and of triggers.
                _ => return None,
            };
            Some(PadEvent::Axis {
                pad,
                stick,
                axis,
                value,
            })
        }
        _ => None,
    }
}

/// Our names of buttons are those of gilrs.
fn named(button: Button) -> Option<Input> {
    Input::named(&format!("{button:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_button_of_gilrs_has_its_input_but_the_unknown_one() {
        use Button::*;
        for button in [
            South,
            East,
            North,
            West,
            C,
            Z,
            LeftTrigger,
            LeftTrigger2,
            RightTrigger,
            RightTrigger2,
            Select,
            Start,
            Mode,
            LeftThumb,
            RightThumb,
            DPadUp,
            DPadDown,
            DPadLeft,
            DPadRight,
        ] {
            assert!(named(button).is_some_and(Input::is_pad), "{button:?}");
        }
        assert_eq!(named(Unknown), None);
    }

    #[test]
    fn looking_for_gamepads_fails_nowhere() {
        let mut gamepads = Gamepads::find();
        // Whatever is plugged in here; an event each at most, so that this ends.
        for _ in 0..100 {
            gamepads.next_event();
        }
        assert_eq!(Gamepads::none().next_event(), None);
    }

    #[test]
    fn events_without_meaning_are_none() {
        assert_eq!(
            translated(3, &EventType::Disconnected),
            Some(PadEvent::Disconnected { pad: 3 })
        );
        assert_eq!(translated(3, &EventType::Dropped), None);
    }
}
