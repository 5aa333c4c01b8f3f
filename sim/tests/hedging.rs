//! Requests with several attempts under way, each with its arithmetic.

mod common;

use common::{changed, event, pod, strategy};
use reports::record::StrategyRecord;

/// Two servers of 10 ms, the second a hundred times slower, in turn; a client of 10 requests a second, 1 ms for every message.
const BASE: &str = r#"
title = "hedging"
duration = "20s"
cluster = { hops = { same_pod = "1ms", same_node = "1ms", same_zone = "1ms", other_zone = "1ms" } }
[[deployment]]
name = "fast"
service_time = { constant = "10ms" }
[[deployment]]
name = "slow"
service_time = { constant = "10ms" }
speed = 0.01
[[deployment]]
name = "client"
[[service]]
name = "server"
deployments = ["fast", "slow"]
[load]
from = "client"
to = "server"
open = { rate = "10/s", arrivals = "constant" }
"#;

const HEDGE: &str = "hedge = { max_attempts = 2, hedging_delay = '30ms', non_fatal_status_codes = ['UNAVAILABLE'] }\n";

/// The only strategy: clients take turns, and the route has this.
fn run(changes: &[(&str, &str)], route: &str, more: &str) -> StrategyRecord {
    let text = format!(
        "{}client = {{ policy = 'round_robin' }}\n[[strategy.route]]\nname = 'all'\nclusters = [{{ name = 'server' }}]\n\
         {route}{more}",
        strategy("client")
    );
    common::run(&changed(BASE, changes, &text)).strategies.remove(0)
}

/// Requests that the fast and the slow server got.
fn received(s: &StrategyRecord) -> [u64; 2] {
    ["fast-0", "slow-0"].map(|name| pod(s, name).requests)
}

#[test]
fn another_server_is_asked_after_the_delay() {
    // Turns are taken by attempts, under this seed from the slow server on: it and, 30 ms later, the fast one; it and the fast
    // one; … Each request takes 30 + 1 + 10 + 1 ms.
    let s = run(&[], HEDGE, "");
    let n = s.requests.started;
    assert_eq!((s.requests.ok, s.interventions.hedges, received(&s)), (n, n, [n, n]));
    assert!((s.latency_ms.p50 - 42.0).abs() < 0.1 && (s.latency_ms.max - 42.0).abs() < 1e-6, "{:?}", s.latency_ms);

    // Without: every second request takes 1 + 1000 + 1 ms.
    let s = run(&[], "", "");
    assert!((s.latency_ms.max - 1002.0).abs() < 1e-6 && s.interventions.hedges == 0, "{:?}", s.latency_ms);
}

#[test]
fn what_was_cancelled_is_worked_on_to_the_end() {
    // The slow server's one place is taken for a second by the first request that it gets, whose caller has its answer after
    // 42 ms. It has no room for those that come meanwhile: RESOURCE_EXHAUSTED, which is fatal. Every other request is one of
    // them, so that the next to be worked on comes after 1 to 1.2 s: 16.7 to 20 of them in 20 s.
    let s = run(&[("speed = 0.01", "speed = 0.01\nconcurrency = 1\nqueue = 0")], HEDGE, "");
    let of_slow = received(&s)[1];
    assert!(s.errors.iter().all(|e| e.code == "RESOURCE_EXHAUSTED"), "{:?}", s.errors);
    assert!((16..=20).contains(&(of_slow - s.requests.failed)), "{of_slow} less {}", s.requests.failed);
    // With a queue they wait there until they are cancelled, and cost nothing.
    let s = run(&[("speed = 0.01", "speed = 0.01\nconcurrency = 1\nqueue = 1000")], HEDGE, "");
    assert_eq!((s.requests.ok, s.latency_ms.max.round()), (s.requests.started, 42.0));
}

#[test]
fn a_non_fatal_error_sends_the_next_at_once() {
    // The second server fails all, after its work of 10 ms: 12 ms, and another 12 at the first.
    let failing = [("speed = 0.01", "error_rate = 1.0\nerror_code = 'UNAVAILABLE'")];
    let s = run(&failing, HEDGE, "");
    assert_eq!((s.requests.failed, s.interventions.hedges), (0, s.requests.started));
    assert!((s.latency_ms.max - 24.0).abs() < 1e-6, "{:?}", s.latency_ms);
    // Where the code is fatal the request ends with it.
    let s = run(&failing, "hedge = { hedging_delay = '30ms' }\n", "");
    assert_eq!((s.requests.failed, s.interventions.hedges), (s.requests.started.div_ceil(2), 0));
}

#[test]
fn without_a_delay_both_get_every_request() {
    let s = run(&[], "hedge = {}\n", "");
    let n = s.requests.started;
    assert_eq!((s.requests.ok, received(&s), s.latency_ms.max.round()), (n, [n, n], 12.0));
}

#[test]
fn a_deadline_cancels_all_attempts() {
    // 200 ms of the second that both servers take, whether it is the client's deadline or the route's timeout. Requests of
    // the last 200 ms, two of them, have not ended. The audit finds what goes on and nobody waits for.
    let both_slow = ("service_time = { constant = \"10ms\" }", "service_time = { constant = \"1s\" }");
    let deadline = ("[load]", "[load]\ndeadline = \"200ms\"");
    let timeout = format!("timeout = '200ms'\n{HEDGE}");
    for s in [run(&[both_slow, deadline], HEDGE, ""), run(&[both_slow], &timeout, "")] {
        let n = s.requests.started;
        assert_eq!((s.requests.ok, s.requests.failed, received(&s)), (0, n - 2, [n, n]));
        assert!(s.errors.iter().all(|e| e.code == "DEADLINE_EXCEEDED"), "{:?}", s.errors);
    }
}

#[test]
fn a_process_that_dies_takes_its_attempts_with_it() {
    // Audited at the end.
    let kill = event("10s", "kill = { deployment = \"client\", pods = 1 }");
    let s = run(&[], HEDGE, &kill);
    assert!(s.requests.ok > 90 && s.interventions.hedges > 90, "{:?}", s.requests);
}

#[test]
fn what_fails_with_its_connection_is_sent_where_one_is_open() {
    // With a delay of an hour only a failure sends another. Five are with the slow server when that dies, and go to the
    // fast one: it has no connection to the dead one any more, though nobody has told it that the pod is gone.
    let kill = event("10s", "kill = { deployment = \"slow\", pods = 1 }");
    let s = run(&[], &HEDGE.replace("30ms", "1h"), &kill);
    assert_eq!((s.requests.ok, s.requests.failed), (s.requests.started, 0));
    assert_eq!(s.interventions.hedges, 5, "every second of the ten of the last second");
}
