//! What can go wrong while reading or writing media.

use std::fmt;
use std::path::{Path, PathBuf};

/// One decoder that was considered for a file and why it did not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Name of the decoder, such as `openh264`.
    pub decoder: String,
    /// Why it could not be used.
    pub reason: String,
}

impl Attempt {
    pub(crate) fn new(decoder: &str, reason: impl Into<String>) -> Self {
        Self {
            decoder: decoder.to_owned(),
            reason: reason.into(),
        }
    }
}

struct Attempts<'a>(&'a [Attempt]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, attempt) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("; ")?;
            }
            write!(formatter, "{}: {}", attempt.decoder, attempt.reason)?;
        }
        Ok(())
    }
}

/// Everything that reading or writing media can fail with. Every variant names the file, where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The container or image file breaks its own format.
    #[error("{}: damaged or not what it claims to be: {what}", path.display())]
    Malformed {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// No decoder, built in or external, could take the stream.
    #[error("{}: {codec} cannot be decoded here – {}. {help}", path.display(), Attempts(tried))]
    NoDecoder {
        /// The file concerned.
        path: PathBuf,
        /// Codec of the stream, as people call it.
        codec: String,
        /// Decoders that were considered, and why each failed.
        tried: Vec<Attempt>,
        /// What the reader of the message can do about it.
        help: String,
    },
    /// Something in the middle cannot be decoded; the pictures before that point were good, and others may follow.
    #[error("{}: {codec} is damaged after {pictures_read} pictures: {reason}", path.display())]
    Damaged {
        /// The file concerned.
        path: PathBuf,
        /// Codec of the stream.
        codec: String,
        /// Pictures handed out before the damage.
        pictures_read: u64,
        /// Pictures left out until decoding could begin again, where that is known.
        pictures_lost: u64,
        /// What the decoder said.
        reason: String,
    },
    /// A picture is larger than anything this crate agrees to allocate.
    #[error("{}: a picture of {width}x{height} is over the limit of {} a side and {} pixels", path.display(), crate::picture::MAXIMUM_SIDE, crate::picture::MAXIMUM_PIXELS)]
    TooLarge {
        /// The file concerned.
        path: PathBuf,
        /// Claimed width in pixels.
        width: u64,
        /// Claimed height in pixels.
        height: u64,
    },
    /// Width, height and number of bytes of a picture do not belong together.
    #[error("a picture of {width}x{height} RGB needs {} bytes, got {bytes}", u64::from(*width) * u64::from(*height) * 3)]
    PictureSize {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Bytes given.
        bytes: usize,
    },
    /// The crop rectangle does not lie inside the picture.
    #[error(
        "crop {x},{y},{crop_width},{crop_height} does not lie inside a picture of {width}x{height}"
    )]
    CropOutside {
        /// Left edge of the crop.
        x: u32,
        /// Top edge of the crop.
        y: u32,
        /// Width of the crop.
        crop_width: u32,
        /// Height of the crop.
        crop_height: u32,
        /// Width of the picture.
        width: u32,
        /// Height of the picture.
        height: u32,
    },
    /// A target size or frame rate makes no sense.
    #[error("{what} must be {expected}, got {got}")]
    InvalidSetting {
        /// Name of the setting.
        what: &'static str,
        /// What is allowed.
        expected: String,
        /// What was asked for.
        got: String,
    },
    /// A picture given to a writer has another size than the file.
    #[error("{}: a picture of {width}x{height} does not fit a video of {expected_width}x{expected_height}", path.display())]
    WrongPictureSize {
        /// The file being written.
        path: PathBuf,
        /// Width of the picture.
        width: u32,
        /// Height of the picture.
        height: u32,
        /// Width of the video.
        expected_width: u32,
        /// Height of the video.
        expected_height: u32,
    },
    /// An encoder failed.
    #[error("{}: cannot encode: {reason}", path.display())]
    Encode {
        /// The file being written.
        path: PathBuf,
        /// What the encoder said.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// The file that the message names, where it names one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Io { path, .. }
            | Self::Malformed { path, .. }
            | Self::NoDecoder { path, .. }
            | Self::Damaged { path, .. }
            | Self::TooLarge { path, .. }
            | Self::WrongPictureSize { path, .. }
            | Self::Encode { path, .. } => Some(path),
            Self::PictureSize { .. } | Self::CropOutside { .. } | Self::InvalidSetting { .. } => {
                None
            }
        }
    }

    pub(crate) fn malformed(path: &Path, what: impl fmt::Display) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            what: what.to_string(),
        }
    }

    pub(crate) fn encode(path: &Path, reason: impl fmt::Display) -> Self {
        Self::Encode {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}
