//! `actions.jsonl`: one line a frame.

use nn::ActionCode;
use serde::{Deserialize, Serialize};

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

/// Reads the lines of an `actions.jsonl`, and tells whether the text ends with a whole line: a last line without end, as a crash leaves
/// it, is left out.
///
/// # Errors
/// The first line, from 1, that cannot be read, and why.
pub fn parse_action_lines(text: &str) -> Result<(Vec<ActionLine>, bool), (usize, String)> {
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
        let parsed: ActionLine =
            serde_json::from_str(line).map_err(|error| (index + 1, error.to_string()))?;
        lines.push(parsed);
    }
    Ok((lines, complete))
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
    fn a_mistake_in_the_middle_is_an_error_and_one_at_the_end_is_a_crash() {
        let good = serde_json::to_string(&line(1)).unwrap();
        let (lines, complete) = parse_action_lines(&format!("{good}\n{good}\n{good}")).unwrap();
        assert_eq!((lines.len(), complete), (2, false));
        let (lines, complete) = parse_action_lines(&format!("{good}\n\n{good}\n")).unwrap();
        assert_eq!((lines.len(), complete), (2, true));
        assert_eq!(
            parse_action_lines(&format!("{good}\n{{\n{good}\n"))
                .unwrap_err()
                .0,
            2
        );
        assert_eq!(parse_action_lines("").unwrap(), (vec![], true));
    }

    proptest! {
        #[test]
        fn a_cut_text_gives_the_lines_before_the_cut(count in 0u64..6, cut in any::<prop::sample::Index>()) {
            let text: String = (1..=count).map(|frame| serde_json::to_string(&line(frame)).unwrap() + "\n").collect();
            let cut = cut.index(text.len() + 1);
            let (lines, complete) = parse_action_lines(&text[..cut]).unwrap();
            prop_assert_eq!(lines.len(), text[..cut].matches('\n').count());
            prop_assert_eq!(complete, cut == 0 || text[..cut].ends_with('\n'));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC|\n){0,60}") {
            let _ = parse_action_lines(&text);
        }
    }
}
