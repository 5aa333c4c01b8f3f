//! What servers say of their load reaches the policies that go by it: with responses, apart from them, and when probed.

mod common;

use common::run;
use reports::record::StrategyRecord;

/// Two servers, of which one has a quarter of the other's speed, at two thirds of what the two can do.
fn fast_and_slow(policy: &str) -> StrategyRecord {
    let text = format!(
        "title = 't'\nduration = '60s'\nwarm_up = '30s'\n\
         [[deployment]]\nname = 'fast'\nservice_time = {{ exponential = '10ms' }}\n\
         load_report = {{ min_reporting_interval = '1s' }}\n\
         [[deployment]]\nname = 'slow'\nservice_time = {{ exponential = '10ms' }}\nspeed = 0.25\n\
         load_report = {{ min_reporting_interval = '1s' }}\n\
         [[deployment]]\nname = 'client'\n\
         [[service]]\nname = 'server'\ndeployments = ['fast', 'slow']\n\
         [load]\nfrom = 'client'\nto = 'server'\nopen = {{ rate = '80/s' }}\n\
         [[strategy]]\nname = 's'\nbalancer = 'client'\nclient = {{ policy = {policy} }}\n"
    );
    run(&text).strategies.into_iter().next().expect("one strategy")
}

#[test]
fn servers_reports_make_weights_in_and_out_of_band() {
    for settings in ["", "enable_oob_load_report = true, oob_reporting_period = '1s'"] {
        let s = fast_and_slow(&format!("{{ client_side_weighted_round_robin = {{ {settings} }} }}"));
        // Requests per second over utilisation: 100 and 25, and the penalty for errors is nothing.
        let share = s.deployments[0].share;
        assert!((0.77..0.83).contains(&share), "{settings}: {share}");
    }
}

#[test]
fn probes_hear_how_long_requests_take() {
    let s = fast_and_slow("'prequal'");
    assert!(s.interventions.probes > 3 * s.requests.ok, "{} probes", s.interventions.probes);
    // Without latencies it would be a choice by requests in flight alone, as likely the slow one where both have none.
    let share = s.deployments[0].share;
    assert!(share > 0.8, "{share}");
}
