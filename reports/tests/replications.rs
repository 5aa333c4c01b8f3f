//! What a reader is told of several seeds: in the table, on the page, in the sentence.

mod common;

use common::{headless, strategies, three};
use reports::html::render;
use reports::record::RunRecord;
use reports::statistics::{Observation, replicated};
use reports::terminal::table;
use reports::verdict::sentence;

/// A record of several seeds, 1 and up: under each, a strategy's latencies are the sample's times its factor.
fn seeds(record: RunRecord, factors: &[&[f64]]) -> RunRecord {
    let of_seed = |i: usize| {
        let mut record = record.clone();
        record.seed = 1 + i as u64;
        for (s, factors) in record.strategies.iter_mut().zip(factors) {
            let l = &mut s.latency_ms;
            for ms in [&mut l.p50, &mut l.p99, &mut l.p999]
                .into_iter()
                .chain(s.latency_quantiles.iter_mut().map(|q| &mut q.ms))
            {
                *ms *= factors[i];
            }
        }
        record
    };
    let observations: Vec<Observation> = (0..factors[0].len()).map(|i| Observation::of(&of_seed(i))).collect();
    replicated(of_seed(0), &observations)
}

fn two(factors: &[&[f64]]) -> RunRecord {
    let mut record = three();
    record.strategies.truncate(2);
    seeds(record, factors)
}

/// The sentence's clause about p99.
fn p99(record: &RunRecord) -> String {
    let text = sentence(record);
    text.split("; ").find(|clause| clause.contains("p99")).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn intervals_are_below_their_figures() {
    // Three seeds: t(2) = 4.303. 31.2 ms · (1, 1.01, 0.99) has sd 0.312, half width 4.303 · 0.312/√3 = 0.78. The
    // difference −8.59 % has as little of its own: 4.303 · 0.0859 %/√3 = 0.21 %.
    let record = seeds(three(), &[&[1.0, 1.01, 0.99], &[1.0, 1.01, 0.99], &[0.9, 0.75, 0.6]]);
    let text = table(&record, false);
    let (figures, _) = text.split_once("\n✓").expect("expectations follow");
    assert_eq!(
        figures,
        "\
strategy          p50    p99  p99.9  errors  goodput  imbalance  new pods  hops   conns                 Δp99
                   ms     ms     ms            per s   max/mean  1st req.  mean  opened              to base
headless         12.0   31.2   42.5       0      344       1.67     never  0.67       5                 base
                 ±0.3   ±0.8   ±1.1      ±0       ±0         ±0              ±0      ±0
sidecar          12.4   28.5   38.0       0      344       1.36    6.60 s  0.67       5               −8.6 %
                 ±0.4   ±0.8     ±1      ±0       ±0         ±0        ±0    ±0      ±0         [−8.9, −8.3]
ingress-max-age  11.8   30.6   41.7   0.1 %      343       1.37    7.00 s  1.60      65  no difference found
                 ±5.9  ±15.3  ±20.8      ±0       ±0         ±0        ±0    ±0      ±0           [−50, +46]

Means over seeds 1 to 3; ± is half a 95 % interval, [ ] the 95 % interval of a change in %, paired by seed.
"
    );
    assert!(
        text.contains(
            "✗ ingress-max-age: no request fails (0 of 3 seeds)\n    requests.failed: 40 with seed 1, expected == 0\n"
        ),
        "{text}"
    );
    assert!(text.contains("✓ sidecar: new pods get traffic within 10 s (3 of 3 seeds)\n"), "{text}");
}

#[test]
fn the_page_has_the_same() {
    let record = seeds(three(), &[&[1.0, 1.01, 0.99], &[1.0, 1.01, 0.99], &[0.9, 0.75, 0.6]]);
    let html = render(&record);
    for part in [
        "<td class=\"n\">no difference found<br><small>[−50, +46]</small></td>",
        "; 3 of 3 seeds</span>",
        "; 0 of 3 seeds, not seed 1</span>",
        "Means over seeds 1 to 3",
        "<span>seeds <b>1 to 3</b></span>",
        "the bands hold seeds 1 to 3.",
        " opacity=\"0.22\" fill=\"#0072B2\"",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert!(!html.contains("One seed"));
    let one = render(&three());
    assert!(one.contains("One seed") && !one.contains("<br><small>±") && !one.contains("seeds</span>"));
}

#[test]
fn a_lower_p99_has_its_interval() {
    // Sample p99s 31.2 and 28.5; both vary by the same factors, so the difference is −8.7 % of each.
    assert_eq!(
        p99(&two(&[&[1.0, 1.02, 0.98], &[1.0, 1.02, 0.98]])),
        "over all seeds p99 is 28.5 ms under sidecar against the baseline headless's 31.2 ms (−8.6 %, 95 % CI −9.1…−8.1, 3 paired seeds)."
    );
}

#[test]
fn an_interval_across_zero_says_so() {
    assert_eq!(
        p99(&two(&[&[1.0, 1.0, 1.0], &[1.3, 1.0, 1.0]])),
        "over all seeds no difference found in p99 between sidecar and the baseline headless (95 % CI −39…+40 %, 3 paired seeds)."
    );
    let same: [&[f64]; 7] = [&[1.0, 1.6, 0.7]; 7];
    let mut record = strategies();
    let first = record.strategies[0].clone();
    record.strategies.iter_mut().for_each(|s| {
        s.latency_ms = first.latency_ms;
    });
    assert_eq!(
        p99(&seeds(record, &same)),
        "over all seeds no difference found in p99 to the baseline headless (3 paired seeds)."
    );
}

#[test]
fn of_several_only_what_was_found_is_called_lower_or_higher() {
    let even: &[f64] = &[1.0, 1.02, 0.98];
    let wild: &[f64] = &[0.1, 3.0, 0.2];
    assert_eq!(
        p99(&seeds(three(), &[even, wild, &[0.5, 0.51, 0.49]])),
        "over all seeds p99 is lowest under ingress-max-age, 20.4 ms against the baseline headless's 31.2 ms (−35 %, 95 % CI −37…−32, 3 paired seeds)."
    );
    let wild_and_low: &[f64] = &[0.1, 1.5, 0.2];
    assert_eq!(
        p99(&seeds(three(), &[even, wild_and_low, &[0.5, 0.51, 0.49]])),
        "over all seeds p99 is found below the baseline headless's 31.2 ms under ingress-max-age, 20.4 ms (−35 %, 95 % CI −37…−32, 3 paired seeds)."
    );
    assert_eq!(
        p99(&seeds(three(), &[even, wild, even])),
        "over all seeds p99 is nowhere found below the baseline headless's 31.2 ms and highest under ingress-max-age, 40.8 ms (+31 %, 95 % CI +29…+33, 3 paired seeds)."
    );
}

#[test]
fn one_strategy_has_its_mean() {
    assert_eq!(
        sentence(&seeds(headless(), &[&[1.0, 1.02, 0.98]])),
        "headless: with seed 1, the 2 new server pods got no request in the 57.7 s after they were ready; 3 of 5 server pods take every request from 63 s on, evenly; p99 31.2 ms, 0 of 41,239 requests failed; over 3 seeds p99 is 31.2 ± 1.6 ms (95 % CI)."
    );
}

#[test]
fn what_some_seeds_could_not_measure_is_counted() {
    let record = three();
    let mut other = record.clone();
    other.seed = 2;
    other.strategies[1].pods.iter_mut().filter(|p| p.created_s > 0.0).for_each(|p| p.first_request_s = None);
    let record = replicated(record.clone(), &[Observation::of(&record), Observation::of(&other)]);
    let text = table(&record, false);
    assert!(text.contains("\ntime_to_traffic_s.max of sidecar: measured under 1 of 2 seeds\n"), "{text}");
    assert!(render(&record).contains(" time_to_traffic_s.max of sidecar: measured under 1 of 2 seeds."));
}

#[test]
fn the_figures_fit_a_hundred_and_ten_columns() {
    let record = seeds(three(), &[&[1.0, 1.3, 0.9], &[1.0, 1.01, 0.99], &[0.9, 0.75, 1.2]]);
    for line in table(&record, false).lines() {
        assert!(line.chars().count() <= 110, "{}: {line}", line.chars().count());
        assert_eq!(line, line.trim_end());
    }
}

#[test]
fn one_seed_adds_nothing() {
    assert!(replicated(three(), &[Observation::of(&three())]) == three());
}
