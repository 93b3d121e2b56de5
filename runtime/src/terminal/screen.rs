//! Taking the terminal over, and giving it back however the program ends.

use crossterm::event::{
    DisableFocusChange, EnableFocusChange, KeyboardEnhancementFlags, PopKeyboardEnhancementFlags,
    PushKeyboardEnhancementFlags,
};
use crossterm::terminal::{
    DisableLineWrap, EnableLineWrap, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode, supports_keyboard_enhancement,
};
use crossterm::{cursor, execute};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

type Hook = dyn Fn(&std::panic::PanicHookInfo<'_>) + Sync + Send;

/// The terminal while a world is played in it: keys come one by one, and the shell's screen is kept for later. It is as it was before when this is dropped, and
/// before the message of a panic is written.
pub(super) struct TakenTerminal {
    releases: bool,
    /// Whether it is still to be given back.
    taken: Arc<AtomicBool>,
    hook: Arc<Hook>,
}

impl TakenTerminal {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// When standard input or output is no terminal, or it refuses.
    pub(super) fn take() -> io::Result<Self> {
        enable_raw_mode()?;
        let taken = Arc::new(AtomicBool::new(true));
        let hook: Arc<Hook> = Arc::from(std::panic::take_hook());
        let (theirs, before) = (taken.clone(), hook.clone());
        std::panic::set_hook(Box::new(move |panic| {
            give_back(&theirs);
            before(panic);
        }));
        let mut terminal = Self {
            releases: false,
            taken,
            hook,
        };
        // Kitty's keyboard protocol tells when a key goes up. The question is answered or not within two seconds.
        let protocol = supports_keyboard_enhancement().unwrap_or(false);
        // Windows' own terminal always tells.
        terminal.releases = protocol || cfg!(windows);
        let mut out = io::stdout();
        execute!(out, EnterAlternateScreen, cursor::Hide, EnableFocusChange)?;
        // A line that is wider than it seems would scroll the picture.
        execute!(out, DisableLineWrap)?;
        if protocol {
            let flags = KeyboardEnhancementFlags::DISAMBIGUATE_ESCAPE_CODES
                | KeyboardEnhancementFlags::REPORT_EVENT_TYPES
                | KeyboardEnhancementFlags::REPORT_ALL_KEYS_AS_ESCAPE_CODES;
            execute!(out, PushKeyboardEnhancementFlags(flags))?;
        }
        Ok(terminal)
    }

    /// Whether it tells when a key goes up.
    pub(super) fn releases(&self) -> bool {
        self.releases
    }
}

impl Drop for TakenTerminal {
    fn drop(&mut self) {
        give_back(&self.taken);
        // A hook cannot be changed by a thread that panics.
        if !std::thread::panicking() {
            let hook = self.hook.clone();
            std::panic::set_hook(Box::new(move |panic| hook(panic)));
        }
    }
}

/// Makes the terminal what it was, once. Each part is tried whatever became of the others: nothing better can be done about a terminal that is gone.
fn give_back(taken: &AtomicBool) {
    if !taken.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut out = io::stdout();
    // On a terminal that knows nothing of them, these do nothing.
    let _ = execute!(out, PopKeyboardEnhancementFlags);
    let _ = execute!(out, EnableLineWrap);
    let _ = execute!(out, DisableFocusChange, cursor::Show, LeaveAlternateScreen);
    let _ = out.write_all(b"\x1b[0m");
    let _ = out.flush();
    let _ = disable_raw_mode();
}
