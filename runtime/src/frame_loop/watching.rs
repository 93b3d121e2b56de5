//! The frame loop while a recording is watched: the same commands move through recorded frames, until the player takes over.

use super::{Command, FrameLoop, ReplayView, Tick, View};
use crate::error::Result;
use crate::play::NextSeed;
use crate::playback::Playback;
use crate::sound::Moment;
use nn::ActionCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use worlds::Wish;

/// How long a seek may take before what has been reached is shown and commands are heard again.
const PATIENCE: Duration = Duration::from_millis(40);

impl FrameLoop {
    /// Shows a recording first. The player's input counts from [`Command::TakeOver`] on.
    ///
    /// # Errors
    /// When the recording has no frame to show.
    pub fn watching(mut self, playback: Playback) -> Result<Self> {
        self.replay = Some(playback);
        self.show_replay()?;
        Ok(self)
    }

    /// Whether the recording that is watched is on its way to a position.
    pub(crate) fn is_seeking(&self) -> bool {
        self.replay.as_ref().is_some_and(Playback::is_seeking)
    }

    /// Does what a command means for a recording that is watched. Returns the command where it means there what it means in play.
    pub(super) fn replay_command(&mut self, command: Command) -> Result<Option<Command>> {
        let Some(playback) = &self.replay else {
            return Ok(Some(command));
        };
        // Going on at the end begins anew.
        let at_end = playback.position() == playback.last() && self.paused;
        match command {
            Command::Seek(position) => self.seek(position)?,
            Command::Restart(NextSeed::Same) => self.seek(0)?,
            Command::TakeOver => self.take_over()?,
            Command::Pause(false) if at_end => {
                self.seek(0)?;
                return Ok(Some(command));
            }
            Command::Save(_)
            | Command::Load(_)
            | Command::Restart(_)
            | Command::Prompt(_)
            | Command::Record(_)
            | Command::Change(_) => {
                self.say("this is a recording: take over (Enter) to play on from here".into());
            }
            command => return Ok(Some(command)),
        }
        Ok(None)
    }

    fn seek(&mut self, position: usize) -> Result<()> {
        if let Some(playback) = &mut self.replay {
            playback.seek(position)?;
            playback.go_on(PATIENCE)?;
        }
        self.rate.clear();
        self.show_replay()
    }

    fn take_over(&mut self) -> Result<()> {
        let Some(playback) = &mut self.replay else {
            return Ok(());
        };
        playback.go_on(Duration::MAX)?;
        let prompt = playback.prompt()?;
        self.play.go_on_from(playback.rollout(), prompt)?;
        self.want_steps_of(*self.play.settings());
        self.replay = None;
        (self.paused, self.step, self.rewinding) = (false, false, false);
        self.rate.clear();
        self.player.forget_input();
        self.jumped()?;
        self.say("you play".into());
        Ok(())
    }

    /// Shows the next recorded frame, or the one before, or goes on to the position that was sought.
    pub(super) fn replay_tick(&mut self) -> Result<Tick> {
        let Some(playback) = &mut self.replay else {
            return Ok(Tick::Still);
        };
        let position = playback.position();
        let forth = !playback.is_seeking() && !self.rewinding;
        if forth && position == playback.last() {
            (self.paused, self.step) = (true, false);
            self.say("the end of the recording".into());
            return Ok(Tick::Moved);
        }
        if !playback.is_seeking() {
            playback.seek(if forth {
                position + 1
            } else {
                position.saturating_sub(1)
            })?;
        }
        playback.go_on(PATIENCE)?;
        let line = playback.line().filter(|_| forth);
        let moment = line.map(|line| Moment::Played {
            wish: line.wish.iter().copied().collect(),
            code: line.code,
        });
        self.play.heard(&moment.unwrap_or(Moment::Still));
        if forth {
            self.step = false;
            self.rate.add(Instant::now());
        }
        self.show_replay()?;
        Ok(Tick::Moved)
    }

    fn show_replay(&mut self) -> Result<()> {
        if let Some(playback) = &self.replay {
            let (wish, code): (Wish, Option<ActionCode>) = match playback.line() {
                Some(line) => (line.wish.iter().copied().collect(), Some(line.code)),
                None => (Wish::none(), None),
            };
            self.frame = Arc::new(playback.frame()?);
            (self.wish, self.code) = (wish, code);
        }
        Ok(())
    }

    /// A view in which what is told of the world is told of the recording, where one is watched.
    pub(super) fn with_replay(&self, view: View) -> View {
        let Some(playback) = &self.replay else {
            return view;
        };
        let settings = *playback.rollout().settings();
        let position = playback.position();
        View {
            number: playback.rollout().frames().saturating_sub(1),
            settings,
            wanted_steps: settings.sampler.steps,
            past: position as u64,
            attract: false,
            replay: Some(ReplayView {
                position,
                last: playback.last(),
            }),
            ..view
        }
    }
}

#[cfg(test)]
mod tests;
