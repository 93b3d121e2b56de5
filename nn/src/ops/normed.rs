//! The normalisation before a sub-layer.

use super::computed::Gradient;
use super::{composed, film, rms_norm, values, wanted};
use crate::kernels::{elementwise, norm};
use candle_core::{Result, Shape, Tensor, bail};

/// What `x` `[.., S, D]` is normalised with before a sub-layer.
#[derive(Clone)]
pub struct NormArguments {
    /// What each number of a row `x / rms(x)` is multiplied with, `[D]`.
    pub weight: Tensor,
    /// Scales and, beside them, shifts (FiLM, arXiv 1709.07871), `[.., 2 * D]`, the same for all `S` rows of a group.
    pub modulation: Option<Tensor>,
}

/// `x / rms(x) * weight`, and, where there is a modulation, that times `1 + scale`, plus `shift`.
///
/// # Errors
/// When shapes do not fit.
pub fn normed(x: &Tensor, norm: &NormArguments) -> Result<Tensor> {
    let normal = rms_norm(x, &norm.weight)?;
    match &norm.modulation {
        Some(modulation) => {
            let (scale, shift) = composed::halves(modulation)?;
            film(&normal, &scale, &shift)
        }
        None => Ok(normal),
    }
}

impl NormArguments {
    pub(super) fn tensors(&self) -> Vec<&Tensor> {
        [&self.weight].into_iter().chain(&self.modulation).collect()
    }

    /// Rows of `x` that share a scale, or an error where the shapes do not fit.
    pub(super) fn group(&self, x: &Shape) -> Result<usize> {
        let modulation = self.modulation.as_ref().map(Tensor::dims);
        let (weight, x) = (self.weight.dims(), x.dims());
        match (x, weight, modulation) {
            ([.., width], [weight], None) if width == weight && *width > 0 => Ok(1),
            ([groups @ .., rows, width], [weight], Some([own @ .., both]))
                if width == weight
                    && *width > 0
                    && *rows > 0
                    && groups == own
                    && *both == 2 * width =>
            {
                Ok(*rows)
            }
            _ => bail!("normalisation of {x:?} by {weight:?}, modulated by {modulation:?}"),
        }
    }
}

/// What [`normed`] computes, on slices, and what its backward pass needs.
pub(super) struct Normed {
    x: Tensor,
    arguments: NormArguments,
    normal: Vec<f32>,
    modulated: Option<Vec<f32>>,
    group: usize,
}

impl Normed {
    /// Of arguments on the CPU.
    pub fn new(x: &Tensor, arguments: &NormArguments) -> Result<Self> {
        let group = arguments.group(x.shape())?;
        values!(x_values = x, weight = arguments.weight);
        let normal = norm::rms_norm(x_values, weight);
        let modulated = match &arguments.modulation {
            Some(modulation) => {
                values!(modulation = modulation);
                let (scale, shift) = halves(modulation, weight.len());
                let width = weight.len();
                Some(elementwise::film(&normal, &scale, &shift, group, width))
            }
            None => None,
        };
        Ok(Self {
            x: x.clone(),
            arguments: arguments.clone(),
            normal,
            modulated,
            group,
        })
    }

    /// What comes out.
    pub fn values(&self) -> &[f32] {
        self.modulated.as_ref().unwrap_or(&self.normal)
    }

    /// Gradients with respect to `x` and to [`NormArguments::tensors`], from that of what came out. That of `x` is added to the one that `x` has from elsewhere.
    pub fn backward(
        &self,
        mut gradient: Vec<f32>,
        elsewhere: &[f32],
    ) -> Result<(Vec<f32>, Vec<Gradient>)> {
        values!(x = self.x, weight = self.arguments.weight);
        let width = weight.len();
        let mut of_modulation = None;
        if let Some(modulation) = &self.arguments.modulation {
            values!(values = modulation);
            let (scale, _) = halves(values, width);
            of_modulation = Some(wanted(modulation, || {
                let scale =
                    elementwise::film_scale_gradient(&gradient, &self.normal, self.group, width);
                let shift = elementwise::film_shift_gradient(&gradient, self.group, width);
                let rows = scale.chunks(width).zip(shift.chunks(width));
                rows.flat_map(|(scale, shift)| [scale, shift].concat())
                    .collect()
            }));
            gradient = elementwise::film_gradient(&gradient, &scale, self.group, width);
        }
        let (dx, dweight) = norm::rms_norm_backward(&gradient, x, weight, Some(elsewhere));
        let of_weight = wanted(&self.arguments.weight, || dweight);
        Ok((dx, [of_weight].into_iter().chain(of_modulation).collect()))
    }
}

/// First and second halves of rows of `2 * width` numbers.
fn halves(rows: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    let half = |first: usize| {
        let rows = rows.chunks_exact(2 * width);
        rows.flat_map(|row| &row[first..first + width])
            .copied()
            .collect()
    };
    (half(0), half(width))
}
