//! The one meaning of an action: the change from frame i to frame i + 1.

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

/// The actions of a clip. Entry `i` is the change from frame `i` to frame `i + 1`, so a clip of `T` frames has `T - 1` of them.
///
/// Datasets, the latent action model, the dynamics, play and recording all speak of actions through this type (or, in tensors,
/// by the shape `[B, T - 1]`), so that nothing can be off by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transitions<A> {
    actions: Vec<A>,
}

impl<A: Copy> Transitions<A> {
    /// The transitions of a clip of `frames` frames; `None` unless there is one fewer action than frames.
    pub fn new(actions: Vec<A>, frames: usize) -> Option<Self> {
        (actions.len() + 1 == frames).then_some(Self { actions })
    }

    /// Frames of the clip.
    pub fn frames(&self) -> usize {
        self.actions.len() + 1
    }

    /// The change that leads from frame `frame` to the next one; `None` for the last frame.
    pub fn after(&self, frame: usize) -> Option<A> {
        self.actions.get(frame).copied()
    }

    /// The change that led to frame `frame`; `None` for the first frame.
    pub fn into_frame(&self, frame: usize) -> Option<A> {
        self.actions.get(frame.checked_sub(1)?).copied()
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
    }
}
