//! Making bundles: what a trainer hands over, and how it gets to disk.

use crate::error::{Error, Result};
use crate::source::{
    BundleSource, FolderSource, MemorySource, REPLACEMENT_FOLDER, is_safe_name, refused,
};
use crate::weights::{self, WeightFormat};
use crate::world::{
    DYNAMICS_FILE, LATENT_ACTIONS_FILE, MANIFEST_FILE, PROMPTS_FOLDER, README_FILE, SOUNDS_FOLDER,
    TOKENIZER_FILE, read_manifest,
};
use crate::{Frame, World, WorldManifest};
use candle_core::Tensor;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;

/// What folders begin with in which a world is written at first; the number of the process follows.
const STAGING: &str = ".saving-";

/// All that a bundle is made of.
#[derive(Clone, Debug)]
pub struct BundleContents {
    /// The manifest. Its list of prompts is made anew from `prompts`.
    pub manifest: WorldManifest,
    /// The tokenizer's weights by name.
    pub tokenizer: BTreeMap<String, Tensor>,
    /// The latent action model's weights by name.
    pub latent_actions: BTreeMap<String, Tensor>,
    /// The dynamics' weights by name.
    pub dynamics: BTreeMap<String, Tensor>,
    /// Starting frames.
    pub prompts: Vec<Frame>,
    /// The text for people, in Markdown.
    pub readme: String,
    /// Further files by name, such as the pictures that the text shows and the manifest's sounds (`sounds/jump.wav`).
    pub files: BTreeMap<String, Vec<u8>>,
}

impl BundleContents {
    /// The bundle's files by name.
    ///
    /// # Errors
    /// When the manifest is not valid or a further file's name is taken or not plain.
    fn encode(&self, format: WeightFormat) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut files = self.files.clone();
        let mut manifest = self.manifest.clone();
        manifest.prompts = (0..self.prompts.len())
            .map(|index| format!("{index:03}.png"))
            .collect();
        let origin = MemorySource::new(self.manifest.name.as_str(), BTreeMap::new());
        if let Some(name) = files.keys().find(|name| !is_safe_name(name)) {
            return Err(refused(&origin, name, "name", "is no plain file name"));
        }
        let text = manifest
            .to_text()
            .map_err(|flaw| refused(&origin, MANIFEST_FILE, flaw.field, flaw.reason))?;
        let mut parts = vec![
            (MANIFEST_FILE.to_owned(), text.into_bytes()),
            (README_FILE.to_owned(), self.readme.clone().into_bytes()),
            (
                TOKENIZER_FILE.to_owned(),
                weights::encode(&self.tokenizer, format)?,
            ),
            (
                LATENT_ACTIONS_FILE.to_owned(),
                weights::encode(&self.latent_actions, format)?,
            ),
            (
                DYNAMICS_FILE.to_owned(),
                weights::encode(&self.dynamics, format)?,
            ),
        ];
        for (name, frame) in manifest.prompts.iter().zip(&self.prompts) {
            parts.push((format!("{PROMPTS_FOLDER}/{name}"), frame.to_png()?));
        }
        for (name, content) in parts {
            if files.insert(name.clone(), content).is_some() {
                return Err(refused(
                    &origin,
                    &name,
                    "name",
                    "is taken by the bundle itself",
                ));
            }
        }
        Ok(files)
    }

    /// The world that these contents make, just as a player would load it: weights rounded to `format`.
    ///
    /// # Errors
    /// When a loader would refuse the bundle.
    pub fn world(&self, format: WeightFormat) -> Result<World> {
        self.load(&self.encode(format)?)
    }

    /// Whether the bundle in `source` has these very latent actions, so that an action code means the same in both.
    ///
    /// # Errors
    /// When they cannot be read or encoded.
    pub fn has_latent_actions_of(
        &self,
        source: &dyn BundleSource,
        format: WeightFormat,
    ) -> Result<bool> {
        let own = weights::encode(&self.latent_actions, format)?;
        let length = own.len() as u64;
        let as_long = source.size(LATENT_ACTIONS_FILE)? == Some(length);
        Ok(as_long && source.read(LATENT_ACTIONS_FILE, length)? == own)
    }

    fn load(&self, files: &BTreeMap<String, Vec<u8>>) -> Result<World> {
        let borrowed = files.iter();
        let borrowed = borrowed.map(|(name, content)| (name.clone(), content.as_slice().into()));
        let source = MemorySource::new(self.manifest.name.as_str(), borrowed.collect());
        World::from_source(&source, nn::device())
    }
}

/// Saves a bundle in `folder` and returns the world that it is, loaded from the saved bytes.
///
/// Everything is checked and written inside the folder first, so that all renaming stays on one file system. Whenever the program is
/// interrupted, the folder holds the old world or the new one, never a mixture: a replacement counts from the moment that it is complete,
/// also where its files have not come to their places yet (see [`FolderSource`](crate::FolderSource)). Of the old world, the prompts and sounds
/// that its manifest names and the new one has not are removed; other files in the folder stay.
///
/// # Errors
/// When a loader would refuse the bundle, or writing fails.
pub fn save(contents: &BundleContents, format: WeightFormat, folder: &Path) -> Result<World> {
    let files = contents.encode(format)?;
    let world = contents.load(&files)?;
    let mut outdated = named_files(folder);
    outdated.retain(|name| !files.contains_key(name));
    remove_abandoned(folder);
    let staging = folder.join(format!("{STAGING}{}", std::process::id()));
    let done = write_all(&files, &staging).and_then(|()| put_in_place(&staging, folder, &outdated));
    if staging.exists()
        && let Err(error) = fs::remove_dir_all(&staging)
    {
        tracing::warn!("{}: {error}", staging.display());
    }
    done.map(|()| world)
}

/// Removes what savers that were killed left in a folder. Nobody else may be saving there.
fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(STAGING));
        if process.is_some_and(|number| number.parse::<u32>().is_ok())
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!("{}: {error}", entry.path().display());
        }
    }
}

/// The prompts and sounds that the manifest in a folder names; none where there is no manifest that can be read.
fn named_files(folder: &Path) -> BTreeSet<String> {
    let manifest = FolderSource::new(folder).and_then(|source| read_manifest(&source));
    let Ok(manifest) = manifest else {
        return BTreeSet::new();
    };
    let prompts = manifest.prompts.iter();
    let prompts = prompts.map(|name| format!("{PROMPTS_FOLDER}/{name}"));
    let mut sounds = manifest.sound_files();
    // A sound beside the manifest has stayed whatever became of the world.
    sounds.retain(|name| name.contains('/'));
    prompts.chain(sounds).collect()
}

/// Writes files into a new folder.
fn write_all(files: &BTreeMap<String, Vec<u8>>, staging: &Path) -> Result<()> {
    for (name, content) in files {
        let path = staging.join(name);
        let folder = path.parent().unwrap_or(staging);
        fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
        let written = fs::File::create(&path).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
        written.map_err(|error| Error::io(&path, error))?;
    }
    Ok(())
}

fn put_in_place(staging: &Path, folder: &Path, outdated: &BTreeSet<String>) -> Result<()> {
    let replacement = folder.join(REPLACEMENT_FOLDER);
    if replacement.exists() {
        // Saving was interrupted before: only a whole world can be replaced.
        move_out(&replacement, folder)?;
    }
    fs::rename(staging, &replacement).map_err(|error| Error::io(&replacement, error))?;
    // From here on the folder is the new world, and what is moved is the same before and after. The manifest first: by it a world is found.
    let manifest = folder.join(MANIFEST_FILE);
    fs::rename(replacement.join(MANIFEST_FILE), &manifest)
        .map_err(|error| Error::io(&manifest, error))?;
    move_out(&replacement, folder)?;
    // They would otherwise stay among the new ones. What no manifest named is someone's own.
    for path in outdated.iter().map(|name| folder.join(name)) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(&path, error));
            }
            _ => {}
        }
    }
    for inside in [PROMPTS_FOLDER, SOUNDS_FOLDER] {
        // Only an empty folder goes.
        let _ = fs::remove_dir(folder.join(inside));
    }
    Ok(())
}

/// Moves everything in the folder `from` into the folder `to`, over what is there, and removes `from`.
fn move_out(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(|error| Error::io(to, error))?;
    // All of them before the first is moved: a listing may miss entries of a folder that changes under it.
    let entries = fs::read_dir(from).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    for entry in entries.map_err(|error| Error::io(from, error))? {
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            true => move_out(&path, &place)?,
            false => fs::rename(&path, &place).map_err(|error| Error::io(&place, error))?,
        }
    }
    fs::remove_dir(from).map_err(|error| Error::io(from, error))
}
