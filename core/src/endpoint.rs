//! Endpoints: what a name resolves to, as policies see them.

use std::fmt;
use std::sync::Arc;

/// Where to connect, as the resolver gave it: `10.0.0.7:50051`, `unix:/run/s.sock`. Cheap to clone.
#[derive(Debug, Clone, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::derived_hash_with_manual_eq, reason = "equal in the same cases as its text")]
pub struct Address(Arc<str>);

/// Snapshots mostly have the very addresses of the ones before: those need no look at the text.
impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

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

/// A part of the world in which hops are cheap: a zone, or whatever the control plane calls by one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locality {
    /// Its name; the topology label `topology.kubernetes.io/zone`, or region, zone and sub-zone
    /// (envoy.config.core.v3.Locality) joined by "/".
    pub zone: Arc<str>,
    /// Its share of the requests where localities are weighted (`load_balancing_weight` of
    /// envoy.config.endpoint.v3.LocalityLbEndpoints); 0 gets none.
    pub weight: u32,
}

/// One backend as the policy sees it. Cheap to clone: its texts are shared.
///
/// ```
/// use lb_core::{Address, Endpoint, EndpointId};
/// let endpoint = Endpoint::new(EndpointId(7), Address::new("10.0.0.7:50051")).with_weight(3);
/// assert_eq!((endpoint.weight, endpoint.priority, endpoint.draining), (3, 0, false));
/// assert_eq!(endpoint.hash_key(), "10.0.0.7:50051");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Stable over updates.
    pub id: EndpointId,
    /// Where it is.
    pub address: Address,
    /// Relative weight, at least 1; equal weights unless the resolver says otherwise
    /// (`load_balancing_weight` of envoy.config.endpoint.v3.LbEndpoint).
    pub weight: u32,
    /// 0 is used first; others when those before are short of healthy endpoints (`priority` of
    /// envoy.config.endpoint.v3.LocalityLbEndpoints).
    pub priority: u32,
    /// Where it stands, if the resolver knows; DNS does not.
    pub locality: Option<Arc<Locality>>,
    /// What hashing policies know it by, in place of its address (gRFC A76, the `envoy.lb` metadata `hash_key`).
    pub key: Option<Arc<str>>,
    /// On its way out: only for requests whose session is there (gRFC A55, the health status DRAINING).
    pub draining: bool,
}

impl Endpoint {
    /// An endpoint of weight 1 and priority 0, of which nothing else is known.
    pub fn new(id: EndpointId, address: Address) -> Self {
        Self { id, address, weight: 1, priority: 0, locality: None, key: None, draining: false }
    }

    /// The same with this weight.
    #[must_use]
    pub fn with_weight(self, weight: u32) -> Self {
        Self { weight, ..self }
    }

    /// What hashing policies know it by.
    pub fn hash_key(&self) -> &str {
        self.key.as_deref().unwrap_or(self.address.as_str())
    }

    /// The name of its zone.
    pub fn zone(&self) -> Option<&Arc<str>> {
        self.locality.as_ref().map(|l| &l.zone)
    }
}

/// Who picks: where this client or proxy is, and how many there are like it. What a host knows of itself; policies that
/// share endpoints out among clients need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// Its own zone.
    pub zone: Option<Arc<str>>,
    /// Which of its peers it is, from 0 (Finagle's `ProcessCoordinate`).
    pub instance: u32,
    /// How many peers there are with itself, at least 1.
    pub instances: u32,
    /// How many of them are in each zone, by the zone's name (Envoy's `local_cluster_name`). Empty if nobody knows.
    pub zones: Arc<[(Arc<str>, u32)]>,
}

impl Default for Local {
    /// One client, alone, nobody knows where.
    fn default() -> Self {
        Self { zone: None, instance: 0, instances: 1, zones: Arc::new([]) }
    }
}

/// A full snapshot of a channel's endpoints in the resolver's order, each id once, and of who asks. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSet {
    endpoints: Arc<[Endpoint]>,
    local: Arc<Local>,
}

impl Default for EndpointSet {
    fn default() -> Self {
        Self { endpoints: Arc::new([]), local: Arc::default() }
    }
}

impl EndpointSet {
    /// A snapshot of `endpoints`; an id that comes twice keeps its first place, a weight of 0 counts as 1.
    pub fn new(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        // Ids are small numbers, so this is a table.
        let mut seen = Vec::new();
        let first = |e: &Endpoint| {
            let index = e.id.index();
            if seen.len() <= index {
                seen.resize(index + 1, false);
            }
            !std::mem::replace(&mut seen[index], true)
        };
        let at_least_one = |e: Endpoint| Endpoint { weight: e.weight.max(1), ..e };
        let endpoints: Vec<Endpoint> = endpoints.into_iter().filter(first).map(at_least_one).collect();
        Self { endpoints: endpoints.into(), local: Arc::default() }
    }

    /// The same endpoints as seen by `local`.
    #[must_use]
    pub fn with_local(self, local: Arc<Local>) -> Self {
        Self { local, ..self }
    }

    /// Some of the endpoints, or the same with other weights, as seen by the same client.
    #[must_use]
    pub fn derive(&self, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        Self::new(endpoints).with_local(self.local.clone())
    }

    /// The same endpoints with these weights, in the same order, as seen by the same client.
    pub(crate) fn reweighted(&self, weights: impl Iterator<Item = u32>) -> Self {
        let endpoints = self.iter().zip(weights).map(|(e, weight)| e.clone().with_weight(weight.max(1))).collect();
        Self { endpoints, local: self.local.clone() }
    }

    /// Who asks.
    pub fn local(&self) -> &Arc<Local> {
        &self.local
    }

    /// The endpoints in the resolver's order.
    pub fn iter(&self) -> std::slice::Iter<'_, Endpoint> {
        self.endpoints.iter()
    }

    /// The endpoints in the resolver's order.
    pub fn as_slice(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// One more than the largest index: the length of a table that has a row for each.
    pub fn table_len(&self) -> usize {
        self.iter().map(|e| e.id.index() + 1).max().unwrap_or(0)
    }
}

impl<'a> IntoIterator for &'a EndpointSet {
    type Item = &'a Endpoint;
    type IntoIter = std::slice::Iter<'a, Endpoint>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// State of an endpoint's connection: gRPC's names (connectivity-semantics-and-api.md), and one more.
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
    /// Connected, but not to be used: a health check says so, or a policy around the one that is told has ejected it. Most
    /// policies treat it as one in TRANSIENT_FAILURE, which is how gRPC says it (gRFC A50); where too few are left to do
    /// without, `panic` uses it all the same, as Envoy does.
    Unhealthy,
}
