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
        (400, 300, 500),
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
                let halved = Matrix::new(&halves, m, middle);
                let out = product(halved, second);
                let kept = chain(left, first, second, None, |rows, part, buffer| {
                    assert_eq!(part, &wide[rows.start * middle..rows.end * middle]);
                    let halves = &mut buffer.numbers(part.len())[..part.len()];
                    halves.iter_mut().zip(part).for_each(|(y, x)| *y = *x / 2.0);
                    halves
                });
                assert_eq!(kept, (wide.clone(), out.clone()));
                let onto = numbers(m * n, 4);
                let mut sum = onto.clone();
                multiply(&mut sum, halved, second, true);
                assert_eq!(product_onto(&onto, halved, second), sum);
                let changed = chain(left, first, second, Some(&onto), |_, part, _| {
                    part.iter_mut().for_each(|x| *x /= 2.0);
                    part
                });
                assert_eq!(changed, (halves.clone(), sum));
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

/// Who packs a right side, and how `k` is divided, depends on how many rows there are; of f32, results do not.
#[test]
fn numbers_of_f32_are_one_sum_however_a_product_is_computed() {
    let (n, k) = (96, 1300);
    let (left, right) = (numbers(2000 * k, 1), numbers(k * n, 2));
    for unit in Unit::all().into_iter().filter(|unit| unit.reads_in_place()) {
        let run = |m: usize| {
            let mut out = vec![f32::NAN; m * n];
            let sides = [Matrix::new(&left[..m * k], m, k), Matrix::new(&right, k, n)];
            assert_eq!(in_place::is_long(sides[1], m), m < 2000);
            multiply_on(unit, &mut out, sides[0], sides[1], false);
            out
        };
        assert!(run(2000)[..100 * n] == run(100), "{}", unit.name());
    }
}

/// Sizes that fall into pieces of rows and into blocks of columns.
#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for (m, n, k) in [
        (333, 200, 700),
        (70, 900, 700),
        (30, 70, 1100),
        (2100, 40, 70),
    ] {
        let (left, right) = (numbers(m * k, 1), numbers(k * n, 2));
        for unit in Unit::all() {
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let mut out = numbers(m * n, 3);
                pool.install(|| {
                    let (left, right) = (Matrix::new(&left, m, k), Matrix::new(&right, k, n));
                    multiply_on(unit, &mut out, left, right, true);
                    let sum = out.clone();
                    multiply_on(unit, &mut out, left, right, false);
                    (sum, out)
                })
            };
            let alone = run(1);
            for threads in [2, 3, 4] {
                assert!(
                    run(threads) == alone,
                    "{} on {threads} threads, {m}x{n}x{k}",
                    unit.name()
                );
            }
        }
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
    // Wider than what goes through parts of `k` together.
    let (k, n) = (2, 300);
    let right = numbers(k * n, 1);
    let none = Matrix::new(&[], k, 0).transposed();
    multiply(&mut [], none, Matrix::new(&right, k, n), false);
}

/// Numbers with pages on either side that may be neither read nor written: what assembly does is seen by no sanitizer.
#[cfg(target_os = "linux")]
struct Fenced {
    start: *mut u8,
    pages: usize,
}

#[cfg(target_os = "linux")]
impl Fenced {
    const PAGE: usize = 4096;

    /// Room for `bytes` at least.
    fn new(bytes: usize) -> Self {
        let pages = bytes.div_ceil(Self::PAGE) + 2;
        // SAFETY: a new mapping of whole pages, the first and last of which are closed.
        unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let start = libc::mmap(
                std::ptr::null_mut(),
                pages * Self::PAGE,
                access,
                kind,
                -1,
                0,
            );
            assert!(start != libc::MAP_FAILED);
            for page in [0, pages - 1] {
                let page = start.byte_add(page * Self::PAGE);
                assert_eq!(libc::mprotect(page, Self::PAGE, libc::PROT_NONE), 0);
            }
            let start = start.cast();
            Self { start, pages }
        }
    }

    /// `count` words right behind the closed page, or right before the other.
    fn words(&mut self, count: usize, at_end: bool) -> &mut [u32] {
        let room = (self.pages - 2) * Self::PAGE;
        assert!(4 * count <= room);
        let skipped = if at_end { room - 4 * count } else { 0 };
        // SAFETY: they lie within the open pages, which are zeros at first and ours alone.
        unsafe {
            let first = self.start.add(Self::PAGE + skipped).cast();
            std::slice::from_raw_parts_mut(first, count)
        }
    }

    /// The same as numbers.
    fn numbers(&mut self, count: usize, at_end: bool) -> &mut [f32] {
        let words = self.words(count, at_end);
        // SAFETY: words and numbers are alike in size and alignment, and every pattern of bits is a number.
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len()) }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Fenced {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made.
        unsafe { libc::munmap(self.start.cast(), self.pages * Self::PAGE) };
    }
}

/// Words that are two halves of 1.0 in bf16, or a little more than 1.0 in f32.
#[cfg(target_os = "linux")]
const ONES: u32 = 0x3f80_3f80;

/// Tiles of all heights, some widths, with and without what is there, before and behind a closed page, and more or less deep.
#[cfg(target_os = "linux")]
fn tile_sizes(unit: Unit) -> impl Iterator<Item = ([usize; 2], bool, bool, usize)> {
    let (most_rows, most_columns) = (unit.tile_rows(), unit.tile_columns());
    (1..=most_rows).flat_map(move |rows| {
        [1, most_columns / 2 + 1, most_columns - 1, most_columns]
            .into_iter()
            .flat_map(move |columns| {
                [(false, false), (false, true), (true, false), (true, true)]
                    .into_iter()
                    .flat_map(move |(accumulate, at_end)| {
                        [0, 1, 64, 96].map(|depth| ([rows, columns], accumulate, at_end, depth))
                    })
            })
    })
}

/// Has `compute` write a tile onto numbers that lie beside a closed page, and compares it with what it should be.
#[cfg(target_os = "linux")]
fn check_fenced_tile(
    unit: Unit,
    ([rows, columns], accumulate, at_end, depth): ([usize; 2], bool, bool, usize),
    compute: impl FnOnce(&mut [f32], usize),
) {
    let stride = columns + 3;
    let count = (rows - 1) * stride + columns;
    let mut out = Fenced::new(4 * count);
    let numbers = out.numbers(count, at_end);
    numbers.fill(1.0);
    compute(numbers, stride);
    let whole = f64::from(f32::from_bits(ONES));
    let product = match unit.precision() {
        Precision::F32 => whole * whole,
        Precision::Bf16 => 1.0,
    };
    let sum = depth as f64 * product + f64::from(u8::from(accumulate));
    for (i, number) in numbers.iter().enumerate() {
        let expected = if i % stride < columns { sum } else { 1.0 };
        assert!(
            (f64::from(*number) - expected).abs() < 1e-3,
            "{}: {number}, not {expected}",
            unit.name()
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn tiles_of_panels_stay_within_what_they_are_given() {
    for unit in Unit::all()
        .into_iter()
        .filter(|unit| !unit.reads_in_place())
    {
        let tiles = unit.ready();
        for what in tile_sizes(unit) {
            let ([rows, columns], accumulate, at_end, depth) = what;
            // Numbers beyond an odd depth would be zeros.
            let depth = depth.next_multiple_of(unit.depth_step());
            let words = unit.words(depth);
            let left_rows = match unit.layout() {
                pack::Layout::Tiles => rows.next_multiple_of(16),
                _ => rows,
            };
            let counts = [left_rows * words, unit.tile_columns() * words];
            let mut sides = counts.map(|count| Fenced::new(4 * count.max(1)));
            for (side, count) in sides.iter_mut().zip(counts) {
                side.words(count, at_end).fill(ONES);
            }
            let [left, right] = &mut sides;
            let sides = [
                &*left.words(counts[0], at_end),
                &*right.words(counts[1], at_end),
            ];
            let what = ([rows, columns], accumulate, at_end, depth);
            check_fenced_tile(unit, what, |out, stride| {
                tiles.tile(out, stride, [rows, columns], sides, words, accumulate);
            });
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn tiles_in_place_stay_within_what_they_are_given() {
    for unit in Unit::all().into_iter().filter(|unit| unit.reads_in_place()) {
        for what in tile_sizes(unit) {
            let ([rows, columns], accumulate, at_end, depth) = what;
            let width = unit.padded(columns);
            for (row_stride, column_stride) in [(depth + 2, 1), (1, rows + 2)] {
                let right_stride = width + 5;
                let last = depth.saturating_sub(1);
                let counts = match depth {
                    0 => [0; 2],
                    _ => [
                        (rows - 1) * row_stride + last * column_stride + 1,
                        last * right_stride + width,
                    ],
                };
                let mut sides = counts.map(|count| Fenced::new(4 * count.max(1)));
                for (side, count) in sides.iter_mut().zip(counts) {
                    side.words(count, at_end).fill(ONES);
                }
                let [left, right] = &mut sides;
                let left = Matrix {
                    data: left.numbers(counts[0], at_end),
                    rows,
                    columns: depth,
                    row_stride,
                    column_stride,
                };
                let right = unit::Lines {
                    data: right.numbers(counts[1], at_end),
                    stride: right_stride,
                    // Anywhere: what is asked for is not read.
                    coming: &[0.0; 40],
                };
                check_fenced_tile(unit, what, |out, stride| {
                    unit.tile(out, stride, columns, left, right, accumulate);
                });
            }
        }
    }
}
