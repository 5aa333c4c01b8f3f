//! `admission`: around a child policy, a queue: requests wait while no endpoint is ready, but not too many, and not for long.
//!
//! **Solves** requests that wait for a backend that does not come: with gRPC each waits until its own deadline, which may be
//! minutes, or never. Here nobody waits any more once nothing has been ready for 3 s: those that wait fail, and those that come
//! fail at once, until something is ready.
//!
//! **Source**: linkerd2-proxy's queue (`linkerd/stack/src/queue.rs`), a buffer of 10,000 requests in front of the balancer, and
//! its failfast (`failfast.rs`). As there, time runs from the first request that has to wait, and a request fails with
//! UNAVAILABLE.
//!
//! What gRPC has and Linkerd has not:
//!
//! * Requests that are `wait_for_ready`. In failfast they go on waiting, as [`Pick::Fail`] says: that is what they asked for, and
//!   gRPC calls the others "fail-fast". But they need a place in the queue, which bounds them: with all taken the answer is
//!   [`Pick::Drop`].
//! * Endpoints that are known to have failed. If all have, the child answers [`Pick::Fail`], and nobody waits 3 s first. In
//!   Linkerd a balancer whose endpoints all fail is as any that is not ready.
//!
//! **A pick costs** a load besides the child's. While nothing is ready, an exchange that all threads share.
//!
//! **How close** shares come is the child's affair.
//!
//! **Does badly** if it takes longer than `failfast_timeout` to be ready: to start from nothing, to connect to the other end of the
//! world, or to fail over by timeouts. Requests then fail that gRPC would have sent a second later.
//!
//! ```
//! use lb_core::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("admission").unwrap().build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! policy.update(&mut cx, &EndpointSet::new([Endpoint::new(EndpointId(0), Address::new("10.0.0.1:80"))]));
//! policy.connectivity(&mut cx, EndpointId(0), Connectivity::Connecting);
//! let picker = policy.picker(&mut cx);
//! let mut pick = |s| picker.pick(&mut PickContext::new(Nanos::from_secs(s), &mut rng));
//! assert_eq!([pick(60), pick(62)], [Pick::Queue, Pick::Queue]);
//! assert!(matches!(pick(63), Pick::Fail(_)));
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::around::{Around, Due, Wrap};
use super::config::{Rule, Settings};
use super::outstanding::Shared;
use super::{Picker, Policy, PolicyConfig};
use crate::{Connectivity, Nanos, Pick, PickContext, Status};

/// Settings of `admission`. Names are those of linkerd2-proxy's `QueueConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AdmissionConfig {
    /// Requests that may wait at a time. 10,000, linkerd2-proxy `DEFAULT_OUTBOUND_HTTP_QUEUE_CAPACITY` (inbound too).
    pub queue_capacity: u32,
    /// How long requests wait for the first endpoint that is ready. 3 s, linkerd2-proxy `DEFAULT_OUTBOUND_HTTP_FAILFAST_TIMEOUT`
    /// (inbound: 1 s).
    pub failfast_timeout: Nanos,
    /// Who chooses. `p2c_peak_ewma` by default, as in Linkerd.
    pub child_policy: Box<PolicyConfig>,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        let child_policy = Box::new(PolicyConfig::P2cPeakEwma(Default::default()));
        Self { queue_capacity: 10_000, failfast_timeout: Nanos::from_secs(3), child_policy }
    }
}

impl Settings for AdmissionConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        let Self { queue_capacity, failfast_timeout, .. } = *self;
        let waiting_since = Arc::default();
        let admission = Admission { queue_capacity, failfast_timeout, waiting_since, failed_since: Nanos::NEVER };
        Box::new(Around::new(admission, self.child_policy.build_with(shared)))
    }

    fn check(&self) -> Result<(), Rule> {
        if self.failfast_timeout == Nanos::ZERO {
            return Err(Rule::broken("failfast_timeout", self.failfast_timeout, "> 0s"));
        }
        Ok(())
    }

    fn child(&self) -> Option<&PolicyConfig> {
        Some(&self.child_policy)
    }
}

/// When the first request had to wait after the last that had not; [`Nanos::NEVER`] if none has since. All Relaxed: of requests
/// at the same time, either may come first.
#[derive(Debug)]
struct WaitingSince(AtomicU64);

impl Default for WaitingSince {
    fn default() -> Self {
        Self(AtomicU64::new(Nanos::NEVER.0))
    }
}

impl WaitingSince {
    fn get(&self) -> Nanos {
        Nanos(self.0.load(Ordering::Relaxed))
    }

    /// A request has to wait. Since when others do.
    fn wait(&self, now: Nanos) -> Nanos {
        Nanos(self.0.fetch_min(now.0, Ordering::Relaxed)).min(now)
    }

    /// Something is ready. Mostly nobody waits, and threads that only read share the line.
    #[inline]
    fn over(&self) {
        if self.get() != Nanos::NEVER {
            self.0.store(Nanos::NEVER.0, Ordering::Relaxed);
        }
    }
}

struct Admission {
    queue_capacity: u32,
    failfast_timeout: Nanos,
    waiting_since: Arc<WaitingSince>,
    /// Since when those waited who have been told to fail.
    failed_since: Nanos,
}

impl Wrap for Admission {
    fn around(&self, child: Arc<dyn Picker>) -> Arc<dyn Picker> {
        let Self { queue_capacity, failfast_timeout, .. } = *self;
        Arc::new(AdmissionPicker {
            queue_capacity,
            failfast_timeout,
            full: Status::unavailable(format!("admission: {queue_capacity} requests wait already")),
            failfast: Status::unavailable(format!("admission: no endpoint has been ready for {failfast_timeout}")),
            waiting_since: self.waiting_since.clone(),
            child,
        })
    }

    fn connectivity(&mut self, state: Connectivity) {
        // Not only by the first request that is sent: there may be none before the endpoint is gone again.
        if state == Connectivity::Ready {
            self.waiting_since.over();
        }
    }

    /// Those that wait ask again when there is another picker: at the end of their time there is one that says the same.
    fn tick(&mut self, now: Nanos) -> Due {
        let since = self.waiting_since.get();
        if since == Nanos::NEVER || since == self.failed_since {
            return Due::Never;
        }
        let end = since + self.failfast_timeout;
        if end > now {
            return Due::At(end);
        }
        self.failed_since = since;
        Due::Now
    }
}

struct AdmissionPicker {
    queue_capacity: u32,
    failfast_timeout: Nanos,
    full: Status,
    failfast: Status,
    waiting_since: Arc<WaitingSince>,
    child: Arc<dyn Picker>,
}

impl Picker for AdmissionPicker {
    fn child(&self) -> Option<&dyn Picker> {
        Some(&*self.child)
    }

    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        let pick = self.child.pick(cx);
        match pick {
            Pick::Endpoint(_) => {
                self.waiting_since.over();
                pick
            }
            Pick::Drop(_) => pick,
            Pick::Queue | Pick::Fail(_) if cx.pending >= self.queue_capacity => Pick::Drop(self.full.clone()),
            Pick::Queue if cx.now.since(self.waiting_since.wait(cx.now)) >= self.failfast_timeout => {
                // The host wakes who rests only for a request that waits.
                cx.asks.exit_idle = true;
                Pick::Fail(self.failfast.clone())
            }
            Pick::Queue | Pick::Fail(_) => pick,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::draw::scripted::Script;
    use crate::{Address, Code, Context, Endpoint, EndpointId, EndpointSet};

    const READY: Pick = Pick::Endpoint(EndpointId(0));

    /// A policy over one endpoint, and the host's clock.
    struct Host {
        policy: Box<dyn Policy>,
        now: Nanos,
    }

    impl Host {
        fn new(queue_capacity: u32, failfast_timeout: Nanos, child: &str) -> Self {
            let child_policy = Box::new(PolicyConfig::named(child).unwrap());
            let config = AdmissionConfig { queue_capacity, failfast_timeout, child_policy };
            let mut host = Self { policy: config.build(&Shared::default()), now: Nanos::from_secs(1_000) };
            let endpoint = Endpoint::new(EndpointId(0), Address::new("10.0.0.1:80"));
            host.control(|p, cx| p.update(cx, &EndpointSet::new([endpoint])));
            host
        }

        fn control<T>(&mut self, call: impl FnOnce(&mut dyn Policy, &mut Context<'_>) -> T) -> T {
            call(&mut *self.policy, &mut Context::new(self.now, &mut Script::indices(1, &[0])))
        }

        fn becomes(&mut self, state: Connectivity) {
            self.control(|p, cx| p.connectivity(cx, EndpointId(0), state));
        }

        fn after(&mut self, time: Nanos) -> Option<Nanos> {
            self.now += time;
            self.control(|p, cx| p.tick(cx))
        }

        fn pick_among(&mut self, pending: u32) -> Pick {
            let picker = self.control(|p, cx| p.picker(cx));
            let mut rng = Script::indices(1, &[0]);
            picker.pick(&mut PickContext { pending, ..PickContext::new(self.now, &mut rng) })
        }

        fn pick(&mut self) -> Pick {
            self.pick_among(0)
        }
    }

    const MS: Nanos = Nanos::from_millis(1);
    const TIMEOUT: Nanos = Nanos::from_millis(100);

    #[track_caller]
    fn fails_fast(pick: &Pick) {
        assert!(
            matches!(pick, Pick::Fail(s) if s.code == Code::Unavailable && s.message.contains("ready for 100ms")),
            "{pick:?}"
        );
    }

    #[test]
    fn failfast_test_fails_fast() {
        let mut host = Host::new(9, TIMEOUT, "round_robin");
        assert_eq!(host.pick(), Pick::Queue);
        host.after(TIMEOUT);
        fails_fast(&host.pick());
        host.becomes(Connectivity::Ready);
        assert_eq!(host.pick(), READY);
    }

    #[test]
    fn failfast_test_drains_buffer() {
        let mut host = Host::new(3, TIMEOUT, "round_robin");
        for pending in 0..3 {
            assert_eq!(host.pick_among(pending), Pick::Queue);
        }
        assert!(matches!(host.pick_among(3), Pick::Drop(s) if s.message.contains("3 requests wait already")));
        let waiting = host.control(|p, cx| p.picker(cx));
        // The host is told when to come back, and then that those that wait are to ask again.
        let end = host.now + TIMEOUT;
        assert_eq!(host.after(MS), Some(end));
        assert!(Arc::ptr_eq(&waiting, &host.control(|p, cx| p.picker(cx))));
        assert_eq!(host.after(TIMEOUT - MS), None);
        let draining = host.control(|p, cx| p.picker(cx));
        assert!(!Arc::ptr_eq(&waiting, &draining));
        for pending in [2, 1, 0] {
            fails_fast(&host.pick_among(pending));
        }
        // Once is enough; and again when something has been ready in between.
        assert_eq!(host.after(MS), None);
        assert!(Arc::ptr_eq(&draining, &host.control(|p, cx| p.picker(cx))));
        host.becomes(Connectivity::Ready);
        assert_eq!(host.pick(), READY);
        host.becomes(Connectivity::Idle);
        assert_eq!(host.pick(), Pick::Queue);
        assert_eq!(host.after(MS), Some(host.now + TIMEOUT - MS));
    }

    #[test]
    fn time_runs_from_the_first_that_waits_since_something_was_ready() {
        let mut host = Host::new(9, TIMEOUT, "round_robin");
        assert_eq!(host.pick(), Pick::Queue);
        host.after(Nanos::from_millis(99));
        assert_eq!(host.pick(), Pick::Queue);
        // Ready for a moment in which no request comes.
        host.becomes(Connectivity::Ready);
        host.becomes(Connectivity::Idle);
        host.after(MS);
        assert_eq!(host.pick(), Pick::Queue);
        host.after(TIMEOUT);
        fails_fast(&host.pick());
    }

    #[test]
    fn who_waits_for_ready_needs_a_place() {
        let mut host = Host::new(2, TIMEOUT, "round_robin");
        host.becomes(Connectivity::TransientFailure);
        assert!(matches!(host.pick_among(1), Pick::Fail(s) if s.message.contains("last connection attempt")));
        assert!(matches!(host.pick_among(2), Pick::Drop(s) if s.code == Code::Unavailable));
    }

    #[test]
    fn a_child_that_rests_is_woken_by_requests_that_fail() {
        let mut host = Host::new(9, TIMEOUT, "pick_first");
        assert_eq!(host.pick(), Pick::Queue);
        host.after(TIMEOUT);
        let picker = host.control(|p, cx| p.picker(cx));
        let mut rng = Script::indices(1, &[0]);
        let mut cx = PickContext::new(host.now, &mut rng);
        fails_fast(&picker.pick(&mut cx));
        assert!(cx.asks.exit_idle);
    }
}
