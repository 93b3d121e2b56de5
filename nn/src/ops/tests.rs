//! Every fused operation against the plain composition in single precision: values, and gradients with respect to every argument.

use super::*;
use crate::kernels::attention::Pattern;
use crate::quality::largest_difference;
use crate::{generator, normal};
use candle_core::{Device, Result, Tensor, Var};
use proptest::prelude::*;
use std::borrow::Cow;

pub(super) fn noise(dims: &[usize], seed: u64) -> Var {
    let mut random = generator(seed, 1);
    let values = (0..dims.iter().product())
        .map(|_| normal(&mut random))
        .collect::<Vec<f32>>();
    Var::from_tensor(&Tensor::from_vec(values, dims, &Device::Cpu).unwrap()).unwrap()
}

/// Arguments of an attention layer from `x` and what [`AttentionArguments`] lists, the modulation last where there is one.
pub(super) fn attention_of(t: &[Tensor]) -> AttentionArguments {
    AttentionArguments {
        norm: NormArguments {
            weight: t[1].clone(),
            modulation: t.get(6).cloned(),
        },
        qkv: t[2].clone(),
        query_scale: t[3].clone(),
        key_scale: t[4].clone(),
        out: t[5].clone(),
    }
}

/// The same of a feed-forward layer.
pub(super) fn feed_forward_of(t: &[Tensor]) -> FeedForwardArguments {
    FeedForwardArguments {
        norm: NormArguments {
            weight: t[1].clone(),
            modulation: t.get(4).cloned(),
        },
        up: t[2].clone(),
        down: t[3].clone(),
    }
}

/// One attention layer, over `x` and what [`attention_of`] takes.
pub(crate) fn attention_layer(t: &[Tensor], pattern: Pattern) -> Result<Tensor> {
    sub_layers(&t[0], &[SubLayer::Attention(attention_of(t), pattern)])
}

/// One feed-forward layer.
pub(crate) fn feed_forward_layer(t: &[Tensor]) -> Result<Tensor> {
    sub_layers(&t[0], &[SubLayer::FeedForward(feed_forward_of(t))])
}

/// The largest of a tensor's numbers, whatever their signs.
fn largest(x: &Tensor) -> f32 {
    largest_difference(x, &x.zeros_like().unwrap())
}

/// Compares `fused` and `plain` on the same variables: results, and gradients of the sum of results weighted at random.
fn same(
    vars: &[Var],
    fused: impl Fn(&[Tensor]) -> Result<Tensor>,
    plain: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let (a, b) = (fused(&tensors).unwrap(), plain(&tensors).unwrap());
    assert_eq!(a.shape(), b.shape());
    let off = largest_difference(&a, &b);
    assert!(off < 1e-4 * (1.0 + largest(&b)), "values differ by {off}");
    let weights = noise(if a.rank() == 0 { &[] } else { a.dims() }, 99);
    let loss = |y: &Tensor| (y * weights.as_tensor())?.sum_all();
    let (loss, plain) = (loss(&a).unwrap(), loss(&b).unwrap().backward().unwrap());
    for ours in [loss.backward().unwrap(), backward(&loss).unwrap()] {
        for (index, var) in vars.iter().enumerate() {
            let [ours, plain] = [&ours, &plain].map(|store| store.get(var.as_tensor()).unwrap());
            let off = largest_difference(ours, plain);
            assert!(
                off < 2e-4 * (1.0 + largest(plain)),
                "gradient {index} of {:?} differs by {off}",
                var.shape()
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn linear_layers(rows in 1usize..70, inputs in 1usize..40, outputs in 1usize..40) {
        let vars = [noise(&[rows, inputs], 1), noise(&[outputs, inputs], 2), noise(&[rows, outputs], 3)];
        same(&vars[..2], |t| linear(&t[0], &t[1]), |t| composed::linear(&t[0], &t[1]));
        same(&vars, |t| linear_onto(&t[0], &t[1], &t[2]), |t| composed::linear(&t[0], &t[1])? + &t[2]);
    }

    #[test]
    fn feed_forward_layers(groups in 1usize..5, rows in 1usize..30, width in 1usize..24, wide in 1usize..50) {
        let vars = [
            noise(&[groups, rows, width], 1), noise(&[width], 2), noise(&[wide, width], 3), noise(&[width, wide], 4), noise(&[groups, 2 * width], 5),
        ];
        for vars in [&vars[..4], &vars] {
            same(vars, feed_forward_layer, |t| composed::feed_forward_layer(&t[0], &feed_forward_of(t)));
        }
    }

    #[test]
    fn several_sub_layers(batch in 1usize..3, frames in 1usize..5, positions in 1usize..20, wide in 1usize..40) {
        // The first and the last have the same weights.
        let vars = [
            noise(&[batch, frames, positions, 16], 1), noise(&[16], 2), noise(&[48, 16], 3), noise(&[16], 4), noise(&[16], 5), noise(&[16, 16], 6),
            noise(&[batch, frames, 32], 7), noise(&[wide, 16], 8), noise(&[16, wide], 9),
        ];
        let layers = |t: &[Tensor]| {
            let modulated = [&t[..2], &t[7..9], &t[6..7]].concat();
            [
                SubLayer::Attention(attention_of(&t[..6]), Pattern::Space),
                SubLayer::FeedForward(feed_forward_of(&modulated)),
                SubLayer::Attention(attention_of(&t[..6]), Pattern::Time { window: 2 }),
            ]
        };
        same(&vars, |t| sub_layers(&t[0], &layers(t)), |t| with_compositions(|| sub_layers(&t[0], &layers(t))));
    }

    #[test]
    fn norms(rows in 1usize..90, width in 1usize..70) {
        let vars = [noise(&[rows, width], 1), noise(&[width], 2)];
        same(&vars, |t| rms_norm(&t[0], &t[1]), |t| composed::rms_norm(&t[0], &t[1]));
    }

    #[test]
    fn modulation(groups in 1usize..6, rows in 1usize..20, width in 1usize..40) {
        let vars = [noise(&[2, groups, rows, width], 1), noise(&[2, groups, width], 2), noise(&[2, groups, width], 3)];
        same(&vars, |t| film(&t[0], &t[1], &t[2]), |t| composed::film(&t[0], &t[1], &t[2]));
    }

    #[test]
    fn shifted_groups(groups in 1usize..6, rows in 1usize..20, width in 1usize..40) {
        let vars = [noise(&[groups, rows, width], 1), noise(&[groups, width], 2)];
        same(&vars, |t| shift_groups(&t[0], &t[1]), |t| t[0].broadcast_add(&t[1].unsqueeze(1)?));
    }

    #[test]
    fn pieces_in_another_order(groups in 1usize..5, a in 1usize..20, b in 1usize..20, run in 1usize..9) {
        let vars = [noise(&[groups, a, b, run], 1), noise(&[groups, a, b, run], 2)];
        same(&vars[..1], |t| exchange_middle(&t[0]), |t| t[0].transpose(1, 2)?.contiguous());
        same(&vars, |t| beside(&[&t[0], &t[1]]), |t| Tensor::cat(&[&t[0], &t[1]], 3));
    }

    #[test]
    fn sums(rows in 1usize..300, width in 1usize..70) {
        let vars = [noise(&[rows, width], 1), noise(&[rows, width], 2)];
        same(&vars, |t| add(&t[0], &t[1]), |t| &t[0] + &t[1]);
    }

    #[test]
    fn repeated_rows(groups in 1usize..70, rows in 1usize..9, width in 1usize..70) {
        let vars = [noise(&[groups, rows, width], 1), noise(&[rows, width], 2), noise(&[width], 3)];
        same(&vars[..2], |t| add_rows(&t[0], &t[1]), |t| composed::add_rows(&t[0], &t[1]));
        same(&[vars[0].clone(), vars[2].clone()], |t| add_rows(&t[0], &t[1]), |t| composed::add_rows(&t[0], &t[1]));
    }

    #[test]
    fn picture_errors(rows in 1usize..300, width in 1usize..70) {
        let vars = [noise(&[rows, width], 1), noise(&[rows, width], 2)];
        same(&vars, |t| picture_error(&t[0], &t[1], 0.1), |t| composed::picture_error(&t[0], &t[1], 0.1));
    }

    #[test]
    fn attentions(batch in 1usize..3, frames in 1usize..12, positions in 1usize..35, heads in 1usize..3, wide in 1usize..3, window in 1usize..5) {
        let width = 16 * wide;
        let full = heads * width;
        let vars = [
            noise(&[2 * batch, frames, positions, full], 1), noise(&[full], 2), noise(&[3 * full, full], 3), noise(&[width], 4), noise(&[width], 5),
            noise(&[full, full], 6), noise(&[2 * batch, frames, 2 * full], 7),
        ];
        for pattern in [Pattern::Space, Pattern::Time { window }, Pattern::PairedTime { window }] {
            for vars in [&vars[..6], &vars] {
                same(vars, |t| attention_layer(t, pattern), |t| composed::attention_layer(&t[0], &attention_of(t), pattern));
            }
        }
    }

    #[test]
    fn warps(count in 1usize..3, down in 2usize..5, across in 2usize..5, patch in 1usize..4, rows in 1usize..4, columns in 1usize..4) {
        // Offsets away from whole pixels, where the bilinear slope jumps.
        let flow = noise(&[count, rows, columns, 2], 5);
        let residual = noise(&[count, down * across, patch * patch * 3], 7);
        let vars = [noise(&[count, down * patch, across * patch, 3], 1), flow, residual];
        let composition = |t: &[Tensor]| with_compositions(|| warp(&t[0], &t[1], &t[2], patch));
        same(&vars, |t| warp(&t[0], &t[1], &t[2], patch), composition);
    }

    #[test]
    fn cross_entropies(rows in 1usize..60, classes in 1usize..70, seed in 0u32..9) {
        let targets: Vec<u32> = (0..rows as u32).map(|row| (row * 31 + seed) % classes as u32).collect();
        let targets = Tensor::new(targets, &Device::Cpu).unwrap();
        let weights: Vec<f32> = (0..rows).map(|row| ((row + 1) % 3) as f32).collect();
        let weights = Tensor::new(weights, &Device::Cpu).unwrap();
        same(&[noise(&[rows, classes], 1)], |t| cross_entropy(&t[0], &targets, &weights), |t| composed::cross_entropy(&t[0], &targets, &weights));
    }
}

#[test]
fn what_nothing_depends_on_has_no_gradient_and_its_neighbours_do() -> Result<()> {
    let dims: [&[usize]; 5] = [&[2, 3, 4], &[4], &[7, 4], &[4, 7], &[2, 8]];
    let vars = dims.map(|dims| noise(dims, 1));
    for frozen in 0..vars.len() {
        let tensors = vars.iter().enumerate().map(|(index, var)| {
            let tensor = var.as_tensor();
            match index == frozen {
                true => tensor.detach(),
                false => tensor.clone(),
            }
        });
        let tensors: Vec<Tensor> = tensors.collect();
        let out = feed_forward_layer(&tensors)?;
        let gradients = backward(&out.sqr()?.sum_all()?)?;
        for (index, var) in vars.iter().enumerate() {
            assert_eq!(gradients.get(var.as_tensor()).is_none(), index == frozen);
        }
    }
    let data = vars.map(|var| var.as_tensor().detach());
    assert!(!feed_forward_layer(&data)?.track_op());
    Ok(())
}

#[test]
fn a_backward_pass_within_another_keeps_to_itself() -> Result<()> {
    let (outer, inner) = (noise(&[3], 1), noise(&[3], 2));
    let own_inner = inner.clone();
    let run_inner = move |_: Cow<[f32]>| {
        let twice = add(own_inner.as_tensor(), own_inner.as_tensor())?.sum_all()?;
        let gradients = backward(&twice)?;
        let found = gradients.get(own_inner.as_tensor()).unwrap();
        assert_eq!(found.to_vec1::<f32>()?, [2.0; 3]);
        Ok(vec![Some(vec![7.0; 3])])
    };
    let out = computed::computed(vec![1.0], &Shape::from(()), &[outer.as_tensor()], run_inner)?;
    let gradients = backward(&out)?;
    let found = gradients.get(outer.as_tensor()).unwrap();
    assert_eq!(found.to_vec1::<f32>()?, [7.0; 3]);
    assert!(gradients.get(inner.as_tensor()).is_none());
    Ok(())
}

#[test]
fn misfits_are_errors() {
    let t = |dims: &[usize]| noise(dims, 1).as_tensor().clone();
    assert!(linear(&t(&[2, 3]), &t(&[4, 5])).is_err());
    assert!(linear_onto(&t(&[2, 3]), &t(&[4, 3]), &t(&[2, 5])).is_err());
    assert!(rms_norm(&t(&[2, 3]), &t(&[4])).is_err());
    assert!(add_rows(&t(&[2, 3, 4]), &t(&[2, 4])).is_err());
    assert!(picture_error(&t(&[2, 3]), &t(&[3, 2]), 0.1).is_err());
    assert!(film(&t(&[2, 3, 4]), &t(&[3, 4]), &t(&[3, 4])).is_err());
    let attention = |head: usize, rows: usize, modulation: &[usize]| {
        let dims: [&[usize]; 7] = [
            &[1, 1, 2, 32],
            &[32],
            &[rows, 32],
            &[head],
            &[head],
            &[32, 32],
            modulation,
        ];
        let t = dims.map(t);
        attention_layer(&t, Pattern::Space)
    };
    assert!(attention(16, 96, &[1, 1, 64]).is_ok());
    assert!(attention(8, 96, &[1, 1, 64]).is_err());
    assert!(attention(16, 64, &[1, 1, 64]).is_err());
    assert!(attention(16, 96, &[1, 1, 32]).is_err());
    assert!(attention(16, 96, &[1, 2, 64]).is_err());
    let feed_forward = |norm: usize, down: usize| {
        let dims: [&[usize]; 4] = [&[2, 3], &[norm], &[5, 3], &[3, down]];
        let t = dims.map(t);
        feed_forward_layer(&t)
    };
    assert!(feed_forward(3, 5).is_ok());
    assert!(feed_forward(2, 5).is_err());
    assert!(feed_forward(3, 4).is_err());
    let warped = |flow: [usize; 4], residual: [usize; 3], patch| {
        let dims: [&[usize]; 3] = [&[1, 4, 6, 3], &flow, &residual];
        let [pictures, flow, residual] = dims.map(t);
        warp(&pictures, &flow, &residual, patch)
    };
    assert!(warped([1, 2, 2, 2], [1, 6, 12], 2).is_ok());
    for (flow, residual, patch) in [
        ([2, 2, 2, 2], [1, 6, 12], 2),
        ([1, 2, 2, 3], [1, 6, 12], 2),
        ([1, 0, 2, 2], [1, 6, 12], 2),
        ([1, 2, 2, 2], [1, 5, 12], 2),
        ([1, 2, 2, 2], [1, 6, 13], 2),
        ([1, 2, 2, 2], [1, 2, 27], 3),
        ([1, 2, 2, 2], [1, 6, 12], 0),
    ] {
        assert!(warped(flow, residual, patch).is_err());
    }
    let one = Tensor::new(&[7u32], &Device::Cpu).unwrap();
    assert!(
        cross_entropy(
            &t(&[1, 5]),
            &one,
            &Tensor::new(&[1f32], &Device::Cpu).unwrap()
        )
        .is_err()
    );
}
