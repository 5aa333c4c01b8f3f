//! The command line: inputs and seed first, progress on stderr, the table on stdout, the report's path last.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Once;

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reports::RunRecord;
use scenarios::Scenario;

/// All expectations hold.
const HOLDS: u8 = 0;
/// An expectation failed.
const FAILED: u8 = 1;
/// The input is bad, or the report could not be written.
const BAD_INPUT: u8 = 2;

/// Simulate a load-balancing scenario.
///
/// Prints a table of the strategies the scenario compares, says whether its expectations hold, and writes
/// OUT/<scenario>/sim/index.html (the report), run.json and data.csv.
///
/// Exit status: 0 all expectations hold, 1 one failed, 2 bad input.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    /// The scenario file.
    #[arg(required_unless_present_any = ["schema", "record_schema"])]
    scenario: Option<PathBuf>,

    /// Master seed, in place of the scenario's.
    #[arg(long)]
    seed: Option<u64>,

    /// Run that many seeds, from the master seed upwards, and give every figure a 95 % interval.
    ///
    /// Strategies are compared seed by seed. An expectation must hold under every seed.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = seeds, hide_default_value = true)]
    seeds: u32,

    /// Run this strategy only; may be given several times.
    #[arg(long, value_name = "NAME")]
    strategy: Vec<String>,

    /// Directory the report is written under.
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,

    /// Print the run record as JSON in place of the table.
    #[arg(long)]
    json: bool,

    /// Open the report in a browser.
    #[arg(long)]
    open: bool,

    /// Print the JSON Schema of scenario files, for editors.
    #[arg(long)]
    schema: bool,

    /// Print the JSON Schema of run records (run.json).
    #[arg(long)]
    record_schema: bool,
}

/// Most seeds of a run: far more than an interval gains from.
const MOST_SEEDS: u32 = 10_000;

/// The value of `--seeds`.
fn seeds(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Err("no seed, no run; it needs at least 1, and 2 or more for intervals".to_owned()),
        Ok(n) if n <= MOST_SEEDS => Ok(n),
        _ => Err(format!("not a whole number from 1 to {MOST_SEEDS}")),
    }
}

/// Why there is no result: what to tell the user.
struct BadInput(String);

impl<T: Display> From<T> for BadInput {
    fn from(error: T) -> Self {
        Self(error.to_string())
    }
}

pub(super) fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(status) => ExitCode::from(status),
        Err(BadInput(message)) => {
            let _ = writeln!(std::io::stderr(), "{}", message.trim_end());
            ExitCode::from(BAD_INPUT)
        }
    }
}

/// To stdout. A reader that has gone away (`| head`) is no error of ours; a full disk is.
fn say(text: impl Display) -> Result<(), BadInput> {
    match writeln!(anstream::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("standard output: {error}").into()),
        _ => Ok(()),
    }
}

fn run(args: &Args) -> Result<u8, BadInput> {
    if args.schema {
        say(serde_json::to_string_pretty(&scenarios::json_schema())?)?;
        return Ok(HOLDS);
    }
    if args.record_schema {
        say(reports::schema::schema().trim_end())?;
        return Ok(HOLDS);
    }
    let Some(path) = &args.scenario else { return Err("which scenario?".into()) };
    let loaded = scenarios::load(path)?;
    let scenario = only(loaded.scenario, &args.strategy, path)?;
    let options = sim::Options {
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        hash: sim::scenario_hash(loaded.text.as_bytes()),
        text: loaded.text,
        seed: args.seed.unwrap_or(scenario.seed),
        reproduce: reproduce(args, path, args.seed.unwrap_or(scenario.seed)),
    };
    let folder = args.out.join(&options.name).join("sim");
    reports::write::prepare(&folder)?;
    if !args.json {
        say(inputs(path, &scenario, options.seed, args.seeds))?;
    }
    let record = simulate(&scenario, &options, args.seeds);
    let paths = reports::write(&folder, &record)?;
    if args.json {
        say(reports::json::to_string(&record).trim_end())?;
    } else {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        say(format_args!("\n{}", reports::terminal::table(&record, colour)))?;
        say(format_args!("report: {}", paths.index_html.display()))?;
    }
    if args.open {
        open::that_detached(&paths.index_html)
            .map_err(|e| format!("{}: no program to open it with ({e})", paths.index_html.display()))?;
    }
    Ok(if record.expectations.iter().all(|e| e.holds) { HOLDS } else { FAILED })
}

/// The scenario with the strategies asked for; expectations about others go with them.
fn only(mut scenario: Scenario, names: &[String], path: &Path) -> Result<Scenario, BadInput> {
    if names.is_empty() {
        return Ok(scenario);
    }
    if let Some(unknown) = names.iter().find(|n| scenario.strategies.iter().all(|s| s.name != **n)) {
        let known: Vec<&str> = scenario.strategies.iter().map(|s| s.name.as_str()).collect();
        let path = path.display();
        return Err(
            format!("--strategy {unknown}: {path} has no such strategy\n  hint: it has {}", known.join(", ")).into()
        );
    }
    scenario.strategies.retain(|s| names.contains(&s.name));
    scenario
        .expectations
        .retain(|e| names.contains(&e.strategy) && e.against.as_ref().is_none_or(|other| names.contains(other)));
    Ok(scenario)
}

/// What is run, in two lines.
fn inputs(path: &Path, scenario: &Scenario, seed: u64, seeds: u32) -> String {
    let seeds = match seeds {
        1 => format!("seed {seed}"),
        n => format!("seeds {seed} to {}", seed.wrapping_add(u64::from(n - 1))),
    };
    let strategies: Vec<&str> = scenario.strategies.iter().map(|s| s.name.as_str()).collect();
    format!(
        "{}: {}\n{seeds} · {} simulated · {}",
        path.display(),
        scenario.title,
        scenario.duration,
        strategies.join(", ")
    )
}

/// The command that gives the same record again, quoted for a shell. The scenario is named from the working directory, or
/// by its file name where it is elsewhere, so that the record is the same on every machine.
fn reproduce(args: &Args, path: &Path, seed: u64) -> String {
    let here = std::env::current_dir().ok();
    let inside = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    let name = match inside {
        Some(inside) => inside,
        None if path.is_absolute() => PathBuf::from(path.file_name().unwrap_or_default()),
        None => path.to_owned(),
    };
    let mut words = vec![name.to_string_lossy().into_owned()];
    for strategy in &args.strategy {
        words.extend(["--strategy".to_owned(), strategy.clone()]);
    }
    words.extend(["--seed".to_owned(), seed.to_string()]);
    if args.seeds > 1 {
        words.extend(["--seeds".to_owned(), args.seeds.to_string()]);
    }
    // Quoting fails for a NUL only, which neither an argument nor a path can hold.
    let words = words.iter().map(|w| shlex::try_quote(w).unwrap_or_default());
    format!("cargo run -p sim -- {}", words.collect::<Vec<_>>().join(" "))
}

/// Runs with a progress bar on stderr, which shows itself only after a second and only to a person.
fn simulate(scenario: &Scenario, options: &sim::Options, seeds: u32) -> RunRecord {
    const STEPS: f64 = 1000.0;
    let strategies = scenario.strategies.len();
    let bar = ProgressBar::new((STEPS * strategies as f64) as u64);
    bar.set_draw_target(ProgressDrawTarget::hidden());
    bar.set_style(
        ProgressStyle::with_template("{msg:<20} {wide_bar} {percent:>3} % {eta:>4}").expect("a constant template"),
    );
    let shown = Once::new();
    let show = |message: String, part: f64| {
        if bar.elapsed().as_secs_f64() >= 1.0 {
            shown.call_once(|| bar.set_draw_target(ProgressDrawTarget::stderr()));
        }
        bar.set_message(message);
        bar.set_position((part * STEPS * strategies as f64) as u64);
    };
    let record = if seeds > 1 {
        sim::replicate(scenario, options, seeds, &|part| show(format!("{seeds} seeds"), part))
    } else {
        sim::run(scenario, options, &mut |index, part| {
            show(scenario.strategies[index].name.clone(), (index as f64 + part) / strategies as f64);
        })
    };
    bar.finish_and_clear();
    record
}
