//! gRPC: the service config of the client's channel, JSON.
//!
//! | ours | gRPC |
//! |---|---|
//! | `client.policy` | `loadBalancingConfig` (the core's table, [`lb_core::service_config`]) |
//! | `client.resolver = "grpclb"` | policy `grpclb`, `initialFallbackTimeout` (grpc.service_config.GrpcLbConfig) |
//! | `client.health_check` | `healthCheckConfig` (A17) |
//! | routes of the client by service or method | `methodConfig`: `timeout`, `retryPolicy`; `retryThrottling` (A6) |
//! | `client.keepalive`, `backoff`, `connect_timeout`, a resolver's floor | channel arguments |
//! | age of connections | options of the server (A9) |
//!
//! With `xds:///` gRPC has its policy and routes from the control plane; what that sends is `--as envoy`.

use lb_core::PolicyConfig;
use lb_core::channel::{ChannelConfig, ResolverConfig};
use lb_core::route::RouteConfig;
use lb_core::service_config::{ServiceConfig, duration};
use scenarios::{Balancer, ReachedBy};
use serde_json::{Value, json};

use super::{Exported, Refused, Subject, milliseconds};

/// Policies that grpc-go and grpc-java have and gRPC C-core has not, as of 1.85: "No known policies in list".
const NOT_IN_C_CORE: &[&str] = &["least_request_experimental"];

pub(super) fn export(subject: &Subject<'_>) -> Result<Exported, Refused> {
    let strategy = subject.strategy;
    let channel = &strategy.client;
    let chooses = strategy.balancer == Balancer::Client;
    let routes: &[RouteConfig] = if chooses { &strategy.routes } else { &[] };

    let mut notes = vec![target(subject)];
    let (mut config, missing) = ServiceConfig::of(channel, routes);
    let grpclb = if let ResolverConfig::Grpclb(grpclb) = &channel.resolver { Some(grpclb) } else { None };
    if grpclb.is_some() && config.policy.as_ref().is_some_and(|policy| policy.name() == "weighted_round_robin") {
        // grpclb has no weights: a server that is to get more is in the list more often, and all are taken in turn.
        config.policy = PolicyConfig::named("round_robin");
        notes.push("`weighted_round_robin`: grpclb's list names a server as often as it weighs, and goes round".into());
    }
    let written = config.to_json();
    let missing = missing.into_iter().chain(written.missing);
    let Some(mut json) = written.json else {
        let missing: Vec<String> = missing.collect();
        let remedy = "choose a policy that gRPC has, or register one of that name in the client (a custom policy)";
        return Err(Refused::new(missing.join("; "), remedy));
    };
    notes.extend(missing);
    for name in NOT_IN_C_CORE.iter().filter(|name| json["loadBalancingConfig"][0].get(name).is_some()) {
        notes.push(format!("`{name}`: clients of C-core (C++, Python, Ruby, …) do not know it and refuse this"));
    }
    if let Some(grpclb) = grpclb {
        let child = json["loadBalancingConfig"].take();
        let fallback = duration(grpclb.fallback_timeout);
        json["loadBalancingConfig"] =
            json!([{ "grpclb": { "childPolicy": child, "initialFallbackTimeout": fallback } }]);
    }
    if chooses {
        for cluster in &strategy.clusters {
            notes.push(format!("cluster `{}`: clusters are in gRPC only with xDS", cluster.name));
        }
    } else if !strategy.routes.is_empty() {
        notes.push("the routes are the proxy's: --as envoy or --as istio".into());
    }
    arguments(channel, subject, &mut notes);
    subject.set_elsewhere(&mut notes);
    Ok(Exported { text: pretty(&json), notes })
}

/// What the channel is created with.
fn target(subject: &Subject<'_>) -> String {
    let names: Vec<String> = subject.called().iter().map(|service| service.name.clone()).collect();
    let each = |scheme: &str| names.iter().map(|name| format!("{scheme}:///{name}")).collect::<Vec<_>>().join(", ");
    let proxy = subject.proxy;
    match (subject.strategy.balancer, &subject.strategy.client.resolver) {
        (Balancer::Client, ResolverConfig::Xds(_)) => {
            format!("target {}: the control plane sends policy and routes (--as envoy), not this", each("xds"))
        }
        (Balancer::Client, ResolverConfig::Grpclb(_)) => {
            format!("target {}, whose SRV records name the balancers", each("dns"))
        }
        (Balancer::Client, _) => format!("target {}, a headless Service", each("dns")),
        (Balancer::KubeProxy, _) => format!("target {}, a Service with a ClusterIP", each("dns")),
        (Balancer::Ingress, _) => {
            let kind = match proxy.reached_by {
                ReachedBy::Headless => "a headless Service",
                ReachedBy::ClusterIp => "a Service with a ClusterIP",
            };
            format!("target dns:///{}, {kind}: the proxy chooses a server (--as envoy)", proxy.deployment)
        }
        (Balancer::NodeProxy, _) => {
            "target: the proxy on the client's node, which chooses a server (--as envoy)".into()
        }
        (Balancer::Sidecar | Balancer::Mesh, _) => {
            "target: the proxy in the client's pod, which chooses a server (--as envoy)".into()
        }
    }
}

/// What is set when the channel is created, by the names of grpc/impl/channel_arg_names.h.
fn arguments(channel: &ChannelConfig, subject: &Subject<'_>, notes: &mut Vec<String>) {
    let default = ChannelConfig::default();
    let mut arguments: Vec<(&str, u64)> = Vec::new();
    if let Some(keepalive) = &channel.keepalive {
        arguments.push(("grpc.keepalive_time_ms", milliseconds(keepalive.time)));
        arguments.push(("grpc.keepalive_timeout_ms", milliseconds(keepalive.timeout)));
        arguments.push(("grpc.keepalive_permit_without_calls", keepalive.permit_without_stream.into()));
    }
    let (backoff, usual) = (&channel.backoff, &default.backoff);
    if backoff.initial != usual.initial {
        arguments.push(("grpc.initial_reconnect_backoff_ms", milliseconds(backoff.initial)));
    }
    if backoff.max != usual.max {
        arguments.push(("grpc.max_reconnect_backoff_ms", milliseconds(backoff.max)));
    }
    if backoff.multiplier != usual.multiplier || backoff.jitter != usual.jitter {
        notes.push("`backoff`: `multiplier` and `jitter` are options in grpc-go only (grpc.ConnectParams)".into());
    }
    if channel.connect_timeout != default.connect_timeout {
        // C-core gives an attempt this long; in grpc-go it is ConnectParams.MinConnectTimeout.
        arguments.push(("grpc.min_reconnect_backoff_ms", milliseconds(channel.connect_timeout)));
    }
    if let PolicyConfig::PickFirst(config) = &channel.policy
        && *config != Default::default()
    {
        let delay = config.connection_attempt_delay.get();
        arguments.push(("grpc.happy_eyeballs_connection_attempt_delay_ms", milliseconds(delay)));
    }
    match &channel.resolver {
        ResolverConfig::Dns(dns) if channel.resolver != default.resolver => {
            arguments.push(("grpc.dns_min_time_between_resolutions_ms", milliseconds(dns.min_resolution_interval)));
        }
        ResolverConfig::StrictDns(_) if subject.strategy.balancer == Balancer::Client => {
            notes.push("`strict_dns`: gRPC's resolver looks names up after a failure, not periodically".into());
        }
        _ => {}
    }
    if !arguments.is_empty() {
        let arguments: Vec<String> = arguments.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        notes.push(format!("set when the channel is created: {}", arguments.join(", ")));
    }
}

fn pretty(json: &Value) -> String {
    format!("{json:#}")
}
