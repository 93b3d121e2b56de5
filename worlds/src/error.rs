//! What can go wrong with a world.

use std::path::PathBuf;

/// The error of this crate. Every variant is a sentence that a player can act on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A bundle has something in it that no world can be played from.
    #[error("world {world} is refused: {file}: {field}: {reason}")]
    Refused {
        /// Where the bundle came from: its folder, or `built-in NAME`.
        world: String,
        /// The file inside the bundle.
        file: String,
        /// The field, tensor or property of that file.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder was named that holds no world.
    #[error(
        "{} is no world: there is no world.ron in it. `djinn worlds` lists the worlds that can be played.", .0.display()
    )]
    NotAWorld(PathBuf),
    /// No world has the name that was asked for.
    #[error(
        "there is no world {name:?}: it is no folder, and the worlds known by name are {known}"
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The default world was asked for, but this program was built without it.
    #[error(
        "the default world {0:?} is not built into this program; name another world, or put one into a `worlds` folder beside the program"
    )]
    NoDefault(&'static str),
    /// Frames of another size than the world's.
    #[error("a frame of {got} in a world of {expected}")]
    FrameSize {
        /// Size or number of bytes of what was given.
        got: String,
        /// What the world or frame needs.
        expected: String,
    },
    /// A picture could not be read.
    #[error("{what}: {source}")]
    Picture {
        /// Which picture.
        what: String,
        /// What the decoder said.
        source: image::ImageError,
    },
    /// A wish names an action that the world does not have.
    #[error("no action {wanted:?} in this world; its actions are {known}")]
    UnknownAction {
        /// The name or number asked for.
        wanted: String,
        /// Numbers and names that there are.
        known: String,
    },
    /// Settings that the world cannot be played with.
    #[error("{0}")]
    Settings(String),
    /// A model gave something that is not a finite number.
    #[error(
        "frame {frame}: the world's dynamics gave numbers that are not finite; its weights are damaged or were trained badly"
    )]
    NotFinite {
        /// Number of the frame.
        frame: u64,
    },
    /// A stored snapshot cannot be gone on from in this world.
    #[error("stored state: {field}: {reason}")]
    Stored {
        /// The part of it.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A model refused its input.
    #[error(transparent)]
    Model(#[from] nn::Error),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.into())
    }
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }
}

/// Text from a stranger's file, safe to print: control characters escaped, shortened.
pub(crate) fn printable(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut shown: String = text
        .chars()
        .take(LONGEST)
        .flat_map(|c| match c.is_control() {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
