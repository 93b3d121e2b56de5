//! What can go wrong in training and evaluation.

use std::path::{Path, PathBuf};

use crate::Stage;
use crate::dataset::DatasetError;

/// Why training or evaluation stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A configuration that cannot be trained with.
    #[error("{file}: {reason}")]
    Config {
        /// The file, or `configuration` where none was given.
        file: String,
        /// The field and what is wrong with it, or the line that cannot be read.
        reason: String,
    },
    /// A file of the run folder is not what it should be.
    #[error("{}: {field}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The part of it.
        field: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A checkpoint was made with other sizes, of other video, or by a version of this program that knew other fields.
    #[error("{}: {stage} was begun under another configuration, with other video or by an earlier version of this program ({differences}); restore that, or remove this file to train {stage} anew", path.display())]
    AnotherRecipe {
        /// The checkpoint.
        path: PathBuf,
        /// Its stage.
        stage: Stage,
        /// What differs, as `field: before -> now`.
        differences: String,
    },
    /// Settings that only training goes by were changed where all training is done.
    #[error("{stages}: finished, and a finished stage is not trained anew ({changes}); with --resume the dynamics goes on under a larger budget (--budget, or dynamics.budget in the configuration), and nothing else does; to train the world on in other ways, begin a new run with --from {} and another --out", world.display())]
    Finished {
        /// The stages that were asked for.
        stages: String,
        /// What was changed, as `field: before -> now`.
        changes: String,
        /// The world that a new run could go on from.
        world: PathBuf,
    },
    /// Video whose frames follow one another faster or slower than those of the world that training goes on from.
    #[error(
        "the world runs at {world} frames/s and the dataset's video at {video}: its actions know changes from frame to frame of another size; ingest the video with --fps {world}"
    )]
    AnotherRate {
        /// The world's frames in a second.
        world: f64,
        /// The video's.
        video: f64,
    },
    /// Something is in the way of a new run.
    #[error("{} is there already: continue that run with --resume, or choose another --out, or remove it", .0.display())]
    AlreadyThere(PathBuf),
    /// A run is to go on that is not there, in the place of a world that it would write over.
    #[error(
        "there is no run in {} that made {}: to train that world on, give it as --from and another --out", .run.display(), .world.display()
    )]
    RunMissing {
        /// The world.
        world: PathBuf,
        /// Where its run would be.
        run: PathBuf,
    },
    /// Another process trains there.
    #[error("{} is in use: another training writes to it, wait until it has ended or stop it", .0.display())]
    InUse(PathBuf),
    /// The world would take the place of something that is none.
    #[error("{} is there already and is no world: choose another --out, or remove it", .0.display())]
    NoWorld(PathBuf),
    /// The path of the world does not end in a name, from which the world and its run folder could have theirs.
    #[error(
        "{0:?} does not end in the name of a folder: give --out a path that does, such as my.world or ../my.world"
    )]
    NoName(PathBuf),
    /// A stage needs what another one makes.
    #[error("{needs} cannot be trained yet: train {missing} first (--stage {missing})")]
    StageMissing {
        /// The stage that was asked for.
        needs: Stage,
        /// The one that is not finished.
        missing: Stage,
    },
    /// There is not enough video.
    #[error("{0}")]
    TooLittleVideo(String),
    /// The loss or its gradient kept exploding.
    #[error(
        "{stage}: the loss or its gradient exploded again at step {step} after {rollbacks} returns to a checkpoint; lower {stage}.learning_rate ({learning_rate}) in the configuration"
    )]
    Diverged {
        /// The stage.
        stage: Stage,
        /// The step.
        step: u64,
        /// How often it was rolled back before.
        rollbacks: u32,
        /// The learning rate at the end.
        learning_rate: f64,
    },
    /// The dataset cannot be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A model refused its input or configuration.
    #[error(transparent)]
    Model(#[from] nn::Error),
    /// The bundle cannot be written or played.
    #[error(transparent)]
    World(#[from] worlds::Error),
    /// Nothing was left to do because the user asked to stop.
    #[error("stopped as asked")]
    Cancelled,
}

/// Result of training and evaluation.
pub type Result<T> = std::result::Result<T, Error>;

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.into())
    }
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn damaged(
        path: &Path,
        field: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            field: field.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn config(reason: impl Into<String>) -> Self {
        Self::Config {
            file: "configuration".to_owned(),
            reason: reason.into(),
        }
    }
}
