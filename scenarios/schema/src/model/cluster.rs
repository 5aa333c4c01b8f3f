//! Where everything runs, and how the cluster tells of it: nodes, EndpointSlices, DNS, kube-proxy, control planes.

use std::collections::BTreeMap;

use lb_core::Nanos;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Nodes, zones and the latency between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Nodes; pods are spread over them as evenly as possible.
    pub nodes: u32,
    /// Zones; node i is in zone i mod zones.
    pub zones: u32,
    /// One-way latency of a message by how far it goes.
    pub hops: Hops,
    /// How long a node may be silent before it is NotReady and its pods leave the names. 50 s, kube-controller-manager
    /// `--node-monitor-grace-period` (40 s before Kubernetes 1.32).
    pub node_monitor_grace_period: Nanos,
    /// How long pods stay on a node that is NotReady before they are replaced elsewhere. 300 s, kube-apiserver
    /// `--default-unreachable-toleration-seconds`.
    pub default_unreachable_toleration: Nanos,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            nodes: 3,
            zones: 1,
            hops: Hops::default(),
            node_monitor_grace_period: Nanos::from_secs(50),
            default_unreachable_toleration: Nanos::from_secs(300),
        }
    }
}

/// One-way latency of a message, by distance. Defaults are our choice, typical of one cloud region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hops {
    /// Between containers of a pod, over loopback. 20 us.
    pub same_pod: Nanos,
    /// Between pods of a node. 50 us.
    pub same_node: Nanos,
    /// Between nodes of a zone. 250 us.
    pub same_zone: Nanos,
    /// Between zones. 1 ms.
    pub other_zone: Nanos,
}

impl Default for Hops {
    fn default() -> Self {
        Self {
            same_pod: Nanos::from_micros(20),
            same_node: Nanos::from_micros(50),
            same_zone: Nanos::from_micros(250),
            other_zone: Nanos::from_millis(1),
        }
    }
}

/// The EndpointSlices of the services: who is ready, by the EndpointSlice controller. Everything else that knows of pods
/// watches these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointSlices {
    /// From a pod's change (ready, deleted, gone) to the slice that says so. 500 ms, our choice: the kubelet's status
    /// update, the controller's work and two watches. The controller itself does not wait for more changes by default
    /// (kube-controller-manager `endpointslice-updates-batch-period`, 0).
    pub delay: Nanos,
}

impl Default for EndpointSlices {
    fn default() -> Self {
        Self { delay: Nanos::from_millis(500) }
    }
}

/// The cluster's DNS (CoreDNS).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// TTL of a record. 30 s, as kubeadm configures CoreDNS's kubernetes plugin (the plugin's own default is 5 s).
    pub ttl: Nanos,
    /// How long the resolver answers from its cache; an answer is never kept longer than its TTL. 30 s, as kubeadm
    /// configures CoreDNS's cache plugin. "0s": no cache.
    pub cache: Nanos,
    /// From an EndpointSlice's change to the authoritative answer. 500 ms, our choice: a watch and CoreDNS's own work. With
    /// the slice's delay a pod is in DNS 1 s after it is ready.
    pub publication_delay: Nanos,
    /// How long a query waits for its answer. 5 s, resolv.conf(5) `timeout`.
    pub timeout: Nanos,
    /// How often a query is sent before the look-up has failed. 2, resolv.conf(5) `attempts`.
    pub attempts: u32,
    /// Answers come in random order, as CoreDNS's loadbalance plugin gives them; else in order of creation.
    pub shuffle: bool,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            ttl: Nanos::from_secs(30),
            cache: Nanos::from_secs(30),
            publication_delay: Nanos::from_millis(500),
            timeout: Nanos::from_secs(5),
            attempts: 2,
            shuffle: true,
        }
    }
}

/// kube-proxy in iptables mode: every new connection to a ClusterIP goes to a random ready backend and stays there. If none
/// is ready, to one that terminates and still serves (KEP-1669 ProxyTerminatingEndpoints).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KubeProxy {
    /// From an EndpointSlice's change to the node's rules. 1 s, kube-proxy `iptables.minSyncPeriod`: so long after the last
    /// sync the next may come.
    pub sync_period: Nanos,
}

impl Default for KubeProxy {
    fn default() -> Self {
        Self { sync_period: Nanos::from_secs(1) }
    }
}

/// A control plane that tells callers the endpoints of the services they call, by xDS. It runs on a node of its own, as DNS
/// does; a caller has a stream for each service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControlPlane {
    /// How it learns of pods: "watch" (EndpointSlices) or `{ poll = "10s" }` (a loop of DNS look-ups, each so long after the
    /// last; what DNS publishes and caches is all it sees).
    pub discovery: Discovery,
    /// Push only pods that answer SERVING to a gRPC health check (grpc.health.v1): in each loop, or with "watch" when a pod is
    /// new and at every `health_check_interval`. False: readiness is enough.
    pub health_check: bool,
    /// Between health checks with "watch". 10 s, our choice: as Kubernetes' probes.
    pub health_check_interval: Nanos,
    /// How long it waits for more changes before it pushes one; 10 s after the first it waits no longer. 100 ms, istiod
    /// `PILOT_DEBOUNCE_AFTER`.
    pub push_delay: Nanos,
    /// Clusters and their endpoints go out before the routes that lead to them (ADS, "make before break"). If not, routes
    /// come first, and requests to a cluster not known yet fail until the next push. True, as control planes with one
    /// aggregated stream do it.
    pub ordered: bool,
    /// Answer a stream only when it has named every service there is, as go-control-plane's snapshot cache does with `ads`. A
    /// client that names the one it calls is then never answered if there are two. Proxies ask by wildcard and are.
    pub withhold_until_all_named: bool,
    /// Share of the requests for each zone's endpoints, by the zone's name, "zone-0" and so on; 1 for those that are not named.
    /// The policy `locality` goes by it. envoy.config.endpoint.v3.LocalityLbEndpoints `load_balancing_weight`.
    pub locality_weights: BTreeMap<String, u32>,
    /// Endpoints outside of a caller's zone get the next lower priority: the policy `priority` then leaves the zone only when
    /// too few endpoints in it are healthy. False; Istio does it where outlier detection is on (`localityLbSetting.failover`).
    pub locality_failover: bool,
}

impl Default for ControlPlane {
    fn default() -> Self {
        Self {
            discovery: Discovery::Watch,
            health_check: false,
            health_check_interval: Nanos::from_secs(10),
            push_delay: Nanos::from_millis(100),
            ordered: true,
            withhold_until_all_named: false,
            locality_weights: BTreeMap::new(),
            locality_failover: false,
        }
    }
}

/// The name of a zone in a control plane's lists, by its number.
pub fn zone_name(zone: u32) -> String {
    format!("zone-{zone}")
}

/// How a control plane learns of pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Discovery {
    /// It watches EndpointSlices.
    Watch,
    /// It looks the services' headless names up, so long after the last time.
    Poll(Nanos),
}

/// A lookaside balancer (grpclb): it streams lists of servers to the clients, which choose among them by their own policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lookaside {
    /// The deployment whose pods are the balancers; clients find them by a headless service of that name.
    pub deployment: String,
    /// Changes are sent once in so long. 1 s, our choice.
    #[serde(default = "second")]
    pub update_interval: Nanos,
    /// A server that has more to spare is in the list more often; clients need a policy that takes weights. False: each
    /// server once.
    #[serde(default)]
    pub load_aware: bool,
    /// How often servers report their requests in flight. 1 s, our choice.
    #[serde(default = "second")]
    pub report_interval: Nanos,
}

fn second() -> Nanos {
    Nanos::from_secs(1)
}
