//! Batches made ahead of time on a thread of their own.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

use nn::generator;
use rand_chacha::ChaCha8Rng;

use crate::task::Task;
use crate::{Error, Result};

/// Batches that wait ready.
const AHEAD: usize = 2;

/// Keeps generators of one seed apart: for batches, for noise in the loss, and for upkeep.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Batch = 0,
    Noise = 1,
    Upkeep = 2,
}

/// The generator for one purpose at one step: nothing else decides what it gives.
pub(crate) fn generator_at(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    generator(seed, index * 4 + purpose as u64)
}

/// Makes the batches number `first`, `first + 1` and so on in order until the receiver is dropped.
pub(crate) fn load<'scope, 'env, T: Task>(
    scope: &'scope Scope<'scope, 'env>,
    task: &'env T,
    seed: u64,
    first: u64,
) -> Loader<T::Batch> {
    let (sender, receiver) = sync_channel(AHEAD);
    scope.spawn(move || {
        for index in first.. {
            let batch = task.batch(&mut generator_at(seed, Purpose::Batch, index));
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                break;
            }
        }
    });
    Loader(receiver)
}

/// Hands the batches out.
pub(crate) struct Loader<B>(Receiver<Result<B>>);

impl<B> Loader<B> {
    /// The next batch.
    pub fn next(&self) -> Result<B> {
        match self.0.recv() {
            Ok(batch) => batch,
            Err(_) => Err(Error::config("the thread that loads batches has ended")),
        }
    }
}
