//! What a request costs: a pick and its end, for every policy at 10 to 10,000 ready endpoints, on one thread, with the
//! answers to the probes that it asks for; and before it, finding its route and its cluster.
//!
//! `cargo bench -p lb-core --bench picks` takes about twenty seconds.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lb_core::route::{Pushback, RequestInfo, RouteConfig, Router};
use lb_core::{
    Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, LoadReport, Nanos, Outcome, Pick,
    PickContext, Picker, PolicyConfig,
};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

/// A picker over `n` ready endpoints of weights 1 to 5.
fn picker(name: &str, n: u32) -> Arc<dyn Picker> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut cx = Context::new(Nanos::ZERO, &mut rng);
    let mut policy = PolicyConfig::named(name).expect("a registered name").build();
    let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:50051"))).with_weight(1 + i % 5);
    policy.update(&mut cx, &EndpointSet::new((0..n).map(endpoint)));
    for i in 0..n {
        policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
    }
    policy.picker(&mut cx)
}

fn picks(c: &mut Criterion) {
    let outcome = Outcome::new(Code::Ok, Nanos::from_millis(1));
    let load = LoadReport { in_flight: Some(3), latency: Some(Nanos::from_millis(1)), ..LoadReport::default() };
    for name in PolicyConfig::NAMES {
        let mut group = c.benchmark_group(*name);
        for n in [10, 100, 1_000, 10_000] {
            let picker = picker(name, n);
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
            let mut now = Nanos::ZERO;
            group.bench_function(BenchmarkId::from_parameter(n), |b| {
                b.iter(|| {
                    // 100,000 requests a second, for policies that look at the clock.
                    now += Nanos::from_micros(10);
                    let mut cx = PickContext::new(black_box(now), &mut rng);
                    let pick = picker.pick(&mut cx);
                    for &id in cx.asks.probes() {
                        picker.probed(id, now, &load);
                    }
                    if let Pick::Endpoint(id) = pick {
                        picker.done(id, now, &outcome);
                    }
                    pick
                });
            });
        }
        group.finish();
    }
}

/// The second of two routes matches, with two clusters; alone, and with faults and retries that do not happen.
fn routes(c: &mut Criterion) {
    let testers =
        "name = 'testers'\nmatch = { headers = [{ name = 'x-tester', exact = 'yes' }] }\nclusters = [{ name = 'v2' }]";
    let all = "name = 'all'\nclusters = [{ name = 'v1', weight = 99 }, { name = 'v2' }]";
    let around = "retry = { budget = {}, throttling = { max_tokens = 10, token_ratio = 0.1 } }\n\
        fault = { abort = { percentage = 0, grpc_status = 'UNAVAILABLE' } }\n\
        rate_limit = { local = { max_tokens = 4294967295, tokens_per_fill = 4294967295, fill_interval = '50ms' } }";
    let config = |text: &str| toml::from_str::<RouteConfig>(text).expect("a route");
    let headers: [(Box<str>, Box<str>); 2] =
        [("user-agent".into(), "grpc-go/1.70".into()), ("x-request-id".into(), "7f2a".into())];
    let request = RequestInfo { path: "/shop.Cart/Add", headers: &headers };
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
    let mut group = c.benchmark_group("route");
    let router = Router::new(&[config(testers), config(all)]);
    group.bench_function("and_cluster", |b| {
        b.iter(|| {
            let id = router.route(black_box(&request), &mut rng).expect("the second matches");
            router.get(id).cluster(&mut rng)
        });
    });
    let router = Router::new(&[config(testers), config(&format!("{all}\n{around}"))]);
    let mut now = Nanos::ZERO;
    group.bench_function("and_all_around", |b| {
        b.iter(|| {
            now += Nanos::from_micros(10);
            let route = router.get(router.route(black_box(&request), &mut rng).expect("the second matches"));
            let (limit, fault, retry) = (route.limit().unwrap(), route.fault().unwrap(), route.retry().unwrap());
            let passed = limit.local(now).is_ok();
            fault.end(fault.begin(&request, &mut rng));
            let mut attempts = retry.begin();
            let cluster = route.cluster(&mut rng);
            let decision = retry.on_attempt_end(&mut attempts, Code::Ok, Pushback::None, &mut rng);
            retry.end(attempts);
            (passed, cluster, decision)
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(150))
        .measurement_time(Duration::from_millis(450))
        .sample_size(30);
    targets = picks, routes
}
criterion_main!(benches);
