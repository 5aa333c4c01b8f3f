//! Which cluster a request goes to, and what surrounds it: its deadline, retries or hedges, injected faults, a rate limit.
//!
//! **Solves** what a balancing policy can't: telling requests apart (layer 7). One percent to a canary, the testers' header
//! to the new version, one method retried and another not.
//!
//! **Source**: gRFC A28 (routing and splitting), A31 (timeouts), A33 (faults), A44 (retries), A6 (hedging), over
//! envoy.config.route.v3.Route.
//!
//! **Costs** a comparison or two per route up to the one that matches, and one random number for the split; nothing is
//! allocated or locked.
//!
//! **Does badly** with many routes: they are tried one after the other, as in Envoy and gRPC.
//!
//! A host asks [`Router::route`] once per request, and then the route: its [`limit`](Route::limit), its
//! [`fault`](Route::fault), its [`cluster`](Route::cluster), and at the end of each attempt its [`retry`](Route::retry) or
//! [`hedge`](Route::hedge) policy. Route and cluster are chosen once: a further attempt stays in its cluster, as in gRPC (A44)
//! and Envoy. The order of limit and fault is ours; in Envoy it is that of the configured filters.
//!
//! ```
//! use lb_core::route::{RequestInfo, RouteConfig, Router};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let testers: RouteConfig = toml::from_str(r#"
//!     name = "testers"
//!     match = { headers = [{ name = "x-tester", exact = "yes" }] }
//!     clusters = [{ name = "v2" }]
//! "#)?;
//! let all: RouteConfig = toml::from_str(r#"
//!     name = "all"
//!     clusters = [{ name = "v1", weight = 99 }, { name = "v2", weight = 1 }]
//! "#)?;
//! let router = Router::new(&[testers, all]);
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//!
//! let headers = [("x-tester".into(), "yes".into())];
//! let request = RequestInfo { path: "/shop.Cart/Add", headers: &headers };
//! let id = router.route(&request, &mut rng).expect("the second route matches everything");
//! assert_eq!(router.get(id).name(), "testers");
//! assert_eq!(router.cluster_name(router.get(id).cluster(&mut rng)), "v2");
//! # Ok::<(), toml::de::Error>(())
//! ```

mod config;
mod draw;
pub mod fault;
mod hash;
pub mod hedge;
mod matcher;
mod restraint;
pub mod retry;
mod split;

use std::sync::Arc;

use rand::Rng;

use crate::limit::RateLimit;
use crate::{Nanos, Status};

pub use config::{ClusterWeight, HeaderMatch, MatchConfig, RouteConfig};
pub use fault::{Fault, FaultConfig, FaultInjector};
pub use hash::{HashPolicyConfig, hash_of};
pub use hedge::{HedgeConfig, HedgeDecision, HedgePolicy, Hedges};
pub use restraint::{BudgetConfig, ThrottlingConfig};
pub use retry::{Attempts, MOST_ATTEMPTS, Pushback, RetryConfig, RetryDecision, RetryPolicy, Why};

use matcher::Matcher;
use split::Split;

/// What routing looks at of a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestInfo<'a> {
    /// "/package.Service/Method".
    pub path: &'a str,
    /// Names, in lower case, and values. A name may be there several times.
    pub headers: &'a [(Box<str>, Box<str>)],
}

/// A route of a [`Router`]; valid for that router's life, also when an update took the route away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(u32);

/// A cluster of a [`Router`]: an index into [`Router::clusters`], valid for that router's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(u32);

impl RouteId {
    /// As an index, dense from 0 in the order in which routes were first seen.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl ClusterId {
    /// As an index into [`Router::clusters`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A table of routes. The first that matches a request wins.
///
/// A clone shares the counts of the original (active requests, retries and hedges, throttle tokens, buckets): a host whose requests
/// run in parallel updates a clone and then swaps it in, and nothing is counted twice or forgotten.
#[derive(Debug, Clone)]
pub struct Router {
    /// Every route ever seen, so that ids stay good.
    routes: Vec<Route>,
    /// Those that are in force, in order.
    order: Vec<RouteId>,
    clusters: Vec<Box<str>>,
    unmatched: Status,
}

impl Router {
    /// A table of these routes, in this order. They should be free of [problems](RouteConfig::problems) and have names of
    /// their own; a route whose weights add up to nothing never matches.
    pub fn new(routes: &[RouteConfig]) -> Self {
        // gRFC A28: without a match a request fails with UNAVAILABLE.
        let unmatched = Status::unavailable("no matching route");
        let mut router = Self { routes: Vec::new(), order: Vec::new(), clusters: Vec::new(), unmatched };
        router.update(routes);
        router
    }

    /// Replaces the table. A route is the one of the same name before: its counts go on, whatever its settings now are. A
    /// token bucket with other settings starts full, as in Envoy.
    pub fn update(&mut self, routes: &[RouteConfig]) {
        self.order.clear();
        for config in routes {
            let split = Split::new(&config.clusters, |name| cluster_id(&mut self.clusters, name));
            let Some(split) = split else { continue };
            let id = match self.routes.iter().position(|route| *route.name == *config.name) {
                Some(i) => {
                    self.routes[i] = Route::new(config, split, Some(&self.routes[i]));
                    RouteId(i as u32)
                }
                None => {
                    self.routes.push(Route::new(config, split, None));
                    RouteId(self.routes.len() as u32 - 1)
                }
            };
            self.order.push(id);
        }
    }

    /// Changes the weights of one route and nothing else of it: a step of a canary.
    ///
    /// # Errors
    ///
    /// If the weights add up to nothing; the route then keeps those it has.
    pub fn set_weights(&mut self, route: RouteId, weights: &[ClusterWeight]) -> Result<(), NoWeight> {
        let split = Split::new(weights, |name| cluster_id(&mut self.clusters, name));
        let route = &mut self.routes[route.index()];
        route.split = split.ok_or_else(|| NoWeight { route: route.name.to_string() })?;
        Ok(())
    }

    /// The first route that matches.
    ///
    /// With `None` the host fails the request with [`unmatched`](Self::unmatched).
    #[inline]
    pub fn route(&self, request: &RequestInfo<'_>, rng: &mut dyn Rng) -> Option<RouteId> {
        self.order.iter().copied().find(|id| self.routes[id.index()].matcher.matches(request, rng))
    }

    /// What a request fails with that no route matches: UNAVAILABLE, gRFC A28. (Envoy answers 404, which a gRPC client reads
    /// as UNIMPLEMENTED.)
    pub fn unmatched(&self) -> Status {
        self.unmatched.clone()
    }

    /// A route of this router.
    #[inline]
    pub fn get(&self, id: RouteId) -> &Route {
        &self.routes[id.index()]
    }

    /// The route of that name, if it is in force.
    pub fn find(&self, name: &str) -> Option<RouteId> {
        self.order.iter().copied().find(|id| *self.routes[id.index()].name == *name)
    }

    /// Each cluster's name once, in the order of first mention. Updates only add.
    pub fn clusters(&self) -> &[Box<str>] {
        &self.clusters
    }

    /// The name of a cluster of this router.
    pub fn cluster_name(&self, id: ClusterId) -> &str {
        &self.clusters[id.index()]
    }

    /// The cluster of that name.
    pub fn find_cluster(&self, name: &str) -> Option<ClusterId> {
        self.clusters.iter().position(|known| **known == *name).map(|i| ClusterId(i as u32))
    }
}

fn cluster_id(clusters: &mut Vec<Box<str>>, name: &str) -> ClusterId {
    let known = clusters.iter().position(|known| **known == *name);
    ClusterId(known.unwrap_or_else(|| {
        clusters.push(name.into());
        clusters.len() - 1
    }) as u32)
}

/// The weights of a route add up to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the weights of route `{route}` add up to 0; let one cluster have a weight above 0")]
pub struct NoWeight {
    route: String,
}

/// One route, ready for use.
#[derive(Debug, Clone)]
pub struct Route {
    name: Arc<str>,
    matcher: Matcher,
    split: Split,
    timeout: Option<Nanos>,
    retry: Option<RetryPolicy>,
    hedge: Option<HedgePolicy>,
    fault: Option<FaultInjector>,
    limit: Option<RateLimit>,
    hash_policy: Box<[HashPolicyConfig]>,
}

impl Route {
    fn new(config: &RouteConfig, split: Split, before: Option<&Self>) -> Self {
        let retry = config.retry.as_ref().map(|c| match before.and_then(|route| route.retry.as_ref()) {
            Some(policy) => policy.with_config(c),
            None => RetryPolicy::new(c),
        });
        // gRFC A6: a method has one of the two.
        let hedge = config.hedge.as_ref().filter(|_| retry.is_none());
        let hedge = hedge.map(|c| match before.and_then(|route| route.hedge.as_ref()) {
            Some(policy) => policy.with_config(c),
            None => HedgePolicy::new(c),
        });
        let fault = config.fault.as_ref().map(|c| match before.and_then(|route| route.fault.as_ref()) {
            Some(injector) => injector.with_config(c),
            None => FaultInjector::new(c),
        });
        let limit = config.rate_limit.as_ref().map(|c| match before.and_then(|route| route.limit.as_ref()) {
            Some(limit) => limit.with_config(c),
            None => RateLimit::new(c),
        });
        let (name, matcher) = (config.name.as_str().into(), Matcher::new(&config.matches));
        let hash_policy = config.hash_policy.as_slice().into();
        Self { name, matcher, split, timeout: config.timeout, retry, hedge, fault, limit, hash_policy }
    }

    /// The route's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Longest time of a request with all its attempts.
    pub fn timeout(&self) -> Option<Nanos> {
        self.timeout
    }

    /// Whether and when failed attempts are repeated.
    pub fn retry(&self) -> Option<&RetryPolicy> {
        self.retry.as_ref()
    }

    /// Whether and when a request is sent again before its attempts have answered.
    pub fn hedge(&self) -> Option<&HedgePolicy> {
        self.hedge.as_ref()
    }

    /// Faults injected on purpose.
    pub fn fault(&self) -> Option<&FaultInjector> {
        self.fault.as_ref()
    }

    /// How many requests are let through.
    pub fn limit(&self) -> Option<&RateLimit> {
        self.limit.as_ref()
    }

    /// What hashing policies go by for a request that comes from the address `source`; none if no rule finds anything.
    pub fn hash(&self, request: &RequestInfo<'_>, source: &str) -> Option<u64> {
        hash::hash(&self.hash_policy, request, source)
    }

    /// The cluster of one request, drawn by weight.
    #[inline]
    pub fn cluster(&self, rng: &mut dyn Rng) -> ClusterId {
        self.split.draw(rng)
    }
}
