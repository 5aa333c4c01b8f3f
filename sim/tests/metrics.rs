//! The metrics an expectation may name and those the reports can measure are listed in two packages that do not know
//! each other; here they meet.

#[test]
fn every_metric_of_the_language_is_measured() {
    let language: Vec<&str> = scenarios::METRICS.iter().map(|m| m.name).collect();
    let mut measured = reports::measure::METRICS.to_vec();
    let mut named = language.clone();
    named.sort_unstable();
    measured.sort_unstable();
    assert_eq!(named, measured);
}
