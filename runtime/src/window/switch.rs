//! From one world to another in the same window. The other is loaded beside play, which goes on until it is there.

use super::{Application, WorldMoved, content};
use crate::desk::{Desk, PlayOptions};
use crate::error::{Error, Result};
use crate::input::OwnWorld;
use crate::play::PlaySummary;
use std::sync::Arc;
use std::thread::JoinHandle;
use worlds::{FoundWorld, RolloutSettings, World};

/// A world that is being loaded.
pub(super) struct Loading {
    found: FoundWorld,
    thread: JoinHandle<Result<World, worlds::Error>>,
}

impl Application<'_> {
    /// Begins to load a world, unless another is on its way.
    pub(super) fn load(&mut self, found: FoundWorld) {
        let Some(open) = &mut self.open else {
            return;
        };
        if self.loading.is_some() {
            return;
        }
        open.scene.say(format!("loading {} ...", found.name));
        let (proxy, theirs) = (self.proxy.clone(), found.clone());
        let spawned = std::thread::Builder::new()
            .name("load".into())
            .spawn(move || {
                let loaded = theirs.load();
                let _ = proxy.send_event(WorldMoved);
                loaded
            });
        match spawned {
            Ok(thread) => self.loading = Some(Loading { found, thread }),
            Err(error) => open.scene.warn(format!("{}: {error}", found.name)),
        }
    }

    /// Plays the world that was being loaded, once it is there. One that is refused is told of, and play goes on as before.
    ///
    /// # Errors
    /// When the world that was played so far came to its end by an error.
    pub(super) fn switch_if_loaded(&mut self) -> Result<()> {
        let Some(loading) = self.loading.take() else {
            return Ok(());
        };
        if !loading.thread.is_finished() {
            self.loading = Some(loading);
            return Ok(());
        }
        let loaded = match loading.thread.join() {
            Ok(loaded) => loaded.map_err(Error::from),
            Err(_) => Err(Error::WorldThread),
        };
        let started = loaded.and_then(|mut world| {
            world.precision = self.world.precision;
            self.options_for(Arc::new(world), loading.found.lasting_name())
        });
        let started = started.and_then(|(world, options)| {
            let desk = Desk::start(world.clone(), options, self.notify())?;
            Ok((world, desk))
        });
        match started {
            Ok((world, desk)) => self.switch(world, desk),
            Err(error) => {
                if let Some(open) = &mut self.open {
                    open.scene.warn(format!("{}: {error}", loading.found.name));
                }
                Ok(())
            }
        }
    }

    /// How another world is played: from its first prompt, with the seed of the present one and all that the player prefers.
    fn options_for(
        &self,
        world: Arc<World>,
        world_name: String,
    ) -> Result<(Arc<World>, PlayOptions)> {
        let Some(open) = &self.open else {
            return Err(Error::WorldThread);
        };
        let (manifest, own) = (&world.manifest, open.scene.settings().clone());
        let seed = open.desk.view().settings.seed;
        // What the player prefers may lie outside what this world allows.
        let of_world = OwnWorld::of(&world).unwrap_or_else(|error| {
            tracing::warn!("what you have set for this world is left aside: {error}");
            OwnWorld::none(manifest)
        });
        let allowed = own.preferences().within(manifest);
        let preferences = of_world.preferences.or(allowed);
        let settings = preferences.settings(manifest, seed);
        let options = PlayOptions {
            prompt: world.prompts.iter().take(1).cloned().collect(),
            settings: settings.unwrap_or_else(|_| RolloutSettings::of(manifest, seed)),
            speed: preferences.speed(),
            bindings: of_world.bindings(manifest),
            actions: None,
            recording: None,
            world_name,
            player: own,
            replay: None,
        };
        Ok((world, options))
    }

    fn switch(&mut self, world: Arc<World>, desk: Desk) -> Result<()> {
        let content = content::of(&world, &desk.bindings(), &desk.controls());
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let title = format!("Djinn \u{2013} {}", world.manifest.name);
        open.scene.window().set_title(&title);
        open.scene.change_desk(&desk, content);
        let played = std::mem::replace(&mut open.desk, desk);
        let was_recording = played.view().recording.is_some();
        let summary = played.finish()?;
        if let Some(folder) = summary.sessions.last().filter(|_| was_recording) {
            open.scene
                .say(format!("recording ended: {}", folder.display()));
        }
        self.before.push(summary);
        self.world = world;
        Ok(())
    }
}

/// What several worlds came to together; frame times are those of the last.
pub(super) fn joined(before: Vec<PlaySummary>, last: PlaySummary) -> PlaySummary {
    before
        .into_iter()
        .rev()
        .fold(last, |later, earlier| PlaySummary {
            frames: earlier.frames + later.frames,
            sessions: [earlier.sessions, later.sessions].concat(),
            recording_failure: later.recording_failure.or(earlier.recording_failure),
            ..later
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sessions_of_all_worlds_are_told_in_their_order() {
        let summary = |frames, session: &str| PlaySummary {
            frames,
            sessions: vec![session.into()],
            ..PlaySummary::default()
        };
        let all = joined(vec![summary(3, "a"), summary(4, "b")], summary(5, "c"));
        assert_eq!(all.frames, 12);
        assert_eq!(all.sessions, ["a", "b", "c"].map(std::path::PathBuf::from));
    }
}
