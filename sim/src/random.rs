//! Random streams and the distributions drawn from them.
//!
//! Each entity has its own stream for each purpose, seeded by hash(master seed, purpose, entity), so that compared
//! strategies see the same work: what a client draws for its workload does not depend on how its requests are balanced.

use lb_core::Nanos;
use rand::Rng;
use rand_xoshiro::rand_core::SeedableRng;
use rand_xoshiro::{SplitMix64, Xoshiro256PlusPlus};
use scenarios::ServiceTime;

use crate::exponential::exp1;

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

/// The work of a request, decided when it is sent: a number from which each pod on its way derives its own part, so
/// that the work is the same whichever pod gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work(u64);

impl Work {
    pub(crate) fn draw(rng: &mut Stream) -> Self {
        Self(rng.next_u64())
    }

    /// Time it takes at a pod `stage` steps along the way, at speed 1.
    pub(crate) fn time(self, stage: u8, distribution: &ServiceTime) -> Nanos {
        let rng = || SplitMix64::seed_from_u64(self.0 ^ (u64::from(stage) << 56));
        match distribution {
            ServiceTime::Constant(time) => *time,
            ServiceTime::Exponential(mean) => mean.mul_f64(exp1(&mut rng())),
            ServiceTime::Lognormal(l) => {
                // ln X ~ N(mu, sigma²) with sigma² = ln(1 + cv²) and mean = exp(mu + sigma²/2).
                let variance = libm::log1p(l.cv * l.cv);
                let z = standard_normal(&mut rng());
                l.mean.mul_f64(libm::exp(libm::sqrt(variance) * z - variance / 2.0))
            }
        }
    }
}

/// Standard normal, by Box and Muller.
fn standard_normal(rng: &mut impl Rng) -> f64 {
    let radius = libm::sqrt(-2.0 * libm::log(unit(rng)));
    radius * libm::cos(2.0 * std::f64::consts::PI * unit(rng))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_distr::Distribution;
    use scenarios::Lognormal;

    /// Means and variances of both samplers over the same number of draws agree within 1 %.
    fn same_moments(ours: &ServiceTime, theirs: impl Distribution<f64>) {
        let n = 1_000_000;
        let mut rng = stream(7, Purpose::Workload, 0);
        let moments = |draw: &mut dyn FnMut() -> f64| {
            let (mut sum, mut squares) = (0.0, 0.0);
            for _ in 0..n {
                let x = draw();
                sum += x;
                squares += x * x;
            }
            let mean = sum / f64::from(n);
            (mean, squares / f64::from(n) - mean * mean)
        };
        let (m1, v1) = moments(&mut || Work::draw(&mut rng).time(1, ours).as_secs_f64());
        let mut rng = stream(8, Purpose::Workload, 0);
        let (m2, v2) = moments(&mut || theirs.sample(&mut rng));
        assert!((m1 / m2 - 1.0).abs() < 0.01, "mean {m1} against {m2}");
        assert!((v1 / v2 - 1.0).abs() < 0.05, "variance {v1} against {v2}");
    }

    #[test]
    fn exponential_has_rand_distrs_moments() {
        same_moments(&ServiceTime::Exponential(Nanos::from_secs(2)), rand_distr::Exp::new(0.5).unwrap());
    }

    #[test]
    fn lognormal_has_rand_distrs_moments() {
        let ours = ServiceTime::Lognormal(Lognormal { mean: Nanos::from_secs(1), cv: 0.5 });
        same_moments(&ours, rand_distr::LogNormal::from_mean_cv(1.0, 0.5).unwrap());
    }

    #[test]
    fn work_is_the_same_wherever_it_is_done() {
        let work = Work::draw(&mut stream(1, Purpose::Workload, 3));
        let ten = ServiceTime::Exponential(Nanos::from_millis(10));
        let twenty = ServiceTime::Exponential(Nanos::from_millis(20));
        assert_eq!(work.time(0, &ten), work.time(0, &ten));
        let ratio = work.time(0, &twenty).0 as f64 / work.time(0, &ten).0 as f64;
        assert!((ratio - 2.0).abs() < 1e-6, "a slower pod takes the same request, slower");
        assert_ne!(work.time(0, &ten), work.time(1, &ten));
    }

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
