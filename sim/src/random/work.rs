//! The work of a request, and the distributions of service times.

use lb_core::Nanos;
use rand::Rng;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::SeedableRng;
use scenarios::ServiceTime;

use super::exponential::exp1;
use super::stream::{Stream, unit, unit_below_one};

/// Tells the number that a key is drawn by from those for work and luck.
const KEY: u64 = 0x6b65_7920_6f66_2069;

/// The work of a request, decided when it is sent: a number from which each pod on its way derives its own part, so
/// that the work is the same whichever pod gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work(u64);

impl Work {
    pub(crate) fn draw(rng: &mut Stream) -> Self {
        Self(rng.next_u64())
    }

    /// Uniform in [0, 1), the same at every pod that is as far along the way, another for each attempt: below a pod's error
    /// rate the request fails.
    pub(crate) fn luck(self, stage: u8, attempt: u8) -> f64 {
        // Another number than its work's, so that long requests fail no more often than short ones.
        unit_below_one(&mut SplitMix64::seed_from_u64(!self.0 ^ (u64::from(stage) << 56) ^ (u64::from(attempt) << 48)))
    }

    /// Uniform in [0, 1), the same wherever it is asked for: whom the request is for.
    pub(crate) fn key(self) -> f64 {
        unit_below_one(&mut SplitMix64::seed_from_u64(self.0.rotate_left(32) ^ KEY))
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
    use super::super::stream::{Purpose, stream};
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
    fn luck_is_uniform_and_has_nothing_to_do_with_the_work() {
        let mut rng = stream(3, Purpose::Workload, 0);
        let n = 100_000;
        let (mut unlucky, mut time) = (0u32, 0.0);
        for _ in 0..n {
            let work = Work::draw(&mut rng);
            if work.luck(0, 0) < 0.3 {
                unlucky += 1;
                time += work.time(0, &ServiceTime::Exponential(Nanos::from_secs(1))).as_secs_f64();
            }
        }
        // 30,000 ± 4 · sqrt(100,000 · 0.3 · 0.7) = 580; the mean of their times 1 ± 4 / sqrt(30,000).
        assert!((29_420..=30_580).contains(&unlucky), "{unlucky}");
        assert!((time / f64::from(unlucky) - 1.0).abs() < 0.024, "{}", time / f64::from(unlucky));
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
}
