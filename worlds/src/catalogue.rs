//! Finding worlds: by path, by name, built in.

use crate::error::{Error, Result};
use crate::source::{BundleSource, FolderSource, MemorySource};
use crate::world::MANIFEST_FILE;
use crate::{World, WorldManifest, read_manifest};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The files of a bundle that is built in, by name.
type EmbeddedFiles = &'static [(&'static str, &'static [u8])];

/// Bundles that are built into the program, by name.
static BUILT_IN: &[(&str, EmbeddedFiles)] = include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

/// The world that is played when none is named.
pub const DEFAULT_WORLD: &str = "coinrun";

/// A world that has been found but not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundWorld {
    /// The name by which [`find`] finds it.
    pub name: String,
    /// Where it is.
    pub place: Place,
}

/// Where a world is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a folder.
    Folder(PathBuf),
    /// In the program itself.
    BuiltIn,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::BuiltIn => f.write_str("built in"),
        }
    }
}

impl FoundWorld {
    /// The bundle's files.
    ///
    /// # Errors
    /// When they are no longer there.
    pub fn source(&self) -> Result<Box<dyn BundleSource>> {
        match &self.place {
            Place::Folder(path) => Ok(Box::new(FolderSource::new(path)?)),
            Place::BuiltIn => {
                let named = BUILT_IN.iter().find(|(name, _)| *name == self.name);
                let (_, files) = named.ok_or_else(|| unknown(&self.name))?;
                let files = files.iter();
                let files = files.map(|(name, content)| ((*name).to_owned(), (*content).into()));
                let origin = format!("built-in {}", self.name);
                Ok(Box::new(MemorySource::new(origin, files.collect())))
            }
        }
    }

    /// Reads its manifest only.
    ///
    /// # Errors
    /// When it is missing or refused.
    pub fn manifest(&self) -> Result<WorldManifest> {
        read_manifest(self.source()?.as_ref())
    }

    /// Loads it onto the device of this process.
    ///
    /// # Errors
    /// When anything in the bundle is refused.
    pub fn load(&self) -> Result<World> {
        let begun = std::time::Instant::now();
        let world = World::from_source(self.source()?.as_ref(), nn::device())?;
        tracing::info!(
            "world {} ({}) loaded in {:.2} s, hash {:.12}",
            self.name,
            self.place,
            begun.elapsed().as_secs_f64(),
            world.hash
        );
        Ok(world)
    }

    /// By what a session finds this world again from whatever folder it is replayed: its name where that alone leads to it,
    /// else the whole path of its folder.
    pub fn lasting_name(&self) -> String {
        match &self.place {
            Place::BuiltIn => self.name.clone(),
            Place::Folder(path) => lasting_name(&self.name, path, &search_folders()),
        }
    }
}

/// Finds a world: by the path of its folder, else by name in the folders that [`search_folders`] lists, else among those built in.
///
/// # Errors
/// When there is no such world; the message lists those that there are.
pub fn find(name_or_path: &str) -> Result<FoundWorld> {
    find_in(name_or_path, &search_folders())
}

/// Finds a world by name alone: a folder of that name in the current folder is not looked at.
///
/// # Errors
/// When there is no such world.
pub fn find_named(name: &str) -> Result<FoundWorld> {
    let mut known = list().into_iter();
    known
        .find(|world| world.name == name)
        .ok_or_else(|| unknown(name))
}

fn find_in(name_or_path: &str, folders: &[PathBuf]) -> Result<FoundWorld> {
    let path = Path::new(name_or_path);
    if path.join(MANIFEST_FILE).is_file() {
        let name = path.file_name().unwrap_or(path.as_os_str());
        return Ok(FoundWorld {
            name: name.to_string_lossy().into_owned(),
            place: Place::Folder(path.to_owned()),
        });
    }
    let mut known = list_in(folders).into_iter();
    match known.find(|world| world.name == name_or_path) {
        Some(world) => Ok(world),
        None if path.is_dir() => Err(Error::NotAWorld(path.to_owned())),
        None => Err(unknown_in(name_or_path, folders)),
    }
}

/// The world that is played when none is named.
///
/// # Errors
/// When this program was built without it and none of that name lies in the folders that [`search_folders`] lists.
pub fn find_default() -> Result<FoundWorld> {
    let mut known = list().into_iter();
    known
        .find(|world| world.name == DEFAULT_WORLD)
        .ok_or(Error::NoDefault(DEFAULT_WORLD))
}

/// All worlds that are known by name; where two have the same name, the one that [`find`] gives.
pub fn list() -> Vec<FoundWorld> {
    list_in(&search_folders())
}

fn list_in(folders: &[PathBuf]) -> Vec<FoundWorld> {
    let mut names = BTreeSet::new();
    let mut found = Vec::new();
    let in_folders = folders.iter().flat_map(|folder| worlds_in(folder));
    let built_in = BUILT_IN.iter().map(|(name, _)| FoundWorld {
        name: (*name).to_owned(),
        place: Place::BuiltIn,
    });
    for world in in_folders.chain(built_in) {
        if names.insert(world.name.clone()) {
            found.push(world);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn lasting_name(name: &str, path: &Path, folders: &[PathBuf]) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let is_this = |world: &FoundWorld| match &world.place {
        Place::Folder(known) => world.name == name && known.canonicalize().is_ok_and(|k| k == real),
        Place::BuiltIn => false,
    };
    match list_in(folders).iter().any(is_this) {
        true => name.to_owned(),
        false => std::path::absolute(path)
            .unwrap_or(real)
            .display()
            .to_string(),
    }
}

fn worlds_in(folder: &Path) -> Vec<FoundWorld> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let worlds = entries.filter_map(|entry| {
        let path = entry.path();
        let name = entry.file_name().to_str()?.to_owned();
        let playable = !name.starts_with('.') && path.join(MANIFEST_FILE).is_file();
        playable.then_some(FoundWorld {
            name,
            place: Place::Folder(path),
        })
    });
    worlds.collect()
}

/// The folders in which worlds are found by name: `worlds` beside the program, then `worlds` in the user's data folder.
pub fn search_folders() -> Vec<PathBuf> {
    let program = std::env::current_exe().ok();
    let beside = program.and_then(|path| Some(path.parent()?.join("worlds")));
    let user = directories::ProjectDirs::from("", "", "djinn");
    let data = user.map(|dirs| dirs.data_dir().join("worlds"));
    beside.into_iter().chain(data).collect()
}

/// The built-in world of that name.
pub(crate) fn built_in(name: &str) -> Result<FoundWorld> {
    match BUILT_IN.iter().any(|(known, _)| *known == name) {
        true => Ok(FoundWorld {
            name: name.to_owned(),
            place: Place::BuiltIn,
        }),
        false => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> Error {
    unknown_in(name, &search_folders())
}

fn unknown_in(name: &str, folders: &[PathBuf]) -> Error {
    let names: Vec<String> = list_in(folders)
        .into_iter()
        .map(|world| world.name)
        .collect();
    let known = match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    };
    Error::Unknown {
        name: name.to_owned(),
        known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{WeightFormat, save, tiny_contents};

    #[test]
    fn every_built_in_world_loads() {
        for (name, _) in BUILT_IN {
            let world = World::built_in(name).unwrap();
            assert!(!world.prompts.is_empty());
        }
        assert!(World::built_in("no such world").is_err());
    }

    #[test]
    fn worlds_are_found_by_path_and_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let contents = tiny_contents(1).unwrap();
        let path = folder.path().join("tiny");
        save(&contents, WeightFormat::F16, &path).unwrap();
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        let folders = [folder.path().to_owned(), folder.path().join("missing")];

        let by_name = find_in("tiny", &folders).unwrap();
        assert_eq!(by_name.place, Place::Folder(path.clone()));
        assert_eq!(by_name.manifest().unwrap().name, "Tiny");
        let by_path = find_in(path.to_str().unwrap(), &[]).unwrap();
        assert_eq!(by_path, by_name);
        assert_eq!(by_path.load().unwrap().hash, by_name.load().unwrap().hash);

        assert_eq!(lasting_name("tiny", &path, &folders), "tiny");
        let elsewhere = folder.path().join("elsewhere/tiny");
        std::fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
        save(&contents, WeightFormat::F16, &elsewhere).unwrap();
        let whole = elsewhere.to_str().unwrap();
        assert_eq!(lasting_name("tiny", &elsewhere, &folders), whole);
        assert_eq!(lasting_name("tiny", &elsewhere, &[]), whole);

        let names: Vec<_> = list_in(&folders).into_iter().map(|w| w.name).collect();
        assert!(names.contains(&"tiny".to_owned()) && !names.contains(&"empty".to_owned()));
        let message = find_in("tinny", &folders).unwrap_err().to_string();
        assert!(
            message.contains("tinny") && message.contains("tiny"),
            "{message}"
        );
        let empty = folder.path().join("empty");
        let message = find_in(empty.to_str().unwrap(), &folders)
            .unwrap_err()
            .to_string();
        assert!(message.contains("no world.ron"), "{message}");
    }
}
