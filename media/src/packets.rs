//! The path from a container's packets to pictures in presentation order.
//!
//! A demultiplexer yields [`Packet`]s in decoding order, a decoder turns each into pictures that carry the packet's
//! presentation time, and [`PacketReader`] sorts them and hands them out.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::path::{Path, PathBuf};

use crate::colour::{ColourTags, YuvPicture};
use crate::picture::TimedPicture;
use crate::reader::VideoReader;
use crate::{Error, picture};

/// One compressed picture.
pub(crate) struct Packet {
    /// Presentation time in nanoseconds, of any origin, possibly negative.
    pub time: i64,
    pub data: Vec<u8>,
    /// Decoded for the sake of others, but lies outside the part of the track that is shown.
    pub hidden: bool,
}

/// Yields a track's packets in decoding order.
pub(crate) trait PacketSource {
    /// The next packet; `None` at the end.
    fn next_packet(&mut self) -> Result<Option<Packet>, Error>;
    /// Number of packets, where the container says.
    fn packet_count_hint(&self) -> Option<u64>;
}

/// A decoded picture and the number of the packet that it came from.
pub(crate) struct Decoded {
    pub packet: u64,
    pub picture: YuvPicture,
}

/// Decodes packets. Errors are texts: the caller knows the file.
pub(crate) trait PacketDecoder {
    /// Name for messages.
    fn codec(&self) -> &'static str;
    /// Takes one packet, numbered in decoding order, and adds the pictures that are ready to `out`.
    fn decode(
        &mut self,
        packet: u64,
        data: &[u8],
        out: &mut VecDeque<Decoded>,
    ) -> Result<(), String>;
    /// Adds all pictures still held back to `out`.
    fn flush(&mut self, out: &mut VecDeque<Decoded>) -> Result<(), String>;
    /// Width and height that the track's header tells, before anything is decoded.
    fn size(&self) -> Option<(u64, u64)> {
        None
    }
    /// Number of pictures that may overtake one another between decoding and presentation.
    fn reorder_depth(&self) -> usize;
}

/// A compressed video track, before a decoder has been chosen.
pub(crate) struct Track {
    pub codec: Codec,
    pub source: Box<dyn PacketSource>,
    pub colour: ColourTags,
}

/// What a track is compressed with, and the header data that the container keeps for it.
pub(crate) enum Codec {
    /// H.264 with length-prefixed units, described by an `avcC` record.
    H264 { configuration: Vec<u8> },
    /// AV1, with an optional `av1C` record.
    Av1 { configuration: Vec<u8> },
    /// Anything else, by the name that people know it by.
    Other(String),
}

struct Waiting {
    time: i64,
    packet: u64,
    hidden: bool,
    picture: YuvPicture,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time, self.packet).cmp(&(other.time, other.packet))
    }
}

/// Packets whose pictures have not come out yet are remembered up to this number; a decoder that holds back more is broken.
const MOST_PACKETS_IN_FLIGHT: usize = 256;

/// Reads a compressed track as a video.
pub(crate) struct PacketReader {
    path: PathBuf,
    source: Box<dyn PacketSource>,
    decoder: Box<dyn PacketDecoder>,
    colour: ColourTags,
    /// Number, time and visibility of the packets whose pictures have not come out yet.
    in_flight: VecDeque<(u64, i64, bool)>,
    packets: u64,
    decoded: VecDeque<Decoded>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    start: Option<i64>,
    pictures: u64,
    failure: Option<Error>,
    ended: bool,
}

impl PacketReader {
    pub(crate) fn new(
        path: &Path,
        source: Box<dyn PacketSource>,
        decoder: Box<dyn PacketDecoder>,
        colour: ColourTags,
    ) -> Self {
        Self {
            path: path.to_owned(),
            source,
            decoder,
            colour,
            in_flight: VecDeque::new(),
            packets: 0,
            decoded: VecDeque::new(),
            waiting: BinaryHeap::new(),
            start: None,
            pictures: 0,
            failure: None,
            ended: false,
        }
    }

    /// Decodes until the first picture is there, so that a stream that cannot be decoded at all is known when it is opened.
    pub(crate) fn prime(&mut self) -> Result<(), Error> {
        while self.waiting.is_empty() && !self.ended {
            self.advance();
        }
        if self.waiting.is_empty() {
            return Err(self
                .failure
                .take()
                .unwrap_or_else(|| self.damaged("it holds no picture".to_owned())));
        }
        Ok(())
    }

    fn damaged(&self, reason: String) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            codec: self.decoder.codec().to_owned(),
            pictures_read: self.pictures,
            reason,
        }
    }

    /// Feeds one packet, or at the end flushes. After a failure the pictures that are complete are still handed out.
    fn advance(&mut self) {
        let outcome = match self.source.next_packet() {
            Ok(Some(packet)) => {
                let number = self.packets;
                self.packets += 1;
                self.in_flight
                    .push_back((number, packet.time, packet.hidden));
                if self.in_flight.len() > MOST_PACKETS_IN_FLIGHT {
                    self.in_flight.pop_front();
                }
                self.decoder
                    .decode(number, &packet.data, &mut self.decoded)
                    .map_err(|reason| self.damaged(reason))
            }
            Ok(None) => {
                self.ended = true;
                self.decoder
                    .flush(&mut self.decoded)
                    .map_err(|reason| self.damaged(reason))
            }
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            self.failure.get_or_insert(error);
            if !self.ended {
                self.ended = true;
                // Whatever it says now, the first failure is the one to report.
                let _ = self.decoder.flush(&mut self.decoded);
            }
        }
        while let Some(decoded) = self.decoded.pop_front() {
            let position = self
                .in_flight
                .iter()
                .position(|&(number, ..)| number == decoded.packet);
            let Some((packet, time, hidden)) =
                position.and_then(|position| self.in_flight.remove(position))
            else {
                continue;
            };
            if let Err(error) = picture::check_size(
                &self.path,
                decoded.picture.width as u64,
                decoded.picture.height as u64,
            ) {
                self.failure.get_or_insert(error);
                self.ended = true;
                return;
            }
            self.waiting.push(Reverse(Waiting {
                time,
                packet,
                hidden,
                picture: decoded.picture,
            }));
        }
    }
}

impl VideoReader for PacketReader {
    fn codec(&self) -> &str {
        self.decoder.codec()
    }

    fn frame_count_hint(&self) -> Option<u64> {
        self.source.packet_count_hint()
    }

    fn next_picture(&mut self) -> Result<Option<TimedPicture>, Error> {
        loop {
            while !self.ended && self.waiting.len() <= self.decoder.reorder_depth() {
                self.advance();
            }
            let Some(Reverse(next)) = self.waiting.pop() else {
                return match self.failure.take() {
                    Some(Error::Damaged {
                        path,
                        codec,
                        reason,
                        ..
                    }) => Err(Error::Damaged {
                        path,
                        codec,
                        pictures_read: self.pictures,
                        reason,
                    }),
                    Some(error) => Err(error),
                    None => Ok(None),
                };
            };
            if next.hidden {
                continue;
            }
            let start = *self.start.get_or_insert(next.time);
            self.pictures += 1;
            let mut picture = next.picture;
            picture.tags = picture.tags.or(self.colour);
            return Ok(Some(TimedPicture {
                picture: picture.to_rgb(),
                seconds: next.time.saturating_sub(start).max(0) as f64 * 1e-9,
            }));
        }
    }
}
