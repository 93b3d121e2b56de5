//! Names and bindings for action codes, from how the pictures of held-out video move at the changes that each code stands for.

use latent_actions::LatentActionModel;
use nn::ActionCode;
use worlds::{Action, CodeEffect, Proposal, motion_between};

use crate::clips::ClipSampler;
use crate::dataset::Dataset;
use crate::evaluate::rollouts::true_frames;
use crate::{Result, WorldDetails, measure};

/// Changes that are looked at.
const CHANGES: usize = 1024;
/// So many changes of one code are enough.
const OF_ONE_CODE: usize = 96;

/// Names and binds the codes by what they do in the video. What the configuration says stands.
///
/// It is the video that is looked at, not the world: what a short training plays is blurred, and stops at walls that it has made itself.
pub(crate) fn describe(
    model: &LatentActionModel,
    dataset: &Dataset,
    details: &WorldDetails,
) -> Result<(Vec<Action>, Option<ActionCode>)> {
    let effects = effects_in_video(model, dataset)?;
    let proposal = worlds::propose(&effects, dataset.frame_size().width);
    Ok(configured(proposal, details))
}

fn effects_in_video(model: &LatentActionModel, dataset: &Dataset) -> Result<Vec<CodeEffect>> {
    // The encoder sees the frame before, too.
    let sampler = ClipSampler::held_out(dataset, 3)?;
    let effect = |code| CodeEffect {
        code: ActionCode(code),
        motions: Vec::new(),
        pictures: Vec::new(),
    };
    let mut effects: Vec<_> = (0..model.config().codes as u16).map(effect).collect();
    let clips = sampler.fixed(CHANGES);
    let codes = model.nearest(&measure::describe(model, dataset, &clips)?)?;
    for (clip, codes) in clips.iter().zip(codes.to_vec2::<u32>()?) {
        let effect = codes
            .last()
            .and_then(|&code| effects.get_mut(code as usize));
        let Some(effect) = effect.filter(|effect| effect.motions.len() < OF_ONE_CODE) else {
            continue;
        };
        if let [_, before, after] = &true_frames(dataset, clip)?[..] {
            effect.motions.push(motion_between(before, after));
        }
    }
    Ok(effects)
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
        let action = |name: &str| Action {
            name: name.to_owned(),
            bindings: vec!["ArrowLeft".to_owned()],
        };
        let proposal = Proposal {
            actions: vec![action("right"), action("left")],
            idle: None,
        };
        let (actions, idle) = configured(proposal, &details);
        assert_eq!(
            (actions[0].name.as_str(), actions[1].name.as_str()),
            ("Left", "1")
        );
        assert_eq!(actions[0].bindings, ["KeyH"]);
        assert_eq!(idle, Some(ActionCode(1)));
    }
}
