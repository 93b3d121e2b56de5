//! What a window shows: the world's picture with a look, and the HUD over it.

use super::content;
use super::surface::WindowSurface;
use crate::error::Result;
use crate::frame_loop::{Command, View};
use crate::hud::{self, HudAction, HudState, KeyLine, Notices, Page, Thumbnail, WorldCard};
use crate::screenshot::save_screenshot;
use crate::settings::{Filter, Settings};
use crate::world_thread::WorldThread;
use std::sync::Arc;
use std::time::{Duration, Instant};
use winit::event::WindowEvent;
use winit::window::{Fullscreen, Window};
use worlds::{FoundWorld, Frame, World};

/// How long the hint of the first seconds is shown.
const HINT: Duration = Duration::from_secs(7);
/// Least time between two drawings that only the HUD asks for.
const HUD_INTERVAL: Duration = Duration::from_millis(16);

/// What a key can have the window do; the world has its own commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SceneCommand {
    /// Opens a page, or closes it if it is open.
    Page(Page),
    /// Shows the bar, or hides it.
    Bar,
    /// Takes the next look.
    Look,
    /// Fills the screen, or no longer.
    Fullscreen,
    /// Saves the picture.
    Screenshot,
}

/// What the HUD says of a world: its keys and prompts.
#[derive(Clone, Debug, Default)]
pub(super) struct SceneContent {
    /// Keys that command something.
    pub(super) commands: Vec<KeyLine>,
    /// For each action code, the keys that wish for it.
    pub(super) action_keys: Vec<Vec<String>>,
    /// For each action code, a picture of what it does, where there is one.
    pub(super) action_pictures: Vec<Option<Thumbnail>>,
    /// The prompts of the world.
    pub(super) prompts: Vec<Thumbnail>,
}

/// A window's picture and HUD, and what is open in it.
pub(super) struct Scene {
    surface: WindowSurface,
    world: Arc<World>,
    view: Arc<View>,
    world_name: String,
    content: SceneContent,
    /// The worlds that can be chosen, while they can.
    worlds: Vec<FoundWorld>,
    cards: Vec<WorldCard>,
    settings: Settings,
    notices: Notices,
    message: u64,
    page: Option<Page>,
    bar: bool,
    opened: Instant,
    occluded: bool,
    /// When the HUD is to be drawn again although nothing else happens.
    again_at: Option<Instant>,
}

impl Scene {
    /// Shows a world, as `view` has it, on a surface.
    pub(super) fn new(
        surface: WindowSurface,
        world: Arc<World>,
        world_name: String,
        view: Arc<View>,
        settings: Settings,
    ) -> Self {
        let mut scene = Self {
            surface,
            message: view.message.0,
            view,
            content: content::of(&world),
            world,
            world_name,
            worlds: Vec::new(),
            cards: Vec::new(),
            settings,
            notices: Notices::default(),
            page: None,
            bar: false,
            opened: Instant::now(),
            occluded: false,
            again_at: None,
        };
        scene.surface.show(scene.view.frame.clone());
        if scene.settings.fullscreen {
            scene.set_fullscreen(true);
        }
        scene.surface.window().request_redraw();
        scene
    }

    /// When it is to be drawn again although nothing else happens.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at.filter(|_| !self.occluded)
    }

    /// There is something new to draw. What nobody sees is not drawn.
    pub(super) fn request_redraw(&self) {
        if !self.occluded {
            self.surface.window().request_redraw();
        }
    }

    /// Takes in an event of the window; what has to do with neither picture nor HUD is left to others.
    pub(super) fn on_event(&mut self, event: &WindowEvent) {
        match event {
            WindowEvent::Resized(size) => self.surface.resize(size.width, size.height),
            WindowEvent::Occluded(occluded) => {
                self.occluded = *occluded;
                self.request_redraw();
            }
            _ => {}
        }
        // Keys are the game's, but for the page where something is chosen.
        let key = matches!(event, WindowEvent::KeyboardInput { .. });
        if !key || self.takes_keys() {
            self.surface.on_event(event);
        }
    }

    /// Whether keys are for the HUD now rather than for the world.
    pub(super) fn takes_keys(&self) -> bool {
        self.page == Some(Page::Worlds)
    }

    /// Closes the open page; whether there was one.
    pub(super) fn close_page(&mut self) -> bool {
        self.request_redraw();
        self.page.take().is_some()
    }

    /// Does what a key commands.
    pub(super) fn command(&mut self, command: SceneCommand) {
        match command {
            SceneCommand::Page(page) => {
                self.page = (self.page != Some(page)).then_some(page);
                if self.page == Some(Page::Worlds) {
                    let found = content::worlds(&self.world_name);
                    (self.worlds, self.cards) = found.into_iter().unzip();
                }
            }
            SceneCommand::Bar => self.bar = !self.bar,
            SceneCommand::Look => {
                let (next, name) = match self.settings.filter {
                    Filter::Integer => (Filter::Sharp, "sharp"),
                    Filter::Sharp => (Filter::Crt, "CRT"),
                    Filter::Crt => (Filter::Integer, "pixels"),
                };
                self.settings.filter = next;
                self.notices
                    .tell("look", format!("look: {name}"), Instant::now());
            }
            SceneCommand::Fullscreen => self.set_fullscreen(!self.is_fullscreen()),
            SceneCommand::Screenshot => {
                let folder = self.settings.recording_folder.clone().unwrap_or_default();
                match save_screenshot(&self.view.frame, &folder) {
                    Ok(path) => self.say(format!("saved {}", path.display())),
                    Err(error) => self.warn(format!("no screenshot: {error}")),
                }
            }
        }
        self.request_redraw();
    }

    /// Shows a message.
    pub(super) fn say(&mut self, text: String) {
        tracing::info!("{text}");
        self.notices.say(text, Instant::now());
    }

    /// Shows a message that is something to worry about.
    pub(super) fn warn(&mut self, text: String) {
        tracing::warn!("{text}");
        self.notices.warn(text, Instant::now());
    }

    fn is_fullscreen(&self) -> bool {
        self.surface.window().fullscreen().is_some()
    }

    fn set_fullscreen(&self, on: bool) {
        let fullscreen = on.then_some(Fullscreen::Borderless(None));
        self.surface.window().set_fullscreen(fullscreen);
    }

    /// Takes in what is new in the world.
    fn update(&mut self, world: &WorldThread) {
        let Some(view) = world.take_view() else {
            return;
        };
        let now = Instant::now();
        if !Arc::ptr_eq(&view.frame, &self.view.frame) {
            self.surface.show(view.frame.clone());
        }
        let (number, text) = &view.message;
        if *number != self.message {
            self.message = *number;
            match is_warning(text) {
                true => self.notices.warn(text.clone(), now),
                false => self.notices.say(text.clone(), now),
            }
        }
        let own = self.world.manifest.frames_per_second;
        let wanted = own * view.speed;
        self.notices
            .pace(view.slow, view.frames_per_second, wanted, now);
        self.view = view;
    }

    /// Shows another world from now on.
    pub(super) fn change_world(&mut self, world: Arc<World>, world_name: String, view: Arc<View>) {
        self.surface.set_frame_size(world.manifest.frame);
        self.surface.show(view.frame.clone());
        self.message = view.message.0;
        self.content = content::of(&world);
        self.world = world;
        self.world_name = world_name;
        self.view = view;
        self.request_redraw();
    }

    /// The player's settings as they are now, changed by way of the HUD or not.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The window.
    pub(super) fn window(&self) -> &Window {
        self.surface.window()
    }

    /// Draws the newest of the world, and has it do what the player wants by way of the HUD. Returns another world where one was chosen.
    ///
    /// # Errors
    /// [`crate::Error::Graphics`] when the driver fails for good.
    pub(super) fn draw(&mut self, world: &WorldThread) -> Result<Option<FoundWorld>> {
        self.update(world);
        let now = Instant::now();
        let (notices, next_notice) = self.notices.at(now);
        let hint_left = HINT.saturating_sub(now.saturating_duration_since(self.opened));
        let state = HudState {
            view: &self.view,
            manifest: &self.world.manifest,
            settings: &self.settings,
            sound: self.world.sound.is_some(),
            fullscreen: self.surface.window().fullscreen().is_some(),
            page: self.page,
            bar: self.bar,
            notices: &notices,
            hint: hud::opacity(hint_left),
            commands: &self.content.commands,
            action_keys: &self.content.action_keys,
            action_pictures: &self.content.action_pictures,
            worlds: &self.cards,
            prompts: &self.content.prompts,
        };
        let mut actions = Vec::new();
        let again_after = self.surface.draw(self.settings.filter, &mut |ui| {
            actions.extend(hud::show(ui, &state))
        })?;
        let next_hint = (!hint_left.is_zero()).then_some(hint_left.min(HUD_INTERVAL * 4));
        let next = [Some(again_after), next_notice, next_hint]
            .into_iter()
            .flatten()
            .min();
        self.again_at = next.and_then(|after| now.checked_add(after.max(HUD_INTERVAL)));
        let mut chosen = None;
        for action in actions {
            chosen = self.act(action, world).or(chosen);
        }
        Ok(chosen)
    }

    /// Does what the HUD was told; returns another world where one was chosen.
    fn act(&mut self, action: HudAction, world: &WorldThread) -> Option<FoundWorld> {
        self.surface.window().request_redraw();
        match action {
            HudAction::Open(page) => self.page = page,
            HudAction::Filter(filter) => self.settings.filter = filter,
            HudAction::Fullscreen(on) => self.set_fullscreen(on),
            HudAction::Volume(volume) => self.settings.volume = volume,
            HudAction::Mute(mute) => self.settings.mute = mute,
            HudAction::World(command) => {
                if let Command::AdaptiveSteps(on) = command {
                    self.settings.adaptive_steps = on;
                }
                world.command(command);
            }
            HudAction::ChoosePrompt(index) => {
                self.page = None;
                let prompt: Option<Frame> = self.world.prompts.get(index).cloned();
                world.command(Command::Prompt(prompt.into_iter().collect()));
            }
            HudAction::ChooseWorld(index) => {
                self.page = None;
                let other = self.cards.get(index).is_some_and(|card| !card.played);
                return self.worlds.get(index).filter(|_| other).cloned();
            }
        }
        None
    }
}

/// Whether a message of the world is something to worry about.
fn is_warning(text: &str) -> bool {
    ["stopped", "cannot", "no ", "refused"]
        .iter()
        .any(|word| text.contains(word))
}
