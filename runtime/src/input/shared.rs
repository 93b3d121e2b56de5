//! Input that several threads share: whoever hears the keys, the world's thread that reads wishes, and gamepads.

use super::pad::PadReader;
use super::{ControlEvent, Gamepads, InputState, Source};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use worlds::{Input, Wish};

/// How often gamepads are looked at besides when a wish is read, so that their commands come through while the world is paused.
const PAD_INTERVAL: Duration = Duration::from_millis(8);

/// The player's input, shared between threads.
#[derive(Clone)]
pub struct SharedInput {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    state: InputState,
    gamepads: Gamepads,
    reader: PadReader,
}

impl SharedInput {
    /// Shares `state`, fed by keys and `gamepads`.
    pub fn new(state: InputState, gamepads: Gamepads) -> Self {
        let inner = Inner {
            state,
            gamepads,
            reader: PadReader::default(),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key went down. Names that are no [`Input`] mean nothing.
    pub fn press_key(&self, name: &str) {
        if let Some(key) = Input::named(name) {
            self.lock().state.press(Source::Keyboard, key);
        }
    }

    /// A key went up.
    pub fn release_key(&self, name: &str) {
        if let Some(key) = Input::named(name) {
            self.lock().state.release(Source::Keyboard, key);
        }
    }

    /// All keys went up, as when the window loses the focus.
    pub fn release_keys(&self) {
        self.lock().state.release_all(Source::Keyboard);
    }

    /// The wish for the next frame and the device that it comes from. Gamepads are asked now, so that what was pressed until this moment counts.
    pub fn take_wish(&self) -> (Wish, &'static str) {
        let mut inner = self.lock();
        inner.poll();
        inner.state.take_wish()
    }

    /// The commands since this was last asked.
    pub fn take_commands(&self) -> Vec<ControlEvent> {
        let mut inner = self.lock();
        inner.poll();
        inner.state.take_commands()
    }

    /// Does something with the state, such as asking for the bindings or changing them.
    pub fn with_state<R>(&self, with: impl FnOnce(&mut InputState) -> R) -> R {
        with(&mut self.lock().state)
    }

    /// Looks at the gamepads again and again, on a thread that ends with the last other owner of this input, and calls `notify` when commands
    /// wait to be taken.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn watch_gamepads(&self, notify: impl Fn() + Send + 'static) -> std::io::Result<()> {
        if self.lock().gamepads.are_impossible() {
            return Ok(());
        }
        let inner = Arc::downgrade(&self.inner);
        let watch = move || {
            while let Some(inner) = inner.upgrade() {
                let waiting = {
                    let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
                    inner.poll();
                    inner.state.has_commands()
                };
                drop(inner);
                if waiting {
                    notify();
                }
                std::thread::sleep(PAD_INTERVAL);
            }
        };
        std::thread::Builder::new()
            .name("gamepads".into())
            .spawn(watch)
            .map(drop)
    }
}

impl Inner {
    fn poll(&mut self) {
        while let Some(event) = self.gamepads.next_event() {
            self.reader.take(&event, &mut self.state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Bindings, Control, ControlTable};

    #[test]
    fn without_gamepads_the_keyboard_plays_on() {
        let action = worlds::Action {
            name: "right".into(),
            bindings: Vec::new(),
        };
        let state = InputState::new(Bindings::of(&[action]), ControlTable::default());
        let input = SharedInput::new(state, Gamepads::none());
        input.watch_gamepads(|| panic!("there are none")).unwrap();
        let theirs = input.clone();
        theirs.press_key("ArrowRight");
        theirs.press_key("NoSuchKey");
        theirs.press_key("KeyP");
        let (wish, device) = input.take_wish();
        assert_eq!((wish.codes().len(), device), (1, "keyboard"));
        let commands = input.take_commands();
        assert_eq!(
            commands,
            [ControlEvent {
                control: Control::Pause,
                pressed: true
            }]
        );
        theirs.release_keys();
        assert!(input.take_wish().0.is_none());
    }
}
