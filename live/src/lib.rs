//! Evenkeel in real time: real gRPC programs on real sockets.
//!
//! # What exists now
//!
//! The demo's two programs, and the library they are made of:
//!
//! * `server` ([`server`]): the Hello service. It echoes, says who it is, and drains within a deadline on SIGTERM;
//! * `client` ([`client`]): n concurrent RPCs, wait for all, print who served them, repeat;
//! * [`target`]: where the client sends to; [`tally`]: what it counts; [`flags`], [`stop`]: what both programs share.
//!
//! ```text
//! cargo run -p live --bin server -- --name server-1
//! cargo run -p live --bin client -- --target 127.0.0.1:50051 --concurrency 10 --batches 3
//! ```
//!
//! # The client does not balance
//!
//! It opens one tonic channel, which is one HTTP/2 connection to one address. Whatever picks that address (kube-proxy
//! for a ClusterIP, the first answer of a resolver for a name with several) picks *once*, and every RPC goes there
//! until the connection ends: one server gets 100 %, the others idle. That is the demo's first observation, and it is
//! all this client can show. A `dns:///` target, which promises client-side balancing, is refused.
//!
//! # What comes later
//!
//! A channel driven by `lb-core` (policies, re-resolution, connection age), the proxy, the control plane, and the lab
//! that runs a scenario file on this machine. Until then the simulator is the only host of the core, and nothing here
//! reads a scenario or writes a run record.

pub mod client;
pub mod flags;
pub mod server;
pub mod stop;
pub mod tally;
pub mod target;

use proto::hello::v1::HelloRequest;

/// The HTTP/2 connection window of both programs, 16 MiB.
///
/// h2 ends a connection (`ENHANCE_YOUR_CALM`) whose small unread DATA frames fill half of this window; its default of
/// 64 KiB is reached by a few stalled streams.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// The message that answers `request`: what it said, with an added prefix.
///
/// The server sends it and the client checks it, so that a reply meant for another request never counts as a success.
///
/// ```
/// let request = proto::hello::v1::HelloRequest { client: "client-1".into(), counter: 7 };
/// assert_eq!(live::echo(&request), "echo: client-1 #7");
/// ```
pub fn echo(request: &HelloRequest) -> String {
    format!("echo: {} #{}", request.client, request.counter)
}
