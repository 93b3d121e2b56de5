//! Sound on its way to the player's ears.

use super::buffer::Buffer;
use super::{Mixer, Moment};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;
use worlds::World;

/// A device that takes no samples for so long is gone: unplugged, or its server has begun anew.
const PATIENCE: Duration = Duration::from_secs(3);
/// Where there is none at all, looking for one takes longer and longer, up to this many times as long.
const MOST_PATIENCE: u32 = 20;

/// Something that plays samples, at its own clock, until it is dropped.
pub trait Sink {
    /// What messages call it.
    fn name(&self) -> String;
}

/// What a [`Sink`] takes its samples from.
#[derive(Clone, Default)]
pub(super) struct Feed {
    buffer: Arc<Mutex<Buffer>>,
    /// How often samples have been taken.
    pulls: Arc<AtomicU64>,
}

impl Feed {
    /// Fills `samples`, left and right in turn, at [`super::MIX_RATE`].
    pub(super) fn pull(&self, samples: &mut [f32]) {
        self.pulls.fetch_add(1, Ordering::Relaxed);
        self.buffer().pull(samples);
    }

    /// Says how many samples of each channel the device plays in a second.
    pub(super) fn set_device_rate(&self, rate: u32) {
        self.buffer().set_device_rate(rate);
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How loud the player wants it. It belongs to the player's ears only: recordings are always made at full volume. Cheap to clone, and all clones set the
/// same volume.
#[derive(Clone)]
pub struct Volume(Feed);

impl Volume {
    /// Sets the volume, from 0 to 1, half of which sounds about half as loud.
    pub fn set(&self, volume: f32) {
        self.0.buffer().set_volume(volume);
    }

    /// The volume, from 0 to 1.
    pub fn get(&self) -> f32 {
        self.0.buffer().volume()
    }

    /// Makes it silent, or as loud as it was before.
    pub fn set_muted(&self, muted: bool) {
        self.0.buffer().set_muted(muted);
    }

    /// Whether it is silent.
    pub fn is_muted(&self) -> bool {
        self.0.buffer().is_muted()
    }
}

/// Plays samples on the machine's sound device, less than a tenth of a second later.
pub struct SoundOutput {
    feed: Feed,
    /// The thread that holds the device ends when this is dropped.
    _device: Option<Sender<()>>,
}

impl SoundOutput {
    /// Plays on the system's own choice of device. It is opened on a thread, so that nobody waits for it; where there is none, there is silence until there is
    /// one, and the log says why, once in a process.
    pub fn open() -> Self {
        Self::on(open_device, PATIENCE)
    }

    /// Plays on what `open` opens, which it is asked to do again when no samples have been taken for as long as `patience`.
    pub(super) fn on<F>(open: F, patience: Duration) -> Self
    where
        F: Fn(Feed) -> Result<Box<dyn Sink>, String> + Send + 'static,
    {
        let feed = Feed::default();
        let (sender, receiver) = channel::<()>();
        let theirs = feed.clone();
        let spawned = std::thread::Builder::new()
            .name("sound".into())
            .spawn(move || {
                let mut wait = patience;
                let open = |wait: &mut Duration| match open(theirs.clone()) {
                    Ok(sink) => {
                        tracing::debug!("sound plays on {}", sink.name());
                        *wait = patience;
                        Some(sink)
                    }
                    Err(reason) => {
                        static SAID: Once = Once::new();
                        SAID.call_once(|| tracing::warn!("playing without sound: {reason}"));
                        *wait = (2 * *wait).min(MOST_PATIENCE * patience);
                        None
                    }
                };
                let pulls = || theirs.pulls.load(Ordering::Relaxed);
                let (mut sink, mut before) = (open(&mut wait), pulls());
                // Any other error is that the other end is gone, which ends the sound.
                while let Err(RecvTimeoutError::Timeout) = receiver.recv_timeout(wait) {
                    if pulls() == before {
                        // The old one first: some devices play for one only.
                        drop(sink);
                        sink = open(&mut wait);
                    }
                    before = pulls();
                }
            });
        if let Err(error) = spawned {
            tracing::warn!("playing without sound: {error}");
        }
        Self {
            feed,
            _device: Some(sender),
        }
    }

    /// Adds a frame's samples, left and right in turn, at [`super::MIX_RATE`].
    pub fn push(&self, samples: &[f32]) {
        self.feed.buffer().push(samples);
    }

    /// Fades out what is still to be heard, because what follows is no continuation.
    pub fn end_softly(&self) {
        self.feed.buffer().end_softly();
    }

    /// How loud the player wants it.
    pub fn volume(&self) -> Volume {
        Volume(self.feed.clone())
    }
}

#[cfg(all(target_os = "linux", not(feature = "alsa")))]
fn open_device(feed: Feed) -> Result<Box<dyn Sink>, String> {
    super::pulse::open(feed)
}

#[cfg(all(target_os = "linux", feature = "alsa"))]
fn open_device(feed: Feed) -> Result<Box<dyn Sink>, String> {
    super::pulse::open(feed.clone())
        .or_else(|pulse| super::device::open(feed).map_err(|device| format!("{pulse}; {device}")))
}

#[cfg(not(target_os = "linux"))]
fn open_device(feed: Feed) -> Result<Box<dyn Sink>, String> {
    super::device::open(feed)
}

/// The sound of a play as it is heard.
pub struct LiveSound {
    world: Arc<World>,
    mixer: Mixer,
    output: SoundOutput,
}

impl LiveSound {
    /// The sound of `world` on `output`.
    pub fn new(world: Arc<World>, output: SoundOutput) -> Self {
        Self {
            mixer: mixer_of(&world),
            world,
            output,
        }
    }

    /// Plays what is heard during the frame that is shown now.
    pub fn show(&mut self, moment: &Moment) {
        if !self.mixer.is_silent() {
            self.output.push(&self.mixer.next_frame(moment));
        }
    }

    /// Begins anew with the world.
    pub fn restart(&mut self) {
        self.output.end_softly();
        self.mixer = mixer_of(&self.world);
    }

    /// How loud the player wants it.
    pub fn volume(&self) -> Volume {
        self.output.volume()
    }
}

/// The mixer of a world.
pub(crate) fn mixer_of(world: &World) -> Mixer {
    Mixer::new(world.soundscape.clone(), world.manifest.frames_per_second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// Takes samples until it breaks.
    struct Breaking(Arc<AtomicUsize>);

    impl Sink for Breaking {
        fn name(&self) -> String {
            "what breaks".to_owned()
        }
    }

    impl Drop for Breaking {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_device_that_is_gone_is_opened_again_once_the_old_one_is_closed() {
        let (opened, was_opened) = channel();
        let open_now = Arc::new(AtomicUsize::new(0));
        let theirs = open_now.clone();
        let open = move |feed: Feed| -> Result<Box<dyn Sink>, String> {
            assert_eq!(theirs.fetch_add(1, Ordering::SeqCst), 0);
            feed.pull(&mut [0.0; 8]);
            opened.send(()).map_err(|error| error.to_string())?;
            Ok(Box::new(Breaking(theirs.clone())))
        };
        let output = SoundOutput::on(open, Duration::from_millis(20));
        for _ in 0..3 {
            was_opened.recv_timeout(Duration::from_secs(60)).unwrap();
            output.push(&[0.5; 64]);
        }
        drop(output);
        // The thread ends, and with it what it holds.
        while open_now.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
    }
}
