//! Time as integer nanoseconds since the host's epoch, and as a length.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;
use std::time::Duration;

/// An instant (since the host's epoch) or a length of time, in whole nanoseconds.
///
/// 64 bits last 584 years. Sums saturate: an instant that would overflow means "never", which is how an unlimited
/// connection age is written.
///
/// In configuration it is text with a unit, as gRPC's service config and Envoy write it:
///
/// ```
/// use lb_core::Nanos;
/// assert_eq!("10s".parse(), Ok(Nanos::from_secs(10)));
/// assert_eq!("0.25s".parse(), Ok(Nanos::from_millis(250)));
/// assert_eq!(Nanos::from_micros(1500).to_string(), "1.5ms");
/// assert!("10".parse::<Nanos>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The epoch, or no time at all.
    pub const ZERO: Self = Self(0);
    /// Later than anything that happens.
    pub const NEVER: Self = Self(u64::MAX);

    /// `s` seconds.
    pub const fn from_secs(s: u64) -> Self {
        Self(s.saturating_mul(1_000_000_000))
    }

    /// `ms` milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// `us` microseconds.
    pub const fn from_micros(us: u64) -> Self {
        Self(us.saturating_mul(1_000))
    }

    /// The nearest whole number of nanoseconds to `s` seconds (rounded, not truncated; negative and NaN give zero).
    pub fn from_secs_f64(s: f64) -> Self {
        Self((s * 1e9 + 0.5) as u64)
    }

    /// In seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// In milliseconds.
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Time since `earlier`; zero if that is not in the past.
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// `factor` times as long, rounded to the nanosecond.
    pub fn mul_f64(self, factor: f64) -> Self {
        if self == Self::NEVER { self } else { Self((self.0 as f64 * factor + 0.5) as u64) }
    }
}

impl Add for Nanos {
    type Output = Self;
    fn add(self, rhs: Self) -> Self {
        Self(self.0.saturating_add(rhs.0))
    }
}

impl AddAssign for Nanos {
    fn add_assign(&mut self, rhs: Self) {
        *self = *self + rhs;
    }
}

impl Sub for Nanos {
    type Output = Self;
    fn sub(self, rhs: Self) -> Self {
        self.since(rhs)
    }
}

impl From<Duration> for Nanos {
    fn from(d: Duration) -> Self {
        Self(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0s"),
            u64::MAX => f.write_str("never"),
            n if n >= 1_000_000_000 => write!(f, "{}s", n as f64 / 1e9),
            n if n >= 1_000_000 => write!(f, "{}ms", n as f64 / 1e6),
            n if n >= 1_000 => write!(f, "{}us", n as f64 / 1e3),
            n => write!(f, "{n}ns"),
        }
    }
}

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration; write a number and a unit, such as \"10s\", \"250ms\" or \"1m 30s\"")]
pub struct ParseNanosError {
    text: String,
}

impl FromStr for Nanos {
    type Err = ParseNanosError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // humantime reads a bare "0" as zero; with that exception a unit is required, so that "10" is never guessed at.
        humantime::parse_duration(text).map(Self::from).map_err(|_| ParseNanosError { text: text.to_owned() })
    }
}

impl serde::Serialize for Nanos {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Nanos {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Nanos;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration in quotes with a unit, such as \"10s\" or \"250ms\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Nanos, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Nanos {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A number and a unit: ns, us, ms, s, m, h. Examples: \"10s\", \"250ms\", \"1m 30s\".",
            "pattern": r"^\s*(0|([0-9]+(\.[0-9]+)?\s*[a-zA-Zµ]+\s*)+)$",
            "examples": ["10s", "250ms"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_saturate_at_never() {
        assert_eq!(Nanos::NEVER + Nanos::from_secs(1), Nanos::NEVER);
        assert_eq!(Nanos::ZERO - Nanos::from_secs(1), Nanos::ZERO);
        assert_eq!(Nanos::NEVER.mul_f64(0.9), Nanos::NEVER);
    }

    #[test]
    fn displays_what_it_parses() {
        for text in ["0s", "15ns", "1.5us", "250ms", "10s", "3600s"] {
            assert_eq!(text.parse::<Nanos>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_units_are_refused() {
        for text in ["", "10", "10 parsecs", "-1s", "s", "999999999999999999999h"] {
            assert!(text.parse::<Nanos>().is_err(), "{text}");
        }
    }

    #[test]
    fn fractions_are_rounded_not_truncated() {
        assert_eq!(Nanos::from_secs_f64(1e-9 * 1.6), Nanos(2));
        assert_eq!(Nanos(10).mul_f64(0.96), Nanos(10));
    }
}
