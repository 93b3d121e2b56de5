//! What is written is read back, and what is broken is refused.

use std::fs;
use std::path::Path;

use media::Fit;
use proptest::prelude::*;

use super::*;

const FRAME: usize = 4 * 6 * 3;

fn options(max_shard_bytes: u64) -> WriterOptions {
    WriterOptions {
        height: 4,
        width: 6,
        frames_per_second: 15.0,
        fit: Fit::Crop,
        crop: None,
        max_shard_bytes,
    }
}

fn frame(number: usize) -> Vec<u8> {
    (0..FRAME).map(|at| (number * 7 + at) as u8).collect()
}

/// Three episodes of 50 numbered frames each, the last one for validation.
fn write(path: &Path, max_shard_bytes: u64) -> DatasetManifest {
    let mut writer = DatasetWriter::create(path, options(max_shard_bytes)).unwrap();
    let names = ["left", "right"].map(|name| writer.action(name));
    for source in 0..3 {
        writer.begin_source(format!("{source}.mp4"), "0".repeat(64), "H.264".to_owned());
        for number in source * 50..source * 50 + 50 {
            let action = (source != 1).then(|| names[number % 2]);
            writer.push_frame(&frame(number), action).unwrap();
        }
    }
    writer.end_episode();
    let split = |source| {
        if source == 2 {
            Split::Validation
        } else {
            Split::Train
        }
    };
    let episodes = writer
        .episodes()
        .iter()
        .map(|episode| EpisodeRecord {
            split: split(episode.source),
            ..*episode
        })
        .collect();
    writer.finish(episodes).unwrap()
}

#[test]
fn there_and_back_in_one_shard_and_in_many() {
    let folder = tempfile::tempdir().unwrap();
    for (name, limit) in [("one", 1 << 20), ("many", 10_000)] {
        let path = folder.path().join(name);
        let manifest = write(&path, limit);
        let dataset = Dataset::open(&path).unwrap();
        assert_eq!(dataset.manifest(), &manifest);
        assert_eq!(manifest.shards.len() > 1, name == "many");
        for shard in &manifest.shards {
            assert!(fs::metadata(path.join(&shard.file)).unwrap().len() <= limit);
        }
        assert_eq!(
            (dataset.frame_size().height, dataset.frame_size().width),
            (4, 6)
        );
        assert_eq!(
            (
                dataset.frame_count(Split::Train),
                dataset.frame_count(Split::Validation)
            ),
            (100, 50)
        );
        let mut number = 0;
        for episode in dataset
            .episodes(Split::Train)
            .iter()
            .chain(dataset.episodes(Split::Validation))
        {
            let actions = dataset.true_actions(episode).unwrap();
            assert_eq!(actions.frames(), episode.length);
            for at in 0..episode.length {
                assert_eq!(dataset.frames(episode, at..at + 1), frame(number));
                if let Some(action) = actions.after(at) {
                    let wanted = (episode.source != 1).then_some((number % 2) as u16);
                    assert_eq!(action, wanted, "frame {number}");
                }
                number += 1;
            }
        }
        assert_eq!(number, 150);
        assert_eq!(
            fs::read_dir(folder.path())
                .unwrap()
                .filter(|entry| entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with('.'))
                .count(),
            0
        );
    }
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = DatasetWriter::create(&folder.path().join("d"), options(1 << 20)).unwrap();
    writer.begin_source(String::new(), String::new(), String::new());
    assert!(writer.push_frame(&[0; 3], None).is_err());
    writer.push_frame(&frame(0), None).unwrap();
    drop(writer);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_killed_writers_left_is_removed_and_what_may_be_alive_stays() {
    let folder = tempfile::tempdir().unwrap();
    let lock = |name: &str| {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::File::create(folder.path().join(name).join(".lock")).unwrap()
    };
    let names = [
        ".d.partial-1",
        ".d.partial-2",
        ".e.partial-3",
        ".d.partial-x",
    ];
    let mut files = names.map(lock).into_iter();
    let alive = files.next().unwrap();
    alive.lock().unwrap();
    drop(files);
    fs::create_dir(folder.path().join(".d.partial-4")).unwrap();
    let left = || {
        let entries = fs::read_dir(folder.path()).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    let target = folder.path().join("d");
    write(&target, 1 << 20);
    assert!(!target.join(".lock").exists());
    assert_eq!(
        left(),
        [
            ".d.partial-1",
            ".d.partial-4",
            ".d.partial-x",
            ".e.partial-3",
            "d"
        ]
    );

    fs::remove_dir_all(&target).unwrap();
    let writer = DatasetWriter::create(&target, options(1 << 20)).unwrap();
    let own = left();
    // Another one of the same dataset, which is under way: it is left alone.
    super::writer::remove_abandoned(&target, ".d.partial-".as_ref());
    assert_eq!(left(), own);
    drop((writer, alive));
    super::writer::remove_abandoned(&target, ".d.partial-".as_ref());
    assert_eq!(left(), [".d.partial-4", ".d.partial-x", ".e.partial-3"]);
}

#[test]
fn a_folder_that_is_no_dataset_says_how_to_make_one() {
    let folder = tempfile::tempdir().unwrap();
    let message = Dataset::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("djinn ingest"), "{message}");
    assert!(matches!(
        Dataset::open(&folder.path().join("missing")),
        Err(DatasetError::Io { .. })
    ));
}

/// Replaces a piece of the shard's header by another of the same length.
fn refusal(wanted: &str, instead: &str) -> String {
    assert_eq!(wanted.len(), instead.len());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d");
    write(&path, 1 << 20);
    let shard = path.join("frames-00000.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    let at = bytes
        .windows(wanted.len())
        .position(|window| window == wanted.as_bytes())
        .unwrap();
    bytes[at..at + wanted.len()].copy_from_slice(instead.as_bytes());
    fs::write(&shard, bytes).unwrap();
    let message = Dataset::open(&path).unwrap_err().to_string();
    assert!(message.contains("frames-00000.safetensors"), "{message}");
    message
}

#[test]
fn refusals_name_the_tensor() {
    assert!(refusal("\"frames\":", "\"framez\":").contains("frames: it is missing"));
    assert!(refusal("[150,4,6,3]", "[150,6,4,3]").contains("frames: the shape"));
    assert!(refusal("\"dtype\":\"U8\"", "\"dtype\":\"I8\"").contains("frames: the type"));
    assert!(refusal("\"U16\"", "\"I16\"").contains("actions: the type"));
    assert!(refusal("[10800,11100]", "[10800,91100]").contains("header"));
}

#[test]
fn what_the_manifest_says_must_be_in_the_shards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d");
    write(&path, 1 << 20);
    let manifest = path.join(MANIFEST_FILE);
    let text = fs::read_to_string(&manifest).unwrap();
    for (wanted, instead, field) in [
        (
            "start: 50, length: 50",
            "start: 49, length: 51",
            "episode_start",
        ),
        ("frames: 150", "frames: 151", "frames"),
        ("\"right\",\n", "\n", "actions"),
    ] {
        assert!(text.contains(wanted), "{text}");
        let changed = text
            .replace(wanted, instead)
            .replace("start: 0, length: 50", "start: 0, length: 49");
        fs::write(&manifest, changed).unwrap();
        let message = Dataset::open(&path).unwrap_err().to_string();
        assert!(
            message.contains("frames-00000.safetensors") && message.contains(field),
            "{message}"
        );
    }
    fs::write(&manifest, text).unwrap();
    Dataset::open(&path).unwrap();
    fs::remove_file(path.join("frames-00000.safetensors")).unwrap();
    assert!(
        Dataset::open(&path)
            .unwrap_err()
            .to_string()
            .contains("frames-00000.safetensors")
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_shards_are_refused_or_read(
        flips in prop::collection::vec((0usize..420, any::<u8>()), 1..4),
        cut in prop::option::of(0usize..15_000),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d");
        write(&path, 1 << 20);
        let shard = path.join("frames-00000.safetensors");
        let mut bytes = fs::read(&shard).unwrap();
        for (at, value) in flips {
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut);
        }
        fs::write(&shard, bytes).unwrap();
        match Dataset::open(&path) {
            Ok(dataset) => {
                for episode in dataset.episodes(Split::Train) {
                    prop_assert_eq!(dataset.frames(episode, 0..episode.length).len(), episode.length * FRAME);
                    let _ = dataset.true_actions(episode);
                }
            }
            Err(error) => prop_assert!(error.to_string().contains("frames-00000.safetensors"), "{}", error),
        }
    }
}
