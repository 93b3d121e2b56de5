//! Saved states: one file with all that play goes on from, and slots for them.
//!
//! A state is a safetensors file: the tensors of [`worlds::Snapshot::to_bytes`], the newest frame among them as the picture
//! for a chooser, and as metadata
//!
//! | key | value |
//! |---|---|
//! | `djinn_state` | version of the format: 1 |
//! | `world`, `world_hash` | name and hash (whatever its idle code) of the world that it was saved in, the only one that it can be loaded in |
//! | `settings` | [`RolloutSettings`] in RON |
//! | `frames` | frames before the next one, the prompt's included |
//! | `codes` | the latest codes, as many as decide what comes of a wish; older states have none |

use crate::error::{Error, Result};
use crate::whole_file::write_bytes;
use safetensors::tensor::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use worlds::{Frame, Rollout, RolloutSettings, Snapshot, World};

/// The version of the format that this program writes, and the only one it reads.
const VERSION: &str = "1";
/// The longest past that a world may have, and what little comes with it.
pub(crate) const LARGEST_STATE: u64 = nn::LARGEST_PAST as u64 + (64 << 20);
/// Slots that a player has, counted from 0.
pub const SLOTS: u8 = 10;

/// A point of play as a file.
#[derive(Clone)]
pub struct SavedState {
    bytes: Vec<u8>,
    /// Name of its world.
    pub world: String,
    /// Hash of its world.
    pub world_hash: String,
    /// Seed, sampler and strength at that point.
    pub settings: RolloutSettings,
    /// Number of the newest frame.
    pub frame: u64,
    /// The newest frame.
    pub picture: Frame,
}

impl std::fmt::Debug for SavedState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SavedState({}, frame {})", self.world, self.frame)
    }
}

fn refuse(field: &str, reason: impl ToString) -> Error {
    Error::State {
        field: field.to_owned(),
        reason: reason.to_string(),
    }
}

impl SavedState {
    /// The state of a rollout.
    ///
    /// # Errors
    /// When it cannot be put together.
    pub fn of(rollout: &Rollout) -> Result<Self> {
        let world = rollout.world();
        let settings = ron::to_string(rollout.settings());
        let notes = [
            ("djinn_state", VERSION.to_owned()),
            ("world", world.manifest.name.clone()),
            ("world_hash", world.hash_without_idle.clone()),
            (
                "settings",
                settings.map_err(|error| refuse("settings", error))?,
            ),
        ];
        let snapshot = rollout.snapshot();
        Ok(Self {
            bytes: snapshot.to_bytes(world, &notes)?,
            world: world.manifest.name.clone(),
            world_hash: world.hash_without_idle.clone(),
            settings: *rollout.settings(),
            frame: snapshot.number(),
            picture: rollout.frame()?,
        })
    }

    /// Reads a state from a file's bytes, of which nothing is believed.
    ///
    /// # Errors
    /// When it is no state.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        let unreadable = |error: safetensors::SafeTensorError| refuse("file", error);
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(unreadable)?;
        let none = HashMap::new();
        let notes = header.metadata().as_ref().unwrap_or(&none);
        let note = |key: &str| -> Result<&str> {
            let text = notes.get(key).ok_or_else(|| refuse(key, "is missing"))?;
            let plain = text.len() <= 4096 && !text.chars().any(char::is_control);
            plain
                .then_some(text.as_str())
                .ok_or_else(|| refuse(key, "must be one short line"))
        };
        let version = note("djinn_state")?;
        if version != VERSION {
            let reason = format!("version {version} is not known to this program");
            return Err(refuse("djinn_state", reason));
        }
        let settings =
            ron::from_str(note("settings")?).map_err(|error| refuse("settings", error))?;
        let frames: Option<u64> = note("frames")?.parse().ok();
        let frame = frames.and_then(|frames| frames.checked_sub(1));
        let (world, world_hash) = (note("world")?.to_owned(), note("world_hash")?.to_owned());
        let picture = picture(&bytes)?;
        Ok(Self {
            world,
            world_hash,
            settings,
            frame: frame.ok_or_else(|| refuse("frames", "is no number of frames"))?,
            picture,
            bytes,
        })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads a state.
    ///
    /// # Errors
    /// When there is no such file or it is no state.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let mut bytes = Vec::new();
        let mut limited = file.take(LARGEST_STATE + 1);
        limited.read_to_end(&mut bytes).map_err(Error::io(path))?;
        if bytes.len() as u64 > LARGEST_STATE {
            return Err(refuse("file", format!("more than {LARGEST_STATE} bytes")));
        }
        Self::from_bytes(bytes)
    }

    /// Writes the state: under another name first, so that it is never there half, and what was there is kept until then.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_bytes(path, &self.bytes)
    }

    /// First digits of the content's SHA-256, as a name.
    pub(crate) fn short_hash(&self) -> String {
        let digest = Sha256::digest(&self.bytes);
        digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
    }

    /// A rollout that goes on from this state.
    ///
    /// # Errors
    /// When it is a state of another world or does not fit.
    pub fn resume(&self, world: Arc<World>) -> Result<Rollout> {
        if self.world_hash != world.hash_without_idle {
            return Err(Error::StateOfAnotherWorld {
                saved: self.world.clone(),
                saved_hash: self.world_hash.clone(),
                given: world.manifest.name.clone(),
                given_hash: world.hash_without_idle.clone(),
            });
        }
        self.settings.validate(&world.manifest)?;
        let size = world.manifest.frame;
        let any = Frame::new(size, vec![0; size.bytes()])?;
        let like = Rollout::start(world.clone(), &[any], self.settings)?.snapshot();
        let snapshot = Snapshot::from_bytes(&self.bytes, &like)?;
        Ok(Rollout::resume(world, &snapshot, self.settings)?)
    }
}

/// The newest frame in a state's bytes.
fn picture(bytes: &[u8]) -> Result<Frame> {
    let unreadable = |error: safetensors::SafeTensorError| refuse("picture", error);
    let file = SafeTensors::deserialize(bytes).map_err(unreadable)?;
    let tensor = file.tensor("picture").map_err(unreadable)?;
    let (Dtype::F32, &[height, width, 3]) = (tensor.dtype(), tensor.shape()) else {
        return Err(refuse("picture", "is no picture"));
    };
    let words = tensor.data().as_chunks::<4>().0;
    let numbers: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    Ok(Frame::from_numbers(
        &numbers,
        nn::FrameSize { height, width },
    )?)
}

/// A folder with a world's saved states, one for each slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    folder: PathBuf,
}

impl Slots {
    /// Slots in a folder, which is made when the first state is saved.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The slots of a world in the user's data folder; `None` where the system names no such folder.
    pub fn of(world: &World) -> Option<Self> {
        let user = directories::ProjectDirs::from("", "", "djinn")?;
        let name = &world.manifest.name;
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name: String = name.chars().take(40).map(plain).collect();
        let hash: String = world.hash_without_idle.chars().take(8).collect();
        let folder = user.data_dir().join("states").join(name + "-" + &hash);
        Some(Self { folder })
    }

    fn path(&self, slot: u8) -> Result<PathBuf> {
        match slot < SLOTS {
            true => Ok(self.folder.join(format!("slot-{slot}.state"))),
            false => Err(refuse("slot", format!("{slot} is not below {SLOTS}"))),
        }
    }

    /// Saves a state in a slot; the one that was there is replaced.
    ///
    /// # Errors
    /// When there is no such slot or it cannot be written.
    pub fn save(&self, slot: u8, state: &SavedState) -> Result<()> {
        let path = self.path(slot)?;
        fs::create_dir_all(&self.folder).map_err(Error::io(&self.folder))?;
        state.write(&path)
    }

    /// The state in a slot; `None` for an empty one.
    ///
    /// # Errors
    /// When what is there is no state.
    pub fn load(&self, slot: u8) -> Result<Option<SavedState>> {
        let path = self.path(slot)?;
        match path.exists() {
            true => SavedState::read(&path).map(Some),
            false => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::OnceLock;
    use worlds::Wish;

    fn world() -> Arc<World> {
        static WORLD: OnceLock<Arc<World>> = OnceLock::new();
        WORLD
            .get_or_init(|| Arc::new(worlds::tiny_world(1).unwrap()))
            .clone()
    }

    fn rollout() -> Rollout {
        let mut settings = RolloutSettings::of(&world().manifest, 9);
        settings.sampler.temperature = 1.5;
        let mut rollout = Rollout::start(world(), &world().prompts[..1], settings).unwrap();
        for _ in 0..6 {
            rollout.step(&Wish::none()).unwrap();
        }
        rollout
    }

    #[test]
    fn a_saved_state_goes_on_the_same_after_it_was_on_disk() {
        let mut rollout = rollout();
        let folder = tempfile::tempdir().unwrap();
        let slots = Slots::new(folder.path().join("deep"));
        assert!(slots.load(3).unwrap().is_none());
        slots.save(3, &SavedState::of(&rollout).unwrap()).unwrap();
        let state = slots.load(3).unwrap().unwrap();
        assert_eq!(
            (state.frame, &state.picture),
            (6, &rollout.frame().unwrap())
        );
        assert_eq!(&state.settings, rollout.settings());
        let mut again = state.resume(world()).unwrap();
        for _ in 0..6 {
            let (one, other) = (rollout.step(&Wish::none()), again.step(&Wish::none()));
            assert_eq!(one.unwrap(), other.unwrap());
        }
        assert_eq!(fs::read_dir(folder.path().join("deep")).unwrap().count(), 1);
        assert!(slots.save(SLOTS, &state).is_err());
    }

    #[test]
    fn a_state_of_another_world_is_refused_by_name() {
        let state = SavedState::of(&rollout()).unwrap();
        let other = Arc::new(worlds::tiny_world(2).unwrap());
        let refused = state.resume(other).err().unwrap().to_string();
        assert!(refused.contains("saved in world Tiny"), "{refused}");
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let state = SavedState::of(&rollout()).unwrap();
        let path = folder.path().join("a.state");
        // A folder cannot be replaced by a file.
        fs::create_dir(&path).unwrap();
        assert!(state.write(&path).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_files_are_refused_or_can_be_played(at in 0usize..1500, byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let bytes = SavedState::of(&rollout()).unwrap().bytes;
            let whole = bytes.len();
            prop_assert!(SavedState::from_bytes(bytes[..cut.index(whole)].to_vec()).is_err());
            let mut bytes = bytes;
            bytes[at] = byte;
            if let Ok(state) = SavedState::from_bytes(bytes)
                && let Ok(mut rollout) = state.resume(world())
            {
                let _ = rollout.step(&Wish::none());
            }
        }
    }
}
