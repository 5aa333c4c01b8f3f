//! Earliest deadline first: the order in which Envoy's `EdfScheduler` gives turns for fixed weights, worked out ahead.
//!
//! An endpoint of weight *w* has its turns due at 1/*w*, 2/*w*, 3/*w* and so on; each pick is the turn that is due next. Of
//! turns due together the first is that of the endpoint whose last was longest ago: the lighter one, and of equals the one
//! that comes first in the list. The order repeats after as many turns as the sum of the weights, once they have no common
//! divisor, so a table of one period and a place in it do what Envoy's queue does, without its lock or its log *n* steps.
//!
//! **How close**: of *N* picks in a row an endpoint whose weight is *r* times the mean gets its share ± (1 + *r*). Why: if
//! the last of *N* picks from the start was due at *t*, an endpoint has had between *w·t* − 1 and *w·t* turns. So *N* is
//! between *W·t* − *n* and *W·t*, where *W* is the sum of the weights, and the endpoint's count between its share − 1 and its
//! share + *r*. Picks that begin elsewhere are the difference of two such counts.
//!
//! A period of more than 65,536 turns, or of more than four for each endpoint if these are more, is too long to keep: weights
//! are rounded to whole turns of a table of about that length, *L*. Each moves by at most 1, and their sum by at most *n*
//! (*n*/2 if it shrinks), so a share moves by at most (1 + *r*)/(*L* − *n*/2), and *L* − *n*/2 is at least 57,344. Then the
//! bound is (1 + *r*) · (1 + (*N* + *n*)/57,344).

/// The longest period: 256 KiB of endpoints. Our choice.
const TURNS: u64 = 1 << 16;
/// So that many endpoints do not all come to have the same weight. Our choice.
const TURNS_PER_ENDPOINT: u64 = 4;

/// One period, as indices of `weights`, of which each is at least 1.
pub(super) fn turns(weights: &[u32]) -> Vec<u32> {
    let weights = whole_turns(weights);
    let weight = |&i: &u32| weights[i as usize];
    let mut by_weight: Vec<u32> = (0..weights.len() as u32).collect();
    by_weight.sort_by_key(weight);
    // Endpoints of one weight have their turns together. Different weights are few, as 1 + 2 + … + d is d²/2: 361 of them
    // fill 65,536 turns, so their number fits 16 bits.
    let groups: Vec<&[u32]> = by_weight.chunk_by(|a, b| weight(a) == weight(b)).collect();

    // When a turn is due, and then whose it is: one number, which sorts in half the time of two.
    let mut due: Vec<u64> = Vec::new();
    for (group, members) in (0..).zip(&groups) {
        let weight = u64::from(weight(&members[0]));
        // Different k/w are at least 1/(w·w′) apart: with 40 binary places, none of weights up to 2^20 look equal.
        due.extend((1..=weight).map(|k| ((k << 40) / weight) << 16 | group));
    }
    due.sort_unstable();

    let mut turns = Vec::with_capacity(weights.iter().map(|&w| w as usize).sum());
    for due in due {
        turns.extend_from_slice(groups[usize::from(due as u16)]);
    }
    turns
}

/// Turns of each in one period: the weights themselves, if their period is short enough.
fn whole_turns(weights: &[u32]) -> Vec<u32> {
    let divisor = weights.iter().fold(0, |divisor, &w| gcd(w, divisor)).max(1);
    let sum: u64 = weights.iter().map(|&w| u64::from(w / divisor)).sum();
    let longest = TURNS.max(TURNS_PER_ENDPOINT * weights.len() as u64);
    if sum <= longest {
        return weights.iter().map(|w| w / divisor).collect();
    }
    let rounded = |w: u64| (2 * w * longest + sum) / (2 * sum);
    weights.iter().map(|&w| rounded(u64::from(w / divisor)).max(1) as u32).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(turns: impl IntoIterator<Item = u32>, n: usize) -> Vec<u32> {
        let mut counts = vec![0; n];
        turns.into_iter().for_each(|i| counts[i as usize] += 1);
        counts
    }

    #[test]
    fn edf_scheduler_test_unweighted() {
        assert_eq!(turns(&[1; 128]), (0..128).collect::<Vec<_>>());
        assert_eq!(turns(&[1_000; 128]), turns(&[1; 128]), "the common divisor is 1,000");
    }

    #[test]
    fn edf_scheduler_test_weighted() {
        // Weights 1 to 128: 128 · 129/2 = 8,256 turns.
        let weights: Vec<u32> = (1..=128).collect();
        let turns = turns(&weights);
        assert_eq!(turns.len(), 8_256);
        assert_eq!(counts(turns, 128), weights);
    }

    #[test]
    fn edf_scheduler_test_scheduler_with_random_picks_first_pick_distribution() {
        // A start anywhere in the period is any endpoint's turn as likely as its weight says.
        for weights in [&[25, 75][..], &[1, 99], &[50, 50], &[1, 20, 79]] {
            let turns = turns(weights);
            let in_100 = 100 / turns.len() as u32;
            let counts: Vec<u32> = counts(turns, weights.len()).into_iter().map(|c| c * in_100).collect();
            assert_eq!(counts, weights);
        }
    }

    #[test]
    fn round_robin_lb_test_weighted() {
        // Due at 1/2 (b), 1 (a, added at 0), 1 (b, added at 1/2).
        assert_eq!(turns(&[1, 2]), [1, 0, 1]);
        // Due at 1/3 (c), 1/2 (a), 2/3 (c), and at 1 all three: b added at 0, a at 1/2, c at 2/3.
        assert_eq!(turns(&[2, 1, 3]), [2, 0, 2, 1, 0, 2]);
        assert_eq!(turns(&[1, 4]), [1, 1, 1, 0, 1]);
    }

    #[test]
    fn weights_without_a_short_period_are_rounded() {
        // 65,536 · 1,000,000/1,000,001 = 65,535.9, and the other is not left out: 65,536 turns and 1.
        let turns = turns(&[1_000_000, 1]);
        assert_eq!(counts(turns, 2), [65_536, 1]);
        // 65,536 turns are kept as they are, 65,537 are not: 65,534 · 65,536/65,537 = 65,533.0 and 3 · 65,536/65,537 = 3.0.
        assert_eq!(counts(super::turns(&[65_535, 1]), 2), [65_535, 1]);
        assert_eq!(counts(super::turns(&[65_534, 3]), 2), [65_533, 3]);
        // Four turns for each of 20,000.
        let many: Vec<u32> = (0..20_000).map(|i| 1_000_000 + i).collect();
        assert_eq!(super::turns(&many).len(), 80_000);
    }

    /// Envoy's queue: deadlines as exact fractions, and a number for the order of addition.
    fn envoy(weights: &[u32], picks: usize) -> Vec<u32> {
        let mut queue: Vec<(u64, u64, u64)> = (0..).zip(weights).map(|(order, &w)| (1, u64::from(w), order)).collect();
        let mut added = weights.len() as u64;
        let mut pick = || {
            let earlier = |a: &(usize, (u64, u64, u64)), b: &(usize, (u64, u64, u64))| {
                let ((_, (ka, wa, order_a)), (_, (kb, wb, order_b))) = (a, b);
                (ka * wb).cmp(&(kb * wa)).then(order_a.cmp(order_b))
            };
            let (next, _) = queue.iter().copied().enumerate().min_by(earlier).unwrap();
            queue[next].0 += 1;
            queue[next].2 = added;
            added += 1;
            next as u32
        };
        (0..picks).map(|_| pick()).collect()
    }

    proptest! {
        #[test]
        fn turns_are_those_of_envoys_queue(weights in proptest::collection::vec(1u32..60, 1..12)) {
            let expected = envoy(&weights, 1_000);
            let turns = turns(&weights);
            let turns: Vec<u32> = turns.iter().copied().cycle().take(1_000).collect();
            prop_assert_eq!(turns, expected);
        }

        #[test]
        fn share_tracks_weight_within_the_stated_bound(
            weights in proptest::collection::vec(prop_oneof![1..10u32, 1..10_000u32, any::<u32>()], 1..200),
            start in any::<prop::sample::Index>(),
            picks in 1..100_000usize,
        ) {
            let weights: Vec<u32> = weights.into_iter().map(|w| w.max(1)).collect();
            let turns = turns(&weights);
            let start = start.index(turns.len());
            let counts = counts(turns.iter().copied().cycle().skip(start).take(picks), weights.len());
            let mean = weights.iter().map(|&w| f64::from(w)).sum::<f64>() / weights.len() as f64;
            let (n, picks) = (weights.len() as f64, picks as f64);
            for (&weight, &count) in weights.iter().zip(&counts) {
                let ratio = f64::from(weight) / mean;
                let (share, bound) = (picks * ratio / n, (1.0 + ratio) * (1.0 + (picks + n) / 57_344.0));
                prop_assert!((f64::from(count) - share).abs() <= bound, "{count}, not {share} ± {bound}");
            }
        }
    }
}
