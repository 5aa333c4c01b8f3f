//! Virtual time: runs a scenario as a deterministic discrete-event simulation.
//!
//! [`run`] plays a scenario's strategies one after the other, each in a world of its own with the same workload and
//! the same random numbers, and gives the run record. The map of the crate:
//!
//! * `engine`: the event queue and the slab, which know nothing of load balancing;
//! * `random`: streams and distributions;
//! * `world`: nodes, pods, names, connections and requests; the policies and channels are [`lb_core`]'s;
//! * `record`: from what was counted to the record and its expectations.

mod engine;
mod random;
mod record;
mod world;

use reports::RunRecord;
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

/// A hash of a scenario file's bytes, 16 hex digits, to tell files apart, not to resist an attacker.
pub fn scenario_hash(bytes: &[u8]) -> String {
    format!("{:016x}", random::fnv1a(bytes))
}
