//! Opens whatever a path names and hands its pictures out.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::animation::Format;
use crate::av1::Av1Decoder;
use crate::error::Attempt;
use crate::ffmpeg::{FfmpegReader, NOT_ON_PATH};
use crate::h264::H264Decoder;
use crate::packets::{Codec, PacketDecoder, PacketReader, Track};
use crate::picture::{self, TimedPicture};
use crate::still::{StillReader, read_image};
use crate::{Error, animation, image_folder, matroska, mp4};

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
    /// [`Error::Damaged`] or [`Error::Malformed`] where something cannot be read. The pictures before that were good, and
    /// reading may go on: a picture after an error is good too, but no continuation of the one before.
    fn next_picture(&mut self) -> Result<Option<TimedPicture>, Error>;
}

/// Opens a video file, an animation, a picture or a folder of numbered images. What it is gets decided by its content, but for Motion
/// JPEG, which its name tells from a picture; the first picture is decoded at once where that tells whether a decoder can take the source at all.
///
/// # Errors
///
/// [`Error::NoDecoder`] when nothing can decode the source, [`Error::Io`] and [`Error::Malformed`] when it cannot be read.
pub fn open(path: &Path) -> Result<Box<dyn VideoReader>, Error> {
    open_with(path, "ffmpeg")
}

/// As [`open`], with the program that is asked where nothing built in can serve.
fn open_with(path: &Path, ffmpeg: &str) -> Result<Box<dyn VideoReader>, Error> {
    if path.is_dir() {
        return image_folder::open(path);
    }
    let kind = Kind::of(path)?;
    let opened = match kind {
        Kind::Mp4 => mp4::open(path).and_then(|track| open_track(path, track, ffmpeg)),
        Kind::Matroska => matroska::open(path).and_then(|track| open_track(path, track, ffmpeg)),
        Kind::Animation(format) => animation::open(path, format),
        Kind::Jpeg if is_motion_jpeg(path) => open_foreign(path, "Motion JPEG", Vec::new(), ffmpeg),
        Kind::Jpeg => read_image(path)
            .map(|picture| -> Box<dyn VideoReader> { Box::new(StillReader(Some(picture))) }),
        Kind::Unknown => open_foreign(path, kind.name(), Vec::new(), ffmpeg),
    };
    match opened {
        Err(Error::Malformed { what, .. }) => {
            let tried = vec![Attempt::new("the built-in reader", what)];
            open_foreign(path, kind.name(), tried, ffmpeg)
        }
        opened => opened,
    }
}

/// Whether the file is a stream of JPEGs, which begins as a single one does: nothing but its name tells.
fn is_motion_jpeg(path: &Path) -> bool {
    path.extension().is_some_and(|ending| {
        ["mjpeg", "mjpg"]
            .iter()
            .any(|name| ending.eq_ignore_ascii_case(name))
    })
}

/// What the first bytes of a file say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mp4,
    Matroska,
    Animation(Format),
    Jpeg,
    Unknown,
}

impl Kind {
    /// For messages.
    fn name(self) -> &'static str {
        match self {
            Self::Mp4 => "MP4",
            Self::Matroska => "Matroska",
            Self::Animation(Format::Gif) => "GIF",
            Self::Animation(Format::Png) => "PNG",
            Self::Animation(Format::WebP) => "WebP",
            Self::Jpeg => "JPEG",
            Self::Unknown => "an unknown format",
        }
    }

    fn of(path: &Path) -> Result<Self, Error> {
        // Opening a pipe would wait for whoever writes to it.
        let metadata = path.metadata().map_err(Error::io(path))?;
        if !metadata.is_file() {
            return Err(Error::malformed(path, "it is no regular file"));
        }
        let mut start = Vec::with_capacity(16);
        let file = File::open(path).map_err(Error::io(path))?;
        file.take(16)
            .read_to_end(&mut start)
            .map_err(Error::io(path))?;
        if start.is_empty() {
            return Err(Error::malformed(path, "the file is empty"));
        }
        Ok(Self::of_bytes(&start))
    }

    fn of_bytes(start: &[u8]) -> Self {
        if start.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) {
            return Self::Matroska;
        }
        if start.starts_with(b"GIF8") {
            return Self::Animation(Format::Gif);
        }
        if start.starts_with(b"\x89PNG") {
            return Self::Animation(Format::Png);
        }
        if start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP") {
            return Self::Animation(Format::WebP);
        }
        if start.starts_with(&[0xff, 0xd8, 0xff]) {
            return Self::Jpeg;
        }
        match start.get(4..8) {
            Some(b"ftyp" | b"moov" | b"mdat" | b"free" | b"wide" | b"skip" | b"pnot") => Self::Mp4,
            _ => Self::Unknown,
        }
    }
}

/// Opens a track with the built-in decoder for its codec, or else with ffmpeg.
fn open_track(path: &Path, track: Track, ffmpeg: &str) -> Result<Box<dyn VideoReader>, Error> {
    let (codec, name, decoder) = match &track.codec {
        Codec::H264 { configuration } => (
            "H.264",
            "openh264",
            H264Decoder::new(configuration)
                .map(|decoder| Box::new(decoder) as Box<dyn PacketDecoder>),
        ),
        Codec::Av1 { configuration } => (
            "AV1",
            "rav1d",
            Av1Decoder::new(configuration)
                .map(|decoder| Box::new(decoder) as Box<dyn PacketDecoder>),
        ),
        Codec::Other(codec) => {
            let tried = ["openh264", "rav1d"]
                .map(|decoder| Attempt::new(decoder, "it is for another codec"));
            return open_foreign(path, codec, tried.to_vec(), ffmpeg);
        }
    };
    let reason = match decoder {
        Ok(decoder) => {
            if let Some((width, height)) = decoder.size() {
                picture::check_size(path, width, height)?;
            }
            let mut reader = PacketReader::new(path, track, decoder);
            match reader.prime() {
                Ok(()) => {
                    tracing::info!("{}: {codec} through {name}", path.display());
                    return Ok(Box::new(reader));
                }
                Err(Error::Damaged { reason, .. }) => reason,
                Err(error) => return Err(error),
            }
        }
        Err(reason) => reason,
    };
    open_foreign(path, codec, vec![Attempt::new(name, reason)], ffmpeg)
}

/// The last resort.
fn open_foreign(
    path: &Path,
    codec: &str,
    mut tried: Vec<Attempt>,
    ffmpeg: &str,
) -> Result<Box<dyn VideoReader>, Error> {
    match FfmpegReader::start(ffmpeg, path, codec) {
        Ok(reader) => {
            tracing::info!("{}: {codec} through ffmpeg", path.display());
            Ok(Box::new(reader))
        }
        Err(reason) => {
            let help = match reason == NOT_ON_PATH {
                true => format!(
                    "Install ffmpeg, or convert it where there is one: ffmpeg -i {} -c:v libx264 -pix_fmt yuv420p out.mp4",
                    path.display()
                ),
                false => "It seems to be damaged or no video: copy or record it again, or convert it with a program that plays it".to_owned(),
            };
            tried.push(Attempt::new("ffmpeg", reason));
            Err(Error::NoDecoder {
                path: path.to_owned(),
                codec: codec.to_owned(),
                tried,
                help,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("test_data")
            .join(name)
    }

    #[test]
    fn without_a_decoder_the_message_tells_what_was_tried_and_what_helps() {
        for (name, codec, words) in [
            (
                "vp9.webm",
                "VP9",
                ["openh264", "rav1d", "ffmpeg: not on PATH"],
            ),
            (
                "h264_10_bit.mp4",
                "H.264",
                ["openh264", "10 bits", "ffmpeg: not on PATH"],
            ),
        ] {
            let error = open_with(&data(name), "no-such-program-anywhere")
                .err()
                .unwrap();
            let message = error.to_string();
            assert!(
                matches!(error, Error::NoDecoder { codec: ref found, .. } if found == codec),
                "{message}"
            );
            for word in words.into_iter().chain([name, "Install ffmpeg", "libx264"]) {
                assert!(message.contains(word), "{word} is not in: {message}");
            }
        }
    }

    #[test]
    fn a_stream_of_jpegs_is_no_single_picture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.MJPEG");
        std::fs::write(&path, [0xff, 0xd8, 0xff, 0xd9]).unwrap();
        let error = open_with(&path, "no-such-program-anywhere").err().unwrap();
        assert!(
            matches!(&error, Error::NoDecoder { codec, .. } if codec == "Motion JPEG"),
            "{error}"
        );
    }

    #[test]
    fn what_is_broken_is_given_to_ffmpeg_before_it_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        for (name, start) in [
            ("cut.mp4", &b"\0\0\0\x10ftypisom\0\0\0\0"[..]),
            ("cut.mkv", b"\x1a\x45\xdf\xa3\x80"),
            ("cut.gif", b"GIF89a"),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, start).unwrap();
            let error = open_with(&path, "no-such-program-anywhere").err().unwrap();
            let Error::NoDecoder { tried, help, .. } = &error else {
                panic!("{error}");
            };
            let names: Vec<&str> = tried.iter().map(|tried| tried.decoder.as_str()).collect();
            assert_eq!(names, ["the built-in reader", "ffmpeg"], "{error}");
            assert!(help.contains("Install ffmpeg"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe.mp4");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let error = open_with(&path, "ffmpeg").err().unwrap();
        assert!(error.to_string().contains("no regular file"), "{error}");
    }

    #[cfg(unix)]
    fn fake_ffmpeg(folder: &Path, script: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join("ffmpeg");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_built_in_goes_through_ffmpeg() {
        let folder = tempfile::tempdir().unwrap();
        let script = r"printf 'YUV4MPEG2 W2 H2 F25:1 C444\nFRAME\n'; printf '\353\353\020\020\200\200\200\200\200\200\200\200'; printf 'FRAME\nxxxxxxxxxxxx'";
        let program = fake_ffmpeg(folder.path(), script);
        let mut reader = open_with(&data("vp9.webm"), &program).unwrap();
        assert_eq!(reader.codec(), "VP9");
        let first = reader.next_picture().unwrap().unwrap();
        assert_eq!(
            first.picture.rgb,
            [255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(reader.next_picture().unwrap().unwrap().seconds, 0.04);
        assert!(reader.next_picture().unwrap().is_none());
    }

    #[cfg(unix)]
    #[test]
    fn ffmpeg_that_fails_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let program = fake_ffmpeg(
            folder.path(),
            "echo 'some: moov atom not found' >&2; exit 1",
        );
        let error = open_with(&data("vp9.webm"), &program).err().unwrap();
        assert!(error.to_string().contains("moov atom not found"), "{error}");
        let program = fake_ffmpeg(
            folder.path(),
            r"printf 'YUV4MPEG2 W2 H2 F25:1 C444\nFRAME\nxxxxxxxxxxxx'; echo broken >&2; exit 1",
        );
        let mut reader = open_with(&data("vp9.webm"), &program).unwrap();
        assert!(reader.next_picture().unwrap().is_some());
        assert!(matches!(
            reader.next_picture(),
            Err(Error::Damaged {
                pictures_read: 1,
                ..
            })
        ));
    }

    #[test]
    fn kinds_by_first_bytes() {
        assert_eq!(Kind::of_bytes(b"\0\0\0\x20ftypisom"), Kind::Mp4);
        assert_eq!(Kind::of_bytes(b"\x1a\x45\xdf\xa3"), Kind::Matroska);
        assert_eq!(Kind::of_bytes(b"RIFF\0\0\0\0AVI "), Kind::Unknown);
        assert_eq!(
            Kind::of_bytes(b"RIFF\0\0\0\0WEBP"),
            Kind::Animation(Format::WebP)
        );
        assert_eq!(Kind::of_bytes(b"x"), Kind::Unknown);
    }
}
