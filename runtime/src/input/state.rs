//! What is held and what was tapped, on all devices together.

use super::{Bindings, Control, ControlEvent, ControlTable};
use std::collections::{BTreeMap, BTreeSet};
use worlds::{Input, Wish};

/// A device that inputs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The keyboard.
    Keyboard,
    /// A gamepad, by number.
    Pad(usize),
}

/// The inputs that are held, and those that were tapped since the last frame: a tap between two frames is not lost.
#[derive(Clone, Debug)]
pub struct InputState {
    bindings: Bindings,
    controls: ControlTable,
    held: BTreeSet<(Source, Input)>,
    tapped: BTreeSet<(Source, Input)>,
    /// Inputs whose press was a command, while they are held.
    commanding: BTreeMap<(Source, Input), Control>,
    commands: Vec<ControlEvent>,
    /// The chord that the player is pressing to bind it.
    capture: Option<Capture>,
    /// What recordings call the device that was used last.
    device: &'static str,
}

/// Inputs that were pressed together; complete when the first of them is released.
#[derive(Clone, Debug, Default)]
struct Capture {
    inputs: BTreeSet<Input>,
    complete: bool,
}

impl InputState {
    /// Nothing is pressed.
    pub fn new(bindings: Bindings, controls: ControlTable) -> Self {
        Self {
            bindings,
            controls,
            held: BTreeSet::new(),
            tapped: BTreeSet::new(),
            commanding: BTreeMap::new(),
            commands: Vec::new(),
            capture: None,
            device: "keyboard",
        }
    }

    /// The bindings in force.
    pub fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// Changes the bindings; what is held counts by the new ones from now on.
    pub fn set_bindings(&mut self, bindings: Bindings) {
        self.bindings = bindings;
    }

    /// Changes the inputs of commands. What is held goes on as what it began.
    pub fn set_controls(&mut self, controls: ControlTable) {
        self.controls = controls;
    }

    /// The inputs of commands.
    pub fn controls(&self) -> &ControlTable {
        &self.controls
    }

    /// The next inputs, until one of them is released, neither wish nor command: [`Self::take_captured`] gives them.
    pub fn begin_capture(&mut self) {
        self.capture = Some(Capture::default());
    }

    /// Inputs wish and command again.
    pub fn cancel_capture(&mut self) {
        self.capture = None;
    }

    /// The inputs that were pressed together since [`Self::begin_capture`]; `None` until one of them is released.
    pub fn take_captured(&mut self) -> Option<BTreeSet<Input>> {
        let captured = self.capture.take_if(|capture| capture.complete);
        captured.map(|capture| capture.inputs)
    }

    /// Whether inputs are to be bound rather than obeyed.
    pub fn is_capturing(&self) -> bool {
        self.capture.is_some()
    }

    /// An input went down. One that gives a command reaches no world.
    pub fn press(&mut self, source: Source, input: Input) {
        if let Some(capture) = &mut self.capture {
            capture.inputs.insert(input);
            return;
        }
        let others = self.held.iter().map(|(_, input)| *input).collect();
        if let Some(control) = self.controls.control(input, &others) {
            if self.commanding.insert((source, input), control).is_none() {
                self.commands.push(ControlEvent {
                    control,
                    pressed: true,
                });
            }
            return;
        }
        // A key that repeats while it is held is pressed once.
        if self.held.insert((source, input)) && self.bindings.knows(input) {
            self.tapped.insert((source, input));
        }
    }

    /// An input went up.
    pub fn release(&mut self, source: Source, input: Input) {
        if let Some(capture) = &mut self.capture {
            capture.complete |= capture.inputs.contains(&input);
        }
        self.held.remove(&(source, input));
        if let Some(control) = self.commanding.remove(&(source, input)) {
            self.end(control);
        }
    }

    /// All inputs of a device went up, as when a window loses the focus and hears no more of them, or a pad is unplugged. Nothing is captured any
    /// more when it is the keyboard: what took the focus away, as Alt + Tab does, was not meant for it.
    pub fn release_all(&mut self, source: Source) {
        if source == Source::Keyboard {
            self.capture = None;
        }
        self.held.retain(|(holder, _)| *holder != source);
        let ended = self
            .commanding
            .extract_if(.., |(holder, _), _| *holder == source);
        let ended: Vec<Control> = ended.map(|(_, control)| control).collect();
        ended.into_iter().for_each(|control| self.end(control));
    }

    /// A lasting command ends with the last input that gives it.
    fn end(&mut self, control: Control) {
        if control == Control::Rewind && !self.commanding.values().any(|held| *held == control) {
            self.commands.push(ControlEvent {
                control,
                pressed: false,
            });
        }
    }

    /// The commands since this was last asked, in order.
    pub fn take_commands(&mut self) -> Vec<ControlEvent> {
        std::mem::take(&mut self.commands)
    }

    /// Whether commands or captured inputs wait to be taken.
    pub fn has_commands(&self) -> bool {
        let captured = self.capture.as_ref();
        !self.commands.is_empty() || captured.is_some_and(|capture| capture.complete)
    }

    /// The wish for a frame, of what is held or was tapped since the last frame, and the device that it comes from: `keyboard`, `gamepad` or `both`;
    /// without a wish, the one that was used last.
    pub fn take_wish(&mut self) -> (Wish, &'static str) {
        let tapped = std::mem::take(&mut self.tapped);
        let bound = |(_, input): &&(Source, Input)| self.bindings.knows(*input);
        let active: Vec<_> = self.held.union(&tapped).filter(bound).collect();
        let on_keyboard = |(source, _): &&(Source, Input)| *source == Source::Keyboard;
        let keys = active.iter().copied().filter(on_keyboard).count();
        match (keys, active.len() - keys) {
            (0, 0) => {}
            (_, 0) => self.device = "keyboard",
            (0, _) => self.device = "gamepad",
            _ => self.device = "both",
        }
        let inputs = active.iter().map(|(_, input)| *input).collect();
        (
            self.bindings.codes(&inputs).into_iter().collect(),
            self.device,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nn::ActionCode;
    use proptest::prelude::*;
    use worlds::Action;

    fn input(name: &str) -> Input {
        Input::named(name).unwrap()
    }

    fn state() -> InputState {
        let action = |(name, bindings): (&str, &[&str])| Action {
            name: name.into(),
            bindings: bindings.iter().map(|&binding| binding.into()).collect(),
        };
        let actions: [(&str, &[&str]); 4] = [
            ("left", &[]),
            ("right", &[]),
            ("jump", &[]),
            ("leap", &["ArrowRight+Space", "DPadRight+South"]),
        ];
        InputState::new(Bindings::of(&actions.map(action)), ControlTable::default())
    }

    fn wish(state: &mut InputState) -> (Vec<u16>, &'static str) {
        let (wish, device) = state.take_wish();
        (wish.codes().iter().map(|code| code.0).collect(), device)
    }

    const KEYS: Source = Source::Keyboard;
    const PAD: Source = Source::Pad(0);

    #[test]
    fn held_keys_last_and_taps_count_once() {
        let mut state = state();
        assert_eq!(wish(&mut state), (vec![], "keyboard"));
        state.press(KEYS, input("ArrowLeft"));
        state.press(KEYS, input("Space"));
        state.press(KEYS, input("KeyZ"));
        assert_eq!(wish(&mut state).0, [0, 2]);
        state.release(KEYS, input("Space"));
        assert_eq!(wish(&mut state).0, [0]);
        state.press(KEYS, input("ArrowLeft"));
        state.press(KEYS, input("ArrowRight"));
        state.release(KEYS, input("ArrowRight"));
        assert_eq!(wish(&mut state).0, [0, 1]);
        assert_eq!(wish(&mut state).0, [0]);
        state.release_all(KEYS);
        assert_eq!(wish(&mut state), (vec![], "keyboard"));
    }

    #[test]
    fn chords_form_across_frames_and_devices() {
        let mut state = state();
        state.press(KEYS, input("ArrowRight"));
        assert_eq!(wish(&mut state), (vec![1], "keyboard"));
        state.press(KEYS, input("Space"));
        assert_eq!(wish(&mut state), (vec![3], "keyboard"));
        state.release(KEYS, input("Space"));
        state.press(PAD, input("South"));
        assert_eq!(wish(&mut state), (vec![1, 2], "both"));
        state.release(KEYS, input("ArrowRight"));
        state.press(PAD, input("DPadRight"));
        assert_eq!(wish(&mut state), (vec![3], "gamepad"));
        state.release_all(PAD);
        assert_eq!(wish(&mut state), (vec![], "gamepad"));
    }

    #[test]
    fn commands_begin_and_end_and_reach_no_world() {
        let mut state = state();
        let event = |control, pressed| ControlEvent { control, pressed };
        state.press(KEYS, input("ShiftLeft"));
        state.press(KEYS, input("KeyR"));
        state.release(KEYS, input("KeyR"));
        state.press(PAD, input("LeftTrigger"));
        state.press(KEYS, input("Backspace"));
        state.release(KEYS, input("Backspace"));
        assert!(state.has_commands());
        let begun = [
            event(Control::NewSeed, true),
            event(Control::Rewind, true),
            event(Control::Rewind, true),
        ];
        assert_eq!(state.take_commands(), begun);
        state.release_all(PAD);
        assert_eq!(state.take_commands(), [event(Control::Rewind, false)]);
        assert!(!state.has_commands());
        assert!(wish(&mut state).0.is_empty());
    }

    proptest! {
        /// Whatever is pressed and released in whatever order, nothing stays held that is not down.
        #[test]
        fn nothing_is_left_over(events in proptest::collection::vec((0usize..5, 0usize..3, any::<bool>()), 0..60)) {
            let names = ["ArrowRight", "Space", "South", "Backspace", "KeyR"];
            let sources = [KEYS, PAD, Source::Pad(1)];
            let mut state = state();
            for (name, source, down) in events {
                match down {
                    true => state.press(sources[source], input(names[name])),
                    false => state.release(sources[source], input(names[name])),
                }
            }
            sources.iter().for_each(|source| state.release_all(*source));
            state.take_wish();
            prop_assert!(state.take_wish().0.is_none());
            let last_rewind = state.take_commands().into_iter().rfind(|event| event.control == Control::Rewind);
            prop_assert!(last_rewind.is_none_or(|event| !event.pressed));
        }

        #[test]
        fn wishes_are_codes_of_the_world(names in proptest::collection::vec(0usize..6, 0..6)) {
            let known = ["ArrowRight", "Space", "South", "Digit3", "DPadRight", "LeftStickLeft"];
            let mut state = state();
            names.iter().for_each(|name| state.press(PAD, input(known[*name])));
            let (wish, _) = state.take_wish();
            prop_assert!(wish.codes().iter().all(|code| *code < ActionCode(4)));
            prop_assert_eq!(wish.is_none(), names.is_empty());
        }
    }

    #[test]
    fn a_chord_that_is_captured_neither_wishes_nor_commands() {
        let input = |name| Input::named(name).unwrap();
        let actions = [worlds::Action {
            name: "jump".into(),
            bindings: vec!["Space".into()],
        }];
        let mut state = InputState::new(Bindings::of(&actions), ControlTable::default());
        state.begin_capture();
        state.press(Source::Keyboard, input("Space"));
        state.press(Source::Pad(0), input("South"));
        assert_eq!(state.take_captured(), None);
        assert!(state.take_wish().0.is_none());
        state.press(Source::Keyboard, input("KeyP"));
        state.release(Source::Keyboard, input("Space"));
        assert!(state.has_commands());
        let captured = state.take_captured().unwrap();
        assert_eq!(captured, ["KeyP", "Space", "South"].map(input).into());
        assert!(state.take_commands().is_empty());
        state.press(Source::Keyboard, input("KeyP"));
        assert_eq!(state.take_commands().len(), 1);
    }

    #[test]
    fn nothing_is_captured_of_what_takes_the_focus_away() {
        let mut state = state();
        state.begin_capture();
        state.press(KEYS, input("AltLeft"));
        state.release_all(KEYS);
        state.release(KEYS, input("AltLeft"));
        assert!(!state.has_commands());
        assert_eq!(state.take_captured(), None);
        state.press(KEYS, input("Space"));
        assert_eq!(wish(&mut state).0, [2]);
    }
}
