//! Moving pixels along a flow field.

use super::computed::computed;
use super::{composed, fused, values, wanted};
use crate::kernels::warp::{self as kernel, Sizes};
use candle_core::{Result, Shape, Tensor, bail};

/// Moves the pixels of `pictures` `[R, H, W, C]` by `flow` `[R, GH, GW, 2]`, a coarse grid of (x, y) offsets in pixels: each result
/// pixel is read, bilinearly, from where its flow points. Positions beyond the edge take the edge's colour.
pub fn warp(pictures: &Tensor, flow: &Tensor) -> Result<Tensor> {
    if !fused(&[pictures, flow]) {
        return composed::warp(pictures, flow);
    }
    let sizes = sizes(pictures.shape(), flow.shape())?;
    values!(picture_values = pictures, flow_values = flow);
    let out = kernel::forward(picture_values, flow_values, sizes);
    let (own_pictures, own_flow) = (pictures.clone(), flow.clone());
    computed(out, pictures.shape(), &[pictures, flow], move |gradient| {
        values!(pictures = own_pictures, flow = own_flow);
        let (dpictures, dflow) = kernel::backward(gradient, pictures, flow, sizes);
        Ok(vec![
            wanted(&own_pictures, || dpictures),
            wanted(&own_flow, || dflow),
        ])
    })
}

fn sizes(pictures: &Shape, flow: &Shape) -> Result<Sizes> {
    let (count, height, width, channels) = pictures.dims4()?;
    let (flow_count, grid_height, grid_width, axes) = flow.dims4()?;
    if count != flow_count
        || axes != 2
        || [height, width, channels, grid_height, grid_width].contains(&0)
    {
        bail!("warp of {pictures:?} by {flow:?}");
    }
    Ok(Sizes {
        height,
        width,
        channels,
        grid_height,
        grid_width,
    })
}
