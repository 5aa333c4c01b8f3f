//! What the policies that connect to every endpoint have in common: the endpoints' states, what these add up to, and
//! one picker for as long as nothing changes.
//!
//! The rules are `round_robin`'s (gRFC A58 "Handling Subchannel Connectivity State Notifications"; A48 reuses them):
//!
//! | endpoints | a pick |
//! |---|---|
//! | any READY | one of the READY ones, as the policy likes |
//! | else any IDLE or CONNECTING | waits |
//! | else, all in TRANSIENT_FAILURE | fails with UNAVAILABLE |
//! | none | fails with UNAVAILABLE |
//!
//! An endpoint that failed counts as failed until it is READY, not merely until its next attempt starts (gRFC A62
//! "sticky-TF"): else a request would wait for every retry of a backend that is down.
//!
//! A state change costs O(1): it adjusts two counts, and drops the picker if that can no longer be right. The next
//! picker is built, in O(n), when one is asked for. So a channel whose 10,000 endpoints connect one after the other
//! pays for the pickers that were used, not for each step.

use std::sync::Arc;

use super::{Picker, Policy, fixed};
use crate::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Pick, Status};

/// A policy that connects to every endpoint; `F` decides among those that are READY.
pub(super) struct ConnectAll<F> {
    factory: F,
    states: EndpointStates,
    /// The picker of the present state; none when that changed since the last was built.
    published: Option<Arc<dyn Picker>>,
}

/// The part of such a policy that is its own.
pub(super) trait PickerFactory: Send {
    /// A new snapshot is about to be used.
    fn updated(&mut self, _cx: &mut Context<'_>, _endpoints: &EndpointSet) {}

    /// A picker over the endpoints that are READY: at least one.
    fn over(&mut self, cx: &mut Context<'_>, ready: Ready<'_>) -> Arc<dyn Picker>;

    /// A picker that gives this answer, as no endpoint is READY.
    fn always(&mut self, answer: Pick) -> Arc<dyn Picker> {
        fixed::always(answer)
    }
}

impl<F: PickerFactory> ConnectAll<F> {
    pub(super) fn new(factory: F) -> Self {
        Self { factory, states: EndpointStates::default(), published: None }
    }
}

impl<F: PickerFactory> Policy for ConnectAll<F> {
    fn update(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet) {
        self.factory.updated(cx, endpoints);
        if self.states.update(endpoints) {
            self.published = None;
        }
    }

    fn connectivity(&mut self, _cx: &mut Context<'_>, endpoint: EndpointId, state: Connectivity) {
        if self.states.connectivity(endpoint, state) {
            self.published = None;
        }
    }

    fn picker(&mut self, cx: &mut Context<'_>) -> Arc<dyn Picker> {
        if let Some(picker) = &self.published {
            return picker.clone();
        }
        let picker = match self.states.answer() {
            None => self.factory.over(cx, Ready(&self.states)),
            Some(answer) => self.factory.always(answer),
        };
        self.published.insert(picker).clone()
    }
}

/// The endpoints that are READY, in the resolver's order; at least one.
pub(super) struct Ready<'a>(&'a EndpointStates);

impl Ready<'_> {
    pub(super) fn ids(&self) -> Box<[EndpointId]> {
        self.collect(|m| m.id)
    }

    pub(super) fn weights(&self) -> Box<[f64]> {
        self.collect(|m| f64::from(m.weight))
    }

    /// Addresses share their text, so this copies none.
    pub(super) fn addresses(&self) -> Box<[Address]> {
        self.collect(|m| m.address.clone())
    }

    fn collect<T>(&self, of: impl Fn(&Member) -> T) -> Box<[T]> {
        let mut all = Vec::with_capacity(self.0.ready);
        all.extend(self.0.members.iter().filter(|m| m.state == Connectivity::Ready).map(of));
        all.into_boxed_slice()
    }
}

/// Where an endpoint stands in a list, by its id. Ids are small, so this is a table.
#[derive(Debug, Default)]
pub(super) struct Positions(Vec<Option<u32>>);

impl Positions {
    pub(super) fn of(ids: impl Iterator<Item = EndpointId>) -> Self {
        let mut table = Vec::new();
        for (position, id) in (0..).zip(ids) {
            if table.len() <= id.index() {
                table.resize(id.index() + 1, None);
            }
            table[id.index()] = Some(position);
        }
        Self(table)
    }

    pub(super) fn get(&self, id: EndpointId) -> Option<usize> {
        self.0.get(id.index())?.map(|position| position as usize)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Member {
    id: EndpointId,
    weight: u32,
    /// TRANSIENT_FAILURE until READY.
    state: Connectivity,
    /// Tells an endpoint that stayed from a new one under a reused id.
    address: Address,
}

/// The last snapshot and the state of each endpoint in it.
#[derive(Debug, Default)]
struct EndpointStates {
    /// Whether there was a snapshot at all: until then requests wait for the resolver.
    resolved: bool,
    members: Vec<Member>,
    positions: Positions,
    ready: usize,
    failed: usize,
}

/// What the endpoints' states add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Ready,
    Pending,
    Failed,
    Empty,
}

impl EndpointStates {
    /// Takes a snapshot; whether it differs from the last.
    fn update(&mut self, endpoints: &EndpointSet) -> bool {
        let state_of = |e: &Endpoint| match self.positions.get(e.id).map(|p| &self.members[p]) {
            Some(known) if known.address == e.address => known.state,
            _ => Connectivity::Idle,
        };
        let members: Vec<Member> = endpoints
            .iter()
            .map(|e| Member { id: e.id, weight: e.weight, state: state_of(e), address: e.address.clone() })
            .collect();
        if self.resolved && members == self.members {
            return false;
        }
        *self = Self {
            resolved: true,
            positions: Positions::of(members.iter().map(|m| m.id)),
            ready: members.iter().filter(|m| m.state == Connectivity::Ready).count(),
            failed: members.iter().filter(|m| m.state == Connectivity::TransientFailure).count(),
            members,
        };
        true
    }

    /// Takes a state; whether another picker is needed for it.
    fn connectivity(&mut self, endpoint: EndpointId, state: Connectivity) -> bool {
        use Connectivity::{Connecting, Idle, Ready, TransientFailure};

        let aggregate = self.aggregate();
        let Some(position) = self.positions.get(endpoint) else { return false };
        let member = &mut self.members[position];
        let before = member.state;
        member.state = match (before, state) {
            (TransientFailure, Idle | Connecting) => TransientFailure,
            _ => state,
        };
        let after = member.state;
        self.ready = self.ready + usize::from(after == Ready) - usize::from(before == Ready);
        self.failed = self.failed + usize::from(after == TransientFailure) - usize::from(before == TransientFailure);
        (before == Ready) != (after == Ready) || aggregate != self.aggregate()
    }

    fn aggregate(&self) -> Aggregate {
        match self.members.len() {
            0 if self.resolved => Aggregate::Empty,
            _ if self.ready > 0 => Aggregate::Ready,
            n if n > 0 && self.failed == n => Aggregate::Failed,
            _ => Aggregate::Pending,
        }
    }

    /// What every pick gets; none if an endpoint is READY.
    fn answer(&self) -> Option<Pick> {
        match self.aggregate() {
            Aggregate::Ready => None,
            Aggregate::Pending => Some(Pick::Queue),
            Aggregate::Failed => Some(Pick::Fail(nothing_connects(self.members.len()))),
            Aggregate::Empty => Some(Pick::Fail(no_addresses())),
        }
    }
}

/// The failure of a request when each of `n` endpoints failed.
pub(super) fn nothing_connects(n: usize) -> Status {
    Status::unavailable(format!("no ready endpoint: the last connection attempt to each of {n} failed"))
}

/// The failure of a request when the resolver found nothing.
pub(super) fn no_addresses() -> Status {
    Status::unavailable("no ready endpoint: the name resolved to no addresses")
}

#[cfg(test)]
mod tests {
    use super::*;
    use Connectivity::{Connecting, Idle, Ready, TransientFailure};

    fn endpoints(ids: &[u32]) -> EndpointSet {
        EndpointSet::new(ids.iter().map(|&i| Endpoint {
            id: EndpointId(i),
            address: Address::new(&format!("10.0.0.{i}:80")),
            weight: 1,
        }))
    }

    fn states(ids: &[u32]) -> EndpointStates {
        let mut s = EndpointStates::default();
        s.update(&endpoints(ids));
        s
    }

    #[test]
    fn requests_wait_for_the_first_snapshot_and_fail_on_an_empty_one() {
        let mut s = EndpointStates::default();
        assert_eq!(s.answer(), Some(Pick::Queue));
        assert!(s.update(&endpoints(&[])));
        assert_eq!(s.answer(), Some(Pick::Fail(no_addresses())));
    }

    #[test]
    fn failure_is_sticky_until_ready() {
        let mut s = states(&[0, 1]);
        assert!(!s.connectivity(EndpointId(0), TransientFailure), "the other may still connect");
        assert!(s.connectivity(EndpointId(1), TransientFailure));
        assert_eq!(s.answer(), Some(Pick::Fail(nothing_connects(2))));
        for state in [Connecting, TransientFailure, Idle, Connecting] {
            assert!(!s.connectivity(EndpointId(0), state), "{state:?}");
        }
        assert!(s.connectivity(EndpointId(0), Ready));
        assert_eq!(s.answer(), None);
        // A connection that was there and went away is no failure: requests wait for it to come back.
        assert!(s.connectivity(EndpointId(0), Idle));
        assert_eq!(s.answer(), Some(Pick::Queue));
    }

    #[test]
    fn what_changes_no_answer_keeps_the_picker() {
        let mut s = states(&[0, 1, 2]);
        assert!(s.connectivity(EndpointId(1), Ready));
        for (id, state) in [(1, Ready), (0, Connecting), (0, TransientFailure), (2, Idle), (7, Ready)] {
            assert!(!s.connectivity(EndpointId(id), state), "{id} {state:?}");
        }
        assert!(!s.update(&endpoints(&[0, 1, 2])));
        assert!(s.update(&endpoints(&[2, 1, 0])), "the order is part of a snapshot");
    }

    #[test]
    fn endpoints_keep_their_state_over_updates_and_new_ones_start_idle() {
        let mut s = states(&[4, 2]);
        s.connectivity(EndpointId(4), Ready);
        s.update(&endpoints(&[1, 4]));
        assert_eq!(ready_ids(&s), [EndpointId(4)]);
        // The same id under another address is another endpoint.
        s.update(&EndpointSet::new([Endpoint { id: EndpointId(4), address: Address::new("10.9.9.9:80"), weight: 1 }]));
        assert_eq!(s.answer(), Some(Pick::Queue));
    }

    fn ready_ids(s: &EndpointStates) -> Vec<EndpointId> {
        super::Ready(s).ids().into_vec()
    }
}
