//! `sim export`: a strategy as the configuration that does it outside, in the form of gRPC, Envoy or Istio.
//!
//! What is printed is all of the strategy that the form has a field for. The rest is a note on standard error: a part that is
//! set elsewhere, and where, or one that has no equivalent. If what has none is the essence of the strategy, such as its
//! policy, nothing is printed.
//!
//! Each form is one file, which begins with the table of its equivalents: `grpc`, `envoy`, `istio`. For gRPC's policies that
//! table is the core's ([`lb_core::service_config`]).

mod envoy;
mod grpc;
mod istio;
#[cfg(test)]
mod tests;
mod yaml;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use lb_core::channel::KeepaliveConfig;
use lb_core::route::RetryConfig;
use lb_core::service_config::duration;
use lb_core::{Code, Nanos, PolicyConfig};
use scenarios::{Balancer, Proxy, Scenario, Service, ServiceWeight, Strategy};
use serde_json::{Map, Value};

use crate::cli::{BadInput, HOLDS, no_such_strategy, say};

/// What `sim export` takes.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The scenario file.
    scenario: PathBuf,

    /// Which of its strategies.
    #[arg(long, value_name = "NAME")]
    strategy: String,

    /// In which form.
    #[arg(long = "as", value_enum, value_name = "FORM")]
    form: Form,
}

/// Whose configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// The service config of the client's channel, JSON.
    Grpc,
    /// The proxy's bootstrap with its listener, routes and clusters, YAML.
    Envoy,
    /// DestinationRules and VirtualServices, YAML.
    Istio,
}

/// What is printed.
#[derive(Debug, PartialEq)]
struct Exported {
    text: String,
    /// What has no equivalent or is set elsewhere, a sentence each.
    notes: Vec<String>,
}

/// Why nothing is.
#[derive(Debug, PartialEq)]
struct Refused {
    reason: String,
    remedy: String,
}

impl Refused {
    fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into() }
    }
}

/// Where there is no proxy.
const PRINT_THE_CHANNEL: &str = "print the client's channel with `--as grpc`";

pub(crate) fn run(args: &ExportArgs) -> Result<u8, BadInput> {
    let ExportArgs { scenario: path, strategy: name, form } = args;
    let scenario = scenarios::load(path)?.scenario;
    let strategy = scenario.strategies.iter().find(|s| s.name == *name);
    let strategy = strategy.ok_or_else(|| no_such_strategy(name, &scenario, path))?;
    let proxy = strategy.proxy.clone().unwrap_or_default();
    let exported = export(&Subject { path, scenario: &scenario, strategy, proxy: &proxy }, *form);
    let Exported { text, notes } = exported.map_err(|Refused { reason, remedy }| {
        let form = form.to_possible_value().map_or_else(String::new, |form| form.get_name().to_owned());
        format!("--as {form}: {}, strategy `{name}`: {reason}\n  hint: {remedy}", path.display())
    })?;
    say(text.trim_end())?;
    for note in notes {
        anstream::eprintln!("note: {note}");
    }
    Ok(HOLDS)
}

fn export(subject: &Subject<'_>, form: Form) -> Result<Exported, Refused> {
    let mut exported = match form {
        Form::Grpc => grpc::export(subject),
        Form::Envoy => envoy::export(subject),
        Form::Istio => istio::export(subject),
    }?;
    // Two clusters may lack the same.
    let mut seen = Vec::new();
    exported.notes.retain(|note| {
        !seen.contains(note) && {
            seen.push(note.clone());
            true
        }
    });
    Ok(exported)
}

/// What is exported.
struct Subject<'a> {
    path: &'a Path,
    scenario: &'a Scenario,
    strategy: &'a Strategy,
    /// Its proxy, if requests pass one: as it runs where the strategy says nothing of it.
    proxy: &'a Proxy,
}

/// A cluster in Envoy's sense, as a strategy's routes lead to it.
struct Cluster<'a> {
    name: &'a str,
    endpoints: Vec<ServiceWeight>,
    policy: &'a PolicyConfig,
    /// The retries of the first route that leads there and has any.
    retry: Option<&'a RetryConfig>,
}

impl<'a> Subject<'a> {
    /// The services that are called, each once.
    fn called(&self) -> Vec<&'a Service> {
        self.scenario.called()
    }

    /// Where requests may end: the clusters of the routes, or without routes the called services. `policy` is that of the
    /// clusters that have none of their own.
    fn clusters(&self, policy: &'a PolicyConfig) -> Vec<Cluster<'a>> {
        let Strategy { routes, clusters, .. } = self.strategy;
        let mut names: Vec<&str> = Vec::new();
        let mut add = |name: &'a str| {
            if !names.contains(&name) {
                names.push(name);
            }
        };
        match routes.as_slice() {
            [] => self.called().iter().for_each(|service| add(&service.name)),
            routes => routes.iter().flat_map(|route| &route.clusters).for_each(|cluster| add(&cluster.name)),
        }
        let cluster = |name: &'a str| {
            let defined = clusters.iter().find(|cluster| cluster.name == name);
            let alone = || vec![ServiceWeight { service: name.to_owned(), weight: 1, priority: 0 }];
            Cluster {
                name,
                endpoints: defined.map_or_else(alone, |cluster| cluster.endpoints.clone()),
                policy: defined.and_then(|cluster| cluster.policy.as_ref()).unwrap_or(policy),
                retry: routes
                    .iter()
                    .filter(|route| route.clusters.iter().any(|cluster| cluster.name == name))
                    .find_map(|route| route.retry.as_ref()),
            }
        };
        names.into_iter().map(cluster).collect()
    }

    /// What stands above the YAML.
    fn heading(&self, placeholders: &str) -> String {
        let (file, strategy) = (self.path.file_name().unwrap_or_default().to_string_lossy(), self.strategy);
        let what = format!("{file}, strategy `{}`: {}", strategy.name, strategy.summary(self.scenario));
        // A name may hold what ends a comment.
        format!("# {}\n# {placeholders}\n", what.replace(char::is_control, " "))
    }

    /// What in every form is somebody else's: the servers', the application's, a controller's.
    fn set_elsewhere(&self, notes: &mut Vec<String>) {
        let Self { scenario, strategy, .. } = self;
        let servers = scenario.answering();
        let servers = scenario.deployments.iter().filter(|deployment| servers.contains(&deployment.name.as_str()));
        for server in servers {
            let age = ServerAge {
                max_age: strategy.max_age.or(server.max_connection_age),
                jitter: strategy.max_age_jitter.or(server.max_connection_age_jitter),
                grace: strategy.max_age_grace.or(server.max_connection_age_grace),
            };
            notes.extend(age.options().map(|options| match strategy.balancer {
                Balancer::Mesh => {
                    format!("the sidecars of `{}` have no option for the age of connections", server.name)
                }
                _ => format!("set at the servers (`{}`): {options}", server.name),
            }));
            if age.max_age.is_some() && age.jitter.is_some_and(|jitter| jitter != GRPC_JITTER) {
                notes.push("`max_age_jitter`: gRPC servers add ± 10 % always (A9)".into());
            }
        }
        if let Some(pause) = strategy.pre_stop {
            notes.push(format!("`pre_stop`: a preStop hook in the servers' pods that sleeps {pause}"));
        }
        for load in &scenario.loads {
            if let Some(deadline) = load.deadline {
                notes.push(format!(
                    "load `{}`: the application sets the deadline of {deadline} for each call",
                    load.name()
                ));
            }
        }
        let changes =
            scenario.events.iter().filter(|event| event.is_under(strategy)).filter_map(|e| e.configure.as_ref());
        for change in changes {
            let routes = strategy.routes.iter().map(|route| &route.name);
            let clusters = strategy.clusters.iter().map(|cluster| &cluster.name);
            if let Some(name) =
                routes.chain(clusters).find(|&n| change.route.as_ref().or(change.cluster.as_ref()) == Some(n))
            {
                notes.push(format!("`{name}` changes in the course of the scenario; this is how it begins"));
            }
        }
        if let Some(delivery) = &strategy.delivery {
            let route = &delivery.route;
            notes
                .push(format!("`delivery`: Argo Rollouts or Flagger move the weights of route `{route}` step by step"));
        }
    }
}

/// gRFC A9: ± 10 %, not to be changed.
const GRPC_JITTER: f64 = 0.1;

/// The age of connections as a gRPC server has it (gRFC A9).
struct ServerAge {
    max_age: Option<Nanos>,
    jitter: Option<f64>,
    grace: Option<Nanos>,
}

impl ServerAge {
    /// By the names of grpc/impl/channel_arg_names.h.
    fn options(&self) -> Option<String> {
        let mut options = format!("grpc.max_connection_age_ms = {}", milliseconds(self.max_age?));
        if let Some(grace) = self.grace {
            let _ = write!(options, ", grpc.max_connection_age_grace_ms = {}", milliseconds(grace));
        }
        Some(options)
    }
}

/// As channel arguments are written.
fn milliseconds(time: Nanos) -> u64 {
    time.0 / 1_000_000
}

/// A policy of one piece as Envoy or Istio configures it: what it is called there, and which of its settings are.
struct Leaf {
    /// Ours.
    policy: &'static str,
    theirs: &'static str,
    /// Our setting and their field; none where there is nothing to be said.
    fields: &'static [(&'static str, &'static str)],
    /// Whether it goes by the weights of endpoints. (In Envoy all but `random` do; those of ours that do not are not told any.)
    weighted: bool,
}

impl Leaf {
    /// The fields of the settings that are not as by default. The others that are not have no equivalent in `system`.
    fn fields(&self, policy: &PolicyConfig, system: &str, notes: &mut Vec<String>) -> Map<String, Value> {
        let mut fields = Map::new();
        for (setting, value) in policy.changed() {
            match self.fields.iter().find(|(ours, _)| *ours == setting) {
                Some((_, "")) => {}
                Some((_, theirs)) => {
                    let time: Option<Nanos> = value.as_str().and_then(|text| text.parse().ok());
                    fields.insert((*theirs).to_owned(), time.map_or(value, |time| duration(time).into()));
                }
                None => notes.push(format!("`{}`: `{setting} = {value}` has no field in {system}", policy.name())),
            }
        }
        fields
    }
}

/// What is inside of a policy that `system` does not have; `closest` says what to take for it. Refused if there is nothing inside.
fn lacking<'p>(
    policy: &'p PolicyConfig,
    system: &str,
    closest: &[(&str, &str)],
    notes: &mut Vec<String>,
) -> Result<&'p PolicyConfig, Refused> {
    let name = policy.name();
    let closest = closest.iter().find(|(policy, _)| *policy == name).map_or("choose another policy", |(_, c)| c);
    let Some(child) = policy.child() else {
        return Err(Refused::new(format!("`{name}` is not in {system}"), closest));
    };
    notes.push(format!("`{name}` is no policy of {system}: {closest}"));
    Ok(child)
}

/// What Envoy retries, and Istio with it (envoy.config.route.v3.RetryPolicy `retry_on`); codes that can't be named are noted.
fn retry_on(route: &str, retry: &RetryConfig, notes: &mut Vec<String>) -> String {
    let mut conditions: Vec<&str> = Vec::new();
    for &code in &retry.retryable_status_codes {
        conditions.push(match code {
            Code::Cancelled => "cancelled",
            Code::DeadlineExceeded => "deadline-exceeded",
            Code::Internal => "internal",
            Code::ResourceExhausted => "resource-exhausted",
            Code::Unavailable => "unavailable",
            other => {
                notes.push(format!("route `{route}`: Envoy can't retry {other}"));
                continue;
            }
        });
        // What a gRPC client calls UNAVAILABLE when there is no answer.
        if code == Code::Unavailable {
            conditions.extend(["connect-failure", "refused-stream", "reset"]);
        }
    }
    // An attempt that is given up is a reset to Envoy.
    if retry.per_attempt_timeout.is_some() && !conditions.contains(&"reset") {
        conditions.push("reset");
    }
    conditions.join(",")
}

/// What Envoy's retries, and Istio's with them, can't be told.
fn retry_notes(route: &str, retry: &RetryConfig, notes: &mut Vec<String>) {
    if retry.throttling.is_some() {
        notes.push(format!("route `{route}`: `throttling` is gRPC's; Envoy has a retry `budget`"));
    }
    if retry.backoff_multiplier != RetryConfig::default().backoff_multiplier {
        notes.push(format!("route `{route}`: `backoff_multiplier` is 2 in Envoy"));
    }
}

/// Envoy pings whether or not there are requests.
fn keepalive_notes(keepalive: &KeepaliveConfig, notes: &mut Vec<String>) {
    if !keepalive.permit_without_stream {
        notes.push("`keepalive`: Envoy pings connections without requests too".into());
    }
}
