//! All that a rollout goes on from: in memory, and as bytes to be stored.

use crate::error::{Error, Result};
use crate::manifest::LONGEST_LASTING;
use crate::{Frame, World};
use dynamics::prior_probabilities;
use nn::{ActionCode, CacheContents, KvCache};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;
use std::sync::Arc;
use tokenizer::TokenizerStream;

/// Most frames that a stored snapshot may have had before it: years of play.
const MOST_FRAMES: u64 = 1 << 40;
/// Where the number of frames stands among a stored snapshot's notes.
const FRAMES: &str = "frames";
/// Where the codes of its last frames stand there, in order.
const CODES: &str = "codes";

/// All that a rollout goes on from. The past is shared, so that a snapshot of a frame whose neighbours are kept too costs no more than what is
/// new in that frame.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) cache: KvCache,
    pub(crate) stream: TokenizerStream,
    /// The newest frame as the decoder gave it, `[H, W, 3]`.
    pub(crate) picture: Arc<[f32]>,
    pub(crate) prior_logits: Arc<[f32]>,
    pub(crate) prior: Arc<[f32]>,
    /// Codes of the last frames, the newest at the end: as many as decide what comes of a wish.
    pub(crate) codes: Arc<[ActionCode]>,
    /// Frames so far, the prompt's included: the number of the next one.
    pub(crate) frames: u64,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot(after {} frames)", self.frames)
    }
}

impl Snapshot {
    /// Before any frame.
    pub(crate) fn empty(world: &World) -> Self {
        Self {
            cache: world.dynamics.start(),
            stream: world.tokenizer.start_stream(),
            picture: Arc::default(),
            prior_logits: Arc::default(),
            prior: Arc::default(),
            codes: Arc::default(),
            frames: 0,
        }
    }

    /// Frames so far, the prompt's included.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Number of the newest frame.
    pub fn number(&self) -> u64 {
        self.frames.saturating_sub(1)
    }

    /// The newest frame, as the tokenizer decodes it.
    ///
    /// # Errors
    /// When the picture is not of the world's size.
    pub fn frame(&self, world: &World) -> Result<Frame> {
        Frame::from_numbers(&self.picture, world.manifest.frame)
    }

    /// Makes decided tokens the newest frame.
    pub(crate) fn take(
        &mut self,
        world: &World,
        code: Option<ActionCode>,
        tokens: &[u32],
    ) -> Result<()> {
        let engine = world.engine()?;
        let logits = engine.commit(world, &mut self.cache, code, tokens)?;
        let picture = engine.decode(world, &mut self.stream, tokens)?;
        let mut numbers = logits.iter().chain(&picture);
        if numbers.any(|number| !number.is_finite()) {
            return Err(Error::NotFinite { frame: self.frames });
        }
        self.prior = prior_probabilities(&logits).into();
        self.prior_logits = logits.into();
        self.picture = picture.into();
        self.remember(world, code);
        self.frames += 1;
        Ok(())
    }

    fn remember(&mut self, world: &World, code: Option<ActionCode>) {
        let most = world.manifest.remembered_codes();
        let codes = self.codes.iter().copied().chain(code);
        let codes: Vec<_> = codes.collect();
        self.codes = codes[codes.len().saturating_sub(most)..].into();
    }

    /// Where each of its parts lies in memory and how many bytes the part takes. Snapshots that share a part name the same place, so that the
    /// bytes of several snapshots are those of all different places.
    pub fn memory(&self) -> impl Iterator<Item = (usize, usize)> {
        let numbers = |numbers: &Arc<[f32]>| (numbers.as_ptr().addr(), size_of_val(&numbers[..]));
        let own = [&self.picture, &self.prior_logits, &self.prior].map(numbers);
        let codes = (self.codes.as_ptr().addr(), size_of_val(&self.codes[..]));
        let caches = [&self.cache, self.stream.decoder(), self.stream.encoder()];
        let caches = caches.into_iter().flat_map(KvCache::memory);
        let parts = caches.chain(own).chain([codes]);
        parts.filter(|&(_, bytes)| bytes > 0)
    }

    /// Bytes of all that it holds; what it shares with other snapshots counts in full.
    pub fn bytes(&self) -> usize {
        self.memory().map(|(_, bytes)| bytes).sum()
    }

    /// The snapshot as a safetensors file: `cache` and `decoder` f32 `[frames held, layers, 2, numbers]` (keys and values of the dynamics' and
    /// the decoder's past), `picture` f32 `[H, W, 3]`, `prior_logits` f32 `[K]`. `notes` go among its metadata, where `frames` and `codes` are taken.
    ///
    /// # Errors
    /// When it cannot be put together.
    pub fn to_bytes(&self, world: &World, notes: &[(&str, String)]) -> Result<Vec<u8>> {
        let bytes =
            |numbers: &[f32]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_le_bytes()).collect() };
        let past = |cache: &KvCache| {
            let contents = cache.contents();
            let shape = vec![contents.frames, contents.layers, 2, contents.width];
            (shape, bytes(&contents.numbers))
        };
        let size = world.manifest.frame;
        let picture = (vec![size.height, size.width, 3], bytes(&self.picture));
        let logits = (vec![self.prior_logits.len()], bytes(&self.prior_logits));
        let tensors = [
            ("cache", past(&self.cache)),
            ("decoder", past(self.stream.decoder())),
            ("picture", picture),
            ("prior_logits", logits),
        ];
        let notes = notes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()));
        let codes = self.codes.iter().map(ActionCode::to_string);
        let codes = codes.collect::<Vec<_>>().join(" ");
        let notes = notes.chain([
            (FRAMES.to_owned(), self.frames.to_string()),
            (CODES.to_owned(), codes),
        ]);
        let mut views = Vec::new();
        for (name, (shape, data)) in &tensors {
            let view = TensorView::new(Dtype::F32, shape.clone(), data);
            views.push((*name, view.map_err(|error| stored(name, error))?));
        }
        safetensors::serialize(views, Some(notes.collect::<HashMap<_, _>>()))
            .map_err(|error| stored("tensors", error))
    }

    /// Reads what [`Self::to_bytes`] wrote. `like` is any snapshot of the same world: it says which sizes fit.
    ///
    /// # Errors
    /// [`Error::Stored`] when the bytes are not such a snapshot or do not fit the world.
    pub fn from_bytes(bytes: &[u8], like: &Self) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| stored("file", error))?;
        let (_, metadata) =
            SafeTensors::read_metadata(bytes).map_err(|error| stored("file", error))?;
        let notes = metadata.metadata().as_ref();
        let frames = notes.and_then(|notes| notes.get(FRAMES)?.parse::<u64>().ok());
        let frames = frames
            .filter(|frames| (1..=MOST_FRAMES).contains(frames))
            .ok_or_else(|| stored(FRAMES, "is no number of frames"))?;
        let past = |name: &str, cache: &KvCache| -> Result<KvCache> {
            let (shape, numbers) = numbers(&file, name)?;
            let &[held, layers, 2, width] = &shape[..] else {
                return Err(stored(name, format!("{shape:?} is no shape of a past")));
            };
            let contents = CacheContents {
                frames: held,
                layers,
                width,
                numbers,
            };
            cache
                .with_contents(frames, &contents)
                .map_err(|error| stored(name, error))
        };
        let row = |name: &str, like: &[f32]| -> Result<Arc<[f32]>> {
            let (_, numbers) = numbers(&file, name)?;
            match numbers.len() == like.len() {
                true => Ok(numbers.into()),
                false => Err(stored(name, format!("{} numbers", numbers.len()))),
            }
        };
        let prior_logits = row("prior_logits", &like.prior_logits)?;
        // Snapshots from before codes were remembered have none.
        let codes = notes.and_then(|notes| notes.get(CODES));
        let codes = codes.map_or("", String::as_str).split_whitespace();
        let known = |code: &u16| usize::from(*code) < prior_logits.len();
        let code = |text: &str| text.parse().ok().filter(known).map(ActionCode);
        let codes: Option<Vec<_>> = codes.map(code).collect();
        let codes = codes
            .filter(|codes| codes.len() <= usize::from(LONGEST_LASTING))
            .ok_or_else(|| stored(CODES, "are no codes of this world"))?;
        Ok(Self {
            cache: past("cache", &like.cache)?,
            stream: like
                .stream
                .with_decoder(past("decoder", like.stream.decoder())?),
            picture: row("picture", &like.picture)?,
            prior: prior_probabilities(&prior_logits).into(),
            prior_logits,
            codes: codes.into(),
            frames,
        })
    }
}

fn stored(field: &str, reason: impl ToString) -> Error {
    Error::Stored {
        field: field.to_owned(),
        reason: crate::error::printable(&reason.to_string()),
    }
}

/// Shape and numbers of a tensor of finite numbers.
fn numbers(file: &SafeTensors<'_>, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
    let tensor = file.tensor(name).map_err(|error| stored(name, error))?;
    if tensor.dtype() != Dtype::F32 {
        return Err(stored(name, format!("{:?}, expected F32", tensor.dtype())));
    }
    let words = tensor.data().as_chunks::<4>().0;
    let numbers: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    match numbers.iter().all(|number| number.is_finite()) {
        true => Ok((tensor.shape().to_vec(), numbers)),
        false => Err(stored(name, "holds what is no finite number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lasting, RandomPlayer, Rollout, RolloutSettings, WeightFormat, tiny_contents};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::OnceLock;

    fn played(frames: usize) -> Rollout {
        static WORLD: OnceLock<Arc<World>> = OnceLock::new();
        let remembering = || {
            let mut contents = tiny_contents(1).unwrap();
            contents.manifest.lasts = vec![Some(Lasting { frames: 2, of: 3 })];
            Arc::new(contents.world(WeightFormat::F32).unwrap())
        };
        let world = WORLD.get_or_init(remembering).clone();
        let settings = RolloutSettings::of(&world.manifest, 3);
        let prompt = world.prompts[..1].to_vec();
        let mut rollout = Rollout::start(world, &prompt, settings).unwrap();
        let mut player = RandomPlayer::new(1, 4);
        for _ in 0..frames {
            rollout.step(&player.next_wish()).unwrap();
        }
        rollout
    }

    #[test]
    fn a_stored_snapshot_goes_on_as_the_rollout_itself() {
        for frames in [0, 2, 9] {
            let mut rollout = played(frames);
            let world = rollout.world().clone();
            let note = [("world", world.hash.clone())];
            let bytes = rollout.snapshot().to_bytes(&world, &note).unwrap();
            let settings = *rollout.settings();
            let snapshot = Snapshot::from_bytes(&bytes, &played(1).snapshot()).unwrap();
            let mut again = Rollout::resume(world, &snapshot, settings).unwrap();
            assert_eq!(again.frame().unwrap(), rollout.frame().unwrap());
            let mut player = RandomPlayer::new(5, 4);
            for _ in 0..8 {
                let wish = player.next_wish();
                assert_eq!(again.step(&wish).unwrap(), rollout.step(&wish).unwrap());
            }
        }
    }

    #[test]
    fn stored_codes_that_the_world_does_not_have_are_refused() {
        let rollout = played(5);
        let bytes = rollout.snapshot().to_bytes(rollout.world(), &[]).unwrap();
        let (length, rest) = bytes.split_at(8);
        let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        let header = std::str::from_utf8(&rest[..length]).unwrap();
        let (before, codes) = header.split_once("\"codes\":\"").unwrap();
        let (own, after) = codes.split_once('"').unwrap();
        let read = |codes: &str| {
            let header = format!("{before}\"codes\":\"{codes}\"{after}");
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.extend(&rest[length..]);
            Snapshot::from_bytes(&bytes, &rollout.snapshot())
        };
        assert_eq!(*read(own).unwrap().codes, *rollout.snapshot().codes);
        for codes in ["4", "1 -1", "1 two", &"1 ".repeat(129)] {
            let refused = read(codes).unwrap_err().to_string();
            assert!(refused.contains("codes"), "{refused}");
        }
    }

    #[test]
    fn snapshots_in_a_row_cost_what_is_new_in_each() {
        let mut rollout = played(10);
        let mut parts = BTreeMap::new();
        let mut bytes = Vec::new();
        let mut kept = Vec::new();
        for _ in 0..3 {
            rollout.step_with_code(ActionCode(0)).unwrap();
            let snapshot = rollout.snapshot();
            parts.extend(snapshot.memory());
            kept.push(snapshot);
            bytes.push(parts.values().sum::<usize>());
        }
        // Keys and values of 2 layers of 7 positions of 32 numbers; a picture; logits and probabilities of 4 codes; 3 codes.
        let frame = 2 * 2 * 7 * 32 * 4;
        let own = 24 * 16 * 3 * 4 + 2 * 4 * 4 + 3 * 2;
        assert_eq!(bytes[0], 3 * frame + own);
        assert_eq!(bytes[1] - bytes[0], frame + own);
        assert_eq!(bytes[2] - bytes[1], frame + own);
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_refused_or_can_be_played(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let rollout = played(5);
            let world = rollout.world().clone();
            let bytes = rollout.snapshot().to_bytes(&world, &[]).unwrap();
            let cut = &bytes[..cut.index(bytes.len())];
            prop_assert!(Snapshot::from_bytes(cut, &rollout.snapshot()).is_err());
            let mut bytes = bytes;
            // Most of the file is numbers; the front says what they are.
            let at = at.index(2000.min(bytes.len()));
            bytes[at] = byte;
            if let Ok(snapshot) = Snapshot::from_bytes(&bytes, &rollout.snapshot()) {
                let mut again = Rollout::resume(world, &snapshot, *rollout.settings()).unwrap();
                let _ = again.step_with_code(ActionCode(0));
            }
        }
    }
}
