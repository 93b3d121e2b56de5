//! Attention within one frame's pass: each thread computes it for its own rows.

use super::super::attention::{prepare, rotary_angles};
use super::super::elementwise::exp;
use super::super::norm::{lane_max, lane_sum};
use super::super::small_product::{SMALL_WIDTH_STEP, multiply_small};
use super::super::{kernel, multiply_add};
use crate::transformer::CachedFrame;
use std::collections::VecDeque;
use std::sync::Arc;

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
    /// One head's key of one row.
    pub key: Vec<f32>,
    query: Vec<f32>,
    scores: Vec<f32>,
    result: Vec<f32>,
    /// FiLM's scale and shift.
    pub modulation: Vec<f32>,
}

impl MemberBuffers {
    fn fit(&mut self, rows: usize, sizes: HeadSizes) {
        let dense = rows * sizes.head_width;
        self.query.resize(dense.max(sizes.head_width), 0.0);
        self.result.resize(dense, 0.0);
        self.scores.resize(rows * sizes.padded(), 0.0);
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
    let factor = (width as f32).sqrt().recip();
    for head in 0..sizes.heads {
        for (query, qkv) in buffers
            .query
            .chunks_exact_mut(width)
            .zip(qkv.chunks_exact(3 * full))
        {
            prepare(
                query,
                &qkv[head * width..][..width],
                query_scale,
                factor,
                None,
            );
        }
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
        softmax_of_first(&mut buffers.scores, padded, sizes.positions);
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
        for (out, result) in out
            .chunks_exact_mut(full)
            .zip(buffers.result.chunks_exact(width))
        {
            out[head * width..][..width].copy_from_slice(result);
        }
    }
}

kernel! {
    /// Softmax of the first `count` numbers of each row of `padded`; the others become zero.
    fn softmax_of_first(scores: &mut [f32], padded: usize, count: usize) {
        for row in scores.chunks_exact_mut(padded) {
            row[count..].fill(0.0);
            let row = &mut row[..count];
            let largest = lane_max(row);
            for score in row.iter_mut() {
                *score = exp::<FUSED>(*score - largest);
            }
            let factor = 1.0 / lane_sum(|i| row[i], count);
            for score in row.iter_mut() {
                *score *= factor;
            }
        }
    }
}

/// Makes a row's key and value of one frame, `[D]` each, from its `qkv` `[3 * D]`; `angles` turn the keys of temporal attention.
pub fn key_and_value(
    key: &mut [f32],
    value: &mut [f32],
    qkv: &[f32],
    key_scale: &[f32],
    angles: Option<(&[f32], &[f32])>,
) {
    let (width, full) = (key_scale.len(), key.len());
    for (key, qkv) in key
        .chunks_exact_mut(width)
        .zip(qkv[full..].chunks_exact(width))
    {
        prepare(key, qkv, key_scale, 1.0, angles);
    }
    value.copy_from_slice(&qkv[2 * full..]);
}

/// The past of one layer as a position's temporal attention reads it.
#[derive(Clone, Copy)]
pub struct Past<'a> {
    pub frames: &'a VecDeque<Arc<CachedFrame>>,
    pub layer: usize,
}

/// Temporal attention of one row, number `row` of its frame, to the same position in the past and to its own `key` and `value`.
#[allow(clippy::too_many_arguments)]
pub fn attend_time(
    out: &mut [f32],
    qkv: &[f32],
    query_scale: &[f32],
    [key, value]: [&[f32]; 2],
    past: Past,
    row: usize,
    angles: (&[f32], &[f32]),
    buffers: &mut MemberBuffers,
) {
    let (width, full) = (query_scale.len(), out.len());
    let factor = (width as f32).sqrt().recip();
    buffers.query.resize(buffers.query.len().max(width), 0.0);
    buffers
        .scores
        .resize(buffers.scores.len().max(past.frames.len() + 1), 0.0);
    let query = &mut buffers.query[..width];
    let scores = &mut buffers.scores[..past.frames.len() + 1];
    for (head, out) in out.chunks_exact_mut(width).enumerate() {
        prepare(
            query,
            &qkv[head * width..][..width],
            query_scale,
            factor,
            Some(angles),
        );
        let part = head * width..(head + 1) * width;
        let own = [&key[part.clone()], &value[part]];
        attend_position(out, query, past, row * full + head * width, own, scores);
    }
}

kernel! {
    /// One query against the keys and values that start at `start` in each past frame, and its own.
    fn attend_position(out: &mut [f32], query: &[f32], past: Past, start: usize, own: [&[f32]; 2], scores: &mut [f32]) {
        let width = query.len();
        let side = |values: bool, frame: usize| match past.frames.get(frame) {
            Some(frame) => {
                let (keys, others) = frame.layer(past.layer);
                &(if values { others } else { keys })[start..start + width]
            }
            None => &own[usize::from(values)][..width],
        };
        let mut largest = f32::NEG_INFINITY;
        for (frame, score) in scores.iter_mut().enumerate() {
            let key = side(false, frame);
            *score = lane_sum(|i| query[i] * key[i], width);
            largest = largest.max(*score);
        }
        let mut sum = 0.0;
        for score in scores.iter_mut() {
            *score = exp::<FUSED>(*score - largest);
            sum += *score;
        }
        out.fill(0.0);
        for (frame, score) in scores.iter().enumerate() {
            let (weight, value) = (*score / sum, side(true, frame));
            for i in 0..width {
                out[i] = multiply_add::<FUSED>(weight, value[i], out[i]);
            }
        }
    }
}

/// Cosines and sines of a frame's number for heads of `width`.
pub fn angles_of(frame: u64, width: usize) -> Vec<f32> {
    rotary_angles(frame, width)
}
