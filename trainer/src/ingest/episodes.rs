//! Reads one source into the dataset, frame by frame.

use std::sync::atomic::{AtomicBool, Ordering};

use media::{Fitting, Picture, Resampler, VideoReader, fit_picture};

use super::actions::TrueActions;
use super::inputs::Source;
use super::report::Damage;
use super::scene_cut::SceneCuts;
use super::{DamagedSource, IngestError, IngestOptions, SkippedSource};
use crate::dataset::DatasetWriter;

/// Pictures between two reports of progress.
const PROGRESS_EVERY: u64 = 16;

/// What came of one source.
pub(super) enum SourceOutcome {
    Read {
        scene_cuts: usize,
        action_cuts: usize,
        damaged: Option<DamagedSource>,
        warnings: Vec<String>,
    },
    Unreadable(SkippedSource),
    /// Nothing of it was read before the work was ended.
    Cancelled,
}

/// Reads `source` to its end and adds its frames to `writer`. Only trouble with the dataset is an error.
pub(super) fn read_source(
    source: &Source,
    hash: &str,
    options: &IngestOptions,
    writer: &mut DatasetWriter,
    tell: &mut dyn FnMut(Option<f64>, u64),
    cancel: &AtomicBool,
) -> Result<SourceOutcome, IngestError> {
    let path = source.pictures();
    let mut reader = match media::open(&path) {
        Ok(reader) => reader,
        // As below: an ffmpeg that Ctrl-C has ended is no fault of the source.
        Err(_) if cancel.load(Ordering::Relaxed) => return Ok(SourceOutcome::Cancelled),
        Err(error) => {
            return Ok(SourceOutcome::Unreadable(SkippedSource::from_error(
                &source.path,
                &error,
            )));
        }
    };
    let mut warnings = Vec::new();
    let actions = TrueActions::of(source).unwrap_or_else(|what| {
        warnings.push(format!("{what}; the video is used without its actions"));
        None
    });
    let resampler = match Resampler::new(options.frames_per_second) {
        Ok(resampler) => resampler,
        Err(error) => {
            return Err(IngestError::Options {
                what: error.to_string(),
            });
        }
    };
    writer.begin_source(
        source.path.display().to_string(),
        hash.to_owned(),
        reader.codec().to_owned(),
    );
    let mut assembly = Assembly {
        fitting: options.fitting(),
        writer,
        actions: actions.as_ref(),
        cuts: options.scene_cut.map(SceneCuts::new),
        scene_cuts: 0,
        action_cuts: 0,
        break_due: false,
    };
    let mut read = assembly.read(&mut *reader, resampler, tell, cancel)?;
    let (scene_cuts, action_cuts) = (assembly.scene_cuts, assembly.action_cuts);
    writer.end_episode();
    if cancel.load(Ordering::Relaxed) {
        // Ctrl-C also ends the ffmpeg that this program started, which is no fault of the source.
        read.damage = None;
    }
    if let Some(frames) = writer.forget_useless_source() {
        return Ok(match read.damage {
            _ if cancel.load(Ordering::Relaxed) => SourceOutcome::Cancelled,
            Some(damage) => {
                SourceOutcome::Unreadable(SkippedSource::from_error(&source.path, damage.first()))
            }
            None => SourceOutcome::Unreadable(too_short(source, frames, read.pictures, options)),
        });
    }
    let used = read.pictures - read.lost;
    let damaged = read
        .damage
        .map(|damage| damage.report(&source.path, reader.codec(), used));
    if let Some(actions) = &actions {
        let (known, pictures) = (actions.len(), read.pictures);
        // A session has no line for the picture after the last change; a sidecar may leave it out too.
        if damaged.is_none() && read.complete && known.abs_diff(pictures) > 1 {
            warnings.push(format!(
                "{}: the actions speak of {known} frames, the video has {pictures}",
                source.path.display()
            ));
        }
    }
    Ok(SourceOutcome::Read {
        scene_cuts,
        action_cuts,
        damaged,
        warnings,
    })
}

/// Why a source of which everything could be read is of no use.
fn too_short(
    source: &Source,
    frames: u64,
    pictures: u64,
    options: &IngestOptions,
) -> SkippedSource {
    let rate = options.frames_per_second;
    let what = match (pictures, frames) {
        (0, _) => "there is no picture in it".to_owned(),
        (1, _) => "it is a single picture, and an episode needs two".to_owned(),
        (_, 0 | 1) => format!("it is too short to give two frames at {rate} frames per second"),
        _ => format!("no two of its {frames} frames follow one another"),
    };
    SkippedSource::new(&source.path, what).with_help(
        "Give longer video, or a folder of images that are numbered, such as frame_0001.png",
    )
}

/// How far the reading of a source came.
struct ReadSoFar {
    /// Pictures of the source so far, those that could not be read included.
    pictures: u64,
    /// Pictures that could not be read.
    lost: u64,
    complete: bool,
    damage: Option<Damage>,
}

impl ReadSoFar {
    fn damaged(&mut self, error: media::Error) {
        if let media::Error::Damaged { pictures_lost, .. } = error {
            self.pictures += pictures_lost;
            self.lost += pictures_lost;
        }
        self.damage = Some(Damage::add(self.damage.take(), error));
    }
}

/// A picture of the source that is waiting to be put out, once or several times or not at all.
struct Pending {
    picture: Picture,
    number: usize,
}

struct Assembly<'a> {
    fitting: Fitting,
    writer: &'a mut DatasetWriter,
    actions: Option<&'a TrueActions>,
    cuts: Option<SceneCuts>,
    scene_cuts: usize,
    action_cuts: usize,
    /// The next frame begins an episode.
    break_due: bool,
}

impl Assembly<'_> {
    fn read(
        &mut self,
        reader: &mut dyn VideoReader,
        mut resampler: Resampler,
        tell: &mut dyn FnMut(Option<f64>, u64),
        cancel: &AtomicBool,
    ) -> Result<ReadSoFar, IngestError> {
        let mut so_far = ReadSoFar {
            pictures: 0,
            lost: 0,
            complete: false,
            damage: None,
        };
        let mut pending: Option<Pending> = None;
        let timed = reader.is_timed();
        while !cancel.load(Ordering::Relaxed) {
            let next = match reader.next_picture() {
                Ok(Some(next)) => next,
                Ok(None) => {
                    so_far.complete = true;
                    break;
                }
                Err(error) => {
                    so_far.damaged(error);
                    if let Some(last) = pending.take() {
                        let repeats = if timed { resampler.restart() } else { 1 };
                        if let Err(error) = self.put_out(&last, repeats)? {
                            so_far.damaged(error);
                            return Ok(so_far);
                        }
                    }
                    self.break_due = true;
                    continue;
                }
            };
            let (repeats, pause) = if timed {
                let repeats = resampler.announce(next.seconds);
                (repeats.previous, repeats.pause)
            } else {
                (u64::from(pending.is_some()), false)
            };
            if let Some(previous) = pending.take() {
                if let Err(error) = self.put_out(&previous, repeats)? {
                    so_far.damaged(error);
                    return Ok(so_far);
                }
                if self
                    .actions
                    .is_some_and(|actions| actions.ends_episode(previous.number))
                    && !std::mem::replace(&mut self.break_due, true)
                {
                    self.action_cuts += 1;
                }
            }
            self.break_due |= pause;
            pending = Some(Pending {
                picture: next.picture,
                number: so_far.pictures as usize,
            });
            so_far.pictures += 1;
            if so_far.pictures.is_multiple_of(PROGRESS_EVERY) {
                let share = reader
                    .frame_count_hint()
                    .filter(|&count| count > 0)
                    .map(|count| so_far.pictures as f64 / count as f64);
                tell(share, self.writer.frame_count());
            }
        }
        if let Some(last) = pending {
            let repeats = if timed { resampler.finish() } else { 1 };
            if let Err(error) = self.put_out(&last, repeats)? {
                so_far.damaged(error);
            }
        }
        tell(Some(1.0), self.writer.frame_count());
        Ok(so_far)
    }

    /// Adds a picture to the dataset `times` times. The inner error is the source's own.
    fn put_out(
        &mut self,
        pending: &Pending,
        times: u64,
    ) -> Result<Result<(), media::Error>, IngestError> {
        if times == 0 {
            return Ok(Ok(()));
        }
        let fitted = match fit_picture(&pending.picture, &self.fitting) {
            Ok(fitted) => fitted,
            Err(error) => return Ok(Err(error)),
        };
        if std::mem::take(&mut self.break_due) {
            self.writer.end_episode();
            if let Some(cuts) = &mut self.cuts {
                cuts.restart();
            }
        }
        if let Some(cuts) = &mut self.cuts
            && cuts.is_cut(&fitted.rgb, fitted.width as usize)
        {
            self.writer.end_episode();
            self.scene_cuts += 1;
        }
        let action = self
            .actions
            .and_then(|actions| actions.name(pending.number));
        let action = action.map(|name| self.writer.action(name));
        for _ in 0..times {
            self.writer.push_frame(&fitted.rgb, action)?;
        }
        Ok(Ok(()))
    }
}
