//! The sample tables of a file that is not fragmented.

use super::boxes::{find, full, require};
use super::{Sample, check_count};
use crate::bits::FieldResult;

/// Puts the tables of an `stbl` box together: where each packet lies and when it is shown.
pub(super) fn parse(stbl: &[u8], file_length: u64) -> FieldResult<Vec<Sample>> {
    let sizes = sizes(stbl, file_length)?;
    if sizes.is_empty() {
        return Ok(Vec::new());
    }
    let offsets = chunk_offsets(stbl)?;
    let mut runs = chunk_runs(require(stbl, b"stsc")?)?.into_iter().peekable();
    let mut times = Times::new(stbl)?;

    let mut samples = Vec::with_capacity(sizes.len());
    let mut remaining = sizes.iter();
    let mut per_chunk = 0;
    'chunks: for (index, &chunk) in offsets.iter().enumerate() {
        while let Some((_, count)) = runs.next_if(|(first, _)| *first <= index as u64 + 1) {
            per_chunk = count;
        }
        let mut offset = chunk;
        for _ in 0..per_chunk {
            let Some(&size) = remaining.next() else {
                break 'chunks;
            };
            samples.push(Sample {
                offset,
                size,
                time: times.next()?,
            });
            offset = offset.saturating_add(u64::from(size));
        }
    }
    if remaining.next().is_some() {
        return Err(format!(
            "only {} of {} packets have a place in the file",
            samples.len(),
            sizes.len()
        ));
    }
    Ok(samples)
}

fn sizes(stbl: &[u8], file_length: u64) -> FieldResult<Vec<u32>> {
    if let Some(content) = find(stbl, b"stsz") {
        let (_, _, mut fields) = full(content)?;
        let common = fields.u32()?;
        let count = fields.u32()?;
        check_count(u64::from(count))?;
        if common != 0 {
            if u64::from(common) * u64::from(count) > file_length {
                return Err(format!(
                    "{count} packets of {common} bytes do not fit into the file"
                ));
            }
            return Ok(vec![common; count as usize]);
        }
        let count = count as usize;
        if fields.remaining() / 4 < count {
            return Err(format!("the table stsz is too short for {count} packets"));
        }
        return (0..count).map(|_| fields.u32()).collect();
    }
    let (_, _, mut fields) = full(require(stbl, b"stz2")?)?;
    let bits = fields.u32()? & 0xff;
    let count = fields.u32()?;
    check_count(u64::from(count))?;
    let count = count as usize;
    if fields.remaining() * 8 / (bits.max(4) as usize) < count {
        return Err(format!("the table stz2 is too short for {count} packets"));
    }
    let mut sizes = Vec::with_capacity(count);
    while sizes.len() < count {
        match bits {
            4 => {
                let pair = fields.u8()?;
                sizes.push(u32::from(pair >> 4));
                if sizes.len() < count {
                    sizes.push(u32::from(pair & 15));
                }
            }
            8 => sizes.push(u32::from(fields.u8()?)),
            16 => sizes.push(u32::from(fields.u16()?)),
            _ => return Err(format!("packet sizes of {bits} bits")),
        }
    }
    Ok(sizes)
}

fn chunk_offsets(stbl: &[u8]) -> FieldResult<Vec<u64>> {
    let (content, long) = match find(stbl, b"stco") {
        Some(content) => (content, false),
        None => (require(stbl, b"co64")?, true),
    };
    let (_, _, mut fields) = full(content)?;
    let count = fields.u32()? as usize;
    if fields.remaining() / if long { 8 } else { 4 } < count {
        return Err(format!(
            "the table of chunk offsets is too short for {count} chunks"
        ));
    }
    (0..count).map(|_| fields.short_or_long(long)).collect()
}

/// Number of the first chunk, from 1, and packets in each chunk from there on.
fn chunk_runs(content: &[u8]) -> FieldResult<Vec<(u64, u32)>> {
    let (_, _, mut fields) = full(content)?;
    let count = fields.u32()? as usize;
    if fields.remaining() / 12 < count {
        return Err(format!("the table stsc is too short for {count} entries"));
    }
    (0..count)
        .map(|_| {
            let run = (u64::from(fields.u32()?), fields.u32()?);
            fields.u32()?;
            Ok(run)
        })
        .collect()
}

/// Presentation times, packet by packet.
struct Times {
    durations: Runs,
    offsets: Option<Runs>,
    decode_time: i64,
}

impl Times {
    fn new(stbl: &[u8]) -> FieldResult<Self> {
        Ok(Self {
            durations: Runs::parse(require(stbl, b"stts")?)?,
            offsets: find(stbl, b"ctts").map(Runs::parse).transpose()?,
            decode_time: 0,
        })
    }

    fn next(&mut self) -> FieldResult<i64> {
        // Offsets are signed in version 1 and, whatever the standard says, in much of version 0.
        let offset = self
            .offsets
            .as_mut()
            .map_or(0, |offsets| i64::from(offsets.next() as i32));
        let time = self.decode_time.saturating_add(offset);
        self.decode_time = self
            .decode_time
            .saturating_add(i64::from(self.durations.next()));
        Ok(time)
    }
}

/// A run-length coded list; past its end the last value goes on.
struct Runs {
    runs: std::vec::IntoIter<(u32, u32)>,
    left: u32,
    value: u32,
}

impl Runs {
    fn parse(content: &[u8]) -> FieldResult<Self> {
        let (_, _, mut fields) = full(content)?;
        let count = fields.u32()? as usize;
        if fields.remaining() / 8 < count {
            return Err(format!("a time table is too short for {count} entries"));
        }
        let runs: Vec<(u32, u32)> = (0..count)
            .map(|_| Ok((fields.u32()?, fields.u32()?)))
            .collect::<FieldResult<_>>()?;
        Ok(Self {
            runs: runs.into_iter(),
            left: 0,
            value: 0,
        })
    }

    fn next(&mut self) -> u32 {
        while self.left == 0 {
            let Some((count, value)) = self.runs.next() else {
                return self.value;
            };
            self.left = count;
            self.value = value;
        }
        self.left -= 1;
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mp4::MOST_PACKETS;
    use crate::mp4::boxes::tests::{boxed, words};

    /// A table of packets of one byte each, all in one chunk.
    fn one_chunk(packets: u32) -> Vec<u8> {
        [
            boxed(b"stsz", &words(&[0, 1, packets])),
            boxed(b"stco", &words(&[0, 1, 0])),
            boxed(b"stsc", &words(&[0, 1, 1, packets, 1])),
            boxed(b"stts", &words(&[0, 1, packets, 1])),
        ]
        .concat()
    }

    #[test]
    fn more_packets_than_any_track_has_are_refused_however_long_the_file_is() {
        assert_eq!(parse(&one_chunk(3), u64::MAX).unwrap().len(), 3);
        let many = MOST_PACKETS as u32 + 1;
        let halves = boxed(b"stz2", &words(&[0, 4, many]));
        for table in [one_chunk(many), halves] {
            let refused = parse(&table, u64::MAX).unwrap_err();
            for number in [u64::from(many), MOST_PACKETS] {
                assert!(refused.contains(&number.to_string()), "{refused}");
            }
        }
    }
}
