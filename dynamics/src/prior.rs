//! The action prior in play: a key is a wish, not an order.

use nn::kernels::cross_entropy::softmax_row;
use nn::{ActionCode, Error, Result};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How much a wish weighs against the action prior.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Strength {
    /// The bonus, in nats, that wished codes get on the prior. 0 leaves all to the prior.
    Wish(f32),
    /// A wish is carried out whatever the prior says: plain orders, as in Genie.
    Order,
}

impl Strength {
    /// Checks that the bonus is a number from 0 up.
    ///
    /// # Errors
    /// When it is not.
    pub fn validate(&self) -> Result<()> {
        match *self {
            Self::Wish(bonus) if !(0.0..=1e6).contains(&bonus) => {
                Err(Error::config("strength", bonus, "must lie in 0..=1e6"))
            }
            _ => Ok(()),
        }
    }
}

/// Checks the weights of wishes for `codes` action codes, as [`choose_code`] takes them.
///
/// # Errors
/// When there are more than codes, or one does not lie in 0..=10.
pub fn validate_weights(weights: &[f32], codes: usize) -> Result<()> {
    Error::check_range("weights", weights.len(), 0..=codes)?;
    match weights
        .iter()
        .find(|weight| !(0.0..=10.0).contains(*weight))
    {
        Some(weight) => Err(Error::config("weights", weight, "must lie in 0..=10")),
        None => Ok(()),
    }
}

/// Probabilities of the next action code, from the prior's logits `[K]`.
pub fn prior_probabilities(logits: &[f32]) -> Vec<f32> {
    let mut probabilities = logits.to_vec();
    softmax_row(&mut probabilities, 1.0);
    probabilities
}

/// Draws the next action code: `p(code)` is proportional to `prior(code) * exp(strength * weights[code] * [code is wished])`; codes without a weight
/// have 1. With [`Strength::Order`] and a
/// wish, the prior only decides among several wished codes. No wish leaves all to the prior. One number is drawn in every case, so
/// that a seed's sequence does not depend on the wishes.
///
/// # Errors
/// When the prior is empty or a wished code is not below `K`.
pub fn choose_code(
    logits: &[f32],
    wish: &[ActionCode],
    strength: Strength,
    weights: &[f32],
    random: &mut ChaCha8Rng,
) -> Result<ActionCode> {
    strength.validate()?;
    if logits.is_empty() || logits.len() > usize::from(u16::MAX) {
        return Err(Error::Input(format!(
            "an action prior over {} codes",
            logits.len()
        )));
    }
    if let Some(code) = wish.iter().find(|code| usize::from(code.0) >= logits.len()) {
        return Err(Error::Input(format!(
            "wish for action code {code} of {}",
            logits.len()
        )));
    }
    let mut weighted = logits.to_vec();
    for (code, logit) in weighted.iter_mut().enumerate() {
        let wished = wish.contains(&ActionCode(code as u16));
        match strength {
            Strength::Wish(bonus) if wished => {
                *logit += bonus * weights.get(code).copied().unwrap_or(1.0);
            }
            Strength::Order if !wished && !wish.is_empty() => *logit = f32::NEG_INFINITY,
            _ => {}
        }
    }
    let mut left = random.random::<f32>();
    let probabilities = prior_probabilities(&weighted);
    let allowed = |code: &usize| weighted[*code] > f32::NEG_INFINITY;
    let drawn = (0..logits.len()).filter(allowed).find(|&code| {
        left -= probabilities[code];
        left < 0.0
    });
    // Rounding may leave a remainder after the last code.
    let code = drawn
        .or_else(|| (0..logits.len()).rev().find(allowed))
        .unwrap_or(0);
    Ok(ActionCode(code as u16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nn::generator;

    const LOGITS: [f32; 4] = [0.0, 1.0, -1.0, 2.0];

    fn frequencies(wish: &[ActionCode], strength: Strength) -> Vec<f64> {
        let mut counts = vec![0.0; 4];
        let mut random = generator(5, 0);
        for _ in 0..20_000 {
            let code = choose_code(&LOGITS, wish, strength, &[1.0, 1.0, 1.5], &mut random).unwrap();
            counts[usize::from(code.0)] += 1.0 / 20_000.0;
        }
        counts
    }

    fn expected(bonus: [f64; 4]) -> Vec<f64> {
        let weights: Vec<f64> = LOGITS
            .iter()
            .zip(bonus)
            .map(|(&l, b)| (f64::from(l) + b).exp())
            .collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|w| w / sum).collect()
    }

    fn close(a: &[f64], b: &[f64]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.015)
    }

    #[test]
    fn strength_zero_samples_the_prior_whatever_the_wish() {
        for wish in [
            vec![],
            vec![ActionCode(2)],
            vec![ActionCode(0), ActionCode(2)],
        ] {
            assert!(close(
                &frequencies(&wish, Strength::Wish(0.0)),
                &expected([0.0; 4])
            ));
        }
        assert!(close(
            &frequencies(&[], Strength::Order),
            &expected([0.0; 4])
        ));
    }

    #[test]
    fn a_wish_gets_its_weighted_bonus_and_a_chord_gives_it_to_both() {
        assert!(close(
            &frequencies(&[ActionCode(2)], Strength::Wish(2.0)),
            &expected([0.0, 0.0, 3.0, 0.0])
        ));
        let chord = [ActionCode(0), ActionCode(2)];
        assert!(close(
            &frequencies(&chord, Strength::Wish(2.0)),
            &expected([2.0, 0.0, 3.0, 0.0])
        ));
    }

    #[test]
    fn orders_are_carried_out() {
        assert_eq!(
            frequencies(&[ActionCode(2)], Strength::Order)[2].round(),
            1.0
        );
        let both = frequencies(&[ActionCode(0), ActionCode(1)], Strength::Order);
        let share = 1.0 / (1.0 + 1f64.exp());
        assert!(close(&both, &[share, 1.0 - share, 0.0, 0.0]), "{both:?}");
    }

    #[test]
    fn one_seed_gives_one_sequence() {
        let run = |seed| {
            let mut random = generator(seed, 0);
            (0..50)
                .map(|_| choose_code(&LOGITS, &[], Strength::Wish(1.0), &[], &mut random).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn impossible_wishes_are_refused() {
        let mut random = generator(1, 0);
        assert!(choose_code(&LOGITS, &[ActionCode(4)], Strength::Order, &[], &mut random).is_err());
        assert!(choose_code(&LOGITS, &[], Strength::Wish(f32::NAN), &[], &mut random).is_err());
        assert!(choose_code(&[], &[], Strength::Order, &[], &mut random).is_err());
    }
}
