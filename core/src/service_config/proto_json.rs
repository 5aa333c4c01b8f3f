//! Values as proto3's JSON has them, read and written.
//!
//! **Source**: protobuf.dev/programming-guides/json. Words of the errors are those of gRPC C-core's `json_object_loader`.

use serde_json::{Map, Value};

use super::ServiceConfigError;
use crate::Nanos;

/// google.protobuf.Duration: "from approximately -10,000 years to +10,000 years".
const MAX_SECONDS: u64 = 315_576_000_000;

/// A length of time as proto3's JSON writes it: seconds, with 0, 3, 6 or 9 decimals as needed.
///
/// ```
/// use lb_core::Nanos;
/// use lb_core::service_config::duration;
/// assert_eq!([10_000, 250, 1_500].map(|ms| duration(Nanos::from_millis(ms))), ["10s", "0.250s", "1.500s"]);
/// ```
pub fn duration(time: Nanos) -> String {
    let (seconds, nanos) = (time.0 / 1_000_000_000, time.0 % 1_000_000_000);
    let mut text = format!("{seconds}.{nanos:09}");
    while let Some(shorter) = text.strip_suffix("000") {
        text.truncate(shorter.len());
    }
    format!("{}s", text.trim_end_matches('.'))
}

/// The other way. What 64 bits of nanoseconds can't hold, from 584 years on, is [`Nanos::NEVER`].
fn parse_duration(text: &str) -> Option<Nanos> {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let number = text.strip_suffix('s')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let seconds: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Padded with zeros to nine digits: "25" is 250,000,000 ns.
    let nanos: u64 = format!("{fraction:0<9}").parse().ok()?;
    (seconds <= MAX_SECONDS).then(|| Nanos::from_secs(seconds) + Nanos(nanos))
}

/// An object and where it is, for errors. A field that is `null` is not there.
pub(super) struct Object<'a> {
    path: String,
    fields: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    pub(super) fn new(path: impl Into<String>, value: &'a Value) -> Result<Self, ServiceConfigError> {
        let path = path.into();
        match value {
            Value::Object(fields) => Ok(Self { path, fields }),
            _ => Err(ServiceConfigError { path, rule: "is not an object".into() }),
        }
    }

    /// Where the field of that name is.
    pub(super) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// An error about a field of it: `choiceCount: 1, must be >= 2`.
    pub(super) fn error(&self, name: &str, rule: impl std::fmt::Display) -> ServiceConfigError {
        match self.path.as_str() {
            "" => ServiceConfigError { path: name.to_owned(), rule: rule.to_string() },
            path => ServiceConfigError { path: path.to_owned(), rule: format!("{name}: {rule}") },
        }
    }

    /// An error about all of it.
    pub(super) fn whole(&self, rule: impl std::fmt::Display) -> ServiceConfigError {
        ServiceConfigError { path: self.path.clone(), rule: rule.to_string() }
    }

    /// What is in it.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value)).filter(|(_, value)| !value.is_null())
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn bool(&self, name: &str) -> Result<Option<bool>, ServiceConfigError> {
        self.read(name, "is not a boolean", Value::as_bool)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, ServiceConfigError> {
        self.read(name, "is not a string", Value::as_str)
    }

    /// A whole number: `2`, `"2"` or `2.0`.
    pub(super) fn count(&self, name: &str) -> Result<Option<u64>, ServiceConfigError> {
        self.read(name, "is not a whole number", |value| match value {
            Value::String(text) => text.parse().ok(),
            // Up to 2^53 a whole f64 is the number that was written.
            value => {
                value.as_u64().or_else(|| value.as_f64().filter(|n| *n >= 0.0 && *n <= 9e15).and_then(whole_number))
            }
        })
    }

    /// Any number: `1.5` or `"1.5"`. No NaN, no infinity: nothing in a service config has a use for them.
    pub(super) fn number(&self, name: &str) -> Result<Option<f64>, ServiceConfigError> {
        self.read(name, "is not a number", |value| {
            let number = value.as_str().map_or_else(|| value.as_f64(), |text| text.parse().ok());
            number.filter(|n: &f64| n.is_finite())
        })
    }

    pub(super) fn duration(&self, name: &str) -> Result<Option<Nanos>, ServiceConfigError> {
        self.read(name, "is not a duration such as \"10s\" or \"0.250s\"", |value| {
            value.as_str().and_then(parse_duration)
        })
    }

    pub(super) fn list(&self, name: &str) -> Result<Option<&'a [Value]>, ServiceConfigError> {
        self.read(name, "is not an array", |value| value.as_array().map(Vec::as_slice))
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Object<'a>>, ServiceConfigError> {
        self.get(name).map(|value| Object::new(self.at(name), value)).transpose()
    }

    fn read<T>(
        &self,
        name: &str,
        rule: &str,
        as_type: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ServiceConfigError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        as_type(value).map(Some).ok_or_else(|| self.error(name, rule))
    }
}

fn whole_number(n: f64) -> Option<u64> {
    (n.fract() == 0.0).then_some(n as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_those_of_proto3() {
        for (text, ns) in [
            ("0s", 0),
            ("10s", 10_000_000_000),
            ("1.5s", 1_500_000_000),
            ("0.000001s", 1_000),
            ("1.000000001s", 1_000_000_001),
            // grpc-go internal/serviceconfig/duration_test.go: either part may be left out.
            ("1.s", 1_000_000_000),
            (".5s", 500_000_000),
            ("315576000000s", u64::MAX),
        ] {
            assert_eq!(parse_duration(text), Some(Nanos(ns)), "{text}");
        }
        for text in
            ["", "s", ".s", "10", "10ms", "1m", "-1s", "+1s", "1.0000000001s", "1.2.3s", "315576000001s", "1e3s"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_is_read_as_it_was_written(ns: u64) {
            prop_assert_eq!(parse_duration(&duration(Nanos(ns))), Some(Nanos(ns)));
        }
    }

    #[test]
    fn numbers_may_be_text() {
        let json = serde_json::json!({
            "a": 2, "b": "2", "c": 2.0, "d": 2.5, "e": "2.5", "f": -1, "g": "x", "h": null, "i": "NaN", "j": 1e300,
        });
        let object = Object::new("at", &json).unwrap();
        let error = |rule: &str, name| object.error(name, rule);
        for name in ["a", "b", "c"] {
            assert_eq!(object.count(name), Ok(Some(2)), "{name}");
            assert_eq!(object.number(name), Ok(Some(2.0)), "{name}");
        }
        for name in ["d", "e"] {
            assert_eq!(object.count(name), Err(error("is not a whole number", name)));
            assert_eq!(object.number(name), Ok(Some(2.5)), "{name}");
        }
        assert_eq!(object.count("f"), Err(error("is not a whole number", "f")));
        assert_eq!(object.count("j"), Err(error("is not a whole number", "j")));
        for name in ["g", "i"] {
            assert_eq!(object.number(name), Err(error("is not a number", name)));
        }
        assert_eq!((object.count("h"), object.count("z")), (Ok(None), Ok(None)));
        assert_eq!(object.count("f").unwrap_err().to_string(), "at: f: is not a whole number");
    }
}
