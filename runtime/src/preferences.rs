//! What a player may say about how a world is played. Said on the command line it wins over what was set for this world before, and that over
//! `settings.ron`; the world decides the rest.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use worlds::{RolloutSettings, Strength, WorldManifest};

/// Speeds that play can have.
pub(crate) const SPEEDS: std::ops::RangeInclusive<f64> = 0.1..=10.0;

/// What a player may say about how a world is played; `None` where nothing was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preferences {
    /// How much a wish weighs against the action prior, in nats; infinite for plain orders.
    pub strength: Option<f32>,
    /// MaskGIT steps a frame.
    pub steps: Option<usize>,
    /// Sampling temperature.
    pub temperature: Option<f32>,
    /// Speed of play; 1 is the world's own.
    pub speed: Option<f64>,
}

impl Preferences {
    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What was said here, and for the rest what was said there.
    pub fn or(self, other: Self) -> Self {
        Self {
            strength: self.strength.or(other.strength),
            steps: self.steps.or(other.steps),
            temperature: self.temperature.or(other.temperature),
            speed: self.speed.or(other.speed),
        }
    }

    /// As far as a world allows it: MaskGIT steps become the nearest that it is made for. What is meant for all worlds cannot fit each of them.
    pub fn within(self, manifest: &WorldManifest) -> Self {
        let range = manifest.maskgit_steps;
        let allowed = |steps: usize| steps.clamp(range.least, range.most);
        Self {
            steps: self.steps.map(allowed),
            ..self
        }
    }

    /// The settings for a world.
    ///
    /// # Errors
    /// When the world does not allow them, or the speed is none that play can have.
    pub fn settings(&self, manifest: &WorldManifest, seed: u64) -> Result<RolloutSettings> {
        let mut settings = RolloutSettings::of(manifest, seed);
        if let Some(strength) = self.strength {
            settings.strength = strength_of(strength);
        }
        if let Some(steps) = self.steps {
            settings.sampler.steps = steps;
        }
        if let Some(temperature) = self.temperature {
            settings.sampler.temperature = temperature;
        }
        settings.validate(manifest)?;
        match SPEEDS.contains(&self.speed()) {
            true => Ok(settings),
            false => Err(Error::Speed(self.speed())),
        }
    }

    /// Times the world's own rate.
    pub fn speed(&self) -> f64 {
        self.speed.unwrap_or(1.0)
    }

    /// Takes in that the player changed `before` to `after`. What is now as `usual`, which holds where nothing is said, is said no longer.
    pub fn change(
        &mut self,
        before: &RolloutSettings,
        after: &RolloutSettings,
        usual: &RolloutSettings,
    ) {
        if after.strength != before.strength {
            let nats = match after.strength {
                Strength::Wish(nats) => nats,
                Strength::Order => f32::INFINITY,
            };
            self.strength = (after.strength != usual.strength).then_some(nats);
        }
        let (is, was, usual) = (after.sampler, before.sampler, usual.sampler);
        if is.steps != was.steps {
            self.steps = (is.steps != usual.steps).then_some(is.steps);
        }
        if is.temperature != was.temperature {
            self.temperature = (is.temperature != usual.temperature).then_some(is.temperature);
        }
    }
}

fn strength_of(nats: f32) -> Strength {
    match nats == f32::INFINITY {
        true => Strength::Order,
        false => Strength::Wish(nats),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> WorldManifest {
        worlds::tiny_contents(1).unwrap().manifest
    }

    #[test]
    fn preferences_change_the_worlds_settings() {
        let manifest = manifest();
        let settings = |preferences: Preferences| preferences.settings(&manifest, 3);
        let plain = settings(Preferences::default()).unwrap();
        assert_eq!(plain, RolloutSettings::of(&manifest, 3));
        let strength = |strength| Preferences {
            strength: Some(strength),
            ..Preferences::default()
        };
        let wish = settings(strength(0.5)).unwrap().strength;
        assert_eq!(wish, Strength::Wish(0.5));
        let order = settings(strength(f32::INFINITY)).unwrap().strength;
        assert_eq!(order, Strength::Order);
        assert!(settings(strength(f32::NAN)).is_err());
        let quick = Preferences {
            steps: Some(1),
            temperature: Some(0.0),
            ..Preferences::default()
        };
        let sampler = settings(quick).unwrap().sampler;
        assert_eq!((sampler.steps, sampler.temperature), (1, 0.0));
        let refused = |preferences: Preferences, part: &str| {
            let told = settings(preferences).unwrap_err().to_string();
            assert!(told.contains(part), "{told}");
        };
        let slow = Preferences {
            steps: Some(60),
            ..Preferences::default()
        };
        refused(slow, "60 MaskGIT steps");
        let most = manifest.maskgit_steps.most;
        let allowed = slow.within(&manifest);
        assert_eq!(allowed.steps, Some(most));
        assert_eq!(settings(allowed).unwrap().sampler.steps, most);
        assert_eq!(quick.within(&manifest), quick);
        assert!(Preferences::default().within(&manifest).is_empty());
        let fast = Preferences {
            speed: Some(99.0),
            ..Preferences::default()
        };
        refused(fast, "99");
    }

    #[test]
    fn what_was_said_first_wins() {
        let first = Preferences {
            steps: Some(1),
            ..Preferences::default()
        };
        let second = Preferences {
            steps: Some(2),
            speed: Some(0.5),
            ..Preferences::default()
        };
        let both = first.or(second);
        assert_eq!((both.steps, both.speed), (Some(1), Some(0.5)));
        assert_eq!((both.temperature, both.strength), (None, None));
    }

    #[test]
    fn only_what_was_changed_is_said_and_the_usual_is_not() {
        let usual = RolloutSettings::of(&manifest(), 1);
        // Started with orders from the command line, which the player leaves as they are.
        let before = RolloutSettings {
            strength: Strength::Order,
            ..usual
        };
        let mut warm = before;
        warm.sampler.temperature = 1.7;
        let mut said = Preferences::default();
        said.change(&before, &warm, &usual);
        let expected = Preferences {
            temperature: Some(1.7),
            ..Preferences::default()
        };
        assert_eq!(said, expected);
        said.change(&warm, &before, &usual);
        assert!(said.is_empty());
        said.change(&usual, &before, &usual);
        assert_eq!(said.strength, Some(f32::INFINITY));
        assert_eq!(strength_of(f32::INFINITY), Strength::Order);
        said.change(&before, &usual, &usual);
        assert!(said.is_empty());
    }
}
