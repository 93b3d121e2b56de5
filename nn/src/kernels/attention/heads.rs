//! Between the rows of `qkv`, where all heads lie side by side, and the dense matrices of each head.
//!
//! A row is read and written once for all heads: rows of a problem may lie far apart in memory, and coming back for each head would miss the
//! cache each time.

use super::Scratch;
use super::plan::Plan;
use super::rotary::rotate;
use crate::kernels::kernel;
use crate::kernels::lanes::{lane_sum, update_lanes, write_lanes};
use crate::kernels::norm::inverse_root_mean_square;
use crate::kernels::parallel::SharedMut;
use crate::kernels::prefetch::prefetch;

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

/// `out = rotate(x / rms(x) * scale * factor)`: how a query or key enters the product. Returns `1 / rms(x)`.
#[inline(always)]
pub(in crate::kernels) fn prepare(
    out: &mut [f32],
    x: &[f32],
    scale: &[f32],
    factor: f32,
    angles: Option<(&[f32], &[f32])>,
) -> f32 {
    by_head_width!(out.len(), prepare_of(out, x, scale, factor, angles))
}

#[inline(always)]
fn prepare_of<const W: usize>(
    out: &mut [f32],
    x: &[f32],
    scale: &[f32],
    factor: f32,
    angles: Option<(&[f32], &[f32])>,
) -> f32 {
    let width = if W > 0 { W } else { out.len() };
    let (out, x, scale) = (&mut out[..width], &x[..width], &scale[..width]);
    let r = inverse_root_mean_square(x);
    write_lanes(out, [x, scale], |[x, scale]| x * (r * factor) * scale);
    if let Some((cosines, sines)) = angles {
        rotate(out, &cosines[..width / 2], &sines[..width / 2], 1.0);
    }
    r
}

/// What [`prepare`] was given, and the `1 / rms(x)` that it found.
#[derive(Clone, Copy)]
struct Prepared<'a> {
    x: &'a [f32],
    r: f32,
    scale: &'a [f32],
    factor: f32,
    angles: Option<(&'a [f32], &'a [f32])>,
}

/// Undoes [`prepare`] for gradients: writes `dx`, or adds to it when `add`, and adds to `dscale`; `gradient` is used up.
#[inline(always)]
fn prepare_backward_of<const W: usize>(
    dx: &mut [f32],
    dscale: &mut [f32],
    gradient: &mut [f32],
    prepared: Prepared,
    add: bool,
) {
    let Prepared {
        x,
        r,
        scale,
        factor,
        angles,
    } = prepared;
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
    let products = lane_sum([gradient, scale, x], |[gradient, scale, x]| {
        gradient * scale * x
    });
    let projection = products / width as f32 * r * r;
    let slope = factor * r;
    let value = |[gradient, scale, x]: [f32; 3]| slope * (gradient * scale - x * projection);
    let sides = [gradient, scale, x];
    match add {
        true => update_lanes(dx, sides, |dx, numbers| dx + value(numbers)),
        false => write_lanes(dx, sides, value),
    }
    update_lanes(dscale, [gradient, x], |sum, [gradient, x]| {
        sum + slope * gradient * x
    });
}

/// Copies numbers of a known count without a call.
#[inline(always)]
fn copy_of<const W: usize>(to: &mut [f32], from: &[f32]) {
    let width = if W > 0 { W } else { to.len() };
    to[..width].copy_from_slice(&from[..width]);
}

kernel! {
    /// Gathers the queries, keys and values of all heads of one problem.
    pub(super) fn gather(scratch: &mut Scratch, plan: &Plan, qkv: &[f32], scales: [&[f32]; 2], problem: usize) {
        by_head_width!(plan.sizes.head_width, gather_of(scratch, plan, qkv, scales, problem));
    }
}

#[inline(always)]
fn gather_of<const W: usize>(
    scratch: &mut Scratch,
    plan: &Plan,
    qkv: &[f32],
    scales: [&[f32]; 2],
    problem: usize,
) {
    let width = if W > 0 { W } else { plan.sizes.head_width };
    let full = plan.sizes.width();
    let factor = (width as f32).sqrt().recip();
    let start = plan.start(problem);
    for (i, place) in plan.rows.iter().enumerate() {
        if let Some(next) = plan.row_after(i, start) {
            prefetch(&qkv[next * 3 * full..], 3 * full);
        }
        let row = &qkv[(start + place.offset) * 3 * full..][..3 * full];
        let ((queries, rest), angles) = (row.split_at(full), plan.angles(*place));
        let (keys, values) = rest.split_at(full);
        for head in 0..plan.sizes.heads {
            let part = head * width..(head + 1) * width;
            let at = head * plan.length + i;
            let dense = at * width..(at + 1) * width;
            scratch.query_norms[at] = prepare_of::<W>(
                &mut scratch.q[dense.clone()],
                &queries[part.clone()],
                scales[0],
                factor,
                angles,
            );
            scratch.key_norms[at] = prepare_of::<W>(
                &mut scratch.k[dense.clone()],
                &keys[part.clone()],
                scales[1],
                1.0,
                angles,
            );
            copy_of::<W>(&mut scratch.v[dense], &values[part]);
        }
    }
}

kernel! {
    /// Gathers the gradients of all heads' results; those of rows that are only seen are zero.
    pub(super) fn gather_gradient(scratch: &mut Scratch, plan: &Plan, dout: &[f32], problem: usize) {
        by_head_width!(plan.sizes.head_width, gather_gradient_of(scratch, plan, dout, problem));
    }
}

#[inline(always)]
fn gather_gradient_of<const W: usize>(
    scratch: &mut Scratch,
    plan: &Plan,
    dout: &[f32],
    problem: usize,
) {
    let width = if W > 0 { W } else { plan.sizes.head_width };
    let full = plan.sizes.width();
    let start = plan.start(problem);
    for (i, place) in plan.rows.iter().enumerate() {
        if let Some(next) = plan.row_after(i, start) {
            prefetch(&dout[next * full..], full);
        }
        let row = &dout[(start + place.offset) * full..][..full];
        for head in 0..plan.sizes.heads {
            let own = &mut scratch.out[(head * plan.length + i) * width..][..width];
            match place.owned {
                true => copy_of::<W>(own, &row[head * width..][..width]),
                false => own.fill(0.0),
            }
        }
    }
}

kernel! {
    /// Writes the results of all heads of one problem to the rows that own them.
    pub(super) fn scatter(out: SharedMut, scratch: &Scratch, plan: &Plan, problem: usize) {
        by_head_width!(plan.sizes.head_width, scatter_of(out, scratch, plan, problem));
    }
}

#[inline(always)]
fn scatter_of<const W: usize>(out: SharedMut, scratch: &Scratch, plan: &Plan, problem: usize) {
    let width = if W > 0 { W } else { plan.sizes.head_width };
    let full = plan.sizes.width();
    let start = plan.start(problem);
    for (i, place) in plan
        .rows
        .iter()
        .enumerate()
        .filter(|(_, place)| place.owned)
    {
        // SAFETY: a row belongs to one problem; the caller keeps `out` alive.
        let row = unsafe { out.row((start + place.offset) * full, full) };
        for head in 0..plan.sizes.heads {
            copy_of::<W>(
                &mut row[head * width..][..width],
                &scratch.out[(head * plan.length + i) * width..][..width],
            );
        }
    }
}

kernel! {
    /// Takes the gradients of all heads' queries, keys and values back to `qkv`'s (added to what is there when `add`), and adds to those of
    /// the scales.
    pub(super) fn scatter_gradients(
        dqkv: SharedMut, dscales: &mut [f32], scratch: &mut Scratch, plan: &Plan, qkv: &[f32], scales: [&[f32]; 2], problem: usize, add: bool,
    ) {
        by_head_width!(plan.sizes.head_width, scatter_gradients_of(dqkv, dscales, scratch, plan, qkv, scales, problem, add));
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn scatter_gradients_of<const W: usize>(
    dqkv: SharedMut,
    dscales: &mut [f32],
    scratch: &mut Scratch,
    plan: &Plan,
    qkv: &[f32],
    scales: [&[f32]; 2],
    problem: usize,
    add: bool,
) {
    let width = if W > 0 { W } else { plan.sizes.head_width };
    let full = plan.sizes.width();
    let factor = (width as f32).sqrt().recip();
    let (dquery_scale, dkey_scale) = dscales.split_at_mut(width);
    let start = plan.start(problem);
    for (i, place) in plan.rows.iter().enumerate() {
        if let Some(next) = plan.row_after(i, start) {
            // SAFETY: as below; the row is not used yet.
            let next = unsafe { dqkv.row(next * 3 * full, 3 * full) };
            prefetch(next, 3 * full);
        }
        let row = (start + place.offset) * 3 * full;
        // SAFETY: a row belongs to one problem; the callers keep `dqkv` alive.
        let gradients = unsafe { dqkv.row(row, 3 * full) };
        let (dqueries, rest) = gradients.split_at_mut(full);
        let (dkeys, dvalues) = rest.split_at_mut(full);
        let row = &qkv[row..][..3 * full];
        let angles = plan.angles(*place);
        for head in 0..plan.sizes.heads {
            let part = head * width..(head + 1) * width;
            let at = head * plan.length + i;
            let dense = at * width..(at + 1) * width;
            let query = Prepared {
                x: &row[part.clone()],
                r: scratch.query_norms[at],
                scale: scales[0],
                factor,
                angles,
            };
            prepare_backward_of::<W>(
                &mut dqueries[part.clone()],
                dquery_scale,
                &mut scratch.dq[dense.clone()],
                query,
                add,
            );
            let key = Prepared {
                x: &row[full..][part.clone()],
                r: scratch.key_norms[at],
                scale: scales[1],
                factor: 1.0,
                angles,
            };
            prepare_backward_of::<W>(
                &mut dkeys[part.clone()],
                dkey_scale,
                &mut scratch.dk[dense.clone()],
                key,
                add,
            );
            let (dv, own) = (&mut dvalues[part], &scratch.dv[dense]);
            match add {
                true => dv.iter_mut().zip(own).for_each(|(dv, own)| *dv += own),
                false => copy_of::<W>(dv, own),
            }
        }
    }
}
