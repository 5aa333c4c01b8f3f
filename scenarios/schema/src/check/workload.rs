//! Rules of the load and of what happens during the run.

use std::collections::BTreeMap;

use lb_core::Nanos;

use super::Check;
use super::cluster::MOST_PODS;
use crate::{Event, Load};

/// One request per nanosecond, the clock's resolution: beyond it time would not pass between two of them.
const HIGHEST_RATE_PER_S: f64 = 1e9;
/// A closed loop whose deadlines pass starts the next batch at once, so 100,000 of them a second at most. Our choice.
const SHORTEST_DEADLINE: Nanos = Nanos::from_micros(10);

/// A table of 8 MB. Our choice.
const MOST_KEYS: u32 = 1_000_000;

impl Check<'_> {
    pub(super) fn loads(&mut self) {
        let loads = &self.scenario.loads;
        if loads.is_empty() && self.sound("load") {
            let hint = "add [load] with `from`, `to` and `closed` or `open`";
            self.problem("load", "there is no load; nobody calls anybody", hint);
        }
        let names: Vec<&str> = loads.iter().map(Load::name).collect();
        let mut first = BTreeMap::new();
        for (i, load) in loads.iter().enumerate() {
            let path = format!("load.{i}");
            if self.in_doubt.contains(&path) || self.in_doubt.contains("load") {
                continue;
            }
            let key = if load.name.is_some() { "name" } else { "to" };
            if let Some(before) = first.insert(names[i], i).filter(|_| self.sound(&format!("{path}.{key}"))) {
                let line = self.line(&format!("load.{before}"));
                let rule = format!("two loads are called `{}`; the other one is on line {line}", names[i]);
                self.problem(&format!("{path}.{key}"), rule, "give one of them a `name` of its own");
            }
            self.load(i, &path, load);
        }
    }

    fn load(&mut self, index: usize, path: &str, load: &Load) {
        let at = |key: &str| format!("{path}.{key}");
        if load.name.as_ref().is_some_and(|name| name.trim().is_empty()) {
            self.problem(&at("name"), "`name` is empty", "write a name by which expectations can mean this load");
        }
        if self.refers(&at("from"), "deployment", &load.from) {
            self.needs_pods(&load.from, "the deployment that calls");
        }
        self.refers(&at("to"), "service", &load.to);
        if let Some(service) = self.called_by(index) {
            if service.deployments.contains(&load.from) && self.sound(&at("from")) {
                let rule = format!("deployment `{}` would call itself: service `{}` selects it", load.from, load.to);
                self.problem(&at("from"), rule, "let the pods that call be a deployment of their own");
            }
            // A canary may start empty as long as another deployment of the service has pods.
            let pods = |name: &String| self.deployment(name).map_or(1, |i| self.scenario.deployments[i].replicas);
            if service.deployments.iter().map(pods).all(|replicas| replicas == 0) {
                for name in &service.deployments {
                    self.needs_pods(name, "a deployment that takes traffic");
                }
            }
        }
        if !load.path.starts_with('/') {
            let rule = format!("`path` is `{}`; it must start with `/`", load.path);
            self.problem(&at("path"), rule, "a gRPC path is \"/package.Service/Method\"");
        }
        for name in load.headers.keys() {
            self.header(&at("headers"), name);
        }
        if let Some(keys) = &load.keys {
            self.header(&at("keys.header"), &keys.header);
            if load.headers.contains_key(&keys.header) {
                let rule = format!("`{}` is one of `headers` already, with one value for all requests", keys.header);
                self.problem(&at("keys.header"), rule, "delete it there, or name another");
            }
            let hint = "fewer keys show the same effects";
            self.within(&at("keys.population"), keys.population, 1, MOST_KEYS, hint);
            let hint = "0 makes all keys as frequent, 1 is Zipf's law";
            self.within(&at("keys.zipf"), keys.zipf, 0.0, 10.0, hint);
        }

        let (closed, open) = (at("closed"), at("open"));
        if self.certain(&closed) && self.certain(&open) {
            match (&load.closed, &load.open) {
                (None, None) => {
                    let hint = "add `closed = { concurrency = 10 }` or `open = { rate = \"500/s\" }`";
                    self.problem_here(path, "[load] has neither `closed` nor `open`", hint);
                }
                (Some(_), Some(_)) => {
                    // At the second of the two, wherever that is.
                    let second = [&closed, &open].into_iter().max_by_key(|path| self.tree.at(path).0.span.start);
                    let rule = "[load] has both `closed` and `open`; requests come in one way";
                    self.problem(second.map_or(path, String::as_str), rule, "keep the one that is meant");
                }
                _ => {}
            }
        }
        if let Some(closed) = &load.closed {
            let hint = "a batch has one request at least";
            self.within(&at("closed.concurrency"), closed.concurrency, 1, 1_000_000, hint);
        }
        if let Some(open) = load.open.as_ref().filter(|open| open.rate.per_s() > HIGHEST_RATE_PER_S) {
            let rule = format!("`rate` is {}; it must be at most 1000000000/s", open.rate);
            self.problem(&at("open.rate"), rule, "time is counted in nanoseconds");
        }
        if !(load.slo > 0.0 && load.slo < 1.0) {
            let rule = format!("`slo` is {}; it must be above 0 and below 1", load.slo);
            self.problem(&at("slo"), rule, "write 0.999 for one failure in a thousand");
        }
        if let Some(deadline) = load.deadline {
            let hint = "leave it out for requests that wait as long as it takes";
            self.at_least(&at("deadline"), deadline, SHORTEST_DEADLINE, hint);
        }
    }

    /// A request header's name.
    fn header(&mut self, path: &str, name: &str) {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(inner) {
            let rule = format!("`{name}` is not a header's name as gRPC has them");
            self.problem(path, rule, "write it with a-z, 0-9, `-`, `_` and `.` only");
        }
    }

    /// The deployment must have a pod at the start.
    pub(super) fn needs_pods(&mut self, name: &str, who: &str) {
        if let Some(i) = self.deployment(name).filter(|i| self.scenario.deployments[*i].replicas == 0) {
            let rule = format!("`replicas` is 0; {who} needs at least 1");
            let hint = "start with 1 pod and let an [[event]] with `scale` change the number later";
            self.problem(&format!("deployment.{i}.replicas"), rule, hint);
        }
    }

    /// Reports at a table whose own keys are not in doubt, though some below it may be.
    pub(super) fn problem_here(&mut self, path: &str, rule: impl Into<String>, hint: &str) {
        let (node, _) = self.tree.at(path);
        self.report.add(node.span.start, rule, hint.to_owned());
    }

    pub(super) fn events(&mut self) {
        for (i, event) in self.scenario.events.iter().enumerate() {
            let path = format!("event.{i}");
            if !self.in_doubt.contains(&path) {
                self.event(&path, event);
            }
        }
    }

    fn event(&mut self, path: &str, event: &Event) {
        let duration = self.scenario.duration;
        if event.at == Nanos::ZERO {
            let rule = "`at` is 0s; events happen to a running cluster, so it must be above zero";
            let hint = "what is there at the start is said by `replicas`; move the event, or delete it";
            self.problem(&format!("{path}.at"), rule, hint);
        }
        if event.at > duration && self.sound("duration") && duration != Nanos::ZERO {
            let rule = format!("`at` is {}, after the end of the run ({duration})", event.at);
            self.problem(&format!("{path}.at"), rule, "move the event, or write a longer `duration`");
        }
        for (i, strategy) in event.strategies.iter().enumerate() {
            self.refers(&format!("{path}.strategies.{i}"), "strategy", strategy);
        }
        // Every action an event can have, whether it is given, and the deployment it is done to.
        let actions: [(&str, bool, Option<&String>); 10] = [
            ("scale", event.scale.is_some(), event.scale.as_ref().map(|scale| &scale.deployment)),
            ("rollout", event.rollout.is_some(), event.rollout.as_ref().map(|rollout| &rollout.deployment)),
            ("restart", event.restart.is_some(), event.restart.as_ref().map(|restart| &restart.deployment)),
            ("kill", event.kill.is_some(), event.kill.as_ref().map(|kill| &kill.deployment)),
            ("degrade", event.degrade.is_some(), event.degrade.as_ref().map(|degrade| &degrade.deployment)),
            ("zone_loss", event.zone_loss.is_some(), None),
            ("configure", event.configure.is_some(), None),
            ("unhealthy", event.unhealthy.is_some(), event.unhealthy.as_ref().map(|unhealthy| &unhealthy.deployment)),
            ("dns_outage", event.dns_outage.is_some(), None),
            ("control_plane_outage", event.control_plane_outage.is_some(), None),
        ];
        for (name, _, deployment) in &actions {
            if let Some(deployment) = deployment {
                self.refers(&format!("{path}.{name}.deployment"), "deployment", deployment);
            }
        }
        if actions.iter().all(|(name, ..)| self.certain(&format!("{path}.{name}"))) {
            let mut given: Vec<String> =
                actions.iter().filter(|(_, given, _)| *given).map(|(name, ..)| format!("{path}.{name}")).collect();
            given.sort_by_key(|path| self.tree.at(path).0.span.start);
            let all = || actions.iter().map(|(name, ..)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            match given.as_slice() {
                [_] => {}
                [] => {
                    let hint =
                        format!("add one of {}, such as `scale = {{ deployment = \"server\", replicas = 5 }}`", all());
                    self.problem_here(path, "[[event]] says when, but not what happens", &hint);
                }
                [_, second, ..] => {
                    let rule = format!("[[event]] has more than one of {}", all());
                    let hint = "write an [[event]] for each; those with the same `at` happen in the order of the file";
                    self.problem(second, rule, hint);
                }
            }
        }
        if let Some(configure) = &event.configure {
            self.configure(&format!("{path}.configure"), event, configure);
        }
        if let Some(scale) = &event.scale {
            self.within(
                &format!("{path}.scale.replicas"),
                scale.replicas,
                0,
                MOST_PODS,
                "fewer pods show the same effects",
            );
        }
        self.faults(path, event);
        if let Some(kill) = &event.kill {
            self.within(&format!("{path}.kill.pods"), kill.pods, 1, MOST_PODS, "delete the event if no pod shall die");
        }
        if let Some(template) = event.rollout.as_ref().and_then(|rollout| rollout.template.as_ref()) {
            let at = format!("{path}.rollout.template");
            self.refers(&at, "deployment", template);
            if event.rollout.as_ref().is_some_and(|rollout| rollout.deployment == *template) {
                let rule = format!("deployment `{template}` would be rolled out as itself");
                self.problem(&at, rule, "name the deployment that describes the new pods, or delete `template`");
            }
        }
        if let Some(loss) = event.zone_loss.as_ref().filter(|_| self.sound("cluster")) {
            let zones = self.scenario.cluster.zones;
            let at = format!("{path}.zone_loss.zone");
            if zones < 2 {
                let rule = "the cluster has one zone; cut off from no other, it would lose nothing";
                self.problem(&at, rule, "give it several: `cluster = { nodes = 3, zones = 3 }`");
            } else {
                self.within(&at, loss.zone, 0, zones - 1, "zones are counted from 0");
            }
            let hint = "a loss takes some time, such as \"120s\"";
            self.positive(&format!("{path}.zone_loss.for"), loss.lasts, hint);
        }
        if let Some(degrade) = &event.degrade {
            let at = |key: &str| format!("{path}.degrade.{key}");
            self.within(&at("pods"), degrade.pods, 1, MOST_PODS, "delete the event if no pod shall suffer");
            self.speed_part(&at("speed"), degrade.speed, "0.1 makes every request take ten times as long");
            if let Some(rate) = degrade.error_rate {
                self.within(&at("error_rate"), rate, 0.0, 1.0, "it is a part of the requests: 0.5 is every second one");
            }
            self.positive(&at("for"), degrade.lasts, "a bad period takes some time, such as \"30s\"");
            if degrade.speed == 1.0 && degrade.error_rate.is_none() {
                let rule = "`degrade` changes nothing: it has neither `speed` nor `error_rate`";
                self.problem(&format!("{path}.degrade"), rule, "add `speed = 0.1`, or `error_rate = 0.5`, or both");
            }
        }
    }
}
