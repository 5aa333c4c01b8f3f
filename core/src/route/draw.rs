//! Numbers drawn for routing. One way to draw each kind, so that equal seeds give equal decisions.

use rand::Rng;

/// Uniform in [0, 1): 53 random bits.
fn unit(rng: &mut dyn Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// True with this probability. Below 0 (and NaN) is never, above 1 always; then nothing is drawn.
#[inline]
pub(super) fn happens(rng: &mut dyn Rng, probability: f64) -> bool {
    probability >= 1.0 || (probability > 0.0 && unit(rng) < probability)
}

/// Uniform in [low, high).
pub(super) fn between(rng: &mut dyn Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * unit(rng)
}

/// A number below `end`, by multiply-shift of 64 bits: no number below 2^32 is likelier than another by more than 2^-32.
#[inline]
pub(super) fn below(rng: &mut dyn Rng, end: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(end)) >> 64) as u64
}
