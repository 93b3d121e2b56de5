//! MaskGIT sampling (arXiv 2202.04200): a frame's tokens are decided in a few parallel steps, the surest first.
//!
//! Two things are done otherwise than there, because most tokens of a frame are as good as known (the forecast shows them), and what matters is
//! the few that are open:
//!
//! - A position is *sure* by its likeliest token, whatever was drawn. MaskGIT asks how likely the drawn token is, so that what changes seldom is
//!   drawn anew until it does not change: whatever is slow would stand still.
//! - A step ends where it has used up its share of the frame's *doubt* (as in arXiv 2505.24857, with entropy), not after a count of tokens that
//!   is fixed: what is known is decided at once, and the steps are spent on what depends on one another.
//!
//! A frame's luck is drawn before it is looked at, a number for each token at each position. So frames of the same luck differ only where what is
//! expected of them does.

use crate::{Dynamics, Forecast};
use nn::kernels::cross_entropy::{largest_and_sum, softmax_row};
use nn::{ActionCode, Error, KvCache, Result};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How a frame's tokens are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerConfig {
    /// At most so many MaskGIT steps; each decides an equal share of what is in doubt.
    pub steps: usize,
    /// Divides the logits; 0 takes the most likely token each time.
    pub temperature: f32,
    /// Tokens are left out that are less likely than this share of the likeliest (min-p, arXiv 2407.01082): what is open stays open, and what is
    /// as good as decided is not spoiled by a long tail. 0 leaves out none.
    pub least_share: f32,
    /// Random noise on how sure the model is of each choice, so that ties and near ties are not always broken alike; fades over the steps.
    pub choice_noise: f32,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self {
            steps: 2,
            temperature: 0.5,
            least_share: 0.1,
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

/// What was drawn for a position that is still masked.
struct Candidate {
    position: usize,
    token: u32,
    /// The probability of the likeliest token here.
    sureness: f32,
    /// Its logarithm with noise: who is decided first.
    rank: f32,
}

impl Candidate {
    fn doubt(&self) -> f32 {
        (1.0 - self.sureness).max(0.0)
    }
}

/// The luck of a position: a number for each token.
#[derive(Clone, Copy)]
struct Luck(u64);

impl Luck {
    /// Where a token's number would stand is the one that decides when the position's turn comes.
    const TURN: u64 = u64::MAX;

    /// Evenly spread between 0 and 1, without either (SplitMix64, Steele et al. 2014, at a place of its sequence).
    fn uniform(self, number: u64) -> f32 {
        let mut bits = self
            .0
            .wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // The largest one would be rounded up to 1.
        (((bits >> 40) as f32 + 0.5) / (1u64 << 24) as f32).min(1.0 - f32::EPSILON / 2.0)
    }

    /// A number from the standard Gumbel distribution.
    fn gumbel(self) -> f32 {
        -(-self.uniform(Self::TURN).ln()).ln()
    }

    /// Draws from those probabilities that are at least `least`, which need not add up to 1: each token arrives after a time from the exponential
    /// distribution of its rate, and the first one wins (the Gumbel-max trick without its logarithms).
    fn draw(self, probabilities: &[f32], least: f32) -> Option<usize> {
        let (mut first, mut winner) = (f32::INFINITY, None);
        for (block, rates) in probabilities.chunks(BLOCK).enumerate() {
            // Without a branch for each: few blocks hold a token that may be drawn.
            if rates.iter().fold(true, |none, &rate| none & (rate < least)) {
                continue;
            }
            for (token, &rate) in rates.iter().enumerate() {
                let token = block * BLOCK + token;
                if rate <= 0.0 || rate < least {
                    continue;
                }
                let uniform = self.uniform(token as u64);
                // -ln(1 - u) is never less than u, which spares nearly all logarithms.
                if uniform < first * rate {
                    let arrival = -(-uniform).ln_1p() / rate;
                    if arrival < first {
                        (first, winner) = (arrival, Some(token));
                    }
                }
            }
        }
        winner
    }
}

/// Tokens that are looked at together before each of them is.
const BLOCK: usize = 16;

/// Draws a token; returns it and the probability of the likeliest one. `logits` is used up.
fn sample(logits: &mut [f32], config: &SamplerConfig, luck: Luck) -> (u32, f32) {
    // As cold as that, the largest logit would be nothing times infinity.
    let cold = config.temperature.recip().is_infinite();
    softmax_row(logits, if cold { 1.0 } else { config.temperature });
    let [largest, kept] = largest_and_sum(logits, config.least_share);
    let drawn = match cold {
        true => None,
        false => luck.draw(logits, config.least_share * largest),
    };
    let best = || logits.iter().position(|&share| share == largest);
    let token = drawn.or_else(best).unwrap_or(0);
    (token as u32, largest / kept)
}

/// How many candidates, first come first, have an equal share of all doubt when `steps` steps are left: one at least, and all in the last step.
fn count_to_decide(candidates: &[Candidate], steps: usize) -> usize {
    if steps == 1 {
        return candidates.len();
    }
    let doubts = || candidates.iter().map(Candidate::doubt);
    let mut left = doubts().sum::<f32>() / steps as f32;
    let fits = |doubt: f32| {
        left -= doubt;
        left >= 0.0
    };
    doubts().map(fits).take_while(|fits| *fits).count().max(1)
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
    let lucks: Vec<Luck> = (0..tokens).map(|_| Luck(random.random())).collect();
    let mut frame = vec![mask; tokens];
    for steps_left in (1..=config.steps).rev() {
        if !frame.contains(&mask) {
            break;
        }
        predict(&frame, logits)?;
        let vocabulary = logits.len() / tokens;
        let noise = config.choice_noise * (steps_left - 1) as f32 / config.steps as f32;
        let mut candidates = Vec::new();
        for position in (0..tokens).filter(|&position| frame[position] == mask) {
            let row = &mut logits[position * vocabulary..][..vocabulary];
            let (token, sureness) = sample(row, config, lucks[position]);
            let rank = sureness.max(f32::MIN_POSITIVE).ln() + noise * lucks[position].gumbel();
            candidates.push(Candidate {
                position,
                token,
                sureness,
                rank,
            });
        }
        candidates.sort_by(|a, b| b.rank.total_cmp(&a.rank));
        let count = count_to_decide(&candidates, steps_left);
        for decided in &candidates[..count] {
            frame[decided.position] = decided.token;
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
    fn a_step_decides_its_share_of_the_doubt() {
        let doubts = [0.0, 0.0, 0.125, 0.375, 0.5];
        let candidates = doubts.map(|doubt| Candidate {
            position: 0,
            token: 0,
            sureness: 1.0 - doubt,
            rank: 0.0,
        });
        let counts = [1, 2, 4, 9].map(|steps| count_to_decide(&candidates, steps));
        assert_eq!(counts, [5, 4, 3, 2]);
        assert_eq!(count_to_decide(&candidates[4..], 2), 1);
        assert_eq!(count_to_decide(&candidates[..2], 8), 2);
    }

    #[test]
    fn what_is_known_is_decided_at_once() -> Result<()> {
        let mut predictions = 0;
        let config = SamplerConfig {
            steps: 8,
            ..SamplerConfig::default()
        };
        let mut random = generator(1, 0);
        let frame = decide(20, 2, &config, &mut random, &mut Vec::new(), |_, out| {
            predictions += 1;
            *out = [0.0, 200.0].repeat(20);
            Ok(())
        })?;
        assert_eq!((predictions, frame), (1, vec![1; 20]));
        Ok(())
    }

    #[test]
    fn what_changes_seldom_changes_as_often_as_predicted() -> Result<()> {
        for steps in [1, 2, 4, 8] {
            let config = SamplerConfig {
                steps,
                temperature: 1.0,
                ..SamplerConfig::default()
            };
            let mut changes = 0;
            for seed in 0..200 {
                let mut random = generator(seed, 0);
                let frame = decide(20, 2, &config, &mut random, &mut Vec::new(), |_, out| {
                    *out = [0.9f32, 0.1].map(f32::ln).repeat(20);
                    Ok(())
                })?;
                changes += frame.iter().sum::<u32>();
            }
            let share = f64::from(changes) / 4000.0;
            assert!((share - 0.1).abs() < 0.02, "{share} in {steps} steps");
        }
        Ok(())
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
    fn frames_of_the_same_luck_differ_where_other_things_are_expected() -> Result<()> {
        let config = SamplerConfig {
            temperature: 1.0,
            ..SamplerConfig::default()
        };
        let frame = |change: f32| {
            let mut random = generator(1, 0);
            decide(300, 5, &config, &mut random, &mut Vec::new(), |_, out| {
                *out = [0.0, 0.3, 0.2, 0.1, 0.4].repeat(300);
                // Of the first half of all positions.
                out[..750].iter_mut().step_by(5).for_each(|x| *x += change);
                Ok(())
            })
        };
        let differing = |a: &[u32], b: &[u32]| a.iter().zip(b).filter(|(a, b)| a != b).count();
        let (before, little, much) = (frame(0.0)?, frame(0.1)?, frame(9.0)?);
        assert_eq!(before[150..], little[150..]);
        assert_eq!(before[150..], much[150..]);
        // As many as became another token by the change of its probability, and not more.
        let few = differing(&before, &little);
        assert!((1..15).contains(&few), "{few}");
        assert!(differing(&before, &much) > 100);
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
                least_share: 0.0,
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
