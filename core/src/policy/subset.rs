//! Policies that show their child some of the endpoints only, so that a client connects to these alone.
//!
//! **Solves** the mesh of every client with every server: 2,000 clients and 1,000 servers are two million connections, each with
//! its buffers, its keepalive and its handshakes at every rollout; and a policy that knows each server by few requests
//! knows nothing. What is lost is evenness: a server is in some clients' subsets and not in others'.
//!
//! | policy | who is in it | a server's clients | when servers come or go |
//! |---|---|---|---|
//! | [`random_subsetting`](random) | those with the lowest hash under the client's seed | as many as chance gives | at most one changes for each |
//! | [`deterministic_subsetting`](deterministic) | a slice of a list that clients share out among themselves | the same number, if rounds are full | almost everything may |
//! | [`aperture`] | an arc of a ring that all clients cover evenly | the same share of the load | neighbours shift |
//!
//! The latter two have to know which client this is and how many there are ([`Local`](crate::Local)).
//!
//! An endpoint counts as one of the subset whether it is connected or not: a subset of which all are down does not reach out for
//! others.
//!
//! **A pick costs** nothing besides the child's.

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use super::{Picker, Policy, Wanted};
use crate::{Connectivity, Context, Endpoint, EndpointId, EndpointSet};

pub mod aperture;
pub mod deterministic;
pub mod random;

/// A policy that shows its child what `S` selects.
pub(super) struct Subset<S> {
    select: S,
    child: Box<dyn Policy>,
    /// What the child knows, ascending; none for everything.
    selected: Option<Vec<EndpointId>>,
}

/// Which endpoints a child is shown.
pub(super) trait Select: Send {
    /// In the order that the child sees them; none for all as they are.
    fn select(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet) -> Option<Vec<Endpoint>>;
}

impl<S: Select> Subset<S> {
    pub(super) fn new(select: S, child: Box<dyn Policy>) -> Self {
        Self { select, child, selected: None }
    }
}

impl<S: Select> Policy for Subset<S> {
    fn child(&self) -> Option<&dyn Policy> {
        Some(&*self.child)
    }

    fn child_mut(&mut self) -> Option<&mut dyn Policy> {
        Some(&mut *self.child)
    }

    fn update(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet) {
        let Some(selected) = self.select.select(cx, endpoints) else {
            self.selected = None;
            return self.child.update(cx, endpoints);
        };
        let mut ids: Vec<EndpointId> = selected.iter().map(|e| e.id).collect();
        ids.sort_unstable();
        self.selected = Some(ids);
        self.child.update(cx, &endpoints.derive(selected));
    }

    fn connectivity(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, state: Connectivity) {
        self.child.connectivity(cx, endpoint, state);
    }

    fn wanted(&self) -> Wanted<'_> {
        match (self.child.wanted(), &self.selected) {
            (Wanted::All, Some(selected)) => Wanted::Only(selected),
            (wanted, _) => wanted,
        }
    }

    fn picker(&mut self, cx: &mut Context<'_>) -> Arc<dyn Picker> {
        self.child.picker(cx)
    }
}

/// The endpoints in an order that all clients agree on, whatever their resolvers' was: by the XXH64 of the address. (Finagle
/// hashes addresses for this, too; names that count up would put a deployment's endpoints next to each other.)
fn in_common_order(endpoints: &EndpointSet) -> Vec<&Endpoint> {
    let hash = |e: &Endpoint| xxh64(e.address.as_str().as_bytes(), 0);
    let mut order: Vec<(u64, &Endpoint)> = endpoints.iter().map(|e| (hash(e), e)).collect();
    order.sort_unstable_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.address.cmp(&y.address)));
    order.into_iter().map(|(_, endpoint)| endpoint).collect()
}
