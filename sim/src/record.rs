//! From what a world has counted to the run record.

use std::collections::BTreeMap;

use lb_core::Nanos;
use reports::measure::{Measure, Pods, measure};
use reports::record::{
    self, ConfigurationRecord, ErrorCount, EventRecord, ExpectationRecord, Hops, Latency, PodRecord, Quantile,
    RECORD_VERSION, RunRecord, SplitPart, SplitRecord, StrategyRecord, Times,
};
use scenarios::{Expect, PodSet, Scenario};

use crate::Options;
use crate::world::{Role, Split, World};

impl World<'_> {
    /// What happened, as the record has it.
    pub(crate) fn record(self) -> StrategyRecord {
        let parts = self.into_parts();
        let recorder = parts.recorder;
        let warm_up = recorder.warm_up_buckets();
        let after = |series: &[u32]| series.iter().skip(warm_up).map(|&n| u64::from(n)).sum();
        let servers = parts.pods.iter().filter(|p| p.role == Role::Server);
        let called: Vec<u64> = servers.map(|p| after(&p.pod.series)).collect();
        let mut of_deployment: BTreeMap<&str, u64> = BTreeMap::new();
        for p in &parts.pods {
            *of_deployment.entry(p.deployment).or_default() += p.pod.requests;
        }
        let seconds = |t: Nanos| t.as_secs_f64();
        let pods = parts.pods.iter().map(|p| {
            let total = of_deployment[p.deployment];
            let moments = &p.pod.moments;
            PodRecord {
                name: p.pod.name.clone(),
                deployment: p.deployment.to_owned(),
                role: match p.role {
                    Role::Client => record::Role::Client,
                    Role::Server => record::Role::Server,
                    Role::Proxy => record::Role::Proxy,
                    Role::Support => record::Role::Support,
                },
                node: format!("node-{}", p.pod.node),
                requests: p.pod.requests,
                share: if total == 0 { 0.0 } else { p.pod.requests as f64 / total as f64 },
                created_s: seconds(moments.created),
                started_s: moments.started.map(seconds),
                ready_s: moments.ready.map(seconds),
                published_s: moments.published.map(seconds),
                resolved_s: moments.resolved.map(seconds),
                connected_s: moments.connected.map(seconds),
                first_request_s: moments.first_request.map(seconds),
                removed_s: moments.removed.map(seconds),
            }
        });
        let mut timeline = recorder.timeline;
        timeline.requests_per_pod = parts.pods.iter().map(|p| p.pod.series.clone()).collect();
        let ok = recorder.requests.ok;
        let mean = |sum: f64| if ok == 0 { 0.0 } else { sum / ok as f64 };
        // The histogram gives the upper end of a value's class, which for the slowest is above the slowest.
        let quantile = |q: f64| Nanos(recorder.latency.value_at_quantile(q)).min(recorder.latency_max);
        let percentile = |q: f64| if ok == 0 { 0.0 } else { quantile(q).as_millis_f64() };
        StrategyRecord {
            name: parts.strategy.name.clone(),
            summary: parts.strategy.summary(),
            requests: recorder.requests,
            errors: recorder
                .errors
                .iter()
                .map(|(end, &count)| {
                    let (code, reason) = end.describe();
                    ErrorCount { code: code.into(), reason: reason.into(), count }
                })
                .collect(),
            latency_ms: Latency {
                mean: mean(recorder.latency_sum as f64 / 1e6),
                p50: percentile(0.5),
                p90: percentile(0.9),
                p99: percentile(0.99),
                p999: percentile(0.999),
                max: recorder.latency_max.as_millis_f64(),
            },
            latency_quantiles: reports::measure::quantile_points(ok)
                .map(|quantile| Quantile { quantile, ms: percentile(quantile) })
                .collect(),
            node_hops: Hops { mean: mean(recorder.hops_sum as f64), max: recorder.hops_max },
            connections: recorder.connections,
            imbalance: reports::measure::imbalance(&called),
            jain: reports::measure::jain(&called),
            pods: pods.collect(),
            splits: parts.splits.iter().map(split).collect(),
            configurations: recorder
                .configurations
                .iter()
                .map(|(at, last)| ConfigurationRecord { at_s: seconds(*at), last_s: last.map(seconds) })
                .collect(),
            timeline,
        }
    }
}

fn split(split: &Split) -> SplitRecord {
    let all: u64 = split.parts.iter().map(|part| part.requests).sum();
    let parts = split.parts.iter().map(|part| SplitPart {
        name: part.name.clone(),
        configured: part.configured,
        effective: part.effective,
        requests: part.requests,
        measured: if all == 0 { 0.0 } else { part.requests as f64 / all as f64 },
    });
    SplitRecord {
        route: split.route.clone(),
        from_s: split.from.as_secs_f64(),
        until_s: split.until.unwrap_or(split.from).as_secs_f64(),
        parts: parts.collect(),
    }
}

/// The record of a run from its strategies'.
pub(crate) fn run_record(scenario: &Scenario, options: &Options, strategies: Vec<StrategyRecord>) -> RunRecord {
    let timeline = scenario.timeline().into_iter();
    let expectations = scenario.expectations.iter().map(|expect| expectation(scenario, expect, &strategies)).collect();
    RunRecord {
        version: RECORD_VERSION,
        scenario: options.name.clone(),
        title: scenario.title.clone(),
        scenario_hash: options.hash.clone(),
        scenario_text: options.text.clone(),
        host: "sim".to_owned(),
        program: format!("sim {}", env!("CARGO_PKG_VERSION")),
        seed: options.seed,
        duration_s: scenario.duration.as_secs_f64(),
        interval_s: scenario.interval.as_secs_f64(),
        warm_up_s: scenario.warm_up.as_secs_f64(),
        reproduce: options.reproduce.clone(),
        events: timeline.map(|(at, label)| EventRecord { at_s: at.as_secs_f64(), label }).collect(),
        strategies,
        expectations,
        replications: None,
    }
}

fn times(scenario: &Scenario) -> Times {
    Times {
        duration_s: scenario.duration.as_secs_f64(),
        interval_s: scenario.interval.as_secs_f64(),
        warm_up_s: scenario.warm_up.as_secs_f64(),
    }
}

fn expectation(scenario: &Scenario, expect: &Expect, strategies: &[StrategyRecord]) -> ExpectationRecord {
    let answering = || scenario.answering().into_iter().map(str::to_owned).collect();
    let what = Measure {
        metric: expect.metric.clone(),
        deployments: expect.deployment.clone().map_or_else(answering, |d| vec![d]),
        pods: match expect.pods {
            PodSet::All => Pods::All,
            PodSet::Initial => Pods::Initial,
            PodSet::New => Pods::New,
        },
        from_s: expect.from.map(|t| t.as_secs_f64()),
        until_s: expect.until.map(|t| t.as_secs_f64()),
    };
    let value = |name: &str| {
        let strategy = strategies.iter().find(|s| s.name == name)?;
        measure(strategy, times(scenario), &what)
    };
    let measured = match &expect.against {
        None => value(&expect.strategy),
        // A ratio to nothing is nothing that can be measured.
        Some(other) => value(&expect.strategy).zip(value(other)).map(|(a, b)| a / b).filter(|r| r.is_finite()),
    };
    let metric = match &expect.against {
        None => what.describe(),
        Some(other) => format!("{}, relative to {other}", what.describe()),
    };
    ExpectationRecord {
        text: expect.text.clone(),
        strategy: expect.strategy.clone(),
        metric,
        bound: expect.bound.to_string(),
        measured,
        holds: measured.is_some_and(|value| expect.bound.holds(value)),
        held: None,
    }
}
