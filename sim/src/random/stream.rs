//! Random streams, and the simplest draws from them.
//!
//! Each entity has its own stream for each purpose, seeded by hash(master seed, purpose, entity), so that compared
//! strategies see the same work: what a client draws for its workload does not depend on how its requests are balanced.

use rand::Rng;
use rand_xoshiro::rand_core::SeedableRng;
use rand_xoshiro::{SplitMix64, Xoshiro256PlusPlus};

/// The generator of every stream: portable, 3 ns a draw.
pub(crate) type Stream = Xoshiro256PlusPlus;

/// What a stream is for.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(crate) enum Purpose {
    /// A client's arrivals and the work of its requests.
    Workload = 1,
    /// A caller's picks, and the jitter of its channel.
    Picks = 2,
    /// A pod's probe phase and the jitter of its connections' age.
    Pod = 3,
    /// kube-proxy's choices and the order of DNS answers.
    Names = 4,
    /// What a balancer draws for its routes: fractions, splits, faults, pauses between attempts.
    Routes = 5,
}

/// The stream of one entity for one purpose.
pub(crate) fn stream(seed: u64, purpose: Purpose, entity: u64) -> Stream {
    let mixed = mix(mix(mix(seed) ^ purpose as u64) ^ entity);
    Stream::seed_from_u64(mixed)
}

/// One step of SplitMix64: every bit of the result depends on every bit of the argument.
fn mix(x: u64) -> u64 {
    SplitMix64::seed_from_u64(x).next_u64()
}

/// FNV-1a, to make an entity's number of its name.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Uniform in (0, 1]: 53 random bits, never zero, so that its logarithm is finite.
pub(crate) fn unit(rng: &mut impl Rng) -> f64 {
    ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
}

/// Uniform in [0, 1).
pub(crate) fn unit_below_one(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Uniform index below `n`; `n` > 0.
pub(crate) fn below(rng: &mut impl Rng, n: usize) -> usize {
    // Multiply-shift: biased by less than n / 2^64.
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// In random order (Fisher-Yates).
pub(crate) fn shuffle<T>(rng: &mut impl Rng, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(rng, i + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_entity_purpose_and_seed() {
        let first = |seed, purpose, entity| stream(seed, purpose, entity).next_u64();
        let all = [
            first(1, Purpose::Workload, 0),
            first(1, Purpose::Workload, 1),
            first(1, Purpose::Picks, 0),
            first(2, Purpose::Workload, 0),
        ];
        assert!((1..4).all(|i| !all[..i].contains(&all[i])));
    }
}
