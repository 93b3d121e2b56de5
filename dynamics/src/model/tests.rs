//! Causality, and that training and play compute the same.

use super::*;
use nn::quality::largest_difference;
use nn::{AdamWConfig, FrameSize, Optimizer, Parameters, generator, gradients, normal};
use rand::Rng;

/// Changes in a clip.
const CHANGES: usize = 6;

fn config() -> DynamicsConfig {
    DynamicsConfig {
        frame: FrameSize {
            height: 16,
            width: 24,
        },
        patch: 8,
        vocabulary: 20,
        latent_width: 3,
        codes: 4,
        width: 32,
        heads: 2,
        layers: 2,
        window: 3,
        forecast: true,
    }
}

fn build(config: &DynamicsConfig) -> (Dynamics, Parameters) {
    let parameters = Parameters::seeded(1, &Device::Cpu);
    let vectors = noise(&[20, 3], 8);
    (
        Dynamics::new(config, &vectors, parameters.builder()).unwrap(),
        parameters,
    )
}

fn noise(dims: &[usize], seed: u64) -> Tensor {
    let mut random = generator(seed, 0);
    let values: Vec<f32> = (0..dims.iter().product())
        .map(|_| normal(&mut random))
        .collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

fn integers(dims: &[usize], below: u32, seed: u64) -> Tensor {
    let mut random = generator(seed, 1);
    let values: Vec<u32> = (0..dims.iter().product())
        .map(|_| random.random_range(0..below))
        .collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

fn clip(seed: u64) -> TrainingClip {
    TrainingClip {
        clean: integers(&[1, CHANGES, 6], 20, seed),
        // The mask (20) among others.
        masked: integers(&[1, CHANGES, 6], 21, seed + 1),
        actions: integers(&[1, CHANGES], 4, seed + 2),
        forecast: Some(Forecast {
            pixels: noise(&[1, CHANGES, 16, 24, 3], seed + 3),
            latents: noise(&[1, CHANGES, 6, 3], seed + 4),
        }),
    }
}

/// `a` up to change `changes` of a clip, `b` from there on, along dimension 1.
fn spliced(a: &Tensor, b: &Tensor, changes: usize) -> Tensor {
    let rest = a.dim(1).unwrap() - changes;
    let b = b.narrow(1, changes, rest).unwrap();
    match changes {
        0 => b,
        _ => Tensor::cat(&[a.narrow(1, 0, changes).unwrap(), b], 1).unwrap(),
    }
}

#[test]
fn nothing_depends_on_what_comes_later() -> Result<()> {
    let (model, _) = build(&config());
    let (a, b) = (clip(10), clip(50));
    let pass = model.training_pass(&a)?;
    for frame in 1..CHANGES {
        // Frames from `frame` on, and actions from the change `frame` -> `frame + 1` on, are another's.
        let changed = TrainingClip {
            clean: spliced(&a.clean, &b.clean, frame),
            masked: a.masked.clone(),
            actions: spliced(&a.actions, &b.actions, frame),
            forecast: a.forecast.clone(),
        };
        let other = model.training_pass(&changed)?;
        // The tokens of `frame` itself see none of that; neither does the prior before `frame`.
        let upto = |t: &Tensor| t.narrow(1, 0, frame).unwrap();
        assert_eq!(
            largest_difference(&upto(&pass.logits), &upto(&other.logits)),
            0.0
        );
        assert_eq!(
            largest_difference(&upto(&pass.prior_logits), &upto(&other.prior_logits)),
            0.0
        );
        let here = |t: &Tensor| t.narrow(1, frame, 1).unwrap();
        assert!(largest_difference(&here(&pass.prior_logits), &here(&other.prior_logits)) > 1e-4);
        assert!(largest_difference(&here(&pass.logits), &here(&other.logits)) > 1e-4);
    }
    // Nor does the prior before a change know its action, which its tokens do.
    let mut actions = a.actions.flatten_all()?.to_vec1::<u32>()?;
    actions[CHANGES - 1] = (actions[CHANGES - 1] + 1) % 4;
    let changed = TrainingClip {
        actions: Tensor::from_vec(actions, (1, CHANGES), &Device::Cpu)?,
        ..clip(10)
    };
    let other = model.training_pass(&changed)?;
    assert_eq!(
        largest_difference(&pass.prior_logits, &other.prior_logits),
        0.0
    );
    assert!(largest_difference(&pass.logits, &other.logits) > 1e-4);
    Ok(())
}

/// A masked frame sees the clean past and itself: other frames' masks and guesses are none of its business.
#[test]
fn later_masked_tokens_and_forecasts_change_nothing_earlier() -> Result<()> {
    let (model, _) = build(&config());
    let (a, b) = (clip(10), clip(50));
    let (guess, other_guess) = (a.forecast.clone().unwrap(), b.forecast.clone().unwrap());
    let pass = model.training_pass(&a)?;
    for change in 1..CHANGES {
        // The masked stream and the guesses from `change` on.
        let changed = TrainingClip {
            clean: a.clean.clone(),
            masked: spliced(&a.masked, &b.masked, change),
            actions: a.actions.clone(),
            forecast: Some(Forecast {
                pixels: spliced(&guess.pixels, &other_guess.pixels, change),
                latents: spliced(&guess.latents, &other_guess.latents, change),
            }),
        };
        let other = model.training_pass(&changed)?;
        let upto = |t: &Tensor| t.narrow(1, 0, change).unwrap();
        assert_eq!(
            largest_difference(&upto(&pass.logits), &upto(&other.logits)),
            0.0
        );
        let here = |t: &Tensor| t.narrow(1, change, 1).unwrap();
        assert!(largest_difference(&here(&pass.logits), &here(&other.logits)) > 1e-3);
        // The prior looks at the clean past alone.
        assert_eq!(
            largest_difference(&pass.prior_logits, &other.prior_logits),
            0.0
        );
    }
    Ok(())
}

#[test]
fn play_computes_exactly_what_training_does_after_the_window_has_slid() -> Result<()> {
    let (model, _) = build(&config());
    let clip = clip(10);
    let pass = model.training_pass(&clip)?;
    let row = |t: &Tensor, change: usize| t.get(0).unwrap().get(change).unwrap();
    let (clean, masked) = (
        clip.clean.get(0)?.to_vec2::<u32>()?,
        clip.masked.get(0)?.to_vec2::<u32>()?,
    );
    let actions = clip.actions.get(0)?.to_vec1::<u32>()?;
    let forecast = clip.forecast.as_ref().unwrap();
    let mut cache = model.start();
    let mut before = None;
    for change in 0..CHANGES {
        let prior = Tensor::new(
            model.commit(&mut cache, before, &clean[change])?,
            &Device::Cpu,
        )?;
        assert!(
            largest_difference(&prior, &row(&pass.prior_logits, change)) < 1e-4,
            "prior of change {change}"
        );
        let action = ActionCode(actions[change] as u16);
        let guess = Forecast {
            pixels: forecast.pixels.narrow(1, change, 1)?,
            latents: forecast.latents.narrow(1, change, 1)?,
        };
        let logits = model.predict(&cache, action, &masked[change], Some(&guess))?;
        assert!(
            largest_difference(&logits, &row(&pass.logits, change)) < 1e-4,
            "change {change}"
        );
        before = Some(action);
    }
    Ok(())
}

#[test]
fn action_forecast_and_past_all_matter() -> Result<()> {
    let (model, _) = build(&config());
    let guess = |seed| Forecast {
        pixels: noise(&[1, 1, 16, 24, 3], seed),
        latents: noise(&[1, 1, 6, 3], seed),
    };
    let mut cache = model.start();
    model.commit(&mut cache, None, &[1, 2, 3, 4, 5, 6])?;
    let mut other = model.start();
    model.commit(&mut other, None, &[9, 2, 3, 4, 5, 6])?;
    let base = model.predict(&cache, ActionCode(0), &[20; 6], Some(&guess(1)))?;
    for different in [
        model.predict(&cache, ActionCode(1), &[20; 6], Some(&guess(1)))?,
        model.predict(&cache, ActionCode(0), &[20; 6], Some(&guess(2)))?,
        model.predict(&other, ActionCode(0), &[20; 6], Some(&guess(1)))?,
        model.predict(
            &cache,
            ActionCode(0),
            &[3, 20, 20, 20, 20, 20],
            Some(&guess(1)),
        )?,
    ] {
        assert!(largest_difference(&base, &different) > 1e-3);
    }
    Ok(())
}

#[test]
fn it_learns_a_rule_that_only_the_action_tells() -> Result<()> {
    // Every token of the next frame is the action's number; the next action is the last one plus one.
    let config = DynamicsConfig {
        forecast: false,
        ..config()
    };
    let (model, parameters) = build(&config);
    let variables = parameters.variables();
    let mut optimizer = Optimizer::new(variables.clone(), AdamWConfig::default(), None)?;
    let actions: Vec<u32> = (0..4)
        .flat_map(|clip| (0..CHANGES as u32).map(move |i| (clip + i) % 4))
        .collect();
    let tokens = |of: &dyn Fn(&[u32]) -> Vec<u32>| {
        let tokens: Vec<u32> = actions.chunks(CHANGES).flat_map(of).collect();
        let tokens: Vec<u32> = tokens.into_iter().flat_map(|token| [token; 6]).collect();
        Tensor::from_vec(tokens, (4, CHANGES, 6), &Device::Cpu)
    };
    let clean = tokens(&|actions| [&[0], &actions[..CHANGES - 1]].concat())?;
    let targets = tokens(&|actions| actions.to_vec())?;
    let actions = Tensor::from_vec(actions.clone(), (4, CHANGES), &Device::Cpu)?;
    let clip = TrainingClip {
        clean,
        masked: Tensor::full(20u32, (4, CHANGES, 6), &Device::Cpu)?,
        actions: actions.clone(),
        forecast: None,
    };
    for _ in 0..80 {
        let pass = model.training_pass(&clip)?;
        let ones = |t: &Tensor| Tensor::ones(t.elem_count(), DType::F32, &Device::Cpu);
        let loss = (ops::cross_entropy(&pass.logits, &targets, &ones(&targets)?)?
            + ops::cross_entropy(&pass.prior_logits, &actions, &ones(&actions)?)?)?;
        optimizer.step(&gradients(&loss, &variables)?, 3e-3, 1.0)?;
    }
    let mut cache = model.start();
    model.commit(&mut cache, None, &[0; 6])?;
    let sampler = crate::SamplerConfig {
        temperature: 0.0,
        ..crate::SamplerConfig::default()
    };
    for code in [2u16, 3] {
        let frame = model.generate(
            &cache,
            ActionCode(code),
            None,
            &sampler,
            &mut generator(1, 0),
        )?;
        assert_eq!(frame, [u32::from(code); 6]);
        let prior = model.commit(&mut cache, Some(ActionCode(code)), &frame)?;
        let likeliest = (0..4)
            .max_by(|&a, &b| prior[a].total_cmp(&prior[b]))
            .unwrap();
        assert_eq!(likeliest as u16, (code + 1) % 4);
    }
    Ok(())
}

#[test]
fn unfit_input_is_refused() -> Result<()> {
    let (model, _) = build(&config());
    let mut cache = model.start();
    assert!(model.commit(&mut cache, None, &[1; 5]).is_err());
    assert!(model.commit(&mut cache, None, &[99; 6]).is_err());
    assert!(
        model
            .commit(&mut cache, Some(ActionCode(4)), &[1; 6])
            .is_err()
    );
    assert!(
        model
            .predict(&cache, ActionCode(0), &[20; 6], None)
            .is_err()
    );
    assert_eq!(cache.frames_seen(), 0);
    let mut short = clip(1);
    short.actions = integers(&[1, CHANGES + 1], 4, 1);
    assert!(model.training_pass(&short).is_err());
    Ok(())
}
