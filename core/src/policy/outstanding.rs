//! Requests picked and not yet done, by endpoint: what a client itself knows about load.
//!
//! One table for all pickers of a policy, so that a request that one picker sent is given back through any later one,
//! also through the one that says that nothing is ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Picker;
use crate::slots::Slots;
use crate::{EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext};

/// What the policies of one channel share, however they are nested.
///
/// The requests outstanding are one count per endpoint, whichever of a policy's children sent them: an endpoint that moves
/// from one child to another takes its count along, and its requests end where it is now. So there is one policy on the
/// way of a pick that counts them: the last, which chooses the endpoint.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared {
    pub(super) outstanding: Arc<Outstanding>,
}

/// The counts.
///
/// An endpoint that leaves needs no clearing: its id is given to another only after all of its requests are done.
#[derive(Debug, Default)]
pub(super) struct Outstanding(Slots<AtomicU32>);

impl Outstanding {
    /// Makes room for these endpoints.
    pub(super) fn reserve(&self, endpoints: &EndpointSet) {
        self.0.reserve(endpoints.table_len());
    }

    /// Relaxed here and below: the counts are an estimate of load and order nothing.
    #[inline]
    pub(super) fn get(&self, endpoint: EndpointId) -> u32 {
        self.0.get(endpoint.index()).map_or(0, |n| n.load(Ordering::Relaxed))
    }

    #[inline]
    pub(super) fn started(&self, endpoint: EndpointId) {
        if let Some(n) = self.0.get(endpoint.index()) {
            n.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Never below zero: a request reported twice is a host's bug, and 2^32 − 1 would keep traffic away for good.
    #[inline]
    pub(super) fn done(&self, endpoint: EndpointId) {
        if let Some(n) = self.0.get(endpoint.index()) {
            let _ = n.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        }
    }
}

/// While nothing is ready: requests that were sent before still end.
pub(super) struct WaitingPicker {
    answer: Pick,
    outstanding: Arc<Outstanding>,
}

impl WaitingPicker {
    /// A picker that gives this answer.
    pub(super) fn new(answer: Pick, outstanding: Arc<Outstanding>) -> Self {
        Self { answer, outstanding }
    }
}

impl Picker for WaitingPicker {
    fn pick(&self, _cx: &mut PickContext<'_>) -> Pick {
        self.answer.clone()
    }

    fn picked(&self, endpoint: EndpointId, _now: Nanos) {
        self.outstanding.started(endpoint);
    }

    fn done(&self, endpoint: EndpointId, _now: Nanos, _outcome: &Outcome) {
        self.outstanding.done(endpoint);
    }
}
