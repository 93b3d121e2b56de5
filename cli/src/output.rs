//! What the program says: results on standard output, everything else on standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};

use crate::arguments::Common;

/// How much is said, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    quiet: bool,
    json: bool,
}

impl Output {
    /// As the options of all commands say.
    pub fn new(common: &Common) -> Self {
        Self {
            quiet: common.quiet,
            json: common.json,
        }
    }

    /// Whether results are JSON, for programs.
    pub fn is_for_programs(&self) -> bool {
        self.json
    }

    /// Whether a person reads the results as they come: not a program, a file or nobody.
    pub fn is_for_a_person(&self) -> bool {
        !self.quiet && !self.json && std::io::stdout().is_terminal()
    }

    /// Tells a person something by the way; silent for programs and when told to be quiet.
    pub fn say(&self, text: impl std::fmt::Display) {
        if !self.quiet && !self.json {
            // Whether anyone still listens (`| head`, a full disk behind `>`) decides nothing about the work.
            let _ = print(text);
        }
    }

    /// Tells something that must not get lost: by the way to a person, and on standard error where results alone are wanted.
    pub fn tell(&self, text: impl std::fmt::Display) {
        if self.quiet || self.json {
            complain(text);
        } else {
            self.say(text);
        }
    }

    /// A result: text for people, or one JSON object for programs.
    ///
    /// # Errors
    /// When the result cannot be written as JSON, or standard output cannot be written to. That nobody reads it is no error.
    pub fn result(
        &self,
        value: &impl Serialize,
        text: impl std::fmt::Display,
    ) -> anyhow::Result<()> {
        if self.json {
            print(serde_json::to_string_pretty(value)?)?;
        } else {
            print(text)?;
        }
        Ok(())
    }

    /// A progress bar of `total` things, with rate and time left.
    pub fn bar(&self, total: u64, unit: &str) -> ProgressBar {
        let template = format!(
            "{{msg}} {{wide_bar}} {{pos}}/{{len}} {unit} {{rate:>10}} {{eta_precise}} left"
        );
        self.styled(ProgressBar::new(total), &template)
    }

    /// A progress bar of shares, in thousandths, whose message says everything else.
    pub fn share_bar(&self) -> ProgressBar {
        self.styled(ProgressBar::new(1000), "{wide_bar} {percent:>3}% {msg}")
    }

    fn styled(&self, bar: ProgressBar, template: &str) -> ProgressBar {
        if self.quiet || self.json {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        // The templates are constants; if one were wrong, the default style would do.
        if let Ok(style) = ProgressStyle::with_template(template) {
            let style = style.with_key(
                "rate",
                |state: &ProgressState, text: &mut dyn std::fmt::Write| {
                    // A text that cannot be written leaves its place on the bar empty.
                    let _ = write!(text, "{:.1}/s", state.per_sec());
                },
            );
            bar.set_style(style.progress_chars("=> "));
        }
        bar
    }
}

/// Writes a line to standard output; where its reader has gone away, nobody misses it.
fn print(text: impl std::fmt::Display) -> std::io::Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes a line to standard error, as far as anyone listens.
pub fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Seconds as a person reads them.
pub fn readable_seconds(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::readable_seconds;

    #[test]
    fn seconds_are_readable() {
        assert_eq!(readable_seconds(7.4), "7 s");
        assert_eq!(readable_seconds(125.0), "2 min 05 s");
        assert_eq!(readable_seconds(7260.0), "2 h 01 min");
    }
}
