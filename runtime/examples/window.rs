//! Shows a world in a window: `cargo run --release -p runtime --example window [WORLD]`; without a name, a tiny one of noise.

use runtime::{Preferences, Recording, WindowOptions, play_in_window};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let world = match arguments.next() {
        Some(name) => worlds::find(&name)?.load()?,
        None => worlds::tiny_world(1)?,
    };
    let recording = arguments.next().map(|folder| Recording {
        folder: folder.into(),
        world_name: world.manifest.name.clone(),
    });
    let options = WindowOptions {
        prompt: world.prompts.iter().take(1).cloned().collect(),
        settings: Preferences::default().settings(&world.manifest, 1)?,
        actions: None,
        recording,
    };
    let summary = play_in_window(Arc::new(world), options, &AtomicBool::new(false))?;
    println!("{summary:#?}");
    Ok(())
}
