//! Policies as gRPC's `loadBalancingConfig` has them: one table for both directions.
//!
//! A policy that gRPC has is a row of [`IN_GRPC`]: gRPC's name for it, and the settings that gRPC's message has too. What else
//! it can be set to has no equivalent, and is reported so. All other policies are in [`NOT_IN_GRPC`]. A new policy goes into one
//! of the two; tests hold them to the registry.

use serde_json::{Map, Value, json};

use super::fields::{self, Field, Kind, field};
use super::proto_json::Object;
use super::{ServiceConfigError, Written};
use crate::PolicyConfig;
use crate::policy::outlier_detection::{FailurePercentageEjection, SuccessRateEjection};

/// A policy that gRPC has.
pub(super) struct Row {
    /// Our name.
    pub(super) policy: &'static str,
    /// gRPC's: the JSON name in grpc.service_config.LoadBalancingConfig `policy`.
    pub(super) grpc: &'static str,
    /// The settings that both have. Besides, `childPolicy` is the [child](PolicyConfig::child) of a policy that has one.
    pub(super) fields: &'static [Field],
}

pub(super) const IN_GRPC: &[Row] = &[
    // grpc.service_config.PickFirstConfig
    Row {
        policy: "pick_first",
        grpc: "pick_first",
        fields: &[field("shuffle_address_list", "shuffleAddressList", Kind::Bool)],
    },
    // grpc.service_config.RoundRobinConfig
    Row { policy: "round_robin", grpc: "round_robin", fields: &[] },
    // grpc.service_config.LeastRequestLocalityLoadBalancingPolicyConfig
    Row {
        policy: "least_request",
        grpc: "least_request_experimental",
        fields: &[field("choice_count", "choiceCount", Kind::Count)],
    },
    // grpc.service_config.WeightedRoundRobinLbConfig
    Row {
        policy: "client_side_weighted_round_robin",
        grpc: "weighted_round_robin",
        fields: &[
            field("enable_oob_load_report", "enableOobLoadReport", Kind::Bool),
            field("oob_reporting_period", "oobReportingPeriod", Kind::Duration),
            field("blackout_period", "blackoutPeriod", Kind::Duration),
            field("weight_expiration_period", "weightExpirationPeriod", Kind::Duration),
            field("weight_update_period", "weightUpdatePeriod", Kind::Duration),
            field("error_utilization_penalty", "errorUtilizationPenalty", Kind::Number),
        ],
    },
    // grpc.service_config.RingHashLoadBalancingConfig
    Row {
        policy: "ring_hash",
        grpc: "ring_hash_experimental",
        fields: &[
            field("min_ring_size", "minRingSize", Kind::Count),
            field("max_ring_size", "maxRingSize", Kind::Count),
            field("request_hash_header", "requestHashHeader", Kind::Text),
        ],
    },
    // grpc.service_config.RandomSubsettingLbConfig
    Row {
        policy: "random_subsetting",
        grpc: "random_subsetting_experimental",
        fields: &[field("subset_size", "subsetSize", Kind::Count)],
    },
    // grpc.service_config.OutlierDetectionLoadBalancingConfig
    Row {
        policy: "outlier_detection",
        grpc: "outlier_detection_experimental",
        fields: &[
            field("interval", "interval", Kind::Duration),
            field("base_ejection_time", "baseEjectionTime", Kind::Duration),
            field("max_ejection_time", "maxEjectionTime", Kind::Duration),
            field("max_ejection_percent", "maxEjectionPercent", Kind::Count),
            field(
                "success_rate_ejection",
                "successRateEjection",
                Kind::Message(SUCCESS_RATE, || json!(SuccessRateEjection::default())),
            ),
            field(
                "failure_percentage_ejection",
                "failurePercentageEjection",
                Kind::Message(FAILURE_PERCENTAGE, || json!(FailurePercentageEjection::default())),
            ),
        ],
    },
];

const SUCCESS_RATE: &[Field] = &[
    field("stdev_factor", "stdevFactor", Kind::Count),
    field("enforcement_percentage", "enforcementPercentage", Kind::Count),
    field("minimum_hosts", "minimumHosts", Kind::Count),
    field("request_volume", "requestVolume", Kind::Count),
];

const FAILURE_PERCENTAGE: &[Field] = &[
    field("threshold", "threshold", Kind::Count),
    field("enforcement_percentage", "enforcementPercentage", Kind::Count),
    field("minimum_hosts", "minimumHosts", Kind::Count),
    field("request_volume", "requestVolume", Kind::Count),
];

/// Policies that gRPC's service config does not have. By their own names, which is how custom policies are configured, they
/// are read all the same.
pub(super) const NOT_IN_GRPC: &[(&str, &str)] = &[
    ("random", "is not in gRPC"),
    (STATIC_WEIGHTS, "with static weights is not in gRPC; its policy of that name has them from load reports (A58)"),
    ("least_loaded", "is not in gRPC"),
    ("p2c_peak_ewma", "is not in gRPC"),
    ("c3", "is not in gRPC"),
    ("degrader", "is not in gRPC"),
    ("utilization_p2c", "is not in gRPC"),
    ("join_idle_queue", "is not in gRPC"),
    ("prequal", "is not in gRPC"),
    ("maglev", "is not in gRPC"),
    ("bounded_load", "is not in gRPC"),
    ("failure_accrual", "is not in gRPC, whose `outlier_detection` comes closest"),
    ("override_host", "is not in gRPC's service config; with xDS gRPC has it (A55)"),
    ("slow_start", "is not in gRPC"),
    ("deterministic_subsetting", "is not in gRPC, whose `random_subsetting` comes closest"),
    ("aperture", "is not in gRPC, whose `random_subsetting` comes closest"),
    ("wrr_locality", "is not in gRPC's service config; with xDS gRPC has it (A37)"),
    ("zone_aware", "is not in gRPC"),
    ("prefer_close", "is not in gRPC"),
    ("priority", "is not in gRPC's service config as one child for all; with xDS gRPC has it (A56)"),
    ("circuit_breaker", "is not in gRPC's service config; with xDS gRPC has `max_requests` (A32)"),
    ("adaptive_throttle", "is not in gRPC, but for its questions to a lookup service (grpc.lookup.v1)"),
    ("admission", "is not in gRPC"),
];

/// Can't be read: in a service config the name is that of another policy.
const STATIC_WEIGHTS: &str = "weighted_round_robin";

/// Of `loadBalancingConfig`, `childPolicy` and their like, the first policy that is known.
pub(super) fn read(path: &str, list: &[Value]) -> Result<PolicyConfig, ServiceConfigError> {
    let error = |path: String, rule: String| ServiceConfigError { path, rule };
    let mut unknown: Vec<&str> = Vec::new();
    for (i, entry) in list.iter().enumerate() {
        let path = format!("{path}[{i}]");
        // The words are those of C-core's lb_policy_registry.cc.
        let Some(entry) = entry.as_object() else { return Err(error(path, "is not an object".into())) };
        let mut policies = entry.iter();
        let (name, config) = match (policies.next(), policies.next()) {
            (None, _) => return Err(error(path, "no policy found in child entry".into())),
            (Some(policy), None) => policy,
            (Some(_), Some(_)) => return Err(error(path, "oneOf violation".into())),
        };
        let config = Object::new(format!("{path}.{name}"), config)?;
        if let Some(row) = IN_GRPC.iter().find(|row| row.grpc == name) {
            return ours(row.policy, fields::read(&config, row.fields)?, &config);
        }
        if is_custom(name) {
            let settings = config.fields().filter(|(name, _)| *name != CHILD);
            return ours(name, settings.map(|(name, value)| (snake(name), value.clone())).collect(), &config);
        }
        unknown.push(name);
    }
    Err(error(path.to_owned(), format!("No known policies in list: {}", unknown.join(" "))))
}

const CHILD: &str = "childPolicy";

fn is_custom(name: &str) -> bool {
    NOT_IN_GRPC.iter().any(|(policy, _)| *policy == name) && name != STATIC_WEIGHTS
}

/// Reads settings by the policy's own type; what that says is said in gRPC's names.
fn ours(
    policy: &str,
    mut settings: Map<String, Value>,
    config: &Object<'_>,
) -> Result<PolicyConfig, ServiceConfigError> {
    if PolicyConfig::named(policy).is_some_and(|policy| policy.child().is_some())
        && let Some(list) = config.list(CHILD)?
    {
        settings.insert("child_policy".to_owned(), json!(read(&config.at(CHILD), list)?));
    }
    serde_json::from_value(json!({ policy: settings })).map_err(|error| {
        let error = error.to_string();
        let rule = error.strip_prefix(policy).and_then(|rule| rule.strip_prefix(": ")).unwrap_or(&error);
        match rule.split_once(": ") {
            Some((setting, rule)) if !setting.contains(' ') => config.error(&camel(setting), rule),
            _ => config.whole(rule),
        }
    })
}

/// The list that [`read`] reads. A policy that gRPC does not have is left out if it is wrapped around one that gRPC has.
pub(super) fn write(policy: &PolicyConfig) -> Written {
    let name = policy.name();
    let child = policy.child().map(write);
    let Some(row) = IN_GRPC.iter().find(|row| row.policy == name) else {
        let why = NOT_IN_GRPC.iter().find(|(policy, _)| *policy == name).map_or("is not in gRPC", |(_, why)| why);
        let Written { json, mut missing } = child.unwrap_or_default();
        missing.insert(0, format!("`{name}` {why}"));
        return Written { json, missing };
    };
    let (mut config, rest) = fields::write(policy.changed(), row.fields);
    let mut missing: Vec<String> = rest
        .iter()
        .map(|(setting, value)| format!("`{name}`: `{setting} = {value}` has no field in gRPC's service config"))
        .collect();
    if let Some(child) = child {
        missing.extend(child.missing);
        let Some(child) = child.json else { return Written { json: None, missing } };
        config.insert(CHILD.to_owned(), child);
    }
    Written { json: Some(json!([{ row.grpc: config }])), missing }
}

/// `choice_count` as `choiceCount`.
pub(super) fn camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |camel, word| {
        let (initial, rest) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
        camel + &initial.to_ascii_uppercase() + rest
    })
}

/// `choiceCount` as `choice_count`.
pub(super) fn snake(camel: &str) -> String {
    camel.chars().fold(String::new(), |mut snake, c| {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
        snake
    })
}
