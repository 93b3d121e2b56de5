//! Attention within one frame's pass: each thread computes it for its own rows.

use super::super::attention::prepare;
use super::super::cross_entropy::{exponentials, softmax};
use super::super::lanes::{lane_sum, update_lanes, write_lanes};
use super::super::parallel::SharedMut;
use super::super::small_product::{SMALL_WIDTH_STEP, multiply_small};
use super::super::transpose::{Rows, transpose_to};
use super::super::{kernel, multiply_add};
use crate::transformer::CachedFrame;
use std::collections::VecDeque;
use std::sync::Arc;

/// Numbers in a line of the cache.
const LINE: usize = 16;

/// Sizes of attention in a pass.
#[derive(Clone, Copy)]
pub struct HeadSizes {
    /// Positions in a frame (`S`).
    pub positions: usize,
    pub heads: usize,
    pub head_width: usize,
}

impl HeadSizes {
    /// `D`.
    pub fn width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Positions, rounded up to what small products want.
    pub fn padded(&self) -> usize {
        self.positions.next_multiple_of(SMALL_WIDTH_STEP)
    }
}

/// A thread's buffers.
#[derive(Default)]
pub struct MemberBuffers {
    /// One head's keys of this thread's rows.
    key: Vec<f32>,
    query: Vec<f32>,
    scores: Vec<f32>,
    /// Of each row's exponentials.
    sums: Vec<f32>,
    result: Vec<f32>,
    /// FiLM's scale and shift.
    pub modulation: Vec<f32>,
    /// Rows of this thread that go on.
    pub going: Vec<usize>,
}

impl MemberBuffers {
    fn fit(&mut self, rows: usize, sizes: HeadSizes) {
        let dense = rows * sizes.head_width;
        self.query.resize(dense, 0.0);
        self.result.resize(dense, 0.0);
        self.scores.resize(rows * sizes.padded(), 0.0);
        self.sums.resize(rows, 0.0);
    }
}

/// Spatial attention of some rows `qkv` `[rows, 3 * D]` to all positions, into `out` `[rows, D]`. `keys` is `[H, W, padded]`, `values` `[H, S, W]`.
pub fn attend_space(
    out: &mut [f32],
    qkv: &[f32],
    query_scale: &[f32],
    [keys, values]: [&[f32]; 2],
    sizes: HeadSizes,
    buffers: &mut MemberBuffers,
) {
    let (width, full, padded) = (sizes.head_width, sizes.width(), sizes.padded());
    let rows = out.len() / full;
    buffers.fit(rows, sizes);
    for head in 0..sizes.heads {
        head_queries(&mut buffers.query, qkv, query_scale, full, head);
        let keys = &keys[head * width * padded..][..width * padded];
        multiply_small(
            &mut buffers.scores,
            &buffers.query,
            width,
            1,
            keys,
            rows,
            padded,
            width,
        );
        let sums = &mut buffers.sums[..rows];
        exponentials_of_first(&mut buffers.scores, sums, padded, sizes.positions);
        let values = &values[head * sizes.positions * width..][..sizes.positions * width];
        multiply_small(
            &mut buffers.result,
            &buffers.scores,
            padded,
            1,
            values,
            rows,
            width,
            sizes.positions,
        );
        place_head(out, &buffers.result, &buffers.sums, full, head * width);
    }
}

kernel! {
    /// Exponentials of the first `count` numbers of each row of `padded`, and their sums; the other numbers become next to nothing.
    fn exponentials_of_first(scores: &mut [f32], sums: &mut [f32], padded: usize, count: usize) {
        for (row, sum) in scores.chunks_exact_mut(padded).zip(sums) {
            row[count..].fill(f32::NEG_INFINITY);
            *sum = exponentials::<FUSED>(row, 1.0);
        }
    }
}

kernel! {
    /// Rows of a head's results, divided by their sums: so many numbers of each row of `out` `[rows, full]`, from number `first` on.
    fn place_head(out: &mut [f32], results: &[f32], sums: &[f32], full: usize, first: usize) {
        let width = results.len() / sums.len().max(1);
        let rows = out.chunks_exact_mut(full).zip(results.chunks_exact(width.max(1)));
        for ((out, result), sum) in rows.zip(sums) {
            let factor = 1.0 / sum;
            write_lanes(&mut out[first..first + width], [result], |[result]| factor * result);
        }
    }
}

/// The past of one layer as temporal attention reads it.
#[derive(Clone, Copy)]
pub struct Past<'a> {
    pub frames: &'a VecDeque<Arc<CachedFrame>>,
    pub layer: usize,
}

/// Weights of temporal attention, and the angles of the frame at hand.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    pub query_scale: &'a [f32],
    pub key_scale: &'a [f32],
    pub angles: (&'a [f32], &'a [f32]),
}

/// Temporal attention of some rows `qkv` `[rows, 3 * D]`, numbers `first` and on of their frame, to the same positions in the past and to themselves.
/// Their own `keys` and `values`, `[rows, D]`, are made here; the result is that of the rows that are `going` on, one after another. This is the streaming form
/// of [`Pattern::Time`](super::super::attention::Pattern::Time).
#[allow(clippy::too_many_arguments)]
pub fn attend_time(
    out: &mut [f32],
    qkv: &[f32],
    [keys, values]: [&mut [f32]; 2],
    turn: Turn,
    past: Past,
    first: usize,
    full: usize,
    going: impl Fn(usize) -> bool,
    buffers: &mut MemberBuffers,
) {
    let heads = full / turn.query_scale.len();
    buffers.query.resize(buffers.query.len().max(full), 0.0);
    buffers.scores.resize(
        buffers
            .scores
            .len()
            .max(score_lanes(past.frames.len() + 1) * heads),
        0.0,
    );
    let own = keys
        .chunks_exact_mut(full)
        .zip(values.chunks_exact_mut(full));
    let mut out = out.chunks_exact_mut(full);
    for (row, ((key, value), qkv)) in own.zip(qkv.chunks_exact(3 * full)).enumerate() {
        let query = &mut buffers.query[..full];
        turn_row(query, key, value, qkv, turn);
        if !going(row) {
            continue;
        }
        let Some(out) = out.next() else { break };
        attend_row(
            out,
            query,
            [key, value],
            past,
            first + row,
            turn.query_scale.len(),
            &mut buffers.scores,
        );
    }
}

kernel! {
    /// A row's query, key and value, all heads, from its `qkv`.
    fn turn_row(query: &mut [f32], key: &mut [f32], value: &mut [f32], qkv: &[f32], turn: Turn) {
        let (full, width) = (query.len(), turn.query_scale.len());
        let factor = (width as f32).sqrt().recip();
        let heads = query.chunks_exact_mut(width).zip(key.chunks_exact_mut(width));
        for (head, (query, key)) in heads.enumerate() {
            prepare(query, &qkv[head * width..][..width], turn.query_scale, factor, Some(turn.angles));
            prepare(key, &qkv[full + head * width..][..width], turn.key_scale, 1.0, Some(turn.angles));
        }
        value.copy_from_slice(&qkv[2 * full..][..full]);
    }
}

kernel! {
    /// One row's queries, all heads, against the keys and values of row `row` of each past frame, and its own. `scores` has room for
    /// [`score_lanes`] numbers a head.
    fn attend_row(out: &mut [f32], query: &[f32], own: [&[f32]; 2], past: Past, row: usize, width: usize, scores: &mut [f32]) {
        match width {
            16 => attend_row_of::<16, FUSED>(out, query, own, past, row, width, scores),
            32 => attend_row_of::<32, FUSED>(out, query, own, past, row, width, scores),
            64 => attend_row_of::<64, FUSED>(out, query, own, past, row, width, scores),
            _ => attend_row_of::<0, FUSED>(out, query, own, past, row, width, scores),
        }
    }
}

/// Numbers that the scores of one head take: whole registers.
fn score_lanes(frames: usize) -> usize {
    frames.next_multiple_of(SMALL_WIDTH_STEP)
}

/// [`attend_row`] for heads of `W` numbers; 0 stands for a width that is known at run time only.
#[inline(always)]
fn attend_row_of<const W: usize, const FUSED: bool>(
    out: &mut [f32],
    query: &[f32],
    own: [&[f32]; 2],
    past: Past,
    row: usize,
    width: usize,
    scores: &mut [f32],
) {
    let width = if W > 0 { W } else { width };
    let full = query.len();
    let heads = full / width;
    let frames = past.frames.len() + 1;
    let lanes = score_lanes(frames);
    let side = |values: usize, frame: usize| match past.frames.get(frame) {
        Some(frame) => &frame.layer(past.layer)[values][row * full..][..full],
        None => &own[values][..full],
    };
    // Scores lie by head, then by frame; lanes without a frame weigh nothing.
    let scores = &mut scores[..heads * lanes];
    scores.fill(f32::NEG_INFINITY);
    // The past is larger than the near caches, and its frames lie apart: each line of the next row is asked for while this row is worked on.
    let ahead = |values: usize, frame: usize| {
        if let Some(frame) = past.frames.get(frame) {
            let numbers = frame.layer(past.layer)[values];
            prefetch(numbers.get((row + 1) * full..).unwrap_or_default(), full);
        }
    };
    for frame in 0..frames {
        let key = side(0, frame);
        ahead(0, frame);
        for head in 0..heads {
            let part = head * width..(head + 1) * width;
            let (query, key) = (&query[part.clone()], &key[part]);
            scores[head * lanes + frame] = lane_sum([query, key], |[query, key]| query * key);
        }
    }
    for scores in scores.chunks_exact_mut(lanes) {
        softmax::<FUSED>(scores, 1.0);
    }
    out.fill(0.0);
    for frame in 0..frames {
        let value = side(1, frame);
        ahead(1, frame);
        for head in 0..heads {
            let part = head * width..(head + 1) * width;
            let weight = scores[head * lanes + frame];
            update_lanes(&mut out[part.clone()], [&value[part]], |sum, [value]| {
                multiply_add::<FUSED>(weight, value, sum)
            });
        }
    }
}

/// Asks for the first `count` of these numbers to be brought near; only a hint, which not every CPU takes.
#[inline(always)]
fn prefetch(numbers: &[f32], count: usize) {
    for line in numbers.chunks(LINE).take(count.div_ceil(LINE)) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: every x86-64 CPU has the instruction, and it reads nothing that the program could see.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}

kernel! {
    /// Keys of one head of some rows `qkv` `[rows, 3 * D]`, dense.
    fn head_keys(keys: &mut [f32], qkv: &[f32], key_scale: &[f32], full: usize, head: usize) {
        let width = key_scale.len();
        for (key, qkv) in keys.chunks_exact_mut(width).zip(qkv.chunks_exact(3 * full)) {
            prepare(key, &qkv[full + head * width..][..width], key_scale, 1.0, None);
        }
    }
}

kernel! {
    /// Queries of one head of some rows `qkv` `[rows, 3 * D]`, dense.
    fn head_queries(queries: &mut [f32], qkv: &[f32], query_scale: &[f32], full: usize, head: usize) {
        let width = query_scale.len();
        let factor = (width as f32).sqrt().recip();
        for (query, qkv) in queries.chunks_exact_mut(width).zip(qkv.chunks_exact(3 * full)) {
            prepare(query, &qkv[head * width..][..width], query_scale, factor, None);
        }
    }
}

/// Writes the keys and values of some rows, from number `first` on, where all threads will read them: keys `[H, W, padded]`, values `[H, S, W]`.
///
/// # Safety
/// Both are as long as that, and nobody else uses these rows' columns and lines of them.
pub unsafe fn lay_out(
    [keys, values]: [SharedMut; 2],
    qkv: &[f32],
    key_scale: &[f32],
    sizes: HeadSizes,
    first: usize,
    buffers: &mut MemberBuffers,
) {
    let (width, full, padded) = (sizes.head_width, sizes.width(), sizes.padded());
    let count = qkv.len() / (3 * full);
    if count == 0 {
        return;
    }
    buffers.key.resize(count * width, 0.0);
    for head in 0..sizes.heads {
        head_keys(&mut buffers.key, qkv, key_scale, full, head);
        let rows = Rows {
            data: &buffers.key,
            stride: width,
            count,
            width,
        };
        // SAFETY: these columns of the head's keys belong to this call by its contract.
        unsafe {
            transpose_to(
                keys.pointer(head * width * padded + first).cast(),
                padded,
                rows,
            )
        };
        // SAFETY: so do these lines of the head's values.
        let values = unsafe { values.row((head * sizes.positions + first) * width, count * width) };
        for (value, qkv) in values
            .chunks_exact_mut(width)
            .zip(qkv.chunks_exact(3 * full))
        {
            value.copy_from_slice(&qkv[2 * full + head * width..][..width]);
        }
    }
}
