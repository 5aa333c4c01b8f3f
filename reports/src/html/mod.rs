//! The report, and the gallery that leads to many: self-contained pages for people. No script, no network, no clock: the same record gives the same bytes.
//!
//! | module | one idea |
//! |---|---|
//! | `page` | the order of things, first screen first |
//! | `gallery`, `thumb` | a card a scenario, and the picture on it |
//! | `tables`, `loads` | expectations, comparison, pods, events; figures by load |
//! | `percentile`, `requests`, `latency`, `counts`, `shares`, `stages` | a plot each, with its finding |
//! | `deployments` | stable against canary, where several deployments answer a service |
//! | `figure` | a plot with its caption |
//! | `time`, `axis` | the shared time axis with its event track; scales, ticks, labels that keep apart |
//! | `canvas`, `colour`, `text` | SVG through plotters, fixed colours, escaping |

mod axis;
mod canvas;
mod colour;
mod counts;
mod deployments;
mod figure;
mod gallery;
mod latency;
mod loads;
mod page;
mod percentile;
mod requests;
mod shares;
mod splits;
mod stages;
mod tables;
mod text;
mod thumb;
mod time;

pub use gallery::{Card, gallery};

use crate::record::RunRecord;

/// Renders the report.
#[must_use]
pub fn render(record: &RunRecord) -> String {
    page::page(record)
}
