//! What every policy costs, as a table: a pick and its end at 10 to 10,000 ready endpoints, beside the floor (the atomics and
//! random numbers that the decision cannot do without); two threads on one picker; an update of 10,000 endpoints of which one has
//! changed.
//!
//! `cargo bench -p lb-core --bench table` takes some minutes; a name after `--` restricts it to policies with that in their
//! names. With `PEERS` set to a program that prints lines of `case TAB endpoints TAB threads TAB median_ns`, other libraries are
//! measured in the same run, in turns with ours, and set against them as ratios.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use lb_core::{
    Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, LoadReport, Nanos, Outcome, Pick,
    PickContext, Picker, Policy, PolicyConfig,
};
use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use xxhash_rust::xxh64::xxh64;

const SIZES: [u32; 4] = [10, 100, 1_000, 10_000];
/// Measurements of one case, of which the median counts.
const REPETITIONS: usize = 5;
/// Length of one.
const TARGET: Duration = Duration::from_millis(40);
const KEYS: usize = 65_536;

/// A policy with other settings than its own, by a label that begins with its name. `160n` stands for that many times the number
/// of endpoints.
const VARIANTS: &[(&str, &str)] = &[
    ("round_robin, by worker", r#"{"round_robin": {"turns": "worker"}}"#),
    ("least_request, full scan", r#"{"least_request": {"selection_method": "full_scan"}}"#),
    ("least_request, by weight", r#"{"least_request": {"active_request_bias": 1}}"#),
    ("weighted_round_robin, edf", r#"{"weighted_round_robin": {"scheduler": "edf"}}"#),
    ("ring_hash, 160 points each", r#"{"ring_hash": {"min_ring_size": 160n, "max_ring_size": 160n}}"#),
    (
        "outlier_detection, all rules",
        r#"{"outlier_detection": {"success_rate_ejection": {}, "failure_percentage_ejection": {}, "consecutive_5xx": 5}}"#,
    ),
    ("failure_accrual around round_robin", r#"{"failure_accrual": {"child_policy": "round_robin"}}"#),
    (
        "failure_accrual around round_robin, by rate",
        r#"{"failure_accrual": {"success_rate": {}, "child_policy": "round_robin"}}"#,
    ),
];

/// What stands for a policy among the peers' cases.
const RIVALS: &[(&str, &[&str])] = &[
    ("p2c_peak_ewma", &["floor/p2c SmallRng + 2 loads + in-flight inc/dec, padded", "tower/p2c PeakEwma, usize key"]),
    (
        "least_request",
        &["floor/p2c SmallRng + 2 loads + in-flight inc/dec, padded", "tower/p2c PendingRequests, usize key"],
    ),
    ("random", &["floor/p2c SmallRng + 2 atomic loads", "pingora/Random LoadBalancer::select"]),
    ("round_robin", &["floor/rr fetch_add + modulo", "pingora/RoundRobin LoadBalancer::select"]),
    ("weighted_round_robin", &["pingora/RoundRobin weights 1-5 LoadBalancer::select"]),
    (
        "ring_hash",
        &[
            "pingora/Consistent (ketama) LoadBalancer::select",
            "ketama/pingora-ketama V1 node",
            "hashring/get, 160 vnodes",
        ],
    ),
    ("ring_hash, 160 points each", &["ketama/pingora-ketama V1 node", "hashring/get, 160 vnodes"]),
    ("maglev", &["maglev/get, M=65,537"]),
];

/// The same for updates of 10,000 endpoints.
const UPDATE_RIVALS: &[(&str, &str)] = &[
    ("round_robin", "update/pingora/RoundRobin LoadBalancer::update, 1 of N changed"),
    ("ring_hash, 160 points each", "update/pingora/Consistent (ketama) LoadBalancer::update, 1 of N changed"),
    ("ring_hash, 160 points each", "update/ketama/pingora-ketama V1 build"),
];

fn main() {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let floors = floors();
    let named = PolicyConfig::NAMES.iter().map(|name| ((*name).to_owned(), format!("{name:?}")));
    let variants = VARIANTS.iter().map(|(label, json)| ((*label).to_owned(), (*json).to_owned()));
    let cases: Vec<(String, String)> = named.chain(variants).filter(|(label, _)| label.contains(&wanted)).collect();

    println!(
        "floors, ns: {}",
        floors.iter().map(|(name, ns)| format!("{name} {ns:.1}")).collect::<Vec<_>>().join(" · ")
    );
    println!(
        "\n| policy | 10 | 100 | 1,000 | 10,000 endpoints, ns | growth | of the floor | 2 threads | update of 10,000, ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut ours = BTreeMap::new();
    let mut updates = BTreeMap::new();
    for (label, json) in &cases {
        let config = |n: u32| -> PolicyConfig {
            serde_json::from_str(&json.replace("160n", &(160 * n).to_string())).expect("settings")
        };
        let times = SIZES.map(|n| median(|| one_thread(&config(n), n)));
        let two = median(|| two_threads(&config(100)));
        let update = update_ms(&config(10_000));
        let floor = floor_of(config(100).name())
            .map_or_else(|| "–".to_owned(), |name| format!("{:.2}", times[1] / floors[name]));
        println!(
            "| {label} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2} | {floor} | {:.2}× | {update:.2} |",
            times[0],
            times[1],
            times[2],
            times[3],
            times[3] / times[0],
            2.0 * times[1] / two,
        );
        ours.insert(label.as_str(), times);
        updates.insert(label.as_str(), update * 1e6);
    }
    if let Some(peers) = std::env::var_os("PEERS") {
        let theirs = peers_rows(&peers);
        println!("\n| against | peer, ns (ratio) at 10 | 100 | 1,000 | 10,000 |\n|---|---|---|---|---|");
        for (label, rivals) in RIVALS.iter().filter(|(label, _)| ours.contains_key(label)) {
            for rival in *rivals {
                let cell = |(n, own): (u32, f64)| {
                    theirs.get(&(rival.to_string(), n)).map_or("–".into(), |ns| format!("{ns:.0} ({:.1}×)", ns / own))
                };
                let cells: Vec<String> = SIZES.into_iter().zip(ours[label]).map(cell).collect();
                println!("| {label}: {rival} | {} |", cells.join(" | "));
            }
        }
        for (label, rival) in UPDATE_RIVALS.iter().filter(|(label, _)| updates.contains_key(label)) {
            if let Some(ns) = theirs.get(&((*rival).to_owned(), 10_000)) {
                println!("| {label}: {rival} | | | | {:.2} ms ({:.1}×) |", ns / 1e6, ns / updates[label]);
            }
        }
    }
}

/// Endpoint `i`; another address for another `generation`.
fn endpoint(i: u32, generation: u32) -> Endpoint {
    let [_, a, b, c] = i.to_be_bytes();
    Endpoint::new(EndpointId(i), Address::new(&format!("10.{a}.{b}.{c}:{}", 8080 + generation))).with_weight(1 + i % 5)
}

/// The policy over `n` ready endpoints, and its picker once everything has been asked for.
fn ready(config: &PolicyConfig, n: u32) -> (Box<dyn Policy>, Arc<dyn Picker>) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut cx = Context::new(Nanos::ZERO, &mut rng);
    let mut policy = config.build();
    policy.update(&mut cx, &EndpointSet::new((0..n).map(|i| endpoint(i, 0))));
    for i in 0..n {
        policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
    }
    let picker = policy.picker(&mut cx);
    (policy, picker)
}

/// Hashes of requests: 16 random bytes each, hashed when picked.
fn keys() -> Vec<[u8; 16]> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
    let mut key = || {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
        bytes[8..].copy_from_slice(&rng.next_u64().to_le_bytes());
        bytes
    };
    (0..KEYS).map(|_| key()).collect()
}

/// One request after the other: picked, the probes that it asks for answered, and done.
fn requests(picker: &dyn Picker, probes: bool, keys: Option<&[[u8; 16]]>, seed: u64) -> impl FnMut(u64) {
    let outcome = Outcome::new(Code::Ok, Nanos::from_millis(1));
    let load = LoadReport { in_flight: Some(3), latency: Some(Nanos::from_millis(1)), ..LoadReport::default() };
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    move |i| {
        // A clock that moves on, as averages that decay would not otherwise be computed.
        let now = Nanos(1_000 * i);
        let mut cx = PickContext::new(black_box(now), &mut rng);
        cx.hash = keys.map(|keys| xxh64(&keys[i as usize % KEYS], 0));
        cx.worker = seed as u32;
        let pick = black_box(picker.pick(&mut cx));
        if probes {
            cx.asks.probes().iter().for_each(|&id| picker.probed(id, now, &load));
        }
        if let Pick::Endpoint(id) = pick {
            picker.done(id, now, &outcome);
        }
    }
}

/// Nanoseconds of a round, over as many as fill the time.
fn time(mut round: impl FnMut(u64)) -> f64 {
    let mut rounds = 1_000;
    loop {
        let start = Instant::now();
        (0..rounds).for_each(&mut round);
        let elapsed = start.elapsed();
        if elapsed >= TARGET {
            return elapsed.as_nanos() as f64 / rounds as f64;
        }
        rounds *= 2;
    }
}

fn median(mut measure: impl FnMut() -> f64) -> f64 {
    let mut times: Vec<f64> = (0..REPETITIONS).map(|_| measure()).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn one_thread(config: &PolicyConfig, n: u32) -> f64 {
    let (_policy, picker) = ready(config, n);
    let keys = config.needs().hash.then(keys);
    time(requests(&*picker, config.needs().oob_load, keys.as_deref(), 2))
}

/// Nanoseconds of a request while another thread uses the same picker, at 100 endpoints.
fn two_threads(config: &PolicyConfig) -> f64 {
    let (_policy, picker) = ready(config, 100);
    let keys = config.needs().hash.then(keys);
    let start = Barrier::new(2);
    let rounds = 400_000u64;
    let times: Vec<f64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|seed| {
                let (picker, keys, start) = (&*picker, keys.as_deref(), &start);
                scope.spawn(move || {
                    let mut round = requests(picker, config.needs().oob_load, keys, seed);
                    (0..rounds / 20).for_each(&mut round);
                    start.wait();
                    let begun = Instant::now();
                    (0..rounds).for_each(&mut round);
                    begun.elapsed().as_nanos() as f64 / rounds as f64
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("no panic")).collect()
    });
    times.iter().sum::<f64>() / times.len() as f64
}

/// Milliseconds from a new list of 10,000 endpoints, of which one has changed, to the picker for it.
fn update_ms(config: &PolicyConfig) -> f64 {
    let n = 10_000;
    let (mut policy, _picker) = ready(config, n);
    let mut endpoints: Vec<Endpoint> = (0..n).map(|i| endpoint(i, 0)).collect();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    let mut times: Vec<f64> = (1..=31u32)
        .map(|generation| {
            let changed = generation * 797 % n;
            endpoints[changed as usize] = endpoint(changed, generation);
            let mut cx = Context::new(Nanos::from_secs(u64::from(generation)), &mut rng);
            let snapshot = EndpointSet::new(endpoints.iter().cloned());
            let begun = Instant::now();
            policy.update(&mut cx, &snapshot);
            policy.connectivity(&mut cx, EndpointId(changed), Connectivity::Ready);
            black_box(policy.picker(&mut cx));
            begun.elapsed().as_nanos() as f64 / 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[repr(align(64))]
struct Padded(AtomicU64);

/// The bare operations, at 100 endpoints.
fn floors() -> BTreeMap<&'static str, f64> {
    let n = black_box(100usize);
    let below = |r: u32, n: usize| ((u64::from(r) * n as u64) >> 32) as usize;
    let two = |r: u64| {
        let (a, b) = (below(r as u32, n), below((r >> 32) as u32, n - 1));
        (a, b + usize::from(b >= a))
    };
    let counts: Vec<Padded> = (0..n).map(|_| Padded(AtomicU64::new(0))).collect();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
    let keys = keys();
    let mut floors = BTreeMap::new();
    floors.insert(
        "two loads",
        median(|| {
            time(|_| {
                let (a, b) = two(rng.next_u64());
                black_box(if counts[a].0.load(Relaxed) <= counts[b].0.load(Relaxed) { a } else { b });
            })
        }),
    );
    floors.insert(
        "two loads and a count",
        median(|| {
            time(|_| {
                let (a, b) = two(rng.next_u64());
                let pick = if counts[a].0.load(Relaxed) <= counts[b].0.load(Relaxed) { a } else { b };
                counts[pick].0.fetch_add(1, Relaxed);
                black_box(pick);
                counts[pick].0.fetch_sub(1, Relaxed);
            })
        }),
    );
    let next = AtomicUsize::new(0);
    floors.insert(
        "fetch_add and modulo",
        median(|| {
            time(|_| {
                black_box(next.fetch_add(1, Relaxed) % n);
            })
        }),
    );
    let table: Vec<u32> = (0..65_537).map(|_| below(rng.next_u32(), n) as u32).collect();
    floors.insert(
        "table",
        median(|| {
            time(|i| {
                let hash = xxh64(&keys[i as usize % KEYS], 0);
                black_box(table[(hash % 65_537) as usize]);
            })
        }),
    );
    let mut ring: Vec<(u64, u32)> = (0..n as u32 * 160).map(|i| (rng.next_u64(), i / 160)).collect();
    ring.sort_unstable();
    floors.insert(
        "binary search",
        median(|| {
            time(|i| {
                let hash = xxh64(&keys[i as usize % KEYS], 0);
                let at = ring.partition_point(|point| point.0 < hash);
                black_box(ring[if at == ring.len() { 0 } else { at }].1);
            })
        }),
    );
    floors
}

fn floor_of(policy: &str) -> Option<&'static str> {
    match policy {
        "random" => Some("two loads"),
        "round_robin" | "weighted_round_robin" | "client_side_weighted_round_robin" => Some("fetch_add and modulo"),
        "least_request" | "p2c_peak_ewma" | "utilization_p2c" => Some("two loads and a count"),
        "ring_hash" => Some("binary search"),
        "maglev" => Some("table"),
        _ => None,
    }
}

/// The peers' medians on one thread, by case and number of endpoints (0 where that plays no part).
fn peers_rows(program: &std::ffi::OsStr) -> BTreeMap<(String, u32), f64> {
    let output = Command::new(program).output().expect("PEERS names a program");
    let text = String::from_utf8_lossy(&output.stdout);
    let row = |line: &str| {
        let mut cells = line.split('\t');
        let (case, n, threads, ns) = (cells.next()?, cells.next()?, cells.next()?, cells.next()?);
        (threads == "1").then_some(((case.to_owned(), n.parse().ok()?), ns.parse().ok()?))
    };
    text.lines().filter_map(row).collect()
}
