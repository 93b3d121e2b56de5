//! What Djinn's three models are made of: space-time transformer blocks, quantizers, fused CPU kernels, and the optimizer.
//!
//! This crate knows neither games nor files. Data flows upwards through it:
//!
//! - [`kernels`]: arithmetic over `f32` slices, vectorised for the CPU at hand;
//! - [`ops`]: the same as candle operations with hand-written backward passes, or composed of candle's own on other devices
//!   ([`DeviceChoice`]);
//! - [`transformer`]: blocks of spatial attention, causal temporal attention and feed-forward, over whole clips or frame by frame
//!   with a [`KvCache`];
//! - [`quantizer`]: continuous latents to discrete tokens and back;
//! - [`Parameters`] (named weights, seeded), [`Optimizer`] and [`ExponentialAverage`]: what training needs around a model;
//! - [`BufferAllocator`], [`tune_allocator`] and [`on_a_worker`]: memory and threads that training is faster with;
//! - [`quality`]: the figures that models are judged by;
//! - [`ActionCode`] and [`Transitions`]: the one meaning of an action everywhere, *the change from frame i to frame i + 1*.
//!
//! Shapes are written with `B` batch, `T` frames, `N` tokens per frame, `S` positions in a frame, `D` model width, `H` heads, `K` action
//! codes, `V` codebook size, `P` patch side.

mod action;
mod average;
pub mod count;
mod device;
mod error;
mod frame;
pub mod kernels;
mod memory;
pub mod ops;
mod optimizer;
mod parameters;
mod precision;
mod process;
pub mod profile;
pub mod quality;
pub mod quantizer;
mod random;
pub mod transformer;
mod workers;

#[cfg(test)]
mod thread_tests;

pub use action::{ActionCode, Transitions, change_into};
pub use average::ExponentialAverage;
pub use device::{DeviceChoice, choose_device, device};
pub use error::{Error, Result};
pub use frame::{
    FrameSize, centred_patches_of, centred_patches_of_picture, patches_of, picture_of_patches,
    pictures_of,
};
pub use memory::BufferAllocator;
pub use optimizer::{
    AdamWConfig, Gradients, MuonConfig, Optimizer, OptimizerState, StepReport, gradients,
};
pub use parameters::{Parameters, linear_weight};
pub use precision::{Precision, precision, with_precision};
pub use process::{keeping_ignored_signals, quiet_candle_threads, tune_allocator};
pub use random::{generator, normal};
pub use transformer::{
    CacheContents, KvCache, LARGEST_PAST, SpaceTimeConfig, SpaceTimeTransformer, numbers, packed,
};
pub use workers::{in_this_scope, on_a_worker};
