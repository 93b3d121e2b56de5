//! From keys to wishes.

use nn::ActionCode;
use std::collections::{BTreeMap, BTreeSet};
use worlds::{Wish, WorldManifest};

/// Keys that stand for an action with one of these words in its name, where the world does not say otherwise.
const USUAL_KEYS: [(&str, &[&str]); 5] = [
    ("left", &["ArrowLeft", "KeyA"]),
    ("right", &["ArrowRight", "KeyD"]),
    ("up", &["ArrowUp", "KeyW"]),
    ("down", &["ArrowDown", "KeyS"]),
    ("jump", &["Space", "ArrowUp", "KeyW"]),
];

/// Which key wishes for which action code. Keys go by their physical names, as in `ArrowLeft`, `KeyA`, `Digit1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bindings {
    codes: BTreeMap<String, Vec<ActionCode>>,
}

impl Bindings {
    /// The world's own bindings, where a key may stand for several codes; then, for keys that it leaves free, arrows, WASD and space
    /// for actions called left, right, up, down and jump; then the digits for the codes of their number.
    pub fn of(manifest: &WorldManifest) -> Self {
        let mut codes: BTreeMap<String, Vec<ActionCode>> = BTreeMap::new();
        let numbered = || (0u16..).map(ActionCode).zip(&manifest.actions);
        for (code, action) in numbered() {
            for key in &action.bindings {
                codes.entry(key.clone()).or_default().push(code);
            }
        }
        for (word, keys) in USUAL_KEYS {
            let exact = numbered().find(|(_, action)| action.name.eq_ignore_ascii_case(word));
            let loose = || numbered().find(|(_, action)| has_word(&action.name, word));
            if let Some((code, _)) = exact.or_else(loose) {
                for key in keys {
                    codes.entry((*key).to_owned()).or_insert_with(|| vec![code]);
                }
            }
        }
        for (code, _) in numbered().take(10) {
            let key = format!("Digit{code}");
            codes.entry(key).or_insert_with(|| vec![code]);
        }
        Self { codes }
    }

    /// The codes that a key wishes for, all at once; none for a key without meaning.
    pub fn codes(&self, key: &str) -> &[ActionCode] {
        self.codes.get(key).map(Vec::as_slice).unwrap_or_default()
    }
}

fn has_word(name: &str, word: &str) -> bool {
    name.split(|c: char| !c.is_alphanumeric())
        .any(|part| part.eq_ignore_ascii_case(word))
}

/// The keys that are held, and those that were tapped since the last frame: a tap between two frames is not lost.
#[derive(Clone, Debug)]
pub struct Keyboard {
    bindings: Bindings,
    held: BTreeSet<String>,
    tapped: BTreeSet<String>,
}

impl Keyboard {
    /// A keyboard with nothing pressed.
    pub fn new(bindings: Bindings) -> Self {
        Self {
            bindings,
            held: BTreeSet::new(),
            tapped: BTreeSet::new(),
        }
    }

    /// A key went down.
    pub fn press(&mut self, key: &str) {
        if !self.bindings.codes(key).is_empty() {
            self.held.insert(key.to_owned());
            self.tapped.insert(key.to_owned());
        }
    }

    /// A key went up.
    pub fn release(&mut self, key: &str) {
        self.held.remove(key);
    }

    /// All keys went up, as when the window loses the focus and hears no more of them.
    pub fn release_all(&mut self) {
        self.held.clear();
    }

    /// The wish for a frame: what is held or was tapped since the last frame.
    pub fn take_wish(&mut self) -> Wish {
        let tapped = std::mem::take(&mut self.tapped);
        let keys = self.held.union(&tapped);
        let codes = keys.flat_map(|key| self.bindings.codes(key));
        codes.copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(actions: &[(&str, &[&str])]) -> WorldManifest {
        let mut manifest = worlds::tiny_contents(1).unwrap().manifest;
        manifest.actions = actions
            .iter()
            .map(|(name, keys)| worlds::Action {
                name: (*name).into(),
                bindings: keys.iter().map(|&key| key.into()).collect(),
            })
            .collect();
        manifest
    }

    fn wish(codes: &[u16]) -> Wish {
        codes.iter().map(|&code| ActionCode(code)).collect()
    }

    /// The code of a key that has at most one.
    fn only(bindings: &Bindings, key: &str) -> Option<u16> {
        let codes = bindings.codes(key);
        assert!(codes.len() <= 1, "{key}: {codes:?}");
        codes.first().map(|code| code.0)
    }

    #[test]
    fn a_key_of_several_actions_wishes_for_all_of_them() {
        let actions: [(&str, &[&str]); 3] = [
            ("rise", &["ArrowUp"]),
            ("idle", &[]),
            ("jump", &["ArrowUp", "Space"]),
        ];
        let mut keyboard = Keyboard::new(Bindings::of(&manifest(&actions)));
        keyboard.press("ArrowUp");
        assert_eq!(keyboard.take_wish(), wish(&[0, 2]));
        keyboard.release("ArrowUp");
        keyboard.press("Space");
        assert_eq!(keyboard.take_wish(), wish(&[2]));
    }

    #[test]
    fn the_worlds_bindings_come_before_the_usual_ones() {
        let actions: [(&str, &[&str]); 4] = [
            ("fall", &["KeyA", "Digit3"]),
            ("run right", &[]),
            ("right", &[]),
            ("left", &["KeyQ"]),
        ];
        let bindings = Bindings::of(&manifest(&actions));
        let code = |key| only(&bindings, key);
        assert_eq!(
            (code("KeyA"), code("KeyQ"), code("ArrowLeft")),
            (Some(0), Some(3), Some(3))
        );
        assert_eq!((code("ArrowRight"), code("KeyD")), (Some(2), Some(2)));
        assert_eq!((code("Digit1"), code("Digit3")), (Some(1), Some(0)));
        assert_eq!(
            (code("Space"), code("Digit4"), code("KeyZ")),
            (None, None, None)
        );
    }

    #[test]
    fn jumping_is_up_where_there_is_no_up() {
        let bindings = Bindings::of(&manifest(&[("walk left", &[]), ("Jump", &[])]));
        assert_eq!(only(&bindings, "ArrowUp"), Some(1));
        assert_eq!(only(&bindings, "Space"), Some(1));
        assert_eq!(only(&bindings, "KeyA"), Some(0));
        let bindings = Bindings::of(&manifest(&[("up", &[]), ("jump", &[])]));
        assert_eq!(only(&bindings, "ArrowUp"), Some(0));
        assert_eq!(only(&bindings, "Space"), Some(1));
    }

    #[test]
    fn held_keys_last_and_taps_count_once() {
        let bindings = Bindings::of(&manifest(&[("left", &[]), ("right", &[]), ("jump", &[])]));
        let mut keyboard = Keyboard::new(bindings);
        assert_eq!(keyboard.take_wish(), wish(&[]));
        keyboard.press("ArrowRight");
        keyboard.press("Space");
        keyboard.press("KeyZ");
        assert_eq!(keyboard.take_wish(), wish(&[1, 2]));
        keyboard.release("Space");
        assert_eq!(keyboard.take_wish(), wish(&[1]));
        keyboard.press("ArrowLeft");
        keyboard.release("ArrowLeft");
        assert_eq!(keyboard.take_wish(), wish(&[0, 1]));
        assert_eq!(keyboard.take_wish(), wish(&[1]));
        keyboard.release_all();
        assert_eq!(keyboard.take_wish(), wish(&[]));
    }
}
