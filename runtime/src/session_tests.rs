//! Tests of whole sessions: played, recorded, cut short, replayed, tampered with.

use crate::{
    ActionSource, Difference, Error, HeadlessOptions, PlaySummary, Recording, Session,
    Verification, export, play_headless, verify,
};
use nn::ActionCode;
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;
use worlds::{RolloutSettings, Strength, World};

static GO_ON: AtomicBool = AtomicBool::new(false);

fn world() -> Arc<World> {
    static WORLD: OnceLock<Arc<World>> = OnceLock::new();
    WORLD
        .get_or_init(|| Arc::new(worlds::tiny_world(1).unwrap()))
        .clone()
}

fn options(frames: u64, actions: ActionSource, folder: Option<&Path>) -> HeadlessOptions {
    let world = world();
    HeadlessOptions {
        frames,
        prompt: world.prompts[..1].to_vec(),
        settings: RolloutSettings::of(&world.manifest, 7),
        actions,
        recording: folder.map(|folder| Recording {
            folder: folder.to_owned(),
            world_name: "tiny".into(),
        }),
    }
}

fn play(options: HeadlessOptions) -> PlaySummary {
    play_headless(world(), options, &mut |_| (), &GO_ON).unwrap()
}

fn random() -> ActionSource {
    ActionSource::random(7, &world().manifest)
}

fn recorded(frames: u64) -> (TempDir, Session) {
    let folder = tempfile::tempdir().unwrap();
    play(options(frames, random(), Some(folder.path())));
    let session = Session::open(folder.path()).unwrap();
    (folder, session)
}

fn verified(session: &Session) -> Verification {
    verify(session, world(), &mut |_| (), &GO_ON).unwrap()
}

fn refusal(folder: &Path) -> String {
    Session::open(folder).unwrap_err().to_string()
}

/// What a killed player leaves: no token file, the journal instead, both journals cut somewhere.
fn kill(folder: &Path, session: &Session, journal_bytes: usize, action_bytes: usize) {
    fs::remove_file(folder.join("tokens.safetensors")).unwrap();
    let tokens = (0..session.frames()).flat_map(|line| session.tokens(line).unwrap());
    let mut journal: Vec<u8> = tokens.flat_map(|token| token.to_le_bytes()).collect();
    journal.truncate(journal_bytes);
    fs::write(folder.join("tokens.journal"), journal).unwrap();
    let mut actions = fs::read(folder.join("actions.jsonl")).unwrap();
    actions.truncate(action_bytes);
    fs::write(folder.join("actions.jsonl"), actions).unwrap();
}

#[test]
fn a_session_of_version_1_can_still_be_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/session-v1");
    let session = Session::open(&folder).unwrap();
    assert_eq!((session.manifest.version, session.frames()), (1, 12));
    assert!(session.complete && session.tokens(11).is_some());
    let codes = session.codes();
    let into = |frame| codes.into_frame(frame).flatten();
    assert_eq!(into(1), Some(ActionCode(4)));
    assert_eq!(into(12), Some(ActionCode(6)));
}

#[test]
fn a_session_holds_all_that_was_played() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep").join("session");
    let mut steps = Vec::new();
    let summary = play_headless(
        world(),
        options(20, random(), Some(&path)),
        &mut |step| steps.push(step.clone()),
        &GO_ON,
    )
    .unwrap();
    assert_eq!((summary.frames, summary.interrupted), (20, false));
    assert_eq!(summary.times.frames, 20);
    assert_eq!(summary.sessions, std::slice::from_ref(&path));
    assert_eq!(summary.video(), Some(path.join("video.mp4")));

    let session = Session::open(&path).unwrap();
    assert!(session.complete);
    assert_eq!(session.prompt, world().prompts[..1]);
    assert_eq!(session.manifest.world, "tiny");
    assert_eq!(session.manifest.world_hash, world().hash);
    assert_eq!(
        session.manifest.settings,
        RolloutSettings::of(&world().manifest, 7)
    );
    assert_eq!(session.manifest.actions[1], "right");
    for (index, (line, step)) in session.lines.iter().zip(&steps).enumerate() {
        assert_eq!((line.frame, line.code), (index as u64 + 1, step.code));
        assert_eq!((line.frame, line.device.as_str()), (step.number, "random"));
        assert_eq!(session.tokens(index).unwrap(), step.tokens);
    }
    // The prompt's one frame is frame 0, and the first code leads from it to frame 1.
    let codes = session.codes();
    assert_eq!(codes.frames(), 21);
    for (index, step) in steps.iter().enumerate() {
        assert_eq!(codes.after(index), Some(Some(step.code)));
        assert_eq!(
            codes.into_frame(step.number as usize),
            Some(Some(step.code))
        );
    }
    assert!(
        session
            .lines
            .windows(2)
            .all(|pair| pair[0].time <= pair[1].time)
    );
    assert!(session.lines.iter().any(|line| !line.wish.is_empty()));
    assert_eq!(session.tokens(20), None);

    // Video: prompt and frames, enlarged, with the frames' own colours; sound: exactly as long.
    let mut video = media::open(&path.join("video.mp4")).unwrap();
    let mut pictures = Vec::new();
    while let Some(picture) = video.next_picture().unwrap() {
        pictures.push(picture.picture);
    }
    assert_eq!(pictures.len(), 21);
    assert_eq!((pictures[0].width, pictures[0].height), (24 * 16, 16 * 16));
    for (picture, frame) in pictures[1..]
        .iter()
        .zip(steps.iter().map(|step| &step.frame))
    {
        let mut error = 0u64;
        for y in 0..16 {
            for x in 0..24 {
                let seen = &picture.row(y * 16 + 8)[(x * 16 + 8) * 3..][..3];
                let made = &frame.rgb()[(y as usize * 24 + x) * 3..][..3];
                let pairs = seen.iter().zip(made);
                error += pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>();
            }
        }
        let mean = error as f64 / (16.0 * 24.0 * 3.0);
        assert!(mean < 6.0, "mean error {mean}");
    }
    let sound = media::read_wav(&path.join("audio.wav")).unwrap();
    let seconds = sound.samples.len() as f64 / 2.0 / f64::from(sound.sample_rate);
    assert!((seconds - 21.0 / 15.0).abs() < 1e-3, "{seconds}");
    assert!(sound.samples.iter().all(|&sample| sample == 0.0));
    assert!(!path.join("tokens.journal").exists());
}

#[test]
fn the_same_seed_plays_the_same_and_recording_changes_nothing() {
    let tokens = |session: &Session| -> Vec<u32> {
        let lines = 0..session.frames();
        lines
            .flat_map(|line| session.tokens(line).unwrap().to_vec())
            .collect()
    };
    let ((_a, one), (_b, two)) = (recorded(12), recorded(12));
    assert_eq!(tokens(&one), tokens(&two));
    let mut unrecorded: Vec<u32> = Vec::new();
    let options = options(12, random(), None);
    play_headless(
        world(),
        options,
        &mut |step| unrecorded.extend(&step.tokens),
        &GO_ON,
    )
    .unwrap();
    assert_eq!(tokens(&one), unrecorded);
}

#[test]
fn a_folder_with_something_in_it_is_not_recorded_over() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "x").unwrap();
    let options = options(3, random(), Some(folder.path()));
    let error = play_headless(world(), options, &mut |_| (), &GO_ON).unwrap_err();
    assert!(matches!(error, Error::FolderNotEmpty(_)), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_session_that_cannot_begin_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let session = folder.path().join("s");
    // No video has such a rate, which is found when the first files are there.
    let mut world = worlds::tiny_world(1).unwrap();
    world.manifest.frames_per_second = -1.0;
    let options = options(3, random(), Some(&session));
    assert!(play_headless(Arc::new(world), options, &mut |_| (), &GO_ON).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn cancelling_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let cancel = AtomicBool::new(false);
    let mut made = 0;
    let mut stop_after_five = |_: &worlds::Step| {
        made += 1;
        cancel.store(made == 5, Ordering::Relaxed);
    };
    let options = options(1000, random(), Some(folder.path()));
    let summary = play_headless(world(), options, &mut stop_after_five, &cancel).unwrap();
    assert_eq!((summary.frames, summary.interrupted), (5, true));
    let session = Session::open(folder.path()).unwrap();
    assert!(session.complete && session.frames() == 5);
}

#[test]
fn verification_finds_all_the_same_or_the_first_difference() {
    let (folder, session) = recorded(15);
    let same = verified(&session);
    assert_eq!(
        (same.frames, same.difference.clone(), same.complete),
        (15, None, true)
    );
    assert!(same.same_kernels);

    // One token of frame 9, which is line 8.
    let path = folder.path().join("tokens.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let place = bytes.len() - 15 * 6 * 4 + (8 * 6 + 2) * 4;
    bytes[place] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let found = verified(&Session::open(folder.path()).unwrap());
    assert_eq!(found.frames, 9);
    let difference = Difference {
        frame: 9,
        code: None,
        tokens: 1,
        tokens_per_frame: 6,
    };
    assert_eq!(found.difference, Some(difference));
}

#[test]
fn verification_finds_a_code_that_the_wish_does_not_lead_to() {
    let (folder, session) = recorded(10);
    let path = folder.path().join("actions.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let line = &session.lines[3];
    let other = ActionCode((line.code.0 + 1) % 4);
    // The first line is no frame but the start.
    let lines = text.lines().enumerate().map(|(index, text)| match index {
        4 => {
            text.replace(
                &format!("\"code\":{}", line.code),
                &format!("\"code\":{other}"),
            ) + "\n"
        }
        _ => text.to_owned() + "\n",
    });
    fs::write(&path, lines.collect::<String>()).unwrap();
    let found = verified(&Session::open(folder.path()).unwrap());
    let difference = found.difference.unwrap();
    assert_eq!((difference.frame, difference.code), (4, Some(line.code)));
}

#[test]
fn recorded_codes_can_be_played_again() {
    let (folder, session) = recorded(10);
    let again = tempfile::tempdir().unwrap();
    let actions = folder.path().join("actions.jsonl");
    let source = ActionSource::read(&actions, &world().manifest).unwrap();
    play(options(10, source, Some(again.path())));
    let second = Session::open(again.path()).unwrap();
    for line in 0..10 {
        assert_eq!(second.tokens(line), session.tokens(line));
        assert_eq!(second.lines[line].code, session.lines[line].code);
        assert_eq!(second.lines[line].device, "session");
    }
    assert_eq!(verified(&second).difference, None);
}

#[test]
fn another_world_is_refused() {
    let (_folder, session) = recorded(2);
    let other = Arc::new(worlds::tiny_world(2).unwrap());
    let error = verify(&session, other, &mut |_| (), &GO_ON)
        .unwrap_err()
        .to_string();
    assert!(error.contains("recorded in world tiny"), "{error}");
}

#[test]
fn a_killed_session_replays_up_to_the_last_complete_frame() {
    // In the middle of a line, in the middle of a frame's tokens, between the two, and before the first frame.
    for (journal_bytes, lines, more_bytes, frames) in [
        (8 * 24, 7, 10, 7),
        (8 * 24 + 5, 8, 0, 8),
        (9 * 24, 8, 0, 8),
        (0, 0, 0, 0),
        (24, 0, 3, 0),
    ] {
        let (folder, session) = recorded(12);
        let text = fs::read_to_string(folder.path().join("actions.jsonl")).unwrap();
        // The first line is no frame but the start.
        let kept = if lines == 0 { 0 } else { lines + 1 };
        let whole: usize = text.lines().take(kept).map(|line| line.len() + 1).sum();
        kill(folder.path(), &session, journal_bytes, whole + more_bytes);
        let cut = Session::open(folder.path()).unwrap();
        assert_eq!((cut.frames(), cut.complete), (frames, false));
        let found = verified(&cut);
        assert_eq!(
            (found.frames, found.difference, found.complete),
            (frames as u64, None, false)
        );
    }
}

#[test]
fn a_session_without_its_tokens_is_refused_and_one_with_fewer_is_not_verified_whole() {
    let (folder, session) = recorded(6);
    let tokens = folder.path().join("tokens.safetensors");
    let bytes = fs::read(&tokens).unwrap();
    fs::remove_file(&tokens).unwrap();
    let refused = refusal(folder.path());
    assert!(
        refused.contains("tokens.safetensors: file: is missing"),
        "{refused}"
    );
    fs::write(&tokens, bytes).unwrap();
    let whole = verified(&session);
    assert!(whole.is_whole() && whole.recorded == 6);
    kill(folder.path(), &session, 2 * 24, usize::MAX);
    let found = verified(&Session::open(folder.path()).unwrap());
    assert_eq!((found.frames, found.recorded), (2, 6));
    assert!(found.difference.is_none() && !found.is_whole());
}

#[test]
fn stopping_a_verification_does_not_cut_the_session_short() {
    let (_folder, session) = recorded(4);
    let stopped = AtomicBool::new(true);
    let found = verify(&session, world(), &mut |_| (), &stopped).unwrap();
    assert_eq!((found.frames, found.recorded, found.complete), (0, 4, true));
    assert!(!found.is_whole());
}

#[test]
fn settings_that_cannot_be_played_with_are_refused_by_file() {
    let (folder, _) = recorded(2);
    let file = folder.path().join("session.ron");
    let text = fs::read_to_string(&file).unwrap();
    let steps = text.find("steps: ").unwrap();
    let end = steps + text[steps..].find(',').unwrap();
    let with = |steps_text: &str| {
        fs::write(&file, [&text[..steps], steps_text, &text[end..]].concat()).unwrap();
        Session::open(folder.path())
    };
    let none = with("steps: 0").unwrap_err().to_string();
    assert!(
        none.starts_with("session ") && none.contains("session.ron: settings: "),
        "{none}"
    );
    // What one world allows, another does not.
    let many = with("steps: 60").unwrap();
    let refused = verify(&many, world(), &mut |_| (), &GO_ON)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("session.ron: settings: 60 MaskGIT steps"),
        "{refused}"
    );
}

#[test]
fn a_session_is_of_a_world_with_the_same_idle_code_or_from_before_it_counted() {
    let (_folder, mut session) = recorded(3);
    let mut contents = worlds::tiny_contents(1).unwrap();
    contents.manifest.idle = Some(ActionCode(1));
    let other = Arc::new(contents.world(worlds::WeightFormat::F16).unwrap());
    let refused = verify(&session, other.clone(), &mut |_| (), &GO_ON).unwrap_err();
    assert!(matches!(refused, Error::AnotherWorld { .. }), "{refused}");
    session.manifest.world_hash = world().hash_without_idle.clone();
    assert!(verified(&session).is_whole());
    // What a state holds does not depend on it.
    let rollout = session.start(world()).unwrap();
    let state = crate::SavedState::of(&rollout).unwrap();
    assert_eq!(state.world_hash, world().hash_without_idle);
    assert!(state.resume(other).is_ok());
}

/// Pictures of a video that may still be growing.
fn pictures_of(path: &Path) -> usize {
    let Ok(mut video) = media::open(path) else {
        return 0;
    };
    let mut pictures = 0;
    while let Ok(Some(_)) = video.next_picture() {
        pictures += 1;
    }
    pictures
}

#[test]
fn a_session_is_on_disk_after_every_frame() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let mut seen = 0;
    let mut look = |_: &worlds::Step| {
        seen += 1;
        // Nothing has been finished yet: this is what a kill would leave.
        let session = Session::open(&path).unwrap();
        assert_eq!((session.frames(), session.complete), (seen, false));
        if seen == 20 {
            assert_eq!(verified(&session).difference, None);
            // Video and sound are encoded beside play, and soon there.
            let begun = std::time::Instant::now();
            while pictures_of(&path.join("video.mp4")) < 10
                || media::read_wav(&path.join("audio.wav")).map_or(0, |sound| sound.samples.len())
                    <= 16_000
            {
                assert!(begun.elapsed() < std::time::Duration::from_secs(60));
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    };
    let options = options(20, random(), Some(folder.path()));
    play_headless(world(), options, &mut look, &GO_ON).unwrap();
}

#[test]
fn sessions_are_exported_as_video_and_gif() {
    let (own, session) = recorded(6);
    let folder = tempfile::tempdir().unwrap();
    for name in ["play.mp4", "play.gif", "PLAY.GIF"] {
        let path = folder.path().join(name);
        let written = export(&session, world(), &path, &mut |_| (), &GO_ON).unwrap();
        assert_eq!(written, 7);
        let mut video = media::open(&path).unwrap();
        let mut count = 0;
        while let Some(timed) = video.next_picture().unwrap() {
            assert_eq!((timed.picture.width, timed.picture.height), (384, 256));
            count += 1;
        }
        assert_eq!(count, 7, "{name}");
    }
    let path = folder.path().join("play.avi");
    let error = export(&session, world(), &path, &mut |_| (), &GO_ON).unwrap_err();
    assert!(matches!(error, Error::ExportFormat(_)), "{error}");
    assert!(!path.exists());
    for name in ["video.mp4", "new.gif"] {
        let path = own.path().join(name);
        let before = fs::read(&path).ok();
        let error = export(&session, world(), &path, &mut |_| (), &GO_ON).unwrap_err();
        assert!(matches!(error, Error::ExportIntoSession(_)), "{error}");
        assert_eq!(fs::read(&path).ok(), before);
    }
}

#[test]
fn an_export_that_is_not_completed_leaves_what_was_there() {
    let (_own, mut session) = recorded(6);
    let folder = tempfile::tempdir().unwrap();
    let earlier = folder.path().join("play.gif");
    fs::write(&earlier, "earlier").unwrap();
    let names = || {
        let entries = fs::read_dir(folder.path()).unwrap().flatten();
        entries
            .map(|entry| entry.file_name())
            .collect::<Vec<std::ffi::OsString>>()
    };
    for name in ["play.gif", "play.mp4"] {
        let cancel = AtomicBool::new(false);
        let mut stop = |pictures| cancel.store(pictures >= 3, Ordering::Relaxed);
        let path = folder.path().join(name);
        let error = export(&session, world(), &path, &mut stop, &cancel).unwrap_err();
        assert!(matches!(error, Error::ExportCancelled(_)), "{error}");
        assert!(cancel.into_inner());
        assert_eq!(names(), ["play.gif"], "{name}");
    }
    session.manifest.state = Some("missing.state".to_owned());
    let error = export(&session, world(), &earlier, &mut |_| (), &GO_ON).unwrap_err();
    assert!(error.to_string().contains("missing.state"), "{error}");
    assert_eq!(names(), ["play.gif"]);
    assert_eq!(fs::read(&earlier).unwrap(), b"earlier");
    let taken = folder.path().join("taken.gif");
    fs::create_dir(&taken).unwrap();
    let error = export(&session, world(), &taken, &mut |_| (), &GO_ON).unwrap_err();
    assert!(error.to_string().contains("taken.gif: "), "{error}");
}

#[test]
fn orders_in_a_file_are_carried_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wishes.txt");
    fs::write(&path, "right\n2\nleft\n").unwrap();
    let actions = ActionSource::read(&path, &world().manifest).unwrap();
    let mut options = options(5, actions, Some(&folder.path().join("session")));
    options.settings.strength = Strength::Order;
    play(options);
    let session = Session::open(&folder.path().join("session")).unwrap();
    let codes: Vec<u16> = session.lines.iter().map(|line| line.code.0).collect();
    assert_eq!(codes[..3], [1, 2, 0]);
    let devices: Vec<&str> = session
        .lines
        .iter()
        .map(|line| line.device.as_str())
        .collect();
    assert_eq!(devices, ["file", "file", "file", "none", "none"]);
    assert_eq!(verified(&session).difference, None);
}

#[test]
fn what_is_no_session_is_refused_with_file_and_field() {
    let (folder, session) = recorded(4);
    let path = folder.path();
    assert!(refusal(&path.join("missing")).contains("missing"));
    let empty = tempfile::tempdir().unwrap();
    assert!(refusal(empty.path()).contains("no session.ron"));
    let rewrite = |file: &str, from: &str, to: &str| {
        let file = path.join(file);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replacen(from, to, 1)).unwrap();
        let refused = refusal(path);
        fs::write(&file, text).unwrap();
        refused
    };
    let version = rewrite("session.ron", "version: 2", "version: 9");
    assert!(version.contains("session.ron: version: 9"), "{version}");
    let escape = rewrite("session.ron", "prompt-000.png", "../../prompt-000.png");
    assert!(escape.contains("no plain file name"), "{escape}");
    assert!(
        escape.contains("session ") && !escape.contains("world "),
        "{escape}"
    );
    let rate = rewrite(
        "session.ron",
        "frames_per_second: 15.0",
        "frames_per_second: inf",
    );
    assert!(rate.contains("frames_per_second"), "{rate}");
    let size = rewrite("session.ron", "height: 16", "height: 4096");
    assert!(size.contains("session.ron: frame"), "{size}");
    let tokens = rewrite("session.ron", "tokens_per_frame: 6", "tokens_per_frame: 0");
    assert!(tokens.contains("tokens_per_frame"), "{tokens}");
    let width = rewrite("session.ron", "tokens_per_frame: 6", "tokens_per_frame: 7");
    assert!(width.contains("tokens.safetensors: tokens"), "{width}");
    let frame = rewrite("actions.jsonl", "\"frame\":2", "\"frame\":3");
    assert!(frame.contains("actions.jsonl: frame of line 3"), "{frame}");
    let code = rewrite("actions.jsonl", "\"code\":", "\"code\":1000,\"was\":");
    assert!(code.contains("actions.jsonl: line 2"), "{code}");
    let cut = fs::read(path.join("tokens.safetensors")).unwrap();
    fs::write(path.join("tokens.safetensors"), &cut[..cut.len() - 4]).unwrap();
    assert!(refusal(path).contains("tokens.safetensors: tokens"));
    fs::write(path.join("tokens.safetensors"), cut).unwrap();
    let png = fs::read(path.join("prompt-000.png")).unwrap();
    fs::write(path.join("prompt-000.png"), &png[..png.len() / 2]).unwrap();
    assert!(refusal(path).contains("prompt-000.png: picture"));
    fs::write(path.join("prompt-000.png"), png).unwrap();
    assert_eq!(Session::open(path).unwrap().lines, session.lines);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_session_killed_anywhere_can_be_opened(journal in 0usize..=5 * 24, actions in any::<prop::sample::Index>()) {
        let (folder, session) = recorded(5);
        let bytes = fs::metadata(folder.path().join("actions.jsonl")).unwrap().len() as usize;
        kill(folder.path(), &session, journal, actions.index(bytes + 1));
        let cut = Session::open(folder.path()).unwrap();
        prop_assert!(!cut.complete && cut.frames() <= journal / 24);
        for line in 0..cut.frames() {
            prop_assert_eq!(cut.tokens(line), session.tokens(line));
        }
    }

    #[test]
    fn a_session_with_any_damage_is_opened_or_refused(
        file in prop::sample::select(vec!["session.ron", "actions.jsonl", "tokens.safetensors", "prompt-000.png"]),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let (folder, _) = recorded(3);
        let path = folder.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        fs::write(&path, bytes).unwrap();
        if let Ok(session) = Session::open(folder.path()) {
            // Whatever it says, replaying it gives a verdict or an error.
            let _ = verify(&session, world(), &mut |_| (), &GO_ON);
        }
    }
}

/// The tiny world with a loop and two samples.
fn sounding_world() -> Arc<World> {
    let mut contents = worlds::tiny_contents(1).unwrap();
    let codes = |codes: &[u16]| codes.iter().copied().map(ActionCode).collect();
    let sample = |when| worlds::Sample {
        file: "blip.wav".into(),
        volume: 0.5,
        when,
    };
    contents.manifest.sounds = worlds::Sounds {
        ambient: Some(worlds::Ambient {
            file: "hum.wav".into(),
            volume: 0.5,
        }),
        samples: vec![
            sample(worlds::Trigger::Code(codes(&[2]))),
            sample(worlds::Trigger::Wish(codes(&[0]))),
            sample(worlds::Trigger::While(codes(&[1, 3]))),
        ],
    };
    let folder = tempfile::tempdir().unwrap();
    let tone = |name: &str, hertz: f64, pairs: usize| {
        let path = folder.path().join(name);
        let sample = |i: usize| (i as f64 / 24_000.0 * hertz * std::f64::consts::TAU).sin() as f32;
        let samples: Vec<f32> = (0..pairs).flat_map(|i| [0.4 * sample(i); 2]).collect();
        let mut writer = media::WavWriter::create(&path, 24_000).unwrap();
        writer.write(&samples).unwrap();
        writer.finish().unwrap();
        (format!("sounds/{name}"), fs::read(&path).unwrap())
    };
    contents.files = [
        tone("hum.wav", 150.0, 24_000),
        tone("blip.wav", 900.0, 6_000),
    ]
    .into();
    Arc::new(contents.world(worlds::WeightFormat::F16).unwrap())
}

#[test]
fn a_session_sounds_as_it_was_played_and_so_does_its_export() {
    let world = sounding_world();
    let folder = tempfile::tempdir().unwrap();
    let session = folder.path().join("session");
    play_headless(
        world.clone(),
        options(40, random(), Some(&session)),
        &mut |_| (),
        &GO_ON,
    )
    .unwrap();
    let session = Session::open(&session).unwrap();
    let recorded = media::read_wav(&session.folder.join("audio.wav")).unwrap();
    assert_eq!(recorded.sample_rate, crate::MIX_RATE);
    assert_eq!(recorded.samples.len(), 2 * 41 * 48_000 / 15);

    // The lines of the session say all that was heard.
    let mut mixer = crate::Mixer::new(world.soundscape.clone(), 15.0);
    let mut mixed = mixer.next_frame(&crate::Moment::Prompt);
    for line in &session.lines {
        mixed.extend(mixer.next_frame(&crate::Moment::Played {
            wish: line.wish.iter().copied().collect(),
            code: line.code,
        }));
    }
    assert_eq!(mixed, recorded.samples);
    let onsets = session.lines.windows(2);
    assert!(
        onsets
            .filter(|pair| pair[0].code != ActionCode(2) && pair[1].code == ActionCode(2))
            .count()
            > 0
    );
    let loud = recorded
        .samples
        .iter()
        .filter(|sample| sample.abs() > 0.25)
        .count();
    assert!(loud > 100, "something was heard besides the loop: {loud}");

    // A world without sounds plays the same frames, and its session exports with the sounds of the world that it is exported in.
    let path = folder.path().join("play.mp4");
    export(&session, world.clone(), &path, &mut |_| (), &GO_ON).unwrap();
    let own = session.folder.join("video.mp4");
    let has_sound = |path: &Path| {
        fs::read(path)
            .unwrap()
            .windows(4)
            .any(|bytes| bytes == b"dOps")
    };
    assert!(has_sound(&path) && has_sound(&own));
    assert_eq!(pictures_of(&own), 41);
    let (_silent_folder, silent) = recorded_in_silence();
    assert!(!has_sound(&silent.join("video.mp4")));
    let decode = |path: &Path| {
        let decoded = std::process::Command::new("ffmpeg")
            .args(["-v", "error", "-i"])
            .arg(path)
            .args(["-map", "0:a:0", "-f", "f32le", "-"])
            .output();
        match decoded {
            Ok(output) => Some(output.stdout),
            Err(error) => {
                use std::io::Write;
                let _ = writeln!(
                    std::io::stderr(),
                    "SKIPPED: decoding a session's sound: ffmpeg: {error}"
                );
                None
            }
        }
    };
    let (Some(exported), Some(sound)) = (decode(&path), decode(&own)) else {
        return;
    };
    assert_eq!(exported, sound);
    let heard = sound
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let (mut power, mut noise) = (0.0, 0.0);
    for (sent, heard) in recorded.samples.iter().zip(heard) {
        power += f64::from(*sent).powi(2);
        noise += f64::from(sent - heard).powi(2);
    }
    assert!(
        power > 50.0 * noise,
        "{:.1} dB",
        10.0 * (power / noise).log10()
    );
}

fn recorded_in_silence() -> (TempDir, std::path::PathBuf) {
    let (folder, session) = recorded(3);
    (folder, session.folder)
}

/// A file system of `size` that is unmounted when dropped; `None` where nothing may be mounted.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status();
        matches!(mounted, Ok(status) if status.success()).then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg(self.0.path())
            .status();
    }
}

#[test]
fn a_full_disk_ends_the_recording_and_keeps_what_is_there() {
    // Large enough for the beginning; filled by sound, or by a silent world's tokens and video.
    for (world, size) in [(sounding_world(), "600k"), (world(), "160k")] {
        let Some(disk) = SmallDisk::mount(size) else {
            use std::io::Write;
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: the full disk's test: nothing can be mounted here"
            );
            return;
        };
        let path = disk.0.path().join("session");
        let options = options(4_000, random(), Some(&path));
        let summary = play_headless(world.clone(), options, &mut |_| (), &GO_ON).unwrap();
        assert_eq!(summary.frames, 4_000, "play goes on");
        let text = summary.recording_failure.unwrap();
        assert!(
            text.contains("session") && text.contains("No space left"),
            "{text}"
        );
        let session = Session::open(&path).unwrap();
        assert!(!session.complete && session.frames() > 0 && session.frames() < 4_000);
        let found = verify(&session, world, &mut |_| (), &GO_ON).unwrap();
        assert_eq!(
            (found.difference, found.frames),
            (None, session.frames() as u64)
        );
        // Video and sound are whole as far as they go.
        let mut video = media::open(&path.join("video.mp4")).unwrap();
        let mut pictures = 0;
        while video.next_picture().unwrap().is_some() {
            pictures += 1;
        }
        assert!(pictures > 0);
        media::read_wav(&path.join("audio.wav")).unwrap();
    }
}
