//! From a terminal's key events to keys that go down and up.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a key counts as held after it went down, in a terminal that does not tell when it goes up: until keyboards usually begin to
/// repeat.
const FIRST_HOLD: Duration = Duration::from_millis(550);
/// How long it counts as held after each repetition.
const REPEAT_HOLD: Duration = Duration::from_millis(150);

/// A key that went down or up, by its physical name, as in `ArrowLeft`, `KeyA`, `Digit1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It went down.
    Down(String),
    /// It went up.
    Up(String),
}

/// The keys that are held.
pub struct Keys {
    /// Whether the terminal tells when a key goes up.
    releases: bool,
    /// Until when each key counts as held.
    held: BTreeMap<String, Instant>,
}

impl Keys {
    /// No key is held. `releases`: whether the terminal tells when a key goes up.
    pub fn new(releases: bool) -> Self {
        Self {
            releases,
            held: BTreeMap::new(),
        }
    }

    /// What a key event means.
    pub fn take(&mut self, event: &KeyEvent, now: Instant) -> Option<Change> {
        let name = name(event.code)?;
        if self.releases {
            return match event.kind {
                KeyEventKind::Press => Some(Change::Down(name)),
                KeyEventKind::Release => Some(Change::Up(name)),
                KeyEventKind::Repeat => None,
            };
        }
        let known = self.held.contains_key(&name);
        let until = now + if known { REPEAT_HOLD } else { FIRST_HOLD };
        // A keyboard repeats the last key only: those that were held when it came are taken to be held as long as it is.
        for other in self.held.values_mut() {
            *other = (*other).max(until);
        }
        self.held.insert(name.clone(), until);
        (!known).then_some(Change::Down(name))
    }

    /// The keys that have gone up by now.
    pub fn expire(&mut self, now: Instant) -> Vec<Change> {
        let expired: Vec<String> = self
            .held
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(name, _)| name.clone())
            .collect();
        self.held.retain(|_, until| *until > now);
        expired.into_iter().map(Change::Up).collect()
    }
}

/// A key's physical name, as far as a terminal lets it be known: it tells characters, which are where they are on a keyboard in English.
fn name(code: KeyCode) -> Option<String> {
    let name = match code {
        KeyCode::Left => "ArrowLeft",
        KeyCode::Right => "ArrowRight",
        KeyCode::Up => "ArrowUp",
        KeyCode::Down => "ArrowDown",
        KeyCode::Char(' ') => "Space",
        KeyCode::Char('.' | '>') => "Period",
        KeyCode::Char(',' | '<') => "Comma",
        KeyCode::Char('-' | '_') => "Minus",
        KeyCode::Char('=' | '+') => "Equal",
        KeyCode::Char('/' | '?') => "Slash",
        KeyCode::Char(letter) if letter.is_ascii_alphabetic() => {
            return Some(format!("Key{}", letter.to_ascii_uppercase()));
        }
        KeyCode::Char(digit) if digit.is_ascii_digit() => return Some(format!("Digit{digit}")),
        KeyCode::F(number) => return Some(format!("F{number}")),
        KeyCode::Enter => "Enter",
        KeyCode::Esc => "Escape",
        KeyCode::Backspace => "Backspace",
        KeyCode::Tab | KeyCode::BackTab => "Tab",
        KeyCode::Delete => "Delete",
        KeyCode::Insert => "Insert",
        KeyCode::Home => "Home",
        KeyCode::End => "End",
        KeyCode::PageUp => "PageUp",
        KeyCode::PageDown => "PageDown",
        _ => return None,
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossterm::event::KeyModifiers;

    fn event(code: KeyCode, kind: KeyEventKind) -> KeyEvent {
        KeyEvent::new_with_kind(code, KeyModifiers::NONE, kind)
    }

    fn down(name: &str) -> Option<Change> {
        Some(Change::Down(name.into()))
    }

    #[test]
    fn a_terminal_that_tells_of_releases_is_believed() {
        let (mut keys, now) = (Keys::new(true), Instant::now());
        let right = |kind| event(KeyCode::Right, kind);
        assert_eq!(
            keys.take(&right(KeyEventKind::Press), now),
            down("ArrowRight")
        );
        assert_eq!(keys.take(&right(KeyEventKind::Repeat), now), None);
        assert!(keys.expire(now + Duration::from_secs(60)).is_empty());
        assert_eq!(
            keys.take(&right(KeyEventKind::Release), now),
            Some(Change::Up("ArrowRight".into()))
        );
    }

    #[test]
    fn elsewhere_a_key_is_held_while_it_repeats() {
        let (mut keys, start) = (Keys::new(false), Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let press = event(KeyCode::Char('a'), KeyEventKind::Press);
        assert_eq!(keys.take(&press, at(0)), down("KeyA"));
        assert!(keys.expire(at(500)).is_empty());
        for repeat in 0..20 {
            assert_eq!(keys.take(&press, at(500 + 33 * repeat)), None);
            assert!(keys.expire(at(500 + 33 * repeat)).is_empty());
        }
        assert_eq!(keys.expire(at(1127 + 149)), []);
        assert_eq!(keys.expire(at(1127 + 151)), [Change::Up("KeyA".into())]);
        assert_eq!(keys.take(&press, at(2000)), down("KeyA"));
    }

    #[test]
    fn a_key_that_was_held_stays_held_while_another_repeats() {
        let (mut keys, start) = (Keys::new(false), Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let (right, space) = (
            event(KeyCode::Right, KeyEventKind::Press),
            event(KeyCode::Char(' '), KeyEventKind::Press),
        );
        keys.take(&right, at(0));
        keys.take(&right, at(500));
        assert_eq!(keys.take(&space, at(600)), down("Space"));
        assert_eq!(keys.take(&space, at(1100)), None);
        assert!(keys.expire(at(1200)).is_empty());
        assert_eq!(keys.expire(at(1300)).len(), 2);
    }

    #[test]
    fn keys_have_the_names_that_worlds_bind() {
        for (code, expected) in [
            (KeyCode::Char('W'), "KeyW"),
            (KeyCode::Char('7'), "Digit7"),
            (KeyCode::Char(' '), "Space"),
            (KeyCode::Esc, "Escape"),
            (KeyCode::F(2), "F2"),
        ] {
            assert_eq!(name(code).as_deref(), Some(expected));
        }
        assert_eq!(name(KeyCode::Char('é')), None);
    }
}
