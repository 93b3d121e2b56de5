//! Files that are never there half.

use crate::{Error, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Writes `bytes` as the whole of a file, and brings them to disk before they take the place of what was there.
pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole(path, |unfinished| {
        File::create(unfinished)
            .and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            })
            .map_err(Error::io(unfinished))
    })
}

/// Has `write` make a file under another name beside `path`, and then gives it that one. What was there is kept until then, and where `write` fails, nothing of
/// the new file is.
pub(crate) fn write_whole<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}.unfinished", std::process::id()));
    let unfinished = Path::new(&unfinished);
    let written = write(unfinished).and_then(|written| {
        fs::rename(unfinished, path).map_err(Error::io(path))?;
        Ok(written)
    });
    if written.is_err() {
        // It may not even have been begun, and nothing more can be done for what could not be written.
        let _ = fs::remove_file(unfinished);
    }
    written
}
