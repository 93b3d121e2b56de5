//! Opens whatever a path names and hands its pictures out.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::Attempt;
use crate::h264::H264Decoder;
use crate::packets::{Codec, PacketDecoder, PacketReader, Track};
use crate::picture::{self, TimedPicture};
use crate::{Error, mp4};

/// Pictures of a source in the order in which they are shown, one at a time.
pub trait VideoReader {
    /// What the source is coded with, such as `H.264`.
    fn codec(&self) -> &str;

    /// Number of pictures, where the source tells it beforehand. It may be wrong.
    fn frame_count_hint(&self) -> Option<u64>;

    /// Whether the presentation times mean something. A folder of images has none: there one image is one frame, at
    /// whatever rate is wanted.
    fn is_timed(&self) -> bool {
        true
    }

    /// The next picture; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] or [`Error::Malformed`] where the source breaks off; the pictures before that were good. After
    /// an error there is nothing more to read.
    fn next_picture(&mut self) -> Result<Option<TimedPicture>, Error>;
}

/// Opens a video file, an animation or a folder of numbered images. What it is gets decided by its content; the first
/// picture is decoded at once, so that a source nobody can decode is reported here.
///
/// # Errors
///
/// [`Error::NoDecoder`] when nothing can decode the source, [`Error::Io`] and [`Error::Malformed`] when it cannot be read.
pub fn open(path: &Path) -> Result<Box<dyn VideoReader>, Error> {
    match Kind::of(path)? {
        Kind::Mp4 => open_track(path, mp4::open(path)),
        Kind::Unknown => Err(no_decoder(path, "an unknown format", vec![])),
    }
}

/// What the first bytes of a file say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mp4,
    Unknown,
}

impl Kind {
    fn of(path: &Path) -> Result<Self, Error> {
        let mut start = Vec::with_capacity(64);
        let file = File::open(path).map_err(Error::io(path))?;
        file.take(64)
            .read_to_end(&mut start)
            .map_err(Error::io(path))?;
        Ok(Self::of_bytes(&start))
    }

    fn of_bytes(start: &[u8]) -> Self {
        match start.get(4..8) {
            Some(b"ftyp" | b"moov" | b"mdat" | b"free" | b"wide" | b"skip" | b"pnot") => Self::Mp4,
            _ => Self::Unknown,
        }
    }
}

fn open_track(path: &Path, track: Result<Track, Error>) -> Result<Box<dyn VideoReader>, Error> {
    let track = track?;
    let (codec, attempt) = match track.codec {
        Codec::H264 { configuration } => {
            let attempt = match H264Decoder::new(&configuration) {
                Ok(decoder) => {
                    if let Some((width, height)) = decoder.size() {
                        picture::check_size(path, width, height)?;
                    }
                    let decoder: Box<dyn PacketDecoder> = Box::new(decoder);
                    let mut reader = PacketReader::new(path, track.source, decoder, track.colour);
                    match reader.prime() {
                        Ok(()) => return Ok(Box::new(reader)),
                        Err(Error::Damaged { reason, .. }) => Attempt::new("openh264", reason),
                        Err(error) => return Err(error),
                    }
                }
                Err(reason) => Attempt::new("openh264", reason),
            };
            ("H.264".to_owned(), attempt)
        }
        Codec::Av1 { .. } => ("AV1".to_owned(), Attempt::new("rav1d", "not built in")),
        Codec::Other(name) => (name, Attempt::new("openh264", "another codec")),
    };
    Err(no_decoder(path, &codec, vec![attempt]))
}

fn no_decoder(path: &Path, codec: &str, tried: Vec<Attempt>) -> Error {
    let name = path.display();
    Error::NoDecoder {
        path: path.to_owned(),
        codec: codec.to_owned(),
        tried,
        help: format!(
            "Install ffmpeg, or convert the file: ffmpeg -i {name} -c:v libx264 -pix_fmt yuv420p out.mp4"
        ),
    }
}
