//! A child policy that is told another connectivity for endpoints that are held back from it.
//!
//! | is | is told as, while it is held back |
//! |---|---|
//! | READY, unhealthy | unhealthy |
//! | IDLE, CONNECTING, in TRANSIENT_FAILURE | in TRANSIENT_FAILURE |
//!
//! The second row is gRPC's way (gRFC A50 "Subchannel Wrapper"); the first tells a child that knows to use such an endpoint
//! in need, as `panic` does, that it could. The connection stays as it is, so that an endpoint serves again as soon as it
//! is held back no more: its real state is told then.

use super::roster::Roster;
use super::{Policy, Wanted};
use crate::{Connectivity, Context, EndpointId, EndpointSet, Nanos};

/// A child and what is real, and with every endpoint what the policy around has to remember of it.
pub(super) struct Masked<T> {
    child: Box<dyn Policy>,
    rows: Roster<Row<T>>,
    /// What the child wanted when the host last looked, if not everything.
    wanted: Option<Vec<EndpointId>>,
    held: usize,
    version: u64,
}

struct Row<T> {
    state: Connectivity,
    held: bool,
    own: T,
}

impl<T: Default> Default for Row<T> {
    fn default() -> Self {
        Self { state: Connectivity::Idle, held: false, own: T::default() }
    }
}

impl<T> Row<T> {
    fn told(&self) -> Connectivity {
        match self.state {
            state if !self.held => state,
            Connectivity::Ready | Connectivity::Unhealthy => Connectivity::Unhealthy,
            _ => Connectivity::TransientFailure,
        }
    }

    fn could_serve(&self) -> bool {
        self.held && self.state == Connectivity::Ready
    }
}

/// Whether there is a connection, or an attempt at one, which the host closes when nobody wants it.
pub(super) fn is_open(state: Connectivity) -> bool {
    matches!(state, Connectivity::Ready | Connectivity::Connecting | Connectivity::Unhealthy)
}

impl<T: Default> Masked<T> {
    pub(super) fn new(child: Box<dyn Policy>) -> Self {
        Self { child, rows: Roster::default(), wanted: None, held: 0, version: 0 }
    }

    /// Takes a snapshot; returns the endpoints that are new.
    pub(super) fn update(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet) -> Vec<EndpointId> {
        let new = self.rows.update(endpoints);
        if self.held > 0 {
            self.held = self.rows.iter().filter(|(_, row)| row.held).count();
            self.version += 1;
        }
        self.child.update(cx, endpoints);
        new
    }
}

impl<T> Masked<T> {
    pub(super) fn connectivity(&mut self, cx: &mut Context<'_>, id: EndpointId, state: Connectivity) {
        let Some(row) = self.rows.get_mut(id) else { return };
        let before = row.could_serve();
        row.state = state;
        self.version += u64::from(before != row.could_serve());
        // Also when it hears the same as before: an attempt that it wanted may have failed once more.
        let told = row.told();
        self.child.connectivity(cx, id, told);
    }

    /// Holds an endpoint back, or no more.
    pub(super) fn hold(&mut self, cx: &mut Context<'_>, id: EndpointId, held: bool) {
        let Some(row) = self.rows.get_mut(id) else { return };
        if row.held == held {
            return;
        }
        row.held = held;
        self.held = self.held + usize::from(held) - usize::from(!held);
        self.version += 1;
        let told = row.told();
        self.child.connectivity(cx, id, told);
    }

    /// The child's; the last call of the policy's own `tick`, as the host looks at what is wanted after it.
    pub(super) fn tick(&mut self, cx: &mut Context<'_>) -> Option<Nanos> {
        let due = self.child.tick(cx);
        self.forget_what_is_closed();
        due
    }

    /// The host closes what is not wanted, and does not tell of it.
    fn forget_what_is_closed(&mut self) {
        match self.child.wanted() {
            Wanted::All => self.wanted = None,
            Wanted::Only(ids) if self.wanted.as_deref() == Some(ids) => {}
            Wanted::Only(ids) => {
                let mut sorted = ids.to_vec();
                sorted.sort_unstable();
                for (endpoint, row) in self.rows.iter_mut() {
                    if is_open(row.state) && sorted.binary_search(&endpoint.id).is_err() {
                        self.version += u64::from(row.could_serve());
                        row.state = Connectivity::Idle;
                    }
                }
                self.wanted = Some(ids.to_vec());
            }
        }
    }

    /// Another one when the endpoints that are held back although they are READY may be others.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// How many endpoints there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn is_held(&self, id: EndpointId) -> bool {
        self.rows.get(id).is_some_and(|row| row.held)
    }

    /// How many are held back.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Those that are held back although they are READY, in the resolver's order.
    pub(super) fn could_serve(&self) -> impl Iterator<Item = EndpointId> {
        let rows = (self.held > 0).then(|| self.rows.iter()).into_iter().flatten();
        rows.filter(|(_, row)| row.could_serve()).map(|(endpoint, _)| endpoint.id)
    }

    /// Every endpoint in the resolver's order.
    pub(super) fn ids(&self) -> impl Iterator<Item = EndpointId> {
        self.rows.iter().map(|(endpoint, _)| endpoint.id)
    }

    pub(super) fn own(&mut self, id: EndpointId) -> Option<&mut T> {
        self.rows.get_mut(id).map(|row| &mut row.own)
    }

    /// For what is passed on as it is.
    pub(super) fn child(&self) -> &dyn Policy {
        &*self.child
    }

    /// For what is passed on as it is.
    pub(super) fn child_mut(&mut self) -> &mut dyn Policy {
        &mut *self.child
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::policy::draw::scripted::Script;
    use crate::policy::{Picker, fixed};
    use crate::{Address, Endpoint};
    use Connectivity::{Connecting, Idle, Ready, TransientFailure, Unhealthy};

    type Told = Arc<Mutex<Vec<(u32, Connectivity)>>>;

    /// Writes down what it is told; wants what it is told to want.
    struct Witness {
        told: Told,
        wanted: Arc<Mutex<Option<&'static [EndpointId]>>>,
    }

    impl Policy for Witness {
        fn update(&mut self, _: &mut Context<'_>, _: &EndpointSet) {}

        fn connectivity(&mut self, _: &mut Context<'_>, endpoint: EndpointId, state: Connectivity) {
            self.told.lock().unwrap().push((endpoint.0, state));
        }

        fn wanted(&self) -> Wanted<'_> {
            self.wanted.lock().unwrap().map_or(Wanted::All, Wanted::Only)
        }

        fn picker(&mut self, _: &mut Context<'_>) -> Arc<dyn Picker> {
            fixed::queue()
        }
    }

    struct Bench {
        masked: Masked<u32>,
        told: Told,
        wanted: Arc<Mutex<Option<&'static [EndpointId]>>>,
        rng: Script,
    }

    impl Bench {
        fn new(addresses: &[&str]) -> Self {
            let (told, wanted) = (Told::default(), Arc::default());
            let child = Box::new(Witness { told: Arc::clone(&told), wanted: Arc::clone(&wanted) });
            let mut bench = Self { masked: Masked::new(child), told, wanted, rng: Script::indices(1, &[0]) };
            bench.update(addresses);
            bench
        }

        fn update(&mut self, addresses: &[&str]) -> Vec<EndpointId> {
            let endpoint = |(i, &a)| Endpoint::new(EndpointId(i), Address::new(a));
            let set = EndpointSet::new((0..).zip(addresses).map(endpoint));
            self.masked.update(&mut Context::new(Nanos::ZERO, &mut self.rng), &set)
        }

        /// What the child hears of a state, or of being held back.
        fn hears(&mut self, id: u32, news: impl Into<News>) -> Vec<(u32, Connectivity)> {
            let cx = &mut Context::new(Nanos::ZERO, &mut self.rng);
            match news.into() {
                News::Is(state) => self.masked.connectivity(cx, EndpointId(id), state),
                News::Held(held) => self.masked.hold(cx, EndpointId(id), held),
            }
            std::mem::take(&mut *self.told.lock().unwrap())
        }

        fn tick(&mut self) {
            self.masked.tick(&mut Context::new(Nanos::ZERO, &mut self.rng));
        }
    }

    enum News {
        Is(Connectivity),
        Held(bool),
    }

    impl From<Connectivity> for News {
        fn from(state: Connectivity) -> Self {
            Self::Is(state)
        }
    }

    impl From<bool> for News {
        fn from(held: bool) -> Self {
            Self::Held(held)
        }
    }

    #[test]
    fn the_child_hears_another_state_until_the_real_one_is_told_again() {
        let mut bench = Bench::new(&["a", "b"]);
        assert_eq!(bench.hears(0, Ready), [(0, Ready)]);
        assert_eq!(bench.hears(0, true), [(0, Unhealthy)]);
        assert_eq!(bench.hears(0, true), [], "it is held already");
        for (is, told) in [
            (Idle, TransientFailure),
            (Connecting, TransientFailure),
            (TransientFailure, TransientFailure),
            (Unhealthy, Unhealthy),
            (Ready, Unhealthy),
            (Connecting, TransientFailure),
        ] {
            assert_eq!(bench.hears(0, is), [(0, told)], "{is:?}");
        }
        assert_eq!(bench.hears(1, Connecting), [(1, Connecting)], "the other is not held");
        assert_eq!(bench.hears(0, false), [(0, Connecting)]);
        assert_eq!(bench.hears(0, Ready), [(0, Ready)]);
        assert_eq!(bench.hears(9, Ready), [], "not in the snapshot");
    }

    #[test]
    fn who_leaves_is_not_held_when_it_comes_back_nor_is_another_under_its_id() {
        let mut bench = Bench::new(&["a", "b"]);
        for id in [0, 1] {
            bench.hears(id, true);
            *bench.masked.own(EndpointId(id)).unwrap() = 7;
        }
        assert_eq!(bench.masked.held(), 2);
        assert_eq!(bench.update(&["c"]), [EndpointId(0)]);
        assert_eq!((bench.masked.held(), bench.masked.own(EndpointId(0))), (0, Some(&mut 0)));
        assert_eq!(bench.update(&["c", "b"]), [EndpointId(1)]);
        assert_eq!(bench.hears(1, Ready), [(1, Ready)]);
    }

    #[test]
    fn what_the_host_closes_is_not_told_as_ready() {
        let mut bench = Bench::new(&["a", "b"]);
        bench.hears(0, Ready);
        bench.hears(1, Ready);
        bench.hears(0, true);
        let version = bench.masked.version();
        assert_eq!(bench.masked.could_serve().collect::<Vec<_>>(), [EndpointId(0)]);
        *bench.wanted.lock().unwrap() = Some(&[EndpointId(1)]);
        bench.tick();
        assert_ne!(bench.masked.version(), version);
        assert_eq!(bench.masked.could_serve().count(), 0);
        assert_eq!(bench.hears(0, false), [(0, Idle)]);
        assert_eq!(bench.hears(1, true), [(1, Unhealthy)], "it was wanted all the time");
    }
}
