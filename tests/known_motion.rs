//! One meaning of an action from end to end: the change from frame i to frame i + 1. A video whose motion is known becomes a world;
//! codes played in it as orders and recorded must stand, in the dataset made of the recording, at the very changes that they caused.

use crate::common::{djinn, succeed};
use media::{Picture, write_png};
use nn::quality::normalised_mutual_information;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use trainer::dataset::{Dataset, Episode, Split};

const SIDE: usize = 16;
/// Pixels that the view moves by.
const STRIDE: i32 = 3;
const EPISODES: usize = 12;
const FRAMES: usize = 60;
const SESSIONS: usize = 5;
const PLAYED: usize = 40;

/// A world small enough to be trained while a test waits, and good enough to move as it is told.
const CONFIG: &str = r#"(
    tokenizer: (
        model: (patch: 4, width: 32, heads: 2, encoder_layers: 1, decoder_layers: 1),
        batch: 32, learning_rate: 3e-3, warmup_steps: 20, evaluations: 1, budget: Some(Steps(500)),
    ),
    latent_actions: (
        model: (patch: 4, width: 32, heads: 2, encoder_layers: 1, predictor_layers: 1, action_width: 4, codes: 3),
        batch: 16, learning_rate: 2e-3, evaluations: 7, budget: Some(Steps(700)), codes_fraction: 0.5,
    ),
    dynamics: (
        model: (width: 32, heads: 2, layers: 2, window: 3),
        batch: 8, clip_frames: 4, learning_rate: 3e-3, warmup_steps: 20, evaluations: 1, budget: Some(Steps(500)),
    ),
    evaluation: (frames: 32, changes: 64, clips: 4, wish_starts: 1, drift_rollouts: 0),
)"#;

/// Draws numbers below `below`, the same ones each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.roll(1 << 20) as f32 / (1 << 20) as f32
    }
}

/// Folders of pictures of smooth landscapes, seen through a window that a die moves; and what the die said, beside them.
fn film(folder: &Path) -> Vec<PathBuf> {
    let mut dice = Dice(5);
    (0..EPISODES)
        .map(|episode| {
            let path = folder.join(format!("film-{episode:02}"));
            std::fs::create_dir(&path).unwrap();
            let waves: Vec<[f32; 4]> = (0..4)
                .map(|_| {
                    [
                        dice.between(0.2, 0.7),
                        dice.between(-0.4, 0.4),
                        dice.between(0.0, 6.3),
                        dice.between(0.0, 3.0),
                    ]
                })
                .collect();
            let (mut place, mut actions) = (0, String::new());
            for number in 0..FRAMES {
                let picture = landscape(&waves, place);
                write_png(&path.join(format!("{number:04}.png")), &picture).unwrap();
                let step = dice.roll(3) as i32 - 1;
                writeln!(
                    actions,
                    "\"{}\"",
                    ["left", "stay", "right"][(step + 1) as usize]
                )
                .unwrap();
                place += STRIDE * step;
            }
            std::fs::write(path.with_extension("actions.jsonl"), actions).unwrap();
            path
        })
        .collect()
}

fn landscape(waves: &[[f32; 4]], place: i32) -> Picture {
    let mut rgb = Vec::new();
    for y in 0..SIDE {
        for x in 0..SIDE {
            for colour in 0..3 {
                let wave = |[across, down, phase, tint]: &[f32; 4]| {
                    let x = (x as i32 + place) as f32;
                    (across * x + down * y as f32 + phase + tint * colour as f32).sin()
                };
                rgb.push((128.0 + 30.0 * waves.iter().map(wave).sum::<f32>()) as u8);
            }
        }
    }
    Picture::new(SIDE as u32, SIDE as u32, rgb).unwrap()
}

/// By how many strides the view has moved between two frames, plus one: where the second one's pixels are found in the first.
fn motion(before: &[u8], after: &[u8]) -> u32 {
    let error = |step: i32| {
        let (mut sum, mut count) = (0u64, 0u64);
        for y in 0..SIDE {
            for x in 0..SIDE as i32 {
                let from = x + STRIDE * step;
                if !(0..SIDE as i32).contains(&from) {
                    continue;
                }
                for colour in 0..3 {
                    let at = |x: i32| (y * SIDE + x as usize) * 3 + colour;
                    sum += u64::from(after[at(x)].abs_diff(before[at(from)])).pow(2);
                    count += 1;
                }
            }
        }
        sum as f64 / count as f64
    };
    let best = (-1..=1).min_by(|&a, &b| error(a).total_cmp(&error(b)));
    (best.unwrap() + 1) as u32
}

fn episodes(dataset: &Dataset) -> Vec<Episode> {
    let of = |split| dataset.episodes(split).iter().copied();
    of(Split::Train).chain(of(Split::Validation)).collect()
}

/// What true actions tell about the motion that is seen `shift` changes later.
fn agreement(dataset: &Dataset, shift: i64) -> f64 {
    let (mut actions, mut motions) = (Vec::new(), Vec::new());
    for episode in episodes(dataset) {
        let truth = dataset.true_actions(&episode).unwrap();
        for frame in 0..episode.length {
            let Some(Some(action)) = truth.after(frame) else {
                continue;
            };
            let at = frame as i64 + shift;
            if (0..episode.length as i64 - 1).contains(&at) {
                let at = at as usize;
                let frame = |number| dataset.frames(&episode, number..number + 1);
                actions.push(u32::from(action));
                motions.push(motion(frame(at), frame(at + 1)));
            }
        }
    }
    assert!(actions.len() > 100, "{} changes", actions.len());
    normalised_mutual_information(&actions, &motions)
}

/// True actions belong to the change that they are written at, and to neither of its neighbours.
fn assert_aligned(dataset: &Dataset, least: f64) {
    let [before, here, after] = [-1, 0, 1].map(|shift| agreement(dataset, shift));
    assert!(
        here > least && here > 3.0 * before && here > 3.0 * after,
        "one change early {before:.3}, in place {here:.3}, one late {after:.3}"
    );
}

fn ingest(inputs: &[PathBuf], out: &Path) -> Dataset {
    succeed(
        djinn()
            .args(["ingest", "--size", "16", "--fps", "10", "--no-scene-cuts"])
            .args(inputs)
            .arg("--out")
            .arg(out),
    );
    Dataset::open(out).unwrap()
}

#[test]
fn recorded_codes_stand_at_the_changes_that_they_caused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let films = film(folder.path());
    assert_aligned(&ingest(&films, &path("films.dataset")), 0.9);
    std::fs::write(path("train.ron"), CONFIG).unwrap();
    let world = path("world");
    succeed(
        djinn()
            .arg("train")
            .arg(path("films.dataset"))
            .arg("--config")
            .arg(path("train.ron"))
            .arg("--out")
            .arg(&world),
    );
    let mut dice = Dice(11);
    let sessions: Vec<PathBuf> = (0..SESSIONS)
        .map(|number| {
            let (orders, session) = (path("orders.txt"), path(&format!("session-{number}")));
            let text: String = (0..PLAYED).map(|_| format!("{}\n", dice.roll(3))).collect();
            std::fs::write(&orders, text).unwrap();
            succeed(
                djinn()
                    .arg("play")
                    .arg(&world)
                    .args(["--headless", "--orders", "--seed", &number.to_string()])
                    .args(["--frames", &PLAYED.to_string()])
                    .arg("--actions")
                    .arg(&orders)
                    .arg("--record")
                    .arg(&session),
            );
            session
        })
        .collect();
    assert_aligned(&ingest(&sessions, &path("played.dataset")), 0.3);
}
