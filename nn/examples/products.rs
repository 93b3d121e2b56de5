//! Rates of matrix products on this machine, for every unit that it has, beside the `gemm` crate: `cargo run --release -p nn --example products`.

use nn::kernels::product::{Finish, Matrix, PackedWeight, Unit, multiply_on};
use std::time::Instant;

/// Rows, outputs and inputs of layers as Djinn has them: large squares, training steps, and single frames of play.
const SIZES: [[usize; 3]; 8] = [
    [1024, 1024, 1024],
    [2048, 2048, 2048],
    [2048, 768, 256],
    [2048, 256, 1024],
    [6240, 576, 192],
    [6240, 192, 768],
    [65, 576, 192],
    [65, 192, 768],
];

/// Billions of operations a second of the fastest of several runs.
fn rate(operations: f64, mut work: impl FnMut()) -> f64 {
    let tries = (2e9 / operations).clamp(5.0, 400.0) as usize;
    let once = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    let shortest = (0..tries)
        .map(|_| once(&mut work))
        .fold(f64::INFINITY, f64::min);
    operations / shortest / 1e9
}

fn main() {
    println!(
        "{:<22}{:>14}{:>10}{:>10}{:>10}{:>14}",
        "rows outputs inputs", "unit", "x*w'", "g*w", "g'*x", "packed, 1 core"
    );
    for [m, n, k] in SIZES {
        let (x, weight, gradient) = (
            vec![0.5f32; m * k],
            vec![0.5f32; n * k],
            vec![0.5f32; m * n],
        );
        let [mut y, mut dx, mut dw] = [m * n, m * k, n * k].map(|count| vec![0f32; count]);
        let operations = 2.0 * (m * n * k) as f64;
        let size = format!("{m} {n} {k}");
        for unit in Unit::all() {
            let forward = rate(operations, || {
                multiply_on(
                    unit,
                    &mut y,
                    Matrix::new(&x, m, k),
                    Matrix::new(&weight, n, k).transposed(),
                    false,
                );
            });
            let inner = rate(operations, || {
                multiply_on(
                    unit,
                    &mut dx,
                    Matrix::new(&gradient, m, n),
                    Matrix::new(&weight, n, k),
                    false,
                );
            });
            let outer = rate(operations, || {
                multiply_on(
                    unit,
                    &mut dw,
                    Matrix::new(&gradient, m, n).transposed(),
                    Matrix::new(&x, m, k),
                    false,
                );
            });
            let packed = PackedWeight::new(&weight, n, k, unit);
            let fixed = rate(operations, || packed.apply(&mut y, &x, Finish::Write));
            println!(
                "{size:<22}{:>14}{forward:>10.0}{inner:>10.0}{outer:>10.0}{fixed:>14.0}",
                unit.name()
            );
        }
        let crates = rate(operations, || {
            // SAFETY: sizes and strides describe exactly the vectors.
            unsafe {
                gemm::gemm(
                    m,
                    n,
                    k,
                    y.as_mut_ptr(),
                    1,
                    n as isize,
                    false,
                    x.as_ptr(),
                    1,
                    k as isize,
                    weight.as_ptr(),
                    k as isize,
                    1,
                    1.0,
                    1.0,
                    false,
                    false,
                    false,
                    gemm::Parallelism::Rayon(0),
                );
            }
        });
        println!("{size:<22}{:>14}{crates:>10.0}", "gemm crate");
    }
}
