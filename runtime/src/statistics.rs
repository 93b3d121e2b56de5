//! Frame times, as the figures that players feel.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Collects the time that each frame took.
#[derive(Clone, Debug, Default)]
pub struct FrameTimes {
    milliseconds: Vec<f32>,
}

/// Frame times in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FrameTimeSummary {
    /// Frames measured.
    pub frames: usize,
    /// Half of the frames took at most this long, in milliseconds.
    pub p50: f64,
    /// 95 of 100 frames took at most this long, in milliseconds.
    pub p95: f64,
    /// 99 of 100 frames took at most this long, in milliseconds.
    pub p99: f64,
    /// Mean, in milliseconds.
    pub mean: f64,
}

impl FrameTimeSummary {
    /// Frames in a second at the mean; 0 before there is a frame.
    pub fn frames_per_second(&self) -> f64 {
        if self.mean > 0.0 {
            1000.0 / self.mean
        } else {
            0.0
        }
    }
}

impl FrameTimes {
    /// Adds a frame's time.
    pub fn add(&mut self, time: Duration) {
        self.milliseconds.push(time.as_secs_f32() * 1000.0);
    }

    /// Frames measured.
    pub fn len(&self) -> usize {
        self.milliseconds.len()
    }

    /// Whether there is no frame yet.
    pub fn is_empty(&self) -> bool {
        self.milliseconds.is_empty()
    }

    /// The times of the newest `count` frames in milliseconds, oldest first.
    pub fn newest(&self, count: usize) -> &[f32] {
        let from = self.milliseconds.len().saturating_sub(count);
        self.milliseconds.get(from..).unwrap_or_default()
    }

    /// The figures so far; all 0 before there is a frame.
    pub fn summary(&self) -> FrameTimeSummary {
        self.summary_of_newest(usize::MAX)
    }

    /// The figures of the newest `count` frames.
    pub fn summary_of_newest(&self, count: usize) -> FrameTimeSummary {
        let mut sorted = self.newest(count).to_vec();
        sorted.sort_by(f32::total_cmp);
        let sum: f64 = sorted.iter().map(|&time| f64::from(time)).sum();
        FrameTimeSummary {
            frames: sorted.len(),
            p50: percentile(&sorted, 0.50),
            p95: percentile(&sorted, 0.95),
            p99: percentile(&sorted, 0.99),
            mean: sum / sorted.len().max(1) as f64,
        }
    }
}

/// The smallest value that is not exceeded by `share` of the values (nearest rank).
fn percentile(sorted: &[f32], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    let value = sorted.get(rank.saturating_sub(1));
    f64::from(value.copied().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut times = FrameTimes::default();
        assert_eq!(times.summary(), FrameTimeSummary::default());
        assert_eq!(times.summary().frames_per_second(), 0.0);
        for millisecond in (1..=200).rev() {
            times.add(Duration::from_millis(millisecond));
        }
        let summary = times.summary();
        assert_eq!(
            (summary.frames, summary.p50, summary.p95, summary.p99),
            (200, 100.0, 190.0, 198.0)
        );
        assert!((summary.mean - 100.5).abs() < 1e-3);
        assert!((summary.frames_per_second() - 1000.0 / 100.5).abs() < 1e-3);
    }
}
