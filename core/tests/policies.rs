//! The contract of [`Policy`] and [`Picker`], held against every policy in the registry, alone and nested: registering one
//! is enough to have it tested here. What a policy promises beyond the contract is a row of [`laws`].
//!
//! A [`World`] plays the channel: it tells a policy of random events, closes what the policy does not want, carries out what
//! picks ask for, and knows what is really ready. What the events are is up to proptest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lb_core::policy::Wanted;
use lb_core::policy::circuit_breaker::CircuitBreakerConfig;
use lb_core::policy::failure_accrual::FailureAccrualConfig;
use lb_core::policy::least_request::SelectionMethod;
use lb_core::policy::locality::zone_aware::ZoneAwareConfig;
use lb_core::policy::maglev::{MaglevConfig, TableSize};
use lb_core::policy::outlier_detection::{OutlierDetectionConfig, SuccessRateEjection};
use lb_core::policy::ring_hash::{Connect, RingHashConfig};
use lb_core::policy::subset::aperture::ApertureConfig;
use lb_core::policy::subset::deterministic::DeterministicSubsettingConfig;
use lb_core::policy::subset::random::RandomSubsettingConfig;
use lb_core::policy::weighted_round_robin::Scheduler;
use lb_core::{
    Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, LoadReport, Local, Locality, Nanos,
    Outcome, Pick, PickContext, Picker, Policy, PolicyConfig,
};
use proptest::prelude::*;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

/// What a policy says of itself.
#[derive(Clone, Copy)]
struct Laws {
    /// A request may be turned away, or wait, although an endpoint is ready.
    holds_back: bool,
    /// It behaves otherwise for what happened before, even when all requests have ended and all endpoints have left.
    remembers: bool,
    share: Share,
    /// Of requests with a hash, the part that moves between endpoints that stay when one of n leaves.
    moves: Option<f64>,
}

/// How far the count of an endpoint may be from its share of N requests that have not ended, with n endpoints ready.
#[derive(Clone, Copy)]
enum Share {
    /// Some endpoints may get nothing.
    Nothing,
    /// All have the same share, whatever their weight: by `(N, n)`.
    Equal(fn(f64, f64) -> f64),
    /// Weights are shares: by `(N, n, weight in means)`. Weights are 1 to 10.
    Weighted(fn(f64, f64, f64) -> f64),
}

/// Six standard deviations of a binomial count, which of the counts that these tests look at none will reach by chance.
fn by_chance(picks: f64, share: f64) -> f64 {
    6.0 * (picks * share * (1.0 - share)).sqrt() + 2.0
}

fn laws(config: &PolicyConfig) -> Laws {
    let strict = Laws { holds_back: false, remembers: false, share: Share::Nothing, moves: None };
    let of_child = config.child().map_or(strict, laws);
    match config.name() {
        "pick_first" => strict,
        "random" => Laws { share: Share::Equal(|picks, n| by_chance(picks, 1.0 / n)), ..strict },
        "round_robin" => Laws { share: Share::Equal(|_, _| 1.0), ..strict },
        "weighted_round_robin" if is_edf(config) => Laws { share: Share::Weighted(|_, _, r| 1.0 + r), ..strict },
        "weighted_round_robin" => {
            Laws { share: Share::Weighted(|picks, _, r| (1.0 + r) * (2.0 + picks / 131_070.0)), ..strict }
        }
        // Nothing reports its load here.
        "client_side_weighted_round_robin" => Laws { share: Share::Equal(|_, _| 1.0), ..strict },
        "least_request" => {
            let PolicyConfig::LeastRequest(config) = config else { unreachable!("by its name") };
            let share = match (config.active_request_bias, config.selection_method) {
                // Two choices keep the fullest close to the emptiest while nothing ends: the gap is O(log n), never √N.
                (None, SelectionMethod::NChoices) => Share::Equal(|_, _| 10.0),
                (None, SelectionMethod::FullScan) => Share::Equal(|_, _| 1.0),
                // Also where all weights are equal.
                (Some(0.0), SelectionMethod::FullScan) => Share::Weighted(|_, _, r| 1.0 + r),
                _ => Share::Nothing,
            };
            Laws { share, ..strict }
        }
        "least_loaded" => Laws { share: Share::Equal(|_, _| 1.0), ..strict },
        "p2c_peak_ewma" => Laws { share: Share::Equal(|_, _| 10.0), ..strict },
        "c3" => Laws { share: Share::Equal(|_, _| 1.0), ..strict },
        "degrader" => Laws { share: Share::Weighted(|picks, n, r| by_chance(picks, r / n)), ..strict },
        "utilization_p2c" => Laws { share: Share::Equal(|_, _| 10.0), ..strict },
        // One each, and then as chance will have it.
        "join_idle_queue" => Laws { share: Share::Equal(|picks, n| by_chance(picks, 1.0 / n)), ..strict },
        // When one of n leaves, everybody has 1/n more points: up to (n − 2)/n² of the keys move, 1/8 for 3 and 4 endpoints; twice
        // that for the unevenness of the ring. With shares ± 1/√points, whose tail is long for few points, and 1,024 points or more.
        "ring_hash" => {
            let PolicyConfig::RingHash(RingHashConfig { min_ring_size, connect, .. }) = config else { unreachable!() };
            let share = |picks, n, r| by_chance(picks, r / n) + 10.0 * picks * f64::sqrt(r / n / 1024.0);
            Laws {
                holds_back: true,
                moves: (*min_ring_size >= 1024).then_some(0.25),
                share: if *connect == Connect::All { Share::Weighted(share) } else { Share::Nothing },
                ..strict
            }
        }
        "prequal" => strict,
        "maglev" => Laws { moves: Some(0.06), ..strict },
        // Keys stay where they are only as long as nobody is full.
        "bounded_load" => Laws { share: Share::Nothing, moves: None, ..of_child },
        "circuit_breaker" => Laws { holds_back: true, ..of_child },
        "adaptive_throttle" => Laws { holds_back: true, remembers: true, ..of_child },
        "admission" => of_child,
        // Ejected endpoints are ready. Who gets what of the others is the child's affair.
        "outlier_detection" => Laws { holds_back: true, ..of_child },
        // So are those that are shut.
        "failure_accrual" => Laws { holds_back: true, ..of_child },
        // A session waits for its own endpoint.
        "override_host" => Laws { holds_back: true, ..of_child },
        // Endpoints of the same age get the same part of their weights.
        "slow_start" => of_child,
        // Some endpoints get nothing; a seed that a client drew stays with it.
        "random_subsetting" | "deterministic_subsetting" => {
            let remembers = matches!(config, PolicyConfig::RandomSubsetting(c) if c.seed.is_none());
            Laws { remembers: remembers || of_child.remembers, share: Share::Nothing, moves: None, ..of_child }
        }
        // Who doesn't know its place uses all endpoints.
        "aperture" => of_child,
        // A request waits for the priority that it is drawn to.
        "priority" => Laws { holds_back: true, ..of_child },
        // Without localities there is one.
        "wrr_locality" | "zone_aware" | "prefer_close" => of_child,
        name => panic!("{name} is registered; say in `laws` what it promises"),
    }
}

fn is_edf(config: &PolicyConfig) -> bool {
    matches!(config, PolicyConfig::WeightedRoundRobin(config) if config.scheduler == Scheduler::Edf)
}

/// Every policy with its default settings, except where these would make the tests slow or trivial, and some nested ones.
fn every_policy() -> Vec<PolicyConfig> {
    let with_settings = |name: &&str| match PolicyConfig::named(name).expect("a registered name") {
        // These tests ask for a picker at every step.
        PolicyConfig::Maglev(_) => {
            PolicyConfig::Maglev(MaglevConfig { table_size: TableSize::new(1009).expect("a prime") })
        }
        PolicyConfig::CircuitBreaker(config) => {
            PolicyConfig::CircuitBreaker(CircuitBreakerConfig { max_requests: 20, ..config })
        }
        // Without a rule it is the child alone.
        PolicyConfig::OutlierDetection(config) => PolicyConfig::OutlierDetection(OutlierDetectionConfig {
            success_rate_ejection: Some(SuccessRateEjection {
                minimum_hosts: 2,
                request_volume: 2,
                ..Default::default()
            }),
            consecutive_5xx: Some(2),
            max_ejection_percent: 50,
            ..config
        }),
        PolicyConfig::FailureAccrual(config) => {
            PolicyConfig::FailureAccrual(FailureAccrualConfig { consecutive_failures: 2, ..config })
        }
        // Fewer than there are endpoints.
        PolicyConfig::RandomSubsetting(config) => {
            PolicyConfig::RandomSubsetting(RandomSubsettingConfig { subset_size: 5, seed: Some(7), ..config })
        }
        PolicyConfig::DeterministicSubsetting(config) => {
            PolicyConfig::DeterministicSubsetting(DeterministicSubsettingConfig { subset_size: 4, ..config })
        }
        PolicyConfig::Aperture(config) => PolicyConfig::Aperture(ApertureConfig { min_aperture: 3, ..config }),
        PolicyConfig::ZoneAware(config) => PolicyConfig::ZoneAware(ZoneAwareConfig { min_cluster_size: 2, ..config }),
        policy => policy,
    };
    let nested = NESTED.iter().map(|json| serde_json::from_str(json).unwrap_or_else(|e| panic!("{json}: {e}")));
    PolicyConfig::NAMES.iter().map(with_settings).chain(nested).collect()
}

/// Compositions, and settings by which a policy is another.
const NESTED: &[&str] = &[
    r#"{"round_robin": {"turns": "worker"}}"#,
    r#"{"weighted_round_robin": {"scheduler": "edf"}}"#,
    r#"{"circuit_breaker": {"max_requests": 9, "child_policy": {"circuit_breaker": {"child_policy": "least_request"}}}}"#,
    r#"{"circuit_breaker": {"child_policy": "pick_first"}}"#,
    r#"{"adaptive_throttle": {"child_policy": {"admission": {"child_policy": "c3"}}}}"#,
    r#"{"admission": {"queue_capacity": 2, "failfast_timeout": "50ms", "child_policy": "pick_first"}}"#,
    r#"{"degrader": {"interval": "100ms", "min_call_count": 1, "high_error_rate": 0.1, "high_latency": "1ms", "low_latency": "0s",
        "initial_drop_rate": 1, "ring_ramp_factor": 2}}"#,
    r#"{"outlier_detection": {"failure_percentage_ejection": {"request_volume": 1, "minimum_hosts": 1}, "consecutive_5xx": 1,
        "max_ejection_percent": 100, "child_policy": {"circuit_breaker": {"child_policy": "least_request"}}}}"#,
    r#"{"outlier_detection": {"consecutive_5xx": 1, "max_ejection_percent": 100, "child_policy": "pick_first"}}"#,
    r#"{"outlier_detection": {"consecutive_5xx": 1, "child_policy": {"outlier_detection": {"consecutive_5xx": 2}}}}"#,
    r#"{"failure_accrual": {"consecutive_failures": 1, "child_policy": {"circuit_breaker": {"child_policy": "round_robin"}}}}"#,
    r#"{"failure_accrual": {"consecutive_failures": 0, "success_rate": {"window": "1ms", "min_request_threshold": 1},
        "child_policy": "pick_first"}}"#,
    r#"{"circuit_breaker": {"max_requests": 9, "child_policy": {"failure_accrual": {"failures": "not_ok", "consecutive_failures": 1,
        "child_policy": {"outlier_detection": {"consecutive_5xx": 1, "child_policy": "maglev"}}}}}}"#,
    r#"{"override_host": {"strict": true, "override_host_status": ["draining"], "child_policy": "least_request"}}"#,
    r#"{"override_host": {"idle_timeout": "10s", "child_policy": "pick_first"}}"#,
    r#"{"outlier_detection": {"consecutive_5xx": 1, "max_ejection_percent": 50, "child_policy": {"override_host": {
        "child_policy": {"failure_accrual": {"consecutive_failures": 2, "child_policy": "pick_first"}}}}}}"#,
    r#"{"slow_start": {"child_policy": {"weighted_round_robin": {"scheduler": "edf"}}}}"#,
    r#"{"slow_start": {"aggression": 2, "child_policy": {"circuit_breaker": {"child_policy": {"maglev": {"table_size": 1009}}}}}}"#,
    r#"{"join_idle_queue": {"idle": "own"}}"#,
    r#"{"least_request": {"selection_method": "full_scan"}}"#,
    r#"{"least_request": {"selection_method": "full_scan", "active_request_bias": 0}}"#,
    r#"{"least_request": {"active_request_bias": 1}}"#,
    r#"{"ring_hash": {"connect": "all"}}"#,
    r#"{"ring_hash": {"min_ring_size": 3, "max_ring_size": 7}}"#,
    r#"{"bounded_load": {"hash_balance_factor": 100, "next": "ring", "child_policy": {"ring_hash": {"min_ring_size": 60}}}}"#,
    r#"{"bounded_load": {"child_policy": {"maglev": {"table_size": 1009}}}}"#,
    r#"{"circuit_breaker": {"child_policy": {"bounded_load": {"child_policy": {"ring_hash": {"connect": "all"}}}}}}"#,
    r#"{"random_subsetting": {"subset_size": 7, "seed": 1, "child_policy": {"wrr_locality": {"child_policy": "p2c_peak_ewma"}}}}"#,
    r#"{"random_subsetting": {"subset_size": 3, "child_policy": "least_request"}}"#,
    r#"{"aperture": {"min_aperture": 2, "child_policy": "pick_first"}}"#,
    r#"{"priority": {"child_policy": {"wrr_locality": {"child_policy": "least_request"}}}}"#,
    r#"{"priority": {"failover": "grpc", "child_policy": "pick_first"}}"#,
    r#"{"priority": {"failover": "grpc", "child_policy": {"zone_aware": {"min_cluster_size": 2, "child_policy": "least_loaded"}}}}"#,
    r#"{"priority": {"fail_traffic_on_panic": true, "child_policy": {"random_subsetting": {"subset_size": 2, "seed": 4}}}}"#,
    r#"{"wrr_locality": {"child_policy": "pick_first"}}"#,
    r#"{"wrr_locality": {"child_policy": {"priority": {"failover": "grpc", "child_policy": "weighted_round_robin"}}}}"#,
    r#"{"zone_aware": {"min_cluster_size": 1, "routing_enabled": 50, "child_policy": {"deterministic_subsetting": {"subset_size": 1}}}}"#,
    r#"{"prefer_close": {"child_policy": {"priority": {"child_policy": "p2c_peak_ewma"}}}}"#,
    r#"{"outlier_detection": {"consecutive_5xx": 1, "max_ejection_percent": 50, "child_policy": {"random_subsetting": {
        "subset_size": 6, "seed": 3, "child_policy": {"wrr_locality": {"child_policy": "least_request"}}}}}}"#,
    r#"{"outlier_detection": {"success_rate_ejection": {"minimum_hosts": 2, "request_volume": 2}, "child_policy": {"aperture": {
        "min_aperture": 4, "child_policy": {"zone_aware": {"min_cluster_size": 1, "child_policy": "p2c_peak_ewma"}}}}}}"#,
    r#"{"adaptive_throttle": {"child_policy": {"random_subsetting": {"subset_size": 8, "seed": 2, "child_policy": {"wrr_locality":
        {"child_policy": {"admission": {"child_policy": "c3"}}}}}}}}"#,
];

/// Endpoints that may be listed; events also name some beyond.
const ENDPOINTS: u32 = 12;

const ENDED: Outcome = Outcome::new(Code::Ok, Nanos::from_millis(1));

#[derive(Debug, Clone)]
enum Event {
    /// These endpoints, by bit, beginning with the `rotate`th; weights are drawn from `weights`, zones, priorities and so on
    /// from `places`.
    Update {
        present: u16,
        rotate: u32,
        weights: u64,
        places: u64,
    },
    Local(Local),
    Connectivity {
        endpoint: u32,
        state: Connectivity,
    },
    ExitIdle,
    Wait {
        ms: u64,
    },
    Pick {
        times: usize,
        hash: Option<u64>,
        session: Option<u32>,
    },
    /// The end of a request, told to the picker that sent it or to the latest.
    Done {
        which: usize,
        latest: bool,
        outcome: Outcome,
    },
    /// The end of a request that never was.
    StrayDone {
        endpoint: u32,
    },
    /// A report of load beside any request: out of band, or the answer to a probe that may have been asked for long ago.
    Report {
        endpoint: u32,
        load: LoadReport,
        probed: bool,
    },
}

/// What a peer may send, nonsense included.
fn loads() -> impl Strategy<Value = LoadReport> {
    let number = || {
        prop_oneof![
            6 => 0.0..2.0,
            2 => 0.0..1000.0,
            1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-1.0), Just(1e300), Just(5e-324)],
        ]
    };
    let in_flight = proptest::option::of(prop_oneof![4 => 0..50u32, 1 => any::<u32>()]);
    let latency = proptest::option::of(prop_oneof![4 => 0..1_000_000_000u64, 1 => any::<u64>()]);
    (number(), number(), number(), number(), number(), in_flight, latency).prop_map(
        |(application_utilization, cpu_utilization, mem_utilization, rps, eps, in_flight, latency)| LoadReport {
            application_utilization,
            cpu_utilization,
            mem_utilization,
            rps,
            eps,
            in_flight,
            latency: latency.map(Nanos),
        },
    )
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let code = prop_oneof![
        5 => Just(Code::Ok),
        2 => Just(Code::Unavailable),
        1 => Just(Code::DeadlineExceeded),
        1 => Just(Code::NotFound),
    ];
    let latency = prop_oneof![8 => 0..100_000_000u64, 1 => 0..100_000_000_000u64, 1 => any::<u64>()];
    (code, latency, proptest::option::of(loads())).prop_map(|(code, latency, load)| Outcome {
        code,
        latency: Nanos(latency),
        load,
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let state = prop_oneof![
        2 => Just(Connectivity::Idle),
        4 => Just(Connectivity::Connecting),
        8 => Just(Connectivity::Ready),
        4 => Just(Connectivity::TransientFailure),
        1 => Just(Connectivity::Unhealthy),
    ];
    let local = (0..4u32, 0..6u32, proptest::collection::vec(0..5u32, 0..4)).prop_map(|(zone, instance, zones)| {
        let named = (0..).zip(&zones).map(|(i, &n)| (zone_name(i), n)).collect();
        Local {
            zone: (zone < 3).then(|| zone_name(zone)),
            instance,
            instances: 1 + zones.iter().sum::<u32>(),
            zones: named,
        }
    });
    let event = prop_oneof![
        4 => (any::<u16>(), 0..ENDPOINTS, any::<u64>(), any::<u64>())
            .prop_map(|(present, rotate, weights, places)| Event::Update { present, rotate, weights, places }),
        1 => Just(Event::Update { present: 0, rotate: 0, weights: 0, places: 0 }),
        1 => local.prop_map(Event::Local),
        40 => (0..ENDPOINTS + 2, state).prop_map(|(endpoint, state)| Event::Connectivity { endpoint, state }),
        4 => Just(Event::ExitIdle),
        // Up to well past every timer, and often nothing.
        6 => prop_oneof![Just(0), 1..300u64, 0..100_000_000u64].prop_map(|ms| Event::Wait { ms }),
        12 => (1..20usize, proptest::option::of(any::<u64>()), proptest::option::of(0..ENDPOINTS))
            .prop_map(|(times, hash, session)| Event::Pick { times, hash, session }),
        24 => (any::<usize>(), any::<bool>(), outcomes())
            .prop_map(|(which, latest, outcome)| Event::Done { which, latest, outcome }),
        2 => (0..100u32).prop_map(|endpoint| Event::StrayDone { endpoint }),
        6 => (0..ENDPOINTS + 2, loads(), any::<bool>())
            .prop_map(|(endpoint, load, probed)| Event::Report { endpoint, load, probed }),
    ];
    proptest::collection::vec(event, 1..120)
}

fn address(endpoint: u32) -> Address {
    Address::new(&format!("10.0.0.{endpoint}:50051"))
}

fn zone_name(zone: u32) -> Arc<str> {
    format!("zone-{zone}").into()
}

fn endpoint(id: u32, weight: u32) -> Endpoint {
    Endpoint::new(EndpointId(id), address(id)).with_weight(weight)
}

fn snapshot(weights: &[(u32, u32)]) -> EndpointSet {
    EndpointSet::new(weights.iter().map(|&(i, weight)| endpoint(i, weight)))
}

/// A policy, and the truth about its endpoints.
struct World {
    laws: Laws,
    keeps_draining: bool,
    policy: Box<dyn Policy>,
    control: Xoshiro256PlusPlus,
    requests: Xoshiro256PlusPlus,
    now: Nanos,
    endpoints: EndpointSet,
    local: Arc<Local>,
    /// The last snapshot's endpoints as the channel has them.
    links: BTreeMap<EndpointId, Connectivity>,
    /// Requests that were sent, with the picker that did.
    outstanding: Vec<(EndpointId, Arc<dyn Picker>)>,
    /// What a host could see of the policy.
    trace: Vec<(Pick, Option<Vec<EndpointId>>)>,
}

impl World {
    fn new(config: &PolicyConfig, seed: u64) -> Self {
        Self {
            laws: laws(config),
            keeps_draining: config.needs().session,
            policy: config.build(),
            control: Xoshiro256PlusPlus::seed_from_u64(seed),
            requests: Xoshiro256PlusPlus::seed_from_u64(!seed),
            now: Nanos::ZERO,
            endpoints: EndpointSet::default(),
            local: Arc::default(),
            links: BTreeMap::new(),
            outstanding: Vec::new(),
            trace: Vec::new(),
        }
    }

    fn control<T>(&mut self, call: impl FnOnce(&mut dyn Policy, &mut Context<'_>) -> T) -> T {
        call(&mut *self.policy, &mut Context::new(self.now, &mut self.control))
    }

    /// None for all of them.
    fn wanted(&self) -> Option<Vec<EndpointId>> {
        match self.policy.wanted() {
            Wanted::All => None,
            Wanted::Only(ids) => Some(ids.to_vec()),
        }
    }

    fn wants(&self, endpoint: EndpointId) -> bool {
        match self.policy.wanted() {
            Wanted::All => true,
            Wanted::Only(ids) => ids.contains(&endpoint),
        }
    }

    fn picker(&mut self) -> Arc<dyn Picker> {
        self.control(|p, cx| p.picker(cx))
    }

    fn update(&mut self, endpoints: EndpointSet) {
        let links = endpoints.iter().map(|e| (e.id, self.links.get(&e.id).copied().unwrap_or(Connectivity::Idle)));
        self.links = links.collect();
        self.endpoints = endpoints.with_local(self.local.clone());
        let endpoints = self.endpoints.clone();
        self.control(|p, cx| p.update(cx, &endpoints));
    }

    fn apply(&mut self, event: &Event) {
        match event {
            &Event::Update { present, rotate, weights, places } => {
                let at = |k: u32| (k + rotate) % ENDPOINTS;
                let listed = (0..ENDPOINTS).map(at).filter(|i| present >> i & 1 == 1);
                let draining = self.keeps_draining;
                let listed = listed.map(|i| {
                    let place = places >> (5 * i) & 31;
                    let locality = Locality { zone: zone_name((place % 4) as u32), weight: (place % 7) as u32 };
                    Endpoint {
                        locality: (place % 4 < 3).then(|| Arc::new(locality)),
                        priority: u32::from(place % 5 == 4),
                        key: (place == 30).then(|| format!("key-{i}").into()),
                        draining: draining && place % 11 == 10,
                        ..endpoint(i, (weights >> (5 * i) & 31) as u32)
                    }
                });
                self.update(EndpointSet::new(listed.collect::<Vec<_>>()));
            }
            Event::Local(local) => {
                self.local = Arc::new(local.clone());
                self.update(self.endpoints.clone());
            }
            &Event::Connectivity { endpoint, state } => self.connectivity(EndpointId(endpoint), state),
            Event::ExitIdle => self.control(|p, cx| p.exit_idle(cx)),
            &Event::Wait { ms } => self.now += Nanos::from_millis(ms),
            &Event::Pick { times, hash, session } => (0..times).for_each(|_| self.pick(hash, session)),
            Event::Done { which, latest, outcome } if !self.outstanding.is_empty() => {
                let (endpoint, sender) = self.outstanding.swap_remove(which % self.outstanding.len());
                let picker = if *latest { self.picker() } else { sender };
                picker.done(endpoint, self.now, outcome);
            }
            Event::Done { .. } => {}
            &Event::StrayDone { endpoint } => {
                // Of an endpoint without requests, so that no request of another is taken for ended.
                if self.outstanding.iter().all(|(id, _)| id.0 != endpoint) {
                    self.picker().done(EndpointId(endpoint), self.now, &ENDED);
                }
            }
            Event::Report { endpoint, load, probed: true } => {
                self.picker().probed(EndpointId(*endpoint), self.now, load);
            }
            Event::Report { endpoint, load, probed: false } => {
                self.control(|p, cx| p.load_report(cx, EndpointId(*endpoint), load));
            }
        }
        self.settle();
    }

    /// What the channel does after every input.
    fn settle(&mut self) {
        let due = self.control(|p, cx| p.tick(cx));
        assert!(due.is_none_or(|at| at > self.now), "a timer in the past would be called for ever: {due:?}");
        self.policy.take_resolve_request();
        assert!(!self.policy.take_resolve_request(), "reading a resolve request clears it");
        self.close_what_is_not_wanted();
        let picker = self.picker();
        assert!(Arc::ptr_eq(&picker, &self.picker()), "nothing changed, so the picker is the same");
    }

    fn close_what_is_not_wanted(&mut self) {
        let Some(wanted) = self.wanted() else { return };
        let distinct: BTreeSet<_> = wanted.iter().collect();
        assert_eq!(distinct.len(), wanted.len(), "each endpoint is wanted once");
        assert!(wanted.iter().all(|id| self.links.contains_key(id)), "{wanted:?} are of the last snapshot");
        for (id, link) in &mut self.links {
            if !wanted.contains(id) && is_connected(*link) {
                *link = Connectivity::Idle;
            }
        }
    }

    /// Tells of a state, if the channel could be in it: nothing connects that is not wanted.
    fn connectivity(&mut self, endpoint: EndpointId, state: Connectivity) {
        let wanted = self.wants(endpoint);
        if let Some(link) = self.links.get_mut(&endpoint) {
            if !wanted && is_connected(state) {
                return;
            }
            *link = state;
        }
        self.control(|p, cx| p.connectivity(cx, endpoint, state));
        let picker = self.picker();
        // The same news again is no news, unless the policy gave the endpoint up for the first.
        if self.wants(endpoint) == wanted {
            self.control(|p, cx| p.connectivity(cx, endpoint, state));
        }
        assert!(Arc::ptr_eq(&picker, &self.picker()), "{endpoint:?} was {state:?} already");
    }

    /// Whom a request could be sent to.
    fn usable(&self) -> Vec<EndpointId> {
        let usable = |link: &Connectivity| matches!(link, Connectivity::Ready | Connectivity::Unhealthy);
        let connected = self.links.iter().filter(|(_, link)| usable(link)).map(|(id, _)| *id);
        connected.filter(|id| self.wants(*id)).collect()
    }

    /// Whom a request should be sent to.
    fn ready(&self) -> Vec<EndpointId> {
        self.usable().into_iter().filter(|id| self.links[id] == Connectivity::Ready).collect()
    }

    fn pick(&mut self, hash: Option<u64>, session: Option<u32>) {
        let picker = self.picker();
        let session = session.map(address);
        let mut cx = PickContext { hash, session: session.as_ref(), ..PickContext::new(self.now, &mut self.requests) };
        let pick = picker.pick(&mut cx);
        let asks = cx.asks;
        match pick {
            Pick::Endpoint(id) => {
                let usable = self.usable();
                assert!(usable.contains(&id), "{id:?} is not among the connected {usable:?}");
                self.outstanding.push((id, picker));
            }
            _ => {
                let ready = self.ready();
                assert!(self.laws.holds_back || ready.is_empty(), "{pick:?} although {ready:?} are ready");
            }
        }
        for &id in asks.probes() {
            assert!(self.links.contains_key(&id), "{id:?} is probed, but not listed");
            let load = LoadReport { in_flight: Some(id.0), latency: Some(Nanos::from_millis(5)), ..Default::default() };
            self.picker().probed(id, self.now, &load);
        }
        if asks.exit_idle || pick == Pick::Queue {
            self.control(|p, cx| p.exit_idle(cx));
            self.settle();
        }
        self.trace.push((pick, self.wanted()));
    }

    /// The end of a back-off for each endpoint, an attempt with this result for those that are wanted, and time for any
    /// timer.
    fn attempts(&mut self, result: Connectivity) {
        self.control(|p, cx| p.exit_idle(cx));
        for endpoint in self.links.keys().copied().collect::<Vec<_>>() {
            for state in [Connectivity::TransientFailure, Connectivity::Idle, Connectivity::Connecting, result] {
                if self.links[&endpoint] != Connectivity::Ready {
                    self.connectivity(endpoint, state);
                }
            }
        }
        self.wait(Nanos::from_secs(3));
    }

    /// Time passes, and every timer is served.
    fn wait(&mut self, time: Nanos) {
        let end = self.now + time;
        for _ in 0..100_000 {
            match self.control(|p, cx| p.tick(cx)) {
                Some(due) if due < end => self.now = due.max(self.now),
                _ => break,
            }
        }
        self.now = end;
        self.settle();
    }

    fn end_everything(&mut self) {
        let latest = self.picker();
        self.outstanding.drain(..).for_each(|(endpoint, _)| latest.done(endpoint, self.now, &ENDED));
    }

    /// However it got here, a policy is not stuck: it fails when everything does, and sends when anything can.
    fn is_alive(&mut self) {
        if self.links.is_empty() {
            return;
        }
        self.end_everything();
        self.wait(Nanos::from_secs(3600));
        for endpoint in self.links.keys().copied().collect::<Vec<_>>() {
            self.connectivity(endpoint, Connectivity::TransientFailure);
        }
        for _ in 0..2 * ENDPOINTS {
            self.attempts(Connectivity::TransientFailure);
            self.pick(None, None);
        }
        assert!(matches!(self.trace.last(), Some((Pick::Fail(_), _))), "everything failed: {:?}", self.trace.last());
        for _ in 0..2 * ENDPOINTS {
            self.attempts(Connectivity::Ready);
            self.pick(None, None);
            self.end_everything();
        }
        assert!(matches!(self.trace.last(), Some((Pick::Endpoint(_), _))), "all connect: {:?}", self.trace.last());
    }

    /// These endpoints, and everything that is wanted is ready.
    fn all_ready(&mut self, endpoints: EndpointSet) {
        self.update(endpoints);
        self.settle();
        self.connect_everything();
    }

    fn connect_everything(&mut self) {
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            self.connectivity(id, Connectivity::Ready);
        }
        self.settle();
    }

    /// Where a request is sent when everything can be connected.
    fn send(&mut self, hash: Option<u64>) -> Option<EndpointId> {
        for _ in 0..=ENDPOINTS {
            self.pick(hash, None);
            match self.trace.last() {
                Some((Pick::Endpoint(id), _)) => return Some(*id),
                Some((Pick::Queue, _)) => self.connect_everything(),
                _ => return None,
            }
        }
        panic!("a request waits although everything connects");
    }

    /// Everything ends; then everything goes away, comes back and is ready. How the next requests are sent.
    fn picks_after_a_fresh_start(&mut self) -> Vec<Option<EndpointId>> {
        self.end_everything();
        self.control = Xoshiro256PlusPlus::seed_from_u64(1);
        self.requests = Xoshiro256PlusPlus::seed_from_u64(2);
        self.local = Arc::default();
        self.update(EndpointSet::default());
        self.settle();
        self.all_ready(EndpointSet::new((0..ENDPOINTS).map(|i| endpoint(i, 1 + i % 3))));
        (0..100).map(|_| self.send(None)).collect()
    }
}

fn is_connected(state: Connectivity) -> bool {
    matches!(state, Connectivity::Ready | Connectivity::Connecting | Connectivity::Unhealthy)
}

/// A policy over `weights`, all ready, and how often it sends `n` requests where, none of which ends.
fn counts(config: &PolicyConfig, weights: &[u32], seed: u64, n: usize) -> Vec<u32> {
    let mut world = World::new(config, seed);
    let listed: Vec<_> = (0..).zip(weights.iter().copied()).collect();
    world.all_ready(snapshot(&listed));
    let mut counts = vec![0; weights.len()];
    (0..n).filter_map(|_| world.send(None)).for_each(|id| counts[id.index()] += 1);
    counts
}

proptest! {
    /// Only connected endpoints of the last snapshot are picked, whatever happens, nothing panics, and no policy gets stuck;
    /// equal seeds give equal picks; and once all requests are done, no trace of them is left.
    #[test]
    fn policies_keep_the_contract(events in events(), seed: u64) {
        for config in every_policy() {
            let run = || {
                let mut world = World::new(&config, seed);
                events.iter().for_each(|event| world.apply(event));
                world.is_alive();
                world
            };
            let mut world = run();
            prop_assert_eq!(&world.trace, &run().trace, "{:?}: equal seeds, equal picks", config);
            if !world.laws.remembers {
                let fresh = World::new(&config, 0).picks_after_a_fresh_start();
                prop_assert_eq!(world.picks_after_a_fresh_start(), fresh, "{:?}: what is over counts", config);
            }
        }
    }

    /// Shares are what the policy's documentation says, within the bound that it states.
    #[test]
    fn shares_track_weights(
        weights in proptest::collection::vec(1..=10u32, 1..30),
        picks in 1..2_000usize,
        seed: u64,
    ) {
        for config in every_policy() {
            let law = laws(&config);
            let (n, sent) = (weights.len() as f64, picks as f64);
            let mean = f64::from(weights.iter().sum::<u32>()) / n;
            // What is around another may turn any request away; others hold back requests of a key.
            if law.holds_back && config.child().is_some() || matches!(law.share, Share::Nothing) {
                continue;
            }
            let counts = counts(&config, &weights, seed, picks);
            for (weight, count) in weights.iter().zip(&counts) {
                let ratio = f64::from(*weight) / mean;
                let (share, bound) = match law.share {
                    Share::Nothing => continue,
                    Share::Equal(bound) => (sent / n, bound(sent, n)),
                    Share::Weighted(bound) => (sent * ratio / n, bound(sent, n, ratio)),
                };
                let off = (f64::from(*count) - share).abs();
                prop_assert!(off <= bound, "{:?}: {count}, not {share} ± {bound}: {counts:?}", config);
            }
        }
    }

    /// When one of n leaves, few keys move but its own.
    #[test]
    fn keys_stay_where_they_are(n in 2..ENDPOINTS, lost in any::<prop::sample::Index>(), seed: u64) {
        for (config, moves) in every_policy().into_iter().filter_map(|c| laws(&c).moves.map(|moves| (c, moves))) {
            let keys: Vec<u64> = (0..500u64).map(|k| (k + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed).collect();
            let lost = EndpointId(lost.index(n as usize) as u32);
            let mut world = World::new(&config, seed);
            let mut owners = |present: &dyn Fn(u32) -> bool| -> Vec<Option<EndpointId>> {
                world.all_ready(EndpointSet::new((0..n).filter(|&i| present(i)).map(|i| endpoint(i, 1))));
                let owners = keys.iter().map(|&key| world.send(Some(key))).collect();
                world.end_everything();
                owners
            };
            let (before, after) = (owners(&|_| true), owners(&|i| i != lost.0));
            let moved = before.iter().zip(&after).filter(|(b, a)| **b != Some(lost) && b != a).count();
            prop_assert!(moved as f64 <= moves * keys.len() as f64, "{:?}: {moved} of {} moved", config, keys.len());
        }
    }
}

#[test]
fn a_picker_may_be_shared_by_threads() {
    for config in every_policy() {
        let mut world = World::new(&config, 3);
        world.all_ready(snapshot(&[(0, 1), (1, 1), (2, 1)]));
        // Whoever connects on demand has been asked for everything.
        for key in 0..200u64 {
            world.send(Some(key.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        }
        world.end_everything();
        let (picker, holds_back) = (world.picker(), world.laws.holds_back);
        let work = |seed| {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let mut counts = [0u32; 3];
            for _ in 0..9_999 {
                match picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)) {
                    Pick::Endpoint(id) => {
                        counts[id.index()] += 1;
                        picker.done(id, Nanos::ZERO, &ENDED);
                    }
                    other => assert!(holds_back, "{}: {other:?}", config.name()),
                }
            }
            counts
        };
        let totals = std::thread::scope(|scope| {
            let work = &work;
            let threads = [0, 1, 2, 3].map(|seed| scope.spawn(move || work(seed)));
            threads.map(|t| t.join().expect("no panic")).into_iter().fold([0; 3], |mut sum, counts| {
                (0..3).for_each(|i| sum[i] += counts[i]);
                sum
            })
        });
        assert!(holds_back || totals.iter().sum::<u32>() == 4 * 9_999);
        if config.name() == "round_robin" {
            assert_eq!(totals, [13_332; 3], "a turn is given to one thread only");
        }
    }
}

/// 10,000 endpoints connect one after the other, and the channel asks for a picker once: if a state change cost O(n), this
/// would be 10^8 steps for each policy.
#[test]
fn state_changes_build_no_picker() {
    for config in every_policy() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut policy = config.build();
        let mut cx = Context::new(Nanos::ZERO, &mut rng);
        let all: Vec<_> = (0..10_000).map(|i| (i, 1)).collect();
        policy.update(&mut cx, &snapshot(&all));
        let waiting = policy.picker(&mut cx);
        for &(i, _) in &all {
            policy.connectivity(&mut cx, EndpointId(i), Connectivity::Connecting);
        }
        assert!(Arc::ptr_eq(&waiting, &policy.picker(&mut cx)), "{}", config.name());
        for &(i, _) in &all {
            policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
        }
        let ready = policy.picker(&mut cx);
        assert!(matches!(ready.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)), Pick::Endpoint(_)), "{config:?}");
    }
}
