//! How exactly numbers are multiplied.

use serde::{Deserialize, Serialize};
use std::cell::Cell;

/// The precision of matrix products. Sums, weights, normalisation and everything else are f32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Precision {
    /// Factors as they are.
    #[default]
    F32,
    /// Factors rounded to bf16 where the CPU multiplies those faster; as they are elsewhere.
    Bf16,
}

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// The precision of the innermost [`with_precision`] around the caller, on this thread; f32 outside of any.
pub fn precision() -> Precision {
    CURRENT.get()
}

/// Runs `work` with the products that this thread asks for computed in `precision`: forward and backward passes alike.
pub fn with_precision<R>(precision: Precision, work: impl FnOnce() -> R) -> R {
    /// Puts the outer precision back, even when `work` panics.
    struct Restore(Precision);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(precision));
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_nest_and_end() {
        assert_eq!(precision(), Precision::F32);
        with_precision(Precision::Bf16, || {
            with_precision(Precision::F32, || assert_eq!(precision(), Precision::F32));
            assert_eq!(precision(), Precision::Bf16);
        });
        assert_eq!(precision(), Precision::F32);
        let _ =
            std::panic::catch_unwind(|| with_precision(Precision::Bf16, || panic!("as planned")));
        assert_eq!(precision(), Precision::F32);
    }
}
