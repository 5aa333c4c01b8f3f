//! The JSON Schema of a scenario file, made from the very types it is decoded into.
//!
//! Editors use it for completion and hovering; [`shape`](crate::shape) walks a file along it to find what does not fit.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::Scenario;

static SCHEMA: LazyLock<Value> = LazyLock::new(build);

/// The JSON Schema (draft 2020-12) of a scenario file, with the doc comments of [`Scenario`] as descriptions.
///
/// The copy in `scenario.schema.json` is for editors: a file that starts with
/// `#:schema schema/scenario.schema.json` is completed and checked while it is written.
pub fn json_schema() -> Value {
    let mut schema = SCHEMA.clone();
    spell_out(&mut schema);
    schema
}

/// The same, without a copy.
pub(crate) fn shared() -> &'static Value {
    &SCHEMA
}

fn build() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Scenario>().to_value();
    schema["title"] = json!("Evenkeel scenario");
    without_null(&mut schema);
    schema
}

/// Marks a list that may be written as a single table where it has one entry.
pub(crate) const ONE_OR_MANY: &str = "x-one-or-many";

/// The schema of a list that may be written as a single table.
pub(crate) fn one_or_many<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": generator.subschema_for::<T>(), ONE_OR_MANY: true })
}

/// In words of JSON Schema what the mark says to [`shape`](crate::shape): the item itself, or a list of them.
fn spell_out(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(spell_out),
        Value::Object(object) => {
            if object.remove(ONE_OR_MANY).is_some() {
                let (kind, items) = (object.remove("type"), object.remove("items"));
                object.insert("anyOf".into(), json!([items, { "type": kind, "items": items, "minItems": 1 }]));
            }
            object.values_mut().for_each(spell_out);
        }
        _ => {}
    }
}

/// TOML has no null: an `Option` is a key that may be left out, which `required` says already.
fn without_null(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(object) => {
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            if let Some(Value::Object(default)) = object.get_mut("default") {
                default.retain(|_, value| !value.is_null());
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(mut choices)) = object.remove("anyOf") {
                choices.retain(|choice| choice != &json!({"type": "null"}));
                match <[Value; 1]>::try_from(choices) {
                    Ok([Value::Object(only)]) => {
                        let own = std::mem::replace(object, only);
                        object.extend(own);
                    }
                    Ok([other]) => _ = object.insert("anyOf".into(), json!([other])),
                    Err(choices) => _ = object.insert("anyOf".into(), Value::Array(choices)),
                }
            }
            object.values_mut().for_each(without_null);
        }
        _ => {}
    }
}
