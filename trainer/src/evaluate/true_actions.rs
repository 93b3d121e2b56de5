//! True actions in place of latent ones: what a rollout comes to when all that is known of what follows is what was pressed.
//!
//! Training video says which code comes most often after which under each action. From the prompt's last code on, that code is taken at
//! every change: so a figure of latent actions can be held against that of the buttons themselves.

use std::collections::BTreeMap;

use nn::{ActionCode, Transitions};
use worlds::World;

use super::rollouts::{inferred_codes, true_frames};
use crate::Result;
use crate::clips::{ClipSampler, longest_episode, true_actions};
use crate::dataset::{Dataset, Split};

/// Training clips that are looked at, and their length.
const CLIPS: usize = 192;
const LENGTH: usize = 33;

/// Which code an action comes to.
pub(crate) struct CodesOfActions {
    /// How often each code followed, by the code before and the action.
    after: BTreeMap<(ActionCode, u16), Vec<u64>>,
    /// The same by the code before alone.
    alone: BTreeMap<ActionCode, Vec<u64>>,
    codes: usize,
}

impl CodesOfActions {
    fn new(codes: usize) -> Self {
        Self {
            after: BTreeMap::new(),
            alone: BTreeMap::new(),
            codes,
        }
    }

    /// Looks at training video; `None` where it has no true actions.
    pub fn learn(world: &World, dataset: &Dataset) -> Result<Option<Self>> {
        let length = longest_episode(dataset, Split::Train).min(LENGTH);
        // There may be no training video here at all.
        let Ok(sampler) = ClipSampler::new(dataset, Split::Train, length) else {
            return Ok(None);
        };
        let mut learned = Self::new(world.manifest.codes());
        for clip in sampler.fixed(CLIPS) {
            let Some(actions) = true_actions(dataset, &clip) else {
                continue;
            };
            let codes = inferred_codes(world, &true_frames(dataset, &clip)?)?;
            learned.take(&codes, &actions);
        }
        Ok((!learned.after.is_empty()).then_some(learned))
    }

    fn take(&mut self, codes: &Transitions<ActionCode>, actions: &Transitions<Option<u16>>) {
        for frame in 1..codes.frames() {
            let (Some(last), Some(next)) = (codes.into_frame(frame), codes.after(frame)) else {
                continue;
            };
            let count = |counts: &mut Vec<u64>| {
                counts.resize(self.codes, 0);
                if let Some(count) = counts.get_mut(usize::from(next.0)) {
                    *count += 1;
                }
            };
            count(self.alone.entry(last).or_default());
            if let Some(Some(action)) = actions.after(frame) {
                count(self.after.entry((last, action)).or_default());
            }
        }
    }

    /// The codes that these actions come to, one after another, from the code before them on.
    pub fn codes(&self, mut last: ActionCode, actions: &[Option<u16>]) -> Vec<ActionCode> {
        let likeliest = |counts: &Vec<u64>| {
            let counted = counts.iter().zip((0u16..).map(ActionCode));
            // Of equally frequent codes the first.
            counted
                .max_by_key(|(count, code)| (**count, std::cmp::Reverse(*code)))
                .map(|(_, code)| code)
        };
        let next = |action: &Option<u16>| {
            let under = action.and_then(|action| self.after.get(&(last, action)));
            let counts = under.or_else(|| self.alone.get(&last));
            last = counts.and_then(likeliest).unwrap_or(last);
            last
        };
        actions.iter().map(next).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_comes_to_what_most_often_followed_under_it() {
        let codes = |numbers: &[u16]| {
            let codes = numbers.iter().copied().map(ActionCode).collect();
            Transitions::new(codes, numbers.len() + 1).unwrap()
        };
        let actions = |actions: &[Option<u16>]| {
            Transitions::new(actions.to_vec(), actions.len() + 1).unwrap()
        };
        let mut learned = CodesOfActions::new(3);
        let (go, stop) = (Some(7), Some(9));
        learned.take(
            &codes(&[0, 1, 1, 2, 0]),
            &actions(&[None, go, go, stop, None]),
        );
        learned.take(
            &codes(&[0, 1, 2, 0, 0]),
            &actions(&[go, go, stop, None, None]),
        );
        let told = |last: u16, actions: &[Option<u16>]| -> Vec<u16> {
            let codes = learned.codes(ActionCode(last), actions);
            codes.iter().map(|code| code.0).collect()
        };
        assert_eq!(told(0, &[go, go, stop]), [1, 1, 2]);
        assert_eq!(told(1, &[stop]), [2]);
        // An action that was never seen there, and none at all: what follows most often anyway.
        assert_eq!(told(1, &[Some(1), None]), [2, 0]);
        // A code that was never seen with anything after it.
        let unseen = CodesOfActions::new(3);
        assert_eq!(unseen.codes(ActionCode(2), &[go]), [ActionCode(2)]);
    }
}
