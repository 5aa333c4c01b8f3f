//! Values with a notation of their own: rates and bounds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Requests per second, written "500/s" (also "/ms", "/m", "/h").
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(f64);

impl Rate {
    /// A rate of `per_s` requests per second.
    pub fn per_s(self) -> f64 {
        self.0
    }
}

/// What a measured value must satisfy.
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

impl FromStr for Rate {
    type Err = String;
    fn from_str(_: &str) -> Result<Self, String> {
        todo!()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

impl Serialize for Rate {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        todo!()
    }
}

impl schemars::JsonSchema for Rate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rate".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string"})
    }
}

impl FromStr for Bound {
    type Err = String;
    fn from_str(_: &str) -> Result<Self, String> {
        todo!()
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

impl Serialize for Bound {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        todo!()
    }
}

impl schemars::JsonSchema for Bound {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bound".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string"})
    }
}
