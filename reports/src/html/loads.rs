//! Several loads: what became of each one's requests, and which deployments answered them.

use std::fmt::Write as _;

use super::tables::scroll;
use super::text::escape;
use crate::number::{count, percent, sig3};
use crate::record::{LoadRecord, Role, StrategyRecord};

/// One row a load; nothing where there is one load only, whose figures are those of the run.
pub(super) fn table(s: &StrategyRecord) -> String {
    if s.loads.len() < 2 {
        return String::new();
    }
    let mut deployments: Vec<&str> = Vec::new();
    for pod in s.pods.iter().filter(|pod| pod.role == Role::Server) {
        if !deployments.contains(&pod.deployment.as_str()) {
            deployments.push(&pod.deployment);
        }
    }
    // Which deployment answered is news where there is a choice, and readable while there are few.
    if !(2..=MOST_DEPLOYMENTS).contains(&deployments.len()) {
        deployments.clear();
    }
    let mut body = String::new();
    for load in &s.loads {
        let ms = |value: f64| if load.requests.ok > 0 { sig3(value) } else { "–".to_owned() };
        let _ = write!(
            body,
            "<tr><th scope=\"row\" class=\"l\">{}</th><td>{} → {}</td>",
            escape(&load.name),
            escape(&load.from),
            escape(&load.to)
        );
        let figures = [
            count(load.requests.started),
            count(load.requests.failed),
            sig3(load.goodput_per_s),
            ms(load.latency_ms.p50),
            ms(load.latency_ms.p99),
        ];
        let at_servers = at(s, load, None);
        let parts = deployments.iter().map(|name| match at_servers {
            0 => "–".to_owned(),
            _ => percent(at(s, load, Some(name)) as f64 / at_servers as f64),
        });
        figures.into_iter().chain(parts).for_each(|figure| {
            let _ = write!(body, "<td class=\"n\">{figure}</td>");
        });
        body.push_str("</tr>\n");
    }
    let heads = ["requests", "failed", "ok/s", "p50 ms", "p99 ms"].map(str::to_owned).into_iter();
    let heads: String = heads
        .chain(deployments.iter().map(|name| format!("at {}", escape(name))))
        .map(|head| format!("<th scope=\"col\">{head}</th>"))
        .collect();
    let table = format!(
        "<table><caption>By load</caption><thead><tr><th scope=\"col\" class=\"l\">load</th>\
         <th scope=\"col\" class=\"l\">from → to</th>{heads}</tr></thead><tbody>\n{body}</tbody></table>"
    );
    scroll(&format!("Loads under {}", s.name), &table)
}

/// Columns for deployments; the table scrolls beyond, and nobody reads it.
const MOST_DEPLOYMENTS: usize = 6;

/// A load's requests at the servers, or at those of one deployment.
fn at(s: &StrategyRecord, load: &LoadRecord, deployment: Option<&str>) -> u64 {
    let counted = s.pods.iter().zip(&load.requests_per_pod);
    let meant = counted.filter(|(pod, _)| pod.role == Role::Server && deployment.is_none_or(|d| pod.deployment == d));
    meant.fold(0u64, |sum, (_, &n)| sum.saturating_add(n))
}
