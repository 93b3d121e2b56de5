//! MaskGIT sampling (arXiv 2202.04200): a frame's tokens are decided in a few parallel steps, the surest first.

use crate::{Dynamics, Forecast};
use nn::kernels::cross_entropy::softmax_row;
use nn::{ActionCode, Error, KvCache, Result};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How a frame's tokens are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerConfig {
    /// MaskGIT steps; each decides a share of the tokens.
    pub steps: usize,
    /// Divides the logits; 0 takes the most likely token each time.
    pub temperature: f32,
    /// Random noise on how sure the model is of each choice, so that ties and near ties are not always broken alike; fades over the steps.
    pub choice_noise: f32,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self {
            steps: 2,
            temperature: 0.7,
            choice_noise: 1.0,
        }
    }
}

impl SamplerConfig {
    /// Checks that frames can be sampled this way.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        Error::check_range("steps", self.steps, 1..=64)?;
        for (field, value) in [
            ("temperature", self.temperature),
            ("choice_noise", self.choice_noise),
        ] {
            if !(0.0..=100.0).contains(&value) {
                return Err(Error::config(field, value, "must lie in 0..=100"));
            }
        }
        Ok(())
    }
}

/// How many of `tokens` are still masked after each of `steps` steps: a cosine, falling with every step as long as there are tokens
/// for it, 0 at the end.
pub fn mask_counts(tokens: usize, steps: usize) -> Vec<usize> {
    let mut left = tokens;
    let count = |step: usize| {
        let share = (std::f64::consts::FRAC_PI_2 * step as f64 / steps as f64).cos();
        left = ((tokens as f64 * share) as usize).min(left.saturating_sub(1));
        if step == steps { 0 } else { left }
    };
    (1..=steps).map(count).collect()
}

/// A sampled token and the logarithm of its probability. `logits` is used up.
fn sample(logits: &mut [f32], temperature: f32, random: &mut ChaCha8Rng) -> (u32, f32) {
    let most_likely = |values: &[f32]| {
        let best = values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        best.map_or(0, |(index, _)| index)
    };
    if temperature == 0.0 {
        let token = most_likely(logits);
        softmax_row(logits, 1.0);
        return (token as u32, logits[token].max(f32::MIN_POSITIVE).ln());
    }
    softmax_row(logits, temperature);
    let mut left = random.random::<f32>();
    let chosen = logits.iter().position(|&probability| {
        left -= probability;
        left < 0.0
    });
    // Rounding may leave a remainder after the last token.
    let token = chosen.unwrap_or_else(|| most_likely(logits));
    (token as u32, logits[token].max(f32::MIN_POSITIVE).ln())
}

/// A number from the standard Gumbel distribution.
fn gumbel(random: &mut ChaCha8Rng) -> f32 {
    let uniform = random.random::<f32>().clamp(1e-9, 1.0 - 1e-7);
    -(-uniform.ln()).ln()
}

/// Decides all tokens of a frame: `predict` fills `logits` `[N, V]` for tokens of which some are still `mask`.
pub(crate) fn decide(
    tokens: usize,
    mask: u32,
    config: &SamplerConfig,
    random: &mut ChaCha8Rng,
    logits: &mut Vec<f32>,
    mut predict: impl FnMut(&[u32], &mut Vec<f32>) -> Result<()>,
) -> Result<Vec<u32>> {
    config.validate()?;
    let mut frame = vec![mask; tokens];
    for (step, keep_masked) in mask_counts(tokens, config.steps).into_iter().enumerate() {
        if !frame.contains(&mask) {
            break;
        }
        predict(&frame, logits)?;
        let vocabulary = logits.len() / tokens;
        let noise = config.choice_noise * (1.0 - (step + 1) as f32 / config.steps as f32);
        let mut candidates = Vec::new();
        for position in (0..tokens).filter(|&position| frame[position] == mask) {
            let row = &mut logits[position * vocabulary..][..vocabulary];
            let (token, confidence) = sample(row, config.temperature, random);
            candidates.push((confidence + noise * gumbel(random), position, token));
        }
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
        let decide = candidates.len().saturating_sub(keep_masked);
        for &(_, position, token) in &candidates[..decide] {
            frame[position] = token;
        }
    }
    Ok(frame)
}

impl Dynamics {
    /// The tokens of the next frame after the cached past under `action`, `N` of them; the same generator state gives the same frame.
    ///
    /// # Errors
    /// When the configuration is out of range or shapes do not fit.
    pub fn generate(
        &self,
        cache: &KvCache,
        action: ActionCode,
        forecast: Option<&Forecast>,
        config: &SamplerConfig,
        random: &mut ChaCha8Rng,
    ) -> Result<Vec<u32>> {
        decide(
            self.config().tokens_per_frame(),
            self.config().mask_token(),
            config,
            random,
            &mut Vec::new(),
            |masked, logits| {
                *logits = nn::numbers(&self.predict(cache, action, masked, forecast)?)?;
                Ok(())
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nn::generator;

    /// Logits that prefer token `position % 5` at each position, the more so the later the position.
    fn logits(tokens: usize) -> Vec<f32> {
        (0..tokens * 5)
            .map(|i| {
                if i % 5 == (i / 5) % 5 {
                    1.0 + (i / 5) as f32 * 0.1
                } else {
                    0.0
                }
            })
            .collect()
    }

    fn preferences(_: &[u32], out: &mut Vec<f32>) -> Result<()> {
        *out = logits(20);
        Ok(())
    }

    #[test]
    fn the_schedule_falls_to_zero() {
        for tokens in [1, 2, 7, 64, 256] {
            for steps in 1..=25 {
                let counts = mask_counts(tokens, steps);
                assert_eq!((counts.len(), counts[steps - 1]), (steps, 0));
                let strictly = [tokens]
                    .iter()
                    .chain(&counts)
                    .zip(&counts)
                    .all(|(a, b)| b < a || *b == 0);
                assert!(strictly, "{tokens} tokens in {steps} steps: {counts:?}");
            }
        }
    }

    #[test]
    fn every_token_is_decided_exactly_once() -> Result<()> {
        for steps in [1, 2, 3, 8, 30] {
            let config = SamplerConfig {
                steps,
                ..SamplerConfig::default()
            };
            let mut seen: Vec<Vec<u32>> = Vec::new();
            let last = decide(
                20,
                5,
                &config,
                &mut generator(1, 0),
                &mut Vec::new(),
                |frame, out| {
                    seen.push(frame.to_vec());
                    *out = logits(20);
                    Ok(())
                },
            )?;
            seen.push(last);
            for pair in seen.windows(2) {
                assert!(
                    pair[0]
                        .iter()
                        .zip(&pair[1])
                        .all(|(before, after)| *before == 5 || before == after)
                );
                assert!(
                    pair[1].iter().filter(|&&t| t == 5).count()
                        < pair[0].iter().filter(|&&t| t == 5).count()
                );
            }
            assert!(!seen[seen.len() - 1].contains(&5));
        }
        Ok(())
    }

    #[test]
    fn temperature_sharpens_and_zero_takes_the_most_likely() -> Result<()> {
        let best = |temperature: f32| -> Result<usize> {
            let config = SamplerConfig {
                steps: 1,
                temperature,
                ..SamplerConfig::default()
            };
            let mut hits = 0;
            for seed in 0..200 {
                let frame = decide(
                    20,
                    5,
                    &config,
                    &mut generator(seed, 0),
                    &mut Vec::new(),
                    preferences,
                )?;
                hits += frame
                    .iter()
                    .enumerate()
                    .filter(|&(i, &token)| token as usize == i % 5)
                    .count();
            }
            Ok(hits)
        };
        let (hot, warm, cool, cold) = (best(5.0)?, best(1.0)?, best(0.3)?, best(0.0)?);
        assert!(
            hot < warm && warm < cool && cool < cold,
            "{hot} {warm} {cool} {cold}"
        );
        assert_eq!(cold, 200 * 20);
        // The expected share at temperature 1, from the softmax itself.
        let expected: f64 = (0..20)
            .map(|i| {
                let e = (1.0 + f64::from(i) * 0.1).exp();
                e / (e + 4.0)
            })
            .sum::<f64>()
            * 200.0;
        assert!(
            (warm as f64 - expected).abs() < 0.04 * expected,
            "{warm} of {expected} expected"
        );
        Ok(())
    }

    #[test]
    fn the_same_seed_gives_the_same_frame() -> Result<()> {
        let run = |seed| {
            decide(
                20,
                5,
                &SamplerConfig::default(),
                &mut generator(seed, 0),
                &mut Vec::new(),
                preferences,
            )
        };
        assert_eq!(run(3)?, run(3)?);
        assert_ne!(run(3)?, run(4)?);
        Ok(())
    }

    #[test]
    fn impossible_settings_are_refused() {
        let refused = |config: SamplerConfig| config.validate().unwrap_err().to_string();
        assert!(
            refused(SamplerConfig {
                steps: 0,
                ..SamplerConfig::default()
            })
            .contains("steps = 0")
        );
        assert!(
            refused(SamplerConfig {
                temperature: f32::NAN,
                ..SamplerConfig::default()
            })
            .contains("temperature")
        );
    }
}
