//! The Fréchet distance between two clouds of feature vectors, each taken as a Gaussian.

/// A square matrix, row by row.
#[derive(Clone, Debug, PartialEq)]
struct Square {
    side: usize,
    values: Vec<f64>,
}

impl Square {
    fn zeros(side: usize) -> Self {
        Self {
            side,
            values: vec![0.0; side * side],
        }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.side + column]
    }

    fn product(&self, other: &Self) -> Self {
        let mut result = Self::zeros(self.side);
        for row in 0..self.side {
            for inner in 0..self.side {
                let factor = self.at(row, inner);
                for column in 0..self.side {
                    result.values[row * self.side + column] += factor * other.at(inner, column);
                }
            }
        }
        result
    }

    fn trace(&self) -> f64 {
        (0..self.side).map(|i| self.at(i, i)).sum()
    }

    /// Eigenvalues, largest first, and eigenvectors (rows) of a symmetric matrix, by Jacobi's rotations.
    fn eigen(&self) -> (Vec<f64>, Vec<Vec<f64>>) {
        const SWEEPS: usize = 60;
        let n = self.side;
        let mut a = self.clone();
        let mut vectors: Vec<Vec<f64>> = (0..n)
            .map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect())
            .collect();
        for _ in 0..SWEEPS {
            let off: f64 = (0..n)
                .flat_map(|i| (0..i).map(move |j| (i, j)))
                .map(|(i, j)| a.at(i, j).powi(2))
                .sum();
            if off <= 1e-24 * a.values.iter().map(|v| v * v).sum::<f64>() {
                break;
            }
            for p in 0..n {
                for q in p + 1..n {
                    let apq = a.at(p, q);
                    if apq == 0.0 {
                        continue;
                    }
                    let theta = (a.at(q, q) - a.at(p, p)) / (2.0 * apq);
                    let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                    let t = if theta == 0.0 { 1.0 } else { t };
                    let c = 1.0 / t.hypot(1.0);
                    let s = t * c;
                    for k in 0..n {
                        let (kp, kq) = (a.at(k, p), a.at(k, q));
                        a.values[k * n + p] = c * kp - s * kq;
                        a.values[k * n + q] = s * kp + c * kq;
                    }
                    for k in 0..n {
                        let (pk, qk) = (a.at(p, k), a.at(q, k));
                        a.values[p * n + k] = c * pk - s * qk;
                        a.values[q * n + k] = s * pk + c * qk;
                    }
                    let (upper, lower) = vectors.split_at_mut(q);
                    for (vp, vq) in upper[p].iter_mut().zip(&mut lower[0]) {
                        (*vp, *vq) = (c * *vp - s * *vq, s * *vp + c * *vq);
                    }
                }
            }
        }
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&i, &j| a.at(j, j).total_cmp(&a.at(i, i)));
        (
            order.iter().map(|&i| a.at(i, i)).collect(),
            order.iter().map(|&i| vectors[i].clone()).collect(),
        )
    }

    /// The square root of a symmetric matrix without negative eigenvalues (those that rounding made are taken as zero).
    fn root(&self) -> Self {
        let (values, vectors) = self.eigen();
        let mut result = Self::zeros(self.side);
        for (value, vector) in values.iter().zip(&vectors) {
            let root = value.max(0.0).sqrt();
            for row in 0..self.side {
                for column in 0..self.side {
                    result.values[row * self.side + column] += root * vector[row] * vector[column];
                }
            }
        }
        result
    }
}

/// Mean and covariance of feature vectors.
struct Gaussian {
    mean: Vec<f64>,
    covariance: Square,
}

impl Gaussian {
    fn of(features: &[Vec<f64>]) -> Self {
        let side = features.first().map_or(0, Vec::len);
        let count = features.len().max(1) as f64;
        let mut mean = vec![0.0; side];
        for feature in features {
            mean.iter_mut()
                .zip(feature)
                .for_each(|(m, f)| *m += f / count);
        }
        let mut covariance = Square::zeros(side);
        for feature in features {
            for row in 0..side {
                let difference = (feature[row] - mean[row]) / count;
                for column in 0..side {
                    covariance.values[row * side + column] +=
                        difference * (feature[column] - mean[column]);
                }
            }
        }
        Self { mean, covariance }
    }

    /// Squared Fréchet distance: of the means, plus tr(A + B - 2 (A^½ B A^½)^½) of the covariances.
    fn distance(&self, other: &Self) -> f64 {
        let means: f64 = self
            .mean
            .iter()
            .zip(&other.mean)
            .map(|(a, b)| (a - b).powi(2))
            .sum();
        let root = self.covariance.root();
        let cross = root.product(&other.covariance).product(&root).root();
        means + self.covariance.trace() + other.covariance.trace() - 2.0 * cross.trace()
    }
}

/// Least variance along an axis that is compared, where each feature has variance 1.
const LEAST_VARIANCE: f64 = 1e-2;

/// A measure of distance from reference features: they are scaled to unit variance and turned to their leading principal
/// axes, so that few samples suffice for the Gaussians.
pub(crate) struct Yardstick {
    mean: Vec<f64>,
    scale: Vec<f64>,
    axes: Vec<Vec<f64>>,
    reference: Gaussian,
}

impl Yardstick {
    /// A yardstick with `axes` axes, or with as many as the reference varies along.
    pub fn new(reference: &[Vec<f64>], axes: usize) -> Self {
        let whole = Gaussian::of(reference);
        let side = whole.mean.len();
        let scale = (0..side)
            .map(|i| whole.covariance.at(i, i).sqrt().max(1e-6))
            .collect();
        let mut yardstick = Self {
            mean: whole.mean,
            scale,
            axes: Vec::new(),
            reference: Gaussian::of(&[]),
        };
        let scaled: Vec<_> = reference.iter().map(|f| yardstick.scaled(f)).collect();
        let (values, vectors) = Gaussian::of(&scaled).covariance.eigen();
        // Along an axis without variance, the least deviation would outweigh everything else.
        let varied = values.iter().take_while(|&&v| v > LEAST_VARIANCE).count();
        yardstick.axes = vectors.into_iter().take(axes.min(varied)).collect();
        let turned: Vec<_> = reference.iter().map(|f| yardstick.turned(f)).collect();
        yardstick.reference = Gaussian::of(&turned);
        yardstick
    }

    fn scaled(&self, feature: &[f64]) -> Vec<f64> {
        let parts = feature.iter().zip(&self.mean).zip(&self.scale);
        parts.map(|((f, m), s)| (f - m) / s).collect()
    }

    fn turned(&self, feature: &[f64]) -> Vec<f64> {
        let scaled = self.scaled(feature);
        let along = |axis: &Vec<f64>| axis.iter().zip(&scaled).map(|(a, f)| a * f).sum();
        self.axes.iter().map(along).collect()
    }

    /// Squared Fréchet distance of these features from the reference.
    pub fn distance(&self, features: &[Vec<f64>]) -> f64 {
        let turned: Vec<_> = features.iter().map(|f| self.turned(f)).collect();
        self.reference.distance(&Gaussian::of(&turned)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nn::{generator, normal};

    fn cloud(count: usize, seed: u64, shift: f64, spread: f64) -> Vec<Vec<f64>> {
        let mut random = generator(seed, 0);
        (0..count)
            .map(|_| {
                let common = f64::from(normal(&mut random));
                (0..6)
                    .map(|i| {
                        shift + spread * (common + f64::from(i) * f64::from(normal(&mut random)))
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn roots_multiply_back() {
        let matrix = Gaussian::of(&cloud(200, 1, 0.0, 1.0)).covariance;
        let root = matrix.root();
        let square = root.product(&root);
        for (a, b) in square.values.iter().zip(&matrix.values) {
            assert!((a - b).abs() < 1e-9 * matrix.trace(), "{a} {b}");
        }
    }

    #[test]
    fn gaussians_on_a_line_have_the_textbook_distance() {
        let line = |values: &[f64]| -> Gaussian {
            Gaussian::of(&values.iter().map(|&v| vec![v]).collect::<Vec<_>>())
        };
        // Means 0 and 3, deviations 1 and 2: 9 + (2 - 1)².
        let distance = line(&[-1.0, 1.0]).distance(&line(&[1.0, 5.0]));
        assert!((distance - 10.0).abs() < 1e-9, "{distance}");
    }

    #[test]
    fn distance_is_nothing_to_itself_and_grows_with_difference() {
        let reference = cloud(2000, 1, 0.0, 1.0);
        let yardstick = Yardstick::new(&reference, 4);
        assert!(yardstick.distance(&reference) < 1e-6);
        let other = yardstick.distance(&cloud(400, 2, 0.0, 1.0));
        let shifted = yardstick.distance(&cloud(400, 2, 2.0, 1.0));
        let blurred = yardstick.distance(&cloud(400, 2, 0.0, 0.3));
        assert!(other < 0.1 && shifted > 10.0 * other && blurred > 10.0 * other);
    }

    #[test]
    fn features_that_never_change_do_no_harm() {
        let reference: Vec<Vec<f64>> = (0..50).map(|i| vec![1.0, f64::from(i)]).collect();
        let yardstick = Yardstick::new(&reference, 2);
        assert!(yardstick.distance(&reference[..25]).is_finite());
        // A deviation where the reference has none is not the only thing that counts.
        let other: Vec<_> = reference.iter().map(|f| vec![1.5, f[1]]).collect();
        assert!(yardstick.distance(&other) < 1.0);
    }
}
