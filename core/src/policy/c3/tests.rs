use super::*;
use crate::policy::draw::scripted::Script;
use crate::{Address, Code, Connectivity, Endpoint, LoadReport, Local};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

const A: EndpointId = EndpointId(0);
const B: EndpointId = EndpointId(1);

const fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

fn set(n: u32, clients: u32) -> EndpointSet {
    let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
    let local = Local { instances: clients, ..Local::default() };
    EndpointSet::new((0..n).map(endpoint)).with_local(Arc::new(local))
}

/// A policy over `n` ready endpoints as one of so many clients.
struct Client {
    policy: ConnectAll<C3>,
    feedbacks: Arc<Feedbacks>,
    rng: Xoshiro256PlusPlus,
}

impl Client {
    fn new(config: &C3Config, n: u32, clients: u32, seed: u64) -> Self {
        let factory = C3::new(config, &Shared::default());
        let feedbacks = factory.feedbacks.clone();
        let mut client =
            Self { policy: ConnectAll::new(factory), feedbacks, rng: Xoshiro256PlusPlus::seed_from_u64(seed) };
        client.update(&set(n, clients));
        client
    }

    fn update(&mut self, endpoints: &EndpointSet) {
        let cx = &mut Context::new(Nanos::ZERO, &mut self.rng);
        self.policy.update(cx, endpoints);
        endpoints.iter().for_each(|e| self.policy.connectivity(cx, e.id, Connectivity::Ready));
    }

    fn picker(&mut self) -> Arc<dyn Picker> {
        self.policy.picker(&mut Context::new(Nanos::ZERO, &mut self.rng))
    }

    fn pick(&mut self) -> EndpointId {
        match self.picker().pick(&mut PickContext::new(Nanos::ZERO, &mut self.rng)) {
            Pick::Endpoint(id) => id,
            other => panic!("{other:?}"),
        }
    }

    /// How often each is picked.
    fn counts(&mut self, n: usize, picks: usize) -> Vec<u32> {
        let mut counts = vec![0; n];
        (0..picks).for_each(|_| counts[self.pick().index()] += 1);
        counts
    }

    fn answered(&mut self, endpoint: EndpointId, response: Nanos, service: Option<Nanos>, queue: Option<u32>) {
        let load = LoadReport { in_flight: queue, latency: service, ..Default::default() };
        self.picker().done(endpoint, response, &Outcome::new(Code::Ok, response).with_load(load));
    }

    fn score_ms(&self, endpoint: EndpointId, weight: f64) -> f64 {
        self.feedbacks.score(endpoint, weight) / 1e6
    }
}

#[track_caller]
fn near(value: f64, expected: f64) {
    assert!((value - expected).abs() < 1e-9 * expected.abs().max(1.0), "{value}, not {expected}");
}

#[test]
fn the_score_is_the_papers() {
    let mut client = Client::new(&C3Config::default(), 1, 1, 1);
    client.answered(A, ms(10), Some(ms(4)), Some(2));
    near(client.score_ms(A, 5.0), 114.0); // 10 − 4 + (1 + 0 · 5 + 2)³ · 4 = 6 + 27 · 4
    client.pick();
    near(client.score_ms(A, 5.0), 2054.0); // 6 + (1 + 1 · 5 + 2)³ · 4 = 6 + 512 · 4
    client.answered(A, ms(20), Some(ms(14)), Some(0));
    // R = 0.9 · 20 + 0.1 · 10 = 19, 1/µ = 0.9 · 14 + 0.1 · 4 = 13, Q = 0.9 · 0 + 0.1 · 2 = 0.2: 19 − 13 + 1.2³ · 13.
    near(client.score_ms(A, 5.0), 28.464);
}

#[test]
fn the_cube_penalises_queues_at_fast_servers_too() {
    // As long a queue in requests as makes a server of 4 ms as good as one of 20 ms with q = 20.
    for (cost_exponent, equal) in [(1, 100.0), (3, 34.19951893353394)] {
        let config = C3Config { cost_exponent, ..Default::default() };
        let mut client = Client::new(&config, 2, 1, 1);
        client.answered(A, ms(20), Some(ms(20)), Some(19));
        client.answered(B, ms(4), Some(ms(4)), Some(equal as u32 - 2));
        assert!(client.score_ms(B, 1.0) < client.score_ms(A, 1.0), "q = {} at B", equal as u32 - 1);
        client.answered(B, ms(4), Some(ms(4)), Some(equal as u32 + 10));
        assert!(client.score_ms(B, 1.0) > client.score_ms(A, 1.0));
    }
}

#[test]
fn what_a_report_lacks_is_taken_for_the_response_itself() {
    let mut client = Client::new(&C3Config::default(), 3, 1, 1);
    client.answered(A, ms(8), None, None);
    near(client.score_ms(A, 1.0), 8.0); // 8 − 8 + 1³ · 8
    client.picker().done(B, ms(8), &Outcome::new(Code::Ok, ms(8)));
    near(client.score_ms(B, 1.0), 8.0);
    // Clocks may disagree: a service longer than the response is the response.
    client.answered(EndpointId(2), ms(8), Some(ms(50)), Some(1));
    near(client.score_ms(EndpointId(2), 1.0), 64.0); // 8 − 8 + 2³ · 8
}

#[test]
fn every_endpoint_is_tried_once_before_any_other_request_waits_for_it() {
    let mut client = Client::new(&C3Config::default(), 5, 1, 7);
    assert_eq!(client.counts(5, 5), [1; 5], "unexplored ones first");
    client.answered(A, ms(1), Some(ms(1)), Some(0));
    assert_eq!(client.counts(5, 20), [20, 0, 0, 0, 0], "four have not answered yet");
    client.answered(B, ms(1), Some(ms(1)), Some(0));
    assert_eq!(client.pick(), B);
    // Of two that come, the one that has a request waits for it.
    client.update(&set(7, 1));
    assert_eq!(client.counts(7, 3)[5..], [1, 1]);
}

#[test]
fn equals_are_as_likely_wherever_they_stand() {
    let mut client = Client::new(&C3Config::default(), 6, 1, 5);
    let mut counts = [0u32; 6];
    // Two with a queue, four alike.
    for i in 0..6 {
        client.answered(EndpointId(i), ms(5), Some(ms(5)), Some(if i == 1 || i == 2 { 3 } else { 0 }));
    }
    for _ in 0..20_000 {
        let id = client.pick();
        client.answered(id, ms(5), Some(ms(5)), Some(0));
        counts[id.index()] += 1;
    }
    // 5,000 each; five standard deviations are 5 · √(20,000 · 1/4 · 3/4) = 306.
    assert_eq!(counts[1..3], [0, 0]);
    assert!([0, 3, 4, 5].iter().all(|&i: &usize| counts[i].abs_diff(5_000) < 306), "{counts:?}");
}

#[test]
fn clients_with_the_same_feedback_spread_out_before_the_next() {
    // 50 clients know that A is idle and that B, as fast, has 60 requests. Until the next feedback each sends four.
    let spread = |concurrency_weight| {
        let mut total = [0; 2];
        for seed in 0..50 {
            let config = C3Config { concurrency_weight, ..Default::default() };
            let mut client = Client::new(&config, 2, 50, seed);
            client.answered(A, ms(5), Some(ms(5)), Some(0));
            client.answered(B, ms(5), Some(ms(5)), Some(60));
            let counts = client.counts(2, 4);
            (0..2).for_each(|i| total[i] += counts[i]);
        }
        total
    };
    // q at A with 0, 1, 2 outstanding of its own: 1, 51, 101; at B 61, 111: A, A, B, A. In all B has 60 + 50, A 150.
    assert_eq!(spread(None), [150, 50]);
    // A client that counts its own only believes A to be better for 60 requests more, and all 200 run there.
    assert_eq!(spread(Some(1)), [200, 0]);
}

#[test]
fn few_are_ranked_if_so_told() {
    let config = C3Config { choice_count: 2, ..Default::default() };
    let mut client = Client::new(&config, 4, 1, 1);
    for (i, queue) in [(0, 3), (1, 2), (2, 1), (3, 0)] {
        client.answered(EndpointId(i), ms(5), Some(ms(5)), Some(queue));
    }
    let picker = client.picker();
    let pick = |draws: &[u32]| picker.pick(&mut PickContext::new(Nanos::ZERO, &mut Script::indices(4, draws)));
    assert_eq!(pick(&[0, 1]), Pick::Endpoint(B));
    assert_eq!(pick(&[2, 0]), Pick::Endpoint(EndpointId(2)));
}

#[test]
fn an_endpoint_that_comes_back_is_unknown() {
    let mut client = Client::new(&C3Config::default(), 2, 1, 1);
    for id in [A, B] {
        client.answered(id, ms(9), None, None);
    }
    client.update(&set(1, 1));
    client.update(&set(2, 1));
    near(client.score_ms(A, 1.0), 9.0);
    assert_eq!(client.feedbacks.score(B, 1.0), UNEXPLORED);
    // Requests end when nothing is ready as well, also such that never were.
    client.update(&EndpointSet::default());
    for stray in [A, A, EndpointId(9_999)] {
        client.answered(stray, Nanos(u64::MAX), Some(Nanos(u64::MAX)), Some(u32::MAX));
    }
    assert!(client.score_ms(A, f64::from(u32::MAX)).is_finite());
}

#[test]
fn rules_for_values() {
    let broken = |config: C3Config| config.check().unwrap_err().to_string();
    assert_eq!(broken(C3Config { cost_exponent: 0, ..Default::default() }), "cost_exponent: 0, must be 1 to 10");
    for alpha in [0.0, -1.0, 1.1, f64::NAN] {
        assert!(broken(C3Config { alpha, ..Default::default() }).ends_with("must be > 0 and <= 1"));
    }
}
