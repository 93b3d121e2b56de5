//! The threads that training runs on, and what they take along.

use crate::ops::{is_composing, with_composing};
use crate::{Precision, precision, with_precision};
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
            let scope = Scope::of_this_thread();
            workers.install(|| scope.run(work))
        }
        _ => work(),
    }
}

/// `work` as this thread would do it now, whichever thread does: for pieces that are shared out among threads.
///
/// What [`with_precision`] and [`with_compositions`](crate::ops::with_compositions) set holds for one thread. One that waits for pieces of its own takes others meanwhile, and would compute
/// them with what it has set itself.
pub fn in_this_scope<A, R>(work: impl Fn(A) -> R + Send + Sync) -> impl Fn(A) -> R + Send + Sync {
    let scope = Scope::of_this_thread();
    move |argument| scope.run(|| work(argument))
}

/// How a thread computes what it is asked for.
#[derive(Clone, Copy)]
struct Scope {
    precision: Precision,
    composing: bool,
}

impl Scope {
    fn of_this_thread() -> Self {
        Self {
            precision: precision(),
            composing: is_composing(),
        }
    }

    fn run<R>(self, work: impl FnOnce() -> R) -> R {
        with_precision(self.precision, || with_composing(self.composing, work))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::with_compositions;
    use rayon::prelude::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

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

    /// One thread of two is in another scope while it takes pieces.
    #[test]
    fn shared_out_pieces_are_done_as_their_thread_would() {
        let pool = ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let (there, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let help = || {
            there.store(true, Ordering::Release);
            while !over.load(Ordering::Acquire) {
                rayon::yield_now();
            }
        };
        let seen = |_: usize| {
            std::thread::sleep(Duration::from_millis(2));
            (precision(), is_composing())
        };
        let pieces = || (0..32).into_par_iter();
        let (kept, own) = pool.install(|| {
            rayon::scope(|scope| {
                scope.spawn(|_| with_precision(Precision::Bf16, || with_compositions(help)));
                while !there.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                let kept: Vec<_> = pieces().map(in_this_scope(seen)).collect();
                let own: Vec<_> = pieces().map(seen).collect();
                over.store(true, Ordering::Release);
                (kept, own)
            })
        });
        assert!(own.contains(&(Precision::Bf16, true)), "no piece was taken");
        assert_eq!(kept, [(Precision::F32, false); 32]);
    }
}
