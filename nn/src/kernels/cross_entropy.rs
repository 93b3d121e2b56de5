//! Softmax and cross-entropy over rows of logits, forward and backward in one pass each.

use super::buffer::filled;
use super::elementwise::exp;
use super::kernel;
use super::lanes::{lane_max, lane_sum, update_lanes};
use super::parallel::for_each_chunk;

kernel! {
    /// Replaces a row of logits by its softmax, after dividing by `temperature`.
    pub fn softmax_row(row: &mut [f32], temperature: f32) {
        let scale = 1.0 / temperature;
        softmax::<FUSED>(row, scale);
    }
}

/// Replaces `scale` times the numbers of a row by their softmax.
#[inline(always)]
pub(super) fn softmax<const FUSED: bool>(row: &mut [f32], scale: f32) {
    let factor = 1.0 / exponentials::<FUSED>(row, scale);
    update_lanes(row, [], |value, []| value * factor);
}

/// Replaces `scale` times the numbers of a row by their exponentials, the largest of them 1; returns their sum.
#[inline(always)]
pub(super) fn exponentials<const FUSED: bool>(row: &mut [f32], scale: f32) -> f32 {
    let largest = lane_max([row], |[value]| value);
    update_lanes(row, [], |value, []| exp::<FUSED>((value - largest) * scale));
    lane_sum([row], |[value]| value)
}

kernel! {
    /// The largest number of a row and the sum of all that are at least `share` of it.
    pub fn largest_and_sum(row: &[f32], share: f32) -> [f32; 2] {
        let largest = lane_max([row], |[value]| value);
        let least = share * largest;
        [largest, lane_sum([row], |[value]| if value >= least { value } else { 0.0 })]
    }
}

kernel! {
    fn row_loss(row: &[f32], target: usize) -> f32 {
        let largest = lane_max([row], |[value]| value);
        let sum = lane_sum([row], |[value]| exp::<FUSED>(value - largest));
        sum.ln() + largest - row[target]
    }
}

/// Cross-entropy in nats of each row of `logits` (`classes` wide) with its target class.
pub fn losses(logits: &[f32], targets: &[u32], classes: usize) -> Vec<f32> {
    crate::profile::operation("cross-entropy", || {
        let mut out = vec![0.0; targets.len()];
        let rows = (16 * 1024 / classes).max(1);
        // The rows are what costs, not the results: share them out by their own size.
        super::parallel::for_each_index(targets.len().div_ceil(rows), logits.len(), {
            let shared = super::parallel::SharedMut::new(&mut out);
            move |piece| {
                for row in piece * rows..((piece + 1) * rows).min(targets.len()) {
                    let loss = row_loss(&logits[row * classes..][..classes], targets[row] as usize);
                    // SAFETY: each row has one result, and each piece its own rows.
                    unsafe { shared.row(row, 1)[0] = loss };
                }
            }
        });
        out
    })
}

/// Gradient of `sum(weights * losses)`: `weights * (softmax(logits) - one_hot(targets))`.
pub fn gradient(logits: &[f32], targets: &[u32], weights: &[f32], classes: usize) -> Vec<f32> {
    crate::profile::operation("cross-entropy", || {
        // SAFETY: the chunks cover the whole result, and each is written as a whole.
        unsafe {
            filled(logits.len(), |out| {
                for_each_chunk(out, classes, |row, values| {
                    if weights[row] == 0.0 {
                        values.fill(0.0);
                        return;
                    }
                    values.copy_from_slice(&logits[row * classes..][..classes]);
                    softmax_row(values, 1.0);
                    values[targets[row] as usize] -= 1.0;
                    for value in values.iter_mut() {
                        *value *= weights[row];
                    }
                });
            })
        }
    })
}
