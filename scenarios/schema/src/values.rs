//! Values with a notation of their own: rates and bounds.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not a [`Rate`] or a [`Bound`]: what was read and what must be written instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseValueError(String);

/// A number as both notations write it: decimal, with an exponent and underscores between digits if wanted.
const NUMBER: &str = r"[+-]?[0-9][0-9_]*(\.[0-9][0-9_]*)?([eE][+-]?[0-9]+)?";

/// `f64`'s own reader also takes "inf", "nan", ".5" and "5."; none of them belongs in a scenario.
fn number(text: &str) -> Option<f64> {
    let digit_at = |i: usize| text.as_bytes().get(i).is_some_and(u8::is_ascii_digit);
    let plain = text.char_indices().all(|(i, c)| match c {
        '_' | '.' => i > 0 && digit_at(i - 1) && digit_at(i + 1),
        _ => c.is_ascii_digit() || matches!(c, 'e' | 'E' | '+' | '-'),
    });
    if !plain {
        return None;
    }
    text.replace('_', "").parse().ok().filter(|n: &f64| n.is_finite())
}

/// Requests per second, written "500/s" (also "/ms", "/m", "/h"): finite and above zero.
///
/// ```
/// use scenarios::Rate;
/// assert_eq!("90_000/m".parse::<Rate>().unwrap().per_s(), 1500.0);
/// assert_eq!("2/ms".parse::<Rate>().unwrap().to_string(), "2000/s");
/// assert!("500".parse::<Rate>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(f64);

impl Rate {
    /// Requests per second.
    pub fn per_s(self) -> f64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = ParseValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |why: &str| ParseValueError(format!("`{text}` is not a rate: {why}"));
        let (count, unit) = text.split_once('/').ok_or_else(|| wrong("it has no unit of time after a `/`"))?;
        let count = number(count.trim()).ok_or_else(|| wrong("what stands before the `/` is not a number"))?;
        let per_s = match unit.trim() {
            "ms" => count * 1e3,
            "s" => count,
            "m" => count / 60.0,
            "h" => count / 3600.0,
            _ => return Err(wrong("its unit is none of ms, s, m, h")),
        };
        if per_s.is_finite() && per_s > 0.0 { Ok(Self(per_s)) } else { Err(wrong("it must be above zero and finite")) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

/// What a measured value must satisfy.
///
/// ```
/// use scenarios::Bound;
/// let third: Bound = "0.32..0.34".parse().unwrap();
/// assert!(third.holds(1.0 / 3.0) && !third.holds(0.35));
/// assert_eq!(third.to_string(), "0.32..0.34");
/// assert!("<=1.01".parse::<Bound>().unwrap().holds(1.01));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// `"== 3"`
    Equal(f64),
    /// `"< 3"`
    Below(f64),
    /// `"<= 3"`
    AtMost(f64),
    /// `"> 3"`
    Above(f64),
    /// `">= 3"`
    AtLeast(f64),
    /// `"1..3"`, both ends included.
    Within(f64, f64),
}

impl Bound {
    /// Whether `measured` satisfies it. Exact: no tolerance is added, and nothing holds of NaN.
    pub fn holds(self, measured: f64) -> bool {
        match self {
            Self::Equal(x) => measured == x,
            Self::Below(x) => measured < x,
            Self::AtMost(x) => measured <= x,
            Self::Above(x) => measured > x,
            Self::AtLeast(x) => measured >= x,
            Self::Within(low, high) => low <= measured && measured <= high,
        }
    }
}

impl FromStr for Bound {
    type Err = ParseValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |why: &str| ParseValueError(format!("`{text}` is not a bound: {why}"));
        if let Some((low, high)) = text.split_once("..") {
            let (Some(low), Some(high)) = (number(low.trim()), number(high.trim())) else {
                return Err(wrong("a range has a number on each side of `..`"));
            };
            return if low <= high {
                Ok(Self::Within(low, high))
            } else {
                Err(wrong("its lower end is above its upper end"))
            };
        }
        // The longer operator first, or "<= 3" would be read as "<" and "= 3".
        let trimmed = text.trim();
        for operator in ["==", "<=", ">=", "<", ">"] {
            let Some(rest) = trimmed.strip_prefix(operator) else { continue };
            let x = number(rest.trim()).ok_or_else(|| wrong("what follows the operator is not a number"))?;
            return Ok(match operator {
                "==" => Self::Equal(x),
                "<=" => Self::AtMost(x),
                ">=" => Self::AtLeast(x),
                "<" => Self::Below(x),
                _ => Self::Above(x),
            });
        }
        Err(wrong("it starts with none of ==, <, <=, >, >= and has no `..`"))
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal(x) => write!(f, "== {x}"),
            Self::Below(x) => write!(f, "< {x}"),
            Self::AtMost(x) => write!(f, "<= {x}"),
            Self::Above(x) => write!(f, "> {x}"),
            Self::AtLeast(x) => write!(f, ">= {x}"),
            Self::Within(low, high) => write!(f, "{low}..{high}"),
        }
    }
}

/// A number of pods: a count ("1") or a part of the replicas ("25%"), as Kubernetes' IntOrString.
///
/// ```
/// use scenarios::PodCount;
/// let quarter: PodCount = "25%".parse().unwrap();
/// assert_eq!((quarter.rounded_up(10), quarter.rounded_down(10)), (3, 2));
/// assert_eq!("2".parse::<PodCount>().unwrap().rounded_up(10), 2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodCount {
    /// So many.
    Count(u32),
    /// So many in a hundred replicas.
    Percent(u32),
}

impl PodCount {
    /// Of so many replicas; part of a pod counts as a pod (Kubernetes' rule for `maxSurge`).
    pub fn rounded_up(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (u64::from(replicas) * u64::from(percent)).div_ceil(100) as u32,
        }
    }

    /// Of so many replicas; part of a pod counts as none (Kubernetes' rule for `maxUnavailable`).
    pub fn rounded_down(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (u64::from(replicas) * u64::from(percent) / 100) as u32,
        }
    }
}

impl FromStr for PodCount {
    type Err = ParseValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |why: &str| ParseValueError(format!("`{text}` is not a number of pods: {why}"));
        match text.trim().strip_suffix('%') {
            Some(percent) => match percent.trim().parse() {
                Ok(percent @ 0..=100) => Ok(Self::Percent(percent)),
                _ => Err(wrong("what stands before the `%` is not a whole number from 0 to 100")),
            },
            None => match text.trim().parse() {
                Ok(count @ 0..=1_000_000) => Ok(Self::Count(count)),
                _ => Err(wrong("it is neither a whole number up to 1000000 nor one with a `%`")),
            },
        }
    }
}

impl fmt::Display for PodCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Reads any of this module's values from text.
fn from_text<'de, D, T>(deserializer: D, expecting: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = ParseValueError>,
{
    struct Text<T>(&'static str, std::marker::PhantomData<T>);
    impl<T: FromStr<Err = ParseValueError>> de::Visitor<'_> for Text<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text(expecting, std::marker::PhantomData))
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        from_text(d, "a rate in quotes with a unit of time, such as \"500/s\"")
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Requests per unit of time: /ms, /s, /m or /h. Examples: \"500/s\", \"1_000/m\".",
            "pattern": format!(r"^\s*{NUMBER}\s*/\s*(ms|s|m|h)\s*$"),
            "examples": ["500/s", "2/ms"],
        })
    }
}

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        from_text(d, "a bound in quotes, such as \"== 0\", \"<= 1.01\" or \"0.32..0.34\"")
    }
}

impl JsonSchema for Bound {
    fn schema_name() -> Cow<'static, str> {
        "Bound".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "==, <, <=, > or >= and a number, or a range with both ends included. Examples: \"== 0\", \"<= 1.01\", \"0.32..0.34\".",
            "pattern": format!(r"^\s*((==|<=|>=|<|>)\s*{NUMBER}|{NUMBER}\s*\.\.\s*{NUMBER})\s*$"),
            "examples": ["== 0", "<= 1.01", "0.32..0.34"],
        })
    }
}

impl Serialize for PodCount {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PodCount {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        from_text(d, "a number of pods in quotes, such as \"1\" or \"25%\"")
    }
}

impl JsonSchema for PodCount {
    fn schema_name() -> Cow<'static, str> {
        "PodCount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A number of pods, or a part of the replicas. Examples: \"1\", \"25%\".",
            "pattern": r"^\s*[0-9]+\s*%?\s*$",
            "examples": ["1", "25%"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_are_per_second_whatever_their_unit() {
        for (text, per_s) in [("500/s", 500.0), ("2/ms", 2000.0), ("90/m", 1.5), ("7200 / h", 2.0), ("1_000/s", 1000.0)]
        {
            assert_eq!(text.parse::<Rate>().map(Rate::per_s), Ok(per_s), "{text}");
        }
    }

    #[test]
    fn rates_without_unit_or_sense_are_refused() {
        for text in [
            "500", "500/", "/s", "500/d", "0/s", "-1/s", "inf/s", "nan/s", "1e999/s", "_1/s", "1__0/s", "1._5/s",
            ".5/s",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn bounds_include_and_exclude_their_ends() {
        let holds = |bound: &str, x: f64| bound.parse::<Bound>().unwrap().holds(x);
        assert!(holds("== 0", 0.0) && !holds("== 0", 1.0));
        assert!(!holds("< 5", 5.0) && holds("<= 5", 5.0));
        assert!(!holds("> 5", 5.0) && holds(">= 5", 5.0));
        assert!(holds("-1..1", -1.0) && holds("-1..1", 1.0) && !holds("-1..1", 1.1));
        assert!(!holds("-1..1", f64::NAN));
    }

    #[test]
    fn bounds_without_operator_or_order_are_refused() {
        for text in ["", "5", "= 5", "=> 5", "<", "!= 5", "2..1", "..1", "1..", "< inf", "1...2", "1..2..3"] {
            assert!(text.parse::<Bound>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_displayed_is_read_back(x in -1e12..1e12f64, width in 0.0..1e6f64, which in 0..6) {
            let bound = match which {
                0 => Bound::Equal(x),
                1 => Bound::Below(x),
                2 => Bound::AtMost(x),
                3 => Bound::Above(x),
                4 => Bound::AtLeast(x),
                _ => Bound::Within(x, x + width),
            };
            prop_assert_eq!(bound.to_string().parse::<Bound>(), Ok(bound));
            if x > 0.0 {
                prop_assert_eq!(Rate(x).to_string().parse::<Rate>(), Ok(Rate(x)));
            }
        }
    }
}
