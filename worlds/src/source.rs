//! Where a bundle's files come from: a folder, or memory.

use crate::error::{Error, Result};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The files of one bundle. Whoever reads asks for a file's size first and decides how much of it to take, so that nothing is ever
/// allocated on a file's word alone.
pub trait BundleSource {
    /// Where the bundle is, for messages.
    fn origin(&self) -> String;

    /// Size of a file in bytes; `None` when there is none of that name.
    ///
    /// # Errors
    /// When the name leads out of the bundle or to something that is no file.
    fn size(&self, file: &str) -> Result<Option<u64>>;

    /// The first `bytes` bytes of a file, fewer where it ends earlier.
    ///
    /// # Errors
    /// As for [`Self::size`], and when reading fails.
    fn read(&self, file: &str, bytes: u64) -> Result<Vec<u8>>;
}

/// A refusal of something in a bundle.
pub(crate) fn refused(
    source: &dyn BundleSource,
    file: &str,
    field: impl Into<String>,
    reason: impl std::fmt::Display,
) -> Error {
    Error::Refused {
        world: source.origin(),
        file: crate::error::printable(file),
        field: crate::error::printable(&field.into()),
        reason: crate::error::printable(&reason.to_string()),
    }
}

/// Reads a whole file of at most `limit` bytes.
pub(crate) fn read_limited(source: &dyn BundleSource, file: &str, limit: u64) -> Result<Vec<u8>> {
    match source.size(file)? {
        None => Err(refused(source, file, "file", "is missing")),
        Some(size) if size > limit => Err(refused(
            source,
            file,
            "size",
            format!("{size} bytes, at most {limit} are allowed"),
        )),
        Some(size) => source.read(file, size),
    }
}

/// Whether a name may stand for a file inside a bundle: plain names joined by `/`, none of them hidden or leading upwards.
pub fn is_safe_name(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    name.len() <= 100 && name.split('/').all(plain)
}

/// Where a new world stands, complete, inside the folder of the one that it replaces, until its files have been moved to their places.
pub(crate) const REPLACEMENT_FOLDER: &str = ".replacement";

/// A bundle in a folder. Where saving one was interrupted while its files were being moved to their places, those that have not been moved
/// yet are read from where they still are, so that the bundle is the new one all the same.
pub struct FolderSource {
    given: PathBuf,
    root: PathBuf,
}

impl FolderSource {
    /// The bundle in `folder`.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn new(folder: &Path) -> Result<Self> {
        let root = folder
            .canonicalize()
            .map_err(|error| Error::io(folder, error))?;
        Ok(Self {
            given: folder.to_owned(),
            root,
        })
    }

    /// The file's real path, links followed, and its size.
    fn locate(&self, file: &str) -> Result<Option<(PathBuf, u64)>> {
        if !is_safe_name(file) {
            return Err(refused(self, file, "name", "is no plain file name"));
        }
        let mut path = self.root.join(REPLACEMENT_FOLDER).join(file);
        if !path.exists() {
            path = self.root.join(file);
        }
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(path, error)),
        };
        if !real.starts_with(&self.root) {
            return Err(refused(self, file, "name", "leads out of the bundle"));
        }
        let metadata = real.metadata().map_err(|error| Error::io(&real, error))?;
        if !metadata.is_file() {
            return Err(refused(self, file, "file", "is not a regular file"));
        }
        Ok(Some((real, metadata.len())))
    }
}

impl BundleSource for FolderSource {
    fn origin(&self) -> String {
        self.given.display().to_string()
    }

    fn size(&self, file: &str) -> Result<Option<u64>> {
        Ok(self.locate(file)?.map(|(_, size)| size))
    }

    fn read(&self, file: &str, bytes: u64) -> Result<Vec<u8>> {
        let Some((path, size)) = self.locate(file)? else {
            return Err(refused(self, file, "file", "is missing"));
        };
        let wrap = |error| Error::io(&path, error);
        let mut content = Vec::with_capacity(bytes.min(size) as usize);
        let opened = File::open(&path).map_err(wrap)?;
        opened.take(bytes).read_to_end(&mut content).map_err(wrap)?;
        Ok(content)
    }
}

/// A bundle in memory: built into the program, or about to be saved.
pub struct MemorySource<'a> {
    origin: String,
    files: BTreeMap<String, Cow<'a, [u8]>>,
}

impl<'a> MemorySource<'a> {
    /// A bundle of `files` by name; messages call it `origin`.
    pub fn new(origin: impl Into<String>, files: BTreeMap<String, Cow<'a, [u8]>>) -> Self {
        Self {
            origin: origin.into(),
            files,
        }
    }
}

impl BundleSource for MemorySource<'_> {
    fn origin(&self) -> String {
        self.origin.clone()
    }

    fn size(&self, file: &str) -> Result<Option<u64>> {
        Ok(self.files.get(file).map(|content| content.len() as u64))
    }

    fn read(&self, file: &str, bytes: u64) -> Result<Vec<u8>> {
        let Some(content) = self.files.get(file) else {
            return Err(refused(self, file, "file", "is missing"));
        };
        let end = usize::try_from(bytes).map_or(content.len(), |bytes| bytes.min(content.len()));
        Ok(content.get(..end).unwrap_or_default().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_could_lead_out_are_not_safe() {
        for name in ["world.ron", "prompts/000.png", "a-b_c.safetensors"] {
            assert!(is_safe_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "/etc/passwd",
            "a/../b",
            "a//b",
            "a/",
            "C:\\x",
            "a\\b",
            ".hidden",
            "a\0b",
            "é",
            "a b",
        ] {
            assert!(!is_safe_name(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_safe_name_stays_inside(name in "[a./\\\\:~-]{0,12}") {
            if is_safe_name(&name) {
                let path = Path::new(&name);
                prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
            }
        }
    }

    #[test]
    fn a_folder_gives_the_start_of_a_file_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.bin"), b"0123456789").unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        let source = FolderSource::new(folder.path()).unwrap();
        assert_eq!(source.size("a.bin").unwrap(), Some(10));
        assert_eq!(source.size("b.bin").unwrap(), None);
        assert_eq!(source.read("a.bin", 4).unwrap(), b"0123");
        assert_eq!(source.read("a.bin", u64::MAX).unwrap(), b"0123456789");
        assert!(source.read("b.bin", 1).is_err());
        assert!(source.size("sub").is_err());
        assert!(source.size("../a.bin").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_folder_is_refused() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), b"x").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let link = |from: &str, to: &Path| {
            std::os::unix::fs::symlink(to, folder.path().join(from)).unwrap();
        };
        link("world.ron", &outside.path().join("secret"));
        link("prompts", outside.path());
        link("zero", Path::new("/dev/zero"));
        std::fs::write(folder.path().join("real"), b"y").unwrap();
        link("inside", &folder.path().join("real"));
        let source = FolderSource::new(folder.path()).unwrap();
        for name in ["world.ron", "prompts/secret", "zero"] {
            let refusal = source.read(name, 1).unwrap_err().to_string();
            assert!(refusal.contains("leads out of the bundle"), "{refusal}");
        }
        assert_eq!(source.read("inside", 1).unwrap(), b"y");
    }
}
