//! AV1 through rav1d.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use re_rav1d::dav1d::{Decoder, Error, Picture, PixelLayout, PlanarImageComponent, Settings};
use re_rav1d::include::dav1d::headers::Dav1dSequenceHeader;
use re_rav1d::src::lib::dav1d_parse_sequence_header;

use crate::colour::{ColourTags, Matrix, Plane, YuvPicture};
use crate::packets::{Decoded, PacketDecoder};
use crate::picture::MAXIMUM_PIXELS;

/// Decodes the packets of an AV1 track.
pub(crate) struct Av1Decoder {
    decoder: Decoder,
    /// The record that the track has.
    record: Vec<u8>,
    /// Units that belong before the first packet.
    header: Vec<u8>,
    tags: Option<ColourTags>,
}

impl Av1Decoder {
    /// A decoder for a track with the given `av1C` record, which may be empty.
    pub(crate) fn new(record: &[u8]) -> Result<Self, String> {
        let mut settings = Settings::new();
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(4);
        settings.set_n_threads(threads as u32);
        settings.set_frame_size_limit(MAXIMUM_PIXELS as u32);
        let decoder = Decoder::with_settings(&settings).map_err(|error| error.to_string())?;
        Ok(Self {
            decoder,
            record: record.to_vec(),
            header: record.get(4..).unwrap_or_default().to_vec(),
            tags: None,
        })
    }

    fn collect(&mut self, out: &mut VecDeque<Decoded>) -> Result<(), String> {
        loop {
            match self.decoder.get_picture() {
                Ok(picture) => {
                    let packet = picture
                        .timestamp()
                        .and_then(|packet| u64::try_from(packet).ok());
                    let Some(packet) = packet else {
                        return Err("rav1d gave a picture without a time".to_owned());
                    };
                    let picture = convert(&picture, self.tags.unwrap_or_default())?;
                    out.push_back(Decoded { packet, picture });
                }
                Err(Error::Again) => return Ok(()),
                Err(error) => return Err(broken(error)),
            }
        }
    }
}

impl PacketDecoder for Av1Decoder {
    fn codec(&self) -> &'static str {
        "AV1"
    }

    fn decode(
        &mut self,
        packet: u64,
        data: &[u8],
        out: &mut VecDeque<Decoded>,
    ) -> Result<(), String> {
        let mut units = std::mem::take(&mut self.header);
        units.extend_from_slice(data);
        if units.is_empty() {
            return Ok(());
        }
        if self.tags.is_none() {
            self.tags = colour_tags(&units);
        }
        let mut sent = self
            .decoder
            .send_data(units, None, i64::try_from(packet).ok(), None);
        while matches!(sent, Err(Error::Again)) {
            let before = out.len();
            self.collect(out)?;
            sent = self.decoder.send_pending_data();
            if matches!(sent, Err(Error::Again)) && out.len() == before {
                return Err("rav1d takes no more data and gives no picture".to_owned());
            }
        }
        sent.map_err(broken)?;
        self.collect(out)
    }

    fn flush(&mut self, out: &mut VecDeque<Decoded>) -> Result<(), String> {
        self.collect(out)
    }

    fn restart(&mut self) -> Result<(), String> {
        *self = Self::new(&self.record)?;
        Ok(())
    }

    fn can_start_at(&self, data: &[u8]) -> bool {
        has_sequence_header(data)
    }

    fn reorder_depth(&self) -> usize {
        // Packets of AV1 are whole moments of the presentation, in order.
        0
    }
}

/// An error of rav1d in words: of a broken stream it says that an argument is invalid.
fn broken(error: Error) -> String {
    match error {
        Error::InvalidArgument => "the bit stream is broken".to_owned(),
        other => other.to_string(),
    }
}

/// Whether there is a sequence header among the units, as there is in every packet that needs no other.
fn has_sequence_header(data: &[u8]) -> bool {
    const SEQUENCE_HEADER: u8 = 1;
    let mut rest = data;
    while let Some((&header, tail)) = rest.split_first() {
        if header >> 3 & 15 == SEQUENCE_HEADER {
            return true;
        }
        let (has_extension, has_size) = (header & 4 != 0, header & 2 != 0);
        let after = tail.get(usize::from(has_extension)..);
        let Some((size, content)) = after.filter(|_| has_size).and_then(little_endian_base_128)
        else {
            return false;
        };
        rest = content.get(size..).unwrap_or_default();
    }
    false
}

/// A number of seven bits a byte, lowest first, and what follows it.
fn little_endian_base_128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let last = bytes.iter().take(8).position(|byte| byte & 0x80 == 0)?;
    let (number, rest) = bytes.split_at(last + 1);
    let value = number
        .iter()
        .rev()
        .fold(0u64, |value, &byte| value << 7 | u64::from(byte & 0x7f));
    Some((usize::try_from(value).ok()?, rest))
}

/// What the sequence header in `units` says of colours; `None` when there is none among them.
fn colour_tags(units: &[u8]) -> Option<ColourTags> {
    let mut header = MaybeUninit::<Dav1dSequenceHeader>::uninit();
    let start = NonNull::new(units.as_ptr().cast_mut())?;
    // SAFETY: `header` is valid for writing one header, and `start` for reading `units.len()` bytes, which are not changed.
    let result = unsafe {
        dav1d_parse_sequence_header(NonNull::new(header.as_mut_ptr()), Some(start), units.len())
    };
    if result.0 != 0 {
        return None;
    }
    // SAFETY: the function succeeded, so it has written the header.
    let header = unsafe { header.assume_init() };
    Some(ColourTags {
        matrix: Matrix::from_code_point(u64::from(header.mtrx)),
        full_range: Some(header.color_range != 0),
    })
}

fn convert(picture: &Picture, tags: ColourTags) -> Result<YuvPicture, String> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let layout = picture.pixel_layout();
    let halved = match layout {
        PixelLayout::I400 | PixelLayout::I420 => (true, true),
        PixelLayout::I422 => (true, false),
        PixelLayout::I444 => (false, false),
    };
    let half = |length: usize, halved: bool| if halved { length.div_ceil(2) } else { length };
    let plane = |component, width, height| {
        let data = picture.plane(component);
        let stride = picture.stride(component) as usize;
        let plane = if picture.bit_depth() == 8 {
            Plane::copy(&data, stride, width, height)
        } else {
            deep_plane(&data, stride, width, height, picture.bit_depth() - 8)
        };
        plane.ok_or_else(|| "rav1d gave a picture with too little data".to_owned())
    };
    let chroma = |component| match layout {
        PixelLayout::I400 => Ok(Plane::default()),
        _ => plane(component, half(width, halved.0), half(height, halved.1)),
    };
    Ok(YuvPicture {
        width,
        height,
        luma: plane(PlanarImageComponent::Y, width, height)?,
        chroma: [
            chroma(PlanarImageComponent::U)?,
            chroma(PlanarImageComponent::V)?,
        ],
        halved,
        tags,
    })
}

/// A plane of 16-bit samples, brought to 8 bits.
fn deep_plane(
    data: &[u8],
    stride: usize,
    width: usize,
    height: usize,
    surplus_bits: usize,
) -> Option<Plane> {
    let wide = Plane::copy(data, stride, width * 2, height)?;
    let samples = wide
        .samples
        .chunks_exact(2)
        .map(|pair| (u16::from_ne_bytes([pair[0], pair[1]]) >> surplus_bits).min(255) as u8);
    Some(Plane {
        width,
        samples: samples.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_that_need_no_other_are_told_by_their_sequence_header() {
        // A temporal delimiter without content, then a sequence header of one byte.
        assert!(has_sequence_header(&[0x12, 0, 0x0a, 1, 7]));
        // A delimiter with an extension byte, then a frame of 130 bytes, then a sequence header.
        let mut long = vec![0x16, 0, 0, 0x32, 0x82, 1];
        long.extend([0; 130]);
        assert!(!has_sequence_header(&long));
        long.extend([0x0a, 1, 7]);
        assert!(has_sequence_header(&long));
        assert!(!has_sequence_header(&[0x12, 0, 0x32, 3, 0x0a, 1]));
        assert!(!has_sequence_header(&[0x12, 0x80]));
        assert!(!has_sequence_header(&[]));
    }
}
