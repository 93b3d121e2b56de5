//! What the player has made of a world, names, bindings and preferences, kept in the user's configuration folder.

use super::{Bindings, ControlTable};
use crate::error::{Error, Result};
use crate::preferences::Preferences;
use crate::whole_file::write_bytes;
use nn::ActionCode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};
use worlds::{Action, Chord, Input, World, WorldManifest};

/// The version of the file that this program writes, and the only one it reads.
const VERSION: u32 = 1;
const LARGEST_FILE: u64 = 1 << 20;

/// What a player has made of a world. It wins over what the world says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnWorld {
    version: u32,
    /// What the world is called, for whoever reads the file.
    world: String,
    #[serde(default)]
    actions: BTreeMap<u16, OwnAction>,
    /// How the world is played.
    #[serde(default, skip_serializing_if = "Preferences::is_empty")]
    pub preferences: Preferences,
}

/// What a player has made of one action code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OwnAction {
    /// What the player calls it; `None` for the world's name.
    pub name: Option<String>,
    /// What wishes for it; `None` for the world's bindings.
    pub bindings: Option<Vec<String>>,
}

impl OwnWorld {
    /// Nothing of the player's own.
    pub fn none(manifest: &WorldManifest) -> Self {
        Self {
            version: VERSION,
            world: manifest.name.clone(),
            actions: BTreeMap::new(),
            preferences: Preferences::default(),
        }
    }

    /// Where that is kept for a world: in a file with its name and the hash of what its codes mean, since another training gives them another meaning;
    /// `None` where the system names no configuration folder.
    pub fn path(world: &World) -> Option<PathBuf> {
        Self::file(world, &world.codes_hash)
    }

    /// Where it was kept when each training of a dynamics had a file of its own.
    fn former_path(world: &World) -> Option<PathBuf> {
        Self::file(world, &world.hash_without_idle)
    }

    fn file(world: &World, hash: &str) -> Option<PathBuf> {
        let user = directories::ProjectDirs::from("", "", "djinn")?;
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        };
        let name: String = world.manifest.name.chars().take(40).map(plain).collect();
        let hash: String = hash.chars().take(12).collect();
        Some(
            user.config_dir()
                .join("bindings")
                .join(format!("{name}-{hash}.ron")),
        )
    }

    /// The player's own for a world, from where they are kept.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of(world: &World) -> Result<Self> {
        let is_there = |path: &PathBuf| path.exists();
        if let Some(path) = Self::path(world).filter(is_there) {
            return Self::read(&path, &world.manifest);
        }
        let Some(former) = Self::former_path(world).filter(is_there) else {
            return Ok(Self::none(&world.manifest));
        };
        let own = Self::read(&former, &world.manifest)?;
        // The dynamics may have learned on by the next time, and then nothing leads there any more.
        if let Err(error) = own.keep(world) {
            tracing::warn!(
                "your own keys and names stay in {}: {error}",
                former.display()
            );
        }
        Ok(own)
    }

    /// Changes what is kept for a world, and returns it.
    ///
    /// # Errors
    /// When it cannot be read, changed or written. What is kept stays as it is then.
    pub fn change(world: &World, change: impl FnOnce(&mut Self) -> Result<()>) -> Result<Self> {
        let mut own = Self::of(world)?;
        change(&mut own)?;
        own.keep(world)?;
        Ok(own)
    }

    /// Keeps it for a world, where the system names a configuration folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, world: &World) -> Result<()> {
        if let Some(path) = Self::path(world) {
            self.write(&path)?;
        }
        // What is given up is not to come back from there.
        if let Some(former) = Self::former_path(world).filter(|path| path.exists()) {
            fs::remove_file(&former).map_err(Error::io(former))?;
        }
        Ok(())
    }

    /// Reads a file; nothing of the player's own where there is none.
    ///
    /// # Errors
    /// Names file, line and column of what cannot be read or is not for this world. The file stays as it is.
    pub fn read(path: &Path, manifest: &WorldManifest) -> Result<Self> {
        let size = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::none(manifest));
            }
            found => found.map_err(Error::io(path))?.len(),
        };
        let refuse = |line, column, reason: String| Error::Settings {
            path: path.to_owned(),
            line,
            column,
            reason,
        };
        if size > LARGEST_FILE {
            return Err(refuse(
                1,
                1,
                format!("the file is larger than {LARGEST_FILE} bytes"),
            ));
        }
        let bytes = fs::read(path).map_err(Error::io(path))?;
        Self::parse(&String::from_utf8_lossy(&bytes), manifest)
            .map_err(|((line, column), reason)| refuse(line, column, reason))
    }

    /// As [`Self::read`], from text. The error is the place, as line and column from 1, and what is wrong there.
    fn parse(text: &str, manifest: &WorldManifest) -> Result<Self, ((usize, usize), String)> {
        let own: Self = ron::from_str(text).map_err(|error| {
            let place = error.span.start;
            ((place.line, place.col), error.code.to_string())
        })?;
        if own.version != VERSION {
            let reason = format!(
                "version {} is not known to this program, which reads version {VERSION}",
                own.version
            );
            return Err((place_of(text, "version"), reason));
        }
        match own.check(manifest) {
            Ok(()) => Ok(own),
            Err((field, reason)) => Err((place_of(text, &field), reason)),
        }
    }

    /// Checks everything against a world; the error begins with what stands in the file where it is wrong.
    fn check(&self, manifest: &WorldManifest) -> Result<(), (String, String)> {
        for (code, action) in &self.actions {
            if usize::from(*code) >= manifest.codes() {
                return Err((
                    format!("{code}:"),
                    format!("code {code} of {}", manifest.codes()),
                ));
            }
            for binding in action.bindings.iter().flatten() {
                chord(binding).map_err(|reason| (format!("{binding:?}"), reason))?;
            }
        }
        self.preferences
            .settings(manifest, 0)
            .map_err(|error| ("preferences".to_owned(), error.to_string()))?;
        // What the world itself would refuse as names and bindings is refused here, too.
        let mut manifest = manifest.clone();
        manifest.actions = self.actions(&manifest);
        manifest.validate().map_err(|flaw| {
            let code = flaw.field.split(['[', ']']).nth(1).unwrap_or_default();
            (
                format!("{code}:"),
                format!("{} {}", flaw.field, flaw.reason),
            )
        })
    }

    /// Writes the file: under another name first, so that it is never there half. With nothing of the player's own in it, it goes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        if self.is_empty() {
            return match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(Error::io(path)(error))
                }
                _ => Ok(()),
            };
        }
        let pretty = ron::ser::PrettyConfig::new().depth_limit(3);
        let text = ron::ser::to_string_pretty(self, pretty)
            .map_err(|error| Error::io(path)(io::Error::other(error)))?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        write_bytes(path, (text + "\n").as_bytes())
    }

    /// Whether there is nothing of the player's own.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty() && self.preferences.is_empty()
    }

    /// Whether names or bindings are the player's own.
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// Forgets names and bindings.
    pub fn reset_actions(&mut self) {
        self.actions.clear();
    }

    /// Binds inputs to a code, instead of all that wished for it; they wish for no other code any more.
    ///
    /// # Errors
    /// When the world has no such code, or an input is unknown, a command's by `controls`, or a number key. Nothing is changed then.
    pub fn bind(
        &mut self,
        manifest: &WorldManifest,
        controls: &ControlTable,
        code: ActionCode,
        inputs: &[String],
    ) -> Result<()> {
        let wanted = inputs
            .iter()
            .map(|input| bindable(input, controls))
            .collect::<Result<Vec<Chord>, _>>()
            .map_err(Error::Binding)?;
        self.give(manifest, code, &wanted, false)
    }

    /// Binds one more input or chord to a code; it wishes for no other code any more.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn bind_too(
        &mut self,
        manifest: &WorldManifest,
        controls: &ControlTable,
        code: ActionCode,
        input: &str,
    ) -> Result<()> {
        let wanted = bindable(input, controls).map_err(Error::Binding)?;
        self.give(manifest, code, &[wanted], true)
    }

    /// Binds `wanted` to a code and to no other; `beside`: beside what wishes for it already.
    fn give(
        &mut self,
        manifest: &WorldManifest,
        code: ActionCode,
        wanted: &[Chord],
        beside: bool,
    ) -> Result<()> {
        let mut changed = self.clone();
        let before = self.bindings(manifest);
        // Number keys need not be written down.
        let in_force = |code| {
            let mut chords = before.of_code(code);
            chords.retain(|chord| chord.inputs().iter().all(|input| input.digit().is_none()));
            chords
        };
        let kept = |code| {
            let mut chords = in_force(code);
            chords.retain(|chord| !wanted.contains(chord));
            chords
        };
        let texts = |chords: Vec<&Chord>| Some(chords.iter().map(ToString::to_string).collect());
        for (other, action) in (0u16..).zip(self.actions(manifest)) {
            let (had, has) = (in_force(ActionCode(other)), kept(ActionCode(other)));
            // What is bound to one action is no longer usual for another, so what is usual is written down with the rest, and stays.
            if had.len() != action.bindings.len() || has.len() != had.len() {
                changed.actions.entry(other).or_default().bindings = texts(has);
            }
        }
        let mut chords = match beside {
            true => kept(code),
            false => Vec::new(),
        };
        chords.extend(wanted);
        changed.actions.entry(code.0).or_default().bindings = texts(chords);
        self.replace_with(changed, manifest)
    }

    /// Gives a code a name.
    ///
    /// # Errors
    /// When the world has no such code, or the name is another code's or none that a world could have. Nothing is changed then.
    pub fn name(&mut self, manifest: &WorldManifest, code: ActionCode, name: &str) -> Result<()> {
        let mut changed = self.clone();
        changed.actions.entry(code.0).or_default().name = Some(name.to_owned());
        self.replace_with(changed, manifest)
    }

    fn replace_with(&mut self, changed: Self, manifest: &WorldManifest) -> Result<()> {
        changed
            .check(manifest)
            .map_err(|(_, reason)| Error::Binding(reason))?;
        *self = changed;
        Ok(())
    }

    /// The world's actions with the player's names and bindings.
    pub fn actions(&self, manifest: &WorldManifest) -> Vec<Action> {
        let own = |(code, action): (u16, &Action)| {
            let own = self.actions.get(&code);
            Action {
                name: own
                    .and_then(|own| own.name.clone())
                    .unwrap_or_else(|| action.name.clone()),
                bindings: own
                    .and_then(|own| own.bindings.clone())
                    .unwrap_or_else(|| action.bindings.clone()),
            }
        };
        (0u16..).zip(&manifest.actions).map(own).collect()
    }

    /// The bindings in force. What the player binds an action to is all that wishes for it.
    pub fn bindings(&self, manifest: &WorldManifest) -> Bindings {
        let open = |ActionCode(code)| {
            let own = self.actions.get(&code);
            own.is_none_or(|own| own.bindings.is_none())
        };
        Bindings::with_usual(&self.actions(manifest), open)
    }
}

/// The chord that a text names, if it may stand for an action.
fn chord(text: &str) -> Result<Chord, String> {
    let chord = Chord::parse(text)?;
    match chord.inputs().iter().find(|input| input.digit().is_some()) {
        Some(input) => Err(format!(
            "{input} is taken: number keys always send the code of their number"
        )),
        None => Ok(chord),
    }
}

/// As [`chord`], where no input of it commands something.
fn bindable(text: &str, controls: &ControlTable) -> Result<Chord, String> {
    let chord = chord(text)?;
    let command = |input: &Input| Some((*input, controls.of_input(*input)?));
    match chord.inputs().iter().find_map(command) {
        Some((input, control)) => Err(format!(
            "{input} is taken: it stands for {:?}",
            control.description()
        )),
        None => Ok(chord),
    }
}

/// Line and column, from 1, at which something stands in a text; its beginning where it does not.
fn place_of(text: &str, what: &str) -> (usize, usize) {
    let before = text
        .find(what)
        .and_then(|at| text.get(..at))
        .unwrap_or_default();
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (before.matches('\n').count() + 1, column)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn manifest() -> WorldManifest {
        worlds::tiny_contents(1).unwrap().manifest
    }

    fn texts(inputs: &[&str]) -> Vec<String> {
        inputs.iter().map(|&input| input.into()).collect()
    }

    #[test]
    fn what_is_bound_is_read_back_and_wins() {
        let (manifest, folder) = (manifest(), tempfile::tempdir().unwrap());
        let path = folder.path().join("bindings/tiny.ron");
        let mut own = OwnWorld::read(&path, &manifest).unwrap();
        assert!(own.is_empty());
        own.bind(
            &manifest,
            &ControlTable::default(),
            ActionCode(1),
            &texts(&["Space", "South", "KeyD+KeyK"]),
        )
        .unwrap();
        own.name(&manifest, ActionCode(1), "hop").unwrap();
        own.write(&path).unwrap();
        let read = OwnWorld::read(&path, &manifest).unwrap();
        assert_eq!(read, own);
        let actions = read.actions(&manifest);
        assert_eq!(
            (actions[1].name.as_str(), actions[0].name.as_str()),
            ("hop", "left")
        );
        // Space was the world's key for jumping.
        let bindings = read.bindings(&manifest);
        let codes = |name: &str| bindings.codes(&[worlds::Input::named(name).unwrap()].into());
        assert_eq!(codes("Space"), [ActionCode(1)]);
        assert_eq!(codes("ArrowLeft"), [ActionCode(0)]);
        // Nor do the usual inputs of an action called left come back when its own are taken away.
        let controls = ControlTable::default();
        own.bind(&manifest, &controls, ActionCode(0), &[]).unwrap();
        let bindings = own.bindings(&manifest);
        assert!(
            bindings
                .of_code(ActionCode(0))
                .iter()
                .all(|chord| chord.to_string() == "Digit0")
        );
        OwnWorld::none(&manifest).write(&path).unwrap();
        assert!(!path.exists());
        OwnWorld::none(&manifest).write(&path).unwrap();
    }

    #[test]
    fn one_more_input_leaves_the_others_as_they_are() {
        let manifest = manifest();
        let mut own = OwnWorld::none(&manifest);
        for code in [0, 1] {
            own.bind(
                &manifest,
                &ControlTable::default(),
                ActionCode(code),
                &texts(&["KeyI"]),
            )
            .unwrap();
        }
        let bound = |own: &OwnWorld, code: usize| own.actions(&manifest)[code].bindings.clone();
        let other = bound(&own, 2);
        own.bind_too(&manifest, &ControlTable::default(), ActionCode(1), "KeyK")
            .unwrap();
        own.bind_too(&manifest, &ControlTable::default(), ActionCode(1), "KeyK")
            .unwrap();
        assert_eq!(bound(&own, 1), ["KeyI", "KeyK"]);
        own.bind_too(&manifest, &ControlTable::default(), ActionCode(0), "KeyK")
            .unwrap();
        assert_eq!(
            (bound(&own, 0), bound(&own, 1)),
            (texts(&["KeyK"]), texts(&["KeyI"]))
        );
        assert_eq!(bound(&own, 2), other);
    }

    #[test]
    fn the_usual_inputs_stay_beside_one_more() {
        // A world made for the keyboard, with a key for two actions: pads play it by what is usual.
        let mut manifest = manifest();
        manifest.actions[1].bindings = texts(&["ArrowRight", "Space"]);
        let controls = ControlTable::default();
        let mut own = OwnWorld::none(&manifest);
        let in_force = |own: &OwnWorld| -> Vec<BTreeSet<String>> {
            let bindings = own.bindings(&manifest);
            let inputs = |code| bindings.of_code(ActionCode(code)).into_iter();
            (0..4)
                .map(|code| inputs(code).map(Chord::to_string).collect())
                .collect()
        };
        let mut expected = in_force(&own);
        assert!(expected[0].contains("KeyA") && expected[0].contains("DPadLeft"));
        assert!(expected[1].contains("South") && expected[2].contains("South"));
        for (code, input) in [(0, "KeyK"), (2, "KeyL"), (0, "ArrowRight"), (1, "KeyA")] {
            own.bind_too(&manifest, &controls, ActionCode(code), input)
                .unwrap();
            expected.iter_mut().for_each(|inputs| {
                inputs.remove(input);
            });
            expected[usize::from(code)].insert(input.to_owned());
            assert_eq!(in_force(&own), expected, "{input}");
        }
        // What has no inputs may still come to usual ones by its name.
        assert_eq!(own.actions.get(&3), None);
    }

    #[test]
    fn what_cannot_be_is_refused_and_changes_nothing() {
        let manifest = manifest();
        let mut own = OwnWorld::none(&manifest);
        for (inputs, part) in [
            (["Digit1"], "number keys"),
            (["F1"], "help"),
            (["Start"], "pause"),
            (["jump"], "no key"),
        ] {
            let error = own
                .bind(
                    &manifest,
                    &ControlTable::default(),
                    ActionCode(0),
                    &texts(&inputs),
                )
                .unwrap_err()
                .to_string();
            assert!(error.contains(part), "{error}");
        }
        let error = own
            .bind(
                &manifest,
                &ControlTable::default(),
                ActionCode(9),
                &texts(&["KeyA"]),
            )
            .unwrap_err()
            .to_string();
        assert!(error.contains("code 9 of 4"), "{error}");
        let error = own
            .name(&manifest, ActionCode(0), "right")
            .unwrap_err()
            .to_string();
        assert!(error.contains("two codes"), "{error}");
        assert!(own.is_empty());
    }

    #[test]
    fn mistakes_in_the_file_are_named_by_line_and_column() {
        let mistake = |text: &str| OwnWorld::parse(text, &manifest()).unwrap_err();
        let ((line, column), reason) = mistake(
            "(\n  version: 1,\n  world: \"x\",\n  actions: {0: (bindings: Some([\"KeyQ\", \"Foo\"]))},\n)",
        );
        assert_eq!((line, column), (4, 41), "{reason}");
        assert!(reason.contains("\"Foo\" is no key"), "{reason}");
        assert_eq!(
            mistake("(version: 1,\n world: \"x\", actions: {\n 77: ()})").0,
            (3, 2)
        );
        assert_eq!(mistake("(version: 9, world: \"\", actions: {})").0, (1, 2));
        assert_eq!(mistake("(version: 1,\n wrold: \"\")").0.0, 2);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC|\n|version: 1,|actions: \\{|0: \\(|\\)|\"KeyA\"){0,30}") {
            let _ = OwnWorld::parse(&text, &manifest());
        }

        #[test]
        fn whatever_was_bound_can_be_read(binds in proptest::collection::vec((0u16..4, proptest::collection::vec(0usize..5, 0..4)), 0..6)) {
            let known = ["KeyA", "Space", "South", "ArrowRight+Space", "LeftStickUp+South"];
            let manifest = manifest();
            let mut own = OwnWorld::none(&manifest);
            for (code, inputs) in binds {
                let inputs: Vec<String> = inputs.iter().map(|input| known[*input].into()).collect();
                own.bind(&manifest, &ControlTable::default(), ActionCode(code), &inputs).unwrap();
            }
            let text = ron::to_string(&own).unwrap();
            prop_assert_eq!(OwnWorld::parse(&text, &manifest).unwrap(), own);
        }
    }
}
