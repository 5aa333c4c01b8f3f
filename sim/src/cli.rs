//! The command line: inputs and seed first, progress on stderr, the table on stdout, the report's path last.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Once;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reports::RunRecord;
use scenarios::Scenario;

use crate::export::{self, ExportArgs};
use crate::gallery::{self, GalleryArgs};

/// All expectations hold.
pub(crate) const HOLDS: u8 = 0;
/// An expectation failed.
pub(crate) const FAILED: u8 = 1;
/// The input is bad, or the report could not be written.
const BAD_INPUT: u8 = 2;

/// Simulate a load-balancing scenario.
///
/// Prints a table of the strategies the scenario compares, says whether its expectations hold, and writes
/// OUT/<scenario>/sim/index.html (the report), run.json and data.csv.
///
/// Exit status: 0 all expectations hold, 1 one failed, 2 bad input.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,

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

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every scenario of a folder and write OUT/index.html, a page that leads to their reports.
    ///
    /// Exit status: 0 all expectations hold, 1 one failed, 2 bad input.
    Gallery(GalleryArgs),

    /// Print the configuration that does outside what a strategy does here: gRPC's, Envoy's or Istio's.
    ///
    /// What has no equivalent, or is set elsewhere, is noted on standard error.
    ///
    /// Exit status: 0 it is printed, 2 bad input, or there is no equivalent.
    Export(ExportArgs),
}

/// Most seeds of a run: far more than an interval gains from.
const MOST_SEEDS: u32 = 10_000;

/// The value of `--seeds`.
pub(crate) fn seeds(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Err("no seed, no run; it needs at least 1, and 2 or more for intervals".to_owned()),
        Ok(n) if n <= MOST_SEEDS => Ok(n),
        _ => Err(format!("not a whole number from 1 to {MOST_SEEDS}")),
    }
}

/// Why there is no result: what to tell the user.
#[derive(Debug)]
pub(crate) struct BadInput(pub(crate) String);

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
pub(crate) fn say(text: impl Display) -> Result<(), BadInput> {
    match writeln!(anstream::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("standard output: {error}").into()),
        _ => Ok(()),
    }
}

fn run(args: &Args) -> Result<u8, BadInput> {
    match &args.command {
        Some(Command::Gallery(gallery)) => return gallery::run(gallery),
        Some(Command::Export(export)) => return export::run(export),
        None => {}
    }
    if args.schema {
        say(serde_json::to_string_pretty(&scenarios::json_schema())?)?;
        return Ok(HOLDS);
    }
    if args.record_schema {
        say(reports::schema::schema().trim_end())?;
        return Ok(HOLDS);
    }
    let Some(path) = &args.scenario else { return Err("which scenario?".into()) };
    let task = Task::load(path, &args.strategy, args.seed, args.seeds)?;
    let folder = task.folder(&args.out);
    reports::write::prepare(&folder)?;
    if !args.json {
        say(task.inputs(path))?;
    }
    let record = with_progress(&task);
    let paths = reports::write(&folder, &record)?;
    if args.json {
        say(reports::json::to_string(&record).trim_end())?;
    } else {
        say(format_args!("\n{}", reports::terminal::table(&record, colour())))?;
        say(format_args!("report: {}", paths.index_html.display()))?;
    }
    if args.open {
        open(&paths.index_html)?;
    }
    Ok(if record.expectations.iter().all(|e| e.holds) { HOLDS } else { FAILED })
}

/// Whether stdout is a person's who wants colour.
pub(crate) fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Opens a page in a browser.
pub(crate) fn open(page: &Path) -> Result<(), BadInput> {
    open::that_detached(page).map_err(|e| format!("{}: no program to open it with ({e})", page.display()).into())
}

/// A scenario as it is to be run.
pub(crate) struct Task {
    pub(crate) scenario: Scenario,
    pub(crate) options: sim::Options,
    seeds: u32,
}

impl Task {
    /// Reads a scenario file; `strategies` are those to be run, all if empty.
    pub(crate) fn load(path: &Path, strategies: &[String], seed: Option<u64>, seeds: u32) -> Result<Self, BadInput> {
        let loaded = scenarios::load(path)?;
        let scenario = only(loaded.scenario, strategies, path)?;
        let seed = seed.unwrap_or(scenario.seed);
        let options = sim::Options {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            hash: sim::scenario_hash(loaded.text.as_bytes()),
            text: loaded.text,
            seed,
            reproduce: reproduce(path, strategies, seed, seeds),
        };
        Ok(Self { scenario, options, seeds })
    }

    /// Where its report goes.
    pub(crate) fn folder(&self, out: &Path) -> PathBuf {
        out.join(&self.options.name).join("sim")
    }

    /// Runs it. `progress` gets what is being run and the part of all that is done.
    pub(crate) fn simulate(&self, progress: &(dyn Fn(String, f64) + Sync)) -> RunRecord {
        let Self { scenario, options, seeds } = self;
        let strategies = scenario.strategies.len() as f64;
        if *seeds > 1 {
            return sim::replicate(scenario, options, *seeds, &|part| progress(format!("{seeds} seeds"), part));
        }
        sim::run(scenario, options, &mut |index, part| {
            progress(scenario.strategies[index].name.clone(), (index as f64 + part) / strategies);
        })
    }

    /// What is run, in two lines.
    fn inputs(&self, path: &Path) -> String {
        let (scenario, seed) = (&self.scenario, self.options.seed);
        let seeds = match self.seeds {
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
}

/// The scenario with the strategies asked for; expectations about others go with them.
fn only(mut scenario: Scenario, names: &[String], path: &Path) -> Result<Scenario, BadInput> {
    if names.is_empty() {
        return Ok(scenario);
    }
    if let Some(unknown) = names.iter().find(|n| scenario.strategies.iter().all(|s| s.name != **n)) {
        return Err(no_such_strategy(unknown, &scenario, path));
    }
    scenario.strategies.retain(|s| names.contains(&s.name));
    scenario
        .expectations
        .retain(|e| names.contains(&e.strategy) && e.against.as_ref().is_none_or(|other| names.contains(other)));
    Ok(scenario)
}

pub(crate) fn no_such_strategy(name: &str, scenario: &Scenario, path: &Path) -> BadInput {
    let known: Vec<&str> = scenario.strategies.iter().map(|s| s.name.as_str()).collect();
    let meant = scenarios::closest(name, known.iter().copied());
    let meant = meant.map_or_else(String::new, |meant| format!("did you mean `{meant}`? "));
    let path = path.display();
    format!("--strategy {name}: {path} has no such strategy\n  hint: {meant}it has {}", known.join(", ")).into()
}

/// The command that gives the same record again, quoted for a shell. The scenario is named from the working directory, or
/// by its file name where it is elsewhere, so that the record is the same on every machine.
fn reproduce(path: &Path, strategies: &[String], seed: u64, seeds: u32) -> String {
    let here = std::env::current_dir().ok();
    let inside = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    let name = match inside {
        Some(inside) => inside,
        None if path.is_absolute() => PathBuf::from(path.file_name().unwrap_or_default()),
        None => path.to_owned(),
    };
    let mut words = vec![name.to_string_lossy().into_owned()];
    for strategy in strategies {
        words.extend(["--strategy".to_owned(), strategy.clone()]);
    }
    words.extend(["--seed".to_owned(), seed.to_string()]);
    if seeds > 1 {
        words.extend(["--seeds".to_owned(), seeds.to_string()]);
    }
    // Quoting fails for a NUL only, which neither an argument nor a path can hold.
    let words = words.iter().map(|w| shlex::try_quote(w).unwrap_or_default());
    format!("cargo run -p sim -- {}", words.collect::<Vec<_>>().join(" "))
}

/// Runs with a progress bar on stderr, which shows itself only after a second and only to a person.
fn with_progress(task: &Task) -> RunRecord {
    const STEPS: f64 = 1000.0;
    let strategies = task.scenario.strategies.len();
    let bar = ProgressBar::new((STEPS * strategies as f64) as u64);
    bar.set_draw_target(ProgressDrawTarget::hidden());
    bar.set_style(
        ProgressStyle::with_template("{msg:<20} {wide_bar} {percent:>3} % {eta:>4}").expect("a constant template"),
    );
    let shown = Once::new();
    let record = task.simulate(&|message, part| {
        if bar.elapsed().as_secs_f64() >= 1.0 {
            shown.call_once(|| bar.set_draw_target(ProgressDrawTarget::stderr()));
        }
        bar.set_message(message);
        bar.set_position((part * STEPS * strategies as f64) as u64);
    });
    bar.finish_and_clear();
    record
}
