//! pick_first

use serde::{Deserialize, Serialize};

use super::Policy;

/// Settings of `pick_first`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PickFirstConfig {
    /// Shuffle the addresses before trying them (gRFC A62 `shuffleAddressList`).
    pub shuffle_address_list: bool,
}

impl PickFirstConfig {
    /// A fresh policy.
    pub fn build(&self) -> Box<dyn Policy> {
        todo!()
    }
}
