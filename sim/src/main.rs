//! `sim scenario.toml`: simulate a scenario, print its table, write its report. `sim gallery`: all of a folder.
//! `sim export`: a strategy as configuration of gRPC, Envoy or Istio.

mod cli;
mod export;
mod gallery;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
