//! Answers Hello RPCs until SIGTERM or Ctrl-C, then drains. Exit code 0 after a clean drain, 1 otherwise, 2 for bad flags.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Parser;
use clap::builder::NonEmptyStringValueParser;
use live::flags::duration;
use live::server::{Drained, Server};

/// How often it says what it answered, if it answered anything.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// A gRPC server that echoes Hello RPCs and says who it is.
#[derive(Parser)]
#[command(name = "server", version)]
struct Flags {
    /// Address and port; port 0 takes any free one, 0.0.0.0 listens on every interface (as a pod must)
    #[arg(long, default_value = "127.0.0.1:50051", value_name = "IP:PORT")]
    listen: SocketAddr,
    /// Identifier in every response; default: the address it listens on
    #[arg(long, env = "HOSTNAME", value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// How long to wait for RPCs in flight after SIGTERM or Ctrl-C
    #[arg(long, default_value = "30s", value_parser = duration)]
    drain: Duration,
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
    let server = Server::bind(flags.listen, flags.name)?;
    let (name, answered) = (server.name().to_owned(), server.answered());
    eprintln!("{name} listens on {}, drains for {:?}", server.address(), flags.drain);

    let report = tokio::spawn({
        let (name, answered) = (name.clone(), answered.clone());
        async move {
            let mut before = 0;
            loop {
                tokio::time::sleep(REPORT_EVERY).await;
                let now = answered.load(Ordering::Relaxed);
                if now > before {
                    eprintln!("{name} answered {} RPCs in {REPORT_EVERY:?}", now - before);
                }
                before = now;
            }
        }
    });
    let stop = async {
        stop.await;
        eprintln!("{name} drains");
    };
    let drained = server.serve(stop, flags.drain).await;
    report.abort();
    eprintln!("{name} answered {} RPCs in all", answered.load(Ordering::Relaxed));
    Ok(match drained? {
        Drained::InTime => ExitCode::SUCCESS,
        Drained::Late => {
            eprintln!(
                "{name} still had connections open after {:?} and cuts them; allow more with --drain",
                flags.drain
            );
            ExitCode::FAILURE
        }
    })
}
