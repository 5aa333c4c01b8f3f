use std::cell::Cell;

use super::*;
use crate::policy::draw::scripted::Script;
use crate::{Address, Connectivity, Context, Endpoint, EndpointSet};
use proptest::prelude::*;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use Ended::{Accepted, Rejected};

/// A window of so many bins of 1 ns.
fn lookback(bins: u32) -> Lookback {
    Lookback::new(Nanos(u64::from(bins)), bins)
}

#[test]
fn lookback_test_lookback() {
    // Bins, ticks, and the sums after adding 1, 2 and 3 at these.
    let cases = [
        ("Accumulate", 3, [0, 1, 2], [1, 3, 6]),
        ("LightTimeTravel", 3, [1, 0, 2], [1, 3, 6]),
        ("HeavyTimeTravel", 3, [8, 0, 9], [1, 1, 4]),
        ("Rollover", 1, [0, 1, 2], [1, 2, 3]),
    ];
    // There time begins at the present; here also at the start of the host's clock.
    for start in [0, 1_000_000_000_000_000_007] {
        for (name, bins, ticks, want) in cases {
            let lookback = lookback(bins);
            for ((tick, times), want) in ticks.into_iter().zip(1..).zip(want) {
                let now = Nanos(start + tick);
                (0..times).for_each(|_| lookback.add(now, Accepted));
                assert_eq!(lookback.sums(now), (want, 0), "{name} at {tick}");
            }
        }
    }
}

#[test]
fn adaptive_test_register_backend_response() {
    let (a, t, e) = (Some(Accepted), Some(Rejected), None);
    let cases = [
        ("Accumulate", 3, [0, 1, 2], [a, t, e], [(1, 0), (1, 1), (1, 1)]),
        ("LightTimeTravel", 3, [1, 0, 2], [a, t, e], [(1, 0), (1, 1), (1, 1)]),
        ("HeavyTimeTravel", 3, [8, 0, 9], [a, a, a], [(1, 0), (1, 0), (2, 0)]),
        ("Rollover", 1, [0, 1, 2], [a, t, e], [(1, 0), (0, 1), (0, 0)]),
    ];
    for (name, bins, ticks, responses, want) in cases {
        let lookback = lookback(bins);
        for ((tick, response), want) in ticks.into_iter().zip(responses).zip(want) {
            if let Some(ended) = response {
                lookback.add(Nanos(tick), ended);
            }
            assert_eq!(lookback.sums(Nanos(tick)), want, "{name} at {tick}");
        }
    }
}

#[test]
fn adaptive_test_should_throttle_options() {
    // T nine times, A six times, T four times; after each whether a request is turned away when 0.5 is drawn.
    let responses = "TTTTTTTTTAAAAAATTTT".chars();
    let cases = [
        ("Baseline", 1.1, 8.0, "nnnnnnnnyyyyynnnyyy"),
        ("ChangePadding", 1.1, 7.0, "nnnnnnnyyyyyyyyyyyy"),
        ("ChangeRatioForAccepts", 1.4, 8.0, "nnnnnnnnyynnnnnnnnn"),
    ];
    for (name, ratio_for_accepts, requests_padding, want) in cases {
        let duration = Nanos(1);
        let config =
            AdaptiveThrottleConfig { duration, bins: 1, ratio_for_accepts, requests_padding, ..Default::default() };
        let throttler = Throttler::new(&config);
        let got = responses.clone().map(|response| {
            let code = if response == 'T' { Code::ResourceExhausted } else { Code::Ok };
            throttler.done(Nanos::ZERO, &Outcome::new(code, Nanos::ZERO));
            // 2^63 of 2^64.
            let mut half = Script::each(&[(1, 2), (0, 1)]);
            let throttled = throttler.should_throttle(&mut PickContext::new(Nanos::ZERO, &mut half));
            if throttled { 'y' } else { 'n' }
        });
        assert_eq!(got.collect::<String>(), want, "{name}");
    }
}

#[test]
fn adaptive_throttler_test_should_throttle() {
    // grpc-java's: one second, K = 1, padding 1; 0.4 is drawn each time.
    let config = AdaptiveThrottleConfig {
        duration: Nanos::from_secs(1),
        ratio_for_accepts: 1.0,
        requests_padding: 1.0,
        ..Default::default()
    };
    let throttler = Throttler::new(&config);
    let ms = Nanos::from_millis;
    let should_throttle = |at| {
        let mut rng = Script::each(&[(2, 5), (0, 1)]);
        throttler.should_throttle(&mut PickContext::new(ms(at), &mut rng))
    };
    let ended = |at, code| throttler.done(ms(at), &Outcome::new(code, Nanos::ZERO));
    assert_eq!(throttler.probability(ms(0)), 0.0);
    assert!(!should_throttle(0));
    ended(1, Code::Ok);
    assert_eq!(throttler.probability(ms(1)), 0.0);
    assert!(!should_throttle(1));
    ended(2, Code::Unavailable);
    assert_eq!(throttler.probability(ms(2)), 1.0 / 3.0);
    assert!(!should_throttle(500));
    ended(501, Code::Unavailable);
    assert_eq!(throttler.probability(ms(501)), 2.0 / 4.0);
    assert!(should_throttle(501), "by the client");
    assert_eq!(throttler.probability(ms(502)), 3.0 / 5.0);
    // Only the last two are in the window.
    assert_eq!(throttler.probability(ms(1_250)), 2.0 / 3.0);
}

#[test]
fn adaptive_test_parallel() {
    let lookback = Lookback::new(Nanos::from_secs(30), 100);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..20_000u64 {
                    // All within the window, one bin after the other.
                    let now = Nanos::from_millis(1_000_000 + i);
                    lookback.add(now, if i % 2 == 0 { Rejected } else { Accepted });
                }
            });
        }
    });
    assert_eq!(lookback.sums(Nanos::from_millis(1_020_000)), (40_000, 40_000));
}

#[test]
fn no_thread_leaves_a_count_behind() {
    // 200 laps of a ring of 4 bins, so that many find their bin recycled.
    let lookback = lookback(4);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let lookback = &lookback;
            scope.spawn(move || {
                for i in 0..40_000 {
                    lookback.add(Nanos(i / 50 + thread % 2), if i % 3 == 0 { Rejected } else { Accepted });
                    let (accepted, rejected) = lookback.sums(Nanos(i / 50));
                    assert!(accepted < 160_000 && rejected < 160_000, "below zero: {accepted}, {rejected}");
                }
            });
        }
    });
    assert_eq!(lookback.sums(Nanos(10_000)), (0, 0));
    assert!(lookback.ring.iter().all(|bin| Bin(bin.load(Ordering::Relaxed)).counts() == 0));
}

proptest! {
    /// The sums are those of what was counted within the window: each count, kept in a list, that is not older than the latest
    /// time by as many bins as there are.
    #[test]
    fn sums_are_of_what_is_in_the_window(
        bins in 1..8u32,
        steps in proptest::collection::vec((0..30u64, 0..6u64, any::<bool>()), 1..60),
    ) {
        let lookback = Lookback::new(Nanos(u64::from(bins) * 5), bins);
        let (mut counted, mut latest, mut clock) = (Vec::new(), 0, 0u64);
        for (forward, back, accepted) in steps {
            clock += forward;
            // Threads may be late.
            let at = clock.saturating_sub(back);
            latest = latest.max(at / 5);
            lookback.add(Nanos(at), if accepted { Accepted } else { Rejected });
            counted.push((at / 5, accepted));
            counted.retain(|(bin, _)| latest - bin < u64::from(bins));
            let accepts = counted.iter().filter(|(_, accepted)| *accepted).count();
            prop_assert_eq!(lookback.sums(Nanos(at)), (accepts as u32, (counted.len() - accepts) as u32));
        }
    }
}

#[test]
fn a_full_bin_counts_no_further() {
    let lookback = lookback(1);
    let nearly = Bin(Bin::FULL - 1).plus(Accepted).unwrap();
    assert_eq!(nearly.plus(Accepted).map(|b| b.0), None);
    assert_eq!(nearly.plus(Rejected).unwrap().counts(), 1 << 32 | Bin::FULL);
    lookback.ring[0].store(nearly.0, Ordering::Relaxed);
    lookback.sum.store(nearly.counts(), Ordering::Relaxed);
    lookback.add(Nanos::ZERO, Accepted);
    lookback.add(Nanos::ZERO, Rejected);
    assert_eq!(lookback.sums(Nanos::ZERO), (Bin::FULL as u32, 1));
    assert_eq!(lookback.sums(Nanos(u64::MAX - 9)), (0, 0));
}

/// A policy over one ready endpoint.
fn picker(config: &AdaptiveThrottleConfig) -> Arc<dyn Picker> {
    let mut policy = config.build(&Shared::default());
    let mut rng = Script::indices(1, &[0]);
    let mut cx = Context::new(Nanos::ZERO, &mut rng);
    policy.update(&mut cx, &EndpointSet::new([Endpoint::new(EndpointId(0), Address::new("10.0.0.1:80"))]));
    policy.connectivity(&mut cx, EndpointId(0), Connectivity::Ready);
    policy.picker(&mut cx)
}

/// How many of 1,000 requests are sent in each of so many half minutes, if the backend answers this.
fn sent(picker: &dyn Picker, code: impl Fn(usize) -> Code, half_minutes: usize) -> Vec<u32> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut sent = vec![0; half_minutes];
    for i in 0..1_000 * half_minutes {
        let now = Nanos::from_millis(30 * i as u64);
        match picker.pick(&mut PickContext::new(now, &mut rng)) {
            Pick::Endpoint(id) => {
                sent[i / 1_000] += 1;
                picker.done(id, now, &Outcome::new(code(i), Nanos::ZERO));
            }
            Pick::Drop(status) => assert_eq!(status.code, Code::Unavailable),
            other => panic!("{other:?}"),
        }
    }
    sent
}

#[test]
fn a_backend_that_accepts_half_gets_everything() {
    let config = AdaptiveThrottleConfig::default();
    // requests − 2 · accepts is never above 0.
    let even = |i: usize| if i.is_multiple_of(2) { Code::Ok } else { Code::Unavailable };
    assert_eq!(sent(&*picker(&config), even, 3), [1_000; 3]);
    // What is not in the list is accepted.
    assert_eq!(sent(&*picker(&config), |_| Code::Internal, 2), [1_000; 2]);
}

#[test]
fn a_backend_that_rejects_everything_gets_the_padding() {
    // p = n/(n + 8) of n = 1,000: 8 in 1,008 are sent, in 30 s about 8.
    let config = AdaptiveThrottleConfig::default();
    let sent = sent(&*picker(&config), |_| Code::ResourceExhausted, 5);
    assert!(sent[1..].iter().all(|&sent| (1..25).contains(&sent)), "{sent:?}");
}

#[test]
fn a_backend_that_takes_some_gets_twice_as_many() {
    // The first 5 that come of 50 are accepted.
    let (round, taken) = (Cell::new(usize::MAX), Cell::new(0));
    let limited = |i: usize| {
        if round.replace(i / 50) != i / 50 {
            taken.set(0);
        }
        taken.set(taken.get() + 1);
        if taken.get() <= 5 { Code::Ok } else { Code::Unavailable }
    };
    let sent = sent(&*picker(&AdaptiveThrottleConfig::default()), limited, 6);
    // In 30 s 100 of 1,000 are accepted: 1,000 · (1 − (1,000 − 2 · 100) / 1,008) = 206 are sent.
    assert!(sent[2..].iter().all(|&sent| (150..265).contains(&sent)), "{sent:?}");
}

#[test]
fn no_number_is_drawn_while_nothing_is_rejected() {
    struct NoMore;
    impl rand::TryRng for NoMore {
        type Error = std::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            panic!("drawn")
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            panic!("drawn")
        }
        fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Self::Error> {
            panic!("drawn")
        }
    }
    let picker = picker(&AdaptiveThrottleConfig::default());
    for i in 0..100 {
        let now = Nanos::from_secs(i);
        let pick = picker.pick(&mut PickContext::new(now, &mut NoMore));
        assert_eq!(pick, Pick::Endpoint(EndpointId(0)));
        picker.done(EndpointId(0), now, &Outcome::new(Code::Ok, Nanos::ZERO));
    }
}

#[test]
fn rules_for_values() {
    let broken = |json: &str| {
        let config = serde_json::from_str::<AdaptiveThrottleConfig>(json).unwrap();
        config.check().unwrap_err().to_string()
    };
    assert_eq!(broken(r#"{"duration": "0s"}"#), "duration: 0s, must be > 0s");
    assert_eq!(broken(r#"{"bins": 0}"#), "bins: 0, must be 1 to 256");
    assert_eq!(broken(r#"{"ratio_for_accepts": 0.5}"#), "ratio_for_accepts: 0.5, must be >= 1");
    assert_eq!(broken(r#"{"requests_padding": -1}"#), "requests_padding: -1, must be >= 0");
}
