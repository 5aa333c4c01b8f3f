use std::collections::BTreeSet;

use super::*;
use crate::policy::Wanted;
use crate::policy::draw::scripted::Script;
use crate::{Address, Code, Connectivity, Context, Endpoint, Status};
use proptest::prelude::*;
use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

const ENDED: Outcome = Outcome::new(Code::Ok, Nanos::ZERO);

fn endpoints(weights: &[u32]) -> EndpointSet {
    let endpoint =
        |(i, &weight)| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80"))).with_weight(weight);
    EndpointSet::new((0..).zip(weights).map(endpoint))
}

fn config(percent: u32, next: Next, child: &str) -> BoundedLoadConfig {
    let child_policy = Box::new(serde_json::from_str(child).expect("a policy"));
    BoundedLoadConfig { hash_balance_factor: percent, next, child_policy }
}

const CHILDREN: [&str; 3] = [
    r#"{"ring_hash": {"connect": "all"}}"#,
    r#"{"maglev": {"table_size": 251}}"#,
    r#"{"ring_hash": {"max_ring_size": 5, "min_ring_size": 2}}"#,
];

/// ⌈percent/100 · total · weight/sum⌉, and at least 1.
fn bound(percent: u32, total: usize, weight: u32, sum: u64) -> u64 {
    (u64::from(percent) * total as u64 * u64::from(weight)).div_ceil(100 * sum).max(1)
}

/// The policy over endpoints of these weights, all READY, and the requests that it counts.
fn ready(config: &BoundedLoadConfig, weights: &[u32]) -> (Box<dyn Policy>, Arc<Load>) {
    let (shared, mut rng) = (Shared::default(), Script::indices(1, &[0]));
    let bound = config.bound(&shared);
    let load = bound.load.clone();
    let mut policy = config.around_child(bound, &shared);
    let mut cx = Context::new(Nanos::ZERO, &mut rng);
    let all = endpoints(weights);
    policy.update(&mut cx, &all);
    all.iter().for_each(|e| policy.connectivity(&mut cx, e.id, Connectivity::Ready));
    (policy, load)
}

impl Load {
    fn at(&self, endpoint: u32) -> u64 {
        u64::from(self.outstanding.get(EndpointId(endpoint)))
    }

    fn total(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }
}

fn picker(policy: &mut dyn Policy) -> Arc<dyn Picker> {
    policy.picker(&mut Context::new(Nanos::ZERO, &mut Script::indices(1, &[0])))
}

fn pick(picker: &dyn Picker, hash: Option<u64>) -> Pick {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(hash.unwrap_or(7));
    picker.pick(&mut PickContext { hash, ..PickContext::new(Nanos::ZERO, &mut rng) })
}

proptest! {
    /// Whatever begins and ends, at every pick the endpoint has no more than the bound of all that are outstanding then; as long as
    /// nothing ends, nobody ever has.
    #[test]
    fn the_bound_is_never_exceeded(
        weights in proptest::collection::vec(prop_oneof![4 => 1..5u32, 1 => 1..1000u32], 1..12),
        percent in prop_oneof![Just(100u32), Just(125), 100..400u32],
        // A key, few of them hot, or none; and whether something ends before.
        steps in proptest::collection::vec((proptest::option::of(prop_oneof![0..3u64, any::<u64>()]), 0..3u8, any::<prop::sample::Index>()), 1..300),
        ends: bool,
    ) {
        for (next, child) in CHILDREN.iter().flat_map(|c| [(Next::Jump, c), (Next::Ring, c)]) {
            let (mut policy, load) = ready(&config(percent, next, child), &weights);
            let picker = picker(&mut *policy);
            let sum = weights.iter().map(|w| u64::from(*w)).sum();
            let mut outstanding = Vec::new();
            for (hash, end, which) in &steps {
                if ends && *end == 0 && !outstanding.is_empty() {
                    picker.done(outstanding.swap_remove(which.index(outstanding.len())), Nanos::ZERO, &ENDED);
                }
                let Pick::Endpoint(id) = pick(&*picker, *hash) else { panic!("all are ready") };
                outstanding.push(id);
                let loaded = if ends { id.0..=id.0 } else { 0..=weights.len() as u32 - 1 };
                for i in loaded {
                    let (has, most) = (load.at(i), bound(percent, outstanding.len(), weights[i as usize], sum));
                    prop_assert!(has <= most, "{child} {next:?}: {i} has {has} of {}, not {most}", outstanding.len());
                }
                prop_assert_eq!(load.total() as usize, outstanding.len());
            }
        }
    }
}

#[test]
fn threads_do_not_exceed_the_bound() {
    const THREADS: u32 = 4;
    let weights = [1, 1, 2, 4];
    for (next, child) in CHILDREN.iter().flat_map(|c| [(Next::Jump, c), (Next::Ring, c)]) {
        let (mut policy, load) = ready(&config(110, next, child), &weights);
        let picker = picker(&mut *policy);
        // Nothing ends, and one key has all requests.
        std::thread::scope(|scope| {
            let (picker, load) = (&picker, &load);
            for _ in 0..THREADS {
                scope.spawn(|| (0..500).for_each(|_| assert!(matches!(pick(&**picker, Some(42)), Pick::Endpoint(_)))));
            }
            scope.spawn(|| {
                for i in (0..4000).map(|i| i % 4) {
                    // What it has was let in by a total that can only have grown since.
                    let has = load.at(i);
                    let most = bound(110, load.total() as usize, weights[i as usize], 8);
                    assert!(has <= most, "{child} {next:?}: {i} has {has}, not {most}");
                }
            });
        });
        assert_eq!(load.total(), 500 * THREADS);
        for i in 0..4 {
            assert!(load.at(i) <= bound(110, 2000, weights[i as usize], 8), "{child} {next:?}: {i} has {}", load.at(i));
            (0..load.at(i)).for_each(|_| picker.done(EndpointId(i), Nanos::ZERO, &ENDED));
        }

        // Each thread has three requests at most, so nobody ever has more than the bound of twelve.
        let twelve = 3 * THREADS as usize;
        std::thread::scope(|scope| {
            for seed in 0..THREADS {
                let (picker, load) = (&picker, &load);
                scope.spawn(move || {
                    let mut rng = Xoshiro256PlusPlus::seed_from_u64(u64::from(seed));
                    let mut mine = Vec::new();
                    for _ in 0..5_000 {
                        let Pick::Endpoint(id) = pick(&**picker, Some(rng.next_u64() % 2)) else { panic!() };
                        assert!(load.at(id.0) <= bound(110, twelve, weights[id.index()], 8), "{id:?}");
                        mine.push(id);
                        if mine.len() == 3 {
                            let end = mine.drain(..1 + rng.next_u64() as usize % 3);
                            end.for_each(|id| picker.done(id, Nanos::ZERO, &ENDED));
                        }
                    }
                    mine.into_iter().for_each(|id| picker.done(id, Nanos::ZERO, &ENDED));
                });
            }
        });
        assert_eq!(((0..4).map(|i| load.at(i)).sum::<u64>(), load.total()), (0, 0));
    }
}

/// Envoy's TestHashingLoadBalancer: a ring that is a list, and a hash that is a place in it.
struct List(Vec<EndpointId>);

impl Picker for List {
    fn pick(&self, _: &mut PickContext<'_>) -> Pick {
        unreachable!("the bound asks `meant`")
    }
}

impl Hashed for List {
    fn meant(&self, hash: u64, _is_key: bool, _asks: &mut Asks) -> Pick {
        Pick::Endpoint(self.0[hash as usize])
    }

    fn from(&self, hash: u64) -> impl Iterator<Item = EndpointId> {
        self.0.iter().cycle().skip(hash as usize).take(self.0.len()).copied()
    }

    fn any(
        &self,
        mut order: impl Iterator<Item = EndpointId>,
        _asks: &mut Asks,
        mut take: impl FnMut(EndpointId) -> bool,
    ) -> Pick {
        let none = || Pick::Fail(Status::unavailable("none"));
        order.find(|&id| take(id)).map_or_else(none, Pick::Endpoint)
    }
}

/// Five endpoints, each `times` times in the list, of which some have so many requests, of a total that is 0 so far.
fn five(times: usize, next: Next, requests: &[(u32, u32)]) -> Arc<dyn Picker> {
    let load = Load { outstanding: Arc::default(), counted: Slots::new(), total: AtomicU32::new(0) };
    let mut bound = Bound { percent: 100, next, load: Arc::new(load), members: EndpointSet::default() };
    bound.updated(&endpoints(&[1; 5]));
    requests.iter().for_each(|&(i, n)| bound.load.counted.get(i as usize).unwrap().store(n, Ordering::Relaxed));
    let list = (0..5).flat_map(|i| std::iter::repeat_n(EndpointId(i), times)).collect();
    bound.around(List(list), (0..5).map(|i| (EndpointId(i), 1)))
}

#[test]
fn bounded_load_hlb_test_no_host_ever_overloaded() {
    let picker = five(1, Next::Jump, &[]);
    for i in 0..5 {
        assert_eq!(pick(&*picker, Some(i)), Pick::Endpoint(EndpointId(i as u32)));
    }
}

#[test]
fn bounded_load_hlb_test_hosts_overloaded() {
    // Envoy's order for a hash is another, from a Mersenne twister; that it depends on the hash alone is what matters.
    for busy in [&[(2, 1)][..], &[(0, 1), (1, 1), (2, 1)]] {
        let other = pick(&*five(1, Next::Jump, busy), Some(2));
        assert!(busy.iter().all(|&(i, _)| other != Pick::Endpoint(EndpointId(i))), "{other:?}");
        assert_eq!(other, pick(&*five(1, Next::Jump, busy), Some(2)));
    }
}

#[test]
fn bounded_load_hlb_test_multiple_hash_same_host_overloaded() {
    // Hashes 6 and 7 in Envoy's test; here 300 to 399 are of endpoint 3, and turned away to all others.
    let turned_away = |next| -> BTreeSet<u32> {
        let other = |hash| match pick(&*five(100, next, &[(3, 1)]), Some(hash)) {
            Pick::Endpoint(id) => id.0,
            other => panic!("{other:?}"),
        };
        (300..400).map(other).collect()
    };
    assert_eq!(turned_away(Next::Jump), BTreeSet::from([0, 1, 2, 4]));
    // The paper's way: all to the next.
    assert_eq!(turned_away(Next::Ring), BTreeSet::from([4]));
}

#[test]
fn bounded_load_hlb_test_all_hosts_overloaded() {
    for next in [Next::Jump, Next::Ring] {
        let picker = five(1, next, &[(0, 9), (1, 8), (2, 9), (3, 7), (4, 8)]);
        assert_eq!(pick(&*picker, Some(0)), Pick::Endpoint(EndpointId(3)), "it is the furthest from its bound");
    }
}

/// Keys, and where a second request goes when the first has filled its endpoint: with a bound of 100 % and nothing else
/// outstanding, of ten endpoints none has two places.
fn second_choices(next: Next) -> Vec<(u64, EndpointId, EndpointId)> {
    let (mut policy, load) = ready(&config(100, next, CHILDREN[0]), &[1; 10]);
    let picker = picker(&mut *policy);
    let mut choices = Vec::new();
    for hash in (0..10_000u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        let (first, second) = (pick(&*picker, Some(hash)), pick(&*picker, Some(hash)));
        let (Pick::Endpoint(first), Pick::Endpoint(second)) = (first, second) else { panic!() };
        choices.push((hash, first, second));
        [first, second].into_iter().for_each(|id| picker.done(id, Nanos::ZERO, &ENDED));
    }
    assert_eq!(load.total(), 0);
    choices
}

#[test]
fn jumps_from_one_endpoint_spread_over_all_others() {
    let mut counts = [0u32; 10];
    for (_, first, second) in second_choices(Next::Jump) {
        counts[second.index()] += u32::from(first == EndpointId(0));
    }
    let mean = counts.iter().sum::<u32>() / 9;
    // About 1,000 keys are endpoint 0's: 111 for each other, give or take five standard deviations of √111.
    assert!(counts[0] == 0 && counts[1..].iter().all(|n| n.abs_diff(mean) < 53), "{counts:?}");
}

#[test]
fn the_next_on_the_ring_is_where_the_key_would_go_if_its_endpoint_failed() {
    let choices = second_choices(Next::Ring);
    let mut policy = serde_json::from_str::<PolicyConfig>(CHILDREN[0]).unwrap().build();
    let mut rng = Script::indices(1, &[0]);
    let mut cx = Context::new(Nanos::ZERO, &mut rng);
    policy.update(&mut cx, &endpoints(&[1; 10]));
    for id in (0..10).map(EndpointId) {
        (0..10).for_each(|i| policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready));
        policy.connectivity(&mut cx, id, Connectivity::TransientFailure);
        let picker = policy.picker(&mut cx);
        for (hash, _, second) in choices.iter().filter(|(_, first, _)| *first == id) {
            assert_eq!(pick(&*picker, Some(*hash)), Pick::Endpoint(*second));
        }
    }
}

#[test]
fn a_full_endpoints_requests_go_to_one_that_is_connected_and_wait_only_if_all_are_full() {
    let (mut policy, load) = ready(&config(100, Next::Jump, r#""ring_hash""#), &[1; 4]);
    let mut rng = Script::indices(1, &[0]);
    let mut cx = Context::new(Nanos::ZERO, &mut rng);
    // Two of four are connected, and each may have a quarter of everything.
    (2..4).for_each(|i| policy.connectivity(&mut cx, EndpointId(i), Connectivity::Idle));
    let first = policy.picker(&mut cx);
    let means_one_of_them = |hash: &u64| {
        let mut rng = Script::indices(1, &[0]);
        let pick = first.pick(&mut PickContext::new(Nanos::ZERO, &mut rng).with_hash(*hash));
        let Pick::Endpoint(id) = pick else { return false };
        first.done(id, Nanos::ZERO, &ENDED);
        true
    };
    let key = (0..u64::MAX).map(|i| i << 48).find(means_one_of_them);
    let waits = policy.picker(&mut cx);
    let two = [pick(&*waits, key), pick(&*waits, key)];
    assert!(two.iter().all(|p| matches!(p, Pick::Endpoint(_))) && two[0] != two[1], "{two:?}");
    // ⌈3 · 1/4⌉ = 1: both are full, and one of the others is asked for.
    let mut rng = Script::indices(1, &[0]);
    let mut third = PickContext { hash: key, ..PickContext::new(Nanos::ZERO, &mut rng) };
    assert_eq!((waits.pick(&mut third), load.total()), (Pick::Queue, 2));
    policy.exit_idle(&mut cx);
    let Wanted::Only(wanted) = policy.wanted() else { panic!() };
    assert!((3..=4).contains(&wanted.len()), "{wanted:?}");
}

#[test]
fn an_endpoint_takes_its_requests_along_when_it_leaves_and_brings_them_when_it_comes() {
    let (mut policy, load) = ready(&config(100, Next::Jump, r#""maglev""#), &[1, 1]);
    let mut rng = Script::indices(1, &[0]);
    let mut cx = Context::new(Nanos::ZERO, &mut rng);
    let both = endpoints(&[1, 1]);
    let one = EndpointSet::new(both.iter().take(1).cloned());
    let before = policy.picker(&mut cx);
    let mut sent: Vec<Pick> = (0..6).map(|_| pick(&*before, Some(1))).collect();
    assert_eq!((load.at(0), load.at(1), load.total()), (3, 3, 6));

    policy.update(&mut cx, &one);
    sent.push(pick(&*policy.picker(&mut cx), Some(1)));
    assert_eq!((load.at(0), load.at(1), load.total()), (4, 3, 4));

    policy.update(&mut cx, &both);
    policy.connectivity(&mut cx, EndpointId(1), Connectivity::Ready);
    // The eighth: four each.
    sent.push(pick(&*policy.picker(&mut cx), Some(1)));
    assert_eq!((load.at(0), load.at(1), load.total()), (4, 4, 8));

    // One of them ends elsewhere meanwhile: through a picker that says that there is nobody, and of an endpoint that has left.
    policy.update(&mut cx, &EndpointSet::default());
    assert_eq!(load.total(), 0);
    let nobody = policy.picker(&mut cx);
    for (i, sent) in sent.iter().chain(&sent).enumerate() {
        let Pick::Endpoint(id) = sent else { panic!() };
        [&nobody, &before][i % 2].done(*id, Nanos::ZERO, &ENDED);
    }
    assert_eq!((load.at(0), load.at(1), load.total()), (0, 0, 0));
}

#[test]
fn what_has_no_hash_has_no_bound() {
    let config = |settings: &str| serde_json::from_str::<PolicyConfig>(&format!(r#"{{"bounded_load": {settings}}}"#));
    let cases = [
        (r#"{"hash_balance_factor": 99}"#, "hash_balance_factor: 99, must be >= 100"),
        (r#"{"child_policy": "round_robin"}"#, "child_policy: round_robin, must be ring_hash or maglev"),
    ];
    for (settings, message) in cases {
        let error = config(settings).unwrap_err().to_string();
        assert!(error.starts_with(&format!("bounded_load: {message}")), "{error}");
    }
    assert!(config(r#"{"hash_balance_factor": 4294967295, "child_policy": "maglev"}"#).is_ok());
    assert!(config("{}").unwrap().needs().hash);
}
