//! Istio: DestinationRules for what is around a choice, VirtualServices for routes, YAML. The API is networking.istio.io/v1.
//!
//! | ours | Istio |
//! |---|---|
//! | policy | DestinationRule `trafficPolicy.loadBalancer`: `simple`, `consistentHash` |
//! | `circuit_breaker` | `trafficPolicy.connectionPool.http`: `http2MaxRequests`, `http1MaxPendingRequests` |
//! | retry `budget` | `trafficPolicy.retryBudget` |
//! | `proxy.keepalive` | `trafficPolicy.connectionPool.http.http2KeepAlive` |
//! | `connect_timeout` | `trafficPolicy.connectionPool.tcp.connectTimeout` |
//! | route | VirtualService `http`: `match`, `route.weight`, `timeout`, `retries`, `fault` |
//! | a cluster of several services with weights | ServiceEntry with `resolution: DNS` and `endpoints` |
//!
//! Istio's own defaults are not ours: LEAST_REQUEST, two retries, 10 s to connect. So these are always said.

use lb_core::PolicyConfig;
use lb_core::channel::ResolverConfig;
use lb_core::policy::outlier_detection::OutlierDetectionConfig;
use lb_core::route::{HashPolicyConfig, HeaderMatch, MatchConfig, RouteConfig};
use lb_core::service_config::duration;
use scenarios::{Balancer, ServiceWeight};
use serde_json::{Map, Value, json};

use super::{
    Cluster, Exported, Leaf, PRINT_THE_CHANNEL, Refused, Subject, keepalive_notes, lacking, retry_notes, retry_on, yaml,
};

/// Policies of one piece: `loadBalancer.simple`, or with a lower-case name the algorithm of `loadBalancer.consistentHash`.
pub(super) const LEAVES: &[Leaf] = &[
    Leaf { policy: "random", theirs: "RANDOM", fields: &[], weighted: false },
    Leaf { policy: "round_robin", theirs: "ROUND_ROBIN", fields: &[("turns", "")], weighted: false },
    // Envoy cuts no weight.
    Leaf {
        policy: "weighted_round_robin",
        theirs: "ROUND_ROBIN",
        fields: &[("clamp", ""), ("scheduler", "")],
        weighted: true,
    },
    Leaf { policy: "least_request", theirs: "LEAST_REQUEST", fields: &[], weighted: false },
    Leaf {
        policy: "ring_hash",
        theirs: "ringHash",
        fields: &[("min_ring_size", "minimumRingSize"), ("request_hash_header", ""), ("connect", "")],
        weighted: true,
    },
    Leaf { policy: "maglev", theirs: "maglev", fields: &[("table_size", "tableSize")], weighted: true },
];

/// Policies that Istio does not have, and what comes closest. Those around another are left out.
pub(super) const NOT_IN_ISTIO: &[(&str, &str)] = &[
    ("pick_first", "for one connection to one server no proxy is needed (--as grpc)"),
    ("least_loaded", "Envoy has it (--as envoy), for an EnvoyFilter; in Istio `least_request` comes closest"),
    ("p2c_peak_ewma", "Linkerd's proxy has it; in Istio `least_request` comes closest"),
    ("c3", "`least_request` comes closest"),
    ("degrader", "rest.li's D2 has it; in Istio outlier detection comes closest"),
    ("utilization_p2c", "Netflix' Zuul has it; in Istio `least_request` comes closest"),
    ("adaptive_throttle", "Envoy's filter admission_control comes closest, for an EnvoyFilter"),
    ("admission", "Linkerd's proxy has it; in Istio `circuit_breaker` comes closest"),
    ("client_side_weighted_round_robin", "Envoy has it (--as envoy), for an EnvoyFilter"),
    ("join_idle_queue", "`least_request` comes closest"),
    ("prequal", "weights from load reports (`client_side_weighted_round_robin`) come closest"),
    ("bounded_load", "Envoy has it (--as envoy), for an EnvoyFilter"),
    ("failure_accrual", "Linkerd's proxy has it; in Istio `outlier_detection` comes closest"),
    ("override_host", "Envoy has it, for an EnvoyFilter; `consistentHash.httpCookie` comes closest"),
    ("random_subsetting", "a control plane can send each client a subset"),
    ("deterministic_subsetting", "a control plane can send each client a subset"),
    ("aperture", "a control plane can send each client a subset"),
    ("wrr_locality", "`localityLbSetting.distribute` does it"),
    ("zone_aware", "`localityLbSetting` comes closest"),
    ("prefer_close", "`trafficDistribution: PreferClose` of the Service does it"),
    ("priority", "`localityLbSetting.failover` comes closest"),
];

pub(super) fn export(subject: &Subject<'_>) -> Result<Exported, Refused> {
    let mut notes = Vec::new();
    let strategy = subject.strategy;
    let (policy, resolver) = match (strategy.balancer, &strategy.client.resolver) {
        (Balancer::KubeProxy, _) => {
            let reason = "kube-proxy chooses, nothing of Istio is in the way";
            return Err(Refused::new(reason, PRINT_THE_CHANNEL));
        }
        (Balancer::Client, resolver @ ResolverConfig::Xds(_)) => {
            notes
                .push("the client's pod gets istio-agent and no sidecar: inject.istio.io/templates: grpc-agent".into());
            (&strategy.client.policy, resolver)
        }
        (Balancer::Client, ResolverConfig::Grpclb(_)) => {
            let reason = "a lookaside balancer tells the client its servers; Istio has none";
            return Err(Refused::new(reason, PRINT_THE_CHANNEL));
        }
        (Balancer::Client, _) => {
            let reason = "the client chooses by itself and asks no control plane, nothing of Istio is in the way";
            return Err(Refused::new(reason, PRINT_THE_CHANNEL));
        }
        (balancer, _) => {
            notes.extend(place(balancer, &subject.proxy.deployment));
            (&subject.proxy.policy, &subject.proxy.resolver)
        }
    };
    if !matches!(resolver, ResolverConfig::Xds(_)) {
        notes.push("`resolver`: Istio's proxies are told endpoints by istiod, as with `xds`".into());
    }
    if subject.proxy.max_age.is_some() && strategy.balancer.has_proxy() {
        notes.push("`proxy.max_age` has no field in Istio; Envoy's is `max_connection_duration` (--as envoy)".into());
    }
    let clusters = subject.clusters(policy);
    let mut documents = Vec::new();
    for cluster in &clusters {
        let (traffic_policy, weighted) = traffic_policy(cluster, subject, &mut notes)?;
        documents.extend(service_entry(cluster, weighted));
        let spec = json!({ "host": host(cluster), "trafficPolicy": traffic_policy });
        documents.push(resource("DestinationRule", cluster.name, spec));
    }
    for service in subject.called() {
        let routes: Vec<Value> = match strategy.routes.as_slice() {
            [] => vec![plain_route(clusters.iter().find(|cluster| cluster.name == service.name))],
            routes => routes.iter().map(|route| to_route(route, &clusters, &mut notes)).collect(),
        };
        let mut spec = json!({ "hosts": [service.name], "http": routes });
        if strategy.balancer == Balancer::Ingress {
            spec["gateways"] = json!([subject.proxy.deployment]);
        }
        documents.push(resource("VirtualService", &service.name, spec));
    }
    subject.set_elsewhere(&mut notes);
    let documents: Vec<String> = documents.iter().map(yaml::document).collect();
    let heading = subject.heading("Hosts are Services of the namespace that this is applied to.");
    Ok(Exported { text: heading + &documents.join("---\n"), notes })
}

/// Where Istio's proxies are, where that is not what the strategy says.
fn place(balancer: Balancer, proxy: &str) -> Option<String> {
    match balancer {
        Balancer::Sidecar => Some("with sidecars the servers' pods have one too unless they opt out (`mesh`)".into()),
        Balancer::NodeProxy => Some(
            "Istio has no such proxy on each node (ztunnel looks at connections only): sidecars or a waypoint do it"
                .into(),
        ),
        Balancer::Ingress => {
            Some(format!("a Gateway named `{proxy}` lets the calls in; its hosts and port are its own"))
        }
        Balancer::Mesh | Balancer::Client | Balancer::KubeProxy => None,
    }
}

fn traffic_policy(
    cluster: &Cluster<'_>,
    subject: &Subject<'_>,
    notes: &mut Vec<String>,
) -> Result<(Value, bool), Refused> {
    let mut http = Map::new();
    let (mut outliers, mut warmup) = (None, None);
    let mut policy = cluster.policy;
    let leaf = loop {
        if let PolicyConfig::CircuitBreaker(breaker) = policy {
            // Of two the outer one's.
            http.entry("http2MaxRequests").or_insert(breaker.max_requests.into());
            http.entry("http1MaxPendingRequests").or_insert(breaker.max_pending_requests.into());
            policy = &breaker.child_policy;
        } else if let PolicyConfig::OutlierDetection(config) = policy {
            outliers.get_or_insert_with(|| outlier_detection(config, notes));
            policy = &config.child_policy;
        } else if let PolicyConfig::SlowStart(config) = policy {
            warmup.get_or_insert_with(|| {
                json!({
                    "duration": duration(config.slow_start_window),
                    "aggression": config.aggression,
                    "minimumPercent": config.min_weight_percent,
                })
            });
            policy = &config.child_policy;
        } else if let Some(leaf) = LEAVES.iter().find(|leaf| leaf.policy == policy.name()) {
            break leaf;
        } else {
            policy = lacking(policy, "Istio", NOT_IN_ISTIO, notes)?;
        }
    };
    let fields = leaf.fields(policy, "Istio", notes);
    let load_balancer = if leaf.theirs.starts_with(char::is_uppercase) {
        json!({ "simple": leaf.theirs })
    } else {
        let mut hash = hash_key(cluster, subject, notes)?;
        hash.insert(leaf.theirs.to_owned(), fields.into());
        json!({ "consistentHash": hash })
    };
    if let Some(keepalive) = &subject.proxy.keepalive
        && subject.strategy.balancer.has_proxy()
    {
        keepalive_notes(keepalive, notes);
        let (interval, timeout) = (duration(keepalive.time), duration(keepalive.timeout));
        http.insert("http2KeepAlive".into(), json!({ "interval": interval, "timeout": timeout }));
    }
    let connect_timeout = duration(subject.proxy.channel().connect_timeout);
    let mut json = json!({
        "loadBalancer": load_balancer,
        "connectionPool": { "tcp": { "connectTimeout": connect_timeout } },
    });
    if let Some(outliers) = outliers {
        json["outlierDetection"] = outliers;
    }
    if let Some(warmup) = warmup {
        json["loadBalancer"]["warmup"] = warmup;
    }
    if !http.is_empty() {
        json["connectionPool"]["http"] = http.into();
    }
    if let Some(budget) = cluster.retry.and_then(|retry| retry.budget.as_ref()) {
        let (percent, least) = (budget.budget_percent, budget.min_retry_concurrency);
        json["retryBudget"] = json!({ "percent": percent, "minRetryConcurrency": least });
    }
    Ok((json, leaf.weighted))
}

/// Of Envoy's rules Istio has the one of failures in a row.
fn outlier_detection(config: &OutlierDetectionConfig, notes: &mut Vec<String>) -> Value {
    for (given, rule) in [
        (config.success_rate_ejection.is_some(), "success_rate_ejection"),
        (config.failure_percentage_ejection.is_some(), "failure_percentage_ejection"),
    ] {
        if given {
            notes.push(format!("`outlier_detection`: `{rule}` has no field in Istio (--as envoy, for an EnvoyFilter)"));
        }
    }
    json!({
        "consecutive5xxErrors": config.consecutive_5xx.unwrap_or(0),
        "consecutiveGatewayErrors": 0,
        "interval": duration(config.interval),
        "baseEjectionTime": duration(config.base_ejection_time),
        "maxEjectionPercent": config.max_ejection_percent,
    })
}

/// Istio says it of the cluster, not of the route, and once.
fn hash_key(
    cluster: &Cluster<'_>,
    subject: &Subject<'_>,
    notes: &mut Vec<String>,
) -> Result<Map<String, Value>, Refused> {
    let routes = subject.strategy.routes.iter().filter(|r| r.clusters.iter().any(|c| c.name == cluster.name));
    let mut rules = routes.flat_map(|route| &route.hash_policy);
    let key = match rules.next() {
        Some(HashPolicyConfig { header: Some(header), .. }) => json!({ "httpHeaderName": header }),
        Some(HashPolicyConfig { header: None, .. }) => json!({ "useSourceIp": true }),
        None => {
            let reason = format!("cluster `{}` goes by a hash, and no route says of what", cluster.name);
            return Err(Refused::new(
                reason,
                "give a route that leads there a `hash_policy = [{ header = \"x-user\" }]`",
            ));
        }
    };
    if rules.next().is_some() {
        notes.push(format!("cluster `{}`: Istio hashes one thing; the first `hash_policy` is taken", cluster.name));
    }
    let Value::Object(key) = key else { return Ok(Map::new()) };
    Ok(key)
}

/// The host that a cluster's requests go to: its service, or for several the ServiceEntry that puts them together.
fn host(cluster: &Cluster<'_>) -> String {
    match cluster.endpoints.as_slice() {
        [ServiceWeight { service, .. }] => service.clone(),
        _ => format!("{}.clusters.internal", cluster.name),
    }
}

fn service_entry(cluster: &Cluster<'_>, weighted: bool) -> Option<Value> {
    if cluster.endpoints.len() == 1 {
        return None;
    }
    let endpoints = cluster.endpoints.iter().map(|ServiceWeight { service, weight, .. }| {
        let mut json = json!({ "address": service });
        if weighted {
            json["weight"] = (*weight).into();
        }
        json
    });
    let spec = json!({
        "hosts": [host(cluster)],
        "location": "MESH_INTERNAL",
        "ports": [{ "number": 50051, "name": "grpc", "protocol": "GRPC" }],
        "resolution": "DNS",
        "endpoints": endpoints.collect::<Value>(),
    });
    Some(resource("ServiceEntry", cluster.name, spec))
}

fn to_route(route: &RouteConfig, clusters: &[Cluster<'_>], notes: &mut Vec<String>) -> Value {
    let name = &route.name;
    let host_of = |name: &str| clusters.iter().find(|cluster| cluster.name == name).map(host);
    let destinations = route.clusters.iter().map(|cluster| {
        let mut json = json!({ "destination": { "host": host_of(&cluster.name) } });
        if route.clusters.len() > 1 {
            json["weight"] = cluster.weight.into();
        }
        json
    });
    let mut json = json!({ "name": name, "route": destinations.collect::<Value>(), "retries": { "attempts": 0 } });
    let matches = to_match(&route.matches);
    if !matches.is_empty() {
        json["match"] = json!([matches]);
    }
    if route.matches.fraction.is_some() {
        notes.push(format!("route `{name}`: `fraction` has no field in Istio; all that matches otherwise goes here"));
    }
    if let Some(timeout) = route.timeout {
        json["timeout"] = duration(timeout).into();
    }
    if let Some(retry) = &route.retry {
        retry_notes(name, retry, notes);
        json["retries"] = json!({
            "attempts": retry.max_attempts.saturating_sub(1),
            "retryOn": retry_on(name, retry, notes),
            "backoff": duration(retry.initial_backoff),
        });
        if let Some(timeout) = retry.per_attempt_timeout {
            json["retries"]["perTryTimeout"] = duration(timeout).into();
        }
        // envoy.config.route.v3.RetryPolicy `max_interval` when unset.
        if retry.max_backoff.0 != retry.initial_backoff.0.saturating_mul(10) {
            notes.push(format!("route `{name}`: `max_backoff` has no field in Istio; it is ten times the first pause"));
        }
    }
    if let Some(fault) = &route.fault {
        let mut faults = Map::new();
        let mut lacks = |what: &str| notes.push(format!("route `{name}`: {what} has no field in Istio"));
        if let Some(abort) = &fault.abort {
            match abort.grpc_status {
                Some(code) => {
                    let abort = json!({ "percentage": { "value": abort.percentage }, "grpcStatus": code });
                    faults.insert("abort".into(), abort);
                }
                None => lacks("`abort` by headers"),
            }
        }
        if let Some(delay) = &fault.delay {
            match delay.fixed_delay {
                Some(time) => {
                    let delay = json!({ "percentage": { "value": delay.percentage }, "fixedDelay": duration(time) });
                    faults.insert("delay".into(), delay);
                }
                None => lacks("`delay` by headers"),
            }
        }
        if fault.max_active_faults.is_some() {
            lacks("`max_active_faults`");
        }
        if !faults.is_empty() {
            json["fault"] = faults.into();
        }
    }
    if route.rate_limit.is_some() {
        notes.push(format!("route `{name}`: rate limits are Envoy's filters (--as envoy), for an EnvoyFilter"));
    }
    json
}

fn plain_route(cluster: Option<&Cluster<'_>>) -> Value {
    json!({ "route": [{ "destination": { "host": cluster.map(host) } }], "retries": { "attempts": 0 } })
}

fn to_match(matches: &MatchConfig) -> Map<String, Value> {
    let mut json = Map::new();
    match (&matches.path, matches.prefix.as_deref()) {
        (Some(path), _) => _ = json.insert("uri".into(), json!({ "exact": path })),
        (None, None | Some("")) => {}
        (None, Some(prefix)) => _ = json.insert("uri".into(), json!({ "prefix": prefix })),
    }
    for header in &matches.headers {
        // `present = false` and an inverted `present = true` are the same.
        let without = header.invert != (header.present == Some(false));
        let key = if without { "withoutHeaders" } else { "headers" };
        let conditions = json.entry(key).or_insert_with(|| json!({}));
        conditions[header.name.as_str()] = to_text(header);
    }
    json
}

/// A condition without a text is that the header is there.
fn to_text(header: &HeaderMatch) -> Value {
    match header {
        HeaderMatch { exact: Some(text), .. } => json!({ "exact": text }),
        HeaderMatch { prefix: Some(text), .. } => json!({ "prefix": text }),
        HeaderMatch { suffix: Some(text), .. } => json!({ "regex": format!(".*{}", literal(text)) }),
        HeaderMatch { contains: Some(text), .. } => json!({ "regex": format!(".*{}.*", literal(text)) }),
        _ => json!({}),
    }
}

/// A text as RE2 matches it and nothing else: what is neither a letter nor a digit may be escaped.
fn literal(text: &str) -> String {
    let escaped = |c: char| if c.is_ascii_punctuation() { format!("\\{c}") } else { c.to_string() };
    text.chars().map(escaped).collect()
}

fn resource(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}
