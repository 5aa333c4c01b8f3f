//! Expectations, the comparison of strategies, pods and events as tables.

use std::fmt::Write as _;

use super::text::{escape, keep_units};
use crate::number::{count, percent, plural, short, sig5};
use crate::record::{ExpectationRecord, Role, RunRecord, StrategyRecord};
use crate::summary::{COLUMNS, cells, gaps, warm_up, words};
use crate::verdict::sentence_case;

/// Expectations on the first screen; what is beyond goes into details, failed ones never.
const SHOWN: usize = 6;

/// Expectations: failed ones and the first of the others, the rest behind a summary.
pub(super) fn expectations(record: &RunRecord) -> String {
    let all = &record.expectations;
    if all.is_empty() {
        return "<p class=\"muted\">The scenario states no expectation.</p>\n".to_owned();
    }
    let held = all.iter().filter(|e| e.holds).count();
    let failed = all.len() - held;
    let mut room = SHOWN.saturating_sub(failed);
    let (mut shown, mut hidden): (Vec<&ExpectationRecord>, Vec<&ExpectationRecord>) = (Vec::new(), Vec::new());
    for e in all {
        if !e.holds {
            shown.push(e);
        } else if room > 0 {
            room -= 1;
            shown.push(e);
        } else {
            hidden.push(e);
        }
    }
    let names = record.strategies.len() != 1;
    let caption = if failed == 0 {
        format!("{held} of {} expectations hold", all.len())
    } else {
        format!("{failed} of {} expectations failed", all.len())
    };
    let mut html = expectation_table(&shown, names, &caption);
    if !hidden.is_empty() {
        let _ = writeln!(
            html,
            "<details class=\"more\"><summary>{} more, all hold</summary>{}</details>",
            hidden.len(),
            expectation_table(&hidden, names, "The other expectations")
        );
    }
    html
}

fn expectation_table(list: &[&ExpectationRecord], names: bool, caption: &str) -> String {
    let mut body = String::new();
    for e in list {
        let (class, mark, word) = if e.holds { ("ok", "✓", "holds") } else { ("bad", "✗", "failed") };
        let strategy = if names { format!("<b>{}</b> ", escape(&e.strategy)) } else { String::new() };
        // The value that fails, or the first seed's.
        let failed = e.held.as_ref().and_then(|held| held.failed.as_ref());
        let measured = failed.map_or(e.measured, |f| f.measured).map_or_else(|| "nothing".to_owned(), sig5);
        let seeds = match &e.held {
            None => String::new(),
            Some(held) => {
                let failed = failed.map_or_else(String::new, |f| format!(", not seed {}", f.seed));
                format!("; {} of {} seeds{failed}", held.seeds, held.of)
            }
        };
        let _ = writeln!(
            body,
            "<tr class=\"{class}\"><td class=\"mark\"><span aria-hidden=\"true\">{mark}</span><span class=\"sr\">{word}</span></td>\
             <td class=\"what\">{strategy}{} <span class=\"metric\">{}{seeds}</span></td><td class=\"n\">{measured}</td><td class=\"n\">{}</td></tr>",
            escape(&keep_units(words(e))),
            escape(&keep_units(&e.metric)),
            escape(&e.bound)
        );
    }
    scroll(
        caption,
        &format!(
            "<table class=\"expect\"><caption>{}</caption><thead><tr><th><span class=\"sr\">outcome</span></th>\
             <th class=\"l\">expected</th><th>measured</th><th>bound</th></tr></thead><tbody>\n{body}</tbody></table>",
            escape(caption)
        ),
    )
}

/// One row a strategy.
pub(super) fn comparison(record: &RunRecord) -> String {
    let several = record.strategies.len() > 1;
    let mut head = String::from("<th scope=\"col\" class=\"l\">strategy</th>");
    let columns = COLUMNS.iter().enumerate().filter(|(i, _)| several || *i + 1 < COLUMNS.len());
    for (_, column) in columns {
        let _ = write!(
            head,
            "<th scope=\"col\" title=\"{}\">{}<br><small>{}</small></th>",
            column.long, column.head, column.unit
        );
    }
    let mut body = String::new();
    for (s, row) in record.strategies.iter().zip(cells(record)) {
        let _ = write!(body, "<tr><th scope=\"row\" class=\"l\">{}</th>", escape(&s.name));
        for (i, cell) in row.iter().enumerate() {
            if !several && i + 1 == COLUMNS.len() {
                continue;
            }
            let class = if cell.text == "never" { "n bad" } else { "n" };
            let text = escape(&cell.text);
            let below =
                cell.interval.as_ref().map_or_else(String::new, |i| format!("<br><small>{}</small>", escape(i)));
            let _ = match cell.best {
                true => write!(body, "<td class=\"{class}\"><b>{text}</b>{below}</td>"),
                false => write!(body, "<td class=\"{class}\">{text}{below}</td>"),
            };
        }
        body.push_str("</tr>\n");
    }
    let mut note = match (&record.replications, several) {
        (None, true) => "Best of a column in bold. Δ against the first row; one seed, no interval.".to_owned(),
        (None, false) => "One seed, no interval.".to_owned(),
        (Some(r), true) => format!(
            "Means over {}, best mean of a column in bold; ± half a 95 % interval. Δ against the first row, [95 % interval] in %, paired by seed.",
            r.words()
        ),
        (Some(r), false) => format!("Means over {}; ± half a 95 % interval.", r.words()),
    };
    warm_up(record).iter().for_each(|words| note.push_str(&format!(" {}.", sentence_case(words))));
    gaps(record).iter().for_each(|gap| note.push_str(&format!(" {}.", escape(gap))));
    scroll(
        "Comparison of strategies",
        &format!(
            "<table class=\"compare\"><caption class=\"sr\">Comparison of strategies</caption><thead><tr>{head}</tr></thead>\
             <tbody>\n{body}</tbody></table>"
        ),
    ) + &format!("<p class=\"note\">{note}</p>\n")
}

/// Every pod of a strategy, up to `most`.
pub(super) fn pods(s: &StrategyRecord, most: usize) -> String {
    let mut body = String::new();
    for pod in s.pods.iter().take(most) {
        let _ = write!(
            body,
            "<tr><th scope=\"row\" class=\"l\">{}</th><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>",
            escape(&pod.name),
            role(pod.role),
            escape(&pod.node),
            count(pod.requests),
            percent(pod.share)
        );
        for moment in [Some(pod.created_s)].into_iter().chain(pod.moments()).chain([pod.removed_s]) {
            let _ = write!(body, "<td class=\"n\">{}</td>", moment.map_or_else(|| "–".to_owned(), moment_text));
        }
        body.push_str("</tr>\n");
    }
    let cut = if s.pods.len() > most {
        format!("<p class=\"muted\">The first {most} of {} pods; run.json has all.</p>", s.pods.len())
    } else {
        String::new()
    };
    let heads = [
        "created",
        "started",
        "ready",
        "in slice",
        "published",
        "resolvable",
        "resolved",
        "connected",
        "1st request",
        "removed",
    ];
    let heads: String = heads.iter().map(|h| format!("<th scope=\"col\">{h}</th>")).collect();
    let table = format!(
        "<table><caption class=\"sr\">Pods</caption><thead><tr><th scope=\"col\" class=\"l\">pod</th><th scope=\"col\" class=\"l\">part</th>\
         <th scope=\"col\" class=\"l\">node</th><th scope=\"col\">requests</th><th scope=\"col\">share</th>{heads}</tr></thead>\
         <tbody>\n{body}</tbody></table>"
    );
    scroll(&format!("Pods under {}", s.name), &table) + &cut
}

fn moment_text(seconds: f64) -> String {
    short((seconds * 1000.0).round() / 1000.0)
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Proxy => "proxy",
        Role::Server => "server",
        Role::Support => "support",
    }
}

/// What happened by the scenario's timeline.
pub(super) fn events(record: &RunRecord) -> String {
    if record.events.is_empty() {
        return "<p>Nothing but the load.</p>\n".to_owned();
    }
    let items: String = record
        .events
        .iter()
        .map(|e| format!("<li><span class=\"n\">{} s</span> {}</li>\n", short(e.at_s), escape(&e.label)))
        .collect();
    format!("<ul class=\"events\">\n{items}</ul>\n")
}

/// What controllers did by themselves, and what balancers did to requests; nothing if neither did anything.
pub(super) fn happenings(s: &StrategyRecord, most: usize) -> String {
    let mut html = String::new();
    let i = &s.interventions;
    let counts = [
        (i.retries, "retried attempt"),
        (i.hedges, "hedged attempt"),
        (i.faults_injected, "injected fault"),
        (i.rate_limited, "rate-limited request"),
        (i.turned_away, "request turned away"),
        (i.probes, "probe"),
    ];
    let counts: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| plural(*n, what)).collect();
    if !counts.is_empty() {
        let _ = writeln!(html, "<p>Balancers did more than pass requests on: {}.</p>", counts.join(", "));
    }
    if s.happenings.is_empty() {
        return html;
    }
    let shown = s.happenings.iter().take(most);
    let items: String = shown
        .map(|e| format!("<li><span class=\"n\">{} s</span> {}</li>\n", moment_text(e.at_s), escape(&e.label)))
        .collect();
    let cut = match s.happenings.len().checked_sub(most) {
        Some(more) if more > 0 => format!("<p class=\"muted\">{more} more; run.json has all.</p>\n"),
        _ => String::new(),
    };
    let _ = write!(
        html,
        "<details open><summary>What controllers did: {}</summary>\n<ul class=\"events\">\n{items}</ul>\n{cut}</details>\n",
        plural(s.happenings.len() as u64, "step")
    );
    html
}

/// Why requests failed.
pub(super) fn errors(s: &StrategyRecord) -> String {
    if s.errors.is_empty() {
        return String::new();
    }
    let body: String = s
        .errors
        .iter()
        .map(|e| {
            format!(
                "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td></tr>\n",
                escape(&e.code),
                escape(&e.reason),
                count(e.count)
            )
        })
        .collect();
    scroll(
        &format!("Errors under {}", s.name),
        &format!(
            "<table><caption>Why requests failed</caption><thead><tr><th scope=\"col\" class=\"l\">status</th>\
             <th scope=\"col\" class=\"l\">reason</th><th scope=\"col\">requests</th></tr></thead><tbody>\n{body}</tbody></table>"
        ),
    )
}

/// A wide table scrolls in its own region, which the keyboard can reach.
pub(super) fn scroll(label: &str, table: &str) -> String {
    format!("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">{table}</div>\n", escape(label))
}
