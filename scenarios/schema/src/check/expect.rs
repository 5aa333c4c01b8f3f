//! Rules of the expectations.

use lb_core::Nanos;

use super::Check;
use crate::{Expect, Metric};

impl Check<'_> {
    pub(super) fn expectations(&mut self) {
        for (i, expect) in self.scenario.expectations.iter().enumerate() {
            let path = format!("expect.{i}");
            if !self.in_doubt.contains(&path) {
                self.expectation(&path, expect);
            }
        }
    }

    fn expectation(&mut self, path: &str, expect: &Expect) {
        let at = |key: &str| format!("{path}.{key}");
        if expect.text.trim().is_empty() {
            self.problem(&at("text"), "`text` is empty", "write the sentence that the report prints beside ✓ or ✗");
        }
        self.refers(&at("strategy"), "strategy", &expect.strategy);
        if let Some(against) = &expect.against
            && self.refers(&at("against"), "strategy", against)
            && *against == expect.strategy
            && self.sound(&at("strategy"))
        {
            let rule = format!("strategy `{against}` is compared with itself");
            self.problem(&at("against"), rule, "name another strategy, or delete `against` to bound the metric itself");
        }
        if let Some(deployment) = &expect.deployment {
            self.refers(&at("deployment"), "deployment", deployment);
        }
        // An unknown metric was reported as one that does not fit the schema.
        let Some(metric) = Metric::named(&expect.metric).filter(|_| self.sound(&at("metric"))) else { return };
        for (key, allowed) in [
            ("deployment", metric.of_pods),
            ("pods", metric.of_pods),
            ("from", metric.windowed),
            ("until", metric.windowed),
        ] {
            if !allowed && self.given(&at(key)) {
                let window = matches!(key, "from" | "until");
                let (what, hint) = match (metric.of_pods, window) {
                    (true, _) => ("is of a pod's whole life", "delete it; `pods` chooses whose"),
                    (false, true) => ("is of the whole run", "delete it, or choose a metric such as `requests.failed`"),
                    (false, false) => {
                        ("is of the whole run", "delete it, or choose a metric of pods such as `pods.requests`")
                    }
                };
                self.problem(&at(key), format!("`{key}` is given, but `{}` {what}", metric.name), hint);
            }
        }
        if metric.windowed {
            self.window(path, expect);
        }
    }

    fn window(&mut self, path: &str, expect: &Expect) {
        let (duration, interval) = (self.scenario.duration, self.scenario.interval);
        for (key, time) in [("from", expect.from), ("until", expect.until)] {
            let Some(time) = time else { continue };
            let path = format!("{path}.{key}");
            if self.sound("duration") && duration > Nanos::ZERO && time > duration {
                let rule = format!("`{key}` is {time}, after the end of the run ({duration})");
                self.problem(&path, rule, "leave out `until` to count to the end");
            } else if self.sound("interval") && interval > Nanos::ZERO && !time.0.is_multiple_of(interval.0) {
                // The end of the run closes the last interval, even if that one is shorter.
                if key == "until" && time == duration {
                    continue;
                }
                let whole = |n: u64| Nanos(n.saturating_mul(interval.0));
                let (below, above) = (whole(time.0 / interval.0), whole(time.0 / interval.0 + 1));
                let rule = format!("`{key}` is {time}, not a whole number of intervals ({interval})");
                self.problem(&path, rule, format!("write \"{below}\" or \"{above}\", or a finer `interval`"));
            }
        }
        let until = expect.until.unwrap_or(duration);
        let known = expect.until.is_some() || self.sound("duration");
        if let Some(from) = expect.from.filter(|from| *from >= until && *from <= duration && known) {
            let rule = format!("`from` is {from}, not before `until` ({until})");
            self.problem(&format!("{path}.from"), rule, "nothing lies between the two; move one of them");
        }
    }
}
