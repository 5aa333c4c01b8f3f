//! Endpoints: what a name resolves to, as policies see them.

use std::fmt;
use std::sync::Arc;

/// Where to connect, as the resolver gave it: `10.0.0.7:50051`, `unix:/run/s.sock`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Arc<str>);

impl Address {
    /// An address from its text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text it was made of.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An endpoint of one channel: a small index, the same for as long as the address stays in the resolver's answers.
///
/// Indices are reused only after every request on the former endpoint is done, so tables may be indexed by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u32);

impl EndpointId {
    /// As an index into a table.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One backend as the policy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Stable over updates.
    pub id: EndpointId,
    /// Where it is.
    pub address: Address,
    /// Relative weight, at least 1; equal weights unless the resolver says otherwise
    /// (`load_balancing_weight` of envoy.config.endpoint.v3.LbEndpoint).
    pub weight: u32,
}

/// A full snapshot of a channel's endpoints in the resolver's order, each id and each address once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointSet {
    endpoints: Vec<Endpoint>,
}

impl EndpointSet {
    /// A snapshot of `endpoints`; an id that comes twice keeps its first place, a weight of 0 counts as 1.
    pub fn new(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        let mut seen = std::collections::BTreeSet::new();
        let mut endpoints: Vec<Endpoint> = endpoints.into_iter().filter(|e| seen.insert(e.id)).collect();
        for e in &mut endpoints {
            e.weight = e.weight.max(1);
        }
        Self { endpoints }
    }

    /// The endpoints in the resolver's order.
    pub fn iter(&self) -> std::slice::Iter<'_, Endpoint> {
        self.endpoints.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }
}

impl<'a> IntoIterator for &'a EndpointSet {
    type Item = &'a Endpoint;
    type IntoIter = std::slice::Iter<'a, Endpoint>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// State of an endpoint's connection, gRPC's names (connectivity-semantics-and-api.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Connectivity {
    /// Not connected and not trying to.
    Idle,
    /// A connection is being made.
    Connecting,
    /// Connected: requests can be sent.
    Ready,
    /// The last attempt failed; the channel tries again after its back-off.
    TransientFailure,
}
