//! The gallery teaches: every scenario asks a question, says where it is from, and its observations hold, under its own
//! seed and under others, because they hold for their reasons and not by luck.

use std::fs;
use std::path::{Path, PathBuf};

use reports::RunRecord;

fn gallery() -> Vec<PathBuf> {
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let files =
        [scenarios.join("policies"), scenarios].into_iter().flat_map(|dir| fs::read_dir(dir).expect("readable"));
    let files = files.map(|entry| entry.expect("entry").path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    assert!(files.len() >= 6, "{files:?}");
    files
}

fn run(path: &Path, seed: Option<u64>) -> RunRecord {
    let loaded = scenarios::load(path).unwrap_or_else(|errors| panic!("{errors}"));
    let options = sim::Options {
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        hash: sim::scenario_hash(loaded.text.as_bytes()),
        seed: seed.unwrap_or(loaded.scenario.seed),
        reproduce: String::new(),
        text: loaded.text,
    };
    sim::run(&loaded.scenario, &options, &mut |_, _| {})
}

/// Expectations that do not hold, one a line.
fn broken(record: &RunRecord) -> String {
    let name = |e: &reports::record::ExpectationRecord| {
        let (scenario, seed) = (&record.scenario, record.seed);
        format!("{scenario}, seed {seed}, {}: {}: {:?}, expected {}\n", e.strategy, e.text, e.measured, e.bound)
    };
    record.expectations.iter().filter(|e| !e.holds).map(name).collect()
}

#[test]
fn every_scenario_asks_a_question_and_says_where_it_is_from() {
    for path in gallery() {
        let text = fs::read_to_string(&path).expect("readable");
        let comment: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        let question = comment.iter().take_while(|line| **line != "#").copied().collect::<Vec<_>>().join(" ");
        let path = path.display();
        assert!(question.starts_with("# Question: ") && question.trim_end().ends_with('?'), "{path}: {question}");
        for part in ["# What happens", "# Why", "# What to do", "# From: "] {
            assert!(comment.iter().any(|line| line.starts_with(part)), "{path} has no line with {part}");
        }
        // A walk-through that teaches it, reports of users it has hurt, or the policy that it shows when to want.
        let from = ["# From: seed ", "# From: the pain ", "# From: the policy "];
        let known = |line: &&&str| from.iter().any(|start| line.starts_with(start));
        assert!(comment.iter().find(known).is_some(), "{path}: From names a seed, a pain or a policy");
    }
}

#[test]
fn every_scenario_expects_something_of_every_strategy_it_is_about() {
    for path in gallery() {
        let scenario = scenarios::load(&path).unwrap_or_else(|errors| panic!("{errors}")).scenario;
        for strategy in &scenario.strategies {
            let about =
                |e: &scenarios::Expect| e.strategy == strategy.name || e.against.as_ref() == Some(&strategy.name);
            assert!(scenario.expectations.iter().any(about), "{}: {}", path.display(), strategy.name);
        }
    }
}

#[test]
fn every_policy_has_a_scenario() {
    let texts: Vec<String> = gallery().iter().map(|path| fs::read_to_string(path).expect("readable")).collect();
    let lines = || texts.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with('#'));
    let is_used = |name: &&str| {
        let forms = [format!("policy = \"{name}\""), format!("{name} = {{"), format!("policy.{name}]")];
        lines().any(|line| forms.iter().any(|form| line.contains(form)))
    };
    let without: Vec<&str> = lb_core::PolicyConfig::NAMES.iter().copied().filter(|name| !is_used(name)).collect();
    assert_eq!(without, ["pick_first"], "it is the default and needs no name");
}

#[test]
fn what_is_expected_holds_and_comes_out_the_same_twice() {
    for path in gallery() {
        let record = run(&path, None);
        assert_eq!(broken(&record), "");
        let json = |record: &RunRecord| serde_json::to_string(record).expect("plain JSON");
        assert!(json(&record) == json(&run(&path, None)), "{}", path.display());
    }
}

#[test]
fn what_is_expected_holds_for_its_reason() {
    let failures: String =
        gallery().iter().flat_map(|path| (1..=5).map(|seed| broken(&run(path, Some(seed))))).collect();
    assert_eq!(failures, "");
}
