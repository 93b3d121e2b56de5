//! What a player can tell the program besides what to wish for, and the keys and buttons for it: one table for window, terminal and pad.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use worlds::{Chord, Input};

/// A command of the player's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// Show or hide the help.
    Help,
    /// Begin or end a recording.
    Record,
    /// Show what each action code does, and bind inputs to it.
    Bind,
    /// Show or hide the panel of settings.
    Panel,
    /// Show or hide the worlds and prompts to choose from.
    Worlds,
    /// Show or hide the bar of figures.
    Bar,
    /// Save the state.
    Save,
    /// Another look of the enlarged picture.
    Filter,
    /// Load the saved state.
    Load,
    /// Fill the screen, or stop doing so.
    Fullscreen,
    /// Save the picture.
    Screenshot,
    /// Pause, or go on.
    Pause,
    /// Make one frame.
    Step,
    /// Go back as long as it is held.
    Rewind,
    /// Start again with the same seed.
    Restart,
    /// Start again with a new seed.
    NewSeed,
    /// Start from the world's next prompt.
    NextPrompt,
    /// Sound off, or on again.
    Mute,
    /// More volume.
    Louder,
    /// Less volume.
    Quieter,
    /// Leave what is open, or the program.
    Leave,
    /// In a recording that is watched, go back by a second.
    SecondBack,
    /// In a recording that is watched, go on by a second.
    SecondForth,
    /// Play on from where the recording that is watched stands.
    TakeOver,
}

impl Control {
    /// What the help says of it.
    pub fn description(self) -> &'static str {
        match self {
            Self::Help => "help",
            Self::Record => "record",
            Self::Bind => "what the buttons do",
            Self::Panel => "settings",
            Self::Worlds => "worlds and prompts",
            Self::Bar => "figures",
            Self::Save => "save state",
            Self::Filter => "picture filter",
            Self::Load => "load state",
            Self::Fullscreen => "full screen",
            Self::Screenshot => "screenshot",
            Self::Pause => "pause",
            Self::Step => "single step",
            Self::Rewind => "rewind (hold)",
            Self::Restart => "start again",
            Self::NewSeed => "start again, new seed",
            Self::NextPrompt => "next prompt",
            Self::Mute => "mute",
            Self::Louder => "louder",
            Self::Quieter => "quieter",
            Self::Leave => "leave",
            Self::SecondBack => "recording: a second back",
            Self::SecondForth => "recording: a second forth",
            Self::TakeOver => "recording: take over, play on from here",
        }
    }
}

/// A command that begins or ends; only [`Control::Rewind`] lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlEvent {
    /// The command.
    pub control: Control,
    /// Whether it begins: pressed, not released.
    pub pressed: bool,
}

/// The default inputs, in the order of the help.
const USUAL: [(Control, &[&str]); 21] = [
    (Control::Help, &["F1", "Select"]),
    (Control::Record, &["F2"]),
    (Control::Bind, &["F3"]),
    (Control::Panel, &["F4"]),
    (Control::Save, &["F5"]),
    (Control::Filter, &["F6"]),
    (Control::Worlds, &["F7"]),
    (Control::Bar, &["F8"]),
    (Control::Load, &["F9"]),
    (Control::Fullscreen, &["F11"]),
    (Control::Screenshot, &["F12"]),
    (Control::Pause, &["KeyP", "Start"]),
    (Control::Step, &["KeyN", "Period"]),
    (Control::Rewind, &["Backspace", "LeftTrigger"]),
    (Control::Restart, &["KeyR"]),
    (Control::NewSeed, &["ShiftLeft+KeyR", "ShiftRight+KeyR"]),
    (Control::NextPrompt, &["Tab"]),
    (Control::Mute, &["KeyM"]),
    (Control::Louder, &["Equal", "NumpadAdd"]),
    (Control::Quieter, &["Minus", "NumpadSubtract"]),
    (Control::Leave, &["Escape"]),
];

/// Inputs that give commands only while a recording is watched; in play they are the world's.
const WATCHING: [(Control, &[&str]); 3] = [
    (Control::TakeOver, &["Enter", "South"]),
    (Control::SecondBack, &["ArrowLeft", "DPadLeft"]),
    (Control::SecondForth, &["ArrowRight", "DPadRight"]),
];

/// Inputs and chords of the player's own, in place of the usual ones of some commands.
pub type OwnControls = BTreeMap<Control, Vec<String>>;

/// Which inputs give which commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlTable {
    entries: Vec<(Control, Vec<Chord>)>,
}

impl Default for ControlTable {
    /// The table for play.
    fn default() -> Self {
        Self::of(&USUAL)
    }
}

impl ControlTable {
    /// The table with the player's own inputs, for play or for a recording that is watched.
    ///
    /// # Errors
    /// Says which input is none, is a number key, or stands for two commands; or that nothing is left to leave with.
    pub fn of_player(own: &OwnControls, watching: bool) -> Result<Self, String> {
        let mut table = Self::default();
        let mut taken: BTreeMap<Chord, Control> = BTreeMap::new();
        for (control, chords) in &mut table.entries {
            if let Some(texts) = own.get(control) {
                *chords = texts
                    .iter()
                    .map(|text| command_chord(text))
                    .collect::<Result<_, _>>()?;
            }
            for chord in chords.iter() {
                if let Some(other) = taken.insert(chord.clone(), *control) {
                    let (one, two) = (other.description(), control.description());
                    return Err(format!("{chord} would command both: {one}, and: {two}"));
                }
            }
            if *control == Control::Leave && chords.is_empty() {
                return Err("something must be left to leave with".into());
            }
        }
        let fixed = |control: &&Control| table.entries.iter().all(|(known, _)| known != *control);
        if let Some(control) = own.keys().find(fixed) {
            let what = control.description();
            return Err(format!("the inputs of this command are fixed: {what}"));
        }
        if watching {
            let mut also = Self::of(&WATCHING).entries;
            for (_, chords) in &mut also {
                chords.retain(|chord| !taken.contains_key(chord));
            }
            table.entries.extend(also);
        }
        Ok(table)
    }

    fn of(inputs: &[(Control, &[&str])]) -> Self {
        let chords = |names: &[&str]| {
            names
                .iter()
                .filter_map(|name| Chord::parse(name).ok())
                .collect()
        };
        Self {
            entries: inputs
                .iter()
                .map(|(control, names)| (*control, chords(names)))
                .collect(),
        }
    }

    /// Every command with its inputs, in the order of the help.
    pub fn entries(&self) -> &[(Control, Vec<Chord>)] {
        &self.entries
    }

    /// The command of an input that was just pressed while others are held: of several, the one whose chord is largest.
    pub fn control(&self, pressed: Input, held: &BTreeSet<Input>) -> Option<Control> {
        let complete = |chord: &Chord| {
            let inputs = chord.inputs();
            inputs.contains(&pressed)
                && inputs
                    .iter()
                    .all(|input| *input == pressed || held.contains(input))
        };
        let chords = self
            .entries
            .iter()
            .flat_map(|(control, chords)| chords.iter().map(move |chord| (*control, chord)));
        let matching = chords.filter(|(_, chord)| complete(chord));
        matching
            .max_by_key(|(_, chord)| chord.inputs().len())
            .map(|(control, _)| control)
    }

    /// Whether an input commands something, alone or with others, that it would not usually.
    pub fn knows_own(&self, input: Input) -> bool {
        let usual = Self::of(&USUAL);
        let is_usual = |control: &Control, chord: &Chord| {
            let mut entries = usual.entries.iter();
            entries.any(|(known, chords)| known == control && chords.contains(chord))
        };
        self.entries.iter().any(|(control, chords)| {
            let is_own =
                |chord: &Chord| chord.inputs().contains(&input) && !is_usual(control, chord);
            chords.iter().any(is_own)
        })
    }

    /// The command that an input gives by itself; such an input never reaches the world.
    pub fn of_input(&self, input: Input) -> Option<Control> {
        self.control(input, &BTreeSet::new())
    }
}

/// The chord that a text names, if it may command something.
fn command_chord(text: &str) -> Result<Chord, String> {
    let chord = Chord::parse(text)?;
    match chord.inputs().iter().any(|input| input.digit().is_some()) {
        true => Err(format!("{chord}: number keys are for action codes")),
        false => Ok(chord),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watching() -> ControlTable {
        ControlTable::of_player(&OwnControls::new(), true).unwrap()
    }

    fn own(inputs: &[(Control, &[&str])]) -> OwnControls {
        let texts = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        inputs
            .iter()
            .map(|(control, names)| (*control, texts(names)))
            .collect()
    }

    #[test]
    fn the_players_own_inputs_take_the_place_of_the_usual_ones() {
        let table = ControlTable::of_player(
            &own(&[
                (Control::Pause, &["Space"]),
                (Control::Step, &[]),
                (Control::Help, &["ArrowLeft", "ControlLeft+KeyH"]),
            ]),
            true,
        )
        .unwrap();
        assert_eq!(table.of_input(input("Space")), Some(Control::Pause));
        assert_eq!(table.of_input(input("KeyP")), None);
        assert_eq!(table.of_input(input("KeyN")), None);
        assert_eq!(table.of_input(input("F2")), Some(Control::Record));
        // What the player wants it for counts, in a recording that is watched, too.
        assert_eq!(table.of_input(input("ArrowLeft")), Some(Control::Help));
        let right = table.of_input(input("ArrowRight"));
        assert_eq!(right, Some(Control::SecondForth));
    }

    #[test]
    fn inputs_that_cannot_command_are_refused() {
        let refused = |inputs: &[(Control, &[&str])], why: &str| {
            let error = ControlTable::of_player(&own(inputs), false).unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        refused(&[(Control::Pause, &["KeyÄ"])], "KeyÄ");
        refused(&[(Control::Pause, &["Digit3"])], "number keys");
        refused(&[(Control::Pause, &["KeyR"])], "KeyR would command both");
        refused(&[(Control::Leave, &[])], "leave");
        refused(&[(Control::TakeOver, &["KeyT"])], "fixed");
    }

    fn input(name: &str) -> Input {
        Input::named(name).unwrap()
    }

    #[test]
    fn every_command_has_inputs_and_no_input_has_two() {
        let table = watching();
        let mut seen = BTreeSet::new();
        let inputs = USUAL.iter().chain(&WATCHING);
        for ((control, chords), (_, names)) in table.entries().iter().zip(inputs) {
            assert_eq!(chords.len(), names.len(), "{control:?}");
            assert!(!chords.is_empty() && !control.description().is_empty());
            for chord in chords {
                assert!(seen.insert(chord.clone()), "{chord}");
            }
        }
        let controls: BTreeSet<Control> = table
            .entries()
            .iter()
            .map(|(control, _)| *control)
            .collect();
        assert_eq!(controls.len(), USUAL.len() + WATCHING.len());
    }

    #[test]
    fn the_larger_chord_wins() {
        let table = ControlTable::default();
        let with = |held: &[&str]| {
            table.control(
                input("KeyR"),
                &held.iter().map(|name| input(name)).collect(),
            )
        };
        assert_eq!(with(&[]), Some(Control::Restart));
        assert_eq!(with(&["ShiftRight"]), Some(Control::NewSeed));
        assert_eq!(with(&["ArrowLeft"]), Some(Control::Restart));
        assert_eq!(table.of_input(input("Start")), Some(Control::Pause));
        assert_eq!(table.of_input(input("Select")), Some(Control::Help));
        assert_eq!(table.of_input(input("ShiftLeft")), None);
        assert_eq!(table.of_input(input("ArrowLeft")), None);
        let watching = watching().of_input(input("ArrowLeft"));
        assert_eq!(watching, Some(Control::SecondBack));
    }
}
