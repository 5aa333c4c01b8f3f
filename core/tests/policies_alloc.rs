//! Invariant: the pick path allocates nothing. In a test of its own, as it replaces the allocator.

use lb_core::{
    Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext, Picker,
    PolicyConfig,
};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

/// Allocations of 1,000 requests from pick to end.
fn allocations(picker: &dyn Picker, rng: &mut Xoshiro256PlusPlus) -> u64 {
    let outcome = Outcome::new(Code::Ok, Nanos::from_millis(1));
    let requests = || {
        for _ in 0..1_000 {
            if let Pick::Endpoint(id) = picker.pick(&mut PickContext::new(Nanos::ZERO, rng)) {
                picker.done(id, Nanos::ZERO, &outcome);
            }
        }
    };
    allocation_counter::measure(requests).count_total
}

#[test]
fn picks_and_their_ends_allocate_nothing() {
    for name in PolicyConfig::NAMES {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut policy = PolicyConfig::named(name).unwrap().build();
        let endpoint =
            |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:50051"))).with_weight(1 + i % 5);
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
