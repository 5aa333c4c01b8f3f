//! The run record and what is drawn from it. Knows nothing of hosts, scenarios or policies.

pub mod record;

pub use record::RunRecord;
