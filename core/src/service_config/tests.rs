use serde_json::{Value, json};

use super::policies::{IN_GRPC, NOT_IN_GRPC, camel, snake};
use super::*;
use crate::route::RetryConfig;
use crate::{Code, Nanos};

/// Every field of every policy that gRPC has, at a value that is not its default.
fn everything() -> Vec<Value> {
    vec![
        json!({ "pick_first": { "shuffleAddressList": true } }),
        json!({ "round_robin": {} }),
        json!({ "least_request_experimental": { "choiceCount": 5 } }),
        json!({ "weighted_round_robin": {
            "enableOobLoadReport": true,
            "oobReportingPeriod": "30s",
            "blackoutPeriod": "0.500s",
            "weightExpirationPeriod": "60s",
            "weightUpdatePeriod": "2s",
            "errorUtilizationPenalty": 0.5,
        } }),
        json!({ "ring_hash_experimental": { "minRingSize": 64, "maxRingSize": 2048, "requestHashHeader": "x-user" } }),
        json!({ "random_subsetting_experimental": { "subsetSize": 7, "childPolicy": [{ "round_robin": {} }] } }),
        json!({ "outlier_detection_experimental": {
            "interval": "5s",
            "baseEjectionTime": "10s",
            "maxEjectionTime": "120s",
            "maxEjectionPercent": 50,
            "successRateEjection": {
                "stdevFactor": 1000, "enforcementPercentage": 50, "minimumHosts": 3, "requestVolume": 10,
            },
            "failurePercentageEjection": {
                "threshold": 50, "enforcementPercentage": 90, "minimumHosts": 2, "requestVolume": 20,
            },
            "childPolicy": [{ "least_request_experimental": { "choiceCount": 4 } }],
        } }),
    ]
}

fn read(json: &Value) -> Result<ServiceConfig, String> {
    ServiceConfig::from_json(json).map_err(|error| error.to_string())
}

fn policy(list: &Value) -> Result<PolicyConfig, String> {
    ServiceConfig::policy_from_json(list).map_err(|error| error.to_string())
}

#[test]
fn every_policy_is_in_grpc_or_not() {
    for &name in PolicyConfig::NAMES {
        let rows = IN_GRPC.iter().filter(|row| row.policy == name).count();
        let others = NOT_IN_GRPC.iter().filter(|(policy, _)| *policy == name).count();
        assert_eq!(rows + others, 1, "`{name}` needs a row in core/src/service_config/policies.rs, and one only");
    }
    for row in IN_GRPC {
        for field in row.fields {
            assert_eq!(camel(field.ours), field.theirs, "{}: names are the same but for their form", row.policy);
        }
    }
}

#[test]
fn a_policy_that_grpc_has_is_written_as_it_was_read() {
    for row in IN_GRPC {
        let examples = everything();
        let example = examples.iter().find(|example| example.get(row.grpc).is_some());
        let example = example.unwrap_or_else(|| panic!("`{}` has no example", row.grpc));
        let changed = policy(&json!([example])).unwrap().changed();
        for field in row.fields {
            assert!(changed.contains_key(field.ours), "{}: the example has `{}` as by default", row.grpc, field.theirs);
        }
    }
    for example in everything() {
        let json = json!([example]);
        let policy = policy(&json).unwrap();
        let written = ServiceConfig::policy_to_json(&policy);
        assert_eq!((written.json.as_ref(), written.missing), (Some(&json), vec![]));
        // A child is what it is around; everything else is in the JSON.
        let default = PolicyConfig::named(policy.name()).unwrap();
        let short = ServiceConfig::policy_to_json(&default).json.unwrap();
        assert_eq!(ServiceConfig::policy_from_json(&short), Ok(default));
    }
}

#[test]
fn defaults_are_left_out() {
    let channel = ChannelConfig { policy: PolicyConfig::named("least_request").unwrap(), ..Default::default() };
    let (config, missing) = ServiceConfig::of(&channel, &[]);
    assert_eq!(config.to_json().json, Some(json!({ "loadBalancingConfig": [{ "least_request_experimental": {} }] })));
    assert_eq!((missing, config.channel()), (vec![], channel));
}

#[test]
fn the_first_policy_that_is_known_counts() {
    let list = json!([{ "from_the_future": { "a": 1 } }, { "least_request_experimental": {} }, { "round_robin": {} }]);
    assert_eq!(policy(&list), Ok(PolicyConfig::named("least_request").unwrap()));
    // grpc-go serviceconfig_test.go: an error in the first that is known is an error, whatever comes after.
    let list = json!([{ "least_request_experimental": { "choiceCount": 1 } }, { "round_robin": {} }]);
    assert_eq!(
        policy(&list),
        Err("loadBalancingConfig[0].least_request_experimental: choiceCount: 1, must be >= 2".into())
    );
}

#[test]
fn lists_that_name_no_policy_are_refused() {
    for (list, error) in [
        (json!([]), "loadBalancingConfig: No known policies in list: "),
        (json!([{ "a": {} }, { "b": {} }]), "loadBalancingConfig: No known policies in list: a b"),
        (json!([{}]), "loadBalancingConfig[0]: no policy found in child entry"),
        (json!([{ "round_robin": {}, "pick_first": {} }]), "loadBalancingConfig[0]: oneOf violation"),
        (json!(["round_robin"]), "loadBalancingConfig[0]: is not an object"),
        (json!([{ "x": {} }, { "round_robin": 1 }]), "loadBalancingConfig[1].round_robin: is not an object"),
        (json!({ "round_robin": {} }), "loadBalancingConfig: is not an array"),
        // Ours, where gRPC has another.
        (json!([{ "least_request": {} }]), "loadBalancingConfig: No known policies in list: least_request"),
    ] {
        assert_eq!(policy(&list), Err(error.to_owned()));
    }
}

#[test]
fn values_are_proto3s() {
    let least_request = |choice_count: Value| {
        policy(&json!([{ "least_request_experimental": { "choiceCount": choice_count, "notAField": 1 } }]))
    };
    let of = |n: u32| {
        let settings = json!({ "least_request": { "choice_count": n } });
        Ok(serde_json::from_value::<PolicyConfig>(settings).unwrap())
    };
    assert_eq!([json!(3), json!("3"), json!(3.0)].map(&least_request), [of(3), of(3), of(3)]);
    assert_eq!(least_request(Value::Null), of(2), "null is the default");
    assert_eq!(least_request(json!(64)), of(10), "gRFC A48: more than 10 are 10");
    for wrong in [json!(-1), json!(2.5), json!("many"), json!([2])] {
        let error = "loadBalancingConfig[0].least_request_experimental: choiceCount: is not a whole number";
        assert_eq!(least_request(wrong), Err(error.into()));
    }
    assert!(
        least_request(json!(u64::MAX)).unwrap_err().starts_with("loadBalancingConfig[0].least_request_experimental: ")
    );
}

#[test]
fn policies_that_grpc_does_not_have_are_custom_ones() {
    let list = json!([{ "circuit_breaker": {
        "maxRequests": 7, "childPolicy": [{ "unknown": {} }, { "least_request_experimental": { "choiceCount": 4 } }],
    } }]);
    let ours =
        json!({ "circuit_breaker": { "max_requests": 7, "child_policy": { "least_request": { "choice_count": 4 } } } });
    let breaker = policy(&list).unwrap();
    assert_eq!(breaker, serde_json::from_value(ours).unwrap());
    // What it is around is in gRPC, itself it is not.
    let written = ServiceConfig::policy_to_json(&breaker);
    assert_eq!(written.json, Some(json!([{ "least_request_experimental": { "choiceCount": 4 } }])));
    assert_eq!(
        written.missing,
        ["`circuit_breaker` is not in gRPC's service config; with xDS gRPC has `max_requests` (A32)"]
    );

    for (list, error) in [
        (json!([{ "p2c_peak_ewma": { "decay": "0s" } }]), ".p2c_peak_ewma: decay: 0s, must be > 0s"),
        (json!([{ "maglev": { "tableSize": 10 } }]), ".maglev: tableSize: 10, must be a prime number, such as 11"),
        (
            json!([{ "circuit_breaker": { "childPolicy": [{ "least_request_experimental": { "choiceCount": 0 } }] } }]),
            ".circuit_breaker.childPolicy[0].least_request_experimental: choiceCount: 0, must be >= 2",
        ),
    ] {
        assert_eq!(policy(&list), Err(format!("loadBalancingConfig[0]{error}")));
    }
    // gRPC's policy of that name is another one, and has no such field.
    let theirs = policy(&json!([{ "weighted_round_robin": { "clamp": "none" } }]));
    assert_eq!(theirs, Ok(PolicyConfig::named("client_side_weighted_round_robin").unwrap()));
}

#[test]
fn what_has_no_equivalent_is_said() {
    for (ours, json, missing) in [
        (json!("maglev"), None, "`maglev` is not in gRPC"),
        (
            json!({ "least_request": { "with_replacement": false, "choice_count": 3 } }),
            Some(json!([{ "least_request_experimental": { "choiceCount": 3 } }])),
            "`least_request`: `with_replacement = false` has no field in gRPC's service config",
        ),
        (
            json!({ "round_robin": { "start": "zero" } }),
            Some(json!([{ "round_robin": {} }])),
            "`round_robin`: `start = \"zero\"` has no field in gRPC's service config",
        ),
        (
            json!({ "circuit_breaker": { "child_policy": "random" } }),
            None,
            "`circuit_breaker` is not in gRPC's service config; with xDS gRPC has `max_requests` (A32)",
        ),
    ] {
        let written = ServiceConfig::policy_to_json(&serde_json::from_value(ours).unwrap());
        assert_eq!((written.json, written.missing[0].as_str()), (json, missing));
    }
}

#[test]
fn the_older_name_of_a_policy_is_read() {
    let named = |name: &str| read(&json!({ "loadBalancingPolicy": name })).map(|config| config.policy);
    for name in ["round_robin", "ROUND_ROBIN"] {
        assert_eq!(named(name), Ok(PolicyConfig::named("round_robin")));
    }
    assert_eq!(named(""), Ok(None));
    assert_eq!(named("Grpc"), Err("loadBalancingPolicy: unknown LB policy \"grpc\"".into()));
    let both = json!({ "loadBalancingPolicy": "pick_first", "loadBalancingConfig": [{ "round_robin": {} }] });
    assert_eq!(read(&both).unwrap().policy, PolicyConfig::named("round_robin"));
    assert_eq!(read(&json!({})).unwrap().channel(), ChannelConfig::default());
}

/// The example of gRFC A6 "Integration with Service Config", with what else there is.
fn whole() -> Value {
    json!({
        "loadBalancingConfig": [{ "round_robin": {} }],
        "methodConfig": [
            {
                "name": [{ "service": "shop.Cart", "method": "Add" }, { "service": "shop.Stock" }],
                "timeout": "1.500s",
                "waitForReady": true,
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.100s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2.5,
                    "retryableStatusCodes": ["UNAVAILABLE", "ABORTED"],
                    "perAttemptRecvTimeout": "0.300s",
                },
            },
            {
                "name": [{ "service": "shop.Search" }],
                "hedgingPolicy": { "maxAttempts": 3, "hedgingDelay": "0.020s", "nonFatalStatusCodes": ["UNAVAILABLE"] },
            },
            { "name": [{}], "timeout": "10s" },
        ],
        "retryThrottling": { "maxTokens": 10, "tokenRatio": 0.1 },
        "healthCheckConfig": { "serviceName": "shop" },
    })
}

#[test]
fn a_whole_service_config_is_written_as_it_was_read() {
    let config = read(&whole()).unwrap();
    assert_eq!(config.to_json(), Written { json: Some(whole()), missing: vec![] });
    let method = &config.methods[0];
    assert_eq!((method.timeout, method.wait_for_ready), (Some(Nanos::from_millis(1_500)), Some(true)));
    let retry = RetryConfig {
        max_attempts: 4,
        initial_backoff: Nanos::from_millis(100),
        max_backoff: Nanos::from_secs(1),
        backoff_multiplier: 2.5,
        retryable_status_codes: vec![Code::Unavailable, Code::Aborted],
        per_attempt_timeout: Some(Nanos::from_millis(300)),
        budget: None,
        throttling: Some(ThrottlingConfig { max_tokens: 10, token_ratio: 0.1 }),
    };
    assert_eq!(method.retry.as_ref(), Some(&retry));
    assert_eq!(config.health_check.as_deref(), Some("shop"));
    assert!(config.channel().health_check);
    let routes = config.routes("server");
    let names: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["/shop.Cart/Add", "/shop.Stock/", "/shop.Search/", "/"]);
    assert!(routes.iter().all(|route| route.problems().is_empty()));

    // And the routes say the same again, a method at a time.
    let (again, missing) = ServiceConfig::of(&config.channel(), &routes);
    assert_eq!(again.routes("server"), routes);
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert!(missing.iter().all(|missing| missing.contains("perAttemptRecvTimeout")), "{missing:?}");
}

#[test]
fn wrong_methods_are_refused() {
    let retry = |field: &str, value: Value| {
        let mut json = whole();
        json["methodConfig"][0]["retryPolicy"][field] = value;
        read(&json).map(|config| config.methods[0].retry.clone().unwrap().max_attempts)
    };
    assert_eq!(retry("maxAttempts", json!(9)), Ok(5), "gRFC A6: more than 5 are 5");
    for (field, value, error) in [
        ("maxAttempts", json!(1), "maxAttempts: 1, must be >= 2"),
        ("maxAttempts", Value::Null, "maxAttempts: field not present"),
        ("initialBackoff", json!("0s"), "initialBackoff: 0s, must be > 0s"),
        ("maxBackoff", json!("1m"), "maxBackoff: is not a duration such as \"10s\" or \"0.250s\""),
        ("backoffMultiplier", json!(0), "backoffMultiplier: 0, must be > 0"),
        ("retryableStatusCodes", json!([]), "retryableStatusCodes: must be non-empty"),
        ("retryableStatusCodes", json!([14, "GONE"]), "retryableStatusCodes[1]: \"GONE\" is no status code"),
    ] {
        assert_eq!(retry(field, value), Err(format!("methodConfig[0].retryPolicy: {error}")));
    }
    for (place, value, error) in [
        (
            "/methodConfig/1/name/0",
            json!({ "method": "Add" }),
            "methodConfig[1].name[0]: method name populated without service name",
        ),
        (
            "/methodConfig/1/name/0",
            json!({ "service": "shop.Stock", "method": "" }),
            "methodConfig[1].name[0]: multiple method configs for path /shop.Stock/",
        ),
        ("/methodConfig/1/waitForReady", json!("yes"), "methodConfig[1]: waitForReady: is not a boolean"),
        ("/methodConfig/1", json!([]), "methodConfig[1]: is not an object"),
        ("/retryThrottling/maxTokens", json!(1001), "retryThrottling: maxTokens: 1001, must be in (0, 1000]"),
        ("/retryThrottling/tokenRatio", json!("0"), "retryThrottling: tokenRatio: 0, must be > 0"),
        ("/retryThrottling/tokenRatio", Value::Null, "retryThrottling: tokenRatio: field not present"),
        ("/healthCheckConfig/serviceName", json!(7), "healthCheckConfig: serviceName: is not a string"),
        ("", json!(7), "service config: is not an object"),
    ] {
        let mut json = whole();
        json["methodConfig"][1]["waitForReady"] = false.into();
        *json.pointer_mut(place).unwrap() = value;
        assert_eq!(read(&json), Err(error.to_owned()));
    }
}

fn routes(toml: &str) -> Vec<crate::route::RouteConfig> {
    #[derive(serde::Deserialize)]
    struct File {
        route: Vec<crate::route::RouteConfig>,
    }
    toml::from_str::<File>(toml).unwrap().route
}

#[test]
fn routes_are_written_as_methods_where_the_path_decides() {
    let routes = routes(
        r#"
        [[route]]
        name = "add"
        match = { path = "/shop.Cart/Add" }
        clusters = [{ name = "cart" }]

        [[route]]
        name = "testers"
        match = { headers = [{ name = "x-tester", present = true }] }
        clusters = [{ name = "cart" }]

        [[route]]
        name = "part"
        match = { prefix = "/shop.C" }
        clusters = [{ name = "cart" }]

        [[route]]
        name = "all"
        clusters = [{ name = "v1", weight = 9 }, { name = "v2" }]
        timeout = "2s"
        retry = { budget = {}, throttling = { max_tokens = 10, token_ratio = 0.5 } }

        [[route]]
        name = "late"
        match = { prefix = "/shop.Cart/" }
        clusters = [{ name = "cart" }]
        timeout = "1s"
        "#,
    );
    let (config, missing) = ServiceConfig::of(&ChannelConfig::default(), &routes);
    assert_eq!(
        config.to_json().json,
        Some(json!({
            "loadBalancingConfig": [{ "pick_first": {} }],
            "methodConfig": [
                // It says nothing, so that the next one says nothing of it.
                { "name": [{ "service": "shop.Cart", "method": "Add" }] },
                { "name": [{}], "timeout": "2s", "retryPolicy": {
                    "maxAttempts": 2, "initialBackoff": "0.025s", "maxBackoff": "0.250s", "backoffMultiplier": 2.0,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                } },
            ],
            "retryThrottling": { "maxTokens": 10, "tokenRatio": 0.5 },
        }))
    );
    assert_eq!(
        missing,
        [
            "route `testers`: gRPC's `methodConfig` goes by a whole service or method name, and by nothing else",
            "route `part`: gRPC's `methodConfig` goes by a whole service or method name, and by nothing else",
            "route `all`: shares of clusters are in gRPC only with xDS",
            "route `all`: a retry `budget` is not in gRPC, which has `retryThrottling`",
            "route `late`: a route before it takes all of its requests",
        ]
    );
}

#[test]
fn one_throttle_is_for_all() {
    let routes = routes(
        r#"
        [[route]]
        name = "a"
        match = { path = "/a/b" }
        clusters = [{ name = "v1" }]
        retry = { throttling = { max_tokens = 10, token_ratio = 0.5 } }

        [[route]]
        name = "b"
        clusters = [{ name = "v1" }]
        retry = {}
        "#,
    );
    let (config, missing) = ServiceConfig::of(&ChannelConfig::default(), &routes);
    assert_eq!(config.retry_throttling, Some(ThrottlingConfig { max_tokens: 10, token_ratio: 0.5 }));
    assert_eq!(missing, ["gRPC has one `retryThrottling` for all routes; theirs differ, the first is taken"]);
}

#[test]
fn names_change_their_form_and_back() {
    for (ours, theirs) in
        [("choice_count", "choiceCount"), ("a", "a"), ("enable_oob_load_report", "enableOobLoadReport")]
    {
        assert_eq!((camel(ours).as_str(), snake(theirs).as_str()), (theirs, ours));
    }
}
