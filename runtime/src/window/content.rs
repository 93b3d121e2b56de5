//! What the HUD says of a world: its keys and its prompts.

use super::scene::SceneContent;
use crate::hud::{KeyLine, key_name, thumbnail};
use crate::input::{Bindings, ControlTable};
use nn::ActionCode;
use worlds::{Chord, World};

/// What the HUD says of a world that is played with these bindings.
pub(super) fn of(world: &World, bindings: &Bindings) -> SceneContent {
    let codes = (0u16..).take(world.manifest.actions.len()).map(ActionCode);
    let action_keys = codes.map(|code| bindings.of_code(code).into_iter().map(name).collect());
    let table = ControlTable::default();
    let commands = table.entries().iter().map(|(control, chords)| KeyLine {
        keys: chords.iter().map(name).collect(),
        what: control.description().to_owned(),
    });
    SceneContent {
        commands: commands.collect(),
        action_keys: action_keys.collect(),
        action_pictures: Vec::new(),
        worlds: Vec::new(),
        prompts: world.prompts.iter().map(thumbnail).collect(),
    }
}

/// A chord as people read it.
fn name(chord: &Chord) -> String {
    let inputs = chord.inputs().iter();
    let names: Vec<String> = inputs.map(|input| key_name(&input.to_string())).collect();
    names.join("+")
}
