//! A loaded world: manifest, models and prompts, ready to play.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::manifest::FRAMES_AS_THEY_ARE;
use crate::source::{BundleSource, FolderSource, read_limited, refused};
use crate::weights;
use crate::{Frame, Soundscape, WorldManifest};
use candle_core::{Device, Tensor};
use dynamics::Dynamics;
use latent_actions::LatentActionModel;
use nn::{Parameters, Precision};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tokenizer::Tokenizer;

/// Name of the manifest in a bundle.
pub const MANIFEST_FILE: &str = "world.ron";
/// Name of the tokenizer's weights in a bundle.
pub const TOKENIZER_FILE: &str = "tokenizer.safetensors";
/// Name of the latent action model's weights in a bundle.
pub const LATENT_ACTIONS_FILE: &str = "latent_actions.safetensors";
/// Name of the dynamics' weights in a bundle.
pub const DYNAMICS_FILE: &str = "dynamics.safetensors";
/// Name of the text for people in a bundle.
pub const README_FILE: &str = "README.md";
/// Name of the folder of starting frames in a bundle.
pub const PROMPTS_FOLDER: &str = "prompts";
/// Name of the folder of sounds in a bundle.
pub const SOUNDS_FOLDER: &str = "sounds";

const LARGEST_MANIFEST: u64 = 1 << 20;
const LARGEST_PROMPT: u64 = 16 << 20;

/// A world that can be played.
pub struct World {
    /// What it is.
    pub manifest: WorldManifest,
    /// Frames to tokens and back.
    pub tokenizer: Tokenizer,
    /// Codes of changes, and forecasts.
    pub latent_actions: LatentActionModel,
    /// The next frame's tokens, and the action prior.
    pub dynamics: Dynamics,
    /// Starting frames, in the manifest's order; at least one.
    pub prompts: Vec<Frame>,
    /// What it sounds like.
    pub soundscape: Arc<Soundscape>,
    /// SHA-256, in hexadecimal, of all that decides which frames the world makes: weight files, frame size, model
    /// configurations, the weights of wishes, how long codes last, which are voluntary, and the idle code. Names, bindings, sounds and default settings may change without it.
    pub hash: String,
    /// The same without the idle code, to which saved states are indifferent. Where a world has no idle code, the two
    /// are equal. Sessions recorded before the idle code decided anything name their world by it.
    pub hash_without_idle: String,
    /// SHA-256 of what gives action codes their meaning: the latent action model and how many codes there are. What players set goes by it, and stays when a dynamics learns on.
    pub codes_hash: String,
    /// Where the models live.
    pub device: Device,
    /// How exactly rollouts compute; set it before the first one starts.
    pub precision: Precision,
    pub(crate) engine: OnceLock<Engine>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World({}, {})", self.manifest.name, self.hash)
    }
}

/// Reads and checks the manifest of a bundle, and nothing else.
///
/// # Errors
/// When it is missing or refused.
pub fn read_manifest(source: &dyn BundleSource) -> Result<WorldManifest> {
    let bytes = read_limited(source, MANIFEST_FILE, LARGEST_MANIFEST)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| refused(source, MANIFEST_FILE, "text", error))?;
    WorldManifest::parse(text)
        .map_err(|flaw| refused(source, MANIFEST_FILE, flaw.field, flaw.reason))
}

impl World {
    /// Loads the bundle in `folder` onto the device of this process.
    ///
    /// # Errors
    /// When there is no bundle or anything in it is refused; the message names file and field.
    pub fn load(folder: &Path) -> Result<Self> {
        let source = FolderSource::new(folder)?;
        if source.size(MANIFEST_FILE)?.is_none() {
            return Err(Error::NotAWorld(folder.to_owned()));
        }
        Self::from_source(&source, nn::device())
    }

    /// Loads a world that is built into the program onto the device of this process.
    ///
    /// # Errors
    /// When there is none of that name or it is refused.
    pub fn built_in(name: &str) -> Result<Self> {
        crate::catalogue::built_in(name)?.load()
    }

    /// Loads a bundle onto `device`.
    ///
    /// # Errors
    /// When anything in it is refused; the message names file and field.
    pub fn from_source(source: &dyn BundleSource, device: &Device) -> Result<Self> {
        let manifest = read_manifest(source)?;
        let prompts = read_prompts(source, &manifest)?;
        let soundscape = Arc::new(Soundscape::read(source, &manifest)?);
        let mut hasher = Sha256::new();
        hasher.update(essence(source, &manifest)?);
        let mut of_codes = Sha256::new();
        of_codes.update((manifest.codes() as u64).to_le_bytes());
        let mut load = |file: &'static str| -> Result<Part<'_>> {
            let (bytes, weights) = weights::read(source, file, device)?;
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(&bytes);
            if file == LATENT_ACTIONS_FILE {
                of_codes.update(&bytes);
            }
            Ok(Part {
                source,
                file,
                weights,
                device,
            })
        };
        let tokenizer = load(TOKENIZER_FILE)?
            .build(|parameters| Tokenizer::new(&manifest.tokenizer, parameters.builder()))?;
        let latent_actions = load(LATENT_ACTIONS_FILE)?.build(|parameters| {
            LatentActionModel::new(&manifest.latent_actions, parameters.builder())
        })?;
        let vectors = all_token_vectors(&tokenizer, device)?;
        let dynamics = load(DYNAMICS_FILE)?.build(|parameters| {
            Dynamics::new(&manifest.dynamics, &vectors, parameters.builder())
        })?;
        let without_idle = hasher.clone();
        if let Some(idle) = manifest.idle {
            // A frame's luck depends on it, too; worlds without one keep the hash that they had.
            hasher.update(idle.0.to_le_bytes());
        }
        Ok(Self {
            hash: hexadecimal(hasher),
            hash_without_idle: hexadecimal(without_idle),
            codes_hash: hexadecimal(of_codes),
            manifest,
            tokenizer,
            latent_actions,
            dynamics,
            prompts,
            soundscape,
            device: device.clone(),
            precision: Precision::Bf16,
            engine: OnceLock::new(),
        })
    }

    /// The models as rollouts run them.
    pub(crate) fn engine(&self) -> Result<&Engine> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let engine = Engine::new(self)?;
        Ok(self.engine.get_or_init(|| engine))
    }

    /// Name of what computes this world's frames. Replay gives the same frames, to the last bit, only where it is the same.
    ///
    /// # Errors
    /// When weights cannot be read from their device.
    pub fn kernels(&self) -> Result<&'static str> {
        Ok(self.engine()?.kernels(self))
    }
}

/// A bundle's manifest and the weights of its models by name, to go on training with.
#[derive(Clone, Debug)]
pub struct WorldWeights {
    /// What the world says of itself.
    pub manifest: WorldManifest,
    /// The tokenizer's weights.
    pub tokenizer: BTreeMap<String, Tensor>,
    /// The latent action model's weights.
    pub latent_actions: BTreeMap<String, Tensor>,
    /// The dynamics' weights.
    pub dynamics: BTreeMap<String, Tensor>,
}

impl WorldWeights {
    /// Reads the weights of a bundle, as single precision on the CPU.
    ///
    /// # Errors
    /// When anything in the bundle is refused, as [`World::from_source`] does.
    pub fn read(source: &dyn BundleSource) -> Result<Self> {
        // That they fit the models is for the loader to say.
        let world = World::from_source(source, &Device::Cpu)?;
        let read = |file| weights::read(source, file, &Device::Cpu).map(|(_, weights)| weights);
        Ok(Self {
            manifest: world.manifest,
            tokenizer: read(TOKENIZER_FILE)?,
            latent_actions: read(LATENT_ACTIONS_FILE)?,
            dynamics: read(DYNAMICS_FILE)?,
        })
    }
}

/// The digest in hexadecimal.
fn hexadecimal(hasher: Sha256) -> String {
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The quantizer's vectors of all tokens, `[V, L]`.
pub(crate) fn all_token_vectors(tokenizer: &Tokenizer, device: &Device) -> Result<Tensor> {
    let count = tokenizer.config().vocabulary();
    let tokens = Tensor::arange(0u32, count as u32, device)?.reshape((1, 1, count))?;
    let vectors = tokenizer.token_vectors(&tokens)?;
    Ok(vectors.reshape((count, tokenizer.config().latent_width()))?)
}

/// A weight file that has been read, on its way to a model.
struct Part<'a> {
    source: &'a dyn BundleSource,
    file: &'static str,
    weights: BTreeMap<String, Tensor>,
    device: &'a Device,
}

impl Part<'_> {
    /// Builds a model that must use all weights of the file.
    fn build<M>(self, build: impl FnOnce(&Parameters) -> nn::Result<M>) -> Result<M> {
        let parameters = Parameters::from_tensors(self.weights, self.device);
        let model = build(&parameters)
            .map_err(|error| refused(self.source, self.file, "weights", error))?;
        match parameters.unused().first() {
            Some(name) => Err(refused(
                self.source,
                self.file,
                name.clone(),
                "no layer of the configured model has such a weight",
            )),
            None => Ok(model),
        }
    }
}

/// The part of a manifest that decides which frames a world makes.
fn essence(source: &dyn BundleSource, manifest: &WorldManifest) -> Result<String> {
    // Worlds of the first version keep the hash that they had, and sessions recorded in them their world.
    let as_they_are = manifest.latent_actions.change_gain.is_none();
    let version = match as_they_are {
        true => FRAMES_AS_THEY_ARE,
        false => manifest.version,
    };
    let essential = (
        "djinn world",
        version,
        manifest.frame,
        &manifest.tokenizer,
        &manifest.latent_actions,
        &manifest.dynamics,
    );
    let text = ron::to_string(&essential).and_then(|mut text| {
        if as_they_are {
            text = text.replace("change_gain:None,", "");
        }
        // Which code comes of a wish depends on them, too; worlds without any keep the hash that they had.
        if !manifest.weights.is_empty() {
            text += &ron::to_string(&manifest.weights)?;
        }
        if !manifest.lasts.is_empty() {
            text += &format!("lasts{}", ron::to_string(&manifest.lasts)?);
        }
        if !manifest.voluntary.is_empty() {
            text += &format!("voluntary{}", ron::to_string(&manifest.voluntary)?);
        }
        Ok(text)
    });
    text.map_err(|error| refused(source, MANIFEST_FILE, "manifest", error))
}

/// The prompts that a bundle's manifest names.
///
/// # Errors
/// When one cannot be read or is not of the world's size.
pub fn read_prompts(source: &dyn BundleSource, manifest: &WorldManifest) -> Result<Vec<Frame>> {
    let names = manifest.prompts.iter();
    names
        .map(|name| read_prompt(source, manifest, name))
        .collect()
}

fn read_prompt(source: &dyn BundleSource, manifest: &WorldManifest, name: &str) -> Result<Frame> {
    let file = format!("{PROMPTS_FOLDER}/{name}");
    let bytes = read_limited(source, &file, LARGEST_PROMPT)?;
    Frame::from_png(&bytes, Some(manifest.frame), &file).map_err(|error| {
        let field = match error {
            Error::FrameSize { .. } => "size",
            _ => "picture",
        };
        refused(source, &file, field, error)
    })
}
