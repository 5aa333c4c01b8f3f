//! From what a world has counted to the run record.

use std::collections::BTreeMap;

use lb_core::Nanos;
use reports::measure::{Measure, Pods, measure};
use reports::record::{
    self, ConfigurationRecord, DeploymentLatency, DeploymentRecord, EventRecord, ExpectationRecord, Hops, Latency,
    LoadRecord, PodRecord, Quantile, RECORD_VERSION, RunRecord, SplitPart, SplitRecord, StrategyRecord,
};
use scenarios::{Expect, Load, Metric, PodSet, Scenario};

use crate::Options;
use crate::world::{Latencies, OfDeployment, Role, Split, Tally, World};

impl World<'_> {
    /// What happened, as the record has it.
    pub(crate) fn record(self) -> StrategyRecord {
        let duration = self.duration();
        let parts = self.into_parts();
        let mut recorder = parts.recorder;
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
            // What lies behind the pod's end or the run's never came to be; unless its name still led to it when it was gone.
            let resolvable = moments.resolvable.filter(|at| {
                *at < duration && (moments.removed.is_none_or(|end| *at <= end) || moments.resolved.is_some())
            });
            PodRecord {
                name: p.pod.name.clone(),
                deployment: p.deployment.to_owned(),
                version: p.pod.version().to_owned(),
                role: match p.role {
                    Role::Client => record::Role::Client,
                    Role::Server => record::Role::Server,
                    Role::Proxy => record::Role::Proxy,
                    Role::Support => record::Role::Support,
                },
                learnt: p.learnt,
                node: format!("node-{}", p.pod.node),
                requests: p.pod.requests,
                ok: (p.role == Role::Client).then_some(p.pod.ok),
                share: if total == 0 { 0.0 } else { p.pod.requests as f64 / total as f64 },
                created_s: seconds(moments.created),
                started_s: moments.started.map(seconds),
                ready_s: moments.ready.map(seconds),
                endpoint_slice_s: moments.sliced.map(seconds),
                published_s: moments.published.map(seconds),
                resolvable_s: resolvable.map(seconds),
                resolved_s: moments.resolved.map(seconds),
                connected_s: moments.connected.map(seconds),
                first_request_s: moments.first_request.map(seconds),
                deleted_s: moments.deleted.map(seconds),
                removed_s: moments.removed.map(seconds),
            }
        });
        let mut timeline = recorder.timeline;
        timeline.requests_per_pod = parts.pods.iter().map(|p| p.pod.series.clone()).collect();
        let all = Tally::sum(&recorder.loads);
        let deployments = deployments(parts.scenario, &parts.servers, &mut recorder.deployments, &all);
        // Loads may have objectives of their own: what is allowed is the sum of what each allows.
        let ended = |tally: &Tally| tally.requests.ok + tally.requests.failed;
        let of_loads = recorder.loads.iter().zip(&parts.scenario.loads);
        let allowed: f64 = of_loads.map(|(tally, load)| ended(tally) as f64 * (1.0 - load.slo)).sum();
        let error_budget_burned = (allowed > 0.0).then(|| all.requests.failed as f64 / allowed);
        let ok = all.requests.ok;
        let by_load = |(i, (load, tally)): (usize, (&Load, &Tally))| LoadRecord {
            name: load.name().to_owned(),
            from: load.from.clone(),
            to: load.to.clone(),
            requests: tally.requests,
            errors: tally.errors(),
            latency_ms: tally.latency_ms(),
            goodput_per_s: tally.requests.ok as f64
                / parts.scenario.duration.since(parts.scenario.warm_up).as_secs_f64(),
            requests_per_pod: parts.pods.iter().map(|p| p.pod.of_load(i)).collect(),
        };
        StrategyRecord {
            name: parts.strategy.name.clone(),
            summary: parts.strategy.summary(parts.scenario),
            requests: all.requests,
            errors: all.errors(),
            latency_ms: all.latency_ms(),
            latency_quantiles: reports::measure::quantile_points(ok)
                .map(|quantile| Quantile { quantile, ms: all.percentile_ms(quantile) })
                .collect(),
            node_hops: Hops {
                mean: if ok == 0 { 0.0 } else { recorder.hops_sum as f64 / ok as f64 },
                max: recorder.hops_max,
            },
            connections: recorder.connections,
            imbalance: reports::measure::imbalance(&called),
            jain: reports::measure::jain(&called),
            loads: parts.scenario.loads.iter().zip(&recorder.loads).enumerate().map(by_load).collect(),
            happenings: recorder
                .happenings
                .iter()
                .map(|(at, label)| EventRecord { at_s: seconds(*at), label: label.clone() })
                .collect(),
            interventions: recorder.interventions,
            keys_moved: parts.keys_moved,
            error_budget_burned,
            deployments,
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

/// What became of the requests that reached each of the deployments that answer.
fn deployments(
    scenario: &Scenario,
    servers: &[(usize, &str)],
    counted: &mut [OfDeployment],
    run: &Tally,
) -> Vec<DeploymentRecord> {
    let called = scenario.called();
    // One that only routes lead to answers what clients call.
    let selecting = |name: &str| called.iter().find(|s| s.deployments.iter().any(|d| d == name)).or(called.first());
    let service = |name: &str| selecting(name).map(|s| s.name.clone());
    let mut records: Vec<DeploymentRecord> = Vec::new();
    for &(index, name) in servers {
        let of = std::mem::take(&mut counted[index]);
        let latency_ms = match &of.latencies {
            _ if of.ok == 0 => DeploymentLatency::default(),
            // All requests are of the one deployment.
            None => {
                let Latency { mean, p50, p90, p99, .. } = run.latency_ms();
                DeploymentLatency { mean, p50, p90, p99 }
            }
            Some(Latencies { all, sum, .. }) => {
                let percentile = |q| Nanos(all.value_at_quantile(q)).as_millis_f64();
                let mean = *sum as f64 / 1e6 / of.ok as f64;
                DeploymentLatency { mean, p50: percentile(0.5), p90: percentile(0.9), p99: percentile(0.99) }
            }
        };
        let requests = of.ok + of.failed;
        records.push(DeploymentRecord {
            name: name.to_owned(),
            service: service(name).unwrap_or_default(),
            role: record::Role::Server,
            requests,
            ok: of.ok,
            failed: of.failed,
            error_rate: (requests > 0).then(|| of.failed as f64 / requests as f64),
            share: 0.0,
            detect_requests: None,
            latency_ms,
            timeline: of.timeline,
        });
    }
    let mut of_service: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for record in &records {
        let (requests, failed) = of_service.entry(record.service.clone()).or_default();
        *requests += record.requests;
        *failed += record.failed;
    }
    for record in &mut records {
        let (all, failed) = of_service[&record.service];
        record.share = if all == 0 { 0.0 } else { record.requests as f64 / all as f64 };
        let rest = (all - record.requests, failed - record.failed);
        record.detect_requests = reports::canary::told_after((record.requests, record.failed), rest);
    }
    records
}

/// The record of a run from its strategies'.
pub(crate) fn run_record(scenario: &Scenario, options: &Options, strategies: Vec<StrategyRecord>) -> RunRecord {
    let timeline = scenario.timeline().into_iter();
    let mut record = RunRecord {
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
        expectations: Vec::new(),
        replications: None,
    };
    record.expectations = scenario.expectations.iter().map(|expect| expectation(scenario, expect, &record)).collect();
    record
}

fn expectation(scenario: &Scenario, expect: &Expect, record: &RunRecord) -> ExpectationRecord {
    let of_callers = Metric::named(&expect.metric).is_some_and(|metric| metric.of_callers);
    let meant = || match of_callers {
        true => scenario.calling(),
        false => scenario.answering(),
    };
    let meant = || meant().into_iter().map(str::to_owned).collect();
    let what = Measure {
        metric: expect.metric.clone(),
        load: expect.load.clone(),
        deployments: expect.deployment.clone().map_or_else(meant, |d| vec![d]),
        pods: match expect.pods {
            PodSet::All => Pods::All,
            PodSet::Initial => Pods::Initial,
            PodSet::New => Pods::New,
        },
        from_s: expect.from.map(|t| t.as_secs_f64()),
        until_s: expect.until.map(|t| t.as_secs_f64()),
    };
    let value = |name: &str| {
        let strategy = record.strategies.iter().find(|s| s.name == name)?;
        measure(strategy, record.times(), &what)
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
