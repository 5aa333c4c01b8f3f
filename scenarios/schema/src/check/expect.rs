//! Rules of the expectations.

use lb_core::Nanos;

use super::Check;
use crate::errors::did_you_mean;
use crate::{Expect, Load, Metric};

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
        self.load_of(path, expect);
        // An unknown metric was reported as one that does not fit the schema.
        let Some(metric) = Metric::named(&expect.metric).filter(|_| self.sound(&at("metric"))) else { return };
        for (key, allowed) in [
            ("load", metric.by_load),
            ("deployment", metric.of_pods || metric.of_deployments),
            ("pods", metric.of_pods),
            ("from", metric.windowed),
            ("until", metric.windowed),
        ] {
            if !allowed && self.given(&at(key)) {
                let window = matches!(key, "from" | "until");
                let (what, hint) = match (metric.of_pods, window) {
                    _ if key == "load" => (
                        "is not counted by load",
                        "delete it, or choose a metric of requests such as `requests.failed`",
                    ),
                    _ if metric.of_deployments && key == "pods" => {
                        ("is of a deployment's requests", "delete it; `deployment` chooses whose")
                    }
                    _ if metric.of_deployments => {
                        ("is of the whole run", "delete it, or choose a count such as `deployment.failed`")
                    }
                    (true, _) if metric.of_callers => ("is counted over the whole run", "delete it"),
                    (true, _) => ("is of a pod's whole life", "delete it; `pods` chooses whose"),
                    (false, true) => ("is of the whole run", "delete it, or choose a metric such as `requests.failed`"),
                    (false, false) => {
                        ("is of the whole run", "delete it, or choose a metric of pods such as `pods.requests`")
                    }
                };
                self.problem(&at(key), format!("`{key}` is given, but `{}` {what}", metric.name), hint);
            }
        }
        for key in ["from", "until"] {
            if expect.load.is_some() && metric.by_load && metric.windowed && self.given(&at(key)) {
                let rule = format!("`{key}` is given, but what is counted of one load is of the whole run");
                self.problem(&at(key), rule, "delete it, or delete `load` to count the requests of all loads");
            }
        }
        if metric.of_callers
            && let Some(deployment) = &expect.deployment
            && self.sound(&at("deployment"))
            && self.callers_are_certain()
            && !self.scenario.is_calling(deployment)
        {
            let rule = format!("`{}` is about pods that call, but no load is from `{deployment}`", metric.name);
            self.problem(&at("deployment"), rule, "name the `from` of a load, or delete it to mean all that call");
        }
        if metric.windowed {
            self.window(path, expect);
        }
    }

    /// The load must be one of them; by default a load has the name of the service it calls.
    fn load_of(&mut self, path: &str, expect: &Expect) {
        let path = format!("{path}.load");
        let Some(name) = expect.load.as_deref().filter(|_| self.sound(&path)) else { return };
        let doubtful = |i: usize| !self.sound(&format!("load.{i}.name")) || !self.sound(&format!("load.{i}.to"));
        if self.in_doubt.contains("load") || (0..self.scenario.loads.len()).any(doubtful) {
            return;
        }
        let names: Vec<&str> = self.scenario.loads.iter().map(Load::name).collect();
        if !names.contains(&name) {
            let hint = did_you_mean(name, names, "write the `name` of a [[load]], or the service it calls");
            self.problem(&path, format!("there is no load `{name}`"), hint);
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
