//! Settings of hedging, with the names and defaults of gRFC A6.

use serde::{Deserialize, Serialize};

use crate::problems::Problems;
use crate::route::restraint::{BudgetConfig, ThrottlingConfig};
use crate::route::retry::{MOST_ATTEMPTS, codes_problems};
use crate::{Code, Nanos};

/// How a request is sent again before its first attempt has answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HedgeConfig {
    /// Attempts of a request, the first included: 2 to 5 (gRFC A6 `maxAttempts`, which has no default). 2 by default (our
    /// choice: "The Tail at Scale" sends a second one).
    pub max_attempts: u32,
    /// Time without an answer after which another attempt is sent. 0 by default, gRFC A6 `hedgingDelay`: all at once. The 95th
    /// percentile of latency adds about 5 % to the load.
    pub hedging_delay: Nanos,
    /// Which codes do not end the request: another attempt is sent at once. None by default, gRFC A6 `nonFatalStatusCodes`.
    pub non_fatal_status_codes: Vec<Code>,
    /// Limits hedges to a part of the requests that are going on. None by default: gRPC has none, Envoy's hedges come out of
    /// its retry budget.
    pub budget: Option<BudgetConfig>,
    /// Stops hedges while too much fails. None by default, as in gRPC.
    pub throttling: Option<ThrottlingConfig>,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self {
            max_attempts: 2,
            hedging_delay: Nanos::ZERO,
            non_fatal_status_codes: Vec::new(),
            budget: None,
            throttling: None,
        }
    }
}

impl HedgeConfig {
    pub(in crate::route) fn problems(&self) -> Problems {
        let mut problems = Problems::default();
        let hint = "gRPC does at most 5; the first attempt is one of them";
        problems.within("max_attempts", self.max_attempts, 2, MOST_ATTEMPTS, hint);
        codes_problems(&mut problems, "non_fatal_status_codes", &self.non_fatal_status_codes, "non-fatal");
        if let Some(budget) = &self.budget {
            problems.part("budget", budget.problems());
        }
        if let Some(throttling) = &self.throttling {
            problems.part("throttling", throttling.problems());
        }
        problems
    }
}
