//! The packets of fragmented files.

use super::boxes::{children, find, full, require};
use super::{Sample, check_count};
use crate::bits::FieldResult;
use std::collections::BTreeMap;

/// What holds for the packets of a track where a fragment does not say otherwise.
#[derive(Debug, Clone, Default)]
pub(super) struct Defaults {
    /// The track whose packets are wanted.
    track_id: u32,
    /// Duration and size of a packet, of each track.
    tracks: BTreeMap<u32, [u32; 2]>,
}

impl Defaults {
    pub(super) fn parse(moov: &[u8], track_id: u32) -> FieldResult<Self> {
        let mut defaults = Self {
            track_id,
            ..Self::default()
        };
        for child in find(moov, b"mvex")
            .into_iter()
            .flat_map(children)
            .filter(|child| &child.kind == b"trex")
        {
            let (_, _, mut fields) = full(child.content)?;
            let track = fields.u32()?;
            fields.u32()?;
            let packet = [fields.u32()?, fields.u32()?];
            defaults.tracks.insert(track, packet);
        }
        Ok(defaults)
    }
}

/// Adds the packets of one `moof` box, which starts at byte `start` of the file. `decode_time` is where the fragment
/// before it ended, `bytes` what the packets so far hold: packets do not overlap, so those after as many bytes as the file has lie
/// beyond its end and are left out.
pub(super) fn parse(
    moof: &[u8],
    start: u64,
    defaults: &Defaults,
    file_length: u64,
    decode_time: &mut i64,
    bytes: &mut u64,
    samples: &mut Vec<Sample>,
) -> FieldResult<()> {
    // Where a fragment gives no base of its own, it starts where the one before it in the same box ended.
    let mut end_of_previous = start;
    for child in children(moof).filter(|child| &child.kind == b"traf") {
        let (_, flags, mut fields) = full(require(child.content, b"tfhd")?)?;
        let track_id = fields.u32()?;
        let mut base = if flags & 0x02_0000 != 0 {
            start
        } else {
            end_of_previous
        };
        let [mut duration, mut size] = defaults.tracks.get(&track_id).copied().unwrap_or_default();
        if flags & 0x1 != 0 {
            base = fields.u64()?;
        }
        if flags & 0x2 != 0 {
            fields.u32()?;
        }
        if flags & 0x8 != 0 {
            duration = fields.u32()?;
        }
        if flags & 0x10 != 0 {
            size = fields.u32()?;
        }
        if track_id == defaults.track_id
            && let Some(tfdt) = find(child.content, b"tfdt")
        {
            let (version, _, mut fields) = full(tfdt)?;
            *decode_time = fields.short_or_long(version == 1)?.min(i64::MAX as u64 / 4) as i64;
        }
        let mut offset = base;
        for run in children(child.content).filter(|child| &child.kind == b"trun") {
            if *bytes > file_length {
                return Ok(());
            }
            let run = Run::parse(run.content, duration, size, file_length, samples.len());
            let run = match run {
                Ok(run) => run,
                Err(_) if track_id != defaults.track_id => break,
                Err(error) => return Err(error),
            };
            if let Some(data_offset) = run.data_offset {
                offset = base.saturating_add_signed(i64::from(data_offset));
            }
            for packet in &run.packets {
                if track_id == defaults.track_id {
                    samples.push(Sample {
                        offset,
                        size: packet.size,
                        time: decode_time.saturating_add(i64::from(packet.time_offset)),
                    });
                    *decode_time = decode_time.saturating_add(i64::from(packet.duration));
                }
                offset = offset.saturating_add(u64::from(packet.size));
                *bytes += u64::from(packet.size);
            }
        }
        end_of_previous = offset;
    }
    Ok(())
}

struct RunPacket {
    duration: u32,
    size: u32,
    time_offset: i32,
}

struct Run {
    data_offset: Option<i32>,
    packets: Vec<RunPacket>,
}

impl Run {
    /// `duration` and `size` hold where the run does not tell a packet's own, `before` is the number of packets before it.
    fn parse(
        content: &[u8],
        duration: u32,
        size: u32,
        file_length: u64,
        before: usize,
    ) -> FieldResult<Self> {
        let (_, flags, mut fields) = full(content)?;
        let count = fields.u32()?;
        check_count(before as u64 + u64::from(count))?;
        let has = |flag: u32| flags & flag != 0;
        let data_offset = if has(0x1) {
            Some(fields.u32()? as i32)
        } else {
            None
        };
        if has(0x4) {
            fields.u32()?;
        }
        let per_packet = [0x100, 0x200, 0x400, 0x800]
            .into_iter()
            .filter(|&flag| has(flag))
            .count()
            * 4;
        let listed = if has(0x200) {
            fields.remaining() / per_packet >= count as usize
        } else {
            (size > 0 || count == 0)
                && u64::from(size) * u64::from(count) <= file_length
                && (per_packet == 0 || fields.remaining() / per_packet >= count as usize)
        };
        if !listed {
            return Err(format!(
                "a fragment claims {count} packets, which do not fit"
            ));
        }
        let mut packets = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let mut packet = RunPacket {
                duration,
                size,
                time_offset: 0,
            };
            if has(0x100) {
                packet.duration = fields.u32()?;
            }
            if has(0x200) {
                packet.size = fields.u32()?;
            }
            if has(0x400) {
                fields.u32()?;
            }
            if has(0x800) {
                packet.time_offset = fields.u32()? as i32;
            }
            packets.push(packet);
        }
        Ok(Self {
            data_offset,
            packets,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mp4::MOST_PACKETS;
    use crate::mp4::boxes::tests::{boxed, words};

    #[test]
    fn runs_that_claim_the_whole_file_again_and_again_are_not_added_up() {
        const LENGTH: u64 = 1000;
        // Packets of one byte, as many in each run as the file has bytes.
        let run = boxed(b"trun", &words(&[0, LENGTH as u32]));
        let mut track = boxed(b"tfhd", &words(&[0, 1]));
        track.extend(run.repeat(50));
        let fragment = boxed(b"traf", &track);
        let defaults = Defaults {
            track_id: 1,
            tracks: [(1, [1, 1])].into(),
        };
        let (mut time, mut bytes, mut samples) = (0, 0, Vec::new());
        for _ in 0..3 {
            parse(
                &fragment,
                0,
                &defaults,
                LENGTH,
                &mut time,
                &mut bytes,
                &mut samples,
            )
            .unwrap();
        }
        assert!(samples.len() <= 2 * LENGTH as usize, "{}", samples.len());
    }

    #[test]
    fn another_track_has_its_own_defaults_and_what_is_wrong_with_it_is_its_own_affair() {
        let fragment = |track: u32, packets: u32| {
            let fields = [words(&[0, track]), words(&[0, packets])];
            let boxes = [boxed(b"tfhd", &fields[0]), boxed(b"trun", &fields[1])];
            boxed(b"traf", &boxes.concat())
        };
        let trex = |track: u32, size: u32| boxed(b"trex", &words(&[0, track, 1, 1, size, 0]));
        let moov = boxed(b"mvex", &[trex(1, 30), trex(2, 7)].concat());
        let defaults = Defaults::parse(&moov, 1).unwrap();
        let starts = |fragments: &[Vec<u8>]| {
            let (mut time, mut bytes, mut samples) = (0, 0, Vec::new());
            parse(
                &fragments.concat(),
                100,
                &defaults,
                1000,
                &mut time,
                &mut bytes,
                &mut samples,
            )
            .map(|()| {
                samples
                    .iter()
                    .map(|sample| sample.offset)
                    .collect::<Vec<_>>()
            })
        };
        // Three packets of seven bytes of the other track lie before the picture.
        assert_eq!(starts(&[fragment(2, 3), fragment(1, 1)]).unwrap(), [121]);
        assert_eq!(
            starts(&[fragment(1, 0), fragment(1, 2)]).unwrap(),
            [100, 130]
        );
        // Of a third track nothing is known.
        assert_eq!(starts(&[fragment(1, 1), fragment(3, 5)]).unwrap(), [100]);
        assert!(starts(&[fragment(1, 5000)]).is_err());
    }

    #[test]
    fn runs_are_counted_with_those_before_them() {
        let run = |count: u64, before: u64| {
            let content = words(&[0, count as u32]);
            Run::parse(&content, 1, 1, u64::MAX, before as usize).map(|run| run.packets.len())
        };
        assert_eq!(run(3, MOST_PACKETS - 3), Ok(3));
        let refused = run(3, MOST_PACKETS - 2).unwrap_err();
        for number in [MOST_PACKETS + 1, MOST_PACKETS] {
            assert!(refused.contains(&number.to_string()), "{refused}");
        }
        assert!(run(u64::from(u32::MAX), 0).is_err());
    }
}
