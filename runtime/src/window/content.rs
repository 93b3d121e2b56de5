//! What the HUD says of a world: its keys and its prompts.

use super::input::Bindings;
use super::scene::SceneContent;
use crate::hud::{KeyLine, Thumbnail, WorldCard, key_name, thumbnail};
use nn::ActionCode;
use worlds::{FoundWorld, Frame, World, WorldManifest};

/// Keys that wish for actions where the world does not name others, in the order in which they are told.
const USUAL_KEYS: [&str; 9] = [
    "ArrowLeft",
    "ArrowRight",
    "ArrowUp",
    "ArrowDown",
    "Space",
    "KeyW",
    "KeyA",
    "KeyS",
    "KeyD",
];

/// Keys that command something, and what.
const COMMANDS: [(&[&str], &str); 17] = [
    (&["0", "…", "9"], "wish for the code of that number"),
    (&["Backspace"], "go back, as long as it is held"),
    (&["P"], "pause, or go on"),
    (&["N", "."], "make one frame"),
    (&["R"], "start again"),
    (&["F5"], "save"),
    (&["F9"], "load"),
    (&["F2"], "record, or stop"),
    (&["F12"], "save the picture"),
    (&["F1"], "this page"),
    (&["F3"], "what each action does"),
    (&["F4"], "settings"),
    (&["F6"], "figures"),
    (&["F7"], "worlds and prompts"),
    (&["F8"], "next look"),
    (&["F11"], "fill the screen"),
    (&["Esc"], "close the page, or quit"),
];

/// What the HUD says of a world.
pub(super) fn of(world: &World) -> SceneContent {
    let bindings = Bindings::of(&world.manifest);
    let own = world.manifest.actions.iter();
    let own = own.flat_map(|action| action.bindings.iter().map(String::as_str));
    let mut keys: Vec<&str> = Vec::new();
    for key in own.chain(USUAL_KEYS) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let codes = (0u16..).take(world.manifest.actions.len()).map(ActionCode);
    let action_keys = codes.map(|code| {
        let bound = keys
            .iter()
            .filter(|key| bindings.codes(key).contains(&code));
        bound.map(|key| key_name(key)).collect()
    });
    let commands = COMMANDS.iter().map(|(keys, what)| KeyLine {
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        what: (*what).to_owned(),
    });
    SceneContent {
        commands: commands.collect(),
        action_keys: action_keys.collect(),
        action_pictures: Vec::new(),
        prompts: world.prompts.iter().map(thumbnail).collect(),
    }
}

/// Most bytes of a prompt that is shown as a world's picture.
const LARGEST_PROMPT: u64 = 4 << 20;

/// The worlds that can be chosen, each with its card. `played` is the lasting name of the one that is played. What cannot be read is left out.
pub(super) fn worlds(played: &str) -> Vec<(FoundWorld, WorldCard)> {
    let found = worlds::list().into_iter();
    let cards = found.filter_map(|found| {
        let manifest = found.manifest().ok()?;
        let card = WorldCard {
            picture: first_prompt(&found, &manifest),
            played: found.lasting_name() == played,
            name: manifest.name,
        };
        Some((found, card))
    });
    cards.collect()
}

fn first_prompt(found: &FoundWorld, manifest: &WorldManifest) -> Option<Thumbnail> {
    let source = found.source().ok()?;
    let file = format!("{}/{}", worlds::PROMPTS_FOLDER, manifest.prompts.first()?);
    let size = source.size(&file).ok()??;
    let bytes = (size <= LARGEST_PROMPT).then(|| source.read(&file, size))?;
    let frame = Frame::from_png(&bytes.ok()?, Some(manifest.frame), &file);
    Some(thumbnail(&frame.ok()?))
}
