//! Tests of whole bundles: saved, loaded, damaged.

use crate::world::{DYNAMICS_FILE, LATENT_ACTIONS_FILE, MANIFEST_FILE, TOKENIZER_FILE};
use crate::{
    BundleContents, FolderSource, Frame, Lasting, MemorySource, WeightFormat, World, save,
    tiny_contents,
};
use candle_core::{Device, Tensor};
use nn::ActionCode;
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn saved() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny");
    save(&tiny_contents(1).unwrap(), WeightFormat::F16, &path).unwrap();
    (folder, path)
}

fn refusal(path: &Path) -> String {
    World::load(path).unwrap_err().to_string()
}

/// The refusal of a saved world after `change` to its contents; saving itself refuses it, so the files are written one by one.
fn refusal_of(change: impl FnOnce(&mut BundleContents)) -> String {
    let mut contents = tiny_contents(1).unwrap();
    change(&mut contents);
    contents.world(WeightFormat::F32).unwrap_err().to_string()
}

#[test]
fn a_saved_world_is_loaded_as_it_was() {
    let (_folder, path) = saved();
    let contents = tiny_contents(1).unwrap();
    let world = World::load(&path).unwrap();
    assert_eq!(world.manifest, contents.manifest);
    assert_eq!(world.prompts, contents.prompts);
    assert_eq!(world.hash, contents.world(WeightFormat::F16).unwrap().hash);
    assert_ne!(world.hash, contents.world(WeightFormat::F32).unwrap().hash);
    let readme = fs::read_to_string(path.join("README.md")).unwrap();
    assert_eq!(readme, contents.readme);
    let clip = Frame::clip(&world.prompts, &Device::Cpu).unwrap();
    assert_eq!(world.tokenizer.encode(&clip).unwrap().dims(), [1, 3, 6]);
}

#[test]
fn the_hash_is_of_what_decides_the_frames() {
    let world = |change: &dyn Fn(&mut BundleContents)| {
        let mut contents = tiny_contents(1).unwrap();
        change(&mut contents);
        contents.world(WeightFormat::F16).unwrap()
    };
    let hash = |change: &dyn Fn(&mut BundleContents)| world(change).hash;
    let plain = hash(&|_| ());
    assert_eq!(plain.len(), 64);
    assert_eq!(plain, hash(&|c| c.manifest.actions[0].name = "west".into()));
    assert_eq!(plain, hash(&|c| c.manifest.sampler.temperature = 0.1));
    assert_ne!(plain, hash(&|c| c.manifest.dynamics.window = 5));
    assert_ne!(plain, hash(&|c| c.manifest.idle = Some(ActionCode(2))));
    assert_ne!(
        plain,
        hash(&|c| c.manifest.lasts = vec![Some(Lasting { frames: 2, of: 2 })])
    );
    assert_ne!(
        plain,
        hash(&|c| c.manifest.voluntary = vec![vec![ActionCode(1)]])
    );
    // Worlds that have no idle code keep the hash that they had before it counted.
    let none = world(&|c| c.manifest.idle = None);
    assert_ne!(plain, none.hash);
    assert_eq!(none.hash, none.hash_without_idle);
    assert_eq!(none.hash, world(&|_| ()).hash_without_idle);
    assert_ne!(
        plain,
        hash(&|c| c.dynamics = tiny_contents(2).unwrap().dynamics)
    );
}

#[test]
fn codes_mean_the_same_as_long_as_the_latent_actions_stay() {
    let meaning = |change: &dyn Fn(&mut BundleContents)| {
        let mut contents = tiny_contents(1).unwrap();
        change(&mut contents);
        contents.world(WeightFormat::F16).unwrap().codes_hash
    };
    let other = tiny_contents(2).unwrap();
    let plain = meaning(&|_| ());
    assert_eq!(plain, meaning(&|c| c.dynamics = other.dynamics.clone()));
    assert_eq!(plain, meaning(&|c| c.manifest.idle = None));
    assert_ne!(
        plain,
        meaning(&|c| c.latent_actions = other.latent_actions.clone())
    );
}

#[test]
fn the_same_latent_actions_are_known_again() {
    let (_folder, path) = saved();
    let source = FolderSource::new(&path).unwrap();
    let same = |seed: u64, format| {
        let contents = tiny_contents(seed).unwrap();
        contents.has_latent_actions_of(&source, format).unwrap()
    };
    assert!(same(1, WeightFormat::F16));
    assert!(!same(2, WeightFormat::F16) && !same(1, WeightFormat::F32));
    let empty = MemorySource::new("empty", Default::default());
    let contents = tiny_contents(1).unwrap();
    assert!(
        !contents
            .has_latent_actions_of(&empty, WeightFormat::F16)
            .unwrap()
    );
}

#[test]
fn saving_replaces_a_world_and_leaves_other_files_alone() {
    let (folder, path) = saved();
    fs::write(path.join("notes.txt"), "mine").unwrap();
    let left = [".saving-4711", ".saving-mine"].map(|name| path.join(name));
    for left in &left {
        fs::create_dir(left).unwrap();
        fs::write(left.join("dynamics.safetensors"), "half").unwrap();
    }
    fs::create_dir(path.join("sounds")).unwrap();
    fs::write(path.join("sounds/mine.wav"), "mine").unwrap();
    let mut contents = tiny_contents(2).unwrap();
    contents.prompts.truncate(1);
    contents.files.insert("picture.png".into(), vec![1, 2, 3]);
    let hash = save(&contents, WeightFormat::F32, &path).unwrap().hash;
    assert_eq!(World::load(&path).unwrap().hash, hash);
    assert_eq!(left.map(|left| left.exists()), [false, true]);
    assert_eq!(fs::read_dir(path.join("prompts")).unwrap().count(), 1);
    for mine in ["notes.txt", "sounds/mine.wav"] {
        assert_eq!(fs::read_to_string(path.join(mine)).unwrap(), "mine");
    }
    assert_eq!(fs::read(path.join("picture.png")).unwrap(), [1, 2, 3]);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn where_replacing_is_interrupted_there_is_a_whole_world_and_it_can_be_replaced_again() {
    let (folder, path) = saved();
    // A file cannot take the place of a folder with something in it.
    let in_the_way = path.join("picture.png");
    fs::create_dir(&in_the_way).unwrap();
    fs::write(in_the_way.join("notes.txt"), "mine").unwrap();
    let mut contents = tiny_contents(2).unwrap();
    contents.prompts.truncate(1);
    contents.files.insert("picture.png".into(), vec![1, 2, 3]);
    let new = contents.world(WeightFormat::F16).unwrap();
    let error = save(&contents, WeightFormat::F16, &path).unwrap_err();
    assert!(error.to_string().contains("picture.png"), "{error}");
    assert!(path.join(MANIFEST_FILE).is_file());
    let half = World::load(&path).unwrap();
    assert_eq!((&half.hash, half.prompts.len()), (&new.hash, 1));

    fs::remove_dir_all(&in_the_way).unwrap();
    let hash = save(&tiny_contents(3).unwrap(), WeightFormat::F16, &path);
    assert_eq!(World::load(&path).unwrap().hash, hash.unwrap().hash);
    assert_ne!(new.hash, World::load(&path).unwrap().hash);
    let visible = |name: &std::ffi::OsStr| !name.as_encoded_bytes().starts_with(b".");
    let mut names = fs::read_dir(&path).unwrap().flatten();
    assert!(names.all(|entry| visible(&entry.file_name())));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_loaded_is_not_saved_and_the_old_world_stays() {
    let (_folder, path) = saved();
    let before = World::load(&path).unwrap().hash;
    let mut contents = tiny_contents(2).unwrap();
    contents.dynamics.remove("output");
    assert!(save(&contents, WeightFormat::F16, &path).is_err());
    for name in ["../evil", "world.ron", "/tmp/x", "prompts/000.png"] {
        let mut contents = tiny_contents(2).unwrap();
        contents.files.insert(name.into(), vec![]);
        assert!(save(&contents, WeightFormat::F16, &path).is_err(), "{name}");
    }
    assert_eq!(World::load(&path).unwrap().hash, before);
}

#[test]
fn refusals_name_file_and_field() {
    let refused = refusal_of(|c| drop(c.dynamics.remove("output_bias")));
    assert!(
        refused.contains("dynamics.safetensors: weights: weight output_bias is missing"),
        "{refused}"
    );
    let small = || Tensor::zeros((2, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
    let refused = refusal_of(|c| drop(c.tokenizer.insert("encoder.input".into(), small())));
    assert!(
        refused.contains("tokenizer.safetensors: weights: weight encoder.input has shape"),
        "{refused}"
    );
    let refused = refusal_of(|c| drop(c.latent_actions.insert("surprise".into(), small())));
    assert!(
        refused.contains("latent_actions.safetensors: surprise: no layer"),
        "{refused}"
    );
    let bad = Tensor::full(f32::NAN, (2, 2), &Device::Cpu).unwrap();
    let refused = refusal_of(|c| drop(c.tokenizer.insert("x".into(), bad)));
    assert!(
        refused.contains("tokenizer.safetensors: x: number 0 is NaN"),
        "{refused}"
    );
    let refused = refusal_of(|c| c.manifest.sound = Some("beat.wav".into()));
    assert!(refused.contains("beat.wav: file: is missing"), "{refused}");
    let refused = refusal_of(|c| {
        c.manifest.sound = Some("beat.wav".into());
        c.files.insert("beat.wav".into(), b"RIFF".to_vec());
    });
    assert!(refused.contains("beat.wav: sound: "), "{refused}");
    let size = nn::FrameSize {
        height: 8,
        width: 8,
    };
    let refused = refusal_of(|c| c.prompts[1] = Frame::new(size, vec![0; 192]).unwrap());
    assert!(
        refused.contains("prompts/001.png: size: a frame of 8x8 in a world of 24x16"),
        "{refused}"
    );
}

#[test]
fn damaged_folders_are_refused() {
    let (folder, path) = saved();
    assert!(refusal(&folder.path().join("missing")).contains("missing"));
    assert!(refusal(folder.path()).contains("no world.ron"));
    let rewrite = |change: &dyn Fn(String) -> String| {
        let file = path.join(MANIFEST_FILE);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, change(text.clone())).unwrap();
        let refused = refusal(&path);
        fs::write(&file, text).unwrap();
        refused
    };
    let version = rewrite(&|text| text.replace("version: 2", "version: 3"));
    assert!(
        version.contains("world.ron: version: 3 is not known"),
        "{version}"
    );
    let escape = rewrite(&|text| text.replace("000.png", "../../000.png"));
    assert!(escape.contains("world.ron: prompts[0]"), "{escape}");
    let codes = rewrite(&|text| text.replace("codes: 4", "codes: 5"));
    assert!(codes.contains("world.ron: actions"), "{codes}");
    let window = rewrite(&|text| text.replace("layers: 2", "layers: 18446744073709551615"));
    assert!(window.contains("world.ron: dynamics: layers"), "{window}");
    let bytes = rewrite(&|text| text + &" ".repeat(2 << 20));
    assert!(bytes.contains("world.ron: size"), "{bytes}");
    fs::write(path.join(MANIFEST_FILE), [0xff, 0xfe]).unwrap();
    assert!(refusal(&path).contains("world.ron: text"));

    let (_folder, path) = saved();
    let sparse = fs::OpenOptions::new()
        .write(true)
        .open(path.join(DYNAMICS_FILE))
        .unwrap();
    sparse.set_len(1 << 40).unwrap();
    assert!(refusal(&path).contains("dynamics.safetensors: size"));
    sparse.set_len(1 << 30).unwrap();
    assert!(refusal(&path).contains("dynamics.safetensors: size"));
    fs::remove_file(path.join(LATENT_ACTIONS_FILE)).unwrap();
    assert!(refusal(&path).contains("latent_actions.safetensors: file: is missing"));
    fs::create_dir(path.join(LATENT_ACTIONS_FILE)).unwrap();
    assert!(refusal(&path).contains("is not a regular file"));
    fs::remove_file(path.join(TOKENIZER_FILE)).unwrap();
    fs::remove_dir_all(path.join("prompts")).unwrap();
    assert!(refusal(&path).contains("prompts/000.png: file: is missing"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_bundle_with_any_damage_is_loaded_or_refused(
        file in prop::sample::select(vec![MANIFEST_FILE, TOKENIZER_FILE, LATENT_ACTIONS_FILE, DYNAMICS_FILE, "prompts/000.png"]),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let (_folder, path) = saved();
        let file_path = path.join(file);
        let mut bytes = fs::read(&file_path).unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        fs::write(&file_path, &bytes).unwrap();
        if let Err(error) = World::load(&path) {
            prop_assert!(error.to_string().contains(file), "{}", error);
        }
    }
}
