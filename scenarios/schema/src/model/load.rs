//! Who calls whom, and how much.

use std::collections::BTreeMap;

use lb_core::Nanos;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::Rate;

/// Who calls whom, and how much. Loads of the same pods to the same service share a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Its name in expectations and in the report; that of the service by default.
    #[serde(default)]
    pub name: Option<String>,
    /// Deployment whose pods call.
    pub from: String,
    /// Service they call.
    pub to: String,
    /// The method, as routes see it: `:path` of the request.
    #[serde(default = "hello")]
    pub path: String,
    /// Request headers (gRPC metadata), as routes see them.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Whom each request is for, as a header that hashing policies go by; also the session that it belongs to. Without keys all
    /// requests of a client pod are one session.
    #[serde(default)]
    pub keys: Option<Keys>,
    /// Batches of concurrent requests: send n, wait for all, repeat. Either this or `open`.
    #[serde(default)]
    pub closed: Option<Closed>,
    /// Requests that arrive whether or not earlier ones are answered. Either this or `closed`.
    #[serde(default)]
    pub open: Option<Open>,
    /// Whether a client keeps its connections or makes one per request.
    #[serde(default)]
    pub connection: ConnectionUse,
    /// Deadline of a request; none by default, as in gRPC.
    #[serde(default)]
    pub deadline: Option<Nanos>,
    /// Part of its requests that are to succeed, the service level objective; the rest is the error budget. 0.999, our choice.
    #[serde(default = "three_nines")]
    pub slo: f64,
}

impl Load {
    /// Its name, by default that of the service.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.to)
    }
}

/// `keys = { header = "x-user", population = 10000, zipf = 1.0 }`: each request carries the header, with one of so many values
/// ("0", "1", …). The same requests carry the same values under every strategy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The header's name.
    pub header: String,
    /// How many values there are.
    pub population: u32,
    /// How unequal they are: value k comes in proportion to 1 / (k + 1)^zipf. 0: all are as frequent. 1 is what caches and
    /// catalogues see (Zipf's law).
    #[serde(default)]
    pub zipf: f64,
}

/// A closed loop: each client pod sends a batch, waits for all answers, and starts again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// Requests of a batch.
    pub concurrency: u32,
    /// Pause between batches.
    #[serde(default)]
    pub pause: Nanos,
}

/// An open loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// Requests of each client pod per second: "500/s".
    pub rate: Rate,
    /// How they are spaced.
    #[serde(default)]
    pub arrivals: Arrivals,
}

/// Spacing of an open loop's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Exponential gaps: independent callers.
    #[default]
    Poisson,
    /// Equal gaps.
    Constant,
}

/// Whether a client keeps its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionUse {
    /// One channel for the life of the client pod, as gRPC recommends.
    #[default]
    Shared,
    /// A new channel, name look-up and connection for every request.
    PerRequest,
}

fn hello() -> String {
    "/hello.Hello/Say".into()
}
fn three_nines() -> f64 {
    0.999
}
