//! Training steps of all three models: by the compositions that other devices run, and on any number of threads.

use super::*;
use nn::ops::with_compositions;
use nn::quantizer::QuantizerConfig;
use nn::{AdamWConfig, Precision, numbers, with_precision};

/// Small models on batches that are large enough for several threads.
fn config() -> TrainConfig {
    let mut config = TrainConfig::default();
    let frame = FrameSize {
        height: 24,
        width: 32,
    };
    let tokenizer = &mut config.tokenizer;
    (tokenizer.batch, tokenizer.clip_frames) = (3, 7);
    let model = &mut tokenizer.model;
    (model.frame, model.patch, model.width, model.heads) = (frame, 4, 48, 3);
    (model.encoder_layers, model.decoder_layers) = (1, 1);
    model.temporal_window = Some(3);
    model.quantizer = QuantizerConfig::Fsq {
        levels: vec![5, 5, 4],
    };
    let (vocabulary, latent_width) = (model.vocabulary(), model.latent_width());
    let latent_actions = &mut config.latent_actions;
    (latent_actions.batch, latent_actions.clip_frames) = (3, 7);
    let model = &mut latent_actions.model;
    (model.frame, model.patch, model.width, model.heads) = (frame, 4, 48, 3);
    (model.encoder_layers, model.predictor_layers, model.codes) = (1, 1, 4);
    let dynamics = &mut config.dynamics;
    (dynamics.batch, dynamics.clip_frames) = (3, 7);
    let model = &mut dynamics.model;
    (model.frame, model.patch, model.width, model.heads) = (frame, 4, 48, 3);
    (model.vocabulary, model.latent_width) = (vocabulary, latent_width);
    (model.codes, model.layers, model.window) = (4, 2, 3);
    config
}

/// What two training steps lead to: the losses, and by name the first gradients and the weights.
struct Trained {
    losses: Vec<f32>,
    tensors: BTreeMap<String, Vec<f32>>,
}

fn trained(stage: Stage, config: &TrainConfig) -> Trained {
    let TrainingLoss {
        variables,
        mut loss,
    } = loss_of(stage, config).unwrap();
    let mut optimizer = Optimizer::new(variables.clone(), AdamWConfig::default(), None).unwrap();
    let (mut losses, mut tensors) = (Vec::new(), BTreeMap::new());
    for step in 0..2 {
        let loss = loss().unwrap();
        let gradients = gradients(&loss, &variables).unwrap();
        optimizer.step(&gradients, 1e-3, 1.0).unwrap();
        losses.push(loss.to_scalar::<f32>().unwrap());
        let found = variables.keys().filter(|_| step == 0);
        tensors.extend(found.filter_map(|name| {
            let gradient = numbers(gradients.get(name)?).unwrap();
            Some((format!("gradient of {name}"), gradient))
        }));
    }
    let weights = variables.iter();
    tensors.extend(weights.map(|(name, var)| (name.clone(), numbers(var).unwrap())));
    Trained { losses, tensors }
}

fn length(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn fused_training_steps_equal_composed_ones() {
    let config = config();
    for stage in Stage::ALL {
        let fused = trained(stage, &config);
        let composed = with_compositions(|| trained(stage, &config));
        for (a, b) in fused.losses.iter().zip(&composed.losses) {
            assert!((a - b).abs() < 1e-4 * b.abs(), "{stage}: loss {a}, not {b}");
        }
        assert!(fused.tensors.keys().eq(composed.tensors.keys()));
        for (name, a) in &fused.tensors {
            let b = &composed.tensors[name];
            let off = length(a.iter().zip(b).map(|(a, b)| a - b));
            let size = length(b.iter().copied());
            assert!(
                off < 2e-3 * (1e-3 + size),
                "{stage}: {name}, {off} of {size}"
            );
        }
    }
}

#[test]
fn training_steps_do_not_depend_on_the_number_of_threads() {
    let config = config();
    for (stage, precision) in Stage::ALL
        .into_iter()
        .flat_map(|stage| [(stage, Precision::F32), (stage, Precision::Bf16)])
    {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap()
                .install(|| with_precision(precision, || trained(stage, &config)))
        };
        let alone = run(1);
        for threads in [2, 3] {
            let shared = run(threads);
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&shared.losses), bits(&alone.losses), "{stage}");
            for (name, values) in &alone.tensors {
                assert!(
                    bits(values) == bits(&shared.tensors[name]),
                    "{stage}: {name} on {threads} threads in {precision:?}"
                );
            }
        }
    }
}
