//! `sim gallery`: every scenario of a folder, its report each, and one page that leads to them.
//!
//! All files are read before the first is run, so that a broken one costs no time. Scenarios run in parallel; what is
//! said and written is in the order of their paths, whatever the threads.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use reports::RunRecord;
use reports::html::Card;

use crate::cli::{BadInput, FAILED, HOLDS, Task, colour, open, say};

/// What `sim gallery` takes.
#[derive(Debug, Args)]
pub(crate) struct GalleryArgs {
    /// The folder: its scenario files, and those of a folder `policies` in it.
    #[arg(default_value = "scenarios")]
    folder: PathBuf,

    /// Master seed, in place of the scenarios'.
    #[arg(long)]
    seed: Option<u64>,

    /// Run that many seeds, from the master seed upwards.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = crate::cli::seeds, hide_default_value = true)]
    seeds: u32,

    /// Directory the page and the reports are written under.
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,

    /// Open the page in a browser.
    #[arg(long)]
    open: bool,
}

pub(crate) fn run(args: &GalleryArgs) -> Result<u8, BadInput> {
    let tasks = tasks(args)?;
    reports::write::prepare(&args.out)?;
    let bar = ProgressBar::new(tasks.len() as u64).with_prefix(args.folder.display().to_string());
    bar.set_style(
        ProgressStyle::with_template("{prefix}: {pos} of {len} {wide_bar} {elapsed} {msg}").expect("constant"),
    );
    bar.tick();
    let results: Vec<Result<RunRecord, BadInput>> = tasks
        .par_iter()
        .map(|task| {
            let record = task.simulate(&|_, _| {});
            reports::write(&task.folder(&args.out), &record)?;
            bar.set_message(task.options.name.clone());
            bar.inc(1);
            Ok(record)
        })
        .collect();
    bar.finish_and_clear();
    let records: Vec<RunRecord> = results.into_iter().collect::<Result<_, _>>()?;
    for record in &records {
        say(outcome(record).trim_end())?;
    }
    let notes: Vec<(String, String, String)> = tasks
        .iter()
        .map(|task| {
            let note = |key| comment(&task.options.text, key);
            (note("Question"), note("From"), format!("{}/sim/index.html", task.options.name))
        })
        .collect();
    let cards: Vec<Card<'_>> = records
        .iter()
        .zip(&notes)
        .map(|(record, (question, from, report))| Card { record, question, from, report })
        .collect();
    let page = reports::write::gallery(&args.out, &reports::html::gallery(&cards))?;
    say(format_args!("\ngallery: {}", page.display()))?;
    if args.open {
        open(&page)?;
    }
    let holds = records.iter().flat_map(|r| &r.expectations).all(|e| e.holds);
    Ok(if holds { HOLDS } else { FAILED })
}

/// One task a scenario file, or all that is wrong with them.
fn tasks(args: &GalleryArgs) -> Result<Vec<Task>, BadInput> {
    let mut paths = scenario_files(&args.folder)?;
    let policies = args.folder.join("policies");
    if policies.is_dir() {
        paths.extend(scenario_files(&policies)?);
    }
    if paths.is_empty() {
        return Err(format!("{}: has no scenario file (*.toml)", args.folder.display()).into());
    }
    let (mut tasks, mut broken) = (Vec::new(), String::new());
    for path in &paths {
        match Task::load(path, &[], args.seed, args.seeds) {
            Ok(task) => tasks.push(task),
            Err(BadInput(message)) => broken.push_str(&format!("{}\n", message.trim_end())),
        }
    }
    if !broken.is_empty() {
        return Err(broken.into());
    }
    // Two files of one name would write one report.
    let mut by_name: BTreeMap<&str, &Path> = BTreeMap::new();
    for (task, path) in tasks.iter().zip(&paths) {
        if let Some(other) = by_name.insert(&task.options.name, path) {
            let (a, b) = (other.display(), path.display());
            return Err(
                format!("{b}: has the name of {a}, and so its report's folder\n  hint: rename one of them").into()
            );
        }
    }
    Ok(tasks)
}

/// The `.toml` files of a folder, by name.
fn scenario_files(folder: &Path) -> Result<Vec<PathBuf>, BadInput> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: cannot be read: {e}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| format!("{}: cannot be read: {e}", folder.display()))?;
    files.retain(|path| path.extension().is_some_and(|e| e == "toml") && path.is_file());
    files.sort();
    Ok(files)
}

/// A line a scenario, and what failed.
fn outcome(record: &RunRecord) -> String {
    let (name, all) = (&record.scenario, record.expectations.len());
    let failed = record.expectations.iter().filter(|e| !e.holds).count();
    match failed {
        0 => format!("✓ {name}: {all} of {all} expectations hold"),
        n => format!("✗ {name}: {n} of {all} expectations failed\n{}", reports::terminal::failed(record, colour())),
    }
}

/// What a scenario's first comment says under a key, as one line: `# From: seed 000 …`. Empty if it does not say it.
fn comment(text: &str, key: &str) -> String {
    let mut words = Vec::new();
    let mut inside = false;
    for line in text.lines().map_while(|line| line.strip_prefix('#')) {
        let start = line.strip_prefix(' ').and_then(|l| l.strip_prefix(key)).and_then(|l| l.strip_prefix(':'));
        // The text of a key is indented below its line or goes on at the margin; the next key or an empty line ends it.
        inside = start.is_some() || inside && !line.trim().is_empty() && !begins_a_part(line);
        if inside {
            words.extend(start.unwrap_or(line).split_whitespace());
        }
    }
    words.join(" ")
}

fn begins_a_part(line: &str) -> bool {
    ["Question:", "What happens", "Why", "What to do", "From:"]
        .iter()
        .any(|part| line.trim_start_matches(' ').starts_with(part))
        && !line.starts_with("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_comment_says_what_and_where_from() {
        let text = "# Question: does it\n#   spread?\n#\n# What happens: no.\n# Why: x\n# From: seed 000 \"Canaries\",\n#   end.\ntitle = \"t\"\n# From: later\n";
        assert_eq!(comment(text, "Question"), "does it spread?");
        assert_eq!(comment(text, "Why"), "x");
        assert_eq!(comment(text, "From"), "seed 000 \"Canaries\", end.");
        assert_eq!(comment("title = \"t\"\n", "From"), "");
    }
}
