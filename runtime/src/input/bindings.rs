//! Which keys, buttons and chords wish for which action codes.

use nn::ActionCode;
use std::collections::{BTreeMap, BTreeSet};
use worlds::{Action, Chord, Input, codes_by_chord};

/// Inputs that stand for an action of such a name, or else for one that has the word in its name and that the world binds to nothing.
const USUAL_INPUTS: [(&str, &[&str]); 5] = [
    ("left", &["ArrowLeft", "KeyA", "DPadLeft", "LeftStickLeft"]),
    (
        "right",
        &["ArrowRight", "KeyD", "DPadRight", "LeftStickRight"],
    ),
    ("up", &["ArrowUp", "KeyW", "DPadUp", "LeftStickUp"]),
    ("down", &["ArrowDown", "KeyS", "DPadDown", "LeftStickDown"]),
    (
        "jump",
        &["Space", "South", "ArrowUp", "KeyW", "DPadUp", "LeftStickUp"],
    ),
];

/// Pad inputs that stand for what a world binds to these keys, where it binds no pad input to the same code: worlds made for the keyboard
/// play on a pad, too.
const PAD_FOR_KEY: [(&str, &[&str]); 5] = [
    ("ArrowLeft", &["DPadLeft", "LeftStickLeft"]),
    ("ArrowRight", &["DPadRight", "LeftStickRight"]),
    ("ArrowUp", &["DPadUp", "LeftStickUp"]),
    ("ArrowDown", &["DPadDown", "LeftStickDown"]),
    ("Space", &["South"]),
];

/// Which chords, of one input or more, wish for which action codes, and what the player calls those.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    names: Vec<String>,
    codes: BTreeMap<Chord, Vec<ActionCode>>,
}

/// Codes that number keys stand for by themselves; with a shift key, they stand for those that follow.
const NUMBERED: u16 = 10;

impl Bindings {
    /// The bindings of a world's actions, where a chord may stand for several codes; then, for inputs that they leave free, pad inputs
    /// beside the keys of the same direction, and the usual ones for actions called left, right, up, down and jump. Number keys always stand for the
    /// code of their number, and with a shift key for that plus 10.
    pub fn of(actions: &[Action]) -> Self {
        Self::with_usual(actions, |_| true)
    }

    /// As [`Self::of`], with inputs beside an action's own only for codes that are `open` to them.
    pub(super) fn with_usual(actions: &[Action], open: impl Fn(ActionCode) -> bool) -> Self {
        let mut codes = codes_by_chord(actions);
        let numbered = || (0u16..).map(ActionCode).zip(actions);
        let open_ones = || numbered().filter(|(code, _)| open(*code));
        for (key, pad) in PAD_FOR_KEY {
            let mut bound = chord(key)
                .and_then(|key| codes.get(&key).cloned())
                .unwrap_or_default();
            bound.retain(|code| open(*code));
            if bound.is_empty() {
                continue;
            }
            for chord in pad.iter().filter_map(|name| chord(name)) {
                codes.entry(chord).or_insert_with(|| bound.clone());
            }
        }
        for (word, inputs) in USUAL_INPUTS {
            let exact = open_ones().find(|(_, action)| action.name.eq_ignore_ascii_case(word));
            let loose = || {
                open_ones()
                    .find(|(_, action)| action.bindings.is_empty() && has_word(&action.name, word))
            };
            if let Some((code, _)) = exact.or_else(loose) {
                for chord in inputs.iter().filter_map(|name| chord(name)) {
                    codes.entry(chord).or_insert_with(|| vec![code]);
                }
            }
        }
        codes.retain(|chord, _| chord.inputs().iter().all(|input| input.digit().is_none()));
        for (code, _) in numbered().take(2 * usize::from(NUMBERED)) {
            let digit = format!("Digit{}", code.0 % NUMBERED);
            let inputs = match code.0 < NUMBERED {
                true => vec![digit],
                false => ["ShiftLeft", "ShiftRight"]
                    .map(|shift| format!("{shift}+{digit}"))
                    .to_vec(),
            };
            let chords = inputs.iter().filter_map(|text| Chord::parse(text).ok());
            codes.extend(chords.map(|chord| (chord, vec![code])));
        }
        Self {
            names: actions.iter().map(|action| action.name.clone()).collect(),
            codes,
        }
    }

    /// What the player calls a code: its number where it has no name.
    pub fn name(&self, code: ActionCode) -> String {
        let name = self.names.get(usize::from(code.0));
        let name = name.filter(|name| !name.is_empty()).cloned();
        name.unwrap_or_else(|| format!("code {code}"))
    }

    /// The codes that these inputs, held together, wish for: a chord with a binding of its own counts instead of its parts, all others count
    /// each by itself.
    pub fn codes(&self, held: &BTreeSet<Input>) -> Vec<ActionCode> {
        let whole = |chord: &Chord| chord.inputs().iter().all(|input| held.contains(input));
        let complete: Vec<_> = self
            .codes
            .iter()
            .filter(|(chord, _)| whole(chord))
            .collect();
        let in_larger = |chord: &Chord| {
            complete
                .iter()
                .any(|(other, _)| *other != chord && chord.is_part_of(other))
        };
        let counted = complete.iter().filter(|(chord, _)| !in_larger(chord));
        counted
            .flat_map(|(_, codes)| codes.iter().copied())
            .collect()
    }

    /// Whether an input is bound, by itself or in a chord.
    pub fn knows(&self, input: Input) -> bool {
        self.codes
            .keys()
            .any(|chord| chord.inputs().contains(&input))
    }

    /// The chords that wish for a code, those of fewer inputs first.
    pub fn of_code(&self, code: ActionCode) -> Vec<&Chord> {
        let bound = self.codes.iter().filter(|(_, codes)| codes.contains(&code));
        let mut chords: Vec<&Chord> = bound.map(|(chord, _)| chord).collect();
        chords.sort_by_key(|chord| chord.inputs().len());
        chords
    }
}

fn chord(name: &str) -> Option<Chord> {
    Input::named(name).map(Chord::from)
}

fn has_word(name: &str, word: &str) -> bool {
    name.split(|c: char| !c.is_alphanumeric())
        .any(|part| part.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bindings(actions: &[(&str, &[&str])]) -> Bindings {
        let action = |(name, inputs): &(&str, &[&str])| Action {
            name: (*name).into(),
            bindings: inputs.iter().map(|&input| input.into()).collect(),
        };
        Bindings::of(&actions.iter().map(action).collect::<Vec<_>>())
    }

    fn codes(bindings: &Bindings, held: &[&str]) -> Vec<u16> {
        let held = held
            .iter()
            .map(|name| Input::named(name).unwrap())
            .collect();
        let mut codes: Vec<u16> = bindings.codes(&held).iter().map(|code| code.0).collect();
        codes.sort_unstable();
        codes
    }

    #[test]
    fn a_chord_of_its_own_counts_instead_of_its_parts() {
        let bindings = bindings(&[
            ("walk", &["ArrowRight"]),
            ("hop", &["Space"]),
            ("leap", &["ArrowRight+Space"]),
            ("duck", &["ArrowDown"]),
        ]);
        assert_eq!(codes(&bindings, &["ArrowRight"]), [0]);
        assert_eq!(codes(&bindings, &["ArrowRight", "Space"]), [2]);
        assert_eq!(
            codes(&bindings, &["ArrowRight", "Space", "ArrowDown"]),
            [2, 3]
        );
        assert_eq!(codes(&bindings, &["ArrowRight", "ArrowDown"]), [0, 3]);
        assert_eq!(codes(&bindings, &["Space", "KeyZ"]), [1]);
        assert!(codes(&bindings, &[]).is_empty());
    }

    #[test]
    fn every_code_up_to_twenty_has_a_number_key() {
        let names: Vec<String> = (0..22).map(|code| format!("c{code}")).collect();
        let actions: Vec<(&str, &[&str])> = names
            .iter()
            .map(|name| (name.as_str(), &[] as &[&str]))
            .collect();
        let bindings = bindings(&actions);
        assert_eq!(codes(&bindings, &["Digit7"]), [7]);
        assert_eq!(codes(&bindings, &["Digit7", "ShiftRight"]), [17]);
        assert_eq!(codes(&bindings, &["ShiftLeft"]), [] as [u16; 0]);
        assert_eq!(bindings.of_code(ActionCode(20)), [] as [&Chord; 0]);
        assert_eq!(bindings.name(ActionCode(17)), "c17");
        assert_eq!(bindings.name(ActionCode(30)), "code 30");
    }

    #[test]
    fn the_worlds_bindings_come_before_the_usual_ones_and_number_keys_are_never_bound() {
        let bindings = bindings(&[
            ("fall", &["KeyA", "Digit3"]),
            ("run right", &[]),
            ("right", &[]),
            ("left", &["KeyQ"]),
        ]);
        let code = |key| codes(&bindings, &[key]);
        assert_eq!(
            (code("KeyA"), code("KeyQ"), code("ArrowLeft")),
            (vec![0], vec![3], vec![3])
        );
        assert_eq!((code("ArrowRight"), code("KeyD")), (vec![2], vec![2]));
        assert_eq!(
            (code("DPadRight"), code("LeftStickLeft")),
            (vec![2], vec![3])
        );
        assert_eq!((code("Digit1"), code("Digit3")), (vec![1], vec![3]));
        assert!(code("Space").is_empty() && code("Digit4").is_empty() && code("KeyZ").is_empty());
    }

    #[test]
    fn a_word_in_the_name_of_what_the_world_binds_binds_nothing_more() {
        let bound = bindings(&[("right and down", &["ArrowRight"]), ("run left", &[])]);
        assert_eq!(codes(&bound, &["ArrowRight"]), [0]);
        assert_eq!(codes(&bound, &["ArrowLeft"]), [1]);
        assert!(!bound.knows(Input::named("ArrowDown").unwrap()));
    }

    #[test]
    fn pads_play_worlds_that_were_bound_to_keys_and_keep_what_was_bound_to_them() {
        let bindings = bindings(&[
            ("a", &["ArrowUp", "Space"]),
            ("b", &["ArrowUp"]),
            ("c", &["DPadUp"]),
        ]);
        assert_eq!(codes(&bindings, &["LeftStickUp"]), [0, 1]);
        assert_eq!(codes(&bindings, &["DPadUp"]), [2]);
        assert_eq!(codes(&bindings, &["South"]), [0]);
    }

    #[test]
    fn jumping_is_up_where_there_is_no_up() {
        let jump = bindings(&[("walk left", &[]), ("Jump", &[])]);
        assert_eq!(codes(&jump, &["ArrowUp"]), [1]);
        assert_eq!(codes(&jump, &["Space"]), [1]);
        assert_eq!(codes(&jump, &["KeyA"]), [0]);
        let both = bindings(&[("up", &[]), ("jump", &[])]);
        assert_eq!(codes(&both, &["ArrowUp"]), [0]);
        assert_eq!(codes(&both, &["South"]), [1]);
    }

    #[test]
    fn what_wishes_for_a_code_is_listed() {
        let bindings = bindings(&[("leap", &["ArrowRight+Space", "KeyZ"])]);
        let chords: Vec<String> = bindings
            .of_code(ActionCode(0))
            .iter()
            .map(|c| c.to_string())
            .collect();
        assert_eq!(chords, ["Digit0", "KeyZ", "ArrowRight+Space"]);
        assert!(bindings.knows(Input::named("Space").unwrap()));
        assert!(!bindings.knows(Input::named("KeyQ").unwrap()));
    }
}
