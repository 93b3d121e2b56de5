//! Sound tracks of videos, judged by other people's decoder where there is one.

use std::path::Path;
use std::process::{Command, Stdio};

use media::{Mp4Writer, OPUS_RATE, Picture};

const RATE: f64 = 15.0;

/// Pairs of samples of frame `number`; no rounding error adds up.
fn range(number: u32) -> std::ops::Range<usize> {
    let at = |frame: u32| (f64::from(frame) / RATE * f64::from(OPUS_RATE)).round() as usize;
    at(number)..at(number + 1)
}

/// A melody with a click at the start of every tenth frame, different left and right.
fn samples(pairs: std::ops::Range<usize>) -> Vec<f32> {
    let tone = |i: usize, hertz: f64| {
        (i as f64 / f64::from(OPUS_RATE) * hertz * std::f64::consts::TAU).sin() as f32
    };
    pairs
        .flat_map(|i| {
            let note = 220.0 + 55.0 * (i / 12_000 % 7) as f64;
            let since = i % (10 * 3200);
            let click = 0.5 * tone(i, 1500.0) * (-(since as f32) / 400.0).exp();
            [
                0.2 * tone(i, note) + click,
                0.2 * tone(i, note * 1.5) + click,
            ]
        })
        .collect()
}

fn picture(number: u32) -> Picture {
    let value = (number * 5 % 200) as u8;
    Picture::new(64, 64, [value, 255 - value, 90].repeat(64 * 64)).unwrap()
}

fn write(path: &Path, frames: u32) -> Vec<f32> {
    let mut writer = Mp4Writer::create_with_sound(path, 64, 64, RATE).unwrap();
    let mut all = Vec::new();
    for number in 0..frames {
        let sound = samples(range(number));
        writer.write_sound(&sound).unwrap();
        writer.write(&picture(number)).unwrap();
        all.extend(sound);
    }
    writer.finish().unwrap();
    all
}

fn pictures(path: &Path) -> usize {
    let mut reader = media::open(path).unwrap();
    let mut count = 0;
    while let Some(timed) = reader.next_picture().unwrap() {
        assert!((timed.seconds - count as f64 / RATE).abs() < 1e-6);
        count += 1;
    }
    count
}

/// Runs a program of ffmpeg's; `None`, with a word, where it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<Vec<u8>> {
    let command = Command::new(program)
        .args(["-v", "error"])
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    match command {
        Err(error) => {
            eprintln!("skipped: {program}: {error}");
            None
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success() && said.is_empty(),
                "{program}: {said}"
            );
            Some(output.stdout)
        }
    }
}

/// The sound as ffmpeg decodes it.
fn decoded(path: &Path) -> Option<Vec<f32>> {
    let path = path.to_str().unwrap();
    let arguments = [
        "-i", path, "-map", "0:a:0", "-f", "f32le", "-ar", "48000", "-ac", "2", "-",
    ];
    let bytes = run("ffmpeg", &arguments)?;
    let floats = bytes.chunks_exact(4);
    Some(
        floats
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
    )
}

/// Signal to noise, in dB, of `heard` taken `delay` pairs later than `sent`.
fn signal_to_noise(sent: &[f32], heard: &[f32], delay: isize) -> f64 {
    let (mut power, mut noise) = (0.0, 0.0);
    for (index, &sample) in sent.iter().enumerate() {
        let at = index.checked_add_signed(delay * 2);
        if let Some(&other) = at.and_then(|at| heard.get(at)) {
            power += f64::from(sample).powi(2);
            noise += f64::from(sample - other).powi(2);
        }
    }
    10.0 * (power / noise.max(1e-12)).log10()
}

/// The delay in pairs, within 10 ms, at which `heard` is most like `sent`.
fn delay(sent: &[f32], heard: &[f32]) -> isize {
    let worth = |delay: &isize| (signal_to_noise(sent, heard, *delay) * 1e6) as i64;
    (-480..=480).max_by_key(worth).unwrap()
}

#[test]
fn a_video_with_sound_is_still_a_video() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    write(&path, 40);
    assert_eq!(pictures(&path), 40);
    let mut silent = Mp4Writer::create(&path, 64, 64, RATE).unwrap();
    assert!(silent.write_sound(&[0.0; 2]).is_err());
}

#[test]
fn another_decoder_hears_what_was_sent_and_when() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    let sent = write(&path, 64);
    let Some(heard) = decoded(&path) else {
        return;
    };
    assert_eq!(delay(&sent[..96_000], &heard), 0);
    let ratio = signal_to_noise(&sent, &heard, 0);
    assert!(ratio > 18.0, "{ratio:.1} dB");
    let difference = heard.len().abs_diff(sent.len()) / 2;
    assert!(difference <= 960, "{difference} pairs too many or too few");
}

#[test]
fn another_demultiplexer_finds_two_tracks_in_step_or_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    write(&path, 45);
    let entries = "stream=codec_name,start_time,duration,nb_read_packets:format=duration";
    let arguments = ["-count_packets", "-show_entries", entries, "-of", "default"];
    let probe = |path: &Path| {
        let arguments = [&arguments[..], &[path.to_str().unwrap()]].concat();
        run("ffprobe", &arguments).map(|text| String::from_utf8(text).unwrap())
    };
    let Some(text) = probe(&path) else {
        return;
    };
    let values = |key: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(key));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(values("codec_name="), ["h264", "opus"], "{text}");
    assert_eq!(values("nb_read_packets=")[0], "45", "{text}");
    for start in values("start_time=") {
        let start: f64 = start.parse().unwrap();
        assert!(start.abs() < 0.008, "{text}");
    }
    let length: f64 = values("duration=").last().unwrap().parse().unwrap();
    assert!((length - 3.0).abs() < 0.03, "{text}");

    let silent = folder.path().join("b.mp4");
    let mut writer = Mp4Writer::create(&silent, 64, 64, RATE).unwrap();
    (0..4).for_each(|number| writer.write(&picture(number)).unwrap());
    writer.finish().unwrap();
    assert!(!probe(&silent).unwrap().contains("opus"));
}

#[test]
fn a_recording_that_was_killed_is_heard_up_to_its_last_fragment() {
    let folder = tempfile::tempdir().unwrap();
    let (path, cut) = (folder.path().join("a.mp4"), folder.path().join("b.mp4"));
    let mut writer = Mp4Writer::create_with_sound(&path, 64, 64, RATE).unwrap();
    let mut sent = Vec::new();
    for number in 0..50 {
        let sound = samples(range(number));
        writer.write_sound(&sound).unwrap();
        writer.write(&picture(number)).unwrap();
        sent.extend(sound);
        // From the first picture on, the file says that there is sound.
        if number == 0 || number == 41 {
            std::fs::copy(&path, &cut).unwrap();
            let seen = pictures(&cut);
            assert!(
                seen as u32 <= number + 1 && seen as u32 + 8 > number,
                "{seen}"
            );
        }
    }
    let Some(heard) = decoded(&cut) else {
        return;
    };
    let least = 2 * range(41 - 8).start;
    assert!(heard.len() >= least, "{} of {least}", heard.len());
    assert!(signal_to_noise(&sent[..least], &heard, 0) > 18.0);
}
