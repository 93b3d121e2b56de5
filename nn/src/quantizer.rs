//! Turning continuous latents into discrete tokens and back: finite scalar quantization and vector quantization.

use crate::{Error, Result, generator};
use candle_core::{D, DType, Tensor};
use candle_nn::{Init, VarBuilder};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// Largest codebook.
const LARGEST_CODEBOOK: usize = 65_536;

/// Which quantizer, and its sizes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuantizerConfig {
    /// Finite scalar quantization (arXiv 2309.15505): each number of a latent is rounded to one of a few levels.
    Fsq {
        /// Levels of each number; their product is the codebook size.
        levels: Vec<u32>,
    },
    /// Vector quantization (arXiv 1711.00937): the nearest vector of a learned codebook.
    Vq {
        /// Vectors in the codebook.
        codes: usize,
        /// Numbers in a vector.
        width: usize,
    },
}

impl QuantizerConfig {
    /// Checks that such a quantizer can be built.
    ///
    /// # Errors
    /// Names the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Fsq { levels } => {
                Error::check_range("levels", levels.len(), 1..=16)?;
                let mut codes = 1usize;
                for &level in levels {
                    // Two levels and the margin of the bound would need the arc tangent of more than one.
                    Error::check_range("levels", level as usize, 3..=256)?;
                    codes = codes.saturating_mul(level as usize);
                }
                Error::check_range("codebook size", codes, 2..=LARGEST_CODEBOOK)
            }
            Self::Vq { codes, width } => {
                Error::check_range("codes", *codes, 2..=LARGEST_CODEBOOK)?;
                Error::check_range("width", *width, 1..=512)
            }
        }
    }

    /// Codebook size (`V`).
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Fsq { levels } => levels.iter().map(|&level| level as usize).product(),
            Self::Vq { codes, .. } => *codes,
        }
    }

    /// Numbers in a latent (`L`).
    pub fn latent_width(&self) -> usize {
        match self {
            Self::Fsq { levels } => levels.len(),
            Self::Vq { width, .. } => *width,
        }
    }

    /// Builds the quantizer.
    ///
    /// # Errors
    /// When the configuration is out of range or weights do not fit it.
    pub fn build(&self, builder: VarBuilder) -> Result<Box<dyn Quantizer>> {
        self.validate()?;
        Ok(match self {
            Self::Fsq { levels } => Box::new(Fsq::new(levels)),
            Self::Vq { codes, width } => Box::new(Vq::new(*codes, *width, builder)?),
        })
    }
}

/// What [`Quantizer::quantize`] gives.
pub struct Quantized {
    /// The quantizer's vectors `[.., L]`, with gradients passed straight through to the latents.
    pub vectors: Tensor,
    /// Their tokens, u32 `[..]`.
    pub tokens: Tensor,
    /// What the quantizer itself adds to the loss, if anything.
    pub auxiliary_loss: Option<Tensor>,
}

/// A discrete bottleneck.
pub trait Quantizer: Send + Sync {
    /// Rounds latents `[.., L]`.
    ///
    /// # Errors
    /// When the shape does not fit.
    fn quantize(&self, latents: &Tensor) -> Result<Quantized>;

    /// The vectors `[.., L]` that tokens (u32 `[..]`) stand for.
    ///
    /// # Errors
    /// When a token is not in the codebook.
    fn vectors(&self, tokens: &Tensor) -> Result<Tensor>;

    /// Gives codes that `usage` (a count for each) shows as dead a new life near the `latents` `[.., L]` of a batch; returns how many.
    /// Quantizers whose codes cannot die do nothing.
    ///
    /// # Errors
    /// When shapes do not fit.
    fn revive(&self, usage: &[u64], latents: &Tensor, seed: u64) -> Result<usize>;
}

/// How often each of `vocabulary` tokens occurs.
///
/// # Errors
/// When a token is not in the vocabulary.
pub fn usage(tokens: &Tensor, vocabulary: usize) -> Result<Vec<u64>> {
    let mut counts = vec![0; vocabulary];
    for token in tokens.flatten_all()?.to_vec1::<u32>()? {
        match counts.get_mut(token as usize) {
            Some(count) => *count += 1,
            None => return Err(outside(token, vocabulary)),
        }
    }
    Ok(counts)
}

fn outside(token: u32, vocabulary: usize) -> Error {
    Error::Input(format!(
        "token {token} is not in a codebook of {vocabulary}"
    ))
}

/// Finite scalar quantization.
struct Fsq {
    levels: Vec<u32>,
}

impl Fsq {
    fn new(levels: &[u32]) -> Self {
        Self {
            levels: levels.to_vec(),
        }
    }

    fn row(&self, like: &Tensor, value: impl Fn(u32) -> f64) -> Result<Tensor> {
        let values: Vec<f32> = self
            .levels
            .iter()
            .map(|&level| value(level) as f32)
            .collect();
        Ok(Tensor::new(values, like.device())?.to_dtype(like.dtype())?)
    }

    /// Digit of each number, 0 up to its level, from vectors in -1..1.
    fn digits(&self, vectors: &Tensor) -> Result<Tensor> {
        let half = self.row(vectors, |level| f64::from(level / 2))?;
        Ok(vectors
            .broadcast_mul(&half)?
            .broadcast_add(&half)?
            .round()?)
    }
}

impl Quantizer for Fsq {
    fn quantize(&self, latents: &Tensor) -> Result<Quantized> {
        // Bound each number so that rounding gives exactly its levels; even ones are shifted by a half (section 3 of the paper).
        const MARGIN: f64 = 1e-3;
        let half_range = |level: u32| (f64::from(level) - 1.0) * (1.0 - MARGIN) / 2.0;
        let offset = |level: u32| if level.is_multiple_of(2) { 0.5 } else { 0.0 };
        let shift = self.row(latents, |level| (offset(level) / half_range(level)).atanh())?;
        let bounded = latents
            .broadcast_add(&shift)?
            .tanh()?
            .broadcast_mul(&self.row(latents, half_range)?)?;
        let bounded = bounded.broadcast_sub(&self.row(latents, offset)?)?;
        let scale = self.row(latents, |level| 1.0 / f64::from(level / 2))?;
        let rounded = bounded.detach().round()?;
        let straight_through = (&bounded + (rounded - bounded.detach())?)?;
        let vectors = straight_through.broadcast_mul(&scale)?;
        let mut place = 1.0;
        let places: Vec<f32> = self
            .levels
            .iter()
            .map(|&level| {
                let p = place;
                place *= level as f32;
                p
            })
            .collect();
        let places = Tensor::new(places, latents.device())?.to_dtype(latents.dtype())?;
        let tokens = self
            .digits(&vectors.detach())?
            .broadcast_mul(&places)?
            .sum(D::Minus1)?
            .round()?
            .to_dtype(DType::U32)?;
        Ok(Quantized {
            vectors,
            tokens,
            auxiliary_loss: None,
        })
    }

    fn vectors(&self, tokens: &Tensor) -> Result<Tensor> {
        let mut dims = tokens.dims().to_vec();
        dims.push(self.levels.len());
        let vocabulary: u32 = self.levels.iter().product();
        let mut values = Vec::with_capacity(tokens.elem_count() * self.levels.len());
        for token in tokens.flatten_all()?.to_vec1::<u32>()? {
            if token >= vocabulary {
                return Err(outside(token, vocabulary as usize));
            }
            let mut rest = token;
            for &level in &self.levels {
                let half = (level / 2) as f32;
                values.push(((rest % level) as f32 - half) / half);
                rest /= level;
            }
        }
        Ok(Tensor::from_vec(values, dims, tokens.device())?)
    }

    fn revive(&self, _: &[u64], _: &Tensor, _: u64) -> Result<usize> {
        Ok(0)
    }
}

/// Vector quantization with a learned codebook.
struct Vq {
    /// `[V, L]`.
    codebook: Tensor,
}

/// Weight of the commitment term (arXiv 1711.00937, equation 3).
const COMMITMENT: f64 = 0.25;

impl Vq {
    fn new(codes: usize, width: usize, builder: VarBuilder) -> Result<Self> {
        let init = Init::Randn {
            mean: 0.0,
            stdev: 1.0,
        };
        Ok(Self {
            codebook: builder.get_with_hints((codes, width), "codebook", init)?,
        })
    }

    /// The codebook's vectors of tokens, with gradients to the codebook.
    fn look_up(&self, tokens: &Tensor) -> Result<Tensor> {
        let (codes, width) = self.codebook.dims2()?;
        let mut dims = tokens.dims().to_vec();
        dims.push(width);
        let flat = tokens.flatten_all()?;
        if let Some(token) = flat
            .to_vec1::<u32>()?
            .into_iter()
            .find(|&token| token as usize >= codes)
        {
            return Err(outside(token, codes));
        }
        Ok(self.codebook.index_select(&flat, 0)?.reshape(dims)?)
    }
}

impl Quantizer for Vq {
    fn quantize(&self, latents: &Tensor) -> Result<Quantized> {
        let (_, width) = self.codebook.dims2()?;
        let (flat, codebook) = (
            latents.detach().reshape(((), width))?,
            self.codebook.detach(),
        );
        // |x - c|^2 less |x|^2, which is the same for all codes.
        let lengths = codebook.sqr()?.sum(1)?.unsqueeze(0)?;
        let distances = lengths.broadcast_sub(&(flat.matmul(&codebook.t()?)? * 2.0)?)?;
        let dims = &latents.dims()[..latents.rank() - 1];
        let tokens = distances.argmin(1)?.to_dtype(DType::U32)?.reshape(dims)?;
        let chosen = self.look_up(&tokens)?;
        let to_codes = (latents.detach() - &chosen)?.sqr()?.mean_all()?;
        let to_latents = (latents - chosen.detach())?.sqr()?.mean_all()?;
        let vectors = (latents + (chosen.detach() - latents.detach())?)?;
        Ok(Quantized {
            vectors,
            tokens,
            auxiliary_loss: Some((to_codes + (to_latents * COMMITMENT)?)?),
        })
    }

    fn vectors(&self, tokens: &Tensor) -> Result<Tensor> {
        self.look_up(tokens)
    }

    fn revive(&self, usage: &[u64], latents: &Tensor, seed: u64) -> Result<usize> {
        let (codes, width) = self.codebook.dims2()?;
        let latents = latents
            .detach()
            .reshape(((), width))?
            .to_dtype(DType::F32)?
            .to_vec2::<f32>()?;
        if usage.len() != codes || latents.is_empty() {
            return Err(Error::Input(format!(
                "usage of {} codes for a codebook of {codes}",
                usage.len()
            )));
        }
        let mut rows = self.codebook.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let mut random = generator(seed, 0);
        let mut revived = 0;
        for (row, _) in rows.iter_mut().zip(usage).filter(|(_, count)| **count == 0) {
            row.copy_from_slice(&latents[random.random_range(0..latents.len())]);
            revived += 1;
        }
        if revived > 0 {
            let codebook = Tensor::from_vec(rows.concat(), (codes, width), self.codebook.device())?;
            self.codebook
                .slice_set(&codebook.to_dtype(self.codebook.dtype())?, 0, 0)?;
        }
        Ok(revived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Parameters, normal};
    use candle_core::{Device, Var};

    fn configs() -> [QuantizerConfig; 2] {
        [
            QuantizerConfig::Fsq {
                levels: vec![8, 5, 5, 5],
            },
            QuantizerConfig::Vq {
                codes: 32,
                width: 4,
            },
        ]
    }

    fn latents(count: usize) -> Tensor {
        let mut random = generator(5, 0);
        let values: Vec<f32> = (0..count * 4).map(|_| 1.5 * normal(&mut random)).collect();
        Tensor::from_vec(values, (count, 4), &Device::Cpu).unwrap()
    }

    #[test]
    fn tokens_go_to_vectors_and_back() -> Result<()> {
        for config in configs() {
            let quantizer = config.build(Parameters::seeded(1, &Device::Cpu).builder())?;
            let quantized = quantizer.quantize(&latents(300))?;
            let vectors = quantizer.vectors(&quantized.tokens)?;
            let off = (&vectors - &quantized.vectors)?
                .abs()?
                .flatten_all()?
                .max(0)?
                .to_scalar::<f32>()?;
            assert!(off < 1e-5, "{config:?}: {off}");
            assert!(
                quantizer
                    .vectors(&Tensor::new(&[config.vocabulary() as u32], &Device::Cpu)?)
                    .is_err()
            );
        }
        Ok(())
    }

    #[test]
    fn every_fsq_token_is_its_own() -> Result<()> {
        let config = QuantizerConfig::Fsq {
            levels: vec![8, 5, 5, 5],
        };
        let quantizer = config.build(Parameters::seeded(1, &Device::Cpu).builder())?;
        let all = Tensor::arange(0u32, config.vocabulary() as u32, &Device::Cpu)?;
        let vectors = quantizer.vectors(&all)?;
        // Latents that, bounded by tanh, land on the vectors again.
        let half = Tensor::new(&[3.5f32, 2.0, 2.0, 2.0], &Device::Cpu)?;
        let levels = Tensor::new(&[4f32, 2.0, 2.0, 2.0], &Device::Cpu)?;
        let offset = Tensor::new(&[0.5f32, 0.0, 0.0, 0.0], &Device::Cpu)?;
        let bounded = vectors
            .broadcast_mul(&levels)?
            .broadcast_add(&offset)?
            .broadcast_div(&half)?;
        let bounded = bounded.clamp(-0.998, 0.998)?;
        let atanh = ((((&bounded + 1.0)? / (1.0 - &bounded)?)?.log()?) * 0.5)?;
        let shift = Tensor::new(&[(0.5f32 / 3.4965).atanh(), 0.0, 0.0, 0.0], &Device::Cpu)?;
        let tokens = quantizer.quantize(&atanh.broadcast_sub(&shift)?)?.tokens;
        assert_eq!(tokens.to_vec1::<u32>()?, all.to_vec1::<u32>()?);
        Ok(())
    }

    #[test]
    fn every_vq_token_is_its_own() -> Result<()> {
        let config = QuantizerConfig::Vq {
            codes: 32,
            width: 4,
        };
        let quantizer = config.build(Parameters::seeded(1, &Device::Cpu).builder())?;
        let all = Tensor::arange(0u32, 32, &Device::Cpu)?;
        let vectors = quantizer.vectors(&all)?;
        assert_eq!(
            quantizer.quantize(&vectors)?.tokens.to_vec1::<u32>()?,
            all.to_vec1::<u32>()?
        );
        // Near a code is still that code; the other codes are further away than this.
        let near = quantizer.quantize(&(vectors + 0.01)?)?;
        assert_eq!(near.tokens.to_vec1::<u32>()?, all.to_vec1::<u32>()?);
        Ok(())
    }

    #[test]
    fn gradients_pass_straight_through() -> Result<()> {
        let [fsq, vq] = configs();
        let var = Var::from_tensor(&(latents(50) * 0.2)?)?;
        let quantizer = vq.build(Parameters::seeded(1, &Device::Cpu).builder())?;
        let vectors = quantizer.quantize(var.as_tensor())?.vectors;
        let gradient = vectors
            .sum_all()?
            .backward()?
            .remove(var.as_tensor())
            .unwrap();
        assert!(
            gradient
                .flatten_all()?
                .to_vec1::<f32>()?
                .iter()
                .all(|&g| g == 1.0)
        );
        let quantizer = fsq.build(Parameters::seeded(1, &Device::Cpu).builder())?;
        let vectors = quantizer.quantize(var.as_tensor())?.vectors;
        let gradient = vectors
            .sum_all()?
            .backward()?
            .remove(var.as_tensor())
            .unwrap();
        // Slope of the bounding tanh alone: between 0 and (level - 1) / 2 / (level / 2).
        assert!(
            gradient
                .flatten_all()?
                .to_vec1::<f32>()?
                .iter()
                .all(|&g| g > 0.0 && g <= 1.0)
        );
        Ok(())
    }

    #[test]
    fn dead_codes_are_revived_among_the_latents() -> Result<()> {
        let parameters = Parameters::seeded(1, &Device::Cpu);
        let config = QuantizerConfig::Vq {
            codes: 32,
            width: 4,
        };
        let quantizer = config.build(parameters.builder())?;
        let far = (latents(300) + 50.0)?;
        let before = usage(&quantizer.quantize(&far)?.tokens, 32)?;
        assert!(before.iter().filter(|&&count| count > 0).count() <= 4);
        let dead = before.iter().filter(|&&count| count == 0).count();
        assert_eq!(quantizer.revive(&before, &far, 3)?, dead);
        let after = usage(&quantizer.quantize(&far)?.tokens, 32)?;
        assert!(
            after.iter().filter(|&&count| count > 0).count() >= 24,
            "{after:?}"
        );
        Ok(())
    }

    #[test]
    fn codebook_loss_pulls_codes_and_latents_together() -> Result<()> {
        let parameters = Parameters::seeded(1, &Device::Cpu);
        let quantizer = QuantizerConfig::Vq { codes: 4, width: 4 }.build(parameters.builder())?;
        let var = Var::from_tensor(&latents(20))?;
        let loss = quantizer.quantize(var.as_tensor())?.auxiliary_loss.unwrap();
        let gradients = loss.backward()?;
        assert!(gradients.get(var.as_tensor()).is_some());
        assert!(
            gradients
                .get(parameters.variables()["codebook"].as_tensor())
                .is_some()
        );
        Ok(())
    }
}
