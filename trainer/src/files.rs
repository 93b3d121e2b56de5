//! Writing files so that a crash leaves the old one or the new one, never half of one; and digests of what is in them, as text.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Bytes of a digest that are enough to tell one thing from another where nobody means harm.
const SHORT_BYTES: usize = 8;

/// Name of the file that whoever writes to a folder holds a lock on.
pub(crate) const LOCK_FILE: &str = ".lock";
/// How the names end under which files are written at first, after the number of the process.
const UNFINISHED: &str = ".tmp";

/// Writes `bytes` to `path`: under another name, brought to disk, then renamed.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}{UNFINISHED}", std::process::id()));
    let temporary = Path::new(&temporary);
    let write = || {
        let mut file = File::create(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(temporary, path)
    };
    let result = write();
    if result.is_err() {
        let _ = fs::remove_file(temporary);
    }
    result.map_err(Error::io(path))
}

/// What is in a file; `None` where there is none.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path)(error)),
    }
}

/// Makes a folder, if it is not there, and holds it for as long as the result lives, which ends with the process at the latest. Removes what a
/// process that was killed had not finished writing there. Where the file system has no locks, nobody is kept out and nothing removed.
///
/// # Errors
/// [`Error::InUse`] when somebody else holds it.
pub(crate) fn hold_folder(folder: &Path) -> Result<Option<File>> {
    make_folder(folder)?;
    let path = folder.join(LOCK_FILE);
    let file = File::create(&path).map_err(Error::io(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::InUse(folder.to_owned())),
        Err(TryLockError::Error(_)) => return Ok(None),
    }
    remove_unfinished(folder)?;
    Ok(Some(file))
}

/// Removes what an attempt left that was ended while it wrote a file. Only who holds the folder may: others may be writing.
pub(crate) fn remove_unfinished(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder))?.flatten() {
        let name = entry.file_name();
        let process = name
            .to_str()
            .and_then(|name| name.strip_suffix(UNFINISHED)?.rsplit_once('.'));
        if process.is_some_and(|(_, number)| number.parse::<u32>().is_ok()) {
            let path = entry.path();
            fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

/// Bytes in hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The beginning of a digest in hexadecimal.
pub(crate) fn short_digest(hasher: Sha256) -> String {
    hexadecimal(&hasher.finalize()[..SHORT_BYTES])
}

/// Makes a folder and those above it.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io(path))
}
