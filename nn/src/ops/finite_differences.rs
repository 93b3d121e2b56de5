//! Every fused operation against its composition evaluated in double precision: values, and gradients against central differences along
//! random directions; with arguments that lie in memory as tensors may, and sizes around the widths of vectors.

use super::tests::{attention_layer, attention_of, feed_forward_layer, feed_forward_of, noise};
use super::*;
use crate::kernels::attention::Pattern;
use crate::quality::largest_difference;
use candle_core::{DType, Device, Result, Tensor};
use proptest::prelude::*;
use proptest::sample::{Select, select};
use proptest::test_runner::RngSeed;

/// Far below any feature of the functions, far above what double precision rounds.
const STEP: f64 = 1e-6;
/// What may be rounded off, as a share of the longest gradient.
const ROUNDED: f64 = 2e-6;
/// Directions for each argument.
const DIRECTIONS: u64 = 3;

/// How an operation sees the numbers of a variable.
#[derive(Clone, Copy, Debug)]
enum View {
    Whole,
    /// First and last dimension exchanged.
    Exchanged,
    /// Part of longer rows.
    Part,
    /// One and the same along the first dimension.
    Repeated,
}

impl View {
    fn any() -> Select<Self> {
        select(vec![
            Self::Whole,
            Self::Exchanged,
            Self::Part,
            Self::Repeated,
        ])
    }

    /// Without [`Self::Repeated`]: a query whose numbers are all the same turns around where they change their sign, too fast for single precision.
    fn varied() -> Select<Self> {
        select(vec![Self::Whole, Self::Exchanged, Self::Part])
    }

    /// Dimensions of the variable behind an argument of `dims`.
    fn stored(self, dims: &[usize]) -> Vec<usize> {
        let (mut stored, last) = (dims.to_vec(), dims.len() - 1);
        match self {
            Self::Whole => {}
            Self::Exchanged => stored.swap(0, last),
            Self::Part => stored[last] += 3,
            Self::Repeated => stored[0] = 1,
        }
        stored
    }

    fn of(self, variable: &Tensor, dims: &[usize]) -> Result<Tensor> {
        let last = dims.len() - 1;
        match self {
            Self::Whole => Ok(variable.clone()),
            Self::Exchanged => variable.transpose(0, last),
            Self::Part => variable.narrow(last, 1, dims[last]),
            Self::Repeated => variable.broadcast_as(dims),
        }
    }
}

type Operation<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Compares `fused` in single precision with `plain` in double precision on arguments of these dimensions, seen so.
fn holds(arguments: &[(&[usize], View)], fused: Operation, plain: Operation) -> Result<()> {
    let stored = arguments.iter().zip(1..);
    let variables: Vec<_> = stored
        .map(|((dims, view), seed)| noise(&view.stored(dims), seed))
        .collect();
    let seen = |tensors: &[Tensor]| -> Result<Vec<Tensor>> {
        let arguments = arguments.iter().zip(tensors);
        arguments
            .map(|((dims, view), x)| view.of(x, dims))
            .collect()
    };
    let singles: Vec<_> = variables.iter().map(|v| v.as_tensor().clone()).collect();
    let doubles = variables.iter().map(|v| v.to_dtype(DType::F64));
    let doubles = doubles.collect::<Result<Vec<_>>>()?;

    let (value, exact) = (fused(&seen(&singles)?)?, plain(&seen(&doubles)?)?);
    assert_eq!(value.shape(), exact.shape());
    let off = largest_difference(&value, &exact);
    let size = 1.0 + largest_difference(&exact, &exact.zeros_like()?);
    assert!(off < 1e-4 * size, "values differ by {off}");

    let weights = noise(exact.dims(), 99);
    let gradients = (value * weights.as_tensor())?.sum_all()?.backward()?;
    let weights = weights.to_dtype(DType::F64)?;
    let loss = |tensors: &[Tensor]| -> Result<f64> {
        (plain(&seen(tensors)?)? * &weights)?.sum_all()?.to_scalar()
    };
    let mut told = Vec::new();
    for (index, variable) in variables.iter().enumerate() {
        let gradient = gradients
            .get(variable.as_tensor())
            .unwrap_or_else(|| panic!("argument {index} has no gradient"))
            .to_dtype(DType::F64)?;
        let length = gradient.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
        told.push((gradient, length));
    }
    // Where an argument hardly matters, what single precision rounds off of the others is left.
    let longest = told.iter().fold(0.0, |most, (_, length)| length.max(most));
    for (index, (variable, (gradient, length))) in variables.iter().zip(&told).enumerate() {
        for direction in 0..DIRECTIONS {
            let direction = noise(variable.dims(), 100 + direction).to_dtype(DType::F64)?;
            let moved = |by: f64| {
                let mut tensors = doubles.clone();
                tensors[index] = (&doubles[index] + (&direction * by)?)?;
                loss(&tensors)
            };
            let slope = (moved(STEP)? - moved(-STEP)?) / (2.0 * STEP);
            let told = (gradient * &direction)?.sum_all()?.to_scalar::<f64>()?;
            assert!(
                (told - slope).abs() < 2e-4 * (1.0 + length) + ROUNDED * longest,
                "argument {index} {arguments:?}: slope {slope}, gradient {told} of length {length}"
            );
        }
    }
    Ok(())
}

/// Sizes around those of vectors, and odd ones.
fn size() -> impl Strategy<Value = usize> {
    select(vec![
        1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 23, 31, 32, 33, 47, 48, 49, 63, 64, 65,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn linear_layers(batch in 1usize..4, rows in size(), inputs in size(), outputs in size(), views in [View::any(), View::any(), View::any()]) {
        let (x, weight, residual) = ([batch, rows, inputs], [outputs, inputs], [batch, rows, outputs]);
        let arguments = [(&x[..], views[0]), (&weight, views[1]), (&residual, views[2])];
        holds(&arguments[..2], &|t| linear(&t[0], &t[1]), &|t| composed::linear(&t[0], &t[1])).unwrap();
        holds(&arguments, &|t| linear_onto(&t[0], &t[1], &t[2]), &|t| composed::linear(&t[0], &t[1])? + &t[2]).unwrap();
    }

    #[test]
    fn feed_forward_layers(
        batch in 1usize..4, rows in size(), width in size(), wide in size(), modulated in any::<bool>(),
        views in [View::any(), View::any(), View::any(), View::any(), View::any()],
    ) {
        let (x, up, down) = ([batch, rows, width], [wide, width], [width, wide]);
        let dims: [&[usize]; 5] = [&x, &[width], &up, &down, &[batch, 2 * width]];
        let arguments: Vec<_> = dims.into_iter().zip(views).take(4 + usize::from(modulated)).collect();
        holds(&arguments, &feed_forward_layer, &|t| composed::feed_forward_layer(&t[0], &feed_forward_of(t))).unwrap();
    }

    #[test]
    fn norms(batch in 1usize..4, rows in size(), width in size(), views in [View::any(), View::any()]) {
        let (x, weight) = ([batch, rows, width], [width]);
        holds(&[(&x, views[0]), (&weight, views[1])], &|t| rms_norm(&t[0], &t[1]), &|t| composed::rms_norm(&t[0], &t[1])).unwrap();
    }

    #[test]
    fn modulation(batch in 1usize..4, groups in 1usize..6, rows in size(), width in size(), views in [View::any(), View::any(), View::any()]) {
        let (x, row) = ([batch, groups, rows, width], [batch, groups, width]);
        let arguments = [(&x[..], views[0]), (&row, views[1]), (&row, views[2])];
        holds(&arguments, &|t| film(&t[0], &t[1], &t[2]), &|t| composed::film(&t[0], &t[1], &t[2])).unwrap();
    }

    #[test]
    fn sums(batch in 1usize..4, rows in size(), width in size(), views in [View::any(), View::any()]) {
        let dims = [batch, rows, width];
        holds(&[(&dims, views[0]), (&dims, views[1])], &|t| add(&t[0], &t[1]), &|t| &t[0] + &t[1]).unwrap();
    }

    #[test]
    fn repeated_rows(batch in 1usize..40, rows in size(), width in size(), views in [View::any(), View::any()]) {
        let (x, positions, bias) = ([batch, rows, width], [rows, width], [width]);
        for added in [&positions[..], &bias] {
            holds(&[(&x, views[0]), (added, views[1])], &|t| add_rows(&t[0], &t[1]), &|t| composed::add_rows(&t[0], &t[1])).unwrap();
        }
    }

    #[test]
    fn picture_errors(batch in 1usize..4, rows in size(), width in size(), views in [View::any(), View::any()]) {
        let dims = [batch, rows, width];
        holds(&[(&dims, views[0]), (&dims, views[1])], &|t| picture_error(&t[0], &t[1], 0.3), &|t| composed::picture_error(&t[0], &t[1], 0.3)).unwrap();
    }

    #[test]
    fn cross_entropies(rows in size(), classes in size(), seed in 0u32..9, view in View::any()) {
        let targets: Vec<u32> = (0..rows as u32).map(|row| (row * 31 + seed) % classes as u32).collect();
        let targets = Tensor::new(targets, &Device::Cpu).unwrap();
        let weights: Vec<f32> = (0..rows).map(|row| ((row + 1) % 3) as f32).collect();
        let weights = Tensor::new(weights, &Device::Cpu).unwrap();
        holds(&[(&[1, rows, classes], view)], &|t| cross_entropy(&t[0], &targets, &weights), &|t| composed::cross_entropy(&t[0], &targets, &weights)).unwrap();
    }

    #[test]
    fn attentions(
        batch in 1usize..3, frames in 1usize..8, positions in select(vec![1usize, 2, 7, 8, 9, 15, 16, 17, 33]), heads in 1usize..3,
        wide in 1usize..4, window in 1usize..5, modulated in any::<bool>(),
        views in [View::any(), View::any(), View::varied(), View::any(), View::any(), View::any(), View::any()],
    ) {
        let (scale, full) = ([16 * wide], heads * 16 * wide);
        for pattern in [Pattern::Space, Pattern::Time { window }, Pattern::PairedTime { window }] {
            let pairs = if matches!(pattern, Pattern::PairedTime { .. }) { 2 } else { 1 };
            let (x, modulation) = ([pairs * batch, frames, positions, full], [pairs * batch, frames, 2 * full]);
            let dims: [&[usize]; 7] = [&x, &[full], &[3 * full, full], &scale, &scale, &[full, full], &modulation];
            let arguments: Vec<_> = dims.into_iter().zip(views).take(6 + usize::from(modulated)).collect();
            holds(&arguments, &|t| attention_layer(t, pattern), &|t| composed::attention_layer(&t[0], &attention_of(t), pattern)).unwrap();
        }
    }
}

proptest! {
    // The same cases in every run: where a flow points to very nearly a whole pixel, the slope jumps, and rounding decides which of two it is.
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::with_cases(48) })]

    #[test]
    fn warps(
        count in 1usize..3, down in 1usize..9, across in 1usize..9, patch in 1usize..4, rows in 1usize..5, columns in 1usize..5,
        views in [View::any(), View::any(), View::any()],
    ) {
        let (pictures, flow) = ([count, down * patch, across * patch, 3], [count, rows, columns, 2]);
        let residual = [count, down * across, patch * patch * 3];
        let arguments: [(&[usize], View); 3] = [(&pictures, views[0]), (&flow, views[1]), (&residual, views[2])];
        let warped = |t: &[Tensor]| warp(&t[0], &t[1], &t[2], patch);
        holds(&arguments, &warped, &|t| with_compositions(|| warped(t))).unwrap();
    }
}
