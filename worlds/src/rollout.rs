//! The loop that play, replay and evaluation share: one wish in, one frame out.

use crate::error::{Error, Result};
use crate::{Frame, Snapshot, Wish, World, WorldManifest};
use dynamics::{SamplerConfig, Strength, choose_code};
use nn::ActionCode;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Most frames in a prompt.
pub const LONGEST_PROMPT: usize = 256;

/// How a rollout is run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutSettings {
    /// Everything random follows from it: one seed, one prompt and the same wishes give the same frames.
    pub seed: u64,
    /// How frames are sampled.
    pub sampler: SamplerConfig,
    /// How much a wish weighs against the action prior.
    pub strength: Strength,
}

impl RolloutSettings {
    /// The world's own settings.
    pub fn of(manifest: &WorldManifest, seed: u64) -> Self {
        Self {
            seed,
            sampler: manifest.sampler,
            strength: manifest.strength,
        }
    }

    /// Checks that a world can be played this way.
    ///
    /// # Errors
    /// Says what the world does not allow.
    pub fn validate(&self, manifest: &WorldManifest) -> Result<()> {
        self.sampler.validate()?;
        self.strength.validate()?;
        let range = manifest.maskgit_steps;
        if !(range.least..=range.most).contains(&self.sampler.steps) {
            return Err(Error::Settings(format!(
                "{} MaskGIT steps a frame, but this world is made for {} to {}",
                self.sampler.steps, range.least, range.most
            )));
        }
        Ok(())
    }
}

/// One frame of play.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Number of the frame; the prompt's first is 0.
    pub number: u64,
    /// The code of the change that led to it.
    pub code: ActionCode,
    /// Its tokens, `N` of them.
    pub tokens: Vec<u32>,
    /// The picture.
    pub frame: Frame,
}

/// A world in motion. It owns the caches; the cost of a frame does not depend on how many there were before.
pub struct Rollout {
    world: Arc<World>,
    settings: RolloutSettings,
    state: Snapshot,
}

impl Rollout {
    /// Starts a world from a prompt of one or more frames. The codes of the changes within it are inferred by the latent action model.
    ///
    /// # Errors
    /// When the prompt is empty, too long or of another size, or the settings are not for this world.
    pub fn start(world: Arc<World>, prompt: &[Frame], settings: RolloutSettings) -> Result<Self> {
        settings.validate(&world.manifest)?;
        if prompt.is_empty() || prompt.len() > LONGEST_PROMPT {
            return Err(Error::Settings(format!(
                "a prompt of {} frames; 1 to {LONGEST_PROMPT} can start a world",
                prompt.len()
            )));
        }
        let size = world.manifest.frame;
        if let Some(other) = prompt.iter().find(|frame| frame.size() != size) {
            return Err(Error::FrameSize {
                got: other.size().to_string(),
                expected: size.to_string(),
            });
        }
        let clip = Frame::clip(prompt, &world.device)?;
        let codes = world.latent_actions.transitions(&clip)?;
        let mut state = Snapshot::empty(&world);
        for number in 0..prompt.len() {
            let frame = clip.narrow(1, number, 1)?.contiguous()?;
            let tokens = world.tokenizer.encode_next(&frame, &mut state.stream)?;
            let tokens = tokens.flatten_all()?.to_vec1::<u32>()?;
            state.take(&world, codes.into_frame(number), &tokens)?;
        }
        Ok(Self {
            world,
            settings,
            state,
        })
    }

    /// Goes on from a snapshot of the same world.
    ///
    /// # Errors
    /// When the settings are not for this world.
    pub fn resume(
        world: Arc<World>,
        snapshot: &Snapshot,
        settings: RolloutSettings,
    ) -> Result<Self> {
        settings.validate(&world.manifest)?;
        Ok(Self {
            world,
            settings,
            state: snapshot.clone(),
        })
    }

    /// The world that is running.
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// How it is run.
    pub fn settings(&self) -> &RolloutSettings {
        &self.settings
    }

    /// Runs it another way from the next frame on.
    ///
    /// # Errors
    /// When the settings are not for this world; then the old ones stay.
    pub fn change(&mut self, settings: RolloutSettings) -> Result<()> {
        settings.validate(&self.world.manifest)?;
        self.settings = settings;
        Ok(())
    }

    /// Frames so far, the prompt's included: the number of the next frame.
    pub fn frames(&self) -> u64 {
        self.state.frames
    }

    /// Probabilities of the code of the next change, `K` of them, before any wish.
    pub fn prior(&self) -> &[f32] {
        &self.state.prior
    }

    /// The newest frame, as the tokenizer decodes it.
    ///
    /// # Errors
    /// When the picture is not of the world's size.
    pub fn frame(&self) -> Result<Frame> {
        self.state.frame(&self.world)
    }

    /// The code that comes of a wish in the next frame; asking does not change anything.
    ///
    /// # Errors
    /// When the world does not have a code that is wished for.
    pub fn choose(&self, wish: &Wish) -> Result<ActionCode> {
        let mut random = self.random(Purpose::Code);
        let Snapshot { codes, .. } = &self.state;
        let manifest = &self.world.manifest;
        let mut logits = self.state.prior_logits.to_vec();
        let mut possible = wish.clone();
        if let Strength::Wish(_) = self.settings.strength {
            possible = wish.without_what_has_ended(codes, &manifest.lasts);
            for (code, logit) in (0..).map(ActionCode).zip(&mut logits) {
                // What has ended is still asked for: it may go on, if the prior says so.
                let unasked = !possible.is_none() && !wish.codes().contains(&code);
                if unasked && manifest.waits_for_a_wish(code, codes.last().copied()) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        Ok(choose_code(
            &logits,
            possible.codes(),
            self.settings.strength,
            &manifest.weights,
            &mut random,
        )?)
    }

    /// Makes the next frame under a wish.
    ///
    /// # Errors
    /// As for [`Self::choose`] and [`Self::step_with_code`].
    pub fn step(&mut self, wish: &Wish) -> Result<Step> {
        self.step_with_code(self.choose(wish)?)
    }

    /// Makes the next frame under a code, as replay does: the frame is the one that [`Self::step`] makes when this code comes of the wish.
    ///
    /// # Errors
    /// When the world does not have the code, or its weights lead to numbers that are not finite.
    pub fn step_with_code(&mut self, code: ActionCode) -> Result<Step> {
        let world = &self.world;
        let tokens = world.engine()?.generate(
            world,
            &self.state.cache,
            &self.state.picture,
            code,
            &self.settings.sampler,
            &mut self.luck(code),
        )?;
        self.step_with_tokens(code, tokens)
    }

    /// Shows a frame that was made before: its tokens, and the code that led to it.
    ///
    /// # Errors
    /// When the world does not have the code or a token, or its weights lead to numbers that are not finite.
    pub fn step_with_tokens(&mut self, code: ActionCode, tokens: Vec<u32>) -> Result<Step> {
        // Only a frame that was made completely becomes part of the past.
        let mut next = self.state.clone();
        next.take(&self.world, Some(code), &tokens)?;
        let frame = next.frame(&self.world)?;
        let number = self.state.frames;
        self.state = next;
        Ok(Step {
            number,
            code,
            tokens,
            frame,
        })
    }

    /// A point to which [`Self::restore`] can go back.
    pub fn snapshot(&self) -> Snapshot {
        self.state.clone()
    }

    /// Goes back, or sideways, to a snapshot of the same world. The same wishes lead to the same frames again.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        self.state = snapshot.clone();
    }

    /// What the next frame's tokens are drawn with. It stays the same for as long as nothing is done: what stands then stands still, whereas
    /// luck of its own for each frame would have something flicker in each.
    fn luck(&self, code: ActionCode) -> ChaCha8Rng {
        match self.world.manifest.idle == Some(code) {
            true => nn::generator(self.settings.seed, u64::MAX),
            false => self.random(Purpose::Tokens),
        }
    }

    /// A generator that depends on the seed, the frame and the purpose alone, so that there is no generator state to keep.
    fn random(&self, purpose: Purpose) -> ChaCha8Rng {
        let stream = self.state.frames.wrapping_mul(2) + purpose as u64;
        nn::generator(self.settings.seed, stream)
    }
}

/// What random numbers are drawn for.
#[derive(Clone, Copy)]
enum Purpose {
    Code = 0,
    Tokens = 1,
}

#[cfg(test)]
mod tests;
