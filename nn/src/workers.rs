//! The threads that training runs on.

use crate::ops::{is_composing, with_compositions};
use crate::{precision, with_precision};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::OnceLock;

/// A backward pass may call itself once for each operation on the longest way through a model.
const STACK: usize = 64 << 20;

/// Runs `work`, in the caller's precision, on one of the threads that share the kernels' work.
///
/// A thread from outside would hand each operation over and sleep until it is done: two threads to be woken for each of the thousand operations of a training step. One
/// of their own begins at once and needs no waking. The threads are others than rayon's usual ones, so that whatever makes data for `work` meanwhile never waits
/// for threads that wait for it.
pub fn on_a_worker<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    static WORKERS: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let threads = || ThreadPoolBuilder::new().stack_size(STACK).build().ok();
    match WORKERS.get_or_init(threads) {
        Some(workers) if rayon::current_thread_index().is_none() => {
            let (precision, composing) = (precision(), is_composing());
            workers.install(|| {
                with_precision(precision, || match composing {
                    true => with_compositions(work),
                    false => work(),
                })
            })
        }
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Precision;

    #[test]
    fn workers_keep_what_the_caller_has_set_and_are_entered_once() {
        assert_eq!(rayon::current_thread_index(), None);
        let seen = with_precision(Precision::Bf16, || {
            with_compositions(|| {
                on_a_worker(|| {
                    let thread = std::thread::current().id();
                    let same = on_a_worker(|| std::thread::current().id() == thread);
                    (precision(), is_composing(), same)
                })
            })
        });
        assert_eq!(seen, (Precision::Bf16, true, true));
        let fresh = on_a_worker(|| (precision(), is_composing()));
        assert_eq!(fresh, (Precision::F32, false));
    }
}
