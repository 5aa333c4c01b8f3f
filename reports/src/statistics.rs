//! Several seeds in place of one: means with intervals, and strategies compared seed by seed.
//!
//! One run is one draw: a difference between two strategies may be chance. Replications with other seeds tell how much
//! figures vary, and Student's t turns that into an interval which holds the true mean in 95 of 100 such experiments:
//!
//! ```text
//! x̄ ± t₀.₉₇₅(n−1) · s/√n
//! ```
//!
//! Strategies under the same seed see the same work, so most of what varies is common to them. The interval of a
//! difference is therefore that of the differences within each seed (a paired t interval), which is narrower than what
//! the two means' own intervals suggest. Where it has zero in it, the words are "no difference found": not that there is
//! none. (Law, *Simulation Modeling and Analysis*, 5th ed., §9.4.1, §10.2.1 and §11.2.)
//!
//! Each interval stands for itself. Of twenty comparisons of things that are the same, one on average finds a difference.

use crate::record::{
    DifferenceEstimate, FailedSeed, FigureEstimate, Held, Quantile, QuantileBand, ReplicatedStrategy, Replications,
    RunRecord,
};
use crate::summary::{FirstTraffic, Row, rows};

/// The figures of the comparison that are estimated, in the order of [`Replications`].
pub const METRICS: [&str; 9] =
    [P50_MS, P99_MS, P999_MS, FAILED_SHARE, GOODPUT_PER_S, IMBALANCE, TIME_TO_TRAFFIC_S, NODE_HOPS, CONNECTIONS];

pub(crate) const P50_MS: &str = "latency_ms.p50";
pub(crate) const P99_MS: &str = "latency_ms.p99";
pub(crate) const P999_MS: &str = "latency_ms.p999";
/// Failed over ended requests, 0 to 1.
pub(crate) const FAILED_SHARE: &str = "failed_share";
pub(crate) const GOODPUT_PER_S: &str = "goodput_per_s";
pub(crate) const IMBALANCE: &str = "imbalance";
/// Of the new server pod that waited longest; not measured under a seed where one of them got no request.
pub(crate) const TIME_TO_TRAFFIC_S: &str = "time_to_traffic_s.max";
pub(crate) const NODE_HOPS: &str = "node_hops.mean";
pub(crate) const CONNECTIONS: &str = "connections.opened";

/// A mean and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Mean of the values.
    pub mean: f64,
    /// Lower and upper end; `None` for fewer than two values.
    pub interval: Option<(f64, f64)>,
}

/// Mean and Student's t interval of independent values; `None` without values.
#[must_use]
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let (&first, n) = (values.first()?, values.len());
    // Sums of distances from the first value: equal values give exactly that value, and no width.
    let mean = first + values.iter().map(|v| v - first).sum::<f64>() / n as f64;
    let interval = (n >= 2).then(|| {
        let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
        let half = t_975(n - 1) * (squares / (n - 1) as f64 / n as f64).sqrt();
        (mean - half, mean + half)
    });
    Some(Estimate { mean, interval })
}

/// The 97.5th percentile of Student's t with `freedom` degrees of freedom, 1 or more, to three decimals: NIST/SEMATECH
/// e-Handbook of Statistical Methods, 1.3.6.7.2, "Critical Values of the Student's-t Distribution". A table, because a
/// computed quantile would need the platform's logarithm. Between its lines the line above is taken, which makes
/// intervals a little wider than they need be (by about 1 % at most).
#[must_use]
pub fn t_975(freedom: usize) -> f64 {
    const UP_TO_30: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ];
    match freedom {
        0..=30 => UP_TO_30[freedom.saturating_sub(1)],
        31..40 => 2.042,
        40..60 => 2.021,
        60..120 => 2.000,
        _ => 1.980,
    }
}

/// What the statistics need of one seed's record, so that the record itself need not be kept.
#[derive(Debug, Clone)]
pub struct Observation {
    seed: u64,
    strategies: Vec<Observed>,
    /// Whether each expectation holds, and what was measured.
    outcomes: Vec<(bool, Option<f64>)>,
}

#[derive(Debug, Clone)]
struct Observed {
    name: String,
    /// In the order of [`METRICS`].
    figures: [Option<f64>; METRICS.len()],
    quantiles: Vec<Quantile>,
}

impl Observation {
    /// Of a record of one seed.
    #[must_use]
    pub fn of(record: &RunRecord) -> Self {
        let of = |row: &Row<'_>| Observed {
            name: row.strategy.name.clone(),
            figures: figures(row),
            quantiles: row.strategy.latency_quantiles.clone(),
        };
        Self {
            seed: record.seed,
            strategies: rows(record).iter().map(of).collect(),
            outcomes: record.expectations.iter().map(|e| (e.holds, e.measured)).collect(),
        }
    }
}

fn figures(row: &Row<'_>) -> [Option<f64>; METRICS.len()] {
    let first_traffic_s = match row.first_traffic {
        FirstTraffic::After(s) => Some(s),
        FirstTraffic::NoNewPods | FirstTraffic::Never | FirstTraffic::NotWithin(_) => None,
    };
    [
        row.p50_ms,
        row.p99_ms,
        row.p999_ms,
        row.error_part,
        row.goodput_per_s,
        row.imbalance,
        first_traffic_s,
        row.hops,
        Some(row.connections as f64),
    ]
    .map(|value| value.filter(|v| v.is_finite()))
}

/// The first seed's record with the statistics of all seeds, its own among them. An expectation holds if it holds under
/// each. One observation or none changes nothing: there is nothing to replicate.
#[must_use]
pub fn replicated(mut first: RunRecord, observations: &[Observation]) -> RunRecord {
    if observations.len() < 2 {
        return first;
    }
    for (i, e) in first.expectations.iter_mut().enumerate() {
        let outcome = |o: &Observation| o.outcomes.get(i).copied().unwrap_or((false, None));
        let failed = observations.iter().find(|o| !outcome(o).0);
        e.held = Some(Held {
            seeds: observations.iter().filter(|o| outcome(o).0).count() as u32,
            of: observations.len() as u32,
            failed: failed.map(|o| FailedSeed { seed: o.seed, measured: outcome(o).1 }),
        });
        e.holds = failed.is_none();
    }
    let strategies = (0..first.strategies.len()).map(|s| {
        let of = |s: usize| observations.iter().filter_map(move |o| o.strategies.get(s)).collect::<Vec<_>>();
        strategy(&of(s), (s > 0).then(|| of(0)).as_deref())
    });
    first.replications =
        Some(Replications { seeds: observations.iter().map(|o| o.seed).collect(), strategies: strategies.collect() });
    first
}

/// A strategy's seeds, beside the baseline's in the same order.
fn strategy(seeds: &[&Observed], baseline: Option<&[&Observed]>) -> ReplicatedStrategy {
    let figures = METRICS.iter().enumerate().map(|(m, metric)| {
        let values: Vec<f64> = seeds.iter().filter_map(|s| s.figures[m]).collect();
        let estimate = estimate(&values);
        let interval = estimate.and_then(|e| e.interval);
        FigureEstimate {
            metric: (*metric).to_owned(),
            mean: estimate.map(|e| e.mean),
            low: interval.map(|i| i.0),
            high: interval.map(|i| i.1),
            n: values.len() as u32,
        }
    });
    let against_baseline = baseline.iter().flat_map(|baseline| {
        METRICS.iter().enumerate().map(move |(m, metric)| {
            let pairs: Vec<(f64, f64)> =
                seeds.iter().zip(*baseline).filter_map(|(s, b)| s.figures[m].zip(b.figures[m])).collect();
            difference(metric, &pairs)
        })
    });
    ReplicatedStrategy {
        name: seeds.first().map_or_else(String::new, |s| s.name.clone()),
        figures: figures.collect(),
        against_baseline: against_baseline.collect(),
        latency_band: band(seeds),
    }
}

/// Of pairs (figure, the baseline's under the same seed).
fn difference(metric: &str, pairs: &[(f64, f64)]) -> DifferenceEstimate {
    let differences: Vec<f64> = pairs.iter().map(|(value, base)| value - base).collect();
    let bases: Vec<f64> = pairs.iter().map(|(_, base)| *base).collect();
    let found = estimate(&differences);
    let interval = found.and_then(|e| e.interval);
    let base = estimate(&bases).map(|e| e.mean).filter(|base| *base > 0.0);
    let part = |x: Option<f64>| Some(x? / base?);
    let (mean, low, high) = (found.map(|e| e.mean), interval.map(|i| i.0), interval.map(|i| i.1));
    DifferenceEstimate {
        metric: metric.to_owned(),
        mean,
        low,
        high,
        relative: part(mean),
        relative_low: part(low),
        relative_high: part(high),
        n: pairs.len() as u32,
    }
}

/// Fastest and slowest seed at every point that all seeds have: they share their points up to the number of requests.
fn band(seeds: &[&Observed]) -> Vec<QuantileBand> {
    let Some((first, others)) = seeds.split_first() else { return Vec::new() };
    let mut points = Vec::new();
    for (i, point) in first.quantiles.iter().enumerate() {
        let mut band = QuantileBand { quantile: point.quantile, low_ms: point.ms, high_ms: point.ms };
        for other in others {
            match other.quantiles.get(i) {
                Some(p) if p.quantile == point.quantile => {
                    band.low_ms = band.low_ms.min(p.ms);
                    band.high_ms = band.high_ms.max(p.ms);
                }
                _ => return points,
            }
        }
        points.push(band);
    }
    points
}

impl Replications {
    /// The strategy's estimates at a place of the record.
    pub(crate) fn strategy(&self, index: usize) -> Option<&ReplicatedStrategy> {
        self.strategies.get(index)
    }

    /// "seeds 1 to 20".
    pub(crate) fn words(&self) -> String {
        match self.seeds.as_slice() {
            [first, .., last] if self.seeds.windows(2).all(|w| w[0].checked_add(1) == Some(w[1])) => {
                format!("seeds {first} to {last}")
            }
            seeds => crate::number::plural(seeds.len() as u64, "seed"),
        }
    }
}

impl ReplicatedStrategy {
    pub(crate) fn figure(&self, metric: &str) -> Option<&FigureEstimate> {
        self.figures.iter().find(|f| f.metric == metric)
    }

    pub(crate) fn difference(&self, metric: &str) -> Option<&DifferenceEstimate> {
        self.against_baseline.iter().find(|d| d.metric == metric)
    }
}

impl FigureEstimate {
    /// Half the interval's width.
    pub(crate) fn half_width(&self) -> Option<f64> {
        Some((self.high? - self.low?) / 2.0)
    }
}

impl DifferenceEstimate {
    /// Whether the interval leaves zero out; `None` without an interval.
    #[must_use]
    pub fn is_found(&self) -> Option<bool> {
        let (low, high) = (self.low?, self.high?);
        Some(low > 0.0 || high < 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(p99: &[Option<f64>]) -> Vec<Observed> {
        let figures = |p99: Option<f64>| std::array::from_fn(|m| if METRICS[m] == P99_MS { p99 } else { None });
        let of = |&p99: &Option<f64>| Observed { name: "a".to_owned(), figures: figures(p99), quantiles: Vec::new() };
        p99.iter().map(of).collect()
    }

    fn compared(values: &[Option<f64>], base: &[Option<f64>]) -> ReplicatedStrategy {
        let (values, base) = (seeds(values), seeds(base));
        strategy(&values.iter().collect::<Vec<_>>(), Some(&base.iter().collect::<Vec<_>>()))
    }

    #[test]
    fn a_worked_interval() {
        // 1, 2, 3, 4, 5: mean 3, squares 4 + 1 + 0 + 1 + 4 = 10, s² = 10/4, standard error √(2.5/5) = 0.70711,
        // t(4) = 2.776, half width 1.96293.
        let e = estimate(&[1.0, 2.0, 3.0, 4.0, 5.0]).expect("values");
        let (low, high) = e.interval.expect("five of them");
        assert_eq!(e.mean, 3.0);
        assert!((low - (3.0 - 1.962_93)).abs() < 1e-5 && (high - (3.0 + 1.962_93)).abs() < 1e-5, "{low} to {high}");
    }

    #[test]
    fn one_value_has_a_mean_and_no_interval() {
        assert_eq!(estimate(&[]), None);
        assert_eq!(estimate(&[0.1]), Some(Estimate { mean: 0.1, interval: None }));
        // (0.1 + 0.1 + 0.1) / 3 is not 0.1.
        assert_eq!(estimate(&[0.1; 3]), Some(Estimate { mean: 0.1, interval: Some((0.1, 0.1)) }));
    }

    #[test]
    fn between_the_lines_of_the_table_the_wider_one_is_taken() {
        let cases =
            [(1, 12.706), (2, 4.303), (19, 2.093), (30, 2.042), (39, 2.042), (40, 2.021), (119, 2.0), (999, 1.98)];
        for (freedom, t) in cases {
            assert_eq!(t_975(freedom), t, "{freedom}");
        }
        assert!((1..200).all(|f| t_975(f) >= t_975(f + 1)));
    }

    #[test]
    fn a_constant_shift_has_no_width_however_much_the_seeds_vary() {
        let c = compared(&[Some(51.5), Some(81.5), Some(31.5)], &[Some(50.0), Some(80.0), Some(30.0)]);
        let own = c.figure(P99_MS).expect("p99");
        assert!(own.high.expect("three seeds") - own.low.expect("three seeds") > 50.0);
        let d = c.difference(P99_MS).expect("p99");
        assert_eq!((d.mean, d.low, d.high, d.n), (Some(1.5), Some(1.5), Some(1.5), 3));
        assert_eq!(d.is_found(), Some(true));
        // 1.5 of (50 + 80 + 30)/3 = 53.33.
        assert!((d.relative.expect("a baseline") - 1.5 / (160.0 / 3.0)).abs() < 1e-12);
    }

    #[test]
    fn an_interval_across_zero_finds_nothing() {
        // Differences 1, −1, 2: mean 2/3, s² = ((1/3)² + (5/3)² + (4/3)²)/2 = 7/3, half 4.303 · √(7/9) = 3.795.
        let d = compared(&[Some(11.0), Some(9.0), Some(12.0)], &[Some(10.0); 3]);
        let d = d.difference(P99_MS).expect("p99");
        assert!((d.low.expect("three") - (2.0 / 3.0 - 3.794_9)).abs() < 1e-4, "{d:?}");
        assert_eq!(d.is_found(), Some(false));
        assert_eq!(difference("x", &[(1.0, 1.0), (2.0, 2.0)]).is_found(), Some(false), "nothing differs");
        assert_eq!(difference("x", &[(1.0, 2.0)]).is_found(), None, "one pair tells nothing");
    }

    #[test]
    fn only_seeds_that_have_both_are_paired() {
        let c = compared(&[Some(2.0), None, Some(4.0)], &[Some(1.0), Some(1.0), None]);
        let (own, d) = (c.figure(P99_MS).expect("p99"), c.difference(P99_MS).expect("p99"));
        assert_eq!((own.mean, own.n), (Some(3.0), 2));
        assert_eq!((d.mean, d.low, d.n), (Some(1.0), None, 1));
        let none = c.figure(IMBALANCE).expect("imbalance");
        assert_eq!((none.mean, none.low, none.n), (None, None, 0));
    }

    #[test]
    fn a_baseline_of_zero_leaves_no_part_of_it() {
        let d = difference(FAILED_SHARE, &[(0.5, 0.0), (0.25, 0.0)]);
        assert_eq!((d.mean, d.relative, d.relative_low), (Some(0.375), None, None));
    }

    #[test]
    fn the_band_ends_where_a_seed_has_no_point() {
        let with = |ms: &[f64]| Observed {
            name: String::new(),
            figures: [None; METRICS.len()],
            quantiles: ms.iter().zip([0.0, 0.5, 0.9]).map(|(&ms, quantile)| Quantile { quantile, ms }).collect(),
        };
        let (a, b) = (with(&[1.0, 4.0, 9.0]), with(&[2.0, 3.0]));
        let band = band(&[&a, &b]);
        let spans: Vec<(f64, f64, f64)> = band.iter().map(|p| (p.quantile, p.low_ms, p.high_ms)).collect();
        assert_eq!(spans, [(0.0, 1.0, 2.0), (0.5, 3.0, 4.0)]);
    }
}
