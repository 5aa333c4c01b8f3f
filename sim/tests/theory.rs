//! The simulator against queueing theory, on the real path: scenario, world, record. Each check runs replications with
//! different seeds and asks whether the known value is within four standard errors of their mean.

mod common;

use common::{changed, parse, simulate};
use reports::record::StrategyRecord;
use scenarios::Scenario;

/// Mean and its standard error of a figure over ten seeds.
fn replicate(scenario: &Scenario, figure: impl Fn(&StrategyRecord) -> f64) -> (f64, f64) {
    let values: Vec<f64> = (1..=10).map(|seed| figure(&simulate(scenario, seed).strategies[0])).collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}

fn agrees(what: &str, (mean, error): (f64, f64), theory: f64) {
    let z = (mean - theory) / error;
    assert!(z.abs() < 4.0, "{what}: simulated {mean:.4} ± {error:.4}, theory {theory}, z {z:.1}");
}

/// The reference workload with these changes, measured from 5 s on: a queue at 0.8 forgets that it was empty by a factor
/// of e in 1 / (1 − √0.8)² = 90 services, 0.9 s.
fn w1(duration: &str, changes: &[(&str, &str)]) -> Scenario {
    let lasts = format!("duration = {duration:?}\nwarm_up = \"5s\"");
    let text = changed(include_str!("../benches/w1.toml"), &[("duration = \"25s\"", &lasts)], "");
    parse(&changed(&text, changes, ""))
}

/// So many servers of this concurrency behind `round_robin`.
fn in_turn(servers: u32, concurrency: u32, per_s: f64, duration: &str) -> Scenario {
    let changes = [
        ("replicas = 100", &*format!("replicas = {servers}")),
        ("concurrency = 1", &format!("concurrency = {concurrency}")),
        ("rate = \"8000/s\"", &format!("rate = \"{per_s}/s\"")),
        ("{ least_request = { choice_count = 2, with_replacement = false } }", "\"round_robin\""),
    ];
    w1(duration, &changes)
}

/// Two hops of 0.25 ms on the way of every request.
const HOPS_MS: f64 = 0.5;

#[test]
fn m_m_1() {
    // T = 10 ms / (1 − 0.5) = 20 ms.
    let measured = replicate(&in_turn(1, 1, 50.0, "2000s"), |s| s.latency_ms.mean);
    agrees("M/M/1 at 0.5", measured, 20.0 + HOPS_MS);
}

#[test]
fn m_m_10() {
    // Erlang C at 10 servers, 0.8: mean wait 0.20459 services.
    let measured = replicate(&in_turn(1, 10, 800.0, "500s"), |s| s.latency_ms.mean);
    agrees("M/M/10 at 0.8", measured, 10.0 + 2.0459 + HOPS_MS);
}

#[test]
fn round_robin_over_ten_servers_is_e10_m_1() {
    // E_10/M/1 at 0.8: T = 2.9223 services.
    let measured = replicate(&in_turn(10, 1, 800.0, "500s"), |s| s.latency_ms.mean);
    agrees("E_10/M/1 at 0.8", measured, 29.223 + HOPS_MS);
}

#[test]
fn w1_has_its_known_mean() {
    // The reference workload as it is; its mean is known to 0.006 ms from long runs of other engines.
    let (mean, error) = replicate(&w1("100s", &[]), |s| s.latency_ms.mean);
    agrees("W1", (mean, error.hypot(0.006)), 20.255);
}

#[test]
fn two_servers_behind_least_loaded_join_the_shortest_queue() {
    // The shortest of two queues, exactly: T = 2.95574 services at 0.8. The counts are the queues themselves only if the
    // way between client and server is short, as a request on it counts and does not wait.
    let changes = [
        ("replicas = 100", "replicas = 2"),
        ("rate = \"8000/s\"", "rate = \"160/s\""),
        ("{ least_request = { choice_count = 2, with_replacement = false } }", "\"least_loaded\""),
        (
            "{ same_pod = \"250us\", same_node = \"250us\", same_zone = \"250us\", other_zone = \"250us\" }",
            "{ same_pod = \"1us\", same_node = \"1us\", same_zone = \"1us\", other_zone = \"1us\" }",
        ),
    ];
    let measured = replicate(&w1("1000s", &changes), |s| s.latency_ms.mean);
    agrees("JSQ over 2 at 0.8", measured, 29.5574 + 0.002);
}
