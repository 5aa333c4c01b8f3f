//! What is written validates against the committed schema, and the schema knows what is wrong.

mod common;

use common::{empty, headless, hundred, strategies, three};
use reports::statistics::{Observation, replicated};
use serde_json::Value;

fn validator() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(include_str!("../run.schema.json")).expect("the schema is JSON");
    jsonschema::meta::validate(&schema).expect("the schema is a schema");
    jsonschema::validator_for(&schema).expect("the schema compiles")
}

#[test]
fn run_json_validates() {
    let validator = validator();
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut of_seeds = replicated(three(), &[Observation::of(&three()), Observation::of(&three())]);
    of_seeds.scenario = "of-seeds".to_owned();
    for record in [headless(), three(), strategies(), hundred(), empty(), of_seeds] {
        let paths = reports::write(&dir.path().join(&record.scenario), &record).expect("written");
        let text = std::fs::read_to_string(paths.run_json).expect("readable");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let errors: Vec<String> =
            validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", record.scenario);
    }
}

#[test]
fn what_is_not_a_record_does_not() {
    let validator = validator();
    let good = serde_json::to_value(headless()).expect("JSON");
    let broken = |change: fn(&mut Value)| {
        let mut value = good.clone();
        change(&mut value);
        !validator.is_valid(&value)
    };
    assert!(!broken(|_| {}));
    assert!(broken(|v| v["seed"] = "one".into()));
    assert!(broken(|v| v["strategies"][0]["pods"][0]["role"] = "waiter".into()));
    assert!(broken(|v| v["strategies"][0]["requests"]["ok"] = (-1).into()));
    assert!(broken(|v| {
        v.as_object_mut().expect("an object").remove("duration_s");
    }));
}

#[test]
fn a_record_of_before_the_scenario_text_still_reads() {
    let mut value = serde_json::to_value(headless()).expect("JSON");
    value.as_object_mut().expect("an object").remove("scenario_text");
    assert!(validator().is_valid(&value));
    let record: reports::RunRecord = serde_json::from_value(value).expect("reads");
    assert_eq!(record.scenario_text, "");
    assert_eq!(record.replications, None);
}
