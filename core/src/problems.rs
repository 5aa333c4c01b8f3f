//! What is wrong with a configuration, beyond its shape, for whoever knows where it stands in a file.

use std::fmt::Display;

/// Where (keys joined by dots, list items by number: `clusters.0.weight`), the rule that is broken, and what to do about it.
pub type Problem = (String, String, String);

/// Collects problems.
#[derive(Default)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl Problems {
    pub(crate) fn add(&mut self, path: &str, rule: impl Into<String>, hint: impl Into<String>) {
        self.0.push((path.to_owned(), rule.into(), hint.into()));
    }

    /// `value` must be from `low` to `high`; NaN is not.
    pub(crate) fn within<T: PartialOrd + Display>(&mut self, path: &str, value: T, low: T, high: T, hint: &str) {
        if !(value >= low && value <= high) {
            let name = last(path);
            self.add(path, format!("`{name}` is {value}; it must be from {low} to {high}"), hint);
        }
    }

    /// `value` must be `low` or more.
    pub(crate) fn at_least<T: Ord + Display>(&mut self, path: &str, value: T, low: T, hint: &str) {
        if value < low {
            self.add(path, format!("`{}` is {value}; it must be at least {low}", last(path)), hint);
        }
    }

    /// The problems of a part, which stands at `path`.
    pub(crate) fn part(&mut self, path: &str, part: Self) {
        self.0.extend(part.0.into_iter().map(|(at, rule, hint)| {
            let place = if at.is_empty() { path.to_owned() } else { format!("{path}.{at}") };
            (place, rule, hint)
        }));
    }
}

/// The key that a path ends with.
fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
