//! Routing, retries, faults and limits under arbitrary configurations, headers and orders of events.

use lb_core::limit::{Limit, LimitUnit, RateLimitService, TokenBucket, TokenBucketConfig};
use lb_core::route::{
    Attempts, BudgetConfig, ClusterWeight, Fault, FaultConfig, FaultInjector, HeaderMatch, HedgeConfig, HedgeDecision,
    HedgePolicy, Hedges, MatchConfig, Pushback, RequestInfo, RetryConfig, RetryDecision, RetryPolicy, RouteConfig,
    Router, ThrottlingConfig, Why,
};
use lb_core::{Code, Nanos};
use proptest::prelude::*;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

type Headers = Vec<(Box<str>, Box<str>)>;

fn rng(seed: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed)
}

fn route(toml: &str) -> RouteConfig {
    let route: RouteConfig = toml::from_str(toml).unwrap();
    assert_eq!(route.problems(), []);
    route
}

fn request(path: &str) -> RequestInfo<'_> {
    RequestInfo { path, headers: &[] }
}

/// The name of the route of a request without headers.
fn routed<'a>(router: &'a Router, path: &str) -> Option<&'a str> {
    router.route(&request(path), &mut rng(1)).map(|id| router.get(id).name())
}

#[test]
fn the_first_match_wins_even_over_a_better_one() {
    // The example of gRFC A28, "Picking".
    let router = Router::new(&[
        route("name = 'service'\nmatch = { prefix = '/MyService' }\nclusters = [{ name = 'one' }]"),
        route("name = 'method'\nmatch = { path = '/MyService/MyMethod' }\nclusters = [{ name = 'two' }]"),
    ]);
    assert_eq!(routed(&router, "/MyService/MyMethod"), Some("service"));
    assert_eq!(routed(&router, "/Other/Method"), None);
    assert_eq!((router.unmatched().code, &*router.unmatched().message), (Code::Unavailable, "no matching route"));
    assert_eq!(router.clusters(), ["one".into(), "two".into()]);
}

#[test]
fn fractions_of_none_and_all_are_exact() {
    let fraction = |f: f64| {
        let text = format!("name = 'some'\nmatch = {{ fraction = {f:?} }}\nclusters = [{{ name = 'a' }}]");
        let router = Router::new(&[route(&text), route("name = 'rest'\nclusters = [{ name = 'b' }]")]);
        let mut rng = rng(1);
        let some = router.find("some");
        (0..100_000).filter(|_| router.route(&request("/"), &mut rng) == some).count()
    };
    assert_eq!((fraction(0.0), fraction(1.0)), (0, 100_000));
    // 1 % of 100,000 are 1,000; 4 · √(100,000 · 0.01 · 0.99) = 126.
    assert!(fraction(0.01).abs_diff(1_000) < 126, "{}", fraction(0.01));
}

#[test]
fn an_update_keeps_ids_and_counts() {
    let around = "retry = { max_attempts = 3 }\nfault = { delay = { percentage = 100, fixed_delay = '1s' } }\n\
        rate_limit = { local = { max_tokens = 1, fill_interval = '1h' } }";
    let a = route(&format!("name = 'a'\nmatch = {{ prefix = '/a' }}\nclusters = [{{ name = 'v1' }}]\n{around}"));
    let b = route("name = 'b'\nclusters = [{ name = 'v2' }]\nhedge = {}");
    let mut router = Router::new(&[a.clone(), b.clone()]);
    let (id, mut rng) = (router.find("a").unwrap(), rng(1));
    let hedged = router.find("b").unwrap();
    let hedges = router.get(hedged).hedge().unwrap().begin(Nanos::ZERO);
    let attempts = router.get(id).retry().unwrap().begin();
    let fault = router.get(id).fault().unwrap().begin(&request("/a"), &mut rng);
    assert!(router.get(id).limit().unwrap().local(Nanos::ZERO).is_ok());

    // What runs in parallel keeps the old table; the new one shares its counts.
    let old = router.clone();
    let moved = RouteConfig { clusters: vec![ClusterWeight { name: "v3".into(), weight: 1 }], ..a };
    router.update(&[b.clone(), moved]);
    assert_eq!(router.find("a"), Some(id));
    assert_eq!(routed(&router, "/a"), Some("b"), "the order is the new one");
    assert_eq!(router.cluster_name(router.get(id).cluster(&mut rng)), "v3");
    assert_eq!(router.clusters(), ["v1".into(), "v2".into(), "v3".into()]);
    assert!(router.get(id).limit().unwrap().local(Nanos::ZERO).is_err(), "the bucket is the same");
    assert_eq!(router.get(id).retry().unwrap().active_requests(), 1);
    assert_eq!(router.get(id).fault().unwrap().active(), 1);
    assert_eq!(router.get(hedged).hedge().unwrap().active_requests(), 1);
    router.get(hedged).hedge().unwrap().end(hedges);
    assert_eq!(old.get(hedged).hedge().unwrap().active_requests(), 0);

    // A route that is taken away still ends what it began.
    router.update(&[b]);
    assert_eq!(router.find("a"), None);
    router.get(id).retry().unwrap().end(attempts);
    router.get(id).fault().unwrap().end(fault);
    assert_eq!((old.get(id).retry().unwrap().active_requests(), old.get(id).fault().unwrap().active()), (0, 0));
}

#[test]
fn a_route_with_both_retries() {
    // gRFC A6 has a configuration with both refused; so does `RouteConfig::problems`.
    let config: RouteConfig =
        toml::from_str("name = 'a'\nclusters = [{ name = 'v1' }]\nretry = {}\nhedge = {}").unwrap();
    let router = Router::new(&[config]);
    let route = router.get(router.find("a").unwrap());
    assert!(route.retry().is_some() && route.hedge().is_none());
}

#[test]
fn weights_change_in_place_unless_they_are_none() {
    let mut router = Router::new(&[route("name = 'a'\nclusters = [{ name = 'v1' }, { name = 'v2', weight = 0 }]")]);
    let id = router.find("a").unwrap();
    let weights =
        |one, two| [("v1", one), ("v2", two)].map(|(name, weight)| ClusterWeight { name: name.into(), weight });
    let name = |router: &Router| router.cluster_name(router.get(id).cluster(&mut rng(1))).to_owned();
    assert_eq!(name(&router), "v1");
    router.set_weights(id, &weights(0, 100)).unwrap();
    assert_eq!(name(&router), "v2");
    let error = router.set_weights(id, &weights(0, 0)).unwrap_err();
    assert_eq!(error.to_string(), "the weights of route `a` add up to 0; let one cluster have a weight above 0");
    assert_eq!(name(&router), "v2");
}

#[test]
fn clusters_get_their_shares() {
    for (seed, weights) in
        (1..).zip([&[1, 1][..], &[99, 1], &[1, 2, 3], &[0, 1000, 1], &[5, 0, 5, 0], &[u32::MAX - 1, 1], &[7; 10]])
    {
        let mut config = route("name = 'a'\nclusters = [{ name = 'v1' }]");
        let weighted = |(i, &weight): (usize, &u32)| ClusterWeight { name: i.to_string(), weight };
        config.clusters = weights.iter().enumerate().map(weighted).collect();
        assert_eq!(config.problems(), []);
        let router = Router::new(&[config]);
        let (id, mut rng, n) = (router.find("a").unwrap(), rng(seed), 100_000.0);
        let mut counts = vec![0.0; weights.len()];
        for _ in 0..100_000 {
            counts[router.get(id).cluster(&mut rng).index()] += 1.0;
        }
        let sum: f64 = weights.iter().copied().map(f64::from).sum();
        for (&weight, &count) in weights.iter().zip(&counts) {
            // Binomial: four standard deviations are 4 · √(n · p · (1 − p)).
            let share = f64::from(weight) / sum;
            let bound = 4.0 * (n * share * (1.0 - share)).sqrt();
            assert!((count - n * share).abs() <= bound, "{weights:?}: {count} of {n}, share {share}");
        }
    }
}

/// Text over few letters, so that it matches now and then, or any text at all.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ab,]{0,4}", any::<String>()]
}

fn headers() -> impl Strategy<Value = Headers> {
    let name = prop_oneof![
        Just("x".to_owned()),
        Just("x-bin".to_owned()),
        Just("x-envoy-fault-abort-request".to_owned()),
        Just("x-envoy-fault-abort-grpc-request".to_owned()),
        Just("x-envoy-fault-abort-request-percentage".to_owned()),
        Just("x-envoy-fault-delay-request".to_owned()),
        Just("x-envoy-fault-delay-request-percentage".to_owned()),
        Just(Pushback::TRAILER.to_owned()),
        any::<String>(),
    ];
    let value = prop_oneof![text(), any::<i64>().prop_map(|n| n.to_string()), (0..600u32).prop_map(|n| n.to_string())];
    proptest::collection::vec((name, value), 0..6)
        .prop_map(|pairs| pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
}

fn header_match() -> impl Strategy<Value = HeaderMatch> {
    (prop_oneof![Just("x".to_owned()), Just("x-bin".to_owned())], 0..5, text(), any::<[bool; 2]>()).prop_map(
        |(name, kind, text, [present, invert])| {
            let mut config = HeaderMatch { name, invert, ..HeaderMatch::default() };
            match kind {
                0 => config.exact = Some(text),
                1 => config.prefix = Some(text),
                2 => config.suffix = Some(text),
                3 => config.contains = Some(text),
                _ => config.present = Some(present),
            }
            config
        },
    )
}

/// What a condition means, by joining the values. The router does the same without the join.
fn meant(config: &HeaderMatch, headers: &Headers) -> bool {
    let values: Vec<&str> = headers.iter().filter(|(name, _)| **name == *config.name).map(|(_, v)| &**v).collect();
    let value = (!values.is_empty() && !config.name.ends_with("-bin")).then(|| values.join(","));
    if let Some(present) = config.present {
        return (value.is_some() == present) != config.invert;
    }
    let Some(value) = value else { return false };
    let held = match config {
        HeaderMatch { exact: Some(text), .. } => value == *text,
        HeaderMatch { prefix: Some(text), .. } => value.starts_with(text),
        HeaderMatch { suffix: Some(text), .. } => value.ends_with(text),
        HeaderMatch { contains: Some(text), .. } => value.contains(text),
        _ => unreachable!("one condition is given"),
    };
    held != config.invert
}

fn code() -> impl Strategy<Value = Code> {
    (0..17u32).prop_map(Code::from_number)
}

fn pushback() -> impl Strategy<Value = Pushback> {
    prop_oneof![
        6 => Just(Pushback::None),
        1 => Just(Pushback::Stop),
        1 => any::<u64>().prop_map(|ns| Pushback::After(Nanos(ns))),
    ]
}

fn budget() -> impl Strategy<Value = Option<BudgetConfig>> {
    let budget = (0.0..120.0, 0..5u32)
        .prop_map(|(budget_percent, min_retry_concurrency)| BudgetConfig { budget_percent, min_retry_concurrency });
    proptest::option::of(budget)
}

fn throttling() -> impl Strategy<Value = Option<ThrottlingConfig>> {
    let throttling =
        (0..12u32, 0.0..2.0).prop_map(|(max_tokens, token_ratio)| ThrottlingConfig { max_tokens, token_ratio });
    proptest::option::of(throttling)
}

/// Settings of retries, sound or not.
fn retries() -> impl Strategy<Value = RetryConfig> {
    let pauses = (any::<u64>().prop_map(Nanos), any::<u64>().prop_map(Nanos), any::<f64>());
    (0..9u32, proptest::collection::vec(code(), 0..17), pauses, budget(), throttling()).prop_map(
        |(max_attempts, codes, (initial_backoff, max_backoff, backoff_multiplier), budget, throttling)| RetryConfig {
            max_attempts,
            retryable_status_codes: codes,
            initial_backoff,
            max_backoff,
            backoff_multiplier,
            per_attempt_timeout: None,
            budget,
            throttling,
        },
    )
}

/// Settings of hedging, sound or not.
fn hedging() -> impl Strategy<Value = HedgeConfig> {
    let delay = prop_oneof![4 => (0..40u64).prop_map(Nanos), 1 => any::<u64>().prop_map(Nanos)];
    (0..9u32, proptest::collection::vec(code(), 0..17), delay, budget(), throttling()).prop_map(
        |(max_attempts, non_fatal_status_codes, hedging_delay, budget, throttling)| HedgeConfig {
            max_attempts,
            hedging_delay,
            non_fatal_status_codes,
            budget,
            throttling,
        },
    )
}

/// A hedged request: what the policy knows, and what the host does.
struct Hedged {
    hedges: Hedges,
    running: Vec<u32>,
}

#[derive(Debug, Clone)]
enum HedgeEvent {
    Begin,
    Passes(u64),
    /// An attempt of one of the requests ends, or one that is not under way is said to.
    Ends {
        which: usize,
        number: u32,
        code: Code,
        pushback: Pushback,
    },
    /// Its caller gives up.
    End {
        which: usize,
    },
}

fn hedge_events() -> impl Strategy<Value = Vec<HedgeEvent>> {
    let pushback = prop_oneof![pushback(), (0..40u64).prop_map(|ns| Pushback::After(Nanos(ns)))];
    let event = prop_oneof![
        3 => Just(HedgeEvent::Begin),
        4 => (0..50u64).prop_map(HedgeEvent::Passes),
        6 => (any::<usize>(), 0..7u32, code(), pushback)
            .prop_map(|(which, number, code, pushback)| HedgeEvent::Ends { which, number, code, pushback }),
        1 => any::<usize>().prop_map(|which| HedgeEvent::End { which }),
    ];
    proptest::collection::vec(event, 1..200)
}

#[derive(Debug, Clone)]
enum Event {
    Begin,
    /// The attempt of one of the requests ends.
    Ends {
        which: usize,
        code: Code,
        pushback: Pushback,
    },
    TakesTooLong {
        which: usize,
    },
    /// Its caller has its answer, or gives up, also in a pause between attempts.
    End {
        which: usize,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => Just(Event::Begin),
        6 => (any::<usize>(), code(), pushback())
            .prop_map(|(which, code, pushback)| Event::Ends { which, code, pushback }),
        1 => any::<usize>().prop_map(|which| Event::TakesTooLong { which }),
        2 => any::<usize>().prop_map(|which| Event::End { which }),
    ];
    proptest::collection::vec(event, 1..200)
}

proptest! {
    #[test]
    fn headers_match_as_if_joined(config in header_match(), headers in headers()) {
        let matches = MatchConfig { headers: vec![config.clone()], ..MatchConfig::default() };
        let cluster = ClusterWeight { name: "v1".into(), weight: 1 };
        let route = RouteConfig {
            name: "a".into(), matches, clusters: vec![cluster], timeout: None, retry: None, hedge: None, fault: None,
            rate_limit: None, hash_policy: Vec::new(),
        };
        let router = Router::new(&[route]);
        let found = router.route(&RequestInfo { path: "/", headers: &headers }, &mut rng(1));
        prop_assert_eq!(found.is_some(), meant(&config, &headers));
    }

    #[test]
    fn the_first_that_matches_wins(prefixes in proptest::collection::vec("/[ab]{0,3}", 0..8), path in "/[ab]{0,4}") {
        let route = |(i, prefix): (usize, &String)| {
            route(&format!("name = '{i}'\nmatch = {{ prefix = '{prefix}' }}\nclusters = [{{ name = 'v1' }}]"))
        };
        let router = Router::new(&prefixes.iter().enumerate().map(route).collect::<Vec<_>>());
        let first = prefixes.iter().position(|prefix| path.starts_with(prefix)).map(|i| i.to_string());
        prop_assert_eq!(routed(&router, &path), first.as_deref());
    }

    #[test]
    fn retries_keep_their_limits(config in retries(), events in events(), seed in any::<u64>()) {
        let policy = RetryPolicy::new(&config);
        let mut rng = rng(seed);
        // Requests, and whether each waits for a retry or runs; one that was told to give up only ends.
        let mut requests: Vec<(Attempts, bool)> = Vec::new();
        for event in events {
            let running = |which: usize, requests: &[(Attempts, bool)]| {
                let open: Vec<usize> = (0..requests.len()).filter(|&i| requests[i].1).collect();
                (!open.is_empty()).then(|| open[which % open.len()])
            };
            let decided = match event {
                Event::Begin => {
                    requests.push((policy.begin(), true));
                    None
                }
                Event::End { which } => {
                    if !requests.is_empty() {
                        let which = which % requests.len();
                        policy.end(requests.swap_remove(which).0);
                    }
                    None
                }
                Event::Ends { which, code, pushback } => running(which, &requests).map(|i| {
                    let decision = policy.on_attempt_end(&mut requests[i].0, code, pushback, &mut rng);
                    if pushback == Pushback::Stop {
                        assert!(!matches!(decision, RetryDecision::Retry(_)));
                    }
                    (i, decision)
                }),
                Event::TakesTooLong { which } => running(which, &requests)
                    .map(|i| (i, policy.on_attempt_timeout(&mut requests[i].0, &mut rng))),
            };
            if let Some((i, decision)) = decided {
                requests[i].1 = matches!(decision, RetryDecision::Retry(_));
                if requests[i].1 {
                    // Never more attempts than allowed, and never more than gRPC's five.
                    prop_assert!(requests[i].0.number() <= config.max_attempts.min(5));
                    if let Some(budget) = &config.budget {
                        let part = budget.budget_percent / 100.0 * f64::from(policy.active_requests());
                        prop_assert!(policy.active_retries() <= (part as u32).max(budget.min_retry_concurrency));
                    }
                    if let Some(throttling) = &config.throttling {
                        prop_assert!(policy.tokens().unwrap() > f64::from(throttling.max_tokens) / 2.0);
                    }
                }
                if decision == RetryDecision::GiveUp(Why::Throttled) {
                    prop_assert!(config.throttling.is_some());
                }
            }
            if let (Some(tokens), Some(throttling)) = (policy.tokens(), &config.throttling) {
                prop_assert!((0.0..=f64::from(throttling.max_tokens)).contains(&tokens), "{tokens}");
            }
            let retrying = requests.iter().filter(|(attempts, open)| *open && attempts.number() > 1).count();
            prop_assert_eq!(policy.active_requests() as usize, requests.len());
            prop_assert_eq!(policy.active_retries() as usize, retrying);
        }
        for (attempts, _) in requests {
            policy.end(attempts);
        }
        prop_assert_eq!((policy.active_requests(), policy.active_retries()), (0, 0));
    }

    #[test]
    fn hedges_keep_their_limits_and_never_strand_a_request(config in hedging(), events in hedge_events()) {
        let policy = HedgePolicy::new(&config);
        let mut now = Nanos(0);
        let mut requests: Vec<Hedged> = Vec::new();
        for event in events {
            let which = |which: usize, requests: &[Hedged]| (!requests.is_empty()).then(|| which % requests.len());
            match event {
                HedgeEvent::Begin => requests.push(Hedged { hedges: policy.begin(now), running: vec![1] }),
                HedgeEvent::Passes(time) => now += Nanos(time),
                HedgeEvent::End { which: any } => if let Some(i) = which(any, &requests) {
                    policy.end(requests.swap_remove(i).hedges);
                },
                HedgeEvent::Ends { which: any, number, code, pushback } => if let Some(i) = which(any, &requests) {
                    let Hedged { hedges, running } = &mut requests[i];
                    let was_running = running.contains(&number);
                    running.retain(|&other| other != number);
                    match policy.on_attempt_end(hedges, number, code, pushback, now) {
                        HedgeDecision::Finish(why) => {
                            prop_assert!(was_running);
                            prop_assert!(why == Why::NotRetryable || running.is_empty(), "{why:?} cancels {running:?}");
                            policy.end(requests.swap_remove(i).hedges);
                        }
                        HedgeDecision::GoOn => {
                            let non_fatal = config.non_fatal_status_codes.contains(&code) && code != Code::Ok;
                            prop_assert!(!was_running || non_fatal);
                        }
                    }
                },
            }
            // What is due is sent, as a host does whatever has happened.
            for Hedged { hedges, running } in &mut requests {
                while let Some(number) = policy.send_due(hedges, now) {
                    prop_assert!(number == hedges.sent() && number <= config.max_attempts.min(5));
                    // With nothing else under way it was decided upon before, when there may have been more requests.
                    if let Some(budget) = config.budget.as_ref().filter(|_| !running.is_empty()) {
                        let part = budget.budget_percent / 100.0 * f64::from(policy.active_requests());
                        prop_assert!(policy.active_hedges() <= (part as u32).max(budget.min_retry_concurrency));
                    }
                    if let Some(throttling) = config.throttling.as_ref().filter(|_| !running.is_empty()) {
                        prop_assert!(policy.tokens().unwrap() > f64::from(throttling.max_tokens) / 2.0);
                    }
                    running.push(number);
                }
                prop_assert!(hedges.next_at().is_none_or(|at| at > now));
                prop_assert!(!running.is_empty() || hedges.next_at().is_some(), "nothing will ever end it");
            }
            let further = |request: &Hedged| match &request.running[..] {
                [] => 1, // the next has its place
                running => running.iter().filter(|&&number| number > 1).count(),
            };
            prop_assert_eq!(policy.active_requests() as usize, requests.len());
            prop_assert_eq!(policy.active_hedges() as usize, requests.iter().map(further).sum::<usize>());
        }
        for request in requests {
            policy.end(request.hedges);
        }
        prop_assert_eq!((policy.active_requests(), policy.active_hedges()), (0, 0));
    }

    #[test]
    fn faults_are_counted_once_and_never_too_many(
        headers in headers(),
        most in proptest::option::of(0..4u32),
        percentages in any::<[f64; 2]>(),
        ends in proptest::collection::vec(any::<bool>(), 0..60),
        seed in any::<u64>(),
    ) {
        let json = serde_json::json!({
            "abort": { "percentage": 0.0, "header": true }, "delay": { "percentage": 0.0, "header": true },
        });
        let mut config: FaultConfig = serde_json::from_value(json).unwrap();
        config.max_active_faults = most;
        config.abort.as_mut().unwrap().percentage = percentages[0];
        config.delay.as_mut().unwrap().percentage = percentages[1];
        let injector = FaultInjector::new(&config);
        let mut rng = rng(seed);
        let mut faults: Vec<Fault> = Vec::new();
        for end in ends {
            match faults.pop() {
                Some(fault) if end => injector.end(fault),
                last => {
                    faults.extend(last);
                    faults.push(injector.begin(&RequestInfo { path: "/", headers: &headers }, &mut rng));
                }
            }
            let counted = faults.iter().filter(|fault| fault.counts()).count();
            prop_assert_eq!(injector.active() as usize, counted);
            prop_assert!(most.is_none_or(|most| injector.active() <= most));
            prop_assert!(faults.iter().all(|f| f.counts() == (f.delay.is_some() || f.abort.is_some())));
        }
        for fault in faults {
            injector.end(fault);
        }
        prop_assert_eq!(injector.active(), 0);
    }

    #[test]
    fn any_trailers_are_a_pushback(trailers in headers()) {
        let values: Vec<_> = trailers.iter().filter(|(name, _)| **name == *Pushback::TRAILER).collect();
        let expected = match values[..] {
            [] => Pushback::None,
            [(_, value)] => value.parse::<i32>().ok().and_then(|ms| u64::try_from(ms).ok())
                .map_or(Pushback::Stop, |ms| Pushback::After(Nanos::from_millis(ms))),
            _ => Pushback::Stop,
        };
        prop_assert_eq!(Pushback::from_trailers(&trailers), expected);
    }

    /// In any window a bucket gives at most what fits in it and what comes meanwhile.
    #[test]
    fn a_bucket_gives_no_more_than_it_has_and_gets(
        max_tokens in 0..20u32,
        tokens_per_fill in 0..20u32,
        interval in 1..100u64,
        gaps in proptest::collection::vec(0..50u64, 1..300),
    ) {
        let fill_interval = Nanos(interval);
        let bucket = TokenBucket::new(&TokenBucketConfig { max_tokens, tokens_per_fill, fill_interval });
        let mut now = 0;
        let mut given = Vec::new();
        let mut tokens = u64::from(max_tokens);
        for gap in gaps {
            let fills = (now + gap) / interval - now / interval;
            now += gap;
            // The same bucket, filled as Envoy's timer does it.
            tokens = (tokens + fills * u64::from(tokens_per_fill)).min(max_tokens.into());
            prop_assert_eq!(u64::from(bucket.tokens(Nanos(now))), tokens);
            prop_assert_eq!(bucket.take(Nanos(now)), tokens > 0);
            if tokens > 0 {
                tokens -= 1;
                given.push(now);
            }
        }
        for (i, from) in given.iter().enumerate() {
            for (j, until) in given.iter().enumerate().skip(i) {
                let fills = until / interval - from / interval;
                prop_assert!((j - i + 1) as u64 <= u64::from(max_tokens) + fills * u64::from(tokens_per_fill));
            }
        }
    }

    #[test]
    fn a_service_lets_its_limit_through_per_window(
        limit in 0..10u32,
        asks in proptest::collection::vec((0..400u64, 0..3usize, 1..4u32), 0..200),
    ) {
        let mut service = RateLimitService::new(limit, LimitUnit::Second);
        let mut now = Nanos::ZERO;
        let mut passed = std::collections::BTreeMap::new();
        for (gap, key, hits) in asks {
            now += Nanos::from_millis(gap);
            if let Limit::Ok { remaining } = service.should_rate_limit(now, ["a", "b", "c"][key], hits) {
                let passed = passed.entry((now.0 / 1_000_000_000, key)).or_insert(0);
                *passed += hits;
                prop_assert_eq!(*passed + remaining, limit, "while all pass, what remains is the rest");
            }
            prop_assert!(service.keys() <= 3);
        }
        prop_assert!(passed.values().all(|&n| n <= limit));
    }
}
