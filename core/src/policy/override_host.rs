//! `override_host`: around a child policy, requests of a session go to the endpoint that the session began with.
//!
//! **Solves** state that a backend keeps for its callers: a shopping cart in memory, an upload in parts. A hash of the caller
//! comes close, but moves sessions whenever endpoints come or go. Here the host reads the endpoint's address from a cookie
//! ([`PickContext::session`]) and puts it there after the first request; only that endpoint will do, as long as it serves.
//!
//! | the session's endpoint is | its request |
//! |---|---|
//! | READY | goes there, whatever the child would choose |
//! | IDLE | waits, and the endpoint is connected |
//! | CONNECTING | waits |
//! | in TRANSIENT_FAILURE, unhealthy, gone, or of a status that is not allowed | goes where the child says, or fails if `strict` |
//!
//! A draining endpoint is no endpoint to the child: it gets no new sessions and keeps those that it has. Connections
//! that the child has no use for, to draining endpoints or to those of a lower priority, are kept for as long as sessions use
//! them (`idle_timeout`), and made when one asks.
//!
//! **Source**: gRFCs A55 and A75 (`xds_override_host`); Envoy's `override_host_status` (envoy.config.cluster.v3.Cluster) and
//! the filter `stateful_session`, whose setting `strict` is. By default both leave draining endpoints out, so that a rollout
//! ends all sessions of a pod with its first step; here they are in, which is what draining is for. HEALTHY and UNKNOWN
//! are one, as an endpoint that is neither is not listed. Of several addresses in a cookie (A60, A61) the host gives one.
//!
//! **A pick costs** a comparison without a session. With one, a hash of its address, a binary search in as many numbers as there
//! are endpoints, a load and a store. The request is counted by the child as if it had chosen (`Picker::picked`).
//!
//! **Does badly** at balance: sessions stay where they are, so endpoints that come get new sessions only, and a heavy one
//! stays heavy. With `strict` a crashed endpoint fails its sessions for as long as their cookies live.
//!
//! ```
//! use lb_core::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("override_host").unwrap().build();
//! let address = |i| Address::new(&format!("10.0.0.{i}:80"));
//! let endpoint = |i| Endpoint::new(EndpointId(i), address(i));
//! let mut control = Xoshiro256PlusPlus::seed_from_u64(2);
//! let mut cx = Context::new(Nanos::ZERO, &mut control);
//! policy.update(&mut cx, &EndpointSet::new((0..3).map(endpoint)));
//! for i in 0..3 {
//!     policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
//! }
//! let mut pick = |picker: &dyn lb_core::Picker, session: Option<&Address>| {
//!     picker.pick(&mut PickContext { session, ..PickContext::new(Nanos::ZERO, &mut rng) })
//! };
//! assert_eq!(pick(&*policy.picker(&mut cx), Some(&address(1))), Pick::Endpoint(EndpointId(1)));
//! // Endpoint 1 drains: it keeps its session, and gets nothing else.
//! policy.update(&mut cx, &EndpointSet::new((0..3).map(|i| Endpoint { draining: i == 1, ..endpoint(i) })));
//! let picker = policy.picker(&mut cx);
//! assert!((0..9).all(|_| pick(&*picker, Some(&address(1))) == Pick::Endpoint(EndpointId(1))));
//! assert!((0..9).all(|_| pick(&*picker, None) != Pick::Endpoint(EndpointId(1))));
//! ```
//!
//! [`PickContext::session`]: crate::PickContext::session

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::xxh64;

use super::config::{Needs, Settings};
use super::mask::is_open;
use super::outstanding::Shared;
use super::roster::Roster;
use super::{Picker, Policy, PolicyConfig, Wanted, earlier};
use crate::slots::Slots;
use crate::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Pick, PickContext, Status};

/// 5 s, gRFC A75: the shortest time between two looks for connections that no session uses any more.
const MIN_SWEEP: Nanos = Nanos::from_secs(5);

/// Settings of `override_host`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OverrideHostConfig {
    /// Which endpoints keep their sessions. All by default, our choice: gRFC A55 and Envoy leave "draining" out.
    pub override_host_status: Vec<HealthStatus>,
    /// How long a connection that only sessions have a use for outlives the last request of one; less than 5 s counts as
    /// that. 1 h, gRFC A75 (`idle_timeout` of envoy.config.core.v3.HttpProtocolOptions).
    pub idle_timeout: Nanos,
    /// Whether a request fails when its session's endpoint can't serve. False, Envoy `strict`.
    pub strict: bool,
    /// Who chooses for requests without a session. `round_robin` by default, as in Envoy.
    pub child_policy: Box<PolicyConfig>,
}

/// What the control plane says of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum HealthStatus {
    /// Nothing; the same as healthy here.
    Unknown,
    /// It is well.
    Healthy,
    /// It is on its way out.
    Draining,
}

impl Default for OverrideHostConfig {
    fn default() -> Self {
        Self {
            override_host_status: vec![HealthStatus::Unknown, HealthStatus::Healthy, HealthStatus::Draining],
            idle_timeout: Nanos::from_secs(3600),
            strict: false,
            child_policy: Box::new(PolicyConfig::RoundRobin(Default::default())),
        }
    }
}

impl Settings for OverrideHostConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        let allowed = |status| self.override_host_status.contains(&status);
        Box::new(OverrideHost {
            allowed: Allowed {
                draining: allowed(HealthStatus::Draining),
                others: allowed(HealthStatus::Unknown) || allowed(HealthStatus::Healthy),
            },
            idle_timeout: self.idle_timeout.max(MIN_SWEEP),
            strict: self.strict,
            child: self.child_policy.build_with(shared),
            shared: shared.clone(),
            rows: Roster::default(),
            sessions: Arc::default(),
            table: Arc::default(),
            child_wants: None,
            wanted: None,
            sweep_at: Nanos::NEVER,
            published: None,
        })
    }

    fn child(&self) -> Option<&PolicyConfig> {
        Some(&self.child_policy)
    }

    fn needs(&self) -> Needs {
        Needs { session: true, ..self.child_policy.needs() }
    }
}

/// Which endpoints keep their sessions.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    draining: bool,
    others: bool,
}

impl Allowed {
    fn includes(self, endpoint: &Endpoint) -> bool {
        if endpoint.draining { self.draining } else { self.others }
    }
}

/// What a pick has to know of an endpoint, and what it leaves behind.
#[derive(Debug, Default)]
struct Session {
    /// One of `state`.
    state: AtomicU8,
    /// When a request of a session last asked for it, in nanoseconds of the host's clock; `u64::MAX` for never.
    used: AtomicU64,
}

/// A connectivity in an atomic.
mod state {
    use crate::Connectivity;

    pub(super) const IDLE: u8 = 0;
    pub(super) const CONNECTING: u8 = 1;
    pub(super) const READY: u8 = 2;
    /// In TRANSIENT_FAILURE or unhealthy: not to be waited for.
    pub(super) const UNUSABLE: u8 = 3;

    pub(super) fn of(connectivity: Connectivity) -> u8 {
        match connectivity {
            Connectivity::Idle => IDLE,
            Connectivity::Connecting => CONNECTING,
            Connectivity::Ready => READY,
            Connectivity::TransientFailure | Connectivity::Unhealthy => UNUSABLE,
        }
    }
}

/// One table for all pickers, so that a change of state needs no other picker.
#[derive(Debug, Default)]
struct Sessions {
    slots: Slots<Session>,
    /// A session waits for an endpoint that is to be connected. Set after `used`, Release to Acquire.
    noted: AtomicBool,
}

impl Sessions {
    fn set(&self, endpoint: EndpointId, connectivity: Connectivity) {
        if let Some(session) = self.slots.get(endpoint.index()) {
            session.state.store(state::of(connectivity), Ordering::Relaxed);
        }
    }

    fn reset(&self, endpoint: EndpointId) {
        self.set(endpoint, Connectivity::Idle);
        if let Some(session) = self.slots.get(endpoint.index()) {
            session.used.store(u64::MAX, Ordering::Relaxed);
        }
    }

    fn used(&self, endpoint: EndpointId) -> Option<Nanos> {
        let used = self.slots.get(endpoint.index())?.used.load(Ordering::Relaxed);
        (used != u64::MAX).then_some(Nanos(used))
    }
}

/// Endpoints by address, in the order of the address's hash.
#[derive(Debug, Default)]
struct Table {
    endpoints: EndpointSet,
    /// Hashes and positions.
    by_hash: Box<[(u64, u32)]>,
}

impl Table {
    fn new(endpoints: &EndpointSet, allowed: Allowed) -> Self {
        let listed = (0..).zip(endpoints).filter(|(_, e)| allowed.includes(e));
        let mut by_hash: Box<[(u64, u32)]> = listed.map(|(position, e)| (hash(&e.address), position)).collect();
        by_hash.sort_unstable();
        Self { endpoints: endpoints.clone(), by_hash }
    }

    #[inline]
    fn find(&self, address: &Address) -> Option<EndpointId> {
        let hash = hash(address);
        let from = self.by_hash.partition_point(|(h, _)| *h < hash);
        let same = self.by_hash[from..].iter().take_while(|(h, _)| *h == hash);
        let mut endpoints = same.map(|&(_, position)| &self.endpoints.as_slice()[position as usize]);
        endpoints.find(|e| e.address == *address).map(|e| e.id)
    }
}

fn hash(address: &Address) -> u64 {
    xxh64(address.as_str().as_bytes(), 0)
}

/// What is remembered of an endpoint.
#[derive(Debug)]
struct Row {
    state: Connectivity,
    /// In the child's list: not draining.
    listed: bool,
    /// The child wants it connected, and has heard how it is.
    wanted: bool,
}

impl Default for Row {
    fn default() -> Self {
        Self { state: Connectivity::Idle, listed: false, wanted: false }
    }
}

struct OverrideHost {
    allowed: Allowed,
    idle_timeout: Nanos,
    strict: bool,
    child: Box<dyn Policy>,
    shared: Shared,
    rows: Roster<Row>,
    sessions: Arc<Sessions>,
    table: Arc<Table>,
    /// What the child wanted when last looked at, if not everything.
    child_wants: Option<Vec<EndpointId>>,
    /// That and what sessions use, if not everything.
    wanted: Option<Vec<EndpointId>>,
    /// When the use of a connection by sessions is to be looked at again.
    sweep_at: Nanos,
    published: Option<Arc<OverrideHostPicker>>,
}

impl OverrideHost {
    /// The child may want other endpoints than before, and some of these may be connected already, because sessions use them: it
    /// hears of that here, as no news of them will come. Whether it heard anything.
    fn tell_what_is_connected(&mut self, cx: &mut Context<'_>) -> bool {
        let mut news = Vec::new();
        let mut wants = |id, row: &mut Row, wanted: bool| {
            if wanted && !row.wanted && row.state != Connectivity::Idle {
                news.push((id, row.state));
            }
            row.wanted = wanted;
        };
        match self.child.wanted() {
            Wanted::All => {
                self.rows.iter_mut().for_each(|(e, row)| wants(e.id, row, row.listed));
                self.child_wants = None;
            }
            Wanted::Only(ids) => {
                let mut sorted = ids.to_vec();
                sorted.sort_unstable();
                self.rows.iter_mut().for_each(|(e, row)| wants(e.id, row, sorted.binary_search(&e.id).is_ok()));
                self.child_wants = Some(ids.to_vec());
            }
        }
        news.iter().for_each(|&(id, state)| self.child.connectivity(cx, id, state));
        !news.is_empty()
    }

    fn child_wants_others(&self) -> bool {
        match self.child.wanted() {
            Wanted::All => self.child_wants.is_some(),
            Wanted::Only(ids) => self.child_wants.as_deref() != Some(ids),
        }
    }

    /// What the child wants, and what a session has used of late.
    fn want(&mut self, now: Nanos) {
        self.sweep_at = Nanos::NEVER;
        if self.child_wants.is_none() && self.rows.iter().all(|(_, row)| row.listed) {
            self.wanted = None;
            return;
        }
        let mut wanted = match &self.child_wants {
            Some(ids) => ids.clone(),
            None => self.rows.iter().filter(|(_, row)| row.listed).map(|(e, _)| e.id).collect(),
        };
        for (endpoint, row) in self.rows.iter_mut().filter(|(_, row)| !row.wanted) {
            let used = self.sessions.used(endpoint.id).map(|used| used + self.idle_timeout);
            match used.filter(|end| *end > now && self.allowed.includes(endpoint)) {
                Some(end) => {
                    wanted.push(endpoint.id);
                    self.sweep_at = self.sweep_at.min(end.max(now + MIN_SWEEP));
                }
                // The host closes it now, and does not tell of that.
                None if is_open(row.state) => {
                    row.state = Connectivity::Idle;
                    self.sessions.set(endpoint.id, row.state);
                }
                None => {}
            }
        }
        self.wanted = Some(wanted);
    }
}

impl Policy for OverrideHost {
    fn child(&self) -> Option<&dyn Policy> {
        Some(&*self.child)
    }

    fn child_mut(&mut self) -> Option<&mut dyn Policy> {
        Some(&mut *self.child)
    }

    fn update(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet) {
        // Also those that the child does not see, whose requests it counts all the same.
        self.shared.outstanding.reserve(endpoints);
        self.sessions.slots.reserve(endpoints.table_len());
        for id in self.rows.update(endpoints) {
            self.sessions.reset(id);
        }
        let mut all = true;
        for (endpoint, row) in self.rows.iter_mut() {
            // What comes into the child's list is new to it, and IDLE.
            row.wanted &= row.listed && !endpoint.draining;
            row.listed = !endpoint.draining;
            all &= row.listed;
        }
        self.table = Arc::new(Table::new(endpoints, self.allowed));
        if all {
            self.child.update(cx, endpoints);
        } else {
            self.child.update(cx, &endpoints.derive(endpoints.iter().filter(|e| !e.draining).cloned()));
        }
        self.tell_what_is_connected(cx);
        self.want(cx.now);
        self.published = None;
    }

    fn connectivity(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, state: Connectivity) {
        let Some(row) = self.rows.get_mut(endpoint) else { return };
        let before = std::mem::replace(&mut row.state, state);
        self.sessions.set(endpoint, state);
        if before != state && !matches!(state, Connectivity::Idle | Connectivity::Connecting) {
            // Requests that wait for it need wait no more; the child's picker may be the same.
            self.published = None;
        }
        let wants = |child: &dyn Policy| match child.wanted() {
            Wanted::All => true,
            Wanted::Only(ids) => ids.contains(&endpoint),
        };
        // A connection that is there for sessions only is none of the child's: it did not ask for it.
        if row.listed && (!is_open(state) || wants(&*self.child)) {
            self.child.connectivity(cx, endpoint, state);
        }
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Option<Nanos> {
        let mut due = self.child.tick(cx);
        let mut changed = self.sessions.noted.swap(false, Ordering::Acquire) || self.sweep_at <= cx.now;
        // What it hears may make it want others again; once for each endpoint is enough for any walk over them.
        for _ in 0..=self.rows.len() {
            if !self.child_wants_others() {
                break;
            }
            changed = true;
            if self.tell_what_is_connected(cx) {
                due = self.child.tick(cx);
            }
        }
        if changed {
            self.want(cx.now);
        }
        let sweep = Some(self.sweep_at).filter(|at| *at > cx.now && *at != Nanos::NEVER);
        earlier(due, sweep)
    }

    fn wanted(&self) -> Wanted<'_> {
        self.wanted.as_deref().map_or(Wanted::All, Wanted::Only)
    }

    fn picker(&mut self, cx: &mut Context<'_>) -> Arc<dyn Picker> {
        let child = self.child.picker(cx);
        if let Some(picker) = &self.published
            && Arc::ptr_eq(&picker.child, &child)
        {
            return picker.clone();
        }
        let lost = Status::unavailable("the endpoint of the request's session is gone or can't serve");
        let (table, sessions) = (self.table.clone(), self.sessions.clone());
        let picker = OverrideHostPicker { child, table, sessions, lost: self.strict.then_some(lost) };
        self.published.insert(Arc::new(picker)).clone()
    }
}

struct OverrideHostPicker {
    child: Arc<dyn Picker>,
    table: Arc<Table>,
    sessions: Arc<Sessions>,
    /// The failure of a session's request whose endpoint can't serve; none where the child chooses another.
    lost: Option<Status>,
}

impl OverrideHostPicker {
    /// What the session's endpoint makes of its request; none if it can't serve.
    #[inline]
    fn bound(&self, cx: &mut PickContext<'_>, address: &Address) -> Option<Pick> {
        let endpoint = self.table.find(address)?;
        let session = self.sessions.slots.get(endpoint.index())?;
        session.used.store(cx.now.0, Ordering::Relaxed);
        match session.state.load(Ordering::Relaxed) {
            state::READY => {
                self.child.picked(endpoint, cx.now);
                Some(Pick::Endpoint(endpoint))
            }
            state::IDLE => {
                // An exchange, so that a store over another thread's hides nothing (as in `failure_accrual`).
                self.sessions.noted.swap(true, Ordering::Release);
                cx.asks.exit_idle = true;
                Some(Pick::Queue)
            }
            state::CONNECTING => Some(Pick::Queue),
            _ => None,
        }
    }
}

impl Picker for OverrideHostPicker {
    fn child(&self) -> Option<&dyn Picker> {
        Some(&*self.child)
    }

    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        if let Some(address) = cx.session {
            if let Some(pick) = self.bound(cx, address) {
                return pick;
            }
            if let Some(lost) = &self.lost {
                return Pick::Fail(lost.clone());
            }
        }
        self.child.pick(cx)
    }
}

#[cfg(test)]
mod tests;
