//! Reads and writes video, pictures and sound. It knows nothing of models.
//!
//! **Reading.** [`open`] looks at what a path holds, chooses a demultiplexer and a decoder, and hands out [`TimedPicture`]s in the
//! order in which they are shown, one at a time. Built in are H.264 and AV1 in MP4, QuickTime, Matroska and WebM, animated GIF, APNG and
//! WebP, and folders of numbered images; everything else goes through an `ffmpeg` program, where there is one.
//! [`fit_picture`] brings pictures to one size and [`Resampler`] brings them to one rate.
//!
//! ```text
//! file ─► mp4 | matroska ─► packets ─► h264 | av1 ─► YUV ─► sorted by time ─► RGB ─► TimedPicture
//!      └► animation | image folder | ffmpeg pipe ───────────────────────────────────┘
//! ```
//!
//! **Writing.** [`Mp4Writer`] encodes H.264, and Opus where there is sound, into fragmented MP4 that survives a crash, [`GifWriter`] makes animations, [`WavWriter`]
//! keeps sound, [`write_png`] single pictures.
//!
//! Files come from strangers: sizes are checked before they are allocated, and whatever is wrong with a file is an [`Error`] that
//! names it.

mod animation;
mod av1;
mod bits;
mod colour;
mod error;
mod ffmpeg;
mod fit;
mod gif_writer;
mod h264;
mod image_folder;
mod matroska;
mod mp4;
mod mp4_writer;
mod opus_track;
mod packets;
mod picture;
mod reader;
mod resample;
mod still;
mod wav;
mod y4m;

pub use error::{Attempt, Error};
pub use fit::{CropRect, Fit, Fitting, fit_picture};
pub use gif_writer::GifWriter;
pub use image_folder::numbered_images;
pub use mp4_writer::Mp4Writer;
pub use opus_track::OPUS_RATE;
pub use picture::{MAXIMUM_PIXELS, MAXIMUM_SIDE, Picture, TimedPicture, enlarge};
pub use reader::{VideoReader, open};
pub use resample::{Repeats, Resampler};
pub use still::{png_bytes, read_image, read_image_bytes, write_png};
pub use wav::{CHANNELS, Sound, WavFormat, WavWriter, read_wav};
