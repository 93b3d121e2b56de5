//! Root-mean-square normalisation (arXiv 1910.07467), forward and backward.

use super::buffer::filled;
use super::elementwise::add_to;
use super::kernel;
use super::lanes::lane_sum;
use super::parallel::{for_each_chunk, sum_rows};
use rayon::prelude::*;

/// Added to the mean square, so that a row of zeros stays zeros.
pub const EPSILON: f32 = 1e-6;

/// Rows that one task works on; also the size of the pieces that gradients of the weight are summed in.
const ROWS: usize = 32;

/// `1 / sqrt(mean(x^2) + epsilon)`.
#[inline(always)]
pub(super) fn inverse_root_mean_square(x: &[f32]) -> f32 {
    (lane_sum([x], |[x]| x * x) / x.len() as f32 + EPSILON)
        .sqrt()
        .recip()
}

kernel! {
    /// `out = x / rms(x) * weight` for each row, on one core.
    pub(super) fn rms_norm_rows(out: &mut [f32], x: &[f32], weight: &[f32]) {
        let width = weight.len();
        for (y, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let (y, x) = (&mut y[..width], &x[..width]);
            let r = inverse_root_mean_square(x);
            for i in 0..width {
                y[i] = x[i] * r * weight[i];
            }
        }
    }
}

kernel! {
    fn backward_rows(dx: &mut [f32], dweight: &mut [f32], dy: &[f32], x: &[f32], weight: &[f32]) {
        let width = weight.len();
        for ((dx, dy), x) in dx.chunks_exact_mut(width).zip(dy.chunks_exact(width)).zip(x.chunks_exact(width)) {
            let (dx, dy, x) = (&mut dx[..width], &dy[..width], &x[..width]);
            let dweight = &mut dweight[..width];
            let r = inverse_root_mean_square(x);
            let products = lane_sum([dy, weight, x], |[dy, weight, x]| dy * weight * x);
            let projection = products / width as f32 * r * r;
            for i in 0..width {
                dx[i] = r * (dy[i] * weight[i] - x[i] * projection);
                dweight[i] += dy[i] * x[i] * r;
            }
        }
    }
}

/// `x / rms(x) * weight` for each row; a row is as long as `weight`.
pub fn rms_norm(x: &[f32], weight: &[f32]) -> Vec<f32> {
    assert!(
        x.len().is_multiple_of(weight.len()),
        "rows of {} numbers",
        weight.len()
    );
    crate::profile::operation("norm", || {
        // SAFETY: the chunks cover the whole result, and each is written as a whole.
        unsafe {
            filled(x.len(), |out| {
                let chunk_len = ROWS * weight.len();
                for_each_chunk(out, chunk_len, |index, chunk| {
                    rms_norm_rows(chunk, &x[index * chunk_len..][..chunk.len()], weight)
                });
            })
        }
    })
}

/// Gradients of [`rms_norm`] with respect to `x` and `weight`; the one of `x` is added to what `x` has from `elsewhere`.
pub fn rms_norm_backward(
    dy: &[f32],
    x: &[f32],
    weight: &[f32],
    elsewhere: Option<&[f32]>,
) -> (Vec<f32>, Vec<f32>) {
    assert!(
        x.len().is_multiple_of(weight.len())
            && dy.len() == x.len()
            && elsewhere.is_none_or(|other| other.len() == x.len()),
        "rows of {} numbers",
        weight.len()
    );
    crate::profile::operation("norm", || {
        let width = weight.len();
        let chunk_len = ROWS * width;
        let mut partial = vec![0.0; x.len().div_ceil(chunk_len) * width];
        let write = |dx: &mut [f32]| {
            let pieces = dx
                .par_chunks_mut(chunk_len)
                .zip(partial.par_chunks_mut(width));
            pieces.enumerate().for_each(|(index, (dx, dweight))| {
                let range = index * chunk_len..index * chunk_len + dx.len();
                backward_rows(dx, dweight, &dy[range.clone()], &x[range.clone()], weight);
                if let Some(elsewhere) = elsewhere {
                    add_to(dx, &elsewhere[range]);
                }
            });
        };
        // SAFETY: the chunks cover the whole result, and each is written as a whole.
        let dx = unsafe { filled(x.len(), write) };
        (dx, sum_rows(&partial, width))
    })
}
