use super::*;
use crate::ActionSource;
use crate::frame_loop::{Command, FrameLoop, LoopOptions};
use crate::play::{NextSeed, Play, Recording};
use crate::player::Player;
use crate::replay::Replayer;
use crate::saved_state::Slots;
use proptest::prelude::*;
use std::sync::OnceLock;

fn world() -> Arc<World> {
    static WORLD: OnceLock<Arc<World>> = OnceLock::new();
    WORLD
        .get_or_init(|| Arc::new(worlds::tiny_world(1).unwrap()))
        .clone()
}

/// A session with every kind of jump in time, and the frames that were seen when it was played, the start first.
fn played() -> &'static (Arc<Session>, Vec<Frame>, tempfile::TempDir) {
    static PLAYED: OnceLock<(Arc<Session>, Vec<Frame>, tempfile::TempDir)> = OnceLock::new();
    PLAYED.get_or_init(play)
}

fn play() -> (Arc<Session>, Vec<Frame>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let settings = RolloutSettings::of(&world().manifest, 5);
    let prompt = world().prompts[..1].to_vec();
    let recording = Recording {
        folder: path.clone(),
        world_name: "tiny".into(),
    };
    let play = Play::start(world(), prompt, settings, Some(recording)).unwrap();
    let player = Player::Source(ActionSource::random(4, &world().manifest));
    let options = LoopOptions {
        slots: Some(Slots::new(folder.path().join("states"))),
        ..LoopOptions::default()
    };
    let mut frames = FrameLoop::new(play, player, options).unwrap();
    let mut seen = vec![Frame::clone(&frames.view().frame)];
    let mut run = |frames: &mut FrameLoop, ticks: usize| {
        for _ in 0..ticks {
            frames.tick().unwrap();
            seen.push(Frame::clone(&frames.view().frame));
        }
    };
    let back = |frames: &mut FrameLoop, ticks: usize| {
        frames.command(Command::Rewind(true));
        for _ in 0..ticks {
            frames.tick().unwrap();
        }
        frames.command(Command::Rewind(false));
    };
    run(&mut frames, 70);
    frames.command(Command::Save(1));
    run(&mut frames, 9);
    back(&mut frames, 41);
    run(&mut frames, 12);
    // Again and again, so that hardly any frame follows from the line before it.
    for _ in 0..20 {
        run(&mut frames, 2);
        back(&mut frames, 1);
    }
    let mut settings = frames.view().settings;
    settings.sampler.steps = 1;
    frames.command(Command::Change(settings));
    run(&mut frames, 5);
    frames.command(Command::Prompt(world().prompts[..2].to_vec()));
    run(&mut frames, 18);
    frames.command(Command::Restart(NextSeed::New));
    run(&mut frames, 3);
    frames.command(Command::Load(1));
    run(&mut frames, 25);
    frames.finish(false);
    (Arc::new(Session::open(&path).unwrap()), seen, folder)
}

fn at(playback: &mut Playback, position: usize) -> Frame {
    playback.seek(position).unwrap();
    assert!(playback.go_on(Duration::MAX).unwrap());
    assert_eq!(playback.position(), position);
    playback.frame().unwrap()
}

#[test]
fn from_its_start_to_its_end_it_is_what_was_seen() {
    let (session, seen, _) = played();
    let mut playback = Playback::open(session.clone(), world()).unwrap();
    assert_eq!(playback.last() + 1, seen.len());
    assert_eq!(playback.frame().unwrap(), seen[0]);
    for (position, frame) in seen.iter().enumerate() {
        assert_eq!(at(&mut playback, position), *frame, "{position}");
    }
    playback.seek(usize::MAX).unwrap();
    assert_eq!(playback.position(), playback.last());
}

#[test]
fn where_it_stands_is_where_a_replayer_stands() {
    let (session, ..) = played();
    let mut playback = Playback::open(session.clone(), world()).unwrap();
    for line in [0, 69, 80, 131, 138, 150, 159, 180] {
        at(&mut playback, line + 1);
        let replayer = Replayer::at(session, world(), line).unwrap();
        let (mine, other) = (playback.rollout(), replayer.rollout());
        assert_eq!(mine.settings(), other.settings(), "{line}");
        assert_eq!(
            (mine.frames(), mine.prior()),
            (other.frames(), other.prior())
        );
        assert_eq!(mine.frame().unwrap(), other.frame().unwrap(), "{line}");
    }
}

#[test]
fn what_was_visited_is_near_from_everywhere() {
    let (session, ..) = played();
    let mut playback = Playback::open(session.clone(), world()).unwrap();
    for position in 0..=playback.last() {
        at(&mut playback, position);
    }
    for position in [10, 150, 66, 131, 3, 90, 40] {
        playback.seek(position).unwrap();
        assert!(playback.way.len() < SPACING as usize + 2, "{position}");
        // Going back from there is a matter of kept snapshots but for one time in `NEAR`.
        playback.go_on(Duration::MAX).unwrap();
    }
    assert!(playback.snapshots.len() < 2 * NEAR + 2 + playback.last() / 4);
}

#[test]
fn it_knows_the_prompt_that_led_to_it() {
    let (session, seen, _) = played();
    let mut playback = Playback::open(session.clone(), world()).unwrap();
    let mut prompt = |position| {
        at(&mut playback, position);
        playback.prompt().unwrap()
    };
    assert_eq!(prompt(0), Some(world().prompts[..1].to_vec()));
    assert_eq!(prompt(100), Some(world().prompts[..1].to_vec()));
    assert_eq!(prompt(seen.len() - 40), Some(world().prompts[..2].to_vec()));
    // A state says nothing of prompts.
    assert_eq!(prompt(seen.len() - 1), None);
}

#[test]
fn a_session_of_another_world_is_refused() {
    let (session, ..) = played();
    let other = Arc::new(worlds::tiny_world(2).unwrap());
    assert!(Playback::open(session.clone(), other).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_frame_is_sought_from_any_other(positions in prop::collection::vec(0usize..400, 1..12), patient in any::<bool>()) {
        let (session, seen, _) = played();
        let mut playback = Playback::open(session.clone(), world()).unwrap();
        for position in positions {
            let position = position.min(playback.last());
            playback.seek(position).unwrap();
            // Sometimes it is sent elsewhere on its way.
            if patient {
                while !playback.go_on(Duration::ZERO).unwrap() {}
                prop_assert_eq!(&playback.frame().unwrap(), &seen[position]);
            } else {
                playback.go_on(Duration::ZERO).unwrap();
            }
        }
        while !playback.go_on(Duration::ZERO).unwrap() {}
        prop_assert_eq!(&playback.frame().unwrap(), &seen[playback.position()]);
    }
}
