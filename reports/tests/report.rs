//! The page and the table, looked at as text.

mod common;

use common::{canary, empty, headless, hundred, strategies, three};
use reports::html::render;
use reports::record::{EventRecord, Interventions, LoadRecord, Requests, RunRecord};
use reports::terminal::table;

fn all() -> Vec<RunRecord> {
    vec![headless(), three(), strategies(), hundred(), empty(), canary()]
}

#[test]
fn the_same_record_gives_the_same_bytes() {
    for record in all() {
        assert!(render(&record) == render(&record.clone()), "{}", record.scenario);
    }
}

#[test]
fn the_first_screen_is_in_order() {
    let html = render(&three());
    let at = |what: &str| html.find(what).unwrap_or_else(|| panic!("{what} is not on the page"));
    let order = [
        at("<h1>sidecar spreads evenly over the new server pods"),
        at("1 of 6 expectations failed"),
        at("<table class=\"compare\">"),
        at("Latency percentiles of 3 strategies"),
        at("cargo run -p sim -- scenarios/three.toml --seed 1"),
        at("<h2 id=\"strategy-0\">headless"),
        at("60 s scale server 3 → 5"),
        at("no caller learnt its address"),
        at("href=\"run.json\""),
    ];
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn several_loads_have_a_row_each() {
    let mut record = three();
    assert!(!render(&record).contains("By load"), "one load's figures are those of the run");
    let s = &mut record.strategies[0];
    let load = |name: &str, ok: u64| LoadRecord {
        name: name.to_owned(),
        from: "client".to_owned(),
        to: "server".to_owned(),
        requests: Requests { started: ok, ok, failed: 0 },
        requests_per_pod: vec![ok; s.pods.len()],
        ..LoadRecord::default()
    };
    s.loads = vec![load("everybody", 4321), load("preview", 0)];
    let html = render(&record);
    let table = html.split("<caption>By load</caption>").nth(1).and_then(|rest| rest.split("</table>").next());
    let rows: Vec<&str> = table.expect("a table").split("<tr>").skip(2).collect();
    let [everybody, preview] = rows[..] else { panic!("{rows:?}") };
    assert!(everybody.contains("everybody") && everybody.contains("4,321"), "{everybody}");
    assert!(
        preview.contains("preview") && preview.matches("–").count() >= 2,
        "nothing ended, so it took no time: {preview}"
    );
}

#[test]
fn the_page_is_small_and_needs_nothing_from_outside() {
    for record in all() {
        let html = render(&record);
        assert!(html.len() < 1_000_000, "{}: {} bytes", record.scenario, html.len());
        for foreign in ["<script", "http:", "https:", "//", "url(", "@import", "<link", "<img"] {
            assert!(!html.contains(foreign), "{}: {foreign}", record.scenario);
        }
    }
}

#[test]
fn many_strategies_of_many_pods_stay_below_a_megabyte() {
    let mut record = hundred();
    let one = record.strategies[0].clone();
    record.strategies = vec![one; 7];
    let size = render(&record).len();
    assert!(size < 1_000_000, "{size} bytes");
}

#[test]
fn ids_are_unique_and_every_picture_has_words() {
    let html = render(&strategies());
    let mut ids: Vec<&str> = html.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    assert_eq!(html.matches("<svg ").count(), html.matches(" role=\"img\" aria-label=\"").count());
    assert_eq!(html.matches("<svg class=\"wide").count(), html.matches("<svg class=\"narrow").count());
}

#[test]
fn names_cannot_become_markup() {
    let evil = "</svg><script>alert(\"1\")</script>&'";
    let mut record = three();
    record.scenario = evil.to_owned();
    record.title = evil.to_owned();
    record.reproduce = evil.to_owned();
    record.program = evil.to_owned();
    record.host = evil.to_owned();
    record.scenario_hash = evil.to_owned();
    record.events[0].label = evil.to_owned();
    for e in &mut record.expectations {
        (e.text, e.strategy, e.metric, e.bound) = (evil.to_owned(), evil.to_owned(), evil.to_owned(), evil.to_owned());
    }
    for s in &mut record.strategies {
        s.name = evil.to_owned();
        s.summary = evil.to_owned();
        for e in &mut s.errors {
            (e.code, e.reason) = (evil.to_owned(), evil.to_owned());
        }
        for p in &mut s.pods {
            (p.name, p.node, p.deployment) = (evil.to_owned(), evil.to_owned(), evil.to_owned());
        }
    }
    let html = render(&record);
    assert!(!html.contains("<script"));
    // Names are cut in plots, whole elsewhere.
    assert!(html.contains("&lt;/svg&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;"));
    assert_eq!(html.matches("<svg ").count(), html.matches("</svg>").count());
}

#[test]
fn the_table_fits_a_hundred_columns_and_is_plain_without_colour() {
    for record in all() {
        let text = table(&record, false);
        assert!(!text.contains('\x1b'));
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{}: {line}", line.chars().count());
            assert_eq!(line, line.trim_end());
        }
    }
}

#[test]
fn the_table_of_three() {
    assert_eq!(
        table(&three(), false),
        "\
strategy          p50   p99  p99.9  errors  goodput  imbalance  new pods  hops   conns     Δp99
                   ms    ms     ms            per s   max/mean  1st req.  mean  opened  to base
headless         12.0  31.2   42.5       0      344       1.67     never  0.67       5     base
sidecar          12.4  28.5   38.0       0      344       1.36    6.60 s  0.67       5   −8.6 %
ingress-max-age  15.7  40.8   55.6   0.1 %      343       1.37    7.00 s  1.60      65    +31 %

✓ headless: the two new pods get no request for the rest of the run
    pods.requests of new server pods from 60 s: 0, expected == 0
✓ sidecar: new pods get traffic within 10 s
    time_to_traffic_s.max of new server pods: 6.6, expected <= 10
✓ ingress-max-age: new pods get traffic within 10 s
    time_to_traffic_s.max of new server pods: 7, expected <= 10
✓ sidecar: every server ends within 1 % of even
    imbalance of server pods from 80 s: 1.0019, expected <= 1.01
✗ ingress-max-age: no request fails
    requests.failed: 40, expected == 0
✓ ingress-max-age: the proxy adds up to two node hops
    node_hops.max: 2, expected <= 3
"
    );
}

#[test]
fn colour_marks_the_best_and_the_failed() {
    let text = table(&three(), true);
    assert!(text.contains("\x1b[1m 28.5\x1b[0m") || text.contains("\x1b[1m28.5\x1b[0m"), "{text}");
    assert!(text.contains("\x1b[31m✗\x1b[0m ingress-max-age: no request fails"));
    let plain = text.replace("\x1b[1m", "").replace("\x1b[31m", "").replace("\x1b[32m", "").replace("\x1b[0m", "");
    assert_eq!(plain, table(&three(), false));
}

#[test]
fn the_scenario_is_on_the_page_as_it_was_run() {
    let mut record = three();
    record.scenario_text = "# <script> & \"quotes\"\n[load]\n\tfrom = 'client'\n".to_owned();
    let html = render(&record);
    assert!(html.contains("<summary>The scenario: three.toml, 3 lines</summary>"));
    assert!(html.contains("\n# &lt;script&gt; &amp; &quot;quotes&quot;\n[load]\n\tfrom = &#39;client&#39;</pre>"));
    // A record of before there was the field, and a file that would burst the page.
    record.scenario_text = String::new();
    assert!(!render(&record).contains("<pre"));
    record.scenario_text = "# all work and no play\n".repeat(100_000);
    let html = render(&record);
    assert!(html.len() < 1_000_000, "{} bytes", html.len());
    assert!(html.contains("The first 100,000 characters; run.json has all."));
}

#[test]
fn behind_a_clusterip_no_caller_is_expected_to_learn_an_address() {
    let mut record = headless();
    for pod in &mut record.strategies[0].pods {
        pod.resolved_s = None;
    }
    let html = render(&record);
    assert!(html.contains("server-3 and server-4: never a request, no caller connected to it."));
    assert!(!html.contains("no caller learnt its address"));
}

#[test]
fn what_comes_after_the_first_request_is_no_stage_of_it() {
    let mut record = headless();
    for pod in record.strategies[0].pods.iter_mut().filter(|p| p.created_s > 0.0) {
        // Listens at 61.1 s, serves its own pod at 61.2 s, is ready at 62 s or later.
        (pod.resolved_s, pod.connected_s, pod.first_request_s) = (Some(61.1), Some(61.1), Some(61.2));
    }
    let html = render(&record).replace('\u{a0}', " ");
    assert!(html.contains("server-4 waited longest, 1.20 s, 1.10 s of it until started."));
}

#[test]
fn an_expectation_does_not_say_its_strategy_twice() {
    let mut record = three();
    record.expectations[1].text = "sidecar: new pods get traffic".to_owned();
    assert!(render(&record).contains("<b>sidecar</b> new pods get traffic <span"));
    assert!(table(&record, false).contains("✓ sidecar: new pods get traffic\n"));
}

#[test]
fn deployments_of_a_service_are_drawn_against_each_other() {
    let html = render(&canary()).replace('\u{a0}', " ");
    assert!(html.contains("Of the requests that server answered, server 90 % and server-canary 10 %."), "{html}");
    assert!(html.contains("Failed: server none of its requests, server-canary 2"), "{html}");
    let mut settled = canary();
    settled.strategies[0].pods.iter_mut().for_each(|p| p.created_s = 0.0);
    let settled = render(&settled).replace('\u{a0}', " ");
    assert!(settled.contains("server got 90 % of ") && settled.contains(" requests, server-canary 10 %."), "{settled}");
    assert!(html.contains("<caption>Who answered the requests to server</caption>"));
    // 25 % of a tenth: ln 0.05 / ln(1 − 0.025) = 118.3.
    assert!(html.contains("<th scope=\"col\">told after</th>") && html.contains("<td class=\"n\">119</td></tr>"));
    assert!(html.contains("gets 50 %, 33.3 %, 25 %, 20 %, 10 %;"));
    // One deployment has nobody to be compared with.
    let mut alone = canary();
    alone.strategies[0].deployments.truncate(1);
    let html = render(&alone);
    assert!(!html.contains("Who answered") && !html.contains("that server answered"));
}

#[test]
fn a_budget_burned_many_times_is_told_in_times() {
    let burned = |part: f64| {
        let mut record = canary();
        record.strategies[0].error_budget_burned = Some(part);
        render(&record).replace('\u{a0}', " ")
    };
    assert!(burned(0.25).contains("used up 25 % of the error budget."));
    assert!(burned(147.642).contains("used up 148 × the error budget."));
}

#[test]
fn pods_of_one_deployment_stand_together_in_its_colour() {
    let mut record = headless();
    // server-0 and server-2 become the canary's, first and last of the three that get requests.
    for i in [0, 2] {
        let s = &mut record.strategies[0];
        let pod = s.pods.iter_mut().find(|p| p.name == format!("server-{i}")).expect("a server");
        pod.deployment = "canary".to_owned();
    }
    let html = render(&record);
    assert!(html.contains("A band is a pod, its colour its deployment"));
    let all = render(&headless());
    let blue = |html: &str| html.matches("<polygon fill=\"#0072B2\"").count();
    assert!(blue(&html) > blue(&all), "two bands share the first colour: {} {}", blue(&html), blue(&all));
}

#[test]
fn what_controllers_did_is_told_and_ticked() {
    let mut record = headless();
    let before = render(&record);
    assert!(!before.contains("What controllers did"));
    let s = &mut record.strategies[0];
    s.happenings = vec![EventRecord { at_s: 61.5, label: "rolled <back>".to_owned() }];
    s.interventions = Interventions { retries: 3, hedges: 2, rate_limited: 1, ..Interventions::default() };
    let html = render(&record);
    assert!(
        html.contains("What controllers did: 1 step") && html.contains("61.5 s</span> rolled &lt;back&gt;"),
        "{html}"
    );
    assert!(
        html.contains("did more than pass requests on: 3 retried attempts, 2 hedged attempts, 1 rate-limited request."),
        "{html}"
    );
    let lines = |html: &str| html.matches("<line ").count();
    assert!(lines(&html) >= lines(&before) + 4, "a tick in each time plot, of both sizes");
}
