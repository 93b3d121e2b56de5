//! The AdamW update (arXiv 1711.05101) on raw slices.

use super::kernel;
use super::parallel::{Shared, SharedMut, for_each_index};

/// Elements that one task updates.
const CHUNK: usize = 8 * 1024;

/// One step's numbers, the same for all parameters.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// Step size.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Factor on the gradient (clipping).
    pub gradient_scale: f32,
    /// `1 / (1 - beta1^step)`.
    pub correction1: f32,
    /// `1 / (1 - beta2^step)`.
    pub correction2: f32,
}

kernel! {
    fn update_chunk(weights: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32], update: Update) {
        let n = weights.len();
        let (first, second, gradient) = (&mut first[..n], &mut second[..n], &gradient[..n]);
        for i in 0..n {
            let g = gradient[i] * update.gradient_scale;
            first[i] = update.beta1 * first[i] + (1.0 - update.beta1) * g;
            second[i] = update.beta2 * second[i] + (1.0 - update.beta2) * g * g;
            let step = first[i] * update.correction1 / ((second[i] * update.correction2).sqrt() + update.epsilon);
            weights[i] -= update.learning_rate * (step + update.weight_decay * weights[i]);
        }
    }
}

/// Updates `weights` and both moments in place.
pub fn adamw(
    weights: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    update: Update,
) {
    crate::profile::operation("optimizer", || {
        let len = weights.len();
        assert!(first.len() == len && second.len() == len && gradient.len() == len);
        let shared = [
            SharedMut::new(weights),
            SharedMut::new(first),
            SharedMut::new(second),
        ];
        for_each_index(len.div_ceil(CHUNK), len, |index| {
            let start = index * CHUNK;
            let count = CHUNK.min(len - start);
            // SAFETY: each index has its own elements, of three different slices that are borrowed for this call.
            let [weights, first, second] = shared.map(|slice| unsafe { slice.row(start, count) });
            update_chunk(
                weights,
                first,
                second,
                &gradient[start..start + count],
                update,
            );
        });
    })
}

/// `average = decay * average + (1 - decay) * values`.
pub fn average(average: &mut [f32], values: &[f32], decay: f32) {
    crate::profile::operation("optimizer", || {
        super::parallel::for_each_chunk(average, CHUNK, |index, chunk| {
            for (mean, value) in chunk.iter_mut().zip(&values[index * CHUNK..]) {
                *mean = decay * *mean + (1.0 - decay) * value;
            }
        });
    })
}

/// The sum of squares, in double precision and a fixed order.
pub fn sum_of_squares(values: &[f32]) -> f64 {
    crate::profile::operation("optimizer", || {
        let chunks = values.len().div_ceil(CHUNK);
        let mut sums = vec![0.0; chunks];
        let shared = Shared::new(&mut sums);
        for_each_index(chunks, values.len(), |index| {
            let start = index * CHUNK;
            let chunk = &values[start..(start + CHUNK).min(values.len())];
            let sum = super::lanes::lane_sum([chunk], |[x]| x * x);
            // SAFETY: each chunk has its own sum.
            unsafe { shared.row(index, 1)[0] = f64::from(sum) };
        });
        sums.iter().sum()
    })
}
