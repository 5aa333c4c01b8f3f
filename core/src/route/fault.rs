//! Faults injected on purpose: a delay before a request is sent, or an error instead of sending it.
//!
//! **Solves** finding out what callers do when a service is slow or fails, without breaking the service.
//!
//! **Source**: gRFC A33, envoy.extensions.filters.http.fault.v3.HTTPFault. Delay and abort are drawn independently, so 20 %
//! and 5 % touch 1 − 0.8 · 0.95 = 24 % of the requests. A request with both waits first and then fails.
//!
//! **Costs** a random number per kind of fault, and an atomic counter for those that are hit.
//!
//! **Does badly** at imitating a sick server: an injected error costs no work and comes from no particular pod, so no
//! policy can route around it and no outlier detection sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::RequestInfo;
use super::draw::happens;
use crate::problems::Problems;
use crate::{Code, Nanos, Status};

/// Faults of a route.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FaultConfig {
    /// Errors instead of an answer.
    pub abort: Option<AbortConfig>,
    /// Pauses before the request is sent.
    pub delay: Option<DelayConfig>,
    /// Requests that may be under a fault at the same time; any number by default.
    /// envoy.extensions.filters.http.fault.v3.HTTPFault `max_active_faults`.
    pub max_active_faults: Option<u32>,
}

/// Errors instead of an answer. Either the code is fixed or the request's headers give it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AbortConfig {
    /// Requests that fail, in percent, 0 to 100.
    pub percentage: f64,
    /// What they fail with. envoy.extensions.filters.http.fault.v3.FaultAbort `grpc_status`.
    #[serde(default)]
    pub grpc_status: Option<Code>,
    /// The request's header `x-envoy-fault-abort-grpc-request` (a code's number) or `x-envoy-fault-abort-request` (an HTTP
    /// status) says what with; `x-envoy-fault-abort-request-percentage` may lower the percentage.
    /// envoy.extensions.filters.http.fault.v3.FaultAbort `header_abort`.
    #[serde(default)]
    pub header: bool,
}

/// Pauses before the request is sent. Either the length is fixed or the request's headers give it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DelayConfig {
    /// Requests that are delayed, in percent, 0 to 100.
    pub percentage: f64,
    /// By how much. envoy.extensions.filters.common.fault.v3.FaultDelay `fixed_delay`.
    #[serde(default)]
    pub fixed_delay: Option<Nanos>,
    /// The request's header `x-envoy-fault-delay-request` says by how many milliseconds;
    /// `x-envoy-fault-delay-request-percentage` may lower the percentage.
    /// envoy.extensions.filters.common.fault.v3.FaultDelay `header_delay`.
    #[serde(default)]
    pub header: bool,
}

impl FaultConfig {
    pub(super) fn problems(&self) -> Problems {
        let mut problems = Problems::default();
        let hint = "1.0 is one request in a hundred";
        if self.abort.is_none() && self.delay.is_none() {
            problems.add(
                "",
                "neither `abort` nor `delay` is given; there is no fault",
                "add one of them, or delete it",
            );
        }
        if let Some(abort) = &self.abort {
            problems.within("abort.percentage", abort.percentage, 0.0, 100.0, hint);
            if abort.grpc_status.is_some() == abort.header {
                let rule = "an abort has either a `grpc_status` or `header = true`";
                problems.add("abort", rule, "write for example `grpc_status = \"UNAVAILABLE\"`");
            }
        }
        if let Some(delay) = &self.delay {
            problems.within("delay.percentage", delay.percentage, 0.0, 100.0, hint);
            if delay.fixed_delay.is_some() == delay.header {
                let rule = "a delay has either a `fixed_delay` or `header = true`";
                problems.add("delay", rule, "write for example `fixed_delay = \"100ms\"`");
            } else if delay.fixed_delay == Some(Nanos::ZERO) {
                problems.add(
                    "delay.fixed_delay",
                    "`fixed_delay` is 0s; that delays nothing",
                    "write what it should be",
                );
            }
        }
        if self.max_active_faults == Some(0) {
            let rule = "`max_active_faults` is 0; no fault could ever be injected";
            problems.add("max_active_faults", rule, "leave it out for no limit");
        }
        problems
    }
}

const ABORT_HTTP: &str = "x-envoy-fault-abort-request";
const ABORT_GRPC: &str = "x-envoy-fault-abort-grpc-request";
const ABORT_PERCENTAGE: &str = "x-envoy-fault-abort-request-percentage";
const DELAY: &str = "x-envoy-fault-delay-request";
const DELAY_PERCENTAGE: &str = "x-envoy-fault-delay-request-percentage";

/// Draws faults and counts those that are going on.
///
/// A33 counts over the whole process; here, as in Envoy, each injector has its own count. A fault is over as A33 has it:
/// after the delay, or when the request has failed. Envoy counts it until its stream ends; a host that wants this calls
/// [`end`](Self::end) then.
#[derive(Debug, Clone)]
pub struct FaultInjector {
    config: FaultConfig,
    message: Arc<str>,
    active: Arc<AtomicU32>,
}

/// What is done to one request: wait for `delay`, then fail with `abort`. Both may be none.
///
/// The host gives it back with [`FaultInjector::end`], once: when it has failed the request, or when the delay is over and
/// nothing else is injected, or when the caller gave up before.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "give it back with `end`"]
pub struct Fault {
    /// Pause before anything is sent.
    pub delay: Option<Nanos>,
    /// Fail with this after the delay, without sending anything. With `OK` gRPC acts as if the server had answered with
    /// trailers only; a unary call then has no response message.
    pub abort: Option<Status>,
    counts: bool,
}

impl Fault {
    /// Whether it counts as an active fault.
    pub fn counts(&self) -> bool {
        self.counts
    }
}

impl FaultInjector {
    /// An injector of these faults, none of them going on.
    pub fn new(config: &FaultConfig) -> Self {
        // The text of Envoy's local reply.
        Self { config: config.clone(), message: "fault filter abort".into(), active: Arc::default() }
    }

    /// Other faults, the same count.
    pub(super) fn with_config(&self, config: &FaultConfig) -> Self {
        Self { config: config.clone(), message: Arc::clone(&self.message), active: Arc::clone(&self.active) }
    }

    /// Faults that are going on.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// What happens to a request that comes now.
    pub fn begin(&self, request: &RequestInfo<'_>, rng: &mut dyn Rng) -> Fault {
        // gRFC A33: each kind is drawn with a number of its own.
        let delay = self.config.delay.as_ref().and_then(|config| config.draw(request, rng));
        let abort = self.config.abort.as_ref().and_then(|config| config.draw(request, rng));
        // gRFC A33: a request with one fault or more counts once.
        let counts = (delay.is_some() || abort.is_some()) && self.acquire();
        if !counts {
            return Fault { delay: None, abort: None, counts };
        }
        Fault { delay, abort: abort.map(|code| Status { code, message: Arc::clone(&self.message) }), counts }
    }

    /// The fault is over.
    pub fn end(&self, fault: Fault) {
        if fault.counts {
            // Saturating: the route may have lost its faults and got new ones in between.
            let less = |active: u32| active.checked_sub(1);
            let _ = self.active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    /// Counts one more, unless there are as many as may be.
    fn acquire(&self) -> bool {
        let most = self.config.max_active_faults.unwrap_or(u32::MAX);
        let more = |active: u32| if active < most { active.checked_add(1) } else { None };
        self.active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

impl AbortConfig {
    fn draw(&self, request: &RequestInfo<'_>, rng: &mut dyn Rng) -> Option<Code> {
        let code = if self.header {
            // The HTTP status goes first, as in grpc-go and Envoy; outside 200 to 599 it is no status.
            match number(request, ABORT_HTTP).filter(|status| (200..600).contains(status)) {
                Some(status) => Code::from_http(status),
                None => Code::from_number(number(request, ABORT_GRPC)?),
            }
        } else {
            self.grpc_status?
        };
        happens(rng, probability(self.percentage, self.header, request, ABORT_PERCENTAGE)).then_some(code)
    }
}

impl DelayConfig {
    fn draw(&self, request: &RequestInfo<'_>, rng: &mut dyn Rng) -> Option<Nanos> {
        let delay = if self.header { Nanos::from_millis(number(request, DELAY)?.into()) } else { self.fixed_delay? };
        let hit = happens(rng, probability(self.percentage, self.header, request, DELAY_PERCENTAGE));
        (hit && delay > Nanos::ZERO).then_some(delay)
    }
}

/// gRFC A33: the percentage in a header is capped by the configured one. It is in whole hundredths, Envoy's default
/// denominator.
fn probability(percentage: f64, header: bool, request: &RequestInfo<'_>, name: &str) -> f64 {
    let asked = if header { number(request, name) } else { None };
    asked.map_or(percentage, |asked| percentage.min(asked.into())) / 100.0
}

/// gRFC A33: an invalid header is ignored; of several valid ones any may be chosen. Here the last, as in grpc-go.
fn number(request: &RequestInfo<'_>, name: &str) -> Option<u32> {
    request.headers.iter().rev().filter(|(n, _)| **n == *name).find_map(|(_, value)| value.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;

    fn injector(toml: &str) -> FaultInjector {
        let config: FaultConfig = toml::from_str(toml).unwrap();
        assert_eq!(config.problems().0, []);
        FaultInjector::new(&config)
    }

    fn headers(pairs: &[(&str, &str)]) -> Vec<(Box<str>, Box<str>)> {
        pairs.iter().map(|&(name, value)| (name.into(), value.into())).collect()
    }

    fn fault(injector: &FaultInjector, pairs: &[(&str, &str)]) -> (Option<Nanos>, Option<Code>) {
        let headers = headers(pairs);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let fault = injector.begin(&RequestInfo { path: "/a/B", headers: &headers }, &mut rng);
        let seen = (fault.delay, fault.abort.as_ref().map(|status| status.code));
        injector.end(fault);
        seen
    }

    #[test]
    fn both_faults_apply_the_delay_first() {
        let both = injector(
            "abort = { percentage = 100, grpc_status = 'UNAVAILABLE' }\ndelay = { percentage = 100, fixed_delay = '5ms' }",
        );
        assert_eq!(fault(&both, &[]), (Some(Nanos::from_millis(5)), Some(Code::Unavailable)));
        // Headers say nothing where the configuration is fixed.
        assert_eq!(fault(&both, &[(ABORT_GRPC, "3"), (ABORT_PERCENTAGE, "0")]).1, Some(Code::Unavailable));
    }

    #[test]
    fn delay_and_abort_are_independent() {
        let both = injector(
            "abort = { percentage = 5, grpc_status = 'INTERNAL' }\ndelay = { percentage = 20, fixed_delay = '5ms' }",
        );
        let request = RequestInfo { path: "/a/B", headers: &[] };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut touched = 0u32;
        for _ in 0..100_000 {
            let fault = both.begin(&request, &mut rng);
            touched += u32::from(fault.counts());
            both.end(fault);
        }
        // gRFC A33: 20 % and 5 % touch 1 − 0.8 · 0.95 = 24 %. Of 100,000 that is 24,000; 4 · √(100,000 · 0.24 · 0.76) = 540.
        assert!(touched.abs_diff(24_000) < 540, "{touched}");
        assert_eq!(both.active(), 0);
    }

    #[test]
    fn headers_choose_the_fault_within_the_cap() {
        let by_header =
            injector("abort = { percentage = 100, header = true }\ndelay = { percentage = 100, header = true }");
        assert_eq!(fault(&by_header, &[]), (None, None));
        assert_eq!(
            fault(&by_header, &[(DELAY, "53"), (ABORT_GRPC, "3")]),
            (Some(Nanos::from_millis(53)), Some(Code::InvalidArgument))
        );
        assert_eq!(fault(&by_header, &[(ABORT_HTTP, "503"), (ABORT_GRPC, "3")]).1, Some(Code::Unavailable));
        assert_eq!(fault(&by_header, &[(ABORT_HTTP, "99"), (ABORT_GRPC, "3")]).1, Some(Code::InvalidArgument));
        assert_eq!(fault(&by_header, &[(ABORT_GRPC, "3"), (ABORT_PERCENTAGE, "0")]).1, None);
        assert_eq!(fault(&by_header, &[(ABORT_GRPC, "99")]).1, Some(Code::Unknown));
        // Invalid headers are as if they were not there.
        assert_eq!(fault(&by_header, &[(ABORT_GRPC, "x"), (DELAY, "-1")]), (None, None));
        assert_eq!(fault(&by_header, &[(ABORT_GRPC, "3"), (ABORT_PERCENTAGE, "none")]).1, Some(Code::InvalidArgument));
        // The header can't raise the percentage.
        let never = injector("abort = { percentage = 0, header = true }");
        assert_eq!(fault(&never, &[(ABORT_GRPC, "3"), (ABORT_PERCENTAGE, "100")]).1, None);
    }

    #[test]
    fn no_more_faults_than_may_be_active() {
        let two = injector("max_active_faults = 2\nabort = { percentage = 100, grpc_status = 'UNAVAILABLE' }");
        let request = RequestInfo { path: "/a/B", headers: &[] };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let first = two.begin(&request, &mut rng);
        let second = two.begin(&request, &mut rng);
        let third = two.begin(&request, &mut rng);
        assert_eq!((first.counts(), second.counts(), third.counts()), (true, true, false));
        assert_eq!(third.abort, None, "past the limit a request is left alone");
        two.end(third);
        assert_eq!(two.active(), 2);
        two.end(first);
        assert!(two.begin(&request, &mut rng).counts());
        two.end(second);
    }
}
