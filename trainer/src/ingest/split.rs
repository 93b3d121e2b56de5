//! Decides what is trained on and what is held back: whole sources, or whole episodes, never neighbouring frames.

use std::collections::BTreeSet;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::IngestOptions;
use super::inputs::{Kind, Source};
use crate::dataset::{EpisodeRecord, Split};

/// Folder names that say "held back".
const VALIDATION_FOLDERS: [&str; 4] = ["validation", "valid", "val", "test"];

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
        .collect();
    let sources: BTreeSet<usize> = episodes.iter().map(|episode| episode.source).collect();
    let mut hold_back = |held: &BTreeSet<usize>| {
        for episode in &mut episodes {
            episode.split = if held.contains(&episode.source) {
                Split::Validation
            } else {
                Split::Train
            };
        }
    };

    let named: BTreeSet<usize> = sources
        .iter()
        .copied()
        .filter(|&source| used.get(source).is_some_and(|source| is_named(source)))
        .collect();
    if !named.is_empty() && named.len() < sources.len() {
        hold_back(&named);
        return (
            episodes,
            format!(
                "validation: the {} sources in folders named for it",
                named.len()
            ),
        );
    }
    if options.validation_fraction == 0.0 {
        return (episodes, "validation: nothing was held back".to_owned());
    }
    if sources.len() > 1 {
        let held = pick(used, &sources, options.validation_fraction);
        hold_back(&held);
        return (
            episodes,
            format!(
                "validation: {} of {} sources, picked by their names",
                held.len(),
                sources.len()
            ),
        );
    }
    let gap = (GAP_SECONDS * options.frames_per_second).ceil() as usize;
    let total: usize = episodes.iter().map(|episode| episode.length).sum();
    let wanted = (total as f64 * options.validation_fraction).ceil() as usize;
    let note = if let [only] = &episodes[..] {
        let only = *only;
        match cut(only, wanted.max(2), gap) {
            Some(halves) => {
                let note = format!(
                    "validation: the last {} frames of the only episode, {gap} frames after the rest",
                    halves[1].length
                );
                episodes = halves.to_vec();
                note
            }
            None => format!(
                "validation: nothing was held back: the only episode, of {} frames, is too short to be cut",
                only.length
            ),
        }
    } else {
        hold_back_last(&mut episodes, wanted, gap)
    };
    (episodes, note)
}

fn is_named(source: &Source) -> bool {
    let folder = match source.kind {
        Kind::Images => Some(source.path.as_path()),
        // A session's own folder has the name that its player gave it.
        Kind::Video | Kind::Session => source.path.parent(),
    };
    folder.into_iter().flat_map(Path::components).any(|part| {
        let part = part.as_os_str().to_string_lossy().to_ascii_lowercase();
        VALIDATION_FOLDERS.contains(&part.as_str())
    })
}

/// A pick that depends on the names alone, so that adding a source moves few of the others.
fn pick(used: &[&Source], sources: &BTreeSet<usize>, fraction: f64) -> BTreeSet<usize> {
    let rank = |source: usize| {
        let name = used.get(source).and_then(|source| source.path.file_name());
        Sha256::digest(name.map(|name| name.as_encoded_bytes()).unwrap_or_default()).to_vec()
    };
    let mut ranked: Vec<(Vec<u8>, usize)> = sources
        .iter()
        .map(|&source| (rank(source), source))
        .collect();
    ranked.sort();
    let count = ((sources.len() as f64 * fraction).round() as usize).clamp(1, sources.len() - 1);
    ranked
        .iter()
        .take(count)
        .map(|(_, source)| *source)
        .collect()
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

/// Holds back the last episodes of the only source until there are `wanted` frames. The episode before them may end
/// where they begin, as when a shard was full, so it loses its end.
fn hold_back_last(episodes: &mut [EpisodeRecord], wanted: usize, gap: usize) -> String {
    let all = episodes.len();
    let mut first_held = all;
    let mut held = 0;
    while held < wanted && first_held > 1 {
        first_held -= 1;
        held += episodes[first_held].length;
    }
    for episode in &mut episodes[first_held..] {
        episode.split = Split::Validation;
    }
    let before = &mut episodes[first_held - 1];
    // Where nothing would be left of it, at least the frames next to the other half go.
    before.length = before.length.saturating_sub(gap).max(2.min(before.length));
    format!(
        "validation: the last {} of {all} episodes of the only source",
        all - first_held
    )
}

#[cfg(test)]
mod tests {
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
        let sources = paths.iter().map(|path| Source {
            path: path.into(),
            kind,
        });
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
                a.source != b.source || a.start + a.length < b.start,
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
