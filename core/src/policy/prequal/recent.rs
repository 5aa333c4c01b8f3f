//! From how many requests in flight on an endpoint is hot: a quantile of what the last probes found.

use std::sync::atomic::{AtomicU32, Ordering};

/// How many of the last answers make up the distribution. Our choice: four times the paper's pool, so that a quantile of 0.84
/// has ten of them above it.
const LAST: usize = 64;

/// Requests in flight as the last answers had them.
#[derive(Debug)]
pub(super) struct RecentRif {
    q_rif: f64,
    last: [AtomicU32; LAST],
    hot_from: AtomicU32,
}

impl RecentRif {
    pub(super) fn new(q_rif: f64) -> Self {
        Self { q_rif, last: [const { AtomicU32::new(0) }; LAST], hot_from: AtomicU32::new(0) }
    }

    /// The `n`th answer, from 0.
    ///
    /// Of threads that are here at once, the last one to leave may not have seen what the others found; the next answer sets
    /// that right.
    pub(super) fn saw(&self, n: u64, rif: u32) {
        self.last[n as usize % LAST].store(rif, Ordering::Relaxed);
        let mut last = [0; LAST];
        let known = &mut last[..LAST.min(usize::try_from(n).unwrap_or(LAST).saturating_add(1))];
        for (copy, rif) in known.iter_mut().zip(&self.last) {
            *copy = rif.load(Ordering::Relaxed);
        }
        self.hot_from.store(hot_from(self.q_rif, known), Ordering::Relaxed);
    }

    /// An endpoint with so many requests in flight, or more, is hot.
    #[inline]
    pub(super) fn hot_from(&self) -> u32 {
        self.hot_from.load(Ordering::Relaxed)
    }
}

/// Above the quantile. The ends are the paper's: with 0 all are hot, and the choice goes by requests in flight alone; with 1
/// none is, and it goes by latency alone.
fn hot_from(q_rif: f64, known: &mut [u32]) -> u32 {
    if q_rif <= 0.0 {
        0
    } else if q_rif >= 1.0 {
        u32::MAX
    } else {
        // The smallest of which as large a part is no larger.
        let at = (q_rif * known.len() as f64).ceil() as usize;
        let (_, quantile, _) = known.select_nth_unstable(at.clamp(1, known.len()) - 1);
        quantile.saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_quantile_is_hot() {
        // 1 to 10: 84 % of ten is 8.4, so the ninth; half is the fifth.
        let ten = || [3, 1, 4, 10, 5, 9, 2, 6, 8, 7];
        assert_eq!([0.84, 0.5, 0.001, 0.999].map(|q| hot_from(q, &mut ten())), [10, 6, 2, 11]);
        assert_eq!([0.0, 1.0].map(|q| hot_from(q, &mut ten())), [0, u32::MAX]);
        assert_eq!(hot_from(0.84, &mut [u32::MAX]), u32::MAX);
    }

    #[test]
    fn the_last_sixty_four_count() {
        let recent = RecentRif::new(0.5);
        recent.saw(0, 9);
        assert_eq!(recent.hot_from(), 10);
        (1..40).for_each(|n| recent.saw(n, 9));
        (40..104).for_each(|n| recent.saw(n, 2));
        assert_eq!(recent.hot_from(), 3);
    }
}
