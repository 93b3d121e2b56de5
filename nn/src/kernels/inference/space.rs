//! Spatial attention within one frame's pass.
//!
//! Each thread lays out the keys and values of its own rows where all read them; after they have met, each computes attention for its own rows. Where
//! the unit that multiplies with weights rounds to bf16, so do attention's two products: their sides are laid out as pairs.

use super::super::attention::prepare;
use super::super::cross_entropy::exponentials;
use super::super::kernel;
use super::super::lanes::write_lanes;
use super::super::parallel::{Shared, SharedMut, SharedWords};
use super::super::small_product::{SMALL_WIDTH_STEP, multiply_small, multiply_small_pairs};
use super::super::transpose::{
    Rows, copy_line_pairs, pair, round_pairs, transpose_pairs_to, transpose_to,
};

/// Sizes of attention in a pass.
#[derive(Clone, Copy)]
pub struct HeadSizes {
    /// Positions in a frame (`S`).
    pub positions: usize,
    pub heads: usize,
    /// Numbers of a head (`W`).
    pub head_width: usize,
    /// Whether products are of pairs of bf16.
    pub pairs: bool,
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
    pub query: Vec<f32>,
    pub scores: Vec<f32>,
    /// The left side of a product of pairs.
    pairs: Vec<u32>,
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

/// A frame's keys and values, all heads, as products read them: numbers or pairs.
#[derive(Default)]
pub struct Sides {
    /// `[H, W, padded]`.
    keys: Vec<f32>,
    /// `[H, S, W]`.
    values: Vec<f32>,
    /// Pairs along `W`, `[H, W / 2, padded]`.
    key_pairs: Vec<u32>,
    /// Pairs along `S`, `[H, S / 2, W]`, rounded up.
    value_pairs: Vec<u32>,
}

/// [`Sides`] as threads share them.
#[derive(Clone, Copy)]
pub struct SharedSides {
    keys: SharedMut,
    values: SharedMut,
    key_pairs: SharedWords,
    value_pairs: SharedWords,
}

impl Sides {
    pub fn fit(&mut self, sizes: HeadSizes) {
        let (width, padded) = (sizes.width(), sizes.padded());
        match sizes.pairs {
            true => {
                self.key_pairs.resize(width / 2 * padded, 0);
                self.value_pairs
                    .resize(width * sizes.positions.div_ceil(2), 0);
            }
            false => {
                self.keys.resize(width * padded, 0.0);
                self.values.resize(width * sizes.positions, 0.0);
            }
        }
    }

    pub fn share(&mut self) -> SharedSides {
        SharedSides {
            keys: Shared::new(&mut self.keys),
            values: Shared::new(&mut self.values),
            key_pairs: Shared::new(&mut self.key_pairs),
            value_pairs: Shared::new(&mut self.value_pairs),
        }
    }
}

/// Writes the keys and values of some rows `qkv` `[rows, 3 * D]`, from number `first` on, which is even.
///
/// # Safety
/// `sides` fit `sizes`, and nobody else uses these rows' part of them.
pub unsafe fn lay_out(
    sides: SharedSides,
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
        let keys = Rows {
            data: &buffers.key,
            stride: width,
            count,
            width,
        };
        let values = Rows {
            data: &qkv[2 * full + head * width..],
            stride: 3 * full,
            count,
            width,
        };
        if sizes.pairs {
            // SAFETY: these columns of the head's keys, and below these lines of its values, belong to this call by its contract.
            unsafe {
                let to = sides.key_pairs.pointer(head * (width / 2) * padded + first);
                transpose_pairs_to(to, padded, keys);
            }
            let (start, lines) = (head * sizes.positions.div_ceil(2), count.div_ceil(2));
            // SAFETY: as above; a pair of lines belongs to one call, since `first` is even.
            let to = unsafe {
                let start = (start + first / 2) * width;
                sides.value_pairs.row(start, lines * width)
            };
            copy_line_pairs(to, width, values);
            if count % 2 == 1 {
                let last = &values.data[(count - 1) * values.stride..][..width];
                let to = &mut to[(lines - 1) * width..];
                to.iter_mut()
                    .zip(last)
                    .for_each(|(to, x)| *to = pair(*x, 0.0));
            }
        } else {
            // SAFETY: as above.
            let to = unsafe {
                let to = sides.keys.pointer(head * width * padded + first);
                transpose_to(to.cast(), padded, keys);
                let start = (head * sizes.positions + first) * width;
                sides.values.row(start, count * width)
            };
            let lines = values.data.chunks(values.stride);
            for (to, line) in to.chunks_exact_mut(width).zip(lines) {
                to.copy_from_slice(&line[..width]);
            }
        }
    }
}

/// Spatial attention of some rows `qkv` `[rows, 3 * D]` to all positions, into `out` `[rows, D]`.
///
/// # Safety
/// `sides` fit `sizes`, and nobody writes to them as long as this runs.
pub unsafe fn attend_space(
    out: &mut [f32],
    qkv: &[f32],
    query_scale: &[f32],
    sides: SharedSides,
    sizes: HeadSizes,
    buffers: &mut MemberBuffers,
) {
    let (width, full, padded) = (sizes.head_width, sizes.width(), sizes.padded());
    let rows = out.len() / full;
    buffers.fit(rows, sizes);
    let MemberBuffers {
        query,
        scores,
        pairs,
        sums,
        result,
        ..
    } = buffers;
    // SAFETY: nobody writes to them by this function's contract.
    let (keys, values, key_pairs, value_pairs) = unsafe {
        (
            sides.keys.whole(),
            sides.values.whole(),
            sides.key_pairs.whole(),
            sides.value_pairs.whole(),
        )
    };
    for head in 0..sizes.heads {
        head_queries(query, qkv, query_scale, full, head);
        if sizes.pairs {
            let size = width / 2 * padded;
            let keys = &key_pairs[head * size..][..size];
            round_pairs(pairs, query);
            multiply_small_pairs(scores, pairs, width / 2, keys, [rows, padded, width / 2]);
        } else {
            let size = width * padded;
            let keys = &keys[head * size..][..size];
            multiply_small(scores, query, [width, 1], keys, [rows, padded, width]);
        }
        exponentials_of_first(scores, &mut sums[..rows], padded, sizes.positions);
        if sizes.pairs {
            let depth = sizes.positions.div_ceil(2);
            let values = &value_pairs[head * depth * width..][..depth * width];
            round_pairs(pairs, scores);
            multiply_small_pairs(result, pairs, padded / 2, values, [rows, width, depth]);
        } else {
            let depth = sizes.positions;
            let values = &values[head * depth * width..][..depth * width];
            multiply_small(result, scores, [padded, 1], values, [rows, width, depth]);
        }
        place_head(out, result, &sums[..rows], full, head * width);
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
