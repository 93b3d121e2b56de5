//! What the HUD says of a world: its keys and its prompts.

use super::scene::SceneContent;
use crate::hud::{HINTS, KeyLine, Thumbnail, WorldCard, chord_name, hints, is_keyboard, thumbnail};
use crate::input::{Bindings, ControlTable};
use nn::ActionCode;
use worlds::{Chord, FoundWorld, Frame, World, WorldManifest};

/// What the HUD says of a world that is played with these bindings and commanded with those of a table.
pub(super) fn of(world: &World, bindings: &Bindings, table: &ControlTable) -> SceneContent {
    let codes = (0u16..).take(world.manifest.actions.len()).map(ActionCode);
    let action_keys = codes.clone().map(|code| {
        let mut chords = bindings.of_code(code);
        // The keyboard first, as most look for it; the numbers, which are the same everywhere, last.
        chords.sort_by_key(|chord| (is_number(chord), !is_keyboard(chord)));
        chords.into_iter().map(chord_name).collect()
    });
    let commands = table.entries().iter().map(|(control, chords)| KeyLine {
        keys: chords.iter().map(chord_name).collect(),
        what: control.description().to_owned(),
    });
    SceneContent {
        hints: hints(table, &HINTS),
        action_names: codes.map(|code| bindings.name(code)).collect(),
        commands: commands.collect(),
        action_keys: action_keys.collect(),
        prompts: world.prompts.iter().map(thumbnail).collect(),
    }
}

fn is_number(chord: &Chord) -> bool {
    chord.inputs().iter().any(|input| input.digit().is_some())
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
