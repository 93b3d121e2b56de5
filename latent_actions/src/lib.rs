//! The latent action model: what was done between two frames, learned from pictures alone.
//!
//! ```text
//! frames i-1, i, i+1 ─ encoder ─► a few numbers ─ bottleneck ─► action of the change i → i+1
//! frame i ─────────────────────────────────────► predictor ◄──────┘
//!                                                   └─► flow that moves frame i's pixels, plus a residual = guess of frame i+1
//! ```
//!
//! The numbers pass a narrow, noisy bottleneck and are the predictor's only news of frame i+1, so they come to describe the change. After
//! training they are clustered into `K` codes ([`cluster`], [`LatentActionModel::set_codebook`]); the predictor is kept and used as the
//! *forecast* ([`LatentActionModel::forecast`]) that the dynamics corrects. The encoder sees the future; the forecast never does.

mod bottleneck;
mod clusters;
mod config;
mod frame;
mod model;

pub use clusters::cluster;
pub use config::{BottleneckConfig, LatentActionConfig};
pub use frame::{Forecaster, ForecasterBuffers};
pub use model::{LatentActionModel, Prediction};
