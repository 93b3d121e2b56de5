//! What is shown over the picture: a bar of figures, a seek bar for recordings, notices, and pages for help, actions, settings and a choice of worlds.
//!
//! ```text
//! HudState (what is so) ─► show ─► shapes for egui
//!                            └───► HudActions (what the player wants)
//! ```
//!
//! The HUD keeps nothing and knows neither window nor graphics device: it is a function from data to shapes and wishes. Each part is one file.
//! Colours are those of Okabe and Ito, which people of any colour vision tell apart, and nothing is said by colour alone.

mod actions_page;
mod bar;
mod chooser;
mod help;
mod notices;
mod page;
mod seek_bar;
mod settings_page;
mod style;
mod symbols;

pub(crate) use notices::opacity;
pub use notices::{Notice, Notices};
pub use style::set_style;

use crate::frame_loop::{Command, View};
use crate::input::{Control, ControlTable};
use crate::settings::{Filter, Settings};
use std::sync::Arc;
use worlds::{Chord, Frame, WorldManifest};

/// A picture in the HUD.
pub type Thumbnail = Arc<egui::ColorImage>;

/// A page that can be open; one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Keys and what they do.
    Help,
    /// What each action code does.
    Actions,
    /// Settings of play, picture and sound.
    Settings,
    /// Worlds, and prompts of the one that is played.
    Worlds,
}

/// Keys, and what they do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLine {
    /// The keys and buttons, each by the name that players know; any one of them does it.
    pub keys: Vec<String>,
    /// What they do.
    pub what: String,
}

/// A world that can be chosen.
#[derive(Clone, Debug)]
pub struct WorldCard {
    /// Its name.
    pub name: String,
    /// A picture of it.
    pub picture: Option<Thumbnail>,
    /// Whether it is the one that is played.
    pub played: bool,
}

/// What the HUD is made of.
#[derive(Clone, Copy)]
pub struct HudState<'a> {
    /// The running world.
    pub view: &'a View,
    /// What the world says of itself.
    pub manifest: &'a WorldManifest,
    /// The player's own settings.
    pub settings: &'a Settings,
    /// Whether there is sound that could be heard.
    pub sound: bool,
    /// Whether the window fills the screen now.
    pub fullscreen: bool,
    /// The open page.
    pub page: Option<Page>,
    /// Whether the bar is shown.
    pub bar: bool,
    /// Messages, oldest first.
    pub notices: &'a [Notice],
    /// How visible the hint of the first seconds is, from 0 to 1.
    pub hint: f32,
    /// What the hint says: the most important keys first.
    pub hints: &'a [String],
    /// Keys that command something.
    pub commands: &'a [KeyLine],
    /// What the player calls each action code.
    pub action_names: &'a [String],
    /// For each action code, the keys that wish for it.
    pub action_keys: &'a [Vec<String>],
    /// For each action code, a picture of what it does, where there is one.
    pub action_pictures: &'a [Option<Thumbnail>],
    /// The action code that the next key or button is to be bound to.
    pub binding: Option<nn::ActionCode>,
    /// The worlds that can be chosen.
    pub worlds: &'a [WorldCard],
    /// The prompts of the world.
    pub prompts: &'a [Thumbnail],
}

/// What the player wants, by way of the HUD.
#[derive(Clone, Debug)]
pub enum HudAction {
    /// Another page is to be open, or none.
    Open(Option<Page>),
    /// The world is to do something.
    World(Command),
    /// Another look.
    Filter(Filter),
    /// The window is to fill the screen, or no longer.
    Fullscreen(bool),
    /// Another volume, from 0 to 1.
    Volume(f32),
    /// Sound off, or on.
    Mute(bool),
    /// The next key or button is to be bound to this code; or is not.
    Bind(Option<nn::ActionCode>),
    /// The player's own bindings are to be forgotten.
    ResetBindings,
    /// The world of that place in the list.
    ChooseWorld(usize),
    /// Start from the prompt of that place in the list.
    ChoosePrompt(usize),
}

/// Shows the HUD and tells what the player wants.
pub fn show(ui: &mut egui::Ui, state: &HudState) -> Vec<HudAction> {
    let mut actions = Vec::new();
    let context = ui.ctx().clone();
    let top = match state.bar {
        true => bar::show(&context, state),
        false => 0.0,
    };
    let bottom = seek_bar::show(&context, state, &mut actions);
    let bottom = notices::show(&context, state, top, bottom);
    // A page has the room between the bars and notices.
    let room = egui::Rangef::new(top, bottom);
    match state.page {
        Some(Page::Help) => help::show(&context, state, room, &mut actions),
        Some(Page::Actions) => actions_page::show(&context, state, room, &mut actions),
        Some(Page::Settings) => settings_page::show(&context, state, room, &mut actions),
        Some(Page::Worlds) => chooser::show(&context, state, room, &mut actions),
        None => {}
    }
    actions
}

/// A frame as a picture for the HUD.
pub fn thumbnail(frame: &Frame) -> Thumbnail {
    let size = frame.size();
    Arc::new(egui::ColorImage::from_rgb(
        [size.width, size.height],
        frame.rgb(),
    ))
}

/// The name of a key that a world or a player names by its place on the keyboard, as in `ArrowLeft`, `KeyA`, `Digit1`, or of a gamepad's button or
/// stick, as in `DPadLeft`, `LeftStickUp`.
pub fn key_name(key: &str) -> String {
    for (prefix, device) in [
        ("DPad", "pad"),
        ("LeftStick", "stick"),
        ("RightStick", "right stick"),
    ] {
        if let Some(direction) = key.strip_prefix(prefix).filter(|rest| !rest.is_empty()) {
            return format!("{device} {}", direction.to_lowercase());
        }
    }
    let word = ["Arrow", "Key", "Digit"]
        .into_iter()
        .find_map(|prefix| key.strip_prefix(prefix))
        .filter(|rest| !rest.is_empty());
    match word.unwrap_or(key) {
        "Escape" => "Esc".to_owned(),
        name => name.to_owned(),
    }
}

/// A chord as people read it.
pub(crate) fn chord_name(chord: &Chord) -> String {
    let inputs = chord.inputs().iter();
    let names: Vec<String> = inputs.map(|input| key_name(&input.to_string())).collect();
    names.join("+")
}

/// Whether a chord is of keys alone.
pub(crate) fn is_keyboard(chord: &Chord) -> bool {
    chord.inputs().iter().all(|input| !input.is_pad())
}

/// What the hint of the first seconds says, the most important first.
pub(crate) const HINTS: [(Control, &str); 4] = [
    (Control::Help, "help"),
    (Control::Panel, "settings"),
    (Control::Worlds, "worlds"),
    (Control::Leave, "quit"),
];

/// The first key of each command, with a word; commands that no key gives are left out.
pub(crate) fn hints(table: &ControlTable, commands: &[(Control, &str)]) -> Vec<String> {
    let hint = |(control, word): &(Control, &str)| {
        let (_, chords) = table.entries().iter().find(|(known, _)| known == control)?;
        let key = chords.iter().find(|chord| is_keyboard(chord))?;
        Some(format!("{} {word}", chord_name(key)))
    };
    commands.iter().filter_map(hint).collect()
}

/// What the player calls an action code.
fn action_name(state: &HudState, code: nn::ActionCode) -> String {
    let name = state.action_names.get(usize::from(code.0));
    name.cloned().unwrap_or_else(|| format!("code {code}"))
}

#[cfg(test)]
mod tests;
