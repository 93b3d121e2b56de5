//! Writing files so that a crash leaves the old one or the new one, never half of one; and digests of what is in them, as text.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Bytes of a digest that are enough to tell one thing from another where nobody means harm.
const SHORT_BYTES: usize = 8;

/// Writes `bytes` to `path`: under another name, brought to disk, then renamed.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
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
