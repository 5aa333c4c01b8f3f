//! Rule of the record's size: every pod that ever existed has a number for every bucket of the timeline.

use lb_core::Nanos;

use super::cluster::{MOST_NODES, MOST_PODS};
use super::{Check, LONGEST_RUN, MOST_INTERVALS};
use crate::{Balancer, Proxy, Strategy};

/// Pods × buckets of one strategy: 40 MB at 4 bytes each. Our choice.
const MOST_NUMBERS: u64 = 10_000_000;

/// How many pods of a deployment there are in the course of a run. Pods that went stay in the record.
#[derive(Clone, Copy)]
struct Pods {
    /// There now.
    now: u64,
    /// Created so far.
    ever: u64,
    /// Created so far if it is the proxy of every node.
    ever_on_nodes: u64,
    /// Started once more so far if it is a sidecar; the first of each comes with a client's pod.
    again_in_clients: u64,
    /// The same if it is a mesh's; the first of each comes with a client's or a server's pod.
    again_in_mesh: u64,
}

impl Check<'_> {
    pub(super) fn size(&mut self) {
        let (duration, interval) = (self.scenario.duration, self.scenario.interval);
        let timed = self.sound("duration") && self.sound("interval");
        // What is beyond another limit was reported as that.
        if !timed || interval == Nanos::ZERO || interval > duration || duration > LONGEST_RUN {
            return;
        }
        let buckets = duration.0.div_ceil(interval.0);
        let Some((pods, strategy)) = self.most_pods().filter(|_| buckets <= MOST_INTERVALS) else { return };
        let numbers = pods.saturating_mul(buckets);
        if numbers > MOST_NUMBERS {
            let s = if buckets == 1 { "" } else { "s" };
            let rule = format!(
                "{pods} pods × {buckets} interval{s} are {numbers} numbers under strategy `{}`; a record holds at most \
                 {MOST_NUMBERS}",
                strategy.name
            );
            let hint = match MOST_NUMBERS / pods {
                0 => "fewer pods show the same effects; those that events replace count as well".to_owned(),
                most => {
                    format!("write an `interval` of at least {}", rounded_up(duration.0.div_ceil(most)).min(duration))
                }
            };
            // By default the interval is 1 s: then it is the duration that stands in the file.
            self.problem(if self.given("interval") { "interval" } else { "duration" }, rule, hint);
        }
    }

    /// The strategy under which the most pods ever exist, and how many that are; `None` if it cannot be told.
    fn most_pods(&self) -> Option<(u64, &Strategy)> {
        let pods = self.pods()?;
        let (calling, called) = (self.calling()?, self.called()?);
        let clients: u64 = calling.iter().map(|&i| pods[i].ever).sum();
        let without_proxy = clients + called.iter().map(|&i| pods[i].ever).sum::<u64>();

        let mut most: Option<(u64, &Strategy)> = None;
        for (i, strategy) in self.scenario.strategies.iter().enumerate() {
            let path = format!("strategy.{i}");
            if !self.sound(&format!("{path}.balancer")) || !self.sound(&format!("{path}.proxy")) {
                continue;
            }
            let default = Proxy::default();
            let proxy = self.deployment(&strategy.proxy.as_ref().unwrap_or(&default).deployment);
            let proxies = match (strategy.balancer, proxy.map(|i| pods[i])) {
                (Balancer::KubeProxy | Balancer::Client, _) => 0,
                (Balancer::Ingress, Some(proxy)) => proxy.ever,
                (Balancer::Sidecar, Some(proxy)) => clients + proxy.again_in_clients,
                (Balancer::NodeProxy, Some(proxy)) => proxy.ever_on_nodes,
                (Balancer::Mesh, Some(proxy)) => without_proxy + proxy.again_in_mesh,
                (_, None) => continue,
            };
            let mut support = self.supporting(i, strategy);
            // One that has other work too is counted with that.
            let is_proxy = |i: &usize| strategy.balancer.has_proxy() && proxy == Some(*i);
            support.retain(|i| !calling.contains(i) && !called.contains(i) && !is_proxy(i));
            let total = without_proxy + proxies + support.iter().map(|&i| pods[i].ever).sum::<u64>();
            if most.is_none_or(|(pods, _)| total > pods) {
                most = Some((total, strategy));
            }
        }
        most
    }

    /// The balancers and limit services that are asked under the strategy of this index, each once. A route in doubt asks
    /// nobody.
    fn supporting(&self, index: usize, strategy: &Strategy) -> Vec<usize> {
        let sound = |i: &usize| self.sound(&format!("strategy.{index}.route.{i}"));
        let routes = (0..strategy.routes.len()).filter(sound).map(|i| &strategy.routes[i]);
        let limits = routes.filter_map(|route| Some(&route.rate_limit.as_ref()?.global.as_ref()?.service));
        let balancer = strategy.lookaside(self.scenario).map(|lookaside| &lookaside.deployment);
        let mut supporting: Vec<usize> = limits.chain(balancer).filter_map(|name| self.deployment(name)).collect();
        supporting.sort_unstable();
        supporting.dedup();
        supporting
    }

    /// The deployments that answer.
    fn called(&self) -> Option<Vec<usize>> {
        self.answering()?.into_iter().map(|name| self.deployment(name)).collect()
    }

    /// The deployments that call, each once.
    fn calling(&self) -> Option<Vec<usize>> {
        if !self.callers_are_certain() {
            return None;
        }
        let mut calling: Vec<usize> =
            self.scenario.loads.iter().map(|load| self.deployment(&load.from)).collect::<Option<_>>()?;
        calling.sort_unstable();
        calling.dedup();
        Some(calling)
    }

    /// The pods of every deployment after all events, or `None` if some numbers are in doubt or beyond their limits.
    fn pods(&self) -> Option<Vec<Pods>> {
        let nodes = self.scenario.cluster.nodes;
        if !self.sound("cluster.nodes") || nodes > MOST_NODES || !self.sound("event") {
            return None;
        }
        let nodes = u64::from(nodes);
        self.declared("deployment")?;
        let mut pods = Vec::new();
        for (i, deployment) in self.scenario.deployments.iter().enumerate() {
            if !self.sound(&format!("deployment.{i}.replicas")) || deployment.replicas > MOST_PODS {
                return None;
            }
            let now = u64::from(deployment.replicas);
            pods.push(Pods { now, ever: now, ever_on_nodes: nodes, again_in_clients: 0, again_in_mesh: 0 });
        }
        let (calling, called) = (self.calling()?, self.called()?);
        // An autoscaler may go to its most and back as often as its stabilisation lets it.
        let mut most = vec![0; pods.len()];
        if !self.sound("hpa") {
            return None;
        }
        for hpa in &self.scenario.autoscalers {
            let (i, at_most) = (self.deployment(&hpa.deployment)?, u64::from(hpa.max_replicas));
            let turn = hpa.scale_down_stabilization.max(hpa.sync_period).0.max(1);
            most[i] = at_most;
            pods[i].ever += at_most.saturating_mul(1 + self.scenario.duration.0 / turn);
            pods[i].now = pods[i].now.max(at_most);
        }

        let mut events: Vec<_> = self.scenario.events.iter().collect();
        // Those at the same time happen in the order of the file.
        events.sort_by_key(|event| event.at);
        for event in events {
            let clients: u64 = calling.iter().map(|&i| pods[i].now).sum();
            let servers: u64 = called.iter().map(|&i| pods[i].now).sum();
            if let Some(scale) = &event.scale {
                if scale.replicas > MOST_PODS {
                    return None;
                }
                let replicas = u64::from(scale.replicas);
                let i = self.deployment(&scale.deployment)?;
                let scaled = &mut pods[i];
                scaled.ever += replicas.saturating_sub(scaled.now) + most[i];
                scaled.now = replicas.max(most[i]);
            }
            let restart = event.restart.as_ref().map(|restart| (&restart.deployment, u64::MAX));
            let kill = event.kill.as_ref().map(|kill| (&kill.deployment, u64::from(kill.pods)));
            if let Some(rollout) = &event.rollout {
                let rolled = &mut pods[self.deployment(&rollout.deployment)?];
                rolled.ever += rolled.now;
            }
            if event.zone_loss.is_some() {
                // At most all of them are replaced elsewhere.
                pods.iter_mut().for_each(|pods| pods.ever += pods.now);
            }
            for (deployment, at_most) in [restart, kill].into_iter().flatten() {
                let replaced = &mut pods[self.deployment(deployment)?];
                replaced.ever += replaced.now.min(at_most);
                replaced.ever_on_nodes += nodes.min(at_most);
                replaced.again_in_clients += clients.min(at_most);
                replaced.again_in_mesh += (clients + servers).min(at_most);
            }
        }
        Some(pods)
    }
}

/// To two digits, which are enough for a hint.
fn rounded_up(ns: u64) -> Nanos {
    let step = 10u64.pow(ns.max(1).ilog10().saturating_sub(1));
    Nanos(ns.div_ceil(step).saturating_mul(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = r#"
        title = "How many numbers?"
        duration = "1000s"
        interval = "10ms"
        cluster = { nodes = 7 }
        load = { from = "client", to = "server", closed = { concurrency = 1 } }
        deployment = [
            { name = "client", replicas = 20 }, { name = "server", replicas = 90 }, { name = "proxy", replicas = 5 },
            { name = "idle", replicas = 1_000_000 },
        ]
        service = [{ name = "server", deployments = ["server"] }]
    "#;

    /// What is said of this balancer's pods, times 100,000 intervals.
    fn numbers(balancer: &str, events: &str) -> Option<String> {
        let text = format!("{START}strategy = [{{ name = 'x', balancer = '{balancer}' }}]\nevent = [{events}]\n");
        let errors = crate::parse("x.toml", &text).err()?;
        let [problem] = errors.problems() else { panic!("{errors}") };
        Some(problem.rule.split(" × 100000 intervals").next().expect("a first part").to_owned())
    }

    #[test]
    fn a_strategy_counts_the_pods_it_uses() {
        let one = "{ at = '1s', kill = { deployment = 'server', pods = 1 } }";
        for (balancer, pods) in [
            ("kube_proxy", "111 pods"), // 20 + 90 + 1
            ("client", "111 pods"),     // 20 + 90 + 1
            ("ingress", "116 pods"),    // and 5
            ("sidecar", "131 pods"),    // and 20, one a client
            ("node_proxy", "118 pods"), // and 7, one a node
            ("mesh", "222 pods"),       // and 111, one a pod
        ] {
            assert_eq!(numbers(balancer, one).as_deref(), Some(pods), "{balancer}");
        }
    }

    #[test]
    fn pods_that_went_stay_in_the_record() {
        let events = "{ at = '9s', scale = { deployment = 'server', replicas = 80 } },
            { at = '1s', scale = { deployment = 'server', replicas = 10 } },
            { at = '2s', scale = { deployment = 'client', replicas = 30 } },
            { at = '3s', restart = { deployment = 'proxy' } },
            { at = '4s', kill = { deployment = 'proxy', pods = 6 } },
            { at = '5s', kill = { deployment = 'client', pods = 99 } }";
        for (balancer, pods) in [
            ("client", "220 pods"),     // server 90 + 70, client 20 + 10 + 30
            ("ingress", "235 pods"),    // proxy 5 + 5 + 5: no more can be killed than there are
            ("sidecar", "316 pods"),    // proxy 60 with the clients, + 30 + 6
            ("node_proxy", "240 pods"), // proxy 7 + 7 + 6
            ("mesh", "486 pods"),       // proxy 220 with the others, + 30 + 10 + 6
        ] {
            assert_eq!(numbers(balancer, events).as_deref(), Some(pods), "{balancer}");
        }
    }

    #[test]
    fn balancers_count_where_they_are_asked() {
        let balancer = "deployment = [{ name = \"balancer\", replicas = 3 }, ";
        let start = START.replace("deployment = [", balancer) + "lookaside = { deployment = 'balancer' }\n";
        let strategies = "strategy = [{ name = 'x', balancer = 'client', client = { resolver = 'grpclb' } }]\n";
        let errors = crate::parse("x.toml", &format!("{start}{strategies}")).expect_err("too many");
        assert!(errors.to_string().contains("113 pods"), "20 + 90 + 3: {errors}");
    }

    #[test]
    fn limit_services_count_once_where_a_route_asks_them() {
        let limiter = "deployment = [{ name = \"limiter\", replicas = 4 }, ";
        let start = START.replace("deployment = [", limiter);
        let route = |name: &str, limit: &str| {
            format!("{{ name = '{name}', clusters = [{{ name = 'server' }}], rate_limit = {{ {limit} }} }}")
        };
        let global = "global = { service = 'limiter', requests_per_unit = 1, unit = 'second' }";
        let local = "local = { max_tokens = 1, fill_interval = '1s' }";
        for (balancer, first, pods) in [
            ("client", local, "110 pods"),   // 20 + 90
            ("client", global, "114 pods"),  // and 4
            ("ingress", global, "119 pods"), // and 5
        ] {
            let routes = [route("a", first), route("b", first)].join(", ");
            let strategy = format!("strategy = [{{ name = 'x', balancer = '{balancer}', route = [{routes}] }}]\n");
            let errors = crate::parse("x.toml", &format!("{start}{strategy}")).expect_err("too many");
            assert!(errors.to_string().contains(pods), "{balancer}, {first}: {errors}");
        }
    }

    #[test]
    fn ten_million_are_allowed() {
        let down = "{ at = '1s', scale = { deployment = 'server', replicas = 0 } }";
        // (20 + 90) · 100,000 is more; with an interval of 11 ms there are 90,910 · 110 = 10,000,100, with 11.1 ms fewer.
        let text = format!("{START}strategy = [{{ name = 'x', balancer = 'client' }}]\nevent = [{down}]\n");
        let with = |interval: &str| crate::parse("x.toml", &text.replace("\"10ms\"", interval));
        assert!(with("\"11ms\"").is_err());
        assert!(with("\"11.1ms\"").is_ok());
        assert_eq!(rounded_up(11_000_001), Nanos::from_millis(12));
        assert_eq!((rounded_up(0), rounded_up(7), rounded_up(110)), (Nanos(0), Nanos(7), Nanos(110)));
    }

    #[test]
    fn what_is_beyond_another_limit_is_said_once() {
        assert!(
            numbers("client", "{ at = '1s', scale = { deployment = 'server', replicas = 1_000_001 } }")
                .is_some_and(|rule| rule.starts_with("`replicas` is 1000001"))
        );
    }
}
