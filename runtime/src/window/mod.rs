//! The window: shows a world and takes keys. It never waits for the model, which runs on its own thread.
//!
//! ```text
//! keys ─► Keyboard ─ wish ─► WorldThread ─ View ─► Scene ─► WindowSurface ─┬─ Screen, a look ─► window
//!                                        ◄─ Command ─┘ └─ hud ─ Overlay ─────┘
//! ```

mod content;
mod input;
mod layout;
mod overlay;
mod scene;
mod screen;
mod surface;
mod switch;

pub use input::{Bindings, Keyboard};
pub use layout::{Rectangle, letterbox};
pub use scene::SceneCommand;

use crate::actions::ActionSource;
use crate::error::{Error, Result};
use crate::frame_loop::{Command, FrameLoop, LoopOptions};
use crate::hud::Page;
use crate::play::{NextSeed, Play, PlaySummary, Recording, read_prompt};
use crate::player::Player;
use crate::saved_state::Slots;
use crate::settings::Settings;
use crate::world_thread::WorldThread;
use scene::Scene;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use surface::WindowSurface;
use switch::Loading;
use winit::application::ApplicationHandler;
use winit::dpi::LogicalSize;
use winit::event::{ElementState, KeyEvent, StartCause, WindowEvent};
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
    /// Where the actions come from; `None` for the keyboard. The window closes when they come to their end.
    pub actions: Option<ActionSource>,
    /// Where the play is recorded from its start.
    pub recording: Option<Recording>,
    /// Name by which recordings that are begun later find the world again.
    pub world_name: String,
    /// The player's own settings.
    pub player: Settings,
}

/// Plays a world in a window until it is closed, Escape is pressed, the actions come to their end or `cancel` becomes true. Arrows, WASD, space
/// and digits wish for actions ([`Bindings`]); R restarts, P pauses, the full stop and N make one frame, Backspace goes back
/// as long as it is held, F5 saves and F9 loads, F2 records; F1 tells all keys. Must be called on the main thread, once in a process.
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
    let keyboard = Keyboard::new(Bindings::of(&world.manifest));
    let mut application = Application {
        proxy: event_loop.create_proxy(),
        keyboard: Arc::new(Mutex::new(keyboard)),
        world,
        waiting: Some(options),
        open: None,
        loading: None,
        before: Vec::new(),
        failure: None,
        cancel,
    };
    let ran = event_loop.run_app(&mut application);
    let Application {
        open,
        before,
        failure,
        ..
    } = application;
    let finished = open.map(|open| Ok(switch::joined(before, open.world.finish()?)));
    match (failure, finished) {
        (Some(error), _) => Err(error),
        (None, Some(finished)) => finished,
        (None, None) => Err(Error::NoDisplay(match ran {
            Err(error) => error.to_string(),
            Ok(()) => "the system closed the window at once".into(),
        })),
    }
}

/// The world has a new frame or has come to its end.
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
    keyboard: Arc<Mutex<Keyboard>>,
    world: Arc<World>,
    /// What to play as soon as there is a window.
    waiting: Option<WindowOptions>,
    open: Option<Open>,
    /// A world that was chosen and is being loaded.
    loading: Option<Loading>,
    /// What the worlds came to that were played before this one.
    before: Vec<PlaySummary>,
    failure: Option<Error>,
    cancel: &'a AtomicBool,
}

/// An open window and the world that it shows.
struct Open {
    scene: Scene,
    world: WorldThread,
    world_name: String,
    /// Where recordings go.
    recording_folder: PathBuf,
}

impl Open {
    /// Starts the world from a file that was dropped on the window.
    fn start_from(&mut self, path: &Path, world: &World) {
        match read_prompt(path, world) {
            Ok(prompt) => self.world.command(Command::Prompt(vec![prompt])),
            Err(error) => self.scene.warn(error.to_string()),
        }
    }

    /// What a key commands; `None` for one that commands nothing.
    fn command(&self, key: KeyCode, state: ElementState) -> Option<Command> {
        if key == KeyCode::Backspace {
            return Some(Command::Rewind(state == ElementState::Pressed));
        }
        if state == ElementState::Released {
            return None;
        }
        let view = self.world.view();
        Some(match key {
            KeyCode::KeyR => Command::Restart(NextSeed::New),
            KeyCode::KeyP => Command::Pause(!view.paused),
            KeyCode::Period | KeyCode::KeyN => Command::Step,
            KeyCode::F5 => Command::Save(0),
            KeyCode::F9 => Command::Load(0),
            KeyCode::F2 if view.recording.is_some() => Command::Record(None),
            KeyCode::F2 => {
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
        } = options;
        let play = Play::start(self.world.clone(), prompt, settings, recording)?;
        let world = self.run(&self.world, play, actions, &own)?;
        let scene = Scene::new(
            surface,
            self.world.clone(),
            world_name.clone(),
            world.view(),
            own.clone(),
        );
        Ok(Open {
            scene,
            world,
            world_name,
            recording_folder: own.recording_folder.unwrap_or_default(),
        })
    }

    /// Runs a play on its own thread, for the person at the window where there is no list of actions.
    fn run(
        &self,
        world: &Arc<World>,
        play: Play,
        actions: Option<ActionSource>,
        own: &Settings,
    ) -> Result<WorldThread> {
        let player = match actions {
            Some(source) => Player::Source(source),
            None => {
                let keyboard = self.keyboard.clone();
                Player::Person {
                    device: "keyboard",
                    wish: Box::new(move || locked(&keyboard, Keyboard::take_wish)),
                }
            }
        };
        let proxy = self.proxy.clone();
        // The send fails only when the window is gone, which ends the world anyway.
        let notify = move || drop(proxy.send_event(WorldMoved));
        let loop_options = LoopOptions::of(own, Slots::of(world));
        WorldThread::start(FrameLoop::new(play, player, loop_options)?, notify)
    }

    fn fail(&mut self, event_loop: &ActiveEventLoop, error: Error) {
        self.failure.get_or_insert(error);
        event_loop.exit();
    }

    fn key(&mut self, event_loop: &ActiveEventLoop, key: KeyCode, state: ElementState) {
        if state == ElementState::Pressed
            && let Some(open) = &mut self.open
        {
            if let Some(command) = scene_command(key) {
                return open.scene.command(command);
            }
            if key == KeyCode::Escape {
                return match open.scene.close_page() {
                    true => {}
                    false => event_loop.exit(),
                };
            }
            if open.scene.takes_keys() {
                return;
            }
        }
        let open = self.open.as_ref();
        if let Some((open, command)) = open.and_then(|open| Some((open, open.command(key, state)?)))
        {
            return open.world.command(command);
        }
        match state {
            ElementState::Pressed => self.keys(|keys| keys.press(&format!("{key:?}"))),
            ElementState::Released => self.keys(|keys| keys.release(&format!("{key:?}"))),
        }
    }

    fn keys(&self, change: impl FnOnce(&mut Keyboard)) {
        locked(&self.keyboard, change);
    }
}

/// What a key has the window do.
fn scene_command(key: KeyCode) -> Option<SceneCommand> {
    Some(match key {
        KeyCode::F1 => SceneCommand::Page(Page::Help),
        KeyCode::F3 => SceneCommand::Page(Page::Actions),
        KeyCode::F4 => SceneCommand::Page(Page::Settings),
        KeyCode::F6 => SceneCommand::Bar,
        KeyCode::F7 => SceneCommand::Page(Page::Worlds),
        KeyCode::F8 => SceneCommand::Look,
        KeyCode::F11 => SceneCommand::Fullscreen,
        KeyCode::F12 => SceneCommand::Screenshot,
        _ => return None,
    })
}

fn locked<R>(keyboard: &Mutex<Keyboard>, with: impl FnOnce(&mut Keyboard) -> R) -> R {
    with(&mut keyboard.lock().unwrap_or_else(PoisonError::into_inner))
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
        if let Err(error) = self.switch_if_loaded() {
            return self.fail(event_loop, error);
        }
        match &self.open {
            Some(open) if open.world.has_ended() => event_loop.exit(),
            _ if self.cancel.load(Ordering::Relaxed) => event_loop.exit(),
            Some(open) => open.scene.request_redraw(),
            None => {}
        }
    }

    fn new_events(&mut self, _: &ActiveEventLoop, cause: StartCause) {
        if let (StartCause::ResumeTimeReached { .. }, Some(open)) = (cause, &self.open) {
            open.scene.request_redraw();
        }
    }

    fn about_to_wait(&mut self, event_loop: &ActiveEventLoop) {
        let again_at = self.open.as_ref().and_then(|open| open.scene.again_at());
        event_loop.set_control_flow(match again_at {
            Some(time) => ControlFlow::WaitUntil(time),
            None => ControlFlow::Wait,
        });
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        if let Some(open) = &mut self.open {
            open.scene.on_event(&event);
        }
        match event {
            WindowEvent::CloseRequested => event_loop.exit(),
            WindowEvent::Focused(false) => {
                self.keys(Keyboard::release_all);
                if let Some(open) = &self.open {
                    open.world.command(Command::Rewind(false));
                }
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
            WindowEvent::DroppedFile(path) => {
                if let Some(open) = &mut self.open {
                    open.start_from(&path, &self.world);
                }
            }
            WindowEvent::RedrawRequested => {
                let Some(open) = &mut self.open else {
                    return;
                };
                match open.scene.draw(&open.world) {
                    Ok(Some(chosen)) => self.load(chosen),
                    Ok(None) => {}
                    Err(error) => self.fail(event_loop, error),
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
