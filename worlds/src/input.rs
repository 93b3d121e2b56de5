//! What a player can press: keys, buttons, directions of a stick, and chords of them.

use crate::error::printable;
use std::fmt;

/// Keys by their physical names, which are those of the web standard UI Events `code`: where a key is, not what its cap says.
const KEYS: [&str; 95] = [
    "Backquote",
    "Backslash",
    "BracketLeft",
    "BracketRight",
    "Comma",
    "Equal",
    "IntlBackslash",
    "IntlRo",
    "IntlYen",
    "Minus",
    "Period",
    "Quote",
    "Semicolon",
    "Slash",
    "Digit0",
    "Digit1",
    "Digit2",
    "Digit3",
    "Digit4",
    "Digit5",
    "Digit6",
    "Digit7",
    "Digit8",
    "Digit9",
    "KeyA",
    "KeyB",
    "KeyC",
    "KeyD",
    "KeyE",
    "KeyF",
    "KeyG",
    "KeyH",
    "KeyI",
    "KeyJ",
    "KeyK",
    "KeyL",
    "KeyM",
    "KeyN",
    "KeyO",
    "KeyP",
    "KeyQ",
    "KeyR",
    "KeyS",
    "KeyT",
    "KeyU",
    "KeyV",
    "KeyW",
    "KeyX",
    "KeyY",
    "KeyZ",
    "AltLeft",
    "AltRight",
    "Backspace",
    "CapsLock",
    "ContextMenu",
    "ControlLeft",
    "ControlRight",
    "Enter",
    "ShiftLeft",
    "ShiftRight",
    "Space",
    "Tab",
    "Delete",
    "End",
    "Home",
    "Insert",
    "PageDown",
    "PageUp",
    "ArrowDown",
    "ArrowLeft",
    "ArrowRight",
    "ArrowUp",
    "Escape",
    "F1",
    "F2",
    "F3",
    "F4",
    "F5",
    "F6",
    "F7",
    "F8",
    "F9",
    "F10",
    "F11",
    "F12",
    "Numpad0",
    "Numpad1",
    "Numpad2",
    "Numpad3",
    "Numpad4",
    "Numpad5",
    "Numpad6",
    "Numpad7",
    "Numpad8",
    "Numpad9",
];

/// More keys of the number pad, which not every keyboard has.
const NUMBER_PAD: [&str; 7] = [
    "NumpadAdd",
    "NumpadComma",
    "NumpadDecimal",
    "NumpadDivide",
    "NumpadEnter",
    "NumpadMultiply",
    "NumpadSubtract",
];

/// Buttons of a gamepad by their place on it, and the directions of its sticks.
const PAD: [&str; 27] = [
    "South",
    "East",
    "North",
    "West",
    "C",
    "Z",
    "LeftTrigger",
    "LeftTrigger2",
    "RightTrigger",
    "RightTrigger2",
    "Select",
    "Start",
    "Mode",
    "LeftThumb",
    "RightThumb",
    "DPadUp",
    "DPadDown",
    "DPadLeft",
    "DPadRight",
    "LeftStickUp",
    "LeftStickDown",
    "LeftStickLeft",
    "LeftStickRight",
    "RightStickUp",
    "RightStickDown",
    "RightStickLeft",
    "RightStickRight",
];

/// Most inputs of a chord.
const LARGEST_CHORD: usize = 4;

/// One key, button, or direction of a stick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Input(&'static str);

impl Input {
    /// The input of that name, such as `ArrowRight`, `KeyD`, `South`, `DPadRight` or `LeftStickRight`; upper and lower case count.
    pub fn named(name: &str) -> Option<Self> {
        let known = KEYS.iter().chain(&NUMBER_PAD).chain(&PAD);
        known.copied().find(|known| *known == name).map(Self)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Whether it is on a gamepad and not on the keyboard.
    pub fn is_pad(self) -> bool {
        PAD.contains(&self.0)
    }

    /// The number of a number key in the keyboard's upper row.
    pub fn digit(self) -> Option<u16> {
        self.0.strip_prefix("Digit")?.parse().ok()
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// One input, or several that are held together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chord(Vec<Input>);

impl Chord {
    /// Reads a chord as worlds and players write it: names joined by `+`, as in `ArrowRight+Space`.
    ///
    /// # Errors
    /// Says which name is none, or what is wrong with the chord.
    pub fn parse(text: &str) -> Result<Self, String> {
        let named = |part: &str| {
            let part = part.trim();
            Input::named(part).ok_or_else(|| unknown(part))
        };
        // One more than is allowed is enough to refuse a hostile line.
        let parts = text.split('+').take(LARGEST_CHORD + 1);
        let mut inputs = parts.map(named).collect::<Result<Vec<_>, _>>()?;
        inputs.sort_unstable();
        inputs.dedup();
        match inputs.len() {
            1..=LARGEST_CHORD => Ok(Self(inputs)),
            _ => Err(format!("a chord has at most {LARGEST_CHORD} inputs")),
        }
    }

    /// Its inputs, in order, each once.
    pub fn inputs(&self) -> &[Input] {
        &self.0
    }

    /// Whether all inputs of this chord are among the other's.
    pub fn is_part_of(&self, other: &Self) -> bool {
        self.0.iter().all(|input| other.0.contains(input))
    }
}

impl From<Input> for Chord {
    fn from(input: Input) -> Self {
        Self(vec![input])
    }
}

impl fmt::Display for Chord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|input| input.name()).collect();
        f.write_str(&names.join("+"))
    }
}

fn unknown(name: &str) -> String {
    let known = KEYS.iter().chain(&NUMBER_PAD).chain(&PAD);
    let alike = known.copied().find(|known| {
        known.eq_ignore_ascii_case(name)
            || known
                .strip_prefix("Key")
                .is_some_and(|k| k.eq_ignore_ascii_case(name))
    });
    let advice = match alike {
        Some(alike) => format!("{alike} is one"),
        None => "names are such as ArrowRight, KeyD, Space, South, DPadRight, LeftStickRight, or several joined by +".into(),
    };
    format!("{:?} is no key or button; {advice}", printable(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_known_once_and_lead_back() {
        let all: Vec<&str> = KEYS
            .iter()
            .chain(&NUMBER_PAD)
            .chain(&PAD)
            .copied()
            .collect();
        for (index, name) in all.iter().enumerate() {
            assert!(!all[..index].contains(name), "{name}");
            assert_eq!(Input::named(name).unwrap().name(), *name);
        }
        assert!(Input::named("South").unwrap().is_pad() && !Input::named("KeyC").unwrap().is_pad());
        assert_eq!(Input::named("Digit7").unwrap().digit(), Some(7));
        assert_eq!(Input::named("Numpad7").unwrap().digit(), None);
    }

    #[test]
    fn a_chord_is_the_same_in_any_order() {
        let chord = Chord::parse("Space + ArrowRight+Space").unwrap();
        assert_eq!(chord, Chord::parse("ArrowRight+Space").unwrap());
        assert_eq!(chord.to_string(), "ArrowRight+Space");
        assert!(Chord::parse("Space").unwrap().is_part_of(&chord));
        assert!(!chord.is_part_of(&Chord::parse("Space").unwrap()));
    }

    #[test]
    fn what_is_no_key_is_refused_with_what_is_one() {
        for (text, part) in [
            ("space", "\"space\" is no key or button; Space is one"),
            ("d", "KeyD is one"),
            ("ArrowRight+", "\"\" is no key"),
            ("", "no key"),
            ("\u{1b}[2J", "ArrowRight, KeyD"),
            ("KeyA+KeyB+KeyC+KeyD+KeyE", "at most 4"),
        ] {
            let error = Chord::parse(text).unwrap_err();
            assert!(
                error.contains(part) && !error.contains('\u{1b}'),
                "{text}: {error}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_chord_or_refused(text in "(\\PC|\\+|KeyA|South){0,12}") {
            if let Ok(chord) = Chord::parse(&text) {
                prop_assert_eq!(Chord::parse(&chord.to_string()).unwrap(), chord);
            }
        }
    }
}
