//! One file a command: from its arguments to a library call, and from the result to words and an exit code.

pub mod bench;
pub mod eval;
pub mod ingest;
pub mod play;
pub mod replay;
pub mod train;
pub mod worlds;

use anyhow::Result;
use std::process::ExitCode;
use std::sync::Arc;

/// Exit code of work that is done but not wholly as asked.
pub const INCOMPLETE: u8 = 3;

/// Loads the world of that name or folder; the default one for `None`.
pub fn load_world(name: Option<&str>) -> Result<Arc<::worlds::World>> {
    let found = match name {
        Some(name) => ::worlds::find(name)?,
        None => ::worlds::find_default()?,
    };
    Ok(Arc::new(found.load()?))
}

/// The exit code for work that may be incomplete.
pub fn exit_code(complete: bool) -> ExitCode {
    match complete {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(INCOMPLETE),
    }
}
