//! Adding what is the same for many rows: biases and positions.

use super::computed::computed;
use super::{composed, fused, values, wanted};
use crate::kernels::elementwise;
use candle_core::{Result, Tensor, bail};

/// `x + rows`, where `rows` `[.., D]` has the last dimensions of `x` `[.., .., D]` and is added to each of its repetitions.
pub fn add_rows(x: &Tensor, rows: &Tensor) -> Result<Tensor> {
    if !fused(&[x, rows]) {
        return composed::add_rows(x, rows);
    }
    let period = rows.elem_count();
    if !x.dims().ends_with(rows.dims()) || period == 0 {
        bail!("rows {:?} added to {:?}", rows.shape(), x.shape());
    }
    values!(x_values = x, row_values = rows);
    let out = elementwise::add_repeated(x_values, row_values);
    let (own_x, own_rows) = (x.clone(), rows.clone());
    computed(out, x.shape(), &[x, rows], move |gradient| {
        let drows = wanted(&own_rows, || elementwise::sum_repeated(&gradient, period));
        Ok(vec![wanted(&own_x, || gradient.into_owned()), drows])
    })
}
