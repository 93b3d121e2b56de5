//! A whole run: the stages in turn, preparation between them, the bundle at the end.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use candle_core::Tensor;
use latent_actions::LatentActionModel;
use nn::Parameters;
use sha2::{Digest, Sha256};
use tokenizer::Tokenizer;
use worlds::WorldManifest;

use crate::beginning::{Base, Beginning};
use crate::bundle::Blueprint;
use crate::checkpoint::{Position, Tensors};
use crate::clips::ClipSampler;
use crate::dataset::{Dataset, Split};
use crate::evaluate::SAME_RATE;
use crate::evaluate::rollouts::check_size;
use crate::finish::{self, Finished, Milestone, as_played};
use crate::observer::{TrainEvent, TrainObserver};
use crate::prepare::{Preparation, Record, SHARD_FRAMES};
use crate::prepared::{PreparedSet, Sizes};
use crate::recipe::Recipe;
use crate::resume::Chosen;
use crate::session::{Ending, Settings, checkpoint_path, thoroughness, train_stage, trained};
use crate::stages::critic;
use crate::stages::dynamics::DynamicsTask;
use crate::stages::latent_actions::{LatentActionTask, SHORTEST_CLIP};
use crate::stages::tokenizer::TokenizerTask;
use crate::{
    Budget, Error, Result, Stage, TrainConfig, actions, beginning, bundle, edits, files, lasting,
    metrics, recipe, resume, schedule,
};

/// Seconds that the final evaluation of even the shortest run takes, and the largest share of the budget that is kept for them.
const LEAST_FINISH_SECONDS: f64 = 15.0;
const LARGEST_FINISH_SHARE: f64 = 0.2;
/// Shares of the whole budget.
const LATENT_ACTION_SHARE: f64 = 0.17;
const TOKENIZER_SHARE: f64 = 0.30;
const PREPARATION_SHARE: f64 = 0.10;
const FINISH_SHARE: f64 = 0.04;
/// Relative difference between the frame rate of a world and that of video for it from which on its actions, which stay as they are, see other changes than they
/// know.
const OTHER_RATE: f64 = 0.05;
/// Folder of prepared frames in the run folder.
const PREPARED_FOLDER: &str = "prepared";
/// Where the dynamics' recipe says which weights and video its frames were prepared from.
const PREPARED_FROM: &str = "prepared from weights";

/// What to train and where.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// Folder of the finished bundle, by its name (not `.` or `..`). The run folder lies beside it: `OUT.run`.
    pub out: PathBuf,
    /// Settings. Where none are given, those that the run was begun with, if there is one already; else the defaults.
    pub config: Option<TrainConfig>,
    /// One stage only; all of them if not given. A single stage may use the whole budget.
    pub stage: Option<Stage>,
    /// A world to go on from: tokenizer and dynamics begin with its weights, latent actions stay as they are, with their names and bindings.
    pub from: Option<Beginning>,
    /// In place of the configuration's `budget_minutes`.
    pub budget: Option<Duration>,
    /// Whether to go on where an earlier run stopped. Of finished stages, only the dynamics goes on, and only when its budget has become larger.
    pub resume: bool,
}

impl TrainOptions {
    /// The stages that are asked for.
    fn stages(&self) -> Vec<Stage> {
        self.stage.map_or(Stage::ALL.to_vec(), |stage| vec![stage])
    }
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
        /// What looks wrong with it, in plain words.
        warnings: Vec<String>,
    },
    /// The one stage that was asked for is finished.
    Stage {
        /// Which.
        stage: Stage,
        /// What looks wrong, in plain words.
        warnings: Vec<String>,
    },
    /// It was asked to stop; `--resume` goes on from here.
    Interrupted {
        /// The run folder, with everything kept.
        run: PathBuf,
    },
}

/// The run folder of a bundle, beside it: checkpoints, metrics, prepared data and the report lie in it.
pub fn run_folder(out: &Path) -> PathBuf {
    // A slash at the end would put it into the bundle.
    let mut name = out.components().collect::<PathBuf>().into_os_string();
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
    let folder = run_folder(&options.out);
    check_place(options, &folder)?;
    let begun = resume::begun(&folder);
    let base = resume::base(options, &folder, &begun)?;
    if let Some(Base { manifest, .. }) = &base {
        check_size(manifest, dataset.frame_size())?;
        if let Some(warning) = check_rate(manifest, dataset.frames_per_second())? {
            observer.observe(&TrainEvent::Warning(warning));
        }
    }
    let Chosen {
        config,
        changes,
        positions,
    } = resume::configuration(options, base.as_ref(), (&folder, &begun), dataset)?;
    bundle::check((&config, base.as_ref()), dataset, &options.out)?;
    edits::check(&options.out)?;
    let kept = match options.from {
        Some(_) => true,
        None => resume::goes_on(options, &begun) && beginning::keeps_latent_actions(&folder),
    };
    let mut stages = options.stages();
    stages.retain(|&stage| !kept || stage != Stage::LatentActions);
    let learns_on = dynamics_learns_on(&config, &positions, (options.stage, kept), &folder);
    let done = done_with(&stages, &positions, learns_on);
    if dataset.episodes(Split::Validation).is_empty() {
        observer.observe(&TrainEvent::Warning(
            "nothing of this dataset is held out, so what training calls held out is video that it trains on, and figures flatter".to_owned(),
        ));
    }
    if options.resume && !is_run(&folder) {
        let path = folder.display();
        observer.observe(&TrainEvent::Note(format!(
            "there is no run in {path} to go on with; beginning one"
        )));
    }
    if !changes.is_empty() {
        let note = told_changes(&changes, (&stages, &done), &options.out)?;
        observer.observe(&TrainEvent::Note(note));
    }
    if learns_on && stages.contains(&Stage::Dynamics) {
        observer.observe(&TrainEvent::Note(
            "the dynamics, which had finished, goes on: its budget is larger now".to_owned(),
        ));
    }
    let held = files::hold_folder(&folder)?;
    let prepared = folder.join(PREPARED_FOLDER);
    if held.is_some() && prepared.exists() {
        files::remove_unfinished(&prepared)?;
    }
    resume::store(&config, &folder)?;
    // Of a run that is done stage by stage, the next stage goes on as the first one began.
    if options.from.is_some() || !resume::goes_on(options, &begun) {
        beginning::store(&folder, options.from.as_ref())?;
    }
    let run = Run {
        dataset,
        folder,
        only: options.stage,
        options,
        config,
        base,
        cancel,
    };
    nn::with_precision(run.config.precision, || {
        nn::on_a_worker(|| run.stages(observer))
    })
}

/// Refuses video at quite another frame rate than the world's that it is for, and warns of a small difference.
fn check_rate(world: &WorldManifest, video: f64) -> Result<Option<String>> {
    let world = world.frames_per_second;
    let rates = Error::AnotherRate { world, video };
    match (video / world - 1.0).abs() {
        same if same <= SAME_RATE => Ok(None),
        close if close <= OTHER_RATE => Ok(Some(rates.to_string())),
        _ => Err(rates),
    }
}

/// Those of the stages that are finished and stay so.
fn done_with(stages: &[Stage], positions: &[Position], dynamics_learns_on: bool) -> Vec<Stage> {
    let done = |stage: &Stage| {
        let finished = |position: &Position| position.stage == *stage && position.finished;
        positions.iter().any(finished) && !(dynamics_learns_on && *stage == Stage::Dynamics)
    };
    stages.iter().copied().filter(done).collect()
}

/// Says what was changed since the run was begun. Refuses it where it would change nothing, as of all stages that are asked for the training is
/// `done`.
fn told_changes(
    changes: &[String],
    (stages, done): (&[Stage], &[Stage]),
    out: &Path,
) -> Result<String> {
    let told = recipe::in_one_line(changes);
    let mut of_training = changes.iter().map(|change| recipe::is_of_training(change));
    if !done.is_empty() && done.len() == stages.len() && of_training.clone().all(|is| is) {
        return Err(Error::Finished {
            stages: listed(done),
            changes: told,
            world: out.to_owned(),
        });
    }
    let note = format!("from here on other settings than at the beginning: {told}");
    Ok(match done {
        [_, ..] if of_training.any(|is| is) => {
            format!(
                "{note}; {} finished before and learns no further",
                listed(done)
            )
        }
        _ => note,
    })
}

fn listed(stages: &[Stage]) -> String {
    let names: Vec<&str> = stages.iter().map(|stage| stage.name()).collect();
    names.join(", ")
}

/// Whether a dynamics that finished under a smaller budget has some of the present one left.
fn dynamics_learns_on(
    config: &TrainConfig,
    positions: &[Position],
    (only, kept): (Option<Stage>, bool),
    folder: &Path,
) -> bool {
    let position = |stage: Stage| positions.iter().find(|position| position.stage == stage);
    let Some(dynamics) = position(Stage::Dynamics).filter(|position| position.finished) else {
        return false;
    };
    let identity = dynamics.recipe.get(PREPARED_FROM);
    let prepared = identity.map(|identity| Record::read(&folder.join(PREPARED_FOLDER), identity));
    let seconds = |stage| position(stage).map_or(0.0, |position| position.seconds);
    let before = Before {
        latent_actions: if kept {
            0.0
        } else {
            seconds(Stage::LatentActions)
        },
        tokenizer: seconds(Stage::Tokenizer),
        preparation: prepared.map_or(0.0, |record| record.seconds),
    };
    let budget = dynamics_budget(config, only, &before);
    schedule::progress(budget, dynamics.step, dynamics.seconds) < 1.0
}

/// Seconds that what comes before the dynamics took.
struct Before {
    latent_actions: f64,
    tokenizer: f64,
    preparation: f64,
}

/// How long the dynamics trains: as long as it is told, or else for what is left of the whole budget, of which a single stage may have everything.
fn dynamics_budget(config: &TrainConfig, only: Option<Stage>, before: &Before) -> Budget {
    let spent = match only {
        Some(_) => before.preparation,
        None => before.preparation + before.latent_actions + before.tokenizer,
    };
    let whole = config.budget_minutes;
    let least = if whole > 0.0 { 0.1 } else { 1.0 };
    let left = (1.0 - finish_share(whole) - spent / 60.0 / whole.max(1e-9)).clamp(least, 1.0);
    let budget = config.dynamics.budget;
    budget.unwrap_or(Budget::Minutes(whole * left))
}

/// There must be a name to call the run folder by, and nothing that is there already may be lost: what is no world never, a world or a run only
/// with `--resume`, and a world only to the run that made it.
fn check_place(options: &TrainOptions, folder: &Path) -> Result<()> {
    let out = &options.out;
    if out.file_name().is_none() {
        return Err(Error::NoName(out.clone()));
    }
    if out.exists() && !may_hold_world(out) {
        return Err(Error::NoWorld(out.clone()));
    }
    let manifest = out.join(worlds::MANIFEST_FILE);
    if options.resume {
        let is_foreign = manifest.exists() && !is_run(folder);
        return match is_foreign {
            true => Err(Error::RunMissing {
                world: out.clone(),
                run: folder.to_owned(),
            }),
            false => Ok(()),
        };
    }
    let checkpoints = options
        .stages()
        .into_iter()
        .map(|stage| checkpoint_path(folder, stage));
    let in_the_way = checkpoints.chain([manifest]).find(|path| path.exists());
    match in_the_way {
        Some(path) => Err(Error::AlreadyThere(path)),
        None => Ok(()),
    }
}

/// Whether there is anything to go on with.
fn is_run(folder: &Path) -> bool {
    folder.join(resume::CONFIG_FILE).exists() || !resume::begun(folder).is_empty()
}

/// Whether what is there is a world's folder or one with nothing in it; hidden is what an interrupted attempt to save a world left there.
fn may_hold_world(out: &Path) -> bool {
    let hidden = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.file_name().as_encoded_bytes().starts_with(b"."))
    };
    let empty = || out.read_dir().is_ok_and(|mut entries| entries.all(hidden));
    out.join(worlds::MANIFEST_FILE).exists() || empty()
}

/// Refuses episodes that are too short for one of the stages: at once, not when those before it have taken their hours.
fn check_lengths(
    dataset: &Dataset,
    config: &TrainConfig,
    stages: impl Iterator<Item = Stage>,
) -> Result<()> {
    let (mut trained, mut measured) = (0, 0);
    for stage in stages {
        let clip = config.pace(stage).clip_frames;
        trained = trained.max(clip);
        measured = measured.max(match stage {
            Stage::LatentActions => SHORTEST_CLIP,
            Stage::Tokenizer => clip,
            Stage::Dynamics => {
                let held_out = config.preparation.validation_frames > 0;
                let played = finish::SHORTEST_EPISODE.max(config.evaluation.prompt + 1);
                if held_out { played.max(clip) } else { played }
            }
        });
    }
    ClipSampler::new(dataset, Split::Train, trained)?;
    ClipSampler::held_out(dataset, measured)?;
    Ok(())
}

/// Share of the whole budget that is kept for measuring the world and writing it down.
fn finish_share(minutes: f64) -> f64 {
    let least = LEAST_FINISH_SECONDS / (minutes * 60.0).max(1e-9);
    least.clamp(FINISH_SHARE, LARGEST_FINISH_SHARE)
}

struct Run<'a> {
    dataset: &'a Dataset,
    folder: PathBuf,
    only: Option<Stage>,
    options: &'a TrainOptions,
    config: TrainConfig,
    /// The world that the run goes on from.
    base: Option<Base>,
    cancel: &'a AtomicBool,
}

impl Run<'_> {
    fn interrupted(&self) -> TrainOutcome {
        TrainOutcome::Interrupted {
            run: self.folder.clone(),
        }
    }

    fn stages(&self, observer: &mut dyn TrainObserver) -> Result<TrainOutcome> {
        let wanted = |stage| self.only.is_none_or(|only| only == stage);
        let kept = beginning::keeps_latent_actions(&self.folder);
        if kept && self.only == Some(Stage::LatentActions) {
            return Err(Error::config(
                "a run that goes on from a world keeps its latent actions; there is no such stage",
            ));
        }
        let skipped = |stage| kept && stage == Stage::LatentActions;
        let stages = Stage::ALL.into_iter();
        check_lengths(
            self.dataset,
            &self.config,
            stages.filter(|&stage| wanted(stage) && !skipped(stage)),
        )?;
        if wanted(Stage::LatentActions) && !kept {
            let settings = self.settings(Stage::LatentActions, LATENT_ACTION_SHARE)?;
            let task = LatentActionTask::new(
                &self.config.latent_actions,
                self.dataset,
                self.config.seed,
                thoroughness(settings.budget),
            )?;
            if let Ending::Interrupted = train_stage(&task, &settings, observer)? {
                return Ok(self.interrupted());
            }
        }
        if wanted(Stage::Tokenizer) {
            let settings = self.settings(Stage::Tokenizer, TOKENIZER_SHARE)?;
            let task = TokenizerTask::new(
                &self.config.tokenizer,
                self.dataset,
                thoroughness(settings.budget),
            )?;
            if let Ending::Interrupted = train_stage(&task, &settings, observer)? {
                return Ok(self.interrupted());
            }
        }
        match self.only {
            Some(stage) if stage != Stage::Dynamics => {
                let lines = metrics::read(&self.folder)?;
                Ok(TrainOutcome::Stage {
                    stage,
                    warnings: metrics::warnings(&lines),
                })
            }
            _ => self.dynamics(observer),
        }
    }

    /// What a stage trains with.
    fn settings(&self, stage: Stage, share: f64) -> Result<Settings<'_>> {
        let video = self.dataset.manifest().digest();
        let recipe = recipe::of_stage(&self.config, &video, stage)?;
        let pace = self.config.pace(stage);
        let share = if self.only.is_some() { 1.0 } else { share };
        Ok(Settings {
            seed: self.config.seed,
            recipe,
            pace,
            budget: pace
                .budget
                .unwrap_or(Budget::Minutes(self.config.budget_minutes * share)),
            optimizer: self.config.optimizer.clone(),
            checkpoint_seconds: self.config.checkpoint_seconds,
            log_steps: self.config.log_steps,
            run: &self.folder,
            cancel: self.cancel,
        })
    }

    /// A finished stage's averaged weights and the seconds that it took.
    fn finished(&self, stage: Stage) -> Result<(Tensors, f64)> {
        if stage == Stage::LatentActions
            && let Some(weights) = beginning::weights(&self.folder, stage)?
        {
            return Ok((weights, 0.0));
        }
        match trained(&self.folder, stage)? {
            Some((mut weights, position)) if position.finished => {
                weights.retain(|name, _| !critic::is_part(name));
                Ok((weights, position.seconds))
            }
            _ => Err(Error::StageMissing {
                needs: Stage::Dynamics,
                missing: stage,
            }),
        }
    }

    fn dynamics(&self, observer: &mut dyn TrainObserver) -> Result<TrainOutcome> {
        let (latent_weights, latent_seconds) = self.finished(Stage::LatentActions)?;
        let (tokenizer_weights, tokenizer_seconds) = self.finished(Stage::Tokenizer)?;
        let parameters = Parameters::from_tensors(tokenizer_weights.clone(), nn::device());
        let tokenizer = Tokenizer::new(&self.config.tokenizer.model, parameters.builder())?;
        let parameters = Parameters::from_tensors(latent_weights.clone(), nn::device());
        let latent_actions =
            LatentActionModel::new(&self.config.latent_actions.model, parameters.builder())?;
        let identity = self.identity(&[&tokenizer_weights, &latent_weights])?;
        let folder = self.folder.join(PREPARED_FOLDER);
        let Some(preparation) =
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
        let before = Before {
            latent_actions: latent_seconds,
            tokenizer: tokenizer_seconds,
            preparation,
        };
        let mut settings = self.settings(Stage::Dynamics, 1.0)?;
        settings
            .recipe
            .insert(PREPARED_FROM.to_owned(), identity.clone());
        settings.budget = dynamics_budget(&self.config, self.only, &before);
        let blueprint = Blueprint::new(
            (&self.config, self.base.as_ref()),
            self.dataset,
            &self.options.out,
            (tokenizer_weights, latent_weights),
            actions::describe(&latent_actions, self.dataset, &self.config.world)?,
            lasting::lasts(&prepared.codes(), model.codes),
        )?;
        let thoroughness = thoroughness(settings.budget);
        let places = (self.options.out.as_path(), self.folder.as_path());
        let milestone = Milestone::new(&blueprint, self.dataset, places, thoroughness)?;
        let vectors = Tensor::arange(0, model.vocabulary as u32, nn::device())?;
        let task = DynamicsTask::new(
            &self.config.dynamics,
            tokenizer.token_vectors(&vectors)?,
            (&prepared, &held_out),
            thoroughness,
            Box::new(|parameters| as_played(|| milestone.play_test(parameters))),
        )?;
        if let Ending::Interrupted = train_stage(&task, &settings, observer)? {
            return Ok(self.interrupted());
        }
        let (dynamics_weights, _) = self.finished(Stage::Dynamics)?;
        let contents = blueprint.with_dynamics(dynamics_weights);
        let whole = self.config.budget_minutes;
        let budget = Duration::from_secs_f64(whole * 60.0);
        let options = self.config.evaluation.clone().within(budget);
        let finished = as_played(|| {
            finish::finish(
                contents,
                self.dataset,
                places,
                (&options, whole),
                observer,
                self.cancel,
            )
        })?;
        match finished {
            Some(Finished { report, warnings }) => Ok(TrainOutcome::World {
                path: self.options.out.clone(),
                report,
                warnings,
            }),
            None => Ok(self.interrupted()),
        }
    }

    /// Prepares frames and gives the seconds that it took in all attempts; `None` when it was asked to stop.
    fn prepare(
        &self,
        tokenizer: &Tokenizer,
        latent_actions: &LatentActionModel,
        (identity, folder): (&str, &Path),
        observer: &mut dyn TrainObserver,
    ) -> Result<Option<f64>> {
        // Frames are not overwritten for a dynamics that will refuse them.
        let now = Recipe::from([(PREPARED_FROM.to_owned(), identity.to_owned())]);
        resume::check_checkpoint(&self.folder, Stage::Dynamics, &now, |field| {
            field == PREPARED_FROM
        })?;
        let config = &self.config.preparation;
        let minutes = config
            .budget_minutes
            .unwrap_or(self.config.budget_minutes * PREPARATION_SHARE);
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
        let seconds = preparation.run(observer)?;
        Ok(seconds.filter(|_| !self.cancel.load(Ordering::Relaxed)))
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
            "{} {SHARD_FRAMES} {} {} {}",
            self.config.seed,
            preparation.corruption,
            preparation.validation_frames,
            self.dataset.manifest().digest()
        ));
        Ok(files::short_digest(hasher))
    }
}

#[cfg(test)]
mod tests;
