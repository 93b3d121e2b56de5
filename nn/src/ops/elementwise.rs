//! Sums and modulation.

use super::{composed, fused, output, slice, tensor, values, wanted};
use crate::kernels::elementwise;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// `a + b`, of one shape, on all cores.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !fused(&[a, b]) {
        return a + b;
    }
    a.contiguous()?.apply_op2(&b.contiguous()?, Add)
}

/// Feature-wise linear modulation (arXiv 1709.07871): `x * (1 + scale) + shift`, with `x` `[.., N, D]` and `scale`, `shift` `[.., D]`,
/// the same for all `N` rows of a group.
pub fn film(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    if !fused(&[x, scale, shift]) {
        return composed::film(x, scale, shift);
    }
    x.contiguous()?
        .apply_op3(&scale.contiguous()?, &shift.contiguous()?, Film)
}

/// `x + shift`, with `x` `[.., N, D]` and `shift` `[.., D]`, the same for all `N` rows of a group.
pub fn shift_groups(x: &Tensor, shift: &Tensor) -> Result<Tensor> {
    film(x, &shift.zeros_like()?, shift)
}

struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if la.shape() != lb.shape() {
            bail!("sum of {:?} and {:?}", la.shape(), lb.shape());
        }
        let out = elementwise::add(slice(a, la)?, slice(b, lb)?);
        Ok(output(out, la.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(dy.clone()), Some(dy.clone())))
    }
}

struct Film;

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

impl CustomOp3 for Film {
    fn name(&self) -> &'static str {
        "film"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        scale: &CpuStorage,
        ls: &Layout,
        shift: &CpuStorage,
        lh: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (group, width) = film_sizes(lx.shape(), ls.shape())?;
        if ls.shape() != lh.shape() {
            bail!("modulation by {:?} and {:?}", ls.shape(), lh.shape());
        }
        let out = elementwise::film(
            slice(x, lx)?,
            slice(scale, ls)?,
            slice(shift, lh)?,
            group,
            width,
        );
        Ok(output(out, lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (group, width) = film_sizes(x.shape(), scale.shape())?;
        values!(x_values = x, scale_values = scale, dy = gradient);
        let zeros = vec![0.0; scale_values.len()];
        let dx = elementwise::film(dy, scale_values, &zeros, group, width);
        let dscale = wanted(scale, || {
            elementwise::film_scale_gradient(dy, x_values, group, width)
        })?;
        let dshift = wanted(shift, || elementwise::film_shift_gradient(dy, group, width))?;
        Ok((Some(tensor(dx, x.shape())?), dscale, dshift))
    }
}
