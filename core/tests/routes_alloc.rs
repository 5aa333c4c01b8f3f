//! Invariant: routing allocates nothing. In a test of its own, as it replaces the allocator.

use lb_core::limit::{LimitUnit, RateLimitService};
use lb_core::route::{Pushback, RequestInfo, RetryDecision, RouteConfig, Router};
use lb_core::{Code, Nanos};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

#[test]
fn a_request_from_route_to_end_allocates_nothing() {
    let testers: RouteConfig = toml::from_str(
        r#"
        name = "testers"
        match = { prefix = "/shop.", headers = [{ name = "x-group", contains = "b,te" }], fraction = 0.5 }
        clusters = [{ name = "v2" }]
        "#,
    )
    .unwrap();
    let all: RouteConfig = toml::from_str(
        r#"
        name = "all"
        clusters = [{ name = "v1", weight = 99 }, { name = "v2" }]
        retry = { max_attempts = 5, budget = {}, throttling = { max_tokens = 1000, token_ratio = 1.0 } }
        fault = { abort = { percentage = 50, header = true }, delay = { percentage = 50, fixed_delay = "1ms" } }
        rate_limit = { local = { max_tokens = 100, fill_interval = "50ms" } }
        "#,
    )
    .unwrap();
    let router = Router::new(&[testers, all]);
    let headers: [(Box<str>, Box<str>); 3] = [
        ("x-group".into(), "ab".into()),
        ("x-group".into(), "testers".into()),
        ("x-envoy-fault-abort-grpc-request".into(), "14".into()),
    ];
    let request = RequestInfo { path: "/shop.Cart/Add", headers: &headers };
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut service = RateLimitService::new(10, LimitUnit::Second);
    let mut seen = [0u32; 5];
    let mut requests = || {
        for n in 0..1_000 {
            let route = router.get(router.route(&request, &mut rng).unwrap());
            let _ = std::hint::black_box(route.cluster(&mut rng));
            let now = Nanos::from_millis(n);
            service.should_rate_limit(now, "all", 1);
            let (Some(limit), Some(faults), Some(retry)) = (route.limit(), route.fault(), route.retry()) else {
                seen[0] += 1;
                continue;
            };
            seen[1] += u32::from(limit.local(now).is_err());
            let fault = faults.begin(&request, &mut rng);
            seen[2] += u32::from(fault.abort.is_some());
            faults.end(fault);
            let mut attempts = retry.begin();
            let code = if n % 3 == 0 { Code::Unavailable } else { Code::Ok };
            while let RetryDecision::Retry(_) = retry.on_attempt_end(&mut attempts, code, Pushback::None, &mut rng) {
                seen[3] += 1;
            }
            retry.end(attempts);
            seen[4] += 1;
        }
    };
    // The service remembers a key once per window.
    requests();
    assert_eq!(allocation_counter::measure(requests).count_total, 0);
    assert!(seen.iter().all(|&n| n > 100), "every branch was taken: {seen:?}");
    // The instrument works: it sees what does allocate.
    assert_eq!(allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1)))).count_total, 1);
}
