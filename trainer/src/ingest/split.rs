//! Decides what is trained on and what is held back: whole sources, or the end of one, never neighbouring frames.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::IngestOptions;
use super::inputs::Source;
use crate::dataset::{EpisodeRecord, Split};

/// Seconds left out between the two halves where they come from one video.
const GAP_SECONDS: f64 = 1.0;

/// Gives every episode its split, and shortens those that would be neighbours across it. `used` are the dataset's
/// sources, by number. The text says how it was decided.
pub(super) fn decide(
    used: &[&Source],
    episodes: &[EpisodeRecord],
    options: &IngestOptions,
) -> (Vec<EpisodeRecord>, String) {
    let mut episodes: Vec<EpisodeRecord> = episodes
        .iter()
        .copied()
        .filter(|episode| episode.length >= 2)
        .map(|episode| EpisodeRecord {
            split: Split::Train,
            ..episode
        })
        .collect();
    let mut frames: BTreeMap<usize, usize> = BTreeMap::new();
    for episode in &episodes {
        *frames.entry(episode.source).or_default() += episode.length;
    }

    let named: BTreeSet<usize> = frames
        .keys()
        .copied()
        .filter(|&source| used.get(source).is_some_and(|source| source.held_back))
        .collect();
    if !named.is_empty() && named.len() < frames.len() {
        hold_back(&mut episodes, &named);
        let note = format!(
            "validation: the {} sources in folders named for it",
            named.len()
        );
        return (episodes, note);
    }
    if options.validation_fraction == 0.0 {
        return (episodes, "validation: nothing was held back".to_owned());
    }
    let note = hold_back_share(used, &mut episodes, &frames, options);
    (episodes, format!("validation: {note}"))
}

/// Holds back about the share that is asked for: whole sources, and where these are far too few or far too long, the end of the longest. `frames`
/// are those of each source. Says what it did.
fn hold_back_share(
    used: &[&Source],
    episodes: &mut Vec<EpisodeRecord>,
    frames: &BTreeMap<usize, usize>,
    options: &IngestOptions,
) -> String {
    let gap = (GAP_SECONDS * options.frames_per_second).ceil() as usize;
    let total: usize = frames.values().sum();
    let wanted = (total as f64 * options.validation_fraction).ceil() as usize;
    let held = pick(used, frames, wanted);
    hold_back(episodes, &held);
    let whole = format!(
        "{} of {} sources, picked by their names",
        held.len(),
        frames.len()
    );
    let held_frames: usize = held.iter().map(|source| frames[source]).sum();
    let missing = wanted.saturating_sub(held_frames);
    let rest = frames.iter().filter(|(source, _)| !held.contains(source));
    // Of equally long ones the first.
    let longest = rest.rev().max_by_key(|(_, length)| **length);
    let (true, Some((&longest, _))) = (2 * missing > wanted, longest) else {
        return whole;
    };
    let tail = hold_back_end(episodes, longest, missing, gap);
    let which = match frames.len() {
        1 => "the only source".to_owned(),
        _ => name_of(used, longest),
    };
    let end = format!("the last {tail} frames of {which}, {gap} frames after the rest");
    match (tail, held.len()) {
        (0, 0) if frames.len() == 1 => format!(
            "nothing was held back: the only episode, of {total} frames, is too short to be cut"
        ),
        (0, 0) => {
            let shortest = frames.iter().min_by_key(|(_, length)| **length);
            let shortest = shortest.map(|(&source, _)| source).into_iter().collect();
            hold_back(episodes, &shortest);
            format!("the shortest of {} sources", frames.len())
        }
        (0, _) => whole,
        (_, 0) => end,
        (_, _) => format!("{whole}, and {end}"),
    }
}

fn hold_back(episodes: &mut [EpisodeRecord], sources: &BTreeSet<usize>) {
    for episode in episodes {
        if sources.contains(&episode.source) {
            episode.split = Split::Validation;
        }
    }
}

fn name_of(used: &[&Source], source: usize) -> String {
    let name = used.get(source).and_then(|source| source.path.file_name());
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// Whole sources that come to about `wanted` frames, given the `frames` of each; none where each alone is far more than that. Their names give the
/// order in which they are looked at, so that adding one moves few of the others.
fn pick(used: &[&Source], frames: &BTreeMap<usize, usize>, wanted: usize) -> BTreeSet<usize> {
    let rank = |source: usize| {
        let name = used.get(source).and_then(|source| source.path.file_name());
        Sha256::digest(name.map(|name| name.as_encoded_bytes()).unwrap_or_default()).to_vec()
    };
    let mut ranked: Vec<(Vec<u8>, usize)> = frames
        .keys()
        .map(|&source| (rank(source), source))
        .collect();
    ranked.sort();
    let (mut held, mut sum) = (BTreeSet::new(), 0);
    for (_, source) in ranked {
        let nearer = 2 * sum + frames[&source] <= 2 * wanted;
        if nearer && held.len() + 1 < frames.len() {
            held.insert(source);
            sum += frames[&source];
        }
    }
    held
}

/// The last `tail` frames of an episode, and what lies at least `gap` frames before them.
fn cut(episode: EpisodeRecord, tail: usize, gap: usize) -> Option<[EpisodeRecord; 2]> {
    let kept = episode
        .length
        .checked_sub(gap.checked_add(tail)?)
        .filter(|&kept| kept >= 2)?;
    let train = EpisodeRecord {
        length: kept,
        split: Split::Train,
        ..episode
    };
    let validation = EpisodeRecord {
        start: episode.start + kept + gap,
        length: tail,
        split: Split::Validation,
        ..episode
    };
    Some([train, validation])
}

/// Holds back the end of a source until there are `wanted` frames, and returns how many there are then. What comes before may end where that
/// begins, as when a shard was full, so it loses its end.
fn hold_back_end(
    episodes: &mut Vec<EpisodeRecord>,
    source: usize,
    wanted: usize,
    gap: usize,
) -> usize {
    let of_source = |episode: &EpisodeRecord| episode.source == source;
    let first = episodes.iter().position(of_source);
    let mut held = 0;
    for index in (0..episodes.len()).rev() {
        let (episode, missing) = (episodes[index], wanted.saturating_sub(held));
        if !of_source(&episode) {
            continue;
        }
        if missing > 0
            && let Some(halves) = cut(episode, missing.max(2), gap)
        {
            held += halves[1].length;
            episodes.splice(index..=index, halves);
            break;
        }
        // Something must be left to train on.
        if missing > 0 && first < Some(index) {
            episodes[index].split = Split::Validation;
            held += episode.length;
            continue;
        }
        if held > 0 {
            // Where nothing would be left of it, at least the frames next to the other half go.
            let least = 2.min(episode.length);
            episodes[index].length = episode.length.saturating_sub(gap).max(least);
        }
        break;
    }
    held
}

#[cfg(test)]
mod tests {
    use super::super::inputs::{Kind, Root};
    use super::*;

    fn episode(source: usize, start: usize, length: usize) -> EpisodeRecord {
        EpisodeRecord {
            shard: 0,
            start,
            length,
            source,
            split: Split::Train,
        }
    }

    fn held(paths: &[&str], episodes: &[EpisodeRecord], fraction: f64) -> Vec<EpisodeRecord> {
        held_of(Kind::Video, paths, episodes, fraction)
    }

    fn held_of(
        kind: Kind,
        paths: &[&str],
        episodes: &[EpisodeRecord],
        fraction: f64,
    ) -> Vec<EpisodeRecord> {
        let root = Root::default();
        let sources = paths
            .iter()
            .map(|path| Source::new(path.into(), kind, &root));
        let sources: Vec<Source> = sources.collect();
        let used: Vec<&Source> = sources.iter().collect();
        let options = IngestOptions {
            validation_fraction: fraction,
            ..IngestOptions::default()
        };
        let (episodes, _) = decide(&used, episodes, &options);
        let (validation, train): (Vec<_>, Vec<_>) = episodes
            .into_iter()
            .partition(|episode| episode.split == Split::Validation);
        for (a, b) in train
            .iter()
            .flat_map(|a| validation.iter().map(move |b| (a, b)))
        {
            assert!(
                a.source != b.source || a.shard < b.shard || a.start + a.length < b.start,
                "{a:?} touches {b:?}"
            );
        }
        validation
    }

    fn sources(count: usize) -> Vec<EpisodeRecord> {
        (0..count)
            .map(|source| episode(source, source * 100, 100))
            .collect()
    }

    #[test]
    fn folders_decide_where_they_are_named() {
        let found = held(
            &["v/train/a.mp4", "v/validation/b.mp4", "v/Test/c.mp4"],
            &sources(3),
            0.1,
        );
        assert_eq!(
            found
                .iter()
                .map(|episode| episode.source)
                .collect::<Vec<_>>(),
            [1, 2]
        );
        // When everything lies in such a folder, the name says nothing.
        assert_eq!(
            held(&["test/a.mp4", "test/b.mp4"], &sources(2), 0.1).len(),
            1
        );
        // A file's own name is no folder.
        assert_eq!(
            held(&["a/validation", "a/b", "a/c", "a/d"], &sources(4), 0.75).len(),
            3
        );
    }

    #[test]
    fn a_folder_of_images_may_be_named_itself() {
        let found = held_of(Kind::Images, &["a/b", "a/validation"], &sources(2), 0.0);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].source, 1);
    }

    #[test]
    fn a_share_of_the_sources_is_picked_and_stays_picked() {
        let names: Vec<String> = (0..40).map(|i| format!("clips/{i}.mp4")).collect();
        let paths: Vec<&str> = names.iter().map(String::as_str).collect();
        let first = held(&paths, &sources(40), 0.1);
        assert_eq!(first.len(), 4);
        assert_eq!(first, held(&paths, &sources(40), 0.1));
        assert!(held(&paths, &sources(40), 0.0).is_empty());
    }

    #[test]
    fn one_source_is_split_by_episode() {
        let episodes = [
            episode(0, 0, 100),
            episode(0, 100, 50),
            episode(0, 150, 1),
            episode(0, 151, 20),
        ];
        let found = held(&["a.mp4"], &episodes, 0.1);
        assert_eq!(
            found
                .iter()
                .map(|episode| episode.start)
                .collect::<Vec<_>>(),
            [151]
        );
        let all_but_one = held(&["a.mp4"], &episodes, 0.99);
        assert_eq!(all_but_one.len(), 2);
    }

    fn frames(episodes: &[EpisodeRecord]) -> usize {
        episodes.iter().map(|episode| episode.length).sum()
    }

    #[test]
    fn an_episode_that_is_longer_than_wanted_is_cut_wherever_others_end() {
        // A cut of the scene after ten seconds of twenty minutes.
        let found = held(
            &["a.mp4"],
            &[episode(0, 0, 150), episode(0, 150, 17850)],
            0.1,
        );
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].start, found[0].length), (16200, 1800));
        // Full shards end episodes of the one clip.
        let shards = [0, 1, 2].map(|shard| EpisodeRecord {
            shard,
            ..episode(0, 0, if shard < 2 { 21845 } else { 10310 })
        });
        let found = held(&["a.mp4"], &shards, 0.1);
        assert_eq!(frames(&found), 5400);
        assert_eq!((found[0].shard, found[0].start), (2, 4910));
        // What lies before a short last episode gives the rest.
        let found = held(&["a.mp4"], &[episode(0, 0, 900), episode(0, 900, 50)], 0.1);
        assert_eq!(
            found[0],
            EpisodeRecord {
                start: 855,
                length: 45,
                ..found[1]
            }
        );
        assert_eq!(frames(&found), 95);
    }

    #[test]
    fn sources_weigh_what_they_have_of_frames() {
        let (long, short) = (108_000, 2_700);
        // Whichever name comes first, and in which order they are.
        for names in [["a.mp4", "b.mp4"], ["b.mp4", "a.mp4"]] {
            let episodes = [episode(0, 0, long), episode(1, long, short)];
            let found = held(&names, &episodes, 0.1);
            assert_eq!(frames(&found), (long + short) / 10);
            assert_eq!(
                found[1],
                EpisodeRecord {
                    split: Split::Validation,
                    ..episodes[1]
                }
            );
            assert_eq!(found[0].source, 0);
        }
        // Two of the same length: neither is a tenth.
        assert_eq!(frames(&held(&["a.mp4", "b.mp4"], &sources(2), 0.1)), 20);
        // There are enough short ones.
        let mut episodes = vec![episode(0, 0, 2_000)];
        episodes.extend((1..11).map(|source| episode(source, 1_900 + source * 100, 100)));
        let names: Vec<String> = (0..11).map(|i| format!("clips/{i}.mp4")).collect();
        let paths: Vec<&str> = names.iter().map(String::as_str).collect();
        let found = held(&paths, &episodes, 0.1);
        assert_eq!((found.len(), frames(&found)), (3, 300));
        // Where nothing can be cut, something is held back all the same.
        let tiny = [episode(0, 0, 20), episode(1, 20, 14), episode(2, 34, 20)];
        assert_eq!(frames(&held(&["a", "b", "c"], &tiny, 0.1)), 14);
    }

    #[test]
    fn one_episode_is_cut_with_a_gap() {
        let found = held(&["a.mp4"], &[episode(0, 7, 1000)], 0.1);
        assert_eq!(
            found,
            [EpisodeRecord {
                split: Split::Validation,
                ..episode(0, 907, 100)
            }]
        );
        assert!(held(&["a.mp4"], &[episode(0, 0, 10)], 0.5).is_empty());
    }
}
