//! What a scenario must satisfy beyond having the right shape: limits, references, and what excludes what.
//!
//! A rule that depends on something in doubt (because it was reported as misspelt, missing or of the wrong type) is
//! skipped: its answer would be about a stand-in.

mod cluster;
mod discovery;
mod expect;
mod routing;
mod size;
mod strategy;
mod workload;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Display;

use lb_core::Nanos;

use crate::errors::{Report, Source, did_you_mean};
use crate::tree::{Node, join};
use crate::{Scenario, Service};

/// 7 days: simulated time then fits 64 bits of nanoseconds 30,000 times. Our choice.
const LONGEST_RUN: Nanos = Nanos::from_secs(7 * 24 * 3600);
/// Points of a timeline that a report can still hold and draw. Our choice.
const MOST_INTERVALS: u64 = 100_000;

/// Reports everything in `scenario` that cannot be.
pub(crate) fn check(
    scenario: &Scenario,
    tree: &Node,
    in_doubt: &BTreeSet<String>,
    source: &Source<'_>,
    report: &mut Report,
) {
    let deployments = scenario.deployments.iter().enumerate().map(|(i, d)| (d.name.as_str(), i)).collect();
    let mut cx = Check { scenario, tree, in_doubt, source, report, declared: Declared::default(), deployments };
    cx.declared = Declared {
        deployments: cx.names("deployment", scenario.deployments.iter().map(|d| &d.name)),
        services: cx.names("service", scenario.services.iter().map(|s| &s.name)),
        strategies: cx.names("strategy", scenario.strategies.iter().map(|s| &s.name)),
    };
    cx.run();
    cx.cluster();
    cx.discovery();
    cx.deployments();
    cx.autoscalers();
    cx.services();
    cx.loads();
    cx.events();
    cx.strategies();
    cx.expectations();
    cx.size();
}

struct Check<'a> {
    scenario: &'a Scenario,
    tree: &'a Node,
    in_doubt: &'a BTreeSet<String>,
    source: &'a Source<'a>,
    report: &'a mut Report,
    declared: Declared<'a>,
    deployments: HashMap<&'a str, usize>,
}

/// The names that references may mean; `None` where not all of them are known for certain.
#[derive(Default)]
struct Declared<'a> {
    deployments: Option<Names<'a>>,
    services: Option<Names<'a>>,
    strategies: Option<Names<'a>>,
}

struct Names<'a> {
    in_order: Vec<&'a str>,
    set: HashSet<&'a str>,
}

impl<'a> Check<'a> {
    fn run(&mut self) {
        let Scenario { title, duration, interval, .. } = self.scenario;
        if title.trim().is_empty() {
            self.problem("title", "`title` is empty", "ask the scenario's question in one line");
        }
        self.positive("duration", *duration, "a run takes some time, such as \"60s\"");
        if *duration > LONGEST_RUN {
            let rule = format!("`duration` is {duration}; it must be at most {LONGEST_RUN} (7 days)");
            self.problem("duration", rule, "a run of minutes or hours shows what this one does");
        }
        let at_least = Nanos(duration.0.div_ceil(MOST_INTERVALS));
        if *interval == Nanos::ZERO {
            self.problem(
                "interval",
                "`interval` is 0s; a timeline needs buckets of some width",
                "leave it out to get 1s",
            );
        } else if self.sound("duration") && *duration > Nanos::ZERO && interval > duration {
            let rule = format!("`interval` is {interval}, longer than the run ({duration})");
            // By default the interval is 1 s: then it is the duration that stands in the file.
            let path = if self.given("interval") { "interval" } else { "duration" };
            self.problem(path, rule, format!("write an `interval` of at most {duration}"));
        } else if self.sound("duration") && *duration <= LONGEST_RUN && *interval < at_least {
            let rule = format!("`interval` cuts the run into more than {MOST_INTERVALS} pieces");
            let path = if self.given("interval") { "interval" } else { "duration" };
            self.problem(path, rule, format!("write an `interval` of at least {at_least}"));
        }
        self.warm_up();
    }

    fn warm_up(&mut self) {
        let Scenario { duration, interval, warm_up, .. } = *self.scenario;
        if self.sound("duration") && duration > Nanos::ZERO && warm_up >= duration {
            let rule = format!("`warm_up` is {warm_up}, not shorter than the run ({duration})");
            self.problem("warm_up", rule, "nothing is left to measure; write a longer `duration`");
        } else if self.sound("interval") && interval > Nanos::ZERO && !warm_up.0.is_multiple_of(interval.0) {
            let whole = |n: u64| Nanos(n.saturating_mul(interval.0));
            let (below, above) = (whole(warm_up.0 / interval.0), whole(warm_up.0 / interval.0 + 1));
            let rule = format!("`warm_up` is {warm_up}, not a whole number of intervals ({interval})");
            self.problem("warm_up", rule, format!("write \"{below}\" or \"{above}\", or a finer `interval`"));
        }
    }

    /// Reports `rule` at `path`, unless what stands there is in doubt.
    fn problem<H: Into<String>>(&mut self, path: &str, rule: impl Into<String>, hint: H) {
        if self.certain(path) {
            let (node, _) = self.tree.at(path);
            self.report.add(node.span.start, rule, hint.into());
        }
    }

    /// Whether nothing at `path` or around it is in doubt. Something in it may be.
    fn certain(&self, path: &str) -> bool {
        let ends = path.match_indices('.').map(|(dot, _)| dot).chain([path.len()]);
        !ends.into_iter().any(|end| self.in_doubt.contains(&path[..end]))
    }

    /// Whether nothing at `path`, around it or in it is in doubt.
    fn sound(&self, path: &str) -> bool {
        let within = format!("{path}.");
        let in_it = self.in_doubt.range(within.clone()..).next().is_some_and(|next| next.starts_with(&within));
        self.certain(path) && !in_it
    }

    /// Whether the file itself has something at `path`, rather than a default.
    fn given(&self, path: &str) -> bool {
        self.tree.at(path).1
    }

    /// Line of `path`, from 1.
    fn line(&self, path: &str) -> usize {
        self.source.line_of(self.tree.at(path).0.span.start) + 1
    }

    /// `value` must be from `low` to `high`.
    fn within<T: PartialOrd + Display>(&mut self, path: &str, value: T, low: T, high: T, hint: &str) {
        let range = low..=high;
        // Not a number is in no range.
        if !range.contains(&value) {
            let name = path.rsplit('.').next().unwrap_or(path);
            let rule = format!("`{name}` is {value}; it must be from {} to {}", range.start(), range.end());
            self.problem(path, rule, hint);
        }
    }

    /// `value` must be above zero.
    fn positive(&mut self, path: &str, value: Nanos, hint: &str) {
        if value == Nanos::ZERO {
            let name = path.rsplit('.').next().unwrap_or(path);
            self.problem(path, format!("`{name}` is 0s; it must be above zero"), hint);
        }
    }

    /// `value` must be `low` or more.
    fn at_least(&mut self, path: &str, value: Nanos, low: Nanos, hint: &str) {
        if value < low {
            let name = path.rsplit('.').next().unwrap_or(path);
            self.problem(path, format!("`{name}` is {value}; it must be at least {low}"), hint);
        }
    }

    /// Names of one kind must be given once, and not be empty.
    fn unique(&mut self, list: &str, names: &[&'a str]) {
        let mut first = HashMap::new();
        for (i, name) in names.iter().enumerate() {
            let path = format!("{list}.{i}.name");
            if name.is_empty() {
                self.problem(&path, "`name` is empty", "write a name by which the rest of the file can mean this one");
            } else if let Some(before) = first.insert(name, i).filter(|_| self.sound(&path)) {
                let line = self.line(&format!("{list}.{before}.name"));
                if self.sound(&format!("{list}.{before}.name")) {
                    let rule = format!("{list} `{name}` is declared twice");
                    self.problem(&path, rule, format!("the other one is on line {line}; rename one of them"));
                }
            }
        }
    }

    /// Names that become parts of DNS names must be DNS labels.
    fn label(&mut self, path: &str, name: &str) {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good = name.len() <= 63 && name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-');
        if !name.is_empty() && !good {
            let rule = format!("`{name}` is not a DNS label, as Kubernetes wants its names");
            let hint = "write 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end (RFC 1123)";
            self.problem(path, rule, hint);
        }
    }

    /// Every declared name of a list, or `None` if some of them are in doubt.
    fn names(&self, list: &str, names: impl Iterator<Item = &'a String>) -> Option<Names<'a>> {
        let in_order: Vec<&str> = names.map(String::as_str).collect();
        let known = |i: usize| {
            let item = join(list, &i.to_string());
            !self.in_doubt.contains(&item) && self.sound(&join(&item, "name"))
        };
        let all_known = !self.in_doubt.contains(list) && (0..in_order.len()).all(known);
        all_known.then(|| Names { set: in_order.iter().copied().collect(), in_order })
    }

    fn declared(&self, list: &str) -> Option<&Names<'a>> {
        match list {
            "deployment" => self.declared.deployments.as_ref(),
            "service" => self.declared.services.as_ref(),
            _ => self.declared.strategies.as_ref(),
        }
    }

    /// `name` must be declared in `list`. True if it is, false if it is not or cannot be told.
    fn refers(&mut self, path: &str, list: &str, name: &str) -> bool {
        let Some(names) = self.declared(list) else { return false };
        if names.set.contains(name) {
            return self.sound(path);
        }
        let none = format!("declare it: [[{list}]] with name = \"{name}\"");
        let candidates = if self.report.is_long() { &[] } else { names.in_order.as_slice() };
        let hint = did_you_mean(name, candidates.iter().copied(), &none);
        self.problem(path, format!("{list} `{name}` is not declared"), hint);
        false
    }

    /// The service that a load calls, if that much is certain.
    fn called_by(&self, load: usize) -> Option<&'a Service> {
        let to = &self.scenario.loads.get(load)?.to;
        let known = self.sound(&format!("load.{load}.to")) && self.declared("service").is_some();
        let called = self.scenario.services.iter().enumerate().find(|(_, s)| s.name == *to);
        called.filter(|(i, _)| known && self.sound(&format!("service.{i}.deployments"))).map(|(_, service)| service)
    }

    /// The deployments that answer, if all of them are certain.
    fn answering(&self) -> Option<Vec<&'a str>> {
        let all =
            !self.in_doubt.contains("load") && (0..self.scenario.loads.len()).all(|i| self.called_by(i).is_some());
        all.then(|| self.scenario.answering())
    }

    /// Whether every load says for certain who calls.
    fn callers_are_certain(&self) -> bool {
        !self.in_doubt.contains("load") && (0..self.scenario.loads.len()).all(|i| self.sound(&format!("load.{i}.from")))
    }

    /// The index of a deployment by its name.
    fn deployment(&self, name: &str) -> Option<usize> {
        self.deployments.get(name).copied()
    }
}
