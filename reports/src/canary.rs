//! What a canary tells: after how many requests its errors can be told from the others'.
//!
//! Exact binomial, no normal approximation: a canary gets few requests, and a broken one fails nearly all of them. Nothing
//! here knows where an error comes from; a canary that is slow, or wrong with status OK, is not found this way.

use libm::{exp, log, log1p};

/// Significance and miss: one canary in twenty like the others is taken for worse, one in twenty that is worse goes
/// undetected. Our choice.
const RISK: f64 = 0.05;

/// More alarms than this are not waited for: error rates that need more differ by less than a sixth. Our choice.
const MOST_FAILURES: u64 = 500;

/// Smallest number of requests *to the service* after which a canary that fails `worse` of its requests is told from one
/// that fails `usual`, as the others do, with 95 % power at 5 % one-sided significance; the canary gets a request with
/// probability `share`.
///
/// Of N requests the canary fails Bin(N, share · rate). It is called worse when it has failed k or more, k being so large
/// that a canary like the others does so with a probability of 5 % at most. The answer is the smallest N for which there is
/// a k such that
///
/// ```text
/// P(Bin(N, share · usual) ≥ k) ≤ 0.05   and   P(Bin(N, share · worse) ≥ k) ≥ 0.95
/// ```
///
/// With `usual` = 0 the first failure tells, k = 1, and N = ⌈ln 0.05 / ln(1 − share · worse)⌉. So one broken canary pod beside
/// 1, 3 or 9 stable ones (shares 1/2, 1/4, 1/10) is found after 5, 11 or 29 requests.
///
/// `None` if `worse` is not worse, or so little that it takes more than 500 failures of the canary to say so.
#[must_use]
pub fn requests_to_detect(share: f64, usual: f64, worse: f64) -> Option<u64> {
    let is_part = |x: f64| (0.0..=1.0).contains(&x);
    if !(is_part(share) && is_part(usual) && is_part(worse)) || share * worse <= share * usual {
        return None;
    }
    let (usual, worse) = (share * usual, share * worse);
    let mut n = 0;
    for failures in 1..=MOST_FAILURES {
        n = enough(failures, worse, n + 1)?;
        if at_least(n, usual, failures) <= RISK {
            return Some(n);
        }
    }
    None
}

/// After how many requests to the service a deployment's errors are told from those of the service's others, by what both
/// got: (requests, of these failed). `None` if either got none, or as [`requests_to_detect`] has it.
#[must_use]
pub fn told_after(own: (u64, u64), rest: (u64, u64)) -> Option<u64> {
    let rate = |(requests, failed): (u64, u64)| (requests > 0).then(|| failed as f64 / requests as f64);
    let share = own.0 as f64 / (own.0 as f64 + rest.0 as f64);
    requests_to_detect(share, rate(rest)?, rate(own)?)
}

/// Smallest n from `from` on with P(Bin(n, p) ≥ k) ≥ 0.95. It grows with n, and fewer than k never do.
fn enough(k: u64, p: f64, from: u64) -> Option<u64> {
    let holds = |n: u64| at_least(n, p, k) >= 1.0 - RISK;
    let mut low = from.max(k);
    if holds(low) {
        return Some(low);
    }
    let mut step = 1u64;
    let mut high = loop {
        let next = low.checked_add(step).filter(|n| *n <= MOST_REQUESTS)?;
        if holds(next) {
            break next;
        }
        (low, step) = (next, step * 2);
    };
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

/// Beyond any run, and exact in a float.
const MOST_REQUESTS: u64 = 1 << 50;

/// P(Bin(n, p) ≥ k): one minus the terms below k, each from the one before, as logarithms, so that none underflows on the way.
fn at_least(n: u64, p: f64, k: u64) -> f64 {
    if k == 0 || p >= 1.0 {
        return f64::from(u8::from(n >= k));
    }
    if n < k || p <= 0.0 {
        return 0.0;
    }
    let odds = log(p) - log1p(-p);
    let mut term = n as f64 * log1p(-p);
    let mut below = exp(term);
    for i in 1..k {
        // C(n, i) / C(n, i − 1) = (n − i + 1) / i.
        term += log((n - i + 1) as f64 / i as f64) + odds;
        below += exp(term);
    }
    (1.0 - below).max(0.0)
}

/// Part of the requests that one canary pod gets beside `stable` equal ones, all picked alike: 1 / (n + 1). Smaller parts
/// need weights or a route.
#[must_use]
pub fn share_of_one(stable: u64) -> f64 {
    1.0 / (stable as f64 + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_broken_canary_pod_beside_n_stable_ones() {
        // ⌈ln 0.05 / ln(1 − 1/2)⌉ = ⌈4.32⌉, ⌈10.41⌉, ⌈28.43⌉.
        let found: Vec<Option<u64>> = [1, 3, 9].map(|n| requests_to_detect(share_of_one(n), 0.0, 1.0)).into();
        assert_eq!(found, [Some(5), Some(11), Some(29)]);
        // A tenth of the requests fail at a tenth of the traffic: ln 0.05 / ln 0.99 = 298.07.
        assert_eq!(requests_to_detect(0.1, 0.0, 0.1), Some(299));
        assert_eq!(requests_to_detect(1.0, 0.0, 1.0), Some(1));
    }

    #[test]
    fn it_is_told_by_what_both_got() {
        assert_eq!(told_after((25, 25), (75, 0)), Some(11));
        assert_eq!(told_after((0, 0), (75, 0)), None);
        assert_eq!(told_after((25, 25), (0, 0)), None);
    }

    #[test]
    fn tails_are_those_of_the_binomial() {
        // P(Bin(4, 1/2) ≥ 3) = (4 + 1) / 16; P(Bin(10, 0.1) ≥ 2) = 1 − 0.9¹⁰ − 10 · 0.1 · 0.9⁹ = 0.26390.
        assert!((at_least(4, 0.5, 3) - 5.0 / 16.0).abs() < 1e-12);
        assert!((at_least(10, 0.1, 2) - 0.263_901_070_9).abs() < 1e-9);
        assert_eq!(
            (at_least(3, 0.5, 4), at_least(3, 0.0, 1), at_least(3, 1.0, 3), at_least(3, 0.2, 0)),
            (0.0, 0.0, 1.0, 1.0)
        );
        // (1 − 0.9)^2000 is no number any more; the tail still is: the mean is 1800, six deviations of 13.4 lower is 1720.
        assert!(at_least(2000, 0.9, 400) > 0.999_999);
    }

    #[test]
    fn it_is_the_smallest_number_that_will_do() {
        // By trying every number and every k.
        let smallest = |usual: f64, worse: f64| {
            (1..5000u64).find(|&n| {
                (1..=n.min(60)).any(|k| at_least(n, usual, k) <= RISK && at_least(n, worse, k) >= 1.0 - RISK)
            })
        };
        for (share, usual, worse) in [(0.5, 0.01, 0.05), (0.25, 0.1, 0.5), (0.1, 0.02, 0.2), (0.5, 0.3, 0.9)] {
            let found = requests_to_detect(share, usual, worse);
            assert!(found.is_some());
            assert_eq!(found, smallest(share * usual, share * worse), "{share} {usual} {worse}");
        }
    }

    #[test]
    fn what_is_not_worse_is_not_found() {
        for (share, usual, worse) in [
            (0.5, 0.1, 0.1),
            (0.5, 0.2, 0.1),
            (0.0, 0.0, 1.0),
            (0.5, 0.1, 0.101),
            (f64::NAN, 0.0, 1.0),
            (0.5, 0.0, 2.0),
        ] {
            assert_eq!(requests_to_detect(share, usual, worse), None, "{share} {usual} {worse}");
        }
        assert_eq!(requests_to_detect(1e-300, 0.0, 1e-300), None, "not in any number of requests that can be counted");
    }
}
