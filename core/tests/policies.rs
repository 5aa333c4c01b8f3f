//! The contract of [`Policy`] and [`Picker`], held against every policy in the registry: registering one is enough to
//! have it tested here.
//!
//! A [`World`] plays the channel: it tells a policy of random events, closes what the policy does not want, and knows
//! what is really ready. What the events are is up to proptest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lb_core::policy::Wanted;
use lb_core::policy::maglev::{MaglevConfig, TableSize};
use lb_core::{
    Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext, Picker,
    Policy, PolicyConfig,
};
use proptest::prelude::*;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

/// Endpoints that may be listed; events also name some beyond.
const ENDPOINTS: u32 = 12;

const ENDED: Outcome = Outcome { code: Code::Ok, latency: Nanos::from_millis(1) };

#[derive(Debug, Clone)]
enum Event {
    /// These endpoints, by bit, beginning with the `rotate`th; weights are drawn from `weights`.
    Update {
        present: u16,
        rotate: u32,
        weights: u64,
    },
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
    },
    /// The end of a request, told to the picker that sent it or to the latest.
    Done {
        which: usize,
        latest: bool,
    },
    /// The end of a request that never was.
    StrayDone {
        endpoint: u32,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let state = prop_oneof![
        1 => Just(Connectivity::Idle),
        2 => Just(Connectivity::Connecting),
        4 => Just(Connectivity::Ready),
        2 => Just(Connectivity::TransientFailure),
    ];
    let event = prop_oneof![
        2 => (any::<u16>(), 0..ENDPOINTS, any::<u64>())
            .prop_map(|(present, rotate, weights)| Event::Update { present, rotate, weights }),
        1 => Just(Event::Update { present: 0, rotate: 0, weights: 0 }),
        20 => (0..ENDPOINTS + 2, state).prop_map(|(endpoint, state)| Event::Connectivity { endpoint, state }),
        2 => Just(Event::ExitIdle),
        // Up to well past every timer, and often nothing.
        3 => prop_oneof![Just(0), 1..300u64, 0..100_000_000u64].prop_map(|ms| Event::Wait { ms }),
        6 => (1..20usize).prop_map(|times| Event::Pick { times }),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(which, latest)| Event::Done { which, latest }),
        1 => (0..100u32).prop_map(|endpoint| Event::StrayDone { endpoint }),
    ];
    proptest::collection::vec(event, 1..120)
}

fn address(endpoint: u32) -> Address {
    Address::new(&format!("10.0.0.{endpoint}:50051"))
}

fn snapshot(weights: &[(u32, u32)]) -> EndpointSet {
    EndpointSet::new(weights.iter().map(|&(i, weight)| Endpoint { id: EndpointId(i), address: address(i), weight }))
}

/// A policy, and the truth about its endpoints.
struct World {
    policy: Box<dyn Policy>,
    control: Xoshiro256PlusPlus,
    requests: Xoshiro256PlusPlus,
    now: Nanos,
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
            policy: config.build(),
            control: Xoshiro256PlusPlus::seed_from_u64(seed),
            requests: Xoshiro256PlusPlus::seed_from_u64(!seed),
            now: Nanos::ZERO,
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

    fn update(&mut self, weights: &[(u32, u32)]) {
        let endpoints = snapshot(weights);
        let links = endpoints.iter().map(|e| (e.id, self.links.get(&e.id).copied().unwrap_or(Connectivity::Idle)));
        self.links = links.collect();
        self.control(|p, cx| p.update(cx, &endpoints));
    }

    fn apply(&mut self, event: &Event) {
        match *event {
            Event::Update { present, rotate, weights } => {
                let at = |k: u32| (k + rotate) % ENDPOINTS;
                let listed = (0..ENDPOINTS).map(at).filter(|i| present >> i & 1 == 1);
                let listed: Vec<_> = listed.map(|i| (i, (weights >> (5 * i) & 31) as u32)).collect();
                self.update(&listed);
            }
            Event::Connectivity { endpoint, state } => self.connectivity(EndpointId(endpoint), state),
            Event::ExitIdle => self.control(|p, cx| p.exit_idle(cx)),
            Event::Wait { ms } => self.now += Nanos::from_millis(ms),
            Event::Pick { times } => (0..times).for_each(|_| self.pick()),
            Event::Done { which, latest } if !self.outstanding.is_empty() => {
                let (endpoint, sender) = self.outstanding.swap_remove(which % self.outstanding.len());
                let picker = if latest { self.picker() } else { sender };
                picker.done(endpoint, self.now, &ENDED);
            }
            Event::Done { .. } => {}
            Event::StrayDone { endpoint } => {
                // Of an endpoint without requests, so that no request of another is taken for ended.
                if self.outstanding.iter().all(|(id, _)| id.0 != endpoint) {
                    self.picker().done(EndpointId(endpoint), self.now, &ENDED);
                }
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
        if let Some(wanted) = self.wanted() {
            let distinct: BTreeSet<_> = wanted.iter().collect();
            assert_eq!(distinct.len(), wanted.len(), "each endpoint is wanted once");
            assert!(wanted.iter().all(|id| self.links.contains_key(id)), "{wanted:?} are of the last snapshot");
            for (id, link) in &mut self.links {
                if !wanted.contains(id) && matches!(link, Connectivity::Ready | Connectivity::Connecting) {
                    *link = Connectivity::Idle;
                }
            }
        }
        let picker = self.picker();
        assert!(Arc::ptr_eq(&picker, &self.picker()), "nothing changed, so the picker is the same");
    }

    /// Tells of a state, if the channel could be in it: nothing connects that is not wanted.
    fn connectivity(&mut self, endpoint: EndpointId, state: Connectivity) {
        let wanted = self.wants(endpoint);
        if let Some(link) = self.links.get_mut(&endpoint) {
            if !wanted && matches!(state, Connectivity::Ready | Connectivity::Connecting) {
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

    fn ready(&self) -> Vec<EndpointId> {
        let ready = self.links.iter().filter(|(_, link)| **link == Connectivity::Ready);
        ready.map(|(id, _)| *id).filter(|id| self.wants(*id)).collect()
    }

    fn pick(&mut self) {
        let picker = self.picker();
        let pick = picker.pick(&mut PickContext::new(self.now, &mut self.requests));
        let ready = self.ready();
        match pick {
            Pick::Endpoint(id) => {
                assert!(ready.contains(&id), "{id:?} is not among the ready {ready:?}");
                self.outstanding.push((id, picker));
            }
            _ => assert!(ready.is_empty(), "{pick:?} although {ready:?} are ready"),
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
        self.now += Nanos::from_secs(3);
        self.settle();
    }

    /// However it got here, a policy is not stuck: it fails when everything does, and sends when anything can.
    fn is_alive(&mut self) {
        if self.links.is_empty() {
            return;
        }
        for endpoint in self.links.keys().copied().collect::<Vec<_>>() {
            self.connectivity(endpoint, Connectivity::TransientFailure);
        }
        (0..2 * ENDPOINTS).for_each(|_| self.attempts(Connectivity::TransientFailure));
        self.pick();
        assert!(matches!(self.trace.last(), Some((Pick::Fail(_), _))), "everything failed: {:?}", self.trace.last());
        self.attempts(Connectivity::Ready);
        self.pick();
        assert!(matches!(self.trace.last(), Some((Pick::Endpoint(_), _))), "all connect: {:?}", self.trace.last());
    }

    /// Everything ends; then everything goes away, comes back and is ready. How the next requests are sent.
    fn picks_after_a_fresh_start(&mut self) -> Vec<Pick> {
        let latest = self.picker();
        for (endpoint, _) in self.outstanding.drain(..) {
            latest.done(endpoint, self.now, &ENDED);
        }
        self.control = Xoshiro256PlusPlus::seed_from_u64(1);
        self.requests = Xoshiro256PlusPlus::seed_from_u64(2);
        self.update(&[]);
        let all: Vec<_> = (0..ENDPOINTS).map(|i| (i, 1 + i % 3)).collect();
        self.update(&all);
        for (i, _) in all {
            if self.wants(EndpointId(i)) {
                self.control(|p, cx| p.connectivity(cx, EndpointId(i), Connectivity::Ready));
            }
        }
        let picker = self.picker();
        (0..100).map(|_| picker.pick(&mut PickContext::new(self.now, &mut self.requests))).collect()
    }
}

/// Every policy with its default settings; but `maglev` with a small table, as these tests ask for a picker at every step.
fn every_policy() -> impl Iterator<Item = PolicyConfig> {
    PolicyConfig::NAMES.iter().map(|name| match PolicyConfig::named(name).expect("a registered name") {
        PolicyConfig::Maglev(_) => {
            PolicyConfig::Maglev(MaglevConfig { table_size: TableSize::new(251).expect("a prime") })
        }
        policy => policy,
    })
}

/// A policy over `weights`, all ready, and how often it sends `n` requests where.
fn counts(config: &PolicyConfig, weights: &[u32], seed: u64, n: usize) -> Vec<u32> {
    let mut world = World::new(config, seed);
    let listed: Vec<_> = (0..).zip(weights.iter().copied()).collect();
    world.update(&listed);
    for &(i, _) in &listed {
        world.connectivity(EndpointId(i), Connectivity::Ready);
    }
    (0..n).for_each(|_| world.pick());
    let mut counts = vec![0; weights.len()];
    world.outstanding.iter().for_each(|(id, _)| counts[id.index()] += 1);
    counts
}

proptest! {
    /// Only READY endpoints of the last snapshot are picked, whatever happens, nothing panics, and no policy gets stuck;
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
            prop_assert_eq!(&world.trace, &run().trace, "{}: equal seeds, equal picks", config.name());
            let fresh = World::new(&config, 0).picks_after_a_fresh_start();
            prop_assert_eq!(world.picks_after_a_fresh_start(), fresh, "{}: requests that are done count", config.name());
        }
    }

    #[test]
    fn round_robin_counts_differ_by_at_most_one(n in 1..30usize, picks in 0..500usize, seed: u64) {
        let config = PolicyConfig::named("round_robin").unwrap();
        let counts = counts(&config, &vec![1; n], seed, picks);
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
    }

    /// The bound that the policy's documentation states and derives. No weight is over 10 means, so none is clamped.
    #[test]
    fn weighted_round_robin_shares_track_weights(
        weights in proptest::collection::vec(1..=10u32, 1..30),
        picks in 1..2_000usize,
        seed: u64,
    ) {
        let config = PolicyConfig::named("weighted_round_robin").unwrap();
        let counts = counts(&config, &weights, seed, picks);
        let sum = f64::from(weights.iter().sum::<u32>());
        for (weight, count) in weights.iter().copied().map(f64::from).zip(&counts) {
            let expected = picks as f64 * weight / sum;
            let bound = (1.0 + weight * weights.len() as f64 / sum) * (2.0 + picks as f64 / 131_070.0);
            prop_assert!((f64::from(*count) - expected).abs() < bound, "{count}, not {expected} ± {bound}");
        }
    }

    /// Two choices keep the fullest close to the emptiest while nothing ends: with n endpoints and any number of
    /// requests the gap is ln ln n + O(1), and never near what `random` gives.
    #[test]
    fn least_request_keeps_outstanding_requests_even(n in 2..30usize, seed: u64) {
        let config = PolicyConfig::named("least_request").unwrap();
        let counts = counts(&config, &vec![1; n], seed, 100 * n);
        let gap = counts.iter().max().unwrap() - counts.iter().min().unwrap();
        // Random would give 100 ± 10 each, so a gap of about 40 among 30. The emptiest lags by O(log n).
        prop_assert!(gap <= 20, "{counts:?}");
    }
}

#[test]
fn a_picker_may_be_shared_by_threads() {
    for config in every_policy() {
        let mut world = World::new(&config, 3);
        world.update(&[(0, 1), (1, 1), (2, 1)]);
        (0..3).for_each(|i| world.connectivity(EndpointId(i), Connectivity::Ready));
        let picker = world.picker();
        let work = |seed| {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let mut counts = [0u32; 3];
            for _ in 0..9_999 {
                match picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)) {
                    Pick::Endpoint(id) => {
                        counts[id.index()] += 1;
                        picker.done(id, Nanos::ZERO, &ENDED);
                    }
                    other => panic!("{}: {other:?}", config.name()),
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
        assert_eq!(totals.iter().sum::<u32>(), 4 * 9_999);
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
        assert!(matches!(ready.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)), Pick::Endpoint(_)));
    }
}
