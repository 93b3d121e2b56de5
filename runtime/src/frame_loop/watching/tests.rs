use super::super::LoopOptions;
use super::*;
use crate::play::{Play, Recording};
use crate::player::Player;
use crate::{ActionSource, Session, verify};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use worlds::{Frame, RolloutSettings, World};

const FRAMES: usize = 60;

fn world() -> Arc<World> {
    static WORLD: OnceLock<Arc<World>> = OnceLock::new();
    WORLD
        .get_or_init(|| Arc::new(worlds::tiny_world(1).unwrap()))
        .clone()
}

/// Plays and records; returns the session and its frames, the start first.
fn recorded(folder: &Path) -> (Arc<Session>, Vec<Arc<Frame>>) {
    let path = folder.join("recorded");
    let recording = Recording {
        folder: path.clone(),
        world_name: "tiny".into(),
    };
    let settings = RolloutSettings::of(&world().manifest, 5);
    let prompt = world().prompts[..1].to_vec();
    let play = Play::start(world(), prompt, settings, Some(recording)).unwrap();
    let player = Player::Source(ActionSource::random(3, &world().manifest));
    let mut frames = FrameLoop::new(play, player, LoopOptions::default()).unwrap();
    let mut seen = vec![frames.view().frame];
    for _ in 0..FRAMES {
        frames.tick().unwrap();
        seen.push(frames.view().frame);
    }
    frames.finish(false);
    (Arc::new(Session::open(&path).unwrap()), seen)
}

fn watching(session: &Arc<Session>, player: Player) -> FrameLoop {
    let playback = Playback::open(session.clone(), world()).unwrap();
    let prompt = world().prompts[1..2].to_vec();
    let play = Play::take_over(playback.rollout(), prompt).unwrap();
    let frames = FrameLoop::new(play, player, LoopOptions::default()).unwrap();
    frames.watching(playback).unwrap()
}

fn autoplay() -> Player {
    Player::Source(ActionSource::Autoplay)
}

fn position(frames: &FrameLoop) -> usize {
    frames.view().replay.unwrap().position
}

#[test]
fn ticks_show_what_was_recorded_with_pause_step_and_rewind() {
    let folder = tempfile::tempdir().unwrap();
    let (session, seen) = recorded(folder.path());
    let mut frames = watching(&session, autoplay());
    assert_eq!(frames.view().frame, seen[0]);
    for (line, expected) in session.lines.iter().zip(&seen[1..21]) {
        assert_eq!(frames.tick().unwrap(), Tick::Moved);
        let view = frames.view();
        assert_eq!((&view.frame, view.number), (expected, line.frame));
        assert_eq!(
            (view.code, view.wish.codes()),
            (Some(line.code), &line.wish[..])
        );
    }
    frames.command(Command::Pause(true));
    assert_eq!(frames.tick().unwrap(), Tick::Still);
    frames.command(Command::Step);
    frames.tick().unwrap();
    assert_eq!(frames.tick().unwrap(), Tick::Still);
    assert_eq!(frames.view().frame, seen[21]);
    frames.command(Command::Rewind(true));
    for expected in seen[..21].iter().rev() {
        frames.tick().unwrap();
        assert_eq!(frames.view().frame, *expected);
    }
    frames.tick().unwrap();
    assert_eq!(position(&frames), 0);
    frames.command(Command::Rewind(false));
    frames.command(Command::Speed(2.0));
    assert_eq!(frames.view().speed, 2.0);
    assert_eq!(frames.view().replay.unwrap().last, FRAMES);
}

#[test]
fn a_seek_shows_the_frame_that_was_recorded_there() {
    let folder = tempfile::tempdir().unwrap();
    let (session, seen) = recorded(folder.path());
    let mut frames = watching(&session, autoplay());
    frames.command(Command::Pause(true));
    for sought in [33, 60, 0, 59, 1, 34, 999] {
        frames.command(Command::Seek(sought));
        while !frames.is_still() {
            frames.tick().unwrap();
        }
        assert_eq!(frames.view().frame, seen[sought.min(FRAMES)], "{sought}");
    }
    // At its end it stands still, and going on begins anew.
    frames.command(Command::Pause(true));
    frames.command(Command::Pause(false));
    assert_eq!(position(&frames), 0);
    frames.command(Command::Seek(FRAMES));
    frames.tick().unwrap();
    assert!(frames.is_still() && frames.view().message.text.contains("end"));
}

#[test]
fn who_takes_over_and_wishes_the_same_sees_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (session, seen) = recorded(folder.path());
    for from in [0, 25, 59] {
        let wishes = session.lines[from..].iter();
        let wishes: Vec<Wish> = wishes
            .map(|line| line.wish.iter().copied().collect())
            .collect();
        let player = Player::Source(ActionSource::Wishes(wishes.into_iter()));
        let mut frames = watching(&session, player);
        frames.command(Command::Seek(from));
        frames.command(Command::TakeOver);
        assert!(frames.view().replay.is_none());
        for expected in &seen[from + 1..] {
            frames.tick().unwrap();
            assert_eq!(frames.view().frame, *expected, "{from}");
        }
        assert_eq!(frames.tick().unwrap(), Tick::Ended);
    }
}

#[test]
fn what_is_played_after_taking_over_is_recorded_and_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let (session, seen) = recorded(folder.path());
    let branch = Recording {
        folder: folder.path().join("branch"),
        world_name: "tiny".into(),
    };
    let mut frames = watching(&session, autoplay());
    frames.command(Command::Record(Some(branch.clone())));
    assert!(frames.view().recording.is_none() && !branch.folder.exists());
    assert!(frames.view().message.text.contains("take over"));
    frames.command(Command::Seek(25));
    frames.command(Command::Pause(true));
    frames.command(Command::TakeOver);
    assert!(!frames.view().paused);
    frames.command(Command::Record(Some(branch.clone())));
    for _ in 0..20 {
        frames.tick().unwrap();
    }
    assert_ne!(frames.view().frame, seen[45]);
    frames.command(Command::Seek(3));
    assert_eq!(frames.view().number, session.lines[44].frame);
    // It starts again from the recording's own prompt.
    frames.command(Command::Restart(NextSeed::Same));
    assert_eq!(*frames.view().frame, world().prompts[0]);
    frames.tick().unwrap();
    frames.finish(false);
    let played = Session::open(&branch.folder).unwrap();
    let found = verify(&played, world(), &mut |_| (), &AtomicBool::new(false)).unwrap();
    assert!(found.is_whole() && found.frames == 21, "{found:?}");
}

#[test]
fn what_was_pressed_while_watching_is_no_wish() {
    let folder = tempfile::tempdir().unwrap();
    let (session, _) = recorded(folder.path());
    let mut taps = vec![[ActionCode(1)].into_iter().collect(), Wish::none()].into_iter();
    let player = Player::Person(Box::new(move || {
        (taps.next().unwrap_or_default(), "keyboard")
    }));
    let mut frames = watching(&session, player);
    frames.tick().unwrap();
    frames.command(Command::TakeOver);
    frames.tick().unwrap();
    let idle = world().manifest.idle;
    assert_eq!(frames.view().wish.codes(), idle.as_slice());
}
