//! A scenario in words, the same for every host: what a strategy is, what happens when.

use lb_core::Nanos;
use lb_core::channel::ResolverConfig;

use crate::{Balancer, Configuration, Configure, Discovery, Event, Lookaside, ReachedBy, Scenario, Service, Strategy};

impl Scenario {
    /// The services that are called, in the order of the loads.
    pub fn called(&self) -> Vec<&Service> {
        let mut called: Vec<&Service> = Vec::new();
        for load in &self.loads {
            let service = self.services.iter().find(|s| s.name == load.to);
            called.extend(service.filter(|s| called.iter().all(|c| c.name != s.name)));
        }
        called
    }

    /// The deployments whose pods answer: those of the called services, and of the services that some strategy's routes
    /// lead to.
    pub fn answering(&self) -> Vec<&str> {
        let mut services = self.called();
        for strategy in &self.strategies {
            let routed = strategy.routes.iter().flat_map(|route| &route.clusters).map(|cluster| &cluster.name);
            let listed = strategy.clusters.iter().flat_map(|cluster| &cluster.endpoints).map(|e| &e.service);
            // Weights may name clusters later on.
            let later = self.events.iter().filter_map(|event| event.configure.as_ref());
            let later = later.flat_map(|c| {
                c.clusters.iter().map(|cluster| &cluster.name).chain(c.endpoints.iter().map(|e| &e.service))
            });
            for name in routed.chain(listed).chain(later) {
                services.extend(self.services.iter().find(|service| service.name == *name));
            }
        }
        let mut names: Vec<&str> = Vec::new();
        for name in services.iter().flat_map(|service| &service.deployments) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// The deployments whose pods call, each once.
    pub fn calling(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for load in &self.loads {
            if !names.contains(&load.from.as_str()) {
                names.push(&load.from);
            }
        }
        names
    }

    /// Whether the deployment's pods call.
    pub fn is_calling(&self, deployment: &str) -> bool {
        self.loads.iter().any(|load| load.from == deployment)
    }

    /// The timeline in order: when, and what in a few words. "scale server 3 → 5" has the number before from the event
    /// before.
    pub fn timeline(&self) -> Vec<(Nanos, String)> {
        let mut ordered: Vec<&Event> = self.events.iter().collect();
        ordered.sort_by_key(|e| e.at);
        let mut replicas: Vec<(&str, u32)> = self.deployments.iter().map(|d| (d.name.as_str(), d.replicas)).collect();
        let mut timeline = Vec::new();
        for event in ordered {
            let only = match event.strategies.as_slice() {
                [] => String::new(),
                some => format!(" ({})", some.join(", ")),
            };
            let mut say = |label: String| timeline.push((event.at, label + &only));
            if let Some(scale) = &event.scale
                && let Some((_, now)) = replicas.iter_mut().find(|(name, _)| *name == scale.deployment)
            {
                say(format!("scale {} {now} → {}", scale.deployment, scale.replicas));
                *now = scale.replicas;
            }
            if let Some(rollout) = &event.rollout {
                let template = rollout.template.as_ref().map_or_else(String::new, |t| format!(" as {t}"));
                say(format!("roll out {}{template}", rollout.deployment));
            }
            if let Some(restart) = &event.restart {
                say(format!("restart {}", restart.deployment));
            }
            if let Some(kill) = &event.kill {
                say(format!("kill {} × {}", kill.pods, kill.deployment));
            }
            if let Some(configure) = &event.configure {
                say(configure.words());
            }
            if let Some(unhealthy) = &event.unhealthy {
                say(format!("{} × {} not serving for {}", unhealthy.pods, unhealthy.deployment, unhealthy.lasts));
            }
            if let Some(outage) = &event.dns_outage {
                say(format!("DNS out for {}", outage.lasts));
            }
            if let Some(outage) = &event.control_plane_outage {
                say(format!("control plane out for {}", outage.lasts));
            }
            if let Some(degrade) = &event.degrade {
                say(format!("degrade {} × {} for {}", degrade.pods, degrade.deployment, degrade.lasts));
            }
            if let Some(loss) = &event.zone_loss {
                say(format!("lose zone {} for {}", loss.zone, loss.lasts));
            }
        }
        timeline
    }
}

impl Event {
    /// Whether it happens under this strategy.
    pub fn is_under(&self, strategy: &Strategy) -> bool {
        self.strategies.is_empty() || self.strategies.contains(&strategy.name)
    }
}

impl Configure {
    /// "split → v1 99, v2 1"
    fn words(&self) -> String {
        let clusters = self.clusters.iter().map(|c| format!("{} {}", c.name, c.weight));
        let endpoints = self.endpoints.iter().map(|e| format!("{} {}", e.service, e.weight));
        let name = self.route.as_ref().or(self.cluster.as_ref()).map_or("", String::as_str);
        format!("{name} → {}", clusters.chain(endpoints).collect::<Vec<_>>().join(", "))
    }
}

impl Strategy {
    /// Where the choice is made, by which policy, on addresses learnt how: "client round_robin · dns · max age 10s".
    ///
    /// `scenario` has the control plane where the strategy has none of its own.
    pub fn summary(&self, scenario: &Scenario) -> String {
        let client = self.client.policy.name();
        let mut words = match self.balancer {
            Balancer::KubeProxy => format!("ClusterIP · client {client}"),
            Balancer::Client => format!("client {client} · {}", resolver(&self.client.resolver)),
            Balancer::Ingress => self.proxied(match self.proxy.as_ref().map(|proxy| proxy.reached_by) {
                Some(ReachedBy::ClusterIp) => "ClusterIP · ingress proxy",
                _ => "ingress proxy",
            }),
            Balancer::Sidecar => self.proxied("sidecar"),
            Balancer::NodeProxy => self.proxied("proxy per node"),
            Balancer::Mesh => self.proxied("mesh"),
        };
        if self.uses_control_plane() {
            let plane = self.control_plane.as_ref().unwrap_or(&scenario.control_plane);
            words.push_str(&match plane.discovery {
                Discovery::Watch => " · control plane watches".to_owned(),
                Discovery::Poll(every) => format!(" · control plane looks every {every}"),
            });
            if plane.health_check {
                words.push_str(", asks for health");
            }
        }
        if self.client.health_check && self.balancer == Balancer::Client {
            words.push_str(" · health check");
        }
        if let Some(age) = self.max_age {
            words.push_str(&format!(" · max age {age}"));
        }
        if let Some(jitter) = self.max_age_jitter {
            words.push_str(&format!(" ± {} %", jitter * 100.0));
        }
        if let Some(keepalive) = &self.client.keepalive {
            words.push_str(&format!(" · keepalive {}", keepalive.time));
        }
        if let Some(pause) = self.pre_stop {
            words.push_str(&format!(" · preStop {pause}"));
        }
        if !self.routes.is_empty() {
            let routes =
                if self.routes.len() == 1 { "1 route".to_owned() } else { format!("{} routes", self.routes.len()) };
            let from = match self.configuration {
                Configuration::Static => "a file",
                Configuration::Xds => "xDS",
            };
            words.push_str(&format!(" · {routes} by {from}"));
        }
        if self.delivery.is_some() {
            words.push_str(" · progressive delivery");
        }
        words
    }

    /// Whether somebody subscribes to the control plane.
    pub fn uses_control_plane(&self) -> bool {
        let configures = !self.routes.is_empty() && self.configuration == Configuration::Xds;
        configures || self.uses(|resolver| matches!(resolver, ResolverConfig::Xds(_)))
    }

    /// The lookaside balancer that its clients ask; none if they do not.
    pub fn lookaside<'s>(&'s self, scenario: &'s Scenario) -> Option<&'s Lookaside> {
        let given = self.lookaside.as_ref().or(scenario.lookaside.as_ref());
        given.filter(|_| self.uses(|resolver| matches!(resolver, ResolverConfig::Grpclb(_))))
    }

    /// Whether the application learns the addresses it calls; a ClusterIP or its own proxy it knows beforehand.
    pub(crate) fn client_resolves(&self) -> bool {
        let by_cluster_ip = self.proxy.as_ref().is_some_and(|proxy| proxy.reached_by == ReachedBy::ClusterIp);
        self.balancer == Balancer::Client || self.balancer == Balancer::Ingress && !by_cluster_ip
    }

    /// Whether the application's or the proxy's resolver is such a one.
    pub(crate) fn uses(&self, such: fn(&ResolverConfig) -> bool) -> bool {
        // Where there is a proxy, the application knows it beforehand, except for that of an ingress.
        let client = matches!(self.balancer, Balancer::Client | Balancer::Ingress) && such(&self.client.resolver);
        let proxy = self.proxy.as_ref().is_some_and(|proxy| such(&proxy.resolver));
        client || self.balancer.has_proxy() && proxy
    }

    fn proxied(&self, place: &str) -> String {
        let proxy = self.proxy.clone().unwrap_or_default();
        let age = proxy.max_age.map_or_else(String::new, |age| format!(" · its max age {age}"));
        let keepalive = proxy.keepalive.map_or_else(String::new, |k| format!(" · its keepalive {}", k.time));
        format!("{place} {} · {}{age}{keepalive}", proxy.policy.name(), resolver(&proxy.resolver))
    }
}

fn resolver(config: &ResolverConfig) -> String {
    match config {
        ResolverConfig::Dns(_) => "dns".to_owned(),
        ResolverConfig::StrictDns(strict) => format!("strict_dns {}", strict.dns_refresh_rate),
        ResolverConfig::Xds(_) => "xds".to_owned(),
        ResolverConfig::Grpclb(_) => "grpclb".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(more: &str) -> Scenario {
        let text = "title = 'A question'\nduration = '60s'\nload = { from = 'client', to = 'server', closed = { concurrency = 1 } }\n\
             [[deployment]]\nname = 'server'\nreplicas = 3\n[[deployment]]\nname = 'client'\n[[deployment]]\nname = 'proxy'\n\
             [[service]]\nname = 'server'\ndeployments = ['server']\n";
        crate::parse("words.toml", &format!("{text}{more}")).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn the_timeline_is_in_order_and_says_from_what_to_what() {
        let s = scenario(
            "[[strategy]]\nname = 's'\nbalancer = 'client'\n\
             [[event]]\nat = '30s'\nscale = { deployment = 'server', replicas = 4 }\n\
             [[event]]\nat = '20s'\nscale = { deployment = 'server', replicas = 5 }\n\
             [[event]]\nat = '40s'\nkill = { deployment = 'server', pods = 2 }\n",
        );
        let labels: Vec<String> = s.timeline().into_iter().map(|(at, label)| format!("{at} {label}")).collect();
        assert_eq!(labels, ["20s scale server 3 → 5", "30s scale server 5 → 4", "40s kill 2 × server"]);
        assert_eq!(s.answering(), ["server"]);
    }

    #[test]
    fn a_strategy_is_where_which_and_how() {
        let s = scenario(
            "[[strategy]]\nname = 'a'\nbalancer = 'kube_proxy'\n\
             [[strategy]]\nname = 'b'\nbalancer = 'client'\nclient = { policy = 'round_robin' }\nmax_age = '10s'\n\
             [[strategy]]\nname = 'c'\nbalancer = 'ingress'\nproxy = { max_age = '1m' }\n\
             [[strategy]]\nname = 'd'\nbalancer = 'mesh'\nproxy = { resolver = 'xds' }\nmax_age = '10s'\n",
        );
        let words: Vec<String> = s.strategies.iter().map(|strategy| strategy.summary(&s)).collect();
        assert_eq!(words[0], "ClusterIP · client pick_first");
        assert_eq!(words[1], "client round_robin · dns · max age 10s");
        assert_eq!(words[2], "ingress proxy round_robin · strict_dns 5s · its max age 60s");
        assert_eq!(words[3], "mesh round_robin · xds · control plane watches · max age 10s");
    }
}
