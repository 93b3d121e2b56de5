//! Threads that make a frame together.
//!
//! Between two passes of a frame they spin, because waking a thread through the operating system takes longer than many a pass; when nothing comes
//! for a while they sleep.

use super::shares::{Report, Shares};
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// More threads than this do not help: a frame has few rows.
const MOST_MEMBERS: usize = 8;
/// How long an idle thread spins before it sleeps: longer than what lies between the passes of a frame.
const SPIN: Duration = Duration::from_micros(300);
/// Turns of a waiting loop after which it lets other programs run: with more threads than free cores, what is waited for may need this one.
const PATIENCE: u32 = 4_000;

/// What members run, without its lifetime: `run` does not return before all are done with it.
type Work = *const (dyn Fn(&Member) + Sync);

struct State {
    members: usize,
    /// Number of the current piece of work.
    round: AtomicUsize,
    work: UnsafeCell<Option<Work>>,
    /// Which rows each member takes.
    shares: RwLock<Shares>,
    /// What each did in the current piece of work.
    reports: Vec<Mutex<Report>>,
    /// Members other than the caller that are not done with it.
    busy: AtomicUsize,
    /// For [`Member::meet`]: how many have arrived, and how many times all have.
    arrived: AtomicUsize,
    meetings: AtomicUsize,
    /// A member has panicked; the others must not wait for it.
    broken: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    ended: AtomicBool,
    asleep: Vec<AtomicBool>,
}

// SAFETY: `work` is written only by `Team::run`, while no member is busy, and read only by members after `round` has told them of it.
unsafe impl Sync for State {}
// SAFETY: the work that it points to may be run by any thread (`Sync`), and `Team::run` keeps it alive.
unsafe impl Send for State {}

/// Some threads, the caller of [`Team::run`] among them.
pub struct Team {
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
    /// One piece of work at a time.
    turn: Mutex<()>,
}

/// One thread's part in a piece of work.
pub struct Member<'a> {
    index: usize,
    state: &'a State,
    /// When it began what it works on now.
    since: Cell<Instant>,
    /// How long it has worked before.
    worked: Cell<Duration>,
    /// How many rows it took.
    taken: Cell<usize>,
}

impl Member<'_> {
    /// Its number, from 0; the caller of [`Team::run`] is 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its share of `total` rows, from an even one on: neighbours may make up a pair. The faster its thread has been, the larger it is.
    pub fn rows(&self, total: usize) -> Range<usize> {
        let shares = self.state.shares.read();
        let rows = shares
            .unwrap_or_else(PoisonError::into_inner)
            .rows(total, self.index);
        self.taken.set(rows.len());
        rows
    }

    /// Adds the time since it began to what it has worked.
    fn pause(&self) {
        self.worked
            .set(self.worked.get() + self.since.get().elapsed());
    }

    /// Waits until all members have come here; what each wrote before, all may read after.
    pub fn meet(&self) {
        self.pause();
        self.wait_for_all();
        self.since.set(Instant::now());
    }

    fn wait_for_all(&self) {
        let state = self.state;
        let meeting = state.meetings.load(Ordering::Acquire);
        if state.arrived.fetch_add(1, Ordering::AcqRel) + 1 == state.members {
            state.arrived.store(0, Ordering::Relaxed);
            state
                .meetings
                .store(meeting.wrapping_add(1), Ordering::Release);
            return;
        }
        wait(|| {
            state.meetings.load(Ordering::Acquire) != meeting
                || state.broken.load(Ordering::Acquire)
        });
        assert!(
            !state.broken.load(Ordering::Acquire),
            "another thread of the team has panicked"
        );
    }
}

/// A panic while one was held has been told already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Spins until `done`.
fn wait(done: impl Fn() -> bool) {
    let mut turns = 0;
    while !done() {
        turns += 1;
        if turns < PATIENCE {
            std::hint::spin_loop();
        } else {
            thread::yield_now();
        }
    }
}

impl Team {
    /// A team of `members` threads, the caller included.
    ///
    /// Where the system gives fewer threads, the team is smaller.
    pub fn new(members: usize) -> Self {
        Self::with_members(members.max(1)).unwrap_or_else(|_| Self::of(1))
    }

    /// The team of this process, with a thread for each core.
    pub fn of_process() -> &'static Self {
        static TEAM: OnceLock<Team> = OnceLock::new();
        TEAM.get_or_init(|| Self::new(rayon::current_num_threads().min(MOST_MEMBERS)))
    }

    /// A team of the caller alone, with room for others.
    fn of(members: usize) -> Self {
        Self {
            state: Arc::new(State::new(members)),
            threads: Vec::new(),
            handles: Vec::new(),
            turn: Mutex::new(()),
        }
    }

    fn with_members(members: usize) -> std::io::Result<Self> {
        let mut team = Self::of(members);
        for index in 1..members {
            let state = team.state.clone();
            let thread = thread::Builder::new()
                .name(format!("frame {index}"))
                .spawn(move || serve(&state, index))?;
            team.handles.push(thread.thread().clone());
            team.threads.push(thread);
        }
        Ok(team)
    }

    /// A team whose threads have parts as for these speeds.
    #[cfg(test)]
    pub fn of_speeds(speeds: &[f64]) -> Self {
        let team = Self::new(speeds.len());
        *team.state.shares.write().unwrap() = Shares::of_speeds(speeds);
        team
    }

    /// How many threads it has, the caller's included.
    pub fn members(&self) -> usize {
        self.state.members
    }

    /// Runs `work` once on each thread and returns when all are done. A panic of any of them goes on in the caller.
    pub fn run(&self, work: &(dyn Fn(&Member) + Sync)) {
        let _turn = lock(&self.turn);
        let state = &*self.state;
        // SAFETY: only the lifetime changes; the work is not used after this call, which waits for all members.
        let work: Work =
            unsafe { std::mem::transmute::<*const (dyn Fn(&Member) + Sync + '_), Work>(work) };
        // SAFETY: no member is busy, so none reads it.
        unsafe { *state.work.get() = Some(work) };
        state.busy.store(state.members - 1, Ordering::Relaxed);
        state.round.fetch_add(1, Ordering::SeqCst);
        for (asleep, handle) in state.asleep.iter().zip(&self.handles) {
            if asleep.swap(false, Ordering::SeqCst) {
                handle.unpark();
            }
        }
        state.take_part(0);
        wait(|| state.busy.load(Ordering::Acquire) == 0);
        if state.broken.swap(false, Ordering::AcqRel) {
            state.arrived.store(0, Ordering::Relaxed);
            let panic = lock(&state.panic).take();
            resume_unwind(panic.unwrap_or_else(|| Box::new("a thread of the team has panicked")));
        }
        let shares = state.shares.write();
        shares
            .unwrap_or_else(PoisonError::into_inner)
            .learn(state.reports.iter().map(|report| *lock(report)));
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.state.round.fetch_add(1, Ordering::SeqCst);
        self.handles.iter().for_each(Thread::unpark);
        for thread in self.threads.drain(..) {
            // Panics of its work were caught and told where they belong.
            let _ = thread.join();
        }
    }
}

impl State {
    fn new(members: usize) -> Self {
        Self {
            members,
            round: AtomicUsize::new(0),
            work: UnsafeCell::new(None),
            shares: RwLock::new(Shares::even(members)),
            reports: (0..members).map(|_| Mutex::default()).collect(),
            busy: AtomicUsize::new(0),
            arrived: AtomicUsize::new(0),
            meetings: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            panic: Mutex::new(None),
            ended: AtomicBool::new(false),
            asleep: (1..members).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// Runs the current work as member `index`; keeps the first panic for the caller of [`Team::run`].
    fn take_part(&self, index: usize) {
        // SAFETY: the work was set before this round was announced and stays until all members are done.
        let Some(work) = (unsafe { *self.work.get() }) else {
            return;
        };
        // SAFETY: as above: what it points to is alive.
        let work = unsafe { &*work };
        let member = Member {
            index,
            state: self,
            since: Cell::new(Instant::now()),
            worked: Cell::default(),
            taken: Cell::default(),
        };
        let done = catch_unwind(AssertUnwindSafe(|| work(&member)));
        member.pause();
        *lock(&self.reports[index]) = Report {
            rows: member.taken.get(),
            time: member.worked.get(),
        };
        if let Err(panic) = done {
            let mut first = lock(&self.panic);
            if !self.broken.load(Ordering::Acquire) {
                *first = Some(panic);
            }
            self.broken.store(true, Ordering::Release);
        }
    }
}

/// A thread's life: waits for work, takes part, and says that it is done.
fn serve(state: &State, index: usize) {
    let mut seen = 0;
    loop {
        await_round(state, index, seen);
        seen = state.round.load(Ordering::Acquire);
        if state.ended.load(Ordering::SeqCst) {
            return;
        }
        state.take_part(index);
        state.busy.fetch_sub(1, Ordering::Release);
    }
}

fn await_round(state: &State, index: usize, seen: usize) {
    let changed = || state.round.load(Ordering::SeqCst) != seen;
    let idle = Instant::now();
    while !changed() {
        if idle.elapsed() < SPIN {
            for _ in 0..64 {
                std::hint::spin_loop();
            }
            continue;
        }
        let asleep = &state.asleep[index - 1];
        asleep.store(true, Ordering::SeqCst);
        // Whoever announces work after this line sees the flag; whoever did before is seen here.
        if changed() {
            asleep.store(false, Ordering::SeqCst);
        } else {
            thread::park();
        }
    }
}
