//! Sends batches of Hello RPCs and prints who served them. Exit code 0 if every RPC was answered, 1 if one failed, 2
//! for bad flags.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::builder::NonEmptyStringValueParser;
use live::client::{Client, Plan};
use live::flags::{duration, positive_duration};
use live::tally::Tally;
use live::target::Target;

/// A gRPC client that sends Hello RPCs over one connection and counts them by server. It does not balance.
#[derive(Parser)]
#[command(name = "client", version)]
struct Flags {
    /// Where to send: host:port or http://host:port
    #[arg(long, env = "TARGET", default_value = "127.0.0.1:50051")]
    target: Target,
    /// Identifier in every request
    #[arg(long, env = "HOSTNAME", value_parser = NonEmptyStringValueParser::new(), default_value = "client")]
    name: String,
    /// RPCs sent at once; a batch ends when all of them have
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Batches to send; default: until SIGTERM or Ctrl-C
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    batches: Option<u64>,
    /// Rest between two batches; at least 1s after a batch with failures
    #[arg(long, default_value = "0s", value_parser = duration)]
    pause: Duration,
    /// Deadline of every RPC
    #[arg(long, default_value = "5s", value_parser = positive_duration)]
    deadline: Duration,
    /// Print one JSON object at the end on stdout, and the batches on stderr
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    run(Flags::parse()).await.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(flags: Flags) -> anyhow::Result<ExitCode> {
    let stop = live::stop::signal()?;
    let plan = Plan { concurrency: flags.concurrency, batches: flags.batches, pause: flags.pause };
    eprintln!(
        "{} sends {} RPCs at once to {}, deadline {:?}",
        flags.name, flags.concurrency, flags.target, flags.deadline
    );

    let each = |number: u64, tally: &Tally| {
        let line = format!("batch {number}: {tally}");
        let printed = if flags.json { writeln!(io::stderr(), "{line}") } else { writeln!(io::stdout(), "{line}") };
        // Nobody reads any more (`client | head`): stop sending.
        if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let summary = Client::new(flags.name.clone(), flags.target, flags.deadline).run(plan, stop, each).await;

    let line = if flags.json { serde_json::to_string(&summary)? } else { summary.to_string() };
    match writeln!(io::stdout(), "{line}") {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => return Err(e.into()),
        _ => {}
    }
    Ok(if summary.requests.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
