//! Sizes of a latent action model.

use nn::{Error, FrameSize, Result, SpaceTimeConfig};
use serde::{Deserialize, Serialize};

/// What stands between encoder and predictor while training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum BottleneckConfig {
    /// Numbers of unit root mean square plus Gaussian noise, which bounds what they can carry; clustered into codes afterwards.
    Noisy {
        /// Standard deviation of the noise.
        noise: f32,
    },
    /// A vector quantizer from the start, as in Genie (arXiv 2402.15391, section 2.1). Prone to collapse on small budgets.
    Vq,
}

/// Sizes of a [`crate::LatentActionModel`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LatentActionConfig {
    /// Size of the frames.
    pub frame: FrameSize,
    /// Side of a patch in pixels (`P`).
    pub patch: usize,
    /// Model width (`D`).
    pub width: usize,
    /// Attention heads (`H`).
    pub heads: usize,
    /// Blocks of the encoder.
    pub encoder_layers: usize,
    /// Blocks of the predictor.
    pub predictor_layers: usize,
    /// Numbers that describe a change (`A`).
    pub action_width: usize,
    /// Action codes (`K`).
    pub codes: usize,
    /// Flow vectors along each side of a patch.
    pub flow_cells_per_patch: usize,
    /// What the encoder sees beside a frame: how it differs from those before and after it, this many times, or (`None`) these frames themselves. Where
    /// little moves, frames hardly differ, and neither would their descriptions: less than the bottleneck's noise, in which the predictor would then
    /// find nothing.
    pub change_gain: Option<f32>,
    /// The bottleneck.
    pub bottleneck: BottleneckConfig,
}

impl Default for LatentActionConfig {
    fn default() -> Self {
        Self {
            frame: FrameSize {
                height: 64,
                width: 64,
            },
            patch: 8,
            width: 192,
            heads: 6,
            encoder_layers: 3,
            predictor_layers: 4,
            action_width: 8,
            codes: 8,
            flow_cells_per_patch: 2,
            change_gain: Some(16.0),
            bottleneck: BottleneckConfig::Noisy { noise: 0.2 },
        }
    }
}

impl LatentActionConfig {
    /// Checks that such a model can be built and is of sane size.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        Error::check_range(
            "patches per frame",
            self.frame.patches(self.patch)?,
            1..=4096,
        )?;
        Error::check_range("action_width", self.action_width, 1..=256)?;
        Error::check_range("codes", self.codes, 2..=1024)?;
        Error::check_range(
            "flow_cells_per_patch",
            self.flow_cells_per_patch,
            1..=self.patch,
        )?;
        if let Some(gain) = self.change_gain
            && !(1e-3..=1e3).contains(&gain)
        {
            return Err(Error::config(
                "change_gain",
                gain,
                "must lie in 0.001..=1000",
            ));
        }
        if let BottleneckConfig::Noisy { noise } = self.bottleneck
            && !(0.0..=10.0).contains(&noise)
        {
            return Err(Error::config("noise", noise, "must lie in 0..=10"));
        }
        self.encoder().validate()?;
        self.predictor().validate()
    }

    /// Numbers in a patch.
    pub(crate) fn patch_numbers(&self) -> usize {
        self.patch * self.patch * 3
    }

    /// Size of the flow grid, as the size of a picture with one cell a pixel.
    pub(crate) fn flow_grid(&self) -> FrameSize {
        let cells = |pixels: usize| pixels / self.patch * self.flow_cells_per_patch;
        FrameSize {
            height: cells(self.frame.height),
            width: cells(self.frame.width),
        }
    }

    pub(crate) fn encoder(&self) -> SpaceTimeConfig {
        SpaceTimeConfig {
            width: self.width,
            heads: self.heads,
            layers: self.encoder_layers,
            temporal_window: None,
            condition_width: None,
        }
    }

    pub(crate) fn predictor(&self) -> SpaceTimeConfig {
        SpaceTimeConfig {
            layers: self.predictor_layers,
            condition_width: Some(self.action_width),
            ..self.encoder()
        }
    }
}
