//! The record in one sentence, composed by rules: which strategies reach new pods and when, how evenly the load ends
//! up, p99 against the baseline, failures. It states only what the record shows; one seed has no interval, and the
//! sentence says so wherever it compares.

use crate::number::{change, count, list, percent, plural, ratio, short, sig3};
use crate::record::{Role, RunRecord, StrategyRecord};
use crate::summary::{EVEN, Reach, Row, Spread, reach, rows, spread};

/// The verdict.
#[must_use]
pub fn sentence(record: &RunRecord) -> String {
    let clauses = match record.strategies.as_slice() {
        [] => return "The record holds no strategy: there is nothing to report.".to_owned(),
        all if all.iter().all(|s| s.requests.started == 0) => {
            return "No request was started: there is nothing to measure.".to_owned();
        }
        [one] => return format!("{}: {}.", one.name, of_one(record, one).join("; ")),
        several => of_several(record, several),
    };
    format!("{}.", clauses.join("; "))
}

fn of_one(record: &RunRecord, s: &StrategyRecord) -> Vec<String> {
    let mut clauses = Vec::new();
    for role in [Role::Server, Role::Proxy] {
        clauses.extend(reach(record, s, role).map(|r| reached(&r)));
    }
    clauses.extend(spread(record, s).map(|sp| spread_of(s, &sp)));
    let ended = s.requests.ok.saturating_add(s.requests.failed);
    if s.requests.ok > 0 {
        clauses.push(format!(
            "p99 {} ms, {} of {} requests failed",
            sig3(s.latency_ms.p99),
            count(s.requests.failed),
            count(ended)
        ));
    } else if ended > 0 {
        clauses.push(match ended {
            1 => "the only request that ended failed".to_owned(),
            n => format!("all {} that ended failed", plural(n, "request")),
        });
    } else {
        clauses.push(format!("none of {} ended before the run did", plural(s.requests.started, "request")));
    }
    clauses
}

/// "the 2 new server pods got no request in the 58.2 s after they were ready".
pub(crate) fn reached(r: &Reach) -> String {
    let noun = |n: u64| {
        let space = if r.deployment.is_empty() { "" } else { " " };
        format!("new {}{space}{}", r.deployment, if n == 1 { "pod" } else { "pods" })
    };
    if r.ready == 0 {
        return match r.unready {
            1 => format!("the {} was never ready", noun(1)),
            n => format!("the {n} {} were never ready", noun(n)),
        };
    }
    let missed = r.ready - r.reached;
    let worst = seconds(r.worst_s);
    let waited = seconds(r.waited_s);
    let mut text = match (r.ready, missed) {
        (1, 0) => format!("the {} got its first request {worst} s after it was created", noun(1)),
        (2, 0) => format!("both {} got requests, the last {worst} s after it was created", noun(2)),
        (n, 0) => format!("all {n} {} got requests, the last {worst} s after it was created", noun(n)),
        (1, _) => format!("the {} got no request in the {waited} s after it was ready", noun(1)),
        (n, m) if n == m => format!("the {n} {} got no request in the {waited} s after they were ready", noun(n)),
        (n, m) => format!(
            "{m} of the {n} {} got no request in the {waited} s after {} ready",
            noun(n),
            if m == 1 { "it was" } else { "they were" }
        ),
    };
    if r.unready > 0 {
        text.push_str(&format!(" ({} more never ready)", r.unready));
    }
    text
}

/// Three digits, without zeros at the end: "6.6", "57.7", "60".
fn seconds(s: f64) -> String {
    let text = sig3(s);
    if text.contains('.') && !text.contains(['<', 'e']) {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// "server-1 got all requests", "5 server pods share evenly from 75 s on".
pub(crate) fn spread_of(s: &StrategyRecord, sp: &Spread) -> String {
    let since = if sp.from_s > 0.0 { format!(" from {} s on", short(sp.from_s)) } else { String::new() };
    let n = sp.pods.len() as u64;
    let name = sp.busiest().map_or("", |i| s.pods[i].name.as_str());
    let with_traffic = sp.pods.iter().filter(|&&(_, n)| n > 0).count() as u64;
    match (n, with_traffic) {
        (1, _) => format!("the one server pod takes every request{since}"),
        (_, 1) => format!("one of {n} server pods, {name}, takes every request{since}"),
        (_, some) if some < n => {
            let even = sp.imbalance * some as f64 / n as f64 <= EVEN;
            format!("{some} of {n} server pods take every request{since}{}", if even { ", evenly" } else { "" })
        }
        _ if sp.is_even() => {
            format!("{} share evenly{since}, the busiest {} × the mean", plural(n, "server pod"), ratio(sp.imbalance))
        }
        _ => format!(
            "the busiest of {}, {name}, takes {} × the mean{since}",
            plural(n, "server pod"),
            ratio(sp.imbalance)
        ),
    }
}

fn of_several(record: &RunRecord, strategies: &[StrategyRecord]) -> Vec<String> {
    let rows = rows(record);
    let mut clauses = Vec::new();
    clauses.extend(reach_of_several(record, strategies));
    clauses.extend(spread_of_several(record, strategies));
    clauses.extend(p99_of_several(&rows));
    clauses.push(failures(strategies));
    clauses
}

fn reach_of_several(record: &RunRecord, strategies: &[StrategyRecord]) -> Option<String> {
    let reaches: Vec<(&str, Reach)> = strategies
        .iter()
        .filter_map(|s| reach(record, s, Role::Server).map(|r| (s.name.as_str(), r)))
        .filter(|(_, r)| r.ready > 0)
        .collect();
    if reaches.is_empty() {
        return None;
    }
    let mut all: Vec<(&str, f64)> =
        reaches.iter().filter(|(_, r)| r.reached == r.ready).map(|(name, r)| (*name, r.worst_s)).collect();
    all.sort_by(|a, b| f64::total_cmp(&a.1, &b.1));
    let some: Vec<&str> =
        reaches.iter().filter(|(_, r)| 0 < r.reached && r.reached < r.ready).map(|(name, _)| *name).collect();
    let none: Vec<&str> = reaches.iter().filter(|(_, r)| r.reached == 0).map(|(name, _)| *name).collect();
    let mut deployments: Vec<&str> = reaches.iter().map(|(_, r)| r.deployment.as_str()).collect();
    deployments.dedup();
    let pods = match deployments.as_slice() {
        [one] if !one.is_empty() => format!("new {one} pods"),
        _ => "new pods".to_owned(),
    };
    if none.len() == reaches.len() {
        let who = if reaches.len() == strategies.len() { "no strategy" } else { "none of the strategies with any" };
        return Some(format!("{who} sends the {pods} a request"));
    }
    let mut parts = Vec::new();
    if let ([(first, fast), ..], Some((last, slow))) = (all.as_slice(), all.last()) {
        let (fast, slow) = (seconds(*fast), seconds(*slow));
        let every = all.len() == strategies.len();
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        parts.push(if all.len() <= 3 && fast != slow {
            // "sidecar reaches the new server pods within 6.6 s of creation, ingress within 7 s"
            let then = all[1..].iter().map(|(name, s)| format!(", {name} within {} s", seconds(*s)));
            format!("{first} reaches the {pods} within {fast} s of creation{}", then.collect::<String>())
        } else {
            let who = if every { "every strategy".to_owned() } else { list(&names) };
            let verb = if every || all.len() == 1 { "reaches" } else { "reach" };
            let between = if fast == slow {
                format!("within {fast} s of creation")
            } else {
                format!("within {fast} s of creation ({first}) to {slow} s ({last})")
            };
            format!("{who} {verb} the {pods} {between}")
        });
    }
    if !some.is_empty() {
        let verb = if some.len() == 1 { "reaches" } else { "reach" };
        let object = if parts.is_empty() { format!("the {pods}") } else { "them".to_owned() };
        parts.push(format!("{} {verb} only some of {object}", list(&some)));
    }
    if !none.is_empty() {
        parts.push(format!("{} never", list(&none)));
    }
    Some(parts.join(", "))
}

fn spread_of_several(record: &RunRecord, strategies: &[StrategyRecord]) -> Option<String> {
    let mut spreads: Vec<(&str, Spread)> =
        strategies.iter().filter_map(|s| Some((s.name.as_str(), spread(record, s)?))).collect();
    spreads.sort_by(|a, b| f64::total_cmp(&a.1.imbalance, &b.1.imbalance));
    let even: Vec<&str> = spreads.iter().filter(|(_, sp)| sp.is_even()).map(|(name, _)| *name).collect();
    let (first, best) = spreads.first()?;
    let (last, worst) = spreads.last()?;
    let (best, worst) = (ratio(best.imbalance), ratio(worst.imbalance));
    Some(if even.len() == strategies.len() {
        format!("the load ends up even under each (busiest server pod at most {worst} × the mean)")
    } else if best == worst {
        format!("the busiest server pod ends up with {best} × the mean under {}", list_all(&spreads))
    } else if even.is_empty() {
        format!(
            "the load ends up most even under {first} (busiest server pod {best} × the mean), least under {last} ({worst} ×)"
        )
    } else if even.len() == spreads.len() {
        format!("the load ends up even under {} (busiest server pod at most {worst} × the mean)", list(&even))
    } else {
        // Said shorter where it is the same strategies that reach all new pods.
        let reaching =
            |s: &&StrategyRecord| reach(record, s, Role::Server).is_some_and(|r| r.reached == r.ready && r.ready > 0);
        let mut reaching: Vec<&str> = strategies.iter().filter(reaching).map(|s| s.name.as_str()).collect();
        let mut same = even.clone();
        reaching.sort_unstable();
        same.sort_unstable();
        let who = if same == reaching && same.len() > 1 { "those that reach them".to_owned() } else { list(&even) };
        format!("the load ends up even under {who}, least so under {last} (busiest server pod {worst} × the mean)")
    })
}

fn list_all(spreads: &[(&str, Spread)]) -> String {
    list(&spreads.iter().map(|(name, _)| *name).collect::<Vec<_>>())
}

/// Compared as spelt: two p99s that read the same are the same.
fn p99_of_several(rows: &[Row<'_>]) -> Option<String> {
    let mut known: Vec<(&str, f64, Option<f64>)> =
        rows.iter().filter_map(|r| Some((r.strategy.name.as_str(), r.p99_ms?, r.delta_p99))).collect();
    known.sort_by(|a, b| f64::total_cmp(&a.1, &b.1));
    let &(_, least, least_change) = known.first()?;
    let &(last, most, most_change) = known.last()?;
    let (least, most) = (sig3(least), sig3(most));
    let baseline = &rows[0];
    let Some(base) = baseline.p99_ms else {
        let best = known.iter().filter(|k| sig3(k.1) == least).map(|k| k.0).collect::<Vec<_>>();
        return Some(format!(
            "p99 is lowest under {}, {least} ms (the baseline {} completed no request)",
            list(&best),
            baseline.strategy.name
        ));
    };
    if known.len() == 1 {
        return Some(format!("p99 {least} ms under {}, the only one that completed a request", last));
    }
    if least == most {
        let who = if known.len() == rows.len() { "each" } else { "each that completed requests" };
        return Some(format!("p99 is {least} ms under {who} (one seed, no interval)"));
    }
    let best: Vec<&str> = known.iter().filter(|k| sig3(k.1) == least).map(|k| k.0).collect();
    let base_name = baseline.strategy.name.as_str();
    let of_change = |c: Option<f64>| c.map_or_else(String::new, |c| format!("{}, ", change(c)));
    Some(if sig3(base) == least {
        format!(
            "p99 is nowhere below the baseline {base_name}'s {least} ms and highest under {last}, {most} ms ({}one seed, no interval)",
            of_change(most_change)
        )
    } else {
        format!(
            "p99 is lowest under {}, {least} ms against {} ms of the baseline {base_name} ({}one seed, no interval)",
            list(&best),
            sig3(base),
            of_change(least_change)
        )
    })
}

fn failures(strategies: &[StrategyRecord]) -> String {
    let mut failed: Vec<(&StrategyRecord, f64)> = strategies
        .iter()
        .filter(|s| s.requests.failed > 0)
        .map(|s| (s, s.requests.failed as f64 / s.requests.ok.saturating_add(s.requests.failed) as f64))
        .collect();
    failed.sort_by(|a, b| f64::total_cmp(&b.1, &a.1));
    let idle: Vec<&str> =
        strategies.iter().filter(|s| s.requests.ok == 0 && s.requests.failed == 0).map(|s| s.name.as_str()).collect();
    let mut text = match failed.as_slice() {
        [] => "no request failed".to_owned(),
        [(s, part)] => {
            format!("{} of {}'s requests failed ({}), no other", count(s.requests.failed), s.name, percent(*part))
        }
        many => {
            let each: Vec<String> = many.iter().map(|(s, part)| format!("{} {}", s.name, percent(*part))).collect();
            format!("requests failed under {}", list(&each))
        }
    };
    if !idle.is_empty() {
        text.push_str(&format!("; {} completed none", list(&idle)));
    }
    text
}
