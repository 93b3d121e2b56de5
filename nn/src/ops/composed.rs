//! The fused operations composed of candle's own: what devices other than the CPU run, and what the kernels are tested against.

use super::{AttentionArguments, FeedForwardArguments, NormArguments};
use crate::kernels::attention::Pattern;
use crate::kernels::norm::EPSILON;
use crate::kernels::warp::Sizes;
use candle_core::{D, DType, Result, Tensor};

/// See [`super::linear()`].
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let mut dims = x.dims().to_vec();
    let rows = x.elem_count() / inputs;
    let out = x.reshape((rows, inputs))?.matmul(&weight.t()?)?;
    if let Some(last) = dims.last_mut() {
        *last = outputs;
    }
    out.reshape(dims)
}

/// See [`super::SubLayer::FeedForward`].
pub fn feed_forward_layer(x: &Tensor, arguments: &FeedForwardArguments) -> Result<Tensor> {
    let hidden = linear(&normed(x, &arguments.norm)?, &arguments.up)?;
    x + linear(&hidden.gelu()?, &arguments.down)?
}

/// See [`super::normed()`].
fn normed(x: &Tensor, norm: &NormArguments) -> Result<Tensor> {
    let normal = rms_norm(x, &norm.weight)?;
    match &norm.modulation {
        Some(modulation) => {
            let (scale, shift) = halves(modulation)?;
            film(&normal, &scale, &shift)
        }
        None => Ok(normal),
    }
}

/// First and second halves of the rows of a tensor.
pub(super) fn halves(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let (axis, half) = (x.rank() - 1, x.dim(D::Minus1)? / 2);
    Ok((x.narrow(axis, 0, half)?, x.narrow(axis, half, half)?))
}

/// See [`super::rms_norm()`].
pub fn rms_norm(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean_square + f64::from(EPSILON))?.sqrt()?)?
        .broadcast_mul(weight)
}

/// See [`super::film()`].
pub fn film(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    let axis = scale.rank() - 1;
    x.broadcast_mul(&(scale.unsqueeze(axis)? + 1.0)?)?
        .broadcast_add(&shift.unsqueeze(axis)?)
}

/// See [`super::add_rows()`].
pub fn add_rows(x: &Tensor, rows: &Tensor) -> Result<Tensor> {
    x.broadcast_add(rows)
}

/// See [`super::picture_error()`].
pub fn picture_error(a: &Tensor, b: &Tensor, absolute_weight: f32) -> Result<Tensor> {
    let difference = (a - b)?;
    let absolute = (difference.abs()?.mean_all()? * f64::from(absolute_weight))?;
    difference.sqr()?.mean_all()? + absolute
}

/// See [`super::cross_entropy()`].
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let classes = logits.dim(D::Minus1)?;
    let logits = logits.reshape(((), classes))?;
    let chosen = candle_nn::ops::log_softmax(&logits, D::Minus1)?
        .gather(&targets.flatten_all()?.unsqueeze(1)?, 1)?;
    let weights = weights.flatten_all()?.to_dtype(logits.dtype())?;
    let total = weights.sum_all()?.maximum(f64::from(f32::MIN_POSITIVE))?;
    (chosen.squeeze(1)? * weights)?
        .sum_all()?
        .neg()?
        .div(&total)
}

/// Rotary embedding of `x` `[B, H, L, W]`, whose rows are `frames` frames and perhaps, after them, the frames that follow each.
fn rotate(x: &Tensor, frames: usize) -> Result<Tensor> {
    let (_, _, length, width) = x.dims4()?;
    let half = width / 2;
    let angle = |row: usize, i: usize| {
        (row % frames + row / frames) as f64 * 100f64.powf(-(i as f64) / half as f64)
    };
    let table = |f: fn(f64) -> f64| {
        let values: Vec<f64> = (0..length)
            .flat_map(|row| (0..half).map(move |i| f(angle(row, i))))
            .collect();
        Tensor::from_vec(values, (1, 1, length, half), x.device())?.to_dtype(x.dtype())
    };
    let (cosines, sines) = (table(f64::cos)?, table(f64::sin)?);
    let (low, high) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
    Tensor::cat(
        &[
            (low.broadcast_mul(&cosines)? - high.broadcast_mul(&sines)?)?,
            (low.broadcast_mul(&sines)? + high.broadcast_mul(&cosines)?)?,
        ],
        3,
    )
}

/// See [`super::SubLayer::Attention`].
pub fn attention_layer(
    x: &Tensor,
    arguments: &AttentionArguments,
    pattern: Pattern,
) -> Result<Tensor> {
    let qkv = linear(&normed(x, &arguments.norm)?, &arguments.qkv)?;
    let scales = [&arguments.query_scale, &arguments.key_scale];
    let attended = attention(&qkv, scales, pattern)?;
    x + linear(&attended, &arguments.out)?
}

/// Multi-head attention of `qkv` `[B, T, S, 3 * D]`, `[B, T, S, D]`.
fn attention(
    qkv: &Tensor,
    [query_scale, key_scale]: [&Tensor; 2],
    pattern: Pattern,
) -> Result<Tensor> {
    let (batch, frames, positions, wide) = qkv.dims4()?;
    let (width, full) = (query_scale.dim(0)?, wide / 3);
    let heads = full / width;
    // [B, T, S, .] to one problem a row, [problems, L, .], and back.
    let (problems, length) = match pattern {
        Pattern::Space => (qkv.reshape((batch * frames, positions, wide))?, positions),
        Pattern::Time { .. } => (
            qkv.transpose(1, 2)?
                .reshape((batch * positions, frames, wide))?,
            frames,
        ),
        Pattern::PairedTime { .. } => {
            let halves = qkv.reshape((2, batch / 2, frames, positions, wide))?;
            (
                halves.permute((1, 3, 0, 2, 4))?.reshape((
                    batch / 2 * positions,
                    2 * frames,
                    wide,
                ))?,
                2 * frames,
            )
        }
    };
    let count = problems.dim(0)?;
    let part = |index: usize| {
        problems
            .narrow(2, index * full, full)?
            .reshape((count, length, heads, width))?
            .transpose(1, 2)?
            .contiguous()
    };
    let (mut q, mut k, v) = (
        rms_norm(&part(0)?, query_scale)?,
        rms_norm(&part(1)?, key_scale)?,
        part(2)?,
    );
    if pattern != Pattern::Space {
        (q, k) = (rotate(&q, frames)?, rotate(&k, frames)?);
    }
    let mask: Vec<f32> = (0..length * length)
        .map(|i| {
            if crate::kernels::attention::allowed(pattern, frames, i / length, i % length) {
                0.0
            } else {
                f32::NEG_INFINITY
            }
        })
        .collect();
    let mask =
        Tensor::from_vec(mask, (1, 1, length, length), qkv.device())?.to_dtype(qkv.dtype())?;
    let scores = (q.matmul(&k.t()?)? / (width as f64).sqrt())?.broadcast_add(&mask)?;
    let out = candle_nn::ops::softmax(&scores, D::Minus1)?
        .matmul(&v)?
        .transpose(1, 2)?
        .reshape((count, length, full))?;
    match pattern {
        Pattern::Space => out.reshape((batch, frames, positions, full)),
        Pattern::Time { .. } => out
            .reshape((batch, positions, frames, full))?
            .transpose(1, 2)?
            .contiguous(),
        Pattern::PairedTime { .. } => {
            let split = out.reshape((batch / 2, positions, 2, frames, full))?;
            split
                .permute((2, 0, 3, 1, 4))?
                .reshape((batch, frames, positions, full))
        }
    }
}

/// Bilinear weights as a matrix `[outputs, cells]`, cells and pixels aligned by their centres.
fn upsampling(outputs: usize, cells: usize, like: &Tensor) -> Result<Tensor> {
    let mut weights = vec![0f64; outputs * cells];
    for (i, row) in weights.chunks_exact_mut(cells).enumerate() {
        let position =
            ((i as f64 + 0.5) * cells as f64 / outputs as f64 - 0.5).clamp(0.0, (cells - 1) as f64);
        let low = position as usize;
        row[low] += 1.0 - (position - low as f64);
        row[(low + 1).min(cells - 1)] += position - low as f64;
    }
    Tensor::from_vec(weights, (outputs, cells), like.device())?.to_dtype(like.dtype())
}

/// See [`super::warp()`].
pub fn warp(pictures: &Tensor, flow: &Tensor, residual: &Tensor, sizes: Sizes) -> Result<Tensor> {
    let Sizes {
        height,
        width,
        channels,
        grid_height,
        grid_width,
        patch,
    } = sizes;
    let moved = moved(
        &pictures.reshape(((), height, width, channels))?,
        &flow.reshape(((), grid_height, grid_width, 2))?,
    )?;
    let patches = residual.reshape(((), width / patch, patch, patch * channels))?;
    let residual = patches.transpose(1, 2)?.contiguous()?;
    moved.reshape(pictures.dims())? + residual.reshape(pictures.dims())?
}

/// Pictures `[R, H, W, C]` moved by `[R, GH, GW, 2]`.
fn moved(pictures: &Tensor, flow: &Tensor) -> Result<Tensor> {
    let (count, height, width, channels) = pictures.dims4()?;
    let (_, grid_height, grid_width, _) = flow.dims4()?;
    let (rows, columns) = (
        upsampling(height, grid_height, flow)?,
        upsampling(width, grid_width, flow)?,
    );
    let flow = rows.broadcast_matmul(&flow.reshape((count, grid_height, grid_width * 2))?)?;
    let flow = flow
        .reshape((count, height, grid_width, 2))?
        .transpose(2, 3)?
        .contiguous()?;
    let flow = flow
        .reshape((count * height * 2, grid_width))?
        .matmul(&columns.t()?)?
        .reshape((count, height, 2, width))?;
    let axis = |index: usize,
                size: usize,
                shape: (usize, usize, usize)|
     -> Result<(Tensor, Tensor, Tensor)> {
        let start = Tensor::arange(0u32, size as u32, flow.device())?
            .to_dtype(flow.dtype())?
            .reshape(shape)?;
        let position = flow
            .narrow(2, index, 1)?
            .squeeze(2)?
            .broadcast_add(&start)?
            .clamp(0.0, (size - 1) as f64)?;
        let low = position.floor()?.detach();
        let high = (&low + 1.0)?.clamp(0.0, (size - 1) as f64)?;
        Ok((low.clone(), high, (position - low)?))
    };
    let (x_low, x_high, x_share) = axis(0, width, (1, 1, width))?;
    let (y_low, y_high, y_share) = axis(1, height, (1, height, 1))?;
    let flat = pictures.reshape((count, height * width, channels))?;
    let pick = |y: &Tensor, x: &Tensor, weight: Tensor| -> Result<Tensor> {
        let index =
            ((y * width as f64)? + x)?
                .to_dtype(DType::U32)?
                .reshape((count, height * width, 1))?;
        let index = index
            .broadcast_as((count, height * width, channels))?
            .contiguous()?;
        flat.gather(&index, 1)?
            .broadcast_mul(&weight.reshape((count, height * width, 1))?)
    };
    let (x_rest, y_rest) = ((1.0 - &x_share)?, (1.0 - &y_share)?);
    let sum = (pick(&y_low, &x_low, (&y_rest * &x_rest)?)?
        + pick(&y_low, &x_high, (&y_rest * &x_share)?)?
        + pick(&y_high, &x_low, (&y_share * &x_rest)?)?
        + pick(&y_high, &x_high, (&y_share * &x_share)?)?)?;
    sum.reshape((count, height, width, channels))
}
