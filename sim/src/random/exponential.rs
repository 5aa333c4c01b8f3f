//! Exponential draws by the ziggurat method: Marsaglia and Tsang, "The Ziggurat Method for Generating Random
//! Variables" (2000).
//!
//! The area under e^(−x) is cut into 256 layers of equal area, all but the lowest of them rectangles with a small
//! overhang. A draw chooses a layer and a point in it; in 98.9 % of cases the point lies in the part of the rectangle
//! that is wholly under the curve, and costs one random number, a multiplication and a comparison. By inversion every
//! draw would cost a logarithm, a tenth of the time of a simulated request.
//!
//! `rand_distr` has the same method with tables of its own, but computes the rare cases with the platform's logarithm,
//! which differs between machines in the last bit; here libm does. The tests hold this one to that one.

use std::sync::LazyLock;

use rand::Rng;

use super::stream::{unit, unit_below_one};

const LAYERS: usize = 256;

/// Where the lowest layer's rectangle ends and its tail begins, for 256 layers; from the paper.
const TAIL: f64 = 7.697_117_470_131_487;

struct Tables {
    /// Right edge of each layer, from the lowest (widened to hold its tail's area) to zero.
    x: [f64; LAYERS + 1],
    /// e^(−x) at those edges.
    y: [f64; LAYERS + 1],
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    // The area of every layer: the lowest is TAIL wide and e^(−TAIL) high, plus the tail's own e^(−TAIL).
    let area = (TAIL + 1.0) * libm::exp(-TAIL);
    let mut x = [0.0; LAYERS + 1];
    x[0] = area * libm::exp(TAIL);
    x[1] = TAIL;
    for i in 2..LAYERS {
        x[i] = -libm::log(area / x[i - 1] + libm::exp(-x[i - 1]));
    }
    Tables { x, y: x.map(|x| libm::exp(-x)) }
});

/// A draw with mean 1.
#[inline]
pub(crate) fn exp1(rng: &mut impl Rng) -> f64 {
    let tables = &*TABLES;
    loop {
        let bits = rng.next_u64();
        // The layer from the lowest 8 bits, the point from the highest 53: they do not overlap.
        let layer = (bits & 0xff) as usize;
        let x = (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64) * tables.x[layer];
        if x < tables.x[layer + 1] {
            return x;
        }
        if let Some(x) = overhang(tables, layer, x, rng) {
            return x;
        }
    }
}

/// The point lies where the curve passes through the layer: takes it if it is under the curve.
#[cold]
fn overhang(tables: &Tables, layer: usize, x: f64, rng: &mut impl Rng) -> Option<f64> {
    if layer == 0 {
        // Beyond TAIL the distribution is the whole one again, shifted.
        return Some(TAIL - libm::log(unit(rng)));
    }
    let (low, high) = (tables.y[layer], tables.y[layer + 1]);
    (low + (high - low) * unit_below_one(rng) < libm::exp(-x)).then_some(x)
}

#[cfg(test)]
mod tests {
    use super::super::stream::{Purpose, stream};
    use super::*;

    #[test]
    fn layers_close_at_the_top() {
        // The edge above the last computed one is zero: the area left there is a layer's.
        let t = &*TABLES;
        let top = t.x[LAYERS - 1] * (1.0 - t.y[LAYERS - 1]);
        let area = (TAIL + 1.0) * libm::exp(-TAIL);
        assert!((top / area - 1.0).abs() < 1e-9, "{top} against {area}");
        assert!(t.x.windows(2).all(|w| w[0] > w[1]));
    }

    #[test]
    fn tail_probabilities_are_those_of_e_to_the_minus_x() {
        let mut rng = stream(1, Purpose::Workload, 0);
        let n = 4_000_000;
        let thresholds = [0.01, 0.1, 0.5, 1.0, 2.0, 4.0, TAIL, 9.0];
        let mut above = thresholds.map(|_| 0u32);
        for _ in 0..n {
            let x = exp1(&mut rng);
            for (count, t) in above.iter_mut().zip(thresholds) {
                *count += u32::from(x > t);
            }
        }
        for (count, t) in above.into_iter().zip(thresholds) {
            let p = libm::exp(-t);
            let z = (f64::from(count) - f64::from(n) * p) / (f64::from(n) * p * (1.0 - p)).sqrt();
            assert!(z.abs() < 4.0, "P(X > {t}): {count} of {n}, z {z:.1}");
        }
    }
}
