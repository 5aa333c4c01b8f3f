//! The part of Evenkeel that decides: gRPC and Envoy load-balancing policies, and the gRPC channel above them.
//!
//! Nothing here does I/O, reads a clock, starts a thread or draws randomness of its own. A *host* (the simulator, or
//! the live programs) carries out what the core asks for and tells it what happened; `now` and the random stream come
//! in as arguments, "wake me at" goes out. Both hosts run this very code, which is why their results can be compared.
//!
//! Map of the crate:
//!
//! * [`policy`]: the [`Policy`] (control side) and [`Picker`] (data side) traits, and one module per policy;
//! * [`channel`]: the sans-IO [`Channel`](channel::Channel): resolver rules, connection back-off, connectivity
//!   states, and the server's side of connection age;
//! * [`route`]: which cluster a request goes to, and what surrounds it: deadline, retries, injected faults;
//! * [`service_config`]: gRPC's JSON form of all that, read and written;
//! * [`limit`]: rate limits, a bucket of one's own and a shared service's;
//! * [`delivery`]: a canary that is promoted or rolled back by what is measured of it;
//! * [`slots`]: the append-only table in which per-endpoint atomics live, shared by every picker of a policy;
//! * [`Nanos`], [`EndpointSet`], [`Outcome`], [`Pick`]: the words they speak.

pub mod channel;
pub mod delivery;
mod endpoint;
pub mod limit;
mod pick;
pub mod policy;
mod problems;
pub mod route;
pub mod service_config;
pub mod slots;
mod sync;
mod time;

pub use endpoint::{Address, Connectivity, Endpoint, EndpointId, EndpointSet, Local, Locality};
pub(crate) use pick::Codes;
pub use pick::{Asks, Code, LoadReport, Outcome, ParseCodeError, Pick, PickContext, Status};
pub use policy::{Picker, Policy, PolicyConfig};
pub use problems::Problem;
pub use time::{Nanos, ParseNanosError};

/// What every control call needs from its host: the time, and a random stream.
///
/// The core reads no clock and owns no generator, so that a simulated and a real host drive the same decisions.
pub struct Context<'a> {
    /// Time since the host's own epoch; never goes back.
    pub now: Nanos,
    /// The stream this channel draws from; the host seeds it.
    pub rng: &'a mut dyn rand::Rng,
}

impl<'a> Context<'a> {
    /// A context at `now`, drawing from `rng`.
    pub fn new(now: Nanos, rng: &'a mut dyn rand::Rng) -> Self {
        Self { now, rng }
    }

    /// The same context for a callee, without giving this one away.
    pub fn reborrow(&mut self) -> Context<'_> {
        Context { now: self.now, rng: self.rng }
    }
}
