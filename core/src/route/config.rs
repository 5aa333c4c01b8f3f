//! Routes as a scenario writes them: envoy.config.route.v3.Route, as far as gRPC clients support it (gRFC A28, A31, A44), and hedging (A6).

use serde::{Deserialize, Serialize};

use super::fault::FaultConfig;
use super::hash::HashPolicyConfig;
use super::hedge::HedgeConfig;
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
    /// Whether and when a request is sent again before its attempts have answered: `{ max_attempts = 3, hedging_delay = "20ms" }`.
    /// Not at all by default, and never together with `retry` (gRFC A6).
    #[serde(default)]
    pub hedge: Option<HedgeConfig>,
    /// Delays and errors injected on purpose.
    #[serde(default)]
    pub fault: Option<FaultConfig>,
    /// How many requests are let through.
    #[serde(default)]
    pub rate_limit: Option<RateLimitConfig>,
    /// Which requests belong together, for policies that go by a hash. None by default: `ring_hash` and `maglev` then draw one
    /// at random for each request.
    #[serde(default)]
    pub hash_policy: Vec<HashPolicyConfig>,
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
        if let Some(hedge) = &self.hedge {
            if self.retry.is_some() {
                let rule = "`retry` and `hedge` are both given; a route can't have both";
                problems.add(
                    "hedge",
                    rule,
                    "keep one of the two: a hedge repeats failed attempts too, at once (gRFC A6)",
                );
            }
            problems.part("hedge", hedge.problems());
        }
        if let Some(fault) = &self.fault {
            problems.part("fault", fault.problems());
        }
        if let Some(limit) = &self.rate_limit {
            problems.part("rate_limit", limit.problems());
        }
        for (i, rule) in self.hash_policy.iter().enumerate() {
            problems.part(&format!("hash_policy.{i}"), rule.problems());
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The problems of a route of this text, each in one line.
    fn problems(toml: &str) -> Vec<String> {
        let config: RouteConfig = toml::from_str(toml).unwrap();
        config.problems().into_iter().map(|(path, rule, _)| format!("{path}: {rule}")).collect()
    }

    #[test]
    fn a_sound_route_has_none() {
        let toml = r#"
            name = "cart"
            match = { prefix = "/shop.Cart/", headers = [{ name = "x-tester", present = true }], fraction = 0.5 }
            clusters = [{ name = "v1", weight = 99 }, { name = "v2" }, { name = "v3", weight = 0 }]
            timeout = "1s"
            retry = { max_attempts = 3, per_attempt_timeout = "300ms", budget = {}, throttling = { max_tokens = 10, token_ratio = 0.1 } }
            fault = { delay = { percentage = 1.5, fixed_delay = "100ms" }, abort = { percentage = 1, header = true } }
            rate_limit = { local = { max_tokens = 10, fill_interval = "1s" } }
        "#;
        assert_eq!(problems(toml), [""; 0]);
        let config: RouteConfig = toml::from_str(toml).unwrap();
        assert_eq!(config.clusters[1].weight, 1);
        let json = serde_json::to_value(&config).unwrap();
        assert_eq!(json["retry"]["retryable_status_codes"], serde_json::json!(["UNAVAILABLE"]));
        assert_eq!(serde_json::from_value::<RouteConfig>(json).unwrap(), config, "what is written is read again");
    }

    #[test]
    fn every_problem_has_its_place() {
        let toml = r#"
            name = " "
            match = { path = "a", prefix = "/b", headers = [{ name = "X-A", exact = "1", prefix = "2" }, { name = "x-bin" }, { name = "y", suffix = "" }], fraction = 1.5 }
            clusters = [{ name = "v1", weight = 0 }, { name = "v1", weight = 0 }]
            timeout = "0s"
            retry = { max_attempts = 6, retryable_status_codes = ["INTERNAL", "OK"], initial_backoff = "1s", backoff_multiplier = 0.5, per_attempt_timeout = "1s", budget = { budget_percent = 101 }, throttling = { max_tokens = 0, token_ratio = nan } }
            fault = { max_active_faults = 0, abort = { percentage = -1, grpc_status = "INTERNAL", header = true }, delay = { percentage = 101 } }
            rate_limit = { local = { max_tokens = 0, tokens_per_fill = 0, fill_interval = "49ms" }, global = { service = "", requests_per_unit = 1, unit = "day", timeout = "0s" } }
        "#;
        assert_eq!(
            problems(toml),
            [
                "name: `name` is empty",
                "match.prefix: `path` and `prefix` are both given; a route looks at the path in one way",
                "match.path: `path` does not begin with a slash; no request's path would match",
                "match.headers.0.name: `X-A` has capitals; names of HTTP/2 headers have none",
                "match.headers.0: 2 conditions are given; a header match has exactly one",
                "match.headers.1.name: `x-bin` is a binary header; gRPC clients match none",
                "match.headers.1: 0 conditions are given; a header match has exactly one",
                "match.headers.2.suffix: `suffix` is empty; every value has that",
                "match.fraction: `fraction` is 1.5; it must be from 0 to 1",
                "clusters.1.name: cluster `v1` is in the list twice",
                "clusters: the weights add up to 0",
                "timeout: `timeout` is 0s; no request could ever succeed",
                "retry.max_attempts: `max_attempts` is 6; it must be from 2 to 5",
                "retry.retryable_status_codes.1: OK is not an error; it can't be retried",
                "retry.max_backoff: `max_backoff` is 250ms, shorter than the first pause (1s)",
                "retry.backoff_multiplier: `backoff_multiplier` is 0.5; it must be from 1 to 1000",
                "retry.budget.budget_percent: `budget_percent` is 101; it must be from 0 to 100",
                "retry.throttling.max_tokens: `max_tokens` is 0; it must be from 1 to 1000",
                "retry.throttling.token_ratio: `token_ratio` is NaN; it must be from 0.001 to 1000",
                "retry.per_attempt_timeout: `per_attempt_timeout` is 1s, longer than the route's `timeout` (0s)",
                "fault.abort.percentage: `percentage` is -1; it must be from 0 to 100",
                "fault.abort: an abort has either a `grpc_status` or `header = true`",
                "fault.delay.percentage: `percentage` is 101; it must be from 0 to 100",
                "fault.delay: a delay has either a `fixed_delay` or `header = true`",
                "fault.max_active_faults: `max_active_faults` is 0; no fault could ever be injected",
                "rate_limit.local.max_tokens: `max_tokens` is 0; it must be at least 1",
                "rate_limit.local.tokens_per_fill: `tokens_per_fill` is 0; it must be at least 1",
                "rate_limit.local.fill_interval: `fill_interval` is 49ms; it must be at least 50ms",
                "rate_limit.global.service: `service` is empty",
                "rate_limit.global.timeout: `timeout` is 0s; no answer could ever come in time",
            ]
        );
    }

    #[test]
    fn a_route_is_retried_or_hedged() {
        let toml = "name = 'a'\nclusters = [{ name = 'v1' }]\nhedge = { max_attempts = 3, hedging_delay = '20ms', \
                    non_fatal_status_codes = ['UNAVAILABLE'], budget = {} }";
        assert_eq!(problems(toml), [""; 0]);
        assert_eq!(
            problems(&format!("{toml}\nretry = {{}}")),
            ["hedge: `retry` and `hedge` are both given; a route can't have both"]
        );
        let toml = "name = 'a'\nclusters = [{ name = 'v1' }]\nhedge = { max_attempts = 1, non_fatal_status_codes = ['OK'], \
                    budget = { budget_percent = -1 }, throttling = { max_tokens = 1001, token_ratio = 0 } }";
        assert_eq!(
            problems(toml),
            [
                "hedge.max_attempts: `max_attempts` is 1; it must be from 2 to 5",
                "hedge.non_fatal_status_codes.0: OK is not an error; it can't be non-fatal",
                "hedge.budget.budget_percent: `budget_percent` is -1; it must be from 0 to 100",
                "hedge.throttling.max_tokens: `max_tokens` is 1001; it must be from 1 to 1000",
                "hedge.throttling.token_ratio: `token_ratio` is 0; it must be from 0.001 to 1000",
            ]
        );
    }

    #[test]
    fn what_leads_nowhere_or_nowhere_new_is_reported() {
        assert_eq!(problems("name = 'a'\nclusters = []"), ["clusters: route `a` leads to no cluster"]);
        let heavy = "clusters = [{ name = 'v1', weight = 4294967295 }, { name = 'v2' }]";
        let rule = "clusters: the weights add up to 4294967296; they must add up to at most 4294967295";
        assert_eq!(problems(&format!("name = 'a'\n{heavy}")), [rule]);
        let empty = "name = 'a'\nclusters = [{ name = 'v1' }]\nfault = {}\nrate_limit = {}";
        assert_eq!(
            problems(empty),
            [
                "fault: neither `abort` nor `delay` is given; there is no fault",
                "rate_limit: neither `local` nor `global` is given; there is no limit",
            ]
        );
    }
}
