//! Temporal attention within one frame's pass: each thread computes it for its own rows.

use super::super::attention::prepare;
use super::super::cross_entropy::softmax;
use super::super::lanes::{lane_sum, update_lanes};
use super::super::prefetch::prefetch;
use super::super::small_product::SMALL_WIDTH_STEP;
use super::super::{kernel, multiply_add};
use super::space::MemberBuffers;
use crate::transformer::CachedFrame;
use std::collections::VecDeque;
use std::sync::Arc;

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
