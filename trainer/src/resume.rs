//! Which configuration a run goes by: the one that is given, or the one that the run was begun with.

use std::path::Path;

use crate::beginning::Base;
use crate::checkpoint::{Checkpoint, Position};
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
    /// Where the stages stand that have a checkpoint.
    pub positions: Vec<Position>,
}

/// The stages of a run that have a checkpoint.
pub(crate) fn begun(folder: &Path) -> Vec<Stage> {
    let mut stages = Stage::ALL.to_vec();
    stages.retain(|&stage| checkpoint_path(folder, stage).exists());
    stages
}

/// Whether a run goes on as it was begun, and not as `options` alone say: also where it is done stage by stage.
pub(crate) fn goes_on(options: &TrainOptions, begun: &[Stage]) -> bool {
    options.resume || !begun.is_empty()
}

/// The world that a run goes on from: the one that is given, or the one that the run was begun from.
pub(crate) fn base(options: &TrainOptions, folder: &Path, begun: &[Stage]) -> Result<Option<Base>> {
    match &options.from {
        Some(world) => Ok(Some(world.into())),
        None if goes_on(options, begun) => beginning::base(folder),
        None => Ok(None),
    }
}

/// Finds the configuration of a run: what `options` give; else, when a run is there already, what that one was begun with; else the
/// default. A budget that is given wins over all of them, and what is kept of the world that the run goes on from is as it is there.
///
/// # Errors
/// When it cannot be trained with, or a checkpoint was made with other sizes or of other video; the message names the fields.
pub(crate) fn configuration(
    options: &TrainOptions,
    base: Option<&Base>,
    (folder, begun): (&Path, &[Stage]),
    dataset: &Dataset,
) -> Result<Chosen> {
    let path = folder.join(CONFIG_FILE);
    let stored = match goes_on(options, begun) && path.exists() {
        true => Some(TrainConfig::read(&path)?),
        false => None,
    };
    let given = options.config.clone().or_else(|| stored.clone());
    let mut config = match base {
        Some(base) => beginning::configuration(given, &base.manifest),
        None => given.unwrap_or_default(),
    };
    if let Some(budget) = options.budget {
        config.budget_minutes = budget.as_secs_f64() / 60.0;
    }
    config.validate()?;
    let config = config.for_frames(dataset.frame_size())?;
    let video = dataset.manifest().digest();
    let mut positions = Vec::new();
    for &stage in begun {
        let now = recipe::of_stage(&config, &video, stage)?;
        // Of the checkpoint's recipe, what is about prepared frames can only be compared once these are at hand.
        positions.extend(check_checkpoint(folder, stage, &now, |field| {
            now.contains_key(field) || field.contains('.')
        })?);
    }
    let changes = match &stored {
        Some(stored) => recipe::differences(&recipe::fields(stored)?, &recipe::fields(&config)?),
        None => Vec::new(),
    };
    Ok(Chosen {
        config,
        changes,
        positions,
    })
}

/// Where a stage's checkpoint stands, if there is one. Refuses one whose recipe differs from `now` in a field that is `compared`.
pub(crate) fn check_checkpoint(
    folder: &Path,
    stage: Stage,
    now: &Recipe,
    compared: impl Fn(&str) -> bool,
) -> Result<Option<Position>> {
    let path = checkpoint_path(folder, stage);
    let Some(Checkpoint { position, .. }) = Checkpoint::read(&path, stage)? else {
        return Ok(None);
    };
    let mut before = position.recipe.clone();
    before.retain(|field, _| compared(field));
    check(&path, stage, &before, now)?;
    Ok(Some(position))
}

/// Refuses a checkpoint that was made under another recipe.
pub(crate) fn check(path: &Path, stage: Stage, before: &Recipe, now: &Recipe) -> Result<()> {
    let mut before = before.clone();
    before.retain(|field, _| !recipe::UNDECIDING.contains(&field.as_str()));
    match recipe::differences(&before, now) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Beginning;
    use crate::clips::tests::noise;
    use crate::dataset::Split;
    use worlds::{WorldWeights, tiny_contents};

    #[test]
    fn a_run_from_a_world_is_resumed_with_its_sizes_and_names_whatever_is_configured() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("world.run");
        files::make_folder(&run).unwrap();
        let dataset = noise(&folder.path().join("d"), 15.0, &[(30, Split::Train)]);
        let contents = tiny_contents(1).unwrap();
        let world = Beginning {
            weights: WorldWeights {
                manifest: contents.manifest.clone(),
                tokenizer: contents.tokenizer,
                latent_actions: contents.latent_actions,
                dynamics: contents.dynamics,
            },
            sounds: [("sounds/a.wav".to_owned(), vec![1])].into(),
        };
        let options = TrainOptions {
            out: folder.path().join("world"),
            config: Some(TrainConfig::default()),
            stage: None,
            from: None,
            budget: None,
            resume: true,
        };
        let chosen = || {
            let base = base(&options, &run, &[]).unwrap();
            configuration(&options, base.as_ref(), (&run, &[]), &dataset).unwrap()
        };
        assert_eq!(chosen().config.world.action_names, [""; 0]);
        beginning::store(&run, Some(&world)).unwrap();
        let config = chosen().config;
        let manifest = contents.manifest;
        assert_eq!(config.latent_actions.model, manifest.latent_actions);
        assert_eq!(config.dynamics.model, manifest.dynamics);
        assert_eq!(config.world.action_names, ["left", "right", "jump", "idle"]);
        assert_eq!(config.world.idle, manifest.idle);
        assert_eq!(config.world.author, manifest.author);
        // And again, by what the run was begun with.
        store(&config, &run).unwrap();
        let unsaid = TrainOptions {
            config: None,
            ..options.clone()
        };
        let base = base(&unsaid, &run, &[]).unwrap();
        let again = configuration(&unsaid, base.as_ref(), (&run, &[]), &dataset).unwrap();
        assert_eq!((again.config, again.changes.len()), (config, 0));
        beginning::store(&run, None).unwrap();
        assert!(beginning::base(&run).unwrap().is_none());
        assert_eq!(std::fs::read_dir(&run).unwrap().count(), 1);
    }

    #[test]
    fn a_checkpoint_does_not_depend_on_how_long_frames_were_prepared() {
        let recipe = |minutes: &str| {
            Recipe::from(
                [
                    ("preparation.budget_minutes", minutes),
                    ("prepared frames", "1024"),
                    ("seed", "1"),
                ]
                .map(|(field, value)| (field.to_owned(), value.to_owned())),
            )
        };
        let now = Recipe::from([("seed".to_owned(), "1".to_owned())]);
        let path = Path::new("dynamics.checkpoint.safetensors");
        for before in [recipe("4.0"), recipe("none"), now.clone()] {
            check(path, Stage::Dynamics, &before, &now).unwrap();
        }
        let other = Recipe::from([("seed".to_owned(), "2".to_owned())]);
        assert!(check(path, Stage::Dynamics, &recipe("4.0"), &other).is_err());
    }
}
