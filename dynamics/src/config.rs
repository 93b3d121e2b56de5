//! Sizes of a dynamics model.

use nn::{Error, FrameSize, Result, SpaceTimeConfig};
use serde::{Deserialize, Serialize};

/// Sizes of a [`crate::Dynamics`] model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DynamicsConfig {
    /// Size of the frames that forecasts come as.
    pub frame: FrameSize,
    /// Side of a patch in pixels (`P`), the tokenizer's.
    pub patch: usize,
    /// Codebook size (`V`), the tokenizer's.
    pub vocabulary: usize,
    /// Numbers in a token's vector (`L`), the tokenizer's.
    pub latent_width: usize,
    /// Action codes (`K`), the latent action model's.
    pub codes: usize,
    /// Model width (`D`).
    pub width: usize,
    /// Attention heads (`H`).
    pub heads: usize,
    /// Blocks.
    pub layers: usize,
    /// Frames that temporal attention sees, the present one included.
    pub window: usize,
    /// Whether a forecast is given; without it this is plain Genie.
    pub forecast: bool,
}

impl Default for DynamicsConfig {
    fn default() -> Self {
        Self {
            frame: FrameSize {
                height: 64,
                width: 64,
            },
            patch: 8,
            vocabulary: 1000,
            latent_width: 4,
            codes: 8,
            width: 192,
            heads: 6,
            layers: 6,
            window: 8,
            forecast: true,
        }
    }
}

impl DynamicsConfig {
    /// Checks that such a model can be built and is of sane size.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        Error::check_range(
            "tokens per frame",
            self.frame.patches(self.patch)?,
            1..=4096,
        )?;
        Error::check_range("vocabulary", self.vocabulary, 2..=65_536)?;
        Error::check_range("latent_width", self.latent_width, 1..=512)?;
        Error::check_range("codes", self.codes, 2..=1024)?;
        self.transformer().validate()
    }

    /// Tokens in a frame (`N`). Zero when the patch does not divide the frame, which [`Self::validate`] refuses.
    pub fn tokens_per_frame(&self) -> usize {
        self.frame.patches(self.patch).unwrap_or(0)
    }

    /// The id that stands for a token not yet decided; the first one beyond the codebook.
    pub fn mask_token(&self) -> u32 {
        self.vocabulary as u32
    }

    pub(crate) fn transformer(&self) -> SpaceTimeConfig {
        SpaceTimeConfig {
            width: self.width,
            heads: self.heads,
            layers: self.layers,
            temporal_window: Some(self.window),
            condition_width: None,
        }
    }
}
