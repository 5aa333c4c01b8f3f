//! `priority`: around a child for each priority of endpoints; the first takes what it can, the next what is left.
//!
//! **Solves** spare endpoints that are worse but better than none: another region, a standby, an old version. As long as the
//! first are well they get nothing.
//!
//! **Source**: implementations differ in what takes a request to the next priority; `failover` says which is meant.
//!
//! * `envoy` (envoy.config.endpoint.v3.ClusterLoadAssignment; `LoadBalancerBase` of `load_balancer_impl.cc`): gradually. The
//!   health of a priority is min(100, `overprovisioning_factor` · healthy/all) in percent; it takes that much of what those
//!   before it left. If all healths together are under 100, each is scaled up by what is missing, and a priority of which
//!   less than `healthy_panic_threshold` percent are healthy *panics*: it uses all of its connected endpoints, the unhealthy
//!   too, as too few well ones under all of the load would only follow. If all panic, endpoints count whatever their health.
//! * `grpc` (gRFC A56 `priority_experimental`): at once. The first priority whose child is READY or IDLE, or is CONNECTING for
//!   less than `failover_timeout`, has everything; if there is none, one that is CONNECTING, or the last. Children are known by
//!   their priority here. In A56 they have names, with which they can move to another priority and stay for a while when they
//!   are in none.
//!
//! **What is healthy** (`envoy`): an endpoint whose last attempt to connect did not fail, and that is not UNHEALTHY. IDLE and
//! CONNECTING ones are healthy, as Envoy's hosts are until a check says otherwise: a request that is drawn to them waits
//! while they connect, though another priority may be ready. It waits for an attempt at most, since a failed one
//! changes the health. What a child thinks of its endpoints is not seen: put `outlier_detection` around this policy, where
//! Envoy has it.
//!
//! **Connections**: lower priorities are not connected until they, or one after them, have some of the load. When they have
//! none any more they stay connected for `child_retention_interval`, after which their child is dropped with all it knew.
//!
//! **A pick costs** a random number (`envoy`, and none if one priority has everything) and the child's pick. A request that
//! has a hash goes to the priority of hash mod 100, so that a key stays where it is, as Envoy's hashing policies do it.
//!
//! **Does badly** when it moves much at once: `grpc` sends everything to the next priority, which had better be as large as the
//! first, and back. `envoy` knows health, not load: a priority that is well but full spills nothing.
//!
//! ```
//! use lb_core::policy::Wanted;
//! use lb_core::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("priority").unwrap().build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! let spare = Endpoint { priority: 1, ..endpoint(4) };
//! policy.update(&mut cx, &EndpointSet::new((0..4).map(endpoint).chain([spare])));
//! assert_eq!(policy.wanted(), Wanted::Only(&[0, 1, 2, 3].map(EndpointId)));
//! for (i, state) in [Connectivity::Ready, Connectivity::Ready, Connectivity::TransientFailure, Connectivity::Ready].iter().enumerate() {
//!     policy.connectivity(&mut cx, EndpointId(i as u32), *state);
//! }
//! // 3 of 4 are healthy: 140 % · 3/4 = 105 %. With 2 of 4 it is 70 %, and the spare one gets the rest.
//! assert_eq!(policy.wanted(), Wanted::Only(&[0, 1, 2, 3].map(EndpointId)));
//! policy.connectivity(&mut cx, EndpointId(3), Connectivity::TransientFailure);
//! assert_eq!(policy.wanted(), Wanted::All);
//! policy.connectivity(&mut cx, EndpointId(4), Connectivity::Ready);
//! let picker = policy.picker(&mut cx);
//! let spare = |_: &u64| picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)) == Pick::Endpoint(EndpointId(4));
//! let spares = (0..10_000).filter(spare).count();
//! assert!((2_800..3_200).contains(&spares), "{spares}");
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::children::{Children, Key, Pickers, aggregate};
use super::config::{Rule, Settings};
use super::draw::below;
use super::endpoint_states::no_addresses;
use super::outstanding::Shared;
use super::{Picker, Policy, PolicyConfig, Wanted, earlier};
use crate::{
    Connectivity, Context, Endpoint, EndpointId, EndpointSet, LoadReport, Nanos, Outcome, Pick, PickContext, Status,
};

mod spill;

/// Settings of `priority`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PriorityConfig {
    /// What takes requests to the next priority.
    pub failover: Failover,
    /// `envoy`: a priority is in full health while this many percent of its healthy endpoints are as many as all of them. 140,
    /// Envoy `overprovisioning_factor`; over 0.
    pub overprovisioning_factor: u32,
    /// `envoy`: below this many percent of healthy endpoints a priority panics, if the others can't help. 50, Envoy
    /// `healthy_panic_threshold`; 0 to never panic, and at most 100.
    pub healthy_panic_threshold: u32,
    /// `envoy`: whether requests to a priority that panics fail, rather than go to its unhealthy endpoints too. False, Envoy
    /// `fail_traffic_on_panic`.
    pub fail_traffic_on_panic: bool,
    /// `grpc`: how long a priority may be CONNECTING before the next is tried. 10 s, gRFC A56 (gRPC C-core
    /// `grpc.priority_failover_timeout_ms`).
    pub failover_timeout: Nanos,
    /// How long a priority that is not used any more stays connected. 15 min, gRFC A56 (gRPC C-core
    /// `kChildRetentionInterval`); in Envoy it is the connections' idle timeout, 1 h.
    pub child_retention_interval: Nanos,
    /// Who chooses within a priority. `round_robin` by default, as in Envoy.
    pub child_policy: Box<PolicyConfig>,
}

/// What takes requests to the next priority. Implementations differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Failover {
    /// As many requests as the health of a priority is short of 100 %: Envoy.
    #[default]
    Envoy,
    /// All requests, when nothing of a priority is ready: gRPC (A56).
    Grpc,
}

impl Default for PriorityConfig {
    fn default() -> Self {
        Self {
            failover: Failover::default(),
            overprovisioning_factor: 140,
            healthy_panic_threshold: 50,
            fail_traffic_on_panic: false,
            failover_timeout: Nanos::from_secs(10),
            child_retention_interval: Nanos::from_secs(15 * 60),
            child_policy: Box::new(PolicyConfig::RoundRobin(Default::default())),
        }
    }
}

impl Settings for PriorityConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        Box::new(Priority {
            children: Children::new(&self.child_policy, shared),
            config: self.clone(),
            resolved: false,
            levels: BTreeMap::new(),
            plan: Plan::default(),
            published: None,
        })
    }

    fn check(&self) -> Result<(), Rule> {
        if self.overprovisioning_factor == 0 {
            return Err(Rule::broken("overprovisioning_factor", 0, "> 0"));
        }
        if self.healthy_panic_threshold > 100 {
            return Err(Rule::broken("healthy_panic_threshold", self.healthy_panic_threshold, "<= 100"));
        }
        Ok(())
    }

    fn child(&self) -> Option<&PolicyConfig> {
        Some(&self.child_policy)
    }
}

struct Priority {
    config: PriorityConfig,
    children: Children<u32>,
    /// Whether there was a snapshot at all: until then requests wait for the resolver.
    resolved: bool,
    /// What is remembered of each started child, by its priority.
    levels: BTreeMap<u32, Level>,
    plan: Plan,
    published: Option<Arc<PriorityPicker>>,
}

/// Of a child that is started.
#[derive(Debug)]
struct Level {
    /// When it is dropped, if it is not used now.
    drop_at: Option<Nanos>,
    /// gRPC: its state when last looked at.
    state: Connectivity,
    /// gRPC: until when it may connect before the next is tried; none if it is not waited for.
    failover_at: Option<Nanos>,
    /// gRPC: whether it was READY or IDLE after it last failed, or never failed.
    fresh: bool,
}

/// Who has what of the load.
#[derive(Debug, Clone, PartialEq, Default)]
struct Plan {
    /// Percent, by the children's index.
    loads: Vec<u32>,
    /// Who panics, likewise.
    panic: Vec<bool>,
}

/// A priority.
impl Key for u32 {
    fn of(endpoint: &Endpoint) -> Self {
        endpoint.priority
    }

    fn is_of(&self, endpoint: &Endpoint) -> bool {
        *self == endpoint.priority
    }
}

impl Priority {
    /// Plans anew after anything has happened.
    fn settle(&mut self, cx: &mut Context<'_>) {
        let plan = match self.config.failover {
            Failover::Envoy => self.spill(cx),
            Failover::Grpc => self.fail_over(cx),
        };
        self.plan = plan;
        self.children.settle();
    }

    /// Makes sure that the child has a policy, and keeps it.
    fn start(&mut self, cx: &mut Context<'_>, index: usize) -> bool {
        let started = self.children.start(cx, index);
        let failover_at = (self.config.failover == Failover::Grpc).then(|| cx.now + self.config.failover_timeout);
        let level = Level { drop_at: None, state: Connectivity::Connecting, failover_at, fresh: true };
        self.levels.entry(self.children.list()[index].key).or_insert(level).drop_at = None;
        started
    }

    /// Children from `index` on are not used any more.
    fn retire(&mut self, now: Nanos, index: usize) {
        let drop_at = now + self.config.child_retention_interval;
        for child in &self.children.list()[index..] {
            if let Some(level) = self.levels.get_mut(&child.key) {
                level.drop_at.get_or_insert(drop_at);
            }
        }
    }

    /// Envoy: each priority takes what its health allows.
    fn spill(&mut self, cx: &mut Context<'_>) -> Plan {
        let mut plan = Plan::default();
        // What is planned may change what it was planned by: a child that is started may hear of endpoints that failed
        // before. Twice as many rounds as there are children let each start and panic.
        for _ in 0..=2 * self.children.list().len() {
            self.children.look();
            let health = self.children.list().iter().map(|child| (child.endpoints.len(), child.healthy()));
            let health: Vec<(usize, usize)> = health.collect();
            let (factor, threshold) = (self.config.overprovisioning_factor, self.config.healthy_panic_threshold);
            let (loads, panic) = spill::loads(&health, factor, threshold);
            let used = loads.iter().rposition(|load| *load > 0).map_or(0, |last| last + 1);
            let mut changed = false;
            for index in 0..used {
                changed |= self.start(cx, index);
            }
            self.retire(cx.now, used);
            for (index, &panic) in panic.iter().enumerate() {
                changed |= self.children.set_panic(cx, index, panic && !self.config.fail_traffic_on_panic);
            }
            plan = Plan { loads, panic };
            if !changed {
                break;
            }
        }
        plan
    }

    /// gRPC: the first priority that works, or may soon, has everything (A56 "Algorithm for Choosing a Priority").
    fn fail_over(&mut self, cx: &mut Context<'_>) -> Plan {
        self.watch(cx.now);
        let mut states = Vec::new();
        let mut chosen = None;
        for index in 0..self.children.list().len() {
            if self.start(cx, index) {
                self.watch(cx.now);
            }
            let child = &self.children.list()[index];
            states.push(child.state());
            if matches!(child.state(), Connectivity::Ready | Connectivity::Idle) {
                chosen = Some(index);
                self.retire(cx.now, index + 1);
                break;
            }
            let failover_at = self.levels.get(&child.key).and_then(|level| level.failover_at);
            if failover_at.is_some_and(|at| at > cx.now) {
                chosen = Some(index);
                break;
            }
        }
        let connecting = || states.iter().position(|state| *state == Connectivity::Connecting);
        let chosen = chosen.or_else(connecting).or(states.len().checked_sub(1));
        let load = |index| if Some(index) == chosen { 100 } else { 0 };
        let n = self.children.list().len();
        Plan { loads: (0..n).map(load).collect(), panic: vec![false; n] }
    }

    /// gRPC: notes what has become of the children.
    fn watch(&mut self, now: Nanos) {
        self.children.look();
        let failover_at = now + self.config.failover_timeout;
        for child in self.children.list() {
            if let Some(level) = self.levels.get_mut(&child.key) {
                level.saw(child.state(), failover_at);
            }
        }
    }

    /// Children with some of the load.
    fn used(&self) -> impl Iterator<Item = usize> + use<> {
        let loads = self.plan.loads.clone();
        (0..loads.len()).filter(move |index| loads[*index] > 0)
    }
}

impl Level {
    /// The child is in this state; if it starts to connect it has until `failover_at` (A56 "Child Connectivity State Tracking").
    fn saw(&mut self, state: Connectivity, failover_at: Nanos) {
        if std::mem::replace(&mut self.state, state) == state {
            return;
        }
        match state {
            Connectivity::Connecting if self.fresh => self.failover_at = Some(failover_at),
            Connectivity::Connecting => {}
            Connectivity::Ready | Connectivity::Idle => (self.fresh, self.failover_at) = (true, None),
            Connectivity::TransientFailure | Connectivity::Unhealthy => {
                (self.fresh, self.failover_at) = (false, None);
            }
        }
    }
}

impl Policy for Priority {
    fn update(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet) {
        self.resolved = true;
        self.children.update(cx, endpoints);
        let children = &self.children;
        self.levels.retain(|key, _| children.list().iter().any(|child| child.key == *key));
        self.settle(cx);
    }

    fn connectivity(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, state: Connectivity) {
        self.children.connectivity(cx, endpoint, state);
        self.settle(cx);
    }

    fn exit_idle(&mut self, cx: &mut Context<'_>) {
        for index in self.used() {
            self.children.exit_idle(cx, index);
        }
        self.settle(cx);
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Option<Nanos> {
        let due = self.children.tick(cx);
        for index in 0..self.children.list().len() {
            let key = self.children.list()[index].key;
            if self.levels.get(&key).and_then(|level| level.drop_at).is_some_and(|at| at <= cx.now) {
                self.levels.remove(&key);
                self.children.stop(index);
            }
        }
        self.settle(cx);
        let timers = self.levels.values().flat_map(|level| [level.drop_at, level.failover_at]).flatten();
        earlier(due, timers.filter(|at| *at > cx.now).min())
    }

    fn wanted(&self) -> Wanted<'_> {
        self.children.wanted()
    }

    fn take_resolve_request(&mut self) -> bool {
        self.children.take_resolve_request()
    }

    fn oob_reporting_period(&self) -> Option<Nanos> {
        self.children.oob_reporting_period()
    }

    fn load_report(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, report: &LoadReport) {
        self.children.load_report(cx, endpoint, report);
        self.settle(cx);
    }

    fn state(&self) -> Option<Connectivity> {
        Some(aggregate(self.used().map(|index| self.children.list()[index].state())))
    }

    fn picker(&mut self, cx: &mut Context<'_>) -> Arc<dyn Picker> {
        let children = self.children.pickers(cx);
        let fails = |index: usize| self.config.fail_traffic_on_panic && self.plan.panic[index];
        let to = |index: usize| if fails(index) { FAILS } else { self.children.list()[index].slot };
        let mut end = 0;
        let share = |index: usize| {
            end += self.plan.loads[index];
            Share { end, child: to(index) }
        };
        let shares: Vec<Share> = self.used().map(share).collect();
        let nobody = if self.resolved { Pick::Fail(no_addresses()) } else { Pick::Queue };
        if let Some(picker) = &self.published
            && Arc::ptr_eq(&picker.children, &children)
            && (&picker.shares, &picker.nobody) == (&shares, &nobody)
        {
            return picker.clone();
        }
        let panics = Pick::Fail(Status::unavailable("no healthy endpoint: too few of the priority are healthy"));
        let picker = PriorityPicker { shares, nobody, panics, children };
        self.published.insert(Arc::new(picker)).clone()
    }
}

/// What a priority gets: of 100 places those from the end of the one before.
#[derive(Debug, PartialEq)]
struct Share {
    end: u32,
    /// Its child's slot, or [`FAILS`].
    child: u32,
}

/// Whose requests fail.
const FAILS: u32 = u32::MAX;

struct PriorityPicker {
    shares: Vec<Share>,
    /// The answer where there is no priority.
    nobody: Pick,
    /// The answer of one that fails for too few healthy endpoints.
    panics: Pick,
    children: Arc<Pickers>,
}

impl PriorityPicker {
    #[inline]
    fn draw(&self, cx: &mut PickContext<'_>) -> Option<&Share> {
        if let [_] | [] = self.shares[..] {
            return self.shares.first();
        }
        let place = cx.hash.map_or_else(|| below(cx.rng, 100) as u32, |hash| (hash % 100) as u32);
        self.shares.iter().find(|share| place < share.end)
    }
}

impl Picker for PriorityPicker {
    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        match self.draw(cx) {
            Some(Share { child: FAILS, .. }) => self.panics.clone(),
            Some(share) => self.children.pick(share.child, cx),
            None => self.nobody.clone(),
        }
    }

    fn picked(&self, endpoint: EndpointId, now: Nanos) {
        self.children.picked(endpoint, now);
    }

    #[inline]
    fn done(&self, endpoint: EndpointId, now: Nanos, outcome: &Outcome) {
        self.children.done(endpoint, now, outcome);
    }

    fn probed(&self, endpoint: EndpointId, now: Nanos, report: &LoadReport) {
        self.children.probed(endpoint, now, report);
    }
}

#[cfg(test)]
mod tests;
