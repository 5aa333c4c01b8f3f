//! When a name is looked up again.
//!
//! gRPC's `dns` resolver never polls: it looks up when a connection fails or gets a GOAWAY, and then not before
//! 30 s have passed since the last answer (grpc-go dns_resolver `MinResolutionInterval`). That is why a channel whose
//! connections are all healthy never learns of new pods. Envoy's STRICT_DNS polls instead.

use std::sync::Arc;

use super::backoff::Backoff;
use super::{BackoffConfig, DnsResolverConfig, ResolverConfig};
use crate::{Address, Context, Endpoint, EndpointId, Locality, Nanos};

/// An answer of the name system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolution {
    /// In the order of the answer.
    pub addresses: Vec<ResolvedAddress>,
    /// How long it may be used.
    pub ttl: Nanos,
}

/// An address of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedAddress {
    /// Where.
    pub address: Address,
    /// Relative weight, at least 1. DNS has none: 1. A pushed list that names an address more than once adds them up.
    pub weight: u32,
    /// [`Endpoint::priority`]. DNS has none: 0.
    pub priority: u32,
    /// [`Endpoint::locality`]. DNS knows of none.
    pub locality: Option<Arc<Locality>>,
    /// [`Endpoint::key`].
    pub key: Option<Arc<str>>,
    /// [`Endpoint::draining`].
    pub draining: bool,
}

impl ResolvedAddress {
    /// An address of weight 1, as DNS gives it.
    pub fn new(address: Address) -> Self {
        Self { address, weight: 1, priority: 0, locality: None, key: None, draining: false }
    }

    /// The same with this weight.
    #[must_use]
    pub fn with_weight(self, weight: u32) -> Self {
        Self { weight, ..self }
    }

    /// As an endpoint of a channel.
    pub(super) fn endpoint(self, id: EndpointId) -> Endpoint {
        let Self { address, weight, priority, locality, key, draining } = self;
        Endpoint { id, address, weight, priority, locality, key, draining }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waits for a reason to look up.
    Resting,
    /// Looks up then.
    Scheduled(Nanos),
    /// The host is looking up; `again` remembers a reason that came meanwhile.
    Asking { again: bool },
}

/// By what the next look-up goes.
#[derive(Debug)]
enum Rule {
    /// Reasons, no more often than this.
    OnRequest { floor: Nanos },
    /// A clock: this long after the last, or by the answer's TTL.
    Periodic { every: Nanos, by_ttl: bool },
    /// Nothing: addresses are pushed.
    Never,
}

/// The clock of one name's look-ups.
#[derive(Debug)]
pub(super) struct Resolver {
    rule: Rule,
    state: State,
    /// Not before this time, except to retry a failed look-up.
    floor: Nanos,
    backoff: Backoff,
}

impl Resolver {
    pub(super) fn new(config: &ResolverConfig) -> Self {
        let on_request = |dns: &DnsResolverConfig| Rule::OnRequest { floor: dns.min_resolution_interval };
        let rule = match config {
            ResolverConfig::Dns(dns) => on_request(dns),
            // Its fallback addresses come from gRPC's `dns` resolver.
            ResolverConfig::Grpclb(_) => on_request(&DnsResolverConfig::default()),
            ResolverConfig::StrictDns(dns) => {
                Rule::Periodic { every: dns.dns_refresh_rate, by_ttl: dns.respect_dns_ttl }
            }
            ResolverConfig::Xds(_) => Rule::Never,
        };
        Self { rule, state: State::Resting, floor: Nanos::ZERO, backoff: Backoff::default() }
    }

    /// Something failed: addresses may be stale. STRICT_DNS goes by its own clock and does not listen.
    pub(super) fn request(&mut self, now: Nanos) {
        if !matches!(self.rule, Rule::OnRequest { .. }) {
            return;
        }
        match &mut self.state {
            State::Resting => self.state = State::Scheduled(self.floor.max(now)),
            State::Scheduled(_) => {}
            State::Asking { again } => *again = true,
        }
    }

    /// Whether a look-up starts now.
    pub(super) fn poll(&mut self, now: Nanos) -> bool {
        let due = matches!(self.state, State::Scheduled(at) if at <= now);
        if due {
            self.state = State::Asking { again: false };
        }
        due
    }

    /// The first look-up of a channel.
    pub(super) fn start(&mut self, now: Nanos) {
        if !matches!(self.rule, Rule::Never) {
            self.state = State::Scheduled(now);
        }
    }

    /// When to poll again.
    pub(super) fn wake(&self) -> Nanos {
        if let State::Scheduled(at) = self.state { at } else { Nanos::NEVER }
    }

    /// The look-up gave addresses. An answer nobody asked for (a push) is as good.
    pub(super) fn answered(&mut self, now: Nanos, ttl: Nanos) {
        self.backoff.reset();
        let again = matches!(self.state, State::Asking { again: true });
        self.state = match self.rule {
            Rule::OnRequest { floor } => {
                self.floor = now + floor;
                if again { State::Scheduled(self.floor) } else { State::Resting }
            }
            Rule::Periodic { every, by_ttl } => {
                // A TTL of 0 would be a busy loop; Envoy falls back to its refresh rate too.
                State::Scheduled(now + if by_ttl && ttl > Nanos::ZERO { ttl } else { every })
            }
            Rule::Never => State::Resting,
        };
    }

    /// The look-up failed or gave nothing: gRPC retries with back-off, STRICT_DNS at its next refresh.
    pub(super) fn failed(&mut self, cx: &mut Context<'_>, backoff: &BackoffConfig) {
        let wait = match self.rule {
            Rule::OnRequest { .. } => self.backoff.pause(cx, backoff),
            Rule::Periodic { every, .. } => every,
            Rule::Never => return,
        };
        self.state = State::Scheduled(cx.now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{DnsResolverConfig, StrictDnsConfig};
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;

    const fn s(n: u64) -> Nanos {
        Nanos::from_secs(n)
    }

    fn answered_at_zero(config: ResolverConfig) -> Resolver {
        let mut r = Resolver::new(&config);
        r.start(s(0));
        assert!(r.poll(s(0)));
        r.answered(s(0), s(7));
        r
    }

    #[test]
    fn dns_rests_until_something_fails() {
        let mut r = answered_at_zero(ResolverConfig::default());
        assert_eq!(r.wake(), Nanos::NEVER);
        // A failure at 40 s, past the floor of 0 + 30 s: at once.
        r.request(s(40));
        assert!(r.poll(s(40)));
    }

    #[test]
    fn the_floor_delays_and_joins_requests() {
        let mut r = answered_at_zero(ResolverConfig::default());
        r.request(s(10));
        r.request(s(20));
        assert_eq!(r.wake(), s(30));
        assert!(!r.poll(s(29)));
        assert!(r.poll(s(30)));
        r.answered(s(31), s(7));
        assert_eq!(r.wake(), Nanos::NEVER, "both requests were served by one look-up");
    }

    #[test]
    fn a_request_during_a_lookup_is_served_a_floor_later() {
        let mut r = answered_at_zero(ResolverConfig::Dns(DnsResolverConfig { min_resolution_interval: s(30) }));
        r.request(s(50));
        assert!(r.poll(s(50)));
        r.request(s(50));
        r.answered(s(51), s(7));
        assert_eq!(r.wake(), s(81));
    }

    #[test]
    fn failures_back_off_and_success_forgets() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let backoff = BackoffConfig { jitter: 0.0, ..BackoffConfig::default() };
        let mut r = Resolver::new(&ResolverConfig::default());
        r.start(s(0));
        assert!(r.poll(s(0)));
        r.failed(&mut Context::new(s(0), &mut rng), &backoff);
        assert_eq!(r.wake(), s(1));
        assert!(r.poll(s(1)));
        r.failed(&mut Context::new(s(1), &mut rng), &backoff);
        assert_eq!(r.wake(), Nanos::from_millis(2600), "1 s + 1.6 s");
    }

    #[test]
    fn strict_dns_polls_by_rate_or_ttl_and_ignores_failures() {
        let mut r = answered_at_zero(ResolverConfig::StrictDns(StrictDnsConfig::default()));
        r.request(s(1));
        assert_eq!(r.wake(), s(5));
        let r = answered_at_zero(ResolverConfig::StrictDns(StrictDnsConfig {
            respect_dns_ttl: true,
            ..StrictDnsConfig::default()
        }));
        assert_eq!(r.wake(), s(7));
    }
}
