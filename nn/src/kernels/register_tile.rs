//! A tile of a product, kept in registers while it is summed up over `k`.
//!
//! Plain Rust that the compiler vectorises for the instruction set at hand. It goes by pointers: of chunks of two slices, one after the other, the compiler
//! made a loop for Arm that stored all sums in each of its steps, and took twice as long (docs/performance.md).

use super::multiply_add;

/// The two sides of a tile.
#[derive(Clone, Copy)]
pub struct Sides {
    /// The left side's first number.
    pub left: *const f32,
    /// From one of its rows to the next, and from one of its columns to the next.
    pub left_strides: [usize; 2],
    /// The right side's first line.
    pub right: *const f32,
    /// From one of its lines to the next.
    pub right_stride: usize,
    /// Numbers along `k`: columns of the left side, lines of the right side.
    pub depth: usize,
}

/// Most rows of a tile of sixteen columns: as many as there are registers for, beside a row of the right side. With `fused`, those of AVX2 or NEON at least.
pub const fn most_tile_rows(fused: bool) -> usize {
    if fused { 6 } else { 3 }
}

/// Expands `$run!(R)` with the literal `R` that equals `$rows`, up to [`most_tile_rows`]: a height that the compiler knows keeps a tile in registers.
macro_rules! with_tile_rows {
    ($rows:expr, $run:ident) => {
        match $rows {
            1 => $run!(1),
            2 => $run!(2),
            3 => $run!(3),
            4 => $run!(4),
            5 => $run!(5),
            _ => $run!(6),
        }
    };
}
pub(crate) use with_tile_rows;

/// The sums of `R` rows by `C` columns.
///
/// # Safety
/// `R` rows of `depth` numbers of the left side and `depth` lines of `C` numbers of the right side may be read.
#[inline(always)]
pub unsafe fn tile_sums<const R: usize, const C: usize, const FUSED: bool>(
    sides: Sides,
) -> [[f32; C]; R] {
    let mut sums = [[0.0; C]; R];
    let [rows, columns] = sides.left_strides;
    for l in 0..sides.depth {
        // SAFETY: a line of the right side, by this function's contract.
        let line: &[f32; C] = unsafe { &*sides.right.add(l * sides.right_stride).cast() };
        for (row, sum) in sums.iter_mut().enumerate() {
            // SAFETY: a number of the left side, by this function's contract.
            let factor = unsafe { *sides.left.add(row * rows + l * columns) };
            for (total, value) in sum.iter_mut().zip(line) {
                *total = multiply_add::<FUSED>(factor, *value, *total);
            }
        }
    }
    sums
}
