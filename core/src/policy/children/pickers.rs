//! The data side of several children: whose picker is asked, and told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::policy::Picker;
use crate::policy::outstanding::{Outstanding, Shared};
use crate::slots::Slots;
use crate::{EndpointId, EndpointSet, LoadReport, Nanos, Outcome, Pick, PickContext};

/// Which child has an endpoint now: one table for all pickers of a policy.
pub(super) struct Owners {
    /// The child's slot and one; 0 if no child has the endpoint. Relaxed: while an endpoint moves, either child may be told.
    slots: Slots<AtomicU32>,
    outstanding: Arc<Outstanding>,
}

impl Owners {
    pub(super) fn new(shared: &Shared) -> Self {
        Self { slots: Slots::new(), outstanding: shared.outstanding.clone() }
    }

    /// Makes room for these endpoints.
    pub(super) fn reserve(&self, endpoints: &EndpointSet) {
        self.slots.reserve(endpoints.table_len());
        self.outstanding.reserve(endpoints);
    }

    pub(super) fn set(&self, endpoint: usize, slot: Option<u32>) {
        if let Some(row) = self.slots.get(endpoint) {
            row.store(slot.map_or(0, |slot| slot + 1), Ordering::Relaxed);
        }
    }

    #[inline]
    fn get(&self, endpoint: EndpointId) -> Option<u32> {
        self.slots.get(endpoint.index())?.load(Ordering::Relaxed).checked_sub(1)
    }
}

/// The picker of a child; none if it is not started.
pub(super) type OfChild = Option<Arc<dyn Picker>>;

/// The pickers of all children.
pub(in crate::policy) struct Pickers {
    /// By the child's slot.
    table: Box<[OfChild]>,
    owners: Arc<Owners>,
}

impl Pickers {
    pub(super) fn new(table: Vec<OfChild>, owners: &Arc<Owners>) -> Self {
        Self { table: table.into(), owners: owners.clone() }
    }

    /// Whether these are the very same pickers.
    pub(super) fn are(&self, table: &[OfChild]) -> bool {
        let same = |(a, b): (&OfChild, &OfChild)| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        self.table.len() == table.len() && self.table.iter().zip(table).all(same)
    }

    #[inline]
    fn get(&self, slot: u32) -> Option<&dyn Picker> {
        self.table.get(slot as usize)?.as_deref()
    }

    /// The choice of the child with this slot.
    #[inline]
    pub(in crate::policy) fn pick(&self, slot: u32, cx: &mut PickContext<'_>) -> Pick {
        self.get(slot).map_or(Pick::Queue, |picker| picker.pick(cx))
    }

    /// A request goes to the endpoint that a policy around these has chosen.
    pub(in crate::policy) fn picked(&self, endpoint: EndpointId, now: Nanos) {
        match self.owners.get(endpoint).and_then(|slot| self.get(slot)) {
            Some(picker) => picker.picked(endpoint, now),
            None => self.owners.outstanding.started(endpoint),
        }
    }

    /// Tells whoever has the endpoint. If nobody has, the request is still no longer outstanding.
    #[inline]
    pub(in crate::policy) fn done(&self, endpoint: EndpointId, now: Nanos, outcome: &Outcome) {
        match self.owners.get(endpoint).and_then(|slot| self.get(slot)) {
            Some(picker) => picker.done(endpoint, now, outcome),
            None => {
                self.owners.outstanding.done(endpoint);
            }
        }
    }

    /// Tells whoever has the endpoint.
    pub(in crate::policy) fn probed(&self, endpoint: EndpointId, now: Nanos, report: &LoadReport) {
        if let Some(picker) = self.owners.get(endpoint).and_then(|slot| self.get(slot)) {
            picker.probed(endpoint, now, report);
        }
    }
}
