//! Everything that is not built in, through an `ffmpeg` program on the machine.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use crate::colour::{ColourTags, Matrix};
use crate::y4m::Y4mReader;
use crate::{Error, TimedPicture, VideoReader};

/// Streams that claim more pictures per second than this are asked for again at a usual rate: containers with fine clocks
/// make ffmpeg believe in 1,000 or 90,000.
const HIGHEST_RATE: f64 = 120.0;

/// What ffmpeg is asked for then.
const USUAL_RATE: f64 = 60.0;

/// How long one picture may stay, in seconds. ffmpeg repeats a picture until the next one is due, so that the rate is even: a recording of
/// a still screen needs that, but a damaged time would make it write for hours.
const LONGEST_STAY: f64 = 1.0;

/// Why ffmpeg cannot serve where there is none.
pub(crate) const NOT_ON_PATH: &str = "not on PATH";

/// How much of ffmpeg's complaint is kept, in bytes.
const LONGEST_COMPLAINT: u64 = 4096;

/// Pictures that an ffmpeg process writes to a pipe.
pub(crate) struct FfmpegReader {
    path: PathBuf,
    codec: String,
    process: Process,
    stream: Y4mReader<BufReader<ChildStdout>>,
    pictures: u64,
    ended: bool,
}

impl FfmpegReader {
    /// Starts `program` on `path`. An error says why it cannot serve.
    pub(crate) fn start(program: &str, path: &Path, codec: &str) -> Result<Self, String> {
        let (process, stream) = begin(program, path, None)?;
        let (process, stream) = if stream.rate > HIGHEST_RATE {
            drop((process, stream));
            begin(program, path, Some(USUAL_RATE))?
        } else {
            (process, stream)
        };
        Ok(Self {
            path: path.to_owned(),
            codec: codec.to_owned(),
            process,
            stream,
            pictures: 0,
            ended: false,
        })
    }

    fn damaged(&mut self, reason: String) -> Error {
        self.ended = true;
        Error::Damaged {
            path: self.path.clone(),
            codec: self.codec.clone(),
            pictures_read: self.pictures,
            pictures_lost: 0,
            reason,
        }
    }
}

fn begin(
    program: &str,
    path: &Path,
    rate: Option<f64>,
) -> Result<(Process, Y4mReader<BufReader<ChildStdout>>), String> {
    let (mut process, output) = Process::start(program, path, rate)?;
    let tags = ColourTags {
        matrix: Some(Matrix::Bt709),
        full_range: Some(false),
    };
    match Y4mReader::new(BufReader::with_capacity(1 << 18, output), tags) {
        Ok(Some(stream)) => Ok((process, stream)),
        Ok(None) => Err(process.complaint()),
        Err(error) => Err(error.to_string()),
    }
}

impl VideoReader for FfmpegReader {
    fn codec(&self) -> &str {
        &self.codec
    }

    fn frame_count_hint(&self) -> Option<u64> {
        None
    }

    fn next_picture(&mut self) -> Result<Option<TimedPicture>, Error> {
        if self.ended {
            return Ok(None);
        }
        match self.stream.next_picture() {
            Ok(Some(picture)) => {
                let seconds = self.pictures as f64 / self.stream.rate;
                self.pictures += 1;
                Ok(Some(TimedPicture {
                    picture: picture.to_rgb(),
                    seconds,
                }))
            }
            Ok(None) => {
                self.ended = true;
                if self.process.succeeded() {
                    return Ok(None);
                }
                let complaint = self.process.complaint();
                Err(self.damaged(complaint))
            }
            Err(error) => Err(self.damaged(format!("ffmpeg: {error}"))),
        }
    }
}

/// A running ffmpeg; it ends with this value.
struct Process {
    child: Child,
    errors: Option<JoinHandle<String>>,
}

impl Process {
    fn start(program: &str, path: &Path, rate: Option<f64>) -> Result<(Self, ChildStdout), String> {
        // With "file:" before it, no name can be taken for an option or a network address.
        let mut input = std::ffi::OsString::from("file:");
        input.push(path);
        let stay = format!(
            "setpts=if(isnan(PREV_OUTPTS)\\,0\\,PREV_OUTPTS+clip(PTS-PREV_INPTS\\,0\\,{LONGEST_STAY}/TB))"
        );
        let rate = rate.map_or_else(String::new, |rate| format!("fps={rate},"));
        let filter = format!(
            "{stay},{rate}scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int,format=yuv444p"
        );
        let mut child = Command::new(program)
            .args([
                "-v",
                "error",
                "-nostdin",
                "-protocol_whitelist",
                "file,pipe",
                "-i",
            ])
            .arg(input)
            .args(["-map", "0:v:0", "-vf", &filter, "-f", "yuv4mpegpipe", "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => NOT_ON_PATH.to_owned(),
                _ => error.to_string(),
            })?;
        let errors = child
            .stderr
            .take()
            .map(|stderr| std::thread::spawn(move || read_complaint(stderr)));
        let output = child.stdout.take();
        let process = Self { child, errors };
        output
            .map(|output| (process, output))
            .ok_or_else(|| "it has no output".to_owned())
    }

    fn succeeded(&mut self) -> bool {
        self.child.wait().is_ok_and(|status| status.success())
    }

    /// What ffmpeg said on its way out.
    fn complaint(&mut self) -> String {
        let _ = self.child.wait();
        let text = self
            .errors
            .take()
            .and_then(|errors| errors.join().ok())
            .unwrap_or_default();
        text.lines()
            .map(str::trim)
            .rfind(|line| !line.is_empty())
            .map_or_else(|| "it gave no picture".to_owned(), str::to_owned)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself already; either way it must not stay behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_complaint(mut stderr: impl Read) -> String {
    let mut kept = Vec::new();
    let _ = stderr
        .by_ref()
        .take(LONGEST_COMPLAINT)
        .read_to_end(&mut kept);
    // The rest is read as well, or ffmpeg would wait for it forever.
    let _ = std::io::copy(&mut stderr, &mut std::io::sink());
    String::from_utf8_lossy(&kept).into_owned()
}
