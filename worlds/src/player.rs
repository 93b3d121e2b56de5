//! A player made of dice, for evaluation and for play without hands.

use crate::Wish;
use nn::ActionCode;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Keeps the random player's numbers apart from those of a rollout with the same seed.
const STREAM: u64 = u64::MAX;

/// Wishes at random, and sticks to each wish for a while: a random code, or none, for 3 to 12 frames.
#[derive(Clone, Debug)]
pub struct RandomPlayer {
    random: ChaCha8Rng,
    codes: u16,
    wish: Wish,
    frames_left: u32,
}

impl RandomPlayer {
    /// A player for a world of `codes` action codes; one seed gives one sequence.
    pub fn new(seed: u64, codes: usize) -> Self {
        Self {
            random: nn::generator(seed, STREAM),
            codes: u16::try_from(codes).unwrap_or(u16::MAX),
            wish: Wish::none(),
            frames_left: 0,
        }
    }

    /// The wish for the next frame.
    pub fn next_wish(&mut self) -> Wish {
        if self.frames_left == 0 {
            let choice = self.random.random_range(0..=self.codes);
            let code = (choice < self.codes).then_some(ActionCode(choice));
            self.wish = code.into_iter().collect();
            self.frames_left = self.random.random_range(3..=12);
        }
        self.frames_left -= 1;
        self.wish.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn wishes(seed: u64) -> Vec<Wish> {
        let mut player = RandomPlayer::new(seed, 4);
        (0..2000).map(|_| player.next_wish()).collect()
    }

    #[test]
    fn one_seed_gives_one_sequence() {
        assert_eq!(wishes(7), wishes(7));
        assert_ne!(wishes(7), wishes(8));
    }

    #[test]
    fn every_code_and_none_is_held_for_a_while() {
        let wishes = wishes(1);
        let kinds: BTreeSet<_> = wishes.iter().map(|wish| wish.codes().to_vec()).collect();
        assert_eq!(kinds.len(), 5);
        let mut runs = Vec::new();
        for wish in &wishes {
            match runs.last_mut() {
                Some((last, length)) if *last == wish => *length += 1,
                _ => runs.push((wish, 1)),
            }
        }
        let whole = &runs[..runs.len() - 1];
        assert!(whole.iter().all(|(_, length)| *length >= 3));
        assert!(whole.iter().any(|(_, length)| *length > 8));
        let longest = whole.iter().map(|(_, length)| *length).max().unwrap();
        assert!(longest <= 12 * 4, "{longest}");
    }
}
