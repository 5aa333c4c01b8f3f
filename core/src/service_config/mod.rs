//! gRPC's service config: a channel's policy, retries and timeouts in gRPC's own JSON, read and written.
//!
//! **Solves** copying by hand: what a gRPC client runs with can be simulated as it is, and what was found to be better can be
//! pasted into that client.
//!
//! **Source**: grpc-proto service_config.proto, of which gRPC reads the JSON form. In `loadBalancingConfig` the first policy
//! that is known counts, even if its settings are wrong; if none is known, that is an error; fields that are not known are
//! ignored (as in C-core and grpc-go). So are message sizes and `connectionScaling`, which
//! the core does not model. Where implementations differ on errors, C-core's rule is taken.
//!
//! A service config has no clusters, headers, faults or rate limits: what of a route is not its path, timeout, retry or hedging
//! policy is in gRPC only with xDS. What can't be written is said in [`Written::missing`].
//!
//! ```
//! use lb_core::PolicyConfig;
//! use lb_core::service_config::ServiceConfig;
//!
//! let json = serde_json::json!({
//!     "loadBalancingConfig": [{ "least_request_experimental": { "choiceCount": 3 } }, { "round_robin": {} }],
//!     "methodConfig": [{ "name": [{ "service": "shop.Cart" }], "timeout": "0.500s" }],
//! });
//! let config = ServiceConfig::from_json(&json)?;
//! assert_eq!(config.policy.as_ref().map(PolicyConfig::name), Some("least_request"));
//! let written = config.to_json();
//! assert_eq!(written.json.unwrap()["loadBalancingConfig"], serde_json::json!([{ "least_request_experimental": { "choiceCount": 3 } }]));
//! assert_eq!(written.missing, [] as [&str; 0]);
//!
//! let wrong = serde_json::json!({ "loadBalancingConfig": [{ "least_request_experimental": { "choiceCount": 1 } }] });
//! assert_eq!(ServiceConfig::from_json(&wrong).unwrap_err().to_string(),
//!     "loadBalancingConfig[0].least_request_experimental: choiceCount: 1, must be >= 2");
//! # Ok::<(), lb_core::service_config::ServiceConfigError>(())
//! ```

mod fields;
mod methods;
mod policies;
mod proto_json;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use crate::PolicyConfig;
use crate::channel::ChannelConfig;
use crate::route::RouteConfig;
use crate::route::ThrottlingConfig;

pub use methods::{MethodConfig, MethodName};
pub use proto_json::duration;

use proto_json::Object;

/// A service config, as far as the core has its parts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServiceConfig {
    /// The policy: `loadBalancingConfig`, or else the older `loadBalancingPolicy`. gRPC takes `pick_first` for none.
    pub policy: Option<PolicyConfig>,
    /// Timeouts and retries by method. Of those that fit a request, the most specific counts.
    pub methods: Vec<MethodConfig>,
    /// One bucket of tokens for all methods: `retryThrottling`.
    pub retry_throttling: Option<ThrottlingConfig>,
    /// Servers are asked for the health of this service, "" for all of the server: `healthCheckConfig.serviceName`.
    pub health_check: Option<String>,
}

/// Why a service config is refused: where in the JSON, and which rule is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {rule}")]
pub struct ServiceConfigError {
    /// `methodConfig[0].retryPolicy`
    pub path: String,
    /// `maxAttempts: 1, must be >= 2`
    pub rule: String,
}

/// What gRPC's configuration is equivalent to ours, and what of ours is not in it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Written {
    /// Without what is missing. None if nothing is left: gRPC has no such policy.
    pub json: Option<Value>,
    /// What has no equivalent, one sentence each.
    pub missing: Vec<String>,
}

impl ServiceConfig {
    /// Reads the JSON that a resolver or an application gives a gRPC channel.
    ///
    /// # Errors
    ///
    /// What gRPC would refuse, at the first place.
    pub fn from_json(json: &Value) -> Result<Self, ServiceConfigError> {
        let root = Object::new("", json).map_err(|e| ServiceConfigError { path: "service config".into(), ..e })?;
        let retry_throttling = root.object("retryThrottling")?.map(|t| methods::throttling(&t)).transpose()?;
        let mut methods = MethodConfig::read_all(&root)?;
        for method in &mut methods {
            let retry = method.retry.as_mut().map(|retry| &mut retry.throttling);
            let hedge = method.hedge.as_mut().map(|hedge| &mut hedge.throttling);
            for throttling in retry.into_iter().chain(hedge) {
                throttling.clone_from(&retry_throttling);
            }
        }
        let health_check = match root.object("healthCheckConfig")? {
            Some(health) => health.text("serviceName")?.map(str::to_owned),
            None => None,
        };
        Ok(Self { policy: policy(&root)?, methods, retry_throttling, health_check })
    }

    /// The JSON that [`from_json`](Self::from_json) reads. What is as by default is left out.
    pub fn to_json(&self) -> Written {
        let mut json = Map::new();
        let mut missing = Vec::new();
        if let Some(policy) = &self.policy {
            let written = Self::policy_to_json(policy);
            missing.extend(written.missing);
            let Some(list) = written.json else { return Written { json: None, missing } };
            json.insert("loadBalancingConfig".into(), list);
        }
        if !self.methods.is_empty() {
            json.insert("methodConfig".into(), self.methods.iter().map(MethodConfig::to_json).collect());
        }
        if let Some(throttling) = &self.retry_throttling {
            json.insert("retryThrottling".into(), methods::throttling_to_json(throttling));
        }
        if let Some(service) = &self.health_check {
            json.insert("healthCheckConfig".into(), json!({ "serviceName": service }));
        }
        Written { json: Some(json.into()), missing }
    }

    /// Reads a policy as `loadBalancingConfig` holds it: a list of which the first that is known is taken.
    ///
    /// # Errors
    ///
    /// If none is known, or that one's settings are wrong.
    pub fn policy_from_json(list: &Value) -> Result<PolicyConfig, ServiceConfigError> {
        let path = "loadBalancingConfig";
        let rule = || ServiceConfigError { path: path.into(), rule: "is not an array".into() };
        policies::read(path, list.as_array().ok_or_else(rule)?)
    }

    /// The list that [`policy_from_json`](Self::policy_from_json) reads. A policy that gRPC does not have is left out if it is
    /// wrapped around one that gRPC has.
    pub fn policy_to_json(policy: &PolicyConfig) -> Written {
        policies::write(policy)
    }

    /// What gRPC's service config has of a channel and its routes, and what it has not.
    pub fn of(channel: &ChannelConfig, routes: &[RouteConfig]) -> (Self, Vec<String>) {
        let (methods, mut missing) = MethodConfig::of_routes(routes);
        let mut throttlings = routes.iter().filter_map(|route| match (&route.retry, &route.hedge) {
            (Some(retry), _) => Some(&retry.throttling),
            (None, Some(hedge)) => Some(&hedge.throttling),
            (None, None) => None,
        });
        let retry_throttling = throttlings.clone().flatten().next().cloned();
        if throttlings.any(|other| *other != retry_throttling) {
            missing.push("gRPC has one `retryThrottling` for all routes; theirs differ, the first is taken".into());
        }
        let health_check = channel.health_check.then(String::new);
        (Self { policy: Some(channel.policy.clone()), methods, retry_throttling, health_check }, missing)
    }

    /// The channel that has this policy, the rest as by default.
    pub fn channel(&self) -> ChannelConfig {
        let default = ChannelConfig::default();
        let policy = self.policy.clone().unwrap_or(default.policy);
        ChannelConfig { policy, health_check: self.health_check.is_some(), ..default }
    }

    /// The routes that give a cluster's requests these timeouts and retries, the most specific first.
    pub fn routes(&self, cluster: &str) -> Vec<RouteConfig> {
        MethodConfig::to_routes(&self.methods, cluster)
    }
}

/// `loadBalancingConfig`, or else `loadBalancingPolicy`: the policy's name in any case, for one that works without settings.
fn policy(root: &Object<'_>) -> Result<Option<PolicyConfig>, ServiceConfigError> {
    if let Some(list) = root.list("loadBalancingConfig")? {
        return policies::read("loadBalancingConfig", list).map(Some);
    }
    let Some(name) = root.text("loadBalancingPolicy")?.filter(|name| !name.is_empty()) else { return Ok(None) };
    let name = name.to_ascii_lowercase();
    // C-core's words; grpc-go takes `pick_first` for what it does not know.
    policies::read("", &[json!({ &name: {} })])
        .map(Some)
        .map_err(|_| root.error("loadBalancingPolicy", format_args!("unknown LB policy \"{name}\"")))
}
