//! What requests belong together: the hash that `ring_hash`, `maglev` and their like go by.
//!
//! **Source**: envoy.config.route.v3.RouteAction.HashPolicy, as gRPC reads it (gRFC A42 "Hash Policy"): each rule that finds
//! something hashes it with XXH64, and the hashes are combined in the order of the rules: the one so far, rotated left by one
//! bit, exclusive or the new one. Envoy's cookies, query parameters and filter state are not here.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::xxh64;

use super::RequestInfo;
use crate::problems::Problems;

/// One rule of a route's hash: `hash_policy = [{ header = "x-user" }]`. Either `header` or `source_ip` says what is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HashPolicyConfig {
    /// The value of this request header; several values of one name are joined by commas. A request without it is not hashed by
    /// this rule. envoy.config.route.v3.RouteAction.HashPolicy `header`.
    pub header: Option<String>,
    /// The caller's address: requests of one client belong together. envoy.config.route.v3.RouteAction.HashPolicy
    /// `connection_properties.source_ip`; in a gRPC client all requests have the same, as with `filter_state`
    /// "io.grpc.channel_id".
    pub source_ip: bool,
    /// If this rule has found something, those after it are not looked at. False,
    /// envoy.config.route.v3.RouteAction.HashPolicy `terminal`.
    pub terminal: bool,
}

impl HashPolicyConfig {
    pub(super) fn problems(&self) -> Problems {
        let mut problems = Problems::default();
        match (&self.header, self.source_ip) {
            (None, false) => {
                let rule = "neither `header` nor `source_ip` is there; a request has nothing to be hashed by";
                problems.add("", rule, "name the header: `hash_policy = [{ header = \"x-user\" }]`");
            }
            (Some(_), true) => {
                let rule = "`header` and `source_ip` are one rule each";
                problems.add(
                    "source_ip",
                    rule,
                    "write `hash_policy = [{ header = \"x-user\" }, { source_ip = true }]`",
                );
            }
            (Some(name), false) if name.trim().is_empty() => {
                problems.add("header", "`header` is empty", "name a request header");
            }
            _ => {}
        }
        problems
    }
}

/// The hash of a header's value, as in [`PickContext::hash`](crate::PickContext::hash): XXH64 with seed 0.
pub fn hash_of(value: &str) -> u64 {
    xxh64(value.as_bytes(), 0)
}

/// The hash of a request that comes from `source`, by these rules; none if no rule finds anything.
pub(super) fn hash(rules: &[HashPolicyConfig], request: &RequestInfo<'_>, source: &str) -> Option<u64> {
    let mut combined: Option<u64> = None;
    for rule in rules {
        let found = match &rule.header {
            Some(name) => value(request, name).map(|value| hash_of(&value)),
            None => rule.source_ip.then(|| hash_of(source)),
        };
        if let Some(found) = found {
            combined = Some(combined.map_or(found, |before| before.rotate_left(1) ^ found));
            if rule.terminal {
                break;
            }
        }
    }
    combined
}

/// A header's value; gRPC leaves binary headers out of the hash (A42: "-bin").
fn value<'a>(request: &RequestInfo<'a>, name: &str) -> Option<Cow<'a, str>> {
    if name.ends_with("-bin") {
        return None;
    }
    let mut values = request.headers.iter().filter(|(known, _)| **known == *name).map(|(_, value)| &**value);
    let first = values.next()?;
    match values.next() {
        None => Some(Cow::Borrowed(first)),
        Some(second) => {
            let all = [first, second].into_iter().chain(values).collect::<Vec<_>>();
            Some(Cow::Owned(all.join(",")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_header(name: &str) -> HashPolicyConfig {
        HashPolicyConfig { header: Some(name.into()), ..Default::default() }
    }

    fn hash_with(rules: &[HashPolicyConfig], headers: &[(&str, &str)]) -> Option<u64> {
        let headers: Vec<(Box<str>, Box<str>)> = headers.iter().map(|&(n, v)| (n.into(), v.into())).collect();
        hash(rules, &RequestInfo { path: "/a.B/C", headers: &headers }, "10.0.0.9")
    }

    #[test]
    fn a_request_has_the_hash_of_its_header() {
        assert_eq!(hash_with(&[by_header("x-user")], &[("x-user", "ann")]), Some(hash_of("ann")));
        assert_eq!(hash_with(&[by_header("x-user")], &[("x-other", "ann")]), None);
        assert_eq!(hash_with(&[by_header("x-user-bin")], &[("x-user-bin", "ann")]), None);
        assert_eq!(hash_with(&[by_header("x")], &[("x", "a"), ("x", "b")]), Some(hash_of("a,b")));
        // XXH64 of nothing with seed 0, from the algorithm's description.
        assert_eq!(hash_of(""), 0xef46_db37_51d8_e999);
    }

    #[test]
    fn rules_combine_in_their_order_until_a_terminal_one_finds_something() {
        let source = HashPolicyConfig { source_ip: true, ..Default::default() };
        let headers = [("a", "1"), ("b", "2")];
        let (a, b, from) = (hash_of("1"), hash_of("2"), hash_of("10.0.0.9"));
        assert_eq!(hash_with(&[by_header("a"), by_header("b")], &headers), Some(a.rotate_left(1) ^ b));
        assert_eq!(hash_with(&[by_header("b"), by_header("a")], &headers), Some(b.rotate_left(1) ^ a));
        let terminal = HashPolicyConfig { terminal: true, ..by_header("a") };
        assert_eq!(hash_with(&[terminal.clone(), source.clone()], &headers), Some(a));
        assert_eq!(hash_with(&[terminal, source], &[]), Some(from), "it has found nothing");
    }
}
