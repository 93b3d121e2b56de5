//! Starting from anything: a picture, an animation or a video becomes the first frames.

use crate::error::{Error, Result};
use media::{Fit, Fitting, Resampler, VideoReader};
use nn::quality::psnr;
use std::path::Path;
use std::sync::Arc;
use worlds::{Frame, LONGEST_PROMPT, Rollout, RolloutSettings, World};

/// The measured figure of a world that tells how well its tokenizer gives back video of its own kind, in dB.
const TOKENIZER_QUALITY: &str = "tokenizer.psnr";
/// Decibels below it from which a picture counts as far from what the world was trained on.
const FAR: f64 = 6.0;
/// What is expected of a world that was not measured.
const USUAL_QUALITY: f64 = 28.0;

/// Starting frames that a player gave.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The frames, of the world's size.
    pub frames: Vec<Frame>,
    /// What the player should know: that they are far from what the world was trained on.
    pub warning: Option<String>,
}

/// Reads a picture, an animation or a video to start a world from, cropped and resized to the world's size. Of what moves, the first frames at the world's
/// rate are taken, as many as the world sees at once.
///
/// # Errors
/// When it cannot be read, or holds no picture.
pub fn read_prompt(path: &Path, world: &Arc<World>) -> Result<Prompt> {
    let mut reader = media::open(path)?;
    let frames = first_frames(reader.as_mut(), world)?;
    if frames.is_empty() {
        return Err(Error::NoPicture(path.to_owned()));
    }
    let warning = warning(&frames, world)?;
    Ok(Prompt { frames, warning })
}

fn first_frames(reader: &mut dyn VideoReader, world: &World) -> Result<Vec<Frame>> {
    let manifest = &world.manifest;
    let most = manifest.dynamics.window.clamp(1, LONGEST_PROMPT);
    let fitting = Fitting {
        width: manifest.frame.width as u32,
        height: manifest.frame.height as u32,
        fit: Fit::Crop,
        crop: None,
    };
    let mut resampler = Resampler::new(manifest.frames_per_second)?;
    let mut frames: Vec<Frame> = Vec::new();
    let mut before: Option<Frame> = None;
    while frames.len() < most {
        let Some(timed) = reader.next_picture()? else {
            break;
        };
        let picture = media::fit_picture(&timed.picture, &fitting)?;
        let repeats = match reader.is_timed() {
            true => resampler.announce(timed.seconds).previous,
            false => 1,
        };
        push(
            &mut frames,
            before.replace(Frame::new(manifest.frame, picture.rgb)?),
            repeats,
            most,
        );
    }
    // The last picture of all is shown once at least.
    push(&mut frames, before, 1, most);
    Ok(frames)
}

fn push(frames: &mut Vec<Frame>, frame: Option<Frame>, repeats: u64, most: usize) {
    if let Some(frame) = frame {
        let count = usize::try_from(repeats)
            .unwrap_or(most)
            .min(most - frames.len());
        frames.extend(std::iter::repeat_n(frame, count));
    }
}

/// How badly the tokenizer gives back the last of some frames, where it is much worse than with video of the world's own kind.
fn warning(frames: &[Frame], world: &Arc<World>) -> Result<Option<String>> {
    let settings = RolloutSettings::of(&world.manifest, 0);
    let decoded = Rollout::start(world.clone(), frames, settings)?.frame()?;
    let Some(last) = frames.last() else {
        return Ok(None);
    };
    let values = |frame: &Frame| -> Vec<f32> {
        frame
            .rgb()
            .iter()
            .map(|&byte| f32::from(byte) / 255.0)
            .collect()
    };
    let quality = psnr(&values(last), &values(&decoded));
    let own = world.manifest.quality.get(TOKENIZER_QUALITY);
    let own = own.copied().unwrap_or(USUAL_QUALITY);
    Ok((quality < own - FAR).then(|| {
        format!("this picture is far from what the world was trained on: it comes back at {quality:.1} dB, the world's own video at {own:.1} dB")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nn::FrameSize;
    use std::sync::OnceLock;

    fn world() -> Arc<World> {
        static WORLD: OnceLock<Arc<World>> = OnceLock::new();
        WORLD
            .get_or_init(|| Arc::new(worlds::find("coinrun").unwrap().load().unwrap()))
            .clone()
    }

    #[test]
    fn a_picture_of_any_size_becomes_one_frame_and_a_strange_one_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prompt.png");
        let noise = (0..90_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
        let noise = media::Picture::new(100, 300, noise.collect()).unwrap();
        // Blocks, so that the noise outlives being made smaller.
        media::write_png(&path, &media::enlarge(&noise, 4)).unwrap();
        let prompt = read_prompt(&path, &world()).unwrap();
        assert_eq!(prompt.frames.len(), 1);
        assert_eq!(prompt.frames[0].size(), world().manifest.frame);
        assert!(prompt.warning.unwrap().contains("far from"));
        assert!(read_prompt(&folder.path().join("missing.png"), &world()).is_err());
    }

    #[test]
    fn video_of_the_worlds_kind_becomes_the_frames_that_it_sees_without_a_warning() {
        let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/coinrun.mp4");
        let prompt = read_prompt(&clip, &world()).unwrap();
        assert_eq!(prompt.frames.len(), world().manifest.dynamics.window);
        assert!(prompt.frames.windows(2).any(|pair| pair[0] != pair[1]));
        assert_eq!(prompt.warning, None);
        Rollout::start(
            world(),
            &prompt.frames,
            RolloutSettings::of(&world().manifest, 1),
        )
        .unwrap();
    }

    #[test]
    fn an_animation_is_taken_at_the_worlds_rate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prompt.gif");
        let rate = world().manifest.frames_per_second / 2.0;
        let mut gif = media::GifWriter::create(&path, 64, 64, rate).unwrap();
        for shade in [40u8, 90, 140] {
            gif.write(&media::Picture::new(64, 64, vec![shade; 64 * 64 * 3]).unwrap())
                .unwrap();
        }
        gif.finish().unwrap();
        let size = FrameSize {
            height: 64,
            width: 64,
        };
        let prompt = read_prompt(&path, &world()).unwrap();
        let shades: Vec<u8> = prompt.frames.iter().map(|frame| frame.rgb()[0]).collect();
        assert_eq!(prompt.frames[0].size(), size);
        assert_eq!(shades[..4], [40, 40, 90, 90]);
        assert_eq!(shades.last(), Some(&140));
    }
}
