//! YUV4MPEG2, the uncompressed form in which ffmpeg hands pictures over.

use std::io::{self, BufRead, Read};

use crate::colour::{ColourTags, Plane, YuvPicture};
use crate::picture::{MAXIMUM_PIXELS, MAXIMUM_SIDE};

/// Longest header line, in bytes.
const LONGEST_LINE: u64 = 4096;

/// Reads pictures out of a YUV4MPEG2 stream of 8-bit 4:4:4 or 4:2:0 samples.
pub(crate) struct Y4mReader<R> {
    stream: R,
    pub width: usize,
    pub height: usize,
    /// Pictures per second.
    pub rate: f64,
    halved: bool,
    tags: ColourTags,
}

impl<R: BufRead> Y4mReader<R> {
    /// Reads the header; `None` when the stream is empty. `tags` say what the samples mean, which the format cannot.
    pub(crate) fn new(mut stream: R, tags: ColourTags) -> io::Result<Option<Self>> {
        let Some(line) = read_line(&mut stream)? else {
            return Ok(None);
        };
        let mut words = line.split(' ');
        if words.next() != Some("YUV4MPEG2") {
            return Err(broken("it does not begin with YUV4MPEG2"));
        }
        let (mut width, mut height, mut rate, mut halved) = (0usize, 0usize, 0.0, true);
        for word in words {
            let Some((kind, value)) = word.split_at_checked(1) else {
                continue;
            };
            match kind {
                "W" => width = value.parse().map_err(broken)?,
                "H" => height = value.parse().map_err(broken)?,
                "F" => {
                    let (numerator, denominator) = value
                        .split_once(':')
                        .ok_or_else(|| broken("the frame rate is no fraction"))?;
                    rate = numerator.parse::<f64>().map_err(broken)?
                        / denominator.parse::<f64>().map_err(broken)?;
                }
                "C" => {
                    halved = match value {
                        "444" => false,
                        "420" | "420jpeg" | "420mpeg2" | "420paldv" => true,
                        other => {
                            return Err(broken(format!(
                                "samples of the form {other:?} are not supported"
                            )));
                        }
                    }
                }
                _ => {}
            }
        }
        let side = 1..=MAXIMUM_SIDE as usize;
        if !side.contains(&width)
            || !side.contains(&height)
            || (width * height) as u64 > MAXIMUM_PIXELS
        {
            return Err(broken(format!("a picture of {width}x{height}")));
        }
        if !(rate.is_finite() && rate > 0.0) {
            return Err(broken(format!("a frame rate of {rate}")));
        }
        Ok(Some(Self {
            stream,
            width,
            height,
            rate,
            halved,
            tags,
        }))
    }

    /// The next picture; `None` at the end.
    pub(crate) fn next_picture(&mut self) -> io::Result<Option<YuvPicture>> {
        let Some(line) = read_line(&mut self.stream)? else {
            return Ok(None);
        };
        if !line.starts_with("FRAME") {
            return Err(broken("a picture does not begin with FRAME"));
        }
        let half = |length: usize| {
            if self.halved {
                length.div_ceil(2)
            } else {
                length
            }
        };
        let (chroma_width, chroma_height) = (half(self.width), half(self.height));
        let stream = &mut self.stream;
        let mut plane = |width: usize, height: usize| -> io::Result<Plane> {
            let mut samples = vec![0; width * height];
            stream.read_exact(&mut samples)?;
            Ok(Plane { width, samples })
        };
        Ok(Some(YuvPicture {
            width: self.width,
            height: self.height,
            luma: plane(self.width, self.height)?,
            chroma: [
                plane(chroma_width, chroma_height)?,
                plane(chroma_width, chroma_height)?,
            ],
            halved: (self.halved, self.halved),
            tags: self.tags,
        }))
    }
}

fn broken(what: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

fn read_line(stream: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = stream.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(broken("a header line does not end"));
    }
    String::from_utf8(line).map(Some).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> io::Result<Vec<YuvPicture>> {
        let Some(mut reader) = Y4mReader::new(bytes, ColourTags::default())? else {
            return Ok(Vec::new());
        };
        let mut pictures = Vec::new();
        while let Some(picture) = reader.next_picture()? {
            pictures.push(picture);
        }
        Ok(pictures)
    }

    #[test]
    fn both_layouts() {
        let full = [
            b"YUV4MPEG2 W2 H1 F30000:1001 Ip A1:1 C444\nFRAME\n".as_slice(),
            &[1, 2, 3, 4, 5, 6],
        ]
        .concat();
        let pictures = read(&full).unwrap();
        assert_eq!(pictures[0].luma.samples, [1, 2]);
        assert_eq!(pictures[0].chroma[1].samples, [5, 6]);
        let reader = Y4mReader::new(full.as_slice(), ColourTags::default())
            .unwrap()
            .unwrap();
        assert!((reader.rate - 29.97).abs() < 0.001);
        let halved = [
            b"YUV4MPEG2 W3 H1 F15:1\nFRAME\n".as_slice(),
            &[1, 2, 3, 4, 5, 6, 7],
            b"FRAME\n",
            &[0; 7],
        ]
        .concat();
        assert_eq!(read(&halved).unwrap().len(), 2);
        assert!(read(b"").unwrap().is_empty());
    }

    #[test]
    fn breaks_are_errors() {
        for text in [
            "YUV4MPEG2 W2 H1 F1:0\n",
            "YUV4MPEG2 W99999999 H1 F1:1\n",
            "RIFF\n",
            "YUV4MPEG2 W2 H1 F1:1\nFRAME\n12",
            "YUV4MPEG2 W1",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_header_parses_or_fails(text in "YUV4MPEG2( [WHFCIA][0-9:a-z]{0,6}){0,6}\n(FRAME\n.{0,20}){0,2}") {
            let _ = read(text.as_bytes());
        }
    }
}
