//! The thread that runs a world at the world's own rate, so that whoever shows it never waits for the model.

use crate::error::{Error, Result};
use crate::frame_loop::{Command, FrameLoop, Tick, View};
use crate::play::PlaySummary;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// A world that runs on its own thread.
pub struct WorldThread {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<PlaySummary>>,
}

struct Shared {
    orders: Mutex<Orders>,
    changed: Condvar,
    newest: Mutex<Newest>,
    ended: AtomicBool,
}

#[derive(Default)]
struct Orders {
    stop: bool,
    commands: VecDeque<Command>,
}

impl Orders {
    fn add(&mut self, command: Command) {
        match (self.commands.back_mut(), &command) {
            // Whoever drags through a recording wants to be where the hand is now, and not at all places on the way.
            (Some(last @ Command::Seek(_)), Command::Seek(_)) => *last = command,
            _ => self.commands.push_back(command),
        }
    }
}

struct Newest {
    view: Arc<View>,
    taken: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WorldThread {
    /// Runs a frame loop at its rate, or as fast as the machine goes where that is slower. `notify` is called, on the thread, when there is
    /// something new to see and once more at the end.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(frames: FrameLoop, notify: impl Fn() + Send + 'static) -> Result<Self> {
        let shared = Arc::new(Shared {
            orders: Mutex::default(),
            changed: Condvar::new(),
            newest: Mutex::new(Newest {
                view: Arc::new(frames.view()),
                taken: false,
            }),
            ended: AtomicBool::new(false),
        });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("world".into())
            .spawn(move || {
                let ending = Ending {
                    shared: &theirs,
                    notify,
                };
                run(frames, &theirs, &ending.notify)
            })
            .map_err(Error::io("the world's thread"))?;
        Ok(Self { shared, thread })
    }

    /// What there is to see.
    pub fn view(&self) -> Arc<View> {
        lock(&self.shared.newest).view.clone()
    }

    /// What there is to see, once: `None` until there is something new.
    pub fn take_view(&self) -> Option<Arc<View>> {
        let mut newest = lock(&self.shared.newest);
        match std::mem::replace(&mut newest.taken, true) {
            false => Some(newest.view.clone()),
            true => None,
        }
    }

    /// Has the world do something before the next frame.
    pub fn command(&self, command: Command) {
        lock(&self.shared.orders).add(command);
        self.shared.changed.notify_all();
    }

    /// Whether the world has come to its end, of itself or by an error.
    pub fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }

    /// Stops the world, completes its recording and tells what it came to. Commands given before are carried out first.
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

fn run(mut frames: FrameLoop, shared: &Shared, notify: &impl Fn()) -> Result<PlaySummary> {
    let publish = |frames: &FrameLoop| {
        *lock(&shared.newest) = Newest {
            view: Arc::new(frames.view()),
            taken: false,
        };
        notify();
    };
    let mut due = Instant::now() + frames.interval();
    loop {
        if frames.is_seeking() {
            // Nobody watches what is passed on the way.
            due = Instant::now();
        }
        let Orders { stop, commands } = wait_until((!frames.is_still()).then_some(due), shared);
        let commanded = !commands.is_empty();
        for command in commands {
            frames.command(command);
        }
        if stop {
            return Ok(frames.finish(true));
        }
        if commanded {
            publish(&frames);
        }
        // A command may come at any time; a frame only when it is due.
        if due > Instant::now() && !frames.is_still() {
            continue;
        }
        if due + frames.interval() < Instant::now() {
            // Play stood still; the frame that is made now is the first, and the next one comes an interval after it.
            due = Instant::now();
        }
        match frames.tick()? {
            Tick::Ended => return Ok(frames.finish(false)),
            // No frame was made, so the next one is due no later for it.
            Tick::Still => continue,
            Tick::Moved => publish(&frames),
        }
        // A slow frame delays those that follow; they do not hurry after it.
        due = (due + frames.interval()).max(Instant::now());
    }
}

/// Waits until `due`, or for ever without it, or until there are orders, and takes them.
fn wait_until(due: Option<Instant>, shared: &Shared) -> Orders {
    let mut orders = lock(&shared.orders);
    loop {
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        if orders.stop || !orders.commands.is_empty() || left.is_some_and(|left| left.is_zero()) {
            return std::mem::take(&mut orders);
        }
        orders = match left {
            Some(left) => {
                let waited = shared.changed.wait_timeout(orders, left);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = shared.changed.wait(orders);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ActionSource, LoopOptions, NextSeed, Play, Player};
    use nn::ActionCode;
    use std::sync::mpsc;
    use std::time::Duration;
    use worlds::{RolloutSettings, Strength, Wish};

    fn frames(player: Player) -> FrameLoop {
        frames_at(100.0, player)
    }

    fn frames_at(frames_per_second: f64, player: Player) -> FrameLoop {
        let mut world = worlds::tiny_world(1).unwrap();
        world.manifest.frames_per_second = frames_per_second;
        let world = Arc::new(world);
        let mut settings = RolloutSettings::of(&world.manifest, 1);
        settings.strength = Strength::Order;
        let play = Play::start(world.clone(), world.prompts[..1].to_vec(), settings, None);
        FrameLoop::new(play.unwrap(), player, LoopOptions::default()).unwrap()
    }

    #[test]
    fn frames_come_at_the_worlds_rate_and_at_the_end_comes_a_summary() {
        let codes = ActionSource::codes(vec![ActionCode(1); 20]);
        let (sender, receiver) = mpsc::channel();
        let begun = Instant::now();
        let notify = move || sender.send(()).unwrap();
        let thread = WorldThread::start(frames(Player::Source(codes)), notify).unwrap();
        assert!(thread.take_view().is_some(), "the prompt is seen at once");
        // 20 frames and the end; then the sender is gone.
        assert_eq!(receiver.iter().count(), 21);
        assert!(begun.elapsed() >= Duration::from_millis(200));
        assert!(thread.take_view().is_some());
        assert!(thread.take_view().is_none());
        assert!(thread.has_ended());
        let summary = thread.finish().unwrap();
        assert_eq!((summary.frames, summary.interrupted), (20, false));
    }

    #[test]
    fn a_person_is_asked_for_each_frame_and_can_stop_and_restart() {
        let (asked, was_asked) = mpsc::channel();
        let wish = Box::new(move || {
            asked.send(()).unwrap();
            (Wish::none(), "keyboard")
        });
        let player = Player::Person(wish);
        let thread = WorldThread::start(frames(player), || ()).unwrap();
        was_asked.iter().take(3).for_each(drop);
        thread.command(Command::Restart(NextSeed::New));
        was_asked.iter().take(3).for_each(drop);
        assert!(!thread.has_ended());
        let summary = thread.finish().unwrap();
        assert!(summary.interrupted && summary.frames >= 5, "{summary:?}");
    }

    #[test]
    fn after_a_pause_frames_come_one_by_one_again() {
        let (asked, was_asked) = mpsc::channel();
        let wish = Box::new(move || {
            asked.send(Instant::now()).unwrap();
            (Wish::none(), "keyboard")
        });
        let (sender, views) = mpsc::channel();
        let notify = move || sender.send(()).unwrap_or_default();
        let frames = frames_at(5.0, Player::Person(wish));
        let thread = WorldThread::start(frames, notify).unwrap();
        thread.command(Command::Pause(true));
        while !thread.view().paused {
            views.recv_timeout(Duration::from_secs(20)).unwrap();
        }
        was_asked.try_iter().for_each(drop);
        // Longer than a frame lasts.
        std::thread::sleep(Duration::from_millis(450));
        thread.command(Command::Pause(false));
        let [first, second] = [(); 2].map(|()| was_asked.recv().unwrap());
        assert!(second - first > Duration::from_millis(100));
        thread.finish().unwrap();
    }

    #[test]
    fn a_key_pressed_before_a_frame_is_made_shapes_that_frame() {
        let pressed = Arc::new(Mutex::new(Wish::none()));
        let keys = pressed.clone();
        let player = Player::Person(Box::new(move || (lock(&keys).clone(), "keyboard")));
        let (sender, receiver) = mpsc::channel();
        let notify = move || sender.send(()).unwrap_or_default();
        let thread = WorldThread::start(frames(player), notify).unwrap();
        let wait_for = |what: &dyn Fn(&View) -> bool| loop {
            receiver.recv_timeout(Duration::from_secs(20)).unwrap();
            let view = thread.view();
            if what(&view) {
                return view;
            }
        };
        thread.command(Command::Pause(true));
        let mut number = wait_for(&|view| view.paused).number;
        for code in [2, 0, 1, 1, 3] {
            *lock(&pressed) = [ActionCode(code)].into_iter().collect();
            thread.command(Command::Step);
            let view = wait_for(&|view| view.number > number);
            assert_eq!(view.number, number + 1);
            assert_eq!(view.code, Some(ActionCode(code)));
            assert_eq!(view.wish.codes(), [ActionCode(code)]);
            number = view.number;
        }
        assert!(thread.finish().unwrap().interrupted);
    }

    #[test]
    fn of_seeks_that_wait_the_last_one_counts() {
        let mut orders = Orders::default();
        for place in [5, 7] {
            orders.add(Command::Seek(place));
        }
        orders.add(Command::Pause(true));
        for place in [9, 11, 13] {
            orders.add(Command::Seek(place));
        }
        let commands = &orders.commands;
        assert!(
            matches!(
                Vec::from_iter(commands)[..],
                [Command::Seek(7), Command::Pause(true), Command::Seek(13)]
            ),
            "{} commands",
            commands.len()
        );
    }

    #[test]
    fn commands_while_the_world_stands_still_do_not_hold_up_the_frames_after() {
        let (sender, receiver) = mpsc::channel();
        let notify = move || sender.send(()).unwrap_or_default();
        let player = Player::Source(ActionSource::Autoplay);
        let thread = WorldThread::start(frames_at(1.0, player), notify).unwrap();
        let wait_for = |what: &dyn Fn(&View) -> bool| {
            while !what(&thread.view()) {
                receiver.recv_timeout(Duration::from_secs(60)).unwrap();
            }
        };
        thread.command(Command::Pause(true));
        // Ten seconds a frame: what stands still must not be waited for afterwards.
        thread.command(Command::Speed(0.1));
        wait_for(&|view| view.paused && view.speed == 0.1);
        for number in 1..=30 {
            thread.command(Command::Say("nothing moves".into()));
            wait_for(&|view| view.message.number == number);
        }
        let number = thread.view().number;
        thread.command(Command::Speed(1.0));
        thread.command(Command::Pause(false));
        wait_for(&|view| view.number > number);
        assert!(thread.finish().unwrap().interrupted);
    }

    #[test]
    fn play_goes_back_and_on_at_its_own_speed() {
        let thread = WorldThread::start(frames(Player::Source(ActionSource::Autoplay)), || ());
        let thread = thread.unwrap();
        let wait_for = |what: &dyn Fn(&View) -> bool| {
            let begun = Instant::now();
            while !what(&thread.view()) {
                assert!(begun.elapsed() < Duration::from_secs(20));
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        thread.command(Command::Speed(3.0));
        wait_for(&|view| view.number > 20 && view.speed == 3.0);
        thread.command(Command::Rewind(true));
        wait_for(&|view| view.rewinding && view.number == 0 && view.past == 0);
        thread.command(Command::Rewind(false));
        wait_for(&|view| view.number > 5 && view.frames_per_second > 0.0);
        assert!(thread.finish().unwrap().frames > 25);
    }

    #[test]
    fn an_error_ends_the_world_and_is_told() {
        let codes = ActionSource::codes(vec![ActionCode(0), ActionCode(99)]);
        let (sender, receiver) = mpsc::channel();
        let notify = move || sender.send(()).unwrap();
        let thread = WorldThread::start(frames(Player::Source(codes)), notify).unwrap();
        assert_eq!(receiver.iter().count(), 2);
        let error = thread.finish().unwrap_err().to_string();
        assert!(error.contains("action code 99"), "{error}");
    }
}
