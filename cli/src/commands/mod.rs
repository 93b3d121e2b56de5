//! One file a command: from its arguments to a library call, and from the result to words and an exit code.

pub mod bench;
pub mod bind;
pub mod eval;
pub mod ingest;
pub mod play;
pub mod replay;
pub mod train;
pub mod worlds;

use anyhow::{Result, bail};
use runtime::OwnWorld;
use std::path::Path;
use std::process::ExitCode;

use crate::output::Output;

/// Exit code of work that is done but not wholly as asked.
pub const INCOMPLETE: u8 = 3;

/// Finds the world of that name or folder; the default one for `None`.
pub fn find_world(name: Option<&str>) -> Result<::worlds::FoundWorld> {
    Ok(match name {
        Some(name) => ::worlds::find(name)?,
        None => ::worlds::find_default()?,
    })
}

/// What the player has made of a world; where that cannot be read, says so and leaves it aside.
pub fn own_world(world: &::worlds::World, output: Output) -> OwnWorld {
    OwnWorld::of(world).unwrap_or_else(|error| {
        output.tell(format!(
            "What you have set for this world is left aside: {error}"
        ));
        OwnWorld::none(&world.manifest)
    })
}

/// Refuses a file whose folder is not there, before long work is done for it, and to write over one that is there already, unless that is wanted: it may be what nobody
/// can make again.
pub fn check_free(path: &Path, force: bool) -> Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        bail!(
            "{} cannot be written: there is no folder {}",
            path.display(),
            folder.display()
        );
    }
    if path.exists() && !force {
        bail!(
            "{} is there already; choose another name, or write over it with --force",
            path.display()
        );
    }
    Ok(())
}

/// The exit code for work that may be incomplete.
pub fn exit_code(complete: bool) -> ExitCode {
    match complete {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(INCOMPLETE),
    }
}
