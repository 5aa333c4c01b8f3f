//! What the simulator's tests share: from the text of a scenario to its record, text that comes up again and again, and
//! what is looked up in a record.

#![allow(dead_code, reason = "each test uses a part")]

use std::ops::Range;

use reports::record::{PodRecord, RunRecord, StrategyRecord};
use scenarios::Scenario;

/// The scenario of this text.
pub(crate) fn parse(text: &str) -> Scenario {
    scenarios::parse("test.toml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

/// What the record says besides what happened, which no test here is about.
pub(crate) fn options(seed: u64) -> sim::Options {
    sim::Options { name: "test".into(), hash: String::new(), text: String::new(), seed, reproduce: String::new() }
}

/// The record of a scenario under this seed.
pub(crate) fn simulate(scenario: &Scenario, seed: u64) -> RunRecord {
    sim::run(scenario, &options(seed), &mut |_, _| {})
}

/// The record of this text, under seed 1.
pub(crate) fn run(text: &str) -> RunRecord {
    simulate(&parse(text), 1)
}

/// The base with each change, a text and what it becomes, made once where it is first found, and with more at its end.
pub(crate) fn changed(base: &str, changes: &[(&str, &str)], more: &str) -> String {
    let mut text = base.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "nothing to change: {from}");
        text = text.replacen(from, to, 1);
    }
    text + more
}

/// A strategy called as its balancer.
pub(crate) fn strategy(balancer: &str) -> String {
    format!("[[strategy]]\nname = \"{balancer}\"\nbalancer = \"{balancer}\"\n")
}

/// An event: what happens, as in `dns_outage = { for = "20s" }`.
pub(crate) fn event(at: &str, what: &str) -> String {
    format!("[[event]]\nat = \"{at}\"\n{what}\n")
}

/// The event that a deployment is to have this many pods.
pub(crate) fn scale(at: &str, deployment: &str, replicas: u32) -> String {
    event(at, &format!("scale = {{ deployment = \"{deployment}\", replicas = {replicas} }}"))
}

/// The pod, or container of one, of this name.
pub(crate) fn pod<'r>(s: &'r StrategyRecord, name: &str) -> &'r PodRecord {
    &s.pods[index(s, name)]
}

fn index(s: &StrategyRecord, name: &str) -> usize {
    s.pods.iter().position(|p| p.name == name).unwrap_or_else(|| panic!("no pod {name}"))
}

/// A deployment's pods in the order in which they were made.
pub(crate) fn pods_of<'r>(s: &'r StrategyRecord, deployment: &str) -> Vec<&'r PodRecord> {
    s.pods.iter().filter(|p| p.deployment == deployment).collect()
}

pub(crate) fn sum(series: &[u32]) -> u64 {
    series.iter().map(|&n| u64::from(n)).sum()
}

/// A series by intervals of 100 ms summed over these seconds.
pub(crate) fn between(series: &[u32], from: usize, until: usize) -> u64 {
    sum(&series[from * 10..until * 10])
}

/// What a pod got in these intervals.
pub(crate) fn received(s: &StrategyRecord, name: &str, intervals: Range<usize>) -> u64 {
    sum(&s.timeline.requests_per_pod[index(s, name)][intervals])
}

/// Requests answered in the last second of a run with intervals of 100 ms.
pub(crate) fn at_the_end(s: &StrategyRecord) -> u64 {
    sum(&s.timeline.ok[s.timeline.ok.len() - 10..])
}
