//! Whether a failed attempt is repeated, and when.
//!
//! **Solves** errors that go away by themselves: another pod, a moment later.
//!
//! **Source**: gRFC A6 (attempts, codes, pushback, throttling), A44 (what Envoy's settings become), Envoy's RetryPolicy and
//! RetryBudget. The n-th retry waits min(initial · multiplier^(n−1), max) · U(0.8, 1.2).
//!
//! **Costs** an addition at the beginning of a request, one at its end, and with throttling one per attempt, all atomic; a
//! random number per retry.
//!
//! **Does badly** when everything fails: each of *d* layers of callers with *a* attempts multiplies the load, up to *a*^*d*.
//! That is what throttling (gRPC) and the budget (Envoy) are for: both look at the whole traffic, not at one request.
//!
//! Not here: a request that never reached a server (refused stream) is repeated at once without being counted, A6's
//! transparent retry; that is the connection's matter. Responses that have begun are never retried; the host does not ask.

mod config;
#[cfg(test)]
mod tests;

use rand::Rng;

use super::draw::between;
use super::restraint::Restraint;
use crate::{Code, Nanos};

pub use config::{MOST_ATTEMPTS, RetryConfig};

pub(super) use config::codes_problems;

/// Decides on retries for all requests of a route; shared by them.
///
/// A request is one [`begin`](Self::begin), an [`on_attempt_end`](Self::on_attempt_end) (or
/// [`on_attempt_timeout`](Self::on_attempt_timeout)) per attempt that ended, and one [`end`](Self::end), however it ended.
/// The counts go by the [`Attempts`] it carries: what it has taken is given back by the next of these calls, so a request
/// that its caller gives up while it waits for a retry, or during one, needs nothing but its `end`.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    max_attempts: u32,
    retryable: Codes,
    initial_backoff: Nanos,
    max_backoff: Nanos,
    multiplier: f64,
    per_attempt_timeout: Option<Nanos>,
    restraint: Restraint,
}

/// A set of codes: a bit for each, by its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codes(u32);

impl Codes {
    pub(super) fn new(codes: &[Code]) -> Self {
        Self(codes.iter().fold(0, |bits, &code| bits | 1 << code as u8))
    }

    pub(super) fn contain(self, code: Code) -> bool {
        self.0 >> (code as u8) & 1 == 1
    }
}

/// How far one request is. The host keeps it from [`RetryPolicy::begin`] to [`RetryPolicy::end`].
#[derive(Debug)]
#[must_use = "give it back with `end`"]
pub struct Attempts {
    ended: u32,
    /// Pauses since the beginning, or since the server last said how long to wait.
    backoffs: u32,
    /// Whether it is counted as a retry: from the decision until that attempt's end.
    retrying: bool,
}

impl Attempts {
    /// The number of the attempt that runs or is waited for, from 1.
    pub fn number(&self) -> u32 {
        self.ended.saturating_add(1)
    }
}

/// What the server says about a retry, in the trailer `grpc-retry-pushback-ms` (gRFC A6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pushback {
    /// Nothing.
    #[default]
    None,
    /// Not before this time has passed.
    After(Nanos),
    /// Not at all.
    Stop,
}

impl Pushback {
    /// The trailer's name.
    pub const TRAILER: &str = "grpc-retry-pushback-ms";

    /// Read from a response's trailers.
    pub fn from_trailers(trailers: &[(Box<str>, Box<str>)]) -> Self {
        let mut values = trailers.iter().filter(|(name, _)| **name == *Self::TRAILER).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (None, _) => Self::None,
            // gRFC A6: a value that is negative or no number asks for no retry at all. More than one value is no number either
            // (grpc-go).
            (Some(value), None) => match value.parse::<i32>().map(u64::try_from) {
                Ok(Ok(ms)) => Self::After(Nanos::from_millis(ms)),
                _ => Self::Stop,
            },
            (Some(_), Some(_)) => Self::Stop,
        }
    }
}

/// What becomes of a request whose attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// Start another attempt after this time, in the same cluster.
    Retry(Nanos),
    /// The request ends as the attempt did.
    GiveUp(Why),
}

/// Why there is no further attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// It succeeded, or failed with a code that ends the request.
    NotRetryable,
    /// A policy has [dropped](crate::Pick::Drop) it.
    Dropped,
    /// It has had all its attempts.
    Attempts,
    /// Too much fails (gRPC's retry throttling).
    Throttled,
    /// Too many others are going on (Envoy's retry budget).
    Budget,
    /// The server asked for none.
    Pushback,
}

impl RetryPolicy {
    /// A policy with these settings and nothing counted.
    pub fn new(config: &RetryConfig) -> Self {
        Self::restrained(config, Restraint::new(config.budget.as_ref(), config.throttling.as_ref()))
    }

    /// Other settings, the same counts.
    pub(super) fn with_config(&self, config: &RetryConfig) -> Self {
        Self::restrained(config, self.restraint.with(config.budget.as_ref(), config.throttling.as_ref()))
    }

    fn restrained(config: &RetryConfig, restraint: Restraint) -> Self {
        Self {
            max_attempts: config.max_attempts.min(MOST_ATTEMPTS),
            retryable: Codes::new(&config.retryable_status_codes),
            initial_backoff: config.initial_backoff,
            max_backoff: config.max_backoff,
            multiplier: config.backoff_multiplier,
            per_attempt_timeout: config.per_attempt_timeout,
            restraint,
        }
    }

    /// A request starts.
    pub fn begin(&self) -> Attempts {
        self.restraint.begin();
        Attempts { ended: 0, backoffs: 0, retrying: false }
    }

    /// A request is over, in whatever way.
    pub fn end(&self, mut attempts: Attempts) {
        self.release(&mut attempts);
        self.restraint.end();
    }

    /// An attempt ended with `code` and what the server said about a retry.
    pub fn on_attempt_end(
        &self,
        attempts: &mut Attempts,
        code: Code,
        pushback: Pushback,
        rng: &mut dyn Rng,
    ) -> RetryDecision {
        self.ended(attempts);
        if code == Code::Ok {
            self.restraint.success();
            return RetryDecision::GiveUp(Why::NotRetryable);
        }
        // gRFC A6: a pushback that says no counts as a failure whatever its code; other failures do if their code is
        // retryable.
        if pushback == Pushback::Stop {
            self.restraint.failure();
            return RetryDecision::GiveUp(Why::Pushback);
        }
        if !self.retryable.contain(code) {
            return RetryDecision::GiveUp(Why::NotRetryable);
        }
        self.failed(attempts, pushback, rng)
    }

    /// An attempt ran into the [time limit per attempt](Self::per_attempt_timeout): it may be retried whatever codes are
    /// listed, as with `perAttemptRecvTimeout` of gRPC C-core (experimental). Without a retry the request ends with DEADLINE_EXCEEDED.
    pub fn on_attempt_timeout(&self, attempts: &mut Attempts, rng: &mut dyn Rng) -> RetryDecision {
        self.ended(attempts);
        self.failed(attempts, Pushback::None, rng)
    }

    /// A policy has [dropped](crate::Pick::Drop) the attempt, which is final whatever its code, and no failure to the throttle: gRPC
    /// (grpc-go's `csAttempt.drop`); Envoy does not retry an answer with `x-envoy-overloaded`.
    pub fn on_drop(&self, attempts: &mut Attempts) -> RetryDecision {
        self.ended(attempts);
        RetryDecision::GiveUp(Why::Dropped)
    }

    /// Longest time of one attempt.
    pub fn per_attempt_timeout(&self) -> Option<Nanos> {
        self.per_attempt_timeout
    }

    /// Attempts that a request may have.
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// Requests between `begin` and `end`.
    pub fn active_requests(&self) -> u32 {
        self.restraint.requests()
    }

    /// Retries that run or are waited for.
    pub fn active_retries(&self) -> u32 {
        self.restraint.further_attempts()
    }

    /// Tokens of the throttle, if there is one.
    pub fn tokens(&self) -> Option<f64> {
        self.restraint.tokens()
    }

    /// The order of the questions is that of gRPC's implementations: a failure counts for the throttle even when the request
    /// has no attempts left.
    fn failed(&self, attempts: &mut Attempts, pushback: Pushback, rng: &mut dyn Rng) -> RetryDecision {
        if self.restraint.failure() {
            return RetryDecision::GiveUp(Why::Throttled);
        }
        if attempts.ended >= self.max_attempts {
            return RetryDecision::GiveUp(Why::Attempts);
        }
        if !self.restraint.take() {
            return RetryDecision::GiveUp(Why::Budget);
        }
        attempts.retrying = true;
        RetryDecision::Retry(match pushback {
            // gRFC A6: after that the pauses begin with the initial one again.
            Pushback::After(pause) => {
                attempts.backoffs = 0;
                pause
            }
            _ => {
                let pause = self.pause(attempts.backoffs);
                attempts.backoffs = attempts.backoffs.saturating_add(1);
                // gRFC A6: jitter of a fifth either way.
                pause.mul_f64(between(rng, 0.8, 1.2))
            }
        })
    }

    /// min(initial · multiplier^n, max), by multiplication: the platform's power may differ in the last bit.
    fn pause(&self, n: u32) -> Nanos {
        let grown = (0..n.min(MOST_ATTEMPTS)).fold(self.initial_backoff, |pause, _| pause.mul_f64(self.multiplier));
        grown.min(self.max_backoff)
    }

    fn ended(&self, attempts: &mut Attempts) {
        self.release(attempts);
        attempts.ended = attempts.number();
    }

    /// Gives back what a retry took of the budget.
    fn release(&self, attempts: &mut Attempts) {
        self.restraint.give_back(u32::from(std::mem::take(&mut attempts.retrying)));
    }
}
