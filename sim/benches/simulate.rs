//! Simulated requests per second on the reference workload W1, through the real path: scenario, world, record.
//!
//! `cargo bench -p sim` prints time and `elem/s`, which are requests per second. The bar is 3 million on one core.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn w1(c: &mut Criterion) {
    let scenario = scenarios::parse("w1.toml", include_str!("w1.toml")).expect("a valid scenario");
    let options = sim::Options {
        name: "w1".into(),
        hash: String::new(),
        text: String::new(),
        seed: 1,
        reproduce: "cargo bench -p sim".into(),
    };
    let run = || sim::run(&scenario, &options, &mut |_, _| {});
    let requests = run().strategies[0].requests.started;
    let mut group = c.benchmark_group("simulate");
    group.throughput(Throughput::Elements(requests)).sample_size(20);
    group.bench_function("w1", |b| b.iter(run));
    group.finish();
}

criterion_group!(benches, w1);
criterion_main!(benches);
