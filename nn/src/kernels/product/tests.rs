//! Products of every unit of this CPU against the definition.

use super::*;
use crate::Precision;
use crate::kernels::elementwise::gelu;
use crate::kernels::transpose::brain;
use proptest::prelude::*;

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|i| (((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5) - 1.0)
        .collect()
}

/// What a unit reads of a number.
fn rounded(unit: Unit, values: &[f32]) -> Vec<f64> {
    let brain = |x: f32| f32::from_bits(brain(x) << 16);
    let read = |&x: &f32| match unit.precision() {
        Precision::F32 => f64::from(x),
        Precision::Bf16 => f64::from(brain(x)),
    };
    values.iter().map(read).collect()
}

fn plain(left: &[f64], right: &[f64], m: usize, n: usize, k: usize) -> Vec<f64> {
    let mut out = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            out[i * n + j] = (0..k).map(|l| left[i * k + l] * right[l * n + j]).sum();
        }
    }
    out
}

fn exchanged(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns)
        .map(|i| x[(i % rows) * columns + i / rows])
        .collect()
}

fn assert_close(a: &[f32], b: &[f64], factor: f64, what: &str) {
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let (a, b) = (f64::from(*a), b * factor);
        assert!(
            (a - b).abs() < 2e-4 * (1.0 + b.abs()),
            "{what}: number {i} is {a}, not {b}"
        );
    }
}

fn check(m: usize, n: usize, k: usize) {
    let (left, right) = (numbers(m * k, 1), numbers(k * n, 2));
    let (left_flipped, right_flipped) = (exchanged(&left, m, k), exchanged(&right, k, n));
    let lefts = [
        Matrix::new(&left, m, k),
        Matrix::new(&left_flipped, k, m).transposed(),
    ];
    let rights = [
        Matrix::new(&right, k, n),
        Matrix::new(&right_flipped, n, k).transposed(),
    ];
    for unit in Unit::all() {
        let expected = plain(&rounded(unit, &left), &rounded(unit, &right), m, n, k);
        let mut out = vec![f32::NAN; m * n];
        for left in lefts {
            for right in rights {
                multiply_on(unit, &mut out, left, right, false);
                assert_close(&out, &expected, 1.0, unit.name());
                multiply_on(unit, &mut out, left, right, true);
                assert_close(&out, &expected, 2.0, unit.name());
            }
        }
        let whole = out.clone();
        let weight = PackedWeight::new(&right_flipped, n, k, unit);
        weight.apply(&mut out, &left, Finish::Write);
        assert_close(&out, &expected, 1.0, unit.name());
        weight.apply(&mut out, &left, Finish::Add);
        assert_eq!(
            out,
            whole,
            "a packed weight gives exactly what a product gives ({})",
            unit.name()
        );
        let bias = vec![0.5; n];
        weight.apply(&mut out, &left, Finish::Bias(&bias));
        let moved: Vec<f64> = expected.iter().map(|x| x + 0.5).collect();
        assert_close(&out, &moved, 1.0, unit.name());
        weight.apply(&mut out, &left, Finish::Write);
        let mut active = vec![0.0; out.len()];
        gelu(&mut active, &out);
        weight.apply(&mut out, &left, Finish::Gelu);
        assert_eq!(out, active, "of the whole sum ({})", unit.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn products_equal_the_definition(m in 1usize..70, n in 1usize..70, k in 1usize..70) {
        check(m, n, k);
    }
}

/// Sizes that are split over several cores and several parts of `k`.
#[test]
fn large_products_equal_the_definition() {
    for (m, n, k) in [
        (301, 97, 1100),
        (64, 1000, 192),
        (40, 40, 2100),
        (1500, 33, 70),
    ] {
        check(m, n, k);
    }
}

#[test]
fn a_chain_gives_exactly_what_two_products_give() {
    for (m, k, middle, n) in [
        (1, 1, 1, 1),
        (301, 97, 600, 33),
        (150, 40, 1100, 200),
        (5, 0, 3, 2),
    ] {
        let (left, first, second) = (
            numbers(m * k, 1),
            numbers(k * middle, 2),
            numbers(middle * n, 3),
        );
        let left = Matrix::new(&left, m, k);
        let first = Matrix::new(&first, k, middle);
        for precision in [Precision::F32, Precision::Bf16] {
            crate::with_precision(precision, || {
                let wide = product(left, first);
                let halves: Vec<f32> = wide.iter().map(|x| x / 2.0).collect();
                let second = Matrix::new(&second, middle, n);
                let out = product(Matrix::new(&halves, m, middle), second);
                let kept = chain(left, first, second, |rows, part, buffer| {
                    assert_eq!(part, &wide[rows.start * middle..rows.end * middle]);
                    let halves = &mut buffer.numbers(part.len())[..part.len()];
                    halves.iter_mut().zip(part).for_each(|(y, x)| *y = *x / 2.0);
                    halves
                });
                assert_eq!(kept, (wide.clone(), out.clone()));
                let changed = chain(left, first, second, |_, part, _| {
                    part.iter_mut().for_each(|x| *x /= 2.0);
                    part
                });
                assert_eq!(changed, (halves, out));
            });
        }
    }
}

#[test]
fn a_row_does_not_depend_on_the_rows_beside_it() {
    let (m, n, k) = (65, 100, 600);
    let (left, weight) = (numbers(m * k, 1), numbers(n * k, 2));
    for unit in Unit::all() {
        let packed = PackedWeight::new(&weight, n, k, unit);
        let (mut all, mut some) = (vec![0.0; m * n], vec![0.0; 9 * n]);
        packed.apply(&mut all, &left, Finish::Write);
        packed.apply(&mut some, &left[20 * k..29 * k], Finish::Write);
        assert_eq!(all[20 * n..29 * n], some[..], "{}", unit.name());
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let (m, n, k) = (333, 200, 700);
    let (left, right) = (numbers(m * k, 1), numbers(k * n, 2));
    for unit in Unit::all() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let mut out = vec![0.0; m * n];
            pool.install(|| {
                multiply_on(
                    unit,
                    &mut out,
                    Matrix::new(&left, m, k),
                    Matrix::new(&right, k, n),
                    false,
                )
            });
            out
        };
        assert_eq!(run(1), run(3), "{}", unit.name());
    }
}

#[test]
fn empty_sides_make_zeros() {
    let mut out = vec![1.0; 6];
    multiply(
        &mut out,
        Matrix::new(&[], 2, 0),
        Matrix::new(&[], 0, 3),
        false,
    );
    assert_eq!(out, [0.0; 6]);
}
