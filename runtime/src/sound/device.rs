//! Sound through the system's own interface, by cpal: CoreAudio, WASAPI, and ALSA where it was asked for.

use super::MIX_RATE;
use super::output::{Feed, Sink};
use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{FromSample, I24, SampleFormat, SizedSample, Stream, StreamConfig, U24};

/// A stream that the system plays.
struct DeviceSink {
    name: String,
    /// The stream ends when it is dropped.
    _stream: Stream,
}

impl Sink for DeviceSink {
    fn name(&self) -> String {
        self.name.clone()
    }
}

/// Plays on the system's default device.
pub(super) fn open(feed: Feed) -> Result<Box<dyn Sink>, String> {
    let host = cpal::default_host();
    let device = host.default_output_device();
    let device = device.ok_or("there is no sound device")?;
    let say = |error: cpal::Error| error.to_string();
    let default = device.default_output_config().map_err(say)?;
    // At the mix rate nothing is resampled but for the clocks' sake.
    let all = device.supported_output_configs().map_err(say)?;
    let same = all
        .filter(|config| config.sample_format() == default.sample_format())
        .filter(|config| config.channels() == default.channels())
        .find_map(|config| config.try_with_sample_rate(MIX_RATE));
    let chosen = same.unwrap_or(default);
    let (format, config) = (chosen.sample_format(), chosen.config());
    feed.set_device_rate(config.sample_rate);
    let start = match format {
        SampleFormat::I8 => start::<i8>,
        SampleFormat::I16 => start::<i16>,
        SampleFormat::I24 => start::<I24>,
        SampleFormat::I32 => start::<i32>,
        SampleFormat::U8 => start::<u8>,
        SampleFormat::U16 => start::<u16>,
        SampleFormat::U24 => start::<U24>,
        SampleFormat::U32 => start::<u32>,
        SampleFormat::F32 => start::<f32>,
        SampleFormat::F64 => start::<f64>,
        other => return Err(format!("the sound device wants samples as {other}")),
    };
    let stream = start(&device, config, feed).map_err(say)?;
    stream.play().map_err(say)?;
    Ok(Box::new(DeviceSink {
        name: device.to_string(),
        _stream: stream,
    }))
}

fn start<T>(device: &cpal::Device, config: StreamConfig, feed: Feed) -> Result<Stream, cpal::Error>
where
    T: SizedSample + FromSample<f32>,
{
    let channels = usize::from(config.channels).max(1);
    let mut samples = Vec::new();
    let fill = move |out: &mut [T], _: &cpal::OutputCallbackInfo| {
        samples.resize(out.len() / channels * 2, 0.0);
        feed.pull(&mut samples);
        for (out, pair) in out.chunks_exact_mut(channels).zip(samples.chunks_exact(2)) {
            match out {
                [only] => *only = T::from_sample((pair[0] + pair[1]) / 2.0),
                // Left and right come first, whatever other speakers there are.
                out => out.iter_mut().enumerate().for_each(|(channel, out)| {
                    *out = T::from_sample(pair.get(channel).copied().unwrap_or(0.0));
                }),
            }
        }
    };
    let failed = |error| tracing::warn!("sound device: {error}");
    device.build_output_stream(config, fill, failed, None)
}
