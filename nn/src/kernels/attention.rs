//! Attention over short sequences, with query-key normalisation and rotary embedding over time, forward and backward.
//!
//! A row of `qkv` holds the query, key and value of one position, `[q | k | v]`, each `heads * head_width` wide. Rows lie as
//! `[B, T, S]`: clips, frames, positions within a frame. A *problem* is a set of rows that attend to one another: the positions of a
//! frame ([`Pattern::Space`]) or one position across frames ([`Pattern::Time`]). Problems are gathered into small dense
//! buffers, so no transposed copy of the whole tensor is ever made.

use super::buffer::zeros;
use super::elementwise::exp;
use super::kernel;
use super::norm::{inverse_root_mean_square, lane_sum};
use super::parallel::{SharedMut, sum_rows};
use super::small_product::{SMALL_WIDTH_STEP, multiply_small};
use super::transpose::{Rows, transpose_numbers};
use rayon::prelude::*;

/// Which rows attend to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Every position of a frame attends to every position of the same frame.
    Space,
    /// A position attends to itself in the last `window` frames, its own frame included.
    Time {
        /// Frames that are seen, the present one included.
        window: usize,
    },
    /// The batch holds a clean half and, after it, a masked half. Clean rows attend as in [`Pattern::Time`]; a masked row attends
    /// to the *clean* rows of earlier frames and to itself, just as in play the present frame meets a cached past.
    PairedTime {
        /// Frames that are seen, the present one included.
        window: usize,
    },
}

/// Sizes of an attention call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Clips (`B`); with [`Pattern::PairedTime`] both halves together.
    pub batch: usize,
    /// Frames of a clip (`T`).
    pub frames: usize,
    /// Positions within a frame (`S`).
    pub positions: usize,
    /// Heads (`H`).
    pub heads: usize,
    /// Numbers per head.
    pub head_width: usize,
}

impl Sizes {
    /// Width of a query, key or value row (`D`).
    pub fn width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Rows of `qkv`.
    pub fn rows(&self) -> usize {
        self.batch * self.frames * self.positions
    }
}

/// Cosines and sines of the rotary embedding (arXiv 2104.09864) for some frame positions.
pub struct RotaryTable {
    half: usize,
    values: Vec<f32>,
}

/// Slowest rotation is one turn in about this many frames; play looks back over tens of frames, not thousands.
const ROTARY_BASE: f64 = 100.0;

impl RotaryTable {
    /// The table of frames `first..first + frames`. Angles are made in double precision: a session may be hours long.
    pub fn new(first: u64, frames: usize, head_width: usize) -> Self {
        let half = head_width / 2;
        let mut values = Vec::with_capacity(frames * half * 2);
        for frame in 0..frames {
            let position = (first + frame as u64) as f64;
            let angle = |i: usize| position * ROTARY_BASE.powf(-(i as f64) / half as f64);
            values.extend((0..half).map(|i| angle(i).cos() as f32));
            values.extend((0..half).map(|i| angle(i).sin() as f32));
        }
        Self { half, values }
    }

    fn at(&self, frame: usize) -> (&[f32], &[f32]) {
        self.values[frame * 2 * self.half..][..2 * self.half].split_at(self.half)
    }
}

/// Cosines, then sines, of one frame's rotary embedding.
pub(crate) fn rotary_angles(frame: u64, head_width: usize) -> Vec<f32> {
    RotaryTable::new(frame, 1, head_width).values
}

/// Everything that is the same for all problems of a call.
struct Plan {
    sizes: Sizes,
    pattern: Pattern,
    segment: Segment,
    /// Rows of one problem.
    length: usize,
    /// `length` rounded up to what the small products want.
    padded: usize,
    /// 0 where row i may attend to row j, minus infinity where not, `[length, padded]`.
    mask: Vec<f32>,
    rotary: Option<RotaryTable>,
}

/// Frames of a clip that are worked on at once: as many as the window holds, and those before them that they see. Long clips so cost in
/// proportion to their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    /// The first frame that is seen.
    first: usize,
    /// Frames that are seen.
    frames: usize,
    /// Frames at the start that are only seen; their own results belong to another segment.
    only_seen: usize,
}

impl Segment {
    /// The segments of a clip.
    fn all(sizes: Sizes, pattern: Pattern) -> Vec<Self> {
        let whole = Self {
            first: 0,
            frames: sizes.frames,
            only_seen: 0,
        };
        match pattern {
            Pattern::Time { window } | Pattern::PairedTime { window }
                if sizes.frames > 2 * window =>
            {
                let segment = |start: usize| {
                    let first = (start + 1).saturating_sub(window);
                    Self {
                        first,
                        frames: (start + window).min(sizes.frames) - first,
                        only_seen: start - first,
                    }
                };
                (0..sizes.frames).step_by(window).map(segment).collect()
            }
            _ => vec![whole],
        }
    }
}

impl Plan {
    fn new(sizes: Sizes, pattern: Pattern, segment: Segment) -> Self {
        let length = match pattern {
            Pattern::Space => sizes.positions,
            Pattern::Time { .. } => segment.frames,
            Pattern::PairedTime { .. } => 2 * segment.frames,
        };
        let padded = length.next_multiple_of(SMALL_WIDTH_STEP);
        let mut mask = vec![f32::NEG_INFINITY; length * padded];
        for i in 0..length {
            for j in 0..length {
                if allowed(pattern, segment.frames, i, j) {
                    mask[i * padded + j] = 0.0;
                }
            }
        }
        let rotary = (pattern != Pattern::Space)
            .then(|| RotaryTable::new(segment.first as u64, segment.frames, sizes.head_width));
        Self {
            sizes,
            pattern,
            segment,
            length,
            padded,
            mask,
            rotary,
        }
    }

    fn problems(&self) -> usize {
        let rows = match self.pattern {
            Pattern::Space => self.sizes.positions,
            Pattern::Time { .. } => self.sizes.frames,
            Pattern::PairedTime { .. } => 2 * self.sizes.frames,
        };
        self.sizes.rows() / rows
    }

    /// Whether the results of row `i` of a problem belong to this segment.
    #[inline(always)]
    fn owns(&self, i: usize) -> bool {
        self.pattern == Pattern::Space || i % self.segment.frames >= self.segment.only_seen
    }

    /// The angles that row `i` of a problem is turned by.
    #[inline(always)]
    fn angles(&self, i: usize) -> Option<(&[f32], &[f32])> {
        self.rotary
            .as_ref()
            .map(|table| table.at(i % self.segment.frames))
    }

    /// The row of `qkv` that is row `i` of a problem.
    fn row(&self, problem: usize, i: usize) -> usize {
        let Sizes {
            batch,
            frames,
            positions,
            ..
        } = self.sizes;
        let (clip, position) = (problem / positions, problem % positions);
        match self.pattern {
            Pattern::Space => problem * positions + i,
            Pattern::Time { .. } => (clip * frames + self.segment.first + i) * positions + position,
            Pattern::PairedTime { .. } => {
                let clip = clip
                    + if i < self.segment.frames {
                        0
                    } else {
                        batch / 2
                    };
                let frame = self.segment.first + i % self.segment.frames;
                (clip * frames + frame) * positions + position
            }
        }
    }
}

/// Whether row `i` of a problem attends to row `j` of it.
pub(crate) fn allowed(pattern: Pattern, frames: usize, i: usize, j: usize) -> bool {
    match pattern {
        Pattern::Space => true,
        Pattern::Time { window } => j <= i && i - j < window,
        Pattern::PairedTime { window } => match (i < frames, j < frames) {
            (true, true) => j <= i && i - j < window,
            (true, false) => false,
            (false, true) => j < i - frames && (i - frames) - j < window,
            (false, false) => i == j,
        },
    }
}

/// Pairs of rows whose score one call computes, over all heads, the masked ones included: the cost of attention.
pub fn pair_count(sizes: Sizes, pattern: Pattern) -> u64 {
    let plans = Segment::all(sizes, pattern)
        .into_iter()
        .map(|segment| Plan::new(sizes, pattern, segment));
    let pairs = plans.map(|plan| plan.length * plan.length * plan.problems() * sizes.heads);
    pairs.sum::<usize>() as u64
}

/// Dense buffers of one problem and head; one set per thread.
struct Scratch {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// Keys, then values, with rows and columns exchanged: `[head_width, padded]`.
    flipped: Vec<f32>,
    /// Attention weights `[length, padded]`.
    p: Vec<f32>,
    dp: Vec<f32>,
    dout: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
}

impl Scratch {
    fn new(plan: &Plan) -> Self {
        let dense = || vec![0.0; plan.length * plan.sizes.head_width];
        let square = || vec![0.0; plan.length * plan.padded];
        Self {
            q: dense(),
            k: dense(),
            v: dense(),
            flipped: vec![0.0; plan.sizes.head_width * plan.padded],
            p: square(),
            dp: square(),
            dout: dense(),
            dq: dense(),
            dk: dense(),
            dv: dense(),
        }
    }
}

/// Turns a vector by a frame's angles: pairs are (i, i + half).
#[inline(always)]
fn rotate(x: &mut [f32], cosines: &[f32], sines: &[f32], direction: f32) {
    let half = cosines.len();
    let (low, high) = x.split_at_mut(half);
    let (high, sines) = (&mut high[..half], &sines[..half]);
    for i in 0..half {
        let (a, b, sine) = (low[i], high[i], sines[i] * direction);
        low[i] = a * cosines[i] - b * sine;
        high[i] = a * sine + b * cosines[i];
    }
}

/// Calls `$function::<W>` with the head width `W`, so that the usual ones are unrolled; 0 stands for one that is known at run time only.
macro_rules! by_head_width {
    ($width:expr, $function:ident $arguments:tt) => {
        match $width {
            16 => $function::<16> $arguments,
            32 => $function::<32> $arguments,
            64 => $function::<64> $arguments,
            _ => $function::<0> $arguments,
        }
    };
}

/// `out = rotate(x / rms(x) * scale * factor)`: how a query or key enters the product.
#[inline(always)]
pub(super) fn prepare(
    out: &mut [f32],
    x: &[f32],
    scale: &[f32],
    factor: f32,
    angles: Option<(&[f32], &[f32])>,
) {
    by_head_width!(out.len(), prepare_of(out, x, scale, factor, angles));
}

#[inline(always)]
fn prepare_of<const W: usize>(
    out: &mut [f32],
    x: &[f32],
    scale: &[f32],
    factor: f32,
    angles: Option<(&[f32], &[f32])>,
) {
    // Slices of one known length, so that the loop needs no checks and vectorises.
    let width = if W > 0 { W } else { out.len() };
    let (out, x, scale) = (&mut out[..width], &x[..width], &scale[..width]);
    let r = inverse_root_mean_square(x) * factor;
    for i in 0..width {
        out[i] = x[i] * r * scale[i];
    }
    if let Some((cosines, sines)) = angles {
        rotate(out, &cosines[..width / 2], &sines[..width / 2], 1.0);
    }
}

/// Undoes [`prepare`] for gradients: adds to `dx` and `dscale`; `gradient` is used up.
#[inline(always)]
fn prepare_backward(
    dx: &mut [f32],
    dscale: &mut [f32],
    gradient: &mut [f32],
    x: &[f32],
    scale: &[f32],
    factor: f32,
    angles: Option<(&[f32], &[f32])>,
) {
    by_head_width!(
        x.len(),
        prepare_backward_of(dx, dscale, gradient, x, scale, factor, angles)
    );
}

#[inline(always)]
fn prepare_backward_of<const W: usize>(
    dx: &mut [f32],
    dscale: &mut [f32],
    gradient: &mut [f32],
    x: &[f32],
    scale: &[f32],
    factor: f32,
    angles: Option<(&[f32], &[f32])>,
) {
    let width = if W > 0 { W } else { x.len() };
    if let Some((cosines, sines)) = angles {
        rotate(
            &mut gradient[..width],
            &cosines[..width / 2],
            &sines[..width / 2],
            -1.0,
        );
    }
    let (dx, dscale) = (&mut dx[..width], &mut dscale[..width]);
    let (gradient, x, scale) = (&gradient[..width], &x[..width], &scale[..width]);
    let r = inverse_root_mean_square(x);
    let projection = lane_sum(|i| gradient[i] * scale[i] * x[i], width) / width as f32 * r * r;
    for i in 0..width {
        dx[i] += factor * r * (gradient[i] * scale[i] - x[i] * projection);
        dscale[i] += factor * gradient[i] * x[i] * r;
    }
}

kernel! {
    /// Softmax of each row of `scores` over the entries that `mask` allows; the others become exactly zero.
    fn masked_softmax(scores: &mut [f32], mask: &[f32], padded: usize) {
        for (row, mask) in scores.chunks_exact_mut(padded).zip(mask.chunks_exact(padded)) {
            let (row, mask) = (&mut row[..padded], &mask[..padded]);
            let mut lanes = [f32::NEG_INFINITY; SMALL_WIDTH_STEP];
            for (scores, mask) in row.chunks_exact(SMALL_WIDTH_STEP).zip(mask.chunks_exact(SMALL_WIDTH_STEP)) {
                for i in 0..SMALL_WIDTH_STEP {
                    lanes[i] = lanes[i].max(scores[i] + mask[i]);
                }
            }
            let largest = lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for i in 0..padded {
                let weight = exp::<FUSED>(row[i] - largest);
                row[i] = if mask[i] == 0.0 { weight } else { 0.0 };
            }
            let factor = 1.0 / lane_sum(|i| row[i], padded);
            for value in row.iter_mut() {
                *value *= factor;
            }
        }
    }
}

kernel! {
    /// `dp = p * (dp - sum(dp * p))` for each row: the gradient of a softmax.
    fn softmax_backward(dp: &mut [f32], p: &[f32], padded: usize) {
        for (dp, p) in dp.chunks_exact_mut(padded).zip(p.chunks_exact(padded)) {
            let (dp, p) = (&mut dp[..padded], &p[..padded]);
            let sum = lane_sum(|i| dp[i] * p[i], padded);
            for i in 0..padded {
                dp[i] = p[i] * (dp[i] - sum);
            }
        }
    }
}

/// Dense rows `[length, width]` as columns `[width, padded]`.
fn flip(out: &mut [f32], x: &[f32], width: usize, padded: usize) {
    let rows = Rows {
        data: x,
        stride: width,
        count: x.len() / width,
        width,
    };
    transpose_numbers(out, padded, rows);
}

kernel! {
    /// Gathers queries, keys and values of one head of one problem.
    fn gather(scratch: &mut Scratch, plan: &Plan, qkv: &[f32], scales: [&[f32]; 2], problem: usize, head: usize) {
        let (width, full) = (plan.sizes.head_width, plan.sizes.width());
        let factor = (width as f32).sqrt().recip();
        for i in 0..plan.length {
            let row = &qkv[plan.row(problem, i) * 3 * full..][..3 * full];
            let angles = plan.angles(i);
            let dense = i * width..(i + 1) * width;
            prepare(&mut scratch.q[dense.clone()], &row[head * width..][..width], scales[0], factor, angles);
            prepare(&mut scratch.k[dense.clone()], &row[full + head * width..][..width], scales[1], 1.0, angles);
            scratch.v[dense].copy_from_slice(&row[2 * full + head * width..][..width]);
        }
    }
}

kernel! {
    /// Takes the gradients of one head's queries, keys and values back to `qkv`'s, and adds to those of the scales.
    fn scatter(
        dqkv: SharedMut, dscales: &mut [f32], scratch: &mut Scratch, plan: &Plan, qkv: &[f32], scales: [&[f32]; 2], problem: usize, head: usize,
    ) {
        let (width, full) = (plan.sizes.head_width, plan.sizes.width());
        let factor = (width as f32).sqrt().recip();
        let (dquery_scale, dkey_scale) = dscales.split_at_mut(width);
        for i in 0..plan.length {
            let start = plan.row(problem, i) * 3 * full + head * width;
            let angles = plan.angles(i);
            let dense = i * width..(i + 1) * width;
            // SAFETY: a row belongs to one problem, each head has its own part of it, and the three parts follow one
            // another; the callers keep `dqkv` alive.
            let [dq, dk, dv] = [0, full, 2 * full].map(|part| unsafe { dqkv.row(start + part, width) });
            let (q, k) = (&qkv[start..][..width], &qkv[start + full..][..width]);
            prepare_backward(dq, dquery_scale, &mut scratch.dq[dense.clone()], q, scales[0], factor, angles);
            prepare_backward(dk, dkey_scale, &mut scratch.dk[dense.clone()], k, scales[1], 1.0, angles);
            for (dv, own) in dv.iter_mut().zip(&scratch.dv[dense]) {
                *dv += own;
            }
        }
    }
}

/// Gathers one head of one problem and computes its attention weights.
fn weights(
    scratch: &mut Scratch,
    plan: &Plan,
    qkv: &[f32],
    scales: [&[f32]; 2],
    problem: usize,
    head: usize,
) {
    let width = plan.sizes.head_width;
    gather(scratch, plan, qkv, scales, problem, head);
    flip(&mut scratch.flipped, &scratch.k, width, plan.padded);
    multiply_small(
        &mut scratch.p,
        &scratch.q,
        width,
        1,
        &scratch.flipped,
        plan.length,
        plan.padded,
        width,
    );
    masked_softmax(&mut scratch.p, &plan.mask, plan.padded);
}

/// Attention of `qkv` `[B, T, S, 3 * D]` by `pattern`; `query_scale` and `key_scale` are `head_width` wide. Returns `[B, T, S, D]`.
pub fn forward(
    qkv: &[f32],
    query_scale: &[f32],
    key_scale: &[f32],
    sizes: Sizes,
    pattern: Pattern,
) -> Vec<f32> {
    crate::profile::operation("attention", || {
        let (width, full) = (sizes.head_width, sizes.width());
        let mut out = zeros(sizes.rows() * full);
        let shared = SharedMut::new(&mut out);
        let run = |plan: &Plan, scratch: &mut Scratch, problem: usize| {
            for head in 0..sizes.heads {
                weights(scratch, plan, qkv, [query_scale, key_scale], problem, head);
                multiply_small(
                    &mut scratch.dout,
                    &scratch.p,
                    plan.padded,
                    1,
                    &scratch.v,
                    plan.length,
                    width,
                    plan.length,
                );
                for i in (0..plan.length).filter(|&i| plan.owns(i)) {
                    // SAFETY: a row belongs to one problem, and each head has its own part of it; `out` outlives the loop.
                    let target =
                        unsafe { shared.row(plan.row(problem, i) * full + head * width, width) };
                    target.copy_from_slice(&scratch.dout[i * width..][..width]);
                }
            }
        };
        for segment in Segment::all(sizes, pattern) {
            let plan = Plan::new(sizes, pattern, segment);
            (0..plan.problems()).into_par_iter().for_each_init(
                || Scratch::new(&plan),
                |scratch, problem| run(&plan, scratch, problem),
            );
        }
        out
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
    crate::profile::operation("attention", || {
        let (width, full) = (sizes.head_width, sizes.width());
        let mut dqkv = zeros(qkv.len());
        let segments = Segment::all(sizes, pattern);
        let problems = segments
            .first()
            .map_or(0, |&segment| Plan::new(sizes, pattern, segment).problems());
        let mut dscales = vec![0.0; problems * 2 * width];
        let shared = SharedMut::new(&mut dqkv);
        let run = |plan: &Plan, scratch: &mut Scratch, problem: usize, dscales: &mut [f32]| {
            for head in 0..sizes.heads {
                weights(scratch, plan, qkv, [query_scale, key_scale], problem, head);
                for i in 0..plan.length {
                    let own = &mut scratch.dout[i * width..][..width];
                    match plan.owns(i) {
                        true => own.copy_from_slice(
                            &dout[plan.row(problem, i) * full + head * width..][..width],
                        ),
                        false => own.fill(0.0),
                    }
                }
                let (length, padded) = (plan.length, plan.padded);
                multiply_small(
                    &mut scratch.dv,
                    &scratch.p,
                    1,
                    padded,
                    &scratch.dout,
                    length,
                    width,
                    length,
                );
                flip(&mut scratch.flipped, &scratch.v, width, padded);
                multiply_small(
                    &mut scratch.dp,
                    &scratch.dout,
                    width,
                    1,
                    &scratch.flipped,
                    length,
                    padded,
                    width,
                );
                softmax_backward(&mut scratch.dp, &scratch.p, padded);
                multiply_small(
                    &mut scratch.dq,
                    &scratch.dp,
                    padded,
                    1,
                    &scratch.k,
                    length,
                    width,
                    length,
                );
                multiply_small(
                    &mut scratch.dk,
                    &scratch.dp,
                    1,
                    padded,
                    &scratch.q,
                    length,
                    width,
                    length,
                );
                scatter(
                    shared,
                    dscales,
                    scratch,
                    plan,
                    qkv,
                    [query_scale, key_scale],
                    problem,
                    head,
                );
            }
        };
        for segment in segments {
            let plan = Plan::new(sizes, pattern, segment);
            dscales.par_chunks_mut(2 * width).enumerate().for_each_init(
                || Scratch::new(&plan),
                |scratch, (problem, dscales)| run(&plan, scratch, problem, dscales),
            );
        }
        let sums = sum_rows(&dscales, 2 * width);
        (dqkv, sums[..width].to_vec(), sums[width..].to_vec())
    })
}
