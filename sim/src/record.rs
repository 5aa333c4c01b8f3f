//! From what a world has counted to the run record.

use std::collections::BTreeMap;

use reports::measure::{Measure, Pods, measure};
use reports::record::{
    self, ErrorCount, EventRecord, ExpectationRecord, Hops, Latency, PodRecord, Quantile, RECORD_VERSION, RunRecord,
    StrategyRecord,
};
use scenarios::{Event, Expect, PodSet, Scenario, Strategy};

use crate::Options;
use crate::world::{Role, World};

impl World<'_> {
    /// What happened, as the record has it.
    pub(crate) fn record(self) -> StrategyRecord {
        let parts = self.into_parts();
        let recorder = parts.recorder;
        let called: Vec<u64> = parts.pods.iter().filter(|p| p.role == Role::Server).map(|p| p.pod.requests).collect();
        let mut of_deployment: BTreeMap<&str, u64> = BTreeMap::new();
        for p in &parts.pods {
            *of_deployment.entry(p.deployment).or_default() += p.pod.requests;
        }
        let seconds = |t: lb_core::Nanos| t.as_secs_f64();
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
        let quantile = |q: f64| recorder.latency.value_at_quantile(q).min(recorder.latency_max.0);
        let percentile = |q: f64| if ok == 0 { 0.0 } else { millis(quantile(q)) };
        StrategyRecord {
            name: parts.strategy.name.clone(),
            summary: summary(parts.strategy),
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
                max: millis(recorder.latency_max.0),
            },
            latency_quantiles: quantiles(ok).map(|quantile| Quantile { quantile, ms: percentile(quantile) }).collect(),
            node_hops: Hops { mean: mean(recorder.hops_sum as f64), max: recorder.hops_max },
            connections: recorder.connections,
            imbalance: reports::measure::imbalance(&called),
            jain: reports::measure::jain(&called),
            pods: pods.collect(),
            timeline,
        }
    }
}

fn millis(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// Where the percentile plot has its points: evenly spaced in nines, 1 − 10^(−k/10), as far as the number of requests
/// can tell.
fn quantiles(requests: u64) -> impl Iterator<Item = f64> {
    (0..=100)
        .map(|k| 1.0 - libm::pow(10.0, -f64::from(k) / 10.0))
        .take_while(move |q| requests > 0 && (1.0 - q) * requests as f64 >= 1.0 - 1e-9)
}

/// A strategy in a few words.
fn summary(strategy: &Strategy) -> String {
    use lb_core::channel::ResolverConfig;
    use scenarios::Balancer;
    let resolver = |config: &ResolverConfig| match config {
        ResolverConfig::Dns(_) => "dns".to_owned(),
        ResolverConfig::StrictDns(c) => format!("strict_dns {}", c.dns_refresh_rate),
    };
    let mut words = match strategy.balancer {
        Balancer::KubeProxy => format!("ClusterIP · client {}", strategy.client.policy.name()),
        Balancer::Client => {
            format!("client {} · {}", strategy.client.policy.name(), resolver(&strategy.client.resolver))
        }
        proxied => {
            let place = match proxied {
                Balancer::Ingress => "ingress proxy",
                Balancer::Sidecar => "sidecar",
                _ => "proxy per node",
            };
            let proxy = strategy.proxy.clone().unwrap_or_default();
            let age = proxy.max_age.map_or_else(String::new, |age| format!(" · its max age {age}"));
            format!("{place} {} · {}{age}", proxy.policy.name(), resolver(&proxy.resolver))
        }
    };
    if let Some(age) = strategy.max_age {
        words.push_str(&format!(" · max age {age}"));
    }
    words
}

/// The record of a run from its strategies'.
pub(crate) fn run_record(scenario: &Scenario, options: &Options, strategies: Vec<StrategyRecord>) -> RunRecord {
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
        reproduce: options.reproduce.clone(),
        events: events(scenario),
        strategies,
        expectations,
    }
}

/// The timeline in words. "scale server 3 → 5" takes the number before from the event before.
fn events(scenario: &Scenario) -> Vec<EventRecord> {
    let mut ordered: Vec<&Event> = scenario.events.iter().collect();
    ordered.sort_by_key(|e| e.at);
    let mut replicas: Vec<(&str, u32)> = scenario.deployments.iter().map(|d| (d.name.as_str(), d.replicas)).collect();
    let mut records = Vec::new();
    for event in ordered {
        let mut say = |label: String| records.push(EventRecord { at_s: event.at.as_secs_f64(), label });
        if let Some(scale) = &event.scale
            && let Some((_, now)) = replicas.iter_mut().find(|(name, _)| *name == scale.deployment)
        {
            say(format!("scale {} {now} → {}", scale.deployment, scale.replicas));
            *now = scale.replicas;
        }
        if let Some(restart) = &event.restart {
            say(format!("restart {}", restart.deployment));
        }
        if let Some(kill) = &event.kill {
            say(format!("kill {} × {}", kill.pods, kill.deployment));
        }
    }
    records
}

fn expectation(scenario: &Scenario, expect: &Expect, strategies: &[StrategyRecord]) -> ExpectationRecord {
    let called = scenario.services.iter().find(|s| s.name == scenario.load.to).map(|s| s.deployments.clone());
    let what = Measure {
        metric: expect.metric.clone(),
        deployments: expect.deployment.clone().map_or(called.unwrap_or_default(), |d| vec![d]),
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
        measure(strategy, scenario.interval.as_secs_f64(), &what)
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
    }
}
