//! TensorBoard event files: TFRecord framing around a few protobuf messages.
//!
//! A record is the length (u64), the length's masked CRC-32C, the data, and the data's masked CRC-32C. The data is an
//! `Event` message: `wall_time` (1, double), `step` (2, varint) and one of `file_version` (3, string), `summary` (5),
//! whose values (1) have a `tag` (1, string) and a `simple_value` (2, float), and `session_log` (7), whose `status` (1) is 1 where
//! work is taken up again: readers then forget what earlier files say of that step and of later ones.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Error, Result, files};

/// Writes one event file.
pub(crate) struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Starts an event file in `folder` for the steps after `step`; TensorBoard shows all files of a folder as one run. As taking up
    /// work again makes it forget later steps of *all* figures of a run, what is not resumed together needs folders of its own.
    pub fn create(folder: &Path, step: u64) -> Result<Self> {
        files::make_folder(folder)?;
        let now = seconds_now();
        let file = format!(
            "events.out.tfevents.{:010}.djinn.{step}.{}",
            now as u64,
            std::process::id()
        );
        let path = folder.join(file);
        let mut writer = Self {
            file: File::create(&path).map_err(Error::io(&path))?,
            path,
        };
        writer.write(&version_event(now))?;
        writer.write(&start_event(now, step + 1))?;
        Ok(writer)
    }

    /// Appends figures of one step.
    pub fn scalars(
        &mut self,
        step: u64,
        scalars: impl Iterator<Item = (String, f32)>,
    ) -> Result<()> {
        let event = scalar_event(seconds_now(), step, scalars);
        self.write(&event)
    }

    fn write(&mut self, event: &[u8]) -> Result<()> {
        self.file
            .write_all(&record(event))
            .map_err(Error::io(&self.path))
    }
}

fn seconds_now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// A TFRecord.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: event files are small.
fn crc32c(data: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let crc = data.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| match crc & 1 {
            1 => (crc >> 1) ^ POLYNOMIAL,
            _ => crc >> 1,
        })
    });
    !crc
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

const VARINT: u8 = 0;
const DOUBLE: u8 = 1;
const BYTES: u8 = 2;
const FLOAT: u8 = 5;

fn key(out: &mut Vec<u8>, field: u8, kind: u8) {
    out.push(field << 3 | kind);
}

fn bytes(out: &mut Vec<u8>, field: u8, content: &[u8]) {
    key(out, field, BYTES);
    varint(out, content.len() as u64);
    out.extend(content);
}

fn event_at(wall_time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, DOUBLE);
    event.extend(wall_time.to_le_bytes());
    event
}

fn version_event(wall_time: f64) -> Vec<u8> {
    let mut event = event_at(wall_time);
    bytes(&mut event, 3, b"brain.Event:2");
    event
}

/// Work begins, or is taken up again, with this step.
fn start_event(wall_time: f64, step: u64) -> Vec<u8> {
    const START: u64 = 1;
    let mut log = Vec::new();
    key(&mut log, 1, VARINT);
    varint(&mut log, START);
    let mut event = event_at(wall_time);
    key(&mut event, 2, VARINT);
    varint(&mut event, step);
    bytes(&mut event, 7, &log);
    event
}

fn scalar_event(
    wall_time: f64,
    step: u64,
    scalars: impl Iterator<Item = (String, f32)>,
) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, number) in scalars {
        let mut value = Vec::new();
        bytes(&mut value, 1, tag.as_bytes());
        key(&mut value, 2, FLOAT);
        value.extend(number.to_le_bytes());
        bytes(&mut summary, 1, &value);
    }
    let mut event = event_at(wall_time);
    key(&mut event, 2, VARINT);
    varint(&mut event, step);
    bytes(&mut event, 5, &summary);
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_agree_with_published_ones() {
        // RFC 3720, appendix B.4, and the usual check value.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn records_and_messages_are_byte_for_byte_what_readers_expect() {
        let event = scalar_event(1.0, 300, [("a".to_owned(), 0.5)].into_iter());
        let expected = [
            0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, // wall_time: 1.0
            0x10, 0xac, 0x02, // step: 300
            0x2a, 0x0a, // summary, 10 bytes
            0x0a, 0x08, // value, 8 bytes
            0x0a, 0x01, b'a', // tag: "a"
            0x15, 0, 0, 0, 0x3f, // simple_value: 0.5
        ];
        assert_eq!(event, expected);
        let record = record(&event);
        assert_eq!(record.len(), 8 + 4 + event.len() + 4);
        assert_eq!(record[..8], (event.len() as u64).to_le_bytes());
        assert_eq!(record[12..12 + event.len()], event);
        let version = version_event(0.0);
        assert_eq!(&version[9..], b"\x1a\x0dbrain.Event:2");
    }

    #[test]
    fn every_file_begins_by_taking_up_work_after_its_step() {
        let folder = tempfile::tempdir().unwrap();
        let writer = EventWriter::create(folder.path(), 20).unwrap();
        let written = std::fs::read(&writer.path).unwrap();
        let mut start = start_event(0.0, 21);
        assert_eq!(start[9..], [0x10, 21, 0x3a, 2, 0x08, 1]);
        // Behind the version's record, but for the time and the checksums.
        let begin = 40 + 12;
        assert_eq!(written[begin + 9..begin + start.len()], start.split_off(9));
        assert_eq!(written.len(), begin + 15 + 4);
    }

    #[test]
    fn the_first_record_of_a_file_is_the_known_one() {
        // The file version record that TensorFlow writes at wall time 0, checksums and all.
        let expected: [u8; 40] = [
            0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0x1a,
            0x0d, b'b', b'r', b'a', b'i', b'n', b'.', b'E', b'v', b'e', b'n', b't', b':', b'2', 0,
            0, 0, 0,
        ];
        let record = record(&version_event(0.0));
        assert_eq!(record[..36], expected[..36]);
        assert_eq!(record.len(), 40);
    }
}
