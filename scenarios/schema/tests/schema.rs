//! The JSON Schema for editors: current, true of valid scenarios, and as strict as the reader.

use std::{env, fs};

use serde_json::{Value, json};

const VALID: [&str; 2] = [include_str!("valid/headless-and-sidecar.toml"), include_str!("valid/everything.toml")];

fn validator() -> jsonschema::Validator {
    jsonschema::validator_for(&scenarios::json_schema()).unwrap()
}

fn as_json(toml: &str) -> Value {
    toml::from_str(toml).unwrap()
}

#[test]
fn the_committed_copy_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/scenario.schema.json");
    let current = format!("{:#}\n", scenarios::json_schema());
    if env::var_os("UPDATE").is_some_and(|value| value == "1") {
        fs::write(path, &current).unwrap();
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    // Compared as values: the order of keys says nothing.
    assert!(
        serde_json::from_str::<Value>(&committed).is_ok_and(|committed| committed == scenarios::json_schema()),
        "scenario.schema.json is not what the types say; `UPDATE=1 cargo test -p scenarios` rewrites it"
    );
}

#[test]
fn it_is_a_schema_with_a_dialect_and_a_title() {
    let schema = scenarios::json_schema();
    assert!(jsonschema::meta::is_valid(&schema));
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["title"], "Evenkeel scenario");
    assert!(!schema.to_string().contains("null"), "TOML has no null");
}

#[test]
fn it_accepts_valid_scenarios() {
    let validator = validator();
    for text in VALID {
        let errors: Vec<String> =
            validator.iter_errors(&as_json(text)).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}

#[test]
fn it_refuses_what_the_reader_refuses() {
    let validator = validator();
    for (pointer, key, value) in [
        ("", "sede", json!(7)),
        ("", "duration", json!("60")),
        ("", "duration", json!(60)),
        ("/deployment/0", "replica", json!(3)),
        ("/deployment/0", "replicas", json!(-1)),
        ("/deployment/0", "service_time", json!({"exponential": "1ms", "constant": "1ms"})),
        ("/load", "open", json!({"rate": 500})),
        ("/load", "open", json!({"rate": "500/day"})),
        ("/strategy/0", "balancer", json!("edge")),
        ("/strategy/0", "client", json!({"policy": "round_robbin"})),
        ("/strategy/0", "client", json!({"policy": {"random": {"x": 1}}})),
        ("/expect/0", "metric", json!("requests.filed")),
        ("/expect/0", "bound", json!("0.34")),
    ] {
        let mut scenario = as_json(VALID[0]);
        scenario.pointer_mut(pointer).unwrap()[key] = value.clone();
        assert!(!validator.is_valid(&scenario), "{pointer}/{key} = {value}");
    }
}

/// An editor explains a key by its description; one without is a doc comment that was forgotten.
#[test]
fn every_key_is_described() {
    let schema = scenarios::json_schema();
    let described = |of: &Value| {
        let name = of.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/"));
        of.get("description").or(name.and_then(|name| schema["$defs"][name].get("description"))).is_some()
    };
    let mut open = vec![(&schema, String::new())];
    while let Some((value, path)) = open.pop() {
        // The one key of `{ exponential = "10ms" }` is described beside the table that holds it.
        let one_key = value.get("properties").and_then(Value::as_object).is_some_and(|keys| keys.len() == 1);
        let alone = one_key && value.get("description").is_some();
        for (key, of) in value.get("properties").and_then(Value::as_object).into_iter().flatten() {
            assert!(alone || described(of), "{path}/{key} has no description");
        }
        match value {
            Value::Object(object) => open.extend(object.iter().map(|(key, of)| (of, format!("{path}/{key}")))),
            Value::Array(items) => open.extend(items.iter().map(|item| (item, path.clone()))),
            _ => {}
        }
    }
}
