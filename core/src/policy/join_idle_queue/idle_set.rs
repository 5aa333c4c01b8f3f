//! Which endpoints are idle: a set that threads put endpoints into and take them out of without a lock.

use super::super::endpoint_states::IdSet;
use crate::EndpointId;
use crate::slots::Slots;
use crate::sync::{AtomicU64, Ordering};

/// A bit for each endpoint, and over these a bit for each word of them that has any: the next idle one of 10,000 endpoints is
/// found by looking at a few words out of 160.
#[derive(Debug, Default)]
pub(super) struct IdleSet {
    words: Slots<AtomicU64>,
    /// Bit k: word k is not 0. Late by a moment, while the thread that changed the word is about to say so.
    summary: Slots<AtomicU64>,
}

/// Word and bit of an index.
const fn place(index: usize) -> (usize, u64) {
    (index / 64, 1 << (index % 64))
}

/// The place of the lowest bit that is set at `from` or above, of 64.
fn lowest(word: u64, from: usize) -> Option<usize> {
    let above = word & (u64::MAX << from);
    (above != 0).then(|| above.trailing_zeros() as usize)
}

impl IdleSet {
    /// Makes room for endpoints `0..len`.
    pub(super) fn reserve(&self, len: usize) {
        self.words.reserve(len.div_ceil(64));
        self.summary.reserve(len.div_ceil(64 * 64));
    }

    /// Puts it in, if it is not there yet.
    #[inline]
    pub(super) fn insert(&self, endpoint: EndpointId) {
        let (at, bit) = place(endpoint.index());
        if let Some(word) = self.words.get(at)
            && word.fetch_or(bit, Ordering::Relaxed) == 0
        {
            self.summarize(at, true);
        }
    }

    /// Takes it out; whether it was in. Of several threads at once, one is told so.
    #[inline]
    pub(super) fn remove(&self, endpoint: EndpointId) -> bool {
        let (at, bit) = place(endpoint.index());
        let Some(word) = self.words.get(at) else { return false };
        let before = word.fetch_and(!bit, Ordering::Relaxed);
        if before == bit {
            self.summarize(at, false);
            // Another thread may have put one in and said so before this one said that there is none. Its exchange of the
            // summary came first then, and what it did before is seen here.
            if word.load(Ordering::Relaxed) != 0 {
                self.summarize(at, true);
            }
        }
        before & bit != 0
    }

    #[inline]
    fn summarize(&self, word: usize, any: bool) {
        let (at, bit) = place(word);
        if let Some(summary) = self.summary.get(at) {
            // Release and Acquire for the look at the word after it, above.
            if any {
                summary.fetch_or(bit, Ordering::AcqRel);
            } else {
                summary.fetch_and(!bit, Ordering::AcqRel);
            }
        }
    }

    /// Takes out the next one of these endpoints, counting up from index `from` and then from 0.
    #[inline]
    pub(super) fn take(&self, among: &IdSet, from: usize) -> Option<EndpointId> {
        for (mut at, end) in [(from, usize::MAX), (0, from)] {
            while let Some(endpoint) = self.next(among, at).filter(|e| e.index() < end) {
                if self.remove(endpoint) {
                    return Some(endpoint);
                }
                at = endpoint.index() + 1;
            }
        }
        None
    }

    /// The first of these endpoints that is in, with this index or above.
    #[inline]
    fn next(&self, among: &IdSet, from: usize) -> Option<EndpointId> {
        let among = among.words();
        let (mut at, mut bit) = (from / 64, from % 64);
        while at < among.len() {
            let word = self.words.get(at)?.load(Ordering::Relaxed);
            if let Some(bit) = lowest(word & among[at], bit) {
                return Some(EndpointId((at * 64 + bit) as u32));
            }
            at = self.next_word(at + 1, among.len())?;
            bit = 0;
        }
        None
    }

    /// The first word that has any, from this one on and below `end`.
    #[inline]
    fn next_word(&self, from: usize, end: usize) -> Option<usize> {
        let (mut group, mut bit) = (from / 64, from % 64);
        while group * 64 < end {
            let summary = self.summary.get(group)?.load(Ordering::Relaxed);
            if let Some(bit) = lowest(summary, bit) {
                return Some(group * 64 + bit);
            }
            (group, bit) = (group + 1, 0);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicBool;

    fn set(len: u32, members: impl IntoIterator<Item = u32>) -> IdleSet {
        let set = IdleSet::default();
        set.reserve(len as usize);
        members.into_iter().for_each(|i| set.insert(EndpointId(i)));
        set
    }

    fn all(len: u32) -> IdSet {
        IdSet::of((0..len).map(EndpointId))
    }

    proptest! {
        /// The next member at `from` or above, else the first; each is taken once.
        #[test]
        fn members_are_taken_in_turn(
            members in proptest::collection::btree_set(0..9_000u32, 0..40),
            among in proptest::collection::btree_set(0..9_000u32, 0..40),
            from in 0..9_100u32,
        ) {
            let set = set(9_000, members.iter().copied());
            let mut left: BTreeSet<u32> = members.clone();
            // As many that are in as not.
            let among: BTreeSet<u32> = among.into_iter().chain(members.iter().copied().step_by(2)).collect();
            let ids = IdSet::of(among.iter().copied().map(EndpointId));
            let mut at = from;
            loop {
                let mut in_turn = left.range(at..).chain(left.range(..at)).filter(|i| among.contains(i));
                let expected = in_turn.next().copied();
                prop_assert_eq!(set.take(&ids, at as usize), expected.map(EndpointId));
                let Some(taken) = expected else { break };
                left.remove(&taken);
                at = taken + 1;
            }
            // Those that were not asked for are still there.
            let others: Vec<_> = std::iter::from_fn(|| set.take(&all(9_000), 0)).map(|id| id.0).collect();
            prop_assert_eq!(others, Vec::from_iter(left));
        }
    }

    #[test]
    fn a_member_is_in_once_and_strangers_are_not() {
        let set = set(70, [69, 69, 1_000_000]);
        assert!(!set.remove(EndpointId(1_000_000)));
        assert_eq!([0; 2].map(|_| set.take(&all(70), 3)), [Some(EndpointId(69)), None]);
        assert_eq!(set.take(&IdSet::default(), 0), None);
    }

    /// An endpoint that is taken belongs to one thread, and none is lost: also in words that fall empty and are filled by
    /// others all the time.
    #[test]
    fn threads_never_take_the_same() {
        const LEN: u32 = 200;
        let set = set(LEN, [0, 63, 64, 130, 199]);
        let (among, taken) = (all(LEN), [const { AtomicBool::new(false) }; LEN as usize]);
        std::thread::scope(|scope| {
            for thread in 0..4usize {
                let (set, among, taken) = (&set, &among, &taken);
                scope.spawn(move || {
                    let mut from = thread * 50;
                    for _ in 0..50_000 {
                        let Some(endpoint) = set.take(among, from) else { continue };
                        from = endpoint.index() + 1;
                        assert!(!taken[endpoint.index()].swap(true, Ordering::SeqCst), "{endpoint:?} is taken");
                        taken[endpoint.index()].store(false, Ordering::SeqCst);
                        set.insert(endpoint);
                    }
                });
            }
        });
        let left: Vec<_> = std::iter::from_fn(|| set.take(&among, 0)).map(|id| id.0).collect();
        assert_eq!(left, [0, 63, 64, 130, 199]);
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use std::sync::Arc;

    use loom::thread::spawn;

    use super::*;

    /// In the second word, which is found by the summary.
    const A: EndpointId = EndpointId(64);
    const B: EndpointId = EndpointId(65);
    const C: EndpointId = EndpointId(127);

    fn set(members: impl IntoIterator<Item = EndpointId>) -> Arc<IdleSet> {
        let set = IdleSet::default();
        set.reserve(128);
        members.into_iter().for_each(|id| set.insert(id));
        Arc::new(set)
    }

    fn take(set: &IdleSet) -> Option<EndpointId> {
        set.take(&IdSet::of((0..128).map(EndpointId)), 0)
    }

    /// Who is in, as a later pick finds them.
    fn left(set: &IdleSet) -> Vec<EndpointId> {
        std::iter::from_fn(|| take(set)).collect()
    }

    #[test]
    fn who_says_once_that_it_is_idle_is_taken_once() {
        loom::model(|| {
            let set = set([A]);
            // One of these falls idle again, and is there for the other or for a later pick.
            let threads = [false, true].map(|again| {
                let set = set.clone();
                spawn(move || {
                    take(&set).inspect(|&id| {
                        if again {
                            set.insert(id)
                        }
                    })
                })
            });
            let [once, again] = threads.map(|thread| thread.join().unwrap());
            let taken = once.iter().chain(&again).count() + left(&set).len();
            assert_eq!(taken, if again.is_some() { 2 } else { 1 });
        });
    }

    #[test]
    fn who_falls_idle_while_others_are_taken_is_found_later() {
        loom::model(|| {
            let set = set([A]);
            let members = [B, C].map(|id| {
                let set = set.clone();
                spawn(move || set.insert(id))
            });
            let taken = take(&set);
            members.into_iter().for_each(|member| member.join().unwrap());
            let mut all = left(&set);
            all.extend(taken);
            all.sort();
            assert_eq!(all, [A, B, C]);
        });
    }

    #[test]
    fn who_is_removed_is_not_taken_as_well_and_takes_nobody_along() {
        loom::model(|| {
            let set = set([A]);
            let other = {
                let set = set.clone();
                spawn(move || {
                    set.insert(B);
                    take(&set)
                })
            };
            let removed = set.remove(A);
            let taken = other.join().unwrap();
            let expected = match taken {
                Some(A) => (false, vec![B]),
                Some(B) => (true, vec![]),
                // Not found, as whoever removes A may be about to say that there is B.
                None => (true, vec![B]),
                Some(other) => panic!("{other:?}"),
            };
            assert_eq!((removed, left(&set)), expected);
        });
    }
}
