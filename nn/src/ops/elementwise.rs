//! Sums and modulation.

use super::computed::computed;
use super::{composed, fused, values, wanted};
use crate::kernels::buffer::copied;
use crate::kernels::elementwise;
use candle_core::{Result, Shape, Tensor, bail};

/// `a + b`, of one shape, on all cores.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !fused(&[a, b]) {
        return a + b;
    }
    if a.shape() != b.shape() {
        bail!("sum of {:?} and {:?}", a.shape(), b.shape());
    }
    values!(a_values = a, b_values = b);
    let out = elementwise::add(a_values, b_values);
    let own = [a.clone(), b.clone()];
    computed(out, a.shape(), &[a, b], move |gradient| {
        let first = wanted(&own[0], || copied(&gradient));
        Ok(vec![first, wanted(&own[1], || gradient.into_owned())])
    })
}

/// Feature-wise linear modulation (arXiv 1709.07871): `x * (1 + scale) + shift`, with `x` `[.., N, D]` and `scale`, `shift` `[.., D]`,
/// the same for all `N` rows of a group.
pub fn film(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    if !fused(&[x, scale, shift]) {
        return composed::film(x, scale, shift);
    }
    let (group, width) = film_sizes(x.shape(), scale.shape())?;
    if scale.shape() != shift.shape() {
        bail!("modulation by {:?} and {:?}", scale.shape(), shift.shape());
    }
    values!(x_values = x, scale_values = scale, shift_values = shift);
    let out = elementwise::film(x_values, scale_values, shift_values, group, width);
    let arguments = [x, scale, shift];
    let [own_x, own_scale, own_shift] = arguments.map(Tensor::clone);
    computed(out, x.shape(), &arguments, move |gradient| {
        values!(x = own_x, scale = own_scale);
        let dx = wanted(&own_x, || {
            elementwise::film_gradient(&gradient, scale, group, width)
        });
        let dscale = wanted(&own_scale, || {
            elementwise::film_scale_gradient(&gradient, x, group, width)
        });
        let dshift = wanted(&own_shift, || {
            elementwise::film_shift_gradient(&gradient, group, width)
        });
        Ok(vec![dx, dscale, dshift])
    })
}

/// `x + shift`, with `x` `[.., N, D]` and `shift` `[.., D]`, the same for all `N` rows of a group.
pub fn shift_groups(x: &Tensor, shift: &Tensor) -> Result<Tensor> {
    film(x, &shift.zeros_like()?, shift)
}

/// Rows that share a scale, and their width.
fn film_sizes(x: &Shape, scale: &Shape) -> Result<(usize, usize)> {
    match x.dims() {
        [groups @ .., rows, width]
            if rows * width > 0 && scale.dims().split_last() == Some((width, groups)) =>
        {
            Ok((*rows, *width))
        }
        _ => bail!("modulation of {x:?} by {scale:?}"),
    }
}
