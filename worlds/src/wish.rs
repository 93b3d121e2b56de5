//! Wishes: what a player asks for in one frame.

use crate::error::{Error, Result};
use crate::{Lasting, WorldManifest};
use nn::ActionCode;

/// The action codes that a player wishes for: none, one, or several at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wish {
    codes: Vec<ActionCode>,
}

impl Wish {
    /// No wish: the action prior decides alone.
    pub fn none() -> Self {
        Self::default()
    }

    /// The codes wished for, in order, each once.
    pub fn codes(&self) -> &[ActionCode] {
        &self.codes
    }

    /// Whether nothing is wished for.
    pub fn is_none(&self) -> bool {
        self.codes.is_empty()
    }

    /// What is left of the wish after frames of the codes `past`, the newest at the end, where codes last so long ([`WorldManifest::lasts`]). Codes of one wish
    /// that end by themselves take each other's place (jumping and jumping to the right), so that they end together: the longest of each number counts.
    pub(crate) fn without_what_has_ended(
        &self,
        past: &[ActionCode],
        lasts: &[Option<Lasting>],
    ) -> Self {
        let lasting = |code: &ActionCode| lasts.get(usize::from(code.0)).copied().flatten();
        let ends = |code: &ActionCode| self.codes.contains(code) && lasting(code).is_some();
        let longest = self
            .codes
            .iter()
            .filter_map(lasting)
            .reduce(|a, b| Lasting {
                frames: a.frames.max(b.frames),
                of: a.of.max(b.of),
            });
        let Some(Lasting { frames, of }) = longest else {
            return self.clone();
        };
        let latest = past.iter().rev().take(usize::from(of));
        if latest.filter(|code| ends(code)).count() < usize::from(frames) {
            return self.clone();
        }
        let others = self.codes.iter().filter(|code| !ends(code));
        others.copied().collect()
    }

    /// Reads a wish as people write it: a code's number or name, several joined by `+`, nothing for none.
    ///
    /// # Errors
    /// When the world has no such action.
    pub fn parse(text: &str, manifest: &WorldManifest) -> Result<Self> {
        if text.trim().is_empty() {
            return Ok(Self::none());
        }
        let find = |part: &str| {
            let part = part.trim();
            manifest
                .find_action(part)
                .ok_or_else(|| Error::UnknownAction {
                    wanted: crate::error::printable(part),
                    known: known_actions(manifest),
                })
        };
        text.split('+').map(find).collect()
    }

    /// The wish as people write it, in names.
    pub fn to_text(&self, manifest: &WorldManifest) -> String {
        let names = self.codes.iter().map(|&code| manifest.action_name(code));
        names.collect::<Vec<_>>().join("+")
    }
}

impl FromIterator<ActionCode> for Wish {
    fn from_iter<I: IntoIterator<Item = ActionCode>>(codes: I) -> Self {
        let mut codes: Vec<_> = codes.into_iter().collect();
        codes.sort_unstable();
        codes.dedup();
        Self { codes }
    }
}

fn known_actions(manifest: &WorldManifest) -> String {
    let actions = manifest.actions.iter().enumerate();
    let texts = actions.map(|(code, action)| match code.to_string() == action.name {
        true => action.name.clone(),
        false => format!("{code} ({})", action.name),
    });
    texts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest() -> WorldManifest {
        crate::tiny_contents(1).unwrap().manifest
    }

    fn codes(text: &str) -> Vec<u16> {
        let wish = Wish::parse(text, &manifest()).unwrap();
        wish.codes().iter().map(|code| code.0).collect()
    }

    #[test]
    fn wishes_are_read_by_number_and_name() {
        assert!(codes("").is_empty());
        assert!(codes("  \t").is_empty());
        assert_eq!(codes("2"), [2]);
        assert_eq!(codes("Right"), [1]);
        assert_eq!(codes("jump + right+1"), [1, 2]);
    }

    #[test]
    fn what_no_world_has_is_refused_with_what_there_is() {
        for text in ["4", "fly", "jump+", "+", "-1", "99999999999999999999"] {
            let error = Wish::parse(text, &manifest()).unwrap_err().to_string();
            assert!(error.contains("2 (jump)"), "{error}");
        }
    }

    #[test]
    fn what_has_lasted_long_enough_is_no_part_of_a_wish() {
        let lasting = |frames, of| Some(Lasting { frames, of });
        let lasts = [lasting(2, 4), lasting(3, 3), None];
        let left = |wish: &[u16], past: &[u16]| -> Vec<u16> {
            let codes = |codes: &[u16]| codes.iter().copied().map(ActionCode).collect::<Vec<_>>();
            let wish: Wish = codes(wish).into_iter().collect();
            let left = wish.without_what_has_ended(&codes(past), &lasts);
            left.codes().iter().map(|code| code.0).collect()
        };
        assert_eq!(left(&[0], &[]), [0]);
        assert_eq!(left(&[0], &[2, 0]), [0]);
        assert_eq!(left(&[0], &[0, 0]), [0; 0]);
        // Not again before four frames are over.
        assert_eq!(left(&[0], &[0, 0, 2]), [0; 0]);
        assert_eq!(left(&[0], &[0, 0, 2, 2]), [0; 0]);
        assert_eq!(left(&[0], &[0, 0, 2, 2, 2]), [0]);
        // Of two, the one that lasts longer says when both end, and the one that pauses longer when they may begin again.
        assert_eq!(left(&[0, 1], &[0, 0]), [0, 1]);
        assert_eq!(left(&[0, 1], &[0, 1, 0]), [0; 0]);
        assert_eq!(left(&[0, 1], &[0, 1, 0, 2]), [0; 0]);
        assert_eq!(left(&[0, 1], &[0, 1, 0, 2, 2]), [0, 1]);
        // What lasts for as long as it is wished for, and codes that the world says nothing of.
        assert_eq!(left(&[0, 1, 2], &[0, 1, 0]), [2]);
        assert_eq!(left(&[2, 3], &[2; 9]), [2, 3]);
    }

    proptest! {
        #[test]
        fn text_and_wish_are_the_same_thing(codes in proptest::collection::vec(0u16..4, 0..6)) {
            let wish: Wish = codes.into_iter().map(ActionCode).collect();
            prop_assert_eq!(Wish::parse(&wish.to_text(&manifest()), &manifest()).unwrap(), wish);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = Wish::parse(&text, &manifest());
        }
    }
}
