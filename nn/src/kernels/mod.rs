//! The arithmetic itself: plain functions over `f32` slices, vectorised for the CPU at hand and spread over its cores.
//!
//! Nothing here knows of tensors or gradients; [`crate::ops`] wraps these functions as candle operations. Work is split
//! into pieces of a fixed size and partial sums are added in a fixed order, so results do not depend on the number of threads.

pub mod adamw;
pub mod attention;
pub(crate) mod buffer;
pub mod cross_entropy;
pub mod dispatch;
pub mod elementwise;
pub mod inference;
mod lanes;
pub mod muon;
pub mod norm;
pub mod parallel;
pub mod peak;
mod prefetch;
pub mod product;
mod register_tile;
pub mod small_product;
pub mod transpose;
pub mod warp;

pub(crate) use dispatch::{kernel, multiply_add};
