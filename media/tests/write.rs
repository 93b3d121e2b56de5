//! What the writers write, the readers read; and what is damaged is an error, never a crash.

use std::path::Path;
use std::sync::OnceLock;

use media::{Error, GifWriter, Mp4Writer, Picture, enlarge};
use proptest::prelude::*;

/// Pixel art of 24x16 in which a block moves, enlarged four times.
fn art(number: u32) -> Picture {
    let mut rgb = Vec::new();
    for y in 0..16u32 {
        for x in 0..24u32 {
            let block = (number % 20..number % 20 + 4).contains(&x) && (6..10).contains(&y);
            let ground = y > 12 && (x + number / 2).is_multiple_of(3);
            rgb.extend(match (block, ground) {
                (true, _) => [250, 40, 30],
                (_, true) => [90, 60, 20],
                _ => [(x * 6) as u8, (100 + y * 8) as u8, 200],
            });
        }
    }
    enlarge(&Picture::new(24, 16, rgb).unwrap(), 4)
}

fn psnr(a: &Picture, b: &Picture) -> f64 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let squares: f64 = a
        .rgb
        .iter()
        .zip(&b.rgb)
        .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2))
        .sum();
    10.0 * (255.0 * 255.0 / (squares / a.rgb.len() as f64).max(1e-9)).log10()
}

fn write_mp4(path: &Path, count: u32, rate: f64) {
    let mut writer = Mp4Writer::create(path, 96, 64, rate).unwrap();
    for number in 0..count {
        writer.write(&art(number)).unwrap();
    }
    writer.finish().unwrap();
}

/// All pictures, and the first error.
fn read(path: &Path) -> (Vec<(f64, Picture)>, Option<Error>) {
    let mut pictures = Vec::new();
    let mut reader = match media::open(path) {
        Ok(reader) => reader,
        Err(error) => return (pictures, Some(error)),
    };
    let mut errors = Vec::new();
    loop {
        assert!(errors.len() < 100, "errors without end: {errors:?}");
        match reader.next_picture() {
            Ok(Some(timed)) => pictures.push((timed.seconds, timed.picture)),
            Ok(None) => return (pictures, errors.into_iter().next()),
            Err(error) => errors.push(error),
        }
    }
}

#[test]
fn mp4_there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    write_mp4(&path, 50, 15.0);
    let (pictures, error) = read(&path);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(pictures.len(), 50);
    for (number, (seconds, picture)) in pictures.iter().enumerate() {
        assert!((seconds - number as f64 / 15.0).abs() < 1e-6, "{seconds}");
        let quality = psnr(picture, &art(number as u32));
        assert!(quality > 35.0, "picture {number}: {quality:.1} dB");
    }
}

#[test]
fn odd_sides_are_padded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    let mut writer = Mp4Writer::create(&path, 33, 17, 29.97).unwrap();
    writer
        .write(&Picture::new(33, 17, vec![200; 33 * 17 * 3]).unwrap())
        .unwrap();
    assert!(matches!(
        writer.write(&art(0)),
        Err(Error::WrongPictureSize { .. })
    ));
    writer.finish().unwrap();
    let (pictures, _) = read(&path);
    assert_eq!((pictures[0].1.width, pictures[0].1.height), (34, 18));
    assert!(
        pictures[0]
            .1
            .rgb
            .iter()
            .all(|value| value.abs_diff(200) < 10)
    );
}

#[test]
fn settings_without_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    for (width, height, rate) in [
        (0, 64, 15.0),
        (64, 8, 15.0),
        (4000, 4000, 15.0),
        (64, 64, 0.0),
        (64, 64, f64::NAN),
    ] {
        assert!(matches!(
            Mp4Writer::create(&path, width, height, rate),
            Err(Error::InvalidSetting { .. })
        ));
        if rate != 15.0 {
            assert!(GifWriter::create(&path, width, height, rate).is_err());
        }
    }
    assert!(
        Mp4Writer::create(&path, 64, 64, 15.0)
            .unwrap()
            .finish()
            .is_err()
    );
}

#[test]
fn a_recording_that_was_killed_plays_up_to_its_last_fragment() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("a.mp4");
    let mut writer = Mp4Writer::create(&whole, 96, 64, 20.0).unwrap();
    let cut = folder.path().join("b.mp4");
    for number in 0..60 {
        writer.write(&art(number)).unwrap();
        // A copy in the middle is what a kill leaves.
        std::fs::copy(&whole, &cut).unwrap();
        let (pictures, error) = read(&cut);
        assert!(error.is_none(), "after {number}: {error:?}");
        assert!(
            pictures.len() as u32 + 10 > number && pictures.len() as u32 <= number + 1,
            "{} after {number}",
            pictures.len()
        );
    }
    // Even within a fragment, whole pictures are kept, and the others are told of.
    let bytes = std::fs::read(&whole).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() - 3]).unwrap();
    let (pictures, error) = read(&cut);
    let message = error.unwrap().to_string();
    assert!(message.contains("fragment is incomplete"), "{message}");
    assert!(pictures.len() >= 40);
}

#[test]
fn a_fragment_that_claims_to_lie_at_the_end_of_all_numbers_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    write_mp4(&path, 30, 10.0);
    let mut bytes = std::fs::read(&path).unwrap();
    let kinds = [b"moof", b"traf", b"tfhd"];
    let [moof, traf, tfhd] =
        kinds.map(|kind| bytes.windows(4).rposition(|four| four == kind).unwrap());
    // Flags: a place of its own from which the last fragment's data are counted, and not the fragment's.
    bytes[tfhd + 5] &= !2;
    bytes[tfhd + 7] |= 1;
    for kind in [moof, traf, tfhd] {
        let size = &mut bytes[kind - 4..kind];
        let longer = u32::from_be_bytes((&*size).try_into().unwrap()) + 8;
        size.copy_from_slice(&longer.to_be_bytes());
    }
    // It follows the flags and the track's number.
    bytes.splice(tfhd + 12..tfhd + 12, [0xff; 8]);
    std::fs::write(&path, bytes).unwrap();
    let (pictures, error) = read(&path);
    let message = error.unwrap().to_string();
    assert!(message.contains("fragment is incomplete"), "{message}");
    assert!((20..30).contains(&pictures.len()), "{}", pictures.len());
}

#[test]
fn after_a_damaged_packet_reading_goes_on_at_the_next_keyframe() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    // A keyframe every 20 pictures.
    write_mp4(&path, 60, 10.0);
    let mut bytes = std::fs::read(&path).unwrap();
    let fragments: Vec<usize> = (0..bytes.len() - 4)
        .filter(|&at| &bytes[at..at + 4] == b"mdat")
        .collect();
    bytes[fragments[fragments.len() / 2] + 4..][..4].fill(0xff);
    std::fs::write(&path, bytes).unwrap();

    let mut reader = media::open(&path).unwrap();
    let assert_shows = |timed: media::TimedPicture, number: u32| {
        assert!((timed.seconds - f64::from(number) / 10.0).abs() < 1e-6);
        let quality = psnr(&timed.picture, &art(number));
        assert!(quality > 35.0, "picture {number}: {quality:.1} dB");
    };
    let mut good = 0;
    let error = loop {
        match reader.next_picture() {
            Ok(timed) => assert_shows(timed.unwrap(), good),
            Err(error) => break error,
        }
        good += 1;
    };
    assert!((21..40).contains(&good), "{good}");
    assert!(
        matches!(error, Error::Damaged { pictures_read, pictures_lost, .. }
            if pictures_read == u64::from(good) && pictures_lost == u64::from(40 - good)),
        "{error:?} after {good}"
    );
    for number in 40..60 {
        assert_shows(reader.next_picture().unwrap().unwrap(), number);
    }
    assert!(reader.next_picture().unwrap().is_none());
}

#[test]
fn a_damaged_start_is_told_before_the_first_picture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    write_mp4(&path, 40, 10.0);
    let mut bytes = std::fs::read(&path).unwrap();
    let first = (0..bytes.len() - 4).find(|&at| &bytes[at..at + 4] == b"mdat");
    bytes[first.unwrap() + 4..][..4].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let mut reader = media::open(&path).unwrap();
    assert!(matches!(
        reader.next_picture(),
        Err(Error::Damaged {
            pictures_read: 0,
            pictures_lost: 20,
            ..
        })
    ));
    let first = reader.next_picture().unwrap().unwrap();
    assert!(psnr(&first.picture, &art(20)) > 35.0);
}

#[test]
fn a_file_cut_short_gives_its_pictures_and_then_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mkv");
    let bytes =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("test_data/h264_b_frames.mkv"))
            .unwrap();
    std::fs::write(&path, &bytes[..bytes.len() * 4 / 5]).unwrap();
    let (pictures, error) = read(&path);
    assert!(
        !pictures.is_empty() && pictures.len() < 16,
        "{}",
        pictures.len()
    );
    assert!(error.unwrap().to_string().contains("a.mkv"));
}

/// A device that is always full.
#[cfg(target_os = "linux")]
const FULL: &str = "/dev/full";

#[cfg(target_os = "linux")]
fn assert_full(result: Result<(), Error>) {
    let Err(Error::Io { source, .. }) = &result else {
        panic!("{result:?}");
    };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
}

#[cfg(target_os = "linux")]
#[test]
fn a_png_that_does_not_fit_on_the_disk_is_an_error() {
    let picture = Picture::new(4, 4, vec![9; 48]).unwrap();
    assert_full(media::write_png(Path::new(FULL), &picture));
}

#[cfg(target_os = "linux")]
#[test]
fn a_gif_whose_end_does_not_fit_on_the_disk_is_an_error() {
    let mut gif = GifWriter::create(Path::new(FULL), 4, 4, 15.0).unwrap();
    // So small that nothing is written before the end.
    gif.write(&Picture::new(4, 4, vec![9; 48]).unwrap())
        .unwrap();
    assert_full(gif.finish());
}

#[test]
fn gif_there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gif");
    let mut writer = GifWriter::create(&path, 96, 64, 15.0).unwrap();
    for number in 0..30 {
        writer.write(&art(number)).unwrap();
    }
    writer.finish().unwrap();
    let (pictures, error) = read(&path);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(pictures.len(), 30);
    for (number, (seconds, picture)) in pictures.iter().enumerate() {
        assert!(
            (seconds - number as f64 / 15.0).abs() <= 0.0051,
            "{number} at {seconds}"
        );
        assert!(psnr(picture, &art(number as u32)) > 30.0);
    }
}

/// Files of every kind, to be damaged.
fn victims() -> &'static [(String, Vec<u8>)] {
    static VICTIMS: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    VICTIMS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        write_mp4(&folder.path().join("fragmented.mp4"), 12, 10.0);
        let mut gif =
            GifWriter::create(&folder.path().join("animation.gif"), 96, 64, 15.0).unwrap();
        (0..4).for_each(|number| gif.write(&art(number)).unwrap());
        gif.finish().unwrap();
        let mut victims = Vec::new();
        for folder in [
            folder.path().to_owned(),
            Path::new(env!("CARGO_MANIFEST_DIR")).join("test_data"),
        ] {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                victims.push((
                    path.file_name().unwrap().to_string_lossy().into_owned(),
                    std::fs::read(path).unwrap(),
                ));
            }
        }
        victims.sort();
        victims
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_read_in_part_or_refused(
        victim in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        in_header in any::<bool>(),
    ) {
        let (name, bytes) = &victims()[victim.index(victims().len())];
        let mut bytes = bytes.clone();
        // Most of what can go wrong is in the first part.
        let reach = if in_header { bytes.len().min(900) } else { bytes.len() };
        for (at, value) in flips {
            bytes[at.index(reach)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        let (pictures, error) = read(&path);
        // ffmpeg repeats a picture that stays; none stays for more than a second, at the highest rate that is believed.
        let stays: Vec<usize> = pictures.chunk_by(|a, b| a.1 == b.1).map(<[_]>::len).collect();
        prop_assert!(stays.len() <= 64 && pictures.len() <= 16 * 120, "{stays:?}");
        if let Some(error) = error {
            prop_assert!(error.to_string().contains(name.as_str()), "{error}");
        }
    }
}
