//! Policies: which endpoint gets the next request.
//!
//! gRPC's split, which grpc-go, Envoy and the `grpc` crate share: a [`Policy`] is the slow, exclusive control side; it
//! publishes an immutable [`Picker`], which every request shares without a lock or an allocation.
//!
//! A host drives a policy so:
//!
//! 1. it calls [`update`](Policy::update) and [`connectivity`](Policy::connectivity) as things happen;
//! 2. after every such call it reads [`wanted`](Policy::wanted), [`take_resolve_request`](Policy::take_resolve_request) and
//!    [`picker`](Policy::picker), and calls [`tick`](Policy::tick) to learn when to call that again;
//! 3. every request asks the latest picker, and the end of each one that was sent is reported to
//!    [`done`](Picker::done) once; what the pick left in [`PickContext::asks`] is carried out.
//!
//! A new policy is one file and one row in the registry (`config.rs`); the properties in `tests/policies.rs` then hold it
//! to the contract of these traits. One that connects to every endpoint only has to write its picker: `endpoint_states.rs`
//! does the rest. So does `around.rs` for one that only looks at what a child picks.

use std::sync::Arc;

pub mod adaptive_throttle;
pub mod admission;
mod around;
pub mod bounded_load;
pub mod c3;
mod children;
pub mod circuit_breaker;
pub mod client_side_weighted_round_robin;
mod config;
pub mod degrader;
mod draw;
mod edf;
mod endpoint_states;
pub mod failure_accrual;
mod failures;
pub(crate) mod fixed;
pub mod join_idle_queue;
pub mod least_loaded;
pub mod least_request;
pub mod locality;
pub mod maglev;
mod mask;
pub mod outlier_detection;
mod outstanding;
pub mod override_host;
pub mod p2c_peak_ewma;
pub mod pick_first;
pub mod prequal;
pub mod priority;
pub mod random;
mod ring;
pub mod ring_hash;
mod roster;
pub mod round_robin;
pub mod slow_start;
mod static_stride;
pub mod subset;
pub mod utilization_p2c;
pub mod weighted_round_robin;

pub use config::{Needs, PolicyConfig, Rule};

use crate::{Connectivity, Context, EndpointId, EndpointSet, LoadReport, Nanos, Outcome, Pick, PickContext};

/// Control side: one per channel, told when the world changes.
pub trait Policy: Send {
    /// The policy that this one is around, if it is around just one. What this one does not do by itself is that one's.
    fn child(&self) -> Option<&dyn Policy> {
        None
    }

    /// The same, to be told.
    fn child_mut(&mut self) -> Option<&mut dyn Policy> {
        None
    }

    /// The resolver's answer: a full snapshot with stable ids. An endpoint that stays keeps its state; a new one
    /// starts [`Connectivity::Idle`]; one that is absent is gone.
    fn update(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet);

    /// An endpoint's connection changed state. Ids that are not in the last snapshot are ignored.
    fn connectivity(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, state: Connectivity);

    /// A request waits because the picker answered [`Pick::Queue`]: a policy that rests when idle wakes up.
    fn exit_idle(&mut self, cx: &mut Context<'_>) {
        if let Some(child) = self.child_mut() {
            child.exit_idle(cx);
        }
    }

    /// Does what is due at `cx.now`; says when to be called again.
    fn tick(&mut self, cx: &mut Context<'_>) -> Option<Nanos> {
        self.child_mut()?.tick(cx)
    }

    /// Which endpoints the channel should connect to and keep connected.
    fn wanted(&self) -> Wanted<'_> {
        self.child().map_or(Wanted::All, Policy::wanted)
    }

    /// Whether the policy has run out of endpoints to try and wants fresh addresses. Reading it clears it.
    fn take_resolve_request(&mut self) -> bool {
        self.child_mut().is_some_and(Policy::take_resolve_request)
    }

    /// How often the host is to ask every connected endpoint for reports of its load, apart from responses (gRFC A51
    /// "Out-of-band Metrics Reporting"); never by default.
    fn oob_reporting_period(&self) -> Option<Nanos> {
        self.child()?.oob_reporting_period()
    }

    /// An endpoint's report of its load, apart from any response.
    fn load_report(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, report: &LoadReport) {
        if let Some(child) = self.child_mut() {
            child.load_report(cx, endpoint, report);
        }
    }

    /// What its endpoints add up to, in gRPC's words: READY if it sends requests, CONNECTING or IDLE if they wait, the latter
    /// for [`exit_idle`](Self::exit_idle), TRANSIENT_FAILURE if they fail. Policies that choose among children go by it; where
    /// there is none, by the endpoints' own states.
    fn state(&self) -> Option<Connectivity> {
        self.child()?.state()
    }

    /// The picker for the present state; the same one until something changes. Built here, off the pick path.
    fn picker(&mut self, cx: &mut Context<'_>) -> Arc<dyn Picker>;
}

/// The endpoints a policy wants connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// Every endpoint of the snapshot, reconnecting at once when a connection goes away (gRPC's `round_robin` rule).
    All,
    /// These only; others are closed.
    Only(&'a [EndpointId]),
}

/// The earlier of two times that may not be.
fn earlier(a: Option<Nanos>, b: Option<Nanos>) -> Option<Nanos> {
    a.into_iter().chain(b).min()
}

/// Data side: an immutable snapshot shared by every request.
pub trait Picker: Send + Sync {
    /// The picker that this one is around, if it is around just one: told all that this one does not keep to itself.
    fn child(&self) -> Option<&dyn Picker> {
        None
    }

    /// Chooses. Takes no lock and allocates nothing.
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick;

    /// A request goes to `endpoint` that `pick` did not send there: a policy around this one did, for its session or as a
    /// probe. Who counts requests counts this one too; its end is told to `done` like any other's. A policy around others
    /// passes both on in the same way.
    fn picked(&self, endpoint: EndpointId, now: Nanos) {
        if let Some(child) = self.child() {
            child.picked(endpoint, now);
        }
    }

    /// The end of a request that was sent to `endpoint`. Any later picker of the same policy may be told, also
    /// when the endpoint is gone by then.
    fn done(&self, endpoint: EndpointId, now: Nanos, outcome: &Outcome) {
        if let Some(child) = self.child() {
            child.done(endpoint, now, outcome);
        }
    }

    /// The answer to a probe that [`Asks::probe`](crate::Asks::probe) wanted. Probes that get no answer are not told of.
    fn probed(&self, endpoint: EndpointId, now: Nanos, report: &LoadReport) {
        if let Some(child) = self.child() {
            child.probed(endpoint, now, report);
        }
    }
}
