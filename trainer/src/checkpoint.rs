//! Checkpoints: one safetensors file for each stage, from which training continues exactly where it stopped.
//!
//! `weights.NAME`, `average.NAME`, `best.NAME` and `moments.NAME.first|second|momentum` are f32 tensors; the header's metadata entry `djinn` is a
//! [`Position`] as JSON. Random numbers need no state: every batch and every noise is drawn from a generator made of the
//! seed and the step, so the step is the position in the data, too.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::safetensors::Load;
use candle_core::{Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::recipe::Recipe;
use crate::{Error, Result, Stage, files};

/// Version of the format that this program writes and reads.
const VERSION: u32 = 2;
/// Name of the metadata entry.
const METADATA: &str = "djinn";

/// Where a stage stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Position {
    pub version: u32,
    pub stage: Stage,
    /// What the stage trains, on what; a checkpoint only continues under the same.
    pub recipe: Recipe,
    /// Steps taken, in all attempts.
    pub step: u64,
    /// Seconds spent, in all attempts.
    pub seconds: f64,
    /// Those of them that went into evaluations, and into the last one.
    pub evaluation_seconds: f64,
    pub last_evaluation_seconds: f64,
    pub finished: bool,
    /// Attempt at this stage, from 0, and the step and progress at which it began.
    pub attempt: u32,
    pub attempt_step: u64,
    pub attempt_progress: f64,
    /// Phase of the stage, from 0.
    pub phase: usize,
    /// Times that the loss exploded; each chooses other data from then on.
    pub rollbacks: u32,
    /// Factor on the configured learning rate.
    pub rate: f64,
    pub optimizer_steps: u64,
    pub average_updates: u64,
    /// The last losses, the latest at the end.
    pub recent_losses: Vec<f64>,
    /// Figures of the last evaluation.
    pub figures: BTreeMap<String, f64>,
    /// The best evaluation so far, where the stage keeps the weights of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
}

/// An evaluation that no later one has surpassed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Best {
    /// Steps taken before it.
    pub step: u64,
    /// Loss on held-out video.
    pub loss: f64,
    /// All figures of it.
    pub figures: BTreeMap<String, f64>,
}

impl Position {
    pub fn start(stage: Stage, recipe: Recipe) -> Self {
        Self {
            version: VERSION,
            stage,
            recipe,
            step: 0,
            seconds: 0.0,
            evaluation_seconds: 0.0,
            last_evaluation_seconds: 0.0,
            finished: false,
            attempt: 0,
            attempt_step: 0,
            attempt_progress: 0.0,
            phase: 0,
            rollbacks: 0,
            rate: 1.0,
            optimizer_steps: 0,
            average_updates: 0,
            recent_losses: Vec::new(),
            figures: BTreeMap::new(),
            best: None,
        }
    }
}

/// Tensors by name.
pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// A stage's whole state.
pub(crate) struct Checkpoint {
    pub position: Position,
    pub weights: Tensors,
    pub average: Tensors,
    /// The averaged weights of [`Position::best`].
    pub best: Tensors,
    pub moments: Tensors,
}

impl Checkpoint {
    /// Writes the checkpoint, leaving the one before in place until it is complete.
    pub fn write(&self, path: &Path) -> Result<()> {
        let groups = [
            ("weights", &self.weights),
            ("average", &self.average),
            ("best", &self.best),
            ("moments", &self.moments),
        ];
        let tensors = groups.into_iter().flat_map(|(group, tensors)| {
            tensors
                .iter()
                .map(move |(name, tensor)| (format!("{group}.{name}"), tensor.clone()))
        });
        let text = serde_json::to_string(&self.position)
            .map_err(|error| Error::damaged(path, METADATA, error.to_string()))?;
        let metadata = HashMap::from([(METADATA.to_owned(), text)]);
        let bytes = safetensors::serialize(tensors, Some(metadata))
            .map_err(|error| Error::damaged(path, "tensors", error.to_string()))?;
        files::write_atomically(path, &bytes)
    }

    /// Reads a checkpoint of `stage`; `None` where there is none.
    pub fn read(path: &Path, stage: Stage) -> Result<Option<Self>> {
        let bytes = files::read_if_there(path)?;
        bytes
            .map(|bytes| Self::parse(path, &bytes, stage))
            .transpose()
    }

    fn parse(path: &Path, bytes: &[u8], stage: Stage) -> Result<Self> {
        let refuse = |field: &str, reason: String| {
            Err(Error::damaged(
                path,
                field,
                format!("{reason}; remove the file to train this stage anew"),
            ))
        };
        let tensors = match SafeTensors::deserialize(bytes) {
            Ok(tensors) => tensors,
            Err(error) => return refuse("header", error.to_string()),
        };
        let text = match SafeTensors::read_metadata(bytes) {
            Ok((_, metadata)) => metadata
                .metadata()
                .as_ref()
                .and_then(|metadata| metadata.get(METADATA).cloned()),
            Err(error) => return refuse("header", error.to_string()),
        };
        let Some(text) = text else {
            return refuse(METADATA, "is missing: this is no checkpoint".to_owned());
        };
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        match serde_json::from_str::<Versioned>(&text) {
            Ok(Versioned { version: VERSION }) => {}
            Ok(Versioned { version }) => {
                return refuse(
                    "version",
                    format!("{version} is not {VERSION}, which this program reads"),
                );
            }
            Err(error) => return refuse(METADATA, error.to_string()),
        }
        let position: Position = match serde_json::from_str(&text) {
            Ok(position) => position,
            Err(error) => return refuse(METADATA, error.to_string()),
        };
        if position.stage != stage {
            return refuse("stage", format!("{} is not {stage}", position.stage));
        }
        let mut checkpoint = Self {
            position,
            weights: Tensors::new(),
            average: Tensors::new(),
            best: Tensors::new(),
            moments: Tensors::new(),
        };
        for (name, view) in tensors.iter() {
            if view.dtype() != Dtype::F32 {
                return refuse(name, format!("type {:?} is not F32", view.dtype()));
            }
            let tensor = view.load(&Device::Cpu)?;
            let Some((group, rest)) = name.split_once('.') else {
                return refuse(name, "is in no group".to_owned());
            };
            let group = match group {
                "weights" => &mut checkpoint.weights,
                "average" => &mut checkpoint.average,
                "best" => &mut checkpoint.best,
                "moments" => &mut checkpoint.moments,
                _ => return refuse(name, "is in no known group".to_owned()),
            };
            group.insert(rest.to_owned(), tensor);
        }
        let groups = [
            ("average", &checkpoint.average, true),
            ("best", &checkpoint.best, checkpoint.position.best.is_some()),
        ];
        for (group, tensors, there) in groups {
            let weights = checkpoint.weights.iter().filter(|_| there);
            for (name, weight) in weights.clone() {
                let own = tensors.get(name).map(|tensor| tensor.shape());
                if own != Some(weight.shape()) {
                    let reason = "is missing or misshapen".to_owned();
                    return refuse(&format!("{group}.{name}"), reason);
                }
            }
            if tensors.len() != weights.count() {
                return refuse(group, "has weights that the model has not".to_owned());
            }
        }
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn checkpoint() -> Checkpoint {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let mut position = Position::start(
            Stage::Tokenizer,
            [("seed".to_owned(), "1".to_owned())].into(),
        );
        position.step = 17;
        position.seconds = 0.1 + 0.2;
        position.recent_losses = vec![0.1, 1.0 / 3.0];
        position.best = Some(Best {
            step: 9,
            loss: 0.7,
            figures: [("cross_entropy".to_owned(), 0.7)].into(),
        });
        Checkpoint {
            position,
            weights: [("a.b".to_owned(), tensor(&[1.0, -2.5]))].into(),
            average: [("a.b".to_owned(), tensor(&[0.5, -2.0]))].into(),
            best: [("a.b".to_owned(), tensor(&[0.25, -2.0]))].into(),
            moments: [("a.b.first".to_owned(), tensor(&[1e-30, 0.1]))].into(),
        }
    }

    fn bytes() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        checkpoint().write(&path).unwrap();
        std::fs::read(path).unwrap()
    }

    fn parse(bytes: &[u8]) -> Result<Checkpoint> {
        Checkpoint::parse(Path::new("x.safetensors"), bytes, Stage::Tokenizer)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (before, after) = (checkpoint(), parse(&bytes()).unwrap());
        assert_eq!(before.position, after.position);
        let values = |tensors: &Tensors, name: &str| tensors[name].to_vec1::<f32>().unwrap();
        assert_eq!(values(&after.weights, "a.b"), [1.0, -2.5]);
        assert_eq!(values(&after.average, "a.b"), [0.5, -2.0]);
        assert_eq!(values(&after.best, "a.b"), [0.25, -2.0]);
        assert_eq!(values(&after.moments, "a.b.first"), [1e-30, 0.1]);
    }

    #[test]
    fn a_missing_file_is_no_error_and_another_stage_s_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert!(Checkpoint::read(&path, Stage::Tokenizer).unwrap().is_none());
        checkpoint().write(&path).unwrap();
        assert!(Checkpoint::read(&path, Stage::Tokenizer).unwrap().is_some());
        let error = Checkpoint::read(&path, Stage::Dynamics)
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("stage: tokenizer is not dynamics"),
            "{error}"
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn foreign_versions_and_files_are_refused_by_name() {
        let mut other = checkpoint();
        other.position.version = 9;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        other.write(&path).unwrap();
        let error = Checkpoint::read(&path, Stage::Tokenizer)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("version: 9"), "{error}");
        let empty = safetensors::serialize(Vec::<(String, Tensor)>::new(), None).unwrap();
        let error = parse(&empty).err().unwrap().to_string();
        assert!(error.contains("no checkpoint"), "{error}");
        let refused = |other: Checkpoint, field: &str| {
            other.write(&path).unwrap();
            let read = Checkpoint::read(&path, Stage::Tokenizer);
            let error = read.err().unwrap().to_string();
            assert!(error.contains(field), "{error}");
        };
        let without_average = Checkpoint {
            average: Tensors::new(),
            ..checkpoint()
        };
        refused(without_average, "average.a.b");
        let without_best = Checkpoint {
            best: Tensors::new(),
            ..checkpoint()
        };
        refused(without_best, "best.a.b");
        let mut with_more = checkpoint();
        with_more.position.best = None;
        refused(with_more, "best: has weights");
    }

    proptest! {
        #[test]
        fn damaged_files_are_read_or_refused(at in 0usize..2000, byte in any::<u8>(), cut in any::<bool>()) {
            let mut bytes = bytes();
            let at = at % bytes.len();
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            match parse(&bytes) {
                Ok(_) => prop_assert!(!cut),
                Err(error) => prop_assert!(error.to_string().contains("x.safetensors: "), "{error}"),
            }
        }
    }
}
