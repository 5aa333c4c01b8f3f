//! Pauses between failed attempts, as gRPC's connection-backoff.md has them.

use super::BackoffConfig;
use crate::{Context, Nanos};

/// The state of one exponential back-off.
///
/// The pause counts from the *start* of an attempt, as in connection-backoff.md, so an attempt that took longer than
/// its pause is followed by the next one at once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Backoff {
    /// Pause of the next failure before jitter; zero stands for the initial one.
    next: Nanos,
}

impl Backoff {
    /// The pause for the attempt that starts now, jittered; the following one is longer.
    pub(super) fn pause(&mut self, cx: &mut Context<'_>, config: &BackoffConfig) -> Nanos {
        let base = if self.next == Nanos::ZERO { config.initial } else { self.next };
        self.next = base.mul_f64(config.multiplier).min(config.max);
        base.min(config.max).mul_f64(1.0 + config.jitter * plus_minus_one(cx.rng))
    }

    /// After a success the next failure pauses for the initial time again.
    pub(super) fn reset(&mut self) {
        self.next = Nanos::ZERO;
    }
}

/// Uniform in [−1, 1).
pub(super) fn plus_minus_one(rng: &mut dyn rand::Rng) -> f64 {
    // 53 random bits are a uniform double in [0, 1).
    (rng.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;

    #[test]
    fn grows_by_1_6_up_to_two_minutes() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut cx = Context::new(Nanos::ZERO, &mut rng);
        let config = BackoffConfig { jitter: 0.0, ..BackoffConfig::default() };
        let mut backoff = Backoff::default();
        let pauses: Vec<f64> = (0..13).map(|_| backoff.pause(&mut cx, &config).as_secs_f64()).collect();
        // 1 · 1.6^n: 1, 1.6, 2.56, 4.096, …; 1.6^10 = 109.95, 1.6^11 = 175.9 > 120.
        assert_eq!(pauses[..4], [1.0, 1.6, 2.56, 4.096]);
        assert!((pauses[10] - 109.951).abs() < 0.001);
        assert_eq!(pauses[11..], [120.0, 120.0]);
        backoff.reset();
        assert_eq!(backoff.pause(&mut cx, &config), Nanos::from_secs(1));
    }

    #[test]
    fn jitter_is_at_most_a_fifth_either_way() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
        let mut cx = Context::new(Nanos::ZERO, &mut rng);
        let mut seen = (f64::MAX, f64::MIN);
        for _ in 0..1000 {
            let pause = Backoff::default().pause(&mut cx, &BackoffConfig::default()).as_secs_f64();
            assert!((0.8..=1.2).contains(&pause), "{pause}");
            seen = (seen.0.min(pause), seen.1.max(pause));
        }
        assert!(seen.0 < 0.82 && seen.1 > 1.18, "jitter uses its whole range: {seen:?}");
    }
}
