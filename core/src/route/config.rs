//! Routes as a scenario writes them: envoy.config.route.v3.Route, as far as gRPC clients support it (gRFC A28, A31, A44).

use serde::{Deserialize, Serialize};

use super::fault::FaultConfig;
use super::retry::RetryConfig;
use crate::Nanos;
use crate::limit::RateLimitConfig;
use crate::problems::{Problem, Problems};

/// One route: which requests it is for, where they go, and what surrounds them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RouteConfig {
    /// The route's name; events and reports refer to it.
    pub name: String,
    /// Which requests it is for. Empty matches everything; of several routes that match, the first wins.
    #[serde(default, rename = "match")]
    pub matches: MatchConfig,
    /// Where they go, and how many of them where: `[{ name = "v1", weight = 99 }, { name = "v2" }]`.
    pub clusters: Vec<ClusterWeight>,
    /// Longest time of a request with all its attempts; none by default. envoy.config.route.v3.RouteAction `timeout` (Envoy's
    /// own default is 15 s), gRFC A31 `max_stream_duration`.
    #[serde(default)]
    pub timeout: Option<Nanos>,
    /// Whether and how failed attempts are repeated. Not at all by default, as in Envoy.
    #[serde(default)]
    pub retry: Option<RetryConfig>,
    /// Delays and errors injected on purpose.
    #[serde(default)]
    pub fault: Option<FaultConfig>,
    /// How many requests are let through.
    #[serde(default)]
    pub rate_limit: Option<RateLimitConfig>,
}

/// Which requests a route is for. Everything given must hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MatchConfig {
    /// The whole path, such as "/shop.Cart/Add". envoy.config.route.v3.RouteMatch `path`.
    pub path: Option<String>,
    /// What the path begins with, such as "/shop.Cart/". envoy.config.route.v3.RouteMatch `prefix`.
    pub prefix: Option<String>,
    /// Conditions on request headers (gRPC's metadata).
    pub headers: Vec<HeaderMatch>,
    /// The part of the requests that match otherwise, 0 to 1; all by default. envoy.config.route.v3.RouteMatch
    /// `runtime_fraction`.
    pub fraction: Option<f64>,
}

/// A condition on one header. Exactly one of `exact`, `prefix`, `suffix`, `contains` and `present` says which.
///
/// Values are compared byte by byte; several values of one name are joined by commas.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HeaderMatch {
    /// The header's name, in lower case as HTTP/2 has it. One that ends in `-bin` counts as absent, as in gRPC.
    pub name: String,
    /// The whole value.
    #[serde(default)]
    pub exact: Option<String>,
    /// What the value begins with.
    #[serde(default)]
    pub prefix: Option<String>,
    /// What the value ends with.
    #[serde(default)]
    pub suffix: Option<String>,
    /// What is in the value.
    #[serde(default)]
    pub contains: Option<String>,
    /// Whether the header is there at all.
    #[serde(default)]
    pub present: Option<bool>,
    /// Turns the condition round. False, envoy.config.route.v3.HeaderMatcher `invert_match`. A header that is absent meets
    /// neither a condition on its value nor the opposite.
    #[serde(default)]
    pub invert: bool,
}

/// A cluster and its share of a route's requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClusterWeight {
    /// The cluster's name.
    pub name: String,
    /// Its share is this of the sum of the weights. 1 by default (our choice); 0 gets nothing.
    #[serde(default = "one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

impl RouteConfig {
    /// What is wrong beyond the shape, in the order of the fields.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        if self.name.trim().is_empty() {
            problems.add("name", "`name` is empty", "name the route; events and reports refer to it");
        }
        problems.part("match", self.matches.problems());
        self.clusters_problems(&mut problems);
        if self.timeout == Some(Nanos::ZERO) {
            problems.add("timeout", "`timeout` is 0s; no request could ever succeed", "leave it out for no limit");
        }
        if let Some(retry) = &self.retry {
            problems.part("retry", retry.problems());
            if let (Some(attempt), Some(timeout)) = (retry.per_attempt_timeout, self.timeout)
                && attempt > timeout
            {
                let rule = format!("`per_attempt_timeout` is {attempt}, longer than the route's `timeout` ({timeout})");
                problems.add("retry.per_attempt_timeout", rule, "the route's timeout is for all attempts together");
            }
        }
        if let Some(fault) = &self.fault {
            problems.part("fault", fault.problems());
        }
        if let Some(limit) = &self.rate_limit {
            problems.part("rate_limit", limit.problems());
        }
        problems.0
    }

    fn clusters_problems(&self, problems: &mut Problems) {
        if self.clusters.is_empty() {
            let rule = format!("route `{}` leads to no cluster", self.name);
            return problems.add("clusters", rule, "name one at least: `clusters = [{ name = \"v1\" }]`");
        }
        for (i, cluster) in self.clusters.iter().enumerate() {
            let path = format!("clusters.{i}.name");
            if cluster.name.trim().is_empty() {
                problems.add(&path, "`name` is empty", "name a cluster");
            } else if self.clusters[..i].iter().any(|c| c.name == cluster.name) {
                let rule = format!("cluster `{}` is in the list twice", cluster.name);
                problems.add(&path, rule, "keep one of the two, with the sum of their weights");
            }
        }
        let sum: u64 = self.clusters.iter().map(|c| u64::from(c.weight)).sum();
        if sum == 0 {
            problems.add("clusters", "the weights add up to 0", "let one cluster have a weight above 0");
        } else if sum > u64::from(u32::MAX) {
            // gRFC A28 and envoy.config.route.v3.WeightedCluster: the sum must fit an unsigned 32-bit number.
            let rule = format!("the weights add up to {sum}; they must add up to at most {}", u32::MAX);
            problems.add("clusters", rule, "only their ratio matters: divide them all by the same number");
        }
    }
}

impl MatchConfig {
    fn problems(&self) -> Problems {
        let mut problems = Problems::default();
        if self.path.is_some() && self.prefix.is_some() {
            let rule = "`path` and `prefix` are both given; a route looks at the path in one way";
            problems.add("prefix", rule, "keep one of the two");
        }
        for (key, path) in [("path", &self.path), ("prefix", &self.prefix)] {
            if path.as_ref().is_some_and(|path| !path.is_empty() && !path.starts_with('/')) {
                let rule = format!("`{key}` does not begin with a slash; no request's path would match");
                problems.add(key, rule, "write \"/package.Service/Method\", or \"/package.Service/\" as a prefix");
            }
        }
        if self.path.as_deref() == Some("") {
            problems.add("path", "`path` is empty; no request's path is", "leave it out to match every path");
        }
        for (i, header) in self.headers.iter().enumerate() {
            problems.part(&format!("headers.{i}"), header.problems());
        }
        if let Some(fraction) = self.fraction {
            problems.within("fraction", fraction, 0.0, 1.0, "0.01 is one request in a hundred");
        }
        problems
    }
}

impl HeaderMatch {
    fn problems(&self) -> Problems {
        let mut problems = Problems::default();
        if self.name.is_empty() {
            problems.add("name", "`name` is empty", "name the header, such as \"x-canary\"");
        } else if self.name.bytes().any(|b| b.is_ascii_uppercase()) {
            let hint = format!("write \"{}\"", self.name.to_ascii_lowercase());
            problems.add("name", format!("`{}` has capitals; names of HTTP/2 headers have none", self.name), hint);
        } else if self.name.ends_with("-bin") {
            let rule = format!("`{}` is a binary header; gRPC clients match none", self.name);
            problems.add("name", rule, "match a header whose name does not end in -bin");
        }
        let texts =
            [("exact", &self.exact), ("prefix", &self.prefix), ("suffix", &self.suffix), ("contains", &self.contains)];
        let given = texts.iter().filter(|(_, text)| text.is_some()).count() + usize::from(self.present.is_some());
        if given != 1 {
            let rule = format!("{given} conditions are given; a header match has exactly one");
            problems.add("", rule, "write one of exact, prefix, suffix, contains and present");
        }
        for (key, text) in &texts[1..] {
            if text.as_deref() == Some("") {
                problems.add(
                    key,
                    format!("`{key}` is empty; every value has that"),
                    "write `present = true` for any value",
                );
            }
        }
        problems
    }
}
