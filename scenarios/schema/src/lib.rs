//! The language of scenario files.

mod model;
mod values;

pub use model::*;
pub use values::{Bound, Rate};
