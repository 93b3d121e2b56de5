//! A whole run: the stages in turn, preparation between them, the bundle at the end.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use latent_actions::LatentActionModel;
use nn::Parameters;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokenizer::Tokenizer;

use crate::bundle::Blueprint;
use crate::checkpoint::Tensors;
use crate::dataset::{Dataset, Split};
use crate::finish::{self, Milestone};
use crate::observer::TrainObserver;
use crate::prepare::Preparation;
use crate::prepared::{PreparedSet, Sizes};
use crate::session::{Ending, Settings, checkpoint_path, train_stage, trained};
use crate::stages::dynamics::DynamicsTask;
use crate::stages::latent_actions::LatentActionTask;
use crate::stages::tokenizer::TokenizerTask;
use crate::{Budget, Error, Result, Stage, TrainConfig, files};

/// Shares of the whole budget.
const LATENT_ACTION_SHARE: f64 = 0.17;
const TOKENIZER_SHARE: f64 = 0.30;
const PREPARATION_SHARE: f64 = 0.10;
const FINISH_SHARE: f64 = 0.04;

/// What to train and where.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// Folder of the finished bundle. The run folder lies beside it: `OUT.run`.
    pub out: PathBuf,
    /// Settings.
    pub config: TrainConfig,
    /// One stage only; all of them if not given. A single stage may use the whole budget.
    pub stage: Option<Stage>,
    /// In place of the configuration's `budget_minutes`.
    pub budget: Option<Duration>,
    /// Whether to go on where an earlier run stopped.
    pub resume: bool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrainOutcome {
    /// There is a world.
    World {
        /// Its folder.
        path: PathBuf,
        /// The report about its training.
        report: PathBuf,
    },
    /// The one stage that was asked for is finished.
    Stage(Stage),
    /// It was asked to stop; `--resume` goes on from here.
    Interrupted {
        /// The run folder, with everything kept.
        run: PathBuf,
    },
}

/// The run folder of a bundle: checkpoints, metrics, prepared data and the report lie in it.
pub fn run_folder(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".run");
    PathBuf::from(name)
}

/// Trains a world, or one stage of it. Stops cleanly soon after `cancel` becomes true.
///
/// # Errors
/// When the configuration, the dataset or a checkpoint cannot be used, the loss keeps exploding, or files cannot be
/// written.
pub fn train(
    dataset: &Dataset,
    options: &TrainOptions,
    observer: &mut dyn TrainObserver,
    cancel: &AtomicBool,
) -> Result<TrainOutcome> {
    options.config.validate()?;
    let mut config = options.config.for_frames(dataset.frame_size())?;
    if let Some(budget) = options.budget {
        config.budget_minutes = budget.as_secs_f64() / 60.0;
        config.evaluation = config.evaluation.within(budget);
    }
    let run = Run {
        dataset,
        folder: run_folder(&options.out),
        only: options.stage,
        options,
        config,
        cancel,
    };
    run.check_place()?;
    files::make_folder(&run.folder)?;
    let text = run.config.to_text()?;
    files::write_atomically(&run.folder.join("train.ron"), text.as_bytes())?;
    run.stages(observer)
}

struct Run<'a> {
    dataset: &'a Dataset,
    folder: PathBuf,
    only: Option<Stage>,
    options: &'a TrainOptions,
    config: TrainConfig,
    cancel: &'a AtomicBool,
}

/// What is known of the preparation once it is complete.
#[derive(Serialize, Deserialize)]
struct PreparationRecord {
    identity: String,
    seconds: f64,
}

impl Run<'_> {
    /// Nothing that is there already may be lost without `--resume`.
    fn check_place(&self) -> Result<()> {
        if self.options.resume {
            return Ok(());
        }
        let stages = self.only.map_or(Stage::ALL.to_vec(), |stage| vec![stage]);
        let checkpoints = stages
            .into_iter()
            .map(|stage| checkpoint_path(&self.folder, stage));
        let manifest = self.options.out.join(worlds::MANIFEST_FILE);
        let in_the_way = checkpoints.chain([manifest]).find(|path| path.exists());
        match in_the_way {
            Some(path) => Err(Error::AlreadyThere(path)),
            None => Ok(()),
        }
    }

    fn interrupted(&self) -> TrainOutcome {
        TrainOutcome::Interrupted {
            run: self.folder.clone(),
        }
    }

    fn stages(&self, observer: &mut dyn TrainObserver) -> Result<TrainOutcome> {
        let wanted = |stage| self.only.is_none_or(|only| only == stage);
        let seed = self.config.seed;
        if wanted(Stage::LatentActions) {
            let task = LatentActionTask::new(&self.config.latent_actions, self.dataset, seed)?;
            let settings = self.settings(Stage::LatentActions, LATENT_ACTION_SHARE);
            if let Ending::Interrupted = train_stage(&task, &settings, observer)? {
                return Ok(self.interrupted());
            }
        }
        if wanted(Stage::Tokenizer) {
            let task = TokenizerTask::new(&self.config.tokenizer, self.dataset, seed)?;
            let settings = self.settings(Stage::Tokenizer, TOKENIZER_SHARE);
            if let Ending::Interrupted = train_stage(&task, &settings, observer)? {
                return Ok(self.interrupted());
            }
        }
        match self.only {
            Some(stage) if stage != Stage::Dynamics => Ok(TrainOutcome::Stage(stage)),
            _ => self.dynamics(observer),
        }
    }

    fn settings(&self, stage: Stage, share: f64) -> Settings<'_> {
        let pace = self.config.pace(stage);
        let share = if self.only.is_some() { 1.0 } else { share };
        Settings {
            seed: self.config.seed,
            pace,
            budget: pace
                .budget
                .unwrap_or(Budget::Minutes(self.config.budget_minutes * share)),
            optimizer: self.config.optimizer.clone(),
            checkpoint_seconds: self.config.checkpoint_seconds,
            log_steps: self.config.log_steps,
            run: &self.folder,
            cancel: self.cancel,
        }
    }

    /// A finished stage's averaged weights and the seconds that it took.
    fn finished(&self, stage: Stage) -> Result<(Tensors, f64)> {
        match trained(&self.folder, stage)? {
            Some((weights, position)) if position.finished => Ok((weights, position.seconds)),
            _ => Err(Error::StageMissing {
                needs: Stage::Dynamics,
                missing: stage,
            }),
        }
    }

    fn dynamics(&self, observer: &mut dyn TrainObserver) -> Result<TrainOutcome> {
        let (latent_weights, latent_seconds) = self.finished(Stage::LatentActions)?;
        let (tokenizer_weights, tokenizer_seconds) = self.finished(Stage::Tokenizer)?;
        let parameters = Parameters::from_tensors(tokenizer_weights.clone(), &Device::Cpu);
        let tokenizer = Tokenizer::new(&self.config.tokenizer.model, parameters.builder())?;
        let parameters = Parameters::from_tensors(latent_weights.clone(), &Device::Cpu);
        let latent_actions =
            LatentActionModel::new(&self.config.latent_actions.model, parameters.builder())?;
        let identity = self.identity(&[&tokenizer_weights, &latent_weights])?;
        let folder = self.folder.join("prepared");
        let Some(seconds) =
            self.prepare(&tokenizer, &latent_actions, (&identity, &folder), observer)?
        else {
            return Ok(self.interrupted());
        };
        let model = &self.config.dynamics.model;
        let sizes = Sizes {
            frame: model.frame,
            tokens_per_frame: model.tokens_per_frame(),
            latent_width: model.latent_width,
            vocabulary: model.vocabulary,
            codes: model.codes,
        };
        let open = |split| PreparedSet::open(&folder, split, &identity, sizes);
        let (prepared, held_out) = (open(Split::Train)?, open(Split::Validation)?);
        let spent = match self.only {
            Some(_) => seconds,
            None => seconds + latent_seconds + tokenizer_seconds,
        };
        let whole = self.config.budget_minutes;
        let least = if whole > 0.0 { 0.1 } else { 1.0 };
        let left = (1.0 - FINISH_SHARE - spent / 60.0 / whole.max(1e-9)).clamp(least, 1.0);
        let mut settings = self.settings(Stage::Dynamics, 1.0);
        if settings.pace.budget.is_none() {
            settings.budget = Budget::Minutes(whole * left);
        }
        let blueprint = Blueprint::new(
            &self.config,
            self.dataset,
            &self.options.out,
            tokenizer_weights,
            latent_weights,
        )?;
        let milestone = Milestone::new(&blueprint, self.dataset, &self.options.out)?;
        let vectors = Tensor::arange(0, model.vocabulary as u32, &Device::Cpu)?;
        let task = DynamicsTask::new(
            &self.config.dynamics,
            tokenizer.token_vectors(&vectors)?,
            (&prepared, &held_out),
            (&identity, self.config.seed),
            Box::new(|parameters| milestone.play_test(parameters)),
        )?;
        if let Ending::Interrupted = train_stage(&task, &settings, observer)? {
            return Ok(self.interrupted());
        }
        let (dynamics_weights, _) = self.finished(Stage::Dynamics)?;
        let contents = blueprint.with_dynamics(dynamics_weights);
        let report = finish::finish(
            contents,
            self.dataset,
            (&self.options.out, &self.folder),
            &self.config.evaluation,
            observer,
            self.cancel,
        )?;
        match report {
            Some(report) => Ok(TrainOutcome::World {
                path: self.options.out.clone(),
                report,
            }),
            None => Ok(self.interrupted()),
        }
    }

    /// Prepares frames and gives the seconds that it took in all; `None` when it was asked to stop.
    fn prepare(
        &self,
        tokenizer: &Tokenizer,
        latent_actions: &LatentActionModel,
        (identity, folder): (&str, &Path),
        observer: &mut dyn TrainObserver,
    ) -> Result<Option<f64>> {
        let path = folder.join("preparation.json");
        let known = std::fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<PreparationRecord>(&bytes).ok());
        if let Some(record) = known
            && record.identity == identity
        {
            return Ok(Some(record.seconds));
        }
        let config = &self.config.preparation;
        let minutes = config
            .budget_minutes
            .unwrap_or(self.config.budget_minutes * PREPARATION_SHARE);
        let start = Instant::now();
        let preparation = Preparation {
            dataset: self.dataset,
            tokenizer,
            latent_actions,
            config,
            identity: identity.to_owned(),
            seed: self.config.seed,
            budget_seconds: minutes * 60.0,
            folder: folder.to_owned(),
            cancel: self.cancel,
        };
        if !preparation.run(observer)? || self.cancel.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let record = PreparationRecord {
            identity: identity.to_owned(),
            seconds: start.elapsed().as_secs_f64(),
        };
        let bytes = serde_json::to_vec(&record)
            .map_err(|error| Error::damaged(&path, "preparation", error.to_string()))?;
        files::write_atomically(&path, &bytes)?;
        Ok(Some(record.seconds))
    }

    /// Changes whenever prepared data would: with the weights, the settings of preparation, and the video.
    fn identity(&self, weights: &[&Tensors]) -> Result<String> {
        let mut hasher = Sha256::new();
        for tensors in weights {
            for (name, tensor) in *tensors {
                hasher.update(name.as_bytes());
                for value in tensor.flatten_all()?.to_vec1::<f32>()? {
                    hasher.update(value.to_le_bytes());
                }
            }
        }
        let preparation = &self.config.preparation;
        hasher.update(format!(
            "{} {} {} {:?}",
            self.config.seed,
            preparation.corruption,
            preparation.validation_frames,
            self.dataset.manifest().episodes
        ));
        let digest = hasher.finalize();
        Ok(digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }
}
