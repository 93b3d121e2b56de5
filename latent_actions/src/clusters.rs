//! From continuous descriptions of changes to a few codes: k-means.

use nn::{Error, Result, generator};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Starts that are tried; the best result is kept.
const TRIES: u64 = 8;
/// Rounds of one try; few are needed, and it ends as soon as nothing moves.
const ROUNDS: usize = 100;

/// The `codes` centres (row-major, `width` numbers each) that lie nearest to the `vectors` (row-major) in the mean square (k-means with
/// k-means++ starts, Arthur and Vassilvitskii 2007). The same seed gives the same centres.
///
/// # Errors
/// When there are fewer vectors than codes, or numbers that are not finite.
pub fn cluster(vectors: &[f32], width: usize, codes: usize, seed: u64) -> Result<Vec<f32>> {
    let count = vectors.len() / width.max(1);
    if count < codes || codes == 0 || vectors.len() != count * width {
        return Err(Error::Input(format!(
            "{} numbers cannot be clustered into {codes} codes of {width}",
            vectors.len()
        )));
    }
    if vectors.iter().any(|value| !value.is_finite()) {
        return Err(Error::Input(
            "descriptions of changes are not finite".into(),
        ));
    }
    let tries = (0..TRIES).map(|attempt| {
        refine(
            vectors,
            width,
            start(vectors, width, codes, generator(seed, attempt)),
        )
    });
    let best = tries
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(centres, _)| centres);
    best.ok_or_else(|| Error::Input("no clustering was tried".into()))
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// The nearest centre of a vector and its squared distance.
fn nearest(vector: &[f32], centres: &[f32]) -> (usize, f32) {
    let distances = centres
        .chunks_exact(vector.len())
        .map(|centre| distance(vector, centre))
        .enumerate();
    distances
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or((0, 0.0))
}

/// Centres drawn one after another, far ones more likely.
fn start(vectors: &[f32], width: usize, codes: usize, mut random: ChaCha8Rng) -> Vec<f32> {
    let count = vectors.len() / width;
    let row = |index: usize| &vectors[index * width..][..width];
    let mut centres = row(random.random_range(0..count)).to_vec();
    let mut gaps: Vec<f32> = vectors
        .chunks_exact(width)
        .map(|vector| distance(vector, &centres))
        .collect();
    while centres.len() < codes * width {
        let mut left = random.random::<f64>() * gaps.iter().map(|&gap| f64::from(gap)).sum::<f64>();
        let chosen = gaps.iter().position(|&gap| {
            left -= f64::from(gap);
            left < 0.0
        });
        let centre = row(chosen.unwrap_or(count - 1)).to_vec();
        for (gap, vector) in gaps.iter_mut().zip(vectors.chunks_exact(width)) {
            *gap = gap.min(distance(vector, &centre));
        }
        centres.extend(centre);
    }
    centres
}

/// Moves centres to the means of what is nearest to them until nothing changes; also the sum of squared distances.
fn refine(vectors: &[f32], width: usize, mut centres: Vec<f32>) -> (Vec<f32>, f64) {
    let codes = centres.len() / width;
    let mut before = f64::INFINITY;
    for _ in 0..ROUNDS {
        let (mut sums, mut counts, mut cost) =
            (vec![0f64; centres.len()], vec![0usize; codes], 0.0);
        for vector in vectors.chunks_exact(width) {
            let (code, gap) = nearest(vector, &centres);
            counts[code] += 1;
            cost += f64::from(gap);
            for (sum, value) in sums[code * width..].iter_mut().zip(vector) {
                *sum += f64::from(*value);
            }
        }
        for (code, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            for i in code * width..(code + 1) * width {
                centres[i] = (sums[i] / count as f64) as f32;
            }
        }
        if cost >= before {
            break;
        }
        before = cost;
    }
    (centres, before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nn::normal;

    #[test]
    fn separate_clouds_are_found() -> Result<()> {
        let mut random = generator(3, 9);
        let centres = [[0f32, 0.0], [5.0, 0.0], [0.0, 5.0], [-5.0, -5.0]];
        let vectors: Vec<f32> = (0..400)
            .flat_map(|i| centres[i % 4].map(|c| c + 0.3 * normal(&mut random)))
            .collect();
        let found = cluster(&vectors, 2, 4, 1)?;
        for centre in centres {
            assert!(
                nearest(&centre, &found).1 < 0.05,
                "{centre:?} is not among {found:?}"
            );
        }
        assert_eq!(found, cluster(&vectors, 2, 4, 1)?);
        Ok(())
    }

    #[test]
    fn equal_vectors_and_too_few_are_handled() {
        assert!(cluster(&[1.0; 20], 2, 4, 1).is_ok());
        assert!(cluster(&[1.0; 6], 2, 4, 1).is_err());
        assert!(cluster(&[f32::NAN; 20], 2, 4, 1).is_err());
    }
}
