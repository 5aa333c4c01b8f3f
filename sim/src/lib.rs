//! Virtual time: runs a scenario as a deterministic discrete-event simulation.
//!
//! [`run`] plays a scenario's strategies one after the other, each in a world of its own with the same workload and
//! the same random numbers, and gives the run record; [`replicate`] does so under several seeds. The map of the crate:
//!
//! * `engine`: the event queue and the slab, which know nothing of load balancing;
//! * `random`: streams and distributions;
//! * `world`: nodes, pods, names, connections and requests; the policies and channels are [`lb_core`]'s;
//! * `record`: from what was counted to the record and its expectations.

mod engine;
mod random;
mod record;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use reports::RunRecord;
use reports::statistics::{Observation, replicated};
use scenarios::Scenario;

/// What the record says of the run besides what happened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the scenario: its file's name without `.toml`.
    pub name: String,
    /// Hash of the scenario file, see [`scenario_hash`].
    pub hash: String,
    /// The scenario file as it is run.
    pub text: String,
    /// Master seed.
    pub seed: u64,
    /// The command that gives the record again.
    pub reproduce: String,
}

/// Simulates every strategy of a scenario. `progress` gets the index of the strategy and the part of its time that has
/// passed, about once a timeline bucket.
pub fn run(scenario: &Scenario, options: &Options, progress: &mut dyn FnMut(usize, f64)) -> RunRecord {
    let mut strategies = Vec::with_capacity(scenario.strategies.len());
    for (index, strategy) in scenario.strategies.iter().enumerate() {
        let mut world = world::World::new(scenario, strategy, options.seed);
        world.run(&mut |part| progress(index, part));
        strategies.push(world.record());
    }
    record::run_record(scenario, options, strategies)
}

/// Runs a scenario under `seeds` seeds, from the options' own upwards (after the largest comes 0), as many at a time as
/// there are threads. The record is the first seed's, with the statistics of all: whatever the threads, observations are
/// taken in the seeds' order, so that the bytes are the same. One seed or none gives what [`run`] gives.
///
/// `progress` gets the part of all the work that is done, from any thread.
pub fn replicate(scenario: &Scenario, options: &Options, seeds: u32, progress: &(dyn Fn(f64) + Sync)) -> RunRecord {
    /// Work is counted in thousandths of a strategy under a seed.
    const STEPS: f64 = 1000.0;
    let seeds = seeds.max(1);
    let of_seed = STEPS * scenario.strategies.len() as f64;
    let done = AtomicU64::new(0);
    let one = |index: u32| {
        let options = Options { seed: options.seed.wrapping_add(u64::from(index)), ..options.clone() };
        let mut before = 0;
        let record = run(scenario, &options, &mut |strategy, part| {
            let now = ((strategy as f64 + part) * STEPS) as u64;
            let all = done.fetch_add(now.saturating_sub(before), Ordering::Relaxed) + now.saturating_sub(before);
            before = before.max(now);
            progress(all as f64 / (of_seed * f64::from(seeds)));
        });
        let observation = Observation::of(&record);
        // The others' timelines and pods are not needed again, and there may be many seeds.
        (observation, (index == 0).then_some(record))
    };
    let (observations, records): (Vec<Observation>, Vec<Option<RunRecord>>) =
        (0..seeds).into_par_iter().map(one).unzip();
    let first = records.into_iter().flatten().next().expect("the first seed's record is kept");
    replicated(first, &observations)
}

/// A hash of a scenario file's bytes, 16 hex digits, to tell files apart, not to resist an attacker.
pub fn scenario_hash(bytes: &[u8]) -> String {
    format!("{:016x}", random::fnv1a(bytes))
}
