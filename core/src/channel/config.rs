//! Settings of a channel and of the server's side of a connection, with the defaults of gRPC and Envoy.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::keepalive::KeepaliveConfig;
use crate::{Nanos, PolicyConfig};

/// How a caller finds, connects to and chooses among the endpoints of one name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChannelConfig {
    /// Which endpoint gets the next request.
    pub policy: PolicyConfig,
    /// When the name is looked up again.
    pub resolver: ResolverConfig,
    /// Pause between failed connection attempts.
    pub backoff: BackoffConfig,
    /// How long an attempt may take. 20 s, gRPC connection-backoff.md `MIN_CONNECT_TIMEOUT`.
    pub connect_timeout: Nanos,
    /// Ask every connected endpoint for its health (grpc.health.v1 `Watch`), and take one that says NOT_SERVING as one in
    /// TRANSIENT_FAILURE (gRFC A17). False: gRPC does so only if the service config names a `healthCheckConfig`.
    /// `pick_first` never does.
    pub health_check: bool,
    /// Pings on quiet connections; none by default (gRFC A8: off for clients).
    pub keepalive: Option<KeepaliveConfig>,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            // gRPC's default policy: a client that configures nothing gets `pick_first`.
            policy: PolicyConfig::PickFirst(Default::default()),
            resolver: ResolverConfig::default(),
            backoff: BackoffConfig::default(),
            connect_timeout: Nanos::from_secs(20),
            health_check: false,
            keepalive: None,
        }
    }
}

/// When a name is looked up again.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolverConfig {
    /// gRPC's `dns` resolver: only when a connection fails or gets a GOAWAY, and never more often than the floor.
    Dns(DnsResolverConfig),
    /// Envoy's STRICT_DNS: periodically; every address is a host.
    StrictDns(StrictDnsConfig),
    /// xDS: a control plane is asked once and pushes the endpoints whenever they change (gRFC A27).
    Xds(XdsConfig),
    /// grpclb: a lookaside balancer streams the list of servers; without it, gRPC's `dns`.
    Grpclb(GrpclbConfig),
}

impl ResolverConfig {
    /// The names of the resolvers.
    pub const NAMES: &'static [&'static str] = &["dns", "strict_dns", "xds", "grpclb"];
}

impl Default for ResolverConfig {
    fn default() -> Self {
        Self::Dns(DnsResolverConfig::default())
    }
}

/// Both forms: a name, or a table with one name and its settings.
#[cfg(feature = "schema")]
impl schemars::JsonSchema for ResolverConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Resolver".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A resolver's name, or a table with its name and its settings.",
            "oneOf": [
                { "type": "string", "enum": Self::NAMES },
                {
                    "type": "object",
                    "properties": {
                        "dns": generator.subschema_for::<DnsResolverConfig>(),
                        "strict_dns": generator.subschema_for::<StrictDnsConfig>(),
                        "xds": generator.subschema_for::<XdsConfig>(),
                        "grpclb": generator.subschema_for::<GrpclbConfig>(),
                    },
                    "additionalProperties": false,
                    "minProperties": 1,
                    "maxProperties": 1,
                },
            ],
        })
    }
}

/// Settings of gRPC's `dns` resolver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DnsResolverConfig {
    /// Least time between two look-ups. 30 s, grpc-go dns_resolver `MinResolutionInterval`.
    pub min_resolution_interval: Nanos,
}

impl Default for DnsResolverConfig {
    fn default() -> Self {
        Self { min_resolution_interval: Nanos::from_secs(30) }
    }
}

/// Settings of Envoy's STRICT_DNS clusters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StrictDnsConfig {
    /// Time between look-ups. 5 s, envoy.config.cluster.v3.Cluster `dns_refresh_rate`.
    pub dns_refresh_rate: Nanos,
    /// Look up when the answer's TTL ends instead. False, envoy.config.cluster.v3.Cluster `respect_dns_ttl`.
    pub respect_dns_ttl: bool,
}

impl Default for StrictDnsConfig {
    fn default() -> Self {
        Self { dns_refresh_rate: Nanos::from_secs(5), respect_dns_ttl: false }
    }
}

/// Settings of an xDS client's subscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct XdsConfig {
    /// What has not come by then counts as not there. 15 s, the resource timer of gRPC's XdsClient (gRFC A27), and
    /// envoy.config.core.v3.ConfigSource `initial_fetch_timeout`.
    pub init_fetch_timeout: Nanos,
}

impl Default for XdsConfig {
    fn default() -> Self {
        Self { init_fetch_timeout: Nanos::from_secs(15) }
    }
}

/// Settings of grpclb.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GrpclbConfig {
    /// Without a list by then, the backends that DNS knows are used. 10 s, grpclb.cc `GRPC_ARG_GRPCLB_FALLBACK_TIMEOUT_MS`.
    pub fallback_timeout: Nanos,
}

impl Default for GrpclbConfig {
    fn default() -> Self {
        Self { fallback_timeout: Nanos::from_secs(10) }
    }
}

impl<'de> Deserialize<'de> for ResolverConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Settings {
            Dns(DnsResolverConfig),
            StrictDns(StrictDnsConfig),
            Xds(XdsConfig),
            Grpclb(GrpclbConfig),
        }
        struct NameOrSettings;
        impl<'de> serde::de::Visitor<'de> for NameOrSettings {
            type Value = ResolverConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "\"dns\", \"strict_dns\", \"xds\", \"grpclb\" or a table such as { strict_dns = { dns_refresh_rate = \"5s\" } }",
                )
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<ResolverConfig, E> {
                match name {
                    "dns" => Ok(ResolverConfig::Dns(Default::default())),
                    "strict_dns" => Ok(ResolverConfig::StrictDns(Default::default())),
                    "xds" => Ok(ResolverConfig::Xds(Default::default())),
                    "grpclb" => Ok(ResolverConfig::Grpclb(Default::default())),
                    _ => {
                        let names = ResolverConfig::NAMES.join(", ");
                        Err(E::custom(format_args!("unknown resolver `{name}`, expected one of {names}")))
                    }
                }
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<ResolverConfig, A::Error> {
                Ok(match Settings::deserialize(serde::de::value::MapAccessDeserializer::new(map))? {
                    Settings::Dns(c) => ResolverConfig::Dns(c),
                    Settings::StrictDns(c) => ResolverConfig::StrictDns(c),
                    Settings::Xds(c) => ResolverConfig::Xds(c),
                    Settings::Grpclb(c) => ResolverConfig::Grpclb(c),
                })
            }
        }
        deserializer.deserialize_any(NameOrSettings)
    }
}

/// Exponential back-off between connection attempts (gRPC connection-backoff.md).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BackoffConfig {
    /// Pause after the first failure. 1 s, `INITIAL_BACKOFF`.
    pub initial: Nanos,
    /// Growth per failure, at least 1. 1.6, `MULTIPLIER`.
    pub multiplier: f64,
    /// Longest pause. 120 s, `MAX_BACKOFF`.
    pub max: Nanos,
    /// Each pause is drawn from ± this part of itself, 0 to 1. 0.2, `JITTER`.
    pub jitter: f64,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { initial: Nanos::from_secs(1), multiplier: 1.6, max: Nanos::from_secs(120), jitter: 0.2 }
    }
}

/// How long a server lets a connection live (gRFC A9).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConnectionAgeConfig {
    /// GOAWAY is sent at this age, less or more its jitter; never by default.
    pub max_age: Nanos,
    /// The age is drawn from ± this part of itself, 0 to 1. 0.1, gRFC A9 (±10 %, against storms of reconnects); with 0
    /// connections that were made at the same time are told to go at the same time. Nothing else has jitter.
    pub jitter: f64,
    /// Requests still in flight this long after the GOAWAY are cut off; never by default, no jitter.
    pub grace: Nanos,
}

impl Default for ConnectionAgeConfig {
    fn default() -> Self {
        Self { max_age: Nanos::NEVER, jitter: 0.1, grace: Nanos::NEVER }
    }
}
