//! Results do not depend on the number of threads: training and play, to the last bit.

use crate::kernels::attention::Pattern;
use crate::kernels::inference::{FrameBuffers, Team};
use crate::kernels::product::Unit;
use crate::ops::tests::{attention_layer, feed_forward_layer};
use crate::{
    AdamWConfig, ExponentialAverage, MuonConfig, Optimizer, Parameters, Precision, Result,
    SpaceTimeConfig, SpaceTimeTransformer, generator, gradients, normal, numbers, ops,
    with_precision,
};
use candle_core::{Device, Tensor, Var};

fn noise(dims: &[usize], seed: u64) -> Tensor {
    let mut random = generator(seed, 3);
    let values = (0..dims.iter().product()).map(|_| normal(&mut random));
    Tensor::from_vec(values.collect::<Vec<f32>>(), dims, &Device::Cpu).unwrap()
}

/// The bits of what `work` gives, which must be the same on 1, 2, 3 and 7 threads, in both precisions.
fn same_on_any_number_of_threads(work: impl Fn() -> Result<Vec<Vec<f32>>> + Sync) {
    for precision in [Precision::F32, Precision::Bf16] {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let results = pool
                .unwrap()
                .install(|| with_precision(precision, &work))
                .unwrap();
            results.into_iter().map(bits).collect::<Vec<_>>()
        };
        let alone = run(1);
        for threads in [2, 3, 7] {
            assert!(run(threads) == alone, "{threads} threads, {precision:?}");
        }
    }
}

fn bits(values: Vec<f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

/// An operation's result and its gradients with respect to all arguments.
fn operation(
    dims: &[&[usize]],
    operation: impl Fn(&[Tensor]) -> candle_core::Result<Tensor> + Sync,
) {
    same_on_any_number_of_threads(|| {
        let arguments = dims.iter().zip(1..);
        let arguments = arguments.map(|(dims, seed)| Var::from_tensor(&noise(dims, seed)));
        let arguments = arguments.collect::<candle_core::Result<Vec<_>>>()?;
        let tensors: Vec<_> = arguments.iter().map(|x| x.as_tensor().clone()).collect();
        let value = operation(&tensors)?;
        let gradients = ops::backward(&value.sqr()?.sum_all()?)?;
        let mut results = vec![numbers(&value)?];
        for argument in &arguments {
            results.push(numbers(gradients.get(argument.as_tensor()).unwrap())?);
        }
        Ok(results)
    });
}

/// Sizes that several threads share, none of them a multiple of what one takes.
#[test]
fn operations() {
    let (x, scale): ([usize; 3], [usize; 1]) = ([9, 61, 67], [67]);
    let row = [9, 67];
    operation(&[&x, &[131, 67]], |t| ops::linear(&t[0], &t[1]));
    operation(&[&x, &[131, 67], &[9, 61, 131]], |t| {
        ops::linear_onto(&t[0], &t[1], &t[2])
    });
    operation(&[&x, &scale, &[131, 67], &[67, 131]], |t| {
        feed_forward_layer(t)
    });
    operation(&[&x, &scale], |t| ops::rms_norm(&t[0], &t[1]));
    operation(&[&x, &row, &row], |t| ops::film(&t[0], &t[1], &t[2]));
    operation(&[&x, &x], |t| ops::add(&t[0], &t[1]));
    operation(&[&x, &scale], |t| ops::add_rows(&t[0], &t[1]));
    operation(&[&x, &[61, 67]], |t| ops::add_rows(&t[0], &t[1]));
    operation(&[&x, &x], |t| ops::picture_error(&t[0], &t[1], 0.1));
    operation(&[&[7, 42, 44, 3], &[7, 5, 6, 2], &[7, 462, 12]], |t| {
        ops::warp(&t[0], &t[1], &t[2], 2)
    });
    let targets = Tensor::arange(0u32, 549, &Device::Cpu).unwrap();
    let targets = (targets.to_dtype(candle_core::DType::F32).unwrap() / 9.0)
        .and_then(|targets| targets.to_dtype(candle_core::DType::U32))
        .unwrap();
    let weights = noise(&[549], 8).sqr().unwrap();
    operation(&[&x], |t| ops::cross_entropy(&t[0], &targets, &weights));
    for pattern in [
        Pattern::Space,
        Pattern::Time { window: 3 },
        Pattern::PairedTime { window: 3 },
    ] {
        let weights: [&[usize]; 5] = [&[64], &[192, 64], &[32], &[32], &[64, 64]];
        let dims = [&[&[4, 7, 13, 64][..]], &weights[..], &[&[4, 7, 128]]].concat();
        operation(&dims, |t| attention_layer(t, pattern));
    }
}

fn config(condition_width: Option<usize>) -> SpaceTimeConfig {
    SpaceTimeConfig {
        width: 96,
        heads: 3,
        layers: 2,
        temporal_window: Some(3),
        condition_width,
    }
}

#[test]
fn training_steps() {
    same_on_any_number_of_threads(|| {
        let parameters = Parameters::seeded(1, &Device::Cpu);
        let model = SpaceTimeTransformer::new(&config(Some(8)), parameters.builder())?;
        let variables = parameters.variables();
        let muon = Some(MuonConfig::default());
        let mut optimizer = Optimizer::new(variables.clone(), AdamWConfig::default(), muon)?;
        let mut average = ExponentialAverage::new(&parameters.tensors(), 0.9)?;
        let (x, condition) = (noise(&[2, 5, 37, 96], 2), noise(&[2, 5, 8], 3));
        let mut results = Vec::new();
        for _ in 0..2 {
            let loss = model.forward(&x, Some(&condition))?.sqr()?.mean_all()?;
            let gradients = gradients(&loss, &variables)?;
            let report = optimizer.step(&gradients, 1e-2, 0.1)?;
            average.update(&variables)?;
            results.push(vec![loss.to_scalar()?, report.gradient_norm as f32]);
        }
        let tensors = [
            parameters.tensors(),
            optimizer.state()?.tensors,
            average.tensors()?,
        ];
        for tensor in tensors.iter().flat_map(|tensors| tensors.values()) {
            results.push(numbers(tensor)?);
        }
        Ok(results)
    });
}

#[test]
fn frames_of_play() -> Result<()> {
    let parameters = Parameters::seeded(1, &Device::Cpu);
    let model = SpaceTimeTransformer::new(&config(None), parameters.builder())?;
    let (positions, width) = (37, 96);
    let frames: Vec<_> = (0..5).map(|i| noise(&[positions, width], 10 + i)).collect();
    let frames = frames.iter().map(numbers).collect::<Result<Vec<_>>>()?;
    for unit in Unit::all() {
        let blocks = model.pack(positions, unit)?;
        let run = |team: Team| {
            let mut buffers = FrameBuffers::default();
            let mut cache = model.start();
            let frames = frames.iter().map(|input| {
                let embed = |rows: std::ops::Range<usize>, x: &mut [f32]| {
                    x.copy_from_slice(&input[rows.start * width..rows.end * width]);
                };
                blocks.run(&team, &mut buffers, &cache, None, &embed, &|_| true, None);
                let out = bits(buffers.residual().to_vec());
                buffers.keep(&mut cache);
                out
            });
            frames.collect::<Vec<_>>()
        };
        let alone = run(Team::new(1));
        for members in [2, 3, 7] {
            let name = unit.name();
            assert!(
                run(Team::new(members)) == alone,
                "{members} threads, {name}"
            );
        }
        let team = Team::of_speeds(&[1.0, 3.0, 0.0, 7.0]);
        assert!(run(team) == alone, "uneven threads, {}", unit.name());
    }
    Ok(())
}
