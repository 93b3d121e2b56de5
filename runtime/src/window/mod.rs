//! The window: shows a world and takes keys. It never waits for the model, which runs on its own thread.
//!
//! ```text
//! keys ─► SharedInput ─ wish ─► WorldThread ─ newest frame ─► WindowSurface ─ Screen ─► window
//! ```

mod layout;
mod screen;
mod surface;

pub use layout::{Rectangle, letterbox};

use crate::actions::ActionSource;
use crate::error::{Error, Result};
use crate::frame_loop::{Command, FrameLoop, LoopOptions};
use crate::input::{
    Bindings, Control, ControlEvent, ControlTable, Gamepads, InputState, SharedInput,
};
use crate::play::{NextSeed, Play, PlaySummary, Recording};
use crate::player::Player;
use crate::saved_state::Slots;
use crate::settings::Settings;
use crate::world_thread::WorldThread;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use surface::WindowSurface;
use winit::application::ApplicationHandler;
use winit::dpi::LogicalSize;
use winit::event::{ElementState, KeyEvent, WindowEvent};
use winit::event_loop::{ActiveEventLoop, ControlFlow, EventLoop, EventLoopProxy};
use winit::keyboard::{KeyCode, PhysicalKey};
use winit::window::{Window, WindowId};
use worlds::{Frame, RolloutSettings, World};

/// Short side of the picture in a new window, about, in logical pixels.
const PICTURE_SIDE: f64 = 640.0;

/// How to play in a window.
#[derive(Clone, Debug)]
pub struct WindowOptions {
    /// The starting frames.
    pub prompt: Vec<Frame>,
    /// Seed, sampler and strength.
    pub settings: RolloutSettings,
    /// What wishes for which code, where a person plays.
    pub bindings: Bindings,
    /// Where the actions come from; `None` for keyboard and gamepads. The window closes when they come to their end.
    pub actions: Option<ActionSource>,
    /// Where the play is recorded from its start.
    pub recording: Option<Recording>,
    /// Name by which recordings that are begun later find the world again.
    pub world_name: String,
    /// The player's own settings.
    pub player: Settings,
}

/// Plays a world in a window until it is closed, Escape is pressed, the actions come to their end or `cancel` becomes true. Keys and
/// gamepads wish for actions as `options.bindings` say, and command what [`ControlTable`] says. Must be called on the main thread, once in a process.
///
/// # Errors
/// [`Error::NoDisplay`], before anything is played or recorded, when no window can be opened; then play without one. Otherwise what
/// stopped play.
pub fn play_in_window(
    world: Arc<World>,
    options: WindowOptions,
    cancel: &AtomicBool,
) -> Result<PlaySummary> {
    let event_loop = open_event_loop()?;
    event_loop.set_control_flow(ControlFlow::Wait);
    let state = InputState::new(options.bindings.clone(), ControlTable::default());
    let gamepads = match options.actions {
        None => Gamepads::find(),
        Some(_) => Gamepads::none(),
    };
    let mut application = Application {
        proxy: event_loop.create_proxy(),
        input: SharedInput::new(state, gamepads),
        world,
        waiting: Some(options),
        open: None,
        failure: None,
        cancel,
    };
    let ran = event_loop.run_app(&mut application);
    let Application { open, failure, .. } = application;
    let finished = open.map(|open| open.world.finish());
    match (failure, finished) {
        (Some(error), _) => Err(error),
        (None, Some(finished)) => finished,
        (None, None) => Err(Error::NoDisplay(match ran {
            Err(error) => error.to_string(),
            Ok(()) => "the system closed the window at once".into(),
        })),
    }
}

/// The world has a new frame or has come to its end, or a gamepad commands something.
#[derive(Debug)]
struct WorldMoved;

fn open_event_loop() -> Result<EventLoop<WorldMoved>> {
    // winit panics where a library that it loads at run time is missing; that, too, is only a machine without a display.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let built = std::panic::catch_unwind(|| EventLoop::with_user_event().build());
    std::panic::set_hook(hook);
    match built {
        Ok(Ok(event_loop)) => Ok(event_loop),
        Ok(Err(error)) => Err(Error::NoDisplay(short(&error.to_string()))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(Error::NoDisplay(short(
                text.unwrap_or("the window system failed"),
            )))
        }
    }
}

/// winit's error without the place in its source that it begins with, and without a full stop.
fn short(error: &str) -> String {
    let message = match error.split_once(": ") {
        Some((place, message)) if place.starts_with("os error at") => message,
        _ => error,
    };
    message.trim_end_matches('.').to_owned()
}

struct Application<'a> {
    proxy: EventLoopProxy<WorldMoved>,
    input: SharedInput,
    world: Arc<World>,
    /// What to play as soon as there is a window.
    waiting: Option<WindowOptions>,
    open: Option<Open>,
    failure: Option<Error>,
    cancel: &'a AtomicBool,
}

/// An open window and the world that it shows.
struct Open {
    surface: WindowSurface,
    world: WorldThread,
    world_name: String,
    /// Where recordings go.
    recording_folder: PathBuf,
}

impl Open {
    /// What a command of the player's has the world do; `None` where the world has nothing to do with it.
    fn command(&self, event: ControlEvent) -> Option<Command> {
        let view = self.world.view();
        Some(match event.control {
            Control::Rewind => Command::Rewind(event.pressed),
            Control::Restart => Command::Restart(NextSeed::Same),
            Control::NewSeed => Command::Restart(NextSeed::New),
            Control::Pause => Command::Pause(!view.paused),
            Control::Step => Command::Step,
            Control::Save => Command::Save(0),
            Control::Load => Command::Load(0),
            Control::Record if view.recording.is_some() => Command::Record(None),
            Control::Record => {
                match Recording::into_new_folder(&self.recording_folder, &self.world_name) {
                    Ok(recording) => Command::Record(Some(recording)),
                    Err(error) => Command::Say(format!("no recording: {error}")),
                }
            }
            _ => return None,
        })
    }
}

impl Application<'_> {
    fn open(&mut self, event_loop: &ActiveEventLoop, options: WindowOptions) -> Result<Open> {
        let manifest = &self.world.manifest;
        let (width, height) = (manifest.frame.width as f64, manifest.frame.height as f64);
        let scale = (PICTURE_SIDE / width.min(height)).floor().max(1.0);
        let attributes = Window::default_attributes()
            .with_title(format!("Djinn – {}", manifest.name))
            .with_inner_size(LogicalSize::new(width * scale, height * scale));
        let window = event_loop
            .create_window(attributes)
            .map_err(|error| Error::NoDisplay(short(&error.to_string())))?;
        let display = event_loop.owned_display_handle();
        let surface = WindowSurface::new(Arc::new(window), display, manifest.frame)?;
        let WindowOptions {
            prompt,
            settings,
            actions,
            recording,
            world_name,
            player: own,
            bindings: _,
        } = options;
        let play = Play::start(self.world.clone(), prompt, settings, recording)?;
        let player = match actions {
            Some(source) => Player::Source(source),
            None => {
                let input = self.input.clone();
                let proxy = self.proxy.clone();
                let notify = move || drop(proxy.send_event(WorldMoved));
                if let Err(error) = self.input.watch_gamepads(notify) {
                    tracing::warn!("gamepads command nothing while the world is paused: {error}");
                }
                Player::Person(Box::new(move || input.take_wish()))
            }
        };
        let proxy = self.proxy.clone();
        // The send fails only when the window is gone, which ends the world anyway.
        let notify = move || drop(proxy.send_event(WorldMoved));
        let loop_options = LoopOptions::of(&own, Slots::of(&self.world));
        let world = WorldThread::start(FrameLoop::new(play, player, loop_options)?, notify)?;
        surface.window().request_redraw();
        Ok(Open {
            surface,
            world,
            world_name,
            recording_folder: own.recording_folder.unwrap_or_default(),
        })
    }

    fn fail(&mut self, event_loop: &ActiveEventLoop, error: Error) {
        self.failure.get_or_insert(error);
        event_loop.exit();
    }

    fn key(&mut self, event_loop: &ActiveEventLoop, key: KeyCode, state: ElementState) {
        // winit's names of keys are those that inputs have.
        let name = format!("{key:?}");
        match state {
            ElementState::Pressed => self.input.press_key(&name),
            ElementState::Released => self.input.release_key(&name),
        }
        self.obey(event_loop);
    }

    /// Does what the player has commanded.
    fn obey(&mut self, event_loop: &ActiveEventLoop) {
        for event in self.input.take_commands() {
            if event.control == Control::Leave {
                event_loop.exit();
            } else if let Some(open) = &self.open
                && let Some(command) = open.command(event)
            {
                open.world.command(command);
            }
        }
    }
}

impl ApplicationHandler<WorldMoved> for Application<'_> {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        let Some(options) = self.waiting.take() else {
            return;
        };
        match self.open(event_loop, options) {
            Ok(open) => self.open = Some(open),
            Err(error) => self.fail(event_loop, error),
        }
    }

    fn user_event(&mut self, event_loop: &ActiveEventLoop, WorldMoved: WorldMoved) {
        self.obey(event_loop);
        match &self.open {
            Some(open) if open.world.has_ended() => event_loop.exit(),
            _ if self.cancel.load(Ordering::Relaxed) => event_loop.exit(),
            Some(open) => open.surface.window().request_redraw(),
            None => {}
        }
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        match event {
            WindowEvent::CloseRequested => event_loop.exit(),
            WindowEvent::Focused(false) => {
                self.input.release_keys();
                self.obey(event_loop);
            }
            WindowEvent::KeyboardInput {
                event:
                    KeyEvent {
                        physical_key: PhysicalKey::Code(key),
                        state,
                        repeat: false,
                        ..
                    },
                ..
            } => self.key(event_loop, key, state),
            WindowEvent::Resized(size) => {
                if let Some(open) = &mut self.open {
                    open.surface.resize(size.width, size.height);
                }
            }
            WindowEvent::RedrawRequested => {
                let Some(open) = &mut self.open else {
                    return;
                };
                if let Some(view) = open.world.take_view() {
                    open.surface.show(&view.frame);
                }
                if let Err(error) = open.surface.draw() {
                    self.fail(event_loop, error);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_window_system_are_one_short_phrase() {
        let long = "os error at /x/winit/src/platform_impl/linux/mod.rs:765: neither WAYLAND_DISPLAY nor DISPLAY is set.";
        assert_eq!(short(long), "neither WAYLAND_DISPLAY nor DISPLAY is set");
        assert_eq!(short("no library"), "no library");
    }
}
