//! Drives openh264 through its raw interface: the safe wrapper gives no presentation times, and with B-frames times are
//! the only sure link between a picture and its packet.

use std::collections::VecDeque;
use std::ptr::null_mut;

use openh264::OpenH264API;
use openh264::decoder::{Decoder, DecoderConfig, Flush};
use openh264_sys2::{
    DECODER_OPTION_NUM_OF_FRAMES_REMAINING_IN_BUFFER, SBufferInfo, dsDataErrorConcealed,
    dsErrorFree, dsFramePending, videoFormatI420,
};

use super::{Configuration, SequenceParameters, holds_unit, length_prefixed_to_start_codes};
use crate::colour::{Plane, YuvPicture};
use crate::packets::{Decoded, PacketDecoder};

/// Reordering assumed of streams that may have B-frames and do not say how many: openh264 already sorts most of it.
const USUAL_REORDER_DEPTH: u32 = 4;

/// Decodes the packets of an H.264 track.
pub(crate) struct H264Decoder {
    decoder: Decoder,
    /// The record that the configuration was read from.
    record: Vec<u8>,
    configuration: Configuration,
    parameters: Option<SequenceParameters>,
    units: Vec<u8>,
    started: bool,
}

impl H264Decoder {
    /// A decoder for the track that the `avcC` record describes; an error says why openh264 cannot take it.
    pub(crate) fn new(record: &[u8]) -> Result<Self, String> {
        let configuration = Configuration::parse(record)?;
        let parameters = configuration.sequence().transpose()?;
        if let Some(obstacle) = parameters.as_ref().and_then(SequenceParameters::obstacle) {
            return Err(obstacle);
        }
        let options = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
        let decoder = Decoder::with_api_config(OpenH264API::from_source(), options)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            decoder,
            record: record.to_vec(),
            configuration,
            parameters,
            units: Vec::new(),
            started: false,
        })
    }

    /// Gives openh264 the collected units, or with `None` tells it that they are complete.
    fn feed(
        &mut self,
        packet: u64,
        units: Option<&[u8]>,
        out: &mut VecDeque<Decoded>,
    ) -> Result<(), String> {
        let mut planes = [null_mut::<u8>(); 3];
        let mut info = SBufferInfo {
            uiInBsTimeStamp: packet,
            ..SBufferInfo::default()
        };
        let (start, length) =
            units.map_or((std::ptr::null(), 0), |units| (units.as_ptr(), units.len()));
        let length = i32::try_from(length).map_err(|_| "a packet is over 2 GiB".to_owned())?;
        // SAFETY: `start` points to `length` readable bytes (or is null with length 0, which means "no more units"), and
        // `planes` and `info` are valid for writing. No option that the wrapper relies on is changed.
        let state = unsafe {
            self.decoder
                .raw_api()
                .decode_frame2(start, length, planes.as_mut_ptr(), &raw mut info)
        };
        self.collect(planes, &info, out)?;
        let failure = state & !(dsFramePending | dsDataErrorConcealed);
        if failure != dsErrorFree {
            return Err(describe(failure));
        }
        Ok(())
    }

    /// Copies the picture that openh264 may have left in `planes`.
    fn collect(
        &self,
        planes: [*mut u8; 3],
        info: &SBufferInfo,
        out: &mut VecDeque<Decoded>,
    ) -> Result<(), String> {
        if info.iBufferStatus != 1 || planes.iter().any(|plane| plane.is_null()) {
            return Ok(());
        }
        // SAFETY: `iBufferStatus` is 1, so openh264 has filled in the system buffer, the only member it ever fills.
        let buffer = unsafe { info.UsrData.sSystemBuffer };
        let size = |value: i32| usize::try_from(value).unwrap_or(0);
        let (width, height) = (size(buffer.iWidth), size(buffer.iHeight));
        let strides = [buffer.iStride[0], buffer.iStride[1], buffer.iStride[1]].map(size);
        let halves = (width.div_ceil(2), height.div_ceil(2));
        let sizes = [(width, height), halves, halves];
        if width == 0
            || height == 0
            || buffer.iFormat != videoFormatI420
            || sizes
                .iter()
                .zip(strides)
                .any(|(size, stride)| stride < size.0)
        {
            return Err(format!(
                "openh264 gave a picture of {width}x{height} in format {}",
                buffer.iFormat
            ));
        }
        let plane = |index: usize| {
            let (width, height) = sizes[index];
            let length = strides[index] * (height - 1) + width;
            // SAFETY: openh264 gives planes of `height` rows that lie a stride apart, the last at least `width` long; they
            // stay untouched until the decoder is called again, which needs `&mut self`.
            let data = unsafe { std::slice::from_raw_parts(planes[index], length) };
            rows(data, strides[index], width)
        };
        let parameters = self.parameters.as_ref();
        // Grey video has no chroma, and openh264 leaves in its planes whatever was there.
        let grey = parameters.is_some_and(|parameters| parameters.chroma_format == 0);
        let chroma = |index| match grey {
            true => Plane::default(),
            false => plane(index),
        };
        let picture = YuvPicture {
            width,
            height,
            luma: plane(0),
            chroma: [chroma(1), chroma(2)],
            halved: (true, true),
            tags: parameters
                .map(|parameters| parameters.colour)
                .unwrap_or_default(),
        };
        out.push_back(Decoded {
            packet: info.uiOutYuvTimeStamp,
            picture,
        });
        Ok(())
    }
}

fn rows(data: &[u8], stride: usize, width: usize) -> Plane {
    let mut samples = Vec::with_capacity(data.len());
    for row in data.chunks(stride) {
        samples.extend_from_slice(&row[..width.min(row.len())]);
    }
    Plane { width, samples }
}

impl PacketDecoder for H264Decoder {
    fn codec(&self) -> &'static str {
        "H.264"
    }

    fn decode(
        &mut self,
        packet: u64,
        data: &[u8],
        out: &mut VecDeque<Decoded>,
    ) -> Result<(), String> {
        let mut units = std::mem::take(&mut self.units);
        units.clear();
        if !self.started {
            for set in &self.configuration.parameter_sets {
                units.extend_from_slice(&[0, 0, 0, 1]);
                units.extend_from_slice(set);
            }
            self.started = true;
        }
        length_prefixed_to_start_codes(data, self.configuration.length_bytes, &mut units)?;
        if self.parameters.is_none() {
            let within = super::split_start_codes(&units)
                .into_iter()
                .find(|unit| unit[0] & 31 == 7);
            if let Some(parameters) = within.map(SequenceParameters::parse).transpose()? {
                if let Some(obstacle) = parameters.obstacle() {
                    return Err(obstacle);
                }
                self.parameters = Some(parameters);
            }
        }
        // The first call parses the units, the second says that the picture is complete; either may give a picture.
        let parsed = self.feed(packet, Some(&units), out);
        let completed = self.feed(packet, None, out);
        self.units = units;
        parsed.and(completed)
    }

    fn flush(&mut self, out: &mut VecDeque<Decoded>) -> Result<(), String> {
        let mut remaining = 0i32;
        // SAFETY: this option is read as an `int`, and `remaining` is valid for writing one.
        unsafe {
            let target = (&raw mut remaining).cast();
            self.decoder
                .raw_api()
                .get_option(DECODER_OPTION_NUM_OF_FRAMES_REMAINING_IN_BUFFER, target);
        }
        for _ in 0..remaining.clamp(0, 64) {
            let mut planes = [null_mut::<u8>(); 3];
            let mut info = SBufferInfo::default();
            // SAFETY: `planes` and `info` are valid for writing.
            unsafe {
                self.decoder
                    .raw_api()
                    .flush_frame(planes.as_mut_ptr(), &raw mut info)
            };
            self.collect(planes, &info, out)?;
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), String> {
        *self = Self::new(&self.record)?;
        Ok(())
    }

    fn can_start_at(&self, data: &[u8]) -> bool {
        /// A slice of a picture that refers to no other.
        const IDR_SLICE: u8 = 5;
        holds_unit(data, self.configuration.length_bytes, IDR_SLICE)
    }

    fn size(&self) -> Option<(u64, u64)> {
        self.parameters
            .as_ref()
            .map(|parameters| (parameters.width, parameters.height))
    }

    fn reorder_depth(&self) -> usize {
        let Some(parameters) = &self.parameters else {
            return USUAL_REORDER_DEPTH as usize;
        };
        // Profile 66 is Baseline, which has no B-frames.
        let assumed = if parameters.profile == 66 {
            0
        } else {
            USUAL_REORDER_DEPTH
        };
        parameters.reorder_depth.unwrap_or(assumed) as usize
    }
}

/// The decoder's state in words.
fn describe(state: i32) -> String {
    let flags = [
        (0x02, "a reference picture is missing"),
        (0x04, "the bit stream is broken"),
        (0x08, "a layer is missing"),
        (0x10, "parameter sets are missing"),
        (0x1000, "an invalid argument"),
        (0x4000, "out of memory"),
    ];
    let words: Vec<&str> = flags
        .iter()
        .filter(|(flag, _)| state & flag != 0)
        .map(|(_, words)| *words)
        .collect();
    if words.is_empty() {
        format!("openh264 reports state {state:#x}")
    } else {
        words.join(", ")
    }
}
