//! Where in its budget a stage is, and the learning rate there.

use crate::Budget;

/// What is left of the learning rate at the very end.
const LAST_RATE: f64 = 0.02;

/// Share of `budget` that is used after `steps` and `seconds`, 0 to 1.
pub(crate) fn progress(budget: Budget, steps: u64, seconds: f64) -> f64 {
    let (used, all) = match budget {
        Budget::Steps(all) => (steps as f64, all as f64),
        Budget::Minutes(minutes) => (seconds, minutes * 60.0),
    };
    if all > 0.0 {
        (used / all).min(1.0)
    } else {
        1.0
    }
}

/// Warm-up, stable, decay: the factor on the learning rate for step number `step` (of this attempt), at `progress` of the
/// stage.
pub(crate) fn rate_factor(step: u64, warmup_steps: u64, progress: f64, decay_fraction: f64) -> f64 {
    let warmup = ((step + 1) as f64 / warmup_steps.max(1) as f64).min(1.0);
    let decay = ((1.0 - progress) / decay_fraction.max(1e-9)).clamp(LAST_RATE, 1.0);
    warmup * decay
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_stays_and_falls() {
        let at = |step, progress| rate_factor(step, 10, progress, 0.5);
        assert!((at(0, 0.0) - 0.1).abs() < 1e-12 && (at(4, 0.01) - 0.5).abs() < 1e-12);
        assert_eq!((at(9, 0.1), at(500, 0.5)), (1.0, 1.0));
        assert!((at(600, 0.75) - 0.5).abs() < 1e-12);
        assert_eq!(at(1000, 1.0), LAST_RATE);
    }

    #[test]
    fn budgets_of_time_and_of_steps() {
        assert_eq!(progress(Budget::Steps(200), 50, 1e9), 0.25);
        assert_eq!(progress(Budget::Minutes(2.0), 50, 60.0), 0.5);
        assert_eq!(progress(Budget::Minutes(2.0), 50, 600.0), 1.0);
        assert_eq!(progress(Budget::Steps(0), 0, 0.0), 1.0);
    }
}
