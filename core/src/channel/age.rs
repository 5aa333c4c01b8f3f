//! The server's side of a connection's life: gRFC A9's MAX_CONNECTION_AGE, and draining on shutdown.

use super::backoff::plus_minus_one;
use super::config::ConnectionAgeConfig;
use crate::{Context, Nanos};

/// What the server must do to the connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgeAction {
    /// Tell the client to open no more streams here; those in flight go on.
    GoAway,
    /// Close; what is still in flight is cut off.
    Close,
}

/// When one accepted connection gets its GOAWAY, and when it is cut.
///
/// A host calls [`tick`](Self::tick) at [`next_wake`](Self::next_wake), and closes the connection itself once it is
/// draining and its last stream has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionAge {
    phase: Phase,
    grace: Nanos,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open { goaway_at: Nanos },
    Draining { close_at: Nanos },
    Closed,
}

impl ConnectionAge {
    /// The life of a connection accepted at `cx.now`.
    pub fn new(cx: &mut Context<'_>, config: &ConnectionAgeConfig) -> Self {
        let goaway_at = if config.max_age == Nanos::NEVER {
            Nanos::NEVER // no draw: an unlimited age leaves the random stream as it was
        } else {
            cx.now + config.max_age.mul_f64(1.0 + config.jitter * plus_minus_one(cx.rng))
        };
        Self { phase: Phase::Open { goaway_at }, grace: config.grace }
    }

    /// The server shuts down: GOAWAY now, unless it was sent, and the end no later than `grace` from now.
    pub fn drain(&mut self, now: Nanos, grace: Nanos) {
        match &mut self.phase {
            Phase::Open { goaway_at } => {
                *goaway_at = now;
                self.grace = grace;
            }
            Phase::Draining { close_at } => *close_at = (*close_at).min(now + grace),
            Phase::Closed => {}
        }
    }

    /// Whether the GOAWAY was sent: the connection closes with its last stream.
    pub fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. })
    }

    /// What is due at `now`, one action a call.
    pub fn tick(&mut self, now: Nanos) -> Option<AgeAction> {
        match self.phase {
            Phase::Open { goaway_at } if goaway_at <= now => {
                self.phase = Phase::Draining { close_at: now + self.grace };
                Some(AgeAction::GoAway)
            }
            Phase::Draining { close_at } if close_at <= now => {
                self.phase = Phase::Closed;
                Some(AgeAction::Close)
            }
            _ => None,
        }
    }

    /// When to call [`tick`](Self::tick); [`Nanos::NEVER`] if nothing is planned.
    pub fn next_wake(&self) -> Nanos {
        match self.phase {
            Phase::Open { goaway_at } => goaway_at,
            Phase::Draining { close_at } => close_at,
            Phase::Closed => Nanos::NEVER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;

    const fn s(n: u64) -> Nanos {
        Nanos::from_secs(n)
    }

    #[test]
    fn goaway_at_the_age_within_ten_percent_then_the_end_of_the_grace() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let config = ConnectionAgeConfig { max_age: s(10), grace: s(20), ..ConnectionAgeConfig::default() };
        let mut seen = (f64::MAX, f64::MIN);
        for _ in 0..1000 {
            let mut age = ConnectionAge::new(&mut Context::new(s(100), &mut rng), &config);
            let at = age.next_wake();
            // 100 s + 10 s ± 1 s.
            assert!((109.0..=111.0).contains(&at.as_secs_f64()), "{at}");
            seen = (seen.0.min(at.as_secs_f64()), seen.1.max(at.as_secs_f64()));
            assert_eq!(age.tick(s(108)), None);
            assert_eq!(age.tick(at), Some(AgeAction::GoAway));
            assert_eq!((age.tick(at), age.next_wake()), (None, at + s(20)));
            assert_eq!(age.tick(at + s(20)), Some(AgeAction::Close));
            assert_eq!(age.next_wake(), Nanos::NEVER);
        }
        assert!(seen.1 - seen.0 > 1.9, "jitter uses its whole range: {seen:?}");
    }

    #[test]
    fn without_jitter_connections_of_one_moment_end_in_one() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let config = ConnectionAgeConfig { max_age: s(10), jitter: 0.0, ..ConnectionAgeConfig::default() };
        for _ in 0..10 {
            assert_eq!(ConnectionAge::new(&mut Context::new(s(100), &mut rng), &config).next_wake(), s(110));
        }
        // All of it is the other end: anything from at once to twice the age.
        let config = ConnectionAgeConfig { jitter: 1.0, ..config };
        let ages = (0..1000).map(|_| ConnectionAge::new(&mut Context::new(s(100), &mut rng), &config).next_wake());
        let (least, most) = ages.fold((Nanos::NEVER, s(0)), |(least, most), at| (least.min(at), most.max(at)));
        assert!(least >= s(100) && least < s(101) && most > s(119) && most <= s(120), "{least} to {most}");
    }

    #[test]
    fn unlimited_by_default_until_drained() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut age = ConnectionAge::new(&mut Context::new(s(0), &mut rng), &ConnectionAgeConfig::default());
        assert_eq!(age.next_wake(), Nanos::NEVER);
        age.drain(s(5), s(30));
        assert_eq!(age.tick(s(5)), Some(AgeAction::GoAway));
        assert!(age.is_draining());
        assert_eq!(age.next_wake(), s(35));
    }

    #[test]
    fn a_shutdown_shortens_an_unlimited_grace() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let config = ConnectionAgeConfig { max_age: s(10), ..ConnectionAgeConfig::default() };
        let mut age = ConnectionAge::new(&mut Context::new(s(0), &mut rng), &config);
        assert_eq!(age.tick(s(12)), Some(AgeAction::GoAway));
        assert_eq!(age.next_wake(), Nanos::NEVER);
        age.drain(s(20), s(30));
        assert_eq!(age.next_wake(), s(50));
    }
}
