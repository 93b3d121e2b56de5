//! Matroska and WebM: finds the video track and its packets.
//!
//! Elements are read one after another without a tree: the few that matter here are told apart by their numbers alone.
//! Sizes are checked against the file's length before anything is allocated for them.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::bits::{FieldResult, Fields};
use crate::colour::{ColourTags, Matrix};
use crate::packets::{Codec, Packet, PacketSource, Track};
use crate::picture::Turn;

/// Numbers of elements.
mod id {
    pub const SEGMENT: u32 = 0x1853_8067;
    pub const INFO: u32 = 0x1549_a966;
    pub const TIMESTAMP_SCALE: u32 = 0x2a_d7b1;
    pub const DURATION: u32 = 0x4489;
    pub const TRACKS: u32 = 0x1654_ae6b;
    pub const TRACK_ENTRY: u32 = 0xae;
    pub const TRACK_NUMBER: u32 = 0xd7;
    pub const TRACK_TYPE: u32 = 0x83;
    pub const DEFAULT_DURATION: u32 = 0x23_e383;
    pub const CODEC_ID: u32 = 0x86;
    pub const CODEC_PRIVATE: u32 = 0x63a2;
    pub const VIDEO: u32 = 0xe0;
    pub const COLOUR: u32 = 0x55b0;
    pub const MATRIX: u32 = 0x55b1;
    pub const RANGE: u32 = 0x55b9;
    pub const ENCODINGS: u32 = 0x6d80;
    pub const ENCODING: u32 = 0x6240;
    pub const COMPRESSION: u32 = 0x5034;
    pub const COMPRESSION_ALGORITHM: u32 = 0x4254;
    pub const COMPRESSION_SETTINGS: u32 = 0x4255;
    pub const ENCRYPTION: u32 = 0x5035;
    pub const CLUSTER: u32 = 0x1f43_b675;
    pub const TIMESTAMP: u32 = 0xe7;
    pub const BLOCK_GROUP: u32 = 0xa0;
    pub const BLOCK: u32 = 0xa1;
    pub const SIMPLE_BLOCK: u32 = 0xa3;
}

/// Largest header that is read.
const LARGEST_HEADER: u64 = 1 << 26;

/// Opens the first video track of a Matroska or WebM file.
pub(crate) fn open(path: &Path) -> Result<Track, Error> {
    let file = File::open(path).map_err(Error::io(path))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    let mut elements = Elements {
        path: path.to_owned(),
        file: BufReader::with_capacity(1 << 16, file),
        position: 0,
        length,
    };
    let mut info = Info::default();
    let mut video = None;
    while let Some(element) = elements.next()? {
        match element.id {
            id::SEGMENT => {}
            id::INFO => {
                info = Info::parse(&elements.content(&element)?)
                    .map_err(|what| Error::malformed(path, what))?
            }
            id::TRACKS => {
                let content = elements.content(&element)?;
                video = VideoTrack::find(&content).map_err(|what| Error::malformed(path, what))?;
            }
            id::CLUSTER => break,
            _ => elements.skip(&element)?,
        }
    }
    let Some(video) = video else {
        return Err(Error::malformed(path, "there is no video track in it"));
    };
    let pictures = (video.default_duration > 0)
        .then(|| info.duration * info.timestamp_scale as f64 / video.default_duration as f64);
    Ok(Track {
        codec: video.codec,
        colour: video.colour,
        turn: Turn::None,
        source: Box::new(MatroskaPackets {
            elements,
            track: video.number,
            prefix: video.prefix,
            scale: info.timestamp_scale,
            cluster_time: 0,
            packets: 0,
            hint: pictures
                .filter(|count| (1.0..1e9).contains(count))
                .map(|count| count.round() as u64),
        }),
    })
}

struct Info {
    /// Nanoseconds per unit of time.
    timestamp_scale: u64,
    duration: f64,
}

impl Default for Info {
    fn default() -> Self {
        Self {
            timestamp_scale: 1_000_000,
            duration: 0.0,
        }
    }
}

impl Info {
    fn parse(content: &[u8]) -> FieldResult<Self> {
        let mut info = Self::default();
        for (id, content) in children(content) {
            match id {
                id::TIMESTAMP_SCALE => {
                    info.timestamp_scale = unsigned(content)?.clamp(1, 1_000_000_000_000)
                }
                id::DURATION => info.duration = float(content),
                _ => {}
            }
        }
        Ok(info)
    }
}

struct VideoTrack {
    number: u64,
    codec: Codec,
    colour: ColourTags,
    /// Nanoseconds per picture, 0 when not told.
    default_duration: u64,
    /// Bytes that the container took off the start of every packet.
    prefix: Vec<u8>,
}

impl VideoTrack {
    /// The first video track among the entries of a `Tracks` element.
    fn find(content: &[u8]) -> FieldResult<Option<Self>> {
        for (_, entry) in children(content).filter(|(id, _)| *id == id::TRACK_ENTRY) {
            let mut kind = 0;
            for (id, content) in children(entry) {
                if id == id::TRACK_TYPE {
                    kind = unsigned(content)?;
                }
            }
            if kind == 1 {
                return Self::parse(entry).map(Some);
            }
        }
        Ok(None)
    }

    fn parse(entry: &[u8]) -> FieldResult<Self> {
        let (mut number, mut default_duration) = (0, 0);
        let (mut codec_id, mut private) = (String::new(), Vec::new());
        let mut colour = ColourTags::default();
        let mut prefix = Ok(Vec::new());
        for (id, content) in children(entry) {
            match id {
                id::TRACK_NUMBER => number = unsigned(content)?,
                id::DEFAULT_DURATION => default_duration = unsigned(content)?,
                id::CODEC_ID => {
                    codec_id = String::from_utf8_lossy(content)
                        .trim_end_matches('\0')
                        .to_owned()
                }
                id::CODEC_PRIVATE => private = content.to_vec(),
                id::VIDEO => {
                    for (_, tags) in children(content).filter(|(id, _)| *id == id::COLOUR) {
                        colour = colour_tags(tags)?;
                    }
                }
                id::ENCODINGS => prefix = stripped_prefix(content),
                _ => {}
            }
        }
        let codec = match (&prefix, codec_id.as_str()) {
            (Err(how), name) => {
                Codec::Other(format!("{}, {how} by the container", codec_name(name)))
            }
            (Ok(_), "V_MPEG4/ISO/AVC") => Codec::H264 {
                configuration: private,
            },
            (Ok(_), "V_AV1") => Codec::Av1 {
                configuration: private,
            },
            (Ok(_), name) => Codec::Other(codec_name(name)),
        };
        Ok(Self {
            number,
            codec,
            colour,
            default_duration,
            prefix: prefix.unwrap_or_default(),
        })
    }
}

fn codec_name(id: &str) -> String {
    match id {
        "V_VP8" => "VP8".to_owned(),
        "V_VP9" => "VP9".to_owned(),
        "V_MPEGH/ISO/HEVC" => "H.265".to_owned(),
        other => other
            .chars()
            .take(60)
            .flat_map(char::escape_debug)
            .collect(),
    }
}

fn colour_tags(content: &[u8]) -> FieldResult<ColourTags> {
    let mut tags = ColourTags::default();
    for (id, content) in children(content) {
        match id {
            id::MATRIX => tags.matrix = Matrix::from_code_point(unsigned(content)?),
            id::RANGE => {
                tags.full_range = match unsigned(content)? {
                    1 => Some(false),
                    2 => Some(true),
                    _ => None,
                }
            }
            _ => {}
        }
    }
    Ok(tags)
}

/// What to put before each packet; an error says what else was done to the packets.
fn stripped_prefix(content: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut prefix = Vec::new();
    for (_, encoding) in children(content).filter(|(id, _)| *id == id::ENCODING) {
        for (id, content) in children(encoding) {
            match id {
                id::ENCRYPTION => return Err("encrypted"),
                id::COMPRESSION => {
                    // The default is zlib.
                    let mut algorithm = 0;
                    for (id, content) in children(content) {
                        match id {
                            id::COMPRESSION_ALGORITHM => algorithm = unsigned(content).unwrap_or(0),
                            id::COMPRESSION_SETTINGS => prefix = content.to_vec(),
                            _ => {}
                        }
                    }
                    if algorithm != 3 {
                        return Err("compressed");
                    }
                }
                _ => {}
            }
        }
    }
    Ok(prefix)
}

fn unsigned(content: &[u8]) -> FieldResult<u64> {
    if content.len() > 8 {
        return Err(format!("a number of {} bytes", content.len()));
    }
    Ok(content
        .iter()
        .fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

fn float(content: &[u8]) -> f64 {
    match *content {
        [a, b, c, d] => f64::from(f32::from_be_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => f64::from_be_bytes([a, b, c, d, e, f, g, h]),
        _ => 0.0,
    }
}

/// A number of variable length; `keep_marker` leaves the bit that tells the length in, as element numbers have it.
fn variable(fields: &mut Fields<'_>, keep_marker: bool) -> FieldResult<u64> {
    let first = fields.u8()?;
    let extra = first.leading_zeros() as usize;
    if extra > 7 {
        return Err("an element's number or size is broken".to_owned());
    }
    let start = if keep_marker {
        u64::from(first)
    } else {
        u64::from(first) & ((1 << (7 - extra)) - 1)
    };
    let rest = fields.take(extra)?;
    Ok(rest
        .iter()
        .fold(start, |value, &byte| value << 8 | u64::from(byte)))
}

/// Size of an element; `None` for one that goes on until something else begins.
fn size(fields: &mut Fields<'_>) -> FieldResult<Option<u64>> {
    let before = fields.remaining();
    let value = variable(fields, false)?;
    let bytes = before - fields.remaining();
    Ok((value != (1 << (7 * bytes)) - 1).then_some(value))
}

/// Elements within content that is in memory. What does not add up at the end is left out.
fn children(content: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let mut fields = Fields::new(content);
    std::iter::from_fn(move || {
        let id = u32::try_from(variable(&mut fields, true).ok()?).ok()?;
        let size = size(&mut fields).ok()??;
        Some((id, fields.take(usize::try_from(size).ok()?).ok()?))
    })
}

struct Element {
    id: u32,
    content: u64,
    size: Option<u64>,
}

/// Elements of the file, one after another, regardless of which contains which.
struct Elements {
    path: PathBuf,
    file: BufReader<File>,
    position: u64,
    length: u64,
}

impl Elements {
    /// The next element's header. Its content follows unless it is skipped or read.
    fn next(&mut self) -> Result<Option<Element>, Error> {
        if self.position >= self.length {
            return Ok(None);
        }
        let mut bytes = [0u8; 12];
        let available = (self.length - self.position).min(12) as usize;
        self.file
            .read_exact(&mut bytes[..available])
            .map_err(Error::io(&self.path))?;
        let mut fields = Fields::new(&bytes[..available]);
        let mut parse = || -> FieldResult<(u32, Option<u64>)> {
            let id = u32::try_from(variable(&mut fields, true)?)
                .map_err(|_| "an element's number is too long")?;
            Ok((id, size(&mut fields)?))
        };
        let (id, size) = parse().map_err(|what| {
            Error::malformed(&self.path, format!("{what} at byte {}", self.position))
        })?;
        let used = available - fields.remaining();
        self.file
            .seek_relative(used as i64 - available as i64)
            .map_err(Error::io(&self.path))?;
        self.position += used as u64;
        Ok(Some(Element {
            id,
            content: self.position,
            size,
        }))
    }

    fn end(&self, element: &Element) -> Result<u64, Error> {
        let end = element
            .size
            .and_then(|size| element.content.checked_add(size))
            .filter(|&end| end <= self.length);
        end.ok_or_else(|| {
            Error::malformed(
                &self.path,
                format!(
                    "the element at byte {} goes on beyond the end of the file",
                    element.content
                ),
            )
        })
    }

    fn skip(&mut self, element: &Element) -> Result<(), Error> {
        let end = self.end(element)?;
        self.file
            .seek(SeekFrom::Start(end))
            .map_err(Error::io(&self.path))?;
        self.position = end;
        Ok(())
    }

    fn content(&mut self, element: &Element) -> Result<Vec<u8>, Error> {
        let size = self.end(element)? - element.content;
        if size > LARGEST_HEADER {
            return Err(Error::malformed(
                &self.path,
                format!("a header or picture of {size} bytes"),
            ));
        }
        let mut content = vec![0; size as usize];
        self.file
            .read_exact(&mut content)
            .map_err(Error::io(&self.path))?;
        self.position += size;
        Ok(content)
    }
}

struct MatroskaPackets {
    elements: Elements,
    track: u64,
    prefix: Vec<u8>,
    scale: u64,
    cluster_time: u64,
    packets: u64,
    hint: Option<u64>,
}

impl MatroskaPackets {
    /// The packet in a block, if it is of the video track.
    fn packet(&self, block: &[u8]) -> FieldResult<Option<Packet>> {
        let mut fields = Fields::new(block);
        if variable(&mut fields, false)? != self.track {
            return Ok(None);
        }
        let relative = fields.u16()? as i16;
        let flags = fields.u8()?;
        if flags & 0x06 != 0 {
            return Err("several pictures in one block".to_owned());
        }
        let units = i128::from(self.cluster_time) + i128::from(relative);
        let nanoseconds = units * i128::from(self.scale);
        let mut data = self.prefix.clone();
        data.extend_from_slice(fields.take(fields.remaining())?);
        Ok(Some(Packet {
            time: nanoseconds.clamp(i128::from(i64::MIN / 2), i128::from(i64::MAX / 2)) as i64,
            data,
            hidden: flags & 0x08 != 0,
        }))
    }
}

impl PacketSource for MatroskaPackets {
    fn next_packet(&mut self) -> Result<Option<Packet>, Error> {
        while let Some(element) = self.elements.next()? {
            match element.id {
                id::SEGMENT | id::CLUSTER | id::BLOCK_GROUP => {}
                id::TIMESTAMP => {
                    let content = self.elements.content(&element)?;
                    self.cluster_time = unsigned(&content)
                        .map_err(|what| Error::malformed(&self.elements.path, what))?;
                }
                id::SIMPLE_BLOCK | id::BLOCK => {
                    let content = self.elements.content(&element)?;
                    let packet = self.packet(&content).map_err(|what| {
                        let number = self.packets + 1;
                        Error::malformed(&self.elements.path, format!("picture {number}: {what}"))
                    })?;
                    if packet.is_some() {
                        self.packets += 1;
                        return Ok(packet);
                    }
                }
                _ => self.elements.skip(&element)?,
            }
        }
        Ok(None)
    }

    fn packet_count_hint(&self) -> Option<u64> {
        self.hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn variable_numbers() {
        let read = |bytes: &[u8]| variable(&mut Fields::new(bytes), false).ok();
        assert_eq!(read(&[0x81]), Some(1));
        assert_eq!(read(&[0x40, 0x02]), Some(2));
        assert_eq!(read(&[0x01, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(read(&[0x00, 1]), None);
        assert_eq!(read(&[0x40]), None);
        assert_eq!(size(&mut Fields::new(&[0xff])), Ok(None));
        assert_eq!(
            size(&mut Fields::new(&[0x01, 255, 255, 255, 255, 255, 255, 255])),
            Ok(None)
        );
    }

    #[test]
    fn the_name_of_a_codec_is_safe_to_print() {
        let element = |id: &[u8], content: &[u8]| -> Vec<u8> {
            [id, &[0x80 | content.len() as u8], content].concat()
        };
        let name = element(&[0x86], b"V_\x1b[2J");
        let encryption = element(&[0x50, 0x35], &[]);
        let encodings = element(&[0x6d, 0x80], &element(&[0x62, 0x40], &encryption));
        for (entry, wanted) in [
            (name.clone(), "V_\\u{1b}[2J"),
            (
                [name, encodings].concat(),
                "V_\\u{1b}[2J, encrypted by the container",
            ),
        ] {
            let Codec::Other(told) = VideoTrack::parse(&entry).unwrap().codec else {
                panic!("it is taken for a codec that is built in");
            };
            assert_eq!(told, wanted);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = VideoTrack::find(&bytes);
            let _ = Info::parse(&bytes);
            let _ = stripped_prefix(&bytes);
        }
    }
}
