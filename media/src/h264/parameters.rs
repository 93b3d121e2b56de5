//! The headers of H.264: the `avcC` record and the sequence parameter set.

use crate::bits::{Bits, FieldResult, Fields};
use crate::colour::{ColourTags, Matrix};

/// What an `avcC` record holds.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    /// Bytes of the length before each unit: 1 to 4.
    pub length_bytes: usize,
    /// Sequence and picture parameter sets, as units without start codes.
    pub parameter_sets: Vec<Vec<u8>>,
}

impl Configuration {
    pub(crate) fn parse(record: &[u8]) -> FieldResult<Self> {
        let mut fields = Fields::new(record);
        let version = fields.u8()?;
        if version != 1 {
            return Err(format!("the avcC record has version {version}, not 1"));
        }
        fields.take(3)?;
        let length_bytes = usize::from(fields.u8()? & 3) + 1;
        let mut parameter_sets = Vec::new();
        let sequence_sets = fields.u8()? & 31;
        for _ in 0..sequence_sets {
            let length = fields.u16()?;
            parameter_sets.push(fields.take(usize::from(length))?.to_vec());
        }
        let picture_sets = fields.u8()?;
        for _ in 0..picture_sets {
            let length = fields.u16()?;
            parameter_sets.push(fields.take(usize::from(length))?.to_vec());
        }
        Ok(Self {
            length_bytes,
            parameter_sets,
        })
    }

    /// The first sequence parameter set, if the record has one; streams may also carry theirs within.
    pub(crate) fn sequence(&self) -> Option<FieldResult<SequenceParameters>> {
        let unit = self
            .parameter_sets
            .iter()
            .find(|unit| unit.first().is_some_and(|byte| byte & 31 == 7))?;
        Some(SequenceParameters::parse(unit))
    }
}

/// The parts of a sequence parameter set that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SequenceParameters {
    pub profile: u8,
    pub width: u64,
    pub height: u64,
    pub bit_depth: u32,
    /// 0 grey, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u32,
    pub interlaced: bool,
    pub colour: ColourTags,
    /// How many pictures may overtake one, where the stream says.
    pub reorder_depth: Option<u32>,
}

impl SequenceParameters {
    /// Parses a unit of type 7, header byte included.
    pub(crate) fn parse(unit: &[u8]) -> FieldResult<Self> {
        let bytes = without_emulation_prevention(unit.get(1..).unwrap_or_default());
        let mut bits = Bits::new(&bytes);
        let profile = bits.bits(8)? as u8;
        bits.bits(16)?;
        bits.unsigned()?;
        let (mut chroma_format, mut bit_depth) = (1, 8);
        if matches!(
            profile,
            44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244
        ) {
            chroma_format = bits.unsigned()?;
            if chroma_format == 3 {
                bits.bit()?;
            }
            let luma = bits.unsigned()?;
            let chroma = bits.unsigned()?;
            bit_depth = 8 + luma.max(chroma).min(8);
            bits.bit()?;
            if bits.bit()? {
                skip_scaling_matrices(&mut bits, if chroma_format == 3 { 12 } else { 8 })?;
            }
        }
        bits.unsigned()?;
        let order_type = bits.unsigned()?;
        match order_type {
            0 => {
                bits.unsigned()?;
            }
            1 => {
                bits.bit()?;
                bits.signed()?;
                bits.signed()?;
                let cycle = bits.unsigned()?;
                for _ in 0..cycle.min(256) {
                    bits.signed()?;
                }
            }
            _ => {}
        }
        bits.unsigned()?;
        bits.bit()?;
        let macroblocks_across = u64::from(bits.unsigned()?) + 1;
        let map_units_down = u64::from(bits.unsigned()?) + 1;
        let interlaced = !bits.bit()?;
        if interlaced {
            bits.bit()?;
        }
        bits.bit()?;
        let (mut width, mut height) = (
            macroblocks_across * 16,
            map_units_down * 16 * if interlaced { 2 } else { 1 },
        );
        if bits.bit()? {
            let mut edges = [0u64; 4];
            for edge in &mut edges {
                *edge = u64::from(bits.unsigned()?);
            }
            let unit_across = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
            let unit_down = if chroma_format == 1 { 2 } else { 1 } * if interlaced { 2 } else { 1 };
            width = width.saturating_sub((edges[0] + edges[1]) * unit_across);
            height = height.saturating_sub((edges[2] + edges[3]) * unit_down);
        }
        let mut parameters = Self {
            profile,
            width,
            height,
            bit_depth,
            chroma_format,
            interlaced,
            colour: ColourTags::default(),
            reorder_depth: (order_type == 2).then_some(0),
        };
        if bits.bit()? {
            parameters.usability(&mut bits)?;
        }
        Ok(parameters)
    }

    /// Video usability information (annex E).
    fn usability(&mut self, bits: &mut Bits<'_>) -> FieldResult<()> {
        if bits.bit()? && bits.bits(8)? == 255 {
            bits.bits(32)?;
        }
        if bits.bit()? {
            bits.bit()?;
        }
        if bits.bit()? {
            bits.bits(3)?;
            self.colour.full_range = Some(bits.bit()?);
            if bits.bit()? {
                bits.bits(16)?;
                self.colour.matrix = Matrix::from_code_point(u64::from(bits.bits(8)?));
            }
        }
        if bits.bit()? {
            bits.unsigned()?;
            bits.unsigned()?;
        }
        if bits.bit()? {
            bits.bits(32)?;
            bits.bits(32)?;
            bits.bit()?;
        }
        let first_reference_decoder = bits.bit()?;
        if first_reference_decoder {
            skip_reference_decoder(bits)?;
        }
        let second_reference_decoder = bits.bit()?;
        if second_reference_decoder {
            skip_reference_decoder(bits)?;
        }
        if first_reference_decoder || second_reference_decoder {
            bits.bit()?;
        }
        bits.bit()?;
        if bits.bit()? {
            bits.bit()?;
            for _ in 0..4 {
                bits.unsigned()?;
            }
            self.reorder_depth = Some(bits.unsigned()?.min(16));
        }
        Ok(())
    }

    /// Why openh264 cannot decode such a stream; `None` when it can.
    pub(crate) fn obstacle(&self) -> Option<String> {
        if self.interlaced {
            Some("interlaced video is not supported".to_owned())
        } else if self.bit_depth > 8 {
            Some(format!(
                "{} bits a channel are not supported",
                self.bit_depth
            ))
        } else if self.chroma_format > 1 {
            let format = if self.chroma_format == 2 {
                "4:2:2"
            } else {
                "4:4:4"
            };
            Some(format!("{format} chroma is not supported"))
        } else {
            None
        }
    }
}

fn without_emulation_prevention(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut zeros = 0;
    for &byte in bytes {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

fn skip_scaling_matrices(bits: &mut Bits<'_>, count: usize) -> FieldResult<()> {
    for matrix in 0..count {
        if !bits.bit()? {
            continue;
        }
        let entries = if matrix < 6 { 16 } else { 64 };
        let (mut last, mut next) = (8i64, 8i64);
        for _ in 0..entries {
            if next != 0 {
                next = (last + bits.signed()?).rem_euclid(256);
            }
            if next != 0 {
                last = next;
            }
        }
    }
    Ok(())
}

fn skip_reference_decoder(bits: &mut Bits<'_>) -> FieldResult<()> {
    let count = bits.unsigned()?.min(31) + 1;
    bits.bits(8)?;
    for _ in 0..count {
        bits.unsigned()?;
        bits.unsigned()?;
        bits.bit()?;
    }
    bits.bits(20)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_set_written_by_x264() {
        // 256x256 High, CABAC, three B-frames, from `ffmpeg -c:v libx264 -pix_fmt yuv420p`.
        let unit = [
            0x67, 0x64, 0x00, 0x0c, 0xac, 0xd9, 0x41, 0x00, 0x86, 0x84, 0x00, 0x00, 0x03, 0x00,
            0x04, 0x00, 0x00, 0x03, 0x00, 0x78, 0x3c, 0x50, 0xa6, 0x58,
        ];
        let parameters = SequenceParameters::parse(&unit).unwrap();
        assert_eq!((parameters.width, parameters.height), (256, 256));
        assert_eq!(
            (
                parameters.bit_depth,
                parameters.chroma_format,
                parameters.interlaced
            ),
            (8, 1, false)
        );
        assert_eq!(parameters.reorder_depth, Some(2));
        assert_eq!(parameters.obstacle(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = SequenceParameters::parse(&bytes);
            if let Ok(configuration) = Configuration::parse(&bytes) {
                let _ = configuration.sequence();
            }
        }
    }
}
