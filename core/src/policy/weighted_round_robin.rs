//! weighted_round_robin

use serde::{Deserialize, Serialize};

use super::Policy;

/// Settings of `weighted_round_robin`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WeightedRoundRobinConfig {
}

impl WeightedRoundRobinConfig {
    /// A fresh policy.
    pub fn build(&self) -> Box<dyn Policy> {
        todo!()
    }
}
