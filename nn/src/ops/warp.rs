//! Moving pixels along a flow field.

use super::computed::computed;
use super::{composed, fused, values, wanted};
use crate::kernels::warp::{self as kernel, Sizes};
use candle_core::{Result, Tensor, bail};

/// Moves the pixels of `pictures` `[.., H, W, C]` by `flow` `[.., GH, GW, 2]`, a coarse grid of (x, y) offsets in pixels, and adds `residual` `[.., N, P * P * C]`, which
/// lies in patches of `patch` pixels a side: each result pixel is read, bilinearly, from where its flow points. Positions beyond the edge take the edge's colour.
pub fn warp(pictures: &Tensor, flow: &Tensor, residual: &Tensor, patch: usize) -> Result<Tensor> {
    let sizes = sizes([pictures, flow, residual], patch)?;
    if !fused(&[pictures, flow, residual]) {
        return composed::warp(pictures, flow, residual, sizes);
    }
    values!(
        picture_values = pictures,
        flow_values = flow,
        residual_values = residual
    );
    let out = kernel::forward(picture_values, flow_values, residual_values, sizes);
    let arguments = [pictures, flow, residual];
    let [own_pictures, own_flow, own_residual] = arguments.map(Tensor::clone);
    computed(out, pictures.shape(), &arguments, move |gradient| {
        values!(pictures = own_pictures, flow = own_flow);
        let of_pictures = own_pictures.track_op();
        let (dpictures, dflow) = kernel::backward(&gradient, pictures, flow, sizes, of_pictures);
        Ok(vec![
            dpictures,
            wanted(&own_flow, || dflow),
            wanted(&own_residual, || {
                kernel::residual_gradient(&gradient, sizes)
            }),
        ])
    })
}

/// Sizes of arguments that fit.
fn sizes(arguments: [&Tensor; 3], patch: usize) -> Result<Sizes> {
    let [pictures, flow, residual] = arguments.map(Tensor::dims);
    match (pictures, flow, residual) {
        (
            [groups @ .., height, width, channels],
            [of_flow @ .., grid_height, grid_width, 2],
            [of_residual @ .., patches, numbers],
        ) if [of_flow, of_residual] == [groups; 2]
            && ![height, width, channels, grid_height, grid_width].contains(&&0)
            && patch > 0
            && [height % patch, width % patch] == [0; 2]
            && *numbers == patch * patch * channels
            && *patches == (height / patch) * (width / patch) =>
        {
            Ok(Sizes {
                height: *height,
                width: *width,
                channels: *channels,
                grid_height: *grid_height,
                grid_width: *grid_width,
                patch,
            })
        }
        _ => bail!("warp of {pictures:?} by {flow:?} with {residual:?}"),
    }
}
