//! What a window shows: the world's picture with a look, and the HUD over it.

use super::content;
use super::effects::Effects;
use super::surface::WindowSurface;
use crate::desk::Desk;
use crate::error::Result;
use crate::frame_loop::{Command, View};
use crate::hud::{self, HudAction, HudState, KeyLine, Notices, Page, Thumbnail, WorldCard};
use crate::input::{Control, OwnWorld};
use crate::preferences::Preferences;
use crate::settings::{Filter, Settings};
use nn::ActionCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use winit::event::WindowEvent;
use winit::window::{Fullscreen, Window};
use worlds::{FoundWorld, RolloutSettings, World};

/// How long the hint of the first seconds is shown.
const HINT: Duration = Duration::from_secs(7);
/// Least time between two drawings that only the HUD asks for.
const HUD_INTERVAL: Duration = Duration::from_millis(16);

/// What the HUD says of a world: its keys and prompts.
#[derive(Clone, Debug, Default)]
pub(super) struct SceneContent {
    /// What the hint of the first seconds says.
    pub(super) hints: Vec<String>,
    /// Keys that command something.
    pub(super) commands: Vec<KeyLine>,
    /// What the player calls each action code.
    pub(super) action_names: Vec<String>,
    /// For each action code, the keys that wish for it.
    pub(super) action_keys: Vec<Vec<String>>,
    /// The prompts of the world.
    pub(super) prompts: Vec<Thumbnail>,
}

/// A window's picture and HUD, and what is open in it.
pub(super) struct Scene {
    surface: WindowSurface,
    world: Arc<World>,
    view: Arc<View>,
    content: SceneContent,
    effects: Effects,
    /// The code that the next key or button is to be bound to.
    binding: Option<ActionCode>,
    /// The worlds that can be chosen, while they can.
    worlds: Vec<FoundWorld>,
    cards: Vec<WorldCard>,
    settings: Settings,
    /// The settings as they were in the beginning.
    kept: Settings,
    /// How the player wants this world to be played, where that was changed here and is not kept yet.
    preferences: Option<Preferences>,
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
    /// Shows what is played at a desk on a surface.
    pub(super) fn new(
        surface: WindowSurface,
        desk: &Desk,
        content: SceneContent,
        settings: Settings,
    ) -> Self {
        let view = desk.view();
        let mut scene = Self {
            surface,
            world: desk.world().clone(),
            message: view.message.number,
            kept: settings.clone(),
            view,
            content,
            effects: Effects::default(),
            binding: None,
            worlds: Vec::new(),
            cards: Vec::new(),
            settings,
            preferences: None,
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
            // The HUD would ask to be drawn again because it is drawn, for ever.
            WindowEvent::RedrawRequested => return,
            _ => {}
        }
        // Keys are the game's, but for the page where something is chosen.
        let key = matches!(event, WindowEvent::KeyboardInput { .. });
        if !key || self.takes_keys() {
            self.surface.on_event(event);
        }
    }

    /// Whether keys are for the HUD now rather than for the world.
    fn takes_keys(&self) -> bool {
        self.page == Some(Page::Worlds)
    }

    /// Whether a key, by its physical name, is for the HUD now. Those that open and close pages never are.
    pub(super) fn takes_key(&self, name: &str, desk: &Desk) -> bool {
        if !self.takes_keys() {
            return false;
        }
        let function = name.starts_with('F') && name.len() > 1;
        let of_pages = matches!(
            desk.control_of(name),
            Some(Control::Help | Control::Bind | Control::Panel | Control::Worlds | Control::Leave)
        );
        !function && !of_pages
    }

    /// Closes the open page; whether there was one.
    pub(super) fn close_page(&mut self) -> bool {
        self.request_redraw();
        self.page.take().is_some()
    }

    /// Does what the player commands of picture and HUD; the rest is for others.
    pub(super) fn control(&mut self, control: Control, desk: &Desk) {
        let page = match control {
            Control::Help => Some(Page::Help),
            Control::Bind => Some(Page::Actions),
            Control::Panel => Some(Page::Settings),
            Control::Worlds => Some(Page::Worlds),
            _ => None,
        };
        if page.is_some() {
            self.page = page.filter(|_| self.page != page);
        }
        self.prepare_page(desk);
        match control {
            Control::Bar => self.bar = !self.bar,
            Control::Filter => {
                let (next, name) = match self.settings.filter {
                    Filter::Integer => (Filter::Sharp, "sharp"),
                    Filter::Sharp => (Filter::Crt, "CRT"),
                    Filter::Crt => (Filter::Integer, "pixels"),
                };
                self.settings.filter = next;
                self.notices
                    .tell("look", format!("look: {name}"), Instant::now());
            }
            Control::Fullscreen => self.set_fullscreen(!self.is_fullscreen()),
            _ => {}
        }
        self.request_redraw();
    }

    /// Gathers what the page that is open shows of the world at this desk.
    fn prepare_page(&mut self, desk: &Desk) {
        match self.page {
            Some(Page::Actions) => self.effects.ask(&self.world),
            Some(Page::Worlds) => {
                let found = content::worlds(desk.world_name());
                (self.worlds, self.cards) = found.into_iter().unzip();
            }
            _ => {}
        }
    }

    /// Writes the player's settings down if they were changed.
    pub(super) fn keep_settings(&mut self) {
        if self.settings != self.kept
            && let Some(path) = Settings::path()
            && let Err(error) = self.settings.replace(&path, &self.kept)
        {
            tracing::warn!("the settings are not kept: {error}");
        }
        self.keep_preferences();
    }

    /// Writes down how the player wants this world to be played, if that was changed.
    fn keep_preferences(&mut self) {
        let Some(preferences) = self.preferences.take() else {
            return;
        };
        let kept = OwnWorld::change(&self.world, |own| {
            own.preferences = preferences;
            Ok(())
        });
        if let Err(error) = kept {
            tracing::warn!("temperature, steps, strength and speed are not kept: {error}");
        }
    }

    /// Shows a message.
    pub(super) fn say(&mut self, text: String) {
        tracing::info!("{text}");
        self.notices.say(text, Instant::now());
    }

    fn is_fullscreen(&self) -> bool {
        self.surface.window().fullscreen().is_some()
    }

    fn set_fullscreen(&mut self, on: bool) {
        self.settings.fullscreen = on;
        let fullscreen = on.then_some(Fullscreen::Borderless(None));
        self.surface.window().set_fullscreen(fullscreen);
    }

    fn has_sound(&self) -> bool {
        !self.world.soundscape.is_silent()
    }

    /// Takes in what is new in the world.
    fn update(&mut self, desk: &Desk) {
        desk.keep_sound(&mut self.settings);
        let Some(view) = desk.take_view() else {
            return;
        };
        let now = Instant::now();
        if !Arc::ptr_eq(&view.frame, &self.view.frame) {
            self.surface.show(view.frame.clone());
        }
        let message = &view.message;
        if message.number != self.message {
            self.message = message.number;
            match message.warning {
                true => self.notices.warn(message.text.clone(), now),
                false => self.notices.say(message.text.clone(), now),
            }
        }
        let own = self.world.manifest.frames_per_second;
        let wanted = own * view.speed;
        self.notices
            .pace(view.slow, view.frames_per_second, wanted, now);
        if self.view.replay.is_some() && view.replay.is_none() {
            // The keys mean what they mean in play from here on.
            self.content = content::of(&self.world, &desk.bindings(), &desk.controls());
        }
        self.view = view;
    }

    /// Shows what is played at another desk from now on.
    pub(super) fn change_desk(&mut self, desk: &Desk, content: SceneContent) {
        self.keep_preferences();
        self.world = desk.world().clone();
        self.view = desk.view();
        self.surface.set_frame_size(self.world.manifest.frame);
        self.surface.show(self.view.frame.clone());
        self.message = self.view.message.number;
        self.content = content;
        self.effects = Effects::default();
        self.binding = None;
        self.prepare_page(desk);
        self.request_redraw();
    }

    /// Binds what the player has pressed, once it is complete.
    pub(super) fn take_binding(&mut self, desk: &Desk) {
        let Some(code) = self.binding else {
            return;
        };
        let Some(chord) = desk.take_captured() else {
            return;
        };
        self.binding = None;
        let bound = desk.bind(code, &chord);
        self.rebound(
            desk,
            bound,
            format!("{} is bound to code {code}", hud::key_name(&chord)),
        );
    }

    /// Takes in that bindings have changed, or tells why not.
    fn rebound(&mut self, desk: &Desk, bound: Result<()>, text: String) {
        match bound {
            Ok(()) => {
                self.content = content::of(&self.world, &desk.bindings(), &desk.controls());
                self.say(text);
            }
            Err(error) => self.warn(error.to_string()),
        }
        self.request_redraw();
    }

    /// Binds nothing after all; whether something was to be bound.
    pub(super) fn cancel_binding(&mut self, desk: &Desk) -> bool {
        desk.cancel_capture();
        self.request_redraw();
        self.binding.take().is_some()
    }

    /// The player's settings as they are now, changed by way of the HUD or not.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The window.
    pub(super) fn window(&self) -> &Window {
        self.surface.window()
    }

    /// Shows a message that is something to worry about.
    pub(super) fn warn(&mut self, text: String) {
        tracing::warn!("{text}");
        self.notices.warn(text, Instant::now());
    }

    /// Draws the newest of the world, and has it do what the player wants by way of the HUD. Returns another world where one was chosen.
    ///
    /// # Errors
    /// [`crate::Error::Graphics`] when the driver fails for good.
    pub(super) fn draw(&mut self, desk: &mut Desk) -> Result<Option<FoundWorld>> {
        self.update(desk);
        let now = Instant::now();
        let (notices, next_notice) = self.notices.at(now);
        let hint_left = HINT.saturating_sub(now.saturating_duration_since(self.opened));
        let (action_pictures, next_picture) = match self.page {
            Some(Page::Actions) => self.effects.at(&self.world, now),
            _ => (Vec::new(), None),
        };
        let state = HudState {
            view: &self.view,
            manifest: &self.world.manifest,
            settings: &self.settings,
            sound: self.has_sound(),
            fullscreen: self.surface.window().fullscreen().is_some(),
            page: self.page,
            bar: self.bar,
            notices: &notices,
            hint: hud::opacity(hint_left),
            hints: &self.content.hints,
            commands: &self.content.commands,
            action_names: &self.content.action_names,
            action_keys: &self.content.action_keys,
            action_pictures: &action_pictures,
            binding: self.binding,
            worlds: &self.cards,
            prompts: &self.content.prompts,
        };
        let mut actions = Vec::new();
        let again_after = self.surface.draw(self.settings.filter, &mut |ui| {
            actions.extend(hud::show(ui, &state))
        })?;
        let next_hint = (!hint_left.is_zero()).then_some(hint_left.min(HUD_INTERVAL * 4));
        let next = [Some(again_after), next_notice, next_hint, next_picture]
            .into_iter()
            .flatten()
            .min();
        self.again_at = next.and_then(|after| now.checked_add(after.max(HUD_INTERVAL)));
        let mut chosen = None;
        for action in actions {
            chosen = self.act(action, desk).or(chosen);
        }
        Ok(chosen)
    }

    /// How the player wants this world to be played, to be changed. A file that is broken was told of when the world was opened.
    fn preferences(&mut self) -> &mut Preferences {
        self.preferences.get_or_insert_with(|| {
            OwnWorld::of(&self.world).map_or_else(|_| Preferences::default(), |own| own.preferences)
        })
    }

    /// Takes in what the player says about how the world is played.
    fn take_preference(&mut self, command: &Command) {
        let manifest = &self.world.manifest;
        match command {
            Command::AdaptiveSteps(on) => self.settings.adaptive_steps = *on,
            // How fast a recording is watched says nothing of play, and it cannot be changed.
            Command::Speed(_) | Command::Change(_) if self.view.replay.is_some() => {}
            Command::Speed(speed) => {
                let usual = self.settings.speed;
                self.preferences().speed = (*speed != usual).then_some(*speed);
            }
            Command::Change(after) => {
                let usual = self.settings.preferences().within(manifest);
                let usual = usual.settings(manifest, after.seed);
                let usual = usual.unwrap_or_else(|_| RolloutSettings::of(manifest, after.seed));
                let mut before = self.view.settings;
                before.sampler.steps = self.view.wanted_steps;
                self.preferences().change(&before, after, &usual);
            }
            _ => {}
        }
    }

    /// Does what the HUD was told; returns another world where one was chosen.
    fn act(&mut self, action: HudAction, desk: &mut Desk) -> Option<FoundWorld> {
        self.surface.window().request_redraw();
        match action {
            HudAction::Open(page) => {
                self.page = page;
                self.cancel_binding(desk);
            }
            HudAction::Filter(filter) => self.settings.filter = filter,
            HudAction::Fullscreen(on) => self.set_fullscreen(on),
            HudAction::World(command) => {
                self.take_preference(&command);
                desk.command(command);
            }
            HudAction::ChoosePrompt(index) => {
                desk.start_from_prompt(index);
                self.page = None;
            }
            // The slider shows what was set; no message is needed.
            HudAction::Volume(volume) => drop(desk.set_volume(volume)),
            HudAction::Mute(mute) => drop(desk.set_muted(mute)),
            HudAction::Bind(code) => {
                self.binding = code;
                match code {
                    Some(_) => desk.begin_capture(),
                    None => desk.cancel_capture(),
                }
            }
            HudAction::ResetBindings => {
                let reset = desk.reset_bindings();
                self.rebound(desk, reset, "the keys are the world's own".into());
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
