//! Reads and writes video, pictures and sound. It knows nothing of models.
//!
//! Reading: [`open`] looks at what a path holds, chooses a demultiplexer and a decoder, and hands out
//! [`TimedPicture`]s in the order in which they are shown, one at a time. [`fit_picture`] brings them to one size and
//! [`Resampler`] to one rate.

mod bits;
mod colour;
mod error;
mod fit;
mod h264;
mod image_folder;
mod mp4;
mod packets;
mod picture;
mod reader;
mod resample;

pub use error::{Attempt, Error};
pub use fit::{CropRect, Fit, Fitting, fit_picture};
pub use image_folder::numbered_images;
pub use picture::{MAXIMUM_PIXELS, MAXIMUM_SIDE, Picture, TimedPicture, enlarge};
pub use reader::{VideoReader, open};
pub use resample::{Repeats, Resampler};
