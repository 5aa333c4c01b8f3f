//! Whatever a record holds, drawing and measuring it does not panic, and the page stays well formed.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use reports::record::*;
use reports::{Measure, Pods, measure};

/// Those that JSON can write.
fn finite() -> BoxedStrategy<f64> {
    prop_oneof![
        4 => 0.0..200.0f64,
        1 => Just(0.0),
        1 => Just(1.0),
        1 => -10.0..10.0f64,
        1 => prop_oneof![Just(f64::MAX), Just(f64::MIN), Just(f64::MIN_POSITIVE), Just(1e15)],
    ]
    .boxed()
}

fn number() -> BoxedStrategy<f64> {
    prop_oneof![40 => finite(), 1 => Just(f64::INFINITY)].boxed()
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..1000u64, 1 => Just(0), 1 => Just(u64::MAX)]
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![Just("server".to_owned()), Just(String::new()), "[a-z<>&\"é→\\-]{0,30}"]
}

fn pod(number: BoxedStrategy<f64>) -> impl Strategy<Value = PodRecord> {
    let role = prop_oneof![Just(Role::Client), Just(Role::Proxy), Just(Role::Server), Just(Role::Server)];
    ((word(), word(), role, word(), count(), number.clone()), (number.clone(), vec(option::of(number.clone()), 7)))
        .prop_map(|((name, deployment, role, node, requests, share), (created_s, moments))| PodRecord {
            name,
            version: deployment.clone(),
            deployment,
            role,
            node,
            requests,
            ok: (role == Role::Client).then_some(requests),
            share,
            created_s,
            started_s: moments[0],
            ready_s: moments[1],
            endpoint_slice_s: None,
            resolvable_s: None,
            learnt: Learnt::Dns,
            published_s: moments[2],
            resolved_s: moments[3],
            connected_s: moments[4],
            first_request_s: moments[5],
            deleted_s: None,
            removed_s: moments[6],
        })
}

fn timeline(number: BoxedStrategy<f64>) -> impl Strategy<Value = Timeline> {
    let counts = || vec(prop_oneof![0..50u32, Just(u32::MAX)], 0..6);
    (
        vec(counts(), 0..16),
        [counts(), counts(), counts()],
        vec(option::of(number.clone()), 0..6),
        vec(option::of(number.clone()), 0..6),
        counts(),
    )
        .prop_map(|(requests_per_pod, [started, ok, failed], p50_ms, p99_ms, connections)| Timeline {
            requests_per_pod,
            started,
            ok,
            failed,
            p50_ms,
            p99_ms,
            opened: Vec::new(),
            connections,
        })
}

fn load(number: BoxedStrategy<f64>) -> impl Strategy<Value = LoadRecord> {
    let words = (word(), word(), word());
    (words, (count(), count(), count()), vec(number, 7), vec((word(), word(), count()), 0..3), vec(count(), 0..20))
        .prop_map(|((name, from, to), (started, ok, failed), n, errors, requests_per_pod)| LoadRecord {
            name,
            from,
            to,
            requests: Requests { started, ok, failed },
            errors: errors.into_iter().map(|(code, reason, count)| ErrorCount { code, reason, count }).collect(),
            latency_ms: Latency { mean: n[0], p50: n[1], p90: n[2], p99: n[3], p999: n[4], max: n[5] },
            goodput_per_s: n[6],
            requests_per_pod,
        })
}

fn deployment(number: BoxedStrategy<f64>) -> impl Strategy<Value = DeploymentRecord> {
    let counts = || vec(prop_oneof![0..50u32, Just(u32::MAX)], 0..6);
    let timeline = (counts(), counts(), vec(option::of(number.clone()), 0..6));
    ((word(), word()), (count(), count(), count()), vec(number.clone(), 6), timeline).prop_map(
        |((name, service), (requests, ok, failed), n, (of_buckets, failed_of_buckets, p99_ms))| DeploymentRecord {
            name,
            service,
            role: Role::Server,
            requests,
            ok,
            failed,
            error_rate: Some(n[0]).filter(|rate| *rate > 1.0),
            share: n[1],
            detect_requests: Some(failed).filter(|n| *n > 0),
            latency_ms: DeploymentLatency { mean: n[2], p50: n[3], p90: n[4], p99: n[5] },
            timeline: DeploymentTimeline { requests: of_buckets, failed: failed_of_buckets, p99_ms },
        },
    )
}

fn strategy(number: BoxedStrategy<f64>) -> impl Strategy<Value = StrategyRecord> {
    (
        (word(), word(), count(), count(), count()),
        (vec(number.clone(), 9), vec((number.clone(), number.clone()), 0..6), vec((word(), word(), count()), 0..3)),
        (
            vec(deployment(number.clone()), 0..4),
            vec(pod(number.clone()), 0..16),
            timeline(number.clone()),
            vec(load(number), 0..4),
        ),
    )
        .prop_map(
            |((name, summary, started, ok, failed), (n, quantiles, errors), (deployments, pods, timeline, loads))| {
                StrategyRecord {
                    name,
                    summary,
                    requests: Requests { started, ok, failed },
                    errors: errors
                        .into_iter()
                        .map(|(code, reason, count)| ErrorCount { code, reason, count })
                        .collect(),
                    latency_ms: Latency { mean: n[0], p50: n[1], p90: n[2], p99: n[3], p999: n[4], max: n[5] },
                    latency_quantiles: quantiles
                        .into_iter()
                        .map(|(quantile, ms)| Quantile { quantile: quantile / 200.0, ms })
                        .collect(),
                    node_hops: Hops { mean: n[6], max: 3 },
                    connections: Connections { opened: started, closed: ok, goaways: failed, peak: started },
                    imbalance: n[7],
                    jain: n[8],
                    happenings: vec![EventRecord { at_s: n[2], label: "scaled".to_owned() }],
                    interventions: Interventions {
                        retries: started,
                        hedges: failed,
                        faults_injected: ok,
                        rate_limited: failed,
                        probes: ok,
                        turned_away: failed,
                    },
                    keys_moved: Some(ok),
                    error_budget_burned: Some(n[8]).filter(|part| *part > 1.0),
                    deployments,
                    splits: Vec::new(),
                    configurations: Vec::new(),
                    loads,
                    pods,
                    timeline,
                }
            },
        )
}

fn held() -> impl Strategy<Value = Held> {
    (any::<u32>(), any::<u32>(), option::of((any::<u64>(), option::of(finite())))).prop_map(|(seeds, of, failed)| {
        Held { seeds, of, failed: failed.map(|(seed, measured)| FailedSeed { seed, measured }) }
    })
}

fn replications(number: BoxedStrategy<f64>) -> impl Strategy<Value = Replications> {
    let metric = || prop_oneof![proptest::sample::select(&reports::statistics::METRICS[..]), Just("x")];
    let numbers = || vec(option::of(number.clone()), 6);
    let figure = (metric(), numbers(), any::<u32>()).prop_map(|(metric, x, n)| FigureEstimate {
        metric: metric.to_owned(),
        mean: x[0],
        low: x[1],
        high: x[2],
        n,
    });
    let difference = (metric(), numbers(), any::<u32>()).prop_map(|(metric, x, n)| DifferenceEstimate {
        metric: metric.to_owned(),
        mean: x[0],
        low: x[1],
        high: x[2],
        relative: x[3],
        relative_low: x[4],
        relative_high: x[5],
        n,
    });
    let point = (0.0..1.0f64, number.clone(), number.clone()).prop_map(|(quantile, low_ms, high_ms)| QuantileBand {
        quantile,
        low_ms,
        high_ms,
    });
    let strategy = (word(), vec(figure, 0..12), vec(difference, 0..12), vec(point, 0..5)).prop_map(
        |(name, figures, against_baseline, latency_band)| ReplicatedStrategy {
            name,
            figures,
            against_baseline,
            latency_band,
        },
    );
    (vec(any::<u64>(), 0..4), vec(strategy, 0..4)).prop_map(|(seeds, strategies)| Replications { seeds, strategies })
}

fn record(number: BoxedStrategy<f64>) -> impl Strategy<Value = RunRecord> {
    (
        (word(), word(), number.clone(), number.clone(), number.clone()),
        vec((number.clone(), word()), 0..5),
        vec(strategy(number.clone()), 0..4),
        vec((word(), word(), option::of(number.clone()), any::<bool>(), option::of(held())), 0..9),
        option::of(replications(number.clone())),
    )
        .prop_map(
            |((scenario, title, duration_s, interval_s, warm_up_s), events, strategies, expectations, replications)| {
                RunRecord {
                    version: RECORD_VERSION,
                    scenario,
                    scenario_hash: String::new(),
                    scenario_text: title.clone(),
                    title,
                    host: "sim".to_owned(),
                    program: String::new(),
                    seed: 0,
                    duration_s,
                    interval_s,
                    warm_up_s,
                    reproduce: String::new(),
                    events: events.into_iter().map(|(at_s, label)| EventRecord { at_s, label }).collect(),
                    strategies,
                    expectations: expectations
                        .into_iter()
                        .map(|(text, strategy, measured, holds, held)| ExpectationRecord {
                            text,
                            strategy,
                            metric: String::new(),
                            bound: String::new(),
                            measured,
                            holds,
                            held,
                        })
                        .collect(),
                    replications,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(record in record(number()), from_s in option::of(number()), until_s in option::of(number())) {
        let html = reports::html::render(&record);
        prop_assert_eq!(html.matches("<svg ").count(), html.matches("</svg>").count());
        prop_assert!(!html.contains("NaN"), "NaN on the page");
        prop_assert!(html.len() < 1_000_000);
        let card = reports::html::Card { record: &record, question: "", from: "", report: "x" };
        let gallery = reports::html::gallery(&[card, card]);
        prop_assert_eq!(gallery.matches("<svg ").count(), gallery.matches("</svg>").count());
        prop_assert!(!gallery.contains("NaN") && gallery.len() < 1_000_000);
        let _ = reports::terminal::table(&record, true);
        let _ = reports::verdict::sentence(&record);
        for s in &record.strategies {
            for metric in reports::measure::METRICS {
                let loads = s.loads.first().map(|load| load.name.clone());
                let cases = [(Pods::All, None), (Pods::Initial, None), (Pods::New, None), (Pods::All, loads)];
                for (pods, load) in cases {
                    let what = Measure {
                        metric: (*metric).to_owned(), load, deployments: vec!["server".to_owned()], pods, from_s, until_s,
                    };
                    let _ = measure(s, record.times(), &what);
                    let _ = what.describe();
                }
            }
        }
    }

    #[test]
    fn what_is_written_reads_back(record in record(finite())) {
        let text = reports::json::to_string(&record);
        prop_assert_eq!(&serde_json::from_str::<RunRecord>(&text).expect("valid"), &record);
        prop_assert_eq!(reports::json::to_string(&record.clone()), text);
    }

    #[test]
    fn only_blanks_make_it_readable(record in record(number())) {
        let text = reports::json::to_string(&record);
        let clean = text.lines().all(|line| !line.is_empty() && !line.ends_with(' '));
        prop_assert!(clean, "an empty line, or blanks at an end");
        let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let compact: serde_json::Value =
            serde_json::from_str(&serde_json::to_string(&record).expect("JSON")).expect("JSON");
        prop_assert_eq!(read, compact);
    }
}
