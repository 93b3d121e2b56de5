//! Training that goes on from a world: its tokenizer and dynamics are where those stages begin, and its latent actions stay as they are.
//!
//! `RUN/STAGE.beginning.safetensors` keeps each model's weights until the stage has a checkpoint of its own, and `RUN/beginning/` the world's
//! manifest and sounds, so that an interrupted run goes on without the world. Latent actions have no stage then: what is kept is what is used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use nn::Parameters;
use worlds::{
    BundleSource, FolderSource, MANIFEST_FILE, WorldManifest, WorldWeights, read_manifest,
    read_sound_files,
};

use crate::checkpoint::Tensors;
use crate::{Error, Result, Stage, TrainConfig, WorldDetails, files};

/// What is left of the usual learning rates where much is known already.
const GENTLE: f64 = 0.3;
/// Folder for the world's manifest and sounds in the run folder.
const FOLDER: &str = "beginning";

/// A world to go on from.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// Its manifest and weights.
    pub weights: WorldWeights,
    /// The files with its sounds, by their names in the bundle.
    pub sounds: BTreeMap<String, Vec<u8>>,
}

impl Beginning {
    /// Reads a bundle.
    ///
    /// # Errors
    /// When anything in it is refused.
    pub fn read(source: &dyn BundleSource) -> Result<Self> {
        let weights = WorldWeights::read(source)?;
        let sounds = read_sound_files(source, &weights.manifest)?;
        Ok(Self { weights, sounds })
    }
}

/// What a world says of itself, with its sounds: what a run takes over of the one that it goes on from, apart from weights.
#[derive(Clone)]
pub(crate) struct Base {
    pub manifest: WorldManifest,
    pub sounds: BTreeMap<String, Vec<u8>>,
}

impl Base {
    /// Reads a bundle.
    pub fn read(source: &dyn BundleSource) -> Result<Self> {
        let manifest = read_manifest(source)?;
        let sounds = read_sound_files(source, &manifest)?;
        Ok(Self { manifest, sounds })
    }
}

impl From<&Beginning> for Base {
    fn from(world: &Beginning) -> Self {
        Self {
            manifest: world.weights.manifest.clone(),
            sounds: world.sounds.clone(),
        }
    }
}

fn path(run: &Path, stage: Stage) -> PathBuf {
    run.join(format!("{stage}.beginning.safetensors"))
}

/// The configuration of a run that goes on from a world: what is `given`, else the defaults with lower learning rates and the world's ways of
/// play. Models have the world's sizes whatever is given; actions have its names and bindings, and the new world its author and licence, unless
/// others are.
pub(crate) fn configuration(given: Option<TrainConfig>, world: &WorldManifest) -> TrainConfig {
    let mut config = given.unwrap_or_else(|| {
        let mut config = TrainConfig::default();
        config.tokenizer.learning_rate *= GENTLE;
        config.dynamics.learning_rate *= GENTLE;
        config.world.sampler = world.sampler;
        config.world.strength = world.strength;
        config.world.weights = world.weights.clone();
        config
    });
    config.tokenizer.model = world.tokenizer.clone();
    config.latent_actions.model = world.latent_actions.clone();
    config.dynamics.model = world.dynamics.clone();
    let (details, actions) = (&mut config.world, &world.actions);
    if details.action_names.is_empty() {
        details.action_names = actions.iter().map(|action| action.name.clone()).collect();
    }
    if details.bindings.is_empty() {
        details.bindings = actions
            .iter()
            .map(|action| action.bindings.clone())
            .collect();
    }
    if details.voluntary.is_empty() {
        details.voluntary.clone_from(&world.voluntary);
    }
    details.idle = details.idle.or(world.idle);
    let unsaid = WorldDetails::default();
    for (said, unsaid, theirs) in [
        (&mut details.author, unsaid.author, &world.author),
        (&mut details.licence, unsaid.licence, &world.licence),
    ] {
        if *said == unsaid {
            said.clone_from(theirs);
        }
    }
    config
}

/// Keeps what is needed of the world in the run folder, or sees to it that nothing of any is there.
pub(crate) fn store(run: &Path, world: Option<&Beginning>) -> Result<()> {
    let folder = run.join(FOLDER);
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io(&folder)(error));
        }
        _ => {}
    }
    if let Some(Beginning { weights, sounds }) = world {
        let path = folder.join(MANIFEST_FILE);
        let text = weights
            .manifest
            .to_text()
            .map_err(|flaw| Error::damaged(&path, flaw.field, flaw.reason))?;
        files::make_folder(&folder)?;
        files::write_atomically(&path, text.as_bytes())?;
        for (name, bytes) in sounds {
            let path = folder.join(name);
            files::make_folder(path.parent().unwrap_or(&folder))?;
            files::write_atomically(&path, bytes)?;
        }
    }
    for stage in Stage::ALL {
        let path = path(run, stage);
        let Some(world) = world else {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(&path)(error));
                }
                _ => continue,
            }
        };
        let weights = match stage {
            Stage::Tokenizer => &world.weights.tokenizer,
            Stage::LatentActions => &world.weights.latent_actions,
            Stage::Dynamics => &world.weights.dynamics,
        };
        let bytes = safetensors::serialize(weights, None)
            .map_err(|error| Error::damaged(&path, "tensors", error.to_string()))?;
        files::write_atomically(&path, &bytes)?;
    }
    Ok(())
}

/// What the run keeps of the world that it was begun from, apart from weights; `None` where there is no such world.
pub(crate) fn base(run: &Path) -> Result<Option<Base>> {
    let folder = run.join(FOLDER);
    // Runs that earlier versions of this program began have nothing but weights.
    if !keeps_latent_actions(run) || !folder.exists() {
        return Ok(None);
    }
    Base::read(&FolderSource::new(&folder)?).map(Some)
}

/// The weights that a stage begins with; `None` where it begins with none.
pub(crate) fn weights(run: &Path, stage: Stage) -> Result<Option<Tensors>> {
    let path = path(run, stage);
    let Some(bytes) = files::read_if_there(&path)? else {
        return Ok(None);
    };
    let read = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|error| Error::damaged(&path, "tensors", error.to_string()))?;
    Ok(Some(read.into_iter().collect()))
}

/// Sets a new model's weights to those that its stage begins with, if it begins with any. What is no part of a world is left as it is.
pub(crate) fn set(run: &Path, stage: Stage, parameters: &Parameters) -> Result<()> {
    let variables = parameters.variables();
    for (name, tensor) in weights(run, stage)?.unwrap_or_default() {
        let variable = variables.get(&name).ok_or_else(|| {
            let field = format!("weights.{name}");
            Error::damaged(&path(run, stage), field, "the model has no such weight")
        })?;
        variable.set(&tensor.to_device(nn::device())?)?;
    }
    Ok(())
}

/// Whether the run keeps a world's latent actions.
pub(crate) fn keeps_latent_actions(run: &Path) -> bool {
    path(run, Stage::LatentActions).exists()
}
