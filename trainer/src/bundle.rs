//! From trained weights to a bundle.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use nn::quality::Edges;
use nn::{ActionCode, generator};
use worlds::{
    Action, BundleContents, FORMAT_VERSION, Frame, Lasting, Provenance, StepRange, WorldManifest,
};

use crate::beginning::Base;
use crate::checkpoint::Tensors;
use crate::clips::ClipSampler;
use crate::dataset::Dataset;
use crate::evaluate::rollouts::true_frames;
use crate::{Error, Result, TrainConfig, WorldDetails};

/// Where prompts are cut is drawn from this.
const PROMPT_SEED: u64 = 0x9207;

/// Everything of a bundle but the dynamics' weights, which go on changing while it is put together again and again.
pub(crate) struct Blueprint {
    contents: BundleContents,
}

impl Blueprint {
    /// Puts together what a world is besides its dynamics. `base` is the world that it goes on from, `actions` what the codes are called and which of them is
    /// idle, `lasts` how long codes last in the video.
    pub fn new(
        (config, base): (&TrainConfig, Option<&Base>),
        dataset: &Dataset,
        out: &Path,
        (tokenizer, latent_actions): (Tensors, Tensors),
        actions: (Vec<Action>, Option<ActionCode>),
        lasts: Vec<Option<Lasting>>,
    ) -> Result<Self> {
        let manifest = manifest((config, base), dataset, out, actions, lasts);
        Ok(Self {
            contents: BundleContents {
                readme: format!(
                    "# {}\n\nThis world is still being trained.\n",
                    manifest.name
                ),
                manifest,
                tokenizer,
                latent_actions,
                dynamics: Tensors::new(),
                prompts: prompts(dataset, config.world.prompts)?,
                files: base.map(|base| base.sounds.clone()).unwrap_or_default(),
            },
        })
    }

    /// The bundle with these dynamics' weights.
    pub fn with_dynamics(&self, dynamics: Tensors) -> BundleContents {
        BundleContents {
            dynamics,
            ..self.contents.clone()
        }
    }
}

/// Refuses at the beginning of a run whatever no world could be written with at its end.
pub(crate) fn check(
    (config, base): (&TrainConfig, Option<&Base>),
    dataset: &Dataset,
    out: &Path,
) -> Result<()> {
    let actions = config
        .world
        .given_actions(config.latent_actions.model.codes);
    let mut manifest = manifest((config, base), dataset, out, actions, Vec::new());
    // Those are cut from the video.
    manifest.prompts = vec!["000.png".to_owned()];
    manifest
        .validate()
        .map_err(|flaw| Error::config(format!("world: {}: {}", flaw.field, flaw.reason)))
}

/// What a world says about itself before it has prompts and figures.
fn manifest(
    (config, base): (&TrainConfig, Option<&Base>),
    dataset: &Dataset,
    out: &Path,
    (actions, idle): (Vec<Action>, Option<ActionCode>),
    lasts: Vec<Option<Lasting>>,
) -> WorldManifest {
    let details = &config.world;
    let base = base.map(|base| &base.manifest);
    let steps = StepRange::default();
    WorldManifest {
        version: FORMAT_VERSION,
        name: match details.name.as_str() {
            "" => folder_name(out),
            name => name.to_owned(),
        },
        author: details.author.clone(),
        licence: details.licence.clone(),
        training_video: training_video(details, base.map(|base| &base.training_video), dataset),
        frame: dataset.frame_size(),
        frames_per_second: dataset.frames_per_second(),
        actions,
        idle,
        strength: details.strength,
        weights: details.weights.clone(),
        lasts: match base {
            Some(base) if !base.lasts.is_empty() => base.lasts.clone(),
            _ => lasts,
        },
        voluntary: details.voluntary.clone(),
        sampler: details.sampler,
        maskgit_steps: StepRange {
            least: steps.least.min(details.sampler.steps),
            most: steps.most.max(details.sampler.steps),
        },
        prompts: Vec::new(),
        sound: base.and_then(|base| base.sound.clone()),
        sounds: base.map(|base| base.sounds.clone()).unwrap_or_default(),
        quality: BTreeMap::new(),
        tokenizer: config.tokenizer.model.clone(),
        latent_actions: config.latent_actions.model.clone(),
        dynamics: config.dynamics.model.clone(),
    }
}

/// What a world is called that nobody has named: as its folder, without an ending that says it is one.
fn folder_name(out: &Path) -> String {
    let name = match out.extension() {
        Some(ending) if ending == "world" => out.file_stem(),
        _ => out.file_name(),
    };
    name.map_or("world".into(), |name| name.to_string_lossy().into_owned())
}

/// Where the video of a world came from that goes on from one of the video `before`. What the configuration says stands; else it is both.
fn training_video(
    details: &WorldDetails,
    before: Option<&Provenance>,
    dataset: &Dataset,
) -> Provenance {
    let both = |before: Option<&String>, now: String| match before {
        Some(before) if *before != now => format!("{before}; and then {now}"),
        _ => now,
    };
    let unsaid = WorldDetails::default();
    let mut video = Provenance {
        source: details.source.clone(),
        licence: details.source_licence.clone(),
    };
    if video.source == unsaid.source {
        video.source = both(before.map(|before| &before.source), sources(dataset));
    }
    if video.licence == unsaid.source_licence {
        video.licence = both(before.map(|before| &before.licence), video.licence);
    }
    video
}

/// What a dataset was made of, in one line: the files' names and how many frames were taken of each.
fn sources(dataset: &Dataset) -> String {
    const NAMED: usize = 6;
    let sources = &dataset.manifest().sources;
    let named: Vec<String> = sources
        .iter()
        .take(NAMED)
        .map(|source| {
            let path = Path::new(&source.path);
            let name = path.file_name().unwrap_or(path.as_os_str());
            let name = name.to_string_lossy().replace(char::is_control, "?");
            let name: String = name.chars().take(100).collect();
            format!("{name} ({} frames)", source.frames)
        })
        .collect();
    let rest = match sources.len().saturating_sub(NAMED) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    let frames: u64 = sources.iter().map(|source| source.frames).sum();
    format!(
        "{}{rest}: {frames} frames at {} frames/s",
        named.join(", "),
        dataset.frames_per_second()
    )
}

/// Starting frames from held-out video, from different episodes as far as there are any. Not an episode's first frames: those are often
/// a menu or all alike. Of many moments the calmest are taken, since a player wants to start with firm ground under the feet; of these the half
/// that shows the most, since whoever stands still may stand before a wall; and of those the ones that look least alike.
fn prompts(dataset: &Dataset, count: usize) -> Result<Vec<Frame>> {
    const CANDIDATES: usize = 12;
    const CALM: usize = 6;
    const TRIES: usize = 40;
    let sampler = ClipSampler::held_out(dataset, 2)?;
    let mut random = generator(PROMPT_SEED, 0);
    let (mut moments, mut places) = (Vec::new(), Vec::new());
    for attempt in 0..count * TRIES {
        let clip = sampler.draw(&mut random);
        let place = (clip.episode.shard, clip.episode.start);
        let early = clip.start < 8 && clip.episode.length > 32;
        let last_round = attempt >= count * (TRIES - 1);
        if (early || places.contains(&place)) && (!last_round || moments.len() >= count) {
            continue;
        }
        places.push(place);
        if let [frame, next] = &true_frames(dataset, &clip)?[..] {
            moments.push((change(frame, next), frame.clone()));
        }
        if moments.len() == count * CANDIDATES {
            break;
        }
    }
    moments.sort_by_key(|(change, _)| *change);
    moments.truncate(count * CALM);
    moments.sort_by_key(|(_, frame)| Reverse(detail(frame)));
    moments.truncate(moments.len().div_ceil(2).max(count));
    let frames = varied(moments.into_iter().map(|(_, frame)| frame).collect(), count);
    if frames.is_empty() {
        return Err(Error::TooLittleVideo(
            "there is no video to cut prompts from".to_owned(),
        ));
    }
    Ok(frames)
}

/// So many of these frames, the first and then always the one that differs most from those chosen.
fn varied(mut frames: Vec<Frame>, count: usize) -> Vec<Frame> {
    let mut chosen: Vec<Frame> = Vec::new();
    while chosen.len() < count && !frames.is_empty() {
        let nearest = |frame: &Frame| chosen.iter().map(|other| change(frame, other)).min();
        let distances = frames.iter().map(nearest);
        // Of equal ones the first.
        let farthest = distances
            .enumerate()
            .rev()
            .max_by_key(|(_, distance)| *distance);
        chosen.push(frames.remove(farthest.map_or(0, |(index, _)| index)));
    }
    chosen
}

/// Sum of absolute differences between two frames' colours.
fn change(a: &Frame, b: &Frame) -> u64 {
    a.rgb()
        .iter()
        .zip(b.rgb())
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum()
}

/// How much there is to see: the size of all edges, in steps of colour.
fn detail(frame: &Frame) -> u64 {
    let values = frame.rgb().iter().map(|&value| f32::from(value) / 255.0);
    let picture: Vec<f32> = values.collect();
    let edges = Edges::of(&picture, &picture, frame.size());
    (edges.real * 255.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clips::tests::noise;
    use crate::dataset::Split;
    use nn::FrameSize;

    #[test]
    fn prompts_look_as_different_as_can_be() {
        let size = FrameSize {
            height: 1,
            width: 1,
        };
        let grey = |value: u8| Frame::new(size, vec![value; 3]).unwrap();
        let of = |values: &[u8], count: usize| -> Vec<u8> {
            let frames = varied(values.iter().copied().map(grey).collect(), count);
            frames.iter().map(|frame| frame.rgb()[0]).collect()
        };
        assert_eq!(of(&[10, 11, 12, 200, 90], 3), [10, 200, 90]);
        assert_eq!(of(&[7, 7], 8), [7, 7]);
        assert!(of(&[], 8).is_empty());
    }

    #[test]
    fn how_long_codes_last_is_what_a_world_says_that_is_gone_on_from_or_else_what_was_counted() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = noise(&folder.path().join("d"), 15.0, &[(30, Split::Train)]);
        let lasts = |frames| vec![Some(Lasting { frames, of: 9 })];
        let of = |base: Option<&Base>| {
            let (config, actions) = (TrainConfig::default(), (Vec::new(), None));
            let out = Path::new("world");
            manifest((&config, base), &dataset, out, actions, lasts(3)).lasts
        };
        let mut base = Base {
            manifest: worlds::tiny_contents(1).unwrap().manifest,
            sounds: BTreeMap::new(),
        };
        assert_eq!(of(None), lasts(3));
        assert_eq!(of(Some(&base)), lasts(3));
        base.manifest.lasts = lasts(5);
        assert_eq!(of(Some(&base)), lasts(5));
    }

    #[test]
    fn a_world_without_a_name_has_that_of_its_folder() {
        for (out, name) in [
            ("worlds/pong.world", "pong"),
            ("worlds/pong", "pong"),
            ("pong.v2", "pong.v2"),
            (".world", ".world"),
        ] {
            assert_eq!(folder_name(Path::new(out)), name);
        }
    }

    #[test]
    fn a_world_that_goes_on_from_another_tells_of_the_video_of_both() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = noise(&folder.path().join("d"), 15.0, &[(30, Split::Train)]);
        let before = Provenance {
            source: "two hours of Pong".to_owned(),
            licence: "CC0".to_owned(),
        };
        let told = |details: &WorldDetails, before| {
            let video = training_video(details, before, &dataset);
            (video.source, video.licence)
        };
        let unsaid = WorldDetails::default();
        let (own, unknown) = told(&unsaid, None);
        assert!(own.starts_with("x (30 frames)") && unknown == "unknown");
        let both = told(&unsaid, Some(&before));
        assert_eq!(both.0, format!("two hours of Pong; and then {own}"));
        assert_eq!(both.1, "CC0; and then unknown");
        let said = WorldDetails {
            source: "three hours of Pong".to_owned(),
            source_licence: "CC0".to_owned(),
            ..unsaid
        };
        let stands = ("three hours of Pong".to_owned(), "CC0".to_owned());
        assert_eq!(told(&said, Some(&before)), stands);
    }

    #[test]
    fn detail_is_what_differs_beside_and_below() {
        let frame = |values: [u8; 6]| {
            let size = FrameSize {
                height: 2,
                width: 3,
            };
            Frame::new(size, values.into_iter().flat_map(|v| [v; 3]).collect()).unwrap()
        };
        assert_eq!(detail(&frame([9; 6])), 0);
        // A line across: three steps down. One upright: a step in each row. No step from a row's end to the next row's beginning.
        assert_eq!(detail(&frame([0, 0, 0, 5, 5, 5])), 3 * 3 * 5);
        assert_eq!(detail(&frame([0, 0, 5, 0, 0, 5])), 3 * 2 * 5);
    }
}
