//! How evenly each policy spreads requests over equal endpoints: the numbers of the README's table, measured.
//!
//! Jain's index is (Σx)² / (n · Σx²) of the requests x that each of n endpoints got: 1 if all are equal, 1/n if one has
//! everything. Beside it the busiest endpoint's requests over the mean. As many requests are under way as there are endpoints,
//! each takes as long as all others, servers that are asked say how many they have, and hashes are random.
//!
//! `UPDATE=1 cargo test -p lb-core --test fairness` writes what was measured into the README.

use std::collections::VecDeque;
use std::path::Path;

use lb_core::{
    Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, LoadReport, Nanos, Outcome, Pick,
    PickContext, PolicyConfig,
};
use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

/// Requests that each of `n` endpoints gets, of `per_endpoint` · `n` that are sent.
fn spread(config: &PolicyConfig, n: u32, per_endpoint: u32) -> Vec<u32> {
    let mut control = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
    let mut policy = config.build();
    let endpoint = |i: u32| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.{}.{}:80", i / 250, i % 250)));
    let endpoints = EndpointSet::new((0..n).map(endpoint));
    policy.update(&mut Context::new(Nanos::ZERO, &mut control), &endpoints);
    for e in &endpoints {
        policy.connectivity(&mut Context::new(Nanos::ZERO, &mut control), e.id, Connectivity::Ready);
    }
    let (mut counts, mut under_way, mut now) = (vec![0; n as usize], VecDeque::new(), Nanos::ZERO);
    let mut in_flight = vec![0u32; n as usize];
    let step = Nanos(Nanos::from_millis(10).0 / u64::from(n));
    for _ in 0..n * per_endpoint {
        now += step;
        let mut cx = Context::new(now, &mut control);
        policy.tick(&mut cx);
        let picker = policy.picker(&mut cx);
        if under_way.len() == n as usize
            && let Some((id, sent)) = under_way.pop_front()
        {
            let EndpointId(i) = id;
            in_flight[i as usize] -= 1;
            let load = LoadReport { in_flight: Some(in_flight[i as usize]), rps: 100.0, ..half_used() };
            picker.done(id, now, &Outcome::new(Code::Ok, now.since(sent)).with_load(load));
        }
        let hash = rng.next_u64();
        let mut cx = PickContext::new(now, &mut rng).with_hash(hash);
        let pick = picker.pick(&mut cx);
        for &id in cx.asks.probes() {
            let load = LoadReport { in_flight: Some(in_flight[id.index()]), ..half_used() };
            picker.probed(id, now, &load);
        }
        let Pick::Endpoint(id) = pick else { panic!("{config:?}: {pick:?}") };
        counts[id.index()] += 1;
        in_flight[id.index()] += 1;
        under_way.push_back((id, now));
    }
    counts
}

fn half_used() -> LoadReport {
    LoadReport {
        application_utilization: 0.5,
        cpu_utilization: 0.5,
        latency: Some(Nanos::from_millis(10)),
        ..LoadReport::default()
    }
}

/// "0.999 · 1.05": Jain's index and the busiest over the mean.
fn cell(counts: &[u32]) -> String {
    let (n, sum) = (counts.len() as f64, f64::from(counts.iter().sum::<u32>()));
    let squares: f64 = counts.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let most = f64::from(counts.iter().copied().max().unwrap_or(0));
    format!("{:.3} · {:.2}", sum * sum / (n * squares), most * n / sum)
}

#[test]
fn the_readme_has_the_measured_fairness() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(&readme).expect("the README");
    let mut updated = text.clone();
    let mut wrong = Vec::new();
    for &name in PolicyConfig::NAMES {
        let config = PolicyConfig::named(name).expect("a registered name");
        let measured = format!("{}; {}", cell(&spread(&config, 10, 1000)), cell(&spread(&config, 1000, 100)));
        let Some(row) = text.lines().find(|line| line.starts_with(&format!("| `{name}` |"))) else {
            wrong.push(format!("{name} has no row; its fairness is {measured}"));
            continue;
        };
        // Name, what for, source, cost, fairness, scenario.
        let mut cells: Vec<&str> = row.split('|').collect();
        assert_eq!(cells.len(), 8, "{row}");
        let written = format!(" {measured} ");
        if cells[5] != written {
            wrong.push(format!("{name}: {measured}, not {}", cells[5].trim()));
            cells[5] = &written;
            updated = updated.replace(row, &cells.join("|"));
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&readme, updated).expect("the README is writable");
    } else {
        assert!(wrong.is_empty(), "run this test with UPDATE=1:\n{}", wrong.join("\n"));
    }
}
