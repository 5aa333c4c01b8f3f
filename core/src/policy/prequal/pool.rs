//! The answers to probes that wait to be used: a few slots that threads fill, use and clear without a lock.
//!
//! A slot is a sequence lock on which nobody waits. All that changes while a probe waits is one word, its state: a tag, how
//! often it may still be used, and the requests in flight. Who fills a slot first makes its tag odd, and even again when the
//! rest is written. Who reads one takes it for what it seems to be, and what has been chosen is exchanged for what comes next:
//! that fails if anyone has touched the slot since, and the choice is made anew. So a probe is never used more often than it
//! may be, and never with what belongs to another. What races can cost is a choice among fifteen instead of sixteen: a slot
//! that is being filled is passed over, and one that was read half old and half new may be ranked wrongly, though not chosen. Of two answers of
//! one endpoint that come at once each may take a slot.
//! A tag comes back when one slot has been filled 32,768 times, far more often than it can be while one pick is under way.

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use crate::{EndpointId, Nanos};

#[derive(Debug, Default)]
struct Slot {
    /// See [`State`].
    state: AtomicU64,
    endpoint: AtomicU32,
    latency_ns: AtomicU64,
    /// On the host's clock.
    answered_ns: AtomicU64,
}

/// From the highest bit: 16 of a tag, 16 of uses left (none: the slot is free), 32 of requests in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State(u64);

impl State {
    fn new(tag: u16, uses: u16, rif: u32) -> Self {
        Self(u64::from(tag) << 48 | u64::from(uses) << 32 | u64::from(rif))
    }

    fn tag(self) -> u16 {
        (self.0 >> 48) as u16
    }

    fn uses(self) -> u16 {
        (self.0 >> 32) as u16
    }

    fn rif(self) -> u32 {
        self.0 as u32
    }

    fn is_being_filled(self) -> bool {
        self.tag() % 2 == 1
    }

    /// The next state of a slot that is used so often less, and where a request is sent.
    fn spent(self, uses: u16) -> Self {
        let left = self.uses() - uses;
        if left == 0 { self.free() } else { Self::new(self.tag(), left, self.rif().saturating_add(1)) }
    }

    fn free(self) -> Self {
        Self::new(self.tag(), 0, 0)
    }
}

/// What an endpoint answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) endpoint: EndpointId,
    /// Requests in flight.
    pub(super) rif: u32,
    pub(super) latency: Nanos,
    pub(super) at: Nanos,
}

/// An answer that waits in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) answer: Answer,
    slot: usize,
    state: State,
}

impl Probe {
    /// How good it is to send a request there, the lower the better (the paper's hot–cold lexicographic rule): those that are
    /// not hot by their latency, and then those that are by their requests in flight.
    #[inline]
    pub(super) fn rank(&self, hot_from: u32) -> (u64, u64) {
        /// Above any latency of less than 292 years.
        const HOT: u64 = 1 << 63;
        let Answer { rif, latency, .. } = self.answer;
        if rif < hot_from { (latency.0.min(HOT - 1), u64::from(rif)) } else { (HOT | u64::from(rif), latency.0) }
    }
}

#[derive(Debug)]
pub(super) struct Pool {
    slots: Box<[Slot]>,
}

impl Pool {
    pub(super) fn new(size: usize) -> Self {
        Self { slots: (0..size).map(|_| Slot::default()).collect() }
    }

    /// What waits there.
    #[inline]
    pub(super) fn probes(&self) -> impl Iterator<Item = Probe> {
        (0..self.slots.len()).map(|at| self.read(at)).filter(|probe| probe.state.uses() > 0)
    }

    #[inline]
    fn read(&self, at: usize) -> Probe {
        let slot = &self.slots[at];
        // Acquire: the rest is at least as new as the state.
        let state = State(slot.state.load(Ordering::Acquire));
        let answer = Answer {
            endpoint: EndpointId(slot.endpoint.load(Ordering::Relaxed)),
            rif: state.rif(),
            latency: Nanos(slot.latency_ns.load(Ordering::Relaxed)),
            at: Nanos(slot.answered_ns.load(Ordering::Relaxed)),
        };
        Probe { answer, slot: at, state }
    }

    /// Uses it once, for a request; false if it has changed since it was read.
    #[inline]
    pub(super) fn spend(&self, probe: &Probe) -> bool {
        self.exchange(probe, probe.state.spent(1))
    }

    /// A request is sent there, though not because of this probe.
    #[inline]
    pub(super) fn compensate(&self, probe: &Probe) {
        self.exchange(probe, probe.state.spent(0));
    }

    /// Clears its slot, unless it has changed.
    #[inline]
    pub(super) fn discard(&self, probe: &Probe) {
        self.exchange(probe, probe.state.free());
    }

    #[inline]
    fn exchange(&self, probe: &Probe, next: State) -> bool {
        // If any of the rest was newer than the state, this makes sure that the exchange finds a newer state, too.
        fence(Ordering::Acquire);
        let state = &self.slots[probe.slot].state;
        state.compare_exchange(probe.state.0, next.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Puts an answer in, to be used so often: in place of the last one of that endpoint, else in a slot that is free or of no
    /// use, else in place of the oldest. It is lost if other threads take slot after slot from under it.
    pub(super) fn insert(&self, answer: Answer, uses: u16, is_of_use: impl Fn(&Answer) -> bool) {
        // The lower, the better.
        let place = |probe: &Probe| match &probe.answer {
            _ if probe.state.uses() == 0 => (1, 0),
            before if before.endpoint == answer.endpoint => (0, 0),
            other if !is_of_use(other) => (1, 0),
            other => (2, other.at.0),
        };
        for _ in 0..self.slots.len() {
            let slots = (0..self.slots.len()).map(|at| self.read(at)).filter(|probe| !probe.state.is_being_filled());
            let Some(before) = slots.min_by_key(place) else { return };
            let filling = State::new(before.state.tag().wrapping_add(1), 0, 0);
            if !self.exchange(&before, filling) {
                continue;
            }
            // Whoever reads any of the following finds that the slot is being filled, or was, since.
            fence(Ordering::Release);
            let slot = &self.slots[before.slot];
            slot.endpoint.store(answer.endpoint.0, Ordering::Relaxed);
            slot.latency_ns.store(answer.latency.0, Ordering::Relaxed);
            slot.answered_ns.store(answer.at.0, Ordering::Relaxed);
            slot.state.store(State::new(filling.tag().wrapping_add(1), uses, answer.rif).0, Ordering::Release);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(endpoint: u32, at_ms: u64, rif: u32) -> Answer {
        let latency = Nanos::from_millis(u64::from(endpoint));
        Answer { endpoint: EndpointId(endpoint), rif, latency, at: Nanos::from_millis(at_ms) }
    }

    fn endpoints(pool: &Pool) -> Vec<u32> {
        pool.probes().map(|p| p.answer.endpoint.0).collect()
    }

    #[test]
    fn an_answer_takes_the_place_of_its_own_then_of_none_then_of_the_oldest() {
        let pool = Pool::new(3);
        let insert = |answer| pool.insert(answer, 1, |other| other.endpoint != EndpointId(9));
        insert(answer(5, 30, 0));
        insert(answer(6, 10, 0));
        insert(answer(5, 40, 0));
        assert_eq!(endpoints(&pool), [5, 6], "the newer of two");
        insert(answer(7, 20, 0));
        insert(answer(8, 50, 0));
        assert_eq!(endpoints(&pool), [5, 8, 7], "6 was the oldest");
        insert(answer(9, 60, 0));
        insert(answer(4, 70, 0));
        assert_eq!(endpoints(&pool), [5, 8, 4], "7 was, and 9 is of no use");
        pool.discard(&pool.probes().nth(1).unwrap());
        insert(answer(3, 80, 0));
        assert_eq!(endpoints(&pool), [5, 3, 4]);
    }

    #[test]
    fn a_probe_is_used_as_often_as_it_may_be_and_counts_what_is_sent() {
        let pool = Pool::new(2);
        pool.insert(answer(1, 0, 7), 2, |_| true);
        let first = pool.probes().next().unwrap();
        assert!(pool.spend(&first));
        assert!(!pool.spend(&first), "it has changed since");
        let second = pool.probes().next().unwrap();
        assert_eq!(second.answer.rif, 8);
        pool.compensate(&second);
        let third = pool.probes().next().unwrap();
        assert_eq!(third.answer.rif, 9);
        assert!(pool.spend(&third));
        assert_eq!(pool.probes().count(), 0);
    }

    #[test]
    fn hot_probes_come_last_by_requests_and_others_first_by_latency() {
        // Not hot below 6 in flight: 2 (20 ms) before 3 (50 ms); then by requests 8 (90 ms) before 10 (1 ms).
        let pool = Pool::new(4);
        for (latency, rif) in [(1, 10), (90, 8), (50, 3), (20, 2)] {
            pool.insert(answer(latency, 0, rif), 1, |_| true);
        }
        let mut probes: Vec<_> = pool.probes().collect();
        probes.sort_by_key(|probe| probe.rank(6));
        assert_eq!(probes.iter().map(|p| p.answer.endpoint.0).collect::<Vec<_>>(), [20, 50, 90, 1]);
    }

    /// Two threads fill few slots, two use what they find: what is used belongs together, and nothing is used too often.
    #[test]
    fn threads_never_use_what_does_not_belong_together() {
        const USES: u16 = 3;
        const ROUNDS: u32 = 100_000;
        let pool = Pool::new(4);
        let spent: Vec<AtomicU32> = (0..2 * ROUNDS).map(|_| AtomicU32::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (pool, spent) = (&pool, &spent);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        // All that is in an answer follows from its number.
                        let n = 2 * round + thread;
                        pool.insert(answer(n, u64::from(n), n % 1_000), USES, |_| true);
                    }
                });
                scope.spawn(move || {
                    for _ in 0..ROUNDS {
                        for probe in pool.probes().filter(|probe| pool.spend(probe)) {
                            let Answer { endpoint: EndpointId(n), rif, latency, at } = probe.answer;
                            assert_eq!([latency, at], [Nanos::from_millis(u64::from(n)); 2]);
                            let before = spent[n as usize].fetch_add(1, Ordering::Relaxed);
                            assert!(before < u32::from(USES) && rif >= n % 1_000 && rif < n % 1_000 + u32::from(USES));
                        }
                    }
                });
            }
        });
        assert!(spent.iter().any(|n| n.load(Ordering::Relaxed) > 0));
        assert!(pool.slots.iter().all(|s| !State(s.state.load(Ordering::Relaxed)).is_being_filled()));
    }
}

/// Loom lets a thread see old values, but runs its steps in their order, where a processor may load what comes later only
/// after it has exchanged what comes first. Against that there are the two fences, of which the models say nothing.
#[cfg(all(test, loom))]
mod loom_models {
    use std::sync::Arc;

    use loom::thread::spawn;

    use super::*;

    /// All that is in an answer follows from its number.
    fn answer(n: u32) -> Answer {
        Answer { endpoint: EndpointId(n), rif: 7, latency: Nanos(n.into()), at: Nanos(n.into()) }
    }

    fn pool(size: usize, answers: impl IntoIterator<Item = u32>, uses: u16) -> Arc<Pool> {
        let pool = Pool::new(size);
        answers.into_iter().for_each(|n| insert(&pool, n, uses));
        Arc::new(pool)
    }

    fn insert(pool: &Pool, n: u32, uses: u16) {
        pool.insert(answer(n), uses, |_| true);
    }

    /// Uses the oldest that waits there, whose slot is also the one to be filled, and looks again if another thread was faster.
    fn choose(pool: &Pool) -> Option<Answer> {
        loop {
            let oldest = pool.probes().min_by_key(|probe| probe.answer.at)?;
            if pool.spend(&oldest) {
                let Answer { endpoint: EndpointId(n), rif, .. } = oldest.answer;
                assert_eq!(oldest.answer, Answer { rif, ..answer(n) }, "what belongs to another");
                return Some(oldest.answer);
            }
        }
    }

    /// Which are used now, one use after the other, until there are no more.
    fn left(pool: &Pool) -> Vec<u32> {
        std::iter::from_fn(|| choose(pool)).map(|answer| answer.endpoint.0).collect()
    }

    #[test]
    fn each_use_is_had_once_and_counts_what_was_sent_before() {
        loom::model(|| {
            let pool = pool(1, [1], 3);
            let users = [(); 2].map(|()| {
                let pool = pool.clone();
                spawn(move || choose(&pool).expect("there are three").rif)
            });
            let mut rifs = users.map(|user| user.join().unwrap());
            rifs.sort();
            assert_eq!(rifs, [7, 8]);
            assert_eq!((choose(&pool).map(|answer| answer.rif), choose(&pool)), (Some(9), None));
        });
    }

    #[test]
    fn what_is_used_while_a_slot_is_filled_belongs_together() {
        loom::model(|| {
            // One slot more than are taken from under the answer that comes, which so is not lost.
            let pool = pool(2, [1, 2], 1);
            let filler = {
                let pool = pool.clone();
                spawn(move || insert(&pool, 3, 1))
            };
            let used = choose(&pool).map(|answer| answer.endpoint.0);
            filler.join().unwrap();
            let mut all = left(&pool);
            all.extend(used);
            all.sort();
            // 3 took the place of 1, the older one, unless a use had made another free.
            assert!(all == [2, 3] || all == [1, 2, 3], "{all:?}");
        });
    }

    #[test]
    fn nobody_discards_or_compensates_what_came_after() {
        for touch in [Pool::discard, Pool::compensate] {
            loom::model(move || {
                // Two slots, so that the answer that comes can be put in twice.
                let pool = pool(2, [1], 1);
                let filler = {
                    let pool = pool.clone();
                    spawn(move || insert(&pool, 1, 2))
                };
                pool.probes().filter(|probe| probe.state.uses() == 1).for_each(|probe| touch(&pool, &probe));
                filler.join().unwrap();
                assert_eq!(left(&pool), [1, 1]);
            });
        }
    }

    #[test]
    fn two_fill_at_once_and_none_is_lost() {
        loom::model(|| {
            let pool = pool(2, [], 1);
            let filler = {
                let pool = pool.clone();
                spawn(move || insert(&pool, 1, 1))
            };
            insert(&pool, 2, 1);
            filler.join().unwrap();
            assert_eq!(left(&pool), [1, 2]);
        });
    }
}
