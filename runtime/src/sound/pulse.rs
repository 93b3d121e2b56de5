//! Sound through PulseAudio, or PipeWire, which speaks the same protocol. No library of the system's is needed.

use super::MIX_RATE;
use super::output::{Feed, Sink};
use pulseaudio::protocol::stream::{BufferAttr, StreamFlags};
use pulseaudio::protocol::{
    ChannelMap, ChannelVolume, DEFAULT_SINK, PlaybackStreamParams, SampleFormat, SampleSpec,
};
use pulseaudio::{AsPlaybackSource, Client, PlaybackStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Bytes of the secret that tells the server who is calling.
const COOKIE: usize = 256;
/// Bytes of a sample pair.
const PAIR: usize = 8;
/// Sample pairs between the buffer and the speakers: 25 ms.
const LATENCY: u32 = MIX_RATE / 40;
/// Longest time that the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A stream that a sound server plays.
struct PulseSink {
    name: String,
    /// The stream ends when it is dropped.
    _stream: PlaybackStream,
    _client: Client,
}

impl Sink for PulseSink {
    fn name(&self) -> String {
        self.name.clone()
    }
}

/// Plays on the user's sound server.
pub(super) fn open(feed: Feed) -> Result<Box<dyn Sink>, String> {
    let none = "there is no sound server: neither PulseAudio nor PipeWire (pipewire-pulse) runs for this user";
    let path = pulseaudio::socket_path_from_env().ok_or(none)?;
    open_at(&path, feed)
}

/// Plays on the sound server behind this socket.
pub(super) fn open_at(path: &Path, feed: Feed) -> Result<Box<dyn Sink>, String> {
    let failed = |error: &dyn std::error::Error| {
        let why = error.source().map(|source| format!(": {source}"));
        format!(
            "sound server at {}: {error}{}",
            path.display(),
            why.unwrap_or_default()
        )
    };
    let socket = UnixStream::connect(path).map_err(|error| failed(&error))?;
    for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
        set(&socket, Some(PATIENCE)).map_err(|error| failed(&error))?;
    }
    // A server that lets everybody in still hangs up on a cookie of another length.
    let cookie = pulseaudio::cookie_path_from_env().and_then(|path| std::fs::read(path).ok());
    let cookie = cookie.filter(|cookie| cookie.len() == COOKIE);
    let cookie = Some(cookie.unwrap_or_else(|| vec![0; COOKIE]));
    let client = Client::new_unix(c"Djinn", socket, cookie).map_err(|error| failed(&error))?;
    feed.set_device_rate(MIX_RATE);
    let buffer_attr = BufferAttr {
        target_length: LATENCY * PAIR as u32,
        minimum_request_length: LATENCY / 4 * PAIR as u32,
        ..BufferAttr::default()
    };
    let parameters = PlaybackStreamParams {
        sample_spec: SampleSpec {
            format: SampleFormat::Float32Le,
            channels: 2,
            sample_rate: MIX_RATE,
        },
        channel_map: ChannelMap::stereo(),
        sink_name: Some(DEFAULT_SINK.to_owned()),
        cvolume: Some(ChannelVolume::norm(2)),
        buffer_attr,
        flags: StreamFlags {
            adjust_latency: true,
            ..StreamFlags::default()
        },
        ..PlaybackStreamParams::default()
    };
    let mut samples = Vec::new();
    let source = move |bytes: &mut [u8]| {
        samples.resize(bytes.len() / PAIR * 2, 0.0);
        feed.pull(&mut samples);
        for (bytes, sample) in bytes.chunks_exact_mut(4).zip(&samples) {
            bytes.copy_from_slice(&f32::to_le_bytes(*sample));
        }
        bytes.len()
    };
    let made = client.create_playback_stream(parameters, source.as_playback_source());
    let stream = pollster::block_on(made).map_err(|error| failed(&error))?;
    Ok(Box::new(PulseSink {
        name: format!("the sound server at {}", path.display()),
        _stream: stream,
        _client: client,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sound::SoundOutput;
    use std::io::{Read, Write};
    use std::process::{Child, Command, Stdio};
    use std::sync::mpsc::channel;
    use std::time::Instant;

    /// A sound server of our own whose only speakers are a file.
    struct Server {
        process: Child,
        socket: std::path::PathBuf,
        _folder: tempfile::TempDir,
    }

    impl Server {
        /// Starts it; what is missing where that cannot be done.
        fn start() -> Result<Self, String> {
            let folder = tempfile::tempdir().unwrap();
            let socket = folder.path().join("native");
            let protocol = format!(
                "module-native-protocol-unix auth-anonymous=1 socket={}",
                socket.display()
            );
            let speakers = "module-null-sink sink_name=speakers rate=48000 format=float32le";
            let process = Command::new("pulseaudio")
                .args([
                    "-n",
                    "--daemonize=no",
                    "--exit-idle-time=-1",
                    "--use-pid-file=no",
                ])
                .args(["-L", speakers, "-L", &protocol])
                .env("HOME", folder.path())
                .env("XDG_RUNTIME_DIR", folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .map_err(|error| format!("pulseaudio: {error}"))?;
            let server = Self {
                process,
                socket,
                _folder: folder,
            };
            let begun = Instant::now();
            while !server.socket.exists() {
                if begun.elapsed() > Duration::from_secs(20) {
                    return Err("pulseaudio does not start here".into());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(server)
        }

        /// Records what is heard until the server ends.
        fn listen(&self) -> Result<Child, String> {
            Command::new("parec")
                .arg(format!("--server=unix:{}", self.socket.display()))
                .args(["-d", "speakers.monitor", "--raw", "--format=float32le"])
                .args(["--rate=48000", "--channels=2", "--latency-msec=10"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .map_err(|error| format!("parec: {error}"))
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    /// Soft noise that is nowhere like itself, so that its place is found in what was heard.
    fn noise(pairs: usize) -> Vec<f32> {
        let mut state = 1u32;
        let mut smooth = 0.0f32;
        (0..pairs)
            .flat_map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                smooth += 0.2 * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0 - smooth);
                [smooth, -smooth]
            })
            .collect()
    }

    /// How alike two stretches are, from -1 to 1.
    fn likeness(a: &[f32], b: &[f32]) -> f64 {
        let sum = |a: &[f32], b: &[f32]| -> f64 {
            let pairs = a.iter().zip(b);
            pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        sum(a, b) / (sum(a, a) * sum(b, b)).sqrt().max(1e-9)
    }

    #[test]
    fn a_sound_server_plays_what_was_sent() {
        let server = Server::start();
        let heard = server.and_then(|server| server.listen().map(|parec| (server, parec)));
        let (server, mut parec) = match heard {
            Ok(started) => started,
            Err(why) => {
                let _ = writeln!(std::io::stderr(), "SKIPPED: a sound server's test: {why}");
                return;
            }
        };
        let (opened, was_opened) = channel();
        let socket = server.socket.clone();
        let open = move |feed| {
            let sink = open_at(&socket, feed);
            opened
                .send(sink.as_ref().map(|sink| sink.name()).map_err(Clone::clone))
                .unwrap_or_default();
            sink
        };
        let output = SoundOutput::on(open, Duration::from_secs(60));
        let name = was_opened.recv().unwrap().unwrap();
        assert!(name.contains("native"), "{name}");

        let mut pipe = parec.stdout.take().unwrap();
        let listener = std::thread::spawn(move || {
            let (mut bytes, mut block) = (Vec::new(), [0; 4096]);
            while let Ok(count @ 1..) = pipe.read(&mut block) {
                bytes.extend(&block[..count]);
            }
            let floats = bytes.chunks_exact(4);
            floats
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect::<Vec<f32>>()
        });
        // Five seconds, a frame at a time.
        let frame = MIX_RATE as usize / 15;
        let sent = noise(75 * frame);
        let begun = Instant::now();
        for (number, samples) in sent.chunks(2 * frame).enumerate() {
            let due = Duration::from_secs_f64(number as f64 / 15.0);
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            output.push(samples);
        }
        std::thread::sleep(Duration::from_millis(500));
        drop(output);
        drop(server);
        let _ = parec.kill();
        let _ = parec.wait();
        let heard = listener.join().unwrap();

        // Once the clocks have found each other, most of it is there, in its order. A machine that is busy with other things may leave gaps.
        let stretch = 2 * 480;
        let late = sent.chunks_exact(stretch).enumerate().skip(350).step_by(10);
        let (mut found, mut wanted, mut lag) = (0, 0, None);
        for (number, samples) in late {
            wanted += 1;
            let at = number * stretch;
            let places = match lag {
                // Where the one before was, give or take 50 ms.
                Some(lag) => {
                    let near = at.saturating_add_signed(lag);
                    near.saturating_sub(4800)..near + 4800
                }
                None => 0..heard.len(),
            };
            let until = places.end.min(heard.len().saturating_sub(stretch));
            let alike = (places.start / 2 * 2..until).step_by(2);
            let alike = alike.map(|place| (place, likeness(samples, &heard[place..][..stretch])));
            if let Some((place, likeness)) = alike.max_by(|a, b| a.1.total_cmp(&b.1))
                && likeness > 0.9
            {
                found += 1;
                lag = Some(place as isize - at as isize);
            }
        }
        assert!(2 * found > wanted, "{found} of {wanted} were heard");
        let loudest = |samples: &[f32]| samples.iter().fold(0.0f32, |m, s| m.max(s.abs()));
        let (sent, heard) = (loudest(&sent), loudest(&heard));
        assert!(
            (sent - heard).abs() < 0.15 * sent,
            "{sent} sent, {heard} heard"
        );
    }

    #[test]
    fn where_there_is_no_server_the_reason_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("native");
        let why = open_at(&path, Feed::default()).err().unwrap();
        assert!(
            why.starts_with("sound server at ") && why.contains("native"),
            "{why}"
        );
        // Something that takes the call and hangs up.
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let hang_up = std::thread::spawn(move || drop(listener.accept()));
        assert!(open_at(&path, Feed::default()).is_err());
        hang_up.join().unwrap();
    }
}
