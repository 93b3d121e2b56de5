//! Ctrl-C: the first one asks long work to stop and to keep what can be kept, the second one ends the program.

use crate::output::complain;
use anyhow::{Context, Result};
use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use trainer::ingest::IngestError;

/// Exit code of a program that was told to end, as shells have it.
pub const INTERRUPTED: u8 = 130;

/// Tells why work ended before it was finished.
pub fn interrupted(why: impl Display) -> ExitCode {
    complain(why);
    ExitCode::from(INTERRUPTED)
}

/// Whether an error says that work was interrupted, by whichever library.
pub fn is_interruption(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(trainer::Error::Cancelled))
        || matches!(error.downcast_ref(), Some(IngestError::Cancelled))
        || matches!(
            error.downcast_ref(),
            Some(runtime::Error::ExportCancelled(_))
        )
}

/// A flag that becomes true at the first Ctrl-C (or SIGTERM, or SIGHUP where nobody asked for that to be ignored).
///
/// # Errors
/// When the handler cannot be installed.
pub fn on_interrupt() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&flag);
    let stop = move || {
        if shared.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED.into());
        }
        complain("stopping (again to stop at once)");
    };
    nn::keeping_ignored_signals(|| ctrlc::set_handler(stop)).context("cannot listen to Ctrl-C")?;
    Ok(flag)
}
