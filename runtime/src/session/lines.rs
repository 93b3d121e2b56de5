//! `actions.jsonl`: one line a frame, and lines for what happened between frames.

use crate::statistics::FrameTimeSummary;
use nn::ActionCode;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use worlds::RolloutSettings;

/// How one frame came to be. The line of frame `i` speaks of the change from frame `i - 1` to frame `i`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionLine {
    /// Number of the frame; the prompt's first is 0 and has no line.
    pub frame: u64,
    /// The codes that the player wished for.
    #[serde(default)]
    pub wish: Vec<ActionCode>,
    /// The code that came of it.
    pub code: ActionCode,
    /// Where the wish came from; `session` where recorded codes were played again.
    #[serde(default)]
    pub device: String,
    /// Seconds since play began.
    #[serde(default)]
    pub time: f64,
}

/// What happened between two frames. Where time jumps, `frame` is the number of the newest frame afterwards, which the next line follows,
/// and `pictures` how many pictures the video shows of the place that play went on from: they begin a new episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// Recording began: the first line of every session since version 2.
    Start {
        /// Number of the newest frame.
        frame: u64,
        /// Pictures of the prompt, or of the state.
        pictures: u64,
    },
    /// The player went back to an earlier frame since the last [`Self::Prompt`], [`Self::Load`] or [`Self::Start`].
    Rewind {
        /// Number of the frame that is the newest again.
        frame: u64,
        /// Its picture: 1.
        pictures: u64,
    },
    /// The world was started from a prompt, the same or another one.
    Prompt {
        /// Number of the prompt's last frame.
        frame: u64,
        /// Frames of the prompt.
        pictures: u64,
        /// Files of the starting frames.
        prompt: Vec<String>,
        /// Seed, sampler and strength.
        settings: RolloutSettings,
    },
    /// Play went on from a saved state.
    Load {
        /// Number of the state's frame.
        frame: u64,
        /// Its picture: 1.
        pictures: u64,
        /// File of the state.
        state: String,
        /// Seed, sampler and strength.
        settings: RolloutSettings,
    },
    /// Other settings hold from the next frame on. Time goes on.
    Settings {
        /// Seed, sampler and strength.
        settings: RolloutSettings,
    },
    /// Recording was brought to its end.
    End {
        /// How long its frames took to make.
        frame_ms: FrameTimeSummary,
    },
}

impl Event {
    /// Number of the newest frame after a jump in time, and the pictures that the video shows of it; `None` where time goes on.
    pub fn jump(&self) -> Option<(u64, u64)> {
        match *self {
            Self::Start { frame, pictures }
            | Self::Rewind { frame, pictures }
            | Self::Prompt {
                frame, pictures, ..
            }
            | Self::Load {
                frame, pictures, ..
            } => Some((frame, pictures)),
            Self::Settings { .. } | Self::End { .. } => None,
        }
    }
}

/// A line of `actions.jsonl`: a frame, or, where there is a field `event`, what happened between two frames.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionLine {
    /// A frame.
    Frame(ActionLine),
    /// What happened between two frames.
    Event(Event),
}

/// A line and its number, from 1.
pub type NumberedLine = (usize, SessionLine);

/// Reads the lines of an `actions.jsonl`, each with its number from 1, and tells whether the text ends with a whole line: a last line
/// without end, as a crash leaves it, is left out.
///
/// # Errors
/// The first line, from 1, that cannot be read, and why.
pub fn parse_session_lines(text: &str) -> Result<(Vec<NumberedLine>, bool), (usize, String)> {
    let complete = text.is_empty() || text.ends_with('\n');
    let whole = match text.rfind('\n') {
        Some(end) => text.get(..end).unwrap_or_default(),
        None => "",
    };
    let mut lines = Vec::new();
    for (index, line) in whole.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let parsed = parse_line(line).map_err(|error| (index + 1, reason(&error)))?;
        lines.push((index + 1, parsed));
    }
    Ok((lines, complete))
}

fn parse_line(line: &str) -> serde_json::Result<SessionLine> {
    #[derive(Deserialize)]
    struct Kind {
        event: Option<IgnoredAny>,
    }
    let kind: Kind = serde_json::from_str(line)?;
    match kind.event {
        Some(_) => serde_json::from_str(line).map(SessionLine::Event),
        None => serde_json::from_str(line).map(SessionLine::Frame),
    }
}

/// What is wrong with a line. To the parser, which sees nothing else, it is the first line; of the place only the column is told.
fn reason(error: &serde_json::Error) -> String {
    let line = format!(" at line {} column", error.line());
    error.to_string().replace(&line, " at column")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(frame: u64) -> ActionLine {
        ActionLine {
            frame,
            wish: vec![ActionCode(1), ActionCode(3)],
            code: ActionCode(2),
            device: "keyboard".into(),
            time: 0.25,
        }
    }

    #[test]
    fn a_line_says_frame_wish_code_device_and_time() {
        let text = serde_json::to_string(&line(7)).unwrap();
        assert_eq!(
            text,
            r#"{"frame":7,"wish":[1,3],"code":2,"device":"keyboard","time":0.25}"#
        );
    }

    #[test]
    fn events_stand_between_frames() {
        let settings = r#"{"seed":3,"sampler":{"steps":2,"temperature":0.5,"least_share":0.1,"choice_noise":1.0},"strength":"Order"}"#;
        let texts = [
            r#"{"event":"start","frame":1,"pictures":2}"#.to_owned(),
            r#"{"event":"rewind","frame":9,"pictures":1}"#.to_owned(),
            format!(
                r#"{{"event":"prompt","frame":0,"pictures":1,"prompt":["a.png"],"settings":{settings}}}"#
            ),
            format!(
                r#"{{"event":"load","frame":7,"pictures":1,"state":"b.state","settings":{settings}}}"#
            ),
            format!(r#"{{"event":"settings","settings":{settings}}}"#),
        ];
        let text = texts.join("\n") + "\n{\"frame\":8,\"code\":1}\n";
        let (lines, complete) = parse_session_lines(&text).unwrap();
        assert!(complete && lines.len() == 6);
        for ((number, line), text) in lines.iter().zip(&texts) {
            let SessionLine::Event(event) = line else {
                panic!("line {number} is {line:?}");
            };
            assert_eq!(&serde_json::to_string(event).unwrap(), text);
        }
        assert_eq!(
            lines[5].1,
            SessionLine::Frame(ActionLine {
                frame: 8,
                wish: vec![],
                code: ActionCode(1),
                device: String::new(),
                time: 0.0,
            })
        );
        let unknown = parse_session_lines("{\"event\":\"sleep\",\"frame\":1}\n");
        assert_eq!(unknown.unwrap_err().0, 1);
    }

    #[test]
    fn a_mistake_in_the_middle_is_an_error_and_one_at_the_end_is_a_crash() {
        let good = serde_json::to_string(&line(1)).unwrap();
        let (lines, complete) = parse_session_lines(&format!("{good}\n{good}\n{good}")).unwrap();
        assert_eq!((lines.len(), complete), (2, false));
        let (lines, complete) = parse_session_lines(&format!("{good}\n\n{good}\n")).unwrap();
        assert_eq!((lines.len(), complete), (2, true));
        let (number, reason) = parse_session_lines(&format!("{good}\n{{\n{good}\n")).unwrap_err();
        assert_eq!(number, 2);
        assert!(reason.ends_with(" at column 1"), "{reason}");
        assert_eq!(parse_session_lines("").unwrap(), (vec![], true));
    }

    proptest! {
        #[test]
        fn a_cut_text_gives_the_lines_before_the_cut(count in 0u64..6, cut in any::<prop::sample::Index>()) {
            let text: String = (1..=count).map(|frame| serde_json::to_string(&line(frame)).unwrap() + "\n").collect();
            let cut = cut.index(text.len() + 1);
            let (lines, complete) = parse_session_lines(&text[..cut]).unwrap();
            prop_assert_eq!(lines.len(), text[..cut].matches('\n').count());
            prop_assert_eq!(complete, cut == 0 || text[..cut].ends_with('\n'));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC|\n){0,60}") {
            let _ = parse_session_lines(&text);
        }
    }
}
