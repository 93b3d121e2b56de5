//! The video tokenizer: frames to discrete tokens and back.
//!
//! A space-time transformer over patches with a discrete bottleneck:
//!
//! ```text
//! frames [B, T, H, W, 3] ─ patches ─► encoder ─► latents [B, T, N, L] ─ quantizer ─► tokens [B, T, N]
//! frames [B, T, H, W, 3] ◄─ patches ─ decoder ◄─ vectors [B, T, N, L] ◄────────────────┘
//! ```
//!
//! Temporal attention in it is causal and a configuration choice. Without it every frame stands alone, which is what worlds that are
//! played on a CPU use; with it, [`TokenizerStream`] codes frame by frame.

mod config;
mod frame;
mod model;

pub use config::TokenizerConfig;
pub use frame::{FrameTokenizer, FrameTokenizerBuffers};
pub use model::{Reconstruction, Tokenizer, TokenizerStream};
