//! Several children of one policy, each with a part of the endpoints: what `priority` and the policies by locality have in
//! common.
//!
//! A child is the endpoints with one key. It has a policy once it is *started*; all of these are built from one
//! configuration and share the counts of requests outstanding. What is kept here:
//!
//! * **The state of each endpoint**, so that a child that is started, or gets an endpoint from another, is told what the
//!   channel will not say again. An endpoint that nobody wants is IDLE: the channel closes it without a word.
//! * **Who has an endpoint now**, in a table that all pickers share: the end of a request is told to the child that has its
//!   endpoint. Where none has, the count of requests outstanding is all that is left of it.
//! * **What is wanted** by all children together.
//! * **How many endpoints failed**, by child, for those who go by health. It is Envoy's view, where a host is healthy until
//!   something says otherwise: an endpoint failed if its last attempt did, or if it was UNHEALTHY, and it was not READY
//!   since. One that the child does not want at present is healthy, as nobody knows better; but if everything that it wants
//!   failed, nothing of it is.
//!
//! No call decides anything: after it the owner [looks](Children::look), starts and stops children, and
//! [settles](Children::settle).

use std::sync::Arc;

use super::outstanding::Shared;
use super::{Policy, PolicyConfig, Wanted, earlier};
use crate::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, LoadReport, Nanos};

mod pickers;
mod snapshot;

pub(super) use pickers::Pickers;
use pickers::{OfChild, Owners};

/// The children of a policy.
pub(super) struct Children<K> {
    config: PolicyConfig,
    shared: Shared,
    /// By key, ascending.
    list: Vec<Child<K>>,
    /// Where in the list the child with a slot is.
    by_slot: Vec<usize>,
    /// By the endpoint's index; none for one that is not listed.
    entries: Vec<Option<Entry>>,
    owners: Arc<Owners>,
    /// None for everything.
    wanted: Option<Vec<EndpointId>>,
    pickers: Arc<Pickers>,
}

/// What endpoints of one child have in common.
pub(super) trait Key: Ord {
    /// The endpoint's.
    fn of(endpoint: &Endpoint) -> Self;

    /// Whether it is the endpoint's.
    fn is_of(&self, endpoint: &Endpoint) -> bool;
}

/// The endpoints with one key.
pub(super) struct Child<K> {
    pub(super) key: K,
    pub(super) endpoints: EndpointSet,
    /// Its place in the tables of pickers, for as long as it is listed.
    pub(super) slot: u32,
    policy: Option<Box<dyn Policy>>,
    /// Whether UNHEALTHY endpoints are READY for the policy.
    panic: bool,
    /// What the policy wants; none for everything.
    wanted: Option<Vec<EndpointId>>,
    /// Of what it wants: how many endpoints, how many of them are READY for the policy, and how many failed.
    wants: usize,
    ready: usize,
    failed: usize,
    /// The policy may want something else; it has other endpoints, or is another; who is wanted has changed.
    look: bool,
    renewed: bool,
    unsettled: bool,
}

/// What is known of an endpoint.
#[derive(Debug, Clone)]
struct Entry {
    address: Address,
    /// Its child's.
    slot: u32,
    /// As last told.
    state: Connectivity,
    /// Whether it failed and was not READY since.
    failed: bool,
    wanted: bool,
}

impl<K> Child<K> {
    fn new(key: K, slot: u32) -> Self {
        Self {
            key,
            endpoints: EndpointSet::default(),
            slot,
            policy: None,
            panic: false,
            wanted: Some(Vec::new()),
            wants: 0,
            ready: 0,
            failed: 0,
            look: true,
            renewed: true,
            unsettled: true,
        }
    }

    pub(super) fn is_started(&self) -> bool {
        self.policy.is_some()
    }

    /// How many of its endpoints are healthy.
    pub(super) fn healthy(&self) -> usize {
        if self.wants > 0 && self.failed == self.wants { 0 } else { self.endpoints.len() - self.failed }
    }

    /// What its policy says it is; IDLE if it has none.
    pub(super) fn state(&self) -> Connectivity {
        let Some(policy) = &self.policy else { return Connectivity::Idle };
        policy.state().unwrap_or(match self.wants {
            _ if self.ready > 0 => Connectivity::Ready,
            wants if wants > 0 && self.failed == wants => Connectivity::TransientFailure,
            _ => Connectivity::Connecting,
        })
    }

    /// Notes who is wanted, and counts those.
    fn count(&mut self, entries: &mut [Option<Entry>]) {
        (self.wants, self.ready, self.failed) = (0, 0, 0);
        let mut count = |id: EndpointId, wanted: bool| {
            let Some(Some(entry)) = entries.get_mut(id.index()) else { return };
            entry.wanted = wanted;
            if wanted {
                self.wants += 1;
                self.ready += usize::from(told(entry.state, self.panic) == Connectivity::Ready);
                self.failed += usize::from(entry.failed);
            }
        };
        self.endpoints.iter().for_each(|e| count(e.id, self.wanted.is_none()));
        self.wanted.iter().flatten().for_each(|&id| count(id, true));
    }

    /// Tells the policy of an endpoint.
    fn tell(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, state: Connectivity) {
        let state = told(state, self.panic);
        if let Some(policy) = &mut self.policy {
            policy.connectivity(cx, endpoint, state);
            self.look = true;
        }
    }
}

/// What a child, which may be in panic, is told of an endpoint that is in this state.
fn told(state: Connectivity, panic: bool) -> Connectivity {
    if panic && state == Connectivity::Unhealthy { Connectivity::Ready } else { state }
}

impl<K: Key> Children<K> {
    pub(super) fn new(config: &PolicyConfig, shared: &Shared) -> Self {
        let owners = Arc::new(Owners::new(shared));
        Self {
            config: config.clone(),
            shared: shared.clone(),
            list: Vec::new(),
            by_slot: Vec::new(),
            entries: Vec::new(),
            pickers: Arc::new(Pickers::new(Vec::new(), &owners)),
            owners,
            wanted: None,
        }
    }

    /// By key, ascending.
    pub(super) fn list(&self) -> &[Child<K>] {
        &self.list
    }

    /// An endpoint is in this state now.
    pub(super) fn connectivity(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, state: Connectivity) {
        let Some(Some(entry)) = self.entries.get_mut(endpoint.index()) else { return };
        // The same news again is none, whatever the child did after the first.
        if entry.wanted && entry.state == state {
            return;
        }
        let child = &mut self.list[self.by_slot[entry.slot as usize]];
        let failed = match state {
            Connectivity::Ready => false,
            Connectivity::TransientFailure | Connectivity::Unhealthy => true,
            Connectivity::Idle | Connectivity::Connecting => entry.failed,
        };
        if entry.wanted {
            let ready = |state| usize::from(told(state, child.panic) == Connectivity::Ready);
            child.ready = child.ready + ready(state) - ready(entry.state);
            child.failed = child.failed + usize::from(failed) - usize::from(entry.failed);
        } else if !matches!(state, Connectivity::Idle | Connectivity::TransientFailure) {
            // Unless it is wanted after all, the channel will close it.
            child.unsettled = true;
        }
        (entry.state, entry.failed) = (state, failed);
        child.tell(cx, endpoint, state);
    }

    /// Gives a child a policy, if it has none; whether it had none.
    pub(super) fn start(&mut self, cx: &mut Context<'_>, index: usize) -> bool {
        let child = &mut self.list[index];
        if child.is_started() {
            return false;
        }
        let mut policy = self.config.build_with(&self.shared);
        policy.update(cx, &child.endpoints);
        child.policy = Some(policy);
        child.renewed = true;
        for endpoint in &child.endpoints.clone() {
            if let Some(entry) = &self.entries[endpoint.id.index()]
                && entry.state != Connectivity::Idle
            {
                child.tell(cx, endpoint.id, entry.state);
            }
        }
        true
    }

    /// Takes a child's policy away: nothing of it is wanted any more, and what it knew is forgotten.
    pub(super) fn stop(&mut self, index: usize) {
        let child = &mut self.list[index];
        child.renewed |= child.policy.take().is_some();
    }

    /// Whether a child is to use what is UNHEALTHY; whether that is news.
    pub(super) fn set_panic(&mut self, cx: &mut Context<'_>, index: usize, panic: bool) -> bool {
        let child = &mut self.list[index];
        if std::mem::replace(&mut child.panic, panic) == panic {
            return false;
        }
        for endpoint in &child.endpoints.clone() {
            if self.entries[endpoint.id.index()].as_ref().is_some_and(|e| e.state == Connectivity::Unhealthy) {
                child.tell(cx, endpoint.id, Connectivity::Unhealthy);
            }
        }
        child.count(&mut self.entries);
        true
    }

    /// A request waits for this child.
    pub(super) fn exit_idle(&mut self, cx: &mut Context<'_>, index: usize) {
        let child = &mut self.list[index];
        if let Some(policy) = &mut child.policy {
            policy.exit_idle(cx);
            child.look = true;
        }
    }

    /// Does what is due in all children; says when the next is due.
    pub(super) fn tick(&mut self, cx: &mut Context<'_>) -> Option<Nanos> {
        let mut due = None;
        for child in &mut self.list {
            if let Some(policy) = &mut child.policy {
                due = earlier(due, policy.tick(cx));
                child.look = true;
            }
        }
        due
    }

    pub(super) fn load_report(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, report: &LoadReport) {
        let Some(Some(entry)) = self.entries.get(endpoint.index()) else { return };
        let child = &mut self.list[self.by_slot[entry.slot as usize]];
        if let Some(policy) = &mut child.policy {
            policy.load_report(cx, endpoint, report);
            child.look = true;
        }
    }

    pub(super) fn oob_reporting_period(&self) -> Option<Nanos> {
        let policies = self.list.iter().filter_map(|child| child.policy.as_ref());
        policies.filter_map(|policy| policy.oob_reporting_period()).min()
    }

    pub(super) fn take_resolve_request(&mut self) -> bool {
        let mut any = false;
        for policy in self.list.iter_mut().filter_map(|child| child.policy.as_mut()) {
            any |= policy.take_resolve_request();
        }
        any
    }

    /// Counts anew where the children may want others than before: to be called before the counts are read.
    pub(super) fn look(&mut self) {
        for child in self.list.iter_mut().filter(|child| child.look || child.renewed) {
            child.look = false;
            let wanted = child.policy.as_ref().map_or(Wanted::Only(&[]), |policy| policy.wanted());
            let wanted = match (&child.wanted, wanted) {
                (None, Wanted::All) if !child.renewed => continue,
                (Some(before), Wanted::Only(now)) if !child.renewed && before == now => continue,
                (_, Wanted::All) => None,
                (_, Wanted::Only(now)) => Some(now.to_vec()),
            };
            child.wanted = wanted;
            child.renewed = false;
            child.unsettled = true;
            child.count(&mut self.entries);
        }
    }

    /// All is decided: what is not wanted will be closed.
    pub(super) fn settle(&mut self) {
        self.look();
        let mut changed = self.list.is_empty();
        for child in self.list.iter_mut().filter(|child| child.unsettled) {
            child.unsettled = false;
            changed = true;
            for endpoint in child.wanted.iter().flat_map(|_| &child.endpoints) {
                if let Some(entry) = &mut self.entries[endpoint.id.index()]
                    && !entry.wanted
                {
                    if entry.state != Connectivity::TransientFailure {
                        entry.state = Connectivity::Idle;
                    }
                    entry.failed &= child.policy.is_some();
                }
            }
        }
        if !changed {
            return;
        }
        self.wanted = None;
        if self.list.iter().any(|child| child.wanted.is_some()) {
            let mut all = Vec::with_capacity(self.list.iter().map(|child| child.wants).sum());
            for child in &self.list {
                match &child.wanted {
                    Some(wanted) => all.extend_from_slice(wanted),
                    None => all.extend(child.endpoints.iter().map(|e| e.id)),
                }
            }
            self.wanted = Some(all);
        }
    }

    /// What all children want together, as of the last [`settle`](Self::settle).
    pub(super) fn wanted(&self) -> Wanted<'_> {
        self.wanted.as_deref().map_or(Wanted::All, Wanted::Only)
    }

    /// The children's pickers; the same as before if these are.
    pub(super) fn pickers(&mut self, cx: &mut Context<'_>) -> Arc<Pickers> {
        let slots = self.list.iter().map(|child| child.slot as usize + 1).max().unwrap_or(0);
        let mut table: Vec<OfChild> = vec![None; slots];
        for child in &mut self.list {
            table[child.slot as usize] = child.policy.as_mut().map(|policy| policy.picker(cx));
        }
        if !self.pickers.are(&table) {
            self.pickers = Arc::new(Pickers::new(table, &self.owners));
        }
        self.pickers.clone()
    }
}

/// What children add up to, by gRPC's rule for a policy with several children: the best of READY, CONNECTING, IDLE and
/// TRANSIENT_FAILURE, in this order.
pub(super) fn aggregate(states: impl Iterator<Item = Connectivity>) -> Connectivity {
    let rank = |state: &Connectivity| match state {
        Connectivity::Ready => 3,
        Connectivity::Connecting => 2,
        Connectivity::Idle => 1,
        Connectivity::TransientFailure | Connectivity::Unhealthy => 0,
    };
    states.max_by_key(rank).unwrap_or(Connectivity::TransientFailure)
}

#[cfg(test)]
pub(super) mod tests;
