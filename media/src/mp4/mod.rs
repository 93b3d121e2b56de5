//! MP4 and QuickTime: finds the video track and its packets.
//!
//! Written for files from strangers and for files whose writer was killed: every number is checked against the file's
//! length before anything is allocated for it, and a fragmented file is read up to its last complete packet.

mod boxes;
mod fragments;
mod tables;
mod track;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::bits::{FieldResult, Fields};
use crate::packets::{Packet, PacketSource, Track};
use track::VideoTrack;

/// Largest header box (`moov` or `moof`) that is read.
const LARGEST_HEADER: u64 = 1 << 28;

/// Largest packet that is read, as in Matroska: a picture of the largest size is not longer, and memory is taken for it before it is read.
const LARGEST_PACKET: u32 = 1 << 26;

/// Most packets of a track that are read: 46 hours at 60 pictures a second. Each takes some 40 bytes of memory, and a file that is nearly all
/// hole can claim one for every byte of its length.
const MOST_PACKETS: u64 = 10_000_000;

/// Refuses more packets than are read, before anything is allocated for them.
fn check_count(packets: u64) -> FieldResult<()> {
    if packets > MOST_PACKETS {
        return Err(format!(
            "it claims {packets} packets, and no more than {MOST_PACKETS} are read"
        ));
    }
    Ok(())
}

/// One packet's place in the file.
#[derive(Debug, Clone, Copy)]
struct Sample {
    offset: u64,
    size: u32,
    /// Presentation time in units of the track's time scale.
    time: i64,
}

impl Sample {
    /// The byte after its last one; files claim whatever they like.
    fn end(self) -> u64 {
        self.offset.saturating_add(u64::from(self.size))
    }
}

/// Opens the first video track of an MP4 or QuickTime file.
pub(crate) fn open(path: &Path) -> Result<Track, Error> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    let layout = scan(path, &mut file, length)?;
    let malformed = |what: String| Error::malformed(path, what);
    let Some(moov) = layout.moov else {
        return Err(malformed(
            "there is no movie header (moov); was the recording interrupted?".to_owned(),
        ));
    };
    let Some(track) = VideoTrack::parse(&moov, length).map_err(malformed)? else {
        return Err(Error::malformed(path, "there is no video track in it"));
    };
    let mut samples = track.samples;
    let fragmented = !layout.moofs.is_empty();
    let mut cut_short = None;
    let (mut decode_time, mut bytes) = (0, 0);
    for header in &layout.moofs {
        fragments::parse(
            &header.read(path, &mut file)?,
            header.start,
            &track.fragment_defaults,
            length,
            &mut decode_time,
            &mut bytes,
            &mut samples,
        )
        .map_err(malformed)?;
    }
    if fragmented {
        let complete = samples
            .iter()
            .take_while(|sample| sample.end() <= length)
            .count();
        if complete < samples.len() {
            cut_short = Some(format!(
                "the last fragment is incomplete; its last {} pictures are left out",
                samples.len() - complete
            ));
            samples.truncate(complete);
        }
    }
    if samples.is_empty() {
        return Err(Error::malformed(path, "its video track is empty"));
    }
    let everything_hidden = samples.iter().all(|sample| sample.time < track.media_start);
    Ok(Track {
        codec: track.codec,
        colour: track.colour,
        turn: track.turn,
        source: Box::new(Mp4Packets {
            path: path.to_owned(),
            file,
            length,
            samples,
            time_scale: track.time_scale,
            first_shown: if everything_hidden {
                i64::MIN
            } else {
                track.media_start
            },
            next: 0,
            cut_short,
        }),
    })
}

#[derive(Default)]
struct Layout {
    moov: Option<Vec<u8>>,
    /// Where the `moof` boxes are: together they may be larger than memory.
    moofs: Vec<Header>,
}

/// Finds the headers at the top level of the file.
fn scan(path: &Path, file: &mut File, length: u64) -> Result<Layout, Error> {
    let mut layout = Layout::default();
    let mut at = 0u64;
    while let Some(header) = read_header(file, at, length).map_err(Error::io(path))? {
        if header.end > length {
            if layout.moov.is_none() && matches!(&header.kind, b"moov" | b"moof") {
                return Err(Error::malformed(
                    path,
                    "the file ends within its movie header",
                ));
            }
            break;
        }
        at = header.end;
        if &header.kind == b"moof" {
            layout.moofs.push(header);
        } else if &header.kind == b"moov" && layout.moov.is_none() {
            layout.moov = Some(header.read(path, file)?);
        }
    }
    Ok(layout)
}

/// Where a box lies in the file.
struct Header {
    kind: [u8; 4],
    start: u64,
    content: u64,
    end: u64,
}

impl Header {
    /// The content of the box.
    fn read(&self, path: &Path, file: &mut File) -> Result<Vec<u8>, Error> {
        let size = self.end - self.content;
        if size > LARGEST_HEADER {
            return Err(Error::malformed(path, format!("a header of {size} bytes")));
        }
        let mut content = vec![0; size as usize];
        file.seek(SeekFrom::Start(self.content))
            .map_err(Error::io(path))?;
        file.read_exact(&mut content).map_err(Error::io(path))?;
        Ok(content)
    }
}

fn read_header(file: &mut File, at: u64, length: u64) -> std::io::Result<Option<Header>> {
    if length.saturating_sub(at) < 8 {
        return Ok(None);
    }
    let mut bytes = [0u8; 16];
    let available = (length - at).min(16) as usize;
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes[..available])?;
    let parse = |mut fields: Fields<'_>| -> FieldResult<Option<Header>> {
        let short = u64::from(fields.u32()?);
        let kind = fields.take(4)?.try_into().unwrap_or_default();
        let (content, size) = match short {
            0 => (at + 8, length - at),
            1 => (at + 16, fields.u64()?),
            _ => (at + 8, short),
        };
        let end = at.saturating_add(size);
        Ok((end >= content).then_some(Header {
            kind,
            start: at,
            content,
            end,
        }))
    };
    Ok(parse(Fields::new(&bytes[..available])).ok().flatten())
}

struct Mp4Packets {
    path: PathBuf,
    file: File,
    length: u64,
    samples: Vec<Sample>,
    time_scale: u32,
    first_shown: i64,
    next: usize,
    /// What is missing at the end, to be told there.
    cut_short: Option<String>,
}

impl PacketSource for Mp4Packets {
    fn next_packet(&mut self) -> Result<Option<Packet>, Error> {
        let Some(&sample) = self.samples.get(self.next) else {
            return match self.cut_short.take() {
                Some(what) => Err(Error::malformed(&self.path, what)),
                None => Ok(None),
            };
        };
        if sample.end() > self.length {
            return Err(Error::malformed(
                &self.path,
                format!(
                    "the file ends before picture {} of {}",
                    self.next + 1,
                    self.samples.len()
                ),
            ));
        }
        if sample.size > LARGEST_PACKET {
            return Err(Error::malformed(
                &self.path,
                format!("picture {} has {} bytes", self.next + 1, sample.size),
            ));
        }
        self.next += 1;
        let mut data = vec![0; sample.size as usize];
        self.file
            .seek(SeekFrom::Start(sample.offset))
            .map_err(Error::io(&self.path))?;
        self.file
            .read_exact(&mut data)
            .map_err(Error::io(&self.path))?;
        let nanoseconds =
            i128::from(sample.time) * 1_000_000_000 / i128::from(self.time_scale.max(1));
        Ok(Some(Packet {
            time: nanoseconds.clamp(i128::from(i64::MIN / 2), i128::from(i64::MAX / 2)) as i64,
            data,
            hidden: sample.time < self.first_shown,
        }))
    }

    fn packet_count_hint(&self) -> Option<u64> {
        Some(self.samples.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_is_nearly_all_hole_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        let length = u64::from(LARGEST_PACKET) + 1;
        File::create(&path).unwrap().set_len(length).unwrap();
        let mut packets = Mp4Packets {
            file: File::open(&path).unwrap(),
            path,
            length,
            samples: vec![Sample {
                offset: 0,
                size: LARGEST_PACKET + 1,
                time: 0,
            }],
            time_scale: 1,
            first_shown: 0,
            next: 0,
            cut_short: None,
        };
        let refused = packets.next_packet().err().unwrap().to_string();
        assert!(refused.contains(&length.to_string()), "{refused}");
    }
}
