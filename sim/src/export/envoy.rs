//! Envoy: the bootstrap of the proxy that chooses, YAML, API v3. For clients that get their routes from a control plane
//! (proxyless gRPC) the resources that it sends, in the same form.
//!
//! | ours | Envoy |
//! |---|---|
//! | policy | envoy.config.cluster.v3.Cluster `load_balancing_policy` ([`LEAVES`]) |
//! | `circuit_breaker` | Cluster `circuit_breakers.thresholds`: `max_requests`, `max_pending_requests` |
//! | `outlier_detection` | Cluster `outlier_detection` |
//! | `slow_start` | `slow_start_config` of the policy's message |
//! | `bounded_load` | `consistent_hashing_lb_config.hash_balance_factor` of the policy's message |
//! | retry `budget` | the same, `retry_budget` |
//! | `strict_dns` | Cluster `type: STRICT_DNS`; envoy.extensions.clusters.dns.v3.DnsCluster where its rate is not the default |
//! | `xds` | Cluster `type: EDS`, from the control plane by ADS |
//! | a cluster's services, weights, priorities | `load_assignment`: `load_balancing_weight`, `priority` |
//! | `proxy.keepalive` | envoy.config.core.v3.Http2ProtocolOptions `connection_keepalive` |
//! | `proxy.max_age` | envoy.config.core.v3.HttpProtocolOptions `max_connection_duration` of the listener |
//! | route | envoy.config.route.v3.Route: `match`, `weighted_clusters`, `timeout`, `retry_policy`, `hash_policy` |
//! | fault | envoy.extensions.filters.http.fault.v3.HTTPFault, by route |
//! | rate limits | envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit by route, ratelimit.v3.RateLimit |

mod http;

use lb_core::PolicyConfig;
use lb_core::channel::{KeepaliveConfig, ResolverConfig};
use lb_core::policy::bounded_load::Next;
use lb_core::policy::least_request::SelectionMethod;
use lb_core::policy::outlier_detection::{Comparison, EjectionLimit, Failures, OutlierDetectionConfig};
use lb_core::service_config::{ServiceConfig, duration};
use scenarios::{Balancer, Configuration, ServiceWeight};
use serde_json::{Map, Value, json};

use super::{Cluster, Exported, Leaf, PRINT_THE_CHANNEL, Refused, Subject, keepalive_notes, lacking, yaml};

use http::Http;

/// Policies of one piece: the message under envoy.extensions.load_balancing_policies and its fields.
pub(super) const LEAVES: &[Leaf] = &[
    Leaf { policy: "random", theirs: "random.v3.Random", fields: &[], weighted: false },
    Leaf { policy: "round_robin", theirs: "round_robin.v3.RoundRobin", fields: &[("turns", "")], weighted: false },
    // Envoy cuts no weight, and its turns are those of EDF.
    Leaf {
        policy: "weighted_round_robin",
        theirs: "round_robin.v3.RoundRobin",
        fields: &[("clamp", ""), ("scheduler", "")],
        weighted: true,
    },
    Leaf {
        policy: "least_request",
        theirs: "least_request.v3.LeastRequest",
        // What `LeastRequest` has of the latter two is not of the same shape.
        fields: &[("choice_count", "choice_count"), ("selection_method", ""), ("active_request_bias", "")],
        weighted: false,
    },
    // With `selection_method: FULL_SCAN`.
    Leaf { policy: "least_loaded", theirs: "least_request.v3.LeastRequest", fields: &[], weighted: false },
    Leaf {
        policy: "client_side_weighted_round_robin",
        theirs: "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
        // Envoy gives endpoints without a weight the median, and cuts none.
        fields: &[
            ("enable_oob_load_report", "enable_oob_load_report"),
            ("oob_reporting_period", "oob_reporting_period"),
            ("blackout_period", "blackout_period"),
            ("weight_expiration_period", "weight_expiration_period"),
            ("weight_update_period", "weight_update_period"),
            ("error_utilization_penalty", "error_utilization_penalty"),
            ("missing_weight", ""),
            ("clamp", ""),
        ],
        weighted: false,
    },
    // Envoy is always connected; what it hashes is the route's affair.
    Leaf {
        policy: "ring_hash",
        theirs: "ring_hash.v3.RingHash",
        fields: &[
            ("min_ring_size", "minimum_ring_size"),
            ("max_ring_size", "maximum_ring_size"),
            ("request_hash_header", ""),
            ("connect", ""),
        ],
        weighted: true,
    },
    Leaf { policy: "maglev", theirs: "maglev.v3.Maglev", fields: &[("table_size", "table_size")], weighted: true },
];

/// Policies that Envoy does not have, and what comes closest. Those around another are left out.
pub(super) const NOT_IN_ENVOY: &[(&str, &str)] = &[
    ("pick_first", "for one connection to one server no proxy is needed (--as grpc)"),
    ("p2c_peak_ewma", "Linkerd's proxy has it; in Envoy `least_request` comes closest"),
    ("c3", "`least_request` comes closest"),
    ("degrader", "rest.li's D2 has it; in Envoy outlier detection comes closest"),
    ("utilization_p2c", "Netflix' Zuul has it; in Envoy `least_request` comes closest"),
    ("adaptive_throttle", "the filter envoy.filters.http.admission_control comes closest"),
    ("admission", "Linkerd's proxy has it; in Envoy `circuit_breaker` comes closest"),
    ("join_idle_queue", "`least_request` comes closest"),
    ("prequal", "weights from load reports (`client_side_weighted_round_robin`) come closest"),
    ("failure_accrual", "Linkerd's proxy has it; in Envoy outlier detection comes closest"),
    ("override_host", "the filter envoy.filters.http.stateful_session, with override_host.v3.OverrideHost, does it"),
    ("random_subsetting", "a control plane can send each client a subset"),
    ("deterministic_subsetting", "a control plane can send each client a subset"),
    ("aperture", "a control plane can send each client a subset"),
    ("wrr_locality", "the extension wrr_locality.v3.WrrLocality does it, with the control plane's localities"),
    ("zone_aware", "`locality_lb_config.zone_aware_lb_config` of the policy's message does it"),
    ("prefer_close", "`zone_aware` comes closest"),
    ("priority", "its clusters have it without a policy: `priority` of the endpoints, `common_lb_config`"),
];

/// Where gRPC's examples listen. Our choice; scenarios have no ports.
const SERVER_PORT: u16 = 50051;
/// Our choice.
const PROXY_PORT: u16 = 8080;
/// go-control-plane's example; its name is our choice.
const CONTROL_PLANE: (&str, u16) = ("control-plane", 18000);

pub(super) fn export(subject: &Subject<'_>) -> Result<Exported, Refused> {
    let mut notes = Vec::new();
    let strategy = subject.strategy;
    let proxy = subject.proxy;
    let (policy, resolver) = match (strategy.balancer, &strategy.client.resolver) {
        (Balancer::KubeProxy, _) => {
            return Err(Refused::new("kube-proxy chooses, no Envoy is in the way", PRINT_THE_CHANNEL));
        }
        (Balancer::Client, resolver @ ResolverConfig::Xds(_)) => {
            notes.push(
                "the listener and clusters are for the control plane to send to its gRPC clients (xds:///)".into(),
            );
            (&strategy.client.policy, resolver)
        }
        (Balancer::Client, _) => {
            let reason = "the client chooses by itself and asks no control plane, no Envoy is in the way";
            return Err(Refused::new(reason, PRINT_THE_CHANNEL));
        }
        _ => (&proxy.policy, &proxy.resolver),
    };
    let clusters = subject.clusters(policy);
    let keepalive = match strategy.balancer {
        Balancer::Client => None,
        _ => proxy.keepalive.as_ref(),
    };
    let http = Http::new(subject, &mut notes);
    let mut written = Vec::new();
    for cluster in &clusters {
        written.push(to_cluster(cluster, resolver, keepalive, subject, &mut notes)?);
    }
    written.extend(http.global_limit().map(|limit| dns_cluster(&limit.service, SERVER_PORT)));
    let from_control_plane = matches!(resolver, ResolverConfig::Xds(_)) && strategy.balancer.has_proxy();
    let (control_plane, port) = CONTROL_PLANE;
    if from_control_plane {
        written.push(dns_cluster(control_plane, port));
    }
    let listeners = http.listeners(&mut notes);
    let mut bootstrap = json!({ "static_resources": { "listeners": listeners, "clusters": written } });
    if from_control_plane {
        bootstrap["node"] = json!({ "id": proxy.deployment, "cluster": proxy.deployment });
        let grpc = json!([{ "envoy_grpc": { "cluster_name": control_plane } }]);
        let ads = json!({ "api_type": "GRPC", "transport_api_version": "V3", "grpc_services": grpc });
        bootstrap["dynamic_resources"] = json!({ "ads_config": ads });
    }
    if strategy.configuration == Configuration::Xds && !strategy.routes.is_empty() {
        notes.push("the routes, which the control plane sends in this strategy, are those of the start".into());
    }
    match strategy.balancer {
        Balancer::Mesh => notes.push(
            "this is the proxy in the client's pod; the one in the server's passes on to its own server (--as istio)"
                .into(),
        ),
        Balancer::Client => {}
        _ => notes.push("the client's channel to the proxy is `--as grpc`".into()),
    }
    subject.set_elsewhere(&mut notes);
    let placeholders = "Ports, and the address of the control plane if there is one, are placeholders.";
    Ok(Exported { text: subject.heading(placeholders) + &yaml::document(&bootstrap), notes })
}

/// A policy, taken apart: what Envoy has around it is the cluster's, what is inside is a message.
struct Policy {
    load_balancing_policy: Value,
    weighted: bool,
    thresholds: Map<String, Value>,
    outlier_detection: Option<Value>,
}

impl Policy {
    /// The fields of the policy's message.
    fn message(&mut self) -> &mut Value {
        &mut self.load_balancing_policy["policies"][0]["typed_extension_config"]["typed_config"]
    }
}

/// Envoy's defaults are not gRPC's: what a rule is to do is written out, and that the others do nothing.
fn to_outlier_detection(config: &OutlierDetectionConfig, notes: &mut Vec<String>) -> Value {
    let mut json = json!({
        "interval": duration(config.interval),
        "base_ejection_time": duration(config.base_ejection_time),
        "max_ejection_time": duration(config.max_ejection_time),
        "max_ejection_percent": config.max_ejection_percent,
        "always_eject_one_host": config.always_eject_one_host,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_consecutive_5xx": if config.consecutive_5xx.is_some() { 100 } else { 0 },
        "enforcing_success_rate": config.success_rate_ejection.as_ref().map_or(0, |rule| rule.enforcement_percentage),
        "enforcing_failure_percentage":
            config.failure_percentage_ejection.as_ref().map_or(0, |rule| rule.enforcement_percentage),
    });
    if let Some(failures) = config.consecutive_5xx {
        json["consecutive_5xx"] = failures.into();
    }
    if let Some(rule) = &config.success_rate_ejection {
        json["success_rate_stdev_factor"] = rule.stdev_factor.into();
        json["success_rate_minimum_hosts"] = rule.minimum_hosts.into();
        json["success_rate_request_volume"] = rule.request_volume.into();
    }
    if let Some(rule) = &config.failure_percentage_ejection {
        json["failure_percentage_threshold"] = rule.threshold.into();
        json["failure_percentage_minimum_hosts"] = rule.minimum_hosts.into();
        json["failure_percentage_request_volume"] = rule.request_volume.into();
    }
    if config.ejection_limit != EjectionLimit::After {
        notes.push("`outlier_detection`: Envoy's `max_ejection_percent` includes the one to be ejected".into());
    }
    if config.failure_percentage_ejection.as_ref().is_some_and(|rule| rule.comparison == Comparison::Greater) {
        notes.push(
            "`outlier_detection`: Envoy ejects at the threshold of the failure percentage, not only above".into(),
        );
    }
    if config.failures != Failures::Http5xx {
        notes
            .push("`outlier_detection`: Envoy counts the codes that stand for 5xx as failures, not every error".into());
    }
    json
}

fn to_policy(policy: &PolicyConfig, notes: &mut Vec<String>) -> Result<Policy, Refused> {
    if let PolicyConfig::CircuitBreaker(breaker) = policy {
        let mut child = to_policy(&breaker.child_policy, notes)?;
        child.thresholds.insert("max_requests".into(), breaker.max_requests.into());
        child.thresholds.insert("max_pending_requests".into(), breaker.max_pending_requests.into());
        return Ok(child);
    }
    if let PolicyConfig::OutlierDetection(config) = policy {
        let mut child = to_policy(&config.child_policy, notes)?;
        let json = to_outlier_detection(config, notes);
        if child.outlier_detection.replace(json).is_some() {
            notes.push("`outlier_detection`: Envoy has one of them; the outer one is written".into());
        }
        return Ok(child);
    }
    if let PolicyConfig::SlowStart(config) = policy {
        let mut child = to_policy(&config.child_policy, notes)?;
        child.weighted = true;
        child.message()["slow_start_config"] = json!({
            "slow_start_window": duration(config.slow_start_window),
            "aggression": { "default_value": config.aggression, "runtime_key": "slow_start.aggression" },
            "min_weight_percent": { "value": config.min_weight_percent },
        });
        return Ok(child);
    }
    if let PolicyConfig::BoundedLoad(config) = policy {
        let mut child = to_policy(&config.child_policy, notes)?;
        child.message()["consistent_hashing_lb_config"] = json!({ "hash_balance_factor": config.hash_balance_factor });
        if config.next != Next::Jump {
            notes.push("`bounded_load`: what is over goes to a random other endpoint in Envoy, not to the next".into());
        }
        return Ok(child);
    }
    let name = policy.name();
    let Some(leaf) = LEAVES.iter().find(|leaf| leaf.policy == name) else {
        let child = lacking(policy, "Envoy", NOT_IN_ENVOY, notes)?;
        return to_policy(child, notes);
    };
    let mut fields = leaf.fields(policy, "Envoy", notes);
    let mut weighted = leaf.weighted;
    if name == "least_loaded" {
        fields.insert("selection_method".into(), "FULL_SCAN".into());
    }
    if let PolicyConfig::LeastRequest(config) = policy {
        if config.selection_method == SelectionMethod::FullScan {
            fields.insert("selection_method".into(), "FULL_SCAN".into());
        }
        if let Some(bias) = config.active_request_bias {
            let bias = json!({ "default_value": bias, "runtime_key": "least_request.active_request_bias" });
            fields.insert("active_request_bias".into(), bias);
            weighted = true;
        }
    }
    let (extension, _) = leaf.theirs.split_once('.').unwrap_or((leaf.theirs, ""));
    let message = format!("load_balancing_policies.{}", leaf.theirs);
    let typed = typed(&format!("envoy.load_balancing_policies.{extension}"), &message, fields.into());
    Ok(Policy {
        load_balancing_policy: json!({ "policies": [{ "typed_extension_config": typed }] }),
        weighted,
        // Envoy's own are 1024 connections, pending and active requests, and 3 retries; a scenario has none that it does not name.
        thresholds: ["max_connections", "max_pending_requests", "max_requests", "max_retries"]
            .map(|limit| (limit.to_owned(), u32::MAX.into()))
            .into_iter()
            .collect(),
        outlier_detection: None,
    })
}

fn to_cluster(
    cluster: &Cluster<'_>,
    resolver: &ResolverConfig,
    keepalive: Option<&KeepaliveConfig>,
    subject: &Subject<'_>,
    notes: &mut Vec<String>,
) -> Result<Value, Refused> {
    let name = cluster.name;
    let mut policy = to_policy(cluster.policy, notes)?;
    if subject.strategy.balancer == Balancer::Client {
        let written = ServiceConfig::policy_to_json(cluster.policy);
        if written.json.is_none() {
            return Err(Refused::new(
                written.missing.join("; "),
                "choose a policy that gRPC has: its clients read this",
            ));
        }
        notes.extend(written.missing);
    }
    let budget = cluster.retry.and_then(|retry| retry.budget.as_ref());
    if let (Some(budget), true) = (budget, subject.strategy.balancer.has_proxy()) {
        policy.thresholds.remove("max_retries");
        let percent = json!({ "value": budget.budget_percent });
        let least = budget.min_retry_concurrency;
        let budget = json!({ "budget_percent": percent, "min_retry_concurrency": least });
        policy.thresholds.insert("retry_budget".into(), budget);
    }
    let mut http2 = Map::new();
    if let Some(keepalive) = keepalive {
        keepalive_notes(keepalive, notes);
        let (interval, timeout) = (duration(keepalive.time), duration(keepalive.timeout));
        http2.insert("connection_keepalive".into(), json!({ "interval": interval, "timeout": timeout }));
    }
    let mut json = json!({
        "name": name,
        "connect_timeout": duration(subject.proxy.channel().connect_timeout),
        "load_balancing_policy": policy.load_balancing_policy,
        "circuit_breakers": { "thresholds": [policy.thresholds] },
        "typed_extension_protocol_options": http2_only(http2),
    });
    if let Some(outliers) = policy.outlier_detection {
        json["outlier_detection"] = outliers;
    }
    match resolver {
        ResolverConfig::Xds(xds) => {
            json["type"] = "EDS".into();
            let timeout = duration(xds.init_fetch_timeout);
            json["eds_cluster_config"] =
                json!({ "eds_config": { "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": timeout } });
            if let [ServiceWeight { service, .. }] = cluster.endpoints.as_slice() {
                json["eds_cluster_config"]["service_name"] = service.as_str().into();
            } else {
                notes.push(format!("cluster `{name}`: the control plane sends its endpoints and their weights"));
            }
            return Ok(json);
        }
        ResolverConfig::StrictDns(dns) if *resolver != ResolverConfig::StrictDns(Default::default()) => {
            let mut fields = json!({ "dns_refresh_rate": duration(dns.dns_refresh_rate) });
            if dns.respect_dns_ttl {
                fields["respect_dns_ttl"] = true.into();
            }
            json["cluster_type"] = typed("envoy.cluster.dns", "clusters.dns.v3.DnsCluster", fields);
        }
        ResolverConfig::StrictDns(_) => json["type"] = "STRICT_DNS".into(),
        ResolverConfig::Dns(_) | ResolverConfig::Grpclb(_) => {
            json["type"] = "STRICT_DNS".into();
            notes.push("`resolver`: Envoy looks names up periodically (STRICT_DNS), not when connections fail".into());
        }
    }
    json["load_assignment"] = assignment(name, &cluster.endpoints, policy.weighted, SERVER_PORT);
    Ok(json)
}

fn assignment(name: &str, endpoints: &[ServiceWeight], weighted: bool, port: u16) -> Value {
    let mut priorities: Vec<u32> = endpoints.iter().map(|endpoint| endpoint.priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    // Envoy wants them without gaps, from 0.
    let localities = priorities.iter().enumerate().map(|(rank, priority)| {
        let members = endpoints.iter().filter(|endpoint| endpoint.priority == *priority);
        let members = members.map(|ServiceWeight { service, weight, .. }| {
            let mut json = json!({ "endpoint": { "address": socket(service, port) } });
            if weighted {
                json["load_balancing_weight"] = (*weight).into();
            }
            json
        });
        let mut json = json!({ "lb_endpoints": members.collect::<Value>() });
        if rank > 0 {
            json["priority"] = rank.into();
        }
        json
    });
    json!({ "cluster_name": name, "endpoints": localities.collect::<Value>() })
}

/// What the proxy itself calls: the control plane, the limit service.
fn dns_cluster(name: &str, port: u16) -> Value {
    let alone = [ServiceWeight { service: name.to_owned(), weight: 1, priority: 0 }];
    json!({
        "name": name,
        "type": "STRICT_DNS",
        "typed_extension_protocol_options": http2_only(Map::new()),
        "load_assignment": assignment(name, &alone, false, port),
    })
}

fn socket(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": address, "port_value": port } })
}

/// gRPC needs HTTP/2, which Envoy does not speak to servers unless told.
fn http2_only(options: Map<String, Value>) -> Value {
    let options = json!({ "explicit_http_config": { "http2_protocol_options": options } });
    let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    json!({ name: message("upstreams.http.v3.HttpProtocolOptions", options) })
}

/// An extension's name and its message, under envoy.extensions.
fn typed(name: &str, extension: &str, fields: Value) -> Value {
    json!({ "name": name, "typed_config": message(extension, fields) })
}

fn message(extension: &str, mut fields: Value) -> Value {
    fields["@type"] = format!("type.googleapis.com/envoy.extensions.{extension}").into();
    fields
}
