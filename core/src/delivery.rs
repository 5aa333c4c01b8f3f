//! Progressive delivery: a new version gets more traffic step by step, and goes back to none when it does badly.
//!
//! **Solves** a bad version hurting everybody: at 5 % of the traffic it hurts 5 %, for as long as it takes to notice.
//!
//! **Source**: Argo Rollouts (canary steps `setWeight` and `pause`, an analysis with `interval` and `failureLimit`) and Flagger
//! (`interval`, `threshold`, `stepWeight`, `request-success-rate`, `request-duration`). They differ; here, as in Argo Rollouts, steps are a
//! list, `failure_limit` is the number of failures that is still tolerated, and a measurement that says nothing (their
//! Inconclusive) leaves the delivery at its step, where Flagger counts a failure. As in Flagger, a failure that is tolerated
//! holds the weight where it is.
//!
//! **Costs** nothing per request: the host counts, and asks once per interval.
//!
//! **Does badly** with little traffic: of 100 requests at a step, a version that fails 1 % shows no error at all with
//! probability 0.99^100 = 37 %. And thresholds on the new version alone blame it for what ails both.
//!
//! ```
//! use lb_core::Nanos;
//! use lb_core::delivery::{Action, Delivery, DeliveryConfig, Measured};
//!
//! let config: DeliveryConfig = toml::from_str(r#"
//!     steps = [5, 50]
//!     interval = "60s"
//!     analysis = { max_error_rate = 0.01 }
//! "#)?;
//! let mut delivery = Delivery::new(&config);
//! assert_eq!(delivery.start(Nanos::ZERO), Action::SetWeight(5));
//! assert_eq!(delivery.next_wake(), Nanos::from_secs(60));
//! let good = Measured { requests: 1000, errors: 3, p99: None };
//! assert_eq!(delivery.tick(Nanos::from_secs(60), &good), Action::SetWeight(50));
//! assert_eq!(delivery.tick(Nanos::from_secs(120), &good), Action::Promote);
//! # Ok::<(), toml::de::Error>(())
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Nanos;
use crate::problems::{Problem, Problems};

/// How a new version is brought in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeliveryConfig {
    /// The new version's share of the traffic, in percent, step by step: rising, 1 to 100. After the last it is promoted.
    /// Argo Rollouts `setWeight`; Flagger's `stepWeight = 5, maxWeight = 15` is `[5, 10, 15]`.
    pub steps: Vec<u32>,
    /// How long a step lasts at least, and how often is measured. Argo Rollouts `pause.duration` and `analysis.interval`,
    /// Flagger `analysis.interval`.
    pub interval: Nanos,
    /// When a step counts as failed. Without it steps go on by time alone, whatever happens.
    #[serde(default)]
    pub analysis: Option<AnalysisConfig>,
}

/// What is expected of the new version, over each interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AnalysisConfig {
    /// Highest tolerated part of its requests that fail, 0 to 1. Flagger's `request-success-rate` min 99 is 0.01.
    pub max_error_rate: f64,
    /// Highest tolerated 99th percentile of its latency; any by default. Flagger's `request-duration` max.
    #[serde(default)]
    pub max_p99: Option<Nanos>,
    /// With fewer requests in an interval there is no verdict: the step goes on for another one. 1 by default (our choice: what
    /// Argo Rollouts calls Inconclusive is written as conditions there); a rate needs many more to mean something.
    #[serde(default = "one")]
    pub min_requests: u64,
    /// Failed intervals that are tolerated, over all steps; one more rolls back. 0, Argo Rollouts `failureLimit`. (Flagger's
    /// `threshold` is one more than this.)
    #[serde(default)]
    pub failure_limit: u32,
}

fn one() -> u64 {
    1
}

impl DeliveryConfig {
    /// What is wrong beyond the shape, in the order of the fields.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        if self.steps.is_empty() {
            problems.add(
                "steps",
                "`steps` is empty; there is nothing to try",
                "write for example `steps = [5, 25, 50]`",
            );
        }
        for (i, &step) in self.steps.iter().enumerate() {
            let path = format!("steps.{i}");
            if !(1..=100).contains(&step) {
                let rule = format!("step {step} is no share; it must be from 1 to 100 percent");
                problems.add(&path, rule, "before the first step the share is 0, after the last 100");
            } else if i > 0 && step <= self.steps[i - 1] {
                let rule = format!("step {step} is not above the one before ({})", self.steps[i - 1]);
                problems.add(&path, rule, "steps rise");
            }
        }
        if self.interval == Nanos::ZERO {
            let rule = "`interval` is 0s; a step takes some time";
            problems.add("interval", rule, "write for example \"60s\"");
        }
        if let Some(analysis) = &self.analysis {
            let hint = "0.01 is one request in a hundred";
            problems.within("analysis.max_error_rate", analysis.max_error_rate, 0.0, 1.0, hint);
            if analysis.max_p99 == Some(Nanos::ZERO) {
                let rule = "`max_p99` is 0s; every version would fail";
                problems.add("analysis.max_p99", rule, "leave it out to bound errors only");
            }
            let hint = "without a request there is nothing to judge";
            problems.at_least("analysis.min_requests", analysis.min_requests, 1, hint);
        }
        problems.0
    }
}

/// What was seen of the new version since the last tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// Requests that ended.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// 99th percentile of their latency, if it is known.
    pub p99: Option<Nanos>,
}

/// What the host does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// Give the new version this share of the traffic, in percent.
    SetWeight(u32),
    /// The new version is the version: all traffic is its own.
    Promote,
    /// Back to the old version for all traffic.
    Rollback(Reason),
    /// Nothing changes.
    Wait,
}

/// Why a version was rolled back: what was measured last, and its bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reason {
    /// Too many of its requests failed.
    ErrorRate {
        /// The part that failed.
        measured: f64,
        /// The part that was tolerated.
        most: f64,
    },
    /// Its requests took too long.
    P99 {
        /// The 99th percentile.
        measured: Nanos,
        /// What was tolerated.
        most: Nanos,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ErrorRate { measured, most } => {
                write!(f, "{:.2} % of its requests failed; at most {} % may", measured * 100.0, most * 100.0)
            }
            Self::P99 { measured, most } => write!(f, "its p99 was {measured}; at most {most} is tolerated"),
        }
    }
}

/// One delivery, from the first step to promotion or rollback.
#[derive(Debug, Clone)]
pub struct Delivery {
    config: DeliveryConfig,
    stage: Stage,
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    NotStarted,
    Step { index: usize, until: Nanos },
    Over,
}

impl Delivery {
    /// A delivery that has not begun.
    pub fn new(config: &DeliveryConfig) -> Self {
        Self { config: config.clone(), stage: Stage::NotStarted, failures: 0 }
    }

    /// Begins. The first step's weight, or promotion if there are no steps; [`Action::Wait`] if it has begun before.
    pub fn start(&mut self, now: Nanos) -> Action {
        if self.stage == Stage::NotStarted { self.step(now, 0) } else { Action::Wait }
    }

    /// When [`tick`](Self::tick) is due; never before the start and after the end.
    pub fn next_wake(&self) -> Nanos {
        if let Stage::Step { until, .. } = self.stage { until } else { Nanos::NEVER }
    }

    /// Failed intervals so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether it ended, in promotion or rollback.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Judges what was measured of the new version since the last tick, or since the start. Before it is due nothing happens,
    /// and the host goes on measuring.
    pub fn tick(&mut self, now: Nanos, measured: &Measured) -> Action {
        let Stage::Step { index, until } = self.stage else { return Action::Wait };
        if now < until {
            return Action::Wait;
        }
        match self.config.analysis.as_ref().map_or(Verdict::Passed, |analysis| analysis.judge(measured)) {
            Verdict::Passed => self.step(now, index + 1),
            Verdict::Unknown => self.hold(now, index),
            Verdict::Failed(reason) => {
                self.failures = self.failures.saturating_add(1);
                // Argo Rollouts: failed when there are more failures than `failureLimit`. Until then Flagger's rule: a failed
                // check halts the advancement.
                if self.failures > self.config.analysis.as_ref().map_or(0, |analysis| analysis.failure_limit) {
                    self.stage = Stage::Over;
                    Action::Rollback(reason)
                } else {
                    self.hold(now, index)
                }
            }
        }
    }

    fn hold(&mut self, now: Nanos, index: usize) -> Action {
        self.stage = Stage::Step { index, until: now + self.config.interval };
        Action::Wait
    }

    fn step(&mut self, now: Nanos, index: usize) -> Action {
        let Some(&percent) = self.config.steps.get(index) else {
            self.stage = Stage::Over;
            return Action::Promote;
        };
        self.hold(now, index);
        Action::SetWeight(percent)
    }
}

enum Verdict {
    Passed,
    Failed(Reason),
    /// Too little is known.
    Unknown,
}

impl AnalysisConfig {
    fn judge(&self, measured: &Measured) -> Verdict {
        if measured.requests < self.min_requests.max(1) {
            return Verdict::Unknown;
        }
        let rate = measured.errors as f64 / measured.requests as f64;
        if rate > self.max_error_rate {
            return Verdict::Failed(Reason::ErrorRate { measured: rate, most: self.max_error_rate });
        }
        match (self.max_p99, measured.p99) {
            (Some(most), Some(p99)) if p99 > most => Verdict::Failed(Reason::P99 { measured: p99, most }),
            // Without a value for a metric that is bounded nothing is known.
            (Some(_), None) => Verdict::Unknown,
            _ => Verdict::Passed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(analysis: Option<AnalysisConfig>) -> Delivery {
        let config = DeliveryConfig { steps: vec![5, 20, 50], interval: Nanos::from_secs(60), analysis };
        assert_eq!(config.problems(), []);
        Delivery::new(&config)
    }

    fn analysis(failure_limit: u32) -> Option<AnalysisConfig> {
        let max_p99 = Some(Nanos::from_millis(200));
        Some(AnalysisConfig { max_error_rate: 0.01, max_p99, min_requests: 100, failure_limit })
    }

    fn measured(requests: u64, errors: u64, p99_ms: u64) -> Measured {
        Measured { requests, errors, p99: Some(Nanos::from_millis(p99_ms)) }
    }

    /// The actions of one tick per minute.
    fn play(mut delivery: Delivery, minutes: &[Measured]) -> Vec<Action> {
        let mut actions = vec![delivery.start(Nanos::ZERO)];
        for (minute, measured) in (1..).zip(minutes) {
            actions.push(delivery.tick(Nanos::from_secs(60 * minute), measured));
        }
        actions
    }

    #[test]
    fn a_good_version_goes_all_the_way() {
        // 1 % is tolerated, and so are 200 ms.
        let actions = play(delivery(analysis(0)), &[measured(1000, 10, 200); 4]);
        use Action::*;
        assert_eq!(actions, [SetWeight(5), SetWeight(20), SetWeight(50), Promote, Wait]);
    }

    #[test]
    fn the_first_failure_rolls_back_by_default() {
        let actions = play(delivery(analysis(0)), &[measured(1000, 11, 50), measured(1000, 0, 50)]);
        let reason = Reason::ErrorRate { measured: 0.011, most: 0.01 };
        assert_eq!(actions, [Action::SetWeight(5), Action::Rollback(reason), Action::Wait]);
        assert_eq!(reason.to_string(), "1.10 % of its requests failed; at most 1 % may");
    }

    #[test]
    fn tolerated_failures_hold_the_weight_and_add_up_over_steps() {
        let (good, slow) = (measured(1000, 0, 50), measured(1000, 0, 201));
        let actions = play(delivery(analysis(2)), &[slow, good, slow, good, slow]);
        let reason = Reason::P99 { measured: Nanos::from_millis(201), most: Nanos::from_millis(200) };
        use Action::*;
        assert_eq!(actions, [SetWeight(5), Wait, SetWeight(20), Wait, SetWeight(50), Rollback(reason)]);
    }

    #[test]
    fn too_little_data_is_no_verdict() {
        let unknown = [measured(99, 99, 900), Measured::default(), Measured { requests: 100, errors: 0, p99: None }];
        let mut delivery = delivery(analysis(0));
        let _ = delivery.start(Nanos::ZERO);
        for (minute, measured) in (1..).zip(&unknown) {
            assert_eq!(delivery.tick(Nanos::from_secs(60 * minute), measured), Action::Wait);
        }
        assert_eq!((delivery.failures(), delivery.next_wake()), (0, Nanos::from_secs(240)));
        // Errors are known even where the latency is not.
        let failing = Measured { requests: 100, errors: 2, p99: None };
        assert!(matches!(delivery.tick(Nanos::from_secs(240), &failing), Action::Rollback(Reason::ErrorRate { .. })));
        assert!(delivery.is_over());
        assert_eq!(delivery.next_wake(), Nanos::NEVER);
    }

    #[test]
    fn without_an_analysis_time_alone_decides() {
        let actions = play(delivery(None), &[measured(10, 10, 9_000), Measured::default(), Measured::default()]);
        use Action::*;
        assert_eq!(actions, [SetWeight(5), SetWeight(20), SetWeight(50), Promote]);
    }

    #[test]
    fn a_tick_before_its_time_changes_nothing() {
        let mut delivery = delivery(analysis(0));
        assert_eq!(delivery.tick(Nanos::from_secs(60), &measured(1000, 1000, 50)), Action::Wait, "not started");
        assert_eq!(delivery.start(Nanos::from_secs(10)), Action::SetWeight(5));
        assert_eq!(delivery.start(Nanos::from_secs(11)), Action::Wait, "started before");
        assert_eq!(delivery.tick(Nanos::from_secs(69), &measured(1000, 1000, 50)), Action::Wait);
        // A late one counts its interval from when it came.
        assert_eq!(delivery.tick(Nanos::from_secs(75), &measured(1000, 0, 50)), Action::SetWeight(20));
        assert_eq!(delivery.next_wake(), Nanos::from_secs(135));
    }

    #[test]
    fn problems_have_their_places() {
        let config: DeliveryConfig = toml::from_str(
            "steps = [10, 10, 101]\ninterval = '0s'\nanalysis = { max_error_rate = 5.0, min_requests = 0 }",
        )
        .unwrap();
        let places: Vec<_> = config.problems().into_iter().map(|(place, ..)| place).collect();
        assert_eq!(places, ["steps.1", "steps.2", "interval", "analysis.max_error_rate", "analysis.min_requests"]);
    }
}
