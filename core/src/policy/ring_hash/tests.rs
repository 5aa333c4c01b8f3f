use super::*;
use crate::policy::PolicyConfig;
use crate::policy::draw::scripted::Script;
use crate::{Address, Endpoint, Nanos};
use Connectivity::{Connecting, Idle, Ready, TransientFailure, Unhealthy};

/// A policy over endpoints 0 to n − 1, and what a host does with it.
struct Host(RingHash);

impl Host {
    fn new(n: u32) -> Self {
        Self::with(&RingHashConfig::default(), n)
    }

    fn with(config: &RingHashConfig, n: u32) -> Self {
        let mut host = Self(RingHash::new(config, None));
        host.update(&(0..n).collect::<Vec<_>>());
        host
    }

    fn update(&mut self, ids: &[u32]) {
        let endpoint = |&i: &u32| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
        self.set(EndpointSet::new(ids.iter().map(endpoint)));
    }

    fn set(&mut self, endpoints: EndpointSet) {
        self.0.update(&mut Context::new(Nanos::ZERO, &mut Script::indices(1, &[0])), &endpoints);
    }

    fn tell(&mut self, id: u32, states: &[Connectivity]) {
        for &state in states {
            let mut rng = Script::indices(1, &[0]);
            self.0.connectivity(&mut Context::new(Nanos::ZERO, &mut rng), EndpointId(id), state);
        }
    }

    fn picker(&mut self) -> Arc<dyn Picker> {
        self.0.picker(&mut Context::new(Nanos::ZERO, &mut Script::indices(1, &[0])))
    }

    /// What a request gets, by a key of this hash, or with a random one that is 0; and the policy hears of what it asks for.
    fn pick(&mut self, hash: Option<u64>) -> Pick {
        let mut rng = Script::indices(1, &[0]);
        let mut cx = PickContext { hash, ..PickContext::new(Nanos::ZERO, &mut rng) };
        let pick = self.picker().pick(&mut cx);
        if cx.asks.exit_idle || pick == Pick::Queue {
            self.0.exit_idle(&mut Context::new(Nanos::ZERO, &mut Script::indices(1, &[0])));
        }
        pick
    }

    fn wanted(&self) -> Vec<u32> {
        match self.0.wanted() {
            Wanted::Only(ids) => ids.iter().map(|id| id.0).collect(),
            Wanted::All => panic!("all"),
        }
    }

    /// The endpoints in the order in which they first come on the ring from 0.
    fn in_ring_order(&self) -> Vec<u32> {
        let mut order = Vec::new();
        for id in self.0.ring.from(0) {
            if !order.contains(&id.0) {
                order.push(id.0);
            }
        }
        order
    }
}

/// Two endpoints, of which the first on the ring from 0 comes first, in these states.
fn two(states: [&[Connectivity]; 2]) -> (Host, u32, u32) {
    let mut host = Host::new(2);
    let order = host.in_ring_order();
    host.tell(order[0], states[0]);
    host.tell(order[1], states[1]);
    (host, order[0], order[1])
}

fn to(id: u32) -> Pick {
    Pick::Endpoint(EndpointId(id))
}

#[test]
fn picker_test_pick_first_two() {
    const FAILED: &[Connectivity] = &[TransientFailure];
    let (mut host, first, _) = two([&[Ready], &[]]);
    assert_eq!((host.pick(Some(0)), host.wanted()), (to(first), vec![first]));
    let (mut host, first, _) = two([&[Connecting], &[]]);
    assert_eq!((host.pick(Some(0)), host.wanted()), (Pick::Queue, vec![first]));
    let (mut host, first, _) = two([&[], &[]]);
    assert_eq!((host.pick(Some(0)), host.wanted()), (Pick::Queue, vec![first]));
    let (mut host, _, second) = two([FAILED, &[Ready]]);
    assert_eq!(host.pick(Some(0)), to(second));
    let (mut host, _, _) = two([FAILED, &[Connecting]]);
    assert_eq!(host.pick(Some(0)), Pick::Queue);
    let (mut host, first, second) = two([FAILED, &[]]);
    assert_eq!((host.pick(Some(0)), host.wanted()), (Pick::Queue, vec![first, second]));
    let (mut host, _, _) = two([FAILED, FAILED]);
    assert_eq!(host.pick(Some(0)), Pick::Fail(endpoint_states::nothing_connects(2)));
}

#[test]
fn picker_test_random_hash() {
    let (mut host, first, _) = two([&[Ready], &[]]);
    assert_eq!((host.pick(None), host.wanted()), (to(first), vec![first]));
    // The first is connected on the way to the second.
    let (mut host, first, second) = two([&[], &[Ready]]);
    assert_eq!((host.pick(None), host.wanted()), (to(second), vec![second, first]));
    let (mut host, first, _) = two([&[Connecting], &[]]);
    assert_eq!((host.pick(None), host.wanted()), (Pick::Queue, vec![first]));
    let (mut host, first, second) = two([&[TransientFailure], &[]]);
    assert_eq!((host.pick(None), host.wanted()), (Pick::Queue, vec![first, second]));
}

#[test]
fn ringhash_test_request_hash_key_connecting() {
    // gRFC A76: a request without a key wakes one endpoint at most, and none while one is connecting.
    let mut host = Host::new(20);
    let order = host.in_ring_order();
    for _ in 0..3 {
        assert_eq!((host.pick(None), host.wanted()), (Pick::Queue, vec![order[0]]));
    }
    host.tell(order[0], &[Connecting, Ready]);
    host.tell(order[0], &[Idle]);
    host.tell(order[3], &[Connecting, Ready]);
    // On the way from the first to the fourth there are three that are IDLE.
    assert_eq!((host.pick(None), host.wanted()), (to(order[3]), vec![order[3], order[0]]));
    assert_eq!((host.pick(None), host.wanted()), (to(order[3]), vec![order[3], order[0]]));
}

#[test]
fn two_requests_at_a_time_wake_one_endpoint() {
    // Before the policy has heard of the first, and of different ones by chance.
    let mut host = Host::new(20);
    let picker = host.picker();
    for word in [0, u32::MAX / 2] {
        let mut rng = Script::each(&[(word, u32::MAX)]);
        assert_eq!(picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)), Pick::Queue);
    }
    host.0.exit_idle(&mut Context::new(Nanos::ZERO, &mut Script::indices(1, &[0])));
    assert_eq!(host.wanted().len(), 1);
}

#[test]
fn ringhash_test_aggregated_connectivity_state() {
    let cases: [(&[Connectivity], Connectivity); 10] = [
        (&[Ready], Ready),
        (&[Connecting], Connecting),
        (&[Ready, TransientFailure], Ready),
        (&[Connecting, TransientFailure], Connecting),
        (&[Connecting, TransientFailure, TransientFailure], TransientFailure),
        // The rest of the rules of A42.
        (&[Idle, Idle], Idle),
        (&[TransientFailure, Idle], Connecting),
        (&[TransientFailure], TransientFailure),
        (&[TransientFailure, TransientFailure, Idle], TransientFailure),
        (&[Unhealthy, Unhealthy, Idle], TransientFailure),
    ];
    for (states, aggregate) in cases {
        let mut host = Host::new(states.len() as u32);
        for (id, state) in (0..).zip(states) {
            host.0.states.set(EndpointId(id), *state);
        }
        host.0.connecting = states.iter().filter(|s| **s == Connecting).count();
        assert_eq!(host.0.aggregate(), aggregate, "{states:?}");
    }
}

#[test]
fn ringhash_test_three_subconns_affinity() {
    let mut host = Host::new(3);
    let order = host.in_ring_order();
    let meant = order[0];
    assert_eq!((host.pick(Some(0)), host.wanted()), (Pick::Queue, vec![meant]));
    // It fails: another is tried, then the last, without a request.
    host.tell(meant, &[Connecting, TransientFailure]);
    assert_eq!(host.wanted().len(), 2);
    let second = host.wanted()[1];
    host.tell(second, &[Connecting, TransientFailure]);
    assert_eq!(host.wanted().len(), 3);
    host.tell(host.wanted()[2], &[Connecting, TransientFailure]);
    assert_eq!(host.pick(Some(0)), Pick::Fail(endpoint_states::nothing_connects(3)));
    // As they recover, from the furthest to the nearest, each takes the requests over.
    for id in order.into_iter().rev() {
        host.tell(id, &[Idle, Connecting]);
        assert_ne!(host.pick(Some(0)), Pick::Queue, "it counts as failed until it is READY");
        host.tell(id, &[Ready]);
        assert_eq!(host.pick(Some(0)), to(id));
    }
}

#[test]
fn ringhash_e2e_continues_connecting_without_picks() {
    let (mut host, first, second) = two([&[], &[]]);
    assert_eq!(host.pick(Some(0)), Pick::Queue);
    host.tell(first, &[Connecting, TransientFailure]);
    assert_eq!(host.wanted(), [first, second]);
    host.tell(second, &[Connecting, Ready]);
    assert_eq!(host.0.aggregate(), Ready);
}

#[test]
fn ringhash_e2e_recover_when_endpoint_enters_idle_or_is_removed() {
    for removed in [false, true] {
        // TRANSIENT_FAILURE, TRANSIENT_FAILURE, READY, IDLE, and the third goes.
        let mut host = Host::new(4);
        (0..2).for_each(|id| host.tell(id, &[Connecting, TransientFailure]));
        host.tell(2, &[Connecting, Ready]);
        assert_eq!(host.wanted(), [0, 1, 2]);
        if removed {
            host.update(&[0, 1, 3]);
            assert_eq!(host.wanted(), [0, 1, 3]);
        } else {
            host.tell(2, &[Idle]);
            // Either of those that are IDLE may be next: it is the one that was.
            assert_eq!(host.wanted(), [0, 1, 2]);
            host.tell(2, &[Connecting, TransientFailure]);
            assert_eq!(host.wanted(), [0, 1, 2, 3]);
        }
    }
}

#[test]
fn a_lost_connection_rests_until_a_request_means_its_endpoint() {
    let (mut host, first, second) = two([&[Connecting, Ready], &[Connecting, Ready]]);
    let picker = host.picker();
    host.tell(first, &[Idle]);
    assert_eq!(host.wanted(), [second]);
    assert!(!Arc::ptr_eq(&picker, &host.picker()));
    // The policy hears of what a request asks for, also when something else has happened before.
    let mut rng = Script::indices(1, &[0]);
    assert_eq!(host.picker().pick(&mut PickContext::new(Nanos::ZERO, &mut rng).with_hash(0)), Pick::Queue);
    host.tell(second, &[Idle]);
    assert_eq!((host.pick(Some(0)), host.wanted()), (Pick::Queue, vec![first]));
}

#[test]
fn a_picker_that_is_out_of_date_lets_requests_wait() {
    let mut host = Host::new(2);
    let old = host.picker();
    (0..2).for_each(|id| host.tell(id, &[Connecting, Ready]));
    for hash in [Some(0), None] {
        let mut rng = Script::indices(1, &[0]);
        assert_eq!(old.pick(&mut PickContext { hash, ..PickContext::new(Nanos::ZERO, &mut rng) }), Pick::Queue);
    }
}

#[test]
fn an_update_keeps_what_is_wanted_and_forgets_who_left() {
    let mut host = Host::new(3);
    let order = host.in_ring_order();
    assert_eq!(host.pick(Some(0)), Pick::Queue);
    host.update(&[2, 1, 0, 7]);
    assert_eq!((host.wanted(), host.0.connecting), (vec![order[0]], 1));
    // Under the same id, but elsewhere: nobody has asked for that one.
    host.set(EndpointSet::new((0..3).map(|i| Endpoint::new(EndpointId(i), Address::new(&format!("10.9.9.{i}:80"))))));
    assert_eq!((host.wanted(), host.0.connecting), (vec![], 0));
    host.update(&[]);
    assert_eq!(host.pick(Some(0)), Pick::Fail(endpoint_states::no_addresses()));
    // A pick asks for one that has left; if it comes back, it can be asked for again.
    host.update(&[5]);
    let old = host.picker();
    host.update(&[6]);
    let mut rng = Script::indices(1, &[0]);
    assert_eq!(old.pick(&mut PickContext::new(Nanos::ZERO, &mut rng).with_hash(0)), Pick::Queue);
    host.update(&[5]);
    assert_eq!((host.pick(Some(0)), host.wanted()), (Pick::Queue, vec![5]));
}

#[test]
fn all_are_wanted_at_once_in_envoys_way() {
    let config = RingHashConfig { connect: Connect::All, ..Default::default() };
    let mut host = Host::with(&config, 3);
    assert_eq!(host.0.wanted(), Wanted::All);
    host.tell(0, &[Connecting, Ready]);
    host.tell(0, &[Idle]);
    assert_eq!(host.0.wanted(), Wanted::All);
    let order = host.in_ring_order();
    host.tell(order[1], &[Ready]);
    assert_eq!(host.pick(Some(0)), Pick::Queue, "the one that is meant has not failed");
    assert_eq!(host.pick(None), to(order[1]));
    host.tell(order[0], &[TransientFailure]);
    assert_eq!(host.pick(Some(0)), to(order[1]));
}

#[test]
fn a_change_of_state_keeps_the_ring_and_what_changes_no_answer_the_picker() {
    let mut host = Host::new(3);
    let picker = host.picker();
    for (id, state) in [(0, Connecting), (1, Connecting), (0, Connecting), (9, Ready)] {
        host.tell(id, &[state]);
        assert!(Arc::ptr_eq(&picker, &host.picker()), "{id} {state:?}");
    }
    host.tell(0, &[Ready]);
    let ready = host.picker();
    assert!(!Arc::ptr_eq(&picker, &ready), "requests wait for it");
    host.update(&[0, 1, 2]);
    assert!(Arc::ptr_eq(&ready, &host.picker()));
}

#[test]
fn settings_are_checked_in_their_own_words() {
    let config = |settings: &str| serde_json::from_str::<PolicyConfig>(&format!(r#"{{"ring_hash": {settings}}}"#));
    let cases = [
        (r#"{"min_ring_size": 0}"#, "min_ring_size: 0, must be 1 to 8388608"),
        (r#"{"max_ring_size": 8388609}"#, "max_ring_size: 8388609, must be 1 to 8388608"),
        // ring_hash_lb_test_bad_ring_size_bounds
        (r#"{"min_ring_size": 20, "max_ring_size": 10}"#, "max_ring_size: 10, must be >= min_ring_size, 20"),
        (
            r#"{"request_hash_header": "X-User"}"#,
            "request_hash_header: X-User, must be a header's name in lower case, such as x-user",
        ),
        (
            r#"{"request_hash_header": "user-bin"}"#,
            "request_hash_header: user-bin, must be a header of text, without -bin at its end",
        ),
    ];
    for (settings, message) in cases {
        let error = config(settings).unwrap_err().to_string();
        assert!(error.starts_with(&format!("ring_hash: {message}")), "{error}");
    }
    let policy = config(r#"{"request_hash_header": "x-user", "min_ring_size": 8388608, "max_ring_size": 8388608}"#);
    assert_eq!(policy.unwrap().request_hash_header(), Some("x-user"));
    assert_eq!(PolicyConfig::named("ring_hash").unwrap().request_hash_header(), None);
    let around = r#"{"circuit_breaker": {"child_policy": {"ring_hash": {"request_hash_header": "x-user"}}}}"#;
    assert_eq!(serde_json::from_str::<PolicyConfig>(around).unwrap().request_hash_header(), Some("x-user"));
    // Built without a check: no ring is empty, and none is endless.
    for (min_ring_size, max_ring_size) in [(0, 0), (9, 3)] {
        let mut host = Host::with(&RingHashConfig { min_ring_size, max_ring_size, ..Default::default() }, 2);
        assert_eq!(host.pick(Some(0)), Pick::Queue);
    }
}
