//! Making bundles: what a trainer hands over, and how it gets to disk.

use crate::error::{Error, Result};
use crate::source::{MemorySource, is_safe_name, refused};
use crate::weights::{self, WeightFormat};
use crate::world::{
    DYNAMICS_FILE, LATENT_ACTIONS_FILE, MANIFEST_FILE, PROMPTS_FOLDER, README_FILE, SOUNDS_FOLDER,
    TOKENIZER_FILE,
};
use crate::{Frame, World, WorldManifest};
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

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

    fn load(&self, files: &BTreeMap<String, Vec<u8>>) -> Result<World> {
        let borrowed = files.iter();
        let borrowed = borrowed.map(|(name, content)| (name.clone(), content.as_slice().into()));
        let source = MemorySource::new(self.manifest.name.as_str(), borrowed.collect());
        World::from_source(&source, nn::device())
    }
}

/// Saves a bundle in `folder` and returns the world that it is, loaded from the saved bytes.
///
/// Everything is checked and written beside the folder first, then put in place by renaming, the manifest last: whenever the program
/// is interrupted, the folder holds the old world, no world or the new one, never a mixture. Other files in the folder stay.
///
/// # Errors
/// When a loader would refuse the bundle, or writing fails.
pub fn save(contents: &BundleContents, format: WeightFormat, folder: &Path) -> Result<World> {
    let files = contents.encode(format)?;
    let world = contents.load(&files)?;
    let staging = staging_folder(folder)?;
    let done = write_all(&files, &staging).and_then(|()| put_in_place(&files, &staging, folder));
    if staging.exists()
        && let Err(error) = fs::remove_dir_all(&staging)
    {
        tracing::warn!("{}: {error}", staging.display());
    }
    done.map(|()| world)
}

/// A name for a temporary folder beside `folder`, on the same file system; its parent is made.
fn staging_folder(folder: &Path) -> Result<PathBuf> {
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(|error| Error::io(parent, error))?;
    let name = folder.file_name().unwrap_or("world".as_ref());
    let name = format!(".{}.saving-{}", name.to_string_lossy(), std::process::id());
    let staging = parent.join(name);
    if staging.exists() {
        fs::remove_dir_all(&staging).map_err(|error| Error::io(&staging, error))?;
    }
    Ok(staging)
}

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

fn put_in_place(files: &BTreeMap<String, Vec<u8>>, staging: &Path, folder: &Path) -> Result<()> {
    if !folder.exists() {
        return fs::rename(staging, folder).map_err(|error| Error::io(folder, error));
    }
    let old_manifest = folder.join(MANIFEST_FILE);
    if old_manifest.exists() {
        fs::remove_file(&old_manifest).map_err(|error| Error::io(&old_manifest, error))?;
    }
    // The old world's prompts and sounds would otherwise stay among the new ones.
    for inside in [PROMPTS_FOLDER, SOUNDS_FOLDER] {
        let old = folder.join(inside);
        if old.exists() {
            let aside = staging.join(format!("replaced-{inside}"));
            fs::rename(&old, aside).map_err(|error| Error::io(&old, error))?;
        }
    }
    let later = |name: &&String| name.as_str() == MANIFEST_FILE;
    let (last, first): (Vec<_>, Vec<_>) = files.keys().partition(later);
    for name in first.into_iter().chain(last) {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(|error| Error::io(parent, error))?;
        fs::rename(staging.join(name), &path).map_err(|error| Error::io(&path, error))?;
    }
    Ok(())
}
