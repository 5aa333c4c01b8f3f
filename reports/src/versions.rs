//! Deployments that answer one service together, stable against canary or v1 against v2: what the split did, and what the
//! worse one cost, as clauses of the verdict.
//!
//! Such deployments are meant to differ, so that their pods get unequal parts is no news, and nothing here calls it uneven.

use crate::measure::split_error;
use crate::number::{count, list, percent, plural, sig3};
use crate::record::{DeploymentRecord, SplitPart, SplitRecord, StrategyRecord};

/// Changes that reach every balancer sooner than this, in seconds, are not told of. Our own choice.
const SOON_S: f64 = 1.0;

/// Services that several deployments answer, each with these.
pub(crate) fn services(s: &StrategyRecord) -> Vec<(&str, Vec<&DeploymentRecord>)> {
    let mut services: Vec<(&str, Vec<&DeploymentRecord>)> = Vec::new();
    for d in &s.deployments {
        match services.iter_mut().find(|(name, _)| *name == d.service) {
            Some((_, members)) => members.push(d),
            None => services.push((&d.service, vec![d])),
        }
    }
    services.retain(|(_, members)| members.len() > 1 && members.iter().any(|d| d.requests > 0));
    services
}

/// The periods of the routes that have several targets, at one time at least.
pub(crate) fn splits(s: &StrategyRecord) -> Vec<&SplitRecord> {
    let several = |split: &SplitRecord| s.splits.iter().any(|o| o.route == split.route && o.parts.len() > 1);
    s.splits.iter().filter(|split| several(split)).collect()
}

/// The target whose share as balancers read it is farthest from what is written; `None` if all are as written.
pub(crate) fn misread(s: &StrategyRecord) -> Option<&SplitPart> {
    let off = |part: &SplitPart| (part.effective - part.configured).abs();
    s.splits.iter().flat_map(|split| &split.parts).filter(|p| off(p) > 1e-9).max_by(|a, b| off(a).total_cmp(&off(b)))
}

/// Longest time that a change took to reach every balancer, in seconds.
pub(crate) fn slowest_change_s(s: &StrategyRecord) -> Option<f64> {
    s.configurations.iter().filter_map(|c| c.last_s.map(|last| last - c.at_s)).reduce(f64::max)
}

/// What is to be said of splits and of the deployments that answer one service; nothing where there are neither.
pub(crate) fn clauses(strategies: &[StrategyRecord]) -> Vec<String> {
    let mut clauses = split_clauses(strategies);
    let mut named: Vec<&str> = Vec::new();
    for (service, _) in strategies.iter().flat_map(services) {
        if !named.contains(&service) {
            named.push(service);
        }
    }
    let split_everywhere = strategies.iter().all(|s| !splits(s).is_empty());
    for service in named {
        match failing(strategies, service) {
            Some(name) => clauses.push(cost(strategies, name)),
            None if !split_everywhere => clauses.extend(smallest_share(strategies, service)),
            None => {}
        }
    }
    clauses
}

/// Whether a text begins with the name of a deployment or of a route's target, which keeps its spelling.
pub(crate) fn begins_with_name(text: &str, strategies: &[StrategyRecord]) -> bool {
    let targets = |s: &StrategyRecord| s.splits.iter().flat_map(|split| &split.parts).any(|p| starts(text, &p.name));
    strategies.iter().any(|s| targets(s) || s.deployments.iter().any(|d| starts(text, &d.name)))
}

fn starts(text: &str, name: &str) -> bool {
    text.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '))
}

/// " under a and b", or nothing where there is only one strategy to speak of.
fn under(names: &[&str], all: &[StrategyRecord]) -> String {
    if all.len() > 1 { format!(" under {}", list(names)) } else { String::new() }
}

fn split_clauses(strategies: &[StrategyRecord]) -> Vec<String> {
    let split: Vec<&StrategyRecord> = strategies.iter().filter(|s| !splits(s).is_empty()).collect();
    let mut clauses = Vec::new();
    for s in &split {
        clauses.extend(misread(s).map(|part| {
            format!(
                "{} was meant to get {} and got {}{}, as weights count per address",
                part.name,
                percent(part.configured),
                percent(part.measured),
                under(&[&s.name], strategies)
            )
        }));
    }
    let kept: Vec<(&str, f64)> = split
        .iter()
        .filter(|s| misread(s).is_none())
        .filter_map(|s| Some((s.name.as_str(), split_error(s, |part| part.measured)?)))
        .collect();
    if let Some(worst) = kept.iter().map(|k| k.1).reduce(f64::max) {
        let names: Vec<&str> = kept.iter().map(|k| k.0).collect();
        let under = if names.len() == strategies.len() { String::new() } else { under(&names, strategies) };
        clauses.push(format!("targets got what was configured{under}, within {} of all requests", percent(worst)));
    }
    let mut slow: Vec<(&str, f64)> =
        split.iter().filter_map(|s| Some((s.name.as_str(), slowest_change_s(s)?))).collect();
    slow.sort_by(|a, b| f64::total_cmp(&b.1, &a.1));
    if slow.first().is_some_and(|longest| longest.1 >= SOON_S) {
        let parts = grouped(slow.iter().map(|(name, s)| (*name, format!("{} s", sig3(*s)))));
        let each: Vec<String> = match parts.as_slice() {
            [(spelt, _)] => vec![spelt.clone()],
            several => several.iter().map(|(spelt, names)| format!("{spelt}{}", under(names, strategies))).collect(),
        };
        clauses.push(format!("a change reached every balancer within {}", list(&each)));
    }
    clauses
}

/// Neighbours that are spelt alike, together.
pub(crate) fn grouped<'a>(each: impl Iterator<Item = (&'a str, String)>) -> Vec<(String, Vec<&'a str>)> {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, spelt) in each {
        match groups.iter_mut().find(|(other, _)| *other == spelt) {
            Some((_, names)) => names.push(name),
            None => groups.push((spelt, vec![name])),
        }
    }
    groups
}

/// The deployment of a service whose errors tell it from the others and are the most under any strategy.
fn failing<'a>(strategies: &'a [StrategyRecord], service: &str) -> Option<&'a str> {
    strategies
        .iter()
        .flat_map(services)
        .filter(|(name, _)| *name == service)
        .flat_map(|(_, members)| members)
        .filter(|d| d.detect_requests.is_some())
        .max_by(|a, b| a.error_rate.unwrap_or(0.0).total_cmp(&b.error_rate.unwrap_or(0.0)))
        .map(|d| d.name.as_str())
}

/// "canary fails all of its 23.1 % of the requests under max-age (told after 12 requests), gets none under clusterip".
fn cost(strategies: &[StrategyRecord], deployment: &str) -> String {
    let mut each: Vec<(&str, &DeploymentRecord)> = strategies
        .iter()
        .filter_map(|s| Some((s.name.as_str(), s.deployments.iter().find(|d| d.name == deployment)?)))
        .collect();
    each.sort_by_key(|(_, d)| std::cmp::Reverse(d.failed));
    let words = |d: &DeploymentRecord| match d.error_rate {
        None => "gets none".to_owned(),
        Some(rate) => {
            let part = match d.failed {
                0 => "none".to_owned(),
                failed if failed == d.requests => "all".to_owned(),
                _ => percent(rate),
            };
            format!("fails {part} of its {}", percent(d.share))
        }
    };
    let told = |d: &DeploymentRecord| {
        d.detect_requests.map_or_else(String::new, |n| format!(" (told after {})", plural(n, "request")))
    };
    let mut parts = Vec::new();
    for (i, (spelt, names)) in grouped(each.iter().map(|(name, d)| (*name, words(d)))).iter().enumerate() {
        let first = each.iter().find(|(name, _)| names.first() == Some(name)).map_or_else(String::new, |e| told(e.1));
        let (spelt, of_what) =
            if i == 0 { (spelt.as_str(), " of the requests") } else { (spelt.trim_start_matches("fails "), "") };
        parts.push(format!("{spelt}{of_what}{}{first}", under(names, strategies)));
    }
    format!("{deployment} {}", parts.join(", "))
}

/// "v2 gets 9.1 % of the requests under weights, 4.8 % under header": the smallest part says what all do.
fn smallest_share(strategies: &[StrategyRecord], service: &str) -> Option<String> {
    let of = |s: &StrategyRecord, name: &str| s.deployments.iter().find(|d| d.name == name).map_or(0, |d| d.requests);
    let of_service = |s| services(s).into_iter().find(|(name, _)| *name == service).map(|(_, members)| members);
    let members = strategies.iter().find_map(of_service)?;
    let total = |d: &&&DeploymentRecord| strategies.iter().map(|s| of(s, &d.name)).fold(0, u64::saturating_add);
    let name = &members.iter().filter(|d| total(d) > 0).min_by_key(total)?.name;
    let each = strategies.iter().filter_map(|s| {
        let found = s.deployments.iter().find(|d| d.name == *name)?;
        Some((s.name.as_str(), percent(found.share)))
    });
    let parts = grouped(each).into_iter().enumerate().map(|(i, (spelt, names))| {
        let of_what = if i == 0 { " of the requests" } else { "" };
        format!("{spelt}{of_what}{}", under(&names, strategies))
    });
    Some(format!("{name} gets {}", parts.collect::<Vec<_>>().join(", ")))
}

/// "server-v1 got 69.3 % of 77,334 requests, server-v2 30.7 %", of the first service that several deployments answer.
pub(crate) fn shares(s: &StrategyRecord) -> Option<String> {
    let (_, members) = services(s).into_iter().next()?;
    let all = members.iter().fold(0u64, |sum, d| sum.saturating_add(d.requests));
    let each: Vec<String> = members
        .iter()
        .filter(|d| d.requests > 0)
        .enumerate()
        .map(|(i, d)| match i {
            0 => format!("{} got {} of {} requests", d.name, percent(d.share), count(all)),
            _ => format!("{} {}", d.name, percent(d.share)),
        })
        .collect();
    Some(each.join(", "))
}
