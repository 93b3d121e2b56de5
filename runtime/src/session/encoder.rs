//! Encoding video and sound beside play, on a thread of its own.

use crate::error::{Error, Result};
use crate::picture_of;
use crate::sound::{Mixer, Moment};
use media::{Mp4Writer, WavWriter};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use worlds::Frame;

/// Samples in a second of silence; silence needs no more.
pub(super) const SILENCE_RATE: u32 = 16_000;
/// Bytes of pictures that may wait to be encoded.
const LARGEST_QUEUE: usize = 64 << 20;
/// Fewest and most pictures that may wait.
const QUEUE: (usize, usize) = (4, 256);

/// What is encoded of a frame: what is seen, and what happens.
type Shown = (Frame, Moment);

/// Video and sound of a session while they are written.
pub(super) struct Tracks {
    pub(super) video: Mp4Writer,
    /// `None` once it was full, after hours; the video has its sound anyway.
    pub(super) audio: Option<WavWriter>,
    pub(super) mixer: Mixer,
    /// Factor by which pictures are enlarged.
    pub(super) factor: u32,
    pub(super) frames_per_second: f64,
    /// Frames shown so far.
    pub(super) frames: u64,
}

impl Tracks {
    fn show(&mut self, (frame, moment): &Shown) -> Result<()> {
        let picture = media::enlarge(&picture_of(frame)?, self.factor);
        if self.mixer.is_silent() {
            self.write_audio(&self.silence())?;
        } else {
            let samples = self.mixer.next_frame(moment);
            self.video.write_sound(&samples)?;
            self.write_audio(&samples)?;
        }
        self.video.write(&picture)?;
        // The sound file is brought up to date once a second.
        let second = (self.frames_per_second.ceil() as u64).max(1);
        if let Some(audio) = &mut self.audio
            && self.frames.is_multiple_of(second)
        {
            audio.flush()?;
        }
        self.frames += 1;
        Ok(())
    }

    fn write_audio(&mut self, samples: &[f32]) -> Result<()> {
        if let Some(full) = self.audio.take_if(|audio| !audio.has_room(samples.len())) {
            full.finish()?;
            tracing::warn!("the session's sound file is full; its video goes on with sound");
        }
        if let Some(audio) = &mut self.audio {
            audio.write(samples)?;
        }
        Ok(())
    }

    /// The samples of a frame in a world without sounds.
    fn silence(&self) -> Vec<f32> {
        let pairs = |frames: u64| {
            let seconds = frames as f64 / self.frames_per_second;
            (seconds * f64::from(SILENCE_RATE)).round() as usize
        };
        vec![0.0; 2 * (pairs(self.frames + 1) - pairs(self.frames))]
    }

    fn finish(self) -> Result<()> {
        let video = self.video.finish();
        if let Some(audio) = self.audio {
            audio.finish()?;
        }
        Ok(video?)
    }
}

/// A thread that encodes what it is shown. It drops nothing: where it cannot keep up, [`Encoder::show`] waits. Dropped, it still completes its files.
pub(super) struct Encoder {
    queue: Option<SyncSender<Shown>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Encoder {
    /// Starts the thread, for frames of `frame_bytes` bytes.
    pub(super) fn start(tracks: Tracks, frame_bytes: usize) -> Result<Self> {
        let room = (LARGEST_QUEUE / frame_bytes.max(1)).clamp(QUEUE.0, QUEUE.1);
        let (queue, shown) = sync_channel(room);
        let thread = std::thread::Builder::new()
            .name("recording".into())
            .spawn(move || encode(tracks, &shown))
            .map_err(Error::io("the recording's thread"))?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Hands a frame to the thread.
    ///
    /// # Errors
    /// What the thread failed at, at this frame or one before it.
    pub(super) fn show(&mut self, frame: Frame, moment: Moment) -> Result<()> {
        match &self.queue {
            Some(queue) if queue.send((frame, moment)).is_ok() => Ok(()),
            _ => match self.end() {
                Ok(()) => Err(Error::RecordingEnded),
                error => error,
            },
        }
    }

    /// Waits until all is encoded and the files are complete.
    ///
    /// # Errors
    /// What the thread failed at.
    pub(super) fn finish(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        drop(self.queue.take());
        match self.thread.take() {
            Some(thread) => thread.join().unwrap_or(Err(Error::RecordingEnded)),
            None => Ok(()),
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!("recording: {error}");
        }
    }
}

/// Encodes all that comes. After an error, what can still be completed is.
fn encode(mut tracks: Tracks, shown: &Receiver<Shown>) -> Result<()> {
    for shown in shown {
        if let Err(error) = tracks.show(&shown) {
            if let Err(more) = tracks.finish() {
                tracing::debug!("recording: {more}");
            }
            return Err(error);
        }
    }
    tracks.finish()
}
