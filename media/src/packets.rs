//! The path from a container's packets to pictures in presentation order.
//!
//! A demultiplexer yields [`Packet`]s in decoding order, a decoder turns each into pictures that carry the packet's
//! presentation time, and [`PacketReader`] sorts them and hands them out.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::path::{Path, PathBuf};

use crate::colour::{ColourTags, YuvPicture};
use crate::picture::{TimedPicture, Turn};
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
    /// Forgets everything decoded, to begin anew with a packet that [`PacketDecoder::can_start_at`].
    fn restart(&mut self) -> Result<(), String>;
    /// Whether a packet can be decoded without any before it.
    fn can_start_at(&self, data: &[u8]) -> bool;
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
    /// How the pictures are to be turned before they are shown.
    pub turn: Turn,
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

/// Reads a compressed track as a video. Where a packet is damaged, it goes on at the next one that needs no other.
pub(crate) struct PacketReader {
    path: PathBuf,
    source: Box<dyn PacketSource>,
    decoder: Box<dyn PacketDecoder>,
    colour: ColourTags,
    turn: Turn,
    /// Number, time and visibility of the packets whose pictures have not come out yet.
    in_flight: VecDeque<(u64, i64, bool)>,
    packets: u64,
    /// The packet at which decoding begins again after damage.
    resume_at: Option<Packet>,
    decoded: VecDeque<Decoded>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    start: Option<i64>,
    /// Pictures handed out, and pictures that were only decoded for the sake of others.
    pictures: u64,
    hidden: u64,
    /// Pictures that damage has cost so far.
    lost: u64,
    /// Damage before the first picture, to be told before it.
    early_failure: Option<Error>,
    /// To be told when the pictures before it are handed out.
    failure: Option<Error>,
    ended: bool,
}

impl PacketReader {
    pub(crate) fn new(path: &Path, track: Track, decoder: Box<dyn PacketDecoder>) -> Self {
        Self {
            path: path.to_owned(),
            source: track.source,
            decoder,
            colour: track.colour,
            turn: track.turn,
            in_flight: VecDeque::new(),
            packets: 0,
            resume_at: None,
            decoded: VecDeque::new(),
            waiting: BinaryHeap::new(),
            start: None,
            pictures: 0,
            hidden: 0,
            lost: 0,
            early_failure: None,
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
            let failure = self.failure.take();
            return Err(failure.unwrap_or_else(|| self.damaged("it holds no picture", 0)));
        }
        if let Some(Error::Damaged {
            pictures_read: 0, ..
        }) = self.failure
        {
            self.early_failure = self.failure.take();
        }
        Ok(())
    }

    /// Damage after all pictures that are there so far.
    fn damaged(&self, reason: &str, pictures_lost: u64) -> Error {
        let shown = |Reverse(waiting): &&Reverse<Waiting>| !waiting.hidden;
        Error::Damaged {
            path: self.path.clone(),
            codec: self.decoder.codec().to_owned(),
            pictures_read: self.pictures + self.waiting.iter().filter(shown).count() as u64,
            pictures_lost,
            reason: reason.to_owned(),
        }
    }

    /// Feeds one packet, or at the end flushes. After a failure the pictures that are complete are still handed out.
    fn advance(&mut self) {
        let packet = match self.resume_at.take() {
            Some(packet) => Ok(Some(packet)),
            None => self.source.next_packet(),
        };
        match packet {
            Ok(Some(packet)) => self.feed(packet),
            Ok(None) => {
                self.ended = true;
                let flushed = self.decoder.flush(&mut self.decoded);
                self.collect();
                if let Err(reason) = flushed {
                    self.note_damage(&reason);
                }
            }
            Err(error) => {
                self.ended = true;
                // Whatever the decoder says now, the first failure is the one to report.
                let _ = self.decoder.flush(&mut self.decoded);
                self.collect();
                self.failure.get_or_insert(error);
            }
        }
    }

    fn feed(&mut self, packet: Packet) {
        let number = self.packets;
        self.packets += 1;
        self.in_flight
            .push_back((number, packet.time, packet.hidden));
        if self.in_flight.len() > MOST_PACKETS_IN_FLIGHT {
            self.in_flight.pop_front();
        }
        let decoded = self.decoder.decode(number, &packet.data, &mut self.decoded);
        if decoded.is_err() {
            // What was held back from before the damage is good; what was made of the damage is not.
            let _ = self.decoder.flush(&mut self.decoded);
            self.decoded.retain(|decoded| decoded.packet != number);
        }
        self.collect();
        if let Err(reason) = decoded {
            let reason = match self.skip_damage() {
                Ok(()) => reason,
                Err(error) => format!("{reason}; then {error}"),
            };
            self.note_damage(&reason);
        }
    }

    /// Leaves out packets until one with which decoding can begin again, or until the end.
    fn skip_damage(&mut self) -> Result<(), String> {
        self.in_flight.clear();
        let restarted = self.decoder.restart();
        self.ended |= restarted.is_err();
        restarted?;
        loop {
            let next = self.source.next_packet();
            match next {
                Ok(Some(packet)) if self.decoder.can_start_at(&packet.data) => {
                    self.resume_at = Some(packet);
                    return Ok(());
                }
                Ok(Some(_)) => self.packets += 1,
                Ok(None) => {
                    self.ended = true;
                    return Ok(());
                }
                Err(error) => {
                    self.ended = true;
                    return Err(error.to_string());
                }
            }
        }
    }

    /// Keeps damage to be told when the pictures before it are handed out.
    fn note_damage(&mut self, reason: &str) {
        let came = self.pictures + self.hidden + self.waiting.len() as u64;
        let newly_lost = self.packets.saturating_sub(came + self.lost);
        self.lost += newly_lost;
        match &mut self.failure {
            Some(Error::Damaged { pictures_lost, .. }) => *pictures_lost += newly_lost,
            Some(_) => {}
            None => self.failure = Some(self.damaged(reason, newly_lost)),
        }
    }

    /// Sorts decoded pictures in among those that wait for their time.
    fn collect(&mut self) {
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
        if let Some(error) = self.early_failure.take() {
            return Err(error);
        }
        loop {
            while !self.ended
                && self.failure.is_none()
                && self.waiting.len() <= self.decoder.reorder_depth()
            {
                self.advance();
            }
            let Some(Reverse(next)) = self.waiting.pop() else {
                return match self.failure.take() {
                    Some(error) => Err(error),
                    None => Ok(None),
                };
            };
            if next.hidden {
                self.hidden += 1;
                continue;
            }
            let start = *self.start.get_or_insert(next.time);
            self.pictures += 1;
            let mut picture = next.picture;
            picture.tags = picture.tags.or(self.colour);
            return Ok(Some(TimedPicture {
                picture: self.turn.apply(picture.to_rgb()),
                seconds: next.time.saturating_sub(start).max(0) as f64 * 1e-9,
            }));
        }
    }
}
