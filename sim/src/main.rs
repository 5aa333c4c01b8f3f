//! `sim scenario.toml`: simulate a scenario, print its table, write its report.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
