//! Sub-layers' products: one that is added to the residual stream, and two in a row of which the first is wide. What comes before and after a product is done to the rows that a task has at hand.

use super::pack::{Buffer, idle_buffer, with_buffer};
use super::right::PackedRight;
use super::{Matrix, SMALLEST_SHARED_PRODUCT, pieces, pieces_of, unit};
use crate::kernels::buffer::filled;
use crate::kernels::parallel::SharedMut;
use std::ops::Range;

/// `onto + left * right`, for a `right` of few numbers: all of it is packed first.
///
/// It comes out as [`super::multiply`] adds to a copy of `onto`.
pub fn product_onto(onto: &[f32], left: Matrix, right: Matrix) -> Vec<f32> {
    let (m, k, n) = (left.rows, left.columns, right.columns);
    assert_eq!(k, right.rows, "inner sizes of a product");
    assert_eq!(onto.len(), m * n, "what a product is added to");
    crate::count::add_product(m, n, k);
    let unit = unit(crate::precision());
    let shared = m * n * k >= SMALLEST_SHARED_PRODUCT;
    let run = |out: &mut [f32]| {
        let right = PackedRight::new(unit, right, shared, idle_buffer);
        pieces_of(
            unit,
            (out, n),
            m,
            super::MOST_TASK_ROWS,
            shared,
            |out, rows| {
                out.copy_from_slice(&onto[rows.start * n..rows.end * n]);
                right.multiply((out, n), left, rows, true, |_, _| {});
            },
        );
        right.keep_buffers();
    };
    // SAFETY: the pieces cover all rows, and each number is written before it is read.
    crate::profile::operation("product", || unsafe { filled(m * n, run) })
}

/// Most rows that one task takes through both products: what is wide stays in the second cache level meanwhile.
const MOST_TASK_ROWS: usize = 64;

/// `wide = left * first`, then `onto + between(wide) * second`, or without `onto`, some rows at a time; returns both. `between` gets the numbers of the rows, `wide`'s part that
/// belongs to them, which it may change, and a buffer, and returns as many numbers as that part has.
///
/// Both come out as [`super::product`] computes them.
pub fn chain(
    left: Matrix,
    first: Matrix,
    second: Matrix,
    onto: Option<&[f32]>,
    between: impl for<'a> Fn(Range<usize>, &'a mut [f32], &'a mut Buffer) -> &'a [f32] + Sync,
) -> (Vec<f32>, Vec<f32>) {
    let (m, middle, n) = (left.rows, first.columns, second.columns);
    assert_eq!(
        (left.columns, middle),
        (first.rows, second.rows),
        "inner sizes of two products"
    );
    assert!(onto.is_none_or(|onto| onto.len() == m * n));
    crate::count::add_product(m, middle, left.columns);
    crate::count::add_product(m, n, middle);
    let unit = unit(crate::precision());
    let shared = m * middle * (n + left.columns) >= SMALLEST_SHARED_PRODUCT;
    let run = |wide: &mut [f32], out: &mut [f32]| {
        let (wide, out) = (SharedMut::new(wide), SharedMut::new(out));
        let first = PackedRight::new(unit, first, shared, idle_buffer);
        let second = PackedRight::new(unit, second, shared, idle_buffer);
        pieces(unit, m, MOST_TASK_ROWS, shared, |rows| {
            // SAFETY: each piece has its own rows of both results, which are borrowed for this call.
            let (wide, out) = unsafe {
                (
                    wide.row(rows.start * middle, rows.len() * middle),
                    out.row(rows.start * n, rows.len() * n),
                )
            };
            first.multiply((wide, middle), left, rows.clone(), false, |_, _| {});
            with_buffer(|buffer| {
                let wide = Matrix::new(between(rows.clone(), wide, buffer), rows.len(), middle);
                if let Some(onto) = onto {
                    out.copy_from_slice(&onto[rows.start * n..rows.end * n]);
                }
                let out = (out, n);
                second.multiply(out, wide, 0..rows.len(), onto.is_some(), |_, _| {});
            });
        });
        first.keep_buffers();
        second.keep_buffers();
    };
    crate::profile::operation("product", || {
        let mut wide = Vec::new();
        // SAFETY: the pieces cover all rows, and each number is written before it is read.
        let out = unsafe {
            filled(m * n, |out| {
                wide = filled(m * middle, |wide| run(wide, out));
            })
        };
        (wide, out)
    })
}
