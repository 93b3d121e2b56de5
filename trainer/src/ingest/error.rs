use super::SkippedSource;
use crate::dataset::DatasetError;

/// What stops an ingest as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The options contradict themselves.
    #[error("cannot ingest with these settings: {what}")]
    Options {
        /// The setting and its value.
        what: String,
    },
    /// Not one source gave two frames in a row.
    #[error("nothing could be used{}", list(skipped))]
    NothingRead {
        /// Every source and why.
        skipped: Vec<SkippedSource>,
    },
    /// It was cancelled before the first frame.
    #[error("cancelled before anything was read; no dataset was written")]
    Cancelled,
    /// The dataset could not be written.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

fn list(skipped: &[SkippedSource]) -> String {
    if skipped.is_empty() {
        return ": there is no video, animation, image folder or session among the given paths"
            .to_owned();
    }
    skipped
        .iter()
        .map(|source| format!("\n  {source}"))
        .collect()
}
