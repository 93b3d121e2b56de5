//! What people change in a world that training wrote, and how it stays when training writes the world again.
//!
//! `RUN/written.world.ron` is the manifest as training itself would have it. Where the world's own manifest says something else, someone changed
//! it there, and that stands.

use std::path::Path;

use worlds::{
    Action, BundleContents, BundleSource, FolderSource, MANIFEST_FILE, Sounds, WeightFormat, World,
    WorldManifest, read_prompts,
};

use crate::beginning::Base;
use crate::{Error, Result, files};

/// How finished worlds store their weights.
pub(crate) const FORMAT: WeightFormat = WeightFormat::F16;
/// Its name in the run folder.
const WRITTEN_FILE: &str = "written.world.ron";

/// The world in a folder; `None` where there is none.
fn find(out: &Path) -> Result<Option<(FolderSource, Base)>> {
    if !out.exists() {
        return Ok(None);
    }
    let source = FolderSource::new(out)?;
    if source.size(MANIFEST_FILE)?.is_none() {
        return Ok(None);
    }
    let world = Base::read(&source)?;
    Ok(Some((source, world)))
}

/// Refuses a world that cannot be read, as nobody could tell what was changed in it: at the beginning, not when training has taken its hours.
pub(crate) fn check(out: &Path) -> Result<()> {
    find(out).map(drop)
}

/// Saves a world in the folder `out` over the one that the run wrote there before, and keeps in it what people have changed since; `contents`
/// come to have that, too. `own` is the manifest as training has it, and gives way where a name in it is taken.
pub(crate) fn save(
    contents: &mut BundleContents,
    own: &mut WorldManifest,
    (out, run): (&Path, &Path),
) -> Result<World> {
    if let Some(found) = find(out)? {
        keep((contents, own), found, written(run)?)?;
    }
    let world = worlds::save(contents, FORMAT, out)?;
    own.prompts.clone_from(&world.manifest.prompts);
    let path = run.join(WRITTEN_FILE);
    let text = own
        .to_text()
        .map_err(|flaw| Error::damaged(&path, flaw.field, flaw.reason))?;
    files::write_atomically(&path, text.as_bytes())?;
    Ok(world)
}

/// The manifest as training had it when it last wrote the world; `None` where it is not known.
fn written(run: &Path) -> Result<Option<WorldManifest>> {
    let path = run.join(WRITTEN_FILE);
    let Some(bytes) = files::read_if_there(&path)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes)
        .map_err(|error| Error::damaged(&path, "text", error.to_string()))?;
    let manifest = WorldManifest::parse(&text).map_err(|flaw| {
        let reason = format!(
            "{}; remove the file, and of what was changed in the world only sounds and prompts are kept",
            flaw.reason
        );
        Error::damaged(&path, flaw.field, reason)
    })?;
    Ok(Some(manifest))
}

fn keep(
    (contents, own): (&mut BundleContents, &mut WorldManifest),
    (source, found): (FolderSource, Base),
    written: Option<WorldManifest>,
) -> Result<()> {
    let same_codes = contents.has_latent_actions_of(&source, FORMAT)?;
    let written = match written {
        Some(written) => written,
        // Of changes to the manifest, sounds alone can be told without it: no world has any from training.
        None if same_codes => WorldManifest {
            sound: None,
            sounds: Sounds::default(),
            ..found.manifest.clone()
        },
        None => return Ok(()),
    };
    // Nothing tells which of their pictures people have changed, and training would cut the same ones again.
    if written.prompts.len() == contents.prompts.len()
        && contents.manifest.frame == found.manifest.frame
    {
        contents.prompts = read_prompts(&source, &found.manifest)?;
    }
    let before = contents.manifest.sound_files();
    keep_changes(
        (&mut contents.manifest, own),
        &found.manifest,
        &written,
        same_codes,
    );
    let now = contents.manifest.sound_files();
    let outdated = |name: &String| before.contains(name) && !now.contains(name);
    contents.files.retain(|name, _| !outdated(name));
    contents.files.extend(found.sounds);
    Ok(())
}

/// Changes `now` as `edited` was changed from `written`. What is about single action codes only fits where they mean the same.
fn keep_changes(
    (now, own): (&mut WorldManifest, &mut WorldManifest),
    edited: &WorldManifest,
    written: &WorldManifest,
    same_codes: bool,
) {
    fn keep<T: Clone + PartialEq>(now: &mut T, edited: &T, written: &T) {
        if edited != written {
            now.clone_from(edited);
        }
    }
    keep(&mut now.name, &edited.name, &written.name);
    keep(&mut now.author, &edited.author, &written.author);
    keep(&mut now.licence, &edited.licence, &written.licence);
    keep(
        &mut now.training_video,
        &edited.training_video,
        &written.training_video,
    );
    keep(&mut now.strength, &edited.strength, &written.strength);
    // The steps of the one must lie within the other, and no sound may be said twice.
    if (edited.sampler, edited.maskgit_steps) != (written.sampler, written.maskgit_steps) {
        (now.sampler, now.maskgit_steps) = (edited.sampler, edited.maskgit_steps);
    }
    if (&edited.sound, &edited.sounds) != (&written.sound, &written.sounds) {
        (now.sound, now.sounds) = (edited.sound.clone(), edited.sounds.clone());
        if !same_codes {
            now.sounds.samples.clear();
        }
    }
    if same_codes {
        keep(&mut now.idle, &edited.idle, &written.idle);
        keep(&mut now.weights, &edited.weights, &written.weights);
        keep(&mut now.lasts, &edited.lasts, &written.lasts);
        keep(&mut now.voluntary, &edited.voluntary, &written.voluntary);
        keep_actions((&mut now.actions, &mut own.actions), edited, written);
    }
}

/// Keeps the actions that were changed; no two codes come to have one name by that.
fn keep_actions(
    (now, own): (&mut [Action], &mut [Action]),
    edited: &WorldManifest,
    written: &WorldManifest,
) {
    let changed = |code: usize| edited.actions.get(code) != written.actions.get(code);
    let kept: Vec<usize> = (0..edited.actions.len())
        .filter(|&code| changed(code))
        .collect();
    let is_taken = |name: &str| {
        let same = |&code: &usize| edited.actions[code].name.to_lowercase() == name.to_lowercase();
        kept.iter().any(same)
    };
    for (code, (action, own)) in now.iter_mut().zip(own).enumerate() {
        match edited.actions.get(code) {
            Some(edited) if changed(code) => action.clone_from(edited),
            _ if is_taken(&action.name) => {
                action.name = code.to_string();
                // Nobody chose that name, so it is not to stay.
                own.name.clone_from(&action.name);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use nn::ActionCode;
    use std::fs;
    use worlds::{Ambient, Lasting, Sample, Strength, Trigger, tiny_contents};

    const LASTING: Lasting = Lasting { frames: 4, of: 7 };

    /// A WAV file of one sample.
    pub(crate) fn wav(sample: u8) -> Vec<u8> {
        let mut bytes = b"RIFF\x26\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        bytes.extend(8000u32.to_le_bytes());
        bytes.extend(16000u32.to_le_bytes());
        bytes.extend(b"\x02\0\x10\0data\x02\0\0\0");
        bytes.extend([sample, 0]);
        bytes
    }

    /// Writes a world as training does, whose second code does what `name` says.
    fn write(folder: &Path, seed: u64, name: &str) -> World {
        let mut contents = tiny_contents(seed).unwrap();
        contents.manifest.actions[1].name = name.to_owned();
        let mut own = contents.manifest.clone();
        let out = folder.join("out");
        save(&mut contents, &mut own, (&out, folder)).unwrap();
        // Once more, as when figures come in.
        save(&mut contents, &mut own, (&out, folder)).unwrap()
    }

    /// Changes the written world's manifest by hand.
    fn edit(folder: &Path, change: impl FnOnce(&mut WorldManifest)) {
        let path = folder.join("out").join(MANIFEST_FILE);
        let mut manifest = WorldManifest::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut manifest);
        fs::write(path, manifest.to_text().unwrap()).unwrap();
    }

    fn add_sounds(folder: &Path) {
        let sounds = folder.join("out/sounds");
        fs::create_dir_all(&sounds).unwrap();
        fs::write(sounds.join("wind.wav"), wav(1)).unwrap();
        fs::write(sounds.join("jump.wav"), wav(2)).unwrap();
        fs::write(sounds.join("spare.wav"), "not named yet").unwrap();
        edit(folder, |manifest| {
            manifest.sounds.ambient = Some(Ambient {
                file: "wind.wav".to_owned(),
                volume: 0.5,
            });
            manifest.sounds.samples = vec![Sample {
                file: "jump.wav".to_owned(),
                volume: 1.0,
                when: Trigger::Code(vec![ActionCode(2)]),
            }];
        });
    }

    #[test]
    fn what_was_changed_by_hand_stays_and_all_else_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, 1, "right");
        add_sounds(folder);
        edit(folder, |manifest| {
            manifest.author = "Zoë".to_owned();
            manifest.actions[0].name = "Walk".to_owned();
            manifest.actions[2].bindings = vec!["KeyJ".to_owned()];
            manifest.idle = None;
            manifest.strength = Strength::Wish(6.0);
            manifest.sampler.temperature = 0.25;
            manifest.weights = vec![1.0, 2.0];
            manifest.lasts = vec![None, Some(LASTING)];
            manifest.voluntary = vec![vec![ActionCode(2)]];
            manifest.quality.clear();
        });
        let prompts = World::load(&folder.join("out")).unwrap().prompts;
        let mine = worlds::Frame::new(prompts[0].size(), vec![7; prompts[0].rgb().len()]).unwrap();
        let prompt = folder.join("out/prompts/000.png");
        fs::write(prompt, mine.to_png().unwrap()).unwrap();
        // More than once: what was kept is not taken for training's own.
        for name in ["dash", "walk", "dash"] {
            let world = write(folder, 1, name);
            let manifest = &world.manifest;
            assert_eq!(manifest.author, "Zoë");
            let names = [0, 1, 2].map(|code| manifest.actions[code].name.as_str());
            let expected = if name == "walk" { "1" } else { "dash" };
            assert_eq!(names, ["Walk", expected, "jump"]);
            assert_eq!(manifest.actions[2].bindings, ["KeyJ"]);
            assert_eq!(manifest.actions[1].bindings, ["ArrowRight"]);
            assert_eq!(
                (manifest.idle, manifest.strength),
                (None, Strength::Wish(6.0))
            );
            assert_eq!(manifest.sampler.temperature, 0.25);
            assert_eq!(manifest.weights, [1.0, 2.0]);
            assert_eq!(manifest.lasts, [None, Some(LASTING)]);
            assert_eq!(manifest.voluntary, [[ActionCode(2)]]);
            assert!(!manifest.quality.is_empty(), "figures are measured anew");
            assert!(world.prompts[0] == mine && world.prompts[1..] == prompts[1..]);
            assert_eq!(world.soundscape.samples.len(), 1);
            let kept = |file: &str| fs::read(folder.join("out/sounds").join(file)).unwrap();
            assert_eq!((kept("wind.wav"), kept("jump.wav")), (wav(1), wav(2)));
            assert_eq!(kept("spare.wav"), b"not named yet");
        }
        // A sound that is given up is not brought back.
        edit(folder, |manifest| manifest.sounds.samples.clear());
        assert!(write(folder, 1, "dash").soundscape.samples.is_empty());
    }

    #[test]
    fn codes_that_mean_something_else_keep_nothing_that_is_about_them() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, 1, "right");
        add_sounds(folder);
        edit(folder, |manifest| {
            manifest.actions[0].name = "walk".to_owned();
            manifest.licence = "CC0".to_owned();
        });
        let world = write(folder, 2, "right");
        assert_eq!(world.manifest.actions[0].name, "left");
        assert_eq!(world.manifest.licence, "CC0");
        assert!(world.soundscape.ambient.is_some() && world.soundscape.samples.is_empty());
        let sample = fs::read(folder.join("out/sounds/jump.wav")).unwrap();
        assert_eq!(sample, wav(2), "it is someone's file all the same");
    }

    #[test]
    fn of_a_world_from_before_changes_were_told_sounds_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, 1, "right");
        add_sounds(folder);
        fs::remove_file(folder.join(WRITTEN_FILE)).unwrap();
        let world = write(folder, 1, "dash");
        assert_eq!(world.manifest.actions[1].name, "dash");
        assert_eq!(world.soundscape.samples.len(), 1);
    }

    #[test]
    fn a_manifest_with_a_mistake_is_refused_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        check(&out).unwrap();
        write(folder.path(), 1, "right");
        check(&out).unwrap();
        let path = out.join(MANIFEST_FILE);
        let text = fs::read_to_string(&path).unwrap() + "oops";
        fs::write(&path, &text).unwrap();
        let mut contents = tiny_contents(1).unwrap();
        let mut own = contents.manifest.clone();
        let saved = save(&mut contents, &mut own, (&out, folder.path())).unwrap_err();
        for error in [check(&out).unwrap_err(), saved] {
            assert!(error.to_string().contains("world.ron: line "), "{error}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}
