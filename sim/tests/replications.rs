//! Replications: the same whatever the number of threads, and true to the runs they are made of.

mod common;

use common::{options, parse, simulate};
use reports::RunRecord;
use reports::statistics::estimate;
use scenarios::Scenario;

fn scenario() -> Scenario {
    parse(include_str!("../../scenarios/strategies.toml"))
}

fn replicate(seeds: u32, threads: usize) -> RunRecord {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(|| sim::replicate(&scenario(), &options(3), seeds, &|_| {}))
}

#[test]
fn threads_change_nothing() {
    let one = reports::json::to_string(&replicate(5, 1));
    for threads in [2, 4] {
        assert!(reports::json::to_string(&replicate(5, threads)) == one, "{threads} threads");
    }
}

#[test]
fn the_record_is_the_first_seeds_with_the_figures_of_all() {
    let runs: Vec<RunRecord> = (3..7).map(|seed| simulate(&scenario(), seed)).collect();
    let mut record = replicate(4, 2);
    let replications = record.replications.take().expect("four seeds");
    assert_eq!(replications.seeds, [3, 4, 5, 6]);
    for (s, strategy) in replications.strategies.iter().enumerate() {
        let p99 = |run: &RunRecord| run.strategies[s].latency_ms.p99;
        let base = |run: &RunRecord| run.strategies[0].latency_ms.p99;
        let figure = strategy.figures.iter().find(|f| f.metric == "latency_ms.p99").expect("p99");
        let own = estimate(&runs.iter().map(p99).collect::<Vec<_>>()).expect("four");
        assert_eq!((figure.mean, figure.n), (Some(own.mean), 4));
        assert_eq!(figure.low.zip(figure.high), own.interval);
        let Some(difference) = strategy.against_baseline.iter().find(|d| d.metric == "latency_ms.p99") else {
            assert_eq!(s, 0, "only the baseline has none");
            continue;
        };
        let paired = estimate(&runs.iter().map(|run| p99(run) - base(run)).collect::<Vec<_>>()).expect("four");
        assert_eq!((difference.mean, difference.n), (Some(paired.mean), 4));
        assert_eq!(difference.low.zip(difference.high), paired.interval);
    }
    for e in &mut record.expectations {
        let held = e.held.take().expect("four seeds");
        assert_eq!((held.seeds, held.of, held.failed), (4, 4, None));
    }
    assert!(record == runs[0], "all else is the first seed's");
}

#[test]
fn one_seed_is_a_run() {
    assert!(replicate(1, 2) == simulate(&scenario(), 3));
}

#[test]
fn progress_ends_with_all_of_it() {
    let most = std::sync::Mutex::new(0.0f64);
    sim::replicate(&scenario(), &options(1), 3, &|part| {
        let mut most = most.lock().expect("no panic");
        *most = most.max(part);
    });
    let most = most.into_inner().expect("no panic");
    assert!((0.9..=1.0).contains(&most), "{most}");
}
