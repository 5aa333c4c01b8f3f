//! The event engine: a queue in virtual time and a slab of things that events name. Knows nothing of load balancing.

mod queue;
mod slab;

pub(crate) use queue::{Lane, Queue};
pub(crate) use slab::{Id, Slab};
