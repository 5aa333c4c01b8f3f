//! random

use serde::{Deserialize, Serialize};

use super::Policy;

/// Settings of `random`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RandomConfig {
}

impl RandomConfig {
    /// A fresh policy.
    pub fn build(&self) -> Box<dyn Policy> {
        todo!()
    }
}
