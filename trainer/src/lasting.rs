//! How long action codes last in video: which of them end by themselves.
//!
//! The dynamics sees half a second of the past. A jump that a player's wish has drawn out over all of it is like nothing in the video, and the model
//! may go on rising for as long as the key is held. The video itself leaves no doubt: nearly all jumps end after the same number of
//! frames and none begins before the fall is over, whereas running ends whenever the player wants it.

use nn::ActionCode;
use worlds::{LONGEST_LASTING, Lasting};

/// Most frames that a code is said to last; as many may come after them.
const LONGEST: usize = LONGEST_LASTING as usize / 2;
/// Fewer than one in so many stretches went on: that is no player's choice.
const WENT_ON_ONE_IN: usize = 10;
/// At most one in so many was followed by another so soon: that is no player's choice either.
const AGAIN_ONE_IN: usize = 50;
/// Stretches that it takes to say so.
const LEAST_STRETCHES: usize = 20;

/// Frames in a row of one code.
struct Stretch {
    frames: usize,
    /// Whether another code came after it, not its episode's end.
    ended: bool,
    /// Frames until the code came again, if it did so in the same episode.
    until_next: Option<usize>,
}

/// How long each of `codes` codes lasts in these episodes, as [`worlds::WorldManifest::lasts`] has it: the number of frames after which nearly all of its
/// stretches end, and of the frames after those, at most as many again, in which hardly any begins. `None` for codes that last for
/// as long as a player likes or are too rare to tell; at the end such entries are left out.
pub(crate) fn lasts(episodes: &[Vec<ActionCode>], codes: usize) -> Vec<Option<Lasting>> {
    let codes = (0..codes as u16).map(ActionCode);
    let lasts = codes.map(|code| lasting(&stretches(episodes, code)));
    let mut lasts: Vec<_> = lasts.collect();
    let last = lasts.iter().rposition(Option::is_some);
    lasts.truncate(last.map_or(0, |last| last + 1));
    lasts
}

fn lasting(stretches: &[Stretch]) -> Option<Lasting> {
    let nearly_all_end = |&frames: &usize| {
        let came_so_far = |s: &&Stretch| s.frames > frames || s.frames == frames && s.ended;
        let came = stretches.iter().filter(came_so_far).count();
        let went_on = stretches.iter().filter(|s| s.frames > frames).count();
        came >= LEAST_STRETCHES && went_on * WENT_ON_ONE_IN < came
    };
    let frames = (1..=LONGEST).find(nearly_all_end)?;
    let whole = stretches.iter().filter(|s| s.ended && s.frames >= frames);
    let gaps: Vec<_> = whole.map(|stretch| stretch.until_next).collect();
    let hardly_any_again = |most: &usize| {
        let again = gaps.iter().flatten().filter(|gap| *gap <= most).count();
        again * AGAIN_ONE_IN <= gaps.len()
    };
    let pause = (1..=frames).take_while(hardly_any_again).count();
    Some(Lasting {
        frames: frames as u16,
        of: (frames + pause) as u16,
    })
}

fn stretches(episodes: &[Vec<ActionCode>], code: ActionCode) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for episode in episodes {
        let mut end_before = None;
        let mut at = 0;
        for run in episode.chunk_by(|a, b| a == b) {
            if run[0] == code {
                if let (Some(end), Some(last)) = (end_before, all.last_mut()) {
                    last.until_next = Some(at - end);
                }
                end_before = Some(at + run.len());
                all.push(Stretch {
                    frames: run.len(),
                    ended: at + run.len() < episode.len(),
                    until_next: None,
                });
            }
            at += run.len();
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How code 0 lasts. Each `(count, frames, gap)` is an episode: `count` times `frames` of code 0 and then `gap` of code 1.
    fn of(stretches: &[(usize, usize, usize)]) -> Option<(u16, u16)> {
        let episode = |&(count, frames, gap): &(usize, usize, usize)| -> Vec<ActionCode> {
            let code = |frame| u16::from(frame % (frames + gap) >= frames);
            (0..count * (frames + gap))
                .map(|frame| ActionCode(code(frame)))
                .collect()
        };
        let episodes: Vec<_> = stretches.iter().map(episode).collect();
        let lasting = lasts(&episodes, 2).first().copied().flatten();
        lasting.map(|Lasting { frames, of }| (frames, of))
    }

    #[test]
    fn stretches_that_nearly_all_end_alike_tell_how_long_a_code_lasts() {
        // A few are cut short, and one is longer.
        assert_eq!(of(&[(60, 6, 4), (9, 2, 1), (1, 9, 4)]), Some((6, 9)));
        // Too many went on.
        assert_eq!(of(&[(60, 6, 4), (9, 9, 4)]), None);
        // Too few came so far.
        assert_eq!(of(&[(19, 6, 4)]), None);
        // It ends whenever the player wants it.
        let any: Vec<_> = (1..40).map(|length| (50 - length, length, 3)).collect();
        assert_eq!(of(&any), None);
        // Longer than anything that is told apart, and a code that does not occur.
        assert_eq!(of(&[(30, 200, 1)]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn where_none_begins_for_a_while_after_a_whole_one_that_belongs_to_it() {
        // For more frames than it lasts it is rather the player who pauses.
        assert_eq!(of(&[(60, 3, 40)]), Some((3, 6)));
        assert_eq!(of(&[(60, 3, 1)]), Some((3, 3)));
        // One in fifty may come sooner.
        assert_eq!(of(&[(60, 3, 3), (1, 3, 1)]), Some((3, 5)));
        assert_eq!(of(&[(60, 3, 3), (3, 3, 1)]), Some((3, 3)));
    }

    #[test]
    fn an_episodes_end_ends_no_stretch() {
        assert_eq!(lasts(&vec![vec![ActionCode(0); 3]; 30], 1), []);
    }
}
