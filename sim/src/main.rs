//! `sim scenario.toml`: simulate a scenario, print its table, write its report. `sim gallery`: all of a folder.

mod cli;
mod gallery;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
