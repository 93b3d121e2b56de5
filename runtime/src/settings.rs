//! The player's own settings: a RON file in the user's configuration folder.

use crate::error::{Error, Result};
use crate::input::{ControlTable, OwnControls};
use crate::preferences::{Preferences, SPEEDS};
use crate::whole_file::write_bytes;
use ron::extensions::Extensions;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

const LARGEST_FILE: u64 = 1 << 20;

/// How the picture is enlarged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Every pixel by the same whole factor.
    #[default]
    Integer,
    /// To the window's size, with edges as sharp as can be.
    Sharp,
    /// As on a cathode ray tube.
    Crt,
}

/// What a player can set once and for all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How much a wish weighs against the action prior, in nats; `inf` for plain orders.
    pub strength: Option<f32>,
    /// Sampling temperature.
    pub temperature: Option<f32>,
    /// MaskGIT steps a frame.
    pub steps: Option<usize>,
    /// Whether fewer MaskGIT steps are made where the machine is too slow.
    pub adaptive_steps: bool,
    /// Seconds without input after which the world plays itself; 0 for never.
    pub attract_seconds: f64,
    /// Memory for going back, in MB.
    pub rewind_memory_mb: usize,
    /// Speed of play; 1 is the world's own.
    pub speed: f64,
    /// Volume, from 0 to 1.
    pub volume: f32,
    /// Whether there is no sound.
    pub mute: bool,
    /// How the picture is enlarged.
    pub filter: Filter,
    /// Whether the window fills the screen.
    pub fullscreen: bool,
    /// Where sessions are recorded; the present folder where none is named.
    pub recording_folder: Option<PathBuf>,
    /// Inputs for commands, in place of the usual ones.
    pub commands: OwnControls,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            strength: None,
            temperature: None,
            steps: None,
            adaptive_steps: true,
            attract_seconds: 60.0,
            rewind_memory_mb: 512,
            speed: 1.0,
            volume: 0.8,
            mute: false,
            filter: Filter::Integer,
            fullscreen: false,
            recording_folder: None,
            commands: OwnControls::new(),
        }
    }
}

/// What the file says of each setting.
const COMMENTS: [(&str, &str); 13] = [
    (
        "strength",
        "How much a wish weighs against the action prior, in nats; inf for plain orders; None for the world's own",
    ),
    (
        "temperature",
        "Sampling temperature; 0 takes the most likely tokens; None for the world's own",
    ),
    ("steps", "MaskGIT steps a frame; None for the world's own"),
    (
        "adaptive_steps",
        "Make fewer MaskGIT steps where the machine is too slow",
    ),
    (
        "attract_seconds",
        "Seconds without input after which the world plays itself; 0 for never",
    ),
    (
        "rewind_memory_mb",
        "Memory for going back, in MB, from 16 to 65536",
    ),
    (
        "speed",
        "Speed of play, from 0.1 to 10; 1 is the world's own",
    ),
    ("volume", "Volume, from 0 to 1"),
    ("mute", "No sound"),
    (
        "filter",
        "How the picture is enlarged: integer, sharp or crt",
    ),
    ("fullscreen", "Fill the screen"),
    (
        "recording_folder",
        "Where sessions are recorded; None for the present folder",
    ),
    (
        "commands",
        "Keys and buttons for commands in place of the usual ones, as in {pause: [\"KeyO\"], new_seed: [\"ShiftLeft+KeyO\"]}",
    ),
];

/// What is wrong with a settings file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsFlaw {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong.
    pub reason: String,
}

impl Settings {
    /// The file in the user's configuration folder; `None` where the system names no such folder.
    pub fn path() -> Option<PathBuf> {
        let user = directories::ProjectDirs::from("", "", "djinn")?;
        Some(user.config_dir().join("settings.ron"))
    }

    /// Reads a file, or takes the defaults where there is none.
    ///
    /// # Errors
    /// Names file, line and column of what cannot be read. The file stays as it is; play with the defaults.
    pub fn read(path: &Path) -> Result<Self> {
        let size = match fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            found => found.map_err(Error::io(path))?.len(),
        };
        let refuse = |flaw: SettingsFlaw| Error::Settings {
            path: path.to_owned(),
            line: flaw.line,
            column: flaw.column,
            reason: flaw.reason,
        };
        if size > LARGEST_FILE {
            let reason = format!("the file is larger than {LARGEST_FILE} bytes");
            return Err(refuse(at(1, 1, reason)));
        }
        let bytes = fs::read(path).map_err(Error::io(path))?;
        let text = String::from_utf8_lossy(&bytes);
        Self::parse(&text).map_err(refuse)
    }

    /// Reads settings from text. What is not named keeps its default.
    ///
    /// # Errors
    /// Says what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, SettingsFlaw> {
        let options = ron::Options::default().with_default_extension(Extensions::IMPLICIT_SOME);
        let settings: Self = options.from_str(text).map_err(|error| {
            let place = error.span.start;
            at(place.line, place.col, error.code.to_string())
        })?;
        settings.check().map_err(|(field, reason)| {
            let (line, column) = place_of(text, field);
            at(line, column, format!("{field} {reason}"))
        })?;
        Ok(settings)
    }

    /// Checks the ranges of what stands for itself; the world checks what is the world's.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let within = |field, good: bool, reason: &str| match good {
            true => Ok(()),
            false => Err((field, reason.to_owned())),
        };
        let strength = self.strength.unwrap_or(0.0);
        let temperature = self.temperature.unwrap_or(0.0);
        let good = strength == f32::INFINITY || (0.0..=1e6).contains(&strength);
        within("strength", good, "must lie in 0..=1e6, or be inf")?;
        let good = (0.0..=100.0).contains(&temperature);
        within("temperature", good, "must lie in 0..=100")?;
        let good = (1..=64).contains(&self.steps.unwrap_or(1));
        within("steps", good, "must lie in 1..=64")?;
        let good = (0.0..=86_400.0).contains(&self.attract_seconds);
        within("attract_seconds", good, "must lie in 0..=86400")?;
        let good = (16..=65_536).contains(&self.rewind_memory_mb);
        within("rewind_memory_mb", good, "must lie in 16..=65536")?;
        let good = SPEEDS.contains(&self.speed);
        within("speed", good, "must lie in 0.1..=10")?;
        let good = (0.0..=1.0).contains(&self.volume);
        within("volume", good, "must lie in 0..=1")?;
        let table = ControlTable::of_player(&self.commands, false);
        table.map(drop).map_err(|reason| ("commands", reason))
    }

    /// The text of a settings file: every setting, each with what it does and its default in a comment.
    ///
    /// # Errors
    /// When a setting cannot be written.
    pub fn to_text(&self) -> Result<String, ron::Error> {
        let (own, usual) = (lines(self)?, lines(&Self::default())?);
        let mut text = "(\n".to_owned();
        for ((name, comment), (own, usual)) in COMMENTS.iter().zip(own.iter().zip(&usual)) {
            let usual = usual.split_once(": ").map_or("", |(_, value)| value);
            let usual = usual.trim_end_matches(',');
            debug_assert!(own.trim_start().starts_with(name));
            text += &format!("    // {comment} [default: {usual}]\n{own}\n");
        }
        Ok(text + ")\n")
    }

    /// Writes the file: under another name first, so that it is never there half.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = self.to_text();
        let text = text.map_err(|error| Error::io(path)(std::io::Error::other(error)))?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        write_bytes(path, text.as_bytes())
    }

    /// Writes those settings to the file that are others than in `before`; what was changed there meanwhile stays, and so does a file that is broken.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn replace(&self, path: &Path, before: &Self) -> Result<()> {
        let mut now = Self::read(path)?;
        macro_rules! keep {
            ($($field:ident),*) => {
                // All of them, or it does not compile.
                let Self { $($field),* } = self;
                $(
                    if *$field != before.$field {
                        now.$field.clone_from($field);
                    }
                )*
            };
        }
        keep!(
            strength,
            temperature,
            steps,
            adaptive_steps,
            attract_seconds,
            rewind_memory_mb,
            speed,
            volume,
            mute,
            filter,
            fullscreen,
            recording_folder,
            commands
        );
        now.write(path)
    }

    /// What of it says how a world is played.
    pub fn preferences(&self) -> Preferences {
        Preferences {
            strength: self.strength,
            steps: self.steps,
            temperature: self.temperature,
            speed: Some(self.speed),
        }
    }
}

fn at(line: usize, column: usize, reason: String) -> SettingsFlaw {
    SettingsFlaw {
        line,
        column,
        reason,
    }
}

/// One line for each setting.
fn lines(settings: &Settings) -> Result<Vec<String>, ron::Error> {
    let pretty = ron::ser::PrettyConfig::new().depth_limit(1);
    let text = ron::ser::to_string_pretty(settings, pretty)?;
    let inner = text.lines().filter(|line| line.starts_with(' '));
    Ok(inner.map(str::to_owned).collect())
}

/// Line and column at which a field stands.
fn place_of(text: &str, field: &str) -> (usize, usize) {
    let find = |(index, line): (usize, &str)| {
        let code = line.split("//").next().unwrap_or_default();
        let column = code.find(field)?;
        code[column + field.len()..]
            .trim_start()
            .starts_with(':')
            .then_some((index + 1, column + 1))
    };
    text.lines().enumerate().find_map(find).unwrap_or((1, 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Control;
    use proptest::prelude::*;

    #[test]
    fn the_written_file_names_every_setting_and_its_default() {
        let text = Settings::default().to_text().unwrap();
        assert_eq!(Settings::parse(&text), Ok(Settings::default()));
        for (name, _) in COMMENTS {
            assert!(text.contains(&format!("\n    {name}: ")), "{text}");
        }
        assert_eq!(text.matches("[default: ").count(), COMMENTS.len());
        assert!(text.contains("[default: 512]"), "{text}");
        let settings = Settings {
            strength: Some(f32::INFINITY),
            speed: 0.5,
            filter: Filter::Crt,
            commands: [(Control::Pause, vec!["KeyO".to_owned()])].into(),
            recording_folder: Some("C:\\plays \"mine\"".into()),
            ..Settings::default()
        };
        let text = settings.to_text().unwrap();
        assert_eq!(Settings::parse(&text), Ok(settings));
        assert!(text.contains("[default: 1.0]\n    speed: 0.5,"), "{text}");
    }

    #[test]
    fn what_is_not_named_keeps_its_default() {
        let settings = Settings::parse("(strength: 2.5, mute: true)").unwrap();
        let expected = Settings {
            strength: Some(2.5),
            mute: true,
            ..Settings::default()
        };
        assert_eq!(settings, expected);
        assert_eq!(Settings::parse("()"), Ok(Settings::default()));
    }

    #[test]
    fn what_two_windows_change_is_kept_of_both() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.ron");
        let before = Settings::read(&path).unwrap();
        let louder = Settings {
            volume: 1.0,
            ..before.clone()
        };
        let sharper = Settings {
            filter: Filter::Sharp,
            ..before.clone()
        };
        louder.replace(&path, &before).unwrap();
        sharper.replace(&path, &before).unwrap();
        let both = Settings {
            filter: Filter::Sharp,
            ..louder
        };
        assert_eq!(Settings::read(&path).unwrap(), both);
        fs::write(&path, "(oops").unwrap();
        assert!(sharper.replace(&path, &before).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "(oops");
    }

    #[test]
    fn a_broken_file_is_told_by_line_and_column_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("settings.ron");
        assert_eq!(Settings::read(&path).unwrap(), Settings::default());
        Settings::default().write(&path).unwrap();
        assert_eq!(Settings::read(&path).unwrap(), Settings::default());
        for (text, place) in [
            ("(\n    mute: perhaps,\n)", "settings.ron, line 2, column "),
            (
                "(\n    // speed: 3\n    speed: 99.0,\n)",
                "line 3, column 5: speed must lie in",
            ),
            ("(\n    colour: 1,\n)", "line 2, column "),
            (
                "(\n    commands: {pause: [\"KeyR\"]},\n)",
                "line 2, column 5: commands KeyR would command both",
            ),
            ("(volume: NaN)", "line 1, column 2: volume"),
            ("", "line 1, column 1"),
        ] {
            fs::write(&path, text).unwrap();
            let told = Settings::read(&path).unwrap_err().to_string();
            assert!(told.contains(place), "{told}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_with_a_place(text in "(\\PC|\n|\\(|\\)|speed: |[0-9]|,){0,40}") {
            if let Err(flaw) = Settings::parse(&text) {
                prop_assert!(flaw.line >= 1 && flaw.column >= 1);
                prop_assert!(flaw.line <= text.lines().count() + 1);
            }
        }

        #[test]
        fn a_file_with_any_damage_is_read_or_refused(at in any::<prop::sample::Index>(), with in "\\PC{0,3}", cut in any::<bool>()) {
            let text = Settings::default().to_text().unwrap();
            let at = at.index(text.len());
            prop_assume!(text.is_char_boundary(at));
            let rest = if cut { "" } else { &text[at + 1..] };
            let _ = Settings::parse(&format!("{}{with}{rest}", &text[..at]));
        }
    }
}
