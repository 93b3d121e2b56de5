//! Moving the pixels of a picture along a coarse flow field and adding what flow cannot explain, forward and backward.

use super::inference::Team;
use super::parallel::SharedMut;
use crate::FrameSize;
use crate::frame::runs;
use rayon::prelude::*;

/// Sizes of a warp: pictures of `height` x `width` with `channels` numbers a pixel, flow of `grid_height` x `grid_width` cells, residuals in patches of `patch` x
/// `patch` pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Picture height in pixels.
    pub height: usize,
    /// Picture width in pixels.
    pub width: usize,
    /// Numbers per pixel.
    pub channels: usize,
    /// Rows of the flow grid.
    pub grid_height: usize,
    /// Columns of the flow grid.
    pub grid_width: usize,
    /// Side of a patch of residuals, which divides height and width.
    pub patch: usize,
}

impl Sizes {
    fn picture(&self) -> usize {
        self.height * self.width * self.channels
    }

    fn grid(&self) -> usize {
        self.grid_height * self.grid_width * 2
    }

    /// Calls `each` with a picture's place and a place in its patches for each run of numbers that lie together in both, and the run's length.
    fn runs(&self, mut each: impl FnMut(usize, usize, usize)) {
        let size = FrameSize {
            height: self.height,
            width: self.width,
        };
        let length = self.patch * self.channels;
        runs(size, self.patch, self.channels, |picture, patches| {
            each(picture, patches, length)
        });
    }
}

/// A position between two cells of an axis: the lower one, the upper one and the upper one's share.
#[derive(Clone, Copy)]
struct Between {
    low: usize,
    high: usize,
    share: f32,
}

impl Between {
    /// `position` in cells, held within `0..=count - 1`; also whether it lay inside.
    #[inline(always)]
    fn new(position: f32, count: usize) -> (Self, bool) {
        let last = (count - 1) as f32;
        // Not a number fails both comparisons of `clamp` and would index out of bounds after the cast otherwise.
        let held = if position.is_nan() {
            0.0
        } else {
            position.clamp(0.0, last)
        };
        let low = held as usize;
        (
            Self {
                low,
                high: (low + 1).min(count - 1),
                share: held - low as f32,
            },
            held == position,
        )
    }
}

/// Where each pixel row or column lies in the flow grid.
fn grid_axis(pixels: usize, cells: usize) -> Vec<Between> {
    let scale = cells as f32 / pixels as f32;
    (0..pixels)
        .map(|i| Between::new((i as f32 + 0.5) * scale - 0.5, cells).0)
        .collect()
}

/// The four grid cells around a pixel and their weights.
#[inline(always)]
fn corners(y: Between, x: Between, columns: usize) -> [(usize, f32); 4] {
    [
        (y.low * columns + x.low, (1.0 - y.share) * (1.0 - x.share)),
        (y.low * columns + x.high, (1.0 - y.share) * x.share),
        (y.high * columns + x.low, y.share * (1.0 - x.share)),
        (y.high * columns + x.high, y.share * x.share),
    ]
}

/// Flow (x, y) in pixels at a pixel, from the coarse grid.
#[inline(always)]
fn flow_at(flow: &[f32], cells: &[(usize, f32); 4]) -> (f32, f32) {
    cells.iter().fold((0.0, 0.0), |(fx, fy), &(cell, weight)| {
        (
            fx + weight * flow[2 * cell],
            fy + weight * flow[2 * cell + 1],
        )
    })
}

/// `out[y, x] = picture[y + flow_y, x + flow_x] + residual[y, x]`, bilinear in both the picture and the flow grid; positions beyond the edge take the
/// edge's colour.
///
/// `pictures` is `[R, H, W, C]`, `flow` is `[R, grid_height, grid_width, 2]` as (x, y) in pixels, `residual` is `[R, N, P * P * C]`. Returns `[R, H, W, C]`.
pub fn forward(pictures: &[f32], flow: &[f32], residual: &[f32], sizes: Sizes) -> Vec<f32> {
    crate::profile::operation("warp", || {
        let mut out = vec![0.0; pictures.len()];
        let axes = Axes::new(sizes);
        out.par_chunks_mut(sizes.picture())
            .enumerate()
            .for_each(|(index, out)| {
                let picture = &pictures[index * sizes.picture()..][..sizes.picture()];
                let flow = &flow[index * sizes.grid()..][..sizes.grid()];
                forward_rows(out, picture, flow, sizes, &axes, 0);
                let residual = &residual[index * sizes.picture()..][..sizes.picture()];
                sizes.runs(|picture, patches, length| {
                    let out = &mut out[picture..][..length];
                    let terms = out.iter_mut().zip(&residual[patches..][..length]);
                    terms.for_each(|(out, residual)| *out += residual);
                });
            });
        out
    })
}

/// [`forward`] of one picture without a residual, its rows shared out among a team.
pub fn forward_picture(team: &Team, out: &mut [f32], picture: &[f32], flow: &[f32], sizes: Sizes) {
    assert_eq!(
        [out.len(), picture.len(), flow.len()],
        [sizes.picture(), sizes.picture(), sizes.grid()]
    );
    let (axes, out) = (Axes::new(sizes), SharedMut::new(out));
    let line = sizes.width * sizes.channels;
    team.run(&|member| {
        let rows = member.rows(sizes.height);
        // SAFETY: each member has its own rows of `out`, which is borrowed for this call.
        let out = unsafe { out.row(rows.start * line, rows.len() * line) };
        forward_rows(out, picture, flow, sizes, &axes, rows.start);
    });
}

/// Where pixel rows and columns lie in the flow grid.
struct Axes {
    rows: Vec<Between>,
    columns: Vec<Between>,
}

impl Axes {
    fn new(sizes: Sizes) -> Self {
        Self {
            rows: grid_axis(sizes.height, sizes.grid_height),
            columns: grid_axis(sizes.width, sizes.grid_width),
        }
    }
}

/// Whole rows of a moved picture, from row `first` on.
fn forward_rows(
    out: &mut [f32],
    picture: &[f32],
    flow: &[f32],
    sizes: Sizes,
    axes: &Axes,
    first: usize,
) {
    match sizes.channels {
        3 => forward_rows_of::<3>(out, picture, flow, sizes, axes, first),
        _ => forward_rows_of::<0>(out, picture, flow, sizes, axes, first),
    }
}

/// [`forward_rows`] of pixels of `C` numbers; 0 stands for a number that is known at run time only.
#[inline(always)]
fn forward_rows_of<const C: usize>(
    out: &mut [f32],
    picture: &[f32],
    flow: &[f32],
    sizes: Sizes,
    axes: &Axes,
    first: usize,
) {
    let channels = if C > 0 { C } else { sizes.channels };
    for (row, out) in out.chunks_exact_mut(sizes.width * channels).enumerate() {
        let y = first + row;
        for (x, out) in out.chunks_exact_mut(channels).enumerate() {
            let (fx, fy) = flow_at(
                flow,
                &corners(axes.rows[y], axes.columns[x], sizes.grid_width),
            );
            let (source_y, _) = Between::new(y as f32 + fy, sizes.height);
            let (source_x, _) = Between::new(x as f32 + fx, sizes.width);
            out.fill(0.0);
            for (source, weight) in corners(source_y, source_x, sizes.width) {
                for (value, colour) in out
                    .iter_mut()
                    .zip(&picture[source * channels..][..channels])
                {
                    *value += weight * colour;
                }
            }
        }
    }
}

/// Gradients of [`forward`] with respect to the pictures, where they are wanted, and to the flow.
pub fn backward(
    gradient: &[f32],
    pictures: &[f32],
    flow: &[f32],
    sizes: Sizes,
    of_pictures: bool,
) -> (Option<Vec<f32>>, Vec<f32>) {
    crate::profile::operation("warp", || {
        let axes = Axes::new(sizes);
        let mut dflow = vec![0.0; flow.len()];
        let one = |index: usize, dflow: &mut [f32], dpicture: Option<&mut [f32]>| {
            let picture = &pictures[index * sizes.picture()..][..sizes.picture()];
            let gradient = &gradient[index * sizes.picture()..][..sizes.picture()];
            let flow = &flow[index * sizes.grid()..][..sizes.grid()];
            match sizes.channels {
                3 => backward_of_one::<3>(dflow, dpicture, gradient, picture, flow, sizes, &axes),
                _ => backward_of_one::<0>(dflow, dpicture, gradient, picture, flow, sizes, &axes),
            }
        };
        let grids = dflow.par_chunks_mut(sizes.grid());
        let dpictures = of_pictures.then(|| vec![0.0; pictures.len()]);
        let Some(mut dpictures) = dpictures else {
            grids
                .enumerate()
                .for_each(|(index, dflow)| one(index, dflow, None));
            return (None, dflow);
        };
        let pairs = grids.zip(dpictures.par_chunks_mut(sizes.picture()));
        pairs
            .enumerate()
            .for_each(|(index, (dflow, dpicture))| one(index, dflow, Some(dpicture)));
        (Some(dpictures), dflow)
    })
}

/// Adds to the gradients of one picture of pixels of `C` numbers; 0 stands for a number that is known at run time only.
#[inline(always)]
fn backward_of_one<const C: usize>(
    dflow: &mut [f32],
    mut dpicture: Option<&mut [f32]>,
    gradient: &[f32],
    picture: &[f32],
    flow: &[f32],
    sizes: Sizes,
    axes: &Axes,
) {
    let channels = if C > 0 { C } else { sizes.channels };
    for (pixel, gradient) in gradient.chunks_exact(channels).enumerate() {
        let (y, x) = (pixel / sizes.width, pixel % sizes.width);
        let cells = corners(axes.rows[y], axes.columns[x], sizes.grid_width);
        let (fx, fy) = flow_at(flow, &cells);
        let (source_y, inside_y) = Between::new(y as f32 + fy, sizes.height);
        let (source_x, inside_x) = Between::new(x as f32 + fx, sizes.width);
        // The gradient's product with each of the four colours around the source position.
        let mut along = [0f32; 4];
        let sources = corners(source_y, source_x, sizes.width);
        for (product, (source, weight)) in along.iter_mut().zip(sources) {
            let colours = source * channels..(source + 1) * channels;
            for (g, colour) in gradient.iter().zip(&picture[colours.clone()]) {
                *product += g * colour;
            }
            if let Some(dpicture) = &mut dpicture {
                for (to, g) in dpicture[colours].iter_mut().zip(gradient) {
                    *to += g * weight;
                }
            }
        }
        let [top_left, top_right, bottom_left, bottom_right] = along;
        let mut dx = (top_right - top_left) * (1.0 - source_y.share)
            + (bottom_right - bottom_left) * source_y.share;
        let mut dy = (bottom_left - top_left) * (1.0 - source_x.share)
            + (bottom_right - top_right) * source_x.share;
        // Beyond the edge the colour no longer changes with the flow.
        dx *= f32::from(u8::from(inside_x));
        dy *= f32::from(u8::from(inside_y));
        for (cell, weight) in cells {
            dflow[2 * cell] += weight * dx;
            dflow[2 * cell + 1] += weight * dy;
        }
    }
}

/// Gradient of [`forward`] with respect to the residual: the result's in patches.
pub fn residual_gradient(gradient: &[f32], sizes: Sizes) -> Vec<f32> {
    crate::profile::operation("warp", || {
        let mut residual = vec![0.0; gradient.len()];
        let pictures = residual.par_chunks_mut(sizes.picture());
        pictures
            .zip(gradient.par_chunks(sizes.picture()))
            .for_each(|(residual, gradient)| {
                sizes.runs(|picture, patches, length| {
                    residual[patches..][..length].copy_from_slice(&gradient[picture..][..length]);
                });
            });
        residual
    })
}
