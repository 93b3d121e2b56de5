//! What the model may see, and that it learns motion that is known.

use super::*;
use candle_core::Device;
use nn::quality::largest_difference;
use nn::{AdamWConfig, FrameSize, Optimizer, Parameters, generator, gradients};
use rand::Rng;

const SIDE: usize = 16;

fn config() -> LatentActionConfig {
    LatentActionConfig {
        frame: FrameSize {
            height: SIDE,
            width: SIDE,
        },
        patch: 8,
        width: 32,
        heads: 2,
        encoder_layers: 1,
        predictor_layers: 1,
        action_width: 2,
        codes: 2,
        ..LatentActionConfig::default()
    }
}

fn build() -> (LatentActionModel, Parameters) {
    let parameters = Parameters::seeded(1, &Device::Cpu);
    (
        LatentActionModel::new(&config(), parameters.builder()).unwrap(),
        parameters,
    )
}

/// A smooth pattern, moved by `offset` pixels to the right.
fn picture(offset: f32, phase: f32) -> Vec<f32> {
    let wave =
        |x: f32, y: f32| 0.5 + 0.25 * (0.8 * x + phase).sin() + 0.2 * (0.5 * y + 2.0 * phase).cos();
    let pixel = |i: usize| wave((i % SIDE) as f32 - offset, (i / SIDE) as f32);
    (0..SIDE * SIDE).flat_map(|i| [pixel(i); 3]).collect()
}

/// Clips `[B, T, H, W, 3]` that move by `steps[i]` pixels between frame i and i + 1.
fn clips(steps: &[Vec<f32>], phase: f32) -> Tensor {
    let count = steps[0].len() + 1;
    let mut values = Vec::new();
    for (clip, steps) in steps.iter().enumerate() {
        let mut offset = 0.0;
        for frame in 0..count {
            values.extend(picture(offset, phase + clip as f32 * 0.7));
            offset += steps.get(frame).copied().unwrap_or(0.0);
        }
    }
    Tensor::from_vec(values, (steps.len(), count, SIDE, SIDE, 3), &Device::Cpu).unwrap()
}

#[test]
fn a_description_sees_the_next_frame_and_nothing_after_it() -> Result<()> {
    let (model, _) = build();
    let clip = clips(&[vec![1.0, 2.0, 1.0, -1.0]], 0.0);
    let described = model.describe(&clip)?;
    assert_eq!(described.dims(), [1, 4, 2]);
    let later = clips(&[vec![1.0, 2.0, -2.0, -1.0]], 0.0);
    let other = model.describe(&later)?;
    assert_eq!(
        largest_difference(&described.narrow(1, 0, 2)?, &other.narrow(1, 0, 2)?),
        0.0
    );
    assert!(largest_difference(&described.narrow(1, 2, 1)?, &other.narrow(1, 2, 1)?) > 1e-3);
    Ok(())
}

#[test]
fn a_forecast_depends_on_its_frame_and_code_alone() -> Result<()> {
    let (model, _) = build();
    model.set_codebook(&Tensor::new(&[[1f32, 1.0], [-1.0, 1.0]], &Device::Cpu)?)?;
    let frames = clips(&[vec![1.0, 2.0, 1.0]], 0.0).squeeze(0)?;
    let codes = Tensor::new(&[0u32, 1, 0, 1], &Device::Cpu)?;
    let all = model.forecast(&frames, &codes)?;
    let alone = model.forecast(&frames.narrow(0, 1, 1)?, &codes.narrow(0, 1, 1)?)?;
    assert!(largest_difference(&all.narrow(0, 1, 1)?, &alone) < 1e-5);
    let other = model.forecast(&frames.narrow(0, 1, 1)?, &codes.narrow(0, 0, 1)?)?;
    assert!(largest_difference(&other, &alone) > 1e-4);
    assert!(
        model
            .forecast(&frames, &Tensor::new(&[0u32, 1, 0, 2], &Device::Cpu)?)
            .is_err()
    );
    Ok(())
}

/// Videos whose motion is known pin what "action i" means: the change from frame i to i + 1.
#[test]
fn codes_of_known_motion_name_the_change_from_each_frame_to_the_next() -> Result<()> {
    let (model, parameters) = build();
    let variables = parameters.variables();
    let mut optimizer = Optimizer::new(variables.clone(), AdamWConfig::default(), None)?;
    let mut random = generator(1, 0);
    // New starts and motions in every batch: nothing to learn by heart but the motion.
    let videos = |random: &mut ChaCha8Rng| {
        let step = |random: &mut ChaCha8Rng| if random.random::<bool>() { 2.0 } else { -2.0 };
        let steps: Vec<Vec<f32>> = (0..16)
            .map(|_| (0..3).map(|_| step(random)).collect())
            .collect();
        (clips(&steps, random.random_range(0.0..9.0)), steps)
    };
    let mut losses = Vec::new();
    for _ in 0..800 {
        let prediction = model.loss(&videos(&mut random).0, &mut random)?;
        losses.push(prediction.loss.to_scalar::<f32>()?);
        optimizer.step(&gradients(&prediction.loss, &variables)?, 1e-3, 1.0)?;
    }
    assert!(
        losses[799] < 0.6 * losses[0],
        "from {} to {}",
        losses[0],
        losses[799]
    );
    let (videos, steps) = videos(&mut random);
    let described = model
        .describe(&videos)?
        .narrow(1, 1, 2)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    let centres = crate::cluster(&described, 2, 2, 1)?;
    model.set_codebook(&Tensor::from_vec(centres, (2, 2), &Device::Cpu)?)?;
    let codes = model.codes(&videos)?;
    // What forecasts are off by under the code of their own change, and under that of the next one, where the motion differs.
    let error = |clip: usize, change: usize| -> Result<f32> {
        let at = |frame| videos.get(clip)?.narrow(0, frame, 1);
        let forecast = model.forecast(&at(1)?, &codes.get(clip)?.narrow(0, change, 1)?)?;
        Ok((forecast - at(2)?)?.sqr()?.mean_all()?.to_scalar()?)
    };
    let (mut own, mut next) = (0.0, 0.0);
    for clip in (0..steps.len()).filter(|&clip| steps[clip][1] != steps[clip][2]) {
        own += error(clip, 1)?;
        next += error(clip, 2)?;
    }
    assert!(
        own * 3.0 < next,
        "off by {own} under own codes, by {next} under the next ones"
    );
    let codes = codes.to_vec2::<u32>()?;
    let before = model.loss_of_codes(&videos)?.loss.to_scalar::<f32>()?;
    for _ in 0..20 {
        let loss = model.loss_of_codes(&videos)?.loss;
        optimizer.step(&gradients(&loss, &variables)?, 1e-3, 1.0)?;
    }
    assert!(model.loss_of_codes(&videos)?.loss.to_scalar::<f32>()? < before);
    assert_eq!(
        model.codes(&videos)?.to_vec2::<u32>()?,
        codes,
        "the encoder is frozen"
    );
    Ok(())
}

#[test]
fn the_quantized_bottleneck_trains_too() -> Result<()> {
    let parameters = Parameters::seeded(1, &Device::Cpu);
    let config = LatentActionConfig {
        bottleneck: crate::BottleneckConfig::Vq,
        ..config()
    };
    let model = LatentActionModel::new(&config, parameters.builder())?;
    let videos = clips(&[vec![2.0, 2.0], vec![-2.0, -2.0]], 0.0);
    let loss = model.loss(&videos, &mut generator(1, 0))?.loss;
    let gradients = gradients(&loss, &parameters.variables())?;
    for name in ["codebook", "encoder.output", "predictor.flow"] {
        assert!(gradients.get(name).is_some(), "{name} learns");
    }
    assert!(model.has_codebook()?);
    Ok(())
}

fn quantized() -> LatentActionModel {
    let config = LatentActionConfig {
        bottleneck: crate::BottleneckConfig::Vq,
        codes: 6,
        ..config()
    };
    LatentActionModel::new(&config, Parameters::seeded(1, &Device::Cpu).builder()).unwrap()
}

#[test]
fn codes_go_to_actions_and_back() -> Result<()> {
    let model = quantized();
    let all = Tensor::arange(0u32, 6, &Device::Cpu)?;
    let back = model.nearest(&model.vectors(&all)?)?;
    assert_eq!(back.to_vec1::<u32>()?, all.to_vec1::<u32>()?);
    Ok(())
}

#[test]
fn dead_codes_of_a_quantized_bottleneck_are_revived_among_the_descriptions() -> Result<()> {
    let model = quantized();
    let mut random = generator(4, 0);
    let values: Vec<f32> = (0..200).map(|_| 40.0 + nn::normal(&mut random)).collect();
    let far = Tensor::from_vec(values, (100, 2), &Device::Cpu)?;
    let usage = |model: &LatentActionModel| nn::quantizer::usage(&model.nearest(&far)?, 6);
    let before = usage(&model)?;
    let dead = before.iter().filter(|&&count| count == 0).count();
    assert!(dead >= 4, "{before:?}");
    assert_eq!(model.revive_dead_codes(&before, &far, 3)?, dead);
    let after = usage(&model)?;
    let used = after.iter().filter(|&&count| count > 0).count();
    assert!(used >= 5, "{after:?}");
    // Codes that come of clustering are nobody's to revive.
    let (clustered, _) = build();
    assert_eq!(clustered.revive_dead_codes(&[0, 0], &far, 3)?, 0);
    Ok(())
}

#[test]
fn a_clip_s_codes_come_as_transitions() -> Result<()> {
    let model = quantized();
    let clip = clips(&[vec![1.0, 2.0, -1.0]], 0.0);
    let transitions = model.transitions(&clip)?;
    assert_eq!(transitions.frames(), 4);
    let codes = model.codes(&clip)?.flatten_all()?.to_vec1::<u32>()?;
    for (frame, code) in codes.into_iter().enumerate() {
        assert_eq!(transitions.after(frame), Some(ActionCode(code as u16)));
    }
    assert_eq!(model.transitions(&clip.narrow(1, 0, 1)?)?.frames(), 1);
    assert!(
        model
            .transitions(&Tensor::cat(&[&clip, &clip], 0)?)
            .is_err()
    );
    Ok(())
}

#[test]
fn impossible_configurations_are_refused() {
    let refused = |config: LatentActionConfig| config.validate().unwrap_err().to_string();
    assert!(
        refused(LatentActionConfig {
            codes: 1,
            ..config()
        })
        .contains("codes = 1")
    );
    let noise = crate::BottleneckConfig::Noisy { noise: f32::NAN };
    assert!(
        refused(LatentActionConfig {
            bottleneck: noise,
            ..config()
        })
        .contains("noise")
    );
    assert!(
        refused(LatentActionConfig {
            flow_cells_per_patch: 9,
            ..config()
        })
        .contains("flow_cells")
    );
}
