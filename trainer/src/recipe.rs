//! What a checkpoint depends on, field by field, so that whoever changed something is told which fields it was.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::{Error, Result, Stage, TrainConfig};

/// Values by dotted name; those of the configuration have the names that they have in `train.ron`.
pub(crate) type Recipe = BTreeMap<String, String>;

/// Decides how many frames are prepared, and more of them may be when a run goes on.
const PREPARATION_BUDGET: &str = "preparation.budget_minutes";
/// What does not decide, though checkpoints from when it was thought to still have it in their recipes.
pub(crate) const UNDECIDING: [&str; 2] = [PREPARATION_BUDGET, "prepared frames"];

/// Differences that a message spells out.
const MOST_TOLD: usize = 6;

/// All fields of a configuration.
pub(crate) fn fields(config: &impl Serialize) -> Result<Recipe> {
    let refuse = |error: serde_json::Error| Error::config(error.to_string());
    // By way of text, as only that writes an f32 as people do.
    let text = serde_json::to_string(config).map_err(refuse)?;
    let mut recipe = Recipe::new();
    flatten(
        String::new(),
        serde_json::from_str(&text).map_err(refuse)?,
        &mut recipe,
    );
    Ok(recipe)
}

fn flatten(name: String, value: Value, into: &mut Recipe) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = match name.as_str() {
                    "" => field,
                    name => format!("{name}.{field}"),
                };
                flatten(name, value, into);
            }
        }
        Value::String(text) => {
            into.insert(name, text);
        }
        Value::Null => {
            into.insert(name, "none".to_owned());
        }
        other => {
            into.insert(name, other.to_string());
        }
    }
}

/// The fields of a configuration that a checkpoint of `stage` depends on, and the dataset by its digest. Learning rates, budgets, evaluation and what
/// the bundle says about itself may change from one day to the next.
pub(crate) fn of_stage(config: &TrainConfig, dataset: &str, stage: Stage) -> Result<Recipe> {
    let mut recipe = fields(config)?;
    recipe.retain(|field, _| decides(stage, field));
    recipe.insert("dataset".to_owned(), dataset.to_owned());
    Ok(recipe)
}

fn decides(stage: Stage, field: &str) -> bool {
    let own = field.strip_prefix(stage.name());
    match own.and_then(|rest| rest.strip_prefix('.')) {
        Some(rest) => {
            let sizes = ["batch", "accumulate", "clip_frames", "codes_fraction"];
            // Whether there is a critic decides which weights there are.
            let parts = ["model.", "adversarial"];
            sizes.contains(&rest) || parts.iter().any(|part| rest.starts_with(part))
        }
        None => {
            // Whether there is Muon decides which moments there are; prepared frames are the dynamics' data.
            field == "seed"
                || field.starts_with("optimizer.muon")
                || stage == Stage::Dynamics
                    && field.starts_with("preparation.")
                    && field != PREPARATION_BUDGET
        }
    }
}

/// The fields that differ, as `field: before -> now`.
pub(crate) fn differences(before: &Recipe, now: &Recipe) -> Vec<String> {
    let value = |recipe: &Recipe, field: &str| {
        recipe
            .get(field)
            .cloned()
            .unwrap_or_else(|| "none".to_owned())
    };
    let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .map(|name| (name, value(before, name), value(now, name)))
        .filter(|(_, before, now)| before != now)
        .map(|(name, before, now)| format!("{name}: {before} -> {now}"))
        .collect()
}

/// Whether a difference is of something that only training goes by, not what a finished world is measured by or says about itself.
pub(crate) fn is_of_training(difference: &str) -> bool {
    !difference.starts_with("world.") && !difference.starts_with("evaluation.")
}

/// Differences in one line of bearable length.
pub(crate) fn in_one_line(differences: &[String]) -> String {
    let told = differences[..differences.len().min(MOST_TOLD)].join(", ");
    match differences.len().saturating_sub(MOST_TOLD) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_decide_and_rates_do_not() {
        let before = TrainConfig::default();
        let mut now = before.clone();
        now.tokenizer.learning_rate = 1e-5;
        now.tokenizer.budget = Some(crate::Budget::Minutes(3.0));
        now.budget_minutes = 5.0;
        now.optimizer.average_decay = 0.5;
        now.preparation.budget_minutes = Some(4.0);
        for stage in Stage::ALL {
            let of = |config| of_stage(config, "d", stage).unwrap();
            assert!(!of(&before).is_empty());
            assert_eq!(of(&before), of(&now), "{stage}");
        }
        let told = differences(&fields(&before).unwrap(), &fields(&now).unwrap());
        assert!(
            told.contains(&"tokenizer.learning_rate: 0.001 -> 0.00001".to_owned()),
            "{told:?}"
        );
        assert!(told.contains(&"tokenizer.budget.Minutes: none -> 3.0".to_owned()));
    }

    #[test]
    fn each_stage_depends_on_its_own_sizes() {
        let before = TrainConfig::default();
        let mut now = before.clone();
        now.latent_actions.model.bottleneck = latent_actions::BottleneckConfig::Vq;
        now.latent_actions.batch = 3;
        now.preparation.corruption = 0.5;
        let changed = |stage| {
            differences(
                &of_stage(&before, "d", stage).unwrap(),
                &of_stage(&now, "d", stage).unwrap(),
            )
        };
        assert_eq!(
            changed(Stage::LatentActions),
            [
                "latent_actions.batch: 32 -> 3",
                "latent_actions.model.bottleneck: none -> Vq",
                "latent_actions.model.bottleneck.Noisy.noise: 0.2 -> none",
            ]
        );
        assert_eq!(changed(Stage::Tokenizer), [""; 0]);
        assert_eq!(
            changed(Stage::Dynamics),
            ["preparation.corruption: 0.08 -> 0.5"]
        );
        now.seed = 9;
        let of = |config: &TrainConfig| of_stage(config, "d", Stage::Tokenizer).unwrap();
        assert_eq!(differences(&of(&before), &of(&now)), ["seed: 1 -> 9"]);
        now.optimizer.muon = None;
        assert_eq!(
            differences(&of(&before), &of(&now)),
            ["optimizer.muon.momentum: 0.95 -> none", "seed: 1 -> 9"]
        );
    }

    #[test]
    fn every_stage_depends_on_the_video() {
        let config = TrainConfig::default();
        for stage in Stage::ALL {
            let [before, now] = ["a1", "b2"].map(|video| of_stage(&config, video, stage).unwrap());
            assert_eq!(differences(&before, &now), ["dataset: a1 -> b2"]);
        }
    }

    #[test]
    fn many_differences_are_not_all_spelled_out() {
        let many: Vec<String> = (0..9).map(|i| format!("f{i}: 0 -> 1")).collect();
        assert!(in_one_line(&many).ends_with("f5: 0 -> 1 and 3 more"));
        assert_eq!(in_one_line(&many[..1]), "f0: 0 -> 1");
    }
}
