//! Policies that go by where endpoints are: with a child for each locality ([`Endpoint::locality`](crate::Endpoint::locality)).
//!
//! **Solves** what hops between zones cost, in time and in money, and what a zone's loss does.
//!
//! | policy | a request goes to |
//! |---|---|
//! | [`wrr_locality`](weighted) | a locality drawn by the weight that the control plane gave it, less what is not well |
//! | [`zone_aware`] | the client's own zone, as far as its endpoints are no more loaded than others; then where there is room |
//! | [`prefer_close`] | the client's own zone, if it has an endpoint |
//!
//! Endpoints of which nobody said where they are form a locality of their own.
//!
//! **Health** is counted as in [`priority`](super::priority): an endpoint is well unless its last attempt to connect failed or it
//! is UNHEALTHY. Only localities whose child is READY get requests (gRFC A28 of `weighted_target`); while none is, requests wait,
//! or fail if all children do. A child that rests when idle is woken at once, as there, since no request would wait for it.
//!
//! **A pick costs** a random number and two loads, if there are several localities, besides the child's pick.

use std::sync::Arc;

use super::children::{Child, Children, Key, Pickers, aggregate};
use super::draw::WeightedIndex;
use super::endpoint_states::{no_addresses, nothing_connects};
use super::outstanding::Shared;
use super::{Picker, Policy, PolicyConfig, Wanted};
use crate::{
    Connectivity, Context, Endpoint, EndpointId, EndpointSet, LoadReport, Local, Nanos, Outcome, Pick, PickContext,
    Status,
};

pub mod prefer_close;
pub mod weighted;
pub mod zone_aware;

/// A policy with a child for each locality, among which `R` shares the requests out.
struct Localities<R> {
    route: R,
    children: Children<Zone>,
    /// Of the last snapshot: the weight of each locality, and who asks. None until there is one: requests wait for the resolver.
    snapshot: Option<(Vec<u32>, Arc<Local>)>,
    published: Option<Arc<LocalityPicker>>,
}

/// The name of a locality, if it has one.
type Zone = Option<Arc<str>>;

impl Key for Zone {
    fn of(endpoint: &Endpoint) -> Self {
        endpoint.zone().cloned()
    }

    fn is_of(&self, endpoint: &Endpoint) -> bool {
        self.as_ref() == endpoint.zone()
    }
}

/// How requests are shared out.
trait Route: Send {
    /// Whether the locality is used at all, by the weights of all: others are not connected.
    fn uses(&self, _weight: u32, _weights: &[u32]) -> bool {
        true
    }

    /// Whether so few are well that it is better to use the others, too, or nobody.
    fn panics(&self, _localities: &[Child<Zone>]) -> Panic {
        Panic::No
    }

    /// How often each locality is drawn. One that is not READY is not, whatever this is.
    fn shares(&self, local: &Local, weights: &[u32], localities: &[Child<Zone>]) -> Vec<f64>;
}

/// What is done when few are well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Panic {
    /// Nothing, or they are not few.
    No,
    /// Those who are connected are used, well or not.
    UseAll,
    /// Requests fail.
    Fail,
}

impl<R: Route> Localities<R> {
    fn new(route: R, child: &PolicyConfig, shared: &Shared) -> Self {
        Self { route, children: Children::new(child, shared), snapshot: None, published: None }
    }

    /// After anything has happened.
    fn settle(&mut self, cx: &mut Context<'_>) {
        self.children.look();
        let panic = self.route.panics(self.children.list()) == Panic::UseAll;
        for index in 0..self.children.list().len() {
            self.children.set_panic(cx, index, panic);
            let child = &self.children.list()[index];
            if child.is_started() && child.state() == Connectivity::Idle {
                self.children.exit_idle(cx, index);
            }
        }
        self.children.settle();
    }

    fn aggregate(&self) -> Connectivity {
        aggregate(self.children.list().iter().filter(|child| child.is_started()).map(Child::state))
    }

    /// Who gets how many requests; or the answer to all of them.
    fn plan(&self) -> Result<Vec<Share>, Pick> {
        let Some((weights, local)) = &self.snapshot else { return Err(Pick::Queue) };
        let localities = self.children.list();
        let n = localities.iter().map(|child| child.endpoints.len()).sum();
        if n == 0 {
            return Err(Pick::Fail(no_addresses()));
        }
        if self.route.panics(localities) == Panic::Fail {
            return Err(Pick::Fail(Status::unavailable(format!("no healthy endpoint: too few of {n} are healthy"))));
        }
        match self.aggregate() {
            Connectivity::Ready => {}
            Connectivity::Idle | Connectivity::Connecting => return Err(Pick::Queue),
            Connectivity::TransientFailure | Connectivity::Unhealthy => return Err(Pick::Fail(nothing_connects(n))),
        }
        let weights = self.route.shares(local, weights, localities);
        let ready = localities.iter().zip(weights).filter(|(child, _)| child.state() == Connectivity::Ready);
        let mut shares: Vec<Share> = ready.map(|(child, weight)| Share { child: child.slot, weight }).collect();
        if shares.iter().all(|share| share.weight <= 0.0) {
            // A child may be READY with endpoints that are not well: they are better than none.
            shares.iter_mut().for_each(|share| share.weight = 1.0);
        }
        shares.retain(|share| share.weight > 0.0);
        Ok(shares)
    }
}

/// What a locality gets.
#[derive(Debug, PartialEq)]
struct Share {
    /// Its child's slot.
    child: u32,
    /// Over 0.
    weight: f64,
}

/// How many endpoints of a locality are well, if its child is READY.
fn available(locality: &Child<Zone>) -> usize {
    if locality.state() == Connectivity::Ready { locality.healthy() } else { 0 }
}

impl<R: Route> Policy for Localities<R> {
    fn update(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet) {
        self.children.update(cx, endpoints);
        let weights: Vec<u32> = self.children.list().iter().map(weight).collect();
        for (index, weight) in weights.iter().enumerate() {
            if self.route.uses(*weight, &weights) {
                self.children.start(cx, index);
            } else {
                self.children.stop(index);
            }
        }
        self.snapshot = Some((weights, endpoints.local().clone()));
        self.settle(cx);
    }

    fn connectivity(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, state: Connectivity) {
        self.children.connectivity(cx, endpoint, state);
        self.settle(cx);
    }

    fn exit_idle(&mut self, cx: &mut Context<'_>) {
        for index in 0..self.children.list().len() {
            self.children.exit_idle(cx, index);
        }
        self.settle(cx);
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Option<Nanos> {
        let due = self.children.tick(cx);
        self.settle(cx);
        due
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
        Some(self.aggregate())
    }

    fn picker(&mut self, cx: &mut Context<'_>) -> Arc<dyn Picker> {
        let children = self.children.pickers(cx);
        let plan = self.plan();
        if let Some(picker) = &self.published
            && Arc::ptr_eq(&picker.children, &children)
            && picker.plan == plan
        {
            return picker.clone();
        }
        let weights: Vec<f64> = plan.iter().flatten().map(|share| share.weight).collect();
        let index = (weights.len() > 1).then(|| WeightedIndex::new(&weights));
        self.published.insert(Arc::new(LocalityPicker { plan, index, children })).clone()
    }
}

/// The weight of a locality: the largest, should its endpoints disagree; 1 if they have none.
fn weight(locality: &Child<Zone>) -> u32 {
    let weight = |e: &Endpoint| e.locality.as_ref().map_or(1, |locality| locality.weight);
    locality.endpoints.iter().map(weight).max().unwrap_or(0)
}

struct LocalityPicker {
    /// At least one share; or the answer to every request.
    plan: Result<Vec<Share>, Pick>,
    /// Draws one of the shares, if there are several.
    index: Option<WeightedIndex>,
    children: Arc<Pickers>,
}

impl Picker for LocalityPicker {
    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        match &self.plan {
            Ok(shares) => {
                let drawn = self.index.as_ref().map_or(0, |index| index.draw(cx.rng));
                self.children.pick(shares[drawn].child, cx)
            }
            Err(answer) => answer.clone(),
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
