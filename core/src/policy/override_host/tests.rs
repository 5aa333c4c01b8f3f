use super::*;
use crate::policy::draw::scripted::Script;
use crate::policy::least_request::LeastRequestConfig;
use crate::{Code, Outcome};
use Connectivity::{Connecting, Idle, Ready, TransientFailure, Unhealthy};

/// A policy and a channel that connects what is wanted, at once or when it is told to.
struct Bench {
    policy: Box<dyn Policy>,
    shared: Shared,
    rng: Script,
    now: Nanos,
    due: Option<Nanos>,
    /// Listed endpoints.
    links: Vec<(u32, Connectivity)>,
}

fn address(i: u32) -> Address {
    Address::new(&format!("127.0.0.1:{}", 441 + i))
}

impl Bench {
    fn new(config: OverrideHostConfig) -> Self {
        let shared = Shared::default();
        let (policy, rng) = (config.build(&shared), Script::indices(1, &[0]));
        Self { policy, shared, rng, now: Nanos::ZERO, due: None, links: Vec::new() }
    }

    /// Over three endpoints that are all connected if they are wanted.
    fn started(config: OverrideHostConfig) -> Self {
        let mut bench = Self::new(config);
        bench.update(&[0, 1, 2], &[]);
        bench.connect();
        bench
    }

    fn control<T>(&mut self, call: impl FnOnce(&mut dyn Policy, &mut Context<'_>) -> T) -> T {
        let result = call(&mut *self.policy, &mut Context::new(self.now, &mut self.rng));
        self.due = self.policy.tick(&mut Context::new(self.now, &mut self.rng));
        // What nobody wants is closed, and the policy does not hear of it.
        for (id, link) in &mut self.links {
            if is_open(*link) && !wants(&*self.policy, *id) {
                *link = Idle;
            }
        }
        result
    }

    /// The listed endpoints, and which of them drain.
    fn update(&mut self, listed: &[u32], draining: &[u32]) {
        let before = std::mem::take(&mut self.links);
        let link = |&i: &u32| (i, before.iter().find(|(id, _)| *id == i).map_or(Idle, |(_, link)| *link));
        self.links = listed.iter().map(link).collect();
        let endpoint =
            |&i: &u32| Endpoint { draining: draining.contains(&i), ..Endpoint::new(EndpointId(i), address(i)) };
        let endpoints = EndpointSet::new(listed.iter().map(endpoint));
        self.control(|p, cx| p.update(cx, &endpoints));
    }

    fn is(&mut self, endpoint: u32, state: Connectivity) {
        let link = self.links.iter_mut().find(|(id, _)| *id == endpoint).unwrap();
        link.1 = state;
        self.control(|p, cx| p.connectivity(cx, EndpointId(endpoint), state));
    }

    fn connect(&mut self) {
        for (id, link) in self.links.clone() {
            if link == Idle && wants(&*self.policy, id) {
                self.is(id, Connecting);
                self.is(id, Ready);
            }
        }
    }

    fn connected(&self) -> Vec<u32> {
        self.links.iter().filter(|(_, link)| *link == Ready).map(|(id, _)| *id).collect()
    }

    fn at(&mut self, s: u64) {
        self.now = Nanos::from_secs(s);
        self.control(|_, _| ());
    }

    fn picker(&mut self) -> Arc<dyn Picker> {
        self.control(|p, cx| p.picker(cx))
    }

    fn pick(&mut self, session: Option<&Address>) -> Pick {
        let picker = self.picker();
        let mut rng = Script::indices(1, &[0]);
        let mut cx = PickContext { session, ..PickContext::new(self.now, &mut rng) };
        let pick = picker.pick(&mut cx);
        if pick == Pick::Queue || cx.asks.exit_idle {
            self.control(|p, cx| p.exit_idle(cx));
        }
        pick
    }

    /// Where requests of this endpoint's session go, or how they fare.
    fn session(&mut self, endpoint: u32) -> Pick {
        let picks = [(); 3].map(|()| self.pick(Some(&address(endpoint))));
        assert!(picks.iter().all(|pick| *pick == picks[0]), "{picks:?}");
        picks[0].clone()
    }

    /// Who gets requests without a session, or with one that is of no use.
    fn turns(&mut self, session: Option<&Address>) -> Vec<u32> {
        let n = self.links.len();
        let mut counts = vec![0; 3];
        for _ in 0..6 * n {
            match self.pick(session) {
                Pick::Endpoint(EndpointId(i)) => counts[i as usize] += 1,
                pick => panic!("{pick:?}"),
            }
        }
        let seen: Vec<u32> = (0..3).filter(|&i| counts[i as usize] > 0).collect();
        assert!(seen.iter().all(|&i| counts[i as usize] == 6 * n / seen.len()), "not in turns: {counts:?}");
        seen
    }
}

fn wants(policy: &dyn Policy, endpoint: u32) -> bool {
    match policy.wanted() {
        Wanted::All => true,
        Wanted::Only(ids) => ids.contains(&EndpointId(endpoint)),
    }
}

const fn to(endpoint: u32) -> Pick {
    Pick::Endpoint(EndpointId(endpoint))
}

fn around(child: PolicyConfig) -> OverrideHostConfig {
    OverrideHostConfig { child_policy: Box::new(child), ..Default::default() }
}

#[test]
fn xds_override_host_test_override_host() {
    let mut bench = Bench::started(OverrideHostConfig::default());
    assert_eq!((bench.session(1), bench.session(0)), (to(1), to(0)));
    assert_eq!(bench.turns(None), [0, 1, 2]);
}

#[test]
fn xds_override_host_test_subchannel_not_found() {
    let mut bench = Bench::started(OverrideHostConfig::default());
    assert_eq!(bench.turns(Some(&Address::new("no such host"))), [0, 1, 2]);
}

#[test]
fn xds_override_host_test_subchannels_come_and_go() {
    let mut bench = Bench::started(OverrideHostConfig::default());
    assert_eq!(bench.session(1), to(1));
    bench.update(&[0, 2], &[]);
    assert_eq!(bench.turns(Some(&address(1))), [0, 2]);
    bench.update(&[1, 2], &[]);
    bench.connect();
    assert_eq!(bench.session(1), to(1));
}

#[test]
fn xds_override_host_test_override_is_queued_in_idle_or_connecting_and_failed_in_transient_failure() {
    let mut bench = Bench::started(OverrideHostConfig::default());
    assert_eq!(bench.session(1), to(1));
    for state in [Idle, Connecting] {
        bench.is(1, state);
        assert_eq!(bench.session(1), Pick::Queue, "{state:?}");
        assert_eq!(bench.turns(None), [0, 2]);
    }
    let waited = bench.picker();
    bench.is(1, TransientFailure);
    assert!(!Arc::ptr_eq(&waited, &bench.picker()), "who waited is picked for again");
    assert_eq!(bench.turns(Some(&address(1))), [0, 2]);
    bench.is(1, Unhealthy);
    assert_eq!(bench.turns(Some(&address(1))), [0, 2]);
}

#[test]
fn xds_override_host_test_draining_state() {
    let mut bench = Bench::started(OverrideHostConfig::default());
    assert_eq!(bench.session(1), to(1));
    bench.update(&[0, 1, 2], &[1]);
    assert_eq!(bench.turns(None), [0, 2]);
    assert_eq!(bench.session(1), to(1));
    bench.update(&[0, 2], &[]);
    assert_eq!(bench.turns(Some(&address(1))), [0, 2], "gone");
}

#[test]
fn xds_override_host_test_draining_subchannel_is_connecting() {
    let mut bench = Bench::started(OverrideHostConfig::default());
    assert_eq!(bench.session(1), to(1));
    bench.update(&[0, 1, 2], &[1]);
    for state in [Idle, Connecting] {
        bench.is(1, state);
        assert_eq!(bench.session(1), Pick::Queue);
        assert_eq!(bench.turns(None), [0, 2]);
        assert!(wants(&*bench.policy, 1));
    }
    let waited = bench.picker();
    bench.is(1, Ready);
    assert!(!Arc::ptr_eq(&waited, &bench.picker()), "who waited is picked for again, though the child knows nothing");
    assert_eq!(bench.session(1), to(1));
    assert_eq!(bench.turns(None), [0, 2]);
}

#[test]
fn xds_override_host_test_draining_to_healthy() {
    let mut bench = Bench::started(OverrideHostConfig::default());
    assert_eq!(bench.session(1), to(1));
    bench.update(&[0, 1, 2], &[1]);
    assert_eq!(bench.turns(None), [0, 2]);
    bench.update(&[0, 1, 2], &[]);
    assert_eq!(bench.session(1), to(1));
    assert_eq!(bench.turns(None), [0, 1, 2], "the child hears that it is connected");
}

#[test]
fn xds_override_host_test_override_host_status() {
    use HealthStatus::{Draining, Healthy, Unknown};
    let with = |statuses: &[HealthStatus]| {
        let config = OverrideHostConfig { override_host_status: statuses.to_vec(), ..Default::default() };
        let mut bench = Bench::started(config);
        bench.pick(Some(&address(2)));
        bench.update(&[0, 1, 2], &[2]);
        bench
    };
    for statuses in [[Unknown, Healthy, Draining].as_slice(), &[Healthy, Draining], &[Unknown, Draining]] {
        let mut bench = with(statuses);
        assert_eq!([0, 1, 2].map(|i| bench.session(i)), [0, 1, 2].map(to), "{statuses:?}");
    }
    // gRPC's and Envoy's default.
    let mut bench = with(&[Unknown, Healthy]);
    assert_eq!([0, 1].map(|i| bench.session(i)), [0, 1].map(to));
    assert_eq!(bench.turns(Some(&address(2))), [0, 1]);
    assert_eq!(bench.connected(), [0, 1], "nobody has a use for the one that drains");
    let mut bench = with(&[Draining]);
    assert_eq!(bench.turns(Some(&address(0))), [0, 1]);
    assert_eq!(bench.session(2), Pick::Queue, "before it drained it was no session's");
    bench.connect();
    assert_eq!(bench.session(2), to(2));
    assert_eq!(with(&[]).turns(Some(&address(1))), [0, 1]);
}

#[test]
fn xds_override_host_test_child_policy_never_created_subchannel() {
    let mut bench = Bench::new(OverrideHostConfig::default());
    bench.update(&[0, 1, 2], &[1]);
    bench.connect();
    assert_eq!(bench.connected(), [0, 2]);
    assert_eq!(bench.session(1), Pick::Queue);
    assert!(wants(&*bench.policy, 1));
    bench.is(1, Connecting);
    assert_eq!(bench.session(1), Pick::Queue);
    bench.is(1, Ready);
    assert_eq!(bench.session(1), to(1));
    assert_eq!(bench.turns(None), [0, 2]);
}

#[test]
fn xds_override_host_test_child_policy_unrefs_subchannel_not_used_within_idle_threshold() {
    let mut bench = Bench::started(OverrideHostConfig::default());
    bench.update(&[0, 1, 2], &[1]);
    assert_eq!(bench.connected(), [0, 2]);
}

#[test]
fn xds_override_host_test_idle_timer() {
    let mut bench = Bench::started(OverrideHostConfig { idle_timeout: Nanos::from_secs(60), ..Default::default() });
    assert_eq!((bench.session(1), bench.session(2)), (to(1), to(2)));
    bench.at(5);
    bench.update(&[0, 1, 2], &[1, 2]);
    assert_eq!(bench.due, Some(Nanos::from_secs(60)), "in 55 s");
    assert_eq!((bench.turns(None), bench.session(1), bench.session(2)), (vec![0], to(1), to(2)));
    bench.at(60);
    assert_eq!(bench.connected(), [0, 1, 2], "both were used at 5 s");
    assert_eq!(bench.due, Some(Nanos::from_secs(65)));
    assert_eq!(bench.session(1), to(1));
    bench.at(65);
    assert_eq!(bench.connected(), [0, 1]);
    assert_eq!(bench.due, Some(Nanos::from_secs(120)), "in 55 s");
}

#[test]
fn a_strict_session_fails_without_its_endpoint() {
    let mut bench = Bench::started(OverrideHostConfig { strict: true, ..Default::default() });
    assert_eq!(bench.session(1), to(1));
    bench.is(1, Connecting);
    assert_eq!(bench.session(1), Pick::Queue);
    bench.is(1, TransientFailure);
    assert!(matches!(bench.session(1), Pick::Fail(status) if status.code == Code::Unavailable));
    assert!(matches!(bench.session(7), Pick::Fail(_)));
    assert_eq!(bench.turns(None), [0, 2]);
}

#[test]
fn a_child_that_is_connected_to_one_does_not_keep_sessions_from_the_others() {
    let mut bench = Bench::started(around(PolicyConfig::PickFirst(Default::default())));
    assert_eq!(bench.connected(), [0]);
    assert_eq!(bench.session(2), Pick::Queue);
    bench.connect();
    assert_eq!(bench.connected(), [0, 2]);
    assert_eq!((bench.session(2), bench.pick(None)), (to(2), to(0)), "the child does not take the session's");
    // The child's own is lost and can't be had again; of those that it tries next, 2 is connected.
    bench.is(0, Idle);
    assert_eq!(bench.pick(None), Pick::Queue);
    bench.is(0, Connecting);
    bench.is(0, TransientFailure);
    bench.is(1, Connecting);
    bench.is(1, TransientFailure);
    assert_eq!((bench.pick(None), bench.session(2)), (to(2), to(2)));
    // It stays when sessions have ended, as it is the child's now.
    bench.at(4_000);
    assert_eq!(bench.connected(), [2]);
    assert_eq!(bench.pick(None), to(2));
}

#[test]
fn a_session_that_ended_lets_go_of_its_connection_and_may_come_back() {
    let mut bench = Bench::started(around(PolicyConfig::PickFirst(Default::default())));
    bench.session(1);
    bench.connect();
    assert_eq!(bench.session(1), to(1));
    bench.at(3_600);
    assert_eq!(bench.connected(), [0]);
    assert_eq!(bench.session(1), Pick::Queue);
    bench.connect();
    assert_eq!(bench.session(1), to(1));
}

#[test]
fn sessions_are_counted_by_the_child_also_where_it_sees_no_endpoint() {
    let mut bench = Bench::started(around(PolicyConfig::LeastRequest(LeastRequestConfig::default())));
    bench.update(&[0, 2, 40], &[40]);
    let ended = Outcome::new(Code::Ok, Nanos::ZERO);
    assert_eq!(bench.session(40), Pick::Queue);
    bench.connect();
    for endpoint in [2, 40] {
        for _ in 0..5 {
            assert_eq!(bench.pick(Some(&address(endpoint))), to(endpoint));
        }
        assert_eq!(bench.shared.outstanding.get(EndpointId(endpoint)), 5);
        (0..5).for_each(|_| bench.picker().done(EndpointId(endpoint), Nanos::ZERO, &ended));
        assert_eq!(bench.shared.outstanding.get(EndpointId(endpoint)), 0);
    }
}

#[test]
fn addresses_are_found_by_their_hash() {
    let endpoints = EndpointSet::new((0..500).map(|i| Endpoint::new(EndpointId(2 * i), address(i))));
    let all = Allowed { draining: false, others: true };
    let mut table = Table::new(&endpoints, all);
    for i in 0..500 {
        assert_eq!(table.find(&address(i)), Some(EndpointId(2 * i)));
    }
    assert_eq!(table.find(&address(500)), None);
    // If all hashes were one, the address would tell.
    let hash = hash(&address(7));
    table.by_hash.iter_mut().for_each(|entry| entry.0 = hash);
    assert_eq!(table.find(&address(7)), Some(EndpointId(14)));
}
