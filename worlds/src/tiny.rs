//! A tiny world with random weights: enough to run everything that plays a world, in milliseconds.

use crate::contents::BundleContents;
use crate::error::Result;
use crate::weights::WeightFormat;
use crate::{Action, FORMAT_VERSION, Frame, Provenance, StepRange, World, WorldManifest};
use candle_core::Device;
use dynamics::{Dynamics, DynamicsConfig, SamplerConfig, Strength};
use latent_actions::{LatentActionConfig, LatentActionModel};
use nn::quantizer::QuantizerConfig;
use nn::{ActionCode, FrameSize, Parameters};
use tokenizer::{Tokenizer, TokenizerConfig};

const FRAME: FrameSize = FrameSize {
    height: 16,
    width: 24,
};

/// The contents of a tiny world with untrained weights from `seed`: frames of 24x16, four action codes, three prompts. For tests and for
/// trying out tools; it shows noise.
///
/// # Errors
/// When a model cannot be built.
pub fn tiny_contents(seed: u64) -> Result<BundleContents> {
    let tokenizer = TokenizerConfig {
        frame: FRAME,
        patch: 8,
        width: 32,
        heads: 2,
        encoder_layers: 1,
        decoder_layers: 1,
        temporal_window: None,
        quantizer: QuantizerConfig::Fsq {
            levels: vec![5, 5, 4],
        },
    };
    let latent_actions = LatentActionConfig {
        frame: FRAME,
        patch: 8,
        width: 32,
        heads: 2,
        encoder_layers: 1,
        predictor_layers: 1,
        action_width: 4,
        codes: 4,
        ..LatentActionConfig::default()
    };
    let dynamics = DynamicsConfig {
        frame: FRAME,
        patch: 8,
        vocabulary: tokenizer.vocabulary(),
        latent_width: tokenizer.latent_width(),
        codes: 4,
        width: 32,
        heads: 2,
        layers: 2,
        window: 4,
        forecast: true,
    };
    let names = [
        ("left", "ArrowLeft"),
        ("right", "ArrowRight"),
        ("jump", "Space"),
        ("idle", ""),
    ];
    let action = |(name, key): (&str, &str)| Action {
        name: name.into(),
        bindings: (!key.is_empty()).then(|| key.into()).into_iter().collect(),
    };
    let manifest = WorldManifest {
        version: FORMAT_VERSION,
        name: "Tiny".into(),
        author: "Djinn's tests".into(),
        licence: "MIT OR Apache-2.0".into(),
        training_video: Provenance {
            source: "none: the weights are random".into(),
            licence: "none".into(),
        },
        frame: FRAME,
        frames_per_second: 15.0,
        actions: names.map(action).to_vec(),
        idle: Some(ActionCode(3)),
        strength: Strength::Wish(4.0),
        weights: Vec::new(),
        lasts: Vec::new(),
        voluntary: Vec::new(),
        sampler: SamplerConfig::default(),
        maskgit_steps: StepRange::default(),
        prompts: Vec::new(),
        sound: None,
        sounds: Default::default(),
        quality: [("tokenizer.psnr".to_owned(), 0.0)].into(),
        tokenizer,
        latent_actions,
        dynamics,
    };
    with_random_weights(manifest, seed)
}

/// The tiny world of [`tiny_contents`], loaded.
///
/// # Errors
/// When it cannot be built.
pub fn tiny_world(seed: u64) -> Result<World> {
    tiny_contents(seed)?.world(WeightFormat::F16)
}

/// A bundle for `manifest` with untrained weights, and pictures of coloured stripes for prompts.
pub(crate) fn with_random_weights(
    mut manifest: WorldManifest,
    seed: u64,
) -> Result<BundleContents> {
    let weights = || Parameters::seeded(seed, &Device::Cpu);
    let (first, second, third) = (weights(), weights(), weights());
    let tokenizer = Tokenizer::new(&manifest.tokenizer, first.builder())?;
    let latent_actions = LatentActionModel::new(&manifest.latent_actions, second.builder())?;
    let codes = manifest.latent_actions.codes;
    let shape = (codes, manifest.latent_actions.action_width);
    let mut random = nn::generator(seed, 1);
    let centres: Vec<f32> = (0..shape.0 * shape.1)
        .map(|_| nn::normal(&mut random))
        .collect();
    latent_actions.set_codebook(&candle_core::Tensor::from_vec(
        centres,
        shape,
        &Device::Cpu,
    )?)?;
    let vectors = crate::world::all_token_vectors(&tokenizer, &Device::Cpu)?;
    Dynamics::new(&manifest.dynamics, &vectors, third.builder())?;
    let prompts = (0..3).map(|index| stripes(manifest.frame, index));
    let prompts = prompts.collect::<Result<Vec<_>>>()?;
    manifest.prompts = vec!["000.png".into(), "001.png".into(), "002.png".into()];
    Ok(BundleContents {
        manifest,
        tokenizer: first.tensors(),
        latent_actions: second.tensors(),
        dynamics: third.tensors(),
        prompts,
        readme: "# Tiny\n\nA world with random weights, for tests.\n".into(),
        files: Default::default(),
    })
}

fn stripes(size: FrameSize, shift: usize) -> Result<Frame> {
    let mut rgb = Vec::with_capacity(size.bytes());
    for y in 0..size.height {
        for x in 0..size.width {
            let stripe = ((x + 2 * shift) / 3 % 2) as u8;
            rgb.extend([stripe * 200, (y * 10 % 256) as u8, 255 - stripe * 120]);
        }
    }
    Frame::new(size, rgb)
}
