//! Functions applied to each number on its own, and the activation of the feed-forward layer.

use super::buffer::filled;
use super::lanes::{lane_sum, update_lanes, write_lanes};
use super::parallel::{SharedMut, for_each_chunk, for_each_index, sum_rows};
use super::{kernel, multiply_add};
use std::ops::Range;

/// Elements that one task works on: small enough to stay in the first cache levels.
const CHUNK: usize = 8 * 1024;

/// `e^x` to within about 2 units in the last place, without branches, so that loops over it vectorise.
#[inline(always)]
pub fn exp<const FUSED: bool>(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer in the default rounding mode.
    const ROUNDER: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let shifted = multiply_add::<FUSED>(clamped, std::f32::consts::LOG2_E, ROUNDER);
    let exponent = shifted - ROUNDER;
    // ln 2 in two parts, so that the reduced argument keeps its last digits.
    let reduced = multiply_add::<FUSED>(exponent, -0.693_145_75, clamped);
    let reduced = multiply_add::<FUSED>(exponent, -1.428_606_8e-6, reduced);
    let mut sum = 1.0 / 720.0;
    for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = multiply_add::<FUSED>(sum, reduced, coefficient);
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    sum * power
}

/// The factor `x` is multiplied with in GELU, sigmoid(2u), and the derivative of u (tanh form, arXiv 1606.08415).
#[inline(always)]
fn gelu_gate<const FUSED: bool>(x: f32) -> (f32, f32) {
    const SCALE: f32 = 2.0 * 0.797_884_6;
    let square = x * x;
    let u = SCALE * x * multiply_add::<FUSED>(0.044_715, square, 1.0);
    let gate = 1.0 / (1.0 + exp::<FUSED>(-u));
    let slope = SCALE * multiply_add::<FUSED>(3.0 * 0.044_715, square, 1.0);
    (gate, slope)
}

kernel! {
    /// `out = gelu(x)`, on the calling thread.
    pub fn gelu(out: &mut [f32], x: &[f32]) {
        assert_eq!(out.len(), x.len(), "activations");
        for (y, &x) in out.iter_mut().zip(x) {
            *y = x * gelu_gate::<FUSED>(x).0;
        }
    }
}

kernel! {
    /// `active = gelu(x)` and `gradient *= gelu'(x)`, on the calling thread.
    pub fn gelu_with_gradient(active: &mut [f32], gradient: &mut [f32], x: &[f32]) {
        assert_eq!((active.len(), gradient.len()), (x.len(), x.len()), "activations");
        for ((y, g), &x) in active.iter_mut().zip(gradient).zip(x) {
            let (gate, slope) = gelu_gate::<FUSED>(x);
            *y = x * gate;
            *g *= gate + x * gate * (1.0 - gate) * slope;
        }
    }
}

kernel! {
    /// `x = gelu(x)` for `rows` rows of `columns` numbers that are `stride` apart.
    pub(super) fn gelu_rows(x: &mut [f32], stride: usize, size: [usize; 2]) {
        for row in x.chunks_mut(stride).take(size[0]) {
            for x in &mut row[..size[1]] {
                *x *= gelu_gate::<FUSED>(*x).0;
            }
        }
    }
}

/// `x = gelu(x)`.
pub fn gelu_in_place(x: &mut [f32]) {
    let count = x.len();
    gelu_rows(x, count.max(1), [1, count]);
}

kernel! {
    /// `x += y`, on the calling thread.
    pub(super) fn add_to(x: &mut [f32], y: &[f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
    }
}

/// `x += y`.
pub fn add_in_place(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "terms of a sum");
    crate::profile::operation("add", || {
        for_each_chunk(x, CHUNK, |index, chunk| {
            add_to(chunk, &y[index * CHUNK..][..chunk.len()]);
        });
    })
}

/// `a + b`.
pub fn add(a: &[f32], b: &[f32]) -> Vec<f32> {
    assert_eq!(a.len(), b.len(), "terms of a sum");
    crate::profile::operation("add", || {
        // SAFETY: the chunks cover the whole result, and each is written as a whole.
        unsafe {
            filled(a.len(), |out| {
                for_each_chunk(out, CHUNK, |index, chunk| {
                    let start = index * CHUNK;
                    for ((y, a), b) in chunk.iter_mut().zip(&a[start..]).zip(&b[start..]) {
                        *y = a + b;
                    }
                });
            })
        }
    })
}

kernel! {
    /// `out = x * (1 + scale) + shift` for each row, on the calling thread.
    fn modulate(out: &mut [f32], x: &[f32], scale: &[f32], shift: &[f32]) {
        let width = scale.len();
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            write_lanes(out, [x, scale, shift], |[x, scale, shift]| x * (1.0 + scale) + shift);
        }
    }
}

kernel! {
    /// Adds the products of rows of `a` and `b` to `sum`, on the calling thread.
    fn add_products(sum: &mut [f32], a: &[f32], b: &[f32]) {
        for (a, b) in a.chunks_exact(sum.len()).zip(b.chunks_exact(sum.len())) {
            update_lanes(sum, [a, b], |sum, [a, b]| sum + a * b);
        }
    }
}

/// Feature-wise linear modulation (arXiv 1709.07871): `x * (1 + scale) + shift`, where `scale` and `shift` have one row of
/// `width` for each `group` rows of `x`.
pub fn film(x: &[f32], scale: &[f32], shift: &[f32], group: usize, width: usize) -> Vec<f32> {
    assert!(x.len().is_multiple_of(width), "rows of {width} numbers");
    crate::profile::operation("modulation", || {
        // SAFETY: the chunks cover the whole result, and each is written as a whole.
        unsafe {
            filled(x.len(), |out| {
                for_each_chunk(out, group * width, |index, out| {
                    let row = index * width..(index + 1) * width;
                    let x = &x[index * group * width..][..out.len()];
                    modulate(out, x, &scale[row.clone()], &shift[row]);
                });
            })
        }
    })
}

/// Gradient of [`film`] with respect to `x`.
pub fn film_gradient(gradient: &[f32], scale: &[f32], group: usize, width: usize) -> Vec<f32> {
    film(gradient, scale, &vec![0.0; scale.len()], group, width)
}

/// Gradient of [`film`] with respect to `scale`: the sum over each group of `gradient * x`.
pub fn film_scale_gradient(gradient: &[f32], x: &[f32], group: usize, width: usize) -> Vec<f32> {
    group_sums(gradient.len(), group, width, |numbers, sum| {
        add_products(sum, &gradient[numbers.clone()], &x[numbers]);
    })
}

/// Gradient of [`film`] with respect to `shift`: the sum over each group of `gradient`.
pub fn film_shift_gradient(gradient: &[f32], group: usize, width: usize) -> Vec<f32> {
    group_sums(gradient.len(), group, width, |numbers, sum| {
        for row in gradient[numbers].chunks_exact(width) {
            add_to(sum, row);
        }
    })
}

/// What `add(numbers, sum)` adds up for the numbers of each group, of `len` in all.
fn group_sums(
    len: usize,
    group: usize,
    width: usize,
    add: impl Fn(Range<usize>, &mut [f32]) + Sync + Send,
) -> Vec<f32> {
    crate::profile::operation("modulation", || {
        let groups = len / (group * width);
        let mut out = vec![0.0; groups * width];
        let shared = SharedMut::new(&mut out);
        // What is read costs, not the sums: share the groups out by that.
        for_each_index(groups, len, |index| {
            // SAFETY: each group has its own sum.
            let sum = unsafe { shared.row(index * width, width) };
            add(index * group * width..(index + 1) * group * width, sum);
        });
        out
    })
}

/// `x + rows`, `rows` being repeated along `x`.
pub fn add_repeated(x: &[f32], rows: &[f32]) -> Vec<f32> {
    assert!(
        x.len().is_multiple_of(rows.len()),
        "repetitions of {} numbers",
        rows.len()
    );
    crate::profile::operation("add", || {
        // SAFETY: the chunks cover the whole result, and each is written as a whole.
        unsafe {
            filled(x.len(), |out| {
                let chunk = CHUNK.div_ceil(rows.len()) * rows.len();
                for_each_chunk(out, chunk, |index, out| {
                    let x = &x[index * chunk..][..out.len()];
                    for (out, x) in out
                        .chunks_exact_mut(rows.len())
                        .zip(x.chunks_exact(rows.len()))
                    {
                        for ((out, x), row) in out.iter_mut().zip(x).zip(rows) {
                            *out = x + row;
                        }
                    }
                });
            })
        }
    })
}

/// Repetitions whose sum one task of [`sum_repeated`] makes.
const SUMMED_TOGETHER: usize = 32;

/// The sum of all repetitions of `period` numbers.
pub fn sum_repeated(x: &[f32], period: usize) -> Vec<f32> {
    crate::profile::operation("add", || {
        let block = SUMMED_TOGETHER * period;
        let mut partial = vec![0.0; x.len().div_ceil(block) * period];
        let shared = SharedMut::new(&mut partial);
        for_each_index(x.len().div_ceil(block), x.len(), |index| {
            // SAFETY: each piece has its own sum.
            let sum = unsafe { shared.row(index * period, period) };
            for x in x[index * block..x.len().min((index + 1) * block)].chunks_exact(period) {
                for (sum, x) in sum.iter_mut().zip(x) {
                    *sum += x;
                }
            }
        });
        sum_rows(&partial, period)
    })
}

kernel! {
    /// Sums of squares and of absolute values of differences.
    fn error_sums(a: &[f32], b: &[f32]) -> [f32; 2] {
        let squares = lane_sum([a, b], |[a, b]| (a - b) * (a - b));
        [squares, lane_sum([a, b], |[a, b]| (a - b).abs())]
    }
}

/// Mean squared error plus `weight` times the mean absolute error.
pub fn picture_error(a: &[f32], b: &[f32], weight: f32) -> f32 {
    crate::profile::operation("picture error", || {
        let mut partial = vec![0.0; 2 * a.len().div_ceil(CHUNK)];
        let shared = SharedMut::new(&mut partial);
        for_each_index(a.len().div_ceil(CHUNK), a.len(), |index| {
            let range = index * CHUNK..a.len().min((index + 1) * CHUNK);
            // SAFETY: each piece has its own two sums.
            unsafe { shared.row(2 * index, 2) }
                .copy_from_slice(&error_sums(&a[range.clone()], &b[range]));
        });
        // In double precision: millions of small terms.
        let [squares, absolutes] = partial.chunks_exact(2).fold([0f64; 2], |sum, part| {
            [sum[0] + f64::from(part[0]), sum[1] + f64::from(part[1])]
        });
        ((squares + f64::from(weight) * absolutes) / a.len() as f64) as f32
    })
}

/// `scale` times the gradient of [`picture_error`] with respect to `a`; at equal numbers that of the absolute error is 0.
pub fn picture_error_gradient(a: &[f32], b: &[f32], weight: f32, scale: f32) -> Vec<f32> {
    assert_eq!(a.len(), b.len(), "pictures");
    crate::profile::operation("picture error", || {
        let factor = scale / a.len() as f32;
        let write = |out: &mut [f32]| {
            for_each_chunk(out, CHUNK, |index, out| {
                let start = index * CHUNK;
                for ((out, a), b) in out.iter_mut().zip(&a[start..]).zip(&b[start..]) {
                    let difference = a - b;
                    let sign = f32::from(u8::from(difference > 0.0))
                        - f32::from(u8::from(difference < 0.0));
                    *out = factor * (2.0 * difference + weight * sign);
                }
            })
        };
        // SAFETY: the chunks cover the whole result, and each is written as a whole.
        unsafe { filled(a.len(), write) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_over_its_range() {
        for step in -8700..8800 {
            let x = step as f32 / 100.0;
            let y = f64::from(exp::<false>(x));
            let exact = f64::from(x).exp();
            assert!(
                (y / exact - 1.0).abs() < 4e-7 || y < 1e-37,
                "exp({x}) = {y}"
            );
        }
        assert!(exp::<false>(-1000.0) < 1e-37);
        assert!(exp::<false>(1000.0).is_finite());
    }

    #[test]
    fn gelu_has_the_published_values_and_slope() {
        let x: Vec<f32> = (-400..400).map(|i| i as f32 / 80.0).collect();
        let (mut y, mut active) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        gelu(&mut y, &x);
        let mut slope = vec![1.0; x.len()];
        gelu_with_gradient(&mut active, &mut slope, &x);
        assert_eq!(y, active);
        let f = |x: f64| {
            0.5 * x
                * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
        };
        for i in 0..x.len() {
            let v = f64::from(x[i]);
            assert!((f64::from(y[i]) - f(v)).abs() < 1e-6);
            let numeric = (f(v + 1e-5) - f(v - 1e-5)) / 2e-5;
            assert!((f64::from(slope[i]) - numeric).abs() < 1e-5, "slope at {v}");
        }
    }
}
