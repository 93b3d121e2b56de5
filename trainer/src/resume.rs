//! Which configuration a run goes by: the one that is given, or the one that the run was begun with.

use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::dataset::Dataset;
use crate::recipe::{self, Recipe};
use crate::session::checkpoint_path;
use crate::{Error, Result, Stage, TrainConfig, TrainOptions, beginning, files};

/// Name of the configuration in the run folder.
pub(crate) const CONFIG_FILE: &str = "train.ron";

/// A configuration that the checkpoints of the run agree with.
pub(crate) struct Chosen {
    pub config: TrainConfig,
    /// Fields in which it differs from what the run was begun with.
    pub changes: Vec<String>,
    /// Whether a stage of the run has a checkpoint.
    pub begun: bool,
}

/// Finds the configuration of a run: what `options` give; else, when a run is there already, what that one was begun with; else the
/// default. A budget that is given wins over all of them.
///
/// # Errors
/// When it cannot be trained with, or a checkpoint was made with other sizes or of other video; the message names the fields.
pub(crate) fn configuration(
    options: &TrainOptions,
    folder: &Path,
    dataset: &Dataset,
) -> Result<Chosen> {
    let begun: Vec<Stage> = Stage::ALL
        .into_iter()
        .filter(|&stage| checkpoint_path(folder, stage).exists())
        .collect();
    let path = folder.join(CONFIG_FILE);
    let stored = match (options.resume || !begun.is_empty()) && path.exists() {
        true => Some(TrainConfig::read(&path)?),
        false => None,
    };
    let given = options.config.clone().or_else(|| stored.clone());
    let mut config = match &options.from {
        Some(world) => beginning::configuration(given, &world.manifest),
        None => given.unwrap_or_default(),
    };
    if let Some(budget) = options.budget {
        config.budget_minutes = budget.as_secs_f64() / 60.0;
    }
    config.validate()?;
    let config = config.for_frames(dataset.frame_size())?;
    let video = dataset.manifest().digest();
    for &stage in &begun {
        let now = recipe::of_stage(&config, &video, stage)?;
        // Of the checkpoint's recipe, what is about prepared frames can only be compared once these are at hand.
        check_checkpoint(folder, stage, &now, |field| {
            now.contains_key(field) || field.contains('.')
        })?;
    }
    let changes = match &stored {
        Some(stored) => recipe::differences(&recipe::fields(stored)?, &recipe::fields(&config)?),
        None => Vec::new(),
    };
    Ok(Chosen {
        config,
        changes,
        begun: !begun.is_empty(),
    })
}

/// Refuses a stage's checkpoint, if there is one, whose recipe differs from `now` in a field that is `compared`.
pub(crate) fn check_checkpoint(
    folder: &Path,
    stage: Stage,
    now: &Recipe,
    compared: impl Fn(&str) -> bool,
) -> Result<()> {
    let path = checkpoint_path(folder, stage);
    let Some(checkpoint) = Checkpoint::read(&path, stage)? else {
        return Ok(());
    };
    let mut before = checkpoint.position.recipe;
    before.retain(|field, _| compared(field));
    check(&path, stage, &before, now)
}

/// Refuses a checkpoint that was made under another recipe.
pub(crate) fn check(path: &Path, stage: Stage, before: &Recipe, now: &Recipe) -> Result<()> {
    match recipe::differences(before, now) {
        differences if differences.is_empty() => Ok(()),
        differences => Err(Error::AnotherRecipe {
            path: path.to_owned(),
            stage,
            differences: recipe::in_one_line(&differences),
        }),
    }
}

/// Leaves the configuration in the run folder, for people and for going on later.
pub(crate) fn store(config: &TrainConfig, folder: &Path) -> Result<()> {
    files::write_atomically(&folder.join(CONFIG_FILE), config.to_text()?.as_bytes())
}
