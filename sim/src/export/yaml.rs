//! YAML as people write it: what a thing is called and what it is come first.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// Keys that come before the others, which are in alphabetical order.
const FIRST: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "@type",
    "name",
    "type",
    "match",
    "route",
    "node",
    "static_resources",
    "listeners",
    "stat_prefix",
    "route_config",
];

/// A document.
pub(super) fn document(value: &Value) -> String {
    // Long names stay on one line.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(&Ordered(value), options).expect("JSON is YAML")
}

struct Ordered<'a>(&'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
                fields.sort_by_key(|(name, _)| FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()));
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, &Ordered(value))?;
                }
                map.end()
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Ordered)),
            scalar => scalar.serialize(serializer),
        }
    }
}
