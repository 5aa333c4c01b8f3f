//! `methodConfig`: timeouts and retries by method.
//!
//! gRPC takes the most specific entry for a request's method, then its service's, then the one for all, and nothing from the
//! others. Of routes the first that matches counts, so one that comes after a more general one is never reached, and is left
//! out.

use serde_json::{Map, Value, json};

use super::ServiceConfigError;
use super::fields::{self, Field, Kind, field};
use super::proto_json::{Object, duration};
use crate::Nanos;
use crate::route::{ClusterWeight, HedgeConfig, MatchConfig, RetryConfig, RouteConfig, ThrottlingConfig};

/// What holds for some methods.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MethodConfig {
    /// Which methods; none at all if it is empty.
    pub names: Vec<MethodName>,
    /// Longest time of a request, where the application sets no shorter one.
    pub timeout: Option<Nanos>,
    /// Whether requests wait for a connection while all attempts fail, where the application does not say.
    pub wait_for_ready: Option<bool>,
    /// How failed attempts are repeated. Throttling is the same for all of a service config.
    pub retry: Option<RetryConfig>,
    /// How requests are sent again before they are answered. Not beside `retry`.
    pub hedge: Option<HedgeConfig>,
}

/// A method; all of a service if `method` is empty, all there are if both are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MethodName {
    /// With its package: "shop.Cart".
    pub service: String,
    /// "Add".
    pub method: String,
}

/// grpc.service_config.MethodConfig.RetryPolicy; `perAttemptRecvTimeout` is C-core's and grpc-java's (experimental).
const RETRY_POLICY: &[Field] = &[
    field("max_attempts", "maxAttempts", Kind::Count),
    field("initial_backoff", "initialBackoff", Kind::Duration),
    field("max_backoff", "maxBackoff", Kind::Duration),
    field("backoff_multiplier", "backoffMultiplier", Kind::Number),
    field("retryable_status_codes", "retryableStatusCodes", Kind::Codes),
    field("per_attempt_timeout", "perAttemptRecvTimeout", Kind::Duration),
];
/// grpc.service_config.MethodConfig.HedgingPolicy
const HEDGING_POLICY: &[Field] = &[
    field("max_attempts", "maxAttempts", Kind::Count),
    field("hedging_delay", "hedgingDelay", Kind::Duration),
    field("non_fatal_status_codes", "nonFatalStatusCodes", Kind::Codes),
];
const REQUIRED: &[&str] = &["maxAttempts", "initialBackoff", "maxBackoff", "backoffMultiplier", "retryableStatusCodes"];
/// gRFC A6: more are treated as 5.
const MOST_ATTEMPTS: u64 = 5;

/// grpc.service_config.ServiceConfig.RetryThrottlingPolicy
const THROTTLING: &[Field] =
    &[field("max_tokens", "maxTokens", Kind::Count), field("token_ratio", "tokenRatio", Kind::Number)];

impl MethodConfig {
    pub(super) fn read_all(root: &Object<'_>) -> Result<Vec<Self>, ServiceConfigError> {
        let entries = root.list("methodConfig")?.unwrap_or_default().iter().enumerate();
        let methods = entries.map(|(i, entry)| Self::read(&Object::new(format!("methodConfig[{i}]"), entry)?));
        let methods: Vec<Self> = methods.collect::<Result<_, _>>()?;
        let mut names: Vec<&MethodName> = Vec::new();
        for (i, method) in methods.iter().enumerate() {
            for (j, name) in method.names.iter().enumerate() {
                if names.contains(&name) {
                    // C-core's words, service_config_impl.cc.
                    let rule = format!("multiple method configs for path {}", name.path());
                    return Err(ServiceConfigError { path: format!("methodConfig[{i}].name[{j}]"), rule });
                }
                names.push(name);
            }
        }
        Ok(methods)
    }

    fn read(config: &Object<'_>) -> Result<Self, ServiceConfigError> {
        let names = config.list("name")?.unwrap_or_default().iter().enumerate();
        let names = names.map(|(i, name)| {
            let name = Object::new(config.at(&format!("name[{i}]")), name)?;
            let text = |field| Ok(name.text(field)?.unwrap_or_default().to_owned());
            let (service, method): (String, String) = (text("service")?, text("method")?);
            if service.is_empty() && !method.is_empty() {
                return Err(name.whole("method name populated without service name"));
            }
            Ok(MethodName { service, method })
        });
        // gRFC A6: "a service config … cannot contain both".
        if config.get("retryPolicy").is_some() && config.get("hedgingPolicy").is_some() {
            return Err(config.error("hedgingPolicy", "both retryPolicy and hedgingPolicy are present"));
        }
        Ok(Self {
            names: names.collect::<Result<_, _>>()?,
            timeout: config.duration("timeout")?,
            wait_for_ready: config.bool("waitForReady")?,
            retry: config.object("retryPolicy")?.map(|policy| retry(&policy)).transpose()?,
            hedge: config.object("hedgingPolicy")?.map(|policy| hedge(&policy)).transpose()?,
        })
    }

    pub(super) fn to_json(&self) -> Value {
        let mut json = Map::new();
        json.insert("name".into(), self.names.iter().map(MethodName::to_json).collect());
        json.extend(self.timeout.map(|timeout| ("timeout".into(), duration(timeout).into())));
        json.extend(self.wait_for_ready.map(|wait| ("waitForReady".into(), wait.into())));
        json.extend(self.retry.as_ref().map(|retry| {
            // All fields are required, so all are written.
            let (policy, _) = fields::write(settings(retry), RETRY_POLICY);
            ("retryPolicy".into(), policy.into())
        }));
        json.extend(self.hedge.as_ref().map(|hedge| {
            let (policy, _) = fields::write(settings(hedge), HEDGING_POLICY);
            ("hedgingPolicy".into(), policy.into())
        }));
        json.into()
    }

    /// What routes say of methods, and what of them is not about methods.
    pub(super) fn of_routes(routes: &[RouteConfig]) -> (Vec<Self>, Vec<String>) {
        let mut methods: Vec<Self> = Vec::new();
        let mut missing = Vec::new();
        for route in routes {
            let mut lacks = |what: &str| missing.push(format!("route `{}`: {what}", route.name));
            let Some(name) = MethodName::of(&route.matches) else {
                lacks("gRPC's `methodConfig` goes by a whole service or method name, and by nothing else");
                continue;
            };
            if methods.iter().flat_map(|method| &method.names).any(|earlier| earlier.includes(&name)) {
                lacks("a route before it takes all of its requests");
                continue;
            }
            if route.clusters.len() > 1 {
                lacks("shares of clusters are in gRPC only with xDS");
            }
            for (given, what) in [
                (route.fault.is_some(), "faults are in gRPC only with xDS (A33)"),
                (route.rate_limit.is_some(), "rate limits are not in gRPC's clients"),
                (!route.hash_policy.is_empty(), "`hash_policy` is in gRPC only with xDS (A42)"),
            ] {
                if given {
                    lacks(what);
                }
            }
            if let Some(retry) = &route.retry {
                if retry.budget.is_some() {
                    lacks("a retry `budget` is not in gRPC, which has `retryThrottling`");
                }
                if retry.per_attempt_timeout.is_some() {
                    lacks("`perAttemptRecvTimeout` is experimental: C-core and grpc-java read it, others ignore it");
                }
            }
            if route.hedge.as_ref().is_some_and(|hedge| hedge.budget.is_some()) {
                lacks("a `budget` of hedges is not in gRPC, which has `retryThrottling`");
            }
            let retry = route.retry.clone().map(|retry| RetryConfig { budget: None, ..retry });
            let hedge = route.hedge.clone().map(|hedge| HedgeConfig { budget: None, ..hedge });
            methods.push(Self { names: vec![name], timeout: route.timeout, wait_for_ready: None, retry, hedge });
        }
        // An entry that says nothing is there to keep a more general one, which comes after it, from its requests.
        let says = |method: &Self| method.timeout.is_some() || method.retry.is_some() || method.hedge.is_some();
        let last = methods.iter().rposition(says).map_or(0, |last| last + 1);
        methods.truncate(last);
        (methods, missing)
    }

    /// The routes of these methods to one cluster.
    pub(super) fn to_routes(methods: &[Self], cluster: &str) -> Vec<RouteConfig> {
        let mut named: Vec<(&MethodName, &Self)> =
            methods.iter().flat_map(|method| method.names.iter().map(move |name| (name, method))).collect();
        // A method, before its service, before everything.
        named.sort_by_key(|(name, _)| (name.method.is_empty(), name.service.is_empty()));
        let route = |(name, method): &(&MethodName, &Self)| RouteConfig {
            name: name.path(),
            matches: name.matches(),
            clusters: vec![ClusterWeight { name: cluster.to_owned(), weight: 1 }],
            timeout: method.timeout,
            retry: method.retry.clone(),
            hedge: method.hedge.clone(),
            fault: None,
            rate_limit: None,
            hash_policy: Vec::new(),
        };
        named.iter().map(route).collect()
    }
}

impl MethodName {
    /// Of a route that looks at nothing but a whole method, a whole service, or nothing.
    fn of(matches: &MatchConfig) -> Option<Self> {
        let name = |path: &str| {
            let (service, method) = path.strip_prefix('/')?.split_once('/')?;
            let name = Self { service: service.to_owned(), method: method.to_owned() };
            (!service.is_empty() && !method.contains('/')).then_some(name)
        };
        if !matches.headers.is_empty() || matches.fraction.is_some_and(|fraction| fraction < 1.0) {
            return None;
        }
        match (matches.path.as_deref(), matches.prefix.as_deref()) {
            (Some(path), _) => name(path).filter(|name| !name.method.is_empty()),
            (None, None | Some("" | "/")) => Some(Self::default()),
            (None, Some(prefix)) => name(prefix).filter(|name| name.method.is_empty()),
        }
    }

    /// Whether every request of `other` is one of this.
    fn includes(&self, other: &Self) -> bool {
        self.service.is_empty()
            || (self.service == other.service && (self.method.is_empty() || self.method == other.method))
    }

    fn matches(&self) -> MatchConfig {
        let (path, prefix) = match (self.service.is_empty(), self.method.is_empty()) {
            (true, _) => (None, None),
            (false, true) => (None, Some(self.path())),
            (false, false) => (Some(self.path()), None),
        };
        MatchConfig { path, prefix, ..MatchConfig::default() }
    }

    /// "/shop.Cart/Add", "/shop.Cart/" or "/"
    fn path(&self) -> String {
        if self.service.is_empty() { "/".to_owned() } else { format!("/{}/{}", self.service, self.method) }
    }

    fn to_json(&self) -> Value {
        let Self { service, method } = self;
        match (service.is_empty(), method.is_empty()) {
            (true, _) => json!({}),
            (false, true) => json!({ "service": service }),
            (false, false) => json!({ "service": service, "method": method }),
        }
    }
}

/// The rules are those of gRPC's implementations, which are fewer than [`RouteConfig::problems`].
fn retry(policy: &Object<'_>) -> Result<RetryConfig, ServiceConfigError> {
    if let Some(field) = REQUIRED.iter().find(|field| policy.get(field).is_none()) {
        return Err(policy.error(field, "field not present"));
    }
    let mut settings = fields::read(policy, RETRY_POLICY)?;
    let attempts = policy.count("maxAttempts")?.unwrap_or(0);
    if attempts < 2 {
        return Err(policy.error("maxAttempts", format_args!("{attempts}, must be >= 2")));
    }
    settings.insert("max_attempts".to_owned(), attempts.min(MOST_ATTEMPTS).into());
    for field in ["initialBackoff", "maxBackoff", "perAttemptRecvTimeout"] {
        if policy.duration(field)? == Some(Nanos::ZERO) {
            return Err(policy.error(field, "0s, must be > 0s"));
        }
    }
    if let Some(multiplier) = policy.number("backoffMultiplier")?.filter(|multiplier| *multiplier <= 0.0) {
        return Err(policy.error("backoffMultiplier", format_args!("{multiplier}, must be > 0")));
    }
    if policy.list("retryableStatusCodes")?.is_some_and(<[Value]>::is_empty) {
        return Err(policy.error("retryableStatusCodes", "must be non-empty"));
    }
    serde_json::from_value(settings.into()).map_err(|error| policy.whole(error))
}

/// The same for hedging.
fn hedge(policy: &Object<'_>) -> Result<HedgeConfig, ServiceConfigError> {
    if policy.get("maxAttempts").is_none() {
        return Err(policy.error("maxAttempts", "field not present"));
    }
    let mut settings = fields::read(policy, HEDGING_POLICY)?;
    let attempts = policy.count("maxAttempts")?.unwrap_or(0);
    if attempts < 2 {
        return Err(policy.error("maxAttempts", format_args!("{attempts}, must be >= 2")));
    }
    settings.insert("max_attempts".to_owned(), attempts.min(MOST_ATTEMPTS).into());
    serde_json::from_value(settings.into()).map_err(|error| policy.whole(error))
}

pub(super) fn throttling(policy: &Object<'_>) -> Result<ThrottlingConfig, ServiceConfigError> {
    for Field { theirs, .. } in THROTTLING {
        if policy.get(theirs).is_none() {
            return Err(policy.error(theirs, "field not present"));
        }
    }
    let tokens = policy.count("maxTokens")?.unwrap_or(0);
    if !(1..=1000).contains(&tokens) {
        return Err(policy.error("maxTokens", format_args!("{tokens}, must be in (0, 1000]")));
    }
    if let Some(ratio) = policy.number("tokenRatio")?.filter(|ratio| *ratio <= 0.0) {
        return Err(policy.error("tokenRatio", format_args!("{ratio}, must be > 0")));
    }
    serde_json::from_value(fields::read(policy, THROTTLING)?.into()).map_err(|error| policy.whole(error))
}

pub(super) fn throttling_to_json(throttling: &ThrottlingConfig) -> Value {
    fields::write(settings(throttling), THROTTLING).0.into()
}

/// Settings by name, in a scenario's form.
fn settings(config: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(settings)) => settings,
        _ => Map::new(),
    }
}
