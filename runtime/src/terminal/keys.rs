//! From a terminal's key events to keys that go down and up.

use crate::input::{SHIFTED_DIGITS, key_of};
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers, ModifierKeyCode};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a key counts as held after it went down, in a terminal that does not tell when it goes up: until keyboards usually begin to
/// repeat.
const FIRST_HOLD: Duration = Duration::from_millis(550);
/// How long it counts as held after each repetition.
const REPEAT_HOLD: Duration = Duration::from_millis(150);
/// A key that comes again after this long at most, and later than it would repeat, was pressed anew: keyboards usually begin to repeat later.
const NEW_PRESS: Duration = Duration::from_millis(400);
/// What either shift key is called: most terminals tell that one is held, and not which.
const SHIFT: &str = "ShiftLeft";

/// A key that went down or up, by its physical name, as in `ArrowLeft`, `KeyA`, `Digit1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It went down.
    Down(String),
    /// It went up.
    Up(String),
}

/// A key that is held.
#[derive(Clone, Copy)]
struct Held {
    /// When it last came.
    came: Instant,
    /// Until when it counts as held.
    until: Instant,
}

/// The keys that are held.
pub struct Keys {
    /// Whether the terminal tells when a key goes up.
    releases: bool,
    held: BTreeMap<String, Held>,
    /// Whether a shift key is held.
    shift: bool,
}

impl Keys {
    /// No key is held. `releases`: whether the terminal tells when a key goes up.
    pub fn new(releases: bool) -> Self {
        Self {
            releases,
            held: BTreeMap::new(),
            shift: false,
        }
    }

    /// What a key event means, in the order in which it happened.
    pub fn take(&mut self, event: &KeyEvent, now: Instant) -> Vec<Change> {
        let Some(name) = name(event.code) else {
            return Vec::new();
        };
        let mut changes = Vec::new();
        let shift = is_shifted(event);
        if shift != self.shift {
            self.shift = shift;
            // With or without a shift key it is another key to whoever presses it, and no repetition.
            if self.held.remove(&name).is_some() {
                changes.push(Change::Up(name.clone()));
            }
            changes.push(match shift {
                true => Change::Down(SHIFT.into()),
                false => Change::Up(SHIFT.into()),
            });
        }
        if name == SHIFT {
            return changes;
        }
        if self.releases {
            match event.kind {
                KeyEventKind::Press => changes.push(Change::Down(name)),
                KeyEventKind::Release => changes.push(Change::Up(name)),
                KeyEventKind::Repeat => {}
            }
            return changes;
        }
        let before = self.held.get(&name).map(|held| now - held.came);
        let repeats = before.is_some_and(|time| time <= REPEAT_HOLD || time > NEW_PRESS);
        let until = now + if repeats { REPEAT_HOLD } else { FIRST_HOLD };
        // A keyboard repeats the last key only: those that were held when it came are taken to be held as long as it is.
        for other in self.held.values_mut() {
            other.until = other.until.max(until);
        }
        self.held.insert(name.clone(), Held { came: now, until });
        if !repeats {
            changes.extend(before.map(|_| Change::Up(name.clone())));
            changes.push(Change::Down(name));
        }
        changes
    }

    /// The keys that have gone up by now.
    pub fn expire(&mut self, now: Instant) -> Vec<Change> {
        let expired: Vec<String> = self
            .held
            .iter()
            .filter(|(_, held)| held.until <= now)
            .map(|(name, _)| name.clone())
            .collect();
        self.held.retain(|_, held| held.until > now);
        let mut changes: Vec<Change> = expired.into_iter().map(Change::Up).collect();
        // Of a shift key such a terminal tells only together with another.
        if self.shift && !self.releases && self.held.is_empty() {
            self.shift = false;
            changes.push(Change::Up(SHIFT.into()));
        }
        changes
    }

    /// No key is held any more, as when the terminal hears no more of them.
    pub fn release_all(&mut self) {
        self.held.clear();
        self.shift = false;
    }
}

/// Whether a shift key is held after a key event.
fn is_shifted(event: &KeyEvent) -> bool {
    match event.code {
        KeyCode::Modifier(_) => event.kind != KeyEventKind::Release,
        KeyCode::Char(sign) if SHIFTED_DIGITS.contains(sign) => true,
        _ => event.modifiers.contains(KeyModifiers::SHIFT),
    }
}

/// A key's physical name, as far as a terminal lets it be known: it tells characters, which are where they are on a keyboard in English.
fn name(code: KeyCode) -> Option<String> {
    let name = match code {
        KeyCode::Left => "ArrowLeft",
        KeyCode::Right => "ArrowRight",
        KeyCode::Up => "ArrowUp",
        KeyCode::Down => "ArrowDown",
        KeyCode::Char(character) => return key_of(character),
        KeyCode::Modifier(ModifierKeyCode::LeftShift | ModifierKeyCode::RightShift) => SHIFT,
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

    fn event(code: KeyCode, kind: KeyEventKind) -> KeyEvent {
        KeyEvent::new_with_kind(code, KeyModifiers::NONE, kind)
    }

    fn shifted(code: KeyCode, kind: KeyEventKind) -> KeyEvent {
        KeyEvent::new_with_kind(code, KeyModifiers::SHIFT, kind)
    }

    fn down(name: &str) -> Change {
        Change::Down(name.into())
    }

    fn up(name: &str) -> Change {
        Change::Up(name.into())
    }

    #[test]
    fn a_terminal_that_tells_of_releases_is_believed() {
        let (mut keys, now) = (Keys::new(true), Instant::now());
        let right = |kind| event(KeyCode::Right, kind);
        assert_eq!(
            keys.take(&right(KeyEventKind::Press), now),
            [down("ArrowRight")]
        );
        assert_eq!(keys.take(&right(KeyEventKind::Repeat), now), []);
        assert!(keys.expire(now + Duration::from_secs(60)).is_empty());
        assert_eq!(
            keys.take(&right(KeyEventKind::Release), now),
            [up("ArrowRight")]
        );
    }

    #[test]
    fn elsewhere_a_key_is_held_while_it_repeats() {
        let (mut keys, start) = (Keys::new(false), Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let press = event(KeyCode::Char('a'), KeyEventKind::Press);
        assert_eq!(keys.take(&press, at(0)), [down("KeyA")]);
        assert!(keys.expire(at(500)).is_empty());
        for repeat in 0..20 {
            assert_eq!(keys.take(&press, at(500 + 33 * repeat)), []);
            assert!(keys.expire(at(500 + 33 * repeat)).is_empty());
        }
        assert_eq!(keys.expire(at(1127 + 149)), []);
        assert_eq!(keys.expire(at(1127 + 151)), [up("KeyA")]);
        assert_eq!(keys.take(&press, at(2000)), [down("KeyA")]);
    }

    #[test]
    fn elsewhere_a_key_that_is_tapped_again_and_again_goes_down_each_time() {
        let (mut keys, start) = (Keys::new(false), Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let press = event(KeyCode::Char('n'), KeyEventKind::Press);
        assert_eq!(keys.take(&press, at(0)), [down("KeyN")]);
        for tap in 1..5 {
            assert_eq!(keys.take(&press, at(300 * tap)), [up("KeyN"), down("KeyN")]);
        }
        // Held from the last one on.
        assert_eq!(keys.take(&press, at(1200 + 500)), []);
        assert_eq!(keys.take(&press, at(1200 + 533)), []);
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
        assert_eq!(keys.take(&space, at(600)), [down("Space")]);
        assert_eq!(keys.take(&space, at(1100)), []);
        assert!(keys.expire(at(1200)).is_empty());
        assert_eq!(keys.expire(at(1300)).len(), 2);
    }

    #[test]
    fn a_shift_key_that_is_told_of_goes_down_and_up_by_itself() {
        let (mut keys, now) = (Keys::new(true), Instant::now());
        let shift = KeyCode::Modifier(ModifierKeyCode::RightShift);
        // crossterm says of a shift key's own release, too, that it is held.
        for (event, expected) in [
            (shifted(shift, KeyEventKind::Press), vec![down(SHIFT)]),
            (
                shifted(KeyCode::Char('r'), KeyEventKind::Press),
                vec![down("KeyR")],
            ),
            (
                shifted(KeyCode::Char('r'), KeyEventKind::Release),
                vec![up("KeyR")],
            ),
            (
                shifted(KeyCode::Char('3'), KeyEventKind::Press),
                vec![down("Digit3")],
            ),
            (shifted(shift, KeyEventKind::Release), vec![up(SHIFT)]),
            (
                event(KeyCode::Char('3'), KeyEventKind::Release),
                vec![up("Digit3")],
            ),
            // Where it is not told of, it is known by the others.
            (
                shifted(KeyCode::Char('R'), KeyEventKind::Press),
                vec![down(SHIFT), down("KeyR")],
            ),
            (
                event(KeyCode::Char('r'), KeyEventKind::Release),
                vec![up(SHIFT), up("KeyR")],
            ),
        ] {
            assert_eq!(keys.take(&event, now), expected, "{event:?}");
        }
    }

    #[test]
    fn elsewhere_a_shift_key_is_known_by_what_it_makes_of_others() {
        let (mut keys, start) = (Keys::new(false), Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let press = |sign| event(KeyCode::Char(sign), KeyEventKind::Press);
        let capital = shifted(KeyCode::Char('R'), KeyEventKind::Press);
        assert_eq!(keys.take(&press('r'), at(0)), [down("KeyR")]);
        let expected = [up("KeyR"), down(SHIFT), down("KeyR")];
        assert_eq!(keys.take(&capital, at(100)), expected);
        assert_eq!(keys.take(&capital, at(200)), []);
        assert_eq!(keys.expire(at(3000)), [up("KeyR"), up(SHIFT)]);
        assert_eq!(keys.expire(at(3000)), []);
        let expected = [down(SHIFT), down("Digit3")];
        assert_eq!(keys.take(&press('#'), at(4000)), expected);
        let expected = [up(SHIFT), down("Digit4")];
        assert_eq!(keys.take(&press('4'), at(4100)), expected);
        assert_eq!(
            keys.take(&press('('), at(4200)).last(),
            Some(&down("Digit9"))
        );
        keys.release_all();
        assert_eq!(keys.take(&press('4'), at(4300)), [down("Digit4")]);
    }

    #[test]
    fn keys_have_the_names_that_worlds_bind() {
        for (code, expected) in [
            (KeyCode::Char('W'), "KeyW"),
            (KeyCode::Char('7'), "Digit7"),
            (KeyCode::Char(')'), "Digit0"),
            (KeyCode::Char('&'), "Digit7"),
            (KeyCode::Char(' '), "Space"),
            (KeyCode::Esc, "Escape"),
            (KeyCode::F(2), "F2"),
        ] {
            assert_eq!(name(code).as_deref(), Some(expected));
        }
        assert_eq!(name(KeyCode::Char('é')), None);
    }
}
