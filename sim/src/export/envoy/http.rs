//! What Envoy does with a request: the listeners' connection manager, its routes and its filters.

use lb_core::limit::{GlobalLimitConfig, RateLimitConfig};
use lb_core::route::fault::FaultConfig;
use lb_core::route::{HeaderMatch, MatchConfig, RouteConfig};
use lb_core::service_config::duration;
use scenarios::Balancer;
use serde_json::{Map, Value, json};

use super::super::{Subject, retry_notes, retry_on};
use super::{PROXY_PORT, message, socket, typed};

const FAULT: &str = "envoy.filters.http.fault";
const LOCAL_LIMIT: &str = "envoy.filters.http.local_ratelimit";
const GLOBAL_LIMIT: &str = "envoy.filters.http.ratelimit";

/// The routes of a strategy, and what they have in common.
pub(super) struct Http<'a> {
    subject: &'a Subject<'a>,
    routes: Vec<RouteConfig>,
    /// gRPC clients read the routes, not Envoy.
    proxyless: bool,
}

impl<'a> Http<'a> {
    pub(super) fn new(subject: &'a Subject<'a>, notes: &mut Vec<String>) -> Self {
        let proxyless = subject.strategy.balancer == Balancer::Client;
        let mut routes = subject.strategy.routes.clone();
        for route in routes.iter_mut().filter(|_| proxyless) {
            let mut lacks = |what: &str| notes.push(format!("route `{}`: {what}", route.name));
            // A filter that it does not know makes a gRPC client refuse the listener (gRFC A39).
            if route.rate_limit.take().is_some() {
                lacks("rate limits are not in gRPC's clients");
            }
            if route.retry.as_mut().is_some_and(|retry| retry.per_attempt_timeout.take().is_some()) {
                lacks("`per_attempt_timeout` is not in gRPC's xDS (A44)");
            }
            if route.retry.as_mut().is_some_and(|retry| retry.budget.take().is_some()) {
                lacks("a retry `budget` is not in gRPC");
            }
        }
        Self { subject, routes, proxyless }
    }

    /// The limit that is a service's to keep: of several the first.
    pub(super) fn global_limit(&self) -> Option<&GlobalLimitConfig> {
        self.limits().find_map(|limit| limit.global.as_ref())
    }

    fn limits(&self) -> impl Iterator<Item = &RateLimitConfig> {
        self.routes.iter().filter_map(|route| route.rate_limit.as_ref())
    }

    pub(super) fn listeners(&self, notes: &mut Vec<String>) -> Value {
        let manager = self.connection_manager(notes);
        if self.proxyless {
            // gRFC A27: a client of xds:///server asks for the listener of that name.
            let listener =
                |name: &String| json!({ "name": name, "api_listener": { "api_listener": manager["typed_config"] } });
            return self.subject.called().iter().map(|service| listener(&service.name)).collect();
        }
        let within_pod = matches!(self.subject.strategy.balancer, Balancer::Sidecar | Balancer::Mesh);
        let address = socket(if within_pod { "127.0.0.1" } else { "0.0.0.0" }, PROXY_PORT);
        json!([{ "name": "calls", "address": address, "filter_chains": [{ "filters": [manager] }] }])
    }

    fn connection_manager(&self, notes: &mut Vec<String>) -> Value {
        let called = self.subject.called();
        let virtual_hosts: Value = if self.routes.is_empty() {
            let host = |name: &String| {
                let domains = match called.len() {
                    1 => json!(["*"]),
                    _ => json!([name, format!("{name}:*"), format!("{name}.*")]),
                };
                let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": name, "timeout": "0s" } });
                json!({ "name": name, "domains": domains, "routes": [route] })
            };
            called.iter().map(|service| host(&service.name)).collect()
        } else {
            let routes: Value = self.routes.iter().map(|route| self.route(route, notes)).collect();
            json!([{ "name": "all", "domains": ["*"], "routes": routes }])
        };
        let mut manager = json!({
            "stat_prefix": "calls",
            "route_config": { "name": "routes", "virtual_hosts": virtual_hosts },
            "http_filters": self.filters(),
        });
        let proxy = self.subject.proxy;
        if let (Some(age), false) = (proxy.max_age, self.proxyless) {
            manager["common_http_protocol_options"] = json!({ "max_connection_duration": duration(age) });
            if proxy.max_age_jitter != Some(0.0) {
                notes.push("`proxy.max_age_jitter`: Envoy's `max_connection_duration` has none".into());
            }
            if proxy.max_age_grace.is_some() {
                notes
                    .push("`proxy.max_age_grace`: Envoy lets requests in flight finish, however long they take".into());
            }
        }
        let name = "filters.network.http_connection_manager";
        typed(&format!("envoy.{name}"), &format!("{name}.v3.HttpConnectionManager"), manager)
    }

    /// The filters that some route uses; what they do is said there.
    fn filters(&self) -> Value {
        let mut filters = Vec::new();
        if self.routes.iter().any(|route| route.fault.is_some()) {
            filters.push(typed(FAULT, "filters.http.fault.v3.HTTPFault", json!({})));
        }
        if self.limits().any(|limit| limit.local.is_some()) {
            let none = json!({ "stat_prefix": "local" });
            filters.push(typed(LOCAL_LIMIT, "filters.http.local_ratelimit.v3.LocalRateLimit", none));
        }
        if let Some(global) = self.global_limit() {
            let service = json!({ "envoy_grpc": { "cluster_name": global.service } });
            let mut fields = json!({
                "domain": global.service,
                "timeout": duration(global.timeout),
                "rate_limit_service": { "grpc_service": service, "transport_api_version": "V3" },
            });
            if global.failure_mode_deny {
                fields["failure_mode_deny"] = true.into();
            }
            if self.limits().any(|limit| limit.global.is_some() && limit.rate_limited_as_resource_exhausted) {
                fields["rate_limited_as_resource_exhausted"] = true.into();
            }
            filters.push(typed(GLOBAL_LIMIT, "filters.http.ratelimit.v3.RateLimit", fields));
        }
        filters.push(typed("envoy.filters.http.router", "filters.http.router.v3.Router", json!({})));
        filters.into()
    }

    fn route(&self, route: &RouteConfig, notes: &mut Vec<String>) -> Value {
        let name = &route.name;
        let mut action = json!({
            // Envoy's own is 15 s.
            "timeout": route.timeout.map_or_else(|| "0s".to_owned(), duration),
        });
        match route.clusters.as_slice() {
            [only] => action["cluster"] = only.name.as_str().into(),
            several => {
                let clusters = several.iter().map(|cluster| json!({ "name": cluster.name, "weight": cluster.weight }));
                action["weighted_clusters"] = json!({ "clusters": clusters.collect::<Value>() });
            }
        }
        if let (Some(timeout), true) = (route.timeout, self.proxyless) {
            // gRFC A31: what gRPC looks at.
            action["max_stream_duration"] = json!({ "max_stream_duration": duration(timeout) });
        }
        if let Some(retry) = &route.retry {
            retry_notes(name, retry, notes);
            let (base, max) = (duration(retry.initial_backoff), duration(retry.max_backoff));
            let mut policy = json!({
                "retry_on": retry_on(name, retry, notes),
                "num_retries": retry.max_attempts.saturating_sub(1),
                "retry_back_off": { "base_interval": base, "max_interval": max },
            });
            if let Some(timeout) = retry.per_attempt_timeout {
                policy["per_try_timeout"] = duration(timeout).into();
            }
            action["retry_policy"] = policy;
        }
        if !route.hash_policy.is_empty() {
            let rules = route.hash_policy.iter().map(|rule| {
                let mut json = match &rule.header {
                    Some(header) => json!({ "header": { "header_name": header } }),
                    None => json!({ "connection_properties": { "source_ip": true } }),
                };
                if rule.terminal {
                    json["terminal"] = true.into();
                }
                json
            });
            action["hash_policy"] = rules.collect();
        }
        let mut filters = Map::new();
        if let Some(fault) = &route.fault {
            filters.insert(FAULT.into(), message("filters.http.fault.v3.HTTPFault", to_fault(fault)));
        }
        if let Some(limit) = &route.rate_limit {
            if let Some(local) = &limit.local {
                let all = json!({ "default_value": fraction(1.0) });
                let mut fields = json!({
                    "stat_prefix": name,
                    "token_bucket": {
                        "max_tokens": local.max_tokens,
                        "tokens_per_fill": local.tokens_per_fill,
                        "fill_interval": duration(local.fill_interval),
                    },
                    "filter_enabled": all,
                    "filter_enforced": all,
                });
                if limit.rate_limited_as_resource_exhausted {
                    fields["rate_limited_as_resource_exhausted"] = true.into();
                }
                filters.insert(LOCAL_LIMIT.into(), message("filters.http.local_ratelimit.v3.LocalRateLimit", fields));
            }
            if let Some(global) = &limit.global {
                action["rate_limits"] = json!([{ "actions": [{ "generic_key": { "descriptor_value": name } }] }]);
                let (rate, unit) = (global.requests_per_unit, format!("{:?}", global.unit).to_lowercase());
                let service = &global.service;
                notes.push(format!(
                    "route `{name}`: `{service}` is to allow {rate} requests per {unit} for generic_key `{name}`"
                ));
                let settings =
                    |limit: &GlobalLimitConfig| (limit.service.clone(), limit.timeout, limit.failure_mode_deny);
                if self.global_limit().map(settings) != Some(settings(global)) {
                    notes.push(format!(
                        "route `{name}`: service, timeout and failure mode are those of the first limit"
                    ));
                }
            }
        }
        let mut json = json!({ "name": name, "match": to_match(&route.matches), "route": action });
        if !filters.is_empty() {
            json["typed_per_filter_config"] = filters.into();
        }
        json
    }
}

fn to_match(matches: &MatchConfig) -> Value {
    let mut json = match (&matches.path, &matches.prefix) {
        (Some(path), _) => json!({ "path": path }),
        (None, prefix) => json!({ "prefix": prefix.as_deref().filter(|prefix| !prefix.is_empty()).unwrap_or("/") }),
    };
    if !matches.headers.is_empty() {
        json["headers"] = matches.headers.iter().map(to_header).collect();
    }
    if let Some(part) = matches.fraction {
        json["runtime_fraction"] = json!({ "default_value": fraction(part) });
    }
    json
}

fn to_header(header: &HeaderMatch) -> Value {
    let mut json = json!({ "name": header.name });
    let texts = [
        ("exact", &header.exact),
        ("prefix", &header.prefix),
        ("suffix", &header.suffix),
        ("contains", &header.contains),
    ];
    match texts.iter().find_map(|(kind, text)| Some((kind, text.as_ref()?))) {
        Some((kind, text)) => json["string_match"] = json!({ *kind: text }),
        None => json["present_match"] = header.present.unwrap_or(true).into(),
    }
    if header.invert {
        json["invert_match"] = true.into();
    }
    json
}

fn to_fault(fault: &FaultConfig) -> Value {
    let mut json = json!({});
    if let Some(abort) = &fault.abort {
        json["abort"] = json!({ "percentage": fraction(abort.percentage / 100.0) });
        match abort.grpc_status {
            Some(code) => json["abort"]["grpc_status"] = (code as u8).into(),
            None => json["abort"]["header_abort"] = json!({}),
        }
    }
    if let Some(delay) = &fault.delay {
        json["delay"] = json!({ "percentage": fraction(delay.percentage / 100.0) });
        match delay.fixed_delay {
            Some(time) => json["delay"]["fixed_delay"] = duration(time).into(),
            None => json["delay"]["header_delay"] = json!({}),
        }
    }
    if let Some(most) = fault.max_active_faults {
        json["max_active_faults"] = most.into();
    }
    json
}

/// envoy.type.v3.FractionalPercent: to a millionth.
fn fraction(part: f64) -> Value {
    let millionths = (part * 1e6).round() as u32;
    match millionths % 10_000 {
        0 => json!({ "numerator": millionths / 10_000, "denominator": "HUNDRED" }),
        _ => json!({ "numerator": millionths, "denominator": "MILLION" }),
    }
}
