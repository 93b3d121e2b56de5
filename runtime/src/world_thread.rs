//! The thread that runs a world at the world's own rate, so that whoever shows it never waits for the model.

use crate::actions::{ActionSource, Asked};
use crate::error::{Error, Result};
use crate::play::{Play, PlaySummary};
use nn::ActionCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use worlds::{Frame, Wish};

/// Gives the wish for the next frame at the moment when it is needed.
pub type WishReader = Box<dyn FnMut() -> Wish + Send>;

/// Who plays.
pub enum Player {
    /// A person, through a device of that name.
    Person {
        /// What recordings call the device.
        device: &'static str,
        /// Reads the person's wish.
        wish: WishReader,
    },
    /// A list or a program; play ends with a list's end.
    Source(ActionSource),
}

impl Player {
    /// What is asked of the next frame and from which device; `None` at the end. `idle` is the world's code for nothing pressed.
    fn next_asked(&mut self, idle: Option<ActionCode>) -> Option<(Asked, &'static str)> {
        match self {
            Self::Person { device, wish } => Some((Asked::Wish(or_idle(wish(), idle)), device)),
            Self::Source(source) if source.remaining() == Some(0) => None,
            Self::Source(source) => {
                let device = source.device();
                Some((source.next_asked(), device))
            }
        }
    }
}

/// A person who presses nothing wishes for what the world calls idle: without a wish, the action prior would play on as whoever played in the
/// training video. Lists and programs are taken at their word.
fn or_idle(wish: Wish, idle: Option<ActionCode>) -> Wish {
    match wish.is_none() {
        true => idle.into_iter().collect(),
        false => wish,
    }
}

/// A world that runs on its own thread.
pub struct WorldThread {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<PlaySummary>>,
}

#[derive(Default)]
struct Shared {
    orders: Mutex<Orders>,
    changed: Condvar,
    newest: Mutex<Option<Frame>>,
    ended: AtomicBool,
}

#[derive(Default)]
struct Orders {
    stop: bool,
    restart: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WorldThread {
    /// Runs `play` at its world's rate, or as fast as the machine goes where that is slower. `notify` is called, on the thread, when
    /// there is a new frame and once more at the end.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(play: Play, player: Player, notify: impl Fn() + Send + 'static) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        *lock(&shared.newest) = play.first_picture().cloned();
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("world".into())
            .spawn(move || {
                let ending = Ending {
                    shared: &theirs,
                    notify,
                };
                run(play, player, &theirs, &ending.notify)
            })
            .map_err(Error::io("the world's thread"))?;
        Ok(Self { shared, thread })
    }

    /// The newest frame, once: `None` until there is another one.
    pub fn take_frame(&self) -> Option<Frame> {
        lock(&self.shared.newest).take()
    }

    /// Starts the world again from its prompt before the next frame.
    pub fn restart(&self) {
        lock(&self.shared.orders).restart = true;
    }

    /// Whether the world has come to its end, of itself or by an error.
    pub fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }

    /// Stops the world, completes its recording and tells what it came to.
    ///
    /// # Errors
    /// What stopped it, if it was an error.
    pub fn finish(self) -> Result<PlaySummary> {
        lock(&self.shared.orders).stop = true;
        self.shared.changed.notify_all();
        self.thread.join().unwrap_or(Err(Error::WorldThread))
    }
}

/// Tells of the end when dropped, even by a panic, so that nobody waits for ever for a world that is no more.
struct Ending<'a, F: Fn()> {
    shared: &'a Shared,
    notify: F,
}

impl<F: Fn()> Drop for Ending<'_, F> {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        (self.notify)();
    }
}

fn run(
    mut play: Play,
    mut player: Player,
    shared: &Shared,
    notify: &impl Fn(),
) -> Result<PlaySummary> {
    let interval = Duration::from_secs_f64(1.0 / play.world().manifest.frames_per_second);
    let idle = play.world().manifest.idle;
    let mut due = Instant::now() + interval;
    loop {
        let Orders { stop, restart } = wait_until(due, shared);
        if stop {
            return play.finish(true);
        }
        if restart {
            play.restart()?;
        }
        let Some((asked, device)) = player.next_asked(idle) else {
            return play.finish(false);
        };
        let step = play.advance(&asked, device)?;
        *lock(&shared.newest) = Some(step.frame);
        notify();
        // A slow frame delays those that follow; they do not hurry after it.
        due = (due + interval).max(Instant::now());
    }
}

/// Waits until `due` or until play is to stop, and takes the orders.
fn wait_until(due: Instant, shared: &Shared) -> Orders {
    let mut orders = lock(&shared.orders);
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if orders.stop || left.is_zero() {
            return std::mem::take(&mut orders);
        }
        let waited = shared.changed.wait_timeout(orders, left);
        orders = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use worlds::RolloutSettings;

    fn play() -> Play {
        let mut world = worlds::tiny_world(1).unwrap();
        world.manifest.frames_per_second = 100.0;
        let world = Arc::new(world);
        let settings = RolloutSettings::of(&world.manifest, 1);
        Play::start(world.clone(), world.prompts[..1].to_vec(), settings, None).unwrap()
    }

    #[test]
    fn frames_come_at_the_worlds_rate_and_at_the_end_comes_a_summary() {
        let codes = ActionSource::codes(vec![ActionCode(1); 20]);
        let (sender, receiver) = mpsc::channel();
        let begun = Instant::now();
        let notify = move || sender.send(()).unwrap();
        let thread = WorldThread::start(play(), Player::Source(codes), notify).unwrap();
        assert!(thread.take_frame().is_some(), "the prompt is seen at once");
        // 20 frames and the end; then the sender is gone.
        assert_eq!(receiver.iter().count(), 21);
        assert!(begun.elapsed() >= Duration::from_millis(200));
        assert!(thread.take_frame().is_some());
        assert!(thread.take_frame().is_none());
        assert!(thread.has_ended());
        let summary = thread.finish().unwrap();
        assert_eq!((summary.frames, summary.interrupted), (20, false));
    }

    #[test]
    fn a_person_is_asked_for_each_frame_and_can_stop_and_restart() {
        let (asked, was_asked) = mpsc::channel();
        let wish = Box::new(move || {
            asked.send(()).unwrap();
            Wish::none()
        });
        let player = Player::Person {
            device: "keyboard",
            wish,
        };
        let thread = WorldThread::start(play(), player, || ()).unwrap();
        was_asked.iter().take(3).for_each(drop);
        thread.restart();
        was_asked.iter().take(3).for_each(drop);
        assert!(!thread.has_ended());
        let summary = thread.finish().unwrap();
        assert!(summary.interrupted && summary.frames >= 5, "{summary:?}");
    }

    #[test]
    fn a_person_who_presses_nothing_wishes_to_idle_and_nobody_else_does() {
        let wish = |codes: &[u16]| -> Wish { codes.iter().map(|&code| ActionCode(code)).collect() };
        let mut pressed = vec![wish(&[]), wish(&[0, 2]), wish(&[])].into_iter();
        let mut person = Player::Person {
            device: "keyboard",
            wish: Box::new(move || pressed.next().unwrap()),
        };
        let asked = |codes: &[u16], device| Some((Asked::Wish(wish(codes)), device));
        let idle = Some(ActionCode(3));
        assert_eq!(person.next_asked(idle), asked(&[3], "keyboard"));
        assert_eq!(person.next_asked(idle), asked(&[0, 2], "keyboard"));
        assert_eq!(person.next_asked(None), asked(&[], "keyboard"));
        let mut autoplay = Player::Source(ActionSource::Autoplay);
        assert_eq!(autoplay.next_asked(idle), asked(&[], "autoplay"));
        let empty_line = ActionSource::Wishes(vec![wish(&[])].into_iter());
        let mut list = Player::Source(empty_line);
        assert_eq!(list.next_asked(idle), asked(&[], "file"));
        assert_eq!(list.next_asked(idle), None);
    }

    #[test]
    fn an_error_ends_the_world_and_is_told() {
        let codes = ActionSource::codes(vec![ActionCode(0), ActionCode(99)]);
        let (sender, receiver) = mpsc::channel();
        let notify = move || sender.send(()).unwrap();
        let thread = WorldThread::start(play(), Player::Source(codes), notify).unwrap();
        assert_eq!(receiver.iter().count(), 2);
        let error = thread.finish().unwrap_err().to_string();
        assert!(error.contains("action code 99"), "{error}");
    }
}
