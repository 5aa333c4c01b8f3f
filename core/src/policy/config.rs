//! How a policy is named and configured: one serde type per policy.
//!
//! In a scenario a policy is its name (`policy = "round_robin"`) or a table of its settings
//! (`policy = { least_request = { choice_count = 3 } }`), the shape of gRPC's service config.

use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Policy;
use super::least_request::LeastRequestConfig;
use super::pick_first::PickFirstConfig;
use super::random::RandomConfig;
use super::round_robin::RoundRobinConfig;
use super::weighted_round_robin::WeightedRoundRobinConfig;

/// Declares the registry: the enum, the names, and how each is read and built. A new policy is one row.
macro_rules! policies {
    ($($(#[$doc:meta])* $variant:ident($config:ty) = $name:literal,)*) => {
        /// A policy and its settings.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(rename_all = "snake_case")]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
                match self { $(Self::$variant(config) => config.build(),)* }
            }

            fn from_settings<'de, A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<Self, A::Error> {
                match name {
                    $($name => Ok(Self::$variant(map.next_value()?)),)*
                    _ => Err(unknown(name)),
                }
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
    /// The least loaded of a few chosen at random.
    LeastRequest(LeastRequestConfig) = "least_request",
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
