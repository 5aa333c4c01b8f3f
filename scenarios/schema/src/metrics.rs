//! What an expectation can be about.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::json;

/// A number that a run yields and an `[[expect]]` can bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name in `metric = "…"`.
    pub name: &'static str,
    /// What it measures, with its unit.
    pub meaning: &'static str,
    /// Whether it is measured on selected pods: `deployment` and `pods` choose them. Else it is of the whole run.
    pub of_pods: bool,
    /// Whether it is measured on the requests that reached a deployment: `deployment` chooses it.
    pub of_deployments: bool,
    /// Whether `from` and `until` may narrow it to a part of the run.
    pub windowed: bool,
    /// Whether `load` may narrow it to the requests of one load.
    pub by_load: bool,
    /// Whether the pods are those that call, not those that answer.
    pub of_callers: bool,
}

impl Metric {
    /// The metric of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        METRICS.iter().find(|metric| metric.name == name)
    }
}

const fn of_run(name: &'static str, meaning: &'static str) -> Metric {
    Metric { name, meaning, of_pods: false, of_deployments: false, windowed: false, by_load: false, of_callers: false }
}

/// A fact of requests as such, whoever sent them.
const fn of_requests(name: &'static str, meaning: &'static str) -> Metric {
    Metric { by_load: true, ..of_run(name, meaning) }
}

/// A count that the timeline has too.
const fn of_run_or_part(name: &'static str, meaning: &'static str) -> Metric {
    Metric { windowed: true, ..of_requests(name, meaning) }
}

/// A count of the timeline alone, which is not kept by load.
const fn of_timeline(name: &'static str, meaning: &'static str) -> Metric {
    Metric { windowed: true, ..of_run(name, meaning) }
}

const fn of_pods(name: &'static str, meaning: &'static str) -> Metric {
    Metric { of_pods: true, ..of_run_or_part(name, meaning) }
}

/// A fact of a pod's whole life: a window would change its meaning.
const fn of_lives(name: &'static str, meaning: &'static str) -> Metric {
    Metric { of_pods: true, ..of_run(name, meaning) }
}

/// The same of pods that call.
const fn of_callers(name: &'static str, meaning: &'static str) -> Metric {
    Metric { of_callers: true, ..of_lives(name, meaning) }
}

const fn of_deployment(name: &'static str, meaning: &'static str) -> Metric {
    Metric { of_deployments: true, windowed: true, ..of_run(name, meaning) }
}

/// Of a distribution, which cannot be cut.
const fn of_whole_deployment(name: &'static str, meaning: &'static str) -> Metric {
    Metric { of_deployments: true, ..of_run(name, meaning) }
}

/// Every metric, in the order of the documentation.
///
/// Those of pods look at the pods that `deployment` (by default the called service's, or the callers') and `pods` select.
pub const METRICS: &[Metric] = &[
    of_run_or_part("requests.started", "requests that clients began"),
    of_run_or_part("requests.ok", "requests answered with OK"),
    of_run_or_part("requests.failed", "requests that ended in any other way"),
    of_run_or_part("requests.error_rate", "failed over ended requests, 0 to 1; nothing if none ended"),
    of_run_or_part("goodput_per_s", "requests answered with OK per second"),
    of_callers(
        "goodput.jain",
        "Jain's fairness index of the requests of the selected client pods that were answered with OK: 1 is even, 1/n is all of one of n",
    ),
    of_requests("latency_ms.mean", "mean latency of answered requests as the client sees it, in milliseconds"),
    of_requests("latency_ms.p50", "median latency, in milliseconds"),
    of_requests("latency_ms.p90", "latency that 90 % of requests stay within, in milliseconds"),
    of_requests("latency_ms.p99", "latency that 99 % of requests stay within, in milliseconds"),
    of_requests("latency_ms.p999", "latency that 99.9 % of requests stay within, in milliseconds"),
    of_requests("latency_ms.max", "longest latency, in milliseconds"),
    of_run(
        "node_hops.mean",
        "borders between nodes that a request crossed from the client to the server that answered (one way), on average",
    ),
    of_run(
        "node_hops.max",
        "most borders between nodes that any request crossed from the client to the server that answered (one way)",
    ),
    of_run("connections.opened", "connections established"),
    of_run("connections.closed", "connections closed, by either side"),
    of_run("connections.goaways", "GOAWAYs sent because a connection reached its age or a pod drained"),
    of_run("connections.peak", "most connections open at the same time"),
    of_timeline("connections.opened_per_s.peak", "most connections established per second, in any interval"),
    of_timeline(
        "attempts_per_request",
        "requests that reached servers per request of a client: above 1 where requests are retried or hedged",
    ),
    of_run(
        "splits.effective_error.max",
        "largest difference between the share that a route's target was configured to get and what its weights come to when \
         they count for each address, 0 to 1",
    ),
    of_run(
        "splits.measured_error.max",
        "largest difference between the share that a route's target was configured to get and the share it got, 0 to 1",
    ),
    of_run(
        "configuration_s.max",
        "longest time from a change of routes or clusters until the last balancer had it, in seconds; nothing if one never \
         reached all",
    ),
    of_run(
        "keys.moved",
        "how often a request went to another pod than the one before it with the same key; nothing if requests have no keys",
    ),
    of_run("probes", "questions that balancers asked servers about their load, besides requests"),
    of_pods("imbalance", "most requests of a selected pod over their mean: 1 is even"),
    of_pods("jain", "Jain's fairness index of the selected pods' requests: 1 is even, 1/n is all on one of n"),
    of_pods("pods.count", "how many of the selected pods there were, for at least a part of the time"),
    of_pods(
        "pods.phases.max",
        "most of the phases ContainerCreating, Running and Terminating that the selected pods were in at the same moment",
    ),
    of_pods("pods.requests", "requests the selected pods received"),
    of_pods("pods.with_traffic", "how many of the selected pods received a request"),
    of_pods("share", "the selected pods' part of the requests of all pods of the deployments, 0 to 1"),
    of_pods("share.of_servers", "the selected pods' part of the requests of all server pods, 0 to 1"),
    of_pods("share.min", "smallest part that one selected pod got, 0 to 1"),
    of_pods("share.max", "largest part that one selected pod got, 0 to 1"),
    of_lives(
        "time_to_traffic_s.min",
        "shortest time from a pod's creation to its first request, in seconds; nothing if none got any",
    ),
    of_lives(
        "time_to_traffic_s.mean",
        "mean time from a pod's creation to its first request, in seconds; nothing if one never got any",
    ),
    of_lives(
        "time_to_traffic_s.max",
        "longest time from a pod's creation to its first request, in seconds; nothing if one never got any",
    ),
    of_lives("first_request_s.min", "when the first of the selected pods got its first request, in seconds of the run"),
    of_lives("first_request_s.max", "when the last of the selected pods got its first request, in seconds of the run"),
    of_deployment("deployment.requests", "requests that reached the deployment and ended"),
    of_deployment("deployment.ok", "of these those answered with OK"),
    of_deployment("deployment.failed", "of these those that ended in any other way"),
    of_deployment("deployment.error_rate", "failed over ended requests that reached the deployment, 0 to 1"),
    of_deployment(
        "deployment.share",
        "the deployment's part of the requests that reached a deployment of its service, 0 to 1",
    ),
    of_whole_deployment(
        "deployment.latency_ms.p50",
        "median latency of the answered requests that reached the deployment, in milliseconds",
    ),
    of_whole_deployment(
        "deployment.latency_ms.p99",
        "latency that 99 % of the answered requests that reached the deployment stay within, in milliseconds",
    ),
    of_deployment(
        "detect.requests",
        "requests to the service after which the deployment's higher error rate is told from the others' (95 % power, 5 % significance)",
    ),
    of_run(
        "error_budget.burned",
        "part of the error budget that failed requests used up: failed over what the loads' `slo` allows; 1 is all of it",
    ),
];

/// The JSON Schema of `metric`: one of the names, each with its meaning.
pub(crate) fn json_schema(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<_> = METRICS
        .iter()
        .map(|metric| json!({"type": "string", "const": metric.name, "description": metric.meaning}))
        .collect();
    json_schema!({"oneOf": names})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for metric in METRICS {
            assert_eq!(Metric::named(metric.name), Some(metric));
        }
        assert_eq!(Metric::named("latency"), None);
    }
}
