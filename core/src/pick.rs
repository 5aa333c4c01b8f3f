//! A single decision: what is asked, what is answered, and what came of it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Address, EndpointId, Nanos};

/// What a request brings to the decision, and what the decision asks of the host besides its answer.
pub struct PickContext<'a> {
    /// Now, on the host's clock.
    pub now: Nanos,
    /// The random stream of this caller.
    pub rng: &'a mut dyn rand::Rng,
    /// What a hashing policy goes by: the same for requests that belong together, such as the XXH64 of a header
    /// (`hash_policy` of envoy.config.route.v3.RouteAction). Other policies don't look at it.
    pub hash: Option<u64>,
    /// The endpoint that the request's session is bound to, from its cookie (gRFC A55). Only `override_host` looks at it.
    pub session: Option<&'a Address>,
    /// Which of the host's threads asks, counted from 0; 0 where they are not told apart. Some policies can keep a count for each
    /// ([`round_robin`](crate::policy::round_robin::Turns)).
    pub worker: u32,
    /// Other requests of this channel that wait because a picker answered [`Pick::Queue`].
    pub pending: u32,
    /// Written by the pick: to be looked at when it has answered.
    pub asks: Asks,
}

impl<'a> PickContext<'a> {
    /// A pick at `now` with randomness from `rng`.
    #[inline]
    pub fn new(now: Nanos, rng: &'a mut dyn rand::Rng) -> Self {
        Self { now, rng, hash: None, session: None, worker: 0, pending: 0, asks: Asks::default() }
    }

    /// The same pick for a request with this hash.
    #[must_use]
    pub fn with_hash(self, hash: u64) -> Self {
        Self { hash: Some(hash), ..self }
    }

    /// The request's hash, or a random one: without a key a request goes to a random endpoint (gRFC A42 "Hash Policy";
    /// Envoy does the same).
    #[inline]
    pub(crate) fn hash_or_random(&mut self) -> u64 {
        self.hash.unwrap_or_else(|| self.rng.next_u64())
    }
}

/// What a pick asks of the host besides an answer. Room for a few, so that nothing is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asks {
    /// Call [`Policy::exit_idle`](crate::Policy::exit_idle) (through the channel: `Input::Waiting`), whatever the answer was:
    /// an endpoint is to be connected that was left alone until now, or the ends of requests have shown something of one
    /// that the control side is to act on. Picks ask for it until it was called.
    pub exit_idle: bool,
    count: u8,
    probes: [EndpointId; Self::PROBES],
}

impl Default for Asks {
    #[inline]
    fn default() -> Self {
        Self { exit_idle: false, count: 0, probes: [EndpointId(0); Self::PROBES] }
    }
}

impl Asks {
    /// The most probes that one pick may ask for.
    pub const PROBES: usize = 8;

    /// Ask this endpoint for its load at once, beside the request, and tell [`Picker::probed`](crate::Picker::probed) the answer.
    /// Past [`Self::PROBES`] there is no room.
    #[inline]
    pub fn probe(&mut self, endpoint: EndpointId) {
        if let Some(free) = self.probes.get_mut(usize::from(self.count)) {
            *free = endpoint;
            self.count += 1;
        }
    }

    /// Whether there is nothing to do.
    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.exit_idle && self.count == 0
    }

    /// Whom to probe.
    #[inline]
    pub fn probes(&self) -> &[EndpointId] {
        &self.probes[..usize::from(self.count)]
    }
}

/// The answer to a pick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// Send it there. The host reports the end of the request with [`Picker::done`](crate::Picker::done), once.
    Endpoint(EndpointId),
    /// Nothing is ready but something may soon be: wait for the next picker.
    Queue,
    /// Nothing is ready and the last attempts failed: fail, unless the request is `wait_for_ready`.
    Fail(Status),
    /// Fail even a `wait_for_ready` request: it was shed on purpose. It is neither retried nor hedged: gRPC takes an attempt that
    /// the picker drops for final, Envoy an answer with `x-envoy-overloaded`.
    Drop(Status),
}

/// A gRPC status code (statuscodes.md). Numbers are the wire's; names in text are the document's.
///
/// ```
/// use lb_core::Code;
/// assert_eq!("DEADLINE_EXCEEDED".parse(), Ok(Code::DeadlineExceeded));
/// assert_eq!(Code::Unavailable.to_string(), "UNAVAILABLE");
/// assert_eq!("UNAVAILBLE".parse::<Code>().unwrap_err().to_string(),
///     "`UNAVAILBLE` is not a gRPC status code; write one such as UNAVAILABLE or RESOURCE_EXHAUSTED");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(description = "A gRPC status code, by its name in statuscodes.md."))]
#[repr(u8)]
pub enum Code {
    /// Success.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// Unknown error.
    Unknown = 2,
    /// The request itself is wrong, whatever the state of the system.
    InvalidArgument = 3,
    /// The deadline passed first.
    DeadlineExceeded = 4,
    /// What was asked for does not exist.
    NotFound = 5,
    /// What was to be created exists.
    AlreadyExists = 6,
    /// The caller is known and may not.
    PermissionDenied = 7,
    /// A queue, a quota or a concurrency limit is full.
    ResourceExhausted = 8,
    /// The system is not in the state that the operation needs.
    FailedPrecondition = 9,
    /// A conflict with another operation; a retry at a higher level may succeed.
    Aborted = 10,
    /// Past the end of something.
    OutOfRange = 11,
    /// No such method, or it is not supported.
    Unimplemented = 12,
    /// A broken invariant.
    Internal = 13,
    /// The server can't be reached or is going away; a retry may succeed.
    Unavailable = 14,
    /// Data is lost or corrupted beyond recovery.
    DataLoss = 15,
    /// The caller has not said who it is, or not validly.
    Unauthenticated = 16,
}

impl Code {
    /// Every code, in the order of its number.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The code of that number; `UNKNOWN` for one that gRPC does not have, which is how a client reads it.
    pub fn from_number(number: u32) -> Self {
        usize::try_from(number).ok().and_then(|n| Self::ALL.get(n)).copied().unwrap_or(Self::Unknown)
    }

    /// What a gRPC client makes of an HTTP status without `grpc-status` (http-grpc-status-mapping.md); 200 too is
    /// `UNKNOWN`.
    pub const fn from_http(status: u32) -> Self {
        match status {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    /// As in statuscodes.md.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

/// Some status codes, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Codes(u32);

impl Codes {
    /// These.
    pub(crate) fn of(codes: &[Code]) -> Self {
        Self(codes.iter().fold(0, |bits, &code| bits | 1 << code as u8))
    }

    #[inline]
    pub(crate) const fn contains(self, code: Code) -> bool {
        self.0 >> (code as u8) & 1 == 1
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a text is not a status code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a gRPC status code; write one such as UNAVAILABLE or RESOURCE_EXHAUSTED")]
pub struct ParseCodeError {
    text: String,
}

impl FromStr for Code {
    type Err = ParseCodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|code| code.name() == text).ok_or_else(|| ParseCodeError { text: text.to_owned() })
    }
}

/// A status code and its message. Cloning does not copy the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The code.
    pub code: Code,
    /// What to tell the caller.
    pub message: Arc<str>,
}

impl Status {
    /// `code` with a message.
    pub fn new(code: Code, message: impl Into<Arc<str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// `UNAVAILABLE` with a message.
    pub fn unavailable(message: impl Into<Arc<str>>) -> Self {
        Self { code: Code::Unavailable, message: message.into() }
    }
}

/// How a request ended, as reported to [`Picker::done`](crate::Picker::done).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Final status.
    pub code: Code,
    /// From the pick to the end of the response.
    pub latency: Nanos,
    /// What the server said of its load in the trailers of this response (gRFC A51, `endpoint-load-metrics-bin`).
    pub load: Option<LoadReport>,
}

impl Outcome {
    /// The end of a request without a report of load.
    pub const fn new(code: Code, latency: Nanos) -> Self {
        Self { code, latency, load: None }
    }

    /// The same with a report.
    #[must_use]
    pub const fn with_load(self, load: LoadReport) -> Self {
        Self { load: Some(load), ..self }
    }
}

/// What a server says of its load: the part of xds.data.orca.v3.OrcaLoadReport that policies read. A field that the server
/// did not fill is 0, as in the proto; every number is at least 0.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LoadReport {
    /// Use of what is scarce, as the application itself sees it: 1 is full, and it may be more (`application_utilization`).
    pub application_utilization: f64,
    /// Use of the processor, which may be over 1 where bursts are allowed (`cpu_utilization`).
    pub cpu_utilization: f64,
    /// Use of the memory, 0 to 1 (`mem_utilization`).
    pub mem_utilization: f64,
    /// Requests per second (`rps_fractional`).
    pub rps: f64,
    /// Errors per second (`eps`).
    pub eps: f64,
    /// Requests that the server works on or keeps waiting, without the one that reports: the entry `rif` of
    /// `named_metrics`. Prequal's and C3's feedback; ORCA has no field for it.
    pub in_flight: Option<u32>,
    /// How long the server takes for a request at present: the entry `latency` of `named_metrics`, of Prequal's probes (the
    /// median of what ended at about this number in flight) or of C3 (the time of service alone).
    pub latency: Option<Nanos>,
}

impl LoadReport {
    /// What A58 and Envoy weigh by: the application's own number if there is one, else the processor's.
    pub fn utilization(&self) -> f64 {
        if self.application_utilization > 0.0 { self.application_utilization } else { self.cpu_utilization }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_its_number_and_its_name() {
        for (number, code) in (0..).zip(Code::ALL) {
            assert_eq!(code as u32, number);
            assert_eq!(Code::from_number(number), code);
            assert_eq!(code.name().parse(), Ok(code));
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
            assert_eq!(serde_json::from_value::<Code>(code.name().into()).unwrap(), code);
        }
        assert_eq!(Code::from_number(17), Code::Unknown);
        assert_eq!(Code::from_number(u32::MAX), Code::Unknown);
    }

    #[test]
    fn http_statuses_map_as_in_grpc() {
        assert_eq!(
            [400, 401, 403, 404].map(Code::from_http).map(Code::name),
            ["INTERNAL", "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"]
        );
        assert_eq!([429, 502, 503, 504].map(Code::from_http), [Code::Unavailable; 4]);
        assert_eq!([200, 418, 500, 0].map(Code::from_http), [Code::Unknown; 4]);
    }
}
