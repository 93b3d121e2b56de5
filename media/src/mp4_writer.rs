//! Writes H.264, and Opus where there is sound, in fragmented MP4: whatever kills the program, the file plays up to the last fragment.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use openh264::encoder::{
    BitRate, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, QpRange,
    RateControlMode, UsageType, VuiConfig,
};
use openh264::formats::YUVSlices;
use openh264::{OpenH264API, Timestamp};
use shiguredo_mp4::boxes::{
    Avc1Box, AvccBox, FtypBox, MoovBox, SampleEntry, UnknownBox, VisualSampleEntryFields,
};
use shiguredo_mp4::mux::{Fmp4SegmentMuxer, Sample};
use shiguredo_mp4::{BoxSize, BoxType, Decode, Encode, TrackKind, Uint};

use crate::colour::{Matrix, from_rgb};
use crate::h264::split_start_codes;
use crate::opus_track::{OpusPacket, OpusTrack};
use crate::{Error, Picture};

/// Largest sides that the encoder takes, the longer first.
const LARGEST: (u32, u32) = (3840, 2160);

/// Finest and coarsest quantiser of H.264's 0 to 51: constant quality, fine enough that pixel art stays crisp.
const QUANTISERS: (u8, u8) = (16, 18);

/// The encoder wants a limit; this one is beyond what its levels allow anyway.
const HIGHEST_BITRATE: u32 = 240_000_000;

/// Seconds between pictures that need no other.
const KEY_SECONDS: f64 = 2.0;

/// Seconds of video that a crash can cost.
const FRAGMENT_SECONDS: f64 = 0.5;

/// Units of time per picture.
const PICTURE_DURATION: u32 = 1000;

/// Writes pictures of one size to an MP4 file, at a steady rate, with or without sound.
pub struct Mp4Writer {
    path: PathBuf,
    file: File,
    /// Bytes of the fragments that are written.
    length: u64,
    encoder: Encoder,
    muxer: Fmp4SegmentMuxer,
    size: (u32, u32),
    frames_per_second: f64,
    pictures: u64,
    /// Pictures of the fragment that is not written yet.
    packets: Vec<Encoded>,
    sound: Option<OpusTrack>,
    /// Sound of the fragment that is not written yet.
    sound_packets: Vec<OpusPacket>,
    header_written: bool,
    description: Option<SampleEntry>,
}

struct Encoded {
    data: Vec<u8>,
    key: bool,
}

impl Mp4Writer {
    /// Creates a file without sound, replacing one that is there. Odd sides are padded to even ones by repeating the last row or
    /// column. Enlarge small pictures by an even factor first ([`crate::enlarge`]), or their colours smear.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] for a size or rate that cannot be encoded, [`Error::Io`].
    pub fn create(
        path: &Path,
        width: u32,
        height: u32,
        frames_per_second: f64,
    ) -> Result<Self, Error> {
        let (longer, shorter) = (width.max(height), width.min(height));
        if shorter < 16 || longer > LARGEST.0 || shorter > LARGEST.1 {
            return Err(Error::InvalidSetting {
                what: "video size",
                expected: format!("at least 16 a side and at most {}x{}", LARGEST.0, LARGEST.1),
                got: format!("{width}x{height}"),
            });
        }
        if !(0.1..=1000.0).contains(&frames_per_second) {
            return Err(Error::InvalidSetting {
                what: "frame rate",
                expected: "0.1 to 1000 frames per second".to_owned(),
                got: frames_per_second.to_string(),
            });
        }
        let config = EncoderConfig::new()
            .usage_type(UsageType::ScreenContentRealTime)
            // This mode goes to the finest quantiser allowed, stays there, and never leaves a picture out.
            .rate_control_mode(RateControlMode::Bufferbased)
            .bitrate(BitRate::from_bps(HIGHEST_BITRATE))
            .max_frame_rate(FrameRate::from_hz(frames_per_second as f32))
            .qp(QpRange::new(QUANTISERS.0, QUANTISERS.1))
            .intra_frame_period(IntraFramePeriod::from_num_frames(
                (frames_per_second * KEY_SECONDS).ceil().max(1.0) as u32,
            ))
            .skip_frames(false)
            .adaptive_quantization(false)
            .background_detection(false)
            .num_threads(1)
            .vui(VuiConfig::bt709());
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config)
            .map_err(|error| Error::encode(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            file: File::create(path).map_err(Error::io(path))?,
            length: 0,
            encoder,
            muxer: Fmp4SegmentMuxer::new().map_err(|error| Error::encode(path, error))?,
            size: (width, height),
            frames_per_second,
            pictures: 0,
            packets: Vec::new(),
            sound: None,
            sound_packets: Vec::new(),
            header_written: false,
            description: None,
        })
    }

    /// As [`Mp4Writer::create`], with a sound track: hand in the sound of each picture by [`Mp4Writer::write_sound`].
    ///
    /// # Errors
    ///
    /// As [`Mp4Writer::create`].
    pub fn create_with_sound(
        path: &Path,
        width: u32,
        height: u32,
        frames_per_second: f64,
    ) -> Result<Self, Error> {
        let mut writer = Self::create(path, width, height, frames_per_second)?;
        writer.sound = Some(OpusTrack::new(path)?);
        Ok(writer)
    }

    /// Adds sound: samples from -1 to 1, left and right in turn, [`OPUS_RATE`](crate::OPUS_RATE) of each in a second. It begins with the
    /// first picture and goes on without a gap.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`], also where the file was created without sound.
    pub fn write_sound(&mut self, samples: &[f32]) -> Result<(), Error> {
        let Some(sound) = &mut self.sound else {
            return Err(Error::encode(&self.path, "it was begun without sound"));
        };
        self.sound_packets.extend(sound.add(samples)?);
        Ok(())
    }

    /// Adds a picture.
    ///
    /// # Errors
    ///
    /// [`Error::WrongPictureSize`], [`Error::Encode`], or [`Error::Io`] as when the disk is full.
    pub fn write(&mut self, picture: &Picture) -> Result<(), Error> {
        if (picture.width, picture.height) != self.size {
            return Err(Error::WrongPictureSize {
                path: self.path.clone(),
                width: picture.width,
                height: picture.height,
                expected_width: self.size.0,
                expected_height: self.size.1,
            });
        }
        let yuv = from_rgb(picture, Matrix::Bt709);
        let planes = (
            &yuv.luma.samples[..],
            &yuv.chroma[0].samples[..],
            &yuv.chroma[1].samples[..],
        );
        let source = YUVSlices::new(
            planes,
            (yuv.width, yuv.height),
            (yuv.luma.width, yuv.chroma[0].width, yuv.chroma[1].width),
        );
        let milliseconds = self.pictures as f64 * 1000.0 / self.frames_per_second;
        let stream = self
            .encoder
            .encode_at(&source, Timestamp::from_millis(milliseconds.round() as u64))
            .map_err(|error| Error::encode(&self.path, error))?;
        let key = matches!(stream.frame_type(), FrameType::IDR);
        let bytes = stream.to_vec();
        let mut data = Vec::with_capacity(bytes.len() + 16);
        let (mut sequence, mut picture_sets) = (Vec::new(), Vec::new());
        for unit in split_start_codes(&bytes) {
            match unit[0] & 31 {
                7 => sequence.push(unit.to_vec()),
                8 => picture_sets.push(unit.to_vec()),
                _ => {
                    data.extend_from_slice(&(unit.len() as u32).to_be_bytes());
                    data.extend_from_slice(unit);
                }
            }
        }
        if data.is_empty() {
            return Err(Error::encode(
                &self.path,
                format!("openh264 left out picture {}", self.pictures),
            ));
        }
        if self.description.is_none() {
            self.description = Some(describe(
                &self.path,
                yuv.width,
                yuv.height,
                sequence,
                picture_sets,
            )?);
        }
        self.pictures += 1;
        self.packets.push(Encoded { data, key });
        // The first fragment is one picture long, so that the file is a video from then on.
        if !self.header_written
            || self.packets.len() as f64 >= FRAGMENT_SECONDS * self.frames_per_second
        {
            self.write_fragment()?;
        }
        Ok(())
    }

    /// Writes what is still held back.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`] when there is no picture in it, [`Error::Io`].
    pub fn finish(mut self) -> Result<(), Error> {
        if self.pictures == 0 {
            return Err(Error::encode(
                &self.path,
                "a video needs at least one picture",
            ));
        }
        if let Some(sound) = &mut self.sound {
            self.sound_packets.extend(sound.finish()?);
        }
        self.write_fragment()?;
        self.file.sync_all().map_err(Error::io(&self.path))
    }

    fn write_fragment(&mut self) -> Result<(), Error> {
        if self.packets.is_empty() && self.sound_packets.is_empty() {
            return Ok(());
        }
        let units_per_second =
            (self.frames_per_second * f64::from(PICTURE_DURATION)).round() as u32;
        let timescale = NonZeroU32::new(units_per_second).unwrap_or(NonZeroU32::MIN);
        let video_sample = |key, duration, size| Sample {
            track_kind: TrackKind::Video,
            sample_entry: self.description.clone(),
            keyframe: key,
            timescale,
            duration,
            composition_time_offset: None,
            data_offset: 0,
            data_size: size,
        };
        let sound_entry = self.sound.as_ref().map(OpusTrack::describe);
        let sound_sample = |duration, size| Sample {
            track_kind: TrackKind::Audio,
            sample_entry: sound_entry.clone(),
            keyframe: true,
            timescale: OpusTrack::timescale(),
            duration,
            composition_time_offset: None,
            data_offset: 0,
            data_size: size,
        };
        let pictures = self.packets.iter();
        let pictures = pictures.map(|p| video_sample(p.key, PICTURE_DURATION, p.data.len()));
        let sounds = self.sound_packets.iter();
        let sounds = sounds.map(|packet| sound_sample(packet.duration, packet.data.len()));
        let mut samples: Vec<Sample> = pictures.chain(sounds).collect();
        let mut offset = 0;
        for sample in &mut samples {
            sample.data_offset = offset;
            offset += sample.data_size as u64;
        }
        let encode = |error| Error::encode(&self.path, error);
        let mut bytes = Vec::new();
        if !self.header_written {
            // The first sound may come later than the header, which must tell of it all the same.
            let mut tracks = vec![video_sample(true, 0, 0)];
            if self.sound.is_some() {
                tracks.push(sound_sample(0, 0));
            }
            bytes = self.header(&tracks)?;
        }
        bytes.extend(
            self.muxer
                .create_media_segment_metadata(&samples)
                .map_err(encode)?,
        );
        for packet in self.packets.drain(..) {
            bytes.extend_from_slice(&packet.data);
        }
        for packet in self.sound_packets.drain(..) {
            bytes.extend_from_slice(&packet.data);
        }
        // One write, so that a kill can hardly come in between; where the disk is full, the fragments before it stay whole.
        if let Err(error) = self.file.write_all(&bytes) {
            // What comes next, as the sound's end does, is written where this was to be, and not behind a hole.
            let end = SeekFrom::Start(self.length);
            let undone = self.file.set_len(self.length);
            if let Err(error) = undone.and_then(|()| self.file.seek(end)) {
                tracing::warn!("{}: {error}", self.path.display());
            }
            return Err(Error::io(&self.path)(error));
        }
        self.length += bytes.len() as u64;
        self.header_written = true;
        Ok(())
    }

    /// What comes before the first fragment: the tracks that these samples stand for, the sound in step with the pictures.
    fn header(&self, tracks: &[Sample]) -> Result<Vec<u8>, Error> {
        let encode = |error: &dyn std::fmt::Display| Error::encode(&self.path, error);
        let mut muxer = Fmp4SegmentMuxer::new().map_err(|error| encode(&error))?;
        muxer
            .create_media_segment_metadata(tracks)
            .map_err(|error| encode(&error))?;
        let bytes = muxer.init_segment_bytes().map_err(|error| encode(&error))?;
        let Some(sound) = &self.sound else {
            return Ok(bytes);
        };
        let (file_type, used) = FtypBox::decode(&bytes).map_err(|error| encode(&error))?;
        let rest = bytes.get(used..).unwrap_or_default();
        let (mut movie, _) = MoovBox::decode(rest).map_err(|error| encode(&error))?;
        if let Some(track) = movie.trak_boxes.get_mut(1) {
            track.edts_box = Some(sound.edit_list());
        }
        let mut bytes = file_type.encode_to_vec().map_err(|error| encode(&error))?;
        bytes.extend(movie.encode_to_vec().map_err(|error| encode(&error))?);
        Ok(bytes)
    }
}

/// The sample description: parameter sets and colours.
fn describe(
    path: &Path,
    width: usize,
    height: usize,
    sps_list: Vec<Vec<u8>>,
    pps_list: Vec<Vec<u8>>,
) -> Result<SampleEntry, Error> {
    let (Some(&[_, profile, compatibility, level, ..]), false) =
        (sps_list.first().map(Vec::as_slice), pps_list.is_empty())
    else {
        return Err(Error::encode(path, "openh264 gave no parameter sets"));
    };
    // Kind, then BT.709 primaries, transfer and matrix, limited range.
    let colours = [b"nclx".as_slice(), &[0, 1, 0, 1, 0, 1, 0]].concat();
    let kind = BoxType::Normal(*b"colr");
    Ok(SampleEntry::Avc1(Avc1Box {
        visual: VisualSampleEntryFields {
            data_reference_index: VisualSampleEntryFields::DEFAULT_DATA_REFERENCE_INDEX,
            width: width as u16,
            height: height as u16,
            horizresolution: VisualSampleEntryFields::DEFAULT_HORIZRESOLUTION,
            vertresolution: VisualSampleEntryFields::DEFAULT_VERTRESOLUTION,
            frame_count: VisualSampleEntryFields::DEFAULT_FRAME_COUNT,
            compressorname: VisualSampleEntryFields::NULL_COMPRESSORNAME,
            depth: VisualSampleEntryFields::DEFAULT_DEPTH,
        },
        avcc_box: AvccBox {
            avc_profile_indication: profile,
            profile_compatibility: compatibility,
            avc_level_indication: level,
            length_size_minus_one: Uint::new(3),
            sps_list,
            pps_list,
            // Profiles above Main must tell these.
            chroma_format: (profile >= 100).then(|| Uint::new(1)),
            bit_depth_luma_minus8: (profile >= 100).then(|| Uint::new(0)),
            bit_depth_chroma_minus8: (profile >= 100).then(|| Uint::new(0)),
            sps_ext_list: Vec::new(),
        },
        unknown_boxes: vec![UnknownBox {
            box_type: kind,
            box_size: BoxSize::with_payload_size(kind, colours.len() as u64),
            payload: colours,
        }],
    }))
}
