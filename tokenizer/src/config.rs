//! Sizes of a tokenizer.

use nn::quantizer::QuantizerConfig;
use nn::{FrameSize, Result, SpaceTimeConfig};
use serde::{Deserialize, Serialize};

/// Sizes of a [`crate::Tokenizer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerConfig {
    /// Size of the frames.
    pub frame: FrameSize,
    /// Side of a patch in pixels (`P`); a patch is one token.
    pub patch: usize,
    /// Model width (`D`).
    pub width: usize,
    /// Attention heads (`H`).
    pub heads: usize,
    /// Blocks of the encoder.
    pub encoder_layers: usize,
    /// Blocks of the decoder.
    pub decoder_layers: usize,
    /// Frames that causal temporal attention sees; `None` codes every frame on its own.
    pub temporal_window: Option<usize>,
    /// The discrete bottleneck.
    pub quantizer: QuantizerConfig,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self {
            frame: FrameSize {
                height: 64,
                width: 64,
            },
            patch: 8,
            width: 256,
            heads: 8,
            encoder_layers: 3,
            decoder_layers: 3,
            temporal_window: None,
            quantizer: QuantizerConfig::Fsq {
                levels: vec![8, 5, 5, 5],
            },
        }
    }
}

impl TokenizerConfig {
    /// Checks that such a tokenizer can be built and is of sane size.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        nn::Error::check_range(
            "tokens per frame",
            self.frame.patches(self.patch)?,
            1..=4096,
        )?;
        self.quantizer.validate()?;
        for transformer in [self.encoder(), self.decoder()] {
            transformer.validate()?;
            transformer.validate_past(self.tokens_per_frame())?;
        }
        Ok(())
    }

    /// Tokens in a frame (`N`). Zero when the patch does not divide the frame, which [`Self::validate`] refuses.
    pub fn tokens_per_frame(&self) -> usize {
        self.frame.patches(self.patch).unwrap_or(0)
    }

    /// Codebook size (`V`).
    pub fn vocabulary(&self) -> usize {
        self.quantizer.vocabulary()
    }

    /// Numbers in a latent (`L`).
    pub fn latent_width(&self) -> usize {
        self.quantizer.latent_width()
    }

    /// Numbers in a patch.
    pub(crate) fn patch_numbers(&self) -> usize {
        self.patch * self.patch * 3
    }

    pub(crate) fn encoder(&self) -> SpaceTimeConfig {
        self.transformer(self.encoder_layers)
    }

    pub(crate) fn decoder(&self) -> SpaceTimeConfig {
        self.transformer(self.decoder_layers)
    }

    fn transformer(&self, layers: usize) -> SpaceTimeConfig {
        SpaceTimeConfig {
            width: self.width,
            heads: self.heads,
            layers,
            temporal_window: self.temporal_window,
            condition_width: None,
        }
    }
}
