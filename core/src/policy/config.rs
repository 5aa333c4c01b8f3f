//! How a policy is named and configured: one serde type per policy.
//!
//! In a scenario a policy is its name (`policy = "round_robin"`) or a table of its settings
//! (`policy = { least_request = { choice_count = 3 } }`), the shape of gRPC's service config.

use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::Policy;
use super::adaptive_throttle::AdaptiveThrottleConfig;
use super::admission::AdmissionConfig;
use super::bounded_load::BoundedLoadConfig;
use super::c3::C3Config;
use super::circuit_breaker::CircuitBreakerConfig;
use super::client_side_weighted_round_robin::ClientSideWeightedRoundRobinConfig;
use super::degrader::DegraderConfig;
use super::failure_accrual::FailureAccrualConfig;
use super::join_idle_queue::JoinIdleQueueConfig;
use super::least_loaded::LeastLoadedConfig;
use super::least_request::LeastRequestConfig;
use super::locality::prefer_close::PreferCloseConfig;
use super::locality::weighted::WrrLocalityConfig;
use super::locality::zone_aware::ZoneAwareConfig;
use super::maglev::MaglevConfig;
use super::outlier_detection::OutlierDetectionConfig;
use super::outstanding::Shared;
use super::override_host::OverrideHostConfig;
use super::p2c_peak_ewma::P2cPeakEwmaConfig;
use super::pick_first::PickFirstConfig;
use super::prequal::PrequalConfig;
use super::priority::PriorityConfig;
use super::random::RandomConfig;
use super::ring_hash::RingHashConfig;
use super::round_robin::RoundRobinConfig;
use super::slow_start::SlowStartConfig;
use super::subset::aperture::ApertureConfig;
use super::subset::deterministic::DeterministicSubsettingConfig;
use super::subset::random::RandomSubsettingConfig;
use super::utilization_p2c::UtilizationP2cConfig;
use super::weighted_round_robin::WeightedRoundRobinConfig;

/// What every policy's settings can do besides being read.
pub(super) trait Settings {
    /// A fresh policy with these settings, which shares these counts with the rest of its tree.
    fn build(&self, shared: &Shared) -> Box<dyn Policy>;

    /// What is wrong with the values, beyond what their types exclude.
    fn check(&self) -> Result<(), Rule> {
        Ok(())
    }

    /// The policy that this one is wrapped around.
    fn child(&self) -> Option<&PolicyConfig> {
        None
    }

    /// What it needs of its host.
    fn needs(&self) -> Needs {
        self.child().map_or_else(Needs::default, PolicyConfig::needs)
    }

    /// Whether the weights of endpoints make a difference to it.
    fn uses_weights(&self) -> bool {
        self.child().is_some_and(PolicyConfig::uses_weights)
    }

    /// The header that it wants requests to be hashed by.
    fn request_hash_header(&self) -> Option<&str> {
        self.child().and_then(PolicyConfig::request_hash_header)
    }
}

/// What a policy needs of its host besides connections. A host that knows may save itself the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// [`PickContext::hash`](crate::PickContext::hash). One request may wait while another is sent.
    pub hash: bool,
    /// [`PickContext::session`](crate::PickContext::session), likewise; and endpoints that drain, which others are not told of.
    pub session: bool,
    /// [`Outcome::load`](crate::Outcome::load).
    pub load: bool,
    /// What servers say of their load apart from responses: [`Policy::load_report`], answers to probes
    /// ([`Picker::probed`](crate::Picker::probed)).
    pub oob_load: bool,
    /// [`EndpointSet::local`](crate::EndpointSet::local).
    pub local: bool,
}

impl Needs {
    /// What either needs.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self {
            hash: self.hash | other.hash,
            session: self.session | other.session,
            load: self.load | other.load,
            oob_load: self.oob_load | other.oob_load,
            local: self.local | other.local,
        }
    }
}

/// A value that breaks a rule, in gRPC's words: `choice_count: 1, must be >= 2`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value}, must be {must}")]
pub struct Rule {
    /// The setting.
    pub field: &'static str,
    /// What it is.
    pub value: String,
    /// What it must be: `>= 2`.
    pub must: String,
}

impl Rule {
    /// `field` is `value`, and must be `must`.
    pub(super) fn broken(field: &'static str, value: impl fmt::Display, must: impl Into<String>) -> Self {
        Self { field, value: value.to_string(), must: must.into() }
    }
}

/// Declares the registry: the enum, the names, and how each is read and built. A new policy is one row.
macro_rules! policies {
    ($($(#[$doc:meta])* $variant:ident($config:ty) = $name:literal,)*) => {
        /// A policy and its settings.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum PolicyConfig {
            $($(#[$doc])* $variant($config),)*
        }

        impl PolicyConfig {
            /// Every policy's name, in the order of the documentation.
            pub const NAMES: &[&str] = &[$($name),*];

            /// gRPC's name of the policy, or Envoy's where gRPC has none.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// The policy of that name with its default settings.
            pub fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant(Default::default())),)* _ => None }
            }

            /// A fresh policy with these settings.
            pub fn build(&self) -> Box<dyn Policy> {
                self.build_with(&Shared::default())
            }

            /// The same as the child of another policy.
            pub(super) fn build_with(&self, shared: &Shared) -> Box<dyn Policy> {
                self.settings().build(shared)
            }

            fn settings(&self) -> &dyn Settings {
                match self { $(Self::$variant(config) => config,)* }
            }

            fn from_settings<'de, A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<Self, A::Error> {
                let policy = match name {
                    $($name => Self::$variant(map.next_value()?),)*
                    _ => return Err(unknown(name)),
                };
                policy.settings().check().map_err(|rule| A::Error::custom(format_args!("{name}: {rule}")))?;
                Ok(policy)
            }
        }

        /// Both forms: a name, or a table with one name and its settings.
        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for PolicyConfig {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                "Policy".into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut settings = schemars::Schema::default();
                $(settings.insert($name.to_owned(), generator.subschema_for::<$config>().into());)*
                schemars::json_schema!({
                    "description": "A policy's name, or a table with its name and its settings.",
                    "oneOf": [
                        { "type": "string", "enum": Self::NAMES },
                        {
                            "type": "object",
                            "properties": settings,
                            "additionalProperties": false,
                            "minProperties": 1,
                            "maxProperties": 1,
                        },
                    ],
                })
            }
        }
    };
}

policies! {
    /// The first address that connects takes everything.
    PickFirst(PickFirstConfig) = "pick_first",
    /// Uniformly at random.
    Random(RandomConfig) = "random",
    /// In turn.
    RoundRobin(RoundRobinConfig) = "round_robin",
    /// In turn, as often as the weight says.
    WeightedRoundRobin(WeightedRoundRobinConfig) = "weighted_round_robin",
    /// In turn, as often as the endpoint's load reports say.
    ClientSideWeightedRoundRobin(ClientSideWeightedRoundRobinConfig) = "client_side_weighted_round_robin",
    /// The least loaded of a few chosen at random.
    LeastRequest(LeastRequestConfig) = "least_request",
    /// The least loaded of all.
    LeastLoaded(LeastLoadedConfig) = "least_loaded",
    /// Of two chosen at random the one with less latency and fewer requests.
    P2cPeakEwma(P2cPeakEwmaConfig) = "p2c_peak_ewma",
    /// The one where a request should wait least, by what servers say of their queues.
    C3(C3Config) = "c3",
    /// At random by weight; slow endpoints lose theirs by degrees.
    Degrader(DegraderConfig) = "degrader",
    /// Of two chosen at random the better by requests in flight, what the server reports, and errors.
    UtilizationP2c(UtilizationP2cConfig) = "utilization_p2c",
    /// Whoever is idle, else any.
    JoinIdleQueue(JoinIdleQueueConfig) = "join_idle_queue",
    /// By the request's hash, on a ring of the endpoints' hashes.
    RingHash(RingHashConfig) = "ring_hash",
    /// By load that endpoints are asked for beside the requests.
    Prequal(PrequalConfig) = "prequal",
    /// By the request's hash, in a table that is evenly filled.
    Maglev(MaglevConfig) = "maglev",
    /// Around a hashing child: no endpoint far above the mean.
    BoundedLoad(BoundedLoadConfig) = "bounded_load",
    /// Around a child: no more than so many requests at a time.
    CircuitBreaker(CircuitBreakerConfig) = "circuit_breaker",
    /// Around a child that goes by weights: a new endpoint gets its share little by little.
    SlowStart(SlowStartConfig) = "slow_start",
    /// Around a child: fewer requests are sent when many are rejected.
    AdaptiveThrottle(AdaptiveThrottleConfig) = "adaptive_throttle",
    /// Around a child: requests wait for an endpoint, but not too many, and not for long.
    Admission(AdmissionConfig) = "admission",
    /// Around a child: no requests for a while to endpoints that fail more than the others.
    OutlierDetection(OutlierDetectionConfig) = "outlier_detection",
    /// Around a child: an endpoint that fails again and again is shut off until a single request to it succeeds.
    FailureAccrual(FailureAccrualConfig) = "failure_accrual",
    /// Around a child: requests of a session go where the session began.
    OverrideHost(OverrideHostConfig) = "override_host",
    /// Around a child: a few endpoints drawn at random and kept.
    RandomSubsetting(RandomSubsettingConfig) = "random_subsetting",
    /// Around a child: a few endpoints, shared out among numbered clients in turns.
    DeterministicSubsetting(DeterministicSubsettingConfig) = "deterministic_subsetting",
    /// Around a child: a few endpoints, those over against the client on a ring.
    Aperture(ApertureConfig) = "aperture",
    /// Around a child for each priority: the first, and the next as far as that one is not well.
    Priority(PriorityConfig) = "priority",
    /// Around a child for each locality: by the localities' weights.
    WrrLocality(WrrLocalityConfig) = "wrr_locality",
    /// Around a child for each locality: the client's own zone as far as it has room.
    ZoneAware(ZoneAwareConfig) = "zone_aware",
    /// Around a child: the endpoints in the client's zone, if there are any.
    PreferClose(PreferCloseConfig) = "prefer_close",
}

impl PolicyConfig {
    /// The policy that this one is wrapped around, if it is.
    pub fn child(&self) -> Option<&Self> {
        self.settings().child()
    }

    /// Its settings that are not as by default, besides its [child](Self::child), as a scenario writes them.
    pub fn changed(&self) -> Map<String, Value> {
        let settings = |policy: &Self| match serde_json::to_value(policy) {
            Ok(Value::Object(mut named)) => named.remove(policy.name()),
            _ => None,
        };
        let default = Self::named(self.name()).and_then(|policy| settings(&policy)).unwrap_or_default();
        let Some(Value::Object(mut changed)) = settings(self) else { return Map::new() };
        changed.retain(|setting, value| setting != "child_policy" && default.get(setting) != Some(value));
        changed
    }

    /// What it needs of its host besides connections.
    pub fn needs(&self) -> Needs {
        self.settings().needs()
    }

    /// Whether the weights of endpoints make a difference to it.
    pub(super) fn uses_weights(&self) -> bool {
        self.settings().uses_weights()
    }

    /// The names of those that go by weights themselves.
    pub(super) fn named_that_use_weights() -> Vec<&'static str> {
        let goes_by_weights = |name: &&str| Self::named(name).is_some_and(|p| p.child().is_none() && p.uses_weights());
        Self::NAMES.iter().copied().filter(goes_by_weights).collect()
    }

    /// The header whose value, hashed by [`hash_of`](crate::route::hash_of), is to be a request's
    /// [hash](crate::PickContext::hash) where no route says otherwise (gRFC A76 `requestHashHeader`).
    pub fn request_hash_header(&self) -> Option<&str> {
        self.settings().request_hash_header()
    }
}

fn unknown<E: serde::de::Error>(name: &str) -> E {
    E::custom(format_args!("unknown policy `{name}`, expected one of {}", PolicyConfig::NAMES.join(", ")))
}

impl<'de> Deserialize<'de> for PolicyConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrSettings;
        impl<'de> Visitor<'de> for NameOrSettings {
            type Value = PolicyConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a policy's name, or a table of one policy's settings such as { least_request = { choice_count = 3 } }")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<PolicyConfig, E> {
                PolicyConfig::named(name).ok_or_else(|| unknown(name))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PolicyConfig, A::Error> {
                let name: String = map.next_key()?.ok_or_else(|| A::Error::custom("an empty table names no policy"))?;
                let policy = PolicyConfig::from_settings(&name, &mut map)?;
                match map.next_key::<IgnoredAny>()? {
                    Some(_) => Err(A::Error::custom("a table of settings names one policy only")),
                    None => Ok(policy),
                }
            }
        }
        deserializer.deserialize_any(NameOrSettings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Nanos;
    use crate::policy::least_request::{ChoiceCount, SelectionMethod};
    use crate::policy::pick_first::ConnectionAttemptDelay;
    use crate::policy::priority::Failover;
    use crate::policy::round_robin::Start;
    use crate::policy::subset::random::HashInput;
    use crate::policy::weighted_round_robin::{Scheduler, WeightClamp};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Strategy {
        policy: PolicyConfig,
    }

    fn toml(text: &str) -> Result<PolicyConfig, String> {
        toml::from_str(text).map(|s: Strategy| s.policy).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn a_name_alone_means_the_defaults() {
        for &name in PolicyConfig::NAMES {
            let policy = PolicyConfig::named(name).unwrap();
            assert_eq!(policy.name(), name);
            assert_eq!(toml(&format!("policy = '{name}'")), Ok(policy.clone()));
            assert_eq!(toml(&format!("policy = {{ {name} = {{}} }}")), Ok(policy.clone()));
            assert_eq!(toml(&format!("[policy.{name}]")), Ok(policy.clone()));
            assert_eq!(serde_json::from_str::<PolicyConfig>(&format!("\"{name}\"")).unwrap(), policy);
            assert_eq!(serde_json::from_str::<PolicyConfig>(&format!("{{\"{name}\": {{}}}}")).unwrap(), policy);
        }
    }

    #[test]
    fn settings_are_read_and_written() {
        let cases = [
            (
                "policy = { least_request = { choice_count = 3 } }",
                PolicyConfig::LeastRequest(LeastRequestConfig {
                    choice_count: ChoiceCount::new(3).unwrap(),
                    ..Default::default()
                }),
            ),
            (
                "policy = { round_robin = { start = 'zero' } }",
                PolicyConfig::RoundRobin(RoundRobinConfig { start: Start::Zero, ..Default::default() }),
            ),
            (
                "policy = { weighted_round_robin = { scheduler = 'edf', clamp = 'none' } }",
                PolicyConfig::WeightedRoundRobin(WeightedRoundRobinConfig {
                    scheduler: Scheduler::Edf,
                    clamp: WeightClamp::None,
                }),
            ),
            (
                "[policy.pick_first]\nshuffle_address_list = true\nconnection_attempt_delay = '1s'",
                PolicyConfig::PickFirst(PickFirstConfig {
                    shuffle_address_list: true,
                    connection_attempt_delay: ConnectionAttemptDelay::new(Nanos::from_secs(1)),
                }),
            ),
            (
                "policy = { least_request = { active_request_bias = 1.0, selection_method = 'full_scan' } }",
                PolicyConfig::LeastRequest(LeastRequestConfig {
                    active_request_bias: Some(1.0),
                    selection_method: SelectionMethod::FullScan,
                    ..Default::default()
                }),
            ),
            (
                "policy = { priority = { failover = 'grpc', child_policy = { prefer_close = { child_policy = 'random' } } } }",
                PolicyConfig::Priority(PriorityConfig {
                    failover: Failover::Grpc,
                    child_policy: Box::new(PolicyConfig::PreferClose(PreferCloseConfig {
                        child_policy: Box::new(PolicyConfig::Random(RandomConfig {})),
                    })),
                    ..Default::default()
                }),
            ),
            (
                "policy = { random_subsetting = { seed = 3, hash_input = 'grpc_go_debug_string' } }",
                PolicyConfig::RandomSubsetting(RandomSubsettingConfig {
                    seed: Some(3),
                    hash_input: HashInput::GrpcGoDebugString,
                    ..Default::default()
                }),
            ),
            // gRFC A48: more than 10 choices count as 10; gRFC A61: a delay below 100 ms counts as 100 ms.
            (
                "policy = { least_request = { choice_count = 64 } }",
                PolicyConfig::LeastRequest(LeastRequestConfig {
                    choice_count: ChoiceCount::new(10).unwrap(),
                    ..Default::default()
                }),
            ),
            (
                "policy = { pick_first = { connection_attempt_delay = '1ms' } }",
                PolicyConfig::PickFirst(PickFirstConfig {
                    connection_attempt_delay: ConnectionAttemptDelay::new(Nanos::from_millis(100)),
                    ..Default::default()
                }),
            ),
        ];
        for (text, policy) in cases {
            assert_eq!(toml(text).as_ref(), Ok(&policy), "{text}");
            let json = serde_json::to_string(&policy).unwrap();
            assert_eq!(serde_json::from_str::<PolicyConfig>(&json).unwrap(), policy, "{json}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("policy = { least_request = { choice_count = 1 } }", "least_request: choice_count: 1, must be >= 2"),
            (
                "policy = { least_request = { choices = 2 } }",
                "unknown field `choices`, expected one of `choice_count`, `with_replacement`, `selection_method`, \
                 `active_request_bias`",
            ),
            (
                "policy = { least_request = { active_request_bias = -0.5 } }",
                "least_request: active_request_bias: -0.5, must be >= 0",
            ),
            ("policy = { p2c_peak_ewma = { decay = '0s' } }", "p2c_peak_ewma: decay: 0s, must be > 0s"),
            (
                "policy = { client_side_weighted_round_robin = { error_utilization_penalty = -0.5 } }",
                "client_side_weighted_round_robin: error_utilization_penalty: -0.5, must be >= 0",
            ),
            (
                "policy = { client_side_weighted_round_robin = { oob_reporting_period = '0s' } }",
                "client_side_weighted_round_robin: oob_reporting_period: 0s, must be > 0s",
            ),
            ("policy = { slow_start = { aggression = 0 } }", "slow_start: aggression: 0, must be > 0"),
            ("policy = { slow_start = { aggression = nan } }", "slow_start: aggression: NaN, must be > 0"),
            (
                "policy = { slow_start = { min_weight_percent = 101 } }",
                "slow_start: min_weight_percent: 101, must be between 0 and 100",
            ),
            ("policy = { random_subsetting = { subset_size = 0 } }", "random_subsetting: subset_size: 0, must be >= 1"),
            ("policy = { aperture = { min_aperture = 1 } }", "aperture: min_aperture: 1, must be >= 2"),
            (
                "policy = { priority = { healthy_panic_threshold = 101 } }",
                "priority: healthy_panic_threshold: 101, must be <= 100",
            ),
            ("policy = { zone_aware = { routing_enabled = 200 } }", "zone_aware: routing_enabled: 200, must be <= 100"),
            (
                "policy = { wrr_locality = { child_policy = { aperture = { min_aperture = 0 } } } }",
                "aperture: min_aperture: 0, must be >= 2",
            ),
            ("policy = { random = { seed = 1 } }", "unknown field `seed`, there are no fields"),
            ("policy = { round_robin = { start = 'first' } }", "unknown variant `first`, expected `random` or `zero`"),
            ("policy = { random = {}, round_robin = {} }", "a table of settings names one policy only"),
            ("policy = {}", "an empty table names no policy"),
            (
                "policy = 5",
                "invalid type: integer `5`, expected a policy's name, or a table of one policy's settings \
                 such as { least_request = { choice_count = 3 } }",
            ),
            (
                "policy = { pick_first = { connection_attempt_delay = '250' } }",
                "`250` is not a duration; write a number and a unit, such as \"10s\", \"250ms\" or \"1m 30s\"",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(toml(text), Err(message.to_owned()), "{text}");
        }
        for (text, name) in [("policy = 'round_robbin'", "round_robbin"), ("policy = { fastest = {} }", "fastest")] {
            let message = toml(text).unwrap_err();
            let list = message.strip_prefix(&format!("unknown policy `{name}`, expected one of ")).unwrap();
            assert_eq!(list.split(", ").collect::<Vec<_>>(), PolicyConfig::NAMES);
        }
    }

    #[cfg(feature = "schema")]
    #[test]
    fn the_schema_has_both_forms() {
        let schema = serde_json::to_value(schemars::schema_for!(PolicyConfig)).unwrap();
        assert_eq!(schema["oneOf"][0]["enum"], serde_json::json!(PolicyConfig::NAMES));
        let table = &schema["oneOf"][1];
        let names: Vec<&String> = table["properties"].as_object().unwrap().keys().collect();
        assert_eq!(names.len(), PolicyConfig::NAMES.len());
        assert!(PolicyConfig::NAMES.iter().all(|n| table["properties"][n]["$ref"].is_string()), "{table}");
        assert_eq!(table["additionalProperties"], false);
        assert_eq!(schema["$defs"]["LeastRequestConfig"]["properties"]["choice_count"]["minimum"], 2);
    }
}
