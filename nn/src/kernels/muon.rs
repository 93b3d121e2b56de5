//! Muon's update of a matrix (Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon>) on raw slices: a step along the momentum with all of its
//! singular values brought near one, so that the rare directions of a gradient move the weights as far as the common ones.

use super::product::{Matrix, product};
use crate::{Precision, with_precision};

/// Steps of the Newton-Schulz iteration. Four bring every singular value between a hundredth of the matrix's length and the whole of it to 0.68 to 1.2;
/// the fifth of the published form would do so for smaller ones, too.
pub const ITERATIONS: usize = 4;
/// The published quintic `ax + bx³ + cx⁵`.
pub const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// A direction that is shorter counts as one of this length: the squares of its numbers would be lost.
pub const SHORTEST: f32 = 1e-15;
/// Root mean square of an update: that of AdamW's in practice, so that one learning rate fits both (Moonlight, arXiv 2502.16982, section 2.2).
const UPDATE_SIZE: f32 = 0.2;

/// One step's numbers, the same for all matrices.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// Step size.
    pub learning_rate: f32,
    /// Decay of the momentum.
    pub momentum: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Factor on the gradient (clipping).
    pub gradient_scale: f32,
}

/// The matrices that a weight holds: a weight of three times as many rows as columns is those of query, key and value, one below the other.
pub fn parts([rows, columns]: [usize; 2]) -> usize {
    if rows == 3 * columns { 3 } else { 1 }
}

/// What a matrix whose singular values are one is multiplied by, to be as large as an update.
pub fn scale([rows, columns]: [usize; 2]) -> f32 {
    UPDATE_SIZE * (rows.max(columns) as f32).sqrt()
}

/// Updates `weights` `[rows, columns]` and their `momentum` in place.
pub fn muon(
    weights: &mut [f32],
    momentum: &mut [f32],
    gradient: &[f32],
    shape: [usize; 2],
    update: Update,
) {
    let len = weights.len();
    assert!(len == shape[0] * shape[1] && momentum.len() == len && gradient.len() == len);
    let [rows, columns] = [shape[0] / parts(shape), shape[1]];
    let size = (rows * columns).max(1);
    let parts = weights
        .chunks_mut(size)
        .zip(momentum.chunks_mut(size).zip(gradient.chunks(size)));
    for (weights, (momentum, gradient)) in parts {
        let direction = look_ahead(momentum, gradient, update);
        let direction = orthogonalized(direction, [rows, columns]);
        let scale = scale([rows, columns]);
        for (weight, step) in weights.iter_mut().zip(&direction) {
            *weight -= update.learning_rate * (scale * step + update.weight_decay * *weight);
        }
    }
}

/// Takes the gradient into the momentum, and returns where that is going (Nesterov).
fn look_ahead(momentum: &mut [f32], gradient: &[f32], update: Update) -> Vec<f32> {
    let (keep, take) = (update.momentum, 1.0 - update.momentum);
    let ahead = momentum.iter_mut().zip(gradient).map(|(mean, gradient)| {
        let gradient = gradient * update.gradient_scale;
        *mean = keep * *mean + take * gradient;
        keep * *mean + take * gradient
    });
    ahead.collect()
}

/// `x` `[rows, columns]` with its singular values brought near one.
///
/// The iteration multiplies `x` by polynomials in the product of `x` with itself. Those are all as small as the shorter side, so they are multiplied with each other, and
/// with `x` only once; where `x` is a square itself, that would save nothing and cost three products more.
///
/// Squares are multiplied in the precision of the scope, as the published form is in bf16. Products of polynomials are f32: in bf16 they would lose the smaller
/// singular values, which they hold squared.
fn orthogonalized(mut x: Vec<f32>, shape: [usize; 2]) -> Vec<f32> {
    let length = super::adamw::sum_of_squares(&x).sqrt() as f32;
    let shorten = 1.0 / length.max(SHORTEST);
    x.iter_mut().for_each(|value| *value *= shorten);
    match shape {
        [rows, columns] if rows == columns => square_orthogonalized(x, rows),
        _ => with_precision(Precision::F32, || oblong_orthogonalized(&x, shape)),
    }
}

fn square_orthogonalized(mut x: Vec<f32>, side: usize) -> Vec<f32> {
    for _ in 0..ITERATIONS {
        let matrix = Matrix::new(&x, side, side);
        let polynomial = polynomial(&product(matrix, matrix.transposed()), side);
        x = times(&polynomial, &x, side);
    }
    x
}

fn oblong_orthogonalized(x: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    let side = rows.min(columns);
    let matrix = Matrix::new(x, rows, columns);
    let square = match rows <= columns {
        true => product(matrix, matrix.transposed()),
        false => product(matrix.transposed(), matrix),
    };
    let polynomial = all_polynomials(square, side);
    let polynomial = Matrix::new(&polynomial, side, side);
    match rows <= columns {
        true => product(polynomial, matrix),
        false => product(matrix, polynomial),
    }
}

fn times(a: &[f32], b: &[f32], side: usize) -> Vec<f32> {
    product(Matrix::new(a, side, side), Matrix::new(b, side, side))
}

/// What one iteration multiplies by, from the square `[side, side]` of what it is applied to.
fn polynomial(square: &[f32], side: usize) -> Vec<f32> {
    let [a, b, c] = COEFFICIENTS;
    let mut polynomial = times(square, square, side);
    for (fourth, second) in polynomial.iter_mut().zip(square) {
        *fourth = b * second + c * *fourth;
    }
    for diagonal in polynomial.iter_mut().step_by(side + 1) {
        *diagonal += a;
    }
    polynomial
}

/// The product of the polynomials of all iterations, from the square `[side, side]` of what they are to be applied to.
fn all_polynomials(mut square: Vec<f32>, side: usize) -> Vec<f32> {
    let mut all = polynomial(&square, side);
    let mut last = all.clone();
    for _ in 1..ITERATIONS {
        square = times(&times(&last, &square, side), &last, side);
        last = polynomial(&square, side);
        all = times(&last, &all, side);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singular_values_come_near_one() {
        let values = [2.0, -1.0, 0.3, 0.03];
        // Where the CPU multiplies no faster in bf16, that is f32, too.
        let rounded = [(Precision::F32, 1e-5), (Precision::Bf16, 0.02)];
        for [rows, columns] in [[4, 4], [5, 5], [4, 9], [9, 4]] {
            for (precision, tolerance) in rounded {
                let mut x = vec![0.0; rows * columns];
                for (index, value) in values.iter().enumerate() {
                    x[index * columns + index] = *value;
                }
                let out = with_precision(precision, || orthogonalized(x, [rows, columns]));
                for row in 0..rows {
                    for column in 0..columns {
                        let value = out[row * columns + column];
                        if row == column && row < values.len() {
                            let size = value * values[row].signum();
                            assert!((0.65..1.25).contains(&size), "{value} at {row}");
                        } else {
                            assert!(value.abs() < tolerance, "{value} at {row}, {column}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_bf16_rounds_off_is_small_beside_a_step() {
        const SIDE: usize = 96;
        let mut random = crate::generator(1, 0);
        let x: Vec<f32> = (0..SIDE * SIDE)
            .map(|_| crate::normal(&mut random))
            .collect();
        let [exact, rounded] = [Precision::F32, Precision::Bf16]
            .map(|precision| with_precision(precision, || orthogonalized(x.clone(), [SIDE, SIDE])));
        let difference: Vec<f32> = exact.iter().zip(&rounded).map(|(a, b)| a - b).collect();
        let length = |x: &[f32]| super::super::adamw::sum_of_squares(x).sqrt();
        let share = length(&difference) / length(&exact);
        assert!(share < 0.05, "{share}");
    }

    #[test]
    fn next_to_nothing_stays_finite() {
        for size in [1e-14, 1e-16, 1e-20, 1e-23, 1e-30, 1e-38, 1e-40] {
            for shape in [[6, 6], [4, 9]] {
                let x = (0..shape[0] * shape[1]).map(|i| size * (i % 5) as f32);
                let out = orthogonalized(x.collect(), shape);
                assert!(out.iter().all(|value| value.abs() < 1.3), "{size}");
            }
        }
    }

    #[test]
    fn nothing_comes_of_a_gradient_of_zeros() {
        let (mut weights, mut momentum) = (vec![1.0; 6], vec![0.0; 6]);
        let update = Update {
            learning_rate: 0.1,
            momentum: 0.95,
            weight_decay: 0.0,
            gradient_scale: 1.0,
        };
        muon(&mut weights, &mut momentum, &[0.0; 6], [2, 3], update);
        assert_eq!(weights, [1.0; 6]);
    }
}
