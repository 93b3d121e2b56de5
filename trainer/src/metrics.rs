//! `metrics.jsonl`: one JSON object a line, for every logged step and every evaluation; and the same as TensorBoard events.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::observer::Figures;
use crate::tensorboard::EventWriter;
use crate::{Error, Result, Stage, files};

/// Name of the file in the run folder.
pub(crate) const METRICS_FILE: &str = "metrics.jsonl";

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricsLine {
    /// The stage.
    pub stage: Stage,
    /// Steps taken.
    pub step: u64,
    /// Seconds that the stage has taken.
    pub seconds: f64,
    /// Whether the figures come from held-out video; else, from the training batch of this step.
    pub held_out: bool,
    /// Figures by name: `loss`, `learning_rate`, `gradient_norm` and the stage's own.
    pub figures: Figures,
    /// What looked wrong in this evaluation, in plain words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Appends to `metrics.jsonl` and to TensorBoard event files.
pub(crate) struct Metrics {
    path: PathBuf,
    file: File,
    events: EventWriter,
}

impl Metrics {
    /// Opens the metrics of `stage` in a run folder. Lines of steps after `step` come from a run that was interrupted
    /// after its last checkpoint; they are dropped, as these steps are taken again.
    pub fn open(run: &Path, stage: Stage, step: u64) -> Result<Self> {
        let path = run.join(METRICS_FILE);
        let mut kept = Vec::new();
        for line in read(run)? {
            if line.stage != stage || line.step <= step {
                append(&mut kept, &line).map_err(Error::io(&path))?;
            }
        }
        if std::fs::read(&path).is_ok_and(|bytes| bytes.len() != kept.len()) {
            files::write_atomically(&path, &kept)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(Self {
            file: file.map_err(Error::io(&path))?,
            path,
            events: EventWriter::create(&run.join("events").join(stage.name()), step)?,
        })
    }

    /// Appends a line.
    pub fn write(&mut self, line: &MetricsLine) -> Result<()> {
        let mut text = Vec::new();
        append(&mut text, line).map_err(Error::io(&self.path))?;
        self.file.write_all(&text).map_err(Error::io(&self.path))?;
        let group = if line.held_out {
            "held_out"
        } else {
            "training"
        };
        let scalars = line
            .figures
            .iter()
            .map(|(name, value)| (format!("{}/{group}/{name}", line.stage), *value as f32));
        self.events.scalars(line.step, scalars)
    }
}

fn append(text: &mut Vec<u8>, line: &MetricsLine) -> std::io::Result<()> {
    serde_json::to_writer(&mut *text, line)?;
    text.push(b'\n');
    Ok(())
}

/// All lines of a run; none where there is no file. What cannot be read (a line that a crash cut off) is left out.
pub(crate) fn read(run: &Path) -> Result<Vec<MetricsLine>> {
    let path = run.join(METRICS_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io(&path)(error)),
    }
}

/// What the last evaluation of each stage found wrong, with the stage's name before it.
pub(crate) fn warnings(lines: &[MetricsLine]) -> Vec<String> {
    let of_stage = |stage: Stage| {
        let last = lines
            .iter()
            .rfind(|line| line.stage == stage && line.held_out);
        let warnings = last.map_or(&[][..], |line| &line.warnings);
        warnings
            .iter()
            .map(move |warning| format!("{stage}: {warning}"))
    };
    Stage::ALL.into_iter().flat_map(of_stage).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stage: Stage, step: u64) -> MetricsLine {
        MetricsLine {
            stage,
            step,
            seconds: 1.5,
            held_out: false,
            figures: [("loss".to_owned(), 0.25)].into(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn the_last_evaluation_of_each_stage_decides_what_is_warned_of() {
        let warned = |stage, step, held_out, warning: &str| MetricsLine {
            held_out,
            warnings: (!warning.is_empty())
                .then(|| warning.to_owned())
                .into_iter()
                .collect(),
            ..line(stage, step)
        };
        let lines = [
            warned(Stage::Tokenizer, 10, true, "blurred"),
            warned(Stage::LatentActions, 10, true, "asleep"),
            warned(Stage::LatentActions, 20, true, "collapsed"),
            warned(Stage::LatentActions, 30, false, ""),
            warned(Stage::Tokenizer, 20, true, ""),
        ];
        assert_eq!(warnings(&lines), ["latent_actions: collapsed"]);
        let text = serde_json::to_string(&lines[2]).unwrap();
        assert_eq!(
            serde_json::from_str::<MetricsLine>(&text).unwrap(),
            lines[2]
        );
    }

    #[test]
    fn resuming_drops_what_came_after_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(folder.path(), Stage::Tokenizer, 0).unwrap();
        metrics.write(&line(Stage::LatentActions, 30)).unwrap();
        for step in [10, 20, 30] {
            metrics.write(&line(Stage::Tokenizer, step)).unwrap();
        }
        metrics.file.write_all(b"{\"stage\":\"tok").unwrap();
        drop(metrics);
        let mut metrics = Metrics::open(folder.path(), Stage::Tokenizer, 20).unwrap();
        metrics.write(&line(Stage::Tokenizer, 21)).unwrap();
        let steps: Vec<u64> = read(folder.path())
            .unwrap()
            .iter()
            .map(|line| line.step)
            .collect();
        assert_eq!(steps, [30, 10, 20, 21]);
    }
}
