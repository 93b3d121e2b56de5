//! A long play with everything that players do in it, at random.

use crate::{
    ActionSource, Command, FrameLoop, LoopOptions, NextSeed, Play, Player, Recording, Session,
    Slots, Tick, verify,
};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use worlds::{RolloutSettings, Strength};

const FRAMES: u64 = 20_000;
const MEMORY: usize = 3 << 20;

/// Numbers at random from 0 to below `below`.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        // Knuth's generator; its upper bits are random enough for a test.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

#[test]
fn twenty_thousand_frames_of_everything_stay_within_memory_and_verify() {
    let world = Arc::new(worlds::tiny_world(1).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let settings = RolloutSettings::of(&world.manifest, 1);
    let play = Play::start(world.clone(), world.prompts[..1].to_vec(), settings, None);
    let player = Player::Source(ActionSource::random(1, &world.manifest));
    let options = LoopOptions {
        slots: Some(Slots::new(folder.path().join("states"))),
        rewind_memory: MEMORY,
        ..LoopOptions::default()
    };
    let mut frames = FrameLoop::new(play.unwrap(), player, options).unwrap();
    let mut dice = Dice(1);
    let mut recordings = 0;
    let mut rewinding = 0;
    let mut largest = 0;
    while frames.play().frames() < FRAMES {
        match dice.roll(1000) {
            0..6 => {
                rewinding = 1 + dice.roll(150);
                frames.command(Command::Rewind(true));
            }
            6..8 => frames.command(Command::Save(dice.roll(3) as u8)),
            8..10 => frames.command(Command::Load(dice.roll(3) as u8)),
            10 => frames.command(Command::Restart(match dice.roll(2) {
                0 => NextSeed::Same,
                _ => NextSeed::New,
            })),
            11 => {
                let prompt = world.prompts[dice.roll(3) as usize].clone();
                frames.command(Command::Prompt(vec![prompt]));
            }
            12 => {
                let mut settings = frames.view().settings;
                settings.sampler.steps = 1 + dice.roll(4) as usize;
                settings.sampler.temperature = dice.roll(20) as f32 / 10.0;
                settings.strength = match dice.roll(4) {
                    0 => Strength::Order,
                    bonus => Strength::Wish(bonus as f32),
                };
                frames.command(Command::Change(settings));
            }
            // Videos take most of the time, so only some of the play is recorded.
            13 if frames.play().recording().is_some() => frames.command(Command::Record(None)),
            17..22 if frames.play().frames() / 2500 >= recordings => {
                recordings += 1;
                frames.command(Command::Record(Some(Recording {
                    folder: folder.path().join(format!("session-{recordings}")),
                    world_name: "tiny".into(),
                })));
            }
            _ => {}
        }
        assert_eq!(frames.tick().unwrap(), Tick::Moved);
        if rewinding > 0 {
            rewinding -= 1;
            if rewinding == 0 {
                frames.command(Command::Rewind(false));
            }
        }
        largest = largest.max(frames.view().past_bytes);
    }
    assert!(largest <= MEMORY, "{largest} bytes");
    assert!(largest > MEMORY / 2, "the limit was never near: {largest}");
    let summary = frames.finish(false);
    assert_eq!((summary.frames, summary.recording_failure), (FRAMES, None));
    assert!(summary.sessions.len() >= 4, "{:?}", summary.sessions);
    let mut verified = 0;
    let mut events = 0;
    for folder in &summary.sessions {
        let session = Session::open(folder).unwrap();
        let found = verify(
            &session,
            world.clone(),
            &mut |_| (),
            &AtomicBool::new(false),
        );
        let found = found.unwrap();
        assert!(found.difference.is_none() && found.is_whole(), "{found:?}");
        verified += found.frames;
        events += session.events.len();
    }
    assert!(verified > 3000 && events > 50, "{verified} {events}");
}
