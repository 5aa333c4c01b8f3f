//! The gallery: one page that leads to the reports of many scenarios. A card a scenario: its question, what came out, where
//! it is from, a picture. Failed ones first, then in the order of the files.

use std::fmt::Write as _;

use super::colour::{series_rules, variables};
use super::page::{STYLE, head};
use super::text::{escape, keep_units};
use super::thumb;
use crate::number::plural;
use crate::record::RunRecord;
use crate::summary::words;
use crate::verdict;

const GALLERY_STYLE: &str = include_str!("gallery.css");

/// Bytes of all pictures together: the page stays below 1 MB.
const PICTURES: usize = 700_000;

/// A scenario's card.
#[derive(Debug, Clone, Copy)]
pub struct Card<'a> {
    /// What was run.
    pub record: &'a RunRecord,
    /// The scenario's question, at length; its title where empty.
    pub question: &'a str,
    /// Where the scenario is from: `seed 000 "Canaries", section "Options"`, `the pain "…" (#1)`, or `the policy "…" (paper)`.
    pub from: &'a str,
    /// The report, relative to this page: `headless/sim/index.html`.
    pub report: &'a str,
}

/// Draws the page.
#[must_use]
pub fn gallery(cards: &[Card<'_>]) -> String {
    let css = STYLE.replace("/*light*/", &variables(false)).replace("/*dark*/", &variables(true))
        + &series_rules(super::requests::BANDS)
        + GALLERY_STYLE;
    let mut html = head("Gallery", &css);
    let groups = groups(cards);
    let expectations: usize = cards.iter().map(|c| c.record.expectations.len()).sum();
    let failed: usize = cards.iter().map(failures).sum();
    let claims = match failed {
        0 => format!("all {} hold", plural(expectations as u64, "expectation")),
        n => format!("<b class=\"failed\">{n} of {} failed</b>", plural(expectations as u64, "expectation")),
    };
    let _ = write!(
        html,
        "<header>\n<p class=\"kicker\"><b>Evenkeel</b> gallery</p>\n<h1>What does a load-balancing strategy do to gRPC traffic on \
         Kubernetes? {} answered by simulation.</h1>\n<p class=\"muted\">Each card is a scenario file with its answer; its \
         report has the figures, the plots and the file itself. What a scenario claims is checked in every run: {claims}. \
         The same files and seed give the same page.</p>\n",
        plural(cards.len() as u64, "question"),
    );
    let links: String = groups
        .iter()
        .enumerate()
        .map(|(i, g)| format!("<li><a href=\"#group-{i}\">{}</a></li>", escape(&g.title)))
        .collect();
    let _ = write!(html, "<nav class=\"groups\" aria-label=\"Groups\"><ul>{links}</ul></nav>\n</header>\n<main>\n");
    let bytes = PICTURES / cards.len().max(1);
    for (i, group) in groups.iter().enumerate() {
        let _ = write!(
            html,
            "<section class=\"group\" aria-labelledby=\"group-{i}\">\n<h2 id=\"group-{i}\">{}</h2>\n<div class=\"cards\">\n",
            escape(&group.title)
        );
        group.cards.iter().for_each(|c| html.push_str(&card(c, bytes)));
        html.push_str("</div>\n</section>\n");
    }
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn failures(card: &Card<'_>) -> usize {
    card.record.expectations.iter().filter(|e| !e.holds).count()
}

fn card(card: &Card<'_>, bytes: usize) -> String {
    let record = card.record;
    let (all, failed) = (record.expectations.len(), failures(card));
    let question = if card.question.is_empty() { &record.title } else { card.question };
    let outcome = match (all, failed) {
        (0, _) => "<p class=\"outcome\">states no expectation</p>\n".to_owned(),
        (_, 0) => format!(
            "<p class=\"outcome ok\"><span class=\"mark\" aria-hidden=\"true\">✓</span> {all} of {} hold</p>\n",
            plural(all as u64, "expectation")
        ),
        _ => {
            let which: String = record
                .expectations
                .iter()
                .filter(|e| !e.holds)
                .map(|e| format!("<li><b>{}</b> {}</li>", escape(&e.strategy), escape(&keep_units(words(e)))))
                .collect();
            format!(
                "<p class=\"outcome bad\"><span class=\"mark\" aria-hidden=\"true\">✗</span> {failed} of {} failed</p>\n<ul class=\"failures\">{which}</ul>\n",
                plural(all as u64, "expectation")
            )
        }
    };
    let figure = thumb::thumb(record, bytes).map_or_else(String::new, |t| {
        format!("<figure>{}<figcaption>{}</figcaption></figure>\n", t.plot, escape(&keep_units(&t.caption)))
    });
    let from = if card.from.is_empty() {
        String::new()
    } else {
        format!("<p class=\"from\">From {}</p>\n", escape(card.from))
    };
    format!(
        "<article class=\"card{}\">\n<h3><a href=\"{}\">{}</a></h3>\n<p class=\"question\">{}</p>\n{outcome}{figure}<p>{}</p>\n{from}</article>\n",
        if failed > 0 { " failing" } else { "" },
        escape(&url(card.report)),
        escape(&record.scenario),
        escape(&keep_units(&verdict::sentence_case(question))),
        escape(&keep_units(&verdict::sentence(record))),
    )
}

/// A relative path as a link: everything but the unreserved characters of RFC 3986 and `/` as its bytes.
fn url(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

struct Group<'a> {
    title: String,
    cards: Vec<Card<'a>>,
}

/// Seeds in their order, then pains, then policies, then what is from none of them; within a group failed ones first.
fn groups<'a>(cards: &[Card<'a>]) -> Vec<Group<'a>> {
    let mut groups: Vec<(String, Group<'a>)> = Vec::new();
    for card in cards {
        let (key, title) = group_of(card.from);
        match groups.iter_mut().find(|(k, _)| *k == key) {
            Some((_, group)) => group.cards.push(*card),
            None => groups.push((key, Group { title, cards: vec![*card] })),
        }
    }
    groups.sort_by(|a, b| a.0.cmp(&b.0));
    let failed_first = |mut group: Group<'a>| {
        group.cards.sort_by_key(|c| failures(c) == 0);
        group
    };
    groups.into_iter().map(|(_, group)| failed_first(group)).collect()
}

/// What to sort by, and the heading. `seed 000 "Canaries", section …` is of "Seed 000: Canaries".
fn group_of(from: &str) -> (String, String) {
    let number = from.strip_prefix("seed ").and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    match number.filter(|n| !n.is_empty()) {
        Some(number) => {
            let name = from.split('"').nth(1).map_or_else(String::new, |name| format!(": {name}"));
            (format!("1 {number}"), format!("Seed {number}{name}"))
        }
        None if from.starts_with("the pain ") => ("2".to_owned(), "Pains that users report".to_owned()),
        None if from.starts_with("the policy ") => ("3".to_owned(), "When to want which policy".to_owned()),
        None => ("4".to_owned(), "Others".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_belongs_to_its_seed_to_the_pains_or_to_the_policies() {
        let title = |from: &str| group_of(from).1;
        assert_eq!(title("seed 000 \"Canaries\", section \"Options\"."), "Seed 000: Canaries");
        assert_eq!(title("seed 004"), "Seed 004");
        assert_eq!(title("the pain \"all at once\" (grpc-java#4462)"), "Pains that users report");
        assert_eq!(title("the policy \"least_loaded\" (Winston 1977)"), "When to want which policy");
        assert_eq!(title("seeds"), "Others");
        assert_eq!(title(""), "Others");
        let keys = ["seed 000", "seed 004", "the pain \"p\"", "the policy \"p\"", ""].map(|from| group_of(from).0);
        assert!(keys.is_sorted(), "{keys:?}");
    }

    #[test]
    fn links_are_plain_ascii() {
        assert_eq!(url("headless/sim/index.html"), "headless/sim/index.html");
        assert_eq!(url("a b\"é/x"), "a%20b%22%C3%A9/x");
    }
}
