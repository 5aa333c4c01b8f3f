//! The record in one sentence, composed by rules: which strategies reach new pods and when, how evenly they are
//! used, p99 against the baseline, failures. It states only what the record shows; one seed has no interval, and the
//! sentence says so wherever it compares. Of several seeds p99 has its interval, and the rest is said of the first.

use crate::number::{change, change_end, count, decimals, half_width, list, percent, plural, ratio, short, sig3};
use crate::record::{DifferenceEstimate, EventRecord, Replications, Role, RunRecord, StrategyRecord};
use crate::statistics::P99_MS;
use crate::summary::{EVEN, NO_DIFFERENCE, PATIENCE_S, Reach, Row, Spread, reach, rows, spread};
use crate::versions::{self, grouped};

/// Failed requests from here on are many: one in a hundred. Our own choice.
const MANY: f64 = 0.01;

/// p99s of one seed that are nearer to each other than this are not told apart. Our own choice.
const NEAR: f64 = 0.02;

/// The verdict.
#[must_use]
pub fn sentence(record: &RunRecord) -> String {
    let clauses = match record.strategies.as_slice() {
        [] => return "The record holds no strategy: there is nothing to report.".to_owned(),
        all if all.iter().all(|s| s.requests.started == 0) => {
            return "No request was started: there is nothing to measure.".to_owned();
        }
        [one] => {
            let seed = of_first_seed(record);
            return format!("{}: {seed}{}.", one.name, of_one(record, one).join("; "));
        }
        several => of_several(record, several),
    };
    let text = format!("{}{}.", of_first_seed(record), clauses.join("; "));
    // A name keeps its spelling, and so does p99.
    let named = record.strategies.iter().any(|s| text.starts_with(s.name.as_str()));
    let named = named || versions::begins_with_name(&text, &record.strategies);
    if named || text.starts_with("p99") { text } else { sentence_case(&text) }
}

/// "with seed 1, ", where there are others.
fn of_first_seed(record: &RunRecord) -> String {
    record.replications.as_ref().map_or_else(String::new, |_| format!("with seed {}, ", record.seed))
}

/// First letter large, for a clause that becomes a sentence. Not for names: those keep their spelling.
pub(crate) fn sentence_case(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

fn of_one(record: &RunRecord, s: &StrategyRecord) -> Vec<String> {
    let mut clauses = Vec::new();
    for role in [Role::Server, Role::Proxy] {
        clauses.extend(reach(record, s, role).map(|r| reached(&r)));
    }
    clauses.extend(versions::clauses(std::slice::from_ref(s)));
    clauses.extend(comparable(record, s).map(|sp| spread_of(s, &sp)));
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
    clauses.extend(record.replications.as_ref().and_then(p99_of_one_over_seeds));
    clauses
}

/// How evenly server pods that are meant to be alike end up; `None` where several deployments answer one service.
fn comparable(record: &RunRecord, s: &StrategyRecord) -> Option<Spread> {
    if versions::services(s).is_empty() { spread(record, s) } else { None }
}

/// "the 2 new server pods got no request in the 58.2 s after they were ready".
pub(crate) fn reached(r: &Reach<'_>) -> String {
    let noun = |n: u64| {
        let space = if r.deployment.is_empty() { "" } else { " " };
        format!("new {}{space}{}", r.deployment, if n == 1 { "pod" } else { "pods" })
    };
    if r.ready == 0 {
        return match r.unready {
            1 => format!("the {} was not published before the run ended", noun(1)),
            n => format!("the {n} {} were not published before the run ended", noun(n)),
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
    if let Some(event) = r.only_after {
        text.push_str(if missed == 0 { ", " } else { ", the others " });
        text.push_str(&only_after(event));
    }
    if r.unready > 0 {
        text.push_str(&format!(" ({} more not published before the run ended)", r.unready));
    }
    text
}

/// "only after “restart client” at 180 s".
fn only_after(event: &EventRecord) -> String {
    format!("only after “{}” at {} s", event.label, short(event.at_s))
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
    let ways: Vec<Way<'_>> = strategies.iter().filter_map(|s| way(record, s)).collect();
    let first = failures_that_differ(strategies);
    let mut clauses: Vec<String> = first.iter().cloned().collect();
    clauses.extend(versions::clauses(strategies));
    clauses.extend(reach_of_several(strategies, &ways));
    if ways.iter().all(|w| w.reach.reached == 0) {
        // Beside failures an even load is no news.
        let even = |s| comparable(record, s).is_none_or(|sp| sp.is_even());
        let told = first.is_some() && strategies.iter().all(even);
        clauses.extend(spread_of_several(record, strategies).filter(|_| !told));
    }
    clauses.extend(idle_proxies(record, strategies));
    let p99 = match &record.replications {
        None => p99_of_several(&rows),
        Some(replications) => p99_over_seeds(replications),
    };
    if first.is_some() {
        // Who fails the slow ones has the fast ones left.
        clauses.extend(p99.map(|p99| format!("of requests answered OK, {p99}")));
    } else if record.replications.is_none() {
        clauses.extend(p99);
        clauses.push(failures(strategies));
    } else {
        clauses.push(failures(strategies));
        clauses.extend(p99);
    }
    clauses
}

/// How a strategy came to its new server pods, and how evenly it used them.
struct Way<'a> {
    name: &'a str,
    reach: Reach<'a>,
    /// Busiest server pod over the mean once all were in use, if it is not even.
    uneven: Option<f64>,
    /// Whether there was anything left to judge evenness by.
    judged: bool,
}

/// `None` without new server pods that could be reached.
fn way<'a>(record: &'a RunRecord, s: &'a StrategyRecord) -> Option<Way<'a>> {
    let reach = reach(record, s, Role::Server).filter(|r| r.ready > 0)?;
    let spread = comparable(record, s);
    let uneven = spread.as_ref().filter(|sp| !sp.is_even()).map(|sp| sp.imbalance);
    Some(Way { name: &s.name, reach, uneven, judged: spread.is_some() })
}

fn reach_of_several(strategies: &[StrategyRecord], ways: &[Way<'_>]) -> Option<String> {
    let deployment = ways.first()?.reach.deployment;
    let pods = if !deployment.is_empty() && ways.iter().all(|w| w.reach.deployment == deployment) {
        format!("the new {deployment} pods")
    } else {
        "the new pods".to_owned()
    };
    let waited = |ways: &[&Way<'_>]| ways.iter().map(|w| w.reach.longest_wait_s).fold(0.0, f64::max);
    let never = |ways: &[&Way<'_>]| {
        let waited = waited(ways);
        if waited >= PATIENCE_S { None } else { Some(format!("in the {} s that were left", seconds(waited))) }
    };
    let none: Vec<&Way<'_>> = ways.iter().filter(|w| w.reach.reached == 0).collect();
    if none.len() == ways.len() {
        let who = if ways.len() == strategies.len() { "no strategy" } else { "none of the strategies with any" };
        let when = never(&none).map_or_else(String::new, |when| format!(" {when}"));
        return Some(format!("{who} sends {pods} a request{when}"));
    }
    let whole = |w: &&Way<'_>| w.reach.reached == w.reach.ready;
    let on_its_own = |w: &&Way<'_>| w.reach.only_after.is_none();
    let mut parts = Vec::new();
    let mut object = pods;
    let mut say = |part: String, object: &mut String| {
        parts.push(part);
        *object = "them".to_owned();
    };
    let even: Vec<&Way<'_>> =
        ways.iter().filter(whole).filter(on_its_own).filter(|w| w.judged && w.uneven.is_none()).collect();
    let unjudged: Vec<&Way<'_>> = ways.iter().filter(whole).filter(on_its_own).filter(|w| !w.judged).collect();
    let uneven: Vec<&Way<'_>> = ways.iter().filter(whole).filter(on_its_own).filter(|w| w.uneven.is_some()).collect();
    for (group, verbs) in [
        (even, ["spreads evenly over", "spread evenly over"]),
        (unjudged, ["reaches", "reach"]),
        (uneven, ["reaches", "reach"]),
    ] {
        if !group.is_empty() {
            let text = group_within(&group, strategies.len(), verbs, &object) + &unevenly(&group);
            say(text, &mut object);
        }
    }
    for w in ways.iter().filter(whole) {
        if let Some(event) = w.reach.only_after {
            let verb = if object == "them" { String::new() } else { format!(" reaches {object}") };
            say(format!("{}{verb} {}{}", w.name, only_after(event), unevenly(&[w])), &mut object);
        }
    }
    let some: Vec<&str> =
        ways.iter().filter(|w| 0 < w.reach.reached && w.reach.reached < w.reach.ready).map(|w| w.name).collect();
    if !some.is_empty() {
        let verb = if some.len() == 1 { "reaches" } else { "reach" };
        say(format!("{} {verb} only some of {object}", list(&some)), &mut object);
    }
    if !none.is_empty() {
        let names: Vec<&str> = none.iter().map(|w| w.name).collect();
        let when = never(&none).map_or_else(|| "never".to_owned(), |when| format!("not {when}"));
        say(format!("{} {when}", list(&names)), &mut object);
    }
    Some(parts.join(", "))
}

/// "sidecar reaches the new server pods within 6.6 s of creation, ingress within 7 s", or all in one if they are many
/// or as fast.
fn group_within(group: &[&Way<'_>], all: usize, [one, many]: [&str; 2], object: &str) -> String {
    let mut by_time: Vec<(&str, f64)> = group.iter().map(|w| (w.name, w.reach.worst_s)).collect();
    by_time.sort_by(|a, b| f64::total_cmp(&a.1, &b.1));
    let (first, last) = (by_time[0], by_time[by_time.len() - 1]);
    let (fast, slow) = (seconds(first.1), seconds(last.1));
    let names: Vec<&str> = group.iter().map(|w| w.name).collect();
    if fast != slow && by_time.len() <= 3 {
        let then = by_time[1..].iter().map(|(name, s)| format!(", {name} within {} s", seconds(*s)));
        return format!("{} {one} {object} within {fast} s of creation{}", first.0, then.collect::<String>());
    }
    let every = names.len() == all;
    let who = if every { "every strategy".to_owned() } else { list(&names) };
    let verb = if every || names.len() == 1 { one } else { many };
    let between = if fast == slow {
        format!("within {fast} s of creation")
    } else {
        format!("within {fast} s of creation ({}) to {slow} s ({})", first.0, last.0)
    };
    format!("{who} {verb} {object} {between}")
}

/// ", unevenly (busiest 1.22 × the mean)", or nothing.
fn unevenly(group: &[&Way<'_>]) -> String {
    let most = group.iter().filter_map(|w| w.uneven).fold(0.0, f64::max);
    let up_to = if group.len() > 1 { "up to " } else { "" };
    if most > 0.0 { format!(", unevenly (busiest {up_to}{} × the mean)", ratio(most)) } else { String::new() }
}

/// "the new proxy pods idle under ingress".
fn idle_proxies(record: &RunRecord, strategies: &[StrategyRecord]) -> Option<String> {
    let reaches: Vec<(&str, Reach<'_>)> = strategies
        .iter()
        .filter_map(|s| Some((s.name.as_str(), reach(record, s, Role::Proxy)?)))
        .filter(|(_, r)| r.ready > 0 && r.reached == 0 && r.longest_wait_s >= PATIENCE_S)
        .collect();
    let deployment = reaches.first()?.1.deployment;
    let names: Vec<&str> = reaches.iter().map(|(name, _)| *name).collect();
    let noun = if deployment.is_empty() || reaches.iter().any(|(_, r)| r.deployment != deployment) {
        "new proxies".to_owned()
    } else {
        format!("new {deployment} pods")
    };
    Some(format!("the {noun} idle under {}", list(&names)))
}

fn spread_of_several(record: &RunRecord, strategies: &[StrategyRecord]) -> Option<String> {
    let mut spreads: Vec<(&str, Spread)> =
        strategies.iter().filter_map(|s| Some((s.name.as_str(), comparable(record, s)?))).collect();
    spreads.sort_by(|a, b| f64::total_cmp(&a.1.imbalance, &b.1.imbalance));
    let even: Vec<&str> = spreads.iter().filter(|(_, sp)| sp.is_even()).map(|(name, _)| *name).collect();
    let (first, best) = spreads.first()?;
    let worst_of = spreads.last()?;
    let (last, worst) = worst_of;
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
        let (name, worst) = worst_of;
        let what = match worst.pods.iter().filter(|&&(_, n)| n > 0).count() {
            1 => format!(
                "while under {name} one of {} takes every request",
                plural(worst.pods.len() as u64, "server pod")
            ),
            _ => format!("least so under {name} (busiest server pod {} × the mean)", ratio(worst.imbalance)),
        };
        format!("the load ends up even under {}, {what}", list(&even))
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
        return Some(format!("p99 is {least} ms under {who} (one seed)"));
    }
    let base_name = baseline.strategy.name.as_str();
    let (lowest, highest) = (known[0].1, known[known.len() - 1].1);
    if highest - lowest < NEAR * lowest && known.len() == rows.len() {
        return Some(format!("p99 is about the same under each, {least} to {most} ms (one seed)"));
    }
    let of_change = |c: Option<f64>| c.map_or_else(String::new, |c| format!("{}, ", change(c)));
    if let [_, other] = rows {
        let change = of_change(other.delta_p99);
        let (name, p99) = (&other.strategy.name, sig3(other.p99_ms?));
        return Some(format!(
            "p99 is {p99} ms under {name} against the baseline {base_name}'s {} ms ({change}one seed)",
            sig3(base)
        ));
    }
    let best: Vec<&str> = known.iter().filter(|k| sig3(k.1) == least).map(|k| k.0).collect();
    Some(if sig3(base) == least {
        format!(
            "p99 is nowhere below the baseline {base_name}'s {least} ms and highest under {last}, {most} ms ({}one seed)",
            of_change(most_change)
        )
    } else {
        format!(
            "p99 is lowest under {}, {least} ms against the baseline {base_name}'s {} ms ({}one seed)",
            list(&best),
            sig3(base),
            of_change(least_change)
        )
    })
}

/// "over 20 seeds p99 is 46.4 ± 0.4 ms".
fn p99_of_one_over_seeds(replications: &Replications) -> Option<String> {
    let p99 = replications.strategy(0)?.figure(P99_MS)?;
    let (mean, half) = (p99.mean?, p99.half_width()?);
    let half = half_width(half, mean, decimals(mean)).replace('±', "± ");
    Some(format!("over {} p99 is {} {half} ms (95 % CI)", plural(p99.n.into(), "seed"), sig3(mean)))
}

/// A strategy beside the baseline: its name, its mean p99 and how it differs.
type Compared<'a> = (&'a str, f64, &'a DifferenceEstimate);

/// p99 against the baseline's by paired differences: what is called lower or higher was found to be.
fn p99_over_seeds(replications: &Replications) -> Option<String> {
    let base = replications.strategy(0)?;
    let base_ms = base.figure(P99_MS)?.mean?;
    let compared: Vec<Compared<'_>> = replications
        .strategies
        .iter()
        .skip(1)
        .filter_map(|s| Some((s.name.as_str(), s.figure(P99_MS)?.mean?, s.difference(P99_MS)?)))
        .filter(|(_, _, d)| d.is_found().is_some())
        .collect();
    let found = |sign: f64| -> Vec<&Compared<'_>> {
        let is = |c: &&Compared<'_>| c.2.is_found() == Some(true) && c.2.mean.is_some_and(|m| m * sign > 0.0);
        let mut all: Vec<_> = compared.iter().filter(is).collect();
        all.sort_by(|a, b| f64::total_cmp(&(b.1 * sign), &(a.1 * sign)));
        all
    };
    let (lower, higher) = (found(-1.0), found(1.0));
    let (baseline, base_ms) = (format!("the baseline {}", base.name), sig3(base_ms));
    let clause = match (lower.as_slice(), higher.as_slice(), compared.as_slice()) {
        (.., []) => return None,
        ([(name, ms, d)], _, [_]) | ([], [(name, ms, d)], [_]) => {
            format!("p99 is {} ms under {name} against {baseline}'s {base_ms} ms ({})", sig3(*ms), interval(d, true))
        }
        ([(_, ms, d), ..], ..) => {
            // Compared as spelt: two p99s that read the same are the same.
            let names: Vec<&str> = lower.iter().filter(|c| sig3(c.1) == sig3(*ms)).map(|c| c.0).collect();
            let (names, interval) = (list(&names), interval(d, true));
            // One whose seeds vary too much to be found lower may have the lower mean.
            let lowest = compared.iter().all(|c| c.1 >= *ms);
            let ms = sig3(*ms);
            if lowest {
                format!("p99 is lowest under {names}, {ms} ms against {baseline}'s {base_ms} ms ({interval})")
            } else {
                format!("p99 is found below {baseline}'s {base_ms} ms under {names}, {ms} ms ({interval})")
            }
        }
        ([], [(name, ms, d), ..], _) => {
            let who = if compared.iter().all(|c| c.1 <= *ms) { "highest" } else { "found above it" };
            let (ms, interval) = (sig3(*ms), interval(d, true));
            format!("p99 is nowhere found below {baseline}'s {base_ms} ms and {who} under {name}, {ms} ms ({interval})")
        }
        ([], [], [(name, _, d)]) => {
            format!("{NO_DIFFERENCE} in p99 between {name} and {baseline} ({})", interval(d, false))
        }
        ([], [], several) => {
            let fewest = several.iter().map(|(_, _, d)| d.n).min().unwrap_or(0);
            format!("{NO_DIFFERENCE} in p99 to {baseline} ({})", plural(fewest.into(), "paired seed"))
        }
    };
    Some(format!("over all seeds {clause}"))
}

/// "−15 %, 95 % CI −16…−14, 20 paired seeds".
fn interval(d: &DifferenceEstimate, with_mean: bool) -> String {
    let mean = d.relative.filter(|_| with_mean).map_or_else(String::new, |r| format!("{}, ", change(r)));
    let ends = match d.relative_low.zip(d.relative_high) {
        Some((low, high)) => {
            let unit = if with_mean { "" } else { " %" };
            format!("95 % CI {}…{}{unit}, ", change_end(low, false), change_end(high, true))
        }
        None => String::new(),
    };
    format!("{mean}{ends}{}", plural(d.n.into(), "paired seed"))
}

/// Part of the ended requests that failed; `None` if none ended.
pub(crate) fn failed_part(s: &StrategyRecord) -> Option<f64> {
    let ended = s.requests.ok.saturating_add(s.requests.failed);
    (ended > 0).then(|| s.requests.failed as f64 / ended as f64)
}

/// Whether strategies differ much in failed requests: under one at least [`MANY`] of them, under another at most a third
/// of that part. Then failures are what there is to say first.
pub(crate) fn failures_differ(strategies: &[StrategyRecord]) -> bool {
    let parts: Vec<f64> = strategies.iter().filter_map(failed_part).collect();
    let most = parts.iter().copied().fold(0.0, f64::max);
    most >= MANY && parts.iter().any(|part| *part <= most / 3.0)
}

/// "under headless 24.8 % of requests failed, under sidecar 3.29 %, under mesh none".
fn failures_that_differ(strategies: &[StrategyRecord]) -> Option<String> {
    if !failures_differ(strategies) {
        return None;
    }
    let mut parts: Vec<(&StrategyRecord, f64)> = strategies.iter().filter_map(|s| Some((s, failed_part(s)?))).collect();
    parts.sort_by(|a, b| f64::total_cmp(&b.1, &a.1));
    let spelt = |s: &StrategyRecord, part: f64| match (s.requests.ok, s.requests.failed) {
        (_, 0) => "none".to_owned(),
        (0, _) => "all".to_owned(),
        _ => percent(part),
    };
    let groups = grouped(parts.iter().map(|(s, part)| (s.name.as_str(), spelt(s, *part))));
    let each: Vec<String> = groups
        .iter()
        .enumerate()
        .map(|(i, (part, names))| match (i, part.as_str()) {
            (0, "all") => format!("under {} all requests failed", list(names)),
            (0, part) => format!("under {} {part} of requests failed", list(names)),
            (_, part) => format!("under {} {part}", list(names)),
        })
        .collect();
    Some(each.join(", ") + &completed_none(strategies))
}

/// "; idle completed none", or nothing.
fn completed_none(strategies: &[StrategyRecord]) -> String {
    let idle: Vec<&str> = strategies.iter().filter(|s| failed_part(s).is_none()).map(|s| s.name.as_str()).collect();
    if idle.is_empty() { String::new() } else { format!("; {} completed none", list(&idle)) }
}

fn failures(strategies: &[StrategyRecord]) -> String {
    let mut failed: Vec<(&StrategyRecord, f64)> = strategies
        .iter()
        .filter(|s| s.requests.failed > 0)
        .map(|s| (s, s.requests.failed as f64 / s.requests.ok.saturating_add(s.requests.failed) as f64))
        .collect();
    failed.sort_by(|a, b| f64::total_cmp(&b.1, &a.1));
    let text = match failed.as_slice() {
        [] => "no request failed".to_owned(),
        [(s, part)] => {
            format!("{} of {}'s requests failed ({}), no other", count(s.requests.failed), s.name, percent(*part))
        }
        many => {
            let each: Vec<String> = many.iter().map(|(s, part)| format!("{} {}", s.name, percent(*part))).collect();
            format!("requests failed under {}", list(&each))
        }
    };
    text + &completed_none(strategies)
}
