//! Whether a request is sent again before the first attempt has answered.
//!
//! **Solves** the tail of latency where it is the server's and not the request's: a pause for garbage collection, a queue, a
//! pod in a bad period. Another server would have answered long ago, so one is asked too, and the first answer counts. Sent
//! after the 95th percentile of latency, further attempts add about 5 % of load (Dean & Barroso, "The Tail at Scale",
//! CACM 2013; after 10 ms, and 2 % more requests, a read of 1,000 BigTable keys had its 99.9th percentile at 74 ms instead
//! of 1,800).
//!
//! **Source**: gRFC A6 `hedgingPolicy`. Implementations differ; what is not A6's is not here:
//! - After a non-fatal error the next attempt goes at once; in grpc-java only if the server asked to wait, else as planned.
//! - Throttling is looked at when an attempt is about to be sent, as in grpc-dotnet; in grpc-java when the one before it is,
//!   and a non-fatal error that finds it active cancels the others; in grpc-node not at all. Where nothing else is under way
//!   and the server asked to wait, it is looked at before the wait, as for retries: the request can then end as that attempt
//!   did (in grpc-dotnet it ends later, with CANCELLED).
//! - A pushback that says no stops further attempts and lets those go on that are under way; in grpc-node it ends the request.
//! - Envoy's `hedge_on_per_try_timeout` is a retry after `per_try_timeout` that does not cancel the attempt before it. Nearly
//!   that is a `hedging_delay` of this length with the codes of `retry_on`; Envoy pauses before each (its back-off), and an
//!   attempt that was followed by another is not followed by a third when it fails.
//!
//! **Costs** an addition at the beginning of a request and one at its end, two per further attempt, with throttling one more
//! per attempt, all atomic; the host keeps a timer per request.
//!
//! **Does badly** when servers are slow because they have too much to do: then most requests outlast the delay, and are sent
//! again, up to `max_attempts` times. Throttling does not see that, as nothing fails; a budget does. Nothing is gained where
//! the request itself is long, as it is long everywhere, or where all attempts go to the same server. And a server works
//! on what was cancelled if it has begun: hedge only what may be done twice.
//!
//! The host sends the first attempt and then, whenever something has happened, what [`send_due`](HedgePolicy::send_due) says:
//!
//! ```
//! use lb_core::route::{HedgeConfig, HedgeDecision, HedgePolicy, Pushback};
//! use lb_core::{Code, Nanos};
//!
//! let config: HedgeConfig = toml::from_str("max_attempts = 3\nhedging_delay = '20ms'")?;
//! let policy = HedgePolicy::new(&config);
//! let at = Nanos::from_millis;
//!
//! let mut hedges = policy.begin(at(0)); // and the first attempt is sent
//! assert_eq!(hedges.next_at(), Some(at(20)));
//! assert_eq!(policy.send_due(&mut hedges, at(20)), Some(2));
//! assert_eq!(policy.send_due(&mut hedges, at(20)), None);
//! assert_eq!(hedges.next_at(), Some(at(40)));
//! // The second answers first: the host cancels the other.
//! let decision = policy.on_attempt_end(&mut hedges, 2, Code::Ok, Pushback::None, at(25));
//! assert!(matches!(decision, HedgeDecision::Finish(_)));
//! policy.end(hedges);
//! # Ok::<(), toml::de::Error>(())
//! ```
//!
//! Not here, as with [retries](super::retry): a request that never reached a server and is repeated without being counted
//! (transparent retry). A response that begins commits its attempt: a host that sees headers reports them as `Ok`.

mod config;
#[cfg(test)]
mod tests;

use super::restraint::Restraint;
use super::retry::{Codes, MOST_ATTEMPTS, Pushback, Why};
use crate::{Code, Nanos};

pub use config::HedgeConfig;

/// Decides on further attempts for all requests of a route; shared by them.
///
/// A request is one [`begin`](Self::begin), an [`on_attempt_end`](Self::on_attempt_end) per attempt that ended without being
/// cancelled, and one [`end`](Self::end), however it ended. The counts go by the [`Hedges`] it carries: a request that its
/// caller gives up needs nothing but its `end`.
#[derive(Debug, Clone)]
pub struct HedgePolicy {
    max_attempts: u32,
    hedging_delay: Nanos,
    non_fatal: Codes,
    restraint: Restraint,
}

/// How far one request is. The host keeps it from [`HedgePolicy::begin`] to [`HedgePolicy::end`].
#[derive(Debug)]
#[must_use = "give it back with `end`"]
pub struct Hedges {
    /// Attempts, the first included. They are numbered from 1.
    sent: u32,
    /// Which are under way: a bit for each, by its number.
    running: u32,
    /// When another is due, or why there will be none.
    next: Result<Nanos, Why>,
    /// Whether the next has its place in the budget: nothing else is under way, so it must be sent.
    promised: bool,
}

impl Hedges {
    /// When the host is to ask [`HedgePolicy::send_due`] again, if not told otherwise before; it may be in the past.
    pub fn next_at(&self) -> Option<Nanos> {
        self.next.ok()
    }

    /// Attempts sent, the first included.
    pub fn sent(&self) -> u32 {
        self.sent
    }

    /// Attempts beyond the first that count for the budget.
    fn further(&self) -> u32 {
        (self.running & !bit(1)).count_ones() + u32::from(self.promised)
    }
}

/// What becomes of a request one of whose attempts ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeDecision {
    /// It goes on: others are under way or to come, perhaps [at once](HedgePolicy::send_due).
    GoOn,
    /// It ends as this attempt did, and the others are cancelled.
    Finish(Why),
}

impl HedgePolicy {
    /// A policy with these settings and nothing counted.
    pub fn new(config: &HedgeConfig) -> Self {
        Self::restrained(config, Restraint::new(config.budget.as_ref(), config.throttling.as_ref()))
    }

    /// Other settings, the same counts.
    pub(super) fn with_config(&self, config: &HedgeConfig) -> Self {
        Self::restrained(config, self.restraint.with(config.budget.as_ref(), config.throttling.as_ref()))
    }

    fn restrained(config: &HedgeConfig, restraint: Restraint) -> Self {
        Self {
            max_attempts: config.max_attempts.min(MOST_ATTEMPTS),
            hedging_delay: config.hedging_delay,
            non_fatal: Codes::new(&config.non_fatal_status_codes),
            restraint,
        }
    }

    /// A request starts, and the host sends its first attempt. Without a delay others are due at once.
    pub fn begin(&self, now: Nanos) -> Hedges {
        self.restraint.begin();
        Hedges { sent: 1, running: bit(1), next: self.next(1, now), promised: false }
    }

    /// The number of an attempt that the host is to send now, in the same cluster; to be asked until there is none, when the
    /// request has begun, at [`Hedges::next_at`] and after each attempt's end.
    pub fn send_due(&self, hedges: &mut Hedges, now: Nanos) -> Option<u32> {
        hedges.next.ok().filter(|&at| at <= now)?;
        if !std::mem::take(&mut hedges.promised)
            && let Err(why) = self.leave()
        {
            // gRFC A6: it is not sent later either.
            hedges.next = Err(why);
            return None;
        }
        hedges.sent += 1;
        hedges.running |= bit(hedges.sent);
        hedges.next = self.next(hedges.sent, now);
        Some(hedges.sent)
    }

    /// Attempt `number` ended with `code` and what the server said about others. One that is not under way changes nothing.
    pub fn on_attempt_end(
        &self,
        hedges: &mut Hedges,
        number: u32,
        code: Code,
        pushback: Pushback,
        now: Nanos,
    ) -> HedgeDecision {
        if hedges.running & bit(number) == 0 {
            return HedgeDecision::GoOn;
        }
        hedges.running &= !bit(number);
        self.restraint.give_back(u32::from(number > 1));
        if code == Code::Ok {
            self.restraint.success();
            return HedgeDecision::Finish(Why::NotRetryable);
        }
        let fatal = !self.non_fatal.contain(code);
        // gRFC A6: failures that count are those with a non-fatal code, and a pushback that says no, whatever its code.
        if !fatal || pushback == Pushback::Stop {
            self.restraint.failure();
        }
        if fatal {
            return HedgeDecision::Finish(Why::NotRetryable);
        }
        hedges.next = match (hedges.next, pushback) {
            (Err(why), _) => Err(why),
            (Ok(_), Pushback::None) => Ok(now),
            (Ok(_), Pushback::After(pause)) => Ok(now + pause),
            (Ok(_), Pushback::Stop) => Err(Why::Pushback),
        };
        // The last that is under way decides on the next now, as a retry does: afterwards there would be no answer to end with.
        if hedges.running == 0 && hedges.next.is_ok() {
            match self.leave() {
                Ok(()) => hedges.promised = true,
                Err(why) => hedges.next = Err(why),
            }
        }
        match hedges.next {
            Err(why) if hedges.running == 0 => HedgeDecision::Finish(why),
            _ => HedgeDecision::GoOn,
        }
    }

    /// A policy has [dropped](crate::Pick::Drop) attempt `number`: final, as for a [retry](super::RetryPolicy::on_drop).
    pub fn on_drop(&self, hedges: &mut Hedges, number: u32) -> HedgeDecision {
        if hedges.running & bit(number) == 0 {
            return HedgeDecision::GoOn;
        }
        hedges.running &= !bit(number);
        self.restraint.give_back(u32::from(number > 1));
        HedgeDecision::Finish(Why::Dropped)
    }

    /// A request is over, in whatever way; what was under way is cancelled.
    pub fn end(&self, hedges: Hedges) {
        self.restraint.give_back(hedges.further());
        self.restraint.end();
    }

    /// Attempts that a request may have.
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// Requests between `begin` and `end`.
    pub fn active_requests(&self) -> u32 {
        self.restraint.requests()
    }

    /// Attempts under way that are not the first of their request.
    pub fn active_hedges(&self) -> u32 {
        self.restraint.further_attempts()
    }

    /// Tokens of the throttle, if there is one.
    pub fn tokens(&self) -> Option<f64> {
        self.restraint.tokens()
    }

    /// When the attempt after the one sent now is due.
    fn next(&self, sent: u32, now: Nanos) -> Result<Nanos, Why> {
        if sent < self.max_attempts { Ok(now + self.hedging_delay) } else { Err(Why::Attempts) }
    }

    /// Whether another attempt may be sent, which then counts.
    fn leave(&self) -> Result<(), Why> {
        if self.restraint.throttled() {
            Err(Why::Throttled)
        } else if !self.restraint.take() {
            Err(Why::Budget)
        } else {
            Ok(())
        }
    }
}

/// The bit of an attempt's number; none for a number that no attempt has.
fn bit(number: u32) -> u32 {
    1u32.checked_shl(number).unwrap_or(0)
}
