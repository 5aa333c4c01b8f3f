//! The order of things: what a reader needs first is on the first screen (1280×720), the rest below it.

use std::fmt::Write as _;

use super::axis::end_label_room;
use super::colour::{series_rules, variables};
use super::requests::{Shared, pod_label};
use super::text::{escape, escape_lines, keep_units, shorten};
use super::{counts, deployments, latency, loads, percentile, requests, shares, splits, stages, tables};
use crate::number::{count, plural, short};
use crate::record::{Role, RunRecord, StrategyRecord};
use crate::summary::{self, PATIENCE_S};
use crate::verdict;

pub(super) const STYLE: &str = include_str!("style.css");

pub(super) fn page(record: &RunRecord) -> String {
    let mut html = head(&record.scenario, &style(record));
    html.push_str(&first_screen(record));
    html.push_str("<main>\n");
    html.push_str(&navigation(record));
    let shared = shared(record);
    for (i, s) in record.strategies.iter().enumerate() {
        html.push_str(&strategy(record, s, i, shared));
    }
    html.push_str(&rest(record));
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

/// From the first byte up to `<body>`.
pub(super) fn head(title: &str, css: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{} · Evenkeel</title>\n<style>\n{css}</style>\n</head>\n<body>\n",
        escape(title)
    )
}

fn style(record: &RunRecord) -> String {
    let pods = record.strategies.iter().map(|s| s.pods.len().min(12)).max().unwrap_or(0);
    // Two lines a row: closer together, so that the table stays on the first screen.
    let of_seeds = ".compare td{line-height:1.15}.compare td small{font-size:11px;color:var(--muted)}\n";
    STYLE.replace("/*light*/", &variables(false)).replace("/*dark*/", &variables(true))
        + &series_rules(record.strategies.len().max(pods))
        + record.replications.as_ref().map_or("", |_| of_seeds)
}

fn first_screen(record: &RunRecord) -> String {
    let mut html = String::from("<header>\n");
    let _ = write!(
        html,
        "<p class=\"kicker\"><b>{}</b> {}</p>\n<h1>{}</h1>\n<div class=\"first\">\n<section class=\"left\" aria-label=\"Expectations and comparison\">\n{}{}</section>\n",
        escape(&record.scenario),
        escape(&record.title),
        escape(&keep_units(&verdict::sentence(record))),
        tables::expectations(record),
        tables::comparison(record)
    );
    html.push_str("<section class=\"right\" aria-label=\"Latency percentiles\">\n");
    match percentile::figure(record) {
        Some(figure) => html.push_str(&figure.html()),
        None => html.push_str("<p class=\"muted\">No request ended OK, so there is no latency to draw.</p>\n"),
    }
    html.push_str("</section>\n");
    html.push_str(&reproduce(record));
    html.push_str("</div>\n</header>\n");
    html
}

fn reproduce(record: &RunRecord) -> String {
    let facts = [
        match &record.replications {
            None => ("seed", record.seed.to_string()),
            Some(r) => ("seeds", r.words().trim_start_matches("seeds ").trim_end_matches(" seeds").to_owned()),
        },
        ("scenario hash", record.scenario_hash.clone()),
        ("host", record.host.clone()),
        ("program", record.program.clone()),
        ("record version", record.version.to_string()),
        ("length", format!("{} s", short(record.duration_s))),
    ];
    let facts: String =
        facts.iter().map(|(name, value)| format!("<span>{name} <b>{}</b></span> ", escape(value))).collect();
    format!(
        "<section class=\"again\" aria-label=\"How to reproduce\"><code>{}</code> <span class=\"facts\">{facts}</span></section>\n",
        escape(&record.reproduce)
    )
}

fn navigation(record: &RunRecord) -> String {
    if record.strategies.len() < 2 {
        return String::new();
    }
    let links: String = record
        .strategies
        .iter()
        .enumerate()
        .map(|(i, s)| format!("<li><a href=\"#strategy-{i}\">{}</a></li>", escape(&s.name)))
        .collect();
    format!("<nav aria-label=\"Strategies\"><ul>{links}</ul></nav>\n")
}

/// What all strategies' plots share. The page stays below 1 MB: with more strategies or pods, plots get fewer columns.
fn shared(record: &RunRecord) -> Shared {
    let strategies = record.strategies.len().max(1);
    let drawn = || record.strategies.iter().flat_map(|s| &s.pods).filter(|p| p.role != Role::Client);
    let names = record.strategies.iter().flat_map(|s| &s.deployments).map(|d| shorten(&d.name, 16));
    let labels: Vec<String> = drawn().map(pod_label).chain(names).collect();
    let most_pods = record.strategies.iter().map(|s| s.pods.len().clamp(1, 12)).max().unwrap_or(1);
    Shared {
        label_room: end_label_room(labels.iter().map(String::as_str)),
        columns: (14_000 / (strategies * most_pods)).clamp(24, 120),
        cells: (20_000 / (strategies * 2)).clamp(400, 6_000),
    }
}

fn strategy(record: &RunRecord, s: &StrategyRecord, index: usize, shared: Shared) -> String {
    let mut html = format!(
        "<section class=\"strategy\" aria-labelledby=\"strategy-{index}\">\n<h2 id=\"strategy-{index}\">{}</h2>\n<p class=\"muted\">{}</p>\n<div class=\"plots\">\n<div>\n",
        escape(&s.name),
        escape(&s.summary)
    );
    let split = deployments::figures(record, s, shared);
    let main = [
        requests::figure(record, s, Role::Server, shared),
        latency::figure(record, s, shared),
        counts::failures(record, s, shared),
        counts::connections(record, s, shared),
        requests::figure(record, s, Role::Proxy, shared),
    ];
    let side = [shares::figure(record, s), stages::figure(record, s)];
    let drawn = main.iter().chain(&side).flatten().count();
    let drawn = drawn + split.len();
    let (first, others) = main.split_at(1);
    first.iter().flatten().chain(&split).chain(others.iter().flatten()).for_each(|f| html.push_str(&f.html()));
    html.push_str("</div>\n<div>\n");
    side.iter().flatten().for_each(|figure| html.push_str(&figure.html()));
    if drawn == 0 {
        html.push_str("<p class=\"muted\">Nothing to draw: no pod, no request or no timeline.</p>\n");
    }
    html.push_str("</div>\n</div>\n");
    html.push_str(&splits::table(s));
    html.push_str(&loads::table(s));
    html.push_str(&deployments::table(s));
    html.push_str(&tables::happenings(s, 30));
    html.push_str(&tables::errors(s));
    let rows = (1_200 / record.strategies.len().max(1)).clamp(20, 200);
    let _ = write!(
        html,
        "<details><summary>{} and the moments of their lives, in seconds</summary>\n{}</details>\n</section>\n",
        plural(s.pods.len() as u64, "pod"),
        tables::pods(s, rows)
    );
    html
}

fn rest(record: &RunRecord) -> String {
    let mut html = String::from("<section class=\"rest\">\n<h2>What happened when</h2>\n");
    html.push_str(&tables::events(record));
    html.push_str(&scenario(record));
    html.push_str("<h2>How to read the figures, and what is not in them</h2>\n<ul>\n");
    for note in notes(record) {
        let _ = writeln!(html, "<li>{}</li>", escape(&note));
    }
    html.push_str(
        "</ul>\n<h2>Data</h2>\n<p><a href=\"run.json\">run.json</a>: the whole record. <a href=\"data.csv\">data.csv</a>: requests per strategy, pod and bucket.</p>\n</section>\n",
    );
    html
}

/// Most characters of a scenario file that the page shows.
const SCENARIO_CHARS: usize = 100_000;

/// The file itself: all that the figures above follow from, together with the seed.
fn scenario(record: &RunRecord) -> String {
    let text = &record.scenario_text;
    if text.trim().is_empty() {
        return String::new();
    }
    let shown = match text.char_indices().nth(SCENARIO_CHARS) {
        Some((end, _)) => &text[..end],
        None => text,
    };
    let cut = if shown.len() < text.len() {
        format!("<p class=\"muted\">The first {} characters; run.json has all.</p>", count(SCENARIO_CHARS as u64))
    } else {
        String::new()
    };
    format!(
        "<details><summary>The scenario: {}.toml, {}</summary>\n<pre tabindex=\"0\" role=\"region\" aria-label=\"The scenario file\">\n{}</pre>{cut}</details>\n",
        escape(&record.scenario),
        plural(text.lines().count() as u64, "line"),
        escape_lines(shown)
    )
}

fn notes(record: &RunRecord) -> Vec<String> {
    let mut notes = vec![
        match &record.replications {
            None => format!(
                "One seed ({}): a difference between strategies has no interval here, and a small one may be chance. Run other seeds before you rely on it.",
                record.seed
            ),
            Some(r) => format!(
                "The table, p99 in the sentence at the top and the expectations are of {}; all else is of seed {}. Intervals are Student's t at 95 %. Strategies see the same work under a seed, so a change is the mean of the differences within seeds, and its interval theirs; where that has zero in it, no difference was found, which does not mean that there is none. Each interval stands for itself: of twenty comparisons without a difference one on average finds one. ±0 says that the seeds agree, not that nothing else can happen.",
                r.words(),
                record.seed
            ),
        },
        "Latency is what the client saw, of requests that ended OK; failed ones have none. A closed loop sends less when answers are slow, so its latency hides waiting that an open loop would show.".to_owned(),
        "Requests in flight at the end of the run are started, but neither ok nor failed.".to_owned(),
        "Imbalance in the table is of the whole run: a pod that came late has had less time to get requests. The sentence at the top and the shares count from the moment the last new server pod was in use, or ready if it never was; “even” there is at most 1.05 × the mean.".to_owned(),
        format!(
            "Time to first traffic counts from the moment the Deployment asked for the pod. “Never” is said of a pod that was ready for {} s or more, the floor between gRPC's look-ups of a name; “>” stands before the time of one that had less. A pod whose address was not published before the run ended is not counted.",
            short(PATIENCE_S)
        ),
        "Node hops count one way, from the client to the server that answered.".to_owned(),
    ];
    if let Some(words) = summary::warm_up(record) {
        notes.push(format!(
            "{}: requests issued in it are in the shaded part of the time plots only. Connections, pods and the moments of their lives are of the whole run.",
            verdict::sentence_case(&words)
        ));
    }
    if record.host == "sim" {
        notes.push(
            "The cluster is a model in virtual time. Whatever it does not model (kernel, network loss, noisy neighbours) is not in these figures; the choice of a backend is made by the same code as in the live programs.".to_owned(),
        );
    }
    notes
}
