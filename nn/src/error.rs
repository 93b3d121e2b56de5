//! The error of this crate and of the model crates above it.

/// What can go wrong in building or running a model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor operation failed: shapes, devices or types that do not fit.
    #[error(transparent)]
    Candle(candle_core::Error),
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

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Candle(without_backtrace(error))
    }
}

/// With `RUST_BACKTRACE` set, candle prints the backtrace as a part of its messages, where it buries what they say.
fn without_backtrace(error: candle_core::Error) -> candle_core::Error {
    use candle_core::Error as Candle;
    let bare = |inner: Box<Candle>| Box::new(without_backtrace(*inner));
    match error {
        Candle::WithBacktrace { inner, .. } => without_backtrace(*inner),
        Candle::Context { inner, context } => Candle::Context {
            inner: bare(inner),
            context,
        },
        Candle::WithPath { inner, path } => Candle::WithPath {
            inner: bare(inner),
            path,
        },
        other => other,
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_hold_no_backtrace() {
        let inner = candle_core::Error::Msg("shapes differ".into());
        let error = candle_core::Error::WithBacktrace {
            inner: Box::new(inner),
            backtrace: Box::new(std::backtrace::Backtrace::force_capture()),
        };
        assert!(error.to_string().contains('\n'));
        let error = Error::from(error.with_path("a.safetensors"));
        let message = error.to_string();
        assert!(
            message.contains("shapes differ") && message.contains("a.safetensors"),
            "{message}"
        );
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}
