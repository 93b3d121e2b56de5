//! The latent action model's layers: encoder, codes, and the predictor that moves pixels.

use crate::LatentActionConfig;
use crate::bottleneck::{self, Bottleneck, Passed, normalise};
use candle_core::{DType, Tensor};
use candle_nn::{Init, VarBuilder};
use nn::{
    ActionCode, Error, Result, SpaceTimeTransformer, Transitions, centred_patches_of,
    linear_weight, ops, pictures_of,
};
use rand_chacha::ChaCha8Rng;

/// Weight of the absolute error beside the squared error in the loss.
const ABSOLUTE_ERROR_WEIGHT: f32 = 0.1;
/// Pixels of flow for one unit of the predictor's output: about the usual motion between frames.
pub(crate) const FLOW_SCALE: f64 = 4.0;

/// What [`LatentActionModel::loss`] gives.
pub struct Prediction {
    /// The training loss, a scalar.
    pub loss: Tensor,
    /// Predicted frames `[B, T - 2, H, W, 3]`, of frames 2 to T - 1.
    pub frames: Tensor,
}

/// The latent action model.
pub struct LatentActionModel {
    config: LatentActionConfig,
    encoder: Encoder,
    bottleneck: Box<dyn Bottleneck>,
    /// `[K, A]`; all zero until [`LatentActionModel::set_codebook`].
    pub(crate) codebook: Tensor,
    pub(crate) predictor: Predictor,
}

struct Encoder {
    input: Tensor,
    position: Tensor,
    transformer: SpaceTimeTransformer,
    norm: Tensor,
    output: Tensor,
}

pub(crate) struct Predictor {
    pub(crate) input: Tensor,
    pub(crate) action: Tensor,
    pub(crate) position: Tensor,
    pub(crate) transformer: SpaceTimeTransformer,
    pub(crate) norm: Tensor,
    pub(crate) flow: Tensor,
    pub(crate) residual: Tensor,
}

impl LatentActionModel {
    /// Builds the model from its weights.
    ///
    /// # Errors
    /// When the configuration is out of range or weights do not fit it.
    pub fn new(config: &LatentActionConfig, builder: VarBuilder) -> Result<Self> {
        config.validate()?;
        let (bottleneck, codebook) = bottleneck::build(
            config.bottleneck,
            config.codes,
            config.action_width,
            builder.clone(),
        )?;
        Ok(Self {
            config: config.clone(),
            encoder: Encoder::new(config, builder.pp("encoder"))?,
            bottleneck,
            codebook,
            predictor: Predictor::new(config, builder.pp("predictor"))?,
        })
    }

    /// What this model was built from.
    pub fn config(&self) -> &LatentActionConfig {
        &self.config
    }

    fn patches(&self, frames: &Tensor) -> Result<Tensor> {
        let (_, _, height, width, channels) = frames.dims5()?;
        let size = self.config.frame;
        if (height, width, channels) != (size.height, size.width, 3) {
            return Err(Error::Input(format!(
                "frames of {width}x{height} with {channels} colours for a model of {size}"
            )));
        }
        centred_patches_of(frames, self.config.patch)
    }

    /// What happened between frames, as numbers of unit root mean square `[B, T - 1, A]`, from frames `[B, T, H, W, 3]`: entry `i`
    /// describes the change from frame `i` to `i + 1` and is made from frames `i - 1`, `i` and `i + 1` (the first frame stands in for the
    /// one before it).
    ///
    /// # Errors
    /// When the frames are of another size or fewer than two.
    pub fn describe(&self, frames: &Tensor) -> Result<Tensor> {
        let count = frames.dim(1)?;
        if count < 2 {
            return Err(Error::Input("a change needs two frames".into()));
        }
        let patches = self.patches(frames)?;
        let first = patches.narrow(1, 0, 1)?;
        let before = Tensor::cat(&[&first, &patches.narrow(1, 0, count - 2)?], 1)?;
        self.encoder.forward(
            self.config.change_gain,
            &before,
            &patches.narrow(1, 0, count - 1)?,
            &patches.narrow(1, 1, count - 1)?,
        )
    }

    /// Guesses of the frames that follow: `frames` `[B, T, H, W, 3]`, each with an action `[B, T, A]`. Returns `[B, T, H, W, 3]`, not clamped.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn predict(&self, frames: &Tensor, actions: &Tensor) -> Result<Tensor> {
        self.predictor
            .forward(&self.config, frames, &self.patches(frames)?, actions)
    }

    /// One training pass over clips `[B, T, H, W, 3]` of at least three frames: describes the changes from frame 1 on (each has a
    /// frame before it), passes them through the bottleneck and predicts frames 2 to T - 1.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn loss(&self, frames: &Tensor, random: &mut ChaCha8Rng) -> Result<Prediction> {
        let patches = self.patches(frames)?;
        let Passed {
            actions,
            auxiliary_loss,
        } = self
            .bottleneck
            .pass(&self.later_changes(&patches)?, random)?;
        let mut prediction = self.prediction(frames, &patches, &actions)?;
        if let Some(auxiliary) = auxiliary_loss {
            prediction.loss = (prediction.loss + auxiliary)?;
        }
        Ok(prediction)
    }

    /// As [`Self::loss`], with each change replaced by its code: teaches the predictor the frozen codebook; the encoder learns
    /// nothing from it.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn loss_of_codes(&self, frames: &Tensor) -> Result<Prediction> {
        let patches = self.patches(frames)?;
        let codes = self.nearest(&self.later_changes(&patches)?.detach())?;
        self.prediction(frames, &patches, &self.vectors(&codes)?.detach())
    }

    /// The changes from frame 1 on, `[B, T - 2, A]`, from the patches of all frames.
    fn later_changes(&self, patches: &Tensor) -> Result<Tensor> {
        let count = patches.dim(1)?;
        if count < 3 {
            return Err(Error::Input(
                "training on changes needs three frames".into(),
            ));
        }
        let part = |start| patches.narrow(1, start, count - 2);
        self.encoder
            .forward(self.config.change_gain, &part(0)?, &part(1)?, &part(2)?)
    }

    fn prediction(
        &self,
        frames: &Tensor,
        patches: &Tensor,
        actions: &Tensor,
    ) -> Result<Prediction> {
        let changes = frames.dim(1)? - 2;
        let known = |all: &Tensor| all.narrow(1, 1, changes)?.contiguous();
        let (known_frames, known_patches) = (known(frames)?, known(patches)?);
        let predicted =
            self.predictor
                .forward(&self.config, &known_frames, &known_patches, actions)?;
        let target = frames.narrow(1, 2, changes)?;
        Ok(Prediction {
            loss: ops::picture_error(&predicted, &target, ABSOLUTE_ERROR_WEIGHT)?,
            frames: predicted,
        })
    }

    /// Fixes the codes: `centres` `[K, A]`, as [`crate::cluster`] finds them among descriptions.
    ///
    /// # Errors
    /// When the shape does not fit.
    pub fn set_codebook(&self, centres: &Tensor) -> Result<()> {
        if centres.shape() != self.codebook.shape() {
            return Err(Error::Input(format!(
                "codebook {:?} for {:?}",
                centres.shape(),
                self.codebook.shape()
            )));
        }
        Ok(self.codebook.slice_set(&centres.contiguous()?, 0, 0)?)
    }

    /// Gives codes of a quantized bottleneck that `usage` (a count for each) shows as dead a new life near `descriptions` `[.., A]`;
    /// returns how many. Clustered codes cannot die while training and stay as they are.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn revive_dead_codes(
        &self,
        usage: &[u64],
        descriptions: &Tensor,
        seed: u64,
    ) -> Result<usize> {
        self.bottleneck.revive(usage, descriptions, seed)
    }

    /// Whether there are codes yet.
    ///
    /// # Errors
    /// When the codebook cannot be read.
    pub fn has_codebook(&self) -> Result<bool> {
        Ok(self.codebook.sqr()?.sum_all()?.to_scalar::<f32>()? > 0.0)
    }

    /// The codes u32 `[B, T - 1]` of the changes between frames `[B, T, H, W, 3]`.
    ///
    /// # Errors
    /// When the frames are of another size or fewer than two.
    pub fn codes(&self, frames: &Tensor) -> Result<Tensor> {
        self.nearest(&self.describe(frames)?)
    }

    /// The codes of the changes of one clip `[1, T, H, W, 3]`; a single frame has none.
    ///
    /// # Errors
    /// When the frames are of another size or of several clips.
    pub fn transitions(&self, clip: &Tensor) -> Result<Transitions<ActionCode>> {
        let (clips, frames) = (clip.dim(0)?, clip.dim(1)?);
        let codes = match frames {
            0 | 1 => Vec::new(),
            _ => self.codes(clip)?.flatten_all()?.to_vec1::<u32>()?,
        };
        let codes = codes.into_iter().map(|code| ActionCode(code as u16));
        Transitions::new(codes.collect(), frames).ok_or_else(|| {
            Error::Input(format!("{clips} clips of {frames} frames in place of one"))
        })
    }

    /// The nearest code u32 `[..]` of descriptions `[.., A]`.
    ///
    /// # Errors
    /// When the shape does not fit.
    pub fn nearest(&self, actions: &Tensor) -> Result<Tensor> {
        let flat = actions.reshape(((), self.config.action_width))?;
        let lengths = self.codebook.sqr()?.sum(1)?.unsqueeze(0)?;
        let distances = lengths.broadcast_sub(&(flat.matmul(&self.codebook.t()?)? * 2.0)?)?;
        Ok(distances
            .argmin(1)?
            .to_dtype(DType::U32)?
            .reshape(&actions.dims()[..actions.rank() - 1])?)
    }

    /// The actions `[.., A]` that codes u32 `[..]` stand for.
    ///
    /// # Errors
    /// When a code is not below `K`.
    pub fn vectors(&self, codes: &Tensor) -> Result<Tensor> {
        let flat = codes.flatten_all()?;
        if let Some(code) = flat
            .to_vec1::<u32>()?
            .into_iter()
            .find(|&code| code as usize >= self.config.codes)
        {
            return Err(Error::Input(format!(
                "action code {code} of {}",
                self.config.codes
            )));
        }
        let mut dims = codes.dims().to_vec();
        dims.push(self.config.action_width);
        Ok(self.codebook.index_select(&flat, 0)?.reshape(dims)?)
    }

    /// The forecast: a guess `[B, H, W, 3]` (0..1) of the frames that follow `frames` `[B, H, W, 3]` under `codes` u32 `[B]`. It depends on
    /// these frames and codes alone.
    ///
    /// # Errors
    /// When shapes do not fit or a code is not below `K`.
    pub fn forecast(&self, frames: &Tensor, codes: &Tensor) -> Result<Tensor> {
        let actions = self.vectors(codes)?.unsqueeze(1)?;
        Ok(self
            .predict(&frames.unsqueeze(1)?, &actions)?
            .squeeze(1)?
            .clamp(0f32, 1f32)?)
    }
}

impl Encoder {
    fn new(config: &LatentActionConfig, builder: VarBuilder) -> Result<Self> {
        let (width, patches) = (config.width, config.frame.patches(config.patch)?);
        let position = Init::Randn {
            mean: 0.0,
            stdev: 0.5,
        };
        Ok(Self {
            input: linear_weight(&builder, "input", width, 3 * config.patch_numbers(), 1.0)?,
            position: builder.get_with_hints((patches, width), "position", position)?,
            transformer: SpaceTimeTransformer::new(&config.encoder(), builder.pp("blocks"))?,
            norm: builder.get_with_hints(width, "norm", Init::Const(1.0))?,
            output: linear_weight(&builder, "output", config.action_width, width, 1.0)?,
        })
    }

    /// Descriptions `[B, C, A]` of `C` changes, from the patches of the frame before, at and after each; `gain` is
    /// [`LatentActionConfig::change_gain`].
    fn forward(
        &self,
        gain: Option<f32>,
        before: &Tensor,
        at: &Tensor,
        after: &Tensor,
    ) -> Result<Tensor> {
        let parts = match gain {
            Some(gain) => ops::beside(&[
                &((before - at)? * f64::from(gain))?,
                at,
                &((after - at)? * f64::from(gain))?,
            ]),
            None => ops::beside(&[before, at, after]),
        }?;
        let x = ops::add_rows(&ops::linear(&parts, &self.input)?, &self.position)?;
        let x = ops::rms_norm(&self.transformer.forward(&x, None)?, &self.norm)?.mean(2)?;
        Ok(normalise(&ops::linear(&x, &self.output)?)?)
    }
}

impl Predictor {
    fn new(config: &LatentActionConfig, builder: VarBuilder) -> Result<Self> {
        let (width, patches) = (config.width, config.frame.patches(config.patch)?);
        let position = Init::Randn {
            mean: 0.0,
            stdev: 0.5,
        };
        let flow_numbers = config.flow_cells_per_patch.pow(2) * 2;
        Ok(Self {
            input: linear_weight(&builder, "input", width, config.patch_numbers(), 1.0)?,
            action: linear_weight(&builder, "action", width, config.action_width, 1.0)?,
            position: builder.get_with_hints((patches, width), "position", position)?,
            transformer: SpaceTimeTransformer::new(&config.predictor(), builder.pp("blocks"))?,
            norm: builder.get_with_hints(width, "norm", Init::Const(1.0))?,
            // Smallest starts: the first guess is the present frame, and what moves is learned before what would blur it is unlearned.
            flow: linear_weight(&builder, "flow", flow_numbers, width, 0.01)?,
            residual: linear_weight(&builder, "residual", config.patch_numbers(), width, 0.01)?,
        })
    }

    fn hidden(&self, patches: &Tensor, actions: &Tensor) -> Result<Tensor> {
        let action = ops::linear(actions, &self.action)?;
        let x = ops::add_rows(&ops::linear(patches, &self.input)?, &self.position)?;
        let x = ops::shift_groups(&x, &action)?;
        Ok(ops::rms_norm(
            &self.transformer.forward(&x, Some(actions))?,
            &self.norm,
        )?)
    }

    /// Flow `[B, T, GH, GW, 2]` in pixels.
    fn flow(&self, config: &LatentActionConfig, hidden: &Tensor) -> Result<Tensor> {
        let cells = (ops::linear(hidden, &self.flow)? * FLOW_SCALE)?;
        pictures_of(&cells, config.flow_grid(), config.flow_cells_per_patch)
    }

    fn forward(
        &self,
        config: &LatentActionConfig,
        frames: &Tensor,
        patches: &Tensor,
        actions: &Tensor,
    ) -> Result<Tensor> {
        let hidden = self.hidden(patches, actions)?;
        let flow = self.flow(config, &hidden)?;
        let residual = ops::linear(&hidden, &self.residual)?;
        Ok(ops::warp(frames, &flow, &residual, config.patch)?)
    }
}

#[cfg(test)]
mod tests;
