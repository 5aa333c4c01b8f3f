//! A single decision: what is asked, what is answered, and what came of it.

use std::sync::Arc;

use crate::{EndpointId, Nanos};

/// What a request brings to the decision.
pub struct PickContext<'a> {
    /// Now, on the host's clock.
    pub now: Nanos,
    /// The random stream of this caller.
    pub rng: &'a mut dyn rand::Rng,
}

impl<'a> PickContext<'a> {
    /// A pick at `now` with randomness from `rng`.
    pub fn new(now: Nanos, rng: &'a mut dyn rand::Rng) -> Self {
        Self { now, rng }
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
    /// Fail even a `wait_for_ready` request: it was shed on purpose.
    Drop(Status),
}

/// A gRPC status code (statuscodes.md). Numbers are the wire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    /// Success.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// Unknown error.
    Unknown = 2,
    /// The deadline passed first.
    DeadlineExceeded = 4,
    /// A queue, a quota or a concurrency limit is full.
    ResourceExhausted = 8,
    /// A broken invariant.
    Internal = 13,
    /// The server can't be reached or is going away; a retry may succeed.
    Unavailable = 14,
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
    /// `UNAVAILABLE` with a message.
    pub fn unavailable(message: impl Into<Arc<str>>) -> Self {
        Self { code: Code::Unavailable, message: message.into() }
    }
}

/// How a request ended, as reported to [`Picker::done`](crate::Picker::done).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Final status.
    pub code: Code,
    /// From the pick to the end of the response.
    pub latency: Nanos,
}
