use std::path::{Path, PathBuf};

/// Why a dataset cannot be read or written. Every variant names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The operating system refused to read or write.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The folder holds no dataset.
    #[error("{}: not a dataset: there is no dataset.ron in it. Make one with: djinn ingest VIDEO... --out my.dataset", path.display())]
    NotADataset {
        /// The folder that was opened.
        path: PathBuf,
    },
    /// The manifest is not what it should be.
    #[error("{}: {what}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The field and what is wrong with it.
        what: String,
    },
    /// A manifest of another version of the format.
    #[error("{}: dataset version {found}, this program reads version {}; ingest the videos again", path.display(), super::VERSION)]
    Version {
        /// The manifest.
        path: PathBuf,
        /// The version it claims.
        found: u32,
    },
    /// A shard is not what the manifest or the format says.
    #[error("{}: {field}: {what}", path.display())]
    Shard {
        /// The shard.
        path: PathBuf,
        /// The tensor or part at fault.
        field: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The place for a new dataset is taken.
    #[error("{}: already exists and is not empty; choose another --out or remove it", path.display())]
    OutputExists {
        /// The place.
        path: PathBuf,
    },
    /// A frame of the wrong size was given to the writer, or the settings make no sense.
    #[error("{}: {what}", path.display())]
    Write {
        /// The dataset being written.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl DatasetError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn manifest(path: &Path, what: impl Into<String>) -> Self {
        Self::Manifest {
            path: path.to_owned(),
            what: what.into(),
        }
    }

    pub(crate) fn shard(path: &Path, field: &'static str, what: impl Into<String>) -> Self {
        Self::Shard {
            path: path.to_owned(),
            field,
            what: what.into(),
        }
    }
}
