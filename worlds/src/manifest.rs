//! `world.ron`: what a world is, where it came from, and how it is played.

use crate::error::printable;
use crate::input::Chord;
use crate::sounds::{Sounds, is_wav_name};
use crate::source::is_safe_name;
use dynamics::{DynamicsConfig, SamplerConfig, Strength};
use latent_actions::LatentActionConfig;
use nn::{ActionCode, FrameSize};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tokenizer::TokenizerConfig;

/// Frames per second that a world may run at.
pub const FRAME_RATES: std::ops::RangeInclusive<f64> = 0.1..=240.0;
/// The version of the bundle format that this program writes; it reads this one and those before.
pub const FORMAT_VERSION: u32 = 2;
/// The last version in which latent action models saw frames as they are, and no field said so.
pub(crate) const FRAMES_AS_THEY_ARE: u32 = 1;

/// Most frames in a row that a [`Lasting`] can be about.
pub const LONGEST_LASTING: u16 = 128;

/// Most characters in a one-line text.
const LONGEST_LINE: usize = 200;
/// Most bindings of one action code.
const MOST_BINDINGS: usize = 32;
/// Most characters in a longer text.
const LONGEST_TEXT: usize = 10_000;

/// The content of `world.ron`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldManifest {
    /// Version of the bundle format: [`FORMAT_VERSION`].
    pub version: u32,
    /// What people call the world.
    pub name: String,
    /// Who made it.
    pub author: String,
    /// Licence of the bundle.
    pub licence: String,
    /// The video it was trained on.
    pub training_video: Provenance,
    /// Size of its frames.
    pub frame: FrameSize,
    /// Frames in a second of play.
    pub frames_per_second: f64,
    /// What each action code is called and which inputs wish for it: entry `k` is code `k`.
    pub actions: Vec<Action>,
    /// The code of doing nothing, where there is one.
    #[serde(default)]
    pub idle: Option<ActionCode>,
    /// How much a wish weighs against the action prior unless the player says otherwise.
    pub strength: Strength,
    /// How much a wish for each code weighs, as multiples of the strength; 1 for codes without an entry. A code that the video seldom shows must weigh
    /// more to be heard.
    #[serde(default)]
    pub weights: Vec<f32>,
    /// How long each code lasts, where that is for the world and not for the player to decide: a jump ends. `None` and codes without an entry last for as
    /// long as they are wished for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lasts: Vec<Option<Lasting>>,
    /// Codes that are the player's to begin, in sets of codes that go on in one another. While anything is wished for, they are played when they are wished for or
    /// go on, and not otherwise, however little wishes weigh. Of all others the world may do by itself what its video's player would have done, such as jump
    /// at a wall. Like [`Self::lasts`] this is about wishes: orders are carried out whatever it says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voluntary: Vec<Vec<ActionCode>>,
    /// How frames are sampled unless the player says otherwise.
    pub sampler: SamplerConfig,
    /// The MaskGIT steps that the player may choose from.
    pub maskgit_steps: StepRange,
    /// Starting frames: names of PNG files in `prompts/`.
    pub prompts: Vec<String>,
    /// An ambient loop by itself: name of a WAV file beside the manifest. [`Self::sounds`] can say the same and more.
    #[serde(default)]
    pub sound: Option<String>,
    /// What the world sounds like: WAV files in `sounds/`.
    #[serde(default, skip_serializing_if = "Sounds::is_empty")]
    pub sounds: Sounds,
    /// Measured quality by name, such as `rollout.gap4`.
    #[serde(default)]
    pub quality: BTreeMap<String, f64>,
    /// Sizes of the tokenizer.
    pub tokenizer: TokenizerConfig,
    /// Sizes of the latent action model.
    pub latent_actions: LatentActionConfig,
    /// Sizes of the dynamics.
    pub dynamics: DynamicsConfig,
}

/// Where the training video came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// What it shows, who recorded it, how and how much of it.
    pub source: String,
    /// Under which licence or right it was used.
    pub licence: String,
}

/// One action code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// What it is called; wishes can name it.
    pub name: String,
    /// What wishes for it: keys by their physical names (`ArrowRight`, `KeyD`, `Space`), buttons and stick directions of gamepads (`South`,
    /// `DPadRight`, `LeftStickRight`), and chords of them (`ArrowRight+Space`).
    #[serde(default)]
    pub bindings: Vec<String>,
}

impl Action {
    /// Its bindings as chords; in a manifest that was validated, all of them.
    pub fn chords(&self) -> impl Iterator<Item = Chord> {
        self.bindings
            .iter()
            .filter_map(|binding| Chord::parse(binding).ok())
    }
}

/// How long an action lasts at most where the world decides that: `frames` of any `of` frames in a row. A jump of six frames that leads to a fall of as many
/// lasts 6 of 12. The dynamics sees too little of the past to know it by itself, so a wish for what has lasted so long counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lasting {
    /// So many frames at most.
    pub frames: u16,
    /// Of so many in a row.
    pub of: u16,
}

/// The codes that each chord of these actions' bindings wishes for, in order.
pub fn codes_by_chord(actions: &[Action]) -> BTreeMap<Chord, Vec<ActionCode>> {
    let mut codes: BTreeMap<Chord, Vec<ActionCode>> = BTreeMap::new();
    for (code, action) in (0u16..).map(ActionCode).zip(actions) {
        for chord in action.chords() {
            codes.entry(chord).or_default().push(code);
        }
    }
    codes
}

/// A range of MaskGIT steps, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepRange {
    /// Fewest.
    pub least: usize,
    /// Most.
    pub most: usize,
}

impl Default for StepRange {
    fn default() -> Self {
        Self { least: 1, most: 8 }
    }
}

/// What is wrong with a manifest: the field and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The field.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

pub(crate) fn flaw<T>(field: impl Into<String>, reason: impl Into<String>) -> Result<T, Flaw> {
    Err(Flaw {
        field: field.into(),
        reason: reason.into(),
    })
}

/// Passes a configuration's error on, with the place where the configuration stands.
fn within(place: &str, result: nn::Result<()>) -> Result<(), Flaw> {
    result.or_else(|error| flaw(place, error.to_string()))
}

impl WorldManifest {
    /// Reads and checks the text of a `world.ron`.
    ///
    /// # Errors
    /// Names the field, or the line where the text is no valid RON.
    pub fn parse(text: &str) -> Result<Self, Flaw> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let unreadable = |error: ron::error::SpannedError| Flaw {
            field: format!("line {}", error.span.start.line),
            reason: printable(&error.code.to_string()),
        };
        let Versioned { version } = ron::from_str(text).map_err(unreadable)?;
        if !(1..=FORMAT_VERSION).contains(&version) {
            let reason = format!(
                "{version} is not known to this program, which reads versions 1 to {FORMAT_VERSION}; a newer program may read it"
            );
            return flaw("version", reason);
        }
        let mut manifest: Self = ron::from_str(text).map_err(unreadable)?;
        if version <= FRAMES_AS_THEY_ARE {
            manifest.latent_actions.change_gain = None;
        }
        manifest.version = FORMAT_VERSION;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The text of a `world.ron`.
    ///
    /// # Errors
    /// When a field holds what no manifest can.
    pub fn to_text(&self) -> Result<String, Flaw> {
        self.validate()?;
        // Quotes and accents stay readable: texts that need it are written as raw strings.
        let pretty = ron::ser::PrettyConfig::new()
            .depth_limit(3)
            .escape_strings(false);
        match ron::ser::to_string_pretty(self, pretty) {
            Ok(text) => Ok(text + "\n"),
            Err(error) => flaw("manifest", error.to_string()),
        }
    }

    /// Checks every field by itself and against the others.
    ///
    /// # Errors
    /// Names the first field that does not fit.
    pub fn validate(&self) -> Result<(), Flaw> {
        if self.version != FORMAT_VERSION {
            return flaw(
                "version",
                format!("{} is not {FORMAT_VERSION}", self.version),
            );
        }
        check_line("name", &self.name)?;
        check_text("author", &self.author)?;
        check_text("licence", &self.licence)?;
        check_text("training_video.source", &self.training_video.source)?;
        check_text("training_video.licence", &self.training_video.licence)?;
        if !FRAME_RATES.contains(&self.frames_per_second) {
            let (least, most) = FRAME_RATES.into_inner();
            return flaw(
                "frames_per_second",
                format!("{} must lie in {least}..={most}", self.frames_per_second),
            );
        }
        within("tokenizer", self.tokenizer.validate())?;
        within("latent_actions", self.latent_actions.validate())?;
        within("dynamics", self.dynamics.validate())?;
        self.validate_agreement()?;
        validate_actions(&self.actions, self.idle, self.dynamics.codes)?;
        self.validate_play()?;
        self.validate_files()?;
        if self.quality.len() > 1000 {
            return flaw("quality", "more than 1000 figures");
        }
        for (name, value) in &self.quality {
            check_line("quality", name)?;
            if !value.is_finite() {
                return flaw(format!("quality.{name}"), "is not a finite number");
            }
        }
        Ok(())
    }

    /// The three models must have been made for one another.
    fn validate_agreement(&self) -> Result<(), Flaw> {
        let (tokenizer, dynamics) = (&self.tokenizer, &self.dynamics);
        for (field, size) in [
            ("tokenizer.frame", tokenizer.frame),
            ("latent_actions.frame", self.latent_actions.frame),
            ("dynamics.frame", dynamics.frame),
        ] {
            if size != self.frame {
                return flaw(
                    field,
                    format!("{size}, but the world's frames are {}", self.frame),
                );
            }
        }
        for (field, value, theirs) in [
            ("dynamics.patch", dynamics.patch, tokenizer.patch),
            (
                "dynamics.vocabulary",
                dynamics.vocabulary,
                tokenizer.vocabulary(),
            ),
            (
                "dynamics.latent_width",
                dynamics.latent_width,
                tokenizer.latent_width(),
            ),
        ] {
            if value != theirs {
                return flaw(field, format!("{value}, but the tokenizer has {theirs}"));
            }
        }
        if dynamics.codes != self.latent_actions.codes {
            let reason = format!(
                "{}, but the latent action model has {}",
                dynamics.codes, self.latent_actions.codes
            );
            return flaw("dynamics.codes", reason);
        }
        Ok(())
    }

    fn validate_play(&self) -> Result<(), Flaw> {
        within("strength", self.strength.validate())?;
        let codes = self.actions.len();
        within("weights", dynamics::validate_weights(&self.weights, codes))?;
        self.validate_lasts()?;
        self.validate_voluntary()?;
        within("sampler", self.sampler.validate())?;
        let StepRange { least, most } = self.maskgit_steps;
        if least < 1 || most > 64 || least > most {
            return flaw(
                "maskgit_steps",
                format!("{least} to {most} is no range within 1 to 64"),
            );
        }
        if !(least..=most).contains(&self.sampler.steps) {
            return flaw(
                "sampler.steps",
                format!("{} lies outside maskgit_steps", self.sampler.steps),
            );
        }
        Ok(())
    }

    fn validate_lasts(&self) -> Result<(), Flaw> {
        if self.lasts.len() > self.actions.len() {
            let reason = format!(
                "{} entries for {} codes",
                self.lasts.len(),
                self.actions.len()
            );
            return flaw("lasts", reason);
        }
        let possible = |l: &&Lasting| (1..=l.of).contains(&l.frames) && l.of <= LONGEST_LASTING;
        let mut given = self.lasts.iter().flatten();
        match given.find(|lasting| !possible(lasting)) {
            Some(Lasting { frames, of }) => flaw(
                "lasts",
                format!(
                    "{frames} of {of} frames; it must be 1 to all of at most {LONGEST_LASTING}"
                ),
            ),
            None => Ok(()),
        }
    }

    fn validate_voluntary(&self) -> Result<(), Flaw> {
        if self.voluntary.iter().any(Vec::is_empty) {
            return flaw("voluntary", "has a set without any code");
        }
        let mut seen = BTreeSet::new();
        for code in self.voluntary.iter().flatten() {
            if usize::from(code.0) >= self.actions.len() || !seen.insert(code) {
                let reason = format!("action code {code} is unknown, or named twice");
                return flaw("voluntary", reason);
            }
        }
        Ok(())
    }

    fn validate_files(&self) -> Result<(), Flaw> {
        if self.prompts.is_empty() || self.prompts.len() > 256 {
            return flaw("prompts", "must name 1 to 256 starting frames");
        }
        let mut names = BTreeSet::new();
        for (index, name) in self.prompts.iter().enumerate() {
            if !is_safe_name(name) || name.contains('/') || !name.ends_with(".png") {
                return flaw(
                    format!("prompts[{index}]"),
                    format!("{name:?} is no plain name of a PNG file"),
                );
            }
            if !names.insert(name) {
                return flaw(format!("prompts[{index}]"), "is named twice");
            }
        }
        match &self.sound {
            Some(name) if !is_wav_name(name) => {
                return flaw("sound", format!("{name:?} is no plain name of a WAV file"));
            }
            Some(_) if self.sounds.ambient.is_some() => {
                return flaw("sound", "says what sounds.ambient says already");
            }
            _ => {}
        }
        self.sounds.validate(self.codes())
    }

    /// Action codes of this world (`K`).
    pub fn codes(&self) -> usize {
        self.actions.len()
    }

    /// What a code is called; its number where it has no name.
    pub fn action_name(&self, code: ActionCode) -> String {
        match self.actions.get(usize::from(code.0)) {
            Some(action) => action.name.clone(),
            None => code.to_string(),
        }
    }

    /// How many of the latest codes decide, together with a wish, what comes of it.
    pub(crate) fn remembered_codes(&self) -> usize {
        let lasts = self.lasts.iter().flatten();
        let most = lasts.map(|lasting| usize::from(lasting.of)).max();
        most.unwrap_or(0)
            .max(usize::from(!self.voluntary.is_empty()))
    }

    /// Whether this code, which is not wished for, must not come after the code `before`, as it is for the player to begin it.
    pub(crate) fn waits_for_a_wish(&self, code: ActionCode, before: Option<ActionCode>) -> bool {
        let goes_on = |set: &[ActionCode]| before.is_some_and(|before| set.contains(&before));
        let mut sets = self.voluntary.iter();
        sets.any(|set| set.contains(&code) && !goes_on(set))
    }

    /// The code with this number or name (upper and lower case alike).
    pub fn find_action(&self, text: &str) -> Option<ActionCode> {
        let number = text.parse::<u16>().ok();
        let code = number.map(usize::from).filter(|&n| n < self.codes());
        let named = || {
            let wanted = text.to_lowercase();
            let same = |action: &Action| action.name.to_lowercase() == wanted;
            self.actions.iter().position(same)
        };
        let code = code.or_else(named)?;
        u16::try_from(code).ok().map(ActionCode)
    }
}

/// Checks that there is an action for each of `codes` action codes, with a name and bindings that can be asked for, and that `idle` is one of them.
///
/// # Errors
/// Names the first field that is wrong.
pub fn validate_actions(
    actions: &[Action],
    idle: Option<ActionCode>,
    codes: usize,
) -> Result<(), Flaw> {
    if actions.len() != codes {
        return flaw(
            "actions",
            format!("{} entries for {codes} action codes", actions.len()),
        );
    }
    let mut names = BTreeSet::new();
    for (code, action) in actions.iter().enumerate() {
        let field = format!("actions[{code}].name");
        check_line(&field, &action.name)?;
        let name = action.name.as_str();
        if name.chars().count() > 32 || name.contains('+') || name.trim() != name {
            return flaw(
                field,
                "must have at most 32 characters, no + and no blanks at its ends",
            );
        }
        if name.bytes().all(|b| b.is_ascii_digit()) && name != code.to_string() {
            return flaw(field, "is the number of another code");
        }
        if !names.insert(name.to_lowercase()) {
            return flaw(field, "is the name of two codes");
        }
        let field = format!("actions[{code}].bindings");
        if action.bindings.len() > MOST_BINDINGS {
            return flaw(field, format!("more than {MOST_BINDINGS}"));
        }
        for binding in &action.bindings {
            if let Err(reason) = Chord::parse(binding) {
                return flaw(field, reason);
            }
        }
    }
    if let Some(idle) = idle
        && usize::from(idle.0) >= codes
    {
        return flaw("idle", format!("{idle} is none of {codes} action codes"));
    }
    Ok(())
}

fn check_line(field: &str, text: &str) -> Result<(), Flaw> {
    if text.trim().is_empty() {
        return flaw(field, "is empty");
    }
    if text.chars().count() > LONGEST_LINE || text.chars().any(char::is_control) {
        return flaw(
            field,
            format!(
                "must be one line of at most {LONGEST_LINE} characters, none of them control characters"
            ),
        );
    }
    Ok(())
}

fn check_text(field: &str, text: &str) -> Result<(), Flaw> {
    let hostile = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.chars().count() > LONGEST_TEXT || text.chars().any(hostile) {
        return flaw(
            field,
            format!("must have at most {LONGEST_TEXT} characters, none of them control characters"),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest() -> WorldManifest {
        crate::tiny_contents(1).unwrap().manifest
    }

    fn refusal(change: impl FnOnce(&mut WorldManifest)) -> Flaw {
        let mut manifest = manifest();
        change(&mut manifest);
        manifest.validate().unwrap_err()
    }

    #[test]
    fn text_and_manifest_are_the_same_thing() {
        let mut manifest = manifest();
        manifest.quality.insert("rollout.gap4".into(), 3.25);
        manifest.idle = Some(ActionCode(2));
        manifest.strength = Strength::Order;
        manifest.author = "Zoë's friend".into();
        manifest.training_video.source = "two lines\nof \"text\"# \\ é".into();
        let text = manifest.to_text().unwrap();
        assert!(text.contains("\"Zoë's friend\""), "{text}");
        assert_eq!(WorldManifest::parse(&text).unwrap(), manifest);
    }

    #[test]
    fn refusals_name_the_field() {
        assert_eq!(refusal(|m| m.name = " ".into()).field, "name");
        assert_eq!(refusal(|m| m.name = "\u{1b}[2J".into()).field, "name");
        assert_eq!(refusal(|m| m.author = "\u{7}".into()).field, "author");
        assert_eq!(
            refusal(|m| m.frames_per_second = f64::NAN).field,
            "frames_per_second"
        );
        assert_eq!(
            refusal(|m| m.frame.width = 1 << 40).field,
            "tokenizer.frame"
        );
        assert_eq!(
            refusal(|m| m.dynamics.vocabulary += 1).field,
            "dynamics.vocabulary"
        );
        assert_eq!(refusal(|m| m.dynamics.codes += 1).field, "dynamics.codes");
        assert_eq!(refusal(|m| drop(m.actions.pop())).field, "actions");
        assert_eq!(
            refusal(|m| m.actions[1].name = "a+b".into()).field,
            "actions[1].name"
        );
        assert_eq!(
            refusal(|m| m.actions[1].name = "0".into()).field,
            "actions[1].name"
        );
        assert_eq!(
            refusal(|m| m.actions[1].name = m.actions[0].name.to_uppercase()).field,
            "actions[1].name"
        );
        assert_eq!(
            refusal(|m| m.actions[0].bindings = vec!["Arrow Left".into()]).field,
            "actions[0].bindings"
        );
        let unknown = refusal(|m| m.actions[1].bindings = vec!["Space+Bar".into()]);
        assert_eq!(unknown.field, "actions[1].bindings");
        assert!(unknown.reason.contains("\"Bar\""), "{}", unknown.reason);
        let many = refusal(|m| m.actions[1].bindings = vec!["Space".into(); 33]);
        assert_eq!(many.field, "actions[1].bindings");
        assert_eq!(refusal(|m| m.idle = Some(ActionCode(99))).field, "idle");
        assert_eq!(refusal(|m| m.weights = vec![1.0; 99]).field, "weights");
        assert_eq!(refusal(|m| m.weights = vec![f32::NAN]).field, "weights");
        for codes in [[0, 4], [1, 1]] {
            let voluntary = vec![codes.map(ActionCode).to_vec()];
            assert_eq!(refusal(|m| m.voluntary = voluntary).field, "voluntary");
        }
        assert_eq!(refusal(|m| m.voluntary = vec![vec![]]).field, "voluntary");
        assert_eq!(refusal(|m| m.lasts = vec![None; 99]).field, "lasts");
        for (frames, of) in [(0, 3), (4, 3), (1, LONGEST_LASTING + 1)] {
            let lasting = Lasting { frames, of };
            assert_eq!(refusal(|m| m.lasts = vec![Some(lasting)]).field, "lasts");
        }
        assert_eq!(
            refusal(|m| m.strength = Strength::Wish(f32::NAN)).field,
            "strength"
        );
        assert_eq!(refusal(|m| m.sampler.steps = 9).field, "sampler.steps");
        assert_eq!(
            refusal(|m| m.maskgit_steps.least = 0).field,
            "maskgit_steps"
        );
        assert_eq!(refusal(|m| m.prompts.clear()).field, "prompts");
        for name in [
            "../a.png", "/a.png", "a/b.png", "a.gif", "..png/..", "a\\b.png",
        ] {
            assert_eq!(
                refusal(|m| m.prompts[0] = name.into()).field,
                "prompts[0]",
                "{name}"
            );
        }
        assert_eq!(
            refusal(|m| m.sound = Some("../x.wav".into())).field,
            "sound"
        );
        let figure = refusal(|m| m.quality = [("psnr".into(), f64::INFINITY)].into());
        assert_eq!(figure.field, "quality.psnr");
        let absurd = refusal(|m| m.tokenizer.encoder_layers = usize::MAX);
        assert_eq!(absurd.field, "tokenizer");
        assert!(absurd.reason.contains("layers"), "{}", absurd.reason);
    }

    #[test]
    fn another_version_is_refused_before_anything_else_is_read() {
        let text = "(version: 7, something_from_the_future: Thing(a: [1, 2], b: Some(\"x\")))";
        let flaw = WorldManifest::parse(text).unwrap_err();
        assert_eq!(flaw.field, "version");
        assert!(flaw.reason.contains('7'), "{}", flaw.reason);
    }

    #[test]
    fn latent_actions_of_the_first_version_see_frames_as_they_are() {
        let text = manifest().to_text().unwrap();
        let (before, rest) = text.split_once("change_gain").unwrap();
        let (_, after) = rest.split_once('\n').unwrap();
        let unsaid = format!("{before}{after}");
        assert_eq!(
            WorldManifest::parse(&unsaid).unwrap().latent_actions,
            manifest().latent_actions
        );
        let first = WorldManifest::parse(&unsaid.replacen("version: 2", "version: 1", 1)).unwrap();
        assert_eq!(first.latent_actions.change_gain, None);
        assert_eq!(first.version, FORMAT_VERSION);
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let text = manifest().to_text().unwrap();
        let text = text.replacen("name:", "run_at_start: \"rm\",\n    name:", 1);
        let flaw = WorldManifest::parse(&text).unwrap_err();
        assert!(flaw.reason.contains("run_at_start"), "{}", flaw.reason);
        assert!(flaw.field.starts_with("line "), "{}", flaw.field);
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        for opening in ["(", "[", "Some(", "{1:"] {
            let text = format!("(version: 1, name: {}", opening.repeat(100_000));
            assert!(WorldManifest::parse(&text).is_err());
        }
    }

    #[test]
    fn actions_are_found_by_number_and_name() {
        let mut manifest = manifest();
        manifest.actions[2].name = "Jump high".into();
        assert_eq!(manifest.find_action("2"), Some(ActionCode(2)));
        assert_eq!(manifest.find_action("jump HIGH"), Some(ActionCode(2)));
        assert_eq!(manifest.find_action("99"), None);
        assert_eq!(manifest.find_action("fly"), None);
        assert_eq!(manifest.action_name(ActionCode(2)), "Jump high");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = WorldManifest::parse(&text);
        }

        #[test]
        fn a_damaged_manifest_is_read_or_refused(at in 0usize..2000, byte in any::<u8>(), cut in any::<bool>()) {
            let mut bytes = manifest().to_text().unwrap().into_bytes();
            let at = at % bytes.len();
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            if let Ok(text) = String::from_utf8(bytes)
                && let Ok(manifest) = WorldManifest::parse(&text)
            {
                prop_assert!(manifest.validate().is_ok());
            }
        }
    }
}
