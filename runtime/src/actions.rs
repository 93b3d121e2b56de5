//! Where the actions of a play without hands come from.

use crate::error::{Error, Result};
use crate::session::{SessionLine, parse_session_lines};
use nn::ActionCode;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use worlds::{RandomPlayer, Wish, WorldManifest};

/// Largest file of wishes or actions.
const LARGEST_FILE: u64 = 256 << 20;

/// What is asked of the world in one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A wish, of which the action prior makes a code.
    Wish(Wish),
    /// A recorded code, to be carried out as it is.
    Code(ActionCode),
}

/// Gives the actions of a play, frame by frame.
#[derive(Clone, Debug)]
pub enum ActionSource {
    /// The wishes of a file, then none.
    Wishes(std::vec::IntoIter<Wish>),
    /// The codes of a recorded session, then no wishes.
    Codes(std::vec::IntoIter<ActionCode>),
    /// A seeded random player with sticky wishes.
    Random(Box<RandomPlayer>),
    /// No wishes: the action prior plays.
    Autoplay,
}

impl ActionSource {
    /// A random player for a world.
    pub fn random(seed: u64, manifest: &WorldManifest) -> Self {
        Self::Random(Box::new(RandomPlayer::new(seed, manifest.codes())))
    }

    /// Codes to be carried out one after another.
    pub fn codes(codes: Vec<ActionCode>) -> Self {
        Self::Codes(codes.into_iter())
    }

    /// Reads a file: wishes, one a line (a code's number or name, several joined by `+`, empty for none), or a session's
    /// `actions.jsonl`.
    ///
    /// # Errors
    /// Names the line that means nothing to the world.
    pub fn read(path: &Path, manifest: &WorldManifest) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let mut bytes = Vec::new();
        let mut limited = file.take(LARGEST_FILE + 1);
        limited.read_to_end(&mut bytes).map_err(Error::io(path))?;
        let refuse = |line, reason: String| Error::WishFile {
            path: path.to_owned(),
            line,
            reason,
        };
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(refuse(
                1,
                format!("the file is larger than {LARGEST_FILE} bytes"),
            ));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let before = error.as_bytes().get(..error.utf8_error().valid_up_to());
            let newlines = before.unwrap_or_default().iter().filter(|&&b| b == b'\n');
            refuse(newlines.count() + 1, "is no text".into())
        })?;
        Self::parse(&text, manifest).map_err(|(line, reason)| refuse(line, reason))
    }

    /// As [`Self::read`], from text. The error is the line, from 1, and what is wrong with it.
    fn parse(text: &str, manifest: &WorldManifest) -> Result<Self, (usize, String)> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim_start().starts_with('{') {
            let (lines, _) = parse_session_lines(text)?;
            let mut codes = Vec::with_capacity(lines.len());
            for (number, line) in lines {
                let SessionLine::Frame(line) = line else {
                    continue;
                };
                if usize::from(line.code.0) >= manifest.codes() {
                    let reason = format!("code {} of {}", line.code, manifest.codes());
                    return Err((number, reason));
                }
                codes.push(line.code);
            }
            return Ok(Self::codes(codes));
        }
        let mut wishes = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let wish = Wish::parse(line, manifest);
            wishes.push(wish.map_err(|error| (index + 1, error.to_string()))?);
        }
        Ok(Self::Wishes(wishes.into_iter()))
    }

    /// How many frames the source still speaks of; `None` for one without end.
    pub fn remaining(&self) -> Option<usize> {
        match self {
            Self::Wishes(wishes) => Some(wishes.len()),
            Self::Codes(codes) => Some(codes.len()),
            Self::Random(_) | Self::Autoplay => None,
        }
    }

    /// What is asked of the next frame.
    pub fn next_asked(&mut self) -> Asked {
        match self {
            Self::Wishes(wishes) => Asked::Wish(wishes.next().unwrap_or_default()),
            Self::Codes(codes) => match codes.next() {
                Some(code) => Asked::Code(code),
                None => Asked::Wish(Wish::none()),
            },
            Self::Random(player) => Asked::Wish(player.next_wish()),
            Self::Autoplay => Asked::Wish(Wish::none()),
        }
    }

    /// What a recording calls this source.
    pub fn device(&self) -> &'static str {
        match self {
            Self::Wishes(_) => "file",
            Self::Codes(_) => "session",
            Self::Random(_) => "random",
            Self::Autoplay => "autoplay",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest() -> WorldManifest {
        worlds::tiny_contents(1).unwrap().manifest
    }

    fn wish(codes: &[u16]) -> Asked {
        Asked::Wish(codes.iter().map(|&code| ActionCode(code)).collect())
    }

    #[test]
    fn wishes_are_read_one_a_line() {
        let text = "\u{feff}1\r\n\r\njump+left\n  idle \n";
        let mut source = ActionSource::parse(text, &manifest()).unwrap();
        assert_eq!((source.remaining(), source.device()), (Some(4), "file"));
        for expected in [wish(&[1]), wish(&[]), wish(&[0, 2]), wish(&[3]), wish(&[])] {
            assert_eq!(source.next_asked(), expected);
        }
    }

    #[test]
    fn a_sessions_codes_are_played_again_up_to_the_last_complete_line() {
        let text = "{\"frame\":1,\"wish\":[3],\"code\":2,\"device\":\"keyboard\",\"time\":0.1}\n{\"frame\":2,\"code\":0}\n{\"frame\":3,\"co";
        let mut source = ActionSource::parse(text, &manifest()).unwrap();
        assert_eq!(source.remaining(), Some(2));
        assert_eq!(source.next_asked(), Asked::Code(ActionCode(2)));
        assert_eq!(source.next_asked(), Asked::Code(ActionCode(0)));
        assert_eq!(source.next_asked(), wish(&[]));
    }

    #[test]
    fn mistakes_are_named_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wishes.txt");
        let mistake = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            ActionSource::read(&path, &manifest())
                .unwrap_err()
                .to_string()
        };
        let unknown = mistake(b"1\n\nfly\n");
        assert!(
            unknown.contains("wishes.txt, line 3: no action \"fly\""),
            "{unknown}"
        );
        let binary = mistake(b"1\n2\n\xff\xfe\n");
        assert!(binary.contains("line 3: is no text"), "{binary}");
        let code = mistake(b"{\"frame\":1,\"code\":0}\n{\"frame\":2,\"code\":9}\n");
        assert!(code.contains("line 2: code 9 of 4"), "{code}");
        // Lines of what happened between frames count, and so do empty ones.
        let code = mistake(
            b"{\"event\":\"start\",\"frame\":0,\"pictures\":1}\n\n{\"frame\":1,\"code\":0}\n{\"frame\":2,\"code\":9}\n",
        );
        assert!(code.contains("line 4: code 9 of 4"), "{code}");
        let broken =
            mistake(b"{\"frame\":1,\"code\":0}\n{\"frame\":2}\n{\"frame\":3,\"code\":1}\n");
        assert!(broken.contains("line 2: "), "{broken}");
        std::fs::remove_file(&path).unwrap();
        assert!(ActionSource::read(&path, &manifest()).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC|\n|\\+|[0-9]|\\{\"frame\":[0-9],\"code\":[0-9]\\}){0,40}") {
            if let Err((line, _)) = ActionSource::parse(&text, &manifest()) {
                prop_assert!((1..=text.lines().count()).contains(&line));
            }
        }

        #[test]
        fn written_wishes_are_read_back(codes in proptest::collection::vec(proptest::collection::vec(0u16..4, 0..4), 0..20)) {
            let manifest = manifest();
            let wishes: Vec<Wish> = codes.iter().map(|codes| codes.iter().map(|&c| ActionCode(c)).collect()).collect();
            let text: String = wishes.iter().map(|wish| wish.to_text(&manifest) + "\n").collect();
            let mut source = ActionSource::parse(&text, &manifest).unwrap();
            prop_assert_eq!(source.remaining(), Some(wishes.len()));
            for wish in wishes {
                prop_assert_eq!(source.next_asked(), Asked::Wish(wish));
            }
        }
    }
}
