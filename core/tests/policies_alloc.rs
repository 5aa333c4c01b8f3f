//! Invariant: the pick path allocates nothing. In a test of its own, as it replaces the allocator.

use lb_core::{
    Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, LoadReport, Nanos, Outcome, Pick,
    PickContext, Picker, PolicyConfig,
};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

/// Allocations of 1,000 requests from pick to end, of which every third has a session and every tenth fails; the probes that they
/// ask for are answered.
fn allocations(picker: &dyn Picker, rng: &mut Xoshiro256PlusPlus) -> u64 {
    let sessions = [7, 70, 700].map(address);
    let load = LoadReport { in_flight: Some(3), latency: Some(Nanos::from_millis(1)), ..LoadReport::default() };
    let requests = || {
        for i in 0..1_000 {
            let session = (i % 3 == 0).then(|| &sessions[i % 9 / 3]);
            let code = if i % 10 == 0 { Code::Unavailable } else { Code::Ok };
            let outcome = Outcome::new(code, Nanos::from_millis(1)).with_load(load);
            let mut cx = PickContext { session, ..PickContext::new(Nanos::ZERO, rng) };
            let pick = picker.pick(&mut cx);
            cx.asks.probes().iter().for_each(|&id| picker.probed(id, Nanos::ZERO, &load));
            if let Pick::Endpoint(id) = pick {
                picker.done(id, Nanos::ZERO, &outcome);
            }
        }
    };
    allocation_counter::measure(requests).count_total
}

fn address(i: u32) -> Address {
    Address::new(&format!("10.0.0.{i}:50051"))
}

/// Those that their default settings leave out.
const OTHERS: &[&str] = &[
    r#"{"outlier_detection": {"success_rate_ejection": {}, "consecutive_5xx": 1}}"#,
    r#"{"failure_accrual": {"success_rate": {}, "consecutive_failures": 1}}"#,
];

#[test]
fn picks_and_their_ends_allocate_nothing() {
    let others = OTHERS.iter().map(|json| serde_json::from_str(json).unwrap());
    for config in PolicyConfig::NAMES.iter().map(|name| PolicyConfig::named(name).unwrap()).chain(others) {
        let name = config.name();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut policy = config.build();
        let endpoint = |i| Endpoint::new(EndpointId(i), address(i)).with_weight(1 + i % 5);
        let endpoints = EndpointSet::new((0..100).map(endpoint));
        policy.update(&mut Context::new(Nanos::ZERO, &mut rng), &endpoints);
        let waiting = policy.picker(&mut Context::new(Nanos::ZERO, &mut rng));
        assert_eq!(allocations(&*waiting, &mut rng), 0, "{name}, waiting");

        // One after the other fails, which pick_first takes for the end of its walk.
        for e in &endpoints {
            policy.connectivity(&mut Context::new(Nanos::ZERO, &mut rng), e.id, Connectivity::TransientFailure);
        }
        let failing = policy.picker(&mut Context::new(Nanos::ZERO, &mut rng));
        assert!(matches!(failing.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)), Pick::Fail(_)), "{name}");
        assert_eq!(allocations(&*failing, &mut rng), 0, "{name}, failing");

        for e in &endpoints {
            policy.connectivity(&mut Context::new(Nanos::ZERO, &mut rng), e.id, Connectivity::Ready);
        }
        let ready = policy.picker(&mut Context::new(Nanos::ZERO, &mut rng));
        assert!(matches!(ready.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)), Pick::Endpoint(_)), "{name}");
        assert_eq!(allocations(&*ready, &mut rng), 0, "{name}, ready");
    }
    // The instrument works: it sees what does allocate.
    assert_eq!(allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1)))).count_total, 1);
}
