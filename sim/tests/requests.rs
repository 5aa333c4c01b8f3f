//! What policies look at of requests: keys go where their hash says, whoever sends them and however often.

mod common;

use common::{parse, simulate};

/// Two clients, 60 keys, five servers; one server more at 5 s.
fn scenario(strategy: &str) -> String {
    format!(
        "title = 't'\nduration = '10s'\n\
         [[deployment]]\nname = 'server'\nreplicas = 5\nreadiness = {{ period = '100ms' }}\nstart_up = '100ms'\n\
         [[deployment]]\nname = 'proxy'\nreplicas = 2\n\
         [[deployment]]\nname = 'client'\nreplicas = 2\n\
         [[service]]\nname = 'server'\ndeployments = ['server']\n\
         [[service]]\nname = 'proxy'\ndeployments = ['proxy']\n\
         [load]\nfrom = 'client'\nto = 'server'\nopen = {{ rate = '100/s' }}\n\
         keys = {{ header = 'x-user', population = 60, zipf = 1.0 }}\n\
         [[event]]\nat = '5s'\nscale = {{ deployment = 'server', replicas = 6 }}\n\
         [[strategy]]\nname = 's'\n{strategy}"
    )
}

fn moved(strategy: &str) -> u64 {
    let record = simulate(&parse(&scenario(strategy)), 1);
    let s = &record.strategies[0];
    assert!(s.requests.failed == 0 && s.requests.ok > 1_900, "{:?}", s.requests);
    s.keys_moved.expect("requests have keys")
}

#[test]
fn keys_stay_where_their_hash_says_until_there_is_a_new_server() {
    let route = "[[strategy.route]]\nname = 'all'\nclusters = [{ name = 'server' }]\n\
                 hash_policy = [{ header = 'x-user' }]\n";
    let client = format!("balancer = 'client'\nclient = {{ policy = 'maglev', resolver = 'xds' }}\n{route}");
    let proxy = format!(
        "balancer = 'ingress'\nproxy = {{ policy = 'maglev', resolver = 'xds' }}\nclient = {{ policy = 'round_robin' }}\n{route}"
    );
    // One of six servers is new: 10 of 60 keys should move, once each; while not everybody knows of it some go to and fro.
    for strategy in [&client, &proxy] {
        let moved = moved(strategy);
        assert!((4..=30).contains(&moved), "{moved} moved: {strategy}");
    }
    // Without a route nobody says what to hash, so each request goes anywhere.
    let blind = moved("balancer = 'client'\nclient = { policy = 'maglev', resolver = 'xds' }\n");
    assert!(blind > 1_200, "{blind}: four of five requests go elsewhere");
    let by_client = moved(&client.replace("{ header = 'x-user' }", "{ source_ip = true }"));
    assert!(by_client > 500, "{by_client}: of two clients each has a server, and they share the keys");
}

#[test]
fn requests_that_a_policy_turns_away_are_counted_as_that() {
    let text = scenario(
        "balancer = 'client'\nclient = { policy = { circuit_breaker = { max_requests = 0 } }, resolver = 'xds' }\n",
    );
    let record = simulate(&parse(&text), 1);
    let s = &record.strategies[0];
    assert_eq!((s.requests.ok, s.interventions.turned_away), (0, s.requests.failed));
    let errors: Vec<(&str, &str)> = s.errors.iter().map(|e| (e.code.as_str(), e.reason.as_str())).collect();
    assert_eq!(errors, [("UNAVAILABLE", "turned away by the policy")]);
}

#[test]
fn what_a_policy_turns_away_is_not_retried() {
    let text = scenario(
        "balancer = 'client'\nclient = { policy = { circuit_breaker = { max_requests = 0 } }, resolver = 'xds' }\n\
         [[strategy.route]]\nname = 'all'\nclusters = [{ name = 'server' }]\n\
         retry = { max_attempts = 3, retryable_status_codes = ['UNAVAILABLE'] }\n",
    );
    let s = &simulate(&parse(&text), 1).strategies[0];
    assert_eq!((s.interventions.turned_away, s.interventions.retries), (s.requests.failed, 0));
}
