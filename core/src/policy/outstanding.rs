//! Requests picked and not yet done, by endpoint: what a client itself knows about load.
//!
//! One table for all pickers of a policy, so that a request that one picker sent is given back through any later one,
//! also through the one that says that nothing is ready.

use std::sync::Arc;

use super::Picker;
use crate::slots::Slots;
use crate::sync::{AtomicI32, Ordering};
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
pub(super) struct Outstanding(Slots<AtomicI32>);

impl Outstanding {
    /// Makes room for these endpoints.
    pub(super) fn reserve(&self, endpoints: &EndpointSet) {
        self.0.reserve(endpoints.table_len());
    }

    /// Relaxed here and below: the counts are an estimate of load and order nothing.
    #[inline]
    pub(super) fn get(&self, endpoint: EndpointId) -> u32 {
        self.0.get(endpoint.index()).map_or(0, |n| n.load(Ordering::Relaxed).max(0).cast_unsigned())
    }

    #[inline]
    pub(super) fn started(&self, endpoint: EndpointId) {
        if let Some(n) = self.0.get(endpoint.index()) {
            n.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request is over; how many are left.
    ///
    /// Never below zero: a request reported twice is a host's bug, and a count of −1 would draw traffic for good. One too few
    /// is given back at once, and read as none until then. To look first would take a load that waits for the last exchange
    /// on this counter: a tenth of what a pick and its end cost.
    ///
    /// Given back only if there is still one too few. Else a request that starts meanwhile and ends, and so finds one too few
    /// as well, would have it given back twice: a request that never ends.
    #[inline]
    pub(super) fn done(&self, endpoint: EndpointId) -> u32 {
        let Some(n) = self.0.get(endpoint.index()) else { return 0 };
        let left = n.fetch_sub(1, Ordering::Relaxed) - 1;
        if left < 0 {
            let _ = n.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < 0).then_some(n + 1));
        }
        left.max(0).cast_unsigned()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, Endpoint};

    #[test]
    fn what_threads_report_twice_is_not_counted_below_zero() {
        let outstanding = Outstanding::default();
        let id = EndpointId(0);
        outstanding.reserve(&EndpointSet::new([Endpoint::new(id, Address::new("pod"))]));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        outstanding.done(id);
                        assert_eq!(outstanding.get(id), 0);
                    }
                });
            }
        });
        (0..3).for_each(|_| outstanding.started(id));
        assert_eq!([outstanding.done(id), outstanding.done(id), outstanding.get(id)], [2, 1, 1]);
        assert_eq!(outstanding.done(EndpointId(9_999)), 0);
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::thread::spawn;

    use super::*;
    use crate::{Address, Code, Endpoint};

    const ID: EndpointId = EndpointId(0);

    fn outstanding() -> Arc<Outstanding> {
        let outstanding = Outstanding::default();
        outstanding.reserve(&EndpointSet::new([Endpoint::new(ID, Address::new("pod"))]));
        Arc::new(outstanding)
    }

    #[test]
    fn what_one_picker_sent_another_gives_back() {
        loom::model(|| {
            let outstanding = outstanding();
            let threads = [(); 2].map(|()| {
                let [first, later] = [(); 2].map(|()| WaitingPicker::new(Pick::Queue, outstanding.clone()));
                spawn(move || {
                    first.picked(ID, Nanos::ZERO);
                    later.done(ID, Nanos::ZERO, &Outcome::new(Code::Ok, Nanos::ZERO));
                })
            });
            assert!(outstanding.get(ID) <= 2);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(outstanding.get(ID), 0);
        });
    }

    #[test]
    fn what_is_reported_twice_leaves_none_too_many_or_few() {
        loom::model(|| {
            let outstanding = outstanding();
            let threads = [0, 1].map(|requests| {
                let outstanding = outstanding.clone();
                spawn(move || {
                    (0..requests).for_each(|_| outstanding.started(ID));
                    outstanding.done(ID);
                })
            });
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(outstanding.get(ID), 0);
            outstanding.started(ID);
            assert_eq!(outstanding.get(ID), 1);
        });
    }
}
