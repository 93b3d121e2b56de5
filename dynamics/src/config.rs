//! Sizes of a dynamics model.

use nn::{Error, FrameSize, Result, SpaceTimeConfig};
use serde::{Deserialize, Serialize};

/// Most logits (`N * V`) of a frame.
const MOST_LOGITS: usize = 1 << 26;

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
        let (tokens, transformer) = (self.tokens_per_frame(), self.transformer());
        Error::check_range(
            "logits of a frame",
            tokens * self.vocabulary,
            1..=MOST_LOGITS,
        )?;
        transformer.validate()?;
        transformer.validate_past(tokens + 1)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_are_sane_alone_and_too_much_together_are_refused() {
        let large = DynamicsConfig {
            frame: FrameSize {
                height: 512,
                width: 512,
            },
            ..DynamicsConfig::default()
        };
        large.validate().unwrap();
        let refused = |config: DynamicsConfig| config.validate().unwrap_err().to_string();
        let past = refused(DynamicsConfig {
            layers: 64,
            window: 1024,
            ..large.clone()
        });
        assert!(past.contains("bytes of remembered frames"), "{past}");
        let logits = refused(DynamicsConfig {
            vocabulary: 65_536,
            ..large
        });
        assert!(logits.contains("logits of a frame"), "{logits}");
    }
}
