//! The simulator against queueing theory, on the real path: scenario, world, record. Each check runs replications with
//! different seeds and asks whether the known value is within four standard errors of their mean.

use scenarios::Scenario;

/// Mean and its standard error of a figure over ten seeds.
fn replicate(scenario: &Scenario, figure: impl Fn(&reports::record::StrategyRecord) -> f64) -> (f64, f64) {
    let values: Vec<f64> = (1..=10)
        .map(|seed| {
            let options = sim::Options {
                name: "theory".into(),
                hash: String::new(),
                text: String::new(),
                seed,
                reproduce: String::new(),
            };
            figure(&sim::run(scenario, &options, &mut |_, _| {}).strategies[0])
        })
        .collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}

fn agrees(what: &str, (mean, error): (f64, f64), theory: f64) {
    let z = (mean - theory) / error;
    assert!(z.abs() < 4.0, "{what}: simulated {mean:.4} ± {error:.4}, theory {theory}, z {z:.1}");
}

fn scenario(servers: u32, concurrency: u32, per_s: f64, duration: &str, policy: &str) -> Scenario {
    let text = include_str!("../benches/w1.toml")
        .replace("replicas = 100", &format!("replicas = {servers}"))
        .replace("concurrency = 1", &format!("concurrency = {concurrency}"))
        .replace("8000/s", &format!("{per_s}/s"))
        .replace("\"25s\"", &format!("{duration:?}"))
        .replace("{ least_request = { choice_count = 2, with_replacement = false } }", policy);
    scenarios::parse("theory.toml", &text).unwrap_or_else(|e| panic!("{e}"))
}

/// Two hops of 0.25 ms on the way of every request.
const HOPS_MS: f64 = 0.5;

#[test]
fn m_m_1() {
    // T = 10 ms / (1 − 0.5) = 20 ms. The first requests find an empty queue; over 2,000 s that does not show.
    let measured = replicate(&scenario(1, 1, 50.0, "2000s", "\"round_robin\""), |s| s.latency_ms.mean);
    agrees("M/M/1 at 0.5", measured, 20.0 + HOPS_MS);
}

#[test]
fn m_m_10() {
    // Erlang C at 10 servers, 0.8: mean wait 0.20459 services.
    let measured = replicate(&scenario(1, 10, 800.0, "500s", "\"round_robin\""), |s| s.latency_ms.mean);
    agrees("M/M/10 at 0.8", measured, 10.0 + 2.0459 + HOPS_MS);
}

#[test]
fn round_robin_over_ten_servers_is_e10_m_1() {
    // E_10/M/1 at 0.8: T = 2.9223 services.
    let measured = replicate(&scenario(10, 1, 800.0, "500s", "\"round_robin\""), |s| s.latency_ms.mean);
    agrees("E_10/M/1 at 0.8", measured, 29.223 + HOPS_MS);
}

#[test]
fn w1_has_its_known_mean() {
    // The reference workload as it is; its mean is known to 0.006 ms from long runs of other engines. The start from
    // empty queues (90 services of warm-up at 0.8, about 1 s) is cut by its weight: 1 s of 100.
    let text = include_str!("../benches/w1.toml").replace("\"25s\"", "\"100s\"");
    let w1 = scenarios::parse("w1.toml", &text).unwrap_or_else(|e| panic!("{e}"));
    let (mean, error) = replicate(&w1, |s| s.latency_ms.mean);
    agrees("W1", (mean, error.hypot(0.006)), 20.255);
}
