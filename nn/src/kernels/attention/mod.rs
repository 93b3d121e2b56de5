//! Attention over short sequences, with query-key normalisation and rotary embedding over time, forward and backward.
//!
//! A row of `qkv` holds the query, key and value of one position, `[q | k | v]`, each `heads * head_width` wide. Rows lie as
//! `[B, T, S]`: clips, frames, positions within a frame. A *problem* is a set of rows that attend to one another: the positions of a
//! frame ([`Pattern::Space`]) or one position across frames ([`Pattern::Time`]). Problems are gathered into small dense
//! buffers, so no transposed copy of the whole tensor is ever made.
//!
//! ```text
//! qkv ─ gather ─► q, k, v of each head ─► softmax(q k') v ─ scatter ─► out
//! ```

mod heads;
mod plan;
mod rotary;

pub(super) use heads::prepare;
pub(crate) use plan::allowed;
pub use plan::{Pattern, Sizes, pair_count};
pub(crate) use rotary::rotary_angles;

use super::buffer::{filled, zeros};
use super::elementwise::exp;
use super::kernel;
use super::lanes::{lane_max, lane_sum, update_and_sum_lanes, update_lanes};
use super::parallel::{SharedMut, sum_rows};
use super::product::{Matrix, even_part, multiply_alone};
use super::small_product::multiply_small;
use super::transpose::{Rows, transpose_numbers};
use heads::{gather, gather_gradient, scatter, scatter_gradients};
use plan::{Plan, Segment};
use rayon::prelude::*;

/// Pieces that the problems of a call are divided into for each core: few enough to share buffers, enough for a core that was interrupted to
/// be helped out.
const PIECES_PER_CORE: usize = 4;

/// What is needed for one problem. `[heads, length, head_width]` unless said otherwise.
struct Scratch {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// Of queries and keys before they were normalised: `1 / rms`, `[heads, length]`.
    query_norms: Vec<f32>,
    key_norms: Vec<f32>,
    /// Results, or their gradients.
    out: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
    /// Keys, then values, of one head with rows and columns exchanged: `[head_width, padded]`.
    flipped: Vec<f32>,
    /// Attention weights of one head and their gradients, `[length, padded]`.
    p: Vec<f32>,
    dp: Vec<f32>,
}

impl Scratch {
    fn new(plan: &Plan, gradients: bool) -> Self {
        let Sizes {
            heads, head_width, ..
        } = plan.sizes;
        let (length, padded) = (plan.length, plan.padded);
        let numbers = |count: usize, needed: bool| vec![0.0; if needed { count } else { 0 }];
        let dense = |needed| numbers(heads * length * head_width, needed);
        Self {
            q: dense(true),
            k: dense(true),
            v: dense(true),
            query_norms: numbers(heads * length, true),
            key_norms: numbers(heads * length, true),
            out: dense(true),
            dq: dense(gradients),
            dk: dense(gradients),
            dv: dense(gradients),
            flipped: numbers(head_width * padded, true),
            p: numbers(length * padded, true),
            dp: numbers(length * padded, gradients),
        }
    }
}

kernel! {
    /// Softmax of each row of `scores` over the entries that its row of `mask` allows; the others become exactly zero. After its last row, `mask` begins anew.
    fn masked_softmax(scores: &mut [f32], mask: &[f32], padded: usize) {
        for (row, mask) in scores.chunks_exact_mut(padded).zip(mask.chunks_exact(padded).cycle()) {
            let largest = lane_max([row, mask], |[score, mask]| score + mask);
            let sum = update_and_sum_lanes(row, [mask], |score, [mask]| {
                let weight = exp::<FUSED>(score - largest);
                if mask == 0.0 { weight } else { 0.0 }
            });
            let factor = 1.0 / sum;
            update_lanes(row, [], |weight, []| weight * factor);
        }
    }
}

kernel! {
    /// `dp = p * (dp - sum(dp * p))` for each row: the gradient of a softmax.
    fn softmax_backward(dp: &mut [f32], p: &[f32], padded: usize) {
        for (dp, p) in dp.chunks_exact_mut(padded).zip(p.chunks_exact(padded)) {
            let sum = lane_sum([dp, p], |[dp, p]| dp * p);
            update_lanes(dp, [p], |dp, [p]| p * (dp - sum));
        }
    }
}

/// `out = left * right` on the calling thread; rows of `out` are `stride` apart, which is the columns of `right` rounded up to what small products
/// want. What lies beyond the columns stays or becomes a finite number.
fn multiply(
    plan: &Plan,
    flipped: &mut [f32],
    out: &mut [f32],
    stride: usize,
    left: Matrix,
    right: Matrix,
) {
    if let Some(unit) = plan.tiles {
        return multiply_alone(unit, out, stride, left, right);
    }
    let right = match right.column_stride {
        1 => right.data,
        _ => {
            let rows = Rows {
                data: right.data,
                stride: right.column_stride,
                count: right.columns,
                width: right.rows,
            };
            transpose_numbers(flipped, stride, rows);
            flipped
        }
    };
    let strides = [left.row_stride, left.column_stride];
    let size = [left.rows, stride, left.columns];
    multiply_small(out, left.data, strides, right, size);
}

/// The attention weights of one head, from its gathered queries and keys.
fn weights(scratch: &mut Scratch, plan: &Plan, head: usize) {
    let (width, length, padded) = (plan.sizes.head_width, plan.length, plan.padded);
    let dense = head * length * width..(head + 1) * length * width;
    let [q, k] = [&scratch.q, &scratch.k].map(|x| Matrix::new(&x[dense.clone()], length, width));
    let flipped = &mut scratch.flipped;
    multiply(plan, flipped, &mut scratch.p, padded, q, k.transposed());
    masked_softmax(&mut scratch.p, &plan.mask, padded);
}

/// Calls `run(scratch, problem)` for every problem of a plan, on all cores.
fn for_each_problem(plan: &Plan, gradients: bool, run: impl Fn(&mut Scratch, usize) + Sync) {
    let problems = plan.problems();
    let pieces = (PIECES_PER_CORE * rayon::current_num_threads()).min(problems);
    (0..pieces).into_par_iter().for_each(|piece| {
        let mut scratch = Scratch::new(plan, gradients);
        for problem in even_part(problems, pieces, piece, 1) {
            run(&mut scratch, problem);
        }
    });
}

/// Panics where not every row of these sizes would be worked on.
fn check(qkv: &[f32], sizes: Sizes, pattern: Pattern) {
    assert_eq!(
        qkv.len(),
        3 * sizes.rows() * sizes.width(),
        "queries, keys and values"
    );
    let paired = matches!(pattern, Pattern::PairedTime { .. });
    assert!(!paired || sizes.batch.is_multiple_of(2), "pairs of clips");
}

/// Attention of `qkv` `[B, T, S, 3 * D]` by `pattern`; `query_scale` and `key_scale` are `head_width` wide. Returns `[B, T, S, D]`.
pub fn forward(
    qkv: &[f32],
    query_scale: &[f32],
    key_scale: &[f32],
    sizes: Sizes,
    pattern: Pattern,
) -> Vec<f32> {
    check(qkv, sizes, pattern);
    let scales = [query_scale, key_scale];
    let run = |out: SharedMut, plan: &Plan, scratch: &mut Scratch, problem: usize| {
        let (width, length) = (sizes.head_width, plan.length);
        gather(scratch, plan, qkv, scales, problem);
        for head in 0..sizes.heads {
            weights(scratch, plan, head);
            let dense = head * length * width..(head + 1) * length * width;
            let Scratch {
                out, v, p, flipped, ..
            } = &mut *scratch;
            let v = Matrix::new(&v[dense.clone()], length, width);
            let p = Matrix::new(p, length, plan.padded).some_columns(0..length);
            multiply(plan, flipped, &mut out[dense], width, p, v);
        }
        scatter(out, scratch, plan, problem);
    };
    crate::profile::operation("attention", || {
        let fill = |out: &mut [f32]| {
            let out = SharedMut::new(out);
            for segment in Segment::all(sizes, pattern) {
                let plan = Plan::new(sizes, pattern, segment);
                for_each_problem(&plan, false, |scratch, problem| {
                    run(out, &plan, scratch, problem);
                });
            }
        };
        // SAFETY: every row is owned by one segment of one problem, which writes it as a whole.
        unsafe { filled(sizes.rows() * sizes.width(), fill) }
    })
}

/// Gradients of [`forward`] with respect to `qkv`, `query_scale` and `key_scale`.
pub fn backward(
    dout: &[f32],
    qkv: &[f32],
    query_scale: &[f32],
    key_scale: &[f32],
    sizes: Sizes,
    pattern: Pattern,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    check(qkv, sizes, pattern);
    assert_eq!(dout.len(), sizes.rows() * sizes.width(), "gradient");
    let scales = [query_scale, key_scale];
    let width = sizes.head_width;
    let segments = Segment::all(sizes, pattern);
    // Rows that several segments see get the sum of what each sends back.
    let add = segments.len() > 1;
    let run = |dqkv: SharedMut,
               dscales: SharedMut,
               plan: &Plan,
               scratch: &mut Scratch,
               problem: usize| {
        gather(scratch, plan, qkv, scales, problem);
        gather_gradient(scratch, plan, dout, problem);
        for head in 0..sizes.heads {
            weights(scratch, plan, head);
            head_backward(scratch, plan, head);
        }
        // SAFETY: each problem has its own part of `dscales`, which outlives the loop.
        let dscales = unsafe { dscales.row(problem * 2 * width, 2 * width) };
        scatter_gradients(dqkv, dscales, scratch, plan, qkv, scales, problem, add);
    };
    crate::profile::operation("attention", || {
        let mut sums = vec![0.0; 2 * width];
        let fill = |dqkv: &mut [f32]| {
            let dqkv = SharedMut::new(dqkv);
            for segment in segments {
                let plan = Plan::new(sizes, pattern, segment);
                let mut parts = vec![0.0; plan.problems() * 2 * width];
                let dscales = SharedMut::new(&mut parts);
                for_each_problem(&plan, true, |scratch, problem| {
                    run(dqkv, dscales, &plan, scratch, problem);
                });
                for (sum, part) in sums.iter_mut().zip(sum_rows(&parts, 2 * width)) {
                    *sum += part;
                }
            }
        };
        let dqkv = match add {
            true => {
                let mut dqkv = zeros(qkv.len());
                fill(&mut dqkv);
                dqkv
            }
            // SAFETY: the only segment owns every row, and each problem writes its rows as a whole.
            false => unsafe { filled(qkv.len(), fill) },
        };
        (dqkv, sums[..width].to_vec(), sums[width..].to_vec())
    })
}

/// The gradients of one head's queries, keys and values, from its attention weights and the gradients of its results.
fn head_backward(scratch: &mut Scratch, plan: &Plan, head: usize) {
    let (width, length, padded) = (plan.sizes.head_width, plan.length, plan.padded);
    let dense = head * length * width..(head + 1) * length * width;
    let Scratch {
        q,
        k,
        v,
        out,
        dq,
        dk,
        dv,
        flipped,
        p,
        dp,
        ..
    } = scratch;
    let [q, k, v, dout] = [q, k, v, out].map(|x| Matrix::new(&x[dense.clone()], length, width));
    let [dq, dk, dv] = [dq, dk, dv].map(|numbers| &mut numbers[dense.clone()]);
    let square = |numbers| Matrix::new(numbers, length, padded).some_columns(0..length);
    multiply(plan, flipped, dv, width, square(p).transposed(), dout);
    multiply(plan, flipped, dp, padded, dout, v.transposed());
    softmax_backward(dp, p, padded);
    multiply(plan, flipped, dq, width, square(dp), k);
    multiply(plan, flipped, dk, width, square(dp).transposed(), q);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Precision, with_precision};
    use rand::Rng;

    fn numbers(count: usize, stream: u64) -> Vec<f32> {
        let mut random = crate::generator(1, stream);
        (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
    }

    /// How far `a` is from `b`, as a share of `b`.
    fn distance(a: &[f32], b: &[f32]) -> f32 {
        let length = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
        let mut differences = a.iter().zip(b).map(|(a, b)| a - b);
        length(&mut differences) / length(&mut b.iter().copied())
    }

    /// Where a unit multiplies by tiles, that is by those: sizes around them, with and without a mask.
    #[test]
    fn bf16_computes_what_f32_does_but_for_rounding() {
        for (positions, frames, pattern) in [
            (31, 2, Pattern::Space),
            (32, 2, Pattern::Space),
            (33, 2, Pattern::Space),
            (65, 1, Pattern::Space),
            (100, 1, Pattern::Space),
            (3, 40, Pattern::Time { window: 40 }),
            (3, 19, Pattern::PairedTime { window: 7 }),
            (2, 50, Pattern::PairedTime { window: 20 }),
        ] {
            for head_width in [16, 32, 48] {
                let sizes = Sizes {
                    batch: 2,
                    frames,
                    positions,
                    heads: 2,
                    head_width,
                };
                let qkv = numbers(3 * sizes.rows() * sizes.width(), 1);
                let dout = numbers(sizes.rows() * sizes.width(), 2);
                let scales = [numbers(head_width, 3), numbers(head_width, 4)];
                let run = |precision| {
                    with_precision(precision, || {
                        let [q, k] = &scales;
                        let out = forward(&qkv, q, k, sizes, pattern);
                        let (dqkv, dq, dk) = backward(&dout, &qkv, q, k, sizes, pattern);
                        [out, dqkv, dq, dk]
                    })
                };
                let (rounded, exact) = (run(Precision::Bf16), run(Precision::F32));
                for (rounded, exact) in rounded.iter().zip(&exact) {
                    let distance = distance(rounded, exact);
                    assert!(distance < 0.01, "{distance} for {pattern:?} of {sizes:?}");
                }
            }
        }
    }
}
