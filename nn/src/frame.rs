//! Frame sizes, and pictures as patches.

use crate::{Error, Result, ops};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// Largest side of a frame that a model is built for, in pixels.
const LARGEST_SIDE: usize = 1024;

/// Height and width of a frame in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameSize {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl FrameSize {
    /// Bytes of an RGB8 frame of this size.
    pub fn bytes(&self) -> usize {
        self.height * self.width * 3
    }

    /// Patches of side `patch` in a frame.
    ///
    /// # Errors
    /// When the frame is absurdly large or the patch does not divide it.
    pub fn patches(&self, patch: usize) -> Result<usize> {
        Error::check_range("frame.height", self.height, 1..=LARGEST_SIDE)?;
        Error::check_range("frame.width", self.width, 1..=LARGEST_SIDE)?;
        Error::check_range("patch", patch, 1..=64)?;
        if !self.height.is_multiple_of(patch) || !self.width.is_multiple_of(patch) {
            return Err(Error::config(
                "patch",
                patch,
                format!("does not divide a frame of {self}"),
            ));
        }
        Ok((self.height / patch) * (self.width / patch))
    }
}

impl std::fmt::Display for FrameSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Cuts frames `[B, T, H, W, C]` into patches `[B, T, N, P * P * C]`, row by row.
///
/// # Errors
/// When the shape is another or the patch does not divide it.
pub fn patches_of(frames: &Tensor, patch: usize) -> Result<Tensor> {
    let (b, t, h, w, c) = frames.dims5()?;
    FrameSize {
        height: h,
        width: w,
    }
    .patches(patch)?;
    let (rows, columns) = (h / patch, w / patch);
    let split = frames.reshape((b * t * rows, patch, columns, patch * c))?;
    Ok(ops::exchange_middle(&split)?.reshape((b, t, rows * columns, patch * patch * c))?)
}

/// [`patches_of`] frames of values 0..1, brought to -1..1 as models take them in.
///
/// # Errors
/// As [`patches_of`].
pub fn centred_patches_of(frames: &Tensor, patch: usize) -> Result<Tensor> {
    Ok(patches_of(frames, patch)?.affine(2.0, -1.0)?)
}

/// Puts patches `[B, T, N, P * P * C]` together to frames `[B, T, H, W, C]`: the inverse of [`patches_of`].
///
/// # Errors
/// When the shape does not fit a frame of `size`.
pub fn pictures_of(patches: &Tensor, size: FrameSize, patch: usize) -> Result<Tensor> {
    let (b, t, n, numbers) = patches.dims4()?;
    if n != size.patches(patch)? || numbers % (patch * patch) != 0 {
        return Err(Error::Input(format!(
            "{n} patches of {numbers} numbers are no frame of {size} in patches of {patch}"
        )));
    }
    let (rows, columns, c) = (
        size.height / patch,
        size.width / patch,
        numbers / (patch * patch),
    );
    let split = patches.reshape((b * t * rows, columns, patch, patch * c))?;
    Ok(ops::exchange_middle(&split)?.reshape((b, t, size.height, size.width, c))?)
}

/// Calls `each(start in the picture, start in the patches)` for each run of `patch * channels` numbers that lie together in both.
pub(crate) fn runs(
    size: FrameSize,
    patch: usize,
    channels: usize,
    mut each: impl FnMut(usize, usize),
) {
    let run = patch * channels;
    for y in 0..size.height {
        for column in 0..size.width / patch {
            let row = y / patch * (size.width / patch) + column;
            each(
                (y * size.width + column * patch) * channels,
                (row * patch + y % patch) * run,
            );
        }
    }
}

/// [`patches_of`] for one picture `[H, W, C]` of a valid size: fills `patches` `[N, P * P * C]`.
fn patches_of_picture(patches: &mut Vec<f32>, picture: &[f32], size: FrameSize, patch: usize) {
    let channels = picture.len() / (size.height * size.width);
    let run = patch * channels;
    patches.resize(picture.len(), 0.0);
    runs(size, patch, channels, |from, to| {
        patches[to..to + run].copy_from_slice(&picture[from..from + run])
    });
}

/// `patches_of_picture` of values 0..1, brought to -1..1 as models take them in.
pub fn centred_patches_of_picture(
    patches: &mut Vec<f32>,
    picture: &[f32],
    size: FrameSize,
    patch: usize,
) {
    patches_of_picture(patches, picture, size, patch);
    patches.iter_mut().for_each(|x| *x = *x * 2.0 - 1.0);
}

/// [`pictures_of`] for one picture: fills `picture` `[H, W, C]` from patches of `P * P * C` numbers, `stride` apart.
pub fn picture_of_patches(
    picture: &mut Vec<f32>,
    patches: &[f32],
    stride: usize,
    size: FrameSize,
    patch: usize,
    channels: usize,
) {
    let run = patch * channels;
    picture.resize(size.height * size.width * channels, 0.0);
    runs(size, patch, channels, |to, from| {
        let from = from / (run * patch) * stride + from % (run * patch);
        picture[to..to + run].copy_from_slice(&patches[from..from + run]);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn patches_hold_square_pieces_and_go_back_together() -> Result<()> {
        let frames = Tensor::arange(0f32, 2.0 * 3.0 * 8.0 * 12.0 * 3.0, &Device::Cpu)?
            .reshape((2, 3, 8, 12, 3))?;
        let patches = patches_of(&frames, 4)?;
        assert_eq!(patches.dims(), [2, 3, 6, 48]);
        let one = patches.get(1)?.get(2)?.get(4)?.reshape((4, 4, 3))?;
        let cut = frames.get(1)?.get(2)?.narrow(0, 4, 4)?.narrow(1, 4, 4)?;
        assert_eq!(one.to_vec3::<f32>()?, cut.to_vec3::<f32>()?);
        let back = pictures_of(
            &patches,
            FrameSize {
                height: 8,
                width: 12,
            },
            4,
        )?;
        assert_eq!(
            back.flatten_all()?.to_vec1::<f32>()?,
            frames.flatten_all()?.to_vec1::<f32>()?
        );
        assert!(patches_of(&frames, 5).is_err());
        Ok(())
    }

    #[test]
    fn one_picture_is_cut_as_tensors_are() -> Result<()> {
        let size = FrameSize {
            height: 8,
            width: 12,
        };
        let picture: Vec<f32> = (0..8 * 12 * 2).map(|i| i as f32).collect();
        let mut patches = Vec::new();
        patches_of_picture(&mut patches, &picture, size, 4);
        let tensor = Tensor::from_slice(&picture, (1, 1, 8, 12, 2), &Device::Cpu)?;
        assert_eq!(
            patches,
            patches_of(&tensor, 4)?.flatten_all()?.to_vec1::<f32>()?
        );
        let mut back = Vec::new();
        picture_of_patches(&mut back, &patches, 32, size, 4, 2);
        assert_eq!(back, picture);
        // With other numbers between the patches.
        let spread: Vec<f32> = patches
            .chunks(32)
            .flat_map(|patch| [patch, &[9.0; 5]].concat())
            .collect();
        picture_of_patches(&mut back, &spread, 37, size, 4, 2);
        assert_eq!(back, picture);
        Ok(())
    }
}
