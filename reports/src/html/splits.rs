//! What share each target of a route was configured to get, what its weights come to, and what it got.

use std::fmt::Write as _;

use super::tables::scroll;
use super::text::{escape, keep_units};
use crate::measure::split_error;
use crate::number::{count, percent, short, sig3};
use crate::record::StrategyRecord;
use crate::versions::{misread, slowest_change_s, splits};

/// Periods of a route shown; a controller may make many.
const SHOWN: usize = 40;

/// A table of the splits, and what is to be learnt from it. Empty if no route has two targets.
pub(super) fn table(s: &StrategyRecord) -> String {
    let splits = splits(s);
    if splits.is_empty() {
        return String::new();
    }
    let mut body = String::new();
    for split in splits.iter().take(SHOWN) {
        for (i, part) in split.parts.iter().enumerate() {
            let period = match i {
                0 => format!("{} s – {} s", short(tenths(split.from_s)), short(tenths(split.until_s))),
                _ => String::new(),
            };
            let route = if i == 0 { split.route.as_str() } else { "" };
            let class = if (part.effective - part.configured).abs() > 1e-9 { "n bad" } else { "n" };
            let _ = writeln!(
                body,
                "<tr><td class=\"l\">{}</td><td class=\"l\">{}</td><th scope=\"row\" class=\"l\">{}</th><td class=\"n\">{}</td>\
                 <td class=\"{class}\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                escape(route),
                escape(&keep_units(&period)),
                escape(&part.name),
                percent(part.configured),
                percent(part.effective),
                percent(part.measured),
                count(part.requests)
            );
        }
    }
    let beyond = match splits.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("<p class=\"muted\">{more} later periods are in run.json.</p>"),
    };
    let caption = format!("Configured against effective share. {}", finding(s));
    scroll(
        &format!("Shares of routes under {}", s.name),
        &format!(
            "<table><caption>{}</caption><thead><tr><th scope=\"col\" class=\"l\">route</th><th scope=\"col\" class=\"l\">period</th>\
             <th scope=\"col\" class=\"l\">target</th><th scope=\"col\">configured</th><th scope=\"col\">by addresses</th>\
             <th scope=\"col\">measured</th><th scope=\"col\">requests</th></tr></thead><tbody>\n{body}</tbody></table>{beyond}",
            escape(&keep_units(&caption))
        ),
    )
}

fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

fn finding(s: &StrategyRecord) -> String {
    let spread = match slowest_change_s(s) {
        Some(longest) => format!(" A change took up to {} s to reach every balancer.", sig3(longest)),
        None => String::new(),
    };
    let weights = match misread(s) {
        Some(part) => format!(
            "Weights count per address: {} was meant to get {}, its weight comes to {}, it got {}.",
            part.name,
            percent(part.configured),
            percent(part.effective),
            percent(part.measured)
        ),
        None => match split_error(s, |part| part.measured) {
            Some(error) => format!("Targets got what was configured, within {} of all requests.", percent(error)),
            None => "No request was split.".to_owned(),
        },
    };
    weights + &spread
}
