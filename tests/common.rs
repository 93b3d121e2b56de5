//! Running the real `djinn`, and a small world that it trained.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// A tiny configuration: seconds instead of hours; its pictures are poor, its files are real.
const CONFIG: &str = r#"(
    checkpoint_seconds: 5.0,
    tokenizer: (
        model: (width: 32, heads: 2, encoder_layers: 1, decoder_layers: 1),
        batch: 4, warmup_steps: 5, evaluations: 2, budget: Some(Steps(30)),
    ),
    latent_actions: (
        model: (width: 32, heads: 2, encoder_layers: 1, predictor_layers: 1, codes: 4),
        batch: 4, warmup_steps: 5, evaluations: 2, budget: Some(Steps(30)), attempts: 1,
    ),
    preparation: (validation_frames: 32),
    dynamics: (
        model: (width: 32, heads: 2, layers: 1, window: 4),
        batch: 2, clip_frames: 4, warmup_steps: 5, evaluations: 2, budget: Some(Steps(20)),
    ),
    evaluation: (frames: 32, changes: 16, clips: 2, wish_starts: 1, drift_rollouts: 1, drift_frames: 60),
)"#;

/// The checked-in clip of about 20 seconds.
pub fn clip() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/coinrun.mp4")
}

/// The real program, without a display and without the user's own settings.
pub fn djinn() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_djinn"));
    for variable in [
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "WAYLAND_SOCKET",
        "RUST_LOG",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
    ] {
        command.env_remove(variable);
    }
    command.env("HOME", env!("CARGO_TARGET_TMPDIR"));
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        // Whoever began the tests in the background may have had it ignored, and the program would go by that.
        // SAFETY: between fork and exec only a signal is set.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                Ok(())
            })
        };
    }
    command
}

/// What a finished run said.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

/// Runs to the end.
pub fn run(command: &mut Command) -> Said {
    command.output().expect("the program starts").into()
}

/// Runs to the end, which must be a success.
pub fn succeed(command: &mut Command) -> Said {
    let said = run(command);
    assert_eq!(
        said.code,
        Some(0),
        "{command:?}\n{}\n{}",
        said.out,
        said.err
    );
    said
}

/// Runs to the end, which must be an error that mentions each of `words`.
pub fn fail(command: &mut Command, words: &[&str]) -> Said {
    let said = run(command);
    assert!(
        said.code.is_some_and(|code| code == 1 || code == 2),
        "{command:?}: {:?}\n{}",
        said.code,
        said.err
    );
    for word in words {
        assert!(said.err.contains(word), "{word:?} is not in: {}", said.err);
    }
    assert!(!said.err.contains("panicked"), "{}", said.err);
    said
}

/// A dataset of the clip and a tiny world trained on it, made once for all tests.
pub struct Tiny {
    pub folder: tempfile::TempDir,
    pub dataset: PathBuf,
    pub world: PathBuf,
    pub config: PathBuf,
}

/// The one [`Tiny`].
pub fn tiny() -> &'static Tiny {
    static TINY: OnceLock<Tiny> = OnceLock::new();
    TINY.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        let (dataset, world, config) =
            (path("clip.dataset"), path("clip.world"), path("train.ron"));
        std::fs::write(&config, CONFIG).expect("a file in a temporary folder");
        succeed(djinn().arg("ingest").arg(clip()).arg("--out").arg(&dataset));
        succeed(
            djinn()
                .arg("train")
                .arg(&dataset)
                .arg("--out")
                .arg(&world)
                .arg("--config")
                .arg(&config),
        );
        Tiny {
            folder,
            dataset,
            world,
            config,
        }
    })
}

pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// The whole lines of a session's frames; those of what happened between frames are left out.
pub fn action_lines(session: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(session.join("actions.jsonl")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().map(json);
    lines.filter(|line| line.get("event").is_none()).collect()
}

/// Codes of the built-in world to which it binds `key`.
pub fn codes_of(key: &str) -> Vec<usize> {
    let said = succeed(djinn().args(["worlds", "coinrun", "--json"]));
    let world = json(&said.out);
    let actions = world["manifest"]["actions"].as_array().unwrap().iter();
    let bound = actions.enumerate().filter(|(_, action)| {
        let bindings = action["bindings"].as_array().unwrap();
        bindings.iter().any(|binding| binding == key)
    });
    bound.map(|(code, _)| code).collect()
}

/// What `djinn replay --verify` says of a session.
pub fn verify(session: &Path) -> Said {
    run(djinn().arg("replay").arg(session).arg("--verify"))
}
