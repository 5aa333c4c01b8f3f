//! The gRPC channel as a machine without I/O: it says *resolve*, *connect*, *close* and *wake me at*, and is told what
//! came of it.
//!
//! * [`Channel`] keeps the endpoints of one name, their connectivity and their back-off, and asks a
//!   [`Policy`](crate::Policy) which of them to connect to and which gets the next request.
//! * The resolver rules (when a name is looked up again) are in `resolver`, those of addresses that are pushed in
//!   `subscription`, the pauses between attempts in `backoff`.
//! * [`Keepalive`] is the client's side of a connection that falls silent.
//! * [`ConnectionAge`] is the server's side: when a connection gets its GOAWAY and when it is cut.
//!
//! ```
//! use lb_core::channel::{Channel, ChannelConfig, Input, Output, Resolution, ResolvedAddress};
//! use lb_core::{Address, Context, Nanos, Pick, PickContext};
//! use rand_xoshiro::rand_core::SeedableRng;
//!
//! let mut rng = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut channel = Channel::new(&ChannelConfig::default());
//!
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! channel.start(&mut cx);
//! assert_eq!(channel.poll(), Some(Output::Resolve));
//!
//! let addresses = vec![ResolvedAddress::new(Address::new("10.0.0.1:50051"))];
//! channel.handle(&mut cx, Input::Resolved(Resolution { addresses, ttl: Nanos::from_secs(30) }));
//! let Some(Output::Connect { connection, .. }) = channel.poll() else { panic!() };
//!
//! channel.handle(&mut cx, Input::Connected(connection));
//! let picker = channel.picker(&mut cx);
//! assert_eq!(picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)), Pick::Endpoint(connection.endpoint));
//! ```

mod age;
mod backoff;
mod config;
mod keepalive;
mod machine;
mod resolver;
mod subscription;

pub use age::{AgeAction, ConnectionAge};
pub use config::{
    BackoffConfig, ChannelConfig, ConnectionAgeConfig, DnsResolverConfig, GrpclbConfig, ResolverConfig,
    StrictDnsConfig, XdsConfig,
};
pub use keepalive::{Keepalive, KeepaliveAction, KeepaliveConfig};
pub use machine::{Channel, ConnectionId, Input, Output};
pub use resolver::{Resolution, ResolvedAddress};
