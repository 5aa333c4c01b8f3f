//! A host for the policies with several children, and what these do whatever their owner decides.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use super::*;
use crate::{Code, Locality, Outcome, Pick, PickContext, Picker};

/// A policy and its host, which does as it is told.
pub(in crate::policy) struct Rig {
    pub(in crate::policy) policy: Box<dyn Policy>,
    pub(in crate::policy) shared: Shared,
    pub(in crate::policy) now: Nanos,
    rng: Xoshiro256PlusPlus,
}

impl Rig {
    pub(in crate::policy) fn new(config: &str) -> Self {
        let config: PolicyConfig = serde_json::from_str(config).unwrap();
        let shared = Shared::default();
        let policy = config.build_with(&shared);
        Self { policy, shared, now: Nanos::ZERO, rng: Xoshiro256PlusPlus::seed_from_u64(1) }
    }

    fn cx<T>(&mut self, call: impl FnOnce(&mut dyn Policy, &mut Context<'_>) -> T) -> T {
        call(&mut *self.policy, &mut Context::new(self.now, &mut self.rng))
    }

    pub(in crate::policy) fn update(&mut self, endpoints: impl IntoIterator<Item = Endpoint>) {
        self.update_set(&EndpointSet::new(endpoints));
    }

    pub(in crate::policy) fn update_set(&mut self, endpoints: &EndpointSet) {
        self.cx(|policy, cx| policy.update(cx, endpoints));
    }

    pub(in crate::policy) fn tell(&mut self, endpoint: u32, state: Connectivity) {
        self.cx(|policy, cx| policy.connectivity(cx, EndpointId(endpoint), state));
    }

    pub(in crate::policy) fn tell_all(&mut self, endpoints: impl IntoIterator<Item = u32>, state: Connectivity) {
        endpoints.into_iter().for_each(|i| self.tell(i, state));
    }

    pub(in crate::policy) fn exit_idle(&mut self) {
        self.cx(|policy, cx| policy.exit_idle(cx));
    }

    /// Serves timers until then.
    pub(in crate::policy) fn wait_until(&mut self, then: Nanos) {
        while let Some(due) = self.cx(|policy, cx| policy.tick(cx)).filter(|due| *due <= then) {
            assert!(due > self.now, "a timer in the past");
            self.now = due;
        }
        self.now = then;
        self.cx(|policy, cx| policy.tick(cx));
    }

    /// None for everything.
    pub(in crate::policy) fn wanted(&self) -> Option<Vec<u32>> {
        match self.policy.wanted() {
            Wanted::All => None,
            Wanted::Only(ids) => Some(ids.iter().map(|id| id.0).collect()),
        }
    }

    pub(in crate::policy) fn picker(&mut self) -> Arc<dyn Picker> {
        self.cx(|policy, cx| policy.picker(cx))
    }

    pub(in crate::policy) fn pick(&mut self) -> Pick {
        let picker = self.picker();
        picker.pick(&mut PickContext::new(self.now, &mut self.rng))
    }

    /// How many of these requests each of `n` endpoints gets; none with a hash that isn't given one.
    pub(in crate::policy) fn counts(&mut self, n: usize, hashes: impl IntoIterator<Item = Option<u64>>) -> Vec<u32> {
        let picker = self.picker();
        let mut counts = vec![0; n];
        for hash in hashes {
            let mut cx = PickContext { hash, ..PickContext::new(self.now, &mut self.rng) };
            if let Pick::Endpoint(id) = picker.pick(&mut cx) {
                counts[id.index()] += 1;
            }
        }
        counts
    }
}

pub(in crate::policy) fn endpoint(id: u32) -> Endpoint {
    Endpoint::new(EndpointId(id), Address::new(&format!("10.0.0.{id}:80")))
}

/// In a locality of this name and weight.
pub(in crate::policy) fn within(zone: &str, weight: u32, endpoint: Endpoint) -> Endpoint {
    Endpoint { locality: Some(Locality { zone: zone.into(), weight }.into()), ..endpoint }
}

pub(in crate::policy) fn is_failure(pick: &Pick) -> bool {
    matches!(pick, Pick::Fail(status) if status.code == Code::Unavailable)
}

const ENDED: Outcome = Outcome::new(Code::Ok, Nanos::from_millis(1));

/// Children by locality, looked at from inside.
const BY_LOCALITY: &str = r#"{"wrr_locality": {"child_policy": "least_request"}}"#;

#[test]
fn a_request_ends_with_whoever_has_its_endpoint() {
    let mut rig = Rig::new(BY_LOCALITY);
    rig.update([within("a", 1, endpoint(0)), within("b", 1, endpoint(1))]);
    rig.tell_all([0, 1], Connectivity::Ready);
    let first = rig.picker();
    for _ in 0..40 {
        rig.pick();
    }
    let outstanding = |rig: &Rig| [0, 1].map(|i| rig.shared.outstanding.get(EndpointId(i)));
    let [a, b] = outstanding(&rig);
    assert_eq!((a + b, a > 0, b > 0), (40, true, true));
    // It moves to the other's child, which shares the count.
    rig.update([within("b", 1, endpoint(0)), within("b", 1, endpoint(1))]);
    rig.picker().done(EndpointId(0), Nanos::ZERO, &ENDED);
    first.done(EndpointId(0), Nanos::ZERO, &ENDED);
    assert_eq!(outstanding(&rig), [a - 2, b]);
    // It leaves, and then everything does.
    rig.update([within("b", 1, endpoint(1))]);
    rig.picker().done(EndpointId(0), Nanos::ZERO, &ENDED);
    rig.update([]);
    let last = rig.picker();
    for id in (0..a - 3).map(|_| 0).chain((0..b).map(|_| 1)).chain([0, 1, 99_999]) {
        last.done(EndpointId(id), Nanos::ZERO, &ENDED);
    }
    assert_eq!(outstanding(&rig), [0, 0]);
}

#[test]
fn an_endpoint_that_moves_takes_its_state_along() {
    let mut rig = Rig::new(BY_LOCALITY);
    rig.update([within("a", 1, endpoint(0)), within("b", 1, endpoint(1))]);
    rig.tell_all([0, 1], Connectivity::Ready);
    // The channel says nothing of connections that stay.
    rig.update([within("c", 1, endpoint(0)), within("c", 1, endpoint(1))]);
    let counts = rig.counts(2, [None; 100]);
    assert!(counts.iter().all(|n| *n > 0) && counts.iter().sum::<u32>() == 100, "{counts:?}");
    // Under its id there is another endpoint.
    rig.update([within("c", 1, Endpoint::new(EndpointId(0), Address::new("10.9.9.9:80")))]);
    assert_eq!(rig.pick(), Pick::Queue);
}

#[test]
fn what_nobody_wants_is_idle() {
    let mut rig = Rig::new(r#"{"wrr_locality": {"child_policy": "pick_first"}}"#);
    rig.update([0, 1].map(|i| within("a", 1, endpoint(i))));
    rig.tell(0, Connectivity::Connecting);
    rig.wait_until(Nanos::from_millis(250));
    assert_eq!(rig.wanted(), Some(vec![0, 1]));
    rig.tell(1, Connectivity::Connecting);
    rig.tell(0, Connectivity::Ready);
    assert_eq!(rig.wanted(), Some(vec![0]));
    // Endpoint 1 was closed without a word. In a child of its own it is not connecting, but has to be connected.
    rig.update([within("a", 1, endpoint(0)), within("b", 1, endpoint(1))]);
    assert_eq!(rig.wanted(), Some(vec![0, 1]));
    assert_eq!(rig.counts(2, [None; 50]), [50, 0]);
}

#[test]
fn everything_is_wanted_of_children_that_want_everything() {
    let mut rig = Rig::new(BY_LOCALITY);
    assert_eq!(rig.wanted(), None);
    rig.update([within("a", 1, endpoint(0)), within("b", 2, endpoint(1))]);
    assert_eq!(rig.wanted(), None);
    // A locality of weight 0 is left out.
    rig.update([within("a", 0, endpoint(0)), within("b", 2, endpoint(1)), within("b", 2, endpoint(2))]);
    assert_eq!(rig.wanted(), Some(vec![1, 2]));
    rig.update([]);
    assert_eq!(rig.wanted(), None);
}
