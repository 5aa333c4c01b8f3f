//! Randomness: streams by seed, purpose and entity, and what is drawn from them. No platform logarithm on the way.

mod exponential;
mod stream;
mod work;

pub(crate) use exponential::exp1;
pub(crate) use stream::{Purpose, Stream, below, fnv1a, shuffle, stream, unit_below_one};
pub(crate) use work::Work;
