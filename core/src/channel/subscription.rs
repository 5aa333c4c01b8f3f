//! Addresses that are pushed: the stream to a control plane (xDS) or to a lookaside balancer (grpclb).
//!
//! A look-up is a question that somebody has to ask again; a subscription is asked once and answered whenever something
//! changes. What it costs is a stream that can break: then what is known stays in use and grows old, and the stream is
//! opened again with back-off. A failed connection to an endpoint is no reason to ask, since whoever pushes knows better.
//!
//! * xDS (gRFC A27): a resource that has not come within `init_fetch_timeout` counts as one that does not exist.
//! * grpclb (grpc/grpc load-balancing.md, grpclb.cc): the client looks the name up as well and falls back to those
//!   addresses if no list has come in time, or if the balancer and all backends of its last list are lost; the next list
//!   ends the fallback. (grpclb.cc does not wait for its timeout if it cannot reach the balancer at the start; here it does.)
//!
//! It does badly where whoever pushes is itself wrong: a client can tell a broken stream, but not a stale list.

use super::backoff::Backoff;
use super::{BackoffConfig, ResolvedAddress};
use crate::{Context, Nanos};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    /// Opened then; never before the channel has started.
    Down { open_at: Nanos },
    /// Being opened, or open and not yet answered on.
    Asked,
    /// Open: something has come.
    Answered,
}

/// One subscription's stream.
#[derive(Debug)]
pub(super) struct Subscription {
    stream: Stream,
    /// Something should have come by then; never once it has, or once that was noticed.
    answer_by: Nanos,
    patience: Nanos,
    backoff: Backoff,
}

impl Subscription {
    /// `patience`: how long the first answer may take.
    pub(super) fn new(patience: Nanos) -> Self {
        let stream = Stream::Down { open_at: Nanos::NEVER };
        Self { stream, answer_by: Nanos::NEVER, patience, backoff: Backoff::default() }
    }

    pub(super) fn start(&mut self, now: Nanos) {
        self.stream = Stream::Down { open_at: now };
        self.answer_by = now + self.patience;
    }

    /// Whether the stream is to be opened now.
    pub(super) fn poll(&mut self, now: Nanos) -> bool {
        let due = matches!(self.stream, Stream::Down { open_at } if open_at <= now);
        if due {
            self.stream = Stream::Asked;
        }
        due
    }

    /// Whether the time for the first answer is over; said once.
    pub(super) fn take_expired(&mut self, now: Nanos) -> bool {
        let expired = self.answer_by <= now;
        if expired {
            self.answer_by = Nanos::NEVER;
        }
        expired
    }

    /// When to poll again.
    pub(super) fn wake(&self) -> Nanos {
        let open_at = if let Stream::Down { open_at } = self.stream { open_at } else { Nanos::NEVER };
        open_at.min(self.answer_by)
    }

    /// Something has come. A message of a stream that has broken since does not make it whole.
    pub(super) fn answered(&mut self) {
        self.answer_by = Nanos::NEVER;
        if self.stream == Stream::Asked {
            self.stream = Stream::Answered;
            self.backoff.reset();
        }
    }

    /// The stream has broken or could not be opened.
    pub(super) fn broken(&mut self, cx: &mut Context<'_>, backoff: &BackoffConfig) {
        if !matches!(self.stream, Stream::Down { .. }) {
            self.stream = Stream::Down { open_at: cx.now + self.backoff.pause(cx, backoff) };
        }
    }

    /// Whether whoever pushes is there: it has answered on a stream that is open.
    pub(super) fn is_up(&self) -> bool {
        self.stream == Stream::Answered
    }
}

/// What grpclb does without its balancer.
#[derive(Debug, Default)]
pub(super) struct Fallback {
    /// The backends that DNS knows, from the last answer; none before the first.
    pub(super) addresses: Option<Vec<ResolvedAddress>>,
    /// The last look-up failed.
    pub(super) failed: bool,
    /// Those addresses are in use.
    pub(super) active: bool,
    /// A list has come, ever.
    pub(super) listed: bool,
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
    fn it_asks_once_and_again_only_after_the_stream_broke() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let backoff = BackoffConfig { jitter: 0.0, ..BackoffConfig::default() };
        let mut sub = Subscription::new(s(15));
        assert_eq!(sub.wake(), Nanos::NEVER);
        sub.start(s(0));
        assert!(sub.poll(s(0)) && !sub.poll(s(0)));
        assert_eq!(sub.wake(), s(15));
        sub.answered();
        assert_eq!(sub.wake(), Nanos::NEVER);
        assert!(sub.is_up());
        // 1 s, then 1.6 s more; a message makes it 1 s again.
        for (now, wake) in [(s(40), s(41)), (s(41), Nanos::from_millis(42_600))] {
            sub.broken(&mut Context::new(now, &mut rng), &backoff);
            sub.broken(&mut Context::new(now, &mut rng), &backoff);
            assert_eq!(sub.wake(), wake, "breaking twice is breaking once");
            assert!(sub.poll(wake) && !sub.is_up());
        }
        sub.answered();
        sub.broken(&mut Context::new(s(50), &mut rng), &backoff);
        assert_eq!(sub.wake(), s(51));
        sub.answered();
        assert_eq!(sub.wake(), s(51), "a late message of the broken stream");
    }

    #[test]
    fn patience_ends_once() {
        let mut sub = Subscription::new(s(15));
        sub.start(s(5));
        assert!(sub.poll(s(5)));
        assert!(!sub.take_expired(s(19)));
        assert!(sub.take_expired(s(20)) && !sub.take_expired(s(20)));
        assert_eq!(sub.wake(), Nanos::NEVER, "it goes on waiting without a clock");
    }
}
