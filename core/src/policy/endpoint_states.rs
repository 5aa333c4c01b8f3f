//! What the policies that connect to every endpoint have in common: the endpoints' states, what these add up to, and
//! one picker for as long as nothing changes.
//!
//! The rules are `round_robin`'s (gRFC A58 "Handling Subchannel Connectivity State Notifications"; A48 reuses them):
//!
//! | endpoints | a pick |
//! |---|---|
//! | any READY | one of the READY ones, as the policy likes |
//! | else any IDLE or CONNECTING | waits |
//! | else, all in TRANSIENT_FAILURE or unhealthy | fails with UNAVAILABLE |
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
use crate::{Connectivity, Context, Endpoint, EndpointId, EndpointSet, LoadReport, Nanos, Pick, Status};

/// A policy that connects to every endpoint; `F` decides among those that are READY.
pub(super) struct ConnectAll<F> {
    factory: F,
    states: EndpointStates,
    /// The picker of the present state; none when that changed since the last was built.
    published: Option<Arc<dyn Picker>>,
}

/// The part of such a policy that is its own.
pub(super) trait PickerFactory: Send {
    /// There is a snapshot. What is remembered of an endpoint is not for a newcomer: it was not in the last one, or its id stood
    /// for another address there.
    fn updated(&mut self, _cx: &mut Context<'_>, _endpoints: &EndpointSet, _newcomers: &[EndpointId]) {}

    /// An endpoint has become READY.
    fn connected(&mut self, _endpoint: EndpointId) {}

    /// A picker over the endpoints that are READY: at least one.
    fn over(&mut self, cx: &mut Context<'_>, ready: Ready<'_>) -> Arc<dyn Picker>;

    /// While any endpoint is READY: does what is due. Another picker over them, if there is to be one, and when to be
    /// called again.
    fn tick(&mut self, _cx: &mut Context<'_>, _ready: Ready<'_>) -> (Option<Arc<dyn Picker>>, Option<Nanos>) {
        (None, None)
    }

    /// As [`Policy::oob_reporting_period`].
    fn oob_reporting_period(&self) -> Option<Nanos> {
        None
    }

    /// As [`Policy::load_report`].
    fn load_report(&mut self, _cx: &mut Context<'_>, _endpoint: EndpointId, _report: &LoadReport) {}

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
        let newcomers = self.states.update(endpoints);
        self.factory.updated(cx, endpoints, newcomers.as_deref().unwrap_or_default());
        if newcomers.is_some() {
            self.published = None;
        }
    }

    fn connectivity(&mut self, _cx: &mut Context<'_>, endpoint: EndpointId, state: Connectivity) {
        let was_ready = self.states.is_ready(endpoint);
        if self.states.connectivity(endpoint, state) {
            self.published = None;
        }
        if !was_ready && self.states.is_ready(endpoint) {
            self.factory.connected(endpoint);
        }
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Option<Nanos> {
        if self.states.ready == 0 {
            return None;
        }
        let (picker, again) = self.factory.tick(cx, Ready(&self.states));
        if picker.is_some() {
            self.published = picker;
        }
        again
    }

    fn oob_reporting_period(&self) -> Option<Nanos> {
        self.factory.oob_reporting_period()
    }

    fn load_report(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, report: &LoadReport) {
        self.factory.load_report(cx, endpoint, report);
    }

    fn state(&self) -> Option<Connectivity> {
        Some(match self.states.aggregate() {
            Aggregate::Ready => Connectivity::Ready,
            Aggregate::Pending => Connectivity::Connecting,
            Aggregate::Failed | Aggregate::Empty => Connectivity::TransientFailure,
        })
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

impl<'a> Ready<'a> {
    pub(super) fn len(&self) -> usize {
        self.0.ready
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'a Endpoint> + use<'a> {
        let with_state = self.0.endpoints.iter().zip(&self.0.states);
        with_state.filter(|(_, state)| **state == Connectivity::Ready).map(|(endpoint, _)| endpoint)
    }

    pub(super) fn ids(&self) -> Box<[EndpointId]> {
        let mut ids = Vec::with_capacity(self.len());
        ids.extend(self.iter().map(|e| e.id));
        ids.into_boxed_slice()
    }

    pub(super) fn weights(&self) -> Box<[f64]> {
        let mut weights = Vec::with_capacity(self.len());
        weights.extend(self.iter().map(|e| f64::from(e.weight)));
        weights.into_boxed_slice()
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

/// A set of endpoints: a bit for each id.
#[derive(Debug, Clone, Default)]
pub(super) struct IdSet(Vec<u64>);

impl IdSet {
    pub(super) fn of(ids: impl Iterator<Item = EndpointId>) -> Self {
        let mut words = Vec::new();
        for id in ids {
            let word = id.index() / 64;
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            words[word] |= 1 << (id.index() % 64);
        }
        Self(words)
    }

    #[inline]
    pub(super) fn contains(&self, id: EndpointId) -> bool {
        self.0.get(id.index() / 64).is_some_and(|word| word >> (id.index() % 64) & 1 == 1)
    }

    pub(super) fn remove(&mut self, id: EndpointId) {
        if let Some(word) = self.0.get_mut(id.index() / 64) {
            *word &= !(1 << (id.index() % 64));
        }
    }

    /// Bit k of word w is endpoint 64 w + k.
    #[inline]
    pub(super) fn words(&self) -> &[u64] {
        &self.0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = EndpointId> {
        (0..self.0.len() as u32 * 64).map(EndpointId).filter(|id| self.contains(*id))
    }
}

/// The last snapshot and the state of each endpoint in it.
#[derive(Debug, Default)]
pub(super) struct EndpointStates {
    /// Whether there was a snapshot at all: until then requests wait for the resolver.
    pub(super) resolved: bool,
    pub(super) endpoints: EndpointSet,
    /// Of each, in the same order: TRANSIENT_FAILURE until READY.
    pub(super) states: Vec<Connectivity>,
    pub(super) positions: Positions,
    pub(super) ready: usize,
    pub(super) failed: usize,
}

/// An endpoint's state has been told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    /// Where in the snapshot it stands.
    pub(super) position: usize,
    pub(super) before: Connectivity,
    /// What it counts as now, which may be the same.
    pub(super) after: Connectivity,
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
    /// Takes a snapshot; who is new in it, or none if it is the same as the last.
    pub(super) fn update(&mut self, endpoints: &EndpointSet) -> Option<Vec<EndpointId>> {
        if self.resolved && *endpoints == self.endpoints {
            return None;
        }
        let before = self.endpoints.as_slice();
        // The address tells an endpoint that stayed from a new one under a reused id.
        let is_at =
            |e: &Endpoint, place: usize| before.get(place).is_some_and(|b| b.id == e.id && b.address == e.address);
        let mut stay_in_place = endpoints.len() == before.len();
        let mut newcomers = Vec::new();
        let state = |(place, e): (usize, &Endpoint)| {
            // Most stay where they are, and need no looking up.
            if is_at(e, place) {
                return self.states[place];
            }
            stay_in_place &= before.get(place).is_some_and(|b| b.id == e.id);
            let known = self.positions.get(e.id).filter(|&place| is_at(e, place)).map(|place| self.states[place]);
            known.unwrap_or_else(|| {
                newcomers.push(e.id);
                Connectivity::Idle
            })
        };
        let states: Vec<Connectivity> = endpoints.iter().enumerate().map(state).collect();
        let positions = match stay_in_place {
            true => std::mem::take(&mut self.positions),
            false => Positions::of(endpoints.iter().map(|e| e.id)),
        };
        *self = Self {
            resolved: true,
            endpoints: endpoints.clone(),
            positions,
            ready: states.iter().filter(|s| **s == Connectivity::Ready).count(),
            failed: states.iter().filter(|s| has_failed(**s)).count(),
            states,
        };
        Some(newcomers)
    }

    /// Takes a state; whether another picker is needed for it.
    fn connectivity(&mut self, endpoint: EndpointId, state: Connectivity) -> bool {
        let aggregate = self.aggregate();
        let Some(Change { before, after, .. }) = self.set(endpoint, state) else { return false };
        (before == Connectivity::Ready) != (after == Connectivity::Ready) || aggregate != self.aggregate()
    }

    /// Takes a state; none if the endpoint is not in the snapshot.
    pub(super) fn set(&mut self, endpoint: EndpointId, state: Connectivity) -> Option<Change> {
        use Connectivity::{Connecting, Idle, Ready, TransientFailure, Unhealthy};

        let position = self.positions.get(endpoint)?;
        let before = self.states[position];
        let after = match (before, state) {
            (TransientFailure | Unhealthy, Idle | Connecting) => TransientFailure,
            _ => state,
        };
        self.states[position] = after;
        self.ready = self.ready + usize::from(after == Ready) - usize::from(before == Ready);
        self.failed = self.failed + usize::from(has_failed(after)) - usize::from(has_failed(before));
        Some(Change { position, before, after })
    }

    fn is_ready(&self, endpoint: EndpointId) -> bool {
        self.positions.get(endpoint).is_some_and(|position| self.states[position] == Connectivity::Ready)
    }

    fn aggregate(&self) -> Aggregate {
        match self.endpoints.len() {
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
            Aggregate::Failed => Some(Pick::Fail(nothing_connects(self.endpoints.len()))),
            Aggregate::Empty => Some(Pick::Fail(no_addresses())),
        }
    }
}

/// Whether requests are not to wait for it.
pub(super) fn has_failed(state: Connectivity) -> bool {
    matches!(state, Connectivity::TransientFailure | Connectivity::Unhealthy)
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
    use crate::Address;
    use Connectivity::{Connecting, Idle, Ready, TransientFailure, Unhealthy};

    fn endpoints(ids: &[u32]) -> EndpointSet {
        EndpointSet::new(ids.iter().map(|&i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")))))
    }

    fn update(states: &mut EndpointStates, endpoints: &EndpointSet) -> bool {
        states.update(endpoints).is_some()
    }

    fn states(ids: &[u32]) -> EndpointStates {
        let mut s = EndpointStates::default();
        update(&mut s, &endpoints(ids));
        s
    }

    #[test]
    fn requests_wait_for_the_first_snapshot_and_fail_on_an_empty_one() {
        let mut s = EndpointStates::default();
        assert_eq!(s.answer(), Some(Pick::Queue));
        assert!(update(&mut s, &endpoints(&[])));
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
    fn an_unhealthy_endpoint_is_one_that_failed() {
        let mut s = states(&[0, 1]);
        s.connectivity(EndpointId(0), Ready);
        s.connectivity(EndpointId(1), TransientFailure);
        assert!(s.connectivity(EndpointId(0), Unhealthy));
        assert_eq!(s.answer(), Some(Pick::Fail(nothing_connects(2))));
        assert!(!s.connectivity(EndpointId(0), Idle), "it lost its connection before it was well again");
        assert!(s.connectivity(EndpointId(0), Ready));
        assert_eq!(s.answer(), None);
    }

    #[test]
    fn what_changes_no_answer_keeps_the_picker() {
        let mut s = states(&[0, 1, 2]);
        assert!(s.connectivity(EndpointId(1), Ready));
        for (id, state) in [(1, Ready), (0, Connecting), (0, TransientFailure), (2, Idle), (7, Ready)] {
            assert!(!s.connectivity(EndpointId(id), state), "{id} {state:?}");
        }
        assert!(!update(&mut s, &endpoints(&[0, 1, 2])));
        assert!(update(&mut s, &endpoints(&[2, 1, 0])), "the order is part of a snapshot");
    }

    #[test]
    fn endpoints_keep_their_state_over_updates_and_new_ones_start_idle() {
        let mut s = states(&[4, 2]);
        s.connectivity(EndpointId(4), Ready);
        assert_eq!(s.update(&endpoints(&[1, 4])), Some(vec![EndpointId(1)]));
        assert_eq!(ready_ids(&s), [EndpointId(4)]);
        // The same id under another address is another endpoint.
        let other = Endpoint::new(EndpointId(4), Address::new("10.9.9.9:80"));
        assert_eq!(s.update(&EndpointSet::new([other])), Some(vec![EndpointId(4)]));
        assert_eq!(s.answer(), Some(Pick::Queue));
    }

    #[test]
    fn who_comes_back_or_has_the_id_of_another_is_new() {
        let mut s = EndpointStates::default();
        let mut update =
            |list: &EndpointSet| s.update(list).map(|new| new.into_iter().map(|id| id.0).collect::<Vec<_>>());
        assert_eq!(update(&endpoints(&[4, 2])), Some(vec![4, 2]));
        assert_eq!(update(&endpoints(&[4, 2])), None, "the same");
        assert_eq!(update(&endpoints(&[2, 3, 4])), Some(vec![3]));
        assert_eq!(update(&endpoints(&[3])), Some(vec![]));
        assert_eq!(update(&endpoints(&[2, 3])), Some(vec![2]));
        let other = Endpoint::new(EndpointId(3), Address::new("10.9.9.9:80"));
        assert_eq!(update(&EndpointSet::new([other])), Some(vec![3]));
    }

    fn ready_ids(s: &EndpointStates) -> Vec<EndpointId> {
        super::Ready(s).ids().into_vec()
    }
}
