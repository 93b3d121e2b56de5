//! The forecast as play makes it: one frame at a time, on the CPU, with packed weights.

use crate::{LatentActionConfig, LatentActionModel};
use candle_core::Tensor;
use nn::kernels::inference::{
    Finish, FrameBuffers, PackedBlocks, PackedWeight, Projection, Team, Unit,
};
use nn::kernels::warp;
use nn::{
    ActionCode, Error, KvCache, Result, centred_patches_of_picture, numbers, packed,
    picture_of_patches,
};

/// A predictor's weights, packed, and the codebook. Computes what [`LatentActionModel::forecast`] computes.
pub struct Forecaster {
    config: LatentActionConfig,
    input: PackedWeight,
    position: Vec<f32>,
    /// What each code adds to every position, `[K, D]`.
    actions: Vec<f32>,
    /// `[K, A]`.
    codebook: Vec<f32>,
    blocks: PackedBlocks,
    /// To flow and, after it, residual.
    projection: Projection,
    start: KvCache,
}

/// What a [`Forecaster`] works in; kept from frame to frame.
#[derive(Default)]
pub struct ForecasterBuffers {
    frame: FrameBuffers,
    patches: Vec<f32>,
    output: Vec<f32>,
    flow: Vec<f32>,
    residual: Vec<f32>,
}

impl Forecaster {
    /// Packs a model's weights.
    ///
    /// # Errors
    /// When they cannot be read from their device.
    pub fn new(model: &LatentActionModel, unit: Unit) -> Result<Self> {
        let (config, predictor) = (model.config(), &model.predictor);
        let patches = config.frame.patches(config.patch)?;
        let actions = model.codebook.matmul(&predictor.action.t()?)?;
        let output = Tensor::cat(&[&predictor.flow, &predictor.residual], 0)?;
        Ok(Self {
            config: config.clone(),
            input: packed(&predictor.input, unit)?,
            position: numbers(&predictor.position)?,
            actions: numbers(&actions)?,
            codebook: numbers(&model.codebook)?,
            blocks: predictor.transformer.pack(patches, unit)?,
            projection: Projection {
                norm: numbers(&predictor.norm)?,
                output: packed(&output, unit)?,
                first: 0,
                bias: None,
            },
            start: predictor.transformer.start(),
        })
    }

    /// A guess of the picture `[H, W, 3]` (0..1) that follows `picture` under `code`, into `guess`.
    ///
    /// # Errors
    /// When the code is not below `K` or the picture is of another size.
    pub fn forecast(
        &self,
        team: &Team,
        buffers: &mut ForecasterBuffers,
        picture: &[f32],
        code: ActionCode,
        guess: &mut Vec<f32>,
    ) -> Result<()> {
        let (config, size) = (&self.config, self.config.frame);
        let code = usize::from(code.0);
        if code >= config.codes {
            return Err(Error::Input(format!(
                "action code {code} of {}",
                config.codes
            )));
        }
        if picture.len() != size.bytes() {
            return Err(Error::Input(format!(
                "{} numbers for a frame of {size}",
                picture.len()
            )));
        }
        centred_patches_of_picture(&mut buffers.patches, picture, size, config.patch);
        let (width, inputs) = (self.projection.norm.len(), self.input.inputs());
        let action = &self.actions[code * width..][..width];
        let patches = &buffers.patches;
        let embed = |rows: std::ops::Range<usize>, x: &mut [f32]| {
            let position = &self.position[rows.start * width..rows.end * width];
            for (x, position) in x.chunks_exact_mut(width).zip(position.chunks_exact(width)) {
                for i in 0..width {
                    x[i] = position[i] + action[i];
                }
            }
            self.input.apply(
                x,
                &patches[rows.start * inputs..rows.end * inputs],
                Finish::Add,
            );
        };
        let condition = &self.codebook[code * config.action_width..][..config.action_width];
        let outputs = self.projection.output.outputs();
        buffers.output.resize(self.blocks.positions * outputs, 0.0);
        let projection = Some((&self.projection, &mut buffers.output[..]));
        self.blocks.run(
            team,
            &mut buffers.frame,
            &self.start,
            Some(condition),
            &embed,
            &|_| true,
            projection,
        );
        self.move_pixels(team, buffers, picture, guess);
        Ok(())
    }

    /// Warps the picture by the flow and adds the residual.
    fn move_pixels(
        &self,
        team: &Team,
        buffers: &mut ForecasterBuffers,
        picture: &[f32],
        guess: &mut Vec<f32>,
    ) {
        let (config, outputs) = (&self.config, self.projection.output.outputs());
        let (cells, grid) = (config.flow_cells_per_patch, config.flow_grid());
        let flow_numbers = 2 * cells * cells;
        picture_of_patches(&mut buffers.flow, &buffers.output, outputs, grid, cells, 2);
        buffers
            .flow
            .iter_mut()
            .for_each(|x| *x *= crate::model::FLOW_SCALE as f32);
        let residual = &buffers.output[flow_numbers..];
        picture_of_patches(
            &mut buffers.residual,
            residual,
            outputs,
            config.frame,
            config.patch,
            3,
        );
        let sizes = warp::Sizes {
            height: config.frame.height,
            width: config.frame.width,
            channels: 3,
            grid_height: grid.height,
            grid_width: grid.width,
            patch: config.patch,
        };
        guess.resize(picture.len(), 0.0);
        warp::forward_picture(team, guess, picture, &buffers.flow, sizes);
        for (guess, residual) in guess.iter_mut().zip(&buffers.residual) {
            *guess = (*guess + residual).clamp(0.0, 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use nn::{FrameSize, Parameters, Precision, generator, normal};

    #[test]
    fn it_computes_what_the_model_computes() -> Result<()> {
        let config = LatentActionConfig {
            frame: FrameSize {
                height: 16,
                width: 24,
            },
            width: 32,
            heads: 2,
            encoder_layers: 1,
            predictor_layers: 2,
            action_width: 4,
            codes: 3,
            ..LatentActionConfig::default()
        };
        let model = LatentActionModel::new(&config, Parameters::seeded(1, &Device::Cpu).builder())?;
        let mut random = generator(3, 0);
        let mut draw = |count: usize| {
            (0..count)
                .map(|_| normal(&mut random))
                .collect::<Vec<f32>>()
        };
        model.set_codebook(&Tensor::from_vec(draw(12), (3, 4), &Device::Cpu)?)?;
        let picture: Vec<f32> = draw(16 * 24 * 3)
            .iter()
            .map(|x| (0.5 + 0.2 * x).clamp(0.0, 1.0))
            .collect();
        let tensor = Tensor::from_slice(&picture, (1, 16, 24, 3), &Device::Cpu)?;
        for unit in Unit::all()
            .into_iter()
            .filter(|unit| unit.precision() == Precision::F32)
        {
            let forecaster = Forecaster::new(&model, unit)?;
            let (team, mut buffers, mut guess) =
                (Team::new(2), ForecasterBuffers::default(), Vec::new());
            for code in 0..3u16 {
                forecaster.forecast(&team, &mut buffers, &picture, ActionCode(code), &mut guess)?;
                let expected = numbers(
                    &model.forecast(&tensor, &Tensor::new(&[u32::from(code)], &Device::Cpu)?)?,
                )?;
                assert!(
                    guess
                        .iter()
                        .zip(&expected)
                        .all(|(a, b)| (a - b).abs() < 1e-4),
                    "{}",
                    unit.name()
                );
            }
            assert!(
                forecaster
                    .forecast(&team, &mut buffers, &picture, ActionCode(3), &mut guess)
                    .is_err()
            );
            assert!(
                forecaster
                    .forecast(
                        &team,
                        &mut buffers,
                        &picture[1..],
                        ActionCode(0),
                        &mut guess
                    )
                    .is_err()
            );
        }
        Ok(())
    }
}
