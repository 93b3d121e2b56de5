//! The tokenizer as play runs it: one frame at a time, on the CPU, with packed weights.

use crate::model::Coder;
use crate::{Tokenizer, TokenizerConfig, TokenizerStream};
use candle_core::{Device, Tensor};
use nn::kernels::inference::{
    Finish, FrameBuffers, PackedBlocks, PackedWeight, Projection, Team, Unit,
};
use nn::{KvCache, Result, centred_patches_of_picture, numbers, packed, picture_of_patches};

/// A tokenizer's weights, packed. Computes what [`Tokenizer`] computes.
pub struct FrameTokenizer {
    config: TokenizerConfig,
    encoder: FrameCoder,
    decoder: FrameCoder,
    /// The quantizer's vectors of all tokens, `[V, L]`.
    vectors: Vec<f32>,
}

/// What a [`FrameTokenizer`] works in; kept from frame to frame.
#[derive(Default)]
pub struct FrameTokenizerBuffers {
    encoder: FrameBuffers,
    decoder: FrameBuffers,
    input: Vec<f32>,
    output: Vec<f32>,
}

struct FrameCoder {
    input: PackedWeight,
    position: Vec<f32>,
    blocks: PackedBlocks,
    projection: Projection,
}

impl FrameCoder {
    fn new(coder: &Coder, tokens: usize, unit: Unit) -> Result<Self> {
        Ok(Self {
            input: packed(&coder.input, unit)?,
            position: numbers(&coder.position)?,
            blocks: coder.transformer.pack(tokens, unit)?,
            projection: Projection {
                norm: numbers(&coder.norm)?,
                output: packed(&coder.output, unit)?,
                first: 0,
                bias: Some(numbers(&coder.output_bias)?),
            },
        })
    }

    /// From rows of inputs to rows of outputs.
    fn run(
        &self,
        team: &Team,
        buffers: &mut FrameBuffers,
        cache: &KvCache,
        input: &[f32],
        output: &mut [f32],
    ) {
        let (width, inputs) = (self.projection.norm.len(), self.input.inputs());
        let embed = |rows: std::ops::Range<usize>, x: &mut [f32]| {
            x.copy_from_slice(&self.position[rows.start * width..rows.end * width]);
            self.input.apply(
                x,
                &input[rows.start * inputs..rows.end * inputs],
                Finish::Add,
            );
        };
        self.blocks.run(
            team,
            buffers,
            cache,
            None,
            &embed,
            &|_| true,
            Some((&self.projection, output)),
        );
    }
}

impl FrameTokenizer {
    /// Packs a tokenizer's weights.
    ///
    /// # Errors
    /// When they cannot be read from their device.
    pub fn new(tokenizer: &Tokenizer, unit: Unit) -> Result<Self> {
        let config = tokenizer.config();
        let (tokens, vocabulary) = (config.tokens_per_frame(), config.vocabulary());
        let all = Tensor::arange(0u32, vocabulary as u32, tokenizer.encoder.input.device())?
            .reshape((1, 1, vocabulary))?;
        let vectors = tokenizer.token_vectors(&all)?.to_device(&Device::Cpu)?;
        Ok(Self {
            config: config.clone(),
            encoder: FrameCoder::new(&tokenizer.encoder, tokens, unit)?,
            decoder: FrameCoder::new(&tokenizer.decoder, tokens, unit)?,
            vectors: numbers(&vectors)?,
        })
    }

    /// Pre-quantisation latents `[N, L]` of a picture `[H, W, 3]` (0..1) seen on its own; `start` is the stream's empty start.
    pub fn latents(
        &self,
        team: &Team,
        buffers: &mut FrameTokenizerBuffers,
        start: &TokenizerStream,
        picture: &[f32],
        latents: &mut Vec<f32>,
    ) {
        let config = &self.config;
        centred_patches_of_picture(&mut buffers.input, picture, config.frame, config.patch);
        latents.resize(config.tokens_per_frame() * config.latent_width(), 0.0);
        self.encoder.run(
            team,
            &mut buffers.encoder,
            &start.encoder,
            &buffers.input,
            latents,
        );
    }

    /// The picture `[H, W, 3]` (0..1) of the next `tokens` of a stream.
    ///
    /// # Errors
    /// When there are more or fewer tokens than a frame has, or one is not in the codebook.
    pub fn decode_next(
        &self,
        team: &Team,
        buffers: &mut FrameTokenizerBuffers,
        stream: &mut TokenizerStream,
        tokens: &[u32],
        picture: &mut Vec<f32>,
    ) -> Result<()> {
        let config = &self.config;
        let (count, latent) = (config.tokens_per_frame(), config.latent_width());
        if tokens.len() != count {
            return Err(nn::Error::Input(format!(
                "{} tokens for a frame of {count}",
                tokens.len()
            )));
        }
        buffers.input.clear();
        for &token in tokens {
            let vector = self
                .vectors
                .chunks_exact(latent)
                .nth(token as usize)
                .ok_or_else(|| {
                    nn::Error::Input(format!(
                        "token {token} is not in a codebook of {}",
                        config.vocabulary()
                    ))
                })?;
            buffers.input.extend_from_slice(vector);
        }
        let width = config.patch_numbers();
        buffers.output.resize(count * width, 0.0);
        self.decoder.run(
            team,
            &mut buffers.decoder,
            &stream.decoder,
            &buffers.input,
            &mut buffers.output,
        );
        if config.temporal_window.is_some() {
            buffers.decoder.keep(&mut stream.decoder);
        }
        buffers
            .output
            .iter_mut()
            .for_each(|x| *x = ((*x + 1.0) * 0.5).clamp(0.0, 1.0));
        picture_of_patches(
            picture,
            &buffers.output,
            width,
            config.frame,
            config.patch,
            3,
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nn::quantizer::QuantizerConfig;
    use nn::{FrameSize, Parameters, generator, normal};

    #[test]
    fn it_computes_what_the_tokenizer_computes() -> Result<()> {
        for (temporal_window, quantizer) in [
            (
                None,
                QuantizerConfig::Fsq {
                    levels: vec![8, 5, 5],
                },
            ),
            (
                Some(3),
                QuantizerConfig::Vq {
                    codes: 40,
                    width: 6,
                },
            ),
        ] {
            let config = TokenizerConfig {
                frame: FrameSize {
                    height: 16,
                    width: 24,
                },
                width: 32,
                heads: 2,
                encoder_layers: 2,
                decoder_layers: 1,
                temporal_window,
                quantizer,
                ..TokenizerConfig::default()
            };
            let tokenizer = Tokenizer::new(&config, Parameters::seeded(1, &Device::Cpu).builder())?;
            let mut random = generator(3, 0);
            let pixels: Vec<f32> = (0..5 * 16 * 24 * 3)
                .map(|_| (0.5 + 0.2 * normal(&mut random)).clamp(0.0, 1.0))
                .collect();
            let clip = Tensor::from_slice(&pixels, (1, 5, 16, 24, 3), &Device::Cpu)?;
            let tokens = tokenizer.encode(&clip)?;
            let decoded = tokenizer.decode(&tokens)?;
            for unit in Unit::all()
                .into_iter()
                .filter(|unit| unit.precision() == nn::Precision::F32)
            {
                let frames = FrameTokenizer::new(&tokenizer, unit)?;
                let (team, mut buffers) = (Team::new(2), FrameTokenizerBuffers::default());
                let (mut stream, mut picture, mut latents) =
                    (tokenizer.start_stream(), Vec::new(), Vec::new());
                for frame in 0..5 {
                    let own = clip.narrow(1, frame, 1)?.contiguous()?;
                    frames.latents(
                        &team,
                        &mut buffers,
                        &tokenizer.start_stream(),
                        &numbers(&own)?,
                        &mut latents,
                    );
                    close(&latents, &numbers(&tokenizer.latents(&own)?)?);
                    let codes = tokens
                        .narrow(1, frame, 1)?
                        .flatten_all()?
                        .to_vec1::<u32>()?;
                    frames.decode_next(&team, &mut buffers, &mut stream, &codes, &mut picture)?;
                    close(&picture, &numbers(&decoded.narrow(1, frame, 1)?)?);
                }
                let beyond = config.vocabulary() as u32;
                assert!(
                    frames
                        .decode_next(&team, &mut buffers, &mut stream, &[beyond; 6], &mut picture)
                        .is_err()
                );
                assert!(
                    frames
                        .decode_next(&team, &mut buffers, &mut stream, &[0; 5], &mut picture)
                        .is_err()
                );
            }
        }
        Ok(())
    }

    fn close(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        assert!(
            a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4),
            "{:?} and {:?}",
            &a[..4],
            &b[..4]
        );
    }
}
