//! What can go wrong while playing, recording and replaying.

use std::path::PathBuf;

/// The error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The world refused something.
    #[error(transparent)]
    World(#[from] worlds::Error),
    /// A speed that play cannot have.
    #[error("a speed of {0} does not lie in {limits:?}", limits = crate::preferences::SPEEDS)]
    Speed(f64),
    /// Video or sound could not be read or written.
    #[error(transparent)]
    Media(#[from] media::Error),
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A session was to be recorded over something else.
    #[error("{} is not empty; a session is recorded into a new or empty folder", .0.display())]
    FolderNotEmpty(PathBuf),
    /// A folder was named that holds no session.
    #[error("{} is no recorded session: there is no session.ron in it", .0.display())]
    NotASession(PathBuf),
    /// A session has something in it that cannot be replayed.
    #[error("session {} is refused: {file}: {field}: {reason}", folder.display())]
    Refused {
        /// The session's folder.
        folder: PathBuf,
        /// The file in it.
        file: String,
        /// The field or line.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A session was recorded in a world other than the one at hand.
    #[error(
        "the session was recorded in world {recorded} ({recorded_hash:.12}…), but {given} is another ({given_hash:.12}…); frames can be made again in that very world only"
    )]
    AnotherWorld {
        /// Name of the session's world.
        recorded: String,
        /// Its hash.
        recorded_hash: String,
        /// Name of the world at hand.
        given: String,
        /// Its hash.
        given_hash: String,
    },
    /// A file is no saved state.
    #[error("the saved state is refused: {field}: {reason}")]
    State {
        /// The part of it.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A state was saved in a world other than the one at hand.
    #[error(
        "the state was saved in world {saved} ({saved_hash:.12}…), but {given} is another ({given_hash:.12}…); it can be loaded in that very world only"
    )]
    StateOfAnotherWorld {
        /// Name of the state's world.
        saved: String,
        /// Its hash.
        saved_hash: String,
        /// Name of the world at hand.
        given: String,
        /// Its hash.
        given_hash: String,
    },
    /// A frame was asked for that is not remembered.
    #[error("frame {frame} is not remembered")]
    Forgotten {
        /// Its number.
        frame: u64,
    },
    /// A settings file cannot be read.
    #[error("{}, line {line}, column {column}: {reason}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// Pictures of what the actions do were asked for in a format that is not written.
    #[error("{}: what the actions do is shown in a .gif, which moves, or a .png", .0.display())]
    EffectFormat(PathBuf),
    /// A binding or name that no action can have.
    #[error("{0}")]
    Binding(String),
    /// A line of a wish file means nothing to the world.
    #[error("{}, line {line}: {reason}", path.display())]
    WishFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no display to open a window on.
    #[error("there is no display to open a window on: {0}")]
    NoDisplay(String),
    /// A file that play was to start from holds no picture.
    #[error("{}: there is no picture in it", .0.display())]
    NoPicture(PathBuf),
    /// There is no terminal to play in.
    #[error("there is no terminal to play in: {0}")]
    NoTerminal(String),
    /// The terminal was there, but is no more.
    #[error("the terminal is gone: {0}")]
    Terminal(std::io::Error),
    /// The window was open, but its graphics failed.
    #[error("the window's graphics failed: {0}")]
    Graphics(String),
    /// An export was asked for in a format that is not written.
    #[error("{}: only .mp4 and .gif can be exported", .0.display())]
    ExportFormat(PathBuf),
    /// An export was to be written among the files of the session itself.
    #[error("{}: an export is not written into the session's own folder, whose files the session needs; name another place", .0.display())]
    ExportIntoSession(PathBuf),
    /// An export was to stop before it was complete.
    #[error("{}: the export was stopped before it was complete; nothing of it is kept", .0.display())]
    ExportCancelled(PathBuf),
    /// Something was to be recorded after recording had failed, or the thread that encodes it died.
    #[error("the recording has ended")]
    RecordingEnded,
    /// The thread that runs the world died.
    #[error("the world stopped unexpectedly; this is a fault in the program")]
    WorldThread,
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err` on file operations on `path`.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }
}
