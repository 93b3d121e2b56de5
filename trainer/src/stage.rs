//! The three stages by name.

use serde::{Deserialize, Serialize};

/// One of the three stages of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Video to tokens and back.
    Tokenizer,
    /// What happened between frames.
    LatentActions,
    /// Past, action and forecast to the next frame's tokens.
    Dynamics,
}

impl Stage {
    /// All stages, in the order in which a run takes them.
    pub const ALL: [Self; 3] = [Self::LatentActions, Self::Tokenizer, Self::Dynamics];

    /// Its name in configurations, files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokenizer => "tokenizer",
            Self::LatentActions => "latent_actions",
            Self::Dynamics => "dynamics",
        }
    }

    /// Keeps the stages' random numbers apart.
    pub(crate) fn stream(self) -> u64 {
        match self {
            Self::Tokenizer => 1,
            Self::LatentActions => 2,
            Self::Dynamics => 3,
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|stage| stage.name() == text);
        found.ok_or_else(|| {
            format!("{text:?} is no stage; the stages are tokenizer, latent_actions and dynamics")
        })
    }
}
