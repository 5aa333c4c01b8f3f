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
fn the_percentiles_are_not_drawn_where_they_are_alike_and_something_else_differs() {
    let mut record = three();
    let mut twin = record.strategies[0].clone();
    twin.name = "twin".to_owned();
    // A twentieth of the requests of one pod: less than a tenth of all, more than a hundredth.
    let pod = twin.pods.iter().position(|p| p.name == "server-0").expect("a server");
    twin.timeline.requests_per_pod[pod].iter_mut().for_each(|n| *n -= *n / 20);
    record.strategies = vec![record.strategies[0].clone(), twin];
    let alike = page(&[record.clone()]);
    record.strategies[1].latency_ms.p99 *= 2.0;
    let apart = page(&[record]);
    assert!(alike.contains("Requests per server pod over time under headless and twin"));
    assert!(apart.contains("Latency percentiles under headless and twin"));
}

#[test]
fn failures_that_differ_much_are_what_is_drawn() {
    let mut record = three();
    let s = &mut record.strategies[1];
    s.requests.failed = s.requests.ok / 4;
    s.timeline.failed = s.timeline.ok.iter().map(|n| n / 4).collect();
    let html = page(&[record.clone()]);
    let names: Vec<&str> = record.strategies.iter().map(|s| s.name.as_str()).collect();
    assert!(html.contains(">% failed<"), "{html}");
    assert!(names.iter().all(|name| html.contains(&format!(">{name}<"))), "each line has its name");
    // More strategies than lines that can be told apart: the first, and the one that differs most.
    let mut many = record.clone();
    for i in 0..3 {
        let mut twin = record.strategies[2].clone();
        twin.name = format!("twin-{i}");
        many.strategies.push(twin);
    }
    let html = page(&[many]);
    let caption = format!("{} and {}, which differs most from it.", names[0], names[1]);
    assert!(html.contains(&caption), "{caption}: {html}");
}

#[test]
fn servers_of_several_deployments_are_drawn_by_deployment() {
    let mut record = strategies();
    for s in &mut record.strategies {
        let canary = s.pods.iter_mut().find(|p| p.name == "server-0").expect("a server");
        canary.deployment = "server-canary".to_owned();
    }
    let html = page(&[record]);
    assert!(html.contains("which differs most from it; a band is a deployment."), "{html}");
    assert!(html.contains(">server<") && html.contains(">server-canary<"), "names at the bands' ends: {html}");
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
