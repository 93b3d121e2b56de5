//! The rate of large matrix products on this machine: the yardstick that everything else is measured with.

use super::product::{Matrix, multiply_on, unit};
use crate::Precision;
use gemm::Parallelism;
use std::time::Instant;

/// Sides of the square products that are timed, and how often each is: large ones reach the highest rate on most machines,
/// smaller ones where caches are small.
const PRODUCTS: [(usize, usize); 2] = [(1024, 12), (2048, 6)];

/// Billions of floating-point operations a second, on all cores, of the fastest of several large `f32` products.
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    /// By the products that models are run with.
    pub djinn: f64,
    /// By the `gemm` crate, which knows nothing of this one.
    pub gemm: f64,
}

impl Peak {
    /// Measures it.
    pub fn measure() -> Self {
        let mut peak = Self {
            djinn: 0.0,
            gemm: 0.0,
        };
        for (side, tries) in PRODUCTS {
            let numbers = vec![0.5; side * side];
            let mut out = vec![0.0; side * side];
            let matrix = Matrix::new(&numbers, side, side);
            for _ in 0..tries {
                let rate = rate(side, || {
                    multiply_on(unit(Precision::F32), &mut out, matrix, matrix, false)
                });
                peak.djinn = peak.djinn.max(rate);
                let rate = self::rate(side, || multiply_by_gemm(&mut out, &numbers, side));
                peak.gemm = peak.gemm.max(rate);
            }
        }
        peak
    }

    /// The higher of both, so that a slow product of our own cannot flatter the share that is reached of it.
    pub fn best(&self) -> f64 {
        self.djinn.max(self.gemm)
    }
}

fn rate(side: usize, product: impl FnOnce()) -> f64 {
    let start = Instant::now();
    product();
    2.0 * (side as f64).powi(3) / start.elapsed().as_secs_f64() / 1e9
}

/// `out = x * x` for a square `x`.
fn multiply_by_gemm(out: &mut [f32], x: &[f32], side: usize) {
    assert_eq!([out.len(), x.len()], [side * side; 2]);
    let stride = side as isize;
    // SAFETY: sizes and strides describe row-major matrices that fill the slices, by the check above.
    unsafe {
        gemm::gemm(
            side,
            side,
            side,
            out.as_mut_ptr(),
            1,
            stride,
            false,
            x.as_ptr(),
            1,
            stride,
            x.as_ptr(),
            1,
            stride,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_yardstick_multiplies() {
        let x: Vec<f32> = (0..9).map(|i| i as f32).collect();
        let mut out = vec![0.0; 9];
        multiply_by_gemm(&mut out, &x, 3);
        assert_eq!(out, [15.0, 18.0, 21.0, 42.0, 54.0, 66.0, 69.0, 90.0, 111.0]);
    }
}
