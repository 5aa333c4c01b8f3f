//! What a request costs: a pick and its end, for every policy at 10, 100 and 1,000 ready endpoints, on one thread.
//!
//! `cargo bench -p lb-core` takes about ten seconds.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lb_core::{
    Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext, Picker,
    PolicyConfig,
};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

/// A picker over `n` ready endpoints of weights 1 to 5.
fn picker(name: &str, n: u32) -> Arc<dyn Picker> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut cx = Context::new(Nanos::ZERO, &mut rng);
    let mut policy = PolicyConfig::named(name).expect("a registered name").build();
    let endpoint =
        |i| Endpoint { id: EndpointId(i), address: Address::new(&format!("10.0.0.{i}:50051")), weight: 1 + i % 5 };
    policy.update(&mut cx, &EndpointSet::new((0..n).map(endpoint)));
    for i in 0..n {
        policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
    }
    policy.picker(&mut cx)
}

fn picks(c: &mut Criterion) {
    let outcome = Outcome { code: Code::Ok, latency: Nanos::from_millis(1) };
    for name in PolicyConfig::NAMES {
        let mut group = c.benchmark_group(*name);
        for n in [10, 100, 1_000] {
            let picker = picker(name, n);
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
            group.bench_function(BenchmarkId::from_parameter(n), |b| {
                b.iter(|| {
                    let pick = picker.pick(&mut PickContext::new(black_box(Nanos::ZERO), &mut rng));
                    if let Pick::Endpoint(id) = pick {
                        picker.done(id, Nanos::ZERO, &outcome);
                    }
                    pick
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(150))
        .measurement_time(Duration::from_millis(450))
        .sample_size(30);
    targets = picks
}
criterion_main!(benches);
