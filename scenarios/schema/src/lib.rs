//! The language of scenario files: a situation, the strategies to compare in it, and what must come out.
//!
//! A scenario is TOML. [`load`] reads a file, [`parse`] a text; both give a [`Scenario`] in which every value is
//! possible and every name refers to something, or [`Errors`] with *every* mistake, each with its place, the rule it
//! breaks and what to write instead:
//!
//! ```
//! let errors = scenarios::parse("x.toml", "title = 'A question'\nduration = 60").unwrap_err();
//! assert!(errors.to_string().starts_with("\
//! x.toml:1:1: the file's first part has no `load`
//!   |
//! 1 | title = 'A question'
//!   | ^
//!   = hint: `load`: Who calls whom, and how much: one `[load]`, or several `[[load]]`."));
//! ```
//!
//! How a text becomes a scenario:
//!
//! 1. `tree`: TOML into a tree that knows its places, past syntax errors where that is safe;
//! 2. `shape`: the tree along the JSON Schema ([`json_schema`], made from the types): unknown and missing keys, types;
//! 3. `decode`: what fits into [`Scenario`], with a stand-in for what does not;
//! 4. `check`: limits, references, duplicates, and what excludes what, as far as no stand-in is involved.
//!
//! [`METRICS`] lists what an expectation can be about.

mod check;
mod decode;
mod errors;
mod metrics;
mod model;
mod schema;
mod shape;
mod tree;
mod values;
mod words;

pub use decode::{Loaded, load, parse};
pub use errors::{Errors, Place, Problem, closest};
pub use metrics::{METRICS, Metric};
pub use model::*;
pub use schema::json_schema;
pub use values::{Bound, ParseValueError, PodCount, Rate};
