//! Loops over slices, sixteen numbers at a time.
//!
//! A loop by an index that the compiler cannot see to stay within its slices checks each number, and one whose length it knows is unrolled into
//! single numbers; neither becomes good vector instructions. These do, in whatever [`kernel!`](super::kernel) they are used.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m128, _mm_add_ps, _mm_cvtss_f32, _mm_max_ps, _mm_movehl_ps, _mm_shuffle_ps,
};
use std::hint::black_box;

/// Numbers that are worked on together.
const LANES: usize = 16;

/// The sum of `term` over the numbers that stand at the same place of each slice, all as long as the first: in sixteen lanes, which are then added pair
/// by pair, so that the order is fixed.
#[inline(always)]
pub fn lane_sum<const N: usize>(slices: [&[f32]; N], term: impl Fn([f32; N]) -> f32) -> f32 {
    let mut rest = 0.0;
    let lanes = over_lanes(
        slices,
        0.0,
        |sum, numbers| sum + term(numbers),
        |numbers| rest += term(numbers),
    );
    fold_lanes::<Sum>(lanes) + rest
}

/// The largest of what `term` makes of the numbers that stand at the same place of each slice.
#[inline(always)]
pub fn lane_max<const N: usize>(slices: [&[f32]; N], term: impl Fn([f32; N]) -> f32) -> f32 {
    let mut rest = f32::NEG_INFINITY;
    let lanes = over_lanes(
        slices,
        f32::NEG_INFINITY,
        |largest, numbers| Largest::merge(largest, term(numbers)),
        |numbers| rest = Largest::merge(rest, term(numbers)),
    );
    Largest::merge(fold_lanes::<Largest>(lanes), rest)
}

/// Sixteen results of folding whole registers of the slices, beginning with `first`; `rest` gets what is left over.
#[inline(always)]
fn over_lanes<const N: usize>(
    slices: [&[f32]; N],
    first: f32,
    fold: impl Fn(f32, [f32; N]) -> f32,
    mut rest: impl FnMut([f32; N]),
) -> [f32; LANES] {
    let count = slices[0].len();
    let slices = slices.map(|numbers| numbers[..count].as_chunks::<LANES>());
    let mut lanes = [first; LANES];
    for index in 0..count / LANES {
        let lines = slices.map(|(registers, _)| &registers[index]);
        for (lane, folded) in lanes.iter_mut().enumerate() {
            *folded = fold(*folded, across(lines, lane));
        }
    }
    for index in 0..count % LANES {
        rest(slices.map(|(_, rest)| rest[index]));
    }
    lanes
}

/// The numbers of all lines in one lane. A loop, because a call of `map` with a closure is one that may not become part of its caller, and then does
/// not have its instructions.
#[inline(always)]
fn across<const N: usize>(lines: [&[f32; LANES]; N], lane: usize) -> [f32; N] {
    let mut numbers = [0.0; N];
    for (number, line) in numbers.iter_mut().zip(lines) {
        *number = line[lane];
    }
    numbers
}

/// Keeps the compiler from working on the first numbers of sixteen registers, then on the second ones, and so on, each gathered from memory.
#[inline(always)]
fn one_at_a_time() {
    black_box(());
}

/// Two numbers made one, or four of each at once.
trait Merge {
    fn merge(a: f32, b: f32) -> f32;
    #[cfg(target_arch = "x86_64")]
    fn merge_four(a: __m128, b: __m128) -> __m128;
}

struct Sum;

impl Merge for Sum {
    #[inline(always)]
    fn merge(a: f32, b: f32) -> f32 {
        a + b
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn merge_four(a: __m128, b: __m128) -> __m128 {
        // SAFETY: every x86-64 CPU has the instruction.
        unsafe { _mm_add_ps(a, b) }
    }
}

struct Largest;

impl Merge for Largest {
    #[inline(always)]
    fn merge(a: f32, b: f32) -> f32 {
        if b > a { b } else { a }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn merge_four(a: __m128, b: __m128) -> __m128 {
        // SAFETY: every x86-64 CPU has the instruction.
        unsafe { _mm_max_ps(b, a) }
    }
}

/// Halves the lanes until one is left.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn fold_lanes<M: Merge>(lanes: [f32; LANES]) -> f32 {
    let lanes: [f32; 8] = std::array::from_fn(|i| M::merge(lanes[i], lanes[i + 8]));
    let lanes: [f32; 4] = std::array::from_fn(|i| M::merge(lanes[i], lanes[i + 4]));
    M::merge(M::merge(lanes[0], lanes[2]), M::merge(lanes[1], lanes[3]))
}

/// Halves the lanes until one is left. By instructions that every x86-64 CPU has: left to itself, the compiler works on pairs of lanes all along, because that is
/// how they are folded in the end.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn fold_lanes<M: Merge>(lanes: [f32; LANES]) -> f32 {
    // SAFETY: both are sixteen numbers in one piece.
    let [a, b, c, d]: [__m128; 4] = unsafe { std::mem::transmute(lanes) };
    let four = M::merge_four(M::merge_four(a, c), M::merge_four(b, d));
    // SAFETY: every x86-64 CPU has these instructions.
    let (first, second) = unsafe {
        let two = M::merge_four(four, _mm_movehl_ps(four, four));
        let second = _mm_shuffle_ps::<1>(two, two);
        (_mm_cvtss_f32(two), _mm_cvtss_f32(second))
    };
    M::merge(first, second)
}

/// `out = value` of the numbers that stand at the same place of each slice; what `out` holds is not read.
#[inline(always)]
pub fn write_lanes<const N: usize>(
    out: &mut [f32],
    slices: [&[f32]; N],
    value: impl Fn([f32; N]) -> f32,
) {
    let slices = slices.map(|numbers| numbers[..out.len()].as_chunks::<LANES>());
    let (registers, rest) = out.as_chunks_mut::<LANES>();
    for (index, out) in registers.iter_mut().enumerate() {
        one_at_a_time();
        let lines = slices.map(|(registers, _)| &registers[index]);
        let mut new = [0.0; LANES];
        for (lane, new) in new.iter_mut().enumerate() {
            *new = value(across(lines, lane));
        }
        *out = new;
    }
    for (index, out) in rest.iter_mut().enumerate() {
        *out = value(slices.map(|(_, rest)| rest[index]));
    }
}

/// `x = value` of what it was and the numbers that stand at the same place of each slice.
#[inline(always)]
pub fn update_lanes<const N: usize>(
    x: &mut [f32],
    slices: [&[f32]; N],
    value: impl Fn(f32, [f32; N]) -> f32,
) {
    let slices = slices.map(|numbers| numbers[..x.len()].as_chunks::<LANES>());
    let (registers, rest) = x.as_chunks_mut::<LANES>();
    for (index, x) in registers.iter_mut().enumerate() {
        one_at_a_time();
        let lines = slices.map(|(registers, _)| &registers[index]);
        let (old, mut new) = (*x, [0.0; LANES]);
        for (lane, new) in new.iter_mut().enumerate() {
            *new = value(old[lane], across(lines, lane));
        }
        *x = new;
    }
    for (index, x) in rest.iter_mut().enumerate() {
        *x = value(*x, slices.map(|(_, rest)| rest[index]));
    }
}

/// As [`update_lanes`], and returns the sum of the new numbers, in the order of [`lane_sum`]. For rows whose length the compiler does not know: it writes in place,
/// which saves a copy on the stack, but is unrolled into single numbers where the length is known.
#[inline(always)]
pub fn update_and_sum_lanes<const N: usize>(
    x: &mut [f32],
    slices: [&[f32]; N],
    value: impl Fn(f32, [f32; N]) -> f32,
) -> f32 {
    let slices = slices.map(|numbers| numbers[..x.len()].as_chunks::<LANES>());
    let (registers, rest) = x.as_chunks_mut::<LANES>();
    let (mut sums, mut sum_of_rest) = ([0.0; LANES], 0.0);
    for (index, x) in registers.iter_mut().enumerate() {
        one_at_a_time();
        let lines = slices.map(|(registers, _)| &registers[index]);
        for (lane, (x, sum)) in x.iter_mut().zip(&mut sums).enumerate() {
            *x = value(*x, across(lines, lane));
            *sum += *x;
        }
    }
    for (index, x) in rest.iter_mut().enumerate() {
        *x = value(*x, slices.map(|(_, rest)| rest[index]));
        sum_of_rest += *x;
    }
    fold_lanes::<Sum>(sums) + sum_of_rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_counts_once() {
        for count in [0, 1, 15, 16, 17, 32, 50] {
            let a: Vec<f32> = (0..count).map(|i| (i % 7) as f32 - 3.0).collect();
            let b: Vec<f32> = (0..count).map(|i| (i % 5) as f32).collect();
            let products = || a.iter().zip(&b).map(|(a, b)| a * b);
            assert_eq!(lane_sum([&a, &b], |[a, b]| a * b), products().sum::<f32>());
            let largest = products().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(lane_max([&a, &b], |[a, b]| a * b), largest);
            let mut out = vec![f32::NAN; count];
            write_lanes(&mut out, [&a, &b], |[a, b]| a * b);
            assert_eq!(out, products().collect::<Vec<_>>());
            update_lanes(&mut out, [&a], |x, [a]| x + a);
            let sums = products().zip(&a).map(|(product, a)| product + a);
            assert_eq!(out, sums.collect::<Vec<_>>());
            let sum = update_and_sum_lanes(&mut out, [&b], |x, [b]| x - b);
            let differences = products()
                .zip(&a)
                .zip(&b)
                .map(|((product, a), b)| product + a - b);
            assert_eq!(out, differences.collect::<Vec<_>>());
            assert_eq!(sum, out.iter().sum::<f32>());
        }
    }
}
