//! Examples with their arithmetic; `core/tests/routes.rs` has the properties.

use super::*;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

fn policy(toml: &str) -> RetryPolicy {
    let config: RetryConfig = toml::from_str(toml).unwrap();
    assert_eq!(config.problems().0, []);
    RetryPolicy::new(&config)
}

fn rng() -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(1)
}

/// A request that fails with `code` in all its attempts; what was decided at each.
fn failing(policy: &RetryPolicy, code: Code) -> Vec<RetryDecision> {
    let mut rng = rng();
    let mut attempts = policy.begin();
    let mut decisions = Vec::new();
    loop {
        let decision = policy.on_attempt_end(&mut attempts, code, Pushback::None, &mut rng);
        decisions.push(decision);
        if matches!(decision, RetryDecision::GiveUp(_)) {
            policy.end(attempts);
            return decisions;
        }
    }
}

/// The last decision of a request that fails with UNAVAILABLE in all its attempts.
fn last(policy: &RetryPolicy) -> Why {
    match failing(policy, Code::Unavailable).pop() {
        Some(RetryDecision::GiveUp(why)) => why,
        other => panic!("a request ends: {other:?}"),
    }
}

#[test]
fn pauses_double_from_25_ms_with_a_fifth_of_jitter() {
    let five = policy("max_attempts = 5");
    let decisions = failing(&five, Code::Unavailable);
    // min(25 · 2^(n−1), 250): 25, 50, 100, 200; each times 0.8 to 1.2.
    for (decision, ms) in decisions.iter().zip([25.0, 50.0, 100.0, 200.0]) {
        let RetryDecision::Retry(pause) = decision else { panic!("{decisions:?}") };
        assert!((0.8 * ms..=1.2 * ms).contains(&pause.as_millis_f64()), "{pause} around {ms} ms");
    }
    assert_eq!(decisions[4..], [RetryDecision::GiveUp(Why::Attempts)]);
}

#[test]
fn the_longest_pause_is_capped_before_jitter() {
    let capped = policy("max_attempts = 5\nmax_backoff = '60ms'");
    // 25, 50, then 100 and 200 capped.
    assert_eq!([0, 1, 2, 3].map(|n| capped.pause(n).as_millis_f64()), [25.0, 50.0, 60.0, 60.0]);
    let mut rng = rng();
    let mut seen = (f64::MAX, f64::MIN);
    for _ in 0..1_000 {
        let mut attempts = capped.begin();
        for _ in 0..2 {
            let _ = capped.on_attempt_end(&mut attempts, Code::Unavailable, Pushback::None, &mut rng);
        }
        let RetryDecision::Retry(pause) =
            capped.on_attempt_end(&mut attempts, Code::Unavailable, Pushback::None, &mut rng)
        else {
            panic!("the fourth of five attempts follows")
        };
        capped.end(attempts);
        seen = (seen.0.min(pause.as_millis_f64()), seen.1.max(pause.as_millis_f64()));
    }
    // 60 · 0.8 = 48 and 60 · 1.2 = 72, and the whole range is used.
    assert!(seen.0 >= 48.0 && seen.0 < 49.0 && seen.1 <= 72.0 && seen.1 > 71.0, "{seen:?}");
}

#[test]
fn more_than_five_attempts_are_five() {
    // gRFC A6: higher values are treated as the maximum.
    let config = RetryConfig { max_attempts: 1_000, ..RetryConfig::default() };
    assert_eq!(failing(&RetryPolicy::new(&config), Code::Unavailable).len(), 5);
}

#[test]
fn only_listed_codes_are_retried() {
    let listed = policy("retryable_status_codes = ['INTERNAL', 'UNAUTHENTICATED']");
    let gives_up = |code| failing(&listed, code).len() == 1;
    assert!(gives_up(Code::Unavailable) && gives_up(Code::Ok) && gives_up(Code::DataLoss));
    assert!(!gives_up(Code::Internal) && !gives_up(Code::Unauthenticated));
    assert_eq!(failing(&listed, Code::Ok), [RetryDecision::GiveUp(Why::NotRetryable)]);
}

#[test]
fn an_attempt_that_takes_too_long_is_retried_whatever_the_codes() {
    let policy = policy("per_attempt_timeout = '100ms'");
    assert_eq!(policy.per_attempt_timeout(), Some(Nanos::from_millis(100)));
    let mut attempts = policy.begin();
    assert!(matches!(policy.on_attempt_timeout(&mut attempts, &mut rng()), RetryDecision::Retry(_)));
    assert_eq!(attempts.number(), 2);
    assert_eq!(policy.on_attempt_timeout(&mut attempts, &mut rng()), RetryDecision::GiveUp(Why::Attempts));
    policy.end(attempts);
}

#[test]
fn the_server_says_when_or_not_at_all() {
    let trailers = |values: &[&str]| -> Vec<(Box<str>, Box<str>)> {
        values.iter().map(|&value| (Pushback::TRAILER.into(), value.into())).collect()
    };
    for (values, expected) in [
        (&[][..], Pushback::None),
        (&["0"], Pushback::After(Nanos::ZERO)),
        (&["1500"], Pushback::After(Nanos::from_millis(1500))),
        (&["-1"], Pushback::Stop),
        (&["soon"], Pushback::Stop),
        (&[""], Pushback::Stop),
        // One more than fits a signed 32-bit integer.
        (&["2147483648"], Pushback::Stop),
        (&["1", "2"], Pushback::Stop),
    ] {
        assert_eq!(Pushback::from_trailers(&trailers(values)), expected, "{values:?}");
    }

    let policy = policy("max_attempts = 5");
    let mut attempts = policy.begin();
    let mut rng = rng();
    let mut ends = |pushback| policy.on_attempt_end(&mut attempts, Code::Unavailable, pushback, &mut rng);
    let within = |decision, ms: f64| match decision {
        RetryDecision::Retry(pause) => (0.8 * ms..=1.2 * ms).contains(&pause.as_millis_f64()),
        RetryDecision::GiveUp(_) => false,
    };
    assert!(within(ends(Pushback::None), 25.0));
    // Exactly then, without jitter; the next pause is the initial one again.
    assert_eq!(ends(Pushback::After(Nanos::from_secs(3))), RetryDecision::Retry(Nanos::from_secs(3)));
    assert!(within(ends(Pushback::None), 25.0));
    assert_eq!(ends(Pushback::Stop), RetryDecision::GiveUp(Why::Pushback));
    policy.end(attempts);
}

#[test]
fn failures_take_tokens_and_successes_give_back() {
    // gRFC A6's example: 10 tokens, 0.1 a success.
    let policy = policy("throttling = { max_tokens = 10, token_ratio = 0.1 }");
    // Two attempts fail per request: 10 − 4 = 6 after two; the fifth failure leaves 5, which is half: stop.
    assert_eq!([last(&policy), last(&policy)], [Why::Attempts; 2]);
    assert_eq!(policy.tokens(), Some(6.0));
    assert_eq!(failing(&policy, Code::Unavailable), [RetryDecision::GiveUp(Why::Throttled)]);
    assert_eq!(policy.tokens(), Some(5.0));
    // A code that is not retried changes nothing; ten successes give 1 back, eleven are enough for one retry: 6.1 − 1 > 5.
    let _ = failing(&policy, Code::InvalidArgument);
    assert_eq!(policy.tokens(), Some(5.0));
    for _ in 0..11 {
        let _ = failing(&policy, Code::Ok);
    }
    assert_eq!(policy.tokens(), Some(6.1));
    assert!(matches!(failing(&policy, Code::Unavailable)[..], [RetryDecision::Retry(_), RetryDecision::GiveUp(_)]));
    // A pushback that says no counts, whatever the code.
    assert_eq!(policy.tokens(), Some(4.1));
    let mut attempts = policy.begin();
    let _ = policy.on_attempt_end(&mut attempts, Code::InvalidArgument, Pushback::Stop, &mut rng());
    policy.end(attempts);
    assert_eq!(policy.tokens(), Some(3.1));
}

#[test]
fn the_budget_is_a_part_of_what_is_going_on() {
    let policy = policy("budget = { budget_percent = 20, min_retry_concurrency = 3 }");
    let mut rng = rng();
    let mut requests: Vec<Attempts> = (0..40).map(|_| policy.begin()).collect();
    let decisions: Vec<bool> = requests
        .iter_mut()
        .map(|request| policy.on_attempt_end(request, Code::Unavailable, Pushback::None, &mut rng))
        .map(|decision| decision != RetryDecision::GiveUp(Why::Budget))
        .collect();
    // 20 % of 40 are 8.
    assert_eq!(decisions.iter().filter(|&&retried| retried).count(), 8);
    assert_eq!((policy.active_requests(), policy.active_retries()), (40, 8));
    // Of 5 requests that remain 20 % would be 1, but 3 are always allowed.
    for request in requests.drain(5..) {
        policy.end(request);
    }
    assert_eq!((policy.active_requests(), policy.active_retries()), (5, 5));
    // A retry that ends gives its place back, a request that is given up during one does too.
    assert_eq!(
        policy.on_attempt_end(&mut requests[0], Code::Ok, Pushback::None, &mut rng),
        RetryDecision::GiveUp(Why::NotRetryable)
    );
    assert_eq!(policy.active_retries(), 4);
    for request in requests {
        policy.end(request);
    }
    assert_eq!((policy.active_requests(), policy.active_retries()), (0, 0));
}

#[test]
fn new_settings_keep_the_counts() {
    let before = policy("throttling = { max_tokens = 10, token_ratio = 0.1 }");
    let running = before.begin();
    assert_eq!(last(&before), Why::Attempts);
    assert_eq!(before.tokens(), Some(8.0));
    let config: RetryConfig = toml::from_str("throttling = { max_tokens = 100, token_ratio = 0.1 }").unwrap();
    let after = before.with_config(&config);
    // 8 of 10 are 80 of 100.
    assert_eq!((after.tokens(), after.active_requests()), (Some(80.0), 1));
    after.end(running);
    assert_eq!(before.active_requests(), 0);
    // Without a throttle there are no tokens; a later one starts full.
    let without = after.with_config(&RetryConfig::default());
    assert_eq!(without.tokens(), None);
    assert_eq!(without.with_config(&config).tokens(), Some(100.0));
}

#[test]
fn what_a_policy_drops_is_final_and_no_failure() {
    let policy = policy("max_attempts = 3\nthrottling = { max_tokens = 10, token_ratio = 0.5 }");
    let mut attempts = policy.begin();
    assert_eq!(policy.on_drop(&mut attempts), RetryDecision::GiveUp(Why::Dropped));
    policy.end(attempts);
    assert_eq!((policy.tokens(), policy.active_requests(), policy.active_retries()), (Some(10.0), 0, 0));
}
