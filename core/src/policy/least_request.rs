//! least_request

use serde::{Deserialize, Serialize};

use super::Policy;

/// Settings of `least_request`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LeastRequestConfig {
    /// Endpoints compared per pick. gRFC A48 `choiceCount`: 2 by default, 2 to 10.
    pub choice_count: u32,
}

impl LeastRequestConfig {
    /// A fresh policy.
    pub fn build(&self) -> Box<dyn Policy> {
        todo!()
    }
}
