//! Whole transformer passes over one frame, as play needs them: fixed weights, few rows, an answer within milliseconds.
//!
//! The frame's positions are divided among the threads of a [`Team`], and each thread takes its own rows through all layers: norms,
//! products ([`PackedWeight`]), temporal attention and activations need nothing of the other rows. Only spatial attention does, so the
//! threads meet once a layer, after they have laid out their keys and values. How many rows a thread gets follows from how fast it has been. All buffers are kept from frame to frame.

mod blocks;
mod shares;
mod space;
mod team;
mod time;

pub use blocks::{
    AttentionWeights, BlockWeights, FeedForwardWeights, FrameBuffers, NormWeights, PackedBlocks,
    Projection,
};
pub(crate) use space::MemberBuffers;
pub use team::{Member, Team};
pub(crate) use time::{Past, Turn, attend_time};

pub use super::product::{Finish, PackedWeight, Unit};

#[cfg(test)]
mod tests;
