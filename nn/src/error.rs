//! The error of this crate and of the model crates above it.

/// What can go wrong in building or running a model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor operation failed: shapes, devices or types that do not fit.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A configuration field has a value that no model can be built with.
    #[error("{field} = {value}: {reason}")]
    Config {
        /// Name of the field.
        field: &'static str,
        /// Its value, as text.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A number or list handed to a model lies outside what it was built for.
    #[error("{0}")]
    Input(String),
}

/// Result of this crate and of the model crates above it.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A configuration error.
    pub fn config(
        field: &'static str,
        value: impl std::fmt::Display,
        reason: impl Into<String>,
    ) -> Self {
        Self::Config {
            field,
            value: value.to_string(),
            reason: reason.into(),
        }
    }

    /// Fails unless `value` lies in `range`.
    pub fn check_range(
        field: &'static str,
        value: usize,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<()> {
        if range.contains(&value) {
            return Ok(());
        }
        Err(Self::config(
            field,
            value,
            format!("must lie in {}..={}", range.start(), range.end()),
        ))
    }
}
