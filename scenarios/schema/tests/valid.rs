//! Scenarios that are right: what is read, and with which defaults.

use lb_core::channel::ResolverConfig;
use lb_core::{Nanos, PolicyConfig};
use scenarios::{Balancer, Bound, PodSet, Scenario, ServiceTime};

const HEADLESS: &str = include_str!("valid/headless-and-sidecar.toml");
const EVERYTHING: &str = include_str!("valid/everything.toml");

fn read(text: &str) -> Scenario {
    scenarios::parse("valid.toml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn what_is_left_out_gets_its_default() {
    let scenario = read(HEADLESS);
    assert_eq!((scenario.seed, scenario.interval), (1, Nanos::from_secs(1)));
    assert_eq!((scenario.cluster.nodes, scenario.cluster.zones), (3, 1));
    let client = &scenario.deployments[1];
    assert_eq!((client.replicas, &client.service_time), (1, &ServiceTime::Constant(Nanos::ZERO)));
    assert_eq!(scenario.strategies[0].proxy, None);
    let expect = &scenario.expectations[0];
    assert_eq!((expect.pods, expect.bound), (PodSet::New, Bound::Equal(0.0)));
}

#[test]
fn policies_are_written_by_name_or_with_settings() {
    let scenario = read(HEADLESS);
    assert_eq!(scenario.strategies[0].client.policy.name(), "round_robin");
    let proxy = scenario.strategies[1].proxy.as_ref().unwrap();
    let PolicyConfig::LeastRequest(least_request) = &proxy.policy else { panic!("{:?}", proxy.policy) };
    assert_eq!(least_request.choice_count.get(), 3);
    assert_eq!(proxy.deployment, "proxy");
}

#[test]
fn a_balancer_that_is_a_proxy_has_one_even_if_none_is_written() {
    let text =
        HEADLESS.replace("balancer = \"client\"\nclient = { policy = \"round_robin\" }", "balancer = \"ingress\"");
    let scenario = read(&text);
    assert_eq!(scenario.strategies[0].balancer, Balancer::Ingress);
    let proxy = scenario.strategies[0].proxy.as_ref().unwrap();
    assert_eq!((proxy.deployment.as_str(), proxy.policy.name()), ("proxy", "round_robin"));
    assert!(matches!(proxy.resolver, ResolverConfig::StrictDns(_)));
}

#[test]
fn every_key_has_its_place() {
    let scenario = read(EVERYTHING);
    assert_eq!(scenario.loads[0].open.as_ref().unwrap().rate.per_s(), 1000.0);
    assert_eq!(scenario.strategies.len(), 8);
    assert_eq!(scenario.events[2].at, scenario.duration);
}

#[test]
fn lines_may_end_as_windows_writes_them() {
    assert_eq!(read(&HEADLESS.replace('\n', "\r\n")), read(HEADLESS));
    assert_eq!(read(&format!("\u{feff}{HEADLESS}")), read(HEADLESS));
}

#[test]
fn a_loaded_file_comes_with_its_bytes() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/valid/headless-and-sidecar.toml");
    let loaded = scenarios::load(&path).unwrap();
    assert_eq!((loaded.text.as_str(), loaded.scenario), (HEADLESS, read(HEADLESS)));
}

#[test]
fn the_gallery_is_valid() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let loaded = scenarios::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
            assert!(loaded.text.starts_with("# "), "{} does not open with the question it asks", path.display());
        }
    }
}

/// The record shows the scenario as it was understood; that must mean the same when it is read again.
#[test]
fn what_is_serialised_is_read_back() {
    for text in [HEADLESS, EVERYTHING] {
        let scenario = read(text);
        let json = serde_json::to_value(&scenario).unwrap();
        assert_eq!(serde_json::from_value::<Scenario>(json).unwrap(), scenario);
    }
}
