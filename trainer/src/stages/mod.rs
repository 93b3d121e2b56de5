//! The three stages: what each trains on, its loss and its judgement.

pub(crate) mod critic;
pub(crate) mod dynamics;
pub(crate) mod latent_actions;
pub(crate) mod tokenizer;
