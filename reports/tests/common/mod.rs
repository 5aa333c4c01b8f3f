//! Sample records with the features a report must show. Invented, not simulated, but of the shape a host writes.

#![allow(dead_code, reason = "each test and the example use a part")]

use reports::record::*;
use reports::{imbalance, jain};

/// A little noise that is the same everywhere (Knuth's MMIX constants).
struct Noise(u64);

impl Noise {
    /// 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn around(&mut self, mean: f64, spread: f64) -> f64 {
        mean * (1.0 + spread * (self.next() - 0.5))
    }
}

/// When new pods get their first request after they were created; `None`: never.
type Reached = Option<f64>;

/// What a sample strategy is like.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) initial: usize,
    pub(crate) new: usize,
    pub(crate) reached: Reached,
    /// Only the first server gets requests.
    pub(crate) one_pod: bool,
    pub(crate) p50_ms: f64,
    pub(crate) tail: f64,
    pub(crate) hops: f64,
    pub(crate) failed: u64,
    pub(crate) proxies: usize,
    /// Connections are renewed every so many seconds.
    pub(crate) max_age_s: Option<f64>,
    /// Uneven by chance, as `random` is.
    pub(crate) jitter: f64,
}

pub(crate) const HEADLESS: Sample = Sample {
    name: "headless",
    summary: "client · round_robin · dns",
    initial: 3,
    new: 2,
    reached: None,
    one_pod: false,
    p50_ms: 12.0,
    tail: 2.6,
    hops: 0.67,
    failed: 0,
    proxies: 0,
    max_age_s: None,
    jitter: 0.0,
};

const DURATION_S: f64 = 120.0;
const SCALE_AT_S: f64 = 60.0;

pub(crate) fn strategy(sample: Sample, interval_s: f64, rate_per_s: f64) -> StrategyRecord {
    let mut noise = Noise(sample.name.len() as u64 * 77 + sample.initial as u64);
    let buckets = (DURATION_S / interval_s) as usize;
    let mut pods: Vec<PodRecord> = Vec::new();
    pods.push(pod("client-0", "client", Role::Client, 0.0, Some(0.1)));
    for i in 0..sample.proxies {
        pods.push(pod(&format!("proxy-{i}"), "proxy", Role::Proxy, 0.0, Some(0.1)));
    }
    for i in 0..sample.initial {
        let first = (!sample.one_pod || i == 0).then_some(0.1 + i as f64 * 0.01);
        pods.push(pod(&format!("server-{i}"), "server", Role::Server, 0.0, first));
    }
    for i in 0..sample.new {
        let first = sample.reached.map(|r| SCALE_AT_S + r + i as f64 * 0.7);
        let mut p = pod(&format!("server-{}", sample.initial + i), "server", Role::Server, SCALE_AT_S, first);
        p.started_s = Some(SCALE_AT_S + 1.1);
        p.ready_s = Some(SCALE_AT_S + 2.0 + i as f64 * 0.3);
        p.published_s = Some(SCALE_AT_S + 3.1);
        p.resolved_s = first.map(|f| (f - 0.2).max(SCALE_AT_S + 3.2));
        p.connected_s = first.map(|f| f - 0.05);
        pods.push(p);
    }
    let mut timeline = Timeline { requests_per_pod: vec![vec![0; buckets]; pods.len()], ..Timeline::default() };
    // The first bucket already has every initial pod.
    let quiet_until = interval_s.max(0.2);
    for b in 0..buckets {
        let at = b as f64 * interval_s;
        let using: Vec<usize> = (0..pods.len())
            .filter(|&i| pods[i].role == Role::Server && pods[i].first_request_s.is_some_and(|f| f <= at + quiet_until))
            .collect();
        let total = noise.around(rate_per_s * interval_s, 0.06);
        for &i in &using {
            let part = total / using.len() as f64;
            timeline.requests_per_pod[i][b] = noise.around(part, 0.01 + sample.jitter).round() as u32;
        }
        let sum: u32 = using.iter().map(|&i| timeline.requests_per_pod[i][b]).sum();
        for i in (0..pods.len()).filter(|&i| pods[i].role != Role::Server) {
            let of = pods.iter().filter(|p| p.role == pods[i].role).count() as u32;
            timeline.requests_per_pod[i][b] = sum / of;
        }
        let burst = sample.failed > 0 && (58.0..66.0).contains(&at);
        let failed = if burst { sample.failed as f64 * interval_s / 8.0 } else { 0.0 };
        timeline.failed.push(failed.round() as u32);
        timeline.started.push(sum);
        timeline.ok.push(sum.saturating_sub(failed.round() as u32));
        let load = if burst { 2.4 } else { 3.0 / using.len().max(1) as f64 };
        timeline.p50_ms.push((sum > 0).then(|| noise.around(sample.p50_ms * (0.8 + 0.2 * load), 0.08)));
        timeline.p99_ms.push((sum > 0).then(|| noise.around(sample.p50_ms * sample.tail * load.max(0.7), 0.25)));
        let renewed = sample.max_age_s.map_or(0, |age| u32::from((at / age).fract() < 0.2));
        timeline.opened.push(renewed);
        timeline.connections.push(using.len() as u32 * sample.proxies.max(1) as u32 + renewed);
    }
    for (p, row) in pods.iter_mut().zip(&timeline.requests_per_pod) {
        p.requests = row.iter().map(|&n| u64::from(n)).sum();
    }
    let servers: Vec<u64> = pods.iter().filter(|p| p.role == Role::Server).map(|p| p.requests).collect();
    let total: u64 = servers.iter().sum();
    for p in pods.iter_mut().filter(|p| p.role == Role::Server) {
        p.share = if total > 0 { p.requests as f64 / total as f64 } else { 0.0 };
    }
    let failed = timeline.failed.iter().map(|&n| u64::from(n)).sum();
    let at = |q: f64| {
        // A body that grows slowly and a tail that doubles every nine and a half.
        let nines = -(1.0 - q).log10();
        sample.p50_ms
            * (0.55 + 0.45 * (nines / 0.301).min(1.0))
            * (sample.tail.powi(1) - 1.0).mul_add((nines - 0.301).max(0.0) / 1.7, 1.0)
    };
    let quantiles: Vec<f64> =
        (0..50).map(|i| f64::from(i) / 50.0).chain((0..36).map(|i| 1.0 - 0.02 * 0.8f64.powi(i))).collect();
    StrategyRecord {
        name: sample.name.to_owned(),
        summary: sample.summary.to_owned(),
        requests: Requests { started: total + 10, ok: total - failed, failed },
        errors: if failed > 0 {
            vec![ErrorCount { code: "UNAVAILABLE".to_owned(), reason: "connection closed".to_owned(), count: failed }]
        } else {
            Vec::new()
        },
        latency_ms: Latency {
            mean: sample.p50_ms * 1.1,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: at(0.9999),
        },
        latency_quantiles: quantiles.into_iter().map(|q| Quantile { quantile: q, ms: at(q) }).collect(),
        node_hops: Hops { mean: sample.hops, max: sample.hops.ceil() as u32 },
        connections: Connections {
            opened: servers.len() as u64 * (1 + sample.max_age_s.map_or(0, |age| (DURATION_S / age) as u64)),
            closed: sample.max_age_s.map_or(0, |age| servers.len() as u64 * (DURATION_S / age) as u64),
            goaways: sample.max_age_s.map_or(0, |age| servers.len() as u64 * (DURATION_S / age) as u64),
            peak: timeline.connections.iter().copied().max().unwrap_or(0).into(),
        },
        imbalance: imbalance(&servers),
        jain: jain(&servers),
        splits: Vec::new(),
        configurations: Vec::new(),
        loads: Vec::new(),
        happenings: Vec::new(),
        interventions: Interventions::default(),
        keys_moved: None,
        error_budget_burned: Some(failed as f64 / (total.max(1) as f64 * 0.001)),
        deployments: Vec::new(),
        pods,
        timeline,
    }
}

fn pod(name: &str, deployment: &str, role: Role, created_s: f64, first_request_s: Option<f64>) -> PodRecord {
    PodRecord {
        name: name.to_owned(),
        deployment: deployment.to_owned(),
        version: deployment.to_owned(),
        role,
        node: format!("node-{}", name.len() % 3),
        requests: 0,
        ok: None,
        share: 1.0,
        created_s,
        started_s: Some(created_s),
        ready_s: Some(created_s),
        endpoint_slice_s: None,
        resolvable_s: None,
        learnt: Learnt::Dns,
        published_s: Some(created_s),
        resolved_s: first_request_s,
        connected_s: first_request_s,
        first_request_s,
        deleted_s: None,
        removed_s: None,
    }
}

pub(crate) fn record(scenario: &str, title: &str, strategies: Vec<StrategyRecord>) -> RunRecord {
    RunRecord {
        version: RECORD_VERSION,
        scenario: scenario.to_owned(),
        title: title.to_owned(),
        scenario_hash: "9f1c2ab47e03d5f8".to_owned(),
        scenario_text: format!("title = \"{title}\"\nduration = \"120s\"\n\n[load]\n# <three> & more\n"),
        host: "sim".to_owned(),
        program: "0.1.0".to_owned(),
        seed: 1,
        duration_s: DURATION_S,
        interval_s: 1.0,
        warm_up_s: 0.0,
        reproduce: format!("cargo run -p sim -- scenarios/{scenario}.toml --seed 1"),
        events: vec![EventRecord { at_s: SCALE_AT_S, label: "scale server 3 → 5".to_owned() }],
        strategies,
        expectations: Vec::new(),
        replications: None,
    }
}

pub(crate) fn expect(
    text: &str,
    strategy: &str,
    metric: &str,
    bound: &str,
    measured: Option<f64>,
    holds: bool,
) -> ExpectationRecord {
    ExpectationRecord {
        text: text.to_owned(),
        strategy: strategy.to_owned(),
        metric: metric.to_owned(),
        bound: bound.to_owned(),
        measured,
        holds,
        held: None,
    }
}

/// One strategy whose new pods get nothing.
pub(crate) fn headless() -> RunRecord {
    let mut r = record(
        "headless",
        "Do new pods behind a headless service get traffic when the client balances round robin?",
        vec![strategy(HEADLESS, 1.0, 343.0)],
    );
    r.expectations = vec![
        expect(
            "the three first servers share evenly",
            "headless",
            "imbalance of initial server pods until 60 s",
            "<= 1.01",
            Some(1.002),
            true,
        ),
        expect(
            "the two new pods get no request for the rest of the run",
            "headless",
            "pods.requests of new server pods from 60 s",
            "== 0",
            Some(0.0),
            true,
        ),
        expect("no request fails", "headless", "requests.failed", "== 0", Some(0.0), true),
    ];
    r
}

/// Seven strategies under one workload.
pub(crate) fn strategies() -> RunRecord {
    let samples = [
        HEADLESS,
        Sample {
            name: "clusterip",
            summary: "kube-proxy · one connection",
            one_pod: true,
            tail: 4.0,
            p50_ms: 14.0,
            ..HEADLESS
        },
        Sample {
            name: "max-age",
            summary: "client · round_robin · dns · max age 10 s",
            reached: Some(14.2),
            max_age_s: Some(10.0),
            ..HEADLESS
        },
        Sample {
            name: "ingress",
            summary: "ingress proxy · round_robin · strict dns",
            reached: Some(6.1),
            proxies: 1,
            hops: 1.4,
            p50_ms: 15.5,
            ..HEADLESS
        },
        Sample {
            name: "ingress-max-age",
            summary: "ingress proxy · max age 10 s",
            reached: Some(6.3),
            proxies: 3,
            hops: 1.6,
            p50_ms: 15.7,
            max_age_s: Some(10.0),
            failed: 40,
            ..HEADLESS
        },
        Sample {
            name: "sidecar",
            summary: "sidecar · round_robin · strict dns",
            reached: Some(5.9),
            proxies: 1,
            p50_ms: 12.4,
            tail: 2.3,
            ..HEADLESS
        },
        Sample {
            name: "node-proxy",
            summary: "node proxy · random · strict dns",
            reached: Some(6.0),
            proxies: 3,
            p50_ms: 12.9,
            jitter: 0.6,
            ..HEADLESS
        },
    ];
    let mut r = record(
        "strategies",
        "Where should the choice of a backend be made?",
        samples.into_iter().map(|s| strategy(s, 1.0, 343.0)).collect(),
    );
    for (i, s) in samples.iter().enumerate() {
        r.expectations.push(expect(
            if s.reached.is_some() { "new pods get their part" } else { "new pods get nothing" },
            s.name,
            "share.min of new server pods from 90 s",
            if s.reached.is_some() { ">= 0.19" } else { "== 0" },
            Some(if s.reached.is_some() { 0.1995 } else { 0.0 }),
            i != 6,
        ));
    }
    r.events.push(EventRecord { at_s: 75.0, label: "scale proxy 1 → 3".to_owned() });
    r.events.push(EventRecord { at_s: 90.0, label: "restart client".to_owned() });
    r
}

/// Three strategies, six expectations: what must fit the first screen.
pub(crate) fn three() -> RunRecord {
    let all = strategies();
    let mut r = record(
        "three",
        "Which of client, sidecar and ingress reaches new pods first?",
        [0, 5, 4].into_iter().map(|i| all.strategies[i].clone()).collect(),
    );
    r.expectations = vec![
        expect(
            "the two new pods get no request for the rest of the run",
            "headless",
            "pods.requests of new server pods from 60 s",
            "== 0",
            Some(0.0),
            true,
        ),
        expect(
            "new pods get traffic within 10 s",
            "sidecar",
            "time_to_traffic_s.max of new server pods",
            "<= 10",
            Some(6.6),
            true,
        ),
        expect(
            "new pods get traffic within 10 s",
            "ingress-max-age",
            "time_to_traffic_s.max of new server pods",
            "<= 10",
            Some(7.0),
            true,
        ),
        expect(
            "every server ends within 1 % of even",
            "sidecar",
            "imbalance of server pods from 80 s",
            "<= 1.01",
            Some(1.0019),
            true,
        ),
        expect("no request fails", "ingress-max-age", "requests.failed", "== 0", Some(40.0), false),
        expect("the proxy adds up to two node hops", "ingress-max-age", "node_hops.max", "<= 3", Some(2.0), true),
    ];
    r
}

/// A hundred pods, ten of them new, unevenly used.
pub(crate) fn hundred() -> RunRecord {
    let mut r = record(
        "hundred",
        "Does random spread well over a hundred pods?",
        vec![
            strategy(
                Sample { name: "random", initial: 90, new: 10, reached: Some(8.0), jitter: 0.9, ..HEADLESS },
                1.0,
                9000.0,
            ),
            strategy(Sample { name: "round_robin", initial: 90, new: 10, reached: Some(8.0), ..HEADLESS }, 1.0, 9000.0),
        ],
    );
    r.events[0].label = "scale server 90 → 100".to_owned();
    r
}

/// Nothing happened at all.
pub(crate) fn empty() -> RunRecord {
    let mut r = record("empty", "What is in nothing?", vec![]);
    r.events.clear();
    r
}

/// A canary that fails a part of what it gets, beside a stable deployment.
pub(crate) fn canary() -> RunRecord {
    let mut record = headless();
    record.scenario = "canary".to_owned();
    for s in &mut record.strategies {
        let of = |name: &str, part: u32, failing: u32| {
            let requests: Vec<u32> = s.timeline.ok.iter().map(|n| n * part / 10).collect();
            let failed: Vec<u32> = requests.iter().map(|n| n * failing / 100).collect();
            let sum = |series: &[u32]| series.iter().map(|&n| u64::from(n)).sum::<u64>();
            let (all, bad) = (sum(&requests), sum(&failed));
            DeploymentRecord {
                name: name.to_owned(),
                service: "server".to_owned(),
                requests: all,
                ok: all - bad,
                failed: bad,
                error_rate: Some(bad as f64 / all as f64),
                share: f64::from(part) / 10.0,
                detect_requests: reports::canary::requests_to_detect(0.1, 0.0, f64::from(failing) / 100.0),
                latency_ms: DeploymentLatency { mean: 11.0, p50: 10.0, p90: 20.0, p99: 30.0 },
                timeline: DeploymentTimeline { p99_ms: vec![Some(30.0); requests.len()], requests, failed },
                ..DeploymentRecord::default()
            }
        };
        s.deployments = vec![of("server", 9, 0), of("server-canary", 1, 25)];
    }
    record
}
