//! Where the log goes: to standard error, but not over a picture in the same terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was logged while the log is held back.
static HELD: Mutex<Option<Vec<u8>>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<Vec<u8>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes to standard error, or keeps what is written while the log is held back.
pub struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match held().as_mut() {
            Some(held) => held.write(bytes),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Where standard error is a terminal, the log is held back until this is dropped.
pub struct HeldLog(());

impl HeldLog {
    /// Holds the log back.
    pub fn begin() -> Self {
        *held() = io::stderr().is_terminal().then(Vec::new);
        Self(())
    }
}

impl Drop for HeldLog {
    fn drop(&mut self) {
        let logged = held().take().unwrap_or_default();
        // As far as anyone listens.
        let _ = io::stderr().write_all(&logged);
    }
}
