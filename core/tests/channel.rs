//! The channel as a host sees it: worked examples, then properties under a host that does anything.

use std::collections::BTreeMap;

use lb_core::channel::{
    Channel, ChannelConfig, ConnectionId, DnsResolverConfig, GrpclbConfig, Input, Output, Resolution, ResolvedAddress,
    ResolverConfig, StrictDnsConfig, XdsConfig,
};
use lb_core::{Address, Context, EndpointId, Nanos, Pick, PickContext, PolicyConfig};
use proptest::prelude::*;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

const fn s(n: u64) -> Nanos {
    Nanos::from_secs(n)
}

/// A channel and what a host needs to drive it by hand.
struct Driver {
    channel: Channel,
    rng: Xoshiro256PlusPlus,
    now: Nanos,
}

impl Driver {
    fn new(config: &ChannelConfig) -> Self {
        let mut driver = Self { channel: Channel::new(config), rng: Xoshiro256PlusPlus::seed_from_u64(1), now: s(0) };
        driver.channel.start(&mut Context::new(s(0), &mut driver.rng));
        driver
    }

    /// `round_robin`, with this resolver and no jitter on back-offs.
    fn round_robin(resolver: ResolverConfig) -> Self {
        let mut config =
            ChannelConfig { policy: PolicyConfig::named("round_robin").unwrap(), resolver, ..ChannelConfig::default() };
        config.backoff.jitter = 0.0;
        Self::new(&config)
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        self.channel.handle(&mut Context::new(self.now, &mut self.rng), input);
        self.outputs()
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.channel.poll()).collect()
    }

    /// Moves to a time and fires the timer there.
    fn at(&mut self, now: Nanos) -> Vec<Output> {
        self.now = now;
        self.tell(Input::Timer)
    }

    fn resolved(&mut self, names: &[&str]) -> Vec<Output> {
        let addresses = names.iter().map(|n| ResolvedAddress::new(Address::new(n))).collect();
        self.tell(Input::Resolved(Resolution { addresses, ttl: s(30) }))
    }

    fn pushed(&mut self, names: &[&str]) -> Vec<Output> {
        self.tell(Input::Pushed(names.iter().map(|n| ResolvedAddress::new(Address::new(n))).collect()))
    }

    /// Connects to everything these outputs want, and says so.
    fn connect_all(&mut self, outputs: &[Output]) -> BTreeMap<String, ConnectionId> {
        let connections: BTreeMap<_, _> =
            outputs.iter().filter(|o| matches!(o, Output::Connect { .. })).map(connect).collect();
        for &connection in connections.values() {
            self.tell(Input::Connected(connection));
        }
        connections
    }

    fn pick(&mut self) -> Pick {
        let picker = self.channel.picker(&mut Context::new(self.now, &mut self.rng));
        picker.pick(&mut PickContext::new(self.now, &mut self.rng))
    }

    /// Resolves, connects to everything, and gives the connections by address.
    fn connected(&mut self, names: &[&str]) -> BTreeMap<String, ConnectionId> {
        assert_eq!(self.outputs(), [Output::Resolve]);
        let connections: BTreeMap<_, _> = self.resolved(names).iter().map(connect).collect();
        for &connection in connections.values() {
            self.tell(Input::Connected(connection));
        }
        connections
    }
}

fn connect(output: &Output) -> (String, ConnectionId) {
    match output {
        Output::Connect { connection, address } => (address.to_string(), *connection),
        other => panic!("{other:?} is not Connect"),
    }
}

#[test]
fn a_healthy_channel_never_asks_for_its_name_again() {
    let mut d = Driver::round_robin(ResolverConfig::default());
    d.connected(&["a", "b", "c"]);
    assert_eq!(d.at(s(3600)), []);
    assert!(matches!(d.pick(), Pick::Endpoint(_)));
}

#[test]
fn a_goaway_reconnects_at_once_and_asks_at_the_floor() {
    let mut d = Driver::round_robin(ResolverConfig::default());
    let c = d.connected(&["a", "b"]);
    d.now = s(10);
    let outputs = d.tell(Input::GoAway(c["a"]));
    assert_eq!(connect(&outputs[0]).0, "a");
    assert_eq!(outputs.len(), 1, "the name was looked up 10 s ago: not before 30 s");
    assert_eq!(d.channel.next_wake(), s(30), "the attempt's deadline is 10 s + 20 s, and so is the floor's end");
    d.tell(Input::Connected(connect(&outputs[0]).1));
    assert_eq!(d.channel.next_wake(), s(30));
    assert_eq!(d.at(s(30)), [Output::Resolve]);
}

#[test]
fn a_goaway_after_the_floor_asks_at_once() {
    let mut d = Driver::round_robin(ResolverConfig::Dns(DnsResolverConfig { min_resolution_interval: s(30) }));
    let c = d.connected(&["a"]);
    d.now = s(100);
    let outputs = d.tell(Input::GoAway(c["a"]));
    assert!(outputs.contains(&Output::Resolve), "{outputs:?}");
}

#[test]
fn failed_attempts_back_off_and_look_the_name_up_again() {
    let mut d = Driver::round_robin(ResolverConfig::default());
    assert_eq!(d.outputs(), [Output::Resolve]);
    let (_, first) = connect(&d.resolved(&["a"])[0]);
    assert_eq!(d.pick(), Pick::Queue, "connecting");
    d.now = Nanos::from_millis(100);
    assert_eq!(d.tell(Input::ConnectFailed(first)), [], "the look-up waits for the floor");
    assert!(matches!(d.pick(), Pick::Fail(_)));
    // The pause counts from the start of the attempt: 0 + 1 s, then 1 s + 1.6 s.
    assert_eq!(d.channel.next_wake(), s(1));
    let (_, second) = connect(&d.at(s(1))[0]);
    assert!(matches!(d.pick(), Pick::Fail(_)), "TRANSIENT_FAILURE lasts until READY");
    d.tell(Input::ConnectFailed(second));
    assert_eq!(d.channel.next_wake(), Nanos::from_millis(2600));
    let (_, third) = connect(&d.at(Nanos::from_millis(2600))[0]);
    d.tell(Input::Connected(third));
    assert!(matches!(d.pick(), Pick::Endpoint(_)));
}

#[test]
fn an_attempt_is_given_up_after_twenty_seconds() {
    let mut d = Driver::round_robin(ResolverConfig::default());
    assert_eq!(d.outputs(), [Output::Resolve]);
    let (_, first) = connect(&d.resolved(&["a"])[0]);
    assert_eq!(d.channel.next_wake(), s(20));
    let outputs = d.at(s(20));
    assert_eq!(outputs[0], Output::Close(first));
    // Its back-off of 1 s from the start of the attempt is long over.
    let again = d.at(s(20));
    assert_eq!(connect(outputs.get(1).or(again.first()).unwrap()).0, "a");
}

#[test]
fn an_address_that_goes_is_closed_and_its_id_waits_for_the_drain() {
    let mut d = Driver::round_robin(ResolverConfig::Dns(DnsResolverConfig { min_resolution_interval: s(1) }));
    let c = d.connected(&["a", "b"]);
    d.now = s(5);
    assert_eq!(d.resolved(&["b"]), [Output::Close(c["a"])]);
    assert_eq!(d.pick(), Pick::Endpoint(c["b"].endpoint));
    let (_, new) = connect(&d.resolved(&["b", "c"])[0]);
    assert_ne!(new.endpoint, c["a"].endpoint, "a's requests may still be reported under its id");
    d.tell(Input::Disconnected(c["a"]));
    let (_, newer) = connect(&d.resolved(&["b", "c", "d"])[0]);
    assert_eq!(newer.endpoint, c["a"].endpoint, "all of a is gone: the id is free");
    assert_ne!(newer.attempt, c["a"].attempt, "late news of a is not taken for d's");
}

#[test]
fn an_address_that_comes_back_while_draining_connects_again() {
    let mut d = Driver::round_robin(ResolverConfig::default());
    let c = d.connected(&["a", "b"]);
    d.resolved(&["b"]);
    let (name, again) = connect(&d.resolved(&["a", "b"])[0]);
    assert_eq!((name.as_str(), again.endpoint), ("a", c["a"].endpoint));
    d.tell(Input::Disconnected(c["a"]));
    d.tell(Input::Connected(again));
    let picks: Vec<Pick> = (0..2).map(|_| d.pick()).collect();
    assert!(picks.contains(&Pick::Endpoint(again.endpoint)));
}

#[test]
fn news_of_an_old_connection_is_ignored() {
    let mut d = Driver::round_robin(ResolverConfig::default());
    let c = d.connected(&["a"]);
    let (_, second) = connect(&d.tell(Input::GoAway(c["a"]))[0]);
    d.tell(Input::Connected(second));
    assert_eq!(d.tell(Input::Disconnected(c["a"])), [], "the drained connection has closed");
    assert_eq!(d.pick(), Pick::Endpoint(second.endpoint));
}

#[test]
fn strict_dns_polls_whatever_the_connections_do() {
    let mut d = Driver::round_robin(ResolverConfig::StrictDns(StrictDnsConfig::default()));
    d.connected(&["a"]);
    assert_eq!(d.channel.next_wake(), s(5));
    assert_eq!(d.at(s(5)), [Output::Resolve]);
    let (name, _) = connect(&d.resolved(&["a", "b"])[0]);
    assert_eq!(name, "b");
    assert_eq!(d.channel.next_wake(), s(10));
}

#[test]
fn a_name_that_does_not_resolve_fails_requests_and_is_asked_for_again() {
    let mut d = Driver::round_robin(ResolverConfig::default());
    assert_eq!(d.outputs(), [Output::Resolve]);
    assert_eq!(d.pick(), Pick::Queue);
    assert_eq!(d.tell(Input::ResolveFailed), []);
    assert!(matches!(d.pick(), Pick::Fail(_)));
    assert_eq!(d.at(s(1)), [Output::Resolve]);
    // An empty answer is a failure too; the next pause is 1.6 s.
    d.resolved(&[]);
    assert!(matches!(d.pick(), Pick::Fail(_)));
    assert_eq!(d.at(Nanos::from_millis(2600)), [Output::Resolve]);
}

#[test]
fn a_failed_look_up_keeps_what_was_known() {
    let mut d = Driver::round_robin(ResolverConfig::StrictDns(StrictDnsConfig::default()));
    d.connected(&["a"]);
    d.at(s(5));
    d.tell(Input::ResolveFailed);
    assert!(matches!(d.pick(), Pick::Endpoint(_)));
}

#[test]
fn xds_subscribes_once_and_takes_what_is_pushed() {
    let mut d = Driver::round_robin(ResolverConfig::Xds(XdsConfig::default()));
    assert_eq!(d.outputs(), [Output::Subscribe]);
    assert_eq!(d.pick(), Pick::Queue);
    let outputs = d.pushed(&["a", "b"]);
    let c = d.connect_all(&outputs);
    assert_eq!(d.at(s(3600)), [], "no timer, no look-up");
    // A connection that fails is no reason to ask.
    let outputs = d.tell(Input::GoAway(c["a"]));
    assert!(outputs.iter().all(|o| matches!(o, Output::Connect { .. })), "{outputs:?}");
    let outputs = d.pushed(&["b", "c"]);
    assert!(d.connect_all(&outputs).contains_key("c"));
    // No endpoints is an answer like any other.
    d.pushed(&[]);
    assert!(matches!(d.pick(), Pick::Fail(_)));
    assert_eq!(d.channel.next_wake(), Nanos::NEVER);
}

#[test]
fn what_the_control_plane_does_not_have_counts_as_missing_after_fifteen_seconds() {
    let mut d = Driver::round_robin(ResolverConfig::Xds(XdsConfig::default()));
    assert_eq!(d.outputs(), [Output::Subscribe]);
    d.at(Nanos::from_millis(14_999));
    assert_eq!(d.pick(), Pick::Queue);
    assert_eq!(d.channel.next_wake(), s(15));
    assert_eq!(d.at(s(15)), []);
    assert!(matches!(d.pick(), Pick::Fail(_)));
    let outputs = d.pushed(&["a"]);
    d.connect_all(&outputs);
    assert!(matches!(d.pick(), Pick::Endpoint(_)), "late is not never");
}

#[test]
fn a_broken_stream_keeps_what_is_known_and_is_opened_again_with_back_off() {
    let mut d = Driver::round_robin(ResolverConfig::Xds(XdsConfig::default()));
    d.outputs();
    let outputs = d.pushed(&["a"]);
    d.connect_all(&outputs);
    d.now = s(100);
    assert_eq!(d.tell(Input::StreamBroken), []);
    assert!(matches!(d.pick(), Pick::Endpoint(_)));
    assert_eq!(d.at(s(101)), [Output::Subscribe]);
    d.tell(Input::StreamBroken);
    assert_eq!(d.channel.next_wake(), Nanos::from_millis(102_600), "1 s, then 1.6 s");
}

#[test]
fn a_new_client_fails_when_the_control_plane_is_away() {
    let mut d = Driver::round_robin(ResolverConfig::Xds(XdsConfig::default()));
    d.outputs();
    d.tell(Input::StreamBroken);
    assert!(matches!(d.pick(), Pick::Fail(_)), "at once: there is nothing it could wait for");
}

#[test]
fn grpclb_asks_the_balancer_and_keeps_dns_for_later() {
    let mut d = Driver::round_robin(ResolverConfig::Grpclb(GrpclbConfig::default()));
    assert_eq!(d.outputs(), [Output::Resolve, Output::Subscribe]);
    assert_eq!(d.resolved(&["x", "y"]), [], "backends of DNS are not used while the balancer may answer");
    assert_eq!(d.pick(), Pick::Queue);
    let outputs = d.pushed(&["a", "b", "a"]);
    assert_eq!(d.connect_all(&outputs).len(), 2, "a is in the list twice");
    assert_eq!(d.at(s(10)), [], "a list has come: no fallback at 10 s");
}

#[test]
fn a_list_that_names_an_address_twice_gives_it_twice_the_requests() {
    let policy = PolicyConfig::named("weighted_round_robin").unwrap();
    let resolver = ResolverConfig::Grpclb(GrpclbConfig::default());
    let mut d = Driver::new(&ChannelConfig { policy, resolver, ..ChannelConfig::default() });
    d.outputs();
    let outputs = d.pushed(&["a", "b", "a"]);
    let c = d.connect_all(&outputs);
    let a = Pick::Endpoint(c["a"].endpoint);
    let picker = d.channel.picker(&mut Context::new(d.now, &mut d.rng));
    let picks = (0..300).filter(|_| picker.pick(&mut PickContext::new(d.now, &mut d.rng)) == a).count();
    assert!((195..=205).contains(&picks), "two thirds of 300: {picks}");
}

#[test]
fn without_a_list_in_ten_seconds_grpclb_falls_back_until_one_comes() {
    let mut d = Driver::round_robin(ResolverConfig::Grpclb(GrpclbConfig::default()));
    d.outputs();
    d.resolved(&["x"]);
    d.tell(Input::StreamBroken);
    assert_eq!(d.pick(), Pick::Queue, "not before 10 s, even with no balancer to talk to");
    let outputs = d.at(s(10));
    assert!(outputs.contains(&Output::Subscribe), "it goes on trying: {outputs:?}");
    assert!(d.connect_all(&outputs).contains_key("x"));
    assert!(matches!(d.pick(), Pick::Endpoint(_)));
    let outputs = d.pushed(&["a"]);
    assert!(d.connect_all(&outputs).contains_key("a"));
    assert!(outputs.iter().any(|o| matches!(o, Output::Close(_))), "x is let go: {outputs:?}");
}

#[test]
fn grpclb_falls_back_only_when_the_balancer_and_all_backends_are_lost() {
    let mut d = Driver::round_robin(ResolverConfig::Grpclb(GrpclbConfig::default()));
    d.outputs();
    d.resolved(&["x"]);
    let outputs = d.pushed(&["a", "b"]);
    let c = d.connect_all(&outputs);
    let wants_x = |outputs: &[Output]| {
        outputs.iter().any(|o| matches!(o, Output::Connect { address, .. } if address.as_str() == "x"))
    };
    d.now = s(20);
    assert!(!wants_x(&d.tell(Input::StreamBroken)));
    assert!(!wants_x(&d.tell(Input::Disconnected(c["a"]))), "b is there");
    assert!(wants_x(&d.tell(Input::Disconnected(c["b"]))));
}

#[test]
fn an_endpoint_that_is_not_serving_gets_nothing_until_it_is() {
    let policy = PolicyConfig::named("round_robin").unwrap();
    let mut d = Driver::new(&ChannelConfig { policy, health_check: true, ..ChannelConfig::default() });
    d.outputs();
    let outputs = d.resolved(&["a", "b"]);
    let c = d.connect_all(&outputs);
    assert_eq!(d.pick(), Pick::Queue, "connected, but their health is not known");
    d.tell(Input::Health(c["a"], true));
    d.tell(Input::Health(c["b"], false));
    assert!((0..4).all(|_| d.pick() == Pick::Endpoint(c["a"].endpoint)));
    d.tell(Input::Health(c["a"], false));
    assert!(matches!(d.pick(), Pick::Fail(_)));
    d.tell(Input::Health(c["b"], true));
    assert_eq!(d.pick(), Pick::Endpoint(c["b"].endpoint));
}

#[test]
fn pick_first_does_not_check_health() {
    let mut d = Driver::new(&ChannelConfig { health_check: true, ..ChannelConfig::default() });
    d.outputs();
    let (_, first) = connect(&d.resolved(&["a"])[0]);
    d.tell(Input::Connected(first));
    assert_eq!(d.pick(), Pick::Endpoint(first.endpoint));
    d.tell(Input::Health(first, false));
    assert_eq!(d.pick(), Pick::Endpoint(first.endpoint));
}

#[test]
fn pick_first_has_one_connection_and_rests_when_it_is_lost() {
    let mut d = Driver::new(&ChannelConfig::default());
    assert_eq!(d.outputs(), [Output::Resolve]);
    let outputs = d.resolved(&["a", "b", "c"]);
    assert_eq!(outputs.len(), 1, "one attempt at a time: {outputs:?}");
    let (_, first) = connect(&outputs[0]);
    d.tell(Input::Connected(first));
    assert_eq!(d.pick(), Pick::Endpoint(first.endpoint));
    d.now = s(10);
    let outputs = d.tell(Input::GoAway(first));
    assert!(outputs.iter().all(|o| !matches!(o, Output::Connect { .. })), "idle until a request comes: {outputs:?}");
    assert_eq!(d.pick(), Pick::Queue);
    let outputs = d.tell(Input::Waiting);
    assert!(outputs.iter().any(|o| matches!(o, Output::Connect { .. })), "{outputs:?}");
}

#[test]
fn ring_hash_connects_to_whom_requests_mean_and_reconnects_to_whom_failed() {
    let mut config = ChannelConfig { policy: PolicyConfig::named("ring_hash").unwrap(), ..ChannelConfig::default() };
    config.backoff.jitter = 0.0;
    let mut d = Driver::new(&config);
    assert_eq!(d.outputs(), [Output::Resolve]);
    assert_eq!(d.resolved(&["a", "b", "c"]), []);
    let pick = |d: &mut Driver| {
        let picker = d.channel.picker(&mut Context::new(d.now, &mut d.rng));
        picker.pick(&mut PickContext::new(d.now, &mut d.rng).with_hash(1))
    };
    assert_eq!(pick(&mut d), Pick::Queue);
    let outputs = d.tell(Input::Waiting);
    let [meant] = &outputs[..] else { panic!("{outputs:?}") };
    let meant = connect(meant).1;
    // It fails: another is tried at once, and itself again after a second of back-off.
    let outputs = d.tell(Input::ConnectFailed(meant));
    let next: Vec<_> = outputs.iter().filter(|o| matches!(o, Output::Connect { .. })).map(connect).collect();
    assert_eq!(next.len(), 1, "{outputs:?}");
    // The request means the third now, which is the next on the ring.
    assert_eq!(pick(&mut d), Pick::Queue);
    let outputs = d.tell(Input::Waiting);
    let [third] = &outputs[..] else { panic!("{outputs:?}") };
    assert_ne!(connect(third).1.endpoint, next[0].1.endpoint);
    let outputs = d.at(s(1));
    assert_eq!(outputs.iter().map(|o| connect(o).1.endpoint).collect::<Vec<_>>(), [meant.endpoint]);
    let again = connect(&outputs[0]).1;
    d.tell(Input::Connected(again));
    assert_eq!(pick(&mut d), Pick::Endpoint(meant.endpoint));
    // The server closes it: nobody connects before a request means it again.
    let outputs = d.tell(Input::Disconnected(again));
    assert!(!outputs.iter().any(|o| matches!(o, Output::Connect { .. })), "{outputs:?}");
    assert_eq!(pick(&mut d), Pick::Queue);
    let outputs = d.tell(Input::Waiting);
    assert_eq!(outputs.iter().map(|o| connect(o).1.endpoint).collect::<Vec<_>>(), [meant.endpoint]);
}

#[test]
fn pick_first_comes_back_to_an_endpoint_whose_back_off_ended_during_the_walk() {
    let mut config = ChannelConfig::default();
    config.backoff.jitter = 0.0;
    let mut d = Driver::new(&config);
    assert_eq!(d.outputs(), [Output::Resolve]);
    let (_, first) = connect(&d.resolved(&["a", "b"])[0]);
    // a refuses at once; b hangs for longer than a's back-off of 1 s, then refuses too.
    let (name, second) = connect(&d.tell(Input::ConnectFailed(first))[0]);
    assert_eq!(name, "b");
    assert_eq!(d.at(s(1)), [], "a may be tried again, but the walk is at b");
    d.now = s(3);
    let retried: Vec<String> = d.tell(Input::ConnectFailed(second)).iter().map(|o| connect(o).0).collect();
    assert_eq!(retried, ["a", "b"], "the walk has failed: both are tried again as their back-offs allow");
}

/// What a host may do next, at random.
#[derive(Debug, Clone)]
enum Step {
    Answer(Vec<u8>),
    FailLookUp,
    Push(Vec<u8>),
    BreakStream,
    Health(usize, bool),
    Connect(usize),
    Refuse(usize),
    GoAway(usize),
    Cut(usize),
    Wait,
    Advance(u64),
    StaleNews(u32, u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec(0u8..6, 0..6).prop_map(Step::Answer),
        Just(Step::FailLookUp),
        prop::collection::vec(0u8..6, 0..6).prop_map(Step::Push),
        Just(Step::BreakStream),
        (0usize..8, any::<bool>()).prop_map(|(i, serving)| Step::Health(i, serving)),
        (0usize..8).prop_map(Step::Connect),
        (0usize..8).prop_map(Step::Connect),
        (0usize..8).prop_map(Step::Refuse),
        (0usize..8).prop_map(Step::GoAway),
        (0usize..8).prop_map(Step::Cut),
        Just(Step::Wait),
        (0u64..40_000).prop_map(Step::Advance),
        (0u32..8, 0u32..4).prop_map(|(e, a)| Step::StaleNews(e, a)),
    ]
}

/// A host that keeps its own books.
#[derive(Default)]
struct Books {
    connecting: Vec<ConnectionId>,
    ready: Vec<ConnectionId>,
    draining: Vec<ConnectionId>,
}

impl Books {
    fn carry_out(&mut self, outputs: Vec<Output>) -> Vec<ConnectionId> {
        let mut closed = Vec::new();
        for output in outputs {
            match output {
                Output::Resolve | Output::Subscribe => {}
                Output::Connect { connection, .. } => {
                    let live = self.connecting.iter().chain(&self.ready);
                    let same = live.filter(|c| c.endpoint == connection.endpoint).count();
                    assert_eq!(same, 0, "one connection or attempt per endpoint at a time");
                    self.connecting.push(connection);
                }
                Output::Close(connection) => {
                    self.connecting.retain(|c| *c != connection);
                    self.ready.retain(|c| *c != connection);
                    closed.push(connection);
                }
            }
        }
        closed
    }
}

fn take(list: &mut Vec<ConnectionId>, at: usize) -> Option<ConnectionId> {
    (!list.is_empty()).then(|| list.remove(at % list.len()))
}

proptest! {
    /// Whatever the host reports, in whatever order: no panic, at most one connection per endpoint, every pick is an
    /// endpoint with a ready connection, and the channel does not spin in time.
    #[test]
    fn any_host(
        policy in 0..PolicyConfig::NAMES.len(),
        resolver in 0..ResolverConfig::NAMES.len(),
        health_check: bool,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let policy = PolicyConfig::named(PolicyConfig::NAMES[policy]).unwrap();
        let resolver = match ResolverConfig::NAMES[resolver] {
            "dns" => ResolverConfig::Dns(DnsResolverConfig::default()),
            "strict_dns" => ResolverConfig::StrictDns(StrictDnsConfig::default()),
            "xds" => ResolverConfig::Xds(XdsConfig::default()),
            _ => ResolverConfig::Grpclb(GrpclbConfig::default()),
        };
        let mut d = Driver::new(&ChannelConfig { policy, resolver, health_check, ..ChannelConfig::default() });
        let mut books = Books::default();
        let mut todo = d.outputs();
        for step in steps {
            let input = match step {
                Step::Answer(names) => {
                    let names: Vec<String> = names.iter().map(|n| format!("10.0.0.{n}:1")).collect();
                    let addresses = names.iter().map(|n| ResolvedAddress::new(Address::new(n))).collect();
                    Some(Input::Resolved(Resolution { addresses, ttl: s(5) }))
                }
                Step::FailLookUp => Some(Input::ResolveFailed),
                Step::Push(names) => {
                    let names = names.iter().map(|n| format!("10.0.0.{n}:1"));
                    Some(Input::Pushed(names.map(|n| ResolvedAddress::new(Address::new(&n))).collect()))
                }
                Step::BreakStream => Some(Input::StreamBroken),
                Step::Health(i, serving) => {
                    (!books.ready.is_empty()).then(|| Input::Health(books.ready[i % books.ready.len()], serving))
                }
                Step::Connect(i) => take(&mut books.connecting, i).map(|c| { books.ready.push(c); Input::Connected(c) }),
                Step::Refuse(i) => take(&mut books.connecting, i).map(Input::ConnectFailed),
                Step::GoAway(i) => take(&mut books.ready, i).map(|c| { books.draining.push(c); Input::GoAway(c) }),
                Step::Cut(i) => take(&mut books.draining, i).or_else(|| take(&mut books.ready, i)).map(Input::Disconnected),
                Step::Wait => Some(Input::Waiting),
                Step::Advance(ms) => { d.now += Nanos::from_millis(ms); Some(Input::Timer) }
                Step::StaleNews(endpoint, attempt) => {
                    let stale = ConnectionId { endpoint: EndpointId(endpoint), attempt: attempt.wrapping_sub(2) };
                    Some(Input::GoAway(stale)).filter(|_| !books.ready.contains(&stale))
                }
            };
            if let Some(input) = input {
                todo.extend(d.tell(input));
            }
            // Carry out, and report what was closed; that may bring more to carry out.
            for _ in 0..100 {
                let closed = books.carry_out(std::mem::take(&mut todo));
                if closed.is_empty() {
                    break;
                }
                for connection in closed {
                    todo.extend(d.tell(Input::Disconnected(connection)));
                }
            }
            prop_assert!(todo.is_empty(), "the channel goes on closing for ever");
            // Timers that are due come to rest.
            for _ in 0..100 {
                if d.channel.next_wake() > d.now {
                    break;
                }
                let outputs = d.tell(Input::Timer);
                for connection in books.carry_out(outputs) {
                    let outputs = d.tell(Input::Disconnected(connection));
                    prop_assert!(books.carry_out(outputs).is_empty());
                }
            }
            prop_assert!(d.channel.next_wake() > d.now, "the channel spins at one instant");
            for _ in 0..5 {
                if let Pick::Endpoint(endpoint) = d.pick() {
                    prop_assert!(books.ready.iter().any(|c| c.endpoint == endpoint), "{endpoint:?} is not ready");
                }
            }
        }
    }
}
