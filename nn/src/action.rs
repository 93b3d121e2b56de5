//! The one meaning of an action: the change from frame i to frame i + 1.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The number of one latent action, below the model's `K`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActionCode(pub u16);

impl std::fmt::Display for ActionCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of the change that leads into frame `frame`; `None` for the first frame, into which none leads. Files whose lines speak of
/// the change *into* a frame (a session's `actions.jsonl`) are brought to [`Transitions`] by this alone.
pub fn change_into(frame: usize) -> Option<usize> {
    frame.checked_sub(1)
}

/// The actions of a clip. Entry `i` is the change from frame `i` to frame `i + 1`, so a clip of `T` frames has `T - 1` of them.
///
/// A dataset's true actions, the codes that the latent action model finds, prepared clips, the codes within a prompt, those of a
/// recorded session and those that evaluation plays all come as this type (or, in tensors, by the shape `[B, T - 1]`), so that
/// nothing can be off by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transitions<A> {
    actions: Vec<A>,
}

/// Those of a single frame: none.
impl<A> Default for Transitions<A> {
    fn default() -> Self {
        Self {
            actions: Vec::new(),
        }
    }
}

impl<A: Clone> Transitions<A> {
    /// The transitions of a clip of `frames` frames; `None` unless there is one fewer action than frames.
    pub fn new(actions: Vec<A>, frames: usize) -> Option<Self> {
        (actions.len() + 1 == frames).then_some(Self { actions })
    }

    /// The transitions of a clip of `frames` frames: `after` gives the change that follows each frame but the last.
    pub fn of_frames(frames: usize, after: impl FnMut(usize) -> A) -> Self {
        let changes = 0..change_into(frames).unwrap_or(0);
        Self {
            actions: changes.map(after).collect(),
        }
    }

    /// The transitions of a clip of `frames` frames, from pairs of a frame and the change that led into it. What no pair speaks of is
    /// unknown; pairs that speak of no change of the clip are left out.
    pub fn from_arrivals(
        frames: usize,
        arrivals: impl IntoIterator<Item = (usize, A)>,
    ) -> Transitions<Option<A>> {
        let mut transitions = Transitions::of_frames(frames, |_| None);
        for (frame, action) in arrivals {
            let entry = change_into(frame).and_then(|change| transitions.actions.get_mut(change));
            if let Some(entry) = entry {
                *entry = Some(action);
            }
        }
        transitions
    }

    /// Frames of the clip.
    pub fn frames(&self) -> usize {
        self.actions.len() + 1
    }

    /// The change that leads from frame `frame` to the next one; `None` for the last frame.
    pub fn after(&self, frame: usize) -> Option<A> {
        self.actions.get(frame).cloned()
    }

    /// The change that led to frame `frame`; `None` for the first frame.
    pub fn into_frame(&self, frame: usize) -> Option<A> {
        self.after(change_into(frame)?)
    }

    /// The changes between the frames `frames` of the clip; `None` when there are no such frames.
    pub fn part(&self, frames: Range<usize>) -> Option<Self> {
        let actions = self.actions.get(frames.start..change_into(frames.end)?)?;
        Some(Self {
            actions: actions.to_vec(),
        })
    }

    /// All of them, in order.
    pub fn as_slice(&self) -> &[A] {
        &self.actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_i_lies_between_frame_i_and_the_next() {
        let transitions = Transitions::new(vec!['a', 'b'], 3).unwrap();
        assert_eq!(transitions.frames(), 3);
        assert_eq!(
            [0, 1, 2].map(|frame| transitions.after(frame)),
            [Some('a'), Some('b'), None]
        );
        assert_eq!(
            [0, 1, 2].map(|frame| transitions.into_frame(frame)),
            [None, Some('a'), Some('b')]
        );
        assert!(Transitions::new(vec!['a', 'b'], 2).is_none());
        assert_eq!(
            transitions,
            Transitions::of_frames(3, |frame| ['a', 'b', 'c'][frame])
        );
        assert_eq!(Transitions::of_frames(0, |_| 'a').frames(), 1);
    }

    #[test]
    fn parts_keep_their_frames_changes() {
        let whole = Transitions::new(vec!['a', 'b', 'c'], 4).unwrap();
        let part = whole.part(1..4).unwrap();
        assert_eq!((part.frames(), part.as_slice()), (3, ['b', 'c'].as_slice()));
        assert_eq!(part.after(0), whole.after(1));
        assert_eq!(whole.part(2..3).unwrap().frames(), 1);
        assert!(whole.part(2..5).is_none() && whole.part(0..0).is_none());
    }

    #[test]
    fn what_led_into_a_frame_comes_after_the_one_before() {
        let found = Transitions::from_arrivals(4, [(0, 'x'), (2, 'b'), (3, 'c'), (9, 'y')]);
        assert_eq!(found.as_slice(), [None, Some('b'), Some('c')]);
        assert_eq!(found.into_frame(3), Some(Some('c')));
    }
}
