//! What must come out.

use lb_core::Nanos;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::Bound;

/// Something that must hold of the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The sentence this stands for, as the report prints it.
    pub text: String,
    /// The strategy it is about.
    pub strategy: String,
    /// What is measured: a metric by its name.
    #[schemars(schema_with = "crate::metrics::json_schema")]
    pub metric: String,
    /// What it must satisfy: "== 0", "<= 1.01", "0.32..0.35".
    pub bound: Bound,
    /// Measure relative to this strategy: the metric is divided by that strategy's.
    #[serde(default)]
    pub against: Option<String>,
    /// For metrics of requests: those of this load only.
    #[serde(default)]
    pub load: Option<String>,
    /// For metrics of pods and of deployments: whose. Those that answer by default; the calling ones for `goodput.jain`.
    #[serde(default)]
    pub deployment: Option<String>,
    /// For metrics of pods: which of them.
    #[serde(default)]
    pub pods: PodSet,
    /// For metrics that can be counted in a part of the run: count from here, a whole number of intervals. The end of
    /// the warm-up by default.
    #[serde(default)]
    pub from: Option<Nanos>,
    /// For metrics that can be counted in a part of the run: count up to here, a whole number of intervals.
    #[serde(default)]
    pub until: Option<Nanos>,
}

/// Which pods of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PodSet {
    /// All that ever existed.
    #[default]
    All,
    /// Those that were there at time zero.
    Initial,
    /// Those that came later.
    New,
}
