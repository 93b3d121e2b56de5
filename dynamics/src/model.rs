//! The dynamics' layers, its training pass over two streams, and its streaming form.

use crate::DynamicsConfig;
use candle_core::{DType, Device, Tensor};
use candle_nn::{Init, VarBuilder};
use nn::{
    ActionCode, Error, KvCache, Result, SpaceTimeTransformer, centred_patches_of, linear_weight,
    ops,
};

/// Guesses of frames, made from the frame before each and the action alone.
#[derive(Clone)]
pub struct Forecast {
    /// Pixels 0..1, `[B, C, H, W, 3]` for `C` guessed frames.
    pub pixels: Tensor,
    /// The tokenizer's pre-quantisation latents of them, `[B, C, N, L]`.
    pub latents: Tensor,
}

/// A batch for [`Dynamics::training_pass`]: the `C` changes of each clip of `C + 1` frames. Entry `i` of all is of the change from frame `i` to
/// frame `i + 1`.
pub struct TrainingClip {
    /// The frames before, u32 `[B, C, N]`: the past as play would have it, perhaps with some tokens corrupted.
    pub clean: Tensor,
    /// The frames after, with undecided tokens set to [`DynamicsConfig::mask_token`], u32 `[B, C, N]`.
    pub masked: Tensor,
    /// Action codes, u32 `[B, C]`.
    pub actions: Tensor,
    /// Guesses of the frames after, `[B, C, ..]`. Needed exactly where the model is built for one.
    pub forecast: Option<Forecast>,
}

/// What [`Dynamics::training_pass`] gives.
pub struct TrainingPass {
    /// Logits of the tokens of each change's frame after, `[B, C, N, V]`.
    pub logits: Tensor,
    /// Logits of the action prior `[B, C, K]`: of each change, from the frames up to its first and the actions before.
    pub prior_logits: Tensor,
}

/// The dynamics model.
pub struct Dynamics {
    pub(crate) config: DynamicsConfig,
    /// The quantizer's vector of each token, and zeros for the mask, `[V + 1, L]`.
    vectors: Tensor,
    pub(crate) tokens: Tensor,
    vector: Tensor,
    pub(crate) actions: Tensor,
    pub(crate) position: Tensor,
    pub(crate) forecast: Option<ForecastInput>,
    pub(crate) transformer: SpaceTimeTransformer,
    pub(crate) norm: Tensor,
    pub(crate) output: Tensor,
    pub(crate) output_bias: Tensor,
    pub(crate) prior_norm: Tensor,
    pub(crate) prior_hidden: Tensor,
    pub(crate) prior_output: Tensor,
}

/// Linear maps of a forecast's pixels and latents to the model's width.
pub(crate) struct ForecastInput {
    pub(crate) pixels: Tensor,
    pub(crate) latents: Tensor,
}

impl Dynamics {
    /// Builds the model from its weights and the quantizer's vectors of all tokens, `[V, L]`.
    ///
    /// # Errors
    /// When the configuration is out of range or weights or vectors do not fit it.
    pub fn new(
        config: &DynamicsConfig,
        token_vectors: &Tensor,
        builder: VarBuilder,
    ) -> Result<Self> {
        config.validate()?;
        let DynamicsConfig {
            vocabulary,
            latent_width,
            codes,
            width,
            patch,
            ..
        } = *config;
        if token_vectors.dims() != [vocabulary, latent_width] {
            let expected = format!("{vocabulary} vectors of {latent_width}");
            return Err(Error::Input(format!(
                "{expected} expected, got {:?}",
                token_vectors.shape()
            )));
        }
        let mask = Tensor::zeros((1, latent_width), DType::F32, token_vectors.device())?;
        let table = Init::Randn {
            mean: 0.0,
            stdev: 0.5,
        };
        let forecast = match config.forecast {
            true => Some(ForecastInput {
                pixels: linear_weight(&builder, "forecast_pixels", width, patch * patch * 3, 1.0)?,
                latents: linear_weight(&builder, "forecast_latents", width, latent_width, 1.0)?,
            }),
            false => None,
        };
        Ok(Self {
            config: config.clone(),
            vectors: Tensor::cat(&[&token_vectors.detach(), &mask], 0)?,
            tokens: builder.get_with_hints((vocabulary + 1, width), "tokens", table)?,
            vector: linear_weight(&builder, "vector", width, latent_width, 1.0)?,
            actions: builder.get_with_hints((codes + 1, width), "actions", table)?,
            position: builder.get_with_hints(
                (config.tokens_per_frame() + 1, width),
                "position",
                table,
            )?,
            forecast,
            transformer: SpaceTimeTransformer::new(&config.transformer(), builder.pp("blocks"))?,
            norm: builder.get_with_hints(width, "norm", Init::Const(1.0))?,
            output: linear_weight(&builder, "output", vocabulary, width, 1.0)?,
            output_bias: builder.get_with_hints(vocabulary, "output_bias", Init::Const(0.0))?,
            prior_norm: builder.get_with_hints(width, "prior_norm", Init::Const(1.0))?,
            prior_hidden: linear_weight(&builder, "prior_hidden", 2 * width, width, 1.0)?,
            prior_output: linear_weight(&builder, "prior_output", codes, 2 * width, 1.0)?,
        })
    }

    /// What this model was built from.
    pub fn config(&self) -> &DynamicsConfig {
        &self.config
    }

    fn device(&self) -> &Device {
        self.tokens.device()
    }

    /// What each token enters as, and the mask, `[V + 1, D]`.
    pub(crate) fn token_table(&self) -> Result<Tensor> {
        Ok(ops::linear_onto(&self.vectors, &self.vector, &self.tokens)?)
    }

    /// Groups `[B, T, N + 1, D]` of tokens u32 `[B, T, N]` as `table` has them, each led by the action u32 `[B, T]` that led to it (`K` for none), with what
    /// `added` `[B, T, N, D]` puts onto the tokens.
    fn embed(
        &self,
        table: &Tensor,
        tokens: &Tensor,
        actions: &Tensor,
        added: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (batch, frames, count) = tokens.dims3()?;
        let width = self.config.width;
        if count != self.config.tokens_per_frame() || actions.dims() != [batch, frames] {
            let (t, a) = (tokens.shape(), actions.shape());
            return Err(Error::Input(format!(
                "tokens {t:?} with actions {a:?} for {} tokens a frame",
                self.config.tokens_per_frame()
            )));
        }
        let mut token = table
            .index_select(&tokens.flatten_all()?, 0)?
            .reshape((batch, frames, count, width))?;
        if let Some(added) = added {
            token = ops::add(&token, added)?;
        }
        let action = self
            .actions
            .index_select(&actions.flatten_all()?, 0)?
            .reshape((batch, frames, 1, width))?;
        Ok(ops::add_rows(
            &Tensor::cat(&[&action, &token], 2)?,
            &self.position,
        )?)
    }

    /// What a forecast adds to its frames' tokens, `[B, C, N, D]`; `None` where the model has no use for one.
    fn forecast_embedding(&self, forecast: Option<&Forecast>) -> Result<Option<Tensor>> {
        match (&self.forecast, forecast) {
            (Some(input), Some(forecast)) => {
                let patches = centred_patches_of(&forecast.pixels, self.config.patch)?;
                let pixels = ops::linear(&patches, &input.pixels)?;
                Ok(Some(ops::linear_onto(
                    &forecast.latents.contiguous()?,
                    &input.latents,
                    &pixels,
                )?))
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err(Error::Input("this dynamics model needs a forecast".into())),
            (None, Some(_)) => Err(Error::Input("this dynamics model takes no forecast".into())),
        }
    }

    /// Logits `[B, T, N, V]` from the transformer's output where the tokens stand, in `x` `[B, T, N + 1, D]`.
    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let tokens = tokens_of(x)?.contiguous()?;
        let logits = ops::linear(&ops::rms_norm(&tokens, &self.norm)?, &self.output)?;
        Ok(ops::add_rows(&logits, &self.output_bias)?)
    }

    /// Logits `[B, T, K]` of the next action from the transformer's output where the last action stands, which has seen the whole frame
    /// and the past, in `x` `[B, T, N + 1, D]`.
    fn prior_logits(&self, x: &Tensor) -> Result<Tensor> {
        let summary = action_of(x)?.squeeze(2)?.contiguous()?;
        let hidden = ops::linear(
            &ops::rms_norm(&summary, &self.prior_norm)?,
            &self.prior_hidden,
        )?
        .gelu()?;
        Ok(ops::linear(&hidden, &self.prior_output)?)
    }

    /// Both streams over whole clips, as training needs them.
    ///
    /// # Errors
    /// When shapes do not fit, or a forecast is missing or unwanted.
    pub fn training_pass(&self, clip: &TrainingClip) -> Result<TrainingPass> {
        let (batch, changes, _) = clip.clean.dims3()?;
        if changes == 0 || clip.actions.dims() != [batch, changes] {
            return Err(Error::Input(format!(
                "{:?} actions for {changes} changes",
                clip.actions.shape()
            )));
        }
        let start = Tensor::full(self.config.codes as u32, (batch, 1), self.device())?;
        let before = Tensor::cat(&[&start, &clip.actions.narrow(1, 0, changes - 1)?], 1)?;
        let added = self.forecast_embedding(clip.forecast.as_ref())?;
        let table = self.token_table()?;
        let clean = self.embed(&table, &clip.clean, &before, None)?;
        let masked = self.embed(&table, &clip.masked, &clip.actions, added.as_ref())?;
        let both = Tensor::cat(&[&clean, &masked], 0)?;
        // The prior reads the clean frames' actions, the tokens' logits the masked frames' tokens.
        let out = self.transformer.forward_paired(&both, |x| {
            let (clean, masked) = (x.narrow(0, 0, batch)?, x.narrow(0, batch, batch)?);
            Tensor::cat(&[&action_of(&clean)?, &tokens_of(&masked)?], 2)
        })?;
        Ok(TrainingPass {
            logits: self.logits(&out)?,
            prior_logits: self.prior_logits(&out)?,
        })
    }

    /// An empty cache.
    pub fn start(&self) -> KvCache {
        self.transformer.start()
    }

    fn frame(
        &self,
        tokens: &[u32],
        action: Option<ActionCode>,
        forecast: Option<&Tensor>,
    ) -> Result<Tensor> {
        let action = match action {
            Some(ActionCode(code)) if usize::from(code) >= self.config.codes => {
                return Err(Error::Input(format!(
                    "action code {code} of {}",
                    self.config.codes
                )));
            }
            Some(ActionCode(code)) => u32::from(code),
            None => self.config.codes as u32,
        };
        if let Some(token) = tokens
            .iter()
            .find(|&&token| token as usize > self.config.vocabulary)
        {
            return Err(Error::Input(format!(
                "token {token} is not in a codebook of {}",
                self.config.vocabulary
            )));
        }
        let tokens = Tensor::from_slice(tokens, (1, 1, tokens.len()), self.device())?;
        self.embed(
            &self.token_table()?,
            &tokens,
            &Tensor::from_slice(&[action], (1, 1), self.device())?,
            forecast,
        )
    }

    /// Makes a decided frame part of the past: its `N` tokens and the action that led to it (`None` for a first frame). Returns the action
    /// prior's logits `[K]` for the change to the next frame.
    ///
    /// # Errors
    /// When there are more or fewer tokens, or tokens or the action are unknown.
    pub fn commit(
        &self,
        cache: &mut KvCache,
        action: Option<ActionCode>,
        tokens: &[u32],
    ) -> Result<Vec<f32>> {
        let (out, frame) =
            self.transformer
                .step(&self.frame(tokens, action, None)?, None, cache)?;
        cache.push(frame);
        Ok(self.prior_logits(&out)?.flatten_all()?.to_vec1()?)
    }

    /// Logits `[N, V]` of the next frame's tokens, some of `masked` being decided already, others [`DynamicsConfig::mask_token`]. The forecast
    /// is `[1, 1, ..]`.
    ///
    /// # Errors
    /// When shapes do not fit, tokens or the action are unknown, or a forecast is missing or unwanted.
    pub fn predict(
        &self,
        cache: &KvCache,
        action: ActionCode,
        masked: &[u32],
        forecast: Option<&Forecast>,
    ) -> Result<Tensor> {
        let added = self.forecast_embedding(forecast)?;
        let x = self.frame(masked, Some(action), added.as_ref())?;
        let (out, _) = self.transformer.step(&x, None, cache)?;
        Ok(self.logits(&out)?.squeeze(0)?.squeeze(0)?)
    }
}

/// Where each frame's action stands in groups `[B, T, N + 1, D]`: `[B, T, 1, D]`.
fn action_of(groups: &Tensor) -> candle_core::Result<Tensor> {
    groups.narrow(2, 0, 1)
}

/// Where each frame's tokens stand in groups `[B, T, N + 1, D]`: `[B, T, N, D]`.
fn tokens_of(groups: &Tensor) -> candle_core::Result<Tensor> {
    groups.narrow(2, 1, groups.dim(2)? - 1)
}

#[cfg(test)]
mod tests;
