//! `train.ron`: everything that can be set about a training run. `()` is a valid configuration; what it leaves out is as
//! documented at each field.

use std::path::Path;

use dynamics::{DynamicsConfig, SamplerConfig, Strength};
use latent_actions::LatentActionConfig;
use nn::{ActionCode, AdamWConfig, MuonConfig, Precision};
use serde::{Deserialize, Serialize};
use tokenizer::TokenizerConfig;
use worlds::{Action, Proposal};

use crate::evaluate::EvaluateOptions;
use crate::prepare::SHARD_FRAMES;
use crate::{Error, Result, Stage, actions};

/// How long a stage trains.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Budget {
    /// Wall time, evaluations included.
    Minutes(f64),
    /// Optimizer steps. Only these make two runs comparable bit by bit.
    Steps(u64),
}

/// Everything that can be set about a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Seed of weights, clips and noise.
    pub seed: u64,
    /// Minutes for all that is to be done; stages without a budget of their own share them: latent actions 17%, tokenizer
    /// 30%, preparation 10%, dynamics what is left but 4% (more in a run of minutes), which the final evaluation takes.
    pub budget_minutes: f64,
    /// Precision of matrix products; weights, sums and the optimizer's state are f32 in any case.
    pub precision: Precision,
    /// Settings of the optimizer in every stage.
    pub optimizer: OptimizerConfig,
    /// Seconds between checkpoints.
    pub checkpoint_seconds: f64,
    /// Steps between lines of `metrics.jsonl`.
    pub log_steps: u64,
    /// The tokenizer's stage.
    pub tokenizer: TokenizerStage,
    /// The latent action model's stage.
    pub latent_actions: LatentActionStage,
    /// Tokens and forecasts to disk.
    pub preparation: PreparationConfig,
    /// The dynamics' stage.
    pub dynamics: DynamicsStage,
    /// How thoroughly the finished world is measured. Of what is left as it is, a budget of less than an hour measures accordingly less.
    pub evaluation: EvaluateOptions,
    /// What the finished bundle says about itself.
    pub world: WorldDetails,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            budget_minutes: 60.0,
            precision: Precision::Bf16,
            optimizer: OptimizerConfig::default(),
            checkpoint_seconds: 120.0,
            log_steps: 10,
            tokenizer: TokenizerStage::default(),
            latent_actions: LatentActionStage::default(),
            preparation: PreparationConfig::default(),
            dynamics: DynamicsStage::default(),
            evaluation: EvaluateOptions::default(),
            world: WorldDetails::default(),
        }
    }
}

/// The optimizer and what stands around it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// The moments' decay and the weights'.
    pub adamw: AdamWConfig,
    /// Muon for the matrices of transformer blocks; AdamW for these, too, if `None`.
    pub muon: Option<MuonConfig>,
    /// Longest gradient; longer ones are shortened to it.
    pub gradient_clip: f64,
    /// Last share of a stage, over which the learning rate falls linearly to nearly nothing.
    pub decay_fraction: f64,
    /// Share of the running average of weights that is kept at each step. The average is what is evaluated and shipped.
    pub average_decay: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            adamw: AdamWConfig::default(),
            muon: Some(MuonConfig::default()),
            gradient_clip: 1.0,
            decay_fraction: 0.5,
            average_decay: 0.995,
        }
    }
}

/// What every stage has: how much it sees at a time, how fast and how long it learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pace {
    pub batch: usize,
    pub accumulate: usize,
    pub clip_frames: usize,
    pub learning_rate: f64,
    pub warmup_steps: u64,
    pub evaluations: u64,
    pub budget: Option<Budget>,
}

macro_rules! pace {
    ($stage:ty) => {
        impl $stage {
            pub(crate) fn pace(&self) -> Pace {
                Pace {
                    batch: self.batch,
                    accumulate: self.accumulate,
                    clip_frames: self.clip_frames,
                    learning_rate: self.learning_rate,
                    warmup_steps: self.warmup_steps,
                    evaluations: self.evaluations,
                    budget: self.budget,
                }
            }
        }
    };
}

/// An adversarial loss on the tokenizer's decoder: sharper pictures for a little PSNR.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdversarialConfig {
    /// Share of the stage's budget after which it begins.
    pub begins: f64,
    /// Its pull on the decoded pixels, as a share of the squared error's.
    pub share: f64,
}

impl Default for AdversarialConfig {
    fn default() -> Self {
        Self {
            begins: 0.7,
            share: 0.3,
        }
    }
}

/// The tokenizer's stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerStage {
    /// Sizes; `frame` is taken from the dataset whatever is written here.
    pub model: TokenizerConfig,
    /// Clips in a batch.
    pub batch: usize,
    /// Batches whose gradients make one step.
    pub accumulate: usize,
    /// Frames in a clip; more than one only matters where the tokenizer has temporal attention.
    pub clip_frames: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises to it.
    pub warmup_steps: u64,
    /// Evaluations over the stage, evenly spread.
    pub evaluations: u64,
    /// How long it trains; a share of the whole budget if not given.
    pub budget: Option<Budget>,
    /// An adversarial loss late in the stage; none if not given.
    pub adversarial: Option<AdversarialConfig>,
}

impl Default for TokenizerStage {
    fn default() -> Self {
        Self {
            model: TokenizerConfig::default(),
            batch: 16,
            accumulate: 1,
            clip_frames: 1,
            learning_rate: 1e-3,
            warmup_steps: 200,
            evaluations: 8,
            budget: None,
            adversarial: None,
        }
    }
}

pace!(TokenizerStage);

/// The latent action model's stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LatentActionStage {
    /// Sizes; `frame` is taken from the dataset whatever is written here.
    pub model: LatentActionConfig,
    /// Clips in a batch.
    pub batch: usize,
    /// Batches whose gradients make one step.
    pub accumulate: usize,
    /// Frames in a clip, at least 3.
    pub clip_frames: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises to it.
    pub warmup_steps: u64,
    /// Evaluations over the stage, evenly spread.
    pub evaluations: u64,
    /// How long it trains; a share of the whole budget if not given.
    pub budget: Option<Budget>,
    /// Last share of the stage, in which descriptions have been clustered into codes, the encoder is frozen and the
    /// predictor learns to live with the codes.
    pub codes_fraction: f64,
    /// Gap in dB between inferred and shuffled descriptions that counts as the breakthrough.
    pub breakthrough_gap: f64,
    /// How often the stage starts anew, with another seed and a lower rate, when there is no breakthrough.
    pub attempts: u32,
}

impl Default for LatentActionStage {
    fn default() -> Self {
        Self {
            model: LatentActionConfig::default(),
            batch: 32,
            accumulate: 1,
            clip_frames: 3,
            learning_rate: 1e-3,
            warmup_steps: 100,
            evaluations: 12,
            budget: None,
            codes_fraction: 0.25,
            breakthrough_gap: 0.2,
            attempts: 3,
        }
    }
}

pace!(LatentActionStage);

/// Tokens and forecasts to disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PreparationConfig {
    /// Largest share of a frame's tokens that is replaced at random before the forecast is made from it.
    pub corruption: f64,
    /// Minutes after which no more training frames are prepared; a share of the whole budget if not given.
    pub budget_minutes: Option<f64>,
    /// Most frames of held-out video that are prepared.
    pub validation_frames: usize,
}

impl Default for PreparationConfig {
    fn default() -> Self {
        Self {
            corruption: 0.08,
            budget_minutes: None,
            validation_frames: 4096,
        }
    }
}

/// The dynamics' stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DynamicsStage {
    /// Sizes; those that the dataset, the tokenizer and the latent action model decide are taken from them whatever is
    /// written here.
    pub model: DynamicsConfig,
    /// Clips in a batch.
    pub batch: usize,
    /// Batches whose gradients make one step.
    pub accumulate: usize,
    /// Frames in a clip.
    pub clip_frames: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises to it.
    pub warmup_steps: u64,
    /// Evaluations over the stage, evenly spread.
    pub evaluations: u64,
    /// How long it trains; the rest of the whole budget if not given.
    pub budget: Option<Budget>,
    /// Share of frames that are masked completely, as each frame of play is at first; of the others, a share is masked whose size follows a cosine.
    pub full_mask_fraction: f64,
    /// Largest share of the clean past's tokens that is replaced at random; each clip draws its own up to this.
    pub corruption: f64,
    /// Weight of the action prior's loss beside the tokens'.
    pub prior_weight: f64,
}

impl Default for DynamicsStage {
    fn default() -> Self {
        Self {
            model: DynamicsConfig::default(),
            batch: 3,
            accumulate: 1,
            clip_frames: 8,
            learning_rate: 1e-3,
            warmup_steps: 100,
            evaluations: 8,
            budget: None,
            full_mask_fraction: 0.4,
            corruption: 0.1,
            prior_weight: 0.5,
        }
    }
}

pace!(DynamicsStage);

/// What the finished bundle says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorldDetails {
    /// What people call the world; the name of its folder, without a final `.world`, if empty.
    pub name: String,
    /// Who made it; `unknown` stands for the author of the world that it goes on from, if there is one.
    pub author: String,
    /// Licence of the bundle; `unknown` stands for that of the world that it goes on from, if there is one.
    pub licence: String,
    /// What the training video shows, who recorded it, how and how much of it; if empty, the names of the dataset's files, after what the world that
    /// it goes on from says of its own.
    pub source: String,
    /// Under which licence or right the video was used; `unknown` comes after that of the video of the world that it goes on from.
    pub source_licence: String,
    /// How frames are sampled unless the player says otherwise.
    pub sampler: SamplerConfig,
    /// How much a wish weighs against the action prior.
    pub strength: Strength,
    /// How much a wish for each code weighs, as multiples of the strength; 1 for codes without an entry.
    pub weights: Vec<f32>,
    /// Codes that are the player's to begin, as [`worlds::WorldManifest::voluntary`] has them; if empty, those of the world that it goes on from.
    pub voluntary: Vec<Vec<ActionCode>>,
    /// Starting frames, cut from held-out video.
    pub prompts: usize,
    /// Names of the action codes; from their measured motion if empty.
    pub action_names: Vec<String>,
    /// Keys that wish for each action code; by their motion if empty.
    pub bindings: Vec<Vec<String>>,
    /// The code of doing nothing; by their motion if not given.
    pub idle: Option<ActionCode>,
}

impl Default for WorldDetails {
    fn default() -> Self {
        Self {
            name: String::new(),
            author: "unknown".to_owned(),
            licence: "unknown".to_owned(),
            source: String::new(),
            source_licence: "unknown".to_owned(),
            sampler: SamplerConfig::default(),
            strength: Strength::Wish(4.0),
            weights: Vec::new(),
            voluntary: Vec::new(),
            prompts: 8,
            action_names: Vec::new(),
            bindings: Vec::new(),
            idle: None,
        }
    }
}

impl WorldDetails {
    /// The actions and the idle code as far as they are given; what is not will be proposed, and has its number for a name here.
    pub(crate) fn given_actions(&self, codes: usize) -> (Vec<Action>, Option<ActionCode>) {
        let given = self.action_names.len().max(self.bindings.len());
        let numbered = (0..codes.max(given)).map(|code| Action {
            name: code.to_string(),
            bindings: Vec::new(),
        });
        let proposal = Proposal {
            actions: numbered.collect(),
            idle: None,
        };
        actions::configured(proposal, self)
    }

    /// Checks names, keys and idle as the world will, which comes to be hours later.
    fn check_actions(&self, codes: usize) -> std::result::Result<(), String> {
        let (actions, idle) = self.given_actions(codes);
        worlds::validate_actions(&actions, idle, codes)
            .map_err(|flaw| format!("world: {}: {}", flaw.field, flaw.reason))
    }
}

impl TrainConfig {
    /// Reads and checks a `train.ron`.
    ///
    /// # Errors
    /// When the file cannot be read, by line; or a field holds what cannot be trained with, by name.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let named = |reason| Error::Config {
            file: path.display().to_string(),
            reason,
        };
        let config = Self::parse(&text).map_err(&named)?;
        config.check().map_err(named)?;
        Ok(config)
    }

    /// Reads the text of a `train.ron`, without checking numbers.
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let options = ron::Options::default()
            .with_default_extension(ron::extensions::Extensions::IMPLICIT_SOME);
        options
            .from_str(text)
            .map_err(|error| format!("line {}: {}", error.span.start.line, error.code))
    }

    /// The text of a `train.ron` that sets every field.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn to_text(&self) -> Result<String> {
        let pretty =
            ron::ser::PrettyConfig::new().extensions(ron::extensions::Extensions::IMPLICIT_SOME);
        ron::ser::to_string_pretty(self, pretty).map_err(|error| Error::config(error.to_string()))
    }

    /// Checks that the configuration can be trained with.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        self.check().map_err(Error::config)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let within = |field: &str, value: f64, least: f64, most: f64| match value {
            value if (least..=most).contains(&value) => Ok(()),
            _ => Err(format!("{field} = {value}: must lie in {least}..={most}")),
        };
        within("budget_minutes", self.budget_minutes, 0.0, 1e6)?;
        within("checkpoint_seconds", self.checkpoint_seconds, 0.0, 1e6)?;
        within("log_steps", self.log_steps as f64, 1.0, 1e6)?;
        let optimizer = &self.optimizer;
        within(
            "optimizer.gradient_clip",
            optimizer.gradient_clip,
            1e-6,
            1e6,
        )?;
        within(
            "optimizer.decay_fraction",
            optimizer.decay_fraction,
            0.0,
            1.0,
        )?;
        within(
            "optimizer.average_decay",
            optimizer.average_decay,
            0.0,
            0.999_999,
        )?;
        if let Some(MuonConfig { momentum }) = optimizer.muon {
            within("optimizer.muon.momentum", momentum.into(), 0.0, 0.9999)?;
        }
        for stage in Stage::ALL {
            let pace = self.pace(stage);
            let least_frames = match stage {
                Stage::Tokenizer => 1.0,
                Stage::LatentActions => 3.0,
                Stage::Dynamics => 2.0,
            };
            let field = |name: &str| format!("{stage}.{name}");
            within(&field("batch"), pace.batch as f64, 1.0, 4096.0)?;
            within(&field("accumulate"), pace.accumulate as f64, 1.0, 4096.0)?;
            within(
                &field("clip_frames"),
                pace.clip_frames as f64,
                least_frames,
                match stage {
                    // No longer than the shortest piece that a longer episode is cut into when it is prepared.
                    Stage::Dynamics => (SHARD_FRAMES / 2) as f64,
                    _ => 1024.0,
                },
            )?;
            within(&field("learning_rate"), pace.learning_rate, 0.0, 1.0)?;
            within(&field("evaluations"), pace.evaluations as f64, 0.0, 1e4)?;
            if let Some(Budget::Minutes(minutes)) = pace.budget {
                within(&field("budget"), minutes, 0.0, 1e6)?;
            }
        }
        if let Some(AdversarialConfig { begins, share }) = self.tokenizer.adversarial {
            within("tokenizer.adversarial.begins", begins, 0.0, 1.0)?;
            within("tokenizer.adversarial.share", share, 0.0, 10.0)?;
        }
        let latent_actions = &self.latent_actions;
        within(
            "latent_actions.codes_fraction",
            latent_actions.codes_fraction,
            0.0,
            0.9,
        )?;
        within(
            "latent_actions.attempts",
            f64::from(latent_actions.attempts),
            1.0,
            100.0,
        )?;
        within(
            "preparation.corruption",
            self.preparation.corruption,
            0.0,
            1.0,
        )?;
        within(
            "dynamics.full_mask_fraction",
            self.dynamics.full_mask_fraction,
            0.0,
            1.0,
        )?;
        within("dynamics.corruption", self.dynamics.corruption, 0.0, 1.0)?;
        within(
            "dynamics.prior_weight",
            self.dynamics.prior_weight,
            0.0,
            100.0,
        )?;
        let in_evaluation = |reason: String| format!("evaluation: {reason}");
        self.evaluation.check().map_err(in_evaluation)?;
        within("world.prompts", self.world.prompts as f64, 1.0, 256.0)?;
        let in_world = |error: nn::Error| format!("world: {error}");
        self.world.sampler.validate().map_err(in_world)?;
        let codes = self.latent_actions.model.codes;
        dynamics::validate_weights(&self.world.weights, codes).map_err(in_world)?;
        self.world.strength.validate().map_err(in_world)?;
        self.world.check_actions(codes)
    }

    pub(crate) fn pace(&self, stage: Stage) -> Pace {
        match stage {
            Stage::Tokenizer => self.tokenizer.pace(),
            Stage::LatentActions => self.latent_actions.pace(),
            Stage::Dynamics => self.dynamics.pace(),
        }
    }

    /// The configuration with the sizes filled in that the dataset and the other models decide.
    ///
    /// # Errors
    /// Names the first field that no model can be built with.
    pub fn for_frames(&self, frame: nn::FrameSize) -> Result<Self> {
        let mut config = self.clone();
        let tokenizer = &mut config.tokenizer.model;
        tokenizer.frame = frame;
        config.latent_actions.model.frame = frame;
        let dynamics = &mut config.dynamics.model;
        dynamics.frame = frame;
        dynamics.patch = tokenizer.patch;
        dynamics.vocabulary = tokenizer.vocabulary();
        dynamics.latent_width = tokenizer.latent_width();
        dynamics.codes = config.latent_actions.model.codes;
        let within = |stage: Stage, result: nn::Result<()>| {
            result.map_err(|error| Error::config(format!("{stage}.model: {error}")))
        };
        within(Stage::Tokenizer, tokenizer.validate())?;
        within(Stage::LatentActions, config.latent_actions.model.validate())?;
        within(Stage::Dynamics, dynamics.validate())?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_configuration_is_the_default_and_every_field_survives_a_round_trip() {
        assert_eq!(TrainConfig::parse("()"), Ok(TrainConfig::default()));
        let config = TrainConfig {
            dynamics: DynamicsStage {
                budget: Some(Budget::Steps(7)),
                ..DynamicsStage::default()
            },
            ..TrainConfig::default()
        };
        let text = config.to_text().unwrap();
        assert_eq!(TrainConfig::parse(&text), Ok(config), "{text}");
    }

    #[test]
    fn the_built_in_worlds_configurations_can_be_trained_with() {
        let worlds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../worlds");
        for name in [
            "coinrun/train.ron",
            "coinrun/learn_on.ron",
            "garden/train.ron",
        ] {
            let config = TrainConfig::read(&worlds.join(name)).unwrap();
            assert_ne!(config.world.source, "", "{name}");
        }
    }

    #[test]
    fn actions_that_no_world_can_have_are_refused_before_anything_is_trained() {
        let refusal = |text: &str| TrainConfig::parse(text).unwrap().check().unwrap_err();
        for (text, expected) in [
            (
                r#"(world: (action_names: ["a", "A"]))"#,
                "the name of two codes",
            ),
            (
                r#"(world: (bindings: [[], ["Left"]]))"#,
                "actions[1].bindings",
            ),
            (
                "(world: (idle: 8), latent_actions: (model: (codes: 8)))",
                "8 is none of 8",
            ),
            (
                "(world: (bindings: [[], [], []]), latent_actions: (model: (codes: 2)))",
                "3 entries for 2 action codes",
            ),
        ] {
            let told = refusal(text);
            assert!(
                told.starts_with("world: ") && told.contains(expected),
                "{told}"
            );
        }
        let partial = TrainConfig::parse(r#"(world: (action_names: ["hop"], idle: 1))"#);
        assert_eq!(partial.unwrap().check(), Ok(()));
    }

    #[test]
    fn part_of_a_stage_keeps_that_stage_s_own_defaults() {
        let config =
            TrainConfig::parse("(latent_actions: (batch: 16, budget: Minutes(2)))").unwrap();
        assert_eq!(config.latent_actions.batch, 16);
        assert_eq!(config.latent_actions.clip_frames, 3);
        assert_eq!(config.latent_actions.budget, Some(Budget::Minutes(2.0)));
    }

    #[test]
    fn mistakes_are_named() {
        let unknown = TrainConfig::parse("(\n  tokenizer: (wdith: 3))").unwrap_err();
        assert!(
            unknown.contains("line 2") && unknown.contains("wdith"),
            "{unknown}"
        );
        for (text, field) in [
            ("(tokenizer: (batch: 0))", "tokenizer.batch = 0"),
            (
                "(latent_actions: (clip_frames: 2))",
                "latent_actions.clip_frames = 2",
            ),
            (
                "(dynamics: (clip_frames: 257))",
                "dynamics.clip_frames = 257",
            ),
            (
                "(dynamics: (learning_rate: NaN))",
                "dynamics.learning_rate = NaN",
            ),
            ("(evaluation: (clips: 0))", "evaluation: clips = 0"),
            (
                "(evaluation: (drift_frames: 1000001))",
                "evaluation: drift_frames = 1000001",
            ),
            ("(world: (sampler: (steps: 0)))", "world: steps = 0"),
            ("(world: (weights: [1.0, 11.0]))", "world: weights = 11"),
            (
                "(latent_actions: (model: (codes: 2)), world: (weights: [1, 1, 1]))",
                "world: weights = 3",
            ),
        ] {
            let error = TrainConfig::parse(text).unwrap().check().unwrap_err();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn models_are_made_for_the_dataset_and_for_each_other() {
        let frame = nn::FrameSize {
            height: 32,
            width: 48,
        };
        let mut config = TrainConfig::default();
        config.tokenizer.model.patch = 16;
        config.latent_actions.model.codes = 5;
        let made = config.for_frames(frame).unwrap();
        assert_eq!(made.dynamics.model.frame, frame);
        assert_eq!(
            (made.dynamics.model.patch, made.dynamics.model.codes),
            (16, 5)
        );
        config.tokenizer.model.patch = 7;
        let error = config.for_frames(frame).unwrap_err().to_string();
        assert!(error.contains("tokenizer.model: patch = 7"), "{error}");
    }
}
