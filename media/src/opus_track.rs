//! Sound as Opus packets, for the sound track of a video.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use opus_pure::{Application, MAX_PACKET_BYTES, OpusEncoder, RateControl};
use shiguredo_mp4::FixedPointNumber;
use shiguredo_mp4::boxes::{
    AudioSampleEntryFields, DopsBox, EdtsBox, ElstBox, ElstEntry, OpusBox, SampleEntry,
};

use crate::{CHANNELS, Error};

/// Samples in a second, of each channel: what Opus works with.
pub const OPUS_RATE: u32 = 48_000;

/// Sample pairs in a packet: 20 ms.
const PACKET_PAIRS: usize = 960;

/// Both channels together: nobody hears what is lost.
const BITS_PER_SECOND: i32 = 128_000;

/// Encodes stereo sound into packets of one length.
pub(crate) struct OpusTrack {
    path: PathBuf,
    encoder: OpusEncoder,
    /// Samples that do not fill a packet yet.
    waiting: Vec<f32>,
    /// Sample pairs given so far.
    pairs: u64,
    /// Packets made so far.
    packets: u64,
}

/// A packet, and for how many sample pairs it counts.
pub(crate) struct OpusPacket {
    pub(crate) data: Vec<u8>,
    pub(crate) duration: u32,
}

impl OpusTrack {
    /// A track of the file at `path`.
    pub(crate) fn new(path: &Path) -> Result<Self, Error> {
        let mut encoder =
            OpusEncoder::new(OPUS_RATE as i32, usize::from(CHANNELS), Application::Audio)
                .map_err(|error| Error::encode(path, error))?;
        encoder.bitrate_bps = BITS_PER_SECOND;
        encoder.rate_control = RateControl::Vbr;
        Ok(Self {
            path: path.to_owned(),
            encoder,
            waiting: Vec::new(),
            pairs: 0,
            packets: 0,
        })
    }

    /// Sample pairs at the start of what a decoder puts out that are none of the sound's own.
    pub(crate) fn pre_skip(&self) -> u16 {
        self.encoder.lookahead() as u16
    }

    /// Adds samples, left and right in turn, and returns the packets that they fill.
    pub(crate) fn add(&mut self, samples: &[f32]) -> Result<Vec<OpusPacket>, Error> {
        if !samples.len().is_multiple_of(usize::from(CHANNELS)) {
            return Err(Error::encode(
                &self.path,
                format!("{} samples are not whole pairs", samples.len()),
            ));
        }
        self.pairs += (samples.len() / usize::from(CHANNELS)) as u64;
        let finite = |&sample: &f32| if sample.is_finite() { sample } else { 0.0 };
        self.waiting.extend(samples.iter().map(finite));
        let mut packets = Vec::new();
        while self.waiting.len() >= PACKET_PAIRS * usize::from(CHANNELS) {
            packets.push(self.encode(PACKET_PAIRS as u32)?);
        }
        Ok(packets)
    }

    /// The packets that bring out what the encoder still holds back. The last one counts only as long as the sound lasts.
    pub(crate) fn finish(&mut self) -> Result<Vec<OpusPacket>, Error> {
        let end = u64::from(self.pre_skip()) + self.pairs;
        let mut packets = Vec::new();
        loop {
            let done = self.packets * PACKET_PAIRS as u64;
            let left = end.saturating_sub(done).min(PACKET_PAIRS as u64);
            if left == 0 {
                return Ok(packets);
            }
            self.waiting
                .resize(PACKET_PAIRS * usize::from(CHANNELS), 0.0);
            packets.push(self.encode(left as u32)?);
        }
    }

    /// Encodes the first samples that wait.
    fn encode(&mut self, duration: u32) -> Result<OpusPacket, Error> {
        let mut data = vec![0; MAX_PACKET_BYTES];
        let block = PACKET_PAIRS * usize::from(CHANNELS);
        let length = self
            .encoder
            .encode(&self.waiting[..block], PACKET_PAIRS, &mut data)
            .map_err(|error| Error::encode(&self.path, error))?;
        data.truncate(length);
        self.waiting.drain(..block);
        self.packets += 1;
        Ok(OpusPacket { data, duration })
    }

    /// The sample description.
    pub(crate) fn describe(&self) -> SampleEntry {
        SampleEntry::Opus(OpusBox {
            audio: AudioSampleEntryFields {
                data_reference_index: AudioSampleEntryFields::DEFAULT_DATA_REFERENCE_INDEX,
                channelcount: CHANNELS,
                samplesize: AudioSampleEntryFields::DEFAULT_SAMPLESIZE,
                samplerate: FixedPointNumber::new(OPUS_RATE as u16, 0),
            },
            dops_box: DopsBox {
                output_channel_count: CHANNELS as u8,
                pre_skip: self.pre_skip(),
                input_sample_rate: OPUS_RATE,
                output_gain: 0,
            },
            unknown_boxes: Vec::new(),
        })
    }

    /// The edit list that starts the sound after what is none of its own, so that it is in step with the pictures. Its length of zero
    /// means all that follows, as is usual in fragmented files.
    pub(crate) fn edit_list(&self) -> EdtsBox {
        EdtsBox {
            elst_box: Some(ElstBox {
                entries: vec![ElstEntry {
                    edit_duration: 0,
                    media_time: i64::from(self.pre_skip()),
                    media_rate: FixedPointNumber::new(1, 0),
                }],
            }),
            unknown_boxes: Vec::new(),
        }
    }

    /// Units of time in a second.
    pub(crate) fn timescale() -> NonZeroU32 {
        NonZeroU32::MIN.saturating_add(OPUS_RATE - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opus_pure::OpusDecoder;

    /// A chord with a slow tremolo, different left and right.
    fn music(pairs: usize) -> Vec<f32> {
        let tone = |i: usize, hertz: f64| {
            let seconds = i as f64 / f64::from(OPUS_RATE);
            (seconds * hertz * std::f64::consts::TAU).sin() as f32
        };
        (0..pairs)
            .flat_map(|i| {
                let both = tone(i, 440.0) * 0.2 * (1.0 + 0.5 * tone(i, 3.0));
                [both + 0.1 * tone(i, 660.0), both + 0.1 * tone(i, 990.0)]
            })
            .collect()
    }

    #[test]
    fn what_is_decoded_is_what_was_encoded_after_the_pre_skip() {
        for pairs in [0, 1, 959, 960, 961, 20_000] {
            let path = Path::new("a.mp4");
            let mut track = OpusTrack::new(path).unwrap();
            let samples = music(pairs);
            let mut packets = Vec::new();
            // As frames of 1/15 s hand it in.
            for part in samples.chunks(6400) {
                packets.extend(track.add(part).unwrap());
            }
            packets.extend(track.finish().unwrap());
            let total: u64 = packets
                .iter()
                .map(|packet| u64::from(packet.duration))
                .sum();
            let skip = usize::from(track.pre_skip());
            assert_eq!(total, (skip + pairs) as u64);
            let mut decoder = OpusDecoder::new(OPUS_RATE as i32, 2).unwrap();
            let mut decoded: Vec<f32> = Vec::new();
            for packet in &packets {
                let mut block = vec![0.0; 960 * 2];
                let got = decoder.decode(&packet.data, 960, &mut block).unwrap();
                assert_eq!(got, 960);
                decoded.extend(&block[..packet.duration as usize * 2]);
            }
            let sound = &decoded[skip * 2..];
            assert_eq!(sound.len(), samples.len());
            if pairs == 20_000 {
                let noise: f64 = sound
                    .iter()
                    .zip(&samples)
                    .map(|(a, b)| f64::from(a - b).powi(2))
                    .sum();
                let power: f64 = samples.iter().map(|s| f64::from(*s).powi(2)).sum();
                let ratio = 10.0 * (power / noise).log10();
                assert!(ratio > 20.0, "{ratio:.1} dB");
            }
        }
    }

    #[test]
    fn what_is_no_pair_is_refused_and_what_is_no_number_is_silence() {
        let mut track = OpusTrack::new(Path::new("a.mp4")).unwrap();
        assert!(track.add(&[0.0]).is_err());
        assert_eq!(track.add(&[f32::NAN; 1920]).unwrap().len(), 1);
    }
}
