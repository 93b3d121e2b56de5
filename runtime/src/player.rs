//! Who plays: a person at a device, or a list or program.

use crate::actions::{ActionSource, Asked};
use nn::ActionCode;
use worlds::Wish;

/// What recordings call the device of a world that plays itself while nobody does.
const ATTRACT: &str = "attract";

/// Gives the wish for the next frame at the moment when it is needed, and what recordings call the device that it comes from.
pub type WishReader = Box<dyn FnMut() -> (Wish, &'static str) + Send>;

/// Who plays.
pub enum Player {
    /// A person, whose wishes are read through this.
    Person(WishReader),
    /// A list or a program; play ends with a list's end.
    Source(ActionSource),
}

impl Player {
    /// What a person has pressed until now counts for nothing.
    pub(crate) fn forget_input(&mut self) {
        if let Self::Person(wish) = self {
            wish();
        }
    }

    /// What is asked of the next frame and from which device; `None` at the end. `idle` is the world's code for nothing pressed; with `attract`,
    /// a person who presses nothing lets the world play itself.
    pub(crate) fn next_asked(
        &mut self,
        idle: Option<ActionCode>,
        attract: bool,
    ) -> Option<(Asked, &'static str)> {
        match self {
            Self::Person(wish) => match wish() {
                (wish, _) if attract && wish.is_none() => Some((Asked::Wish(wish), ATTRACT)),
                (wish, device) => Some((Asked::Wish(or_idle(wish, idle)), device)),
            },
            Self::Source(source) if source.remaining() == Some(0) => None,
            Self::Source(source) => {
                let device = source.device();
                Some((source.next_asked(), device))
            }
        }
    }
}

/// A person who presses nothing wishes for what the world calls idle: without a wish, the action prior would play on as whoever played in the
/// training video. Lists and programs are taken at their word.
fn or_idle(wish: Wish, idle: Option<ActionCode>) -> Wish {
    match wish.is_none() {
        true => idle.into_iter().collect(),
        false => wish,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_who_presses_nothing_wishes_to_idle_and_nobody_else_does() {
        let wish = |codes: &[u16]| -> Wish { codes.iter().map(|&code| ActionCode(code)).collect() };
        let mut pressed = vec![wish(&[]), wish(&[0, 2]), wish(&[])].into_iter();
        let mut person = Player::Person(Box::new(move || (pressed.next().unwrap(), "keyboard")));
        let asked = |codes: &[u16], device| Some((Asked::Wish(wish(codes)), device));
        let idle = Some(ActionCode(3));
        assert_eq!(person.next_asked(idle, false), asked(&[3], "keyboard"));
        assert_eq!(person.next_asked(idle, false), asked(&[0, 2], "keyboard"));
        assert_eq!(person.next_asked(None, false), asked(&[], "keyboard"));
        let mut autoplay = Player::Source(ActionSource::Autoplay);
        assert_eq!(autoplay.next_asked(idle, false), asked(&[], "autoplay"));
        let empty_line = ActionSource::Wishes(vec![wish(&[])].into_iter());
        let mut list = Player::Source(empty_line);
        assert_eq!(list.next_asked(idle, false), asked(&[], "file"));
        assert_eq!(list.next_asked(idle, false), None);
    }
}
