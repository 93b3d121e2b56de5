//! `djinn eval`.

use crate::arguments::EvalArguments;
use crate::output::Output;
pub fn run(_: EvalArguments, _: Output) -> anyhow::Result<std::process::ExitCode> { anyhow::bail!("not built yet") }
