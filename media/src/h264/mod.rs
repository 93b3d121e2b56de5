//! H.264 through openh264.

mod decoder;
mod parameters;

pub(crate) use decoder::H264Decoder;
pub(crate) use parameters::{Configuration, SequenceParameters};

/// Takes the units of a packet that are prefixed with their length, and writes them with start codes.
pub(crate) fn length_prefixed_to_start_codes(
    data: &[u8],
    length_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let mut rest = data;
    while !rest.is_empty() {
        let (length, tail) = rest
            .split_at_checked(length_bytes)
            .ok_or("a unit's length is cut off")?;
        let length = length
            .iter()
            .fold(0usize, |value, &byte| value << 8 | usize::from(byte));
        let (unit, tail) = tail
            .split_at_checked(length)
            .ok_or_else(|| format!("a unit of {length} bytes is longer than its packet"))?;
        if !unit.is_empty() {
            out.extend_from_slice(&[0, 0, 0, 1]);
            out.extend_from_slice(unit);
        }
        rest = tail;
    }
    Ok(())
}

/// Whether a packet of length-prefixed units holds one of that kind. What is broken holds nothing.
pub(crate) fn holds_unit(data: &[u8], length_bytes: usize, kind: u8) -> bool {
    let mut units = Vec::new();
    length_prefixed_to_start_codes(data, length_bytes, &mut units).is_ok()
        && split_start_codes(&units)
            .iter()
            .any(|unit| unit[0] & 31 == kind)
}

/// The units of a stream with start codes, in order.
pub(crate) fn split_start_codes(data: &[u8]) -> Vec<&[u8]> {
    let mut starts = Vec::new();
    let mut at = 0;
    while at + 3 <= data.len() {
        if data[at..at + 3] == [0, 0, 1] {
            starts.push(at + 3);
            at += 3;
        } else {
            at += 1;
        }
    }
    let ends = starts
        .iter()
        .skip(1)
        .map(|start| start - 3)
        .chain([data.len()]);
    let units = starts.iter().zip(ends).map(|(&start, end)| {
        let unit = &data[start..end];
        let kept = unit
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        &unit[..kept]
    });
    units.filter(|unit| !unit.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_marking_units() {
        let mut out = Vec::new();
        length_prefixed_to_start_codes(&[0, 2, 7, 8, 0, 1, 9], 2, &mut out).unwrap();
        assert_eq!(out, [0, 0, 0, 1, 7, 8, 0, 0, 0, 1, 9]);
        assert_eq!(split_start_codes(&out), [&[7u8, 8][..], &[9]]);
        assert!(length_prefixed_to_start_codes(&[0, 9, 1], 2, &mut out).is_err());
        assert!(length_prefixed_to_start_codes(&[0], 2, &mut out).is_err());
        assert!(split_start_codes(&[1, 2, 3]).is_empty());
        assert!(holds_unit(&[0, 2, 7, 8, 0, 1, 0x65], 2, 5));
        assert!(!holds_unit(&[0, 2, 7, 8, 0, 1, 0x61], 2, 5));
        assert!(!holds_unit(&[0, 1, 0x65, 9], 2, 5));
    }
}
