//! The run record, the figures on it, and what is drawn from it. Knows nothing of hosts, scenarios or policies.
//!
//! | module | one idea |
//! |---|---|
//! | [`record`] | what happened, in numbers: the shape of `run.json` |
//! | [`schema`](mod@schema) | that shape as JSON Schema, committed as `run.schema.json` |
//! | [`measure`](mod@measure) | one number out of a strategy's record, as an expectation names it |
//! | [`statistics`] | several seeds: intervals, paired differences, "no difference found" |
//! | [`canary`] | after how many requests a canary's errors tell |
//! | [`verdict`] | the record in one sentence |
//! | [`terminal`] | the table and the expectations as text |
//! | [`html`] | the report: one self-contained page |
//! | [`json`] | the text of `run.json` |
//! | [`write`](mod@write) | `run.json`, `data.csv` and `index.html`, whole or not at all |
//!
//! `summary` (the figures the table, the verdict and the page share), `versions` (stable against canary, in words) and `number`
//! (how figures are spelt) are inside.

pub mod canary;
pub mod html;
pub mod json;
pub mod measure;
mod number;
pub mod record;
pub mod schema;
pub mod statistics;
mod summary;
pub mod terminal;
pub mod verdict;
mod versions;
pub mod write;

pub use measure::{Measure, Pods, imbalance, jain, measure};
pub use record::{RunRecord, Times};
pub use write::{Paths, WriteError, write};
