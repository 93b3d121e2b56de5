//! Whole ingests of small videos that the tests make themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use media::{Mp4Writer, Picture, enlarge, write_png};

use super::*;
use crate::dataset::{Dataset, DatasetError, Episode, Split};

/// A smooth world of 32x32 seen from `x`; `scene` tells one world from another.
fn view(scene: u32, x: u32) -> Picture {
    let mut rgb = Vec::new();
    for row in 0..32u32 {
        for column in 0..32u32 {
            let at = (column + x) as f32;
            let wave = |frequency: f32, phase: u32| {
                ((at * frequency + row as f32 * 0.2 + phase as f32).sin() * 60.0 + 128.0) as u8
            };
            rgb.extend(match scene % 3 {
                0 => [wave(0.15, 0), 40, 90],
                1 => [220, wave(0.25, 1), wave(0.1, 2)],
                _ => [20, 230 - wave(0.2, 3) / 2, 20],
            });
        }
    }
    Picture::new(32, 32, rgb).unwrap()
}

fn write_video(path: &Path, rate: f64, pictures: impl IntoIterator<Item = Picture>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = Mp4Writer::create(path, 128, 128, rate).unwrap();
    for picture in pictures {
        writer.write(&enlarge(&picture, 4)).unwrap();
    }
    writer.finish().unwrap();
}

fn pan(scene: u32, count: u32) -> impl Iterator<Item = Picture> {
    (0..count).map(move |number| view(scene, number))
}

fn options() -> IngestOptions {
    IngestOptions {
        width: 32,
        height: 32,
        ..IngestOptions::default()
    }
}

fn run(
    inputs: &[PathBuf],
    out: &Path,
    options: &IngestOptions,
) -> Result<(IngestReport, Dataset), IngestError> {
    let report = ingest(inputs, out, options, &mut |_| {}, &AtomicBool::new(false))?;
    let dataset = Dataset::open(out)?;
    Ok((report, dataset))
}

fn assert_shows(frame: &[u8], picture: &Picture) {
    let squares: f64 = frame
        .iter()
        .zip(&picture.rgb)
        .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2))
        .sum();
    let psnr = 10.0 * (255.0 * 255.0 / (squares / frame.len() as f64).max(1e-9)).log10();
    assert!(psnr > 32.0, "{psnr:.1} dB");
}

fn action_names<'a>(dataset: &'a Dataset, episode: &Episode) -> Vec<Option<&'a str>> {
    let actions = dataset.true_actions(episode).unwrap();
    let name = |action: u16| dataset.action_names()[usize::from(action)].as_str();
    actions
        .as_slice()
        .iter()
        .map(|action| action.map(name))
        .collect()
}

#[test]
fn folders_with_sidecars_become_a_dataset() {
    let folder = tempfile::tempdir().unwrap();
    for (name, scene) in [
        ("train/a.mp4", 0),
        ("train/deep/b.mp4", 1),
        ("validation/c.mp4", 2),
    ] {
        write_video(&folder.path().join("in").join(name), 15.0, pan(scene, 20));
    }
    let lines: String = (0..20)
        .map(|i| {
            format!(
                "{{\"frame\": {i}, \"action\": \"{}\"}}\n",
                if i < 10 { "right" } else { "right+jump" }
            )
        })
        .collect();
    fs::write(folder.path().join("in/train/a.actions.jsonl"), lines).unwrap();
    fs::write(folder.path().join("in/train/notes.txt"), "not a video").unwrap();

    let mut shares = Vec::new();
    let out = folder.path().join("made/of/dataset");
    let report = ingest(
        &[folder.path().join("in")],
        &out,
        &options(),
        &mut |p| shares.push(p.share()),
        &AtomicBool::new(false),
    )
    .unwrap();
    let dataset = Dataset::open(&out).unwrap();

    assert!(
        shares.is_sorted() && shares.last() == Some(&1.0),
        "{shares:?}"
    );
    assert_eq!(
        (
            report.sources,
            report.frames,
            report.train_frames,
            report.validation_frames
        ),
        (3, 60, 40, 20)
    );
    assert!(
        report.skipped.is_empty() && report.warnings.is_empty(),
        "{report:?}"
    );
    let train = dataset.episodes(Split::Train);
    assert_eq!(dataset.episodes(Split::Validation).len(), 1);
    for (number, episode) in train.iter().enumerate() {
        for at in 0..20 {
            assert_shows(
                dataset.frames(episode, at..at + 1),
                &view(number as u32, at as u32),
            );
        }
    }
    let names = action_names(&dataset, &train[0]);
    assert_eq!(names.len(), 19);
    assert_eq!(
        (names[0], names[9], names[10], names[18]),
        (
            Some("right"),
            Some("right"),
            Some("right+jump"),
            Some("right+jump")
        )
    );
    assert!(
        dataset
            .true_actions(&train[1])
            .unwrap()
            .as_slice()
            .iter()
            .all(Option::is_none)
    );
    let source = &dataset.manifest().sources[0];
    assert_eq!(
        (source.codec.as_str(), source.frames, source.sha256.len()),
        ("H.264", 20, 64)
    );
}

#[test]
fn a_lower_rate_keeps_frames_and_actions_together() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("a.mp4");
    write_video(&video, 30.0, pan(0, 60));
    let lines: String = (0..60).map(|i| format!("\"action {i}\"\n")).collect();
    fs::write(folder.path().join("a.actions.jsonl"), lines).unwrap();
    let whole = IngestOptions {
        validation_fraction: 0.0,
        ..options()
    };
    let (report, dataset) = run(&[video], &folder.path().join("out"), &whole).unwrap();
    assert_eq!(report.frames, 30);
    let episode = &dataset.episodes(Split::Train)[0];
    let names = action_names(&dataset, episode);
    assert_eq!(names.len(), 29);
    for at in 0..30 {
        assert_shows(dataset.frames(episode, at..at + 1), &view(0, 2 * at as u32));
    }
    for (at, name) in names.iter().enumerate() {
        assert_eq!(*name, Some(format!("action {}", 2 * at).as_str()));
    }
}

#[test]
fn hard_cuts_split_and_movement_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("a.mp4");
    // A camera that moves by an eighth of the picture per frame, between hard cuts.
    let shots = [(0u32, 25u32), (1, 20), (2, 30), (0, 15)];
    let pictures = shots
        .iter()
        .flat_map(|&(scene, count)| (0..count).map(move |number| view(scene, number * 4)));
    write_video(&video, 15.0, pictures);
    let (report, dataset) = run(
        std::slice::from_ref(&video),
        &folder.path().join("out"),
        &options(),
    )
    .unwrap();
    assert_eq!(report.scene_cuts, 3);
    let mut lengths: Vec<usize> = dataset
        .manifest()
        .episodes
        .iter()
        .map(|episode| episode.length)
        .collect();
    // The last one is held back, and a second of the one before it lies between.
    assert_eq!(lengths.pop(), Some(15));
    assert_eq!(lengths, [25, 20, 15]);
    assert_eq!(dataset.episodes(Split::Validation).len(), 1);

    let never = IngestOptions {
        scene_cut: None,
        validation_fraction: 0.0,
        ..options()
    };
    let (report, _) = run(&[video], &folder.path().join("whole"), &never).unwrap();
    assert_eq!(
        (report.scene_cuts, report.episodes, report.frames),
        (0, 1, 90)
    );
}

#[test]
fn a_null_action_in_the_middle_ends_an_episode() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("a.mp4");
    write_video(&video, 15.0, pan(0, 30));
    let lines: String = (0..30)
        .map(|i| if i == 11 || i == 29 { "null\n" } else { "2\n" })
        .collect();
    fs::write(folder.path().join("a.actions.jsonl"), lines).unwrap();
    let whole = IngestOptions {
        validation_fraction: 0.0,
        ..options()
    };
    let (report, dataset) = run(&[video], &folder.path().join("out"), &whole).unwrap();
    let lengths: Vec<usize> = dataset
        .episodes(Split::Train)
        .iter()
        .map(|episode| episode.length)
        .collect();
    assert_eq!(lengths, [12, 18]);
    assert_eq!(report.action_cuts, 1);
    assert!(report.warnings.is_empty());
    for episode in dataset.episodes(Split::Train) {
        assert!(
            action_names(&dataset, episode)
                .iter()
                .all(|name| *name == Some("2"))
        );
    }
}

#[test]
fn a_session_brings_its_codes() {
    let folder = tempfile::tempdir().unwrap();
    let session = folder.path().join("session");
    write_video(&session.join("video.mp4"), 15.0, pan(0, 20));
    fs::write(session.join("session.ron"), "()").unwrap();
    // Frames 0 and 1 are the prompt.
    let lines: String = (2..20)
        .map(|i| {
            format!(
                "{{\"frame\":{i},\"wish\":[1],\"code\":{},\"device\":\"keyboard\",\"time\":0.5}}\n",
                i % 4
            )
        })
        .collect();
    fs::write(session.join("actions.jsonl"), lines).unwrap();
    let whole = IngestOptions {
        validation_fraction: 0.0,
        ..options()
    };
    for (number, input) in [session.clone(), folder.path().to_owned()]
        .into_iter()
        .enumerate()
    {
        let out = tempfile::tempdir().unwrap();
        let (report, dataset) = run(&[input], &out.path().join("out"), &whole).unwrap();
        assert_eq!(
            (report.sources, report.episodes, report.frames),
            (1, 1, 20),
            "{number}"
        );
        let names = action_names(&dataset, &dataset.episodes(Split::Train)[0]);
        assert_eq!(names[0], None);
        for (at, name) in names.iter().enumerate().skip(1) {
            assert_eq!(
                *name,
                Some(((at + 1) % 4).to_string().as_str()),
                "change {at}"
            );
        }
    }
}

#[test]
fn a_session_that_was_gone_back_in_is_several_episodes() {
    let folder = tempfile::tempdir().unwrap();
    let session = folder.path().join("session");
    write_video(&session.join("video.mp4"), 15.0, pan(0, 20));
    fs::write(session.join("session.ron"), "()").unwrap();
    let mut lines = vec![r#"{"event":"start","frame":7,"pictures":1}"#.to_owned()];
    lines.extend((8..18).map(|frame| format!("{{\"frame\":{frame},\"code\":1}}")));
    lines.push(r#"{"event":"rewind","frame":12,"pictures":1}"#.to_owned());
    lines.extend((13..21).map(|frame| format!("{{\"frame\":{frame},\"code\":2}}")));
    fs::write(session.join("actions.jsonl"), lines.join("\n") + "\n").unwrap();
    let whole = IngestOptions {
        validation_fraction: 0.0,
        ..options()
    };
    let (report, dataset) = run(&[session], &folder.path().join("out"), &whole).unwrap();
    assert_eq!((report.episodes, report.frames), (2, 20));
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    let episodes = dataset.episodes(Split::Train);
    assert_eq!(action_names(&dataset, &episodes[0]), [Some("1"); 10]);
    assert_eq!(action_names(&dataset, &episodes[1]), [Some("2"); 8]);
}

#[test]
fn numbered_images_are_one_source() {
    let folder = tempfile::tempdir().unwrap();
    let shots = folder.path().join("in/shots");
    fs::create_dir_all(&shots).unwrap();
    for number in 0..12 {
        write_png(&shots.join(format!("shot{number}.png")), &view(0, number)).unwrap();
    }
    let whole = IngestOptions {
        validation_fraction: 0.0,
        ..options()
    };
    let (report, dataset) = run(
        &[folder.path().join("in")],
        &folder.path().join("out"),
        &whole,
    )
    .unwrap();
    assert_eq!((report.sources, report.frames), (1, 12));
    let episode = &dataset.episodes(Split::Train)[0];
    let wanted: Vec<u8> = (0..12).flat_map(|number| view(0, number).rgb).collect();
    assert_eq!(dataset.frames(episode, 0..12), wanted);
    assert!(dataset.true_actions(episode).is_none());
}

#[test]
fn images_have_their_actions_beside_a_folder_with_a_dot_in_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let shots = folder.path().join("level.1");
    fs::create_dir_all(&shots).unwrap();
    for number in 0..12 {
        write_png(&shots.join(format!("{number}.png")), &view(0, number)).unwrap();
    }
    for (name, action) in [("level.actions.jsonl", 0), ("level.1.actions.jsonl", 1)] {
        fs::write(folder.path().join(name), format!("{action}\n").repeat(12)).unwrap();
    }
    let whole = IngestOptions {
        validation_fraction: 0.0,
        ..options()
    };
    let (_, dataset) = run(&[shots], &folder.path().join("out"), &whole).unwrap();
    let episode = &dataset.episodes(Split::Train)[0];
    assert_eq!(action_names(&dataset, episode), [Some("1"); 11]);
}

#[test]
fn one_unreadable_file_does_not_stop_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("in/good.mp4");
    write_video(&good, 15.0, pan(0, 60));
    fs::write(folder.path().join("in/bad.mp4"), "this is no video").unwrap();
    let cut_short = fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../media/test_data/h264_b_frames.mkv"),
    )
    .unwrap();
    fs::write(
        folder.path().join("in/cut.mkv"),
        &cut_short[..cut_short.len() * 4 / 5],
    )
    .unwrap();
    fs::write(folder.path().join("in/good.actions.jsonl"), "what\n").unwrap();
    let missing = folder.path().join("missing.mp4");
    let (report, _) = run(
        &[folder.path().join("in"), missing],
        &folder.path().join("out"),
        &options(),
    )
    .unwrap();
    assert_eq!(report.sources, 2);
    let skipped: Vec<String> = report.skipped.iter().map(ToString::to_string).collect();
    assert_eq!(skipped.len(), 2, "{skipped:?}");
    assert!(skipped[0].contains("missing.mp4"), "{skipped:?}");
    assert!(
        skipped[1].contains("bad.mp4") && report.skipped[1].help.is_some(),
        "{skipped:?}"
    );
    // Whether this machine has an ffmpeg or not, it is spoken of.
    let tried = format!("{:?}", report.skipped[1].tried);
    assert!(tried.contains("ffmpeg"), "{tried}");
    assert_eq!(report.damaged.len(), 1, "{:?}", report.damaged);
    let message = &report.damaged[0].message;
    assert!(
        message.contains("cut.mkv") && message.contains("pictures that could be read are used"),
        "{message}"
    );
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    assert!(report.warnings[0].contains("good.actions.jsonl: line 1"));
    assert!(!report.is_complete());
}

#[test]
fn damage_costs_the_pictures_up_to_the_next_keyframe_and_ends_an_episode() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("a.mp4");
    // A keyframe every 30 pictures.
    write_video(&video, 15.0, pan(0, 90));
    let mut bytes = fs::read(&video).unwrap();
    let fragments: Vec<usize> = (0..bytes.len() - 4)
        .filter(|&at| &bytes[at..at + 4] == b"mdat")
        .collect();
    bytes[fragments[fragments.len() / 2] + 4..][..4].fill(0xff);
    fs::write(&video, bytes).unwrap();
    let lines: String = (0..90).map(|i| format!("{i}\n")).collect();
    fs::write(folder.path().join("a.actions.jsonl"), lines).unwrap();
    let whole = IngestOptions {
        validation_fraction: 0.0,
        ..options()
    };
    let (report, dataset) = run(&[video], &folder.path().join("out"), &whole).unwrap();

    assert!(report.skipped.is_empty() && !report.is_complete());
    let damaged = &report.damaged[0];
    assert_eq!(damaged.places, 1);
    assert!(
        (1..30).contains(&damaged.pictures_lost),
        "{}",
        damaged.pictures_lost
    );
    assert!(damaged.message.contains("a.mp4") && !damaged.help.is_empty());
    let episodes = dataset.episodes(Split::Train);
    assert_eq!(episodes.len(), 2);
    let good = 60 - damaged.pictures_lost as usize;
    assert_eq!((episodes[0].length, episodes[1].length), (good, 30));
    for at in 0..30 {
        assert_shows(
            dataset.frames(&episodes[1], at..at + 1),
            &view(0, 60 + at as u32),
        );
    }
    assert_eq!(action_names(&dataset, &episodes[1])[0], Some("60"));
    assert_eq!(
        action_names(&dataset, &episodes[0]).last(),
        Some(&Some((good - 2).to_string().as_str()))
    );
}

#[test]
fn a_bad_image_costs_itself_and_ends_an_episode() {
    let folder = tempfile::tempdir().unwrap();
    let shots = folder.path().join("shots");
    fs::create_dir_all(&shots).unwrap();
    for number in 0..12 {
        write_png(&shots.join(format!("{number}.png")), &view(0, number)).unwrap();
    }
    fs::write(shots.join("5.png"), "no picture").unwrap();
    let whole = IngestOptions {
        validation_fraction: 0.0,
        ..options()
    };
    let (report, dataset) = run(&[shots], &folder.path().join("out"), &whole).unwrap();
    let episodes = dataset.episodes(Split::Train);
    assert_eq!((episodes[0].length, episodes[1].length), (5, 6));
    assert_eq!(dataset.frames(&episodes[1], 0..1), view(0, 6).rgb);
    assert!(report.damaged[0].message.contains("5.png"), "{report:?}");
}

#[test]
fn a_source_of_one_frame_is_skipped_for_its_own_reason() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("one.png");
    write_png(&picture, &view(0, 0)).unwrap();
    let (short, good) = (
        folder.path().join("short.mp4"),
        folder.path().join("good.mp4"),
    );
    write_video(&short, 15.0, pan(1, 2));
    write_video(&good, 15.0, pan(2, 40));
    let slow = IngestOptions {
        frames_per_second: 5.0,
        ..options()
    };
    let inputs = [picture.clone(), short, good];
    let (report, dataset) = run(&inputs, &folder.path().join("out"), &slow).unwrap();
    assert_eq!((report.sources, report.skipped.len()), (1, 2), "{report:?}");
    let told: Vec<String> = report.skipped.iter().map(ToString::to_string).collect();
    assert!(
        told[0].contains("one.png") && told[0].contains("single picture"),
        "{told:?}"
    );
    assert!(
        told[1].contains("short.mp4") && told[1].contains("5 frames per second"),
        "{told:?}"
    );
    assert!(
        dataset.manifest().sources[0].path.contains("good.mp4")
            && dataset
                .manifest()
                .episodes
                .iter()
                .all(|episode| episode.source == 0)
    );
    assert_shows(
        dataset.frames(&dataset.episodes(Split::Train)[0], 0..1),
        &view(2, 0),
    );

    let error = run(&[picture], &folder.path().join("none"), &options()).unwrap_err();
    assert!(error.to_string().contains("single picture"), "{error}");
}

#[test]
fn numbered_images_hide_neither_videos_nor_folders() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    for name in ["a.mp4", "deep/b.mp4"] {
        write_video(&input.join(name), 15.0, pan(u32::from(name.len() > 5), 20));
    }
    let deep = input.join("deep/shots");
    fs::create_dir_all(deep.join("more")).unwrap();
    for number in 0..4 {
        for place in [&input, &deep] {
            write_png(&place.join(format!("shot{number}.png")), &view(2, number)).unwrap();
        }
    }
    write_video(&deep.join("more/c.mp4"), 15.0, pan(2, 30));
    let (report, dataset) = run(&[input], &folder.path().join("out"), &options()).unwrap();
    let paths: Vec<&str> = dataset
        .manifest()
        .sources
        .iter()
        .map(|source| source.path.as_str())
        .collect();
    assert_eq!(report.sources, 4, "{paths:?}");
    for ending in ["in/a.mp4", "deep/b.mp4", "deep/shots", "more/c.mp4"] {
        assert!(
            paths.iter().any(|path| path.ends_with(ending)),
            "{ending} is not in {paths:?}"
        );
    }
}

#[test]
fn what_comes_twice_is_used_once() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    let video = input.join("a.mp4");
    write_video(&video, 15.0, pan(0, 40));
    fs::copy(&video, input.join("copy.mp4")).unwrap();
    let again = input.join("../in/./a.mp4");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&input, input.join("loop")).unwrap();
        std::os::unix::fs::symlink(&video, input.join("link.mp4")).unwrap();
    }
    let (report, dataset) = run(
        &[video, again, input],
        &folder.path().join("out"),
        &options(),
    )
    .unwrap();
    assert_eq!(dataset.manifest().sources.len(), 1);
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    assert!(
        report.warnings[0].contains("copy.mp4") && report.warnings[0].contains("the same as"),
        "{:?}",
        report.warnings
    );
    assert!(report.is_complete());
}

#[test]
fn only_folders_within_what_is_given_hold_back_and_win_over_copies() {
    let folder = tempfile::tempdir().unwrap();
    // Where someone keeps videos says nothing.
    let input = folder.path().join("test/videos");
    for (number, name) in ["a.mp4", "train/b.mp4", "train/c.mp4"].iter().enumerate() {
        write_video(&input.join(name), 15.0, pan(number as u32, 40));
    }
    fs::create_dir_all(input.join("validation")).unwrap();
    fs::copy(input.join("a.mp4"), input.join("validation/copy.mp4")).unwrap();
    let (report, dataset) = run(&[input], &folder.path().join("out"), &options()).unwrap();
    let held: Vec<&str> = dataset
        .episodes(Split::Validation)
        .iter()
        .map(|episode| dataset.manifest().sources[episode.source].path.as_str())
        .collect();
    assert!(
        matches!(held[..], [path] if path.ends_with("copy.mp4")),
        "{held:?}"
    );
    assert_eq!(report.sources, 3);
    assert!(
        report.warnings[0].contains("a.mp4: the same as"),
        "{:?}",
        report.warnings
    );
}

#[test]
fn worlds_and_datasets_are_no_gameplay() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    write_video(&input.join("a.mp4"), 15.0, pan(0, 40));
    for (name, manifest) in [("w", "world.ron"), ("d", "dataset.ron")] {
        write_video(&input.join(name).join("play.mp4"), 15.0, pan(1, 20));
        fs::write(input.join(name).join(manifest), "()").unwrap();
    }
    // What a run leaves there is generated.
    write_video(&input.join("w.run/play.mp4"), 15.0, pan(1, 20));
    for file in ["train.ron", "metrics.jsonl"] {
        fs::write(input.join("w.run").join(file), "").unwrap();
    }
    let inputs = [input.clone(), input.join("w")];
    let (report, _) = run(&inputs, &folder.path().join("out"), &options()).unwrap();
    assert_eq!(report.sources, 1);
    assert_eq!(report.skipped.len(), 1, "{:?}", report.skipped);
    assert!(report.skipped[0].message.contains("this is a world"));
}

#[test]
fn a_crop_outside_the_picture_is_told_by_file() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("a.mp4");
    write_video(&video, 15.0, pan(0, 10));
    let cropped = IngestOptions {
        crop: Some(CropRect {
            x: 0,
            y: 0,
            width: 1000,
            height: 10,
        }),
        ..options()
    };
    let error = run(&[video], &folder.path().join("out"), &cropped).unwrap_err();
    let IngestError::NothingRead { skipped } = &error else {
        panic!("{error}");
    };
    assert!(
        skipped[0].message.contains("a.mp4") && skipped[0].help.is_some(),
        "{error}"
    );
}

#[test]
fn the_only_episode_is_cut_with_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("a.mp4");
    write_video(&video, 15.0, pan(0, 100));
    let (report, dataset) = run(&[video], &folder.path().join("out"), &options()).unwrap();
    let (train, validation) = (
        dataset.episodes(Split::Train),
        dataset.episodes(Split::Validation),
    );
    assert_eq!((train.len(), validation.len()), (1, 1));
    assert_eq!(
        (
            train[0].start,
            train[0].length,
            validation[0].start,
            validation[0].length
        ),
        (0, 75, 90, 10)
    );
    assert_shows(dataset.frames(&validation[0], 0..1), &view(0, 90));
    assert!(
        report.notes[0].contains("the last 10 frames of the only source"),
        "{:?}",
        report.notes
    );
}

#[test]
fn nothing_readable_is_an_error_that_lists_why_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.mp4");
    fs::write(&bad, "this is no video").unwrap();
    let error = run(&[bad], &folder.path().join("out"), &options()).unwrap_err();
    assert!(error.to_string().contains("bad.mp4"), "{error}");
    assert!(matches!(error, IngestError::NothingRead { .. }));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_taken_place_is_refused_and_an_empty_folder_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("a.mp4");
    write_video(&video, 15.0, pan(0, 10));
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    run(std::slice::from_ref(&video), &out, &options()).unwrap();
    let error = run(&[video], &out, &options()).unwrap_err();
    assert!(
        matches!(
            error,
            IngestError::Dataset(DatasetError::OutputExists { .. })
        ),
        "{error}"
    );
}

#[test]
fn cancelling_keeps_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    for (scene, name) in (0..).zip(["a.mp4", "b.mp4", "c.mp4"]) {
        write_video(&folder.path().join("in").join(name), 15.0, pan(scene, 40));
    }
    let inputs = [folder.path().join("in")];
    let stop = AtomicBool::new(true);
    let error = ingest(
        &inputs,
        &folder.path().join("out"),
        &options(),
        &mut |_| {},
        &stop,
    )
    .unwrap_err();
    assert!(matches!(error, IngestError::Cancelled));

    let stop = AtomicBool::new(false);
    let mut watch = |progress: IngestProgress<'_>| {
        if progress.source == 1 {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let report = ingest(
        &inputs,
        &folder.path().join("out"),
        &options(),
        &mut watch,
        &stop,
    )
    .unwrap();
    assert!(
        report.cancelled && report.sources == 2 && (41..80).contains(&report.frames),
        "{report:?}"
    );
    assert!(Dataset::open(&folder.path().join("out")).is_ok());
}

#[test]
fn settings_without_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |change: fn(&mut IngestOptions)| {
        let mut options = options();
        change(&mut options);
        run(
            &[folder.path().to_owned()],
            &folder.path().join("out"),
            &options,
        )
        .unwrap_err()
        .to_string()
    };
    assert!(refused(|o| o.validation_fraction = 1.0).contains("validation"));
    assert!(refused(|o| o.scene_cut = Some(f32::NAN)).contains("scene cut"));
    assert!(refused(|o| o.frames_per_second = f64::NAN).contains("frames per second"));
    assert!(refused(|o| o.width = 0).contains("out"));
    assert!(refused(|o| o.max_shard_bytes = u64::MAX).contains("shard"));
}
