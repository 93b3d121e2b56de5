//! The window: shows a world and takes keys. It never waits for the model, which runs on its own thread.
//!
//! ```text
//! keys, gamepads ─► Desk ─ View ─► Scene ─► WindowSurface ─┬─ Screen, a look ─► window
//!                       ◄─ Command ─┘ └─ hud ─ Overlay ─────┘
//! ```

mod content;
mod effects;
mod layout;
mod overlay;
mod scene;
mod screen;
mod surface;
mod switch;

pub use layout::{Rectangle, letterbox};

use crate::desk::{Desk, PlayOptions};
use crate::error::{Error, Result};
use crate::input::Control;
use crate::play::PlaySummary;
use scene::Scene;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use surface::WindowSurface;
use switch::Loading;
use winit::application::ApplicationHandler;
use winit::dpi::LogicalSize;
use winit::event::{ElementState, KeyEvent, WindowEvent};
use winit::event_loop::{ActiveEventLoop, ControlFlow, EventLoop, EventLoopProxy};
use winit::keyboard::{Key, KeyCode, PhysicalKey};
use winit::window::{Window, WindowId};
use worlds::World;

/// Short side of the picture in a new window, about, in logical pixels.
const PICTURE_SIDE: f64 = 640.0;
/// How soon an interruption is heeded where nothing else happens.
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// Plays a world in a window until it is closed, Escape is pressed, the actions come to their end or `cancel` becomes true. Keys and
/// gamepads wish for actions as `options.bindings` say, and command what [`crate::ControlTable`] says. Must be called on the main thread, once in a
/// process.
///
/// # Errors
/// [`Error::NoDisplay`], before anything is played or recorded, when no window can be opened; then play without one. Otherwise what
/// stopped play.
pub fn play_in_window(
    world: Arc<World>,
    options: PlayOptions,
    cancel: &AtomicBool,
) -> Result<PlaySummary> {
    let event_loop = open_event_loop()?;
    event_loop.set_control_flow(ControlFlow::Wait);
    let mut application = Application {
        proxy: event_loop.create_proxy(),
        world,
        waiting: Some(options),
        pressed: HashMap::new(),
        open: None,
        loading: None,
        before: Vec::new(),
        finished: None,
        failure: None,
        cancel,
    };
    let ran = event_loop.run_app(&mut application);
    application.finish();
    match (application.failure, application.finished) {
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
    world: Arc<World>,
    /// What to play as soon as there is a window.
    waiting: Option<PlayOptions>,
    /// What the keys that are held meant when they were pressed.
    pressed: HashMap<KeyCode, String>,
    open: Option<Open>,
    /// A world that was chosen and is being loaded.
    loading: Option<Loading>,
    /// What the worlds came to that were played before this one.
    before: Vec<PlaySummary>,
    /// What all of play came to, once it has ended.
    finished: Option<Result<PlaySummary>>,
    failure: Option<Error>,
    cancel: &'a AtomicBool,
}

/// An open window and the world that it shows.
struct Open {
    scene: Scene,
    desk: Desk,
}

impl Open {
    /// The window hears no more keys: none is held, and none of those that took the focus away is bound to anything.
    fn lose_focus(&mut self) {
        self.scene.cancel_binding(&self.desk);
        self.desk.release_all();
    }

    /// Ends play, and keeps what the player has set.
    fn finish(mut self) -> Result<PlaySummary> {
        self.scene.keep_settings();
        self.desk.finish()
    }
}

impl Application<'_> {
    fn open(&mut self, event_loop: &ActiveEventLoop, options: PlayOptions) -> Result<Open> {
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
        let own = options.player.clone();
        let desk = Desk::start(self.world.clone(), options, self.notify())?;
        let content = content::of(&self.world, &desk.bindings(), &desk.controls());
        let scene = Scene::new(surface, &desk, content, own);
        Ok(Open { scene, desk })
    }

    /// Ends play, if there is any.
    fn finish(&mut self) {
        if let Some(open) = self.open.take() {
            let before = std::mem::take(&mut self.before);
            let summary = open.finish();
            self.finished = Some(summary.map(|summary| switch::joined(before, summary)));
        }
    }

    /// Wakes the window's thread.
    fn notify(&self) -> impl Fn() + Clone + Send + 'static {
        let proxy = self.proxy.clone();
        // The send fails only when the window is gone, which ends the world anyway.
        move || drop(proxy.send_event(WorldMoved))
    }

    fn fail(&mut self, event_loop: &ActiveEventLoop, error: Error) {
        self.failure.get_or_insert(error);
        event_loop.exit();
    }

    /// `already`: whether the key went down or up while another window was in front.
    fn key(
        &mut self,
        event_loop: &ActiveEventLoop,
        (key, character): (KeyCode, Option<char>),
        state: ElementState,
        already: bool,
    ) {
        let Some(open) = &mut self.open else {
            return;
        };
        // winit's names of keys are those that inputs have.
        let name = match state {
            ElementState::Pressed => open.desk.meaning(&format!("{key:?}"), character),
            // With other keys held, its character is another one now.
            ElementState::Released => self
                .pressed
                .remove(&key)
                .unwrap_or_else(|| format!("{key:?}")),
        };
        if state == ElementState::Pressed {
            self.pressed.insert(key, name.clone());
        }
        match state {
            // A command was meant for the other window; what is held in play goes on here.
            ElementState::Pressed if already && open.desk.control_of(&name).is_some() => {}
            ElementState::Pressed if open.scene.takes_key(&name, &open.desk) => {}
            ElementState::Pressed
                if key == KeyCode::Escape && open.scene.cancel_binding(&open.desk) => {}
            ElementState::Pressed => open.desk.press(&name),
            // Some systems let go of all keys first, and then say that the focus is lost.
            ElementState::Released if already => open.lose_focus(),
            ElementState::Released => open.desk.release(&name),
        }
        self.obey(event_loop);
    }

    /// Does what the player has commanded.
    fn obey(&mut self, event_loop: &ActiveEventLoop) {
        let Some(open) = &mut self.open else {
            return;
        };
        open.scene.take_binding(&open.desk);
        for control in open.desk.obey() {
            match control {
                Control::Leave if !open.scene.close_page() => event_loop.exit(),
                Control::Leave => {}
                control => open.scene.control(control, &open.desk),
            }
        }
    }

    fn draw(&mut self) -> Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        if let Some(chosen) = open.scene.draw(&mut open.desk)? {
            self.load(chosen);
        }
        Ok(())
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
        match &self.open {
            Some(open) if open.desk.has_ended() => event_loop.exit(),
            Some(open) => {
                open.scene.request_redraw();
                self.obey(event_loop);
            }
            None => {}
        }
    }

    /// macOS ends the process after this where the player leaves by its menu: `run_app` does not return then.
    fn exiting(&mut self, _: &ActiveEventLoop) {
        self.finish();
    }

    fn about_to_wait(&mut self, event_loop: &ActiveEventLoop) {
        // A world that stands still sends no events, but can be interrupted.
        if self.cancel.load(Ordering::Relaxed) {
            return event_loop.exit();
        }
        // Not when the event comes that tells of a loaded world: that is a little before the world can be taken.
        if let Err(error) = self.switch_if_loaded() {
            return self.fail(event_loop, error);
        }
        let now = Instant::now();
        let mut until = now + LONGEST_WAIT;
        if let Some(open) = &self.open
            && let Some(again_at) = open.scene.again_at()
        {
            // A hidden window may not be drawn for long; waiting for what is over would keep a core busy.
            match again_at <= now {
                true => open.scene.request_redraw(),
                false => until = until.min(again_at),
            }
        }
        event_loop.set_control_flow(ControlFlow::WaitUntil(until));
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        if let Some(open) = &mut self.open {
            open.scene.on_event(&event);
        }
        match event {
            WindowEvent::CloseRequested => event_loop.exit(),
            WindowEvent::Focused(false) => {
                if let Some(open) = &mut self.open {
                    open.lose_focus();
                }
                self.obey(event_loop);
            }
            WindowEvent::KeyboardInput {
                event:
                    KeyEvent {
                        physical_key: PhysicalKey::Code(key),
                        logical_key,
                        state,
                        repeat: false,
                        ..
                    },
                is_synthetic,
                ..
            } => {
                let character = match &logical_key {
                    Key::Character(text) => text.chars().next(),
                    _ => None,
                };
                self.key(event_loop, (key, character), state, is_synthetic);
            }
            WindowEvent::DroppedFile(path) => {
                if let Some(open) = &self.open {
                    open.desk.start_from_file(&path);
                }
            }
            WindowEvent::RedrawRequested => {
                if let Err(error) = self.draw() {
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
