//! Nothing is lost and nothing is made up: laws that hold of every run, tried on generated scenarios.
//!
//! The scenarios are small and hostile: pods come, drain and die at any time, connections are aged away before they are
//! ready, deadlines are shorter than a hop, queues hold nothing. A debug build checks more at the end of each run: that
//! pods, connections and callers count exactly the requests that are with them (`world::audit`).

mod common;

use std::fmt::Write as _;

use common::{parse, pods_of, simulate, sum};
use lb_core::PolicyConfig;
use proptest::prelude::*;
use reports::record::{LoadRecord, PodRecord, Role, RunRecord, StrategyRecord};
use scenarios::{Load, Scenario};

/// One of these values.
fn of<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(values.to_vec())
}

/// A length of time as scenarios write it, from none at all to longer than a run.
fn time() -> impl Strategy<Value = &'static str> {
    of(&["0s", "1us", "700us", "5ms", "40ms", "300ms", "1s", "1h"])
}

/// The same from the shortest that is allowed for most.
fn some_time() -> impl Strategy<Value = &'static str> {
    of(&["1ms", "1500us", "8ms", "60ms", "400ms", "2s", "1h"])
}

fn key(name: &'static str, value: impl Strategy<Value = &'static str>) -> impl Strategy<Value = String> {
    prop::option::of(value).prop_map(move |v| v.map_or_else(String::new, |v| format!("{name} = {v:?}\n")))
}

/// What a deployment has besides its name and its pods.
fn container() -> impl Strategy<Value = String> {
    let service_time = of(&[
        "",
        "service_time = { constant = '4ms' }\n",
        "service_time = { exponential = '10ms' }\n",
        "service_time = { lognormal = { mean = '8ms', cv = 2 } }\n",
        "service_time = { constant = '900ms' }\n",
        "service_time = { constant = '1h' }\n",
    ]);
    let failures = of(&[
        "",
        "error_rate = 0.3\n",
        "error_rate = 1.0\nerror_code = 'UNAVAILABLE'\n",
        "warm_up = { window = '300ms', speed = 0.1 }\n",
    ]);
    let room = (of(&[1u32, 2, 30]), of(&[0u32, 1, 4, 500]), of(&[0.3, 1.0, 4.0]), 1u32..4);
    let life = (time(), time(), of(&["1ms", "70ms", "1s"]), key("termination_grace_period", time()));
    let rolling = of(&["", "max_surge = '0'\nmax_unavailable = '1'\n", "max_surge = '100%'\nmax_unavailable = '0'\n"]);
    let rolling = (rolling, failures).prop_map(|(rolling, failures)| format!("{rolling}{failures}"));
    (service_time, room, life, rolling, ages("max_connection_age", "max_connection_age_grace")).prop_map(
        |(service_time, (concurrency, queue, speed, weight), (start_up, delay, period, grace), rolling, ages)| {
            format!(
                "{service_time}{rolling}concurrency = {concurrency}\nqueue = {queue}\nspeed = {speed}\nweight = {weight}\n\
                 start_up = {start_up:?}\nreadiness = {{ initial_delay = {delay:?}, period = {period:?} }}\n{grace}{ages}"
            )
        },
    )
}

/// An age and perhaps a grace, under these names.
fn ages(age: &'static str, grace: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        (some_time(), key(grace, time())).prop_map(move |(time, grace)| format!("{age} = {time:?}\n{grace}")),
    ]
}

/// Every policy there is, some with other settings or around others.
fn policy() -> impl Strategy<Value = String> {
    let settings = of(&[
        "'pick_first'",
        "{ pick_first = { shuffle_address_list = true, connection_attempt_delay = '100ms' } }",
        "{ least_request = { choice_count = 3, with_replacement = false } }",
        "{ circuit_breaker = { max_requests = 3, max_pending_requests = 1, child_policy = 'least_request' } }",
        "{ client_side_weighted_round_robin = { enable_oob_load_report = true, oob_reporting_period = '100ms', \
         blackout_period = '0s', weight_update_period = '100ms' } }",
        "{ outlier_detection = { interval = '200ms', base_ejection_time = '300ms', consecutive_5xx = 1, \
         max_ejection_percent = 100, child_policy = { random_subsetting = { subset_size = 2, child_policy = \
         { wrr_locality = { child_policy = 'p2c_peak_ewma' } } } } } }",
        "{ failure_accrual = { consecutive_failures = 1, child_policy = { aperture = { min_aperture = 2 } } } }",
        "{ override_host = { override_host_status = ['draining', 'healthy'], child_policy = { slow_start = {} } } }",
        "{ bounded_load = { child_policy = { ring_hash = { min_ring_size = 16 } } } }",
        "{ priority = { failover = 'grpc', child_policy = { zone_aware = { min_cluster_size = 1 } } } }",
        "{ admission = { queue_capacity = 2, failfast_timeout = '100ms', child_policy = 'prequal' } }",
    ]);
    let named = prop::sample::select(PolicyConfig::NAMES).prop_map(|name| format!("'{name}'"));
    prop_oneof![settings.prop_map(str::to_owned), named]
}

fn resolver() -> impl Strategy<Value = &'static str> {
    of(&[
        "'dns'",
        "{ dns = { min_resolution_interval = '1ms' } }",
        "{ dns = { min_resolution_interval = '150ms' } }",
        "'strict_dns'",
        "{ strict_dns = { dns_refresh_rate = '1ms' } }",
        "{ strict_dns = { dns_refresh_rate = '200ms', respect_dns_ttl = true } }",
    ])
}

fn channel() -> impl Strategy<Value = String> {
    let backoff = of(&[
        "",
        "backoff = { initial = '1ms', max = '1ms', jitter = 1.0 }\n",
        "backoff = { initial = '20ms', multiplier = 3, max = '100ms', jitter = 0.0 }\n",
    ]);
    let timeout = of(&["1ms", "3ms", "20s"]);
    (policy(), resolver(), backoff, timeout, any::<bool>()).prop_map(|(policy, resolver, backoff, timeout, health)| {
        format!(
            "policy = {policy}\nresolver = {resolver}\n{backoff}connect_timeout = {timeout:?}\nhealth_check = {health}\n"
        )
    })
}

fn strategy(balancer: &'static str, routed: bool) -> impl Strategy<Value = String> {
    let proxy = (policy(), resolver(), ages("max_age", "max_age_grace"));
    let own = (ages("max_age", "max_age_grace"), key("pre_stop", time()));
    let routed = if routed && balancer != "kube_proxy" { routing().boxed() } else { Just(Default::default()).boxed() };
    (channel(), own, proxy, routed).prop_map(
        move |(channel, (own, pre_stop), (policy, resolver, ages), (configuration, routes))| {
            let mut text = format!(
                "[[strategy]]\nname = '{balancer}'\nbalancer = '{balancer}'\n{configuration}{own}{pre_stop}\
                 [strategy.client]\n{channel}"
            );
            if !["kube_proxy", "client"].contains(&balancer) {
                let _ = write!(text, "[strategy.proxy]\npolicy = {policy}\nresolver = {resolver}\n{ages}");
            }
            text + &routes
        },
    )
}

/// How configuration spreads, and routes: one for some of the requests, and perhaps one for the rest.
fn routing() -> impl Strategy<Value = (&'static str, String)> {
    let rest = prop::option::of(route("rest", of(&[""])));
    let some = of(&[
        "",
        "match = { headers = [{ name = 'x-tester', exact = 'yes' }] }\n",
        "match = { fraction = 0.5 }\n",
        "match = { prefix = '/hello.Hello/' }\n",
    ]);
    let cluster = of(&[
        "",
        "[[strategy.cluster]]\nname = 'v1'\npolicy = 'random'\n\
         endpoints = [{ service = 'v1', weight = 3 }, { service = 'v2', priority = 1 }]\n",
    ]);
    let plan = of(&["", "", "analysis = { max_error_rate = 0.2, max_p99 = '50ms', min_requests = 5 }"]);
    let delivery = prop::option::of((of(&["1ms", "20ms", "150ms"]), plan)).prop_map(|delivery| {
        delivery.map_or_else(String::new, |(interval, analysis)| {
            format!(
                "[strategy.delivery]\nroute = 'some'\nstable = 'v1'\ncanary = 'v2'\nstart = '10ms'\n\
                 [strategy.delivery.plan]\nsteps = [1, 20, 60]\ninterval = '{interval}'\n{analysis}\n"
            )
        })
    });
    (any::<bool>(), route("some", some), rest, cluster, delivery).prop_map(|(xds, some, rest, cluster, delivery)| {
        let rest = rest.unwrap_or_default();
        match xds {
            true => ("configuration = 'xds'\n", some + &rest + cluster + &delivery),
            false => ("", some + &rest + cluster),
        }
    })
}

fn route(name: &'static str, matches: impl Strategy<Value = &'static str>) -> impl Strategy<Value = String> {
    let timeout = key("timeout", of(&["500us", "4ms", "30ms", "400ms"]));
    let codes = "['UNAVAILABLE', 'DEADLINE_EXCEEDED', 'RESOURCE_EXHAUSTED', 'UNKNOWN']";
    let retry =
        (2u32..=5, of(&["1ms", "25ms"]), attempt(), of(STOPS)).prop_map(move |(attempts, pause, attempt, stop)| {
            format!(
                "[strategy.route.retry]\nmax_attempts = {attempts}\ninitial_backoff = {pause:?}\n{attempt}{stop}\
             retryable_status_codes = {codes}\n"
            )
        });
    let codes = of(&["", "non_fatal_status_codes = ['UNAVAILABLE', 'RESOURCE_EXHAUSTED', 'UNKNOWN']\n"]);
    let delay = of(&["0s", "100us", "2ms", "20ms", "400ms", "1h"]);
    let hedge = (2u32..=5, delay, codes, of(STOPS)).prop_map(|(attempts, delay, codes, stop)| {
        format!("[strategy.route.hedge]\nmax_attempts = {attempts}\nhedging_delay = {delay:?}\n{stop}{codes}")
    });
    let further = prop_oneof![2 => Just(String::new()), 1 => retry, 1 => hedge];
    let fault = of(&[
        "",
        "",
        "[strategy.route.fault]\ndelay = { percentage = 60, fixed_delay = '3ms' }\n",
        "[strategy.route.fault]\nabort = { percentage = 40, grpc_status = 'UNAVAILABLE' }\n",
        "[strategy.route.fault]\nmax_active_faults = 1\ndelay = { percentage = 80, fixed_delay = '40ms' }\n\
         abort = { percentage = 50, grpc_status = 'INTERNAL' }\n",
    ]);
    let limit = of(&[
        "",
        "",
        "[strategy.route.rate_limit]\nlocal = { max_tokens = 5, tokens_per_fill = 2, fill_interval = '50ms' }\n",
        "[strategy.route.rate_limit]\nrate_limited_as_resource_exhausted = true\n\
         global = { service = 'limiter', requests_per_unit = 20, unit = 'second' }\n",
        "[strategy.route.rate_limit]\nlocal = { max_tokens = 30, tokens_per_fill = 30, fill_interval = '100ms' }\n\
         global = { service = 'limiter', requests_per_unit = 500, unit = 'second', timeout = '2ms', \
         failure_mode_deny = true }\n",
    ]);
    let hash = of(&["", "hash_policy = [{ header = 'x-user' }, { source_ip = true }]\n"]);
    (matches, 1u32..4, 0u32..4, timeout, (further, fault, limit, hash)).prop_map(
        move |(matches, v1, v2, timeout, (further, fault, limit, hash))| {
            format!(
                "[[strategy.route]]\nname = '{name}'\n{matches}{timeout}clusters = [{{ name = 'v1', weight = {v1} }}, \
                 {{ name = 'v2', weight = {v2} }}]\n{hash}{further}{fault}{limit}"
            )
        },
    )
}

/// Clients that are pushed their endpoints, by a control plane of any kind.
fn xds() -> impl Strategy<Value = String> {
    let resolver = of(&["'xds'", "{ xds = { init_fetch_timeout = '2ms' } }"]);
    let discovery = of(&["'watch'", "{ poll = '1ms' }", "{ poll = '70ms' }", "{ poll = '1h' }"]);
    let interval = of(&["1ms", "50ms", "1h"]);
    let plane = (discovery, any::<bool>(), interval, time(), any::<bool>());
    (policy(), resolver, plane, any::<bool>(), any::<bool>()).prop_map(
        |(policy, resolver, (discovery, checks, interval, delay, withhold), health, failover)| {
            let interval = if checks && discovery == "'watch'" {
                format!("health_check_interval = '{interval}'\n")
            } else {
                String::new()
            };
            format!(
                "[[strategy]]\nname = 'xds'\nbalancer = 'client'\n[strategy.client]\npolicy = {policy}\n\
                 resolver = {resolver}\nhealth_check = {health}\n[strategy.control_plane]\ndiscovery = {discovery}\n\
                 health_check = {checks}\n{interval}push_delay = '{delay}'\nwithhold_until_all_named = {withhold}\n\
                 locality_failover = {failover}\nlocality_weights = {{ zone-0 = 3 }}\n"
            )
        },
    )
}

/// Clients that ask a lookaside balancer, which may not be there.
fn lookaside() -> impl Strategy<Value = String> {
    let resolver =
        of(&["'grpclb'", "{ grpclb = { fallback_timeout = '2ms' } }", "{ grpclb = { fallback_timeout = '200ms' } }"]);
    (policy(), resolver, some_time(), any::<bool>(), some_time()).prop_map(|(policy, resolver, update, aware, report)| {
        format!(
            "[[strategy]]\nname = 'grpclb'\nbalancer = 'client'\nclient = {{ policy = {policy}, resolver = {resolver} }}\n\
             lookaside = {{ deployment = 'balancer', update_interval = '{update}', load_aware = {aware}, \
             report_interval = '{report}' }}\n"
        )
    })
}

fn attempt() -> impl Strategy<Value = String> {
    // No longer than the shortest time of a route, which would be refused.
    key("per_attempt_timeout", of(&["100us", "500us"]))
}

/// What keeps retries from multiplying.
const STOPS: &[&str] = &[
    "",
    "budget = { budget_percent = 20, min_retry_concurrency = 1 }\n",
    "throttling = { max_tokens = 10, token_ratio = 0.1 }\n",
    "budget = { budget_percent = 0, min_retry_concurrency = 0 }\nthrottling = { max_tokens = 3, token_ratio = 1 }\n",
];

fn event(duration_ms: u64, routed: bool) -> impl Strategy<Value = String> {
    let deployment = || of(&["server", "server", "canary", "proxy", "client", "limiter", "balancer"]);
    let route = if routed { of(&["some"]).boxed() } else { of(&[""]).boxed() };
    let action = prop_oneof![
        (deployment(), 0u32..6).prop_map(|(d, n)| format!("scale = {{ deployment = '{d}', replicas = {n} }}")),
        deployment().prop_map(|d| format!("rollout = {{ deployment = '{d}' }}")),
        of(&["server", "proxy"]).prop_map(|d| format!("rollout = {{ deployment = '{d}', template = 'canary' }}")),
        (deployment(), 1u32..3).prop_map(|(d, n)| {
            format!("degrade = {{ deployment = '{d}', pods = {n}, speed = 0.1, error_rate = 0.5, for = '300ms' }}")
        }),
        deployment().prop_map(|d| format!("restart = {{ deployment = '{d}' }}")),
        (deployment(), 1u32..3).prop_map(|(d, n)| format!("kill = {{ deployment = '{d}', pods = {n} }}")),
        (deployment(), 1u32..3, some_time())
            .prop_map(|(d, n, t)| format!("unhealthy = {{ deployment = '{d}', pods = {n}, for = '{t}' }}")),
        some_time().prop_map(|t| format!("dns_outage = {{ for = '{t}' }}")),
        some_time().prop_map(|t| format!("control_plane_outage = {{ for = '{t}' }}")),
        (route, deployment(), 0u32..5).prop_map(|(route, d, n)| match route {
            "" => format!("restart = {{ deployment = '{d}' }}"),
            _ => format!(
                "configure = {{ route = '{route}', clusters = [{{ name = 'v2', weight = {n} }}, {{ name = 'v1' }}] }}"
            ),
        }),
    ];
    // Also as early as can be, at the very end, and at the same time as others.
    let at = prop_oneof![1..=duration_ms, Just(1), Just(duration_ms), Just(duration_ms / 2)];
    (at, action).prop_map(|(at, action)| format!("[[event]]\nat = '{at}ms'\n{action}\n"))
}

fn load(routed: bool) -> impl Strategy<Value = String> {
    let requests = prop_oneof![
        (1u32..5, of(&["0s", "2ms", "90ms", "1h"]))
            .prop_map(|(n, pause)| format!("closed = {{ concurrency = {n}, pause = '{pause}' }}")),
        (1u32..300, of(&["poisson", "constant"]))
            .prop_map(|(rate, arrivals)| format!("open = {{ rate = '{rate}/s', arrivals = '{arrivals}' }}")),
    ];
    let deadline = key("deadline", of(&["60us", "150us", "3ms", "25ms", "300ms"]));
    // A channel per request has no routes.
    let connection = if routed { of(&["shared"]).boxed() } else { of(&["shared", "per_request"]).boxed() };
    let header = of(&[
        "",
        "headers = { x-tester = 'yes' }\n",
        "keys = { header = 'x-user', population = 9, zipf = 1.0 }\n",
        "keys = { header = 'x-tester', population = 300 }\n",
    ]);
    (requests, deadline, connection, header).prop_map(|(requests, deadline, connection, header)| {
        format!("from = 'client'\nto = 'server'\n{requests}\nconnection = '{connection}'\n{header}{deadline}")
    })
}

/// The text of a scenario that is allowed, if not sensible.
fn scenario() -> impl Strategy<Value = String> {
    any::<bool>().prop_flat_map(scenario_with)
}

fn scenario_with(routed: bool) -> impl Strategy<Value = String> {
    let run = (200u64..2500, 1u64..12, any::<u32>()).prop_flat_map(move |(duration_ms, parts, seed)| {
        let events = prop::collection::vec(event(duration_ms, routed), 0..6).prop_map(|events| events.concat());
        (Just((duration_ms, duration_ms / parts, seed)), events)
    });
    let hop = || of(&["200us", "300us", "1ms", "15ms"]);
    let cluster = (1u32..4, 1u32..4, hop(), hop(), hop(), hop());
    let short = || of(&["0s", "3ms", "150ms"]);
    let timeout = of(&["1ms", "90ms", "5s"]);
    let dns = (some_time(), time(), short(), any::<bool>(), (short(), short(), timeout));
    // When, in percent of the run.
    let loss = (1u64..100, 0u32..2, of(&["1ms", "70ms", "400ms", "1h"]));
    let losses = prop::collection::vec(loss, 0..3);
    let dns = (dns, losses);
    let pods = (1u32..5, 0u32..3, 1u32..3, 1u32..3);
    let containers = (container(), container(), container(), container(), key("start_up", time()));
    let of_balancer = move |balancer| strategy(balancer, routed);
    let strategies = (
        of_balancer("kube_proxy"),
        of_balancer("client"),
        of_balancer("ingress"),
        of_balancer("sidecar"),
        of_balancer("node_proxy"),
        of_balancer("mesh"),
        xds(),
        lookaside(),
    );
    let loads = (load(routed), prop::option::of(load(routed))).prop_map(|(first, second)| {
        let second = second.map_or_else(String::new, |load| format!("[[load]]\nname = 'second'\n{load}"));
        format!("[[load]]\n{first}{second}")
    });
    (run, cluster, dns, pods, containers, loads, strategies).prop_map(
        |(
            ((duration_ms, interval_ms, seed), events),
            (nodes, zones, same_pod, same_node, same_zone, other_zone),
            ((ttl, cache, publication, shuffle, (slices, sync, timeout)), losses),
            (servers, canaries, proxies, clients),
            (server, canary, proxy, limiter, client),
            loads,
            (s1, s2, s3, s4, s5, s6, s7, s8),
        )| {
            let zones = zones.min(nodes);
            let mut events = events;
            for (percent, zone, lasts) in losses.into_iter().filter(|_| zones > 1) {
                let at = (duration_ms * percent / 100).max(1);
                let _ = writeln!(events, "[[event]]\nat = '{at}ms'\nzone_loss = {{ zone = {zone}, for = '{lasts}' }}");
            }
            format!(
                "title = 'generated'\nduration = '{duration_ms}ms'\ninterval = '{interval_ms}ms'\nseed = {seed}\n\
                 [cluster]\nnodes = {nodes}\nzones = {zones}\nhops = {{ same_pod = '{same_pod}', \
                 same_node = '{same_node}', same_zone = '{same_zone}', other_zone = '{other_zone}' }}\n\
                 node_monitor_grace_period = '100ms'\ndefault_unreachable_toleration = '150ms'\n\
                 [dns]\nttl = '{ttl}'\ncache = '{cache}'\npublication_delay = '{publication}'\nshuffle = {shuffle}\n\
                 timeout = '{timeout}'\n[endpoint_slices]\ndelay = '{slices}'\n\
                 [kube_proxy]\nsync_period = '{sync}'\n\
                 [[deployment]]\nname = 'server'\nreplicas = {servers}\n{server}\
                 load_report = {{ period = '20ms', min_reporting_interval = '5ms' }}\n\
                 [[deployment]]\nname = 'canary'\nreplicas = {canaries}\n{canary}\
                 [[deployment]]\nname = 'proxy'\nreplicas = {proxies}\n{proxy}\
                 [[deployment]]\nname = 'limiter'\n{limiter}\
                 [[deployment]]\nname = 'client'\nreplicas = {clients}\n{client}\
                 [[deployment]]\nname = 'balancer'\nstart_up = '20ms'\nreadiness = {{ period = '10ms' }}\n\
                 [[hpa]]\ndeployment = 'server'\nmax_replicas = 4\ntarget_utilization = 0.3\nsync_period = '50ms'\n\
                 scale_down_stabilization = '90ms'\n\
                 [[service]]\nname = 'server'\ndeployments = ['server', 'canary']\n\
                 [[service]]\nname = 'v1'\ndeployments = ['server']\n\
                 [[service]]\nname = 'v2'\ndeployments = ['canary']\n\
                 {loads}{s1}{s2}{s3}{s4}{s5}{s6}{s7}{s8}{events}"
            )
        },
    )
}

/// Whether every client lives through the run and all its requests end before the run does: one batch each, with a
/// deadline.
fn all_requests_end(scenario: &Scenario) -> bool {
    let one_batch = |load: &Load| load.closed.as_ref().is_some_and(|closed| closed.pause > scenario.duration);
    let ends = |load: &Load| load.deadline.is_some_and(|deadline| deadline < scenario.duration);
    let touches_clients = |e: &scenarios::Event| {
        [
            e.scale.as_ref().map(|a| &a.deployment),
            e.rollout.as_ref().map(|a| &a.deployment),
            e.restart.as_ref().map(|a| &a.deployment),
            e.kill.as_ref().map(|a| &a.deployment),
        ]
        .contains(&Some(&scenario.loads[0].from))
            // Pods of a lost zone are replaced elsewhere.
            || e.zone_loss.is_some()
    };
    scenario.loads.iter().all(|load| one_batch(load) && ends(load)) && !scenario.events.iter().any(touches_clients)
}

fn check(scenario: &Scenario, record: &RunRecord, s: &StrategyRecord) -> Result<(), TestCaseError> {
    let ended = s.requests.ok + s.requests.failed;
    prop_assert!(ended <= s.requests.started, "{:?}", s.requests);
    if all_requests_end(scenario) {
        prop_assert_eq!(ended, s.requests.started);
    }
    prop_assert_eq!(s.errors.iter().map(|e| e.count).sum::<u64>(), s.requests.failed);
    let of_loads = |of: fn(&LoadRecord) -> u64| s.loads.iter().map(of).sum::<u64>();
    let requests = [s.requests.started, s.requests.ok, s.requests.failed];
    let sums = [of_loads(|l| l.requests.started), of_loads(|l| l.requests.ok), of_loads(|l| l.requests.failed)];
    prop_assert_eq!(sums, requests);
    prop_assert_eq!(s.pods.iter().filter_map(|pod| pod.ok).sum::<u64>(), s.requests.ok);
    for (i, pod) in s.pods.iter().enumerate() {
        prop_assert_eq!(s.loads.iter().map(|l| l.requests_per_pod[i]).sum::<u64>(), pod.requests, "{}", pod.name);
    }

    let buckets = (record.duration_s / record.interval_s - 1e-9).ceil() as usize;
    let t = &s.timeline;
    prop_assert_eq!([t.ok.len(), t.failed.len(), t.p50_ms.len(), t.p99_ms.len(), t.connections.len()], [buckets; 5]);
    prop_assert_eq!(t.requests_per_pod.len(), s.pods.len());
    prop_assert_eq!((sum(&t.ok), sum(&t.failed)), (s.requests.ok, s.requests.failed));

    let c = &s.connections;
    prop_assert!(c.closed <= c.opened && c.peak <= c.opened, "{c:?}");
    prop_assert_eq!(t.connections.last().map(|&n| u64::from(n)), Some(c.opened - c.closed));

    for (pod, series) in s.pods.iter().zip(&t.requests_per_pod) {
        prop_assert_eq!(series.len(), buckets, "{}", pod.name);
        prop_assert_eq!(sum(series), pod.requests, "{}", pod.name);
        for (bucket, &n) in series.iter().enumerate() {
            let (from, until) = (bucket as f64 * record.interval_s, (bucket + 1) as f64 * record.interval_s);
            let alive = until > pod.created_s && pod.removed_s.is_none_or(|removed| from <= removed);
            prop_assert!(n == 0 || alive, "{} requests of {pod:?} in bucket {bucket}", n);
        }
        let life = [Some(pod.created_s), pod.started_s, pod.ready_s, pod.endpoint_slice_s, pod.published_s];
        let stages: Vec<f64> = life.into_iter().flatten().collect();
        prop_assert!(stages.is_sorted(), "{pod:?}");
        prop_assert!(life.windows(2).all(|w| w[0].is_some() || w[1].is_none()), "a stage was left out: {pod:?}");
        for moment in [pod.connected_s, pod.first_request_s].into_iter().flatten() {
            prop_assert!(pod.started_s.is_some_and(|started| moment >= started), "{pod:?}");
            // Its peer hears of a pod's end a hop later, and of a handshake's success three.
            prop_assert!(pod.removed_s.is_none_or(|removed| moment <= removed + 0.045), "{pod:?}");
        }
        if pod.role == Role::Server
            && let Some(resolved) = pod.resolved_s
        {
            prop_assert!(pod.published_s.is_some_and(|published| published <= resolved), "{pod:?}");
            if pod.learnt == reports::record::Learnt::Dns {
                prop_assert!(pod.resolvable_s.is_some_and(|resolvable| resolvable <= resolved), "{pod:?}");
            }
        }
        prop_assert!(pod.first_request_s.is_none_or(|m| pod.removed_s.is_none_or(|removed| m <= removed)), "{pod:?}");
        prop_assert_eq!(pod.first_request_s.is_some(), pod.requests > 0);
    }
    for deployment in ["server", "canary", "proxy", "client"] {
        let share: f64 = pods_of(s, deployment).iter().map(|p| p.share).sum();
        prop_assert!(share == 0.0 || (share - 1.0).abs() < 1e-9, "{deployment}: {share}");
    }
    let of_role = |role| s.pods.iter().filter(|p| p.role == role).map(|p| p.requests).sum::<u64>();
    let proxied = !["kube_proxy", "client", "xds", "grpclb"].contains(&s.name.as_str());
    // A mesh's requests pass two proxies; the second is told by the pod it is in.
    let inbound = |p: &&PodRecord| p.role == Role::Proxy && !p.name.starts_with("client") && p.name.contains('/');
    let at_inbound = s.pods.iter().filter(inbound).map(|p| p.requests).sum::<u64>();
    let at_proxies = of_role(Role::Proxy) - at_inbound;
    let (sent, at_servers) = (of_role(Role::Client), of_role(Role::Server));
    prop_assert_eq!(sent, s.requests.started);
    let passed_on = if proxied { at_proxies } else { sent };
    if s.name == "mesh" {
        prop_assert!(at_servers <= at_inbound, "{at_inbound} at their sidecars, {at_servers} at servers");
    } else {
        prop_assert_eq!(at_inbound, 0);
    }
    prop_assert!(passed_on <= sent && s.requests.ok <= at_servers);
    let strategy = scenario.strategies.iter().find(|strategy| strategy.name == s.name).expect("it was run");
    let retries = strategy.routes.iter().filter_map(|route| route.retry.as_ref()).map(|retry| retry.max_attempts);
    let hedges = strategy.routes.iter().filter_map(|route| route.hedge.as_ref()).map(|hedge| hedge.max_attempts);
    let attempts = retries.chain(hedges).map(u64::from).max().unwrap_or(1);
    let arrived = if s.name == "mesh" { at_inbound } else { at_servers };
    prop_assert!(arrived <= passed_on * attempts, "{arrived} at servers, {passed_on} passed on");

    let legs = match s.name.as_str() {
        "mesh" => 3,
        _ if proxied => 2,
        _ => 1,
    };
    let borders = if s.name == "ingress" { 2 } else { 1 };
    prop_assert!(s.node_hops.max <= borders && s.node_hops.mean <= f64::from(s.node_hops.max), "{:?}", s.node_hops);
    let l = &s.latency_ms;
    if s.requests.ok > 0 {
        // The histogram keeps three digits, the maximum is exact.
        let upwards = [f64::MIN_POSITIVE, l.p50, l.p90, l.p99, l.p999, l.max];
        prop_assert!(upwards.is_sorted(), "{l:?}");
        prop_assert!(l.mean > 0.0 && l.mean <= l.max * (1.0 + 1e-12), "{l:?}");
        // There and back over each leg at least.
        prop_assert!(l.p50 >= 0.4 * f64::from(legs) - 1e-9, "{l:?}");
        let curve: Vec<f64> = s.latency_quantiles.iter().map(|q| q.ms).collect();
        prop_assert!(curve.is_sorted() && curve.iter().all(|&ms| ms <= l.max), "{curve:?}, {l:?}");
    } else {
        prop_assert!(s.latency_quantiles.is_empty() && l.max == 0.0);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_comes_in_goes_out_once(text in scenario()) {
        let scenario = parse(&text);
        let record = simulate(&scenario, scenario.seed);
        for s in &record.strategies {
            check(&scenario, &record, s).map_err(|e| TestCaseError::fail(format!("{}: {e}\n{text}", s.name)))?;
        }
    }

    /// A strategy's figures are its own: alone it gives the bytes that it gives beside others.
    #[test]
    fn a_strategy_does_not_depend_on_the_others(text in scenario(), which in 0usize..8) {
        let scenario = parse(&text);
        let together = simulate(&scenario, scenario.seed);
        let mut alone = scenario.clone();
        alone.strategies = vec![scenario.strategies[which].clone()];
        let json = |s: &StrategyRecord| serde_json::to_string(s).expect("plain JSON");
        prop_assert_eq!(json(&simulate(&alone, alone.seed).strategies[0]), json(&together.strategies[which]));
    }
}
