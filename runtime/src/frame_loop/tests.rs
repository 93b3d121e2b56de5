use super::*;
use crate::{ActionSource, Session, verify};
use proptest::prelude::*;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock};
use worlds::{Strength, World};

fn world() -> Arc<World> {
    static WORLD: OnceLock<Arc<World>> = OnceLock::new();
    WORLD
        .get_or_init(|| Arc::new(worlds::tiny_world(1).unwrap()))
        .clone()
}

/// A person's hands: what is held, read for each frame.
#[derive(Clone, Default)]
struct Hands(Arc<Mutex<Wish>>);

impl Hands {
    fn hold(&self, codes: &[u16]) {
        *self.0.lock().unwrap() = codes.iter().map(|&code| ActionCode(code)).collect();
    }

    fn player(&self) -> Player {
        let hands = self.clone();
        Player::Person(Box::new(move || {
            (hands.0.lock().unwrap().clone(), "keyboard")
        }))
    }
}

fn frames_of(player: Player, options: LoopOptions) -> FrameLoop {
    let mut settings = RolloutSettings::of(&world().manifest, 5);
    settings.strength = Strength::Order;
    let play = Play::start(world(), world().prompts[..1].to_vec(), settings, None);
    FrameLoop::new(play.unwrap(), player, options).unwrap()
}

fn recording(folder: &Path) -> Recording {
    Recording {
        folder: folder.to_owned(),
        world_name: "tiny".into(),
    }
}

fn run(frames: &mut FrameLoop, ticks: usize) -> Vec<Arc<Frame>> {
    (0..ticks)
        .map(|_| {
            frames.tick().unwrap();
            frames.view().frame
        })
        .collect()
}

fn assert_verifies(folder: &Path) -> Session {
    let session = Session::open(folder).unwrap();
    let found = verify(&session, world(), &mut |_| (), &AtomicBool::new(false)).unwrap();
    assert!(found.difference.is_none() && found.is_whole(), "{found:?}");
    session
}

#[test]
fn an_order_held_when_a_frame_is_made_is_that_frames_code() {
    let hands = Hands::default();
    let mut frames = frames_of(hands.player(), LoopOptions::default());
    for code in [1, 0, 2, 2, 1] {
        hands.hold(&[code]);
        frames.tick().unwrap();
        assert_eq!(frames.view().code, Some(ActionCode(code)));
    }
    // Nothing held is what the world calls idle.
    hands.hold(&[]);
    frames.tick().unwrap();
    assert_eq!(frames.view().code, world().manifest.idle);
}

#[test]
fn pause_holds_still_and_a_step_is_one_frame() {
    let mut frames = frames_of(Hands::default().player(), LoopOptions::default());
    run(&mut frames, 3);
    frames.command(Command::Pause(true));
    assert_eq!(frames.tick().unwrap(), Tick::Still);
    frames.command(Command::Step);
    assert_eq!(frames.tick().unwrap(), Tick::Moved);
    assert_eq!(frames.tick().unwrap(), Tick::Still);
    assert_eq!((frames.view().number, frames.view().paused), (4, true));
    // A paused world can be gone back in, and stays paused.
    frames.command(Command::Rewind(true));
    run(&mut frames, 2);
    frames.command(Command::Rewind(false));
    assert_eq!(frames.tick().unwrap(), Tick::Still);
    assert_eq!(frames.view().number, 2);
    frames.command(Command::Pause(false));
    assert_eq!(frames.tick().unwrap(), Tick::Moved);
}

#[test]
fn the_same_inputs_after_going_back_give_the_same_frames() {
    let hands = Hands::default();
    let mut frames = frames_of(hands.player(), LoopOptions::default());
    let inputs = |n: usize| [(n / 3 % 4) as u16];
    let mut played = Vec::new();
    for number in 1..40 {
        hands.hold(&inputs(number));
        played.extend(run(&mut frames, 1));
    }
    frames.command(Command::Rewind(true));
    let back = run(&mut frames, 25);
    let expected: Vec<_> = played[13..38].iter().rev().cloned().collect();
    assert_eq!(back, expected);
    frames.command(Command::Rewind(false));
    for number in 15..40 {
        hands.hold(&inputs(number));
        assert_eq!(run(&mut frames, 1)[0], played[number - 1], "{number}");
    }
}

#[test]
fn restarting_with_the_same_seed_repeats_and_with_a_new_one_does_not() {
    let autoplay = || Player::Source(ActionSource::Autoplay);
    let mut frames = frames_of(autoplay(), LoopOptions::default());
    let first = run(&mut frames, 10);
    frames.command(Command::Restart(NextSeed::Same));
    assert_eq!((frames.view().number, frames.view().past), (0, 0));
    assert_eq!(*frames.view().frame, world().prompts[0]);
    assert_eq!(run(&mut frames, 10), first);
    frames.command(Command::Restart(NextSeed::New));
    assert_ne!(run(&mut frames, 10), first);
    frames.command(Command::Prompt(vec![world().prompts[1].clone()]));
    assert_eq!(*frames.view().frame, world().prompts[1]);
    frames.command(Command::Restart(NextSeed::Of(5)));
    assert_eq!(*frames.view().frame, world().prompts[1]);
    assert_eq!(frames.view().settings.seed, 5);
    let folder = Command::Prompt(Vec::new());
    frames.command(folder);
    assert!(frames.view().message.text.contains("prompt of 0 frames"));
}

#[test]
fn states_are_saved_and_loaded_and_what_cannot_be_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let options = LoopOptions {
        slots: Some(Slots::new(folder.path().to_owned())),
        ..LoopOptions::default()
    };
    let mut frames = frames_of(Player::Source(ActionSource::Autoplay), options);
    run(&mut frames, 7);
    frames.command(Command::Load(1));
    let message = frames.view().message;
    assert_eq!(
        (message.number, message.text.as_str()),
        (1, "slot 1 is empty")
    );
    assert!(message.warning);
    frames.command(Command::Save(1));
    assert!(!frames.view().message.warning);
    let after = run(&mut frames, 5);
    frames.command(Command::Load(1));
    assert_eq!(frames.view().number, 7);
    assert_eq!(run(&mut frames, 5), after);
    std::fs::write(folder.path().join("slot-2.state"), "no state").unwrap();
    frames.command(Command::Load(2));
    assert!(frames.view().message.text.contains("state is refused"));
    assert_eq!(frames.view().number, 12);
}

#[test]
fn nobody_playing_lets_the_world_play_itself_until_a_key_is_pressed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    // Ten seconds are 15 frames at a tenth of the world's rate.
    let options = LoopOptions {
        speed: 0.1,
        attract_seconds: 10.0,
        ..LoopOptions::default()
    };
    let hands = Hands::default();
    let mut frames = frames_of(hands.player(), options);
    frames.command(Command::Record(Some(recording(&path))));
    run(&mut frames, 15);
    assert!(frames.view().attract);
    run(&mut frames, 5);
    hands.hold(&[1]);
    run(&mut frames, 1);
    assert!(!frames.view().attract);
    hands.hold(&[]);
    run(&mut frames, 3);
    frames.finish(false);
    let session = assert_verifies(&path);
    let devices: Vec<&str> = session.lines.iter().map(|line| &line.device[..]).collect();
    assert_eq!(devices[..15], ["keyboard"; 15]);
    assert_eq!(devices[15..20], ["attract"; 5]);
    assert_eq!(devices[20..], ["keyboard"; 4]);
    assert!(session.lines[15].wish.is_empty());
}

#[test]
fn steps_give_way_on_a_slow_machine_and_the_session_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let options = LoopOptions {
        adaptive_steps: true,
        slots: Some(Slots::new(folder.path().join("states"))),
        ..LoopOptions::default()
    };
    let mut frames = frames_of(Player::Source(ActionSource::Autoplay), options);
    frames.command(Command::Record(Some(recording(&path))));
    // No machine makes a frame in a ten thousandth of a second.
    frames.command(Command::Speed(0.1));
    let mut settings = frames.view().settings;
    settings.sampler.steps = 4;
    frames.command(Command::Change(settings));
    for _ in 0..200 {
        frames.tick().unwrap();
        frames.adapt(Duration::from_secs(100)).unwrap();
    }
    assert_eq!(frames.view().settings.sampler.steps, 1);
    assert_eq!(frames.view().wanted_steps, 4);
    // What a busy moment had come to is not wanted when it is loaded again.
    frames.command(Command::Save(0));
    frames.command(Command::Load(0));
    assert_eq!(frames.view().wanted_steps, 4);
    frames.command(Command::AdaptiveSteps(false));
    assert_eq!(frames.view().settings.sampler.steps, 4);
    run(&mut frames, 2);
    frames.finish(false);
    let session = assert_verifies(&path);
    let settings = session.events.iter();
    let settings = settings.filter(|(_, event)| matches!(event, crate::Event::Settings { .. }));
    assert!(settings.count() >= 4);
}

#[test]
fn recording_begins_and_ends_in_the_middle_of_play() {
    let folder = tempfile::tempdir().unwrap();
    let mut frames = frames_of(
        Player::Source(ActionSource::Autoplay),
        LoopOptions::default(),
    );
    run(&mut frames, 12);
    for name in ["first", "second"] {
        frames.command(Command::Record(Some(recording(&folder.path().join(name)))));
        assert!(frames.view().recording.is_some());
        run(&mut frames, 9);
        frames.command(Command::Record(None));
        assert!(frames.view().recording.is_none());
        run(&mut frames, 3);
    }
    // The folder is taken.
    frames.command(Command::Record(Some(recording(
        &folder.path().join("first"),
    ))));
    assert!(frames.view().message.text.contains("not empty"));
    run(&mut frames, 1);
    let summary = frames.finish(false);
    assert_eq!(summary.sessions.len(), 2);
    for (name, first) in [("first", 13), ("second", 25)] {
        let session = assert_verifies(&folder.path().join(name));
        assert_eq!((session.frames(), session.lines[0].frame), (9, first));
        assert_eq!(session.codes().frames(), 10);
        let Some((_, crate::Event::End { frame_ms })) = session.events.last() else {
            panic!("{:?}", session.events);
        };
        assert_eq!(frame_ms.frames, 9);
    }
}

#[test]
fn going_back_to_before_the_recording_began_is_recorded_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut frames = frames_of(
        Player::Source(ActionSource::Autoplay),
        LoopOptions::default(),
    );
    run(&mut frames, 10);
    frames.command(Command::Record(Some(recording(&path))));
    run(&mut frames, 5);
    for back in [3, 9] {
        frames.command(Command::Rewind(true));
        run(&mut frames, back);
        frames.command(Command::Rewind(false));
        run(&mut frames, 4);
    }
    frames.finish(false);
    let session = assert_verifies(&path);
    let jumps: Vec<_> = session
        .events
        .iter()
        .filter_map(|(_, e)| e.jump())
        .collect();
    assert_eq!(jumps, [(10, 1), (12, 1), (7, 1)]);
}

#[test]
fn a_recorder_that_fails_stops_and_play_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut frames = frames_of(
        Player::Source(ActionSource::Autoplay),
        LoopOptions::default(),
    );
    frames.command(Command::Record(Some(recording(&path))));
    run(&mut frames, 6);
    frames.play.break_recorder();
    run(&mut frames, 6);
    let view = frames.view();
    assert!(view.recording.is_none());
    assert!(
        view.message.text.starts_with("recording stopped: "),
        "{view:?}"
    );
    assert_eq!(view.number, 12);
    let summary = frames.finish(false);
    assert!(summary.recording_failure.is_some());
    let session = Session::open(&path).unwrap();
    assert_eq!((session.frames(), session.complete), (6, false));
    let found = verify(&session, world(), &mut |_| (), &AtomicBool::new(false)).unwrap();
    assert_eq!((found.frames, found.difference), (6, None));
}

#[test]
fn a_recording_that_cannot_be_completed_is_told_of_at_once_and_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut frames = frames_of(
        Player::Source(ActionSource::Autoplay),
        LoopOptions::default(),
    );
    frames.command(Command::Record(Some(recording(&path))));
    run(&mut frames, 3);
    std::fs::remove_file(path.join("tokens.journal")).unwrap();
    frames.command(Command::Record(None));
    let view = frames.view();
    assert!(view.message.warning && view.recording.is_none());
    assert!(view.message.text.contains("tokens.journal"), "{view:?}");
    // Another one that succeeds does not make up for it.
    let second = folder.path().join("second");
    frames.command(Command::Record(Some(recording(&second))));
    run(&mut frames, 3);
    let summary = frames.finish(false);
    let failure = summary.recording_failure.unwrap();
    assert!(failure.contains("tokens.journal"), "{failure}");
    assert_verifies(&second);
}

#[test]
fn play_is_taken_over_from_any_frame_of_a_session() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut frames = frames_of(
        Player::Source(ActionSource::random(3, &world().manifest)),
        LoopOptions::default(),
    );
    run(&mut frames, 5);
    frames.command(Command::Record(Some(recording(&path))));
    run(&mut frames, 8);
    frames.command(Command::Rewind(true));
    run(&mut frames, 4);
    frames.command(Command::Rewind(false));
    let after = run(&mut frames, 8);
    frames.finish(false);
    let session = Session::open(&path).unwrap();
    let replayer = crate::Replayer::at(&session, world(), 11).unwrap();
    let mut play = Play::take_over(replayer.rollout(), world().prompts.clone()).unwrap();
    assert_eq!(play.frame().unwrap(), *after[3]);
    for (line, expected) in session.lines[12..].iter().zip(&after[4..]) {
        let wish = line.wish.iter().copied().collect();
        let step = play.advance(&Asked::Wish(wish), "keyboard").unwrap();
        assert_eq!((step.number, &step.frame), (line.frame, &**expected));
    }
    assert!(crate::Replayer::at(&session, world(), 16).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_is_commanded_is_recorded_and_verifies(commands in proptest::collection::vec((0u8..12, 1usize..6), 1..14)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let options = LoopOptions {
            slots: Some(Slots::new(folder.path().join("states"))),
            ..LoopOptions::default()
        };
        let mut frames = frames_of(Player::Source(ActionSource::random(2, &world().manifest)), options);
        run(&mut frames, 3);
        frames.command(Command::Record(Some(recording(&path))));
        for (command, ticks) in commands {
            let mut settings = frames.view().settings;
            settings.sampler.steps = ticks;
            frames.command(match command {
                0 => Command::Pause(true),
                1 => Command::Pause(false),
                2 => Command::Step,
                3..6 => Command::Rewind(true),
                6 => Command::Rewind(false),
                7 => Command::Restart(NextSeed::New),
                8 => Command::Save(0),
                9 => Command::Load(0),
                10 => Command::Prompt(world().prompts[..ticks.min(3)].to_vec()),
                _ => Command::Change(settings),
            });
            run(&mut frames, ticks);
        }
        frames.finish(true);
        let session = Session::open(&path).unwrap();
        let found = verify(&session, world(), &mut |_| (), &AtomicBool::new(false)).unwrap();
        prop_assert!(found.difference.is_none() && found.complete);
        prop_assert_eq!(found.frames, session.lines.len() as u64);
    }
}
