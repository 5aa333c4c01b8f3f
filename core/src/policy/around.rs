//! What the policies around one child that only look at picks have in common: everything else is the child's.

use std::sync::Arc;

use super::{Picker, Policy, earlier};
use crate::{Connectivity, Context, EndpointId, EndpointSet, Nanos};

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
    fn child(&self) -> Option<&dyn Policy> {
        Some(&*self.child)
    }

    fn child_mut(&mut self) -> Option<&mut dyn Policy> {
        Some(&mut *self.child)
    }

    fn update(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet) {
        self.child.update(cx, endpoints);
    }

    fn connectivity(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, state: Connectivity) {
        self.child.connectivity(cx, endpoint, state);
        self.wrap.connectivity(state);
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Option<Nanos> {
        let child = self.child.tick(cx);
        match self.wrap.tick(cx.now) {
            Due::Never => child,
            Due::At(own) => earlier(Some(own), child),
            Due::Now => {
                self.published = None;
                child
            }
        }
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
