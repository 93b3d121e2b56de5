//! Every built-in demultiplexer and decoder on small files made by other encoders.
//!
//! Picture n of each file has brightness 12 n in its left half and patches of red, green, blue and white in the right one, ten pictures
//! a second: order, times and colours can be told from the pictures alone. `test_data/README.md` tells how the files were made.

use std::path::{Path, PathBuf};

use media::{Error, Picture, TimedPicture};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("test_data")
        .join(name)
}

fn read(path: &Path) -> Result<(String, Vec<TimedPicture>), Error> {
    let mut reader = media::open(path)?;
    let mut pictures = Vec::new();
    while let Some(picture) = reader.next_picture()? {
        pictures.push(picture);
    }
    Ok((reader.codec().to_owned(), pictures))
}

fn pixel(picture: &Picture, x: usize, y: usize) -> [u8; 3] {
    let at = x * 3;
    let row = picture.row(y as u32);
    [row[at], row[at + 1], row[at + 2]]
}

fn assert_close(got: [u8; 3], wanted: [u8; 3], tolerance: u8, what: &str) {
    let close = got
        .iter()
        .zip(wanted)
        .all(|(a, b)| a.abs_diff(b) <= tolerance);
    assert!(close, "{what}: {got:?} instead of {wanted:?}");
}

fn check(name: &str, codec: &str, tolerance: u8) {
    let (found, pictures) = read(&data(name)).unwrap();
    assert_eq!(found, codec, "{name}");
    assert_eq!(pictures.len(), 16, "{name}");
    for (number, timed) in pictures.iter().enumerate() {
        let what = format!("{name}, picture {number}");
        let picture = &timed.picture;
        assert_eq!((picture.width, picture.height), (64, 64), "{what}");
        assert!(
            (timed.seconds - number as f64 / 10.0).abs() < 0.0015,
            "{what} at {}",
            timed.seconds
        );
        assert_close(
            pixel(picture, 12, 30),
            [12 * number as u8; 3],
            tolerance,
            &what,
        );
        let patches = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255; 3]];
        for (index, wanted) in patches.into_iter().enumerate() {
            assert_close(
                pixel(picture, 48, index * 16 + 8),
                wanted,
                tolerance,
                &format!("{what}, patch {index}"),
            );
        }
    }
}

#[test]
fn h264_with_b_frames_in_matroska() {
    check("h264_b_frames.mkv", "H.264", 8);
}

#[test]
fn h264_with_b_frames_and_edit_list_in_mp4_full_range_bt601() {
    check("h264_b_frames.mp4", "H.264", 8);
}

#[test]
fn h264_without_colour_is_grey() {
    let (_, pictures) = read(&data("h264_grey.mp4")).unwrap();
    assert_eq!(pictures.len(), 16);
    for (number, timed) in pictures.iter().enumerate() {
        assert_close(
            pixel(&timed.picture, 12, 30),
            [12 * number as u8; 3],
            8,
            &format!("picture {number}"),
        );
        for pixel in timed.picture.rgb.chunks_exact(3) {
            assert!(pixel[0] == pixel[1] && pixel[1] == pixel[2], "{pixel:?}");
        }
    }
}

/// A copy of an MP4 file whose header says that it is shown turned by the matrix `a b c d`.
fn turned(folder: &Path, matrix: [i32; 4]) -> PathBuf {
    let mut bytes = std::fs::read(data("h264_b_frames.mp4")).unwrap();
    let header = bytes.windows(4).position(|kind| kind == b"tkhd").unwrap();
    // Version 0: the matrix follows 40 bytes after the kind.
    let start = header + 4 + 40;
    for (index, value) in [(0, 0), (1, 1), (3, 2), (4, 3)] {
        let fixed = matrix[value] << 16;
        bytes[start + index * 4..][..4].copy_from_slice(&fixed.to_be_bytes());
    }
    let path = folder.join("turned.mp4");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn the_display_matrix_of_mp4_turns_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let upright = read(&data("h264_b_frames.mp4")).unwrap().1;
    let upright = &upright[9].picture;
    type Place = fn(usize, usize) -> (usize, usize);
    let turns: [([i32; 4], Place); 4] = [
        ([1, 0, 0, 1], |x, y| (x, y)),
        ([0, 1, -1, 0], |x, y| (63 - y, x)),
        ([-1, 0, 0, -1], |x, y| (63 - x, 63 - y)),
        ([0, -1, 1, 0], |x, y| (y, 63 - x)),
    ];
    for (matrix, place) in turns {
        let pictures = read(&turned(folder.path(), matrix)).unwrap().1;
        assert_eq!(pictures.len(), 16);
        // The grey half, and the red patch in the upper right corner.
        for (x, y) in [(12, 30), (48, 8)] {
            let (to_x, to_y) = place(x, y);
            assert_eq!(
                pixel(&pictures[9].picture, to_x, to_y),
                pixel(upright, x, y),
                "{matrix:?}"
            );
        }
    }
}

#[test]
fn h264_in_quicktime_without_colour_tags() {
    check("h264_untagged.mov", "H.264", 8);
}

#[test]
fn av1_in_webm() {
    check("av1.webm", "AV1", 8);
}

#[test]
fn av1_in_mp4() {
    check("av1.mp4", "AV1", 10);
}

#[test]
fn av1_of_10_bits_in_matroska() {
    check("av1_10_bit.mkv", "AV1", 8);
}

/// VP9 is not built in: these two go through ffmpeg, where there is one.
fn with_ffmpeg(path: &Path) -> Option<Vec<TimedPicture>> {
    match read(path) {
        Ok((_, pictures)) => Some(pictures),
        Err(error)
            if std::process::Command::new("ffmpeg")
                .arg("-version")
                .output()
                .is_err() =>
        {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_is_not_built_in_goes_through_ffmpeg() {
    if let Some(pictures) = with_ffmpeg(&data("vp9.webm")) {
        assert_eq!(pictures.len(), 16);
        assert!((pictures[15].seconds - 1.5).abs() < 1e-9);
    }
}

#[test]
fn a_damaged_time_does_not_make_a_picture_stay_for_long() {
    let mut bytes = std::fs::read(data("vp9.webm")).unwrap();
    // The last block of the file: 1,500 ms (0x05dc) after its cluster becomes 32,732.
    let block = b"\xa3\x9a\x81\x05\xdc";
    let at = bytes
        .windows(block.len())
        .position(|window| window == block)
        .unwrap();
    bytes[at + 3] = 0x7f;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("late.webm");
    std::fs::write(&path, bytes).unwrap();
    if let Some(pictures) = with_ffmpeg(&path) {
        // Its last picture comes a second after the one before it, not half a minute.
        assert!((20..30).contains(&pictures.len()), "{}", pictures.len());
    }
}

#[test]
fn apng_keeps_its_times() {
    check("animation.apng", "APNG", 0);
}

#[test]
fn animated_webp_keeps_its_times() {
    // The decoder rounds when it lays one picture over another.
    check("animation.webp", "WebP", 1);
}

#[test]
fn what_it_is_is_told_by_content_not_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("really_matroska.gif");
    std::fs::copy(data("h264_b_frames.mkv"), &path).unwrap();
    assert_eq!(read(&path).unwrap().0, "H.264");
}

#[test]
fn what_cannot_be_read_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.mp4");
    std::fs::write(&empty, []).unwrap();
    let message = read(&empty).unwrap_err().to_string();
    assert!(message.contains("the file is empty"), "{message}");
    assert!(matches!(
        read(&folder.path().join("missing.mp4")),
        Err(Error::Io { .. })
    ));
    let text = folder.path().join("text.mp4");
    std::fs::write(&text, "this is no video, whatever its name says").unwrap();
    let message = read(&text).unwrap_err().to_string();
    assert!(
        message.contains("text.mp4") && message.contains("ffmpeg"),
        "{message}"
    );
}

#[test]
fn a_gif_that_claims_to_be_huge_is_refused_before_allocation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.gif");
    std::fs::write(&path, b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x02\x02D\x01\x00;").unwrap();
    assert!(matches!(
        read(&path),
        Err(Error::TooLarge {
            width: 65_535,
            height: 65_535,
            ..
        })
    ));
}
