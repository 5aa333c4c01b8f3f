//! The gallery's page, looked at as text.

mod common;

use common::{empty, headless, hundred, strategies, three};
use reports::html::{Card, gallery};
use reports::record::RunRecord;

fn page(records: &[RunRecord]) -> String {
    let card = |record| Card { record, question: "", from: "seed 000 \"Canaries\"", report: "a/sim/index.html" };
    gallery(&records.iter().map(card).collect::<Vec<_>>())
}

fn all() -> Vec<RunRecord> {
    vec![headless(), strategies(), hundred(), three(), empty()]
}

#[test]
fn the_same_records_give_the_same_bytes() {
    assert!(page(&all()) == page(&all()));
}

#[test]
fn a_hundred_cards_stay_below_a_megabyte_and_need_nothing_from_outside() {
    let records: Vec<RunRecord> = (0..20).flat_map(|_| all()).collect();
    let html = page(&records);
    assert!(html.len() < 1_000_000, "{} bytes", html.len());
    for foreign in ["<script", "http:", "https:", "//", "url(", "@import", "<link", "<img"] {
        // The style sheet draws the shade of a scrolling table with gradients, not with pictures.
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert_eq!(html.matches("<article").count(), 100);
}

#[test]
fn failed_scenarios_come_first_with_what_failed() {
    let html = page(&all());
    let first = html.split("<article").nth(1).expect("a card");
    assert!(first.starts_with(" class=\"card failing\">"), "{first}");
    assert_eq!(html.matches("card failing").count(), html.matches("✗").count());
    assert!(
        html.find("three</a>").expect("a card") < html.find("headless</a>").expect("a card"),
        "three has a failed one"
    );
    assert!(html.contains("1 of 6 expectations failed"));
    assert!(html.contains("<li><b>ingress-max-age</b> no request fails</li>"));
}

#[test]
fn the_baseline_is_drawn_beside_the_strategy_that_differs_most() {
    let html = page(&[strategies()]);
    assert!(html.contains("which differs most from it; a band is a server pod"));
    assert!(html.contains("Requests per server pod over time under headless and clusterip"));
}

#[test]
fn strategies_that_spread_alike_show_their_percentiles() {
    let mut record = three();
    let mut twin = record.strategies[0].clone();
    twin.name = "twin".to_owned();
    twin.latency_quantiles.iter_mut().for_each(|q| q.ms *= 2.0);
    record.strategies = vec![record.strategies[0].clone(), twin];
    let html = page(&[record]);
    assert!(html.contains("Latency percentiles under headless and twin"));
    assert!(!html.contains("Requests per server pod over time"));
}

#[test]
fn names_cannot_become_markup() {
    let evil = "</svg><script>alert(\"1\")</script>&'";
    let mut record = three();
    record.scenario = evil.to_owned();
    record.strategies.iter_mut().for_each(|s| s.name = evil.to_owned());
    record.expectations.iter_mut().for_each(|e| (e.text, e.strategy) = (evil.to_owned(), evil.to_owned()));
    let from = format!("seed 1 \"{evil}\"");
    let html = gallery(&[Card { record: &record, question: evil, from: &from, report: evil }]);
    assert!(!html.contains("<script"));
    assert_eq!(html.matches("<svg ").count(), html.matches("</svg>").count());
}
