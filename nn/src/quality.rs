//! The figures that models are judged by.

use crate::{FrameSize, numbers};
use candle_core::Tensor;

/// Highest PSNR that is reported: two equal pictures would have an infinite one, which no mean survives.
pub const HIGHEST_PSNR: f64 = 60.0;

/// The largest difference between the numbers of two tensors of one shape, in single precision: what tests hold against a bound. NaN, which is within none, where a
/// number of either is NaN, or where the tensors cannot be compared.
pub fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    let single = |x: &Tensor| numbers(&x.to_dtype(candle_core::DType::F32)?);
    let (Ok(a_numbers), Ok(b_numbers)) = (single(a), single(b)) else {
        return f32::NAN;
    };
    if a.dims() != b.dims() {
        return f32::NAN;
    }
    let differences = a_numbers.iter().zip(&b_numbers).map(|(a, b)| (a - b).abs());
    // `f32::max` passes over NaN, and so does the largest number of a tensor.
    differences.fold(0.0, |most: f32, difference| match most.is_nan() {
        true => most,
        false if difference <= most => most,
        false => difference,
    })
}

/// Peak signal-to-noise ratio in dB of two pictures with values 0..1, at most [`HIGHEST_PSNR`].
pub fn psnr(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    psnr_of_error(sum / a.len().max(1) as f64)
}

/// PSNR in dB of a mean squared error over values 0..1.
pub fn psnr_of_error(mean_squared_error: f64) -> f64 {
    (-10.0 * mean_squared_error.log10()).min(HIGHEST_PSNR)
}

/// Structural similarity (Wang et al. 2004) of two RGB pictures with values 0..1: the mean, over colours, of windows of 8x8 pixels
/// every 4 pixels, constants as in the paper.
pub fn ssim(a: &[f32], b: &[f32], size: FrameSize) -> f64 {
    const C1: f64 = 0.01 * 0.01;
    const C2: f64 = 0.03 * 0.03;
    let side = 8.min(size.height).min(size.width);
    let (mut total, mut windows) = (0.0, 0usize);
    for top in (0..=size.height - side).step_by(4) {
        for left in (0..=size.width - side).step_by(4) {
            for channel in 0..3 {
                let (mut sa, mut sb, mut saa, mut sbb, mut sab) = (0.0, 0.0, 0.0, 0.0, 0.0);
                for y in top..top + side {
                    for x in left..left + side {
                        let at = (y * size.width + x) * 3 + channel;
                        let (pa, pb) = (f64::from(a[at]), f64::from(b[at]));
                        sa += pa;
                        sb += pb;
                        saa += pa * pa;
                        sbb += pb * pb;
                        sab += pa * pb;
                    }
                }
                let n = (side * side) as f64;
                let (ma, mb) = (sa / n, sb / n);
                let (va, vb, cov) = (saa / n - ma * ma, sbb / n - mb * mb, sab / n - ma * mb);
                total += (2.0 * ma * mb + C1) * (2.0 * cov + C2)
                    / ((ma * ma + mb * mb + C1) * (va + vb + C2));
                windows += 1;
            }
        }
    }
    total / windows as f64
}

/// Differences of neighbouring pixels, to the right and down, summed over a picture and its copy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Edges {
    /// Their size in the picture.
    pub real: f64,
    /// Their size in the copy: less where it is blurred.
    pub strength: f64,
    /// How far those of the copy are from those of the picture: more with blur and with false detail alike.
    pub error: f64,
}

impl Edges {
    /// Compares a copy with a picture, both RGB with values 0..1.
    pub fn of(picture: &[f32], copy: &[f32], size: FrameSize) -> Self {
        let mut edges = Self::default();
        let (right, below) = (3, size.width * 3);
        for (step, columns, rows) in [
            (right, size.width.saturating_sub(1), size.height),
            (below, size.width, size.height.saturating_sub(1)),
        ] {
            for row in 0..rows {
                for at in row * below..row * below + columns * 3 {
                    let real = f64::from(picture[at + step] - picture[at]);
                    let copied = f64::from(copy[at + step] - copy[at]);
                    edges.real += real.abs();
                    edges.strength += copied.abs();
                    edges.error += (copied - real).abs();
                }
            }
        }
        edges
    }
}

impl std::ops::Add for Edges {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            real: self.real + other.real,
            strength: self.strength + other.strength,
            error: self.error + other.error,
        }
    }
}

/// Mutual information of two labellings of the same things, divided by the mean of their entropies: 0 when one says nothing of the
/// other, 1 when each determines the other. 0 when either labelling is constant.
pub fn normalised_mutual_information(a: &[u32], b: &[u32]) -> f64 {
    use std::collections::BTreeMap;
    let n = a.len().min(b.len()) as f64;
    let (mut joint, mut left, mut right) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (&x, &y) in a.iter().zip(b) {
        *joint.entry((x, y)).or_insert(0.0) += 1.0;
        *left.entry(x).or_insert(0.0) += 1.0;
        *right.entry(y).or_insert(0.0) += 1.0;
    }
    let entropy = |counts: &BTreeMap<u32, f64>| -> f64 {
        counts.values().map(|c| -c / n * (c / n).ln()).sum()
    };
    let mean = (entropy(&left) + entropy(&right)) / 2.0;
    let information: f64 = joint
        .iter()
        .map(|((x, y), c): (_, &f64)| c / n * (c * n / (left[x] * right[y])).ln())
        .sum();
    if mean > 0.0 { information / mean } else { 0.0 }
}

/// Entropy in nats of the frequencies that `counts` stand for.
pub fn entropy_of_counts(counts: &[u64]) -> f64 {
    let total: u64 = counts.iter().sum();
    let shares = counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| count as f64 / total as f64);
    shares.map(|share| -share * share.ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_difference_that_is_no_number_is_within_no_bound() {
        let tensor = |numbers: &[f32]| Tensor::new(numbers, &Device::Cpu).unwrap();
        let zeros = tensor(&[0.0; 4]);
        assert_eq!(
            largest_difference(&tensor(&[1.0, -3.0, 2.0, 0.0]), &zeros),
            3.0
        );
        for place in 0..4 {
            let mut numbers = [1.0; 4];
            numbers[place] = f32::NAN;
            assert!(largest_difference(&tensor(&numbers), &zeros).is_nan());
            assert!(largest_difference(&zeros, &tensor(&numbers)).is_nan());
        }
        assert!(largest_difference(&zeros, &tensor(&[0.0; 3])).is_nan());
    }

    #[test]
    fn edges_fall_with_blur_and_their_error_rises_with_false_detail_too() {
        let size = FrameSize {
            height: 2,
            width: 4,
        };
        let row = |values: [f32; 4]| -> Vec<f32> {
            let row: Vec<f32> = values.iter().flat_map(|value| [*value; 3]).collect();
            [row.clone(), row].concat()
        };
        let real = row([0.0, 0.0, 1.0, 1.0]);
        let edges = |copy: &[f32]| {
            let Edges {
                real,
                strength,
                error,
            } = Edges::of(&real, copy, size);
            (strength / real, error / real)
        };
        assert_eq!(edges(&real), (1.0, 0.0));
        let near = |(a, b): (f64, f64), (c, d): (f64, f64)| (a - c).abs() + (b - d).abs() < 1e-6;
        assert!(near(edges(&row([0.25, 0.25, 0.75, 0.75])), (0.5, 0.5)));
        assert!(near(edges(&row([0.0, 0.5, 1.0, 1.0])), (1.0, 1.0)));
        assert!(near(edges(&row([0.0, 0.5, 1.5, 1.0])), (2.0, 1.0)));
    }

    #[test]
    fn psnr_of_a_known_error() {
        assert!((psnr(&[0.5; 10], &[0.6; 10]) - 20.0).abs() < 1e-3);
        assert_eq!(psnr(&[0.5; 10], &[0.5; 10]), HIGHEST_PSNR);
    }

    #[test]
    fn ssim_is_one_for_equals_and_falls_with_noise() {
        let size = FrameSize {
            height: 16,
            width: 16,
        };
        let picture: Vec<f32> = (0..size.bytes()).map(|i| (i % 37) as f32 / 37.0).collect();
        let noisy: Vec<f32> = picture
            .iter()
            .enumerate()
            .map(|(i, v)| v + if i % 2 == 0 { 0.2 } else { -0.2 })
            .collect();
        assert!((ssim(&picture, &picture, size) - 1.0).abs() < 1e-9);
        assert!(ssim(&picture, &noisy, size) < 0.9);
    }

    #[test]
    fn mutual_information_knows_permutations_from_chance() {
        let a: Vec<u32> = (0..1000).map(|i| i % 4).collect();
        let renamed: Vec<u32> = a.iter().map(|x| (x + 1) % 4).collect();
        let unrelated: Vec<u32> = (0..1000).map(|i| (i / 4) % 4).collect();
        assert!((normalised_mutual_information(&a, &renamed) - 1.0).abs() < 1e-9);
        assert!(normalised_mutual_information(&a, &unrelated) < 0.01);
        assert_eq!(normalised_mutual_information(&a, &[0; 1000]), 0.0);
    }

    #[test]
    fn entropy_of_even_counts_is_the_logarithm() {
        assert!((entropy_of_counts(&[5, 5, 0, 5, 5]) - 4f64.ln()).abs() < 1e-12);
    }
}
