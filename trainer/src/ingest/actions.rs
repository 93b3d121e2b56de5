//! True actions: the sidecar of a video, or what a recorded session says of itself.
//!
//! Both are brought to one form here: entry i is what is done between picture i and picture i+1 of the source.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use serde_json::Value;

use super::inputs::{Kind, Source};

/// `NAME.actions.jsonl` lies beside `NAME.mp4` or the folder `NAME`.
const SIDECAR_ENDING: &str = "actions.jsonl";

/// Longest sidecar that is read, in bytes.
const LONGEST_SIDECAR: u64 = 1 << 28;

/// Longest line of one, in bytes: parsed, it takes many times as much memory.
const LONGEST_LINE: u64 = 1 << 20;

/// What some editors begin a file with.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Most pictures that a sidecar may speak of: a week at 60 frames per second.
const MOST_PICTURES: u32 = 40_000_000;

/// What is known of the actions of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TrueActions {
    /// The different names.
    names: Vec<String>,
    /// Number of the name by picture of the source; `None` for null. Sparse: what a file says costs memory by its own length,
    /// whatever pictures it speaks of.
    by_picture: BTreeMap<u32, Option<u32>>,
    /// Whether a null between two actions ends an episode.
    nulls_end_episodes: bool,
    /// Pictures after which time jumps.
    jumps: BTreeSet<u32>,
    /// Pictures that the file speaks of without saying what is done after them.
    pictures: u64,
}

impl TrueActions {
    /// Reads what lies beside `source`; `None` when there is nothing.
    pub(super) fn of(source: &Source) -> Result<Option<Self>, String> {
        let path = match source.kind {
            Kind::Session => source.path.join("actions.jsonl"),
            Kind::Video => source.path.with_extension(SIDECAR_ENDING),
            // What follows a dot in a folder's name is no ending.
            Kind::Images => source.path.with_added_extension(SIDECAR_ENDING),
        };
        if !path.is_file() {
            return Ok(None);
        }
        let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let lines = BufReader::new(file.take(LONGEST_SIDECAR));
        let parsed = match source.kind {
            Kind::Session => Self::parse_session(lines),
            Kind::Video | Kind::Images => Self::parse_sidecar(lines),
        };
        parsed
            .map(Some)
            .map_err(|what| format!("{}: {what}", path.display()))
    }

    /// A sidecar: line i is what is done between pictures i and i+1, unless it names its frame itself.
    fn parse_sidecar(lines: impl BufRead) -> Result<Self, String> {
        let mut builder = Builder::default();
        for_each_line(lines, |number, value| {
            let (frame, action) = match &value {
                Value::Object(fields) => (
                    frame_number(fields.get("frame"))?,
                    fields.get("action").ok_or("it has no \"action\"")?,
                ),
                other => (None, other),
            };
            builder.set(frame.unwrap_or(number), name(action)?)
        })?;
        Ok(builder.finish(true))
    }

    /// A session: the line of a frame says how it was made from the one before it. Every frame is a picture of the video, in the order of the
    /// lines; where the player went back or elsewhere, an event says how many pictures show the place that play went on from. A session
    /// that does not begin with an event was never left: there the frame's number is the picture's.
    fn parse_session(lines: impl BufRead) -> Result<Self, String> {
        let mut builder = Builder::default();
        let mut next: Option<u64> = None;
        for_each_line(lines, |number, value| {
            let Value::Object(fields) = &value else {
                return Err("it is not an object".to_owned());
            };
            if fields.contains_key("event") {
                let shown = match fields.get("pictures") {
                    Some(shown) => shown.as_u64().ok_or("it has no number of pictures")?,
                    None => return Ok(()),
                };
                let before = next.unwrap_or(0);
                next = Some(builder.jump(before, shown)?);
                return Ok(());
            }
            let frame = frame_number(fields.get("frame"))?.unwrap_or(number);
            let picture = next.unwrap_or(frame);
            next = next.map(|next| next + 1);
            let code = fields.get("code").map_or(Ok(None), name)?;
            match nn::change_into(picture as usize) {
                Some(change) => builder.set(change as u64, code),
                None => Ok(()),
            }
        })?;
        Ok(builder.finish(false))
    }

    /// What is done between pictures `picture` and `picture + 1`.
    pub(super) fn name(&self, picture: usize) -> Option<&str> {
        let picture = u32::try_from(picture).ok()?;
        let number = (*self.by_picture.get(&picture)?)?;
        self.names.get(number as usize).map(String::as_str)
    }

    /// Whether picture `picture` is the last of its episode: a jump in time says so, and a lone null between actions; a run of
    /// nulls only that nothing is known there, as do pictures that the file leaves out.
    pub(super) fn ends_episode(&self, picture: usize) -> bool {
        if u32::try_from(picture).is_ok_and(|picture| self.jumps.contains(&picture)) {
            return true;
        }
        let known =
            |picture: Option<usize>| picture.is_some_and(|picture| self.name(picture).is_some());
        let is_null = |picture| self.by_picture.get(&picture) == Some(&None);
        self.nulls_end_episodes
            && u32::try_from(picture).is_ok_and(is_null)
            && known(picture.checked_sub(1))
            && known(picture.checked_add(1))
    }

    /// Number of pictures that the file speaks of.
    pub(super) fn len(&self) -> u64 {
        let last = self.by_picture.last_key_value();
        let known = last.map_or(0, |(&picture, _)| u64::from(picture) + 1);
        known.max(self.pictures)
    }
}

/// Takes actions in any order.
#[derive(Default)]
struct Builder {
    actions: TrueActions,
    numbers: HashMap<String, u32>,
}

impl Builder {
    fn set(&mut self, picture: u64, name: Option<String>) -> Result<(), String> {
        let number = name.map(|name| self.number(name));
        let picture = u32::try_from(picture)
            .ok()
            .filter(|&picture| picture < MOST_PICTURES)
            .ok_or_else(|| format!("frame {picture} is beyond {MOST_PICTURES}"))?;
        self.actions.by_picture.insert(picture, number);
        Ok(())
    }

    /// Time jumps after `before` pictures, and `shown` pictures show where to. Returns how many pictures there are then.
    fn jump(&mut self, before: u64, shown: u64) -> Result<u64, String> {
        let after = before.checked_add(shown);
        let after = after.filter(|&after| after < u64::from(MOST_PICTURES));
        let after = after.ok_or_else(|| format!("more than {MOST_PICTURES} pictures"))?;
        // Both are below what a picture's number can be.
        self.actions
            .jumps
            .extend(before.checked_sub(1).map(|last| last as u32));
        self.actions.pictures = after;
        Ok(after)
    }

    /// Number of a name, which is new or not.
    fn number(&mut self, name: String) -> u32 {
        let names = &mut self.actions.names;
        *self.numbers.entry(name).or_insert_with_key(|name| {
            names.push(name.clone());
            (names.len() - 1) as u32
        })
    }

    fn finish(self, nulls_end_episodes: bool) -> TrueActions {
        TrueActions {
            nulls_end_episodes,
            ..self.actions
        }
    }
}

/// Calls `take` with the number and value of each line that is not empty. A last line that a crash has cut off is left out.
fn for_each_line(
    mut lines: impl BufRead,
    mut take: impl FnMut(u64, Value) -> Result<(), String>,
) -> Result<(), String> {
    let mut number = 0;
    let mut line = Vec::new();
    for line_number in 1.. {
        let at = |what: String| format!("line {line_number}: {what}");
        line.clear();
        let mut limited = lines.by_ref().take(LONGEST_LINE + 1);
        let read = limited.read_until(b'\n', &mut line);
        match read.map_err(|error| at(error.to_string()))? as u64 {
            0 => break,
            length if length > LONGEST_LINE => {
                return Err(at(format!("it is longer than {LONGEST_LINE} bytes")));
            }
            _ => {}
        }
        let text = match line.strip_prefix(BYTE_ORDER_MARK) {
            Some(text) if line_number == 1 => text,
            _ => &line,
        };
        if text.trim_ascii().is_empty() {
            continue;
        }
        let value = match serde_json::from_slice(text.trim_ascii_end()) {
            Ok(value) => value,
            Err(_) if line.last() != Some(&b'\n') => break,
            Err(error) => {
                // The parser knows of one line only.
                let what = error.to_string().replace("at line 1 column", "at column");
                return Err(at(what));
            }
        };
        take(number, value).map_err(at)?;
        number += 1;
    }
    Ok(())
}

fn frame_number(value: Option<&Value>) -> Result<Option<u64>, String> {
    value
        .map(|value| {
            value
                .as_u64()
                .ok_or_else(|| format!("{} is no frame number", beginning(value)))
        })
        .transpose()
}

fn name(value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(name) if name.len() <= 200 => Ok(Some(printable(name))),
        Value::Number(number) => Ok(Some(number.to_string())),
        other => Err(format!("{} is no action", beginning(other))),
    }
}

/// As much of a value as a message has room for.
fn beginning(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

/// A name from a stranger's file, safe to print: control characters escaped.
fn printable(name: &str) -> String {
    let escaped = |c: char| match c.is_control() {
        true => c.escape_default().collect(),
        false => c.to_string(),
    };
    name.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sidecar_of(text: &str) -> Result<TrueActions, String> {
        TrueActions::parse_sidecar(text.as_bytes())
    }

    fn names(actions: &TrueActions) -> Vec<Option<&str>> {
        (0..actions.len() as usize)
            .map(|picture| actions.name(picture))
            .collect()
    }

    #[test]
    fn objects_strings_and_numbers() {
        let actions =
            sidecar_of("{\"frame\": 0, \"action\": \"right+jump\"}\n\"left\"\n\n3\nnull\n")
                .unwrap();
        assert_eq!(
            names(&actions),
            [Some("right+jump"), Some("left"), Some("3"), None]
        );
    }

    #[test]
    fn a_mark_of_the_encoding_is_no_part_of_the_first_line() {
        let actions = sidecar_of("\u{feff}\"left\"\n\"right\"\n").unwrap();
        assert_eq!(names(&actions), [Some("left"), Some("right")]);
        let Err(refused) = sidecar_of("\"left\"\n\u{feff}\"right\"\n") else {
            panic!("it was read");
        };
        assert!(refused.starts_with("line 2: "), "{refused}");
    }

    #[test]
    fn an_endless_line_is_refused() {
        let endless = format!("\"a\"\n\"{}\"\n", "b".repeat(LONGEST_LINE as usize));
        let Err(refused) = sidecar_of(&endless) else {
            panic!("it was read");
        };
        assert!(refused.starts_with("line 2: it is longer"), "{refused}");
    }

    #[test]
    fn lines_may_name_their_frames() {
        let actions =
            sidecar_of("{\"frame\": 2, \"action\": \"b\"}\n{\"frame\": 0, \"action\": \"a\"}\n")
                .unwrap();
        assert_eq!(names(&actions), [Some("a"), None, Some("b")]);
    }

    #[test]
    fn memory_follows_the_file_and_not_the_pictures_it_speaks_of() {
        let actions = sidecar_of("{\"frame\": 39999999, \"action\": \"a\"}\n").unwrap();
        assert_eq!(actions.len(), 40_000_000);
        assert_eq!(
            (actions.name(39_999_999), actions.name(0)),
            (Some("a"), None)
        );
        assert_eq!(actions.by_picture.len(), 1);
    }

    #[test]
    fn names_are_safe_to_print() {
        let actions = sidecar_of("\"a\\u001b[2Jb\"\n").unwrap();
        assert_eq!(names(&actions), [Some("a\\u{1b}[2Jb")]);
    }

    #[test]
    fn only_a_lone_null_in_the_middle_ends_an_episode() {
        let actions = sidecar_of("1\nnull\n1\nnull\nnull\n1\nnull\n").unwrap();
        let ends: Vec<usize> = (0..10)
            .filter(|&picture| actions.ends_episode(picture))
            .collect();
        assert_eq!(ends, [1]);
        // As of keys that were looked at every other picture.
        let lines: String = (0..10)
            .step_by(2)
            .map(|frame| format!("{{\"frame\": {frame}, \"action\": 1}}\n"))
            .collect();
        let actions = sidecar_of(&lines).unwrap();
        assert!((0..10).all(|picture| !actions.ends_episode(picture)));
    }

    #[test]
    fn sessions_speak_of_the_change_before_a_frame() {
        let text = "{\"frame\":0,\"code\":null}\n{\"frame\":1,\"wish\":[2],\"code\":5,\"device\":\"x\",\"time\":0.1}\n{\"frame\":2,\"code\":0}\n";
        let actions = TrueActions::parse_session(text.as_bytes()).unwrap();
        assert_eq!(names(&actions), [Some("5"), Some("0")]);
    }

    #[test]
    fn where_a_session_jumps_an_episode_ends() {
        let text = [
            r#"{"event":"start","frame":40,"pictures":2}"#,
            r#"{"frame":41,"code":3}"#,
            r#"{"event":"settings","settings":{}}"#,
            r#"{"frame":42,"code":1}"#,
            r#"{"event":"rewind","frame":41,"pictures":1}"#,
            r#"{"frame":42,"code":2}"#,
            r#"{"event":"prompt","frame":0,"pictures":2,"prompt":["a","a"]}"#,
            r#"{"event":"end"}"#,
        ];
        // Pictures: 0 and 1 the start, 2 and 3 frames, 4 frame 41 again, 5 a frame, 6 and 7 the prompt.
        let actions = TrueActions::parse_session((text.join("\n") + "\n").as_bytes()).unwrap();
        let expected = [
            None,
            Some("3"),
            Some("1"),
            None,
            Some("2"),
            None,
            None,
            None,
        ];
        assert_eq!(names(&actions), expected);
        let ends: Vec<usize> = (0..10)
            .filter(|&picture| actions.ends_episode(picture))
            .collect();
        assert_eq!(ends, [3, 5]);
        let many = r#"{"event":"start","pictures":18446744073709551615}"#;
        assert!(TrueActions::parse_session(format!("{many}\n{many}\n").as_bytes()).is_err());
    }

    #[test]
    fn a_last_line_that_was_cut_off_is_left_out() {
        let actions = sidecar_of("1\n2\n{\"frame\": 2, \"acti").unwrap();
        assert_eq!(names(&actions), [Some("1"), Some("2")]);
    }

    #[test]
    fn mistakes_are_named_by_line() {
        let long = format!("1\n{{\"frame\": \"{}\", \"action\": 0}}", "9".repeat(1000));
        for text in [
            long.as_str(),
            "1\n{\"frame\": 1}",
            "1\n{\"frame\": -1, \"action\": 0}",
            "1\n[1]",
            "1\n{\n",
            "1\n{\"frame\": 99999999999, \"action\": 0}",
        ] {
            let message = sidecar_of(text).unwrap_err();
            assert!(message.starts_with("line 2: "), "{message}");
            assert!(message.len() < 200, "{message}");
            assert_eq!(message.matches("line").count(), 1, "{message}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails(text in "([0-9]{1,9}|null|\"[a-z]*\"|\\{\"frame\":[0-9]{1,6},\"(action|code)\":[0-9]\\}|.|\n){0,40}") {
            let _ = TrueActions::parse_session(text.as_bytes());
            if let Ok(actions) = TrueActions::parse_sidecar(text.as_bytes()) {
                for picture in 0..actions.len().min(1000) {
                    let _ = actions.ends_episode(picture as usize);
                }
            }
        }
    }
}
