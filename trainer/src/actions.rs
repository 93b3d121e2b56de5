//! Names and bindings for action codes, from how they move the picture: by the forecast alone while there are no dynamics, then by playing.

use std::sync::Arc;

use latent_actions::LatentActionModel;
use nn::ActionCode;
use worlds::{Action, BundleContents, EffectOptions, Proposal, WeightFormat};

use crate::clips::ClipSampler;
use crate::dataset::Dataset;
use crate::{Result, WorldDetails};

/// Frames that each code is tried on.
const FRAMES: usize = 16;

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

/// Names and bindings for codes that move the view so. What the configuration says stands.
pub(crate) fn describe(
    motions: &[(f32, f32)],
    width: usize,
    details: &WorldDetails,
) -> (Vec<Action>, Option<ActionCode>) {
    configured(worlds::propose_for_views(motions, width), details)
}

/// Names and binds the actions of a finished world by what they do when it is played. What the configuration says stands.
pub(crate) fn describe_by_playing(
    contents: &mut BundleContents,
    details: &WorldDetails,
) -> Result<()> {
    let world = Arc::new(contents.world(WeightFormat::F16)?);
    let effects = worlds::measure_effects(&world, EffectOptions::default(), &mut || true)?;
    let proposal = worlds::propose(&effects, contents.manifest.frame.width);
    (contents.manifest.actions, contents.manifest.idle) = configured(proposal, details);
    Ok(())
}

/// What is proposed, but for what the configuration says; no two codes come to have one name by that.
pub(crate) fn configured(
    proposal: Proposal,
    details: &WorldDetails,
) -> (Vec<Action>, Option<ActionCode>) {
    let given = &details.action_names;
    let is_given = |name: &str| {
        given
            .iter()
            .any(|n| n.to_lowercase() == name.to_lowercase())
    };
    let proposed = |code: usize, name: String| match is_given(&name) {
        true => code.to_string(),
        false => name,
    };
    let actions = proposal.actions.into_iter().enumerate();
    let configured = actions.map(|(code, action)| Action {
        name: given
            .get(code)
            .cloned()
            .unwrap_or_else(|| proposed(code, action.name)),
        bindings: details
            .bindings
            .get(code)
            .cloned()
            .unwrap_or(action.bindings),
    });
    (configured.collect(), details.idle.or(proposal.idle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_names_and_keys_stand() {
        let details = WorldDetails {
            action_names: vec!["Left".to_owned()],
            bindings: vec![vec!["KeyH".to_owned()]],
            idle: Some(ActionCode(1)),
            ..WorldDetails::default()
        };
        let (actions, idle) = describe(&[(3.0, 0.0), (-3.0, 0.0)], 64, &details);
        assert_eq!(
            (actions[0].name.as_str(), actions[1].name.as_str()),
            ("Left", "1")
        );
        assert_eq!(actions[0].bindings, ["KeyH"]);
        assert_eq!(idle, Some(ActionCode(1)));
    }
}
