//! The movie header: which track is the video, and how it is coded.

use super::boxes::{children, find, full, require};
use super::fragments::Defaults;
use super::{Sample, tables};
use crate::bits::{FieldResult, Fields};
use crate::colour::{ColourTags, Matrix};
use crate::packets::Codec;
use crate::picture::Turn;

/// The video track as the movie header describes it.
pub(super) struct VideoTrack {
    pub codec: Codec,
    pub colour: ColourTags,
    pub turn: Turn,
    pub time_scale: u32,
    /// Time, in the track's scale, from which on the edit list shows the track.
    pub media_start: i64,
    pub samples: Vec<Sample>,
    pub fragment_defaults: Defaults,
}

impl VideoTrack {
    /// The first video track of a `moov` box; `None` when there is none.
    pub(super) fn parse(moov: &[u8], file_length: u64) -> FieldResult<Option<Self>> {
        for child in children(moov).filter(|child| &child.kind == b"trak") {
            let mdia = require(child.content, b"mdia")?;
            let handler = find(mdia, b"hdlr").and_then(|hdlr| hdlr.get(8..12));
            if handler == Some(b"vide") {
                return Self::parse_track(moov, child.content, mdia, file_length).map(Some);
            }
        }
        Ok(None)
    }

    fn parse_track(moov: &[u8], trak: &[u8], mdia: &[u8], file_length: u64) -> FieldResult<Self> {
        let (version, _, mut header) = full(require(mdia, b"mdhd")?)?;
        header.take(if version == 1 { 16 } else { 8 })?;
        let time_scale = header.u32()?;
        let (version, _, mut header) = full(require(trak, b"tkhd")?)?;
        header.take(if version == 1 { 16 } else { 8 })?;
        let track_id = header.u32()?;
        let turn = turn(header, version).unwrap_or_default();
        let stbl = require(require(mdia, b"minf")?, b"stbl")?;
        let (codec, colour) = description(require(stbl, b"stsd")?)?;
        Ok(Self {
            codec,
            colour,
            turn,
            time_scale,
            media_start: find(trak, b"edts")
                .and_then(|edts| find(edts, b"elst"))
                .map_or(Ok(i64::MIN), media_start)?,
            samples: tables::parse(stbl, file_length)?,
            fragment_defaults: Defaults::parse(moov, track_id)?,
        })
    }
}

/// How the matrix of a track header turns the picture; `fields` follow the track's number. Anything but quarter turns is
/// left alone.
fn turn(mut fields: Fields<'_>, version: u8) -> FieldResult<Turn> {
    fields.take(if version == 1 { 28 } else { 24 })?;
    let mut matrix = [0i32; 9];
    for entry in &mut matrix {
        *entry = fields.u32()? as i32;
    }
    let [a, b, _, c, d, ..] = matrix.map(i32::signum);
    Ok(match [a, b, c, d] {
        [0, 1, -1, 0] => Turn::Quarter,
        [-1, 0, 0, -1] => Turn::Half,
        [0, -1, 1, 0] => Turn::ThreeQuarters,
        _ => Turn::None,
    })
}

/// Start of the first edit that shows something.
fn media_start(content: &[u8]) -> FieldResult<i64> {
    let (version, _, mut fields) = full(content)?;
    let long = version == 1;
    let count = fields.u32()?;
    for _ in 0..count {
        fields.short_or_long(long)?;
        let time = fields.short_or_long(long)?;
        let time = if long {
            time as i64
        } else {
            i64::from(time as u32 as i32)
        };
        fields.u32()?;
        if time >= 0 {
            return Ok(time);
        }
    }
    Ok(i64::MIN)
}

/// Codec and colours from the first sample description.
fn description(content: &[u8]) -> FieldResult<(Codec, ColourTags)> {
    let entries = content.get(8..).ok_or("the box stsd is too short")?;
    let entry = children(entries)
        .next()
        .ok_or("there is no sample description")?;
    // The fixed part of a visual sample entry is 78 bytes long.
    let inner = entry.content.get(78..).unwrap_or_default();
    let colour = find(inner, b"colr")
        .map(colour)
        .transpose()?
        .unwrap_or_default();
    let record = |kind| find(inner, kind).map(<[u8]>::to_vec);
    let codec = match &entry.kind {
        b"avc1" | b"avc3" => Codec::H264 {
            configuration: record(b"avcC").ok_or("the box avcC is missing")?,
        },
        b"av01" => Codec::Av1 {
            configuration: record(b"av1C").unwrap_or_default(),
        },
        other => Codec::Other(name(other)),
    };
    Ok((codec, colour))
}

fn colour(content: &[u8]) -> FieldResult<ColourTags> {
    let mut fields = Fields::new(content);
    let kind = fields.take(4)?;
    if !matches!(kind, b"nclx" | b"nclc") {
        return Ok(ColourTags::default());
    }
    fields.take(4)?;
    let matrix = Matrix::from_code_point(u64::from(fields.u16()?));
    let full_range = if kind == b"nclx" {
        Some(fields.u8()? & 0x80 != 0)
    } else {
        None
    };
    Ok(ColourTags { matrix, full_range })
}

fn name(kind: &[u8; 4]) -> String {
    let tag = String::from_utf8_lossy(kind).escape_debug().to_string();
    let known = match kind {
        b"hvc1" | b"hev1" => "H.265",
        b"vp09" => "VP9",
        b"vp08" => "VP8",
        b"mp4v" => "MPEG-4 Part 2",
        b"apch" | b"apcn" | b"apcs" | b"apco" | b"ap4h" => "ProRes",
        b"jpeg" | b"mjpa" | b"mjpb" => "Motion JPEG",
        b"encv" => "encrypted video",
        _ => "an unknown codec",
    };
    format!("{known} ({tag})")
}
