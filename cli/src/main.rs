//! The `djinn` program: arguments, messages and exit codes. All else is in the libraries.
//!
//! Exit codes: 0 done; 1 an error, told on standard error; 2 wrong arguments; 3 done, but something was skipped or damaged, or a
//! session did not verify; 130 interrupted: long work before it was finished, anything when
//! interrupted twice.

use anyhow::Result;
use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

mod arguments;
mod cancel;
mod commands;
mod log;
mod output;
mod progress;

use arguments::{Arguments, Command, Common, PlayArguments};
use cancel::{interrupted, is_interruption};
use output::{Output, complain};

#[global_allocator]
static ALLOCATOR: nn::BufferAllocator = nn::BufferAllocator::new();

fn main() -> ExitCode {
    // SAFETY: nothing has started a thread yet.
    unsafe { nn::quiet_candle_threads() };
    nn::tune_allocator();
    let arguments = Arguments::parse();
    log_to_standard_error(&arguments.common);
    match run(arguments) {
        Ok(code) => code,
        Err(error) if is_interruption(&error) => interrupted(error),
        Err(error) => {
            complain(format!("djinn: {}", whole_story(&error)));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes in one line; a cause that the text before it has told already is left out.
fn whole_story(error: &anyhow::Error) -> String {
    let mut story = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if story.is_empty() {
            story = cause;
        } else if !story.contains(&cause) {
            story = format!("{story}: {cause}");
        }
    }
    story
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    nn::kernels::dispatch::check_request()?;
    nn::choose_device(arguments.common.device.into())?;
    let output = Output::new(&arguments.common);
    match arguments.command {
        None => commands::play::run(PlayArguments::default(), output),
        Some(Command::Play(play)) => commands::play::run(play, output),
        Some(Command::Ingest(ingest)) => commands::ingest::run(ingest, output),
        Some(Command::Train(train)) => commands::train::run(train, output),
        Some(Command::Eval(eval)) => commands::eval::run(eval, output),
        Some(Command::Replay(replay)) => commands::replay::run(replay, output),
        Some(Command::Worlds(worlds)) => commands::worlds::run(worlds, output),
        Some(Command::Bind(bind)) => commands::bind::run(bind, output),
        Some(Command::Bench(bench)) => commands::bench::run(bench, output),
    }
}

/// Logs what `RUST_LOG` or the options ask for.
fn log_to_standard_error(common: &Common) {
    let level = match common.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let usual =
        format!("{level},winit=error,wgpu_core=warn,wgpu_hal=error,naga=warn,pulseaudio=off");
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let wanted = match wanted.trim() {
        "" => usual.as_str(),
        wanted => wanted,
    };
    let filter = EnvFilter::builder().parse(wanted).unwrap_or_else(|error| {
        eprintln!("warning: RUST_LOG={wanted:?} is left aside: {error}");
        EnvFilter::new(&usual)
    });
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| log::Log)
        .with_ansi(colours)
        // Otherwise it panics where nobody reads standard error.
        .log_internal_errors(false)
        .with_target(false)
        .init();
}
