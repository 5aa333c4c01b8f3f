//! The gRPC channel as a machine without I/O.

mod config;

pub use config::{BackoffConfig, ChannelConfig, ConnectionAgeConfig, ResolverConfig};
