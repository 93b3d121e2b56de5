//! What each action code does, measured by playing the world or seen in video, and the names and bindings that follow from it.

use crate::error::Result;
use crate::motion::{Motion, motion_between};
use crate::{Action, Frame, Rollout, RolloutSettings, Wish, World};
use dynamics::Strength;
use nn::ActionCode;
use std::sync::Arc;

/// A direction counts when it has at least this share of the larger one.
const DIAGONAL: f32 = 0.5;
/// So large a share of the starting frames must agree on a direction.
const AGREEMENT: f32 = 0.6;
/// A view that moves sideways by so many pixels a frame of 64 turns, whatever it does besides.
const TURN: f32 = 1.5;

/// Every second starting frame is what a prompt has become after this many frames of the world's own play: prompts are calm moments, often beside a
/// wall or on the ground, where not every code can do anything.
const WARM_UP: usize = 20;

/// How the codes are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectOptions {
    /// Starting frames.
    pub starts: usize,
    /// Frames for which each code is held.
    pub frames: usize,
}

impl Default for EffectOptions {
    fn default() -> Self {
        Self {
            starts: 6,
            frames: 8,
        }
    }
}

/// What a code does while it is held.
#[derive(Clone, Debug)]
pub struct CodeEffect {
    /// The code.
    pub code: ActionCode,
    /// The mean motion of a frame, from each starting frame.
    pub motions: Vec<Motion>,
    /// The pictures, from each starting frame, which comes first: they loop well.
    pub pictures: Vec<Vec<Frame>>,
}

impl CodeEffect {
    /// The mean motion over all starting frames.
    pub fn motion(&self) -> Motion {
        Motion::mean(&self.motions)
    }

    /// The motions from those starting frames from which the code moves at all, if they are half of all or more: a wall or the ground may stop
    /// it from the others. Else all motions.
    fn typical(&self, scale: f32) -> Vec<Motion> {
        let moves = |motion: &&Motion| {
            motion.extent() >= Motion::STILL * scale
                || motion.approach.abs() >= Motion::APPROACH * scale
        };
        let moving: Vec<Motion> = self.motions.iter().filter(moves).copied().collect();
        match moving.len() * 2 >= self.motions.len() {
            true => moving,
            false => self.motions.clone(),
        }
    }
}

/// Holds every code of a world as an order, from several starting frames, and measures how the pictures move. `progress` hears of each
/// rollout that is done, and stops the work by `false`; the codes that are complete by then are returned.
///
/// # Errors
/// When the world cannot be run.
pub fn measure_effects(
    world: &Arc<World>,
    options: EffectOptions,
    progress: &mut dyn FnMut() -> bool,
) -> Result<Vec<CodeEffect>> {
    let mut settings = RolloutSettings::of(&world.manifest, 1);
    settings.strength = Strength::Order;
    // Every code from the same starting points: what differs is the code.
    let prompts = world.prompts.iter().cycle().enumerate();
    let mut rollouts = Vec::new();
    for (number, prompt) in prompts.take(options.starts.max(1)) {
        let prompt = std::slice::from_ref(prompt);
        let mut rollout = Rollout::start(world.clone(), prompt, settings)?;
        for _ in 0..number % 2 * WARM_UP {
            rollout.step(&Wish::none())?;
        }
        rollouts.push((rollout.snapshot(), rollout));
    }
    let mut effects = Vec::new();
    for code in
        (0..world.manifest.codes()).filter_map(|code| u16::try_from(code).ok().map(ActionCode))
    {
        let mut effect = CodeEffect {
            code,
            motions: Vec::new(),
            pictures: Vec::new(),
        };
        for (start, rollout) in &mut rollouts {
            rollout.restore(start);
            let mut pictures = vec![rollout.frame()?];
            for _ in 0..options.frames.max(1) {
                pictures.push(rollout.step_with_code(code)?.frame);
            }
            let motions: Vec<Motion> = pictures
                .windows(2)
                .map(|pair| motion_between(&pair[0], &pair[1]))
                .collect();
            effect.motions.push(Motion::mean(&motions));
            effect.pictures.push(pictures);
            if !progress() {
                return Ok(effects);
            }
        }
        effects.push(effect);
    }
    Ok(effects)
}

/// What is proposed for a world's action codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Names and bindings: entry `k` is for code `k`.
    pub actions: Vec<Action>,
    /// The code of doing nothing, where there is one.
    pub idle: Option<ActionCode>,
}

/// A kind of motion, as far as it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Still,
    Right,
    Left,
    Up,
    Down,
    UpRight,
    UpLeft,
    DownRight,
    DownLeft,
    Forward,
    ForwardLeft,
    ForwardRight,
    Back,
    TurnLeft,
    TurnRight,
    /// The starting frames do not agree.
    Unclear,
}

/// Names and bindings for codes that move as measured, in frames of this width. A code on whose direction the starting frames do not agree is called by
/// its number and bound to nothing but the number key that every code has.
pub fn propose(effects: &[CodeEffect], width: usize) -> Proposal {
    let scale = width as f32 / 64.0;
    let drift = drift(effects);
    let over = |motion: &Motion| {
        let total = motion.total();
        (total.0 - drift.0, total.1 - drift.1)
    };
    let still = Motion::STILL * scale;
    let typical: Vec<Vec<Motion>> = effects.iter().map(|effect| effect.typical(scale)).collect();
    let means: Vec<Motion> = typical
        .iter()
        .map(|motions| Motion::mean(motions))
        .collect();
    // Judged by the view alone: the ground that comes nearer moves over the background, as a sprite does.
    let walks = |mean: &Motion| {
        mean.approach.abs() >= Motion::APPROACH * scale && mean.view.1.abs() < TURN * scale
    };
    let turns = |mean: &Motion| mean.view.0.abs() >= TURN * scale;
    // Sideways motion of the whole view is a turn where other codes walk into the picture.
    let first_person = means.iter().any(|mean| walks(mean) && !turns(mean));
    let kinds = typical.iter().zip(&means).map(|(motions, mean)| {
        if first_person && walks(mean) {
            let (ahead, right) = (mean.approach > 0.0, mean.view.0 > 0.0);
            return match (turns(mean), ahead, right) {
                (false, true, _) => Kind::Forward,
                (false, false, _) => Kind::Back,
                (true, true, true) => Kind::ForwardRight,
                (true, true, false) => Kind::ForwardLeft,
                (true, false, true) => Kind::TurnRight,
                (true, false, false) => Kind::TurnLeft,
            };
        }
        let kind = direction(over(mean), still);
        let agreeing = motions
            .iter()
            .filter(|motion| agree(kind, over(motion), still))
            .count();
        match kind {
            _ if (agreeing as f32) < AGREEMENT * motions.len() as f32 => Kind::Unclear,
            Kind::Right if first_person => Kind::TurnRight,
            Kind::Left if first_person => Kind::TurnLeft,
            kind => kind,
        }
    });
    let kinds: Vec<Kind> = kinds.collect();
    let speed = |mean: &Motion| {
        let (x, y) = over(mean);
        x.hypot(y)
    };
    let speeds: Vec<f32> = means.iter().map(speed).collect();
    of_kinds(&kinds, &speeds)
}

fn of_kinds(kinds: &[Kind], speeds: &[f32]) -> Proposal {
    let plain_up = kinds.contains(&Kind::Up);
    let plain_down = kinds.contains(&Kind::Down);
    let action = |(code, kind): (usize, &Kind)| {
        // Of several codes that move alike, the slower comes first.
        let rank = (0..kinds.len())
            .filter(|&other| kinds[other] == *kind && (speeds[other], other) < (speeds[code], code))
            .count();
        let name = match (kind, rank) {
            (Kind::Unclear, _) => format!("code {code}"),
            (kind, 0) => word(*kind).to_owned(),
            (kind, rank) => format!("{} {}", word(*kind), rank + 1),
        };
        let bindings = bindings(*kind, plain_up, plain_down);
        Action {
            name,
            bindings: bindings.into_iter().map(str::to_owned).collect(),
        }
    };
    let still = (0..kinds.len()).filter(|&code| kinds[code] == Kind::Still);
    let quietest = still.min_by(|&a, &b| speeds[a].total_cmp(&speeds[b]));
    Proposal {
        actions: kinds.iter().enumerate().map(action).collect(),
        idle: quietest
            .and_then(|code| u16::try_from(code).ok())
            .map(ActionCode),
    }
}

/// The motion that all codes have in common, which therefore is no code's doing: a picture that scrolls by itself.
fn drift(effects: &[CodeEffect]) -> (f32, f32) {
    let totals: Vec<(f32, f32)> = effects
        .iter()
        .map(|effect| effect.motion().total())
        .collect();
    let common = |of: fn(&(f32, f32)) -> f32| {
        let values = || totals.iter().map(of);
        let (least, most) = (
            values().fold(f32::INFINITY, f32::min),
            values().fold(f32::NEG_INFINITY, f32::max),
        );
        match totals.len() {
            0 | 1 => 0.0,
            _ => least.max(0.0) + most.min(0.0),
        }
    };
    (common(|total| total.0), common(|total| total.1))
}

/// Whether a motion is of that kind, roughly: it does not go the other way.
fn agree(kind: Kind, (x, y): (f32, f32), still: f32) -> bool {
    let along = |x_sign: f32, y_sign: f32| x * x_sign + y * y_sign >= still / 2.0;
    match kind {
        Kind::Still => x.abs().max(y.abs()) < 2.0 * still,
        Kind::Right => along(1.0, 0.0),
        Kind::Left => along(-1.0, 0.0),
        Kind::Up => along(0.0, -1.0),
        Kind::Down => along(0.0, 1.0),
        Kind::UpRight => along(1.0, -1.0),
        Kind::UpLeft => along(-1.0, -1.0),
        Kind::DownRight => along(1.0, 1.0),
        Kind::DownLeft => along(-1.0, 1.0),
        _ => true,
    }
}

fn direction((x, y): (f32, f32), still: f32) -> Kind {
    let largest = x.abs().max(y.abs());
    if largest < still {
        return Kind::Still;
    }
    let counts = |value: f32| value.abs() >= DIAGONAL * largest;
    match (counts(x), counts(y), x > 0.0, y > 0.0) {
        (true, false, true, _) => Kind::Right,
        (true, false, false, _) => Kind::Left,
        (false, _, _, true) => Kind::Down,
        (false, _, _, false) => Kind::Up,
        (true, true, true, true) => Kind::DownRight,
        (true, true, false, true) => Kind::DownLeft,
        (true, true, true, false) => Kind::UpRight,
        (true, true, false, false) => Kind::UpLeft,
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Still => "still",
        Kind::Right => "right",
        Kind::Left => "left",
        Kind::Up => "up",
        Kind::Down => "down",
        Kind::UpRight => "up-right",
        Kind::UpLeft => "up-left",
        Kind::DownRight => "down-right",
        Kind::DownLeft => "down-left",
        Kind::Forward => "forward",
        Kind::ForwardLeft => "forward left",
        Kind::ForwardRight => "forward right",
        Kind::Back => "back",
        Kind::TurnLeft => "turn left",
        Kind::TurnRight => "turn right",
        Kind::Unclear => "unclear",
    }
}

const UP: [&str; 6] = ["ArrowUp", "KeyW", "Space", "DPadUp", "LeftStickUp", "South"];
const DOWN: [&str; 4] = ["ArrowDown", "KeyS", "DPadDown", "LeftStickDown"];
const LEFT: [&str; 4] = ["ArrowLeft", "KeyA", "DPadLeft", "LeftStickLeft"];
const RIGHT: [&str; 4] = ["ArrowRight", "KeyD", "DPadRight", "LeftStickRight"];
const UP_RIGHT: [&str; 8] = [
    "ArrowRight+ArrowUp",
    "KeyD+KeyW",
    "ArrowRight+Space",
    "KeyD+Space",
    "DPadRight+DPadUp",
    "DPadRight+South",
    "LeftStickRight+LeftStickUp",
    "LeftStickRight+South",
];
const UP_LEFT: [&str; 8] = [
    "ArrowLeft+ArrowUp",
    "KeyA+KeyW",
    "ArrowLeft+Space",
    "KeyA+Space",
    "DPadLeft+DPadUp",
    "DPadLeft+South",
    "LeftStickLeft+LeftStickUp",
    "LeftStickLeft+South",
];

/// Of inputs for up, those that walk: not the keys and buttons that jump.
fn without_jump(inputs: &[&'static str]) -> Vec<&'static str> {
    let jumps = |input: &&str| input.ends_with("Space") || input.ends_with("South");
    inputs
        .iter()
        .copied()
        .filter(|input| !jumps(input))
        .collect()
}

/// Slanting motion is bound to chords; where no code goes straight up or down, to the vertical inputs by themselves as well: a player who holds right
/// wants to walk, and jumps when up is pressed.
fn bindings(kind: Kind, plain_up: bool, plain_down: bool) -> Vec<&'static str> {
    let alone =
        |inputs: &[&'static str], plain: bool| if plain { Vec::new() } else { inputs.to_vec() };
    let with = |mut alone: Vec<&'static str>, chords: &[&'static str]| {
        alone.extend(chords);
        alone
    };
    match kind {
        Kind::Still | Kind::Unclear => Vec::new(),
        Kind::Right | Kind::TurnRight => RIGHT.to_vec(),
        Kind::Left | Kind::TurnLeft => LEFT.to_vec(),
        Kind::Up => UP.to_vec(),
        Kind::Down => DOWN.to_vec(),
        Kind::Forward => without_jump(&UP),
        Kind::ForwardLeft => without_jump(&UP_LEFT),
        Kind::ForwardRight => without_jump(&UP_RIGHT),
        Kind::Back => DOWN.to_vec(),
        Kind::UpRight => with(alone(&UP, plain_up), &UP_RIGHT),
        Kind::UpLeft => with(alone(&UP, plain_up), &UP_LEFT),
        Kind::DownRight => with(
            alone(&DOWN, plain_down),
            &[
                "ArrowDown+ArrowRight",
                "KeyD+KeyS",
                "DPadDown+DPadRight",
                "LeftStickDown+LeftStickRight",
            ],
        ),
        Kind::DownLeft => with(
            alone(&DOWN, plain_down),
            &[
                "ArrowDown+ArrowLeft",
                "KeyA+KeyS",
                "DPadDown+DPadLeft",
                "LeftStickDown+LeftStickLeft",
            ],
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(code: u16, motions: &[(f32, f32)]) -> CodeEffect {
        let motion = |&view| Motion {
            view,
            ..Motion::default()
        };
        CodeEffect {
            code: ActionCode(code),
            motions: motions.iter().map(motion).collect(),
            pictures: Vec::new(),
        }
    }

    fn propose_for_views(views: &[(f32, f32)]) -> Proposal {
        let effects: Vec<_> = (0..)
            .zip(views)
            .map(|(code, &view)| effect(code, &[view]))
            .collect();
        propose(&effects, 64)
    }

    fn names(proposal: &Proposal) -> Vec<&str> {
        proposal
            .actions
            .iter()
            .map(|action| action.name.as_str())
            .collect()
    }

    #[test]
    fn codes_are_named_by_the_motion_of_the_view() {
        let views = [
            (3.0, 0.1),
            (0.1, 0.1),
            (1.0, 0.2),
            (-2.0, 0.0),
            (2.0, -2.0),
            (0.0, 5.0),
        ];
        let proposal = propose_for_views(&views);
        assert_eq!(
            names(&proposal),
            ["right 2", "still", "right", "left", "up-right", "down"]
        );
        assert_eq!(proposal.idle, Some(ActionCode(1)));
        assert_eq!(proposal.actions[3].bindings, LEFT);
        assert!(proposal.actions[1].bindings.is_empty());
        let slanting = &proposal.actions[4].bindings;
        assert!(
            slanting.contains(&"Space".to_owned())
                && slanting.contains(&"ArrowRight+Space".to_owned())
        );
        let with_up = propose_for_views(&[(2.0, -2.0), (0.0, -2.0), (0.0, 0.0)]);
        assert!(!with_up.actions[0].bindings.contains(&"Space".to_owned()));
    }

    #[test]
    fn all_that_is_proposed_a_manifest_takes() {
        let kinds = [
            Kind::Still,
            Kind::Right,
            Kind::Left,
            Kind::Up,
            Kind::Down,
            Kind::UpRight,
            Kind::UpLeft,
            Kind::DownRight,
            Kind::DownLeft,
            Kind::Forward,
            Kind::ForwardLeft,
            Kind::ForwardRight,
            Kind::Back,
            Kind::TurnLeft,
            Kind::TurnRight,
            Kind::Unclear,
        ];
        for kind in kinds {
            let Proposal { actions, .. } = of_kinds(
                &[kind, Kind::Still, Kind::Still, kind],
                &[1.0, 0.0, 0.1, 2.0],
            );
            let mut manifest = crate::tiny_contents(1).unwrap().manifest;
            for action in &actions {
                assert_eq!(action.chords().count(), action.bindings.len(), "{action:?}");
            }
            manifest.actions = actions;
            manifest.validate().unwrap();
        }
    }

    #[test]
    fn what_the_starting_frames_do_not_agree_on_keeps_its_number() {
        let proposal = propose(
            &[
                effect(0, &[(6.0, 0.0), (-2.0, 0.0), (-1.0, 0.0)]),
                effect(1, &[(-3.0, 0.0); 3]),
                effect(2, &[(0.0, 0.0); 3]),
            ],
            64,
        );
        assert_eq!(names(&proposal), ["code 0", "left", "still"]);
        assert!(proposal.actions[0].bindings.is_empty());
    }

    #[test]
    fn a_wall_before_some_starting_frames_hides_no_direction() {
        let walled = effect(0, &[(-2.0, 0.0), (0.0, 0.0), (-3.0, 0.0), (0.1, 0.0)]);
        let proposal = propose(&[walled, effect(1, &[(0.0, 0.1); 4])], 64);
        assert_eq!(names(&proposal), ["left", "still"]);
    }

    #[test]
    fn a_picture_that_scrolls_by_itself_names_no_code() {
        let proposal = propose(
            &[
                effect(0, &[(2.0, 0.0)]),
                effect(1, &[(2.0, -3.0)]),
                effect(2, &[(5.0, 0.0)]),
            ],
            64,
        );
        assert_eq!(names(&proposal), ["still", "up", "right"]);
    }

    #[test]
    fn sideways_is_turning_where_one_walks_into_the_picture() {
        let walk = |code, sideways, approach| {
            let mut walk = effect(code, &[(sideways, 0.0); 2]);
            for motion in &mut walk.motions {
                motion.approach = approach;
            }
            walk
        };
        let mut ground_below = walk(5, 0.0, 0.6);
        for motion in &mut ground_below.motions {
            motion.sprite = (0.0, 2.0);
        }
        let proposal = propose(
            &[
                walk(0, 0.0, 0.5),
                effect(1, &[(3.0, 0.0); 2]),
                effect(2, &[(-3.0, 0.0); 2]),
                walk(3, -3.0, 0.5),
                walk(4, 0.2, -0.4),
                ground_below,
            ],
            64,
        );
        assert_eq!(
            names(&proposal),
            [
                "forward",
                "turn right",
                "turn left",
                "forward left",
                "back",
                "forward 2"
            ]
        );
    }

    #[test]
    fn every_code_is_held_from_the_same_starting_frames() {
        let world = Arc::new(crate::tiny_world(1).unwrap());
        let options = EffectOptions {
            starts: 2,
            frames: 3,
        };
        let mut rollouts = 0;
        let effects = measure_effects(&world, options, &mut || {
            rollouts += 1;
            true
        })
        .unwrap();
        assert_eq!((effects.len(), rollouts), (4, 8));
        for effect in &effects {
            assert_eq!(
                (
                    effect.motions.len(),
                    effect.pictures.len(),
                    effect.pictures[0].len()
                ),
                (2, 2, 4)
            );
            assert_eq!(effect.pictures[1][0], effects[0].pictures[1][0]);
        }
        assert_eq!(propose(&effects, 24).actions.len(), 4);
        let stopped = measure_effects(&world, options, &mut || false).unwrap();
        assert!(stopped.is_empty());
    }
}
