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
    /// Tokens are left out that are less likely than this share of the likeliest (min-p, arXiv 2407.01082): what is open stays open, and what is
    /// as good as decided is not spoiled by a long tail. 0 leaves out none.
    pub least_share: f32,
    /// MaskGIT's cosine is raised to this power. Above 1 the first step decides more, and the others are left for what is unsure: a forecast
    /// makes most tokens of a frame sure at once.
    pub mask_power: f32,
    /// Random noise on how sure the model is of each choice, so that ties and near ties are not always broken alike; fades over the steps.
    pub choice_noise: f32,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self {
            steps: 2,
            temperature: 0.7,
            least_share: 0.0,
            mask_power: 1.0,
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
        for (field, value, most) in [
            ("temperature", self.temperature, 100.0),
            ("least_share", self.least_share, 1.0),
            ("mask_power", self.mask_power, 100.0),
            ("choice_noise", self.choice_noise, 100.0),
        ] {
            if !(0.0..=most).contains(&value) {
                return Err(Error::config(
                    field,
                    value,
                    format!("must lie in 0..={most}"),
                ));
            }
        }
        Ok(())
    }
}

/// How many of `tokens` are still masked after each of `steps` steps: a cosine to some power, falling with every step as long as there are
/// tokens for it, 0 at the end.
pub fn mask_counts(tokens: usize, steps: usize, power: f32) -> Vec<usize> {
    let mut left = tokens;
    let count = |step: usize| {
        let cosine = (std::f64::consts::FRAC_PI_2 * step as f64 / steps as f64).cos();
        let share = cosine.powf(f64::from(power));
        left = ((tokens as f64 * share) as usize).min(left.saturating_sub(1));
        if step == steps { 0 } else { left }
    };
    (1..=steps).map(count).collect()
}

/// A sampled token and the logarithm of its probability. `logits` is used up.
fn sample(logits: &mut [f32], config: &SamplerConfig, random: &mut ChaCha8Rng) -> (u32, f32) {
    let most_likely = |values: &[f32]| {
        let best = values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        best.map_or(0, |(index, _)| index)
    };
    if config.temperature == 0.0 {
        let token = most_likely(logits);
        softmax_row(logits, 1.0);
        return (token as u32, logits[token].max(f32::MIN_POSITIVE).ln());
    }
    softmax_row(logits, config.temperature);
    let kept = leave_out_the_tail(logits, config.least_share);
    let mut left = random.random::<f32>() * kept;
    let chosen = logits.iter().position(|&probability| {
        left -= probability;
        left < 0.0
    });
    // Rounding may leave a remainder after the last token.
    let token = chosen.unwrap_or_else(|| most_likely(logits));
    (token as u32, logits[token].max(f32::MIN_POSITIVE).ln())
}

/// Sets probabilities below a share of the largest to 0; returns the sum of the others.
fn leave_out_the_tail(probabilities: &mut [f32], least_share: f32) -> f32 {
    if least_share == 0.0 {
        return 1.0;
    }
    let largest = probabilities.iter().copied().fold(0.0, f32::max);
    let mut kept = 0.0;
    for probability in probabilities.iter_mut() {
        if *probability < largest * least_share {
            *probability = 0.0;
        }
        kept += *probability;
    }
    kept
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
    for (step, keep_masked) in mask_counts(tokens, config.steps, config.mask_power)
        .into_iter()
        .enumerate()
    {
        if !frame.contains(&mask) {
            break;
        }
        predict(&frame, logits)?;
        let vocabulary = logits.len() / tokens;
        let noise = config.choice_noise * (1.0 - (step + 1) as f32 / config.steps as f32);
        let mut candidates = Vec::new();
        for position in (0..tokens).filter(|&position| frame[position] == mask) {
            let row = &mut logits[position * vocabulary..][..vocabulary];
            let (token, confidence) = sample(row, config, random);
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
                for power in [0.5, 1.0, 4.0] {
                    let counts = mask_counts(tokens, steps, power);
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
        assert_eq!(mask_counts(64, 3, 1.0), [55, 32, 0]);
        assert_eq!(mask_counts(64, 3, 4.0), [36, 4, 0]);
    }

    #[test]
    fn the_tail_is_left_out_and_the_rest_keeps_its_shares() -> Result<()> {
        // Shares of 0.64, 0.32 and 0.04.
        let shares = |least_share: f32| -> Result<[u32; 3]> {
            let config = SamplerConfig {
                steps: 1,
                temperature: 1.0,
                least_share,
                ..SamplerConfig::default()
            };
            let mut counts = [0; 3];
            for seed in 0..40 {
                let frame = decide(
                    100,
                    3,
                    &config,
                    &mut generator(seed, 0),
                    &mut Vec::new(),
                    |_, out| {
                        *out = [0.64f32, 0.32, 0.04].map(f32::ln).repeat(100);
                        Ok(())
                    },
                )?;
                frame.iter().for_each(|&token| counts[token as usize] += 1);
            }
            Ok(counts)
        };
        let close = |count: u32, share: f64| (f64::from(count) / 4000.0 - share).abs() < 0.03;
        let (all, two, one) = (shares(0.0)?, shares(0.4)?, shares(0.6)?);
        assert!(close(all[0], 0.64) && close(all[2], 0.04), "{all:?}");
        assert!(close(two[0], 2.0 / 3.0) && two[2] == 0, "{two:?}");
        assert_eq!(one, [4000, 0, 0]);
        Ok(())
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
