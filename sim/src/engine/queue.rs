//! The event queue: everything in the order of (time, sequence).
//!
//! Most events of a network come a constant delay after their cause: a hop, a deadline. Such events are born in the
//! order in which they fire, so each constant delay gets a FIFO *lane* and only its head competes. What is left (service
//! times, timers) goes to a 4-ary heap. A pop takes the smallest of the few heads.

use std::collections::VecDeque;

use lb_core::Nanos;

/// (time, sequence) in one integer: the order of events, and the tie rule: same time, order of scheduling.
type Key = u128;

/// A lane's handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lane(u8);

#[derive(Debug, Clone, Copy)]
struct Entry<E> {
    key: Key,
    event: E,
}

/// Events that wait for their time.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    now: Nanos,
    sequence: u64,
    /// Of each lane the key of its first entry, `Key::MAX` when empty.
    heads: Vec<Key>,
    lanes: Vec<(Nanos, VecDeque<Entry<E>>)>,
    heap: Vec<Entry<E>>,
}

impl<E: Copy> Queue<E> {
    pub(crate) fn new() -> Self {
        Self { now: Nanos::ZERO, sequence: 0, heads: Vec::new(), lanes: Vec::new(), heap: Vec::new() }
    }

    /// The time of the last event taken.
    pub(crate) fn now(&self) -> Nanos {
        self.now
    }

    /// The lane for a constant delay; the same delay gives the same lane.
    pub(crate) fn lane(&mut self, delay: Nanos) -> Lane {
        let index = self.lanes.iter().position(|(d, _)| *d == delay).unwrap_or_else(|| {
            self.lanes.push((delay, VecDeque::new()));
            self.heads.push(Key::MAX);
            self.lanes.len() - 1
        });
        Lane(u8::try_from(index).expect("a model has a handful of constant delays"))
    }

    /// Schedules after the lane's delay.
    #[inline]
    pub(crate) fn after(&mut self, lane: Lane, event: E) {
        let index = usize::from(lane.0);
        let key = self.key(self.now + self.lanes[index].0);
        let entries = &mut self.lanes[index].1;
        if entries.is_empty() {
            self.heads[index] = key;
        }
        entries.push_back(Entry { key, event });
    }

    /// Schedules at a time; one that is past counts as now. [`Nanos::NEVER`] is not scheduled.
    #[inline]
    pub(crate) fn at(&mut self, time: Nanos, event: E) {
        if time == Nanos::NEVER {
            return;
        }
        let key = self.key(time.max(self.now));
        self.heap.push(Entry { key, event });
        self.sift_up(self.heap.len() - 1);
    }

    /// Takes the next event before `end` and moves the clock there.
    #[inline]
    pub(crate) fn pop_before(&mut self, end: Nanos) -> Option<E> {
        const HEAP: usize = usize::MAX;
        let mut best = self.heap.first().map_or(Key::MAX, |e| e.key);
        let mut source = HEAP;
        for (index, &head) in self.heads.iter().enumerate() {
            if head < best {
                best = head;
                source = index;
            }
        }
        let time = time_of(best);
        if time >= end {
            return None;
        }
        debug_assert!(time >= self.now, "the clock never goes back");
        self.now = time;
        if source == HEAP {
            return Some(self.pop_heap());
        }
        let entries = &mut self.lanes[source].1;
        let entry = entries.pop_front()?;
        self.heads[source] = entries.front().map_or(Key::MAX, |e| e.key);
        Some(entry.event)
    }

    #[inline]
    fn key(&mut self, time: Nanos) -> Key {
        self.sequence += 1;
        Key::from(time.0) << 64 | Key::from(self.sequence)
    }

    #[inline]
    fn sift_up(&mut self, mut at: usize) {
        let entry = self.heap[at];
        while at > 0 {
            let parent = (at - 1) / 4;
            if self.heap[parent].key <= entry.key {
                break;
            }
            self.heap[at] = self.heap[parent];
            at = parent;
        }
        self.heap[at] = entry;
    }

    /// Takes the root. The hole it leaves sinks along the least children to the bottom, and the last entry rises from
    /// there: it was at the bottom before, so that is less work than asking on every level whether it fits.
    #[inline]
    fn pop_heap(&mut self) -> E {
        let heap = self.heap.as_mut_slice();
        let top = heap[0].event;
        let last = heap.len() - 1;
        let mut hole = 0;
        loop {
            let first = 4 * hole + 1;
            let least = match heap.get(first..) {
                Some([a, b, c, d, ..]) => {
                    let (left, l) = if b.key < a.key { (1, b.key) } else { (0, a.key) };
                    let (right, r) = if d.key < c.key { (3, d.key) } else { (2, c.key) };
                    first + if r < l { right } else { left }
                }
                Some(few @ [_, ..]) => {
                    let least = (1..few.len()).fold(0, |m, i| if few[i].key < few[m].key { i } else { m });
                    first + least
                }
                _ => break,
            };
            heap[hole] = heap[least];
            hole = least;
        }
        heap[hole] = heap[last];
        if hole < last {
            self.sift_up(hole);
        }
        self.heap.truncate(last);
        top
    }
}

fn time_of(key: Key) -> Nanos {
    Nanos((key >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn same_instant_means_order_of_scheduling() {
        let mut q = Queue::new();
        let lane = q.lane(Nanos(10));
        q.at(Nanos(10), 'a');
        q.after(lane, 'b');
        q.at(Nanos(10), 'c');
        q.at(Nanos(5), 'd');
        let order: Vec<char> = std::iter::from_fn(|| q.pop_before(Nanos::NEVER)).collect();
        assert_eq!(order, ['d', 'a', 'b', 'c']);
        assert_eq!(q.now(), Nanos(10));
    }

    #[test]
    fn the_end_is_exclusive_and_the_past_is_now() {
        let mut q = Queue::new();
        q.at(Nanos(7), 1);
        assert_eq!(q.pop_before(Nanos(7)), None);
        assert_eq!(q.pop_before(Nanos(8)), Some(1));
        q.at(Nanos(3), 2);
        assert_eq!((q.pop_before(Nanos::NEVER), q.now()), (Some(2), Nanos(7)));
    }

    proptest! {
        /// Against the obvious model: a list sorted by (time, order of scheduling).
        #[test]
        fn pops_in_the_order_of_a_sorted_list(steps in prop::collection::vec((0u64..50, 0u8..4, any::<bool>()), 1..300)) {
            let mut q = Queue::new();
            let lanes = [Nanos(3), Nanos(20)].map(|d| q.lane(d));
            let mut model: Vec<(u64, usize)> = Vec::new();
            for (n, (delay, kind, pop)) in steps.into_iter().enumerate() {
                let now = q.now().0;
                match kind {
                    0 => { q.after(lanes[0], n); model.push((now + 3, n)); }
                    1 => { q.after(lanes[1], n); model.push((now + 20, n)); }
                    _ => { q.at(Nanos(now + delay), n); model.push((now + delay, n)); }
                }
                if pop {
                    model.sort_unstable();
                    let (time, event) = model.remove(0);
                    prop_assert_eq!(q.pop_before(Nanos::NEVER), Some(event));
                    prop_assert_eq!(q.now().0, time);
                }
            }
            model.sort_unstable();
            for (_, event) in model {
                prop_assert_eq!(q.pop_before(Nanos::NEVER), Some(event));
            }
            prop_assert_eq!(q.pop_before(Nanos::NEVER), None);
        }
    }
}
