//! Where the time of a training step goes, by kind of operation.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

thread_local! {
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
    static TIMES: RefCell<BTreeMap<&'static str, Timed>> = const { RefCell::new(BTreeMap::new()) };
}

/// What one kind of operation took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timed {
    /// By the clock, on the thread that asked for it.
    pub time: Duration,
    /// How many times it was asked for.
    pub calls: u64,
}

/// Runs `work` and returns, with its result, what each kind of fused operation that this thread asked for took, forward and backward together.
pub fn profiled<R>(work: impl FnOnce() -> R) -> (R, BTreeMap<&'static str, Timed>) {
    TIMES.with_borrow_mut(BTreeMap::clear);
    ACTIVE.set(true);
    let result = work();
    ACTIVE.set(false);
    (result, TIMES.take())
}

/// Runs `work` as an operation of a kind; an operation within it counts for itself alone.
pub(crate) fn operation<R>(kind: &'static str, work: impl FnOnce() -> R) -> R {
    if !ACTIVE.get() {
        return work();
    }
    let start = Instant::now();
    let inner = TIMES.with_borrow(total);
    let result = work();
    TIMES.with_borrow_mut(|times| {
        let others = total(times).saturating_sub(inner);
        let timed = times.entry(kind).or_default();
        timed.time += start.elapsed().saturating_sub(others);
        timed.calls += 1;
    });
    result
}

/// Runs `work` as an operation of a kind, together with all operations within it.
pub(crate) fn whole<R>(kind: &'static str, work: impl FnOnce() -> R) -> R {
    operation(kind, || {
        let active = ACTIVE.replace(false);
        let result = work();
        ACTIVE.set(active);
        result
    })
}

fn total(times: &BTreeMap<&'static str, Timed>) -> Duration {
    times.values().map(|timed| timed.time).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_within_a_whole_are_not_told_apart() {
        let ((), times) = profiled(|| {
            whole("outer", || operation("inner", || ()));
            operation("after", || ());
        });
        assert_eq!(times.keys().collect::<Vec<_>>(), [&"after", &"outer"]);
        assert!(profiled(|| ()).1.is_empty());
    }

    #[test]
    fn operations_are_timed_once_and_only_while_asked() {
        let wait = |millis| std::thread::sleep(Duration::from_millis(millis));
        operation("outside", || wait(1));
        let begun = Instant::now();
        let ((), times) = profiled(|| {
            operation("outer", || {
                wait(3);
                operation("inner", || wait(20));
            });
            operation("inner", || wait(1));
        });
        let all = begun.elapsed();
        assert_eq!(times.keys().collect::<Vec<_>>(), [&"inner", &"outer"]);
        assert_eq!((times["inner"].calls, times["outer"].calls), (2, 1));
        let (inner, outer) = (times["inner"].time, times["outer"].time);
        assert!(inner >= Duration::from_millis(21) && outer >= Duration::from_millis(3));
        assert!(
            inner + outer <= all,
            "{inner:?} and {outer:?} within {all:?}"
        );
        assert!(profiled(|| ()).1.is_empty());
    }
}
