//! What the policies around one child that only look at picks have in common: everything else is the child's.

use std::sync::Arc;

use super::{Picker, Policy, Wanted};
use crate::{Connectivity, Context, EndpointId, EndpointSet, LoadReport, Nanos};

/// A policy around a child; `W` looks at what the child picks.
pub(super) struct Around<W> {
    wrap: W,
    child: Box<dyn Policy>,
    /// The child's last picker, and the one around it.
    published: Option<(Arc<dyn Picker>, Arc<dyn Picker>)>,
}

/// The part of such a policy that is its own.
pub(super) trait Wrap: Send {
    /// A picker around the child's. Requests that end through it may have been sent through an earlier one.
    fn around(&self, child: Arc<dyn Picker>) -> Arc<dyn Picker>;

    /// An endpoint's connection changed state.
    fn connectivity(&mut self, _state: Connectivity) {}

    /// What is due, besides what the child has to do.
    fn tick(&mut self, _now: Nanos) -> Due {
        Due::Never
    }
}

/// When a [`Wrap`] has something to do.
pub(super) enum Due {
    Never,
    /// Then, which is not yet.
    At(Nanos),
    /// It is time for another picker, although the child's is the same: requests that wait ask again for a new one.
    Now,
}

impl<W: Wrap> Around<W> {
    pub(super) fn new(wrap: W, child: Box<dyn Policy>) -> Self {
        Self { wrap, child, published: None }
    }
}

impl<W: Wrap> Policy for Around<W> {
    fn update(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet) {
        self.child.update(cx, endpoints);
    }

    fn connectivity(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, state: Connectivity) {
        self.child.connectivity(cx, endpoint, state);
        self.wrap.connectivity(state);
    }

    fn exit_idle(&mut self, cx: &mut Context<'_>) {
        self.child.exit_idle(cx);
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Option<Nanos> {
        let child = self.child.tick(cx);
        match self.wrap.tick(cx.now) {
            Due::Never => child,
            Due::At(own) => Some(child.map_or(own, |at| at.min(own))),
            Due::Now => {
                self.published = None;
                child
            }
        }
    }

    fn wanted(&self) -> Wanted<'_> {
        self.child.wanted()
    }

    fn take_resolve_request(&mut self) -> bool {
        self.child.take_resolve_request()
    }

    fn oob_reporting_period(&self) -> Option<Nanos> {
        self.child.oob_reporting_period()
    }

    fn load_report(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, report: &LoadReport) {
        self.child.load_report(cx, endpoint, report);
    }

    fn state(&self) -> Option<Connectivity> {
        self.child.state()
    }

    fn picker(&mut self, cx: &mut Context<'_>) -> Arc<dyn Picker> {
        let child = self.child.picker(cx);
        match &self.published {
            Some((around, picker)) if Arc::ptr_eq(around, &child) => picker.clone(),
            _ => {
                let picker = self.wrap.around(child.clone());
                self.published = Some((child, picker.clone()));
                picker
            }
        }
    }
}
