//! What a world is worth on held-out video.

pub(crate) mod rollouts;
