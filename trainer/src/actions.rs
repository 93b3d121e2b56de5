//! Names and keys for action codes, from how they move the picture.

use latent_actions::LatentActionModel;
use nn::ActionCode;
use worlds::Action;

use crate::clips::ClipSampler;
use crate::dataset::Dataset;
use crate::{Result, WorldDetails};

/// Frames that each code is tried on.
const FRAMES: usize = 16;
/// Less motion than this, in pixels a frame of 64, counts as none.
const STILL: f32 = 0.4;
/// A direction counts when it has at least this share of the larger one.
const DIAGONAL: f32 = 0.5;

/// How each code moves the view on average, in pixels (x to the right, y down): by how much the forecast reads its pixels
/// from elsewhere, so that a view that moves right has a positive x.
pub(crate) fn motions(model: &LatentActionModel, dataset: &Dataset) -> Result<Vec<(f32, f32)>> {
    let sampler = ClipSampler::held_out(dataset, 2)?;
    let frames = sampler.frames(&sampler.fixed(FRAMES))?;
    let frames = frames.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
    (0..model.config().codes as u32)
        .map(|code| {
            let codes = candle_core::Tensor::full(code, FRAMES, frames.device())?;
            let mean = model.flow(&frames, &codes)?.mean((0, 1, 2))?;
            let mean = mean.to_vec1::<f32>()?;
            Ok((mean[0], mean[1]))
        })
        .collect()
}

/// Names and keys of all codes, and the code of standing still where there is one. What the configuration names stands.
pub(crate) fn describe(
    motions: &[(f32, f32)],
    size: usize,
    details: &WorldDetails,
) -> (Vec<Action>, Option<ActionCode>) {
    let still = STILL * size as f32 / 64.0;
    let directions: Vec<&'static str> = motions.iter().map(|&m| direction(m, still)).collect();
    let length = |(x, y): (f32, f32)| x.hypot(y);
    let actions = (0..motions.len()).map(|code| {
        let same = |other: &usize| directions[*other] == directions[code];
        // Of several codes that move alike, the slower comes first.
        let rank = (0..motions.len())
            .filter(same)
            .filter(|&other| (length(motions[other]), other) < (length(motions[code]), code))
            .count();
        let name = match rank {
            0 => directions[code].to_owned(),
            rank => format!("{} {}", directions[code], rank + 1),
        };
        let bindings = keys(directions[code]).iter().map(|&key| key.to_owned());
        Action {
            name: details.action_names.get(code).cloned().unwrap_or(name),
            bindings: details
                .bindings
                .get(code)
                .cloned()
                .unwrap_or_else(|| bindings.collect()),
        }
    });
    let quietest = (0..motions.len())
        .filter(|&code| directions[code] == "still")
        .min_by(|&a, &b| length(motions[a]).total_cmp(&length(motions[b])));
    (
        actions.collect(),
        quietest.map(|code| ActionCode(code as u16)),
    )
}

fn direction((x, y): (f32, f32), still: f32) -> &'static str {
    let largest = x.abs().max(y.abs());
    if largest < still {
        return "still";
    }
    let counts = |value: f32| value.abs() >= DIAGONAL * largest;
    match (counts(x), counts(y), x > 0.0, y > 0.0) {
        (true, false, true, _) => "right",
        (true, false, false, _) => "left",
        (false, _, _, true) => "down",
        (false, _, _, false) => "up",
        (true, true, true, true) => "down-right",
        (true, true, false, true) => "down-left",
        (true, true, true, false) => "up-right",
        (true, true, false, false) => "up-left",
    }
}

/// Slanting motion is bound to its vertical key: a player who holds right wants to walk, and jumps when up is pressed as well.
fn keys(direction: &str) -> &'static [&'static str] {
    match direction {
        "right" => &["ArrowRight", "KeyD"],
        "left" => &["ArrowLeft", "KeyA"],
        "down" | "down-left" | "down-right" => &["ArrowDown", "KeyS"],
        "up" | "up-left" | "up-right" => &["ArrowUp", "KeyW", "Space"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_named_by_the_motion_of_the_view() {
        let motions = [
            (3.0, 0.1),
            (0.1, 0.1),
            (1.0, 0.2),
            (-2.0, 0.0),
            (2.0, -2.0),
            (0.0, 5.0),
        ];
        let (actions, idle) = describe(&motions, 64, &WorldDetails::default());
        let names: Vec<&str> = actions.iter().map(|action| action.name.as_str()).collect();
        assert_eq!(
            names,
            ["right 2", "still", "right", "left", "up-right", "down"]
        );
        assert_eq!(idle, Some(ActionCode(1)));
        assert_eq!(actions[3].bindings, ["ArrowLeft", "KeyA"]);
        assert!(actions[1].bindings.is_empty());
    }

    #[test]
    fn configured_names_and_keys_stand() {
        let details = WorldDetails {
            action_names: vec!["hop".to_owned()],
            bindings: vec![vec!["KeyH".to_owned()]],
            ..WorldDetails::default()
        };
        let (actions, _) = describe(&[(3.0, 0.0), (-3.0, 0.0)], 64, &details);
        assert_eq!(
            (actions[0].name.as_str(), actions[1].name.as_str()),
            ("hop", "left")
        );
        assert_eq!(actions[0].bindings, ["KeyH"]);
    }
}
