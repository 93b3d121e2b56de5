//! Placeholder.

pub mod dataset;
pub mod ingest;
