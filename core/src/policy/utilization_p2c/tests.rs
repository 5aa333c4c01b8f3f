use super::*;
use crate::policy::draw::scripted::Script;
use crate::{Address, Connectivity, Endpoint, LoadReport};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

const A: EndpointId = EndpointId(0);
const B: EndpointId = EndpointId(1);
const C: EndpointId = EndpointId(2);

struct Balancer {
    policy: ConnectAll<UtilizationP2c>,
    servers: Arc<Servers>,
    rng: Xoshiro256PlusPlus,
    now: Nanos,
}

impl Balancer {
    /// Over `n` endpoints that are ready and have answered.
    fn new(n: u32) -> Self {
        let mut balancer = Self::untried(n);
        (0..n).for_each(|i| balancer.ended(EndpointId(i), Code::Ok, None));
        balancer
    }

    fn untried(n: u32) -> Self {
        let factory = UtilizationP2c::new(&UtilizationP2cConfig::default(), &Shared::default());
        let servers = factory.servers.clone();
        let rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut balancer = Self { policy: ConnectAll::new(factory), servers, rng, now: Nanos::from_secs(1_000) };
        balancer.update(0..n);
        balancer
    }

    fn update(&mut self, ids: std::ops::Range<u32>) {
        let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
        let cx = &mut Context::new(self.now, &mut self.rng);
        self.policy.update(cx, &EndpointSet::new(ids.clone().map(endpoint)));
        ids.for_each(|i| self.policy.connectivity(cx, EndpointId(i), Connectivity::Ready));
    }

    fn picker(&mut self) -> Arc<dyn Picker> {
        self.policy.picker(&mut Context::new(self.now, &mut self.rng))
    }

    fn ended(&mut self, endpoint: EndpointId, code: Code, utilization: Option<f64>) {
        let load = utilization.map(|u| LoadReport { application_utilization: u, ..Default::default() });
        self.picker().done(endpoint, self.now, &Outcome { code, latency: Nanos::ZERO, load });
    }

    fn pick(&mut self) -> EndpointId {
        let now = self.now;
        match self.picker().pick(&mut PickContext::new(now, &mut self.rng)) {
            Pick::Endpoint(id) => id,
            other => panic!("{other:?}"),
        }
    }

    /// How many of so many requests go to each, one at a time.
    fn counts(&mut self, n: usize, picks: usize) -> Vec<u32> {
        let mut counts = vec![0; n];
        for _ in 0..picks {
            let id = self.pick();
            self.servers.outstanding.done(id);
            counts[id.index()] += 1;
        }
        counts
    }

    fn in_flight(&self, requests: &[u32]) {
        for (i, &n) in (0..).zip(requests) {
            (0..n).for_each(|_| self.servers.outstanding.started(EndpointId(i)));
        }
    }

    /// Whom a pick takes that draws A and then B.
    fn a_or_b(&mut self) -> EndpointId {
        let (now, picker) = (self.now, self.picker());
        match picker.pick(&mut PickContext::new(now, &mut Script::each(&[(0, 2), (0, 1)]))) {
            Pick::Endpoint(id) => {
                self.servers.outstanding.done(id);
                id
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn three_scores_are_added() {
    let mut balancer = Balancer::new(2);
    assert_eq!(balancer.a_or_b(), A, "of equals the first drawn");
    balancer.in_flight(&[2, 1]);
    assert_eq!(balancer.a_or_b(), B); // 2/2 against 1/2
    balancer.ended(B, Code::Ok, Some(0.45)); // gives back one: B has none in flight
    balancer.in_flight(&[0, 1]);
    assert_eq!(balancer.a_or_b(), B); // 1 against 0.5 + 0.45
    balancer.ended(B, Code::Ok, Some(0.55));
    balancer.in_flight(&[0, 1]);
    assert_eq!(balancer.a_or_b(), A); // 1 against 0.5 + 0.55
    balancer.ended(A, Code::Unavailable, None);
    balancer.in_flight(&[1, 0]);
    assert_eq!(balancer.a_or_b(), B); // 1 + 0.1 against 0.5 + 0.55
}

#[test]
fn what_is_remembered_decays_over_30_s() {
    let mut balancer = Balancer::new(2);
    // 1 − 0.9^16 = 0.815. The article's example: 80 % are 40 % after 15 s.
    (0..16).for_each(|_| balancer.ended(A, Code::Unavailable, Some(0.6)));
    let server = |b: &Balancer| {
        let server = b.servers.slots.get(0).unwrap();
        [&server.error_rate, &server.utilization].map(|d| d.get(b.now, b.servers.per_tick))
    };
    let near = |[rate, utilization]: [f32; 2], expected: [f32; 2]| {
        // Time is in units of 16.8 ms, 0.06 % of 30 s.
        assert!((rate - expected[0]).abs() < 1e-3 && (utilization - expected[1]).abs() < 1e-3, "{rate}, {utilization}");
    };
    near(server(&balancer), [0.815, 0.6]);
    balancer.now += Nanos::from_secs(15);
    near(server(&balancer), [0.407, 0.3]);
    balancer.ended(A, Code::Ok, None);
    near(server(&balancer), [0.367, 0.3]); // 0.9 · 0.407; no report came with it
    balancer.now += Nanos::from_secs(15);
    near(server(&balancer), [0.183, 0.0]); // what the last response left, halved
    balancer.now += Nanos::from_secs(3_600);
    near(server(&balancer), [0.0, 0.0]);
}

#[test]
fn endpoints_above_a_threshold_are_avoided() {
    let mut balancer = Balancer::new(4);
    (0..7).for_each(|_| balancer.ended(A, Code::Unavailable, None)); // 1 − 0.9^7 = 0.52
    balancer.ended(B, Code::Ok, Some(0.95));
    // Of 10,000 picks those take A or B that draw nothing else: ten times one of two of four, less the distinct second
    // draws; about (1/2)^5 · (1/3)^5 · 10,000 = 1.3.
    let counts = balancer.counts(4, 10_000);
    assert!(counts[0] + counts[1] < 15, "{counts:?}");
    // As soon as one draw finds another, it is taken, however many requests it has.
    balancer.in_flight(&[0, 0, 50, 50]);
    let counts = balancer.counts(4, 10_000);
    assert!(counts[0] + counts[1] < 15, "{counts:?}");
    // With all above, they are compared.
    for id in [C, EndpointId(3)] {
        balancer.ended(id, Code::Ok, Some(0.99));
    }
    assert!(balancer.counts(4, 1_000).iter().take(2).sum::<u32>() > 800);
}

#[test]
fn one_request_at_a_time_until_the_first_response() {
    let mut balancer = Balancer::untried(3);
    balancer.ended(A, Code::Ok, None);
    // What is picked stays in flight: B and C get one each, A the rest, but for the one pick in (2/3)^5 · (1/2)^5 = 243 that
    // finds no other, which some of 300 are.
    let picks: Vec<_> = (0..300).map(|_| balancer.pick()).collect();
    let count = |id| picks.iter().filter(|&&p| p == id).count();
    assert!((1..8).contains(&count(B)) && (1..8).contains(&count(C)), "{} {} {}", count(A), count(B), count(C));
    // A connection that could not be made is no response, nor is a deadline.
    for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled] {
        balancer.ended(B, code, None);
    }
    let answered = |b: &Balancer| b.servers.slots.get(1).unwrap().answered.load(Ordering::Relaxed);
    assert!(!answered(&balancer));
    balancer.ended(B, Code::NotFound, None);
    assert!(answered(&balancer));
}

#[test]
fn a_new_endpoint_warms_up_over_90_s() {
    let mut balancer = Balancer::new(9);
    balancer.update(0..10);
    balancer.ended(EndpointId(9), Code::Ok, None);
    let mut shares = Vec::new();
    for age_s in [0, 18, 45, 90] {
        balancer.now = Nanos::from_secs(1_000 + age_s);
        let counts = balancer.counts(10, 100_000);
        shares.push(f64::from(counts[9]) / 100_000.0);
    }
    // Drawn in vain with odds 1 − f, f = age/90 s, and then another is drawn: its odds per candidate are f against 9 others,
    // f/(9 + f), and its odds in the pick about twice half of it: 0, 0.2/9.2, 0.5/9.5 and 1/10.
    for (share, expected) in shares.iter().zip([0.0, 0.0217, 0.0526, 0.1]) {
        assert!((share - expected).abs() < 0.005, "{shares:?}");
    }
}

#[test]
fn endpoints_that_are_all_new_have_nobody_to_spare_them() {
    let mut balancer = Balancer::new(2);
    let warm_at = |b: &Balancer, i| b.servers.slots.get(i).unwrap().warm_at.load(Ordering::Relaxed);
    assert_eq!([0, 1].map(|i| warm_at(&balancer, i)), [0, 0]);
    balancer.update(2..4);
    assert_eq!([2, 3].map(|i| warm_at(&balancer, i)), [0, 0]);
    balancer.update(2..5);
    assert_eq!([2, 4].map(|i| warm_at(&balancer, i)), [0, Nanos::from_secs(1_090).0]);
}

#[test]
fn an_endpoint_that_comes_back_is_untried() {
    let mut balancer = Balancer::new(2);
    for _ in 0..9 {
        balancer.ended(B, Code::Unavailable, Some(1.0));
    }
    balancer.update(0..1);
    // Only one is left, whatever it is like; requests end that never were.
    assert_eq!(balancer.counts(1, 10), [10]);
    balancer.ended(B, Code::Ok, Some(0.7));
    balancer.ended(EndpointId(9_999), Code::Ok, Some(0.7));
    balancer.update(0..2);
    let (now, per_tick) = (balancer.now, balancer.servers.per_tick);
    let server = balancer.servers.slots.get(1).unwrap();
    assert_eq!((server.error_rate.get(now, per_tick), server.utilization.get(now, per_tick)), (0.0, 0.0));
    assert!(!server.answered.load(Ordering::Relaxed));
}

#[test]
fn nonsense_is_no_report() {
    let mut balancer = Balancer::new(2);
    balancer.ended(A, Code::Ok, Some(0.4));
    for nonsense in [f64::NAN, -1.0] {
        let load = LoadReport { application_utilization: nonsense, cpu_utilization: nonsense, ..Default::default() };
        let outcome = Outcome::new(Code::Ok, Nanos::ZERO).with_load(load);
        balancer.picker().done(A, balancer.now, &outcome);
    }
    let utilization = |b: &Balancer| b.servers.slots.get(0).unwrap().utilization.get(b.now, b.servers.per_tick);
    assert_eq!(utilization(&balancer), 0.4);
    balancer.ended(A, Code::Ok, Some(f64::INFINITY));
    assert_eq!(utilization(&balancer), f32::MAX);
    assert_eq!(balancer.a_or_b(), B);
    // And a unit of 16.8 ms.
    balancer.now += Nanos::from_millis(30_017);
    assert_eq!(balancer.a_or_b(), A, "that, too, is over after 30 s");
}

#[test]
fn rules_for_values() {
    let broken = |json: &str| {
        let config = serde_json::from_str::<UtilizationP2cConfig>(json).unwrap();
        config.check().unwrap_err().to_string()
    };
    assert_eq!(broken(r#"{"client_health_weight": -1}"#), "client_health_weight: -1, must be >= 0");
    assert_eq!(broken(r#"{"filter_attempts": 0}"#), "filter_attempts: 0, must be >= 1");
    assert_eq!(broken(r#"{"decay": "0s"}"#), "decay: 0s, must be > 0s");
}
