//! How a frame's rows are divided among threads that are not equally fast.
//!
//! Many CPUs have fast cores and slow ones, and another program may need one of them. In equal parts, all threads would wait for the slowest, so each thread's
//! time for its part is measured, and parts that have become wrong are cut anew. What comes out does not depend on where they are cut.

use std::ops::Range;
use std::time::Duration;

/// Rows that stay together: neighbours may make up a pair.
const STEP: usize = 2;
/// Time of work after which what was measured before counts for a third.
const MEMORY: Duration = Duration::from_millis(200);
/// How many times longer than need be the slowest thread must take for parts to be cut anew: tiles of some rows make equal cores differ by less.
const TOLERANCE: f64 = 1.25;

/// What one thread did.
#[derive(Clone, Copy, Default)]
pub struct Report {
    /// Rows that it took; none if the work is not divided by rows.
    pub rows: usize,
    /// How long it worked, without waiting for others.
    pub time: Duration,
}

/// The parts of all threads.
pub struct Shares {
    /// Of the rows; they add up to 1.
    parts: Vec<f64>,
    /// Rows in a time, of those of all threads; they add up to 1.
    speeds: Vec<f64>,
}

impl Shares {
    /// Equal parts for so many threads.
    pub fn even(members: usize) -> Self {
        let equal = vec![1.0 / members as f64; members];
        Self {
            parts: equal.clone(),
            speeds: equal,
        }
    }

    /// Rows of thread `index` out of `total`, from an even one on. Each thread gets some, as far as there are any: without, it is not measured any more.
    pub fn rows(&self, total: usize, index: usize) -> Range<usize> {
        let (members, steps) = (self.parts.len(), total.div_ceil(STEP));
        let least = usize::from(steps >= members);
        let (mut start, mut end, mut sum) = (0, 0, 0.0);
        for (member, part) in self.parts[..=index].iter().enumerate() {
            let later = members - 1 - member;
            sum += part;
            start = end;
            // Sums of parts may be a little less than they should.
            let cut = (sum * steps as f64 + 1e-6) as usize;
            end = match later {
                0 => steps,
                _ => cut.clamp(start + least, steps - least * later),
            };
        }
        (start * STEP).min(total)..(end * STEP).min(total)
    }

    /// Takes in how long all threads worked in a piece of work.
    pub fn learn(&mut self, reports: impl Iterator<Item = Report> + Clone) {
        let measured = |report: Report| report.rows > 0 && !report.time.is_zero();
        if !reports.clone().all(measured) {
            return;
        }
        let seconds = |report: Report| report.time.as_secs_f64();
        let seen = |report: Report| report.rows as f64 / seconds(report);
        let all: f64 = reports.clone().map(seen).sum();
        let longest = reports.clone().map(seconds).fold(0.0, f64::max);
        let weight = 1.0 - (-longest / MEMORY.as_secs_f64()).exp();
        for (speed, report) in self.speeds.iter_mut().zip(reports) {
            *speed += weight * (seen(report) / all - *speed);
        }
        let times = self.parts.iter().zip(&self.speeds);
        let slowest = times.map(|(part, speed)| part / speed).fold(0.0, f64::max);
        if slowest > TOLERANCE {
            self.parts.copy_from_slice(&self.speeds);
        }
    }

    /// Parts as they would be for threads of these speeds.
    #[cfg(test)]
    pub fn of_speeds(speeds: &[f64]) -> Self {
        let all: f64 = speeds.iter().sum();
        Self {
            parts: speeds.iter().map(|speed| speed / all).collect(),
            ..Self::even(speeds.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(rows: [usize; 2], milliseconds: [u64; 2]) -> impl Iterator<Item = Report> + Clone {
        rows.into_iter()
            .zip(milliseconds)
            .map(|(rows, time)| Report {
                rows,
                time: Duration::from_millis(time),
            })
    }

    #[test]
    fn parts_cover_all_rows_and_begin_at_even_ones() {
        for speeds in [
            &[1.0][..],
            &[1.0, 1.0],
            &[3.0, 1.0],
            &[1.0; 7],
            &[5.0, 0.0, 1.0, 1e-9, 2.0],
        ] {
            let shares = Shares::of_speeds(speeds);
            for total in [0, 1, 2, 5, 13, 64, 65] {
                let mut next = 0;
                for index in 0..speeds.len() {
                    let rows = shares.rows(total, index);
                    assert_eq!(rows.start, next, "{speeds:?}, {total} rows");
                    assert!(rows.is_empty() || rows.start.is_multiple_of(2));
                    assert!(!rows.is_empty() || total < 2 * speeds.len());
                    next = rows.end;
                }
                assert_eq!(next, total, "{speeds:?}");
            }
        }
    }

    #[test]
    fn equal_threads_keep_equal_parts() {
        let mut shares = Shares::even(2);
        for round in 0..1000 {
            // One or the other takes a fifth longer.
            let late = round / 100 % 2;
            shares.learn(reports([32, 32], [10 + 2 * late, 12 - 2 * late]));
        }
        assert_eq!(shares.rows(64, 0), 0..32);
    }

    #[test]
    fn a_slow_thread_gets_less_and_a_recovered_one_its_part_back() {
        let mut shares = Shares::even(2);
        let mut run = |slowness: u64| {
            for _ in 0..300 {
                let rows = [0, 1].map(|index| shares.rows(64, index).len());
                shares.learn(reports(rows, [rows[0] as u64, rows[1] as u64 * slowness]));
            }
            shares.rows(64, 1).len()
        };
        // By their speeds it would be 16, then 32 rows; a quarter off is near enough.
        assert!((12..=20).contains(&run(3)));
        assert_eq!(run(1000), 2);
        assert!((24..=40).contains(&run(1)));
    }

    #[test]
    fn work_that_is_not_divided_by_rows_teaches_nothing() {
        let mut shares = Shares::even(2);
        shares.learn(reports([0, 0], [1000, 1]));
        shares.learn(reports([64, 0], [1000, 1]));
        shares.learn(reports([32, 32], [1000, 0]));
        assert_eq!(shares.rows(64, 0), 0..32);
    }
}
