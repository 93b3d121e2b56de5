//! The dynamics: from past tokens, an action and a forecast to the next frame's tokens; and from the past to the next action.
//!
//! ```text
//! frame t:  [ action of the change t-1 → t | N tokens ]   one group of N + 1 positions
//! clean groups  ─► space-time transformer ─► KV cache; at the action's position, the action prior of the change t → t+1
//! masked group  ─► the same, seeing clean groups before t and itself ─► logits of its N tokens
//! forecast of t ─► added at the masked group's positions
//! ```
//!
//! Training runs both streams over whole clips ([`Dynamics::training_pass`]); play commits clean frames to a cache and decides a masked
//! frame in a few MaskGIT steps ([`Dynamics::generate`]). Both compute the same function.

mod config;
mod frame;
mod model;
mod prior;
mod sampler;

pub use config::DynamicsConfig;
pub use frame::{FrameDynamics, FrameDynamicsBuffers, FrameForecast};
pub use model::{Dynamics, Forecast, TrainingClip, TrainingPass};
pub use prior::{Strength, choose_code, prior_probabilities, validate_weights};
pub use sampler::SamplerConfig;
