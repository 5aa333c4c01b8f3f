//! Whether a route is for a request: path, headers, fraction.
//!
//! **Source**: gRFC A28 over envoy.config.route.v3.RouteMatch and HeaderMatcher. No regular expressions: what they cost
//! depends on the input, and a scenario can write prefixes.
//!
//! **Costs** a comparison per condition and a walk over the request's headers per condition on one; nothing is
//! allocated, also where several values of a header are matched as if joined.

use std::iter;

use rand::Rng;

use super::draw::happens;
use super::{HeaderMatch, MatchConfig, RequestInfo};

type Headers = [(Box<str>, Box<str>)];

/// The conditions of one route.
#[derive(Debug, Clone)]
pub(super) struct Matcher {
    path: PathMatch,
    headers: Box<[HeaderMatcher]>,
    fraction: f64,
}

#[derive(Debug, Clone)]
enum PathMatch {
    Any,
    Exact(Box<str>),
    Prefix(Box<str>),
}

impl Matcher {
    pub(super) fn new(config: &MatchConfig) -> Self {
        let path = match (&config.path, &config.prefix) {
            (Some(path), _) => PathMatch::Exact(path.as_str().into()),
            (None, Some(prefix)) => PathMatch::Prefix(prefix.as_str().into()),
            (None, None) => PathMatch::Any,
        };
        let headers = config.headers.iter().map(HeaderMatcher::new).collect();
        Self { path, headers, fraction: config.fraction.unwrap_or(1.0) }
    }

    /// Whether all conditions hold. The fraction comes last: it is the part of what matches otherwise.
    #[inline]
    pub(super) fn matches(&self, request: &RequestInfo<'_>, rng: &mut dyn Rng) -> bool {
        let path = match &self.path {
            PathMatch::Any => true,
            PathMatch::Exact(path) => *request.path == **path,
            PathMatch::Prefix(prefix) => request.path.starts_with(&**prefix),
        };
        path && self.headers.iter().all(|header| header.matches(request.headers)) && happens(rng, self.fraction)
    }
}

#[derive(Debug, Clone)]
struct HeaderMatcher {
    name: Box<str>,
    rule: Rule,
    invert: bool,
}

#[derive(Debug, Clone)]
enum Rule {
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Contains(Box<str>),
    Present(bool),
}

impl HeaderMatcher {
    fn new(config: &HeaderMatch) -> Self {
        let rule = match config {
            HeaderMatch { exact: Some(text), .. } => Rule::Exact(text.as_str().into()),
            HeaderMatch { prefix: Some(text), .. } => Rule::Prefix(text.as_str().into()),
            HeaderMatch { suffix: Some(text), .. } => Rule::Suffix(text.as_str().into()),
            HeaderMatch { contains: Some(text), .. } => Rule::Contains(text.as_str().into()),
            // envoy.config.route.v3.HeaderMatcher: without a specifier the header must be present.
            HeaderMatch { present, .. } => Rule::Present(present.unwrap_or(true)),
        };
        Self { name: config.name.to_ascii_lowercase().into(), rule, invert: config.invert }
    }

    fn matches(&self, headers: &Headers) -> bool {
        let mut values = values(headers, &self.name);
        // gRPC clients match no binary headers: one counts as absent (grpc-go RouteConfig matcher, C-core GetHeaderValue).
        let first = if self.name.ends_with("-bin") { None } else { values.next() };
        let held = match (first, values.next(), &self.rule) {
            (first, _, Rule::Present(present)) => first.is_some() == *present,
            // Nothing is said about the value of a header that is absent: not even the opposite holds.
            (None, _, _) => return false,
            (Some(value), None, rule) => rule.holds(value),
            (Some(_), Some(_), rule) => rule.holds_joined(headers, &self.name),
        };
        held != self.invert
    }
}

impl Rule {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => *value == **text,
            Self::Prefix(text) => value.starts_with(&**text),
            Self::Suffix(text) => value.ends_with(&**text),
            Self::Contains(text) => value.contains(&**text),
            Self::Present(present) => *present,
        }
    }

    /// gRFC A28 and RFC 9110: several values of a name are one, joined by commas.
    fn holds_joined(&self, headers: &Headers, name: &str) -> bool {
        let begins = |bytes: &mut dyn Iterator<Item = u8>, text: &str| text.bytes().all(|b| bytes.next() == Some(b));
        match self {
            Self::Exact(text) => joined(headers, name).eq(text.bytes()),
            Self::Prefix(text) => begins(&mut joined(headers, name), text),
            Self::Suffix(text) => {
                let mut bytes = joined_reversed(headers, name);
                text.bytes().rev().all(|b| bytes.next() == Some(b))
            }
            Self::Contains(text) => {
                let mut rest = joined(headers, name);
                // Every position but the end; an empty text is in everything.
                text.is_empty()
                    || iter::from_fn(|| {
                        let here = rest.clone();
                        rest.next().map(|_| here)
                    })
                    .any(|mut here| begins(&mut here, text))
            }
            Self::Present(present) => *present,
        }
    }
}

/// The values of a header, in the request's order.
fn values<'a>(headers: &'a Headers, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> + Clone {
    headers.iter().filter(move |(n, _)| **n == *name).map(|(_, value)| &**value)
}

/// The bytes of the values joined by commas.
fn joined<'a>(headers: &'a Headers, name: &'a str) -> impl Iterator<Item = u8> + Clone {
    values(headers, name).flat_map(|value| iter::once(b',').chain(value.bytes())).skip(1)
}

/// The same bytes, the last one first.
fn joined_reversed<'a>(headers: &'a Headers, name: &'a str) -> impl Iterator<Item = u8> {
    values(headers, name).rev().flat_map(|value| iter::once(b',').chain(value.bytes().rev())).skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;

    fn headers(pairs: &[(&str, &str)]) -> Vec<(Box<str>, Box<str>)> {
        pairs.iter().map(|&(name, value)| (name.into(), value.into())).collect()
    }

    /// Whether a condition on `x` holds for these headers.
    fn holds(condition: &str, pairs: &[(&str, &str)]) -> bool {
        let config: HeaderMatch = toml::from_str(&format!("name = 'x'\n{condition}")).unwrap();
        HeaderMatcher::new(&config).matches(&headers(pairs))
    }

    #[test]
    fn paths_match_whole_or_by_prefix() {
        let matches = |toml: &str, path: &str| {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
            Matcher::new(&toml::from_str(toml).unwrap()).matches(&RequestInfo { path, headers: &[] }, &mut rng)
        };
        assert!(matches("", "/shop.Cart/Add"));
        assert!(matches("path = '/shop.Cart/Add'", "/shop.Cart/Add"));
        assert!(!matches("path = '/shop.Cart/Add'", "/shop.Cart/AddAll"));
        assert!(!matches("path = '/shop.Cart/Add'", "/shop.cart/add"), "case counts, gRFC A28");
        assert!(matches("prefix = '/shop.Cart/'", "/shop.Cart/Add"));
        assert!(!matches("prefix = '/shop.Cart/'", "/shop.Cart"));
    }

    #[test]
    fn values_match_as_each_condition_says() {
        let value = [("y", "no"), ("x", "abcd")];
        for (condition, expected) in [
            ("exact = 'abcd'", true),
            ("exact = 'abc'", false),
            ("prefix = 'abc'", true),
            ("prefix = 'bcd'", false),
            ("suffix = 'bcd'", true),
            ("suffix = 'abc'", false),
            ("contains = 'bc'", true),
            ("contains = 'ac'", false),
            ("present = true", true),
            ("present = false", false),
        ] {
            assert_eq!(holds(condition, &value), expected, "{condition}");
            assert_eq!(holds(&format!("{condition}\ninvert = true"), &value), !expected, "{condition}, inverted");
        }
    }

    #[test]
    fn of_an_absent_header_only_absence_holds() {
        for (condition, expected) in [
            ("exact = 'a'", false),
            ("exact = 'a'\ninvert = true", false),
            ("prefix = 'a'\ninvert = true", false),
            ("present = true", false),
            ("present = false", true),
            ("present = true\ninvert = true", true),
        ] {
            assert_eq!(holds(condition, &[("y", "a")]), expected, "{condition}");
        }
    }

    #[test]
    fn several_values_are_one_joined_by_commas() {
        let values = [("x", "ab"), ("y", "no"), ("x", ""), ("x", "cd")];
        for (condition, expected) in [
            ("exact = 'ab,,cd'", true),
            ("exact = 'ab'", false),
            ("exact = 'ab,,cd,'", false),
            ("prefix = 'ab,,c'", true),
            ("prefix = 'ab,c'", false),
            ("suffix = 'b,,cd'", true),
            ("suffix = ',ab,,cd'", false),
            ("contains = 'b,,c'", true),
            ("contains = 'cd'", true),
            ("contains = 'bc'", false),
            ("present = true", true),
        ] {
            assert_eq!(holds(condition, &values), expected, "{condition}");
        }
    }

    #[test]
    fn binary_headers_count_as_absent() {
        let matcher = |toml: &str| HeaderMatcher::new(&toml::from_str(toml).unwrap());
        let headers = headers(&[("x-bin", "AAEC")]);
        assert!(!matcher("name = 'x-bin'\nexact = 'AAEC'").matches(&headers));
        assert!(!matcher("name = 'x-bin'\npresent = true").matches(&headers));
        assert!(matcher("name = 'x-bin'\npresent = false").matches(&headers));
    }
}
