//! A recorded session as something to watch: any frame of it, in any order, and how play goes on from there.

use crate::error::{Error, Result};
use crate::session::{ActionLine, Event, Session};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use worlds::{Frame, Rollout, RolloutSettings, Snapshot, World};

/// Bytes of snapshots that are kept to come back to.
const MEMORY: u64 = 256 << 20;
/// Least number of frames from one kept snapshot to the next.
const SPACING: u64 = 16;
/// Lines around the newest one whose snapshots are all kept, so that going back frame by frame is no work.
const NEAR: usize = 32;

/// What a frame follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// What the session starts from.
    Opening,
    /// The prompt or state of the event at that index.
    Event(usize),
    /// The frame of the line at that index.
    Line(usize),
}

/// What a line's frame follows from, and how it was made.
#[derive(Clone, Copy, Debug)]
struct Place {
    origin: Origin,
    settings: RolloutSettings,
}

/// A recorded session that is being watched.
///
/// A position is a number of lines: at 0 there is what the session starts from, at `n` the frame of the `n`-th line. Each frame has one
/// past, which the session's jumps in time say, so that a seek makes again no more than what lies between a kept snapshot and the frame.
/// Tokens are shown as they were recorded, not made again.
pub struct Playback {
    session: Arc<Session>,
    world: Arc<World>,
    /// For each line.
    places: Vec<Place>,
    rollout: Rollout,
    /// What the rollout's newest frame is.
    newest: Origin,
    position: usize,
    /// Lines to be shown on the way to the position, the last one first.
    way: Vec<usize>,
    /// By line.
    snapshots: BTreeMap<usize, Snapshot>,
    spacing: u64,
}

impl Playback {
    /// Stands where the session starts.
    ///
    /// # Errors
    /// When the session is of another world or cannot be run in it.
    pub fn open(session: Arc<Session>, world: Arc<World>) -> Result<Self> {
        session.check_world(&world, &world.manifest.name)?;
        let rollout = begin(&session, &world, Origin::Opening)?;
        Ok(Self {
            places: places(&session, rollout.snapshot().number())?,
            session,
            world,
            rollout,
            newest: Origin::Opening,
            position: 0,
            way: Vec::new(),
            snapshots: BTreeMap::new(),
            spacing: SPACING,
        })
    }

    /// Where it stands, or is on its way to.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The last position.
    pub fn last(&self) -> usize {
        self.places.len()
    }

    /// Whether it is on its way: [`Self::go_on`] is to be called.
    pub fn is_seeking(&self) -> bool {
        !self.way.is_empty()
    }

    /// What makes the frames, where it stands.
    pub fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    /// The line of the frame that is shown; none at the session's start.
    pub fn line(&self) -> Option<&ActionLine> {
        match self.newest {
            Origin::Line(line) => self.session.lines.get(line),
            Origin::Opening | Origin::Event(_) => None,
        }
    }

    /// The frame where it stands; on the way, one of those that lie on it.
    ///
    /// # Errors
    /// When the picture is not of the world's size.
    pub fn frame(&self) -> Result<Frame> {
        match (self.newest, self.session.prompt.last()) {
            (Origin::Opening, Some(prompt)) => Ok(prompt.clone()),
            _ => Ok(self.rollout.frame()?),
        }
    }

    /// The prompt that led to where it stands; `None` where a saved state did.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn prompt(&self) -> Result<Option<Vec<Frame>>> {
        let mut origin = self.newest;
        while let Origin::Line(line) = origin {
            origin = self.places[line].origin;
        }
        let prompt = match origin {
            Origin::Event(event) => match &self.session.events[event].1 {
                Event::Prompt { prompt, .. } => self.session.read_prompt(prompt)?,
                _ => Vec::new(),
            },
            _ => self.session.prompt.clone(),
        };
        Ok((!prompt.is_empty()).then_some(prompt))
    }

    /// Sets out for a position, or the last one where that lies beyond it.
    ///
    /// # Errors
    /// When a prompt or a state of the session cannot be read or is not for this world; then it stays on its former way.
    pub fn seek(&mut self, position: usize) -> Result<()> {
        let position = position.min(self.last());
        let mut origin = position
            .checked_sub(1)
            .map_or(Origin::Opening, Origin::Line);
        let mut way = Vec::new();
        while origin != self.newest {
            if let Origin::Line(line) = origin {
                let Some(snapshot) = self.snapshots.get(&line) else {
                    way.push(line);
                    origin = self.places[line].origin;
                    continue;
                };
                let settings = self.places[line].settings;
                self.rollout = Rollout::resume(self.world.clone(), snapshot, settings)?;
            } else {
                self.rollout = begin(&self.session, &self.world, origin)?;
            }
            self.newest = origin;
        }
        self.way = way;
        self.position = position;
        Ok(())
    }

    /// Goes on its way for about that time. Returns whether it has arrived.
    ///
    /// # Errors
    /// When the world refuses what was recorded.
    pub fn go_on(&mut self, time: Duration) -> Result<bool> {
        let begun = Instant::now();
        while let Some(&line) = self.way.last() {
            self.show(line)?;
            self.way.pop();
            if begun.elapsed() >= time {
                break;
            }
        }
        Ok(self.way.is_empty())
    }

    /// Shows the frame of a line, which follows from the newest.
    fn show(&mut self, line: usize) -> Result<()> {
        self.rollout.change(self.places[line].settings)?;
        let code = self.session.lines[line].code;
        match self.session.tokens(line) {
            Some(tokens) => self.rollout.step_with_tokens(code, tokens.to_vec())?,
            None => self.rollout.step_with_code(code)?,
        };
        self.newest = Origin::Line(line);
        self.keep(line);
        Ok(())
    }

    /// Keeps the snapshot of a line, and of the others those that are near or spaced out. They are spaced out along each past, so that none is
    /// without.
    fn keep(&mut self, line: usize) {
        let snapshot = self.rollout.snapshot();
        let (bytes, frames) = (snapshot.bytes() as u64, self.places.len() as u64);
        while (frames / self.spacing).saturating_mul(bytes) > MEMORY {
            self.spacing *= 2;
        }
        self.snapshots.insert(line, snapshot);
        let (lines, spacing) = (&self.session.lines, self.spacing);
        self.snapshots.retain(|&kept, _| {
            kept.abs_diff(line) <= NEAR || lines[kept].frame.is_multiple_of(spacing)
        });
    }
}

/// What each line follows from. `first` is the number of the newest frame of what the session starts from.
fn places(session: &Session, first: u64) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    let mut settings = session.manifest.settings;
    // The frames that led to the newest, and the number of their first.
    let mut past = vec![Origin::Opening];
    let mut oldest = first;
    let mut events = session.events.iter().enumerate().peekable();
    for line in 0..session.lines.len() {
        while let Some((index, (_, event))) = events.next_if(|(_, (before, _))| *before <= line) {
            match event {
                Event::Start { frame, .. } if *frame != first => {
                    return Err(Error::Forgotten { frame: *frame });
                }
                Event::Rewind { frame, .. } => {
                    let kept = frame.checked_sub(oldest);
                    let kept = kept.filter(|kept| *kept < past.len() as u64);
                    let kept = kept.ok_or(Error::Forgotten { frame: *frame })?;
                    past.truncate(kept as usize + 1);
                }
                Event::Prompt {
                    frame, settings: s, ..
                }
                | Event::Load {
                    frame, settings: s, ..
                } => {
                    past = vec![Origin::Event(index)];
                    (oldest, settings) = (*frame, *s);
                }
                Event::Settings { settings: changed } => settings = *changed,
                Event::Start { .. } | Event::End { .. } => {}
            }
        }
        let origin = past.last().copied().unwrap_or(Origin::Opening);
        places.push(Place { origin, settings });
        past.push(Origin::Line(line));
    }
    Ok(places)
}

/// A rollout at what the session starts from, or a later start of it.
fn begin(session: &Session, world: &Arc<World>, origin: Origin) -> Result<Rollout> {
    let event = match origin {
        Origin::Event(event) => session.events.get(event).map(|(_, event)| event),
        Origin::Opening | Origin::Line(_) => None,
    };
    let rollout = match event {
        Some(Event::Prompt {
            prompt, settings, ..
        }) => Rollout::start(world.clone(), &session.read_prompt(prompt)?, *settings)?,
        Some(Event::Load {
            state, settings, ..
        }) => session.resume(state, *settings, world.clone())?,
        _ => session.start(world.clone())?,
    };
    match event.and_then(Event::jump) {
        Some((frame, _)) if frame + 1 != rollout.frames() => Err(Error::Forgotten { frame }),
        _ => Ok(rollout),
    }
}

#[cfg(test)]
mod tests;
