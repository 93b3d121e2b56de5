//! Worlds: bundles that can be played, and the loop that plays them.
//!
//! ```text
//! folder or program ─ BundleSource ─► WorldManifest ─ validated ─► weights, prompts, sounds ─► World
//! World + prompt ─► Rollout:  wish ─► code ─► forecast ─► tokens ─► Frame, again and again
//! ```
//!
//! A bundle is data from strangers. Everything in it is checked before anything is allocated on its word: a bundle can make the program
//! refuse, with a sentence that names file and field, but never crash, hang, or touch a file outside its folder.
//!
//! - [`find`], [`find_default`] and [`list`] find worlds by path and by name; some are built into the program;
//! - [`World`] is a loaded world, [`save`] writes one;
//! - [`Rollout`] plays one: play, replay and evaluation all go through it; a [`Snapshot`] is a point to go on from, now or later;
//! - [`Input`] and [`Chord`] name what a player can press, and the manifest binds them to action codes;
//! - [`measure_effects`] finds out what each code does, by the [`Motion`] of the pictures, and [`propose`] names and binds the codes by it;
//! - [`Wish`] is what a player asks for, [`RandomPlayer`] a player made of dice.

mod catalogue;
mod contents;
mod effects;
mod engine;
mod error;
mod frame;
mod input;
mod manifest;
mod motion;
mod player;
mod rollout;
mod snapshot;
mod sound;
mod sounds;
mod source;
mod tiny;
mod weights;
mod wish;
mod world;

#[cfg(test)]
mod bundle_tests;

pub use catalogue::{
    DEFAULT_WORLD, FoundWorld, Place, find, find_default, find_named, list, search_folders,
};
pub use contents::{BundleContents, save};
pub use dynamics::{SamplerConfig, Strength};
pub use effects::{CodeEffect, EffectOptions, Proposal, measure_effects, propose};
pub use error::{Error, Result};
pub use frame::Frame;
pub use input::{Chord, Input};
pub use manifest::{
    Action, FORMAT_VERSION, FRAME_RATES, Flaw, LONGEST_LASTING, Lasting, Provenance, StepRange,
    WorldManifest, codes_by_chord, validate_actions,
};
pub use motion::{Motion, motion_between};
pub use player::RandomPlayer;
pub use rollout::{LONGEST_PROMPT, Rollout, RolloutSettings, Step};
pub use snapshot::Snapshot;
pub use sound::Sound;
pub use sounds::{Ambient, LoadedSample, Sample, Sounds, Soundscape, Trigger, read_sound_files};
pub use source::{BundleSource, FolderSource, MemorySource, is_safe_name};
pub use tiny::{tiny_contents, tiny_world};
pub use weights::WeightFormat;
pub use wish::Wish;
pub use world::{
    DYNAMICS_FILE, LATENT_ACTIONS_FILE, MANIFEST_FILE, PROMPTS_FOLDER, README_FILE, SOUNDS_FOLDER,
    TOKENIZER_FILE, World, WorldWeights, read_manifest, read_prompts,
};
