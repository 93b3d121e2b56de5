//! The tokenizer's layers, training pass and streaming form.

use crate::TokenizerConfig;
use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use nn::quantizer::{Quantized, Quantizer};
use nn::{
    KvCache, Result, SpaceTimeTransformer, centred_patches_of, linear_weight, ops, pictures_of,
};

/// Weight of the absolute error beside the squared error in the loss.
const ABSOLUTE_ERROR_WEIGHT: f32 = 0.1;

/// A transformer between two linear maps, with a learned position.
pub(crate) struct Coder {
    pub(crate) input: Tensor,
    pub(crate) position: Tensor,
    pub(crate) transformer: SpaceTimeTransformer,
    pub(crate) norm: Tensor,
    pub(crate) output: Tensor,
    pub(crate) output_bias: Tensor,
}

impl Coder {
    fn new(
        config: &nn::SpaceTimeConfig,
        tokens: usize,
        inputs: usize,
        outputs: usize,
        builder: VarBuilder,
    ) -> Result<Self> {
        let width = config.width;
        let position = Init::Randn {
            mean: 0.0,
            stdev: 0.5,
        };
        Ok(Self {
            input: linear_weight(&builder, "input", width, inputs, 1.0)?,
            position: builder.get_with_hints((tokens, width), "position", position)?,
            transformer: SpaceTimeTransformer::new(config, builder.pp("blocks"))?,
            norm: builder.get_with_hints(width, "norm", Init::Const(1.0))?,
            output: linear_weight(&builder, "output", outputs, width, 1.0)?,
            output_bias: builder.get_with_hints(outputs, "output_bias", Init::Const(0.0))?,
        })
    }

    fn embed(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        ops::add_rows(&ops::linear(x, &self.input)?, &self.position)
    }

    fn finish(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        ops::add_rows(
            &ops::linear(&ops::rms_norm(x, &self.norm)?, &self.output)?,
            &self.output_bias,
        )
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.finish(&self.transformer.forward(&self.embed(x)?, None)?)?)
    }

    fn step(&self, x: &Tensor, cache: &mut KvCache) -> Result<Tensor> {
        let (out, frame) = self.transformer.step(&self.embed(x)?, None, cache)?;
        cache.push(frame);
        Ok(self.finish(&out)?)
    }
}

/// What [`Tokenizer::forward`] gives.
pub struct Reconstruction {
    /// Decoded frames `[B, T, H, W, 3]`; not clamped to 0..1, so that gradients reach every pixel.
    pub frames: Tensor,
    /// Tokens u32 `[B, T, N]`.
    pub tokens: Tensor,
    /// Pre-quantisation latents `[B, T, N, L]`.
    pub latents: Tensor,
    /// What the quantizer adds to the loss.
    pub auxiliary_loss: Option<Tensor>,
}

/// Caches of a tokenizer that codes frame by frame: one for each direction.
#[derive(Clone)]
pub struct TokenizerStream {
    pub(crate) encoder: KvCache,
    pub(crate) decoder: KvCache,
}

impl TokenizerStream {
    /// The past of the decoder.
    pub fn decoder(&self) -> &KvCache {
        &self.decoder
    }

    /// The past of the encoder.
    pub fn encoder(&self) -> &KvCache {
        &self.encoder
    }

    /// A stream that decodes on after another past; what it encoded is kept.
    pub fn with_decoder(&self, decoder: KvCache) -> Self {
        Self {
            encoder: self.encoder.clone(),
            decoder,
        }
    }
}

/// The video tokenizer.
pub struct Tokenizer {
    config: TokenizerConfig,
    pub(crate) encoder: Coder,
    quantizer: Box<dyn Quantizer>,
    pub(crate) decoder: Coder,
}

impl Tokenizer {
    /// Builds the tokenizer from its weights.
    ///
    /// # Errors
    /// When the configuration is out of range or weights do not fit it.
    pub fn new(config: &TokenizerConfig, builder: VarBuilder) -> Result<Self> {
        config.validate()?;
        let (tokens, pixels, latent) = (
            config.tokens_per_frame(),
            config.patch_numbers(),
            config.latent_width(),
        );
        Ok(Self {
            config: config.clone(),
            encoder: Coder::new(
                &config.encoder(),
                tokens,
                pixels,
                latent,
                builder.pp("encoder"),
            )?,
            quantizer: config.quantizer.build(builder.pp("quantizer"))?,
            decoder: Coder::new(
                &config.decoder(),
                tokens,
                latent,
                pixels,
                builder.pp("decoder"),
            )?,
        })
    }

    /// What this tokenizer was built from.
    pub fn config(&self) -> &TokenizerConfig {
        &self.config
    }

    /// Patches around zero, as the encoder wants them.
    fn patches(&self, frames: &Tensor) -> Result<Tensor> {
        let (_, _, height, width, channels) = frames.dims5()?;
        let size = self.config.frame;
        if (height, width, channels) != (size.height, size.width, 3) {
            return Err(nn::Error::Input(format!(
                "frames of {width}x{height} with {channels} colours for a tokenizer of {size}"
            )));
        }
        centred_patches_of(frames, self.config.patch)
    }

    /// Frames `[B, T, H, W, 3]` from the decoder's output.
    fn pictures(&self, patches: &Tensor) -> Result<Tensor> {
        pictures_of(
            &patches.affine(0.5, 0.5)?,
            self.config.frame,
            self.config.patch,
        )
    }

    /// Pre-quantisation latents `[B, T, N, L]` of frames `[B, T, H, W, 3]` with values 0..1.
    ///
    /// # Errors
    /// When the frames are of another size.
    pub fn latents(&self, frames: &Tensor) -> Result<Tensor> {
        self.encoder.forward(&self.patches(frames)?)
    }

    /// Tokens u32 `[B, T, N]` of frames `[B, T, H, W, 3]` with values 0..1.
    ///
    /// # Errors
    /// When the frames are of another size.
    pub fn encode(&self, frames: &Tensor) -> Result<Tensor> {
        Ok(self.quantizer.quantize(&self.latents(frames)?)?.tokens)
    }

    /// The quantizer's vectors `[B, T, N, L]` of tokens u32 `[B, T, N]`.
    ///
    /// # Errors
    /// When a token is not in the codebook.
    pub fn token_vectors(&self, tokens: &Tensor) -> Result<Tensor> {
        self.quantizer.vectors(tokens)
    }

    /// Frames `[B, T, H, W, 3]` with values 0..1 of tokens u32 `[B, T, N]`.
    ///
    /// # Errors
    /// When a token is not in the codebook.
    pub fn decode(&self, tokens: &Tensor) -> Result<Tensor> {
        let patches = self.decoder.forward(&self.token_vectors(tokens)?)?;
        Ok(self.pictures(&patches)?.clamp(0f32, 1f32)?)
    }

    /// Encodes, quantises and decodes, for training.
    ///
    /// # Errors
    /// When the frames are of another size.
    pub fn forward(&self, frames: &Tensor) -> Result<Reconstruction> {
        let latents = self.latents(frames)?;
        let Quantized {
            vectors,
            tokens,
            auxiliary_loss,
        } = self.quantizer.quantize(&latents)?;
        let frames = self.pictures(&self.decoder.forward(&vectors)?)?;
        Ok(Reconstruction {
            frames,
            tokens,
            latents,
            auxiliary_loss,
        })
    }

    /// The training loss, a scalar: mean squared error, a tenth of the mean absolute error, and what the quantizer adds.
    ///
    /// # Errors
    /// When the frames are of another size.
    pub fn loss(&self, frames: &Tensor) -> Result<(Tensor, Reconstruction)> {
        let reconstruction = self.forward(frames)?;
        let mut loss = ops::picture_error(&reconstruction.frames, frames, ABSOLUTE_ERROR_WEIGHT)?;
        if let Some(auxiliary) = &reconstruction.auxiliary_loss {
            loss = (loss + auxiliary)?;
        }
        Ok((loss, reconstruction))
    }

    /// Gives unused codes a new life among a batch's latents, where the quantizer's codes can die; returns how many.
    ///
    /// # Errors
    /// When `usage` is not one count for each code.
    pub fn revive_dead_codes(&self, usage: &[u64], latents: &Tensor, seed: u64) -> Result<usize> {
        self.quantizer.revive(usage, latents, seed)
    }

    /// Caches for coding frame by frame.
    pub fn start_stream(&self) -> TokenizerStream {
        TokenizerStream {
            encoder: self.encoder.transformer.start(),
            decoder: self.decoder.transformer.start(),
        }
    }

    /// Tokens u32 `[B, 1, N]` of the next frame `[B, 1, H, W, 3]` of a stream.
    ///
    /// # Errors
    /// When the frame is of another size or batch.
    pub fn encode_next(&self, frame: &Tensor, stream: &mut TokenizerStream) -> Result<Tensor> {
        let latents = self
            .encoder
            .step(&self.patches(frame)?, &mut stream.encoder)?;
        Ok(self.quantizer.quantize(&latents)?.tokens)
    }

    /// The frame `[B, 1, H, W, 3]` of the next tokens u32 `[B, 1, N]` of a stream.
    ///
    /// # Errors
    /// When a token is not in the codebook or the batch is another.
    pub fn decode_next(&self, tokens: &Tensor, stream: &mut TokenizerStream) -> Result<Tensor> {
        let patches = self
            .decoder
            .step(&self.token_vectors(tokens)?, &mut stream.decoder)?;
        Ok(self.pictures(&patches)?.clamp(0f32, 1f32)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use nn::quality::largest_difference;
    use nn::quantizer::QuantizerConfig;
    use nn::{AdamWConfig, FrameSize, Optimizer, Parameters, generator, gradients, normal};

    fn config(temporal_window: Option<usize>) -> TokenizerConfig {
        TokenizerConfig {
            frame: FrameSize {
                height: 16,
                width: 24,
            },
            patch: 8,
            width: 32,
            heads: 2,
            encoder_layers: 1,
            decoder_layers: 2,
            temporal_window,
            quantizer: QuantizerConfig::Fsq {
                levels: vec![8, 5, 5],
            },
        }
    }

    fn frames(batch: usize, count: usize, seed: u64) -> Tensor {
        let mut random = generator(seed, 0);
        let numbers = batch * count * 16 * 24 * 3;
        let values: Vec<f32> = (0..numbers)
            .map(|_| (0.5 + 0.2 * normal(&mut random)).clamp(0.0, 1.0))
            .collect();
        Tensor::from_vec(values, (batch, count, 16, 24, 3), &Device::Cpu).unwrap()
    }

    fn build(config: &TokenizerConfig) -> (Tokenizer, Parameters) {
        let parameters = Parameters::seeded(1, &Device::Cpu);
        (
            Tokenizer::new(config, parameters.builder()).unwrap(),
            parameters,
        )
    }

    #[test]
    fn frames_become_tokens_and_frames_again() -> Result<()> {
        let (tokenizer, _) = build(&config(None));
        let frames = frames(2, 3, 1);
        let tokens = tokenizer.encode(&frames)?;
        assert_eq!(tokens.dims(), [2, 3, 6]);
        let decoded = tokenizer.decode(&tokens)?;
        assert_eq!(decoded.dims(), frames.dims());
        let reconstruction = tokenizer.forward(&frames)?;
        assert_eq!(
            reconstruction.tokens.flatten_all()?.to_vec1::<u32>()?,
            tokens.flatten_all()?.to_vec1::<u32>()?
        );
        assert!(largest_difference(&reconstruction.frames.clamp(0f32, 1f32)?, &decoded) < 1e-4);
        assert!(tokenizer.encode(&frames.narrow(2, 0, 8)?).is_err());
        Ok(())
    }

    #[test]
    fn with_temporal_attention_it_is_causal_and_streams() -> Result<()> {
        let (tokenizer, _) = build(&config(Some(3)));
        let clip = frames(1, 7, 1);
        let (latents, tokens) = (tokenizer.latents(&clip)?, tokenizer.encode(&clip)?);
        let changed = Tensor::cat(&[clip.narrow(1, 0, 4)?, frames(1, 3, 2)], 1)?;
        assert_eq!(
            largest_difference(
                &latents.narrow(1, 0, 4)?,
                &tokenizer.latents(&changed)?.narrow(1, 0, 4)?
            ),
            0.0
        );
        let decoded = tokenizer.decode(&tokens)?;
        let mut stream = tokenizer.start_stream();
        for frame in 0..7 {
            let next = tokenizer.encode_next(&clip.narrow(1, frame, 1)?, &mut stream)?;
            let whole = tokens.narrow(1, frame, 1)?;
            assert_eq!(
                next.flatten_all()?.to_vec1::<u32>()?,
                whole.flatten_all()?.to_vec1::<u32>()?
            );
            assert!(
                largest_difference(
                    &tokenizer.decode_next(&next, &mut stream)?,
                    &decoded.narrow(1, frame, 1)?
                ) < 1e-4
            );
        }
        Ok(())
    }

    #[test]
    fn training_lowers_the_loss_for_both_quantizers() -> Result<()> {
        let quantizers = [
            config(None).quantizer,
            QuantizerConfig::Vq {
                codes: 64,
                width: 4,
            },
        ];
        for quantizer in quantizers {
            let (tokenizer, parameters) = build(&TokenizerConfig {
                quantizer,
                ..config(None)
            });
            let clip = frames(2, 2, 1)
                .mean_keepdim(4)?
                .broadcast_as((2, 2, 16, 24, 3))?
                .contiguous()?;
            let mut optimizer =
                Optimizer::new(parameters.variables(), AdamWConfig::default(), None)?;
            let mut losses = Vec::new();
            for _ in 0..30 {
                let (loss, _) = tokenizer.loss(&clip)?;
                losses.push(loss.to_scalar::<f32>()?);
                optimizer.step(&gradients(&loss, &parameters.variables())?, 3e-3, 1.0)?;
            }
            assert!(losses[29] < 0.7 * losses[0], "{losses:?}");
        }
        Ok(())
    }

    #[test]
    fn impossible_configurations_are_refused() {
        let refused = |config: TokenizerConfig| config.validate().unwrap_err().to_string();
        assert!(
            refused(TokenizerConfig {
                patch: 7,
                ..config(None)
            })
            .contains("patch = 7")
        );
        let huge = FrameSize {
            height: 1 << 50,
            width: 8,
        };
        assert!(
            refused(TokenizerConfig {
                frame: huge,
                ..config(None)
            })
            .contains("frame.height")
        );
        let levels = QuantizerConfig::Fsq {
            levels: vec![200; 10],
        };
        assert!(
            refused(TokenizerConfig {
                quantizer: levels,
                ..config(None)
            })
            .contains("codebook size")
        );
    }
}
