//! The command line: every command, its options, and an example of each.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Turns gameplay video into worlds that you play with the keyboard, on the machine you have.
#[derive(Debug, Parser)]
#[command(name = "djinn", version, about, max_term_width = 100)]
#[command(
    after_help = "Examples:\n  djinn                                  play the default world\n  djinn ingest videos/ --out my.dataset  gather video\n  djinn train my.dataset --out my.world  learn a world from it\n  djinn play my.world                    play it\n\nExit codes: 0 done, 1 error, 2 wrong arguments, 3 done but something was skipped, damaged or not verified,\n130 interrupted"
)]
pub struct Arguments {
    /// What to do; without it, play the default world.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of all commands.
    #[command(flatten)]
    pub common: Common,
}

/// Options of all commands.
#[derive(Args, Debug)]
pub struct Common {
    /// Say less: no progress bars, only results, warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more (-v, -vv); RUST_LOG does the same in detail
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Print JSON for programs instead of text for people
    #[arg(long, global = true)]
    pub json: bool,
    /// Where models compute; programs built with --features cuda or metal can use a GPU
    #[arg(long, global = true, value_enum, default_value_t = DeviceArgument::Auto)]
    pub device: DeviceArgument,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Play a world: in a window, in the terminal where there is no display, or by itself where nobody watches
    Play(PlayArguments),
    /// Gather videos, folders of them, or recorded sessions into a dataset
    Ingest(IngestArguments),
    /// Learn a world from a dataset
    Train(TrainArguments),
    /// Measure a world on the validation video of a dataset
    Eval(EvalArguments),
    /// Show, verify or export a recorded session
    Replay(ReplayArguments),
    /// List the worlds there are, or describe one
    Worlds(WorldsArguments),
    /// Show what each action of a world does, and bind keys, buttons and chords to it
    Bind(BindArguments),
    /// Measure speed: frame time, training throughput, share of the machine's peak
    Bench(BenchArguments),
}

/// Arguments of `djinn play`.
#[derive(Args, Debug, Default)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:\n  djinn play\n  djinn play coinrun --seed 7 --record my-session\n  djinn play coinrun --headless --frames 300 --actions wishes.txt --record my-session"
)]
pub struct PlayArguments {
    /// Name or folder of a world [default: coinrun]
    pub world: Option<String>,
    /// Picture, animation or video to start from, fitted to the world's size [default: the world's first prompt]
    #[arg(long, value_name = "FILE")]
    pub prompt: Option<PathBuf>,
    /// Seed of everything random; the same seed and wishes give the same frames [default: from the clock]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Record the session into this new folder
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
    /// Open a window or fail
    #[arg(long, conflicts_with = "headless")]
    pub window: bool,
    /// Play in this terminal or fail
    #[arg(long, conflicts_with_all = ["headless", "window"])]
    pub terminal: bool,
    /// Play without a window, as fast as the machine goes, under random keys unless --actions or --autoplay is given
    #[arg(long)]
    pub headless: bool,
    /// Frames to play without a window [default: as many as --actions has, or 300]
    #[arg(long, value_name = "N")]
    pub frames: Option<usize>,
    /// Wishes for the frames, one a line (a code's number or name, several joined by `+`, empty for none), or a session's
    /// actions.jsonl, whose codes are played again
    #[arg(long, value_name = "FILE", conflicts_with = "autoplay")]
    pub actions: Option<PathBuf>,
    /// Do what a wish asks for, whatever the world expects
    #[arg(long, conflicts_with = "strength")]
    pub orders: bool,
    /// How much a wish weighs against the world's own physics, from 0 [default: yours of before, or the world's; with --headless the world's]
    #[arg(long, value_name = "NATS")]
    pub strength: Option<f32>,
    /// No wishes: the world plays itself
    #[arg(long)]
    pub autoplay: bool,
    /// Passes over each frame (MaskGIT steps); more is slower [default: yours of before, or the world's; with --headless the world's]
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Sampling temperature; 0 takes the most likely tokens [default: yours of before, or the world's; with --headless the world's]
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,
    /// Precision of matrix products
    #[arg(long, value_enum, default_value_t = PrecisionArgument::Bf16)]
    pub precision: PrecisionArgument,
}

/// How pictures of another shape are made to fit.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FitArgument {
    /// Fill the frame and cut off what is over
    Crop,
    /// Show all of it between black bars
    Pad,
    /// Stretch it
    Stretch,
}

/// Arguments of `djinn ingest`.
#[derive(Args, Debug)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:\n  djinn ingest videos/ --out my.dataset\n  djinn ingest a.mp4 b.webm --out my.dataset --size 64 --fps 15 --fit pad\n  djinn ingest my-session --out played.dataset"
)]
pub struct IngestArguments {
    /// Videos, folders of videos, folders of numbered images, or recorded sessions
    #[arg(required = true, value_name = "FILE|FOLDER")]
    pub inputs: Vec<PathBuf>,
    /// New folder for the dataset
    #[arg(long, value_name = "DATASET")]
    pub out: PathBuf,
    /// Frame size in pixels: one number for a square, or WIDTHxHEIGHT; sides from 8 to 1024, multiples of 8 unless `train.ron` sets another patch
    #[arg(long, default_value = "64", value_parser = parse_size)]
    pub size: (u32, u32),
    /// Frames per second
    #[arg(long, default_value_t = 15.0)]
    pub fps: f64,
    /// How pictures of another shape are made to fit
    #[arg(long, value_enum, default_value = "crop")]
    pub fit: FitArgument,
    /// Part of the picture to use: x,y,width,height in pixels of the source
    #[arg(long, value_name = "X,Y,W,H", value_parser = parse_crop)]
    pub crop: Option<[u32; 4]>,
    /// Do not split episodes where the scene changes abruptly
    #[arg(long)]
    pub no_scene_cuts: bool,
    /// Share of the video that is kept for validation, in whole sources or at the end of the longest, unless some sources lie in a
    /// folder named validation, valid, val or test: then those are kept
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub validation: f64,
}

/// The training stages.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum StageArgument {
    /// The video tokenizer
    Tokenizer,
    /// The latent action model
    #[value(alias = "latent_actions")]
    LatentActions,
    /// Tokens and forecasts to disk, then the dynamics
    Dynamics,
}

/// Arguments of `djinn train`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  djinn train my.dataset --out my.world --budget 60m\n  djinn train my.dataset --out my.world --resume\n  djinn train my.dataset --out my.world --config train.ron --stage tokenizer\n  djinn train more.dataset --from my.world --out better.world --budget 20m"
)]
pub struct TrainArguments {
    /// Folder that `djinn ingest` made
    pub dataset: PathBuf,
    /// Folder for the finished world; checkpoints and the report go to WORLD.run beside it
    #[arg(long, value_name = "WORLD")]
    pub out: PathBuf,
    /// Configuration of everything (RON) [default: with --resume, the one that the run was begun with]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Time for all stages that have no budget of their own in the configuration, such as 90s, 45m or 2h [default: the
    /// configuration's]
    #[arg(long, value_parser = parse_duration)]
    pub budget: Option<Duration>,
    /// World to go on from: its pictures and dynamics learn on, its actions stay as they are
    #[arg(long, value_name = "WORLD")]
    pub from: Option<String>,
    /// Run this stage only
    #[arg(long, value_enum)]
    pub stage: Option<StageArgument>,
    /// Continue the run that was begun in WORLD.run, with its configuration and budget unless others are given; model sizes,
    /// batches, the optimizer and the seed cannot change on the way. Of finished stages only the dynamics goes on, under a larger
    /// budget; to train a finished world on otherwise, begin a new run with --from
    #[arg(long)]
    pub resume: bool,
}

/// Arguments of `djinn eval`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  djinn eval coinrun my.dataset --report report.html")]
pub struct EvalArguments {
    /// Name or folder of a world
    pub world: String,
    /// Folder that `djinn ingest` made; its validation split is used
    pub dataset: PathBuf,
    /// Also write a report with pictures
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Write over a report that is there already
    #[arg(long, requires = "report")]
    pub force: bool,
    /// Clips to measure rollouts on [default: 64]
    #[arg(long, value_name = "N")]
    pub clips: Option<usize>,
    /// Starts from which every key is held to see what comes of it; 0 leaves that out [default: 20]
    #[arg(long, value_name = "N")]
    pub wish_starts: Option<usize>,
    /// Frames of the drift rollouts; points beyond are left out [default: 1000]
    #[arg(long, value_name = "N")]
    pub drift_frames: Option<usize>,
}

/// Arguments of `djinn replay`.
#[derive(Args, Debug)]
#[command(
    after_help = "With nothing else to do, and results on a terminal, a window opens: Left and Right go a second back and forth, P pauses, N \
                  steps, and Enter takes over, so that you play on from there. Where there is no display, and with --json, --quiet, \
                  --describe or output into a file, what the session is and whether it verifies is told instead.\n\n\
                  Examples:\n  djinn replay my-session\n  djinn replay my-session --verify\n  djinn replay my-session --export play.gif"
)]
pub struct ReplayArguments {
    /// Folder of a recorded session
    pub session: PathBuf,
    /// World to regenerate with, where it is not found by its name
    #[arg(long)]
    pub world: Option<String>,
    /// Watch it in a window or fail
    #[arg(long, conflicts_with_all = ["describe", "verify", "export"])]
    pub window: bool,
    /// Tell what the session is and whether it verifies, and open no window
    #[arg(long)]
    pub describe: bool,
    /// Generate every frame again and compare token by token
    #[arg(long)]
    pub verify: bool,
    /// Write the session as a .gif or .mp4
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
    /// Write over a file that is there already
    #[arg(long, requires = "export")]
    pub force: bool,
}

/// Arguments of `djinn worlds`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  djinn worlds\n  djinn worlds coinrun")]
pub struct WorldsArguments {
    /// World to describe
    pub world: Option<String>,
}

/// Arguments of `djinn bind`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  djinn bind coinrun --pictures actions.gif\n  djinn bind coinrun --set 1=ArrowRight+Space,DPadRight+South --name 1=leap\n  djinn bind coinrun --reset"
)]
pub struct BindArguments {
    /// Name or folder of a world
    pub world: String,
    /// Bind keys, buttons or chords to an action, by its code or name, instead of what was bound to it; nothing after `=`
    /// unbinds it
    #[arg(long, value_name = "CODE=INPUT[,INPUT]", value_parser = parse_set)]
    pub set: Vec<(String, Vec<String>)>,
    /// Give an action a name of your own
    #[arg(long, value_name = "CODE=NAME", value_parser = parse_name)]
    pub name: Vec<(String, String)>,
    /// Forget your own names and bindings for this world first
    #[arg(long)]
    pub reset: bool,
    /// Write pictures of what each action does, from several starting frames: .gif moves, .png shows where it leads
    #[arg(long, value_name = "FILE")]
    pub pictures: Option<PathBuf>,
    /// Write over pictures that are there already
    #[arg(long, requires = "pictures")]
    pub force: bool,
}

/// What `djinn bench` can time by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchPart {
    /// Frames of play
    Play,
    /// Training steps of the tokenizer
    Tokenizer,
    /// Training steps of the latent action model
    #[value(alias = "latent_actions")]
    LatentActions,
    /// Training steps of the dynamics
    Dynamics,
}

/// What updates the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OptimizerArgument {
    /// Muon for the matrices of transformer blocks, AdamW for the rest, as `djinn train` has it
    Muon,
    /// AdamW for all
    Adamw,
}

/// What the numbers are that matrix products multiply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PrecisionArgument {
    /// Single precision
    F32,
    /// Brain floats, added up in single precision, where the CPU multiplies those faster
    #[default]
    Bf16,
}

impl From<PrecisionArgument> for nn::Precision {
    fn from(argument: PrecisionArgument) -> Self {
        match argument {
            PrecisionArgument::F32 => Self::F32,
            PrecisionArgument::Bf16 => Self::Bf16,
        }
    }
}

/// Where models compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DeviceArgument {
    /// A GPU where the program was built for one and there is one, else the CPU
    #[default]
    Auto,
    /// The CPU
    Cpu,
    /// The first NVIDIA GPU
    Cuda,
    /// The GPU of an Apple computer
    Metal,
}

impl From<DeviceArgument> for nn::DeviceChoice {
    fn from(argument: DeviceArgument) -> Self {
        match argument {
            DeviceArgument::Auto => Self::Auto,
            DeviceArgument::Cpu => Self::Cpu,
            DeviceArgument::Cuda => Self::Cuda,
            DeviceArgument::Metal => Self::Metal,
        }
    }
}

/// Arguments of `djinn bench`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  djinn bench\n  djinn bench my.world --json\n  djinn bench --only dynamics --steps 20"
)]
pub struct BenchArguments {
    /// Name or folder of a world [default: coinrun]
    pub world: Option<String>,
    /// Time this part only; may be given several times
    #[arg(long, value_name = "PART", value_enum)]
    pub only: Vec<BenchPart>,
    /// Frames to time
    #[arg(long, value_name = "N", default_value_t = 120)]
    pub frames: usize,
    /// Training steps to time for each stage; 0 leaves training out
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub steps: usize,
    /// Precision of matrix products
    #[arg(long, value_enum, default_value_t = PrecisionArgument::Bf16)]
    pub precision: PrecisionArgument,
    /// Optimizer of the training steps
    #[arg(long, value_enum, default_value_t = OptimizerArgument::Muon)]
    pub optimizer: OptimizerArgument,
    /// Say where a training step's time goes, by kind of operation
    #[arg(long)]
    pub profile: bool,
}

fn parse_name(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((code, name)) if !name.is_empty() => Ok((code.to_owned(), name.to_owned())),
        _ => Err("expected CODE=NAME".to_owned()),
    }
}

fn parse_set(text: &str) -> Result<(String, Vec<String>), String> {
    let (code, inputs) = text.split_once('=').ok_or("expected CODE=INPUT[,INPUT]")?;
    let inputs = inputs.split(',').filter(|input| !input.trim().is_empty());
    Ok((code.to_owned(), inputs.map(str::to_owned).collect()))
}

fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let number = |part: &str| {
        part.trim()
            .parse::<u32>()
            .ok()
            .filter(|side| (8..=1024).contains(side))
    };
    let size = match text.split_once('x') {
        Some((width, height)) => number(width).zip(number(height)),
        None => number(text).map(|side| (side, side)),
    };
    size.ok_or_else(|| "expected a side or WIDTHxHEIGHT, each from 8 to 1024".to_owned())
}

fn parse_crop(text: &str) -> Result<[u32; 4], String> {
    let numbers: Option<Vec<u32>> = text
        .split(',')
        .map(|part| part.trim().parse().ok())
        .collect();
    let crop = numbers
        .and_then(|numbers| <[u32; 4]>::try_from(numbers).ok())
        .filter(|crop| crop[2] > 0 && crop[3] > 0);
    crop.ok_or_else(|| "expected x,y,width,height in pixels".to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a time such as 90s, 45m or 1.5h".to_owned();
    let unit = match text.chars().last() {
        Some('s') => 1.0,
        Some('m') => 60.0,
        Some('h') => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * unit)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Arguments::command()
            .get_subcommands()
            .filter(|command| command.get_name() != "help")
        {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.contains(&format!("djinn {}", command.get_name())),
                "{} has no example",
                command.get_name()
            );
        }
    }

    #[test]
    fn stages_are_known_by_the_names_that_messages_call_them() {
        for stage in trainer::Stage::ALL {
            let line = ["djinn", "train", "d", "--out", "w", "--stage", stage.name()];
            Arguments::try_parse_from(line).unwrap();
        }
        let line = [
            "djinn",
            "train",
            "d",
            "--out",
            "w",
            "--stage",
            "latent-actions",
        ];
        Arguments::try_parse_from(line).unwrap();
    }

    #[test]
    fn sizes_crops_and_times_are_read() {
        assert_eq!(parse_size("64"), Ok((64, 64)));
        assert_eq!(parse_size("96x64"), Ok((96, 64)));
        assert!(
            parse_size("0").is_err()
                && parse_size("64x").is_err()
                && parse_size("9999999").is_err()
        );
        assert_eq!(
            parse_set("1=KeyA,South"),
            Ok(("1".into(), vec!["KeyA".into(), "South".into()]))
        );
        assert_eq!(parse_set("1="), Ok(("1".into(), vec![])));
        assert!(parse_set("KeyA").is_err() && parse_name("1=").is_err());
        assert_eq!(parse_crop("1,2,30,40"), Ok([1, 2, 30, 40]));
        assert!(parse_crop("1,2,0,4").is_err() && parse_crop("1,2,3").is_err());
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1.5h"), Ok(Duration::from_secs(5400)));
        for bad in ["", "5", "m", "-3m", "NaNs", "1e40h", "0s", "5µ"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
