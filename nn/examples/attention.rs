//! Times of attention in training on this machine, forward and backward: `cargo run --release -p nn --example attention`.

use nn::kernels::attention::{Pattern, Sizes, backward, forward, pair_count};
use std::time::Instant;

/// Milliseconds of the fastest of several runs.
fn shortest(mut work: impl FnMut()) -> f64 {
    let once = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64() * 1e3
    };
    (0..40)
        .map(|_| once(&mut work))
        .fold(f64::INFINITY, f64::min)
}

fn main() {
    let dynamics = Sizes {
        batch: 12,
        frames: 8,
        positions: 65,
        heads: 6,
        head_width: 32,
    };
    let tokenizer = Sizes {
        batch: 32,
        frames: 1,
        positions: 64,
        heads: 8,
        head_width: 32,
    };
    let window = 8;
    println!(
        "{:<28}{:>12}{:>10}{:>12}{:>10}",
        "", "forward ms", "GFLOP/s", "backward ms", "GFLOP/s"
    );
    for (name, sizes, pattern) in [
        ("tokenizer, space", tokenizer, Pattern::Space),
        ("dynamics, space", dynamics, Pattern::Space),
        ("dynamics, time", dynamics, Pattern::Time { window }),
        (
            "dynamics, paired time",
            dynamics,
            Pattern::PairedTime { window },
        ),
    ] {
        let numbers = |count: usize| -> Vec<f32> {
            (0..count)
                .map(|i| ((i * 7919 % 2003) as f32 / 1001.5) - 1.0)
                .collect()
        };
        let (rows, width) = (sizes.rows(), sizes.width());
        let (qkv, dout) = (numbers(rows * 3 * width), numbers(rows * width));
        let scale = vec![2.0; sizes.head_width];
        let ahead = shortest(|| drop(forward(&qkv, &scale, &scale, sizes, pattern)));
        let back = shortest(|| drop(backward(&dout, &qkv, &scale, &scale, sizes, pattern)));
        let product = 2.0 * pair_count(sizes, pattern) as f64 * sizes.head_width as f64 / 1e6;
        println!(
            "{name:<28}{ahead:>12.2}{:>10.1}{back:>12.2}{:>10.1}",
            2.0 * product / ahead,
            5.0 * product / back
        );
    }
}
